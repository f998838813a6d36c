#!/usr/bin/env bash
# Applies a folder of deploy/ to a cluster without Flux, with kubectl and helm alone: helm does what
# Flux would do with a HelmRelease, and the rest is applied as it is. Run it again after each change;
# nothing watches the folder or the cluster.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: deploy/without-flux.sh [--context NAME] [--dry-run] FOLDER

Applies what `kubectl kustomize FOLDER` builds to the cluster of the current context.

  --context NAME  the context of kubectl and helm to use
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
dry_run=
folder=
while (($#)); do
  case "$1" in
    --context)
      (($# >= 2)) || wrong_usage "--context needs a name"
      context="$2"
      shift
      ;;
    --context=*) context="${1#*=}" ;;
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

# Prints one field of a document, empty if it is not there. --local asks no server, so that it works
# for kinds that the cluster does not know.
field() {
  kubectl label --local -f "$1" only=local -o jsonpath="{$2}"
}

# Sets `url` to where the repository of a HelmRelease is.
find_repository() {
  local release="$1" name namespace document
  name="$(field "$release" .spec.chart.spec.sourceRef.name)"
  namespace="$(field "$release" .spec.chart.spec.sourceRef.namespace)"
  namespace="${namespace:-$(field "$release" .metadata.namespace)}"
  for document in "$work"/flux/HelmRepository-*; do
    [[ -f "$document" ]] || continue
    if [[ "$(field "$document" .metadata.namespace)" == "$namespace" &&
      "$(field "$document" .metadata.name)" == "$name" ]]; then
      url="$(field "$document" .spec.url)"
      return
    fi
  done
  fail "$folder has no HelmRepository $name in the namespace $namespace"
}

# Applies the custom resource definitions of a chart. helm installs them, but never updates them.
apply_definitions() {
  helm show crds "$@" >"$work/definitions.yaml"
  grep -q '^kind: CustomResourceDefinition' "$work/definitions.yaml" || return 0
  # They belong to the newest release of the chart, whoever applied them before.
  on_cluster apply --server-side --force-conflicts -f "$work/definitions.yaml"
}

# Fails for a HelmRelease that helm alone cannot install.
check() {
  local document="$1" unsupported url
  for unsupported in chartRef kubeConfig postRenderers valuesFrom; do
    [[ -z "$(field "$document" ".spec.$unsupported")" ]] ||
      fail "HelmRelease $(field "$document" .metadata.name): only Flux can do spec.$unsupported"
  done
  find_repository "$document"
}

release() {
  local document="$1" name namespace version timeout url
  local -a chart options
  name="$(field "$document" .spec.releaseName)"
  name="${name:-$(field "$document" .metadata.name)}"
  namespace="$(field "$document" .spec.targetNamespace)"
  namespace="${namespace:-$(field "$document" .metadata.namespace)}"
  timeout="$(field "$document" .spec.timeout)"

  find_repository "$document"
  chart=("$(field "$document" .spec.chart.spec.chart)")
  case "$url" in
    oci://*) chart=("${url%/}/${chart[0]}") ;;
    *) chart+=(--repo "$url") ;;
  esac
  version="$(field "$document" .spec.chart.spec.version)"
  [[ -z "$version" ]] || chart+=(--version "$version")

  options=(--namespace "$namespace" --wait --timeout "${timeout:-5m}")
  [[ -z "$context" ]] || options+=(--kube-context "$context")

  if [[ "$(field "$document" .spec.upgrade.crds)" == CreateReplace ]]; then
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
    field "$document" .spec.values >"$work/values.yaml"
    helm upgrade --install "$name" "${chart[@]}" "${options[@]}" --values "$work/values.yaml"
  fi
}

kubectl kustomize "$folder" >"$work/all.yaml" || fail "kubectl cannot build $folder"

# One file for each object of Flux, and one for all others. Only between two documents does kustomize
# write a line `---`: the lines of a longer string are indented.
mkdir "$work/flux"
awk -v work="$work" '
  function finish(  file) {
    if (kind == "") return
    if (group ~ /\.toolkit\.fluxcd\.io\//) {
      file = work "/flux/" kind "-" ++count ".yaml"
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

releases=("$work"/flux/HelmRelease-*.yaml)
if [[ -f "${releases[0]}" && -z "$dry_run" ]]; then
  command -v helm >/dev/null || fail "$folder has a HelmRelease, and helm is not on PATH"
fi
for document in "${releases[@]}"; do
  [[ ! -f "$document" ]] || check "$document"
done

if [[ -f "$work/plain.yaml" ]]; then
  if [[ -n "$dry_run" ]]; then
    cat "$work/plain.txt"
  else
    on_cluster apply --server-side -f "$work/plain.yaml"
  fi
fi
for document in "${releases[@]}"; do
  [[ ! -f "$document" ]] || release "$document"
done
