#!/usr/bin/env bash
# Applies a folder of deploy/ to a cluster without Flux, with kubectl and helm alone: helm does what
# Flux would do with a HelmRelease, and the rest is applied as it is. Run it again after each change;
# nothing watches the folder or the cluster.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: deploy/without-flux.sh [--context NAME] [--wait] [--dry-run] FOLDER

Applies what `kubectl kustomize FOLDER` builds to the cluster of the current context.

  --context NAME  the context of kubectl and helm to use
  --wait          wait until all pods of the releases are ready, as Flux does; without it, those may
                  still wait for Secrets that configure-source-clusters.sh makes
  --dry-run       say what would be done; ask and change no cluster

Exit status: 0 done, 1 failed, 2 wrong usage.
USAGE
}

fail() {
  echo "without-flux.sh: $*" >&2
  exit 1
}

wrong_usage() {
  echo "without-flux.sh: $*" >&2
  usage >&2
  exit 2
}

context=
wait=
dry_run=
folder=
while (($#)); do
  case "$1" in
    --context)
      # Not the current context, where a variable for the name is empty.
      [[ -n "${2:-}" ]] || wrong_usage "--context needs a name"
      context="$2"
      shift
      ;;
    --context=*)
      context="${1#*=}"
      [[ -n "$context" ]] || wrong_usage "--context needs a name"
      ;;
    --wait) wait=yes ;;
    --dry-run) dry_run=yes ;;
    -h | --help)
      usage
      exit 0
      ;;
    -*) wrong_usage "there is no option $1" ;;
    *)
      [[ -z "$folder" ]] || wrong_usage "one folder at a time"
      folder="$1"
      ;;
  esac
  shift
done
[[ -n "$folder" ]] || wrong_usage "which folder?"
[[ -f "$folder/kustomization.yaml" ]] || fail "$folder has no kustomization.yaml"
command -v kubectl >/dev/null || fail "kubectl is not on PATH"

umask 077
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

on_cluster() {
  kubectl ${context:+--context "$context"} "$@"
}

# Prints fields of a document, one a line, empty for one that is not there. --local asks no server, so
# that it works for kinds that the cluster does not know.
fields() {
  local document="$1" field template=
  shift
  for field; do
    template+="{$field}{\"\\n\"}"
  done
  kubectl label --local -f "$document" only=local -o jsonpath="$template"
}

# Sets what a HelmRelease says about itself, its chart and its repository. Fails for one that helm alone
# cannot install.
read_release() {
  local document="$1" own_name own_namespace chart_name version url field value
  local repository repository_namespace repository_file
  fields "$document" .metadata.name .metadata.namespace .spec.releaseName .spec.targetNamespace \
    .spec.timeout .spec.upgrade.crds .spec.chart.spec.chart .spec.chart.spec.version \
    .spec.chart.spec.sourceRef.name .spec.chart.spec.sourceRef.namespace >"$work/fields"
  {
    read -r own_name
    read -r own_namespace
    read -r name
    read -r namespace
    read -r timeout
    read -r definitions
    read -r chart_name
    read -r version
    read -r repository
    read -r repository_namespace
  } <"$work/fields"
  name="${name:-$own_name}"
  namespace="${namespace:-$own_namespace}"
  repository_namespace="${repository_namespace:-$own_namespace}"

  fields "$document" .spec.chartRef .spec.kubeConfig .spec.postRenderers .spec.valuesFrom \
    >"$work/fields"
  for field in chartRef kubeConfig postRenderers valuesFrom; do
    read -r value
    [[ -z "$value" ]] || fail "HelmRelease $own_name: only Flux can do spec.$field"
  done <"$work/fields"

  repository_file="$work/HelmRepository_${repository_namespace}_$repository"
  [[ -f "$repository_file" ]] ||
    fail "$folder has no HelmRepository $repository in the namespace $repository_namespace"
  url="$(fields "$repository_file" .spec.url)"
  case "$url" in
    oci://*) chart=("${url%/}/$chart_name") ;;
    *) chart=("$chart_name" --repo "$url") ;;
  esac
  [[ -z "$version" ]] || chart+=(--version "$version")
}

# Applies the custom resource definitions of a chart. helm installs them, but never updates them.
apply_definitions() {
  helm show crds "$@" >"$work/definitions.yaml"
  grep -q '^kind: CustomResourceDefinition' "$work/definitions.yaml" || return 0
  # They belong to the newest release of the chart, whoever applied them before.
  on_cluster apply --server-side --force-conflicts -f "$work/definitions.yaml"
}

install() {
  local -a options=(--namespace "$namespace" --timeout "${timeout:-5m}")
  [[ -z "$wait" ]] || options+=(--wait)
  [[ -z "$context" ]] || options+=(--kube-context "$context")
  if [[ "$definitions" == CreateReplace ]]; then
    if [[ -n "$dry_run" ]]; then
      echo "would apply what this prints: helm show crds ${chart[*]}"
    else
      apply_definitions "${chart[@]}"
    fi
  fi
  if [[ -n "$dry_run" ]]; then
    echo "would run, with spec.values: helm upgrade --install $name ${chart[*]} ${options[*]}"
  else
    # JSON is YAML as well.
    fields "$1" .spec.values >"$work/values.yaml"
    helm upgrade --install "$name" "${chart[@]}" "${options[@]}" --values "$work/values.yaml"
  fi
}

kubectl kustomize "$folder" >"$work/all.yaml" || fail "kubectl cannot build $folder"

# One file for each object of Flux, and one for all others. Only between two documents does kustomize
# write a line `---`: the lines of a longer string are indented.
awk -v work="$work" '
  function finish(  file) {
    if (kind == "") return
    if (group ~ /\.toolkit\.fluxcd\.io\//) {
      file = work "/" kind "_" namespace "_" name
      printf "%s", document > file
      close(file)
    } else {
      printf "---\n%s", document > (work "/plain.yaml")
      print "would apply " kind " " (namespace == "" ? "" : namespace "/") name > (work "/plain.txt")
    }
    document = kind = group = name = namespace = ""
  }
  /^---$/ { finish(); section = ""; next }
  { document = document $0 "\n" }
  /^[^ ]/ { section = $1 }
  /^kind: / { kind = $2 }
  /^apiVersion: / { group = $2 }
  section == "metadata:" && /^  name: / { name = $2 }
  section == "metadata:" && /^  namespace: / { namespace = $2 }
  END { finish() }
' "$work/all.yaml"

releases=()
for document in "$work"/HelmRelease_*; do
  [[ -f "$document" ]] || continue
  [[ -n "$dry_run" ]] || command -v helm >/dev/null ||
    fail "$folder has a HelmRelease, and helm is not on PATH"
  # Before anything is applied, all of them are known to be possible.
  read_release "$document"
  releases+=("$document")
done

if [[ -f "$work/plain.yaml" ]]; then
  if [[ -n "$dry_run" ]]; then
    cat "$work/plain.txt"
  else
    on_cluster apply --server-side -f "$work/plain.yaml"
  fi
fi
for document in ${releases[@]+"${releases[@]}"}; do
  read_release "$document"
  install "$document"
done
