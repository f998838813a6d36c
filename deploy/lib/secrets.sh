# shellcheck shell=bash disable=SC2034,SC2154 # the files share their variables
# Reads and writes Secrets: of clusters with --apply, in files with --secrets-dir, otherwise nowhere.

context_of() {
  local i
  for ((i = 0; i < ${#context_names[@]}; i++)); do
    if [[ "${context_names[i]}" == "$1" ]]; then
      printf '%s\n' "${context_values[i]}"
      return
    fi
  done
  return 1
}

# kubectl in the cluster $1: the name of a spoke, or hub.
kubectl_in() {
  local context where="$1"
  shift
  if [[ "$where" == hub ]]; then
    kubectl ${hub_context:+--context "$hub_context"} --request-timeout=30s "$@"
  else
    context="$(context_of "$where")" || die "no --context for $where"
    kubectl --context "$context" --request-timeout=30s "$@"
  fi
}

base64_encode() { openssl base64 | tr -d '\n'; }
# Long lines are more than some versions of openssl read.
base64_decode() { fold -w 64 | openssl base64 -d; }

may_write() { [[ "$target" != none ]] && ((!dry_run)); }

manifest_file() { printf '%s/%s/%s.yaml\n' "$secrets_dir" "$1" "$2"; }

# Prints a key of a Secret, in base64, or of a ConfigMap. Prints nothing if there is none; fails if
# that cannot be told. Arguments: where kind namespace name key
stored() {
  local file
  case "$target" in
    cluster)
      kubectl_in "$1" --namespace "$3" get "$2" "$4" --ignore-not-found \
        --output "jsonpath={.data.${5//./\\.}}" ;;
    files)
      file="$(manifest_file "$1" "$4")"
      [[ ! -e "$file" ]] || sed -n "s/^  $(printf '%s' "$5" | sed 's/[.]/\\./g'): //p" "$file" ;;
    none) ;;
  esac
}

# The same for a Secret, decoded, into the variable `value`, with every newline at its end.
read_secret() {
  local encoded
  # Not left to `set -e`: what cannot be read must not look like what is not there.
  encoded="$(stored "$1" secret "$2" "$3" "$4")" || die "Secret $3 of $1 cannot be read"
  value=""
  if [[ -n "$encoded" ]]; then
    # bash would leave a NUL out, and take what has one for good.
    value="$(printf '%s\n' "$encoded" | base64_decode | tr '\000' '\n' && printf x)"
    value="${value%x}"
  fi
}

# Prints a Secret. Arguments: namespace name type key=base64...
secret_manifest() {
  printf 'apiVersion: v1\nkind: Secret\nmetadata:\n  name: %s\n  namespace: %s\ntype: %s\ndata:\n' \
    "$2" "$1" "$3"
  shift 3
  while (($# > 0)); do
    printf '  %s: %s\n' "${1%%=*}" "${1#*=}"
    shift
  done
}

redacted() { sed '/^data:/,$ s/^\(  [A-Za-z0-9._-]*\): .*/\1: REDACTED/'; }

changed() {
  say "changed    $1: $2"
  : >"$tmp/changed.$1"
}

# Stores the manifest on stdin. With a fourth argument, fails if the object is there by now.
# Arguments: where name what [new]
store() {
  local file write=(apply --server-side --force-conflicts)
  [[ -z "${4:-}" ]] || write=(create)
  if ! may_write; then
    say "for $1: $3"
    { if [[ "$3" == ConfigMap* ]]; then cat; else redacted; fi; } | sed 's/^/    /'
  elif [[ "$target" == files ]]; then
    file="$(manifest_file "$1" "$2")"
    (
      umask 077
      mkdir -p "$(dirname "$file")"
      cat >"$file.new"
      mv -f "$file.new" "$file"
    )
    changed "$1" "$3, in $file"
  else
    kubectl_in "$1" "${write[@]}" --field-manager=configure-source-clusters --filename - >/dev/null ||
      return 1
    changed "$1" "$3"
  fi
}

ensure_namespace() {
  local found
  [[ "$target" == cluster ]] || return 0
  found="$(kubectl_in "$1" get namespace "$2" --ignore-not-found --output name)"
  [[ -z "$found" ]] || return 0
  printf 'apiVersion: v1\nkind: Namespace\nmetadata:\n  name: %s\n' "$2" |
    store "$1" "namespace-$2" "Namespace $2"
}
