#!/usr/bin/env bash
# Connects source clusters to the hub. `--help` says how.
#
# The order of the steps is what makes it safe:
# - The gateway knows a token before the spoke sends it. A Prometheus drops what is answered 401.
# - A new token lies under the key `token-next` of the spoke's Secret until the gateway knows it, so
#   that a run which ends early is continued by the next one.
# - Secrets go through pipes and variables of this shell, never into an argument list.
#
# It keeps to bash 3.2, which macOS has: no associative arrays, no mapfile, no ${name,,}.
set -euo pipefail
set +x # a trace would show tokens
export LC_ALL=C

usage() {
  cat <<'HELP'
Usage: deploy/configure-source-clusters.sh [OPTION]...

Writes the address of the gateway into deploy/clusters/*/spoke.env and derives the load balancer's
source ranges from these files. With --apply it also makes the Secrets on the spokes and the hub;
otherwise it prints what belongs where, and changes no cluster. A second run changes nothing.

What to configure
  --endpoint HOST|URL     Where spokes reach the gateway: a name, an address, [IPv6] or https://... .
                          Otherwise $REMOTE_WRITE_ENDPOINT, a name that spoke.env already has, the
                          LoadBalancer of Service hubgate, or a question at the terminal.
  --port PORT             Port of the gateway, unless --endpoint has one. Default: 443
  --server-name NAME      Name or address in the gateway's certificate. Default: the host
  --ca-file FILE          PEM file of the authority of the gateway's certificate. Without it, the
                          script makes an authority and a certificate, unless the hub has them.
  --cluster NAME          Only this cluster; may be repeated. Default: all in deploy/clusters
  --source-range NAME=CIDR  An address range that NAME sends from; may be repeated. All given ones
                          replace those in spoke.env.
  --new-cluster NAME      Make deploy/clusters/NAME from _template first, and configure only NAME.
  --insecure-http         Accept an http:// endpoint. Tokens then cross the network in the clear.

Where to apply it
  --apply                 Change the clusters: Secrets, and the ConfigMap of the authority.
  --context NAME=CONTEXT  kubectl's context of cluster NAME; one for each cluster.
  --hub-context CONTEXT   kubectl's context of the hub. Default: the current one
  --secrets-dir DIR       Write the manifests below DIR instead, for SOPS or for somebody else to
                          apply. They hold tokens: DIR must be outside this repository.
  --dry-run               Write no file and change no cluster; show the differences.
  --yes                   Do not ask before --apply.

Tokens of spokes (with --apply)
  --rotate                Step 1: make a new token. The old one stays good.
  --finish-rotation       Step 2: take the old token away, once only the new one is used.

Checks
  --check                 Send an empty write to the gateway from here. With --apply: afterwards.
                          Otherwise nothing is changed. A token is tried where --context is given.
  --check-from-cluster    The same from a pod in each cluster. Needs --context.
  --check-declarations    Only compare the files in deploy/ with each other.
  --print-gateway-config  Only print the gateway's entry of each cluster.
  --help                  Print this.

Environment
  REMOTE_WRITE_ENDPOINT   as --endpoint
  HUBGATE_WAIT_SECONDS    How long to wait for the LoadBalancer's address, for the gateway to know
                          a token, and for the pod of a check. Default: 180
  HUBGATE_CHECK_IMAGE     Image with sh and curl for --check-from-cluster.
                          Default: docker.io/curlimages/curl:8.11.1

Exit codes: 0 done, 1 something failed, 2 wrong usage, 3 a check did not reach the gateway or was
refused. Needs kubectl, curl and openssl, and bash 3.2 or newer.
HELP
}

# --- messages ---------------------------------------------------------------------------------

say() { printf '%s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
complain() { printf 'error: %s\n' "$*" >&2; }

die() {
  complain "$@"
  exit 1
}

misuse() {
  complain "$@"
  exit 2
}

# --- addresses --------------------------------------------------------------------------------

is_ipv4() {
  local pattern='^([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})$' part
  [[ "$1" =~ $pattern ]] || return 1
  for part in "${BASH_REMATCH[@]:1}"; do
    [[ "$part" == 0 || "$part" != 0* ]] && ((part <= 255)) || return 1
  done
}

# Prints the groups of an IPv6 address as openssl does: 2001:DB8:0:0:0:0:0:1. Fails if it is none.
ipv6_groups() {
  local address="$1" head tail="" group groups=0 out=""
  [[ "$address" == *:*:* && "$address" != *[!0-9A-Fa-f:]* && "$address" != *:::* ]] || return 1
  head="$address"
  if [[ "$address" == *::* ]]; then
    head="${address%%::*}" tail="${address#*::}"
    [[ "$tail" != *::* ]] || return 1
    tail="$(printf '%s' "$tail" | tr ':' ' ')"
    groups="$(printf '%s %s' "${head//:/ }" "$tail" | wc -w)"
    ((groups <= 7)) || return 1
    while ((groups < 8)); do
      tail="0 $tail"
      groups=$((groups + 1))
    done
  elif [[ "$address" == :* || "$address" == *: ]]; then
    return 1
  fi
  groups=0
  for group in ${head//:/ } $tail; do
    ((${#group} <= 4)) || return 1
    out="$out:$(printf '%X' "0x$group")"
    groups=$((groups + 1))
  done
  ((groups == 8)) || return 1
  printf '%s\n' "${out#:}"
}

is_ipv6() { ipv6_groups "$1" >/dev/null; }
is_address() { is_ipv4 "$1" || is_ipv6 "$1"; }

is_dns_name() {
  local label='[a-z0-9]([-a-z0-9_]{0,61}[a-z0-9])?'
  local pattern="^($label\.)*$label$" last="${1##*.}"
  # A name whose last part is a number is read as an IPv4 address by many resolvers.
  ((${#1} <= 253)) && [[ "$1" =~ $pattern && "$last" == *[!0-9]* ]]
}

# Sets `invalid` and fails if $1 is no CIDR.
check_cidr() {
  local address="${1%/*}" length="${1##*/}" groups group value bits
  invalid="\"$1\" is no address range; write it like 203.0.113.10/32 or 2001:db8::/56"
  [[ "$1" == */* && "$length" != *[!0-9]* && "$length" != 0[0-9]* ]] || return 1
  ((${#length} >= 1 && ${#length} <= 3)) || return 1
  if is_ipv4 "$address"; then
    ((length <= 32)) || return 1
    value=0
    for group in ${address//./ }; do value=$((value * 256 + group)); done
    bits=$((32 - length))
    (((value & ((1 << bits) - 1)) == 0)) && return 0
  else
    groups="$(ipv6_groups "$address")" && ((length <= 128)) || return 1
    bits="$length"
    for group in ${groups//:/ }; do
      ((bits = bits < 0 ? 0 : bits))
      value=$((bits >= 16 ? 0 : 0x$group & ((1 << (16 - bits)) - 1)))
      ((value == 0)) || break
      bits=$((bits - 16))
    done
    ((value == 0)) && return 0
  fi
  invalid="\"$1\" has bits behind its prefix; write the first address of the range"
  return 1
}

warn_of_range() {
  case "$2" in
    0.0.0.0/0 | ::/0) warn "$1: $2 lets in everybody" ;;
    192.0.2.* | 198.51.100.* | 203.0.113.* | 2001:db8:* | 2001:DB8:*)
      warn "$1: $2 is an address of documentation, from which nobody can send" ;;
    10.* | 192.168.* | 172.1[6-9].* | 172.2[0-9].* | 172.3[01].* | [Ff][CcDd]*)
      warn "$1: $2 is private: a public load balancer sees the public address of the spoke's NAT" ;;
    *) ;;
  esac
}

# --- the endpoint -----------------------------------------------------------------------------

# Takes what a user may give as the endpoint. Sets endpoint_url and endpoint_host, the host without
# brackets; or sets `invalid` and fails. Arguments: text port may_be_http
parse_endpoint() {
  local text="$1" port="$2" scheme=https rest authority host own_port="" path bracketed
  local in_brackets='^\[([^]]*)\](:([0-9]+))?$' plain='^([^:]*)(:([0-9]+))?$'
  invalid="the endpoint is empty"
  [[ -n "$text" ]] || return 1
  invalid="the endpoint has a character that no URL has"
  [[ "$text" != *[!A-Za-z0-9._~:/@?\#%\[\]-]* ]] || return 1
  case "$text" in
    https://*) rest="${text#https://}" ;;
    http://*)
      invalid="http:// would send the token in the clear; use https://, or --insecure-http"
      (($3)) || return 1
      scheme=http rest="${text#http://}" ;;
    *://*)
      invalid="the endpoint must begin with https://"
      return 1 ;;
    *) rest="$text" ;;
  esac
  authority="$(printf '%s' "${rest%%/*}" | tr '[:upper:]' '[:lower:]')"
  path=""
  [[ "$rest" != */* ]] || path="/${rest#*/}"
  invalid="the endpoint must not have a user name; the token is in the spoke's Secret"
  [[ "$rest" != *@* ]] || return 1
  invalid="the endpoint must have no \"?\", \"#\" and \"%\""
  [[ "$rest" != *[?\#%]* ]] || return 1
  invalid="\"$path\" is no path; leave it out for /api/v1/write"
  [[ -n "$path" && "$path" != / ]] || path=/api/v1/write
  [[ "$path" != *//* && "$path" != */ && "$path" != *[:\[\]]* ]] || return 1

  invalid="\"$authority\" is no host name, IPv4 address or [IPv6] address, with a port or without"
  if [[ "$authority" =~ $in_brackets ]]; then
    host="${BASH_REMATCH[1]}" own_port="${BASH_REMATCH[3]:-}"
    is_ipv6 "$host" || return 1
  elif is_ipv6 "$authority"; then
    host="$authority"
  elif [[ "$authority" =~ $plain ]]; then
    host="${BASH_REMATCH[1]%.}" own_port="${BASH_REMATCH[3]:-}"
    is_ipv4 "$host" || is_dns_name "$host" || return 1
  else
    return 1
  fi
  invalid="nobody can connect to $host"
  [[ "$host" != 0.0.0.0 && "$host" != :: ]] || return 1
  invalid="the endpoint has the port $own_port, and --port says $port"
  [[ -z "$own_port" || -z "$port" || "$own_port" == "$port" ]] || return 1
  own_port="${own_port:-$port}"
  invalid="\"$own_port\" is no port"
  [[ -z "$own_port" ]] || is_port "$own_port" || return 1
  case "$scheme:$own_port" in https:443 | http:80) own_port="" ;; *) ;; esac

  bracketed="$host"
  ! is_ipv6 "$host" || bracketed="[$host]"
  endpoint_host="$host"
  endpoint_url="$scheme://$bracketed${own_port:+:$own_port}$path"
  invalid=""
}

is_port() { [[ "$1" != *[!0-9]* && "$1" != 0* ]] && ((${#1} <= 5 && $1 <= 65535)); }

# --- declarations -----------------------------------------------------------------------------
# All edits are made in a copy of the declarations, "$stage", which is checked before any of it
# replaces a file of the project.

declaration() { printf '%s/clusters/%s/spoke.env\n' "$stage" "$1"; }

get() {
  awk -v key="$2=" 'index($0, key) == 1 { print substr($0, length(key) + 1); exit }' \
    "$(declaration "$1")"
}

put() {
  local file
  file="$(declaration "$1")"
  awk -v key="$2=" -v value="$3" '
    index($0, key) == 1 { if (!done++) print key value; next }
    { print }
    END { if (!done) print key value }' "$file" >"$tmp/declaration"
  cat "$tmp/declaration" >"$file"
}

is_cluster_name() {
  local pattern='^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$'
  [[ "$1" =~ $pattern ]] || return 1
  case "$1" in unknown | hub | base | components) return 1 ;; *) ;; esac
}

require_cluster_name() {
  is_cluster_name "$1" ||
    misuse "\"$1\" cannot be the name of a cluster: up to 63 of a-z, 0-9 and \"-\", which" \
      "begin and end with a letter or digit; not unknown, hub, base, components"
}

stage_declarations() {
  local file name
  clusters=()
  mkdir -p "$stage/clusters" "$stage/gateway/overlays/hub"
  for file in "$deploy"/clusters/*/spoke.env; do
    [[ -f "$file" ]] || continue
    name="$(basename "$(dirname "$file")")"
    [[ "$name" != _* ]] || continue
    clusters+=("$name")
    mkdir "$stage/clusters/$name"
    cat "$file" >"$(declaration "$name")"
  done
}

# Makes the folder of a new cluster from the template, in the copy.
stage_new_cluster() {
  local from to template="$deploy/clusters/_template"
  if [[ -e "$stage/clusters/$new_cluster" ]]; then
    say "unchanged  deploy/clusters/$new_cluster is there already"
    return
  fi
  [[ ! -e "$deploy/clusters/$new_cluster" ]] ||
    die "deploy/clusters/$new_cluster is there, but has no spoke.env"
  [[ -f "$template/spoke.env" ]] || die "deploy/clusters/_template is not there"
  cp -R "$template" "$stage/clusters/$new_cluster"
  while IFS= read -r -d '' from; do
    sed "s/CLUSTER_NAME/$new_cluster/g" "$from" >"$tmp/file"
    cat "$tmp/file" >"$from"
    to="$(dirname "$from")/$(basename "$from" | sed "s/CLUSTER_NAME/$new_cluster/g")"
    [[ "$from" == "$to" ]] || mv "$from" "$to"
  done < <(find "$stage/clusters/$new_cluster" -type f -print0)
  clusters+=("$new_cluster")
}

problem() {
  complain "$@"
  problems=$((problems + 1))
}

check_declaration() {
  local name="$1" file="deploy/clusters/$1/spoke.env" repeated value range issuer options
  is_cluster_name "$name" || problem "deploy/clusters/$name: not a name for a cluster"
  if grep -q "$(printf '\r')" "$(declaration "$name")"; then
    problem "$file: lines must end in LF, not CR LF"
    return 0
  fi
  repeated="$(sed -n 's/^\([^#=]*\)=.*/\1/p' "$(declaration "$name")" | sort | uniq -d)"
  [[ -z "$repeated" ]] || problem "$file: given twice: $(printf '%s' "$repeated" | tr '\n' ' ')"
  value="$(get "$name" cluster)"
  [[ "$value" == "$name" ]] || problem "$file: cluster=$value differs from the folder's name"
  value="$(get "$name" url)"
  if ! parse_endpoint "$value" "" 1; then
    problem "$file: url=$value is no URL of a gateway"
  elif [[ "$value" != https://* && "$value" != http://* ]]; then
    problem "$file: url=$value must be a whole URL"
  elif [[ "$value" == http://* ]] && ((!insecure_http)); then
    warn "$file: url=$value sends the token in the clear"
  fi
  value="$(get "$name" server_name)"
  is_address "$value" || is_dns_name "$value" ||
    problem "$file: server_name=$value is neither a name nor an address"
  value="$(get "$name" source_ranges)"
  [[ -n "$value" && "$value" != *,, && "$value" != ,* && "$value" != *, ]] ||
    problem "$file: source_ranges=$value has an empty element"
  while IFS= read -r range; do
    [[ -n "$range" ]] || continue
    if check_cidr "$range"; then warn_of_range "$file" "$range"; else problem "$file: $invalid"; fi
  done < <(printf '%s\n' "$value" | tr ',' '\n')
  issuer="$(get "$name" issuer)"
  options="$(grep -rhE '^ *- .*/service-account-token/?$' --include=kustomization.yaml \
    "$deploy/clusters/$name" 2>/dev/null || true)"
  value="$(get "$name" credential)"
  case "$value" in
    token) [[ -z "$options" ]] ||
      problem "$file: credential=token, but a kustomization uses service-account-token" ;;
    service-account)
      [[ -n "$options" ]] ||
        problem "$file: credential=service-account, but no kustomization uses service-account-token"
      [[ "$issuer" != *[\"\\[:space:]]* ]] || problem "$file: issuer=$issuer is no URL" ;;
    *) problem "$file: credential=$value must be token or service-account" ;;
  esac
}

render_source_ranges() {
  local name
  printf '%s\n' \
    "# Generated by deploy/configure-source-clusters.sh from deploy/clusters/*/spoke.env; do not edit." \
    "apiVersion: v1" "kind: Service" "metadata:" "  name: hubgate" "  namespace: hubgate" \
    "spec:" "  loadBalancerSourceRanges:"
  for name in "${clusters[@]}"; do
    get "$name" source_ranges | tr ',' '\n'
  done | sort -u | sed -e 's/^.*:.*$/"&"/' -e 's/^/    - /'
}

source_ranges_file=gateway/overlays/hub/source-ranges.yaml

# Checks the copy, and completes it with what follows from the declarations.
complete_stage() {
  local name
  problems=0
  ((${#clusters[@]} > 0)) || die "no cluster is declared: there is no deploy/clusters/*/spoke.env"
  for name in "${clusters[@]}"; do
    check_declaration "$name"
  done
  ((problems == 0)) || return 1
  render_source_ranges >"$stage/$source_ranges_file"
}

# Puts the copy of one file into its place, if it differs. A reader sees the old or the new one.
install_file() {
  local staged="$stage/$1" real="$deploy/$1" new
  if cmp -s "$staged" "$real"; then
    say "unchanged  deploy/$1"
    return
  fi
  if ((dry_run)); then
    say "would change  deploy/$1"
    [[ -e "$real" ]] || real=/dev/null
    diff -u -L "a/deploy/$1" -L "b/deploy/$1" "$real" "$staged" || true
    return
  fi
  mkdir -p "$(dirname "$real")"
  new="$(mktemp "$(dirname "$real")/.configure.XXXXXX")"
  leftovers+=("$new")
  if [[ -e "$real" ]]; then cp -p "$real" "$new"; else chmod 644 "$new"; fi
  cat "$staged" >"$new"
  mv -f "$new" "$real"
  say "changed    deploy/$1"
}

install_stage() {
  local name folder new
  for name in "${clusters[@]}"; do
    if [[ -e "$deploy/clusters/$name" ]]; then
      install_file "clusters/$name/spoke.env"
    elif ((dry_run)); then
      folder="$stage/clusters/$name"
      (cd "$folder" && find . -type f) | sort | while IFS= read -r new; do
        install_file "clusters/$name/${new#./}"
      done
    else
      new="$(mktemp -d "$deploy/clusters/.configure.XXXXXX")"
      leftovers+=("$new")
      cp -R "$stage/clusters/$name" "$new/$name"
      mv "$new/$name" "$deploy/clusters/$name"
      say "changed    deploy/clusters/$name is new"
    fi
  done
  install_file "$source_ranges_file"
}

# --- kubectl ----------------------------------------------------------------------------------

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

# --- where Secrets are kept -------------------------------------------------------------------
# Clusters with --apply, files with --secrets-dir, otherwise nowhere.

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
    value="$(printf '%s\n' "$encoded" | base64_decode && printf x)"
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

# Stores the manifest on stdin. Arguments: where name what
store() {
  local file
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
    kubectl_in "$1" apply --server-side --force-conflicts --field-manager=configure-source-clusters \
      --filename - >/dev/null
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

# --- the endpoint of the clusters -------------------------------------------------------------

# Prints the address of the LoadBalancer, a name if it has one.
discover_endpoint() {
  local kind found said=0 deadline=$((SECONDS + wait_seconds))
  kind="$(kubectl_in hub --namespace hubgate get service hubgate --ignore-not-found \
    --output 'jsonpath={.spec.type}' 2>"$tmp/kubectl")" || {
    warn "the hub's Service cannot be read: $(tail -n 1 "$tmp/kubectl")"
    return 1
  }
  if [[ "$kind" != LoadBalancer ]]; then
    warn "the hub has no Service hubgate of type LoadBalancer in namespace hubgate"
    return 1
  fi
  while :; do
    # The name first: where both are there, the provider wants the name to be used.
    found="$(kubectl_in hub --namespace hubgate get service hubgate --output \
      'jsonpath={.status.loadBalancer.ingress[0].hostname} {.status.loadBalancer.ingress[0].ip}')"
    read -r found _ <<<"$found" || true
    [[ -z "$found" ]] || break
    if ((SECONDS >= deadline)); then
      warn "Service hubgate got no address in $wait_seconds s:" \
        "see kubectl --namespace hubgate describe service hubgate"
      return 1
    fi
    ((said)) || printf 'waiting for the address of the LoadBalancer\n' >&2
    said=1
    sleep 2
  done
  printf '%s\n' "$found"
}

ask_endpoint() {
  local answer
  [[ -t 0 ]] || return 1
  while :; do
    printf 'Enter the LoadBalancer IP or hostname: ' >&2
    IFS= read -r answer || return 1
    if parse_endpoint "$answer" "$port" "$insecure_http"; then break; fi
    complain "$invalid"
  done
  printf '%s\n' "$answer"
}

host_of() { parse_endpoint "$(get "$1" url)" "" 1 && say "$endpoint_host"; }

set_endpoint() {
  local name="$1" old_host
  old_host="$(host_of "$name" || true)"
  # A name in the certificate that is not the old host was set on purpose.
  if [[ -z "$server_name" && "$(get "$name" server_name)" == "$old_host" ]]; then
    put "$name" server_name "$endpoint_host"
  fi
  put "$name" url "$endpoint_url"
}

# Writes the endpoint into the copies of the selected clusters.
stage_endpoint() {
  local name host other answer undecided=()
  if [[ -n "$endpoint" ]]; then
    parse_endpoint "$endpoint" "$port" "$insecure_http" || misuse "$invalid"
    for name in "${selected[@]}"; do set_endpoint "$name"; done
    return
  fi
  # A new cluster sends where the others do.
  for other in "${clusters[@]}"; do
    [[ -n "$new_cluster" && "$other" != "$new_cluster" ]] || continue
    [[ "$(get "$new_cluster" url)" == https://hubgate.example.com/* ]] || break
    put "$new_cluster" url "$(get "$other" url)"
    put "$new_cluster" server_name "$(get "$other" server_name)"
  done
  for name in "${selected[@]}"; do
    host="$(host_of "$name" || true)"
    # What somebody chose as a name is kept; an address may have become another one.
    if [[ -z "$host" || "$host" == *.example.com ]] || is_address "$host"; then
      undecided+=("$name")
    fi
  done
  ((${#undecided[@]} > 0)) || return 0
  if answer="$(discover_endpoint)"; then
    say "the LoadBalancer has the address $answer"
  else
    host="$(host_of "${undecided[0]}" || true)"
    if is_address "$host"; then
      say "keeping the address that spoke.env has, $host"
      return
    fi
    answer="$(ask_endpoint)" || misuse "no address of the gateway: give --endpoint"
  fi
  parse_endpoint "$answer" "$port" "$insecure_http" || misuse "$invalid"
  for name in "${undecided[@]}"; do set_endpoint "$name"; done
}

# --- the certificate of the gateway -----------------------------------------------------------

new_key() {
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 \
    -pkeyopt ec_param_enc:named_curve -out "$1" 2>/dev/null
}

make_authority() {
  new_key "$tmp/ca.key"
  printf '%s\n' '[req]' 'distinguished_name = name' 'prompt = no' 'x509_extensions = ca' \
    '[name]' 'CN = hubgate authority' '[ca]' 'basicConstraints = critical, CA:TRUE, pathlen:0' \
    'keyUsage = critical, keyCertSign, cRLSign' 'subjectKeyIdentifier = hash' >"$tmp/ca.cnf"
  openssl req -new -x509 -sha256 -days 3650 -key "$tmp/ca.key" -config "$tmp/ca.cnf" -out "$tmp/ca.crt"
}

# The names that the spokes ask for.
certificate_names() {
  local name
  for name in "${clusters[@]}"; do get "$name" server_name; done | sort -u
}

issue_certificate() {
  local name alternatives=""
  for name in $1; do
    if is_address "$name"; then alternatives+=",IP:$name"; else alternatives+=",DNS:$name"; fi
  done
  new_key "$tmp/tls.key"
  printf '%s\n' '[req]' 'distinguished_name = name' 'prompt = no' '[name]' 'CN = hubgate' \
    >"$tmp/tls.cnf"
  printf '%s\n' "subjectAltName = ${alternatives#,}" 'basicConstraints = critical, CA:FALSE' \
    'keyUsage = critical, digitalSignature' 'extendedKeyUsage = serverAuth' \
    'subjectKeyIdentifier = hash' 'authorityKeyIdentifier = keyid' >"$tmp/tls.ext"
  openssl req -new -sha256 -key "$tmp/tls.key" -config "$tmp/tls.cnf" -out "$tmp/tls.csr"
  openssl x509 -req -sha256 -days 365 -in "$tmp/tls.csr" -CA "$tmp/ca.crt" -CAkey "$tmp/ca.key" \
    -set_serial "0x01$(openssl rand -hex 15)" -extfile "$tmp/tls.ext" -out "$tmp/tls.crt" 2>/dev/null
}

# Says why the certificate in a file has to be replaced, or nothing.
certificate_fault() {
  local name text
  if ! openssl x509 -in "$1" -noout -checkend $((30 * 24 * 3600)) >/dev/null 2>&1; then
    say "it ends within 30 days"
    return
  fi
  text="$(openssl x509 -in "$1" -noout -text | tr ',' '\n' | sed 's/^ *//')"
  for name in $2; do
    if is_ipv4 "$name"; then
      name="IP Address:$name"
    elif is_ipv6 "$name"; then
      name="IP Address:$(ipv6_groups "$name")"
    else
      name="DNS:$name"
    fi
    if ! grep -Fxq "$name" <<<"$text"; then
      say "it is not for $name"
      return
    fi
  done
}

has_cert_manager_certificate() {
  local found
  [[ "$target" == cluster ]] || return 1
  if found="$(kubectl_in hub --namespace hubgate get certificates.cert-manager.io --output name \
    2>"$tmp/kubectl")"; then
    [[ -n "$found" ]]
  elif grep -q "doesn't have a resource type" "$tmp/kubectl"; then
    return 1
  else
    die "cert-manager's certificates cannot be read: $(tail -n 1 "$tmp/kubectl")"
  fi
}

one_line() { printf '%s' "$1" | tr '\n' ' '; }

# Sees to the gateway's certificate, and sets ca_pem, the authority for the spokes.
configure_certificate() {
  local names ca fault certificate
  names="$(certificate_names)"
  read_secret hub hubgate hubgate-tls tls.crt
  certificate="$value"
  if [[ -n "$ca_file" ]]; then
    ca_pem="$(cat "$ca_file")"
    [[ -n "$certificate" ]] ||
      warn "the hub needs the Secret hubgate-tls: kubectl --namespace hubgate create secret tls" \
        "hubgate-tls --cert FILE --key FILE"
    return
  fi
  read_secret hub hubgate hubgate-ca tls.crt
  ca="$value"
  if has_cert_manager_certificate; then
    [[ -n "$ca" && -n "$certificate" ]] ||
      die "cert-manager has not made the Secrets hubgate-ca and hubgate-tls; see kubectl" \
        "--namespace hubgate describe certificate, or give --ca-file"
    ca_pem="${ca%$'\n'}"
    say "unchanged  hub: certificate of cert-manager"
    return
  fi
  read_secret hub hubgate hubgate-tls ca.crt
  if [[ -n "$certificate" && "${value:-none}" != "$ca" ]]; then
    [[ -n "$value" ]] ||
      die "the hub's Secret hubgate-tls does not say which authority issued it: give --ca-file"
    ca_pem="${value%$'\n'}"
    printf '%s' "$certificate" >"$tmp/tls.crt"
    fault="$(certificate_fault "$tmp/tls.crt" "$names")"
    [[ -z "$fault" ]] || warn "renew the certificate in the hub's Secret hubgate-tls: $fault"
    return
  fi
  if ! may_write && [[ -z "$certificate" ]]; then
    secret_manifest hubgate hubgate-ca kubernetes.io/tls tls.crt=x tls.key=x |
      store hub hubgate-ca "Secret hubgate/hubgate-ca, an authority"
    secret_manifest hubgate hubgate-tls kubernetes.io/tls tls.crt=x tls.key=x ca.crt=x |
      store hub hubgate-tls "Secret hubgate/hubgate-tls, a certificate for $(one_line "$names")"
    ca_pem="${ca:-(the certificate of the authority: tls.crt of Secret hubgate-ca)}"
    return
  fi
  issue_own_certificate "$names" "$ca" "$certificate"
}

# Issues the certificate by the script's own authority, if it has to be. Arguments: names ca certificate
issue_own_certificate() {
  local names="$1" ca="$2" certificate="$3" fault="there was none"
  if [[ -n "$certificate" ]]; then
    printf '%s' "$certificate" >"$tmp/tls.crt"
    fault="$(certificate_fault "$tmp/tls.crt" "$names")"
  fi
  ca_pem="${ca%$'\n'}"
  if [[ -z "$fault" ]]; then
    say "unchanged  hub: Secret hubgate/hubgate-tls"
    return
  fi
  if [[ -z "$ca" ]]; then
    make_authority
    secret_manifest hubgate hubgate-ca kubernetes.io/tls \
      "tls.crt=$(base64_encode <"$tmp/ca.crt")" "tls.key=$(base64_encode <"$tmp/ca.key")" |
      store hub hubgate-ca "Secret hubgate/hubgate-ca, an authority"
  else
    printf '%s' "$ca" >"$tmp/ca.crt"
    read_secret hub hubgate hubgate-ca tls.key
    [[ -n "$value" ]] ||
      die "the certificate has to be renewed ($fault), but Secret hubgate-ca has no tls.key"
    printf '%s' "$value" >"$tmp/ca.key"
  fi
  issue_certificate "$names"
  secret_manifest hubgate hubgate-tls kubernetes.io/tls "tls.crt=$(base64_encode <"$tmp/tls.crt")" \
    "tls.key=$(base64_encode <"$tmp/tls.key")" "ca.crt=$(base64_encode <"$tmp/ca.crt")" |
    store hub hubgate-tls "Secret hubgate/hubgate-tls, a certificate for $(one_line "$names"): $fault"
  ca_pem="$(cat "$tmp/ca.crt")"
}

# --- tokens and the gateway's entries ---------------------------------------------------------

# Makes a token of 256 bits, into `value`.
new_token() {
  value="$(openssl rand 32 | openssl base64 | tr '+/' '-_' | tr -d '=\n')"
  ((${#value} == 43)) || die "openssl made no token"
}

is_token() {
  local pattern='^[A-Za-z0-9._~+/-]+=*$'
  ((${#1} >= 20)) && [[ "$1" =~ $pattern ]]
}

digest() {
  if [[ "$1" == "$not_yet_made" ]]; then
    printf '(the SHA-256 of the new token)\n'
  else
    printf '%s' "$1" | openssl dgst -sha256 -r | cut -c 1-64
  fi
}

# Stands for a token where none may be made.
not_yet_made='(a new token)'

header_of() {
  printf '# From deploy/clusters/%s/spoke.env, by deploy/configure-source-clusters.sh.' "$1"
}

# Reads the gateway's entry of a spoke into `entry`, its credentials into `credentials`, and the keys
# that are not the script's, such as limits, into `others`.
read_entry() {
  local line key="" header
  header="$(header_of "$1")"
  credentials=() others=""
  if [[ "$target" == none ]]; then entry=""; else
    read_secret hub hubgate hubgate-spokes "$1.yaml"
    entry="$value"
  fi
  while IFS= read -r line || [[ -n "$line" ]]; do
    [[ "$line" != "$header" && -n "$line" ]] || continue
    case "$line" in
      credentials:) key=credentials && continue ;;
      name:* | source_ranges:*) key=ours && continue ;;
      credentials:* | -*) key=foreign ;;
      " "*) ;;
      *) key=others ;;
    esac
    case "$key:$line" in
      credentials:"  - "*) credentials+=("$line") ;;
      credentials:"   "*)
        ((${#credentials[@]} > 0)) || die_of_entry "$1"
        credentials[${#credentials[@]} - 1]+=$'\n'"$line" ;;
      ours:*) ;;
      others:*) others+="$line"$'\n' ;;
      *) die_of_entry "$1" ;;
    esac
  done < <(printf '%s' "$entry")
}

die_of_entry() {
  die "key $1.yaml of the hub's Secret hubgate-spokes is not in the form that this script writes;" \
    "put each element of credentials on lines of its own, indented by two spaces"
}

render_entry() {
  local name="$1" credential
  header_of "$name"
  printf '\nname: "%s"\nsource_ranges:\n' "$name"
  get "$name" source_ranges | tr ',' '\n' | sed 's/.*/  - "&"/'
  printf 'credentials:\n'
  for credential in "${credentials[@]}"; do printf '%s\n' "$credential"; done
  printf '%s' "$others"
}

# Adds the credential of a token.
add_token() {
  local sha256
  sha256="$(digest "$1")"
  [[ "$1" == "$not_yet_made" || ${#sha256} == 64 ]] || die "openssl made no digest"
  add_credential "  - token_sha256: $sha256"
}

jwt_credential() {
  printf '  - jwt:\n      issuer: "%s"\n      audience: "hubgate-%s"\n' "$2" "$1"
  printf '      subject: "%s"\n' "$service_account"
  printf '      jwks_file: /etc/hubgate/spokes/%s.jwks.json' "$1"
}

service_account=system:serviceaccount:monitoring:kube-prometheus-stack-prometheus

# Prints how the metrics name a credential that the script made; fails for any other.
label_of() {
  local pattern='^  - token_sha256: "?([0-9A-Fa-f]{8})'
  if [[ "$1" =~ $pattern ]]; then
    printf 'token_sha256:%s\n' "${BASH_REMATCH[1]}" | tr '[:upper:]' '[:lower:]'
  elif [[ "$1" == "  - jwt:"* && "$1" == *"/etc/hubgate/spokes/"*".jwks.json"* ]]; then
    printf 'jwt:%s\n' "$service_account"
  else
    return 1
  fi
}

# Adds a credential, or replaces the one with the same label.
add_credential() {
  local i label
  label="$(label_of "$1" || true)"
  for ((i = 0; i < ${#credentials[@]}; i++)); do
    [[ -n "$label" && "$(label_of "${credentials[i]}" || true)" == "$label" ]] || continue
    # A token's line may carry a not_after of the user's.
    [[ "$label" == token_sha256:* ]] || credentials[i]="$1"
    return
  done
  credentials+=("$1")
}

count_own_credentials() {
  local credential count=0
  for credential in ${credentials[@]+"${credentials[@]}"}; do
    ! label_of "$credential" >/dev/null || count=$((count + 1))
  done
  say "$count"
}

# Stores the gateway's entry, and with a second argument the keys of the issuer, as keys of the hub's
# Secret. The keys of other spokes stay.
store_entry() {
  local name="$1" jwks="${2:-}" text file line keys=()
  text="$(render_entry "$name")"
  read_secret hub hubgate hubgate-spokes "$name.jwks.json"
  [[ -n "$jwks" ]] || jwks="$value" # a credential that is still in the entry may need it
  say "$(count_own_credentials)" >"$tmp/credentials.$name"
  if [[ "$text" == "${entry%$'\n'}" && "$jwks" == "$value" ]]; then
    say "unchanged  hub: Secret hubgate/hubgate-spokes, $name.yaml"
    return
  fi
  if ! may_write; then
    say "for hub: Secret hubgate/hubgate-spokes, $name.yaml"
    printf '%s\n' "$text" | sed 's/^/    /'
    return
  fi
  : >"$tmp/changed.$name"
  keys=("$name.yaml=$(printf '%s\n' "$text" | base64_encode)")
  [[ -z "$jwks" ]] || keys+=("$name.jwks.json=$(printf '%s' "$jwks" | base64_encode)")
  if [[ "$target" == files ]]; then
    file="$(manifest_file hub hubgate-spokes)"
    while IFS= read -r line; do
      keys+=("${line%%: *}=${line#*: }")
    done < <(sed -n '/^data:/,$ s/^  \(.*: \)/\1/p' "$file" 2>/dev/null |
      grep -v -e "^$name\.yaml: " -e "^$name\.jwks\.json: ")
    secret_manifest hubgate hubgate-spokes Opaque "${keys[@]}" |
      store hub hubgate-spokes "Secret hubgate/hubgate-spokes, $name.yaml"
    return
  fi
  if [[ -z "$(kubectl_in hub --namespace hubgate get secret hubgate-spokes --ignore-not-found \
    --output name)" ]]; then
    # Another run may make it in this moment. Then the patch that follows is enough.
    secret_manifest hubgate hubgate-spokes Opaque "${keys[@]}" |
      kubectl_in hub create --filename - >/dev/null || true
  fi
  {
    printf '{"data":{'
    for ((line = 0; line < ${#keys[@]}; line++)); do
      ((line == 0)) || printf ','
      printf '"%s":"%s"' "${keys[line]%%=*}" "${keys[line]#*=}"
    done
    printf '}}\n'
  } | kubectl_in hub --namespace hubgate patch secret hubgate-spokes --type merge \
    --patch-file /dev/stdin >/dev/null
  changed hub "Secret hubgate/hubgate-spokes, $name.yaml"
}

# Stores the spoke's Secret. Arguments: spoke token next what
store_token() {
  local keys=()
  [[ -z "$2" ]] || keys+=("token=$(printf '%s' "$2" | base64_encode)")
  [[ -z "$3" ]] || keys+=("token-next=$(printf '%s' "$3" | base64_encode)")
  secret_manifest monitoring hubgate Opaque "${keys[@]}" |
    store "$1" hubgate "Secret monitoring/hubgate, $4"
}

# --- spokes -----------------------------------------------------------------------------------

store_authority() {
  local stored_pem
  [[ "$(get "$1" url)" == https://* ]] || return 0
  stored_pem="$(stored "$1" configmap monitoring hubgate-ca ca.crt)"
  if [[ "$target" == files && -e "$(manifest_file "$1" hubgate-ca)" ]]; then
    stored_pem="$(sed -n 's/^    //p' "$(manifest_file "$1" hubgate-ca)")"
  fi
  if [[ "$stored_pem" == "$ca_pem" ]]; then
    say "unchanged  $1: ConfigMap monitoring/hubgate-ca"
    return
  fi
  {
    printf 'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: hubgate-ca\n  namespace: monitoring\n'
    printf 'data:\n  ca.crt: |\n'
    printf '%s\n' "$ca_pem" | sed 's/^/    /'
  } | store "$1" hubgate-ca "ConfigMap monitoring/hubgate-ca, the authority of the gateway"
}

# Sees to everything of a spoke except that it sends a new token.
enrol() {
  ensure_namespace "$1" monitoring
  store_authority "$1"
  read_entry "$1"
  if [[ "$(get "$1" credential)" == service-account ]]; then
    enrol_service_account "$1"
  else
    enrol_token "$1"
  fi
}

enrol_token() {
  local name="$1" token next wanted
  read_secret "$name" monitoring hubgate token
  token="$value"
  read_secret "$name" monitoring hubgate token-next
  next="$value"
  if is_token "$next"; then
    say "going on with the token that an earlier run made for $name"
    wanted="$next"
  elif ((rotate)) && is_token "$token"; then
    (($(count_own_credentials) <= 1)) ||
      die "$name has two credentials already: give --finish-rotation first"
    wanted="$not_yet_made"
  elif is_token "$token"; then
    wanted="$token"
  else
    wanted="$(printf '%s' "$token" | tr -d ' \t\r\n')"
    if is_token "$wanted"; then
      warn "the token of $name has white space at its end or in it, with which a Prometheus cannot" \
        "send; it is taken away"
    else
      [[ -z "$token" ]] || warn "the token of $name cannot be one; it gets a new one"
      wanted="$not_yet_made"
    fi
  fi
  if [[ "$wanted" == "$not_yet_made" ]] && may_write; then
    new_token
    wanted="$value"
  fi
  if [[ "$wanted" == "$token" ]]; then
    say "unchanged  $name: Secret monitoring/hubgate"
  elif [[ "$wanted" != "$next" && "$target" == cluster ]]; then
    store_token "$name" "$token" "$wanted" "a token for later"
  elif [[ "$wanted" != "$next" ]]; then
    store_token "$name" "$wanted" "" "the token"
  fi
  ! is_token "$token" || add_token "$token"
  add_token "$wanted"
  store_entry "$name"
}

enrol_service_account() {
  local name="$1" issuer jwks=""
  issuer="$(get "$name" issuer)"
  if context_of "$name" >/dev/null; then
    jwks="$(kubectl_in "$name" get --raw /openid/v1/jwks)"
    [[ "$jwks" == *'"keys"'* ]] || die "the API server of $name has no keys at /openid/v1/jwks"
    [[ -n "$issuer" ]] ||
      issuer="$(kubectl_in "$name" get --raw /.well-known/openid-configuration |
        sed -n 's/.*"issuer"[[:space:]]*:[[:space:]]*"\([^"]*\)".*/\1/p' | sed 's,\\/,/,g')"
  elif may_write; then
    die "the keys of ServiceAccounts are at the API server of $name: give --context $name=CONTEXT"
  fi
  if [[ -z "$issuer" ]]; then
    may_write && die "the issuer of $name is not known: add issuer=URL to its spoke.env"
    issuer="(the issuer: kubectl get --raw /.well-known/openid-configuration)"
  fi
  ((!rotate)) || say "$name has no token to rotate"
  add_credential "$(jwt_credential "$name" "$issuer")"
  store_entry "$name" "$jwks"
}

# Gives the spoke the token that enrol made, as soon as the gateway knows it.
deliver() {
  local name="$1" next
  [[ "$target" == cluster ]] && may_write && [[ "$(get "$name" credential)" == token ]] || return 0
  read_secret "$name" monitoring hubgate token-next
  next="$value"
  is_token "$next" || return 0
  wait_until_known "$name" "token_sha256:$(digest "$next" | cut -c 1-8)"
  store_token "$name" "$next" "" "the token"
}

# --- what hubgate says ------------------------------------------------------------------------

running_pods() {
  kubectl_in hub --namespace hubgate get pods --selector app.kubernetes.io/name=hubgate --output \
    'jsonpath={range .items[?(@.status.phase=="Running")]}{.metadata.name}{"\n"}{end}'
}

# Writes the metrics of a pod into a file. A port-forward works where a NetworkPolicy or a firewall
# keeps the API server from the port.
scrape() {
  local pod="$1" file="$2" forward local_port="" tries done=1
  : >"$tmp/forward"
  kubectl ${hub_context:+--context "$hub_context"} --namespace hubgate port-forward \
    --address 127.0.0.1 "pod/$pod" :9481 >"$tmp/forward" 2>&1 </dev/null &
  forward=$!
  printf '%s\n' "$forward" >"$tmp/forward.pid"
  for ((tries = 0; tries < 150; tries++)); do
    local_port="$(sed -n 's/^Forwarding from 127\.0\.0\.1:\([0-9]*\) .*/\1/p' "$tmp/forward")"
    if [[ -n "$local_port" ]] || ! kill -0 "$forward" 2>/dev/null; then break; fi
    sleep 0.1
  done
  if [[ -n "$local_port" ]]; then
    curl -q --noproxy '*' -fsS --max-time 15 -o "$file" "http://127.0.0.1:$local_port/metrics" \
      2>>"$tmp/forward" && done=0
  fi
  kill "$forward" 2>/dev/null || true
  wait "$forward" 2>/dev/null || true
  rm -f "$tmp/forward.pid"
  return "$done"
}

# Prints the value of hubgate_credential_last_used_timestamp_seconds in a file. Arguments: file spoke credential
last_used() {
  awk -v spoke="spoke=\"$2\"" -v credential="credential=\"$3\"" '
    index($0, "hubgate_credential_last_used_timestamp_seconds{") == 1 &&
      index($0, spoke) && index($0, credential) { printf "%.0f\n", $NF; exit }' "$1"
}

started() { awk '$1 == "process_start_time_seconds" { printf "%.0f\n", $2; exit }' "$1"; }

# Waits until every running pod of hubgate knows a credential. Without pods nobody refuses anything.
wait_until_known() {
  local name="$1" label="$2" pods pod missing said=0 deadline=$((SECONDS + wait_seconds))
  while :; do
    pods="$(running_pods)"
    missing=""
    for pod in $pods; do
      if ! scrape "$pod" "$tmp/metrics"; then
        missing="$pod does not answer: $(tail -n 1 "$tmp/forward")"
      elif [[ -z "$(last_used "$tmp/metrics" "$name" "$label")" ]]; then
        missing="$pod does not know it"
      fi
    done
    [[ -n "$missing" ]] || break
    ((SECONDS < deadline)) ||
      die "the gateway does not know the new token of $name after $wait_seconds s ($missing);" \
        "the spoke keeps the old one; run this again to go on"
    ((said)) || say "waiting until the gateway knows the new token of $name; about a minute"
    said=1
    sleep 3
  done
  [[ -n "$pods" ]] || say "no pod of hubgate runs yet, so the token of $name needs no waiting"
}

quiet_seconds=300

# Takes the old credentials of a spoke away, if for five minutes only the new one was used.
finish_rotation() {
  local name="$1" token wanted label other pods pod files=() kept=() latest=0 used begin reason=""
  read_entry "$name"
  say "$(count_own_credentials)" >"$tmp/credentials.$name"
  if (($(count_own_credentials) <= 1)); then
    say "unchanged  hub: $name has one credential"
    return
  fi
  if [[ "$(get "$name" credential)" == service-account ]]; then
    wanted="jwt:$service_account"
  else
    read_secret "$name" monitoring hubgate token-next
    [[ -z "$value" ]] || die "the rotation of $name was interrupted: give --rotate to go on"
    read_secret "$name" monitoring hubgate token
    token="$value"
    is_token "$token" || die "$name has no token"
    wanted="token_sha256:$(digest "$token" | cut -c 1-8)"
  fi
  pods="$(running_pods)"
  [[ -n "$pods" ]] || die "no pod of hubgate runs, so it is not known which token is used"
  for pod in $pods; do
    scrape "$pod" "$tmp/metrics.$pod" || die "$pod does not answer: $(tail -n 1 "$tmp/forward")"
    files+=("$tmp/metrics.$pod")
    used="$(last_used "$tmp/metrics.$pod" "$name" "$wanted")"
    ((${used:-0} <= latest)) || latest="$used"
  done
  ((latest > 0)) || die "$name has not used its new credential yet, so the old one stays"
  for other in "${credentials[@]}"; do
    label="$(label_of "$other")" || label="$wanted"
    if [[ "$label" == "$wanted" ]]; then
      kept+=("$other")
      continue
    fi
    for pod in "${files[@]}"; do
      # A pod knows only what happened since it started.
      used="$(last_used "$pod" "$name" "$label")"
      begin="$(started "$pod")"
      ((${used:-0} >= ${begin:-0})) || used="${begin:-0}"
      ((latest - used >= quiet_seconds)) ||
        reason="the credential $label may still be in use: the latest use of the new one is only"
      [[ -z "$reason" ]] || die "$name: $reason $((latest - used)) s after that;" \
        "try again in $((quiet_seconds / 60)) minutes"
    done
  done
  credentials=("${kept[@]}")
  store_entry "$name"
}

# --- checks -----------------------------------------------------------------------------------

# Prints what a failed request means. Arguments: name exit status place
advise() {
  local here="" url
  url="$(get "$1" url)"
  [[ "$4" != here ]] || here="; this machine is usually not in source_ranges: try --check-from-cluster"
  case "$2:$3" in
    0:204) say "the gateway takes writes of $1 without a token: is that hubgate?" ;;
    0:401) say "the gateway does not know the token: run this with --apply, and wait a minute" ;;
    0:403) say "the address is not in source_ranges of $1$here" ;;
    0:404) say "something else answers there, or the path is wrong: $url" ;;
    0:405 | 0:415 | 0:400) say "something else than hubgate answers at $url" ;;
    0:413) say "a proxy in front of the gateway limits the size of a body" ;;
    0:429) say "a proxy in front of the gateway limits the number of requests" ;;
    0:500 | 0:502 | 0:504) say "the gateway or a proxy in front of it does not reach what is behind it" ;;
    0:503) say "the gateway is busy, starts or stops; or the load balancer has no ready pod" ;;
    0:3??) say "something redirects; remote write follows no redirect: $url" ;;
    0:2??) say "something else than hubgate answers at $url: an empty write must get 204" ;;
    6:*) say "the name of $url cannot be resolved" ;;
    7:*) say "nothing listens at $url, or a firewall refuses: are pods of hubgate ready?" ;;
    28:*) say "no answer: a firewall, or loadBalancerSourceRanges without this address$here" ;;
    35:* | 52:* | 56:*) say "the connection ends in or before TLS: source ranges, a proxy, or no TLS there$here" ;;
    60:* | 51:*) say "the certificate is not by the authority of $1, or not for $(get "$1" server_name)" ;;
    77:*) say "curl cannot read the authority" ;;
    *) say "curl exits with $2, status $3" ;;
  esac
}

# Prints one result as a line, and remembers a failure. Arguments: name place with_token exit status text
judge() {
  local name="$1" good=204 what="with its token"
  [[ "$3" == 1 ]] || { good=401 && what="without a token"; }
  if [[ "$4" == 0 && "$5" == "$good" ]]; then
    say "ok         $name, $what: $5"
    return
  fi
  : >"$tmp/unreachable.$name"
  say "failed     $name, $what: $(if [[ "$4" == 0 ]]; then printf 'status %s' "$5"; else
    printf 'curl exits with %s' "$4"; fi): $(advise "$name" "$4" "$5" "$2")"
  [[ -z "$6" ]] || say "           $(printf '%s' "$6" | tr -cd '[:print:]' | cut -c 1-200)"
}

# The arguments of curl that connect as the spoke's Prometheus does, into `curl_target`. The name in
# the certificate is in the URL; --connect-to leads it to the host.
aim() {
  local name="$1" url server path authority
  url="$(get "$name" url)" server="$(get "$name" server_name)"
  curl_target=("$url")
  [[ "$url" == https://* && "$server" != "$(host_of "$name")" ]] || return 0
  authority="${url#https://}" && path="/${authority#*/}" && authority="${authority%%/*}"
  [[ "$authority" =~ :[0-9]+$ ]] || authority="$authority:443"
  ! is_ipv6 "$server" || server="[$server]"
  curl_target=("https://$server:${authority##*:}$path" --connect-to "::$authority")
}

write_headers=(
  -H 'Content-Type: application/x-protobuf' -H 'Content-Encoding: snappy'
  -H 'X-Prometheus-Remote-Write-Version: 0.1.0'
)

# Sends the snappy of an empty message from here, with the headers on stdin. Arguments: name with_token ca
probe() {
  local name="$1" exit_code=0 status
  aim "$name"
  printf '\0' >"$tmp/body"
  : >"$tmp/answer"
  status="$(curl -q -sS -o "$tmp/answer" -w '%{http_code}' --connect-timeout 10 --max-time 20 \
    --http1.1 ${3:+--cacert "$3"} "${write_headers[@]}" -H @- --data-binary @"$tmp/body" \
    "${curl_target[@]}" 2>"$tmp/curl")" || exit_code=$?
  judge "$name" here "$2" "$exit_code" "$status" "$(cat "$tmp/curl" "$tmp/answer" | head -n 1)"
}

# The token that a spoke would send, into `value`.
read_sent_token() {
  if [[ "$(get "$1" credential)" == service-account ]]; then
    value="$(kubectl_in "$1" --namespace monitoring create token "${service_account##*:}" \
      --audience "hubgate-$1")" || die "$1 makes no token for its ServiceAccount"
  else
    target=cluster read_secret "$1" monitoring hubgate token
    is_token "$value" || {
      : >"$tmp/unreachable.$1"
      say "failed     $1: Secret monitoring/hubgate has no token, or one with white space: use --apply"
      return 1
    }
  fi
}

check_from_here() {
  local name="$1" ca=""
  if [[ -n "$ca_file" ]]; then
    ca="$ca_file"
  elif context_of "$name" >/dev/null; then
    target=cluster stored "$name" configmap monitoring hubgate-ca ca.crt >"$tmp/check-ca.crt"
    [[ ! -s "$tmp/check-ca.crt" ]] || ca="$tmp/check-ca.crt"
  fi
  [[ -n "$ca" || "$(get "$name" url)" != https://* ]] ||
    say "note: without --ca-file or --context, only the authorities of this machine are trusted"
  printf '' | probe "$name" 0 "$ca"
  if ! context_of "$name" >/dev/null; then
    say "not tried  $name, with its token: give --context $name=CONTEXT"
    return
  fi
  read_sent_token "$name" || return 0
  printf 'Authorization: Bearer %s\n' "$value" | probe "$name" 1 "$ca"
}

# Runs in the pod; prints a line `hubgate-check WITH_TOKEN EXIT STATUS TEXT` for each request.
# shellcheck disable=SC2016 # the pod's shell expands it
pod_script='
printf "\0" >/tmp/body
try() {
  code=0
  status=$(curl -q -sS -o /tmp/answer -w "%{http_code}" --connect-timeout 10 --max-time 20 --http1.1 $CA \
    -H "Content-Type: application/x-protobuf" -H "Content-Encoding: snappy" \
    -H "X-Prometheus-Remote-Write-Version: 0.1.0" -H @- --data-binary @/tmp/body "$URL" $CONNECT_TO \
    2>/tmp/error) || code=$?
  echo "hubgate-check $1 $code $status $(cat /tmp/error /tmp/answer 2>/dev/null | head -n 1)"
}
printf "" | try 0
{ printf "Authorization: Bearer "; cat /var/run/secrets/hubgate/token; echo; } | try 1
'

render_check_pod() {
  local name="$1" ca=""
  aim "$name"
  [[ "${curl_target[0]}" != https://* ]] || ca="--cacert /etc/hubgate-ca/ca.crt"
  cat <<YAML
apiVersion: v1
kind: Pod
metadata:
  name: $2
  namespace: monitoring
  labels:
    app.kubernetes.io/name: hubgate-check
spec:
  restartPolicy: Never
  activeDeadlineSeconds: 300
  automountServiceAccountToken: false
  serviceAccountName: $3
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: check
      image: $check_image
      command: [sh, -c]
      args:
        - |
$(printf '%s\n' "$pod_script" | sed 's/^/          /')
      env:
        - {name: URL, value: "${curl_target[0]}"}
        - {name: CONNECT_TO, value: "${curl_target[*]:1}"}
        - {name: CA, value: "$ca"}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      resources:
        requests: {cpu: 10m, memory: 32Mi}
        limits: {memory: 64Mi}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        - {name: token, mountPath: /var/run/secrets/hubgate, readOnly: true}
        - {name: ca, mountPath: /etc/hubgate-ca, readOnly: true}
  volumes:
    - name: tmp
      emptyDir: {medium: Memory, sizeLimit: 4Mi}
    - name: ca
      configMap: {name: hubgate-ca, optional: $(if [[ -n "$ca" ]]; then echo false; else echo true; fi)}
    - name: token
$4
YAML
}

check_from_cluster() {
  local name="$1" pod account=default volume phase="" deadline=$((SECONDS + wait_seconds)) line
  local with code status text
  volume='      secret: {secretName: hubgate, items: [{key: token, path: token}]}'
  if [[ "$(get "$name" credential)" == service-account ]]; then
    account="${service_account##*:}"
    volume="      projected: {sources: [{serviceAccountToken: {audience: hubgate-$name, path: token}}]}"
  else
    read_sent_token "$name" || return 0
  fi
  pod="hubgate-check-$(openssl rand -hex 4)"
  render_check_pod "$name" "$pod" "$account" "$volume" |
    kubectl_in "$name" create --filename - >/dev/null
  check_pod="$pod"
  trap 'kubectl_in "$name" --namespace monitoring delete pod "$check_pod" --wait=false >/dev/null' EXIT
  while :; do
    phase="$(kubectl_in "$name" --namespace monitoring get pod "$pod" --output 'jsonpath={.status.phase}')"
    [[ "$phase" != Succeeded && "$phase" != Failed ]] || break
    if ((SECONDS >= deadline)); then
      : >"$tmp/unreachable.$name"
      say "failed     $name: the pod $pod did not run in $wait_seconds s: $(kubectl_in "$name" \
        --namespace monitoring get pod "$pod" --output \
        'jsonpath={.status.phase} {.status.containerStatuses[0].state.waiting.reason}')"
      return
    fi
    sleep 1
  done
  line=0
  while read -r _ with code status text; do
    judge "$name" there "$with" "$code" "$status" "$text"
    line=$((line + 1))
  done < <(kubectl_in "$name" --namespace monitoring logs "$pod" | grep '^hubgate-check [01] [0-9]* [0-9]*')
  ((line == 2)) || die "the pod $pod in $name ended without a result"
}

# --- the run ----------------------------------------------------------------------------------

parse_options() {
  local name value
  endpoint="${REMOTE_WRITE_ENDPOINT:-}" port="" server_name="" ca_file="" new_cluster=""
  hub_context="" secrets_dir="" insecure_http=0 apply=0 dry_run=0 yes=0 rotate=0 finish=0
  check=none only=""
  selected=() context_names=() context_values=() range_names=() range_values=()
  while (($# > 0)); do
    if [[ "$1" == --*=* ]]; then
      value="${1#*=}" name="${1%%=*}"
      shift
      set -- "$name" "$value" ${1+"$@"}
    fi
    case "$1" in
      --endpoint | --port | --server-name | --ca-file | --cluster | --source-range | \
        --new-cluster | --context | --hub-context | --secrets-dir)
        [[ -n "${2:-}" ]] || misuse "$1 needs a value"
        take_option "$1" "$2"
        shift ;;
      --insecure-http) insecure_http=1 ;;
      --apply) apply=1 ;;
      --dry-run) dry_run=1 ;;
      --yes) yes=1 ;;
      --rotate) rotate=1 ;;
      --finish-rotation) finish=1 ;;
      --check) check=here ;;
      --check-from-cluster) check=there ;;
      --check-declarations | --print-gateway-config) only="${1#--}" ;;
      --help | -h)
        usage
        exit 0 ;;
      *) misuse "unknown argument \"$1\"; --help lists what there is" ;;
    esac
    shift
  done
}

take_option() {
  local name="${2%%=*}" value="${2#*=}"
  case "$1" in
    --endpoint) endpoint="$2" ;;
    --port)
      is_port "$2" || misuse "\"$2\" is no port"
      port="$2" ;;
    --server-name)
      is_address "$2" || is_dns_name "$2" || misuse "\"$2\" is neither a name nor an address"
      server_name="$2" ;;
    --ca-file)
      openssl x509 -in "$2" -noout 2>/dev/null || misuse "$2 is no PEM file with a certificate"
      ca_file="$2" ;;
    --hub-context) hub_context="$2" ;;
    --secrets-dir) secrets_dir="$2" ;;
    --new-cluster)
      require_cluster_name "$2"
      new_cluster="$2" ;;
    --cluster)
      require_cluster_name "$2"
      ! contains "$2" ${selected[@]+"${selected[@]}"} || misuse "--cluster $2 is given twice"
      selected+=("$2") ;;
    --context)
      [[ "$2" == *=?* ]] || misuse "--context needs NAME=CONTEXT"
      require_cluster_name "$name"
      ! contains "$name" ${context_names[@]+"${context_names[@]}"} ||
        misuse "--context is given twice for $name"
      ! contains "$value" ${context_values[@]+"${context_values[@]}"} ||
        misuse "two clusters have the context $value"
      context_names+=("$name") context_values+=("$value") ;;
    --source-range)
      [[ "$2" == *=?* ]] || misuse "--source-range needs NAME=CIDR"
      require_cluster_name "$name"
      ! is_ipv4 "$value" || value="$value/32"
      ! is_ipv6 "$value" || value="$value/128"
      check_cidr "$value" || misuse "$invalid"
      range_names+=("$name") range_values+=("$value") ;;
  esac
}

contains() {
  local wanted="$1" element
  shift
  for element in ${1+"$@"}; do [[ "$element" != "$wanted" ]] || return 0; done
  return 1
}

# Refuses combinations of options that have no meaning.
check_options() {
  local name missing=""
  if [[ -n "$only" || ( "$check" != none && "$apply" == 0 ) ]]; then
    [[ -z "$new_cluster$secrets_dir" && ${#range_names[@]} == 0 && "$rotate$finish" == 00 ]] ||
      misuse "a check changes nothing: run it alone, or --check with --apply"
  fi
  ((!rotate || !finish)) || misuse "--rotate and --finish-rotation are two steps"
  ((!rotate && !finish)) || ((apply)) || misuse "--rotate and --finish-rotation need --apply"
  ((!apply)) || [[ -z "$secrets_dir" ]] || misuse "give --apply or --secrets-dir, not both"
  ! contains "${hub_context:-}" ${context_values[@]+"${context_values[@]}"} ||
    misuse "the hub and a spoke have the context $hub_context"
  for name in "${selected[@]}"; do
    contains "$name" "${clusters[@]}" ||
      misuse "there is no deploy/clusters/$name/spoke.env; there are: ${clusters[*]}"
    if ((apply)) || [[ "$check" == there ]]; then
      context_of "$name" >/dev/null || missing="$missing --context $name=CONTEXT"
    fi
  done
  [[ -z "$missing" ]] ||
    misuse "give$missing (kubectl config get-contexts lists them), or fewer clusters with --cluster"
  for name in ${range_names[@]+"${range_names[@]}"}; do
    contains "$name" "${selected[@]}" || misuse "--source-range for $name, which is not configured"
  done
  for name in ${context_names[@]+"${context_names[@]}"}; do
    contains "$name" "${clusters[@]}" || misuse "--context for $name, which is not declared"
  done
}

# Makes the folder for manifests, if it is outside the repository.
prepare_secrets_dir() {
  local root
  root="$(cd "$deploy/.." && pwd -P)"
  root="$(git -C "$root" rev-parse --show-toplevel 2>/dev/null || printf '%s\n' "$root")"
  case "$secrets_dir" in /*) ;; *) secrets_dir="$PWD/$secrets_dir" ;; esac
  if ((dry_run)) && [[ ! -d "$secrets_dir" ]]; then return; fi
  [[ -d "$secrets_dir" ]] || (umask 077 && mkdir "$secrets_dir") || exit 1
  secrets_dir="$(cd "$secrets_dir" && pwd -P)"
  case "$secrets_dir/" in
    "$root"/*)
      rmdir "$secrets_dir" 2>/dev/null || true
      misuse "--secrets-dir must be outside the repository $root: it gets tokens" ;;
    *) ;;
  esac
}

confirm() {
  local name answer
  ((apply && !yes && !dry_run)) && [[ -t 0 ]] || return 0
  [[ -n "$hub_context" ]] || say "hub: kubectl's current context, $(kubectl config current-context)"
  [[ -z "$hub_context" ]] || say "hub: context $hub_context"
  for name in "${selected[@]}"; do say "$name: context $(context_of "$name")"; done
  printf 'Change these clusters? [y/N] ' >&2
  read -r answer || answer=n
  [[ "$answer" == [yY] || "$answer" == yes ]] || die "nothing is applied"
}

step() {
  case "$1" in
    enrol) enrol "$2" ;;
    deliver) deliver "$2" ;;
    finish_rotation) finish_rotation "$2" ;;
    check_from_here) check_from_here "$2" ;;
    check_from_cluster) check_from_cluster "$2" ;;
  esac
}

# Runs a step for each selected cluster. One that fails does not keep the others from theirs.
for_each_cluster() {
  local name result
  for name in "${selected[@]}"; do
    [[ ! -e "$tmp/failed.$name" ]] || continue
    # Not in a condition: bash would go on after a failure within the step.
    set +e
    (
      set -e
      trap - EXIT
      step "$1" "$name"
    )
    result=$?
    set -e
    ((result == 0)) || : >"$tmp/failed.$name"
  done
}

make_grafana_password() {
  read_secret hub monitoring grafana-admin admin-password
  if [[ -n "$value" ]]; then
    say "unchanged  hub: Secret monitoring/grafana-admin"
    return
  fi
  value=x
  ! may_write || new_token
  secret_manifest monitoring grafana-admin Opaque "admin-user=$(printf admin | base64_encode)" \
    "admin-password=$(printf '%s' "$value" | base64_encode)" |
    store hub grafana-admin "Secret monitoring/grafana-admin, the login of Grafana"
  [[ "$target" != cluster ]] || ((dry_run)) ||
    say "           to read the password: kubectl${hub_context:+ --context $hub_context} --namespace" \
      "monitoring get secret grafana-admin --output jsonpath={.data.admin-password} | openssl base64 -d -A"
}

configure_clusters() {
  local name https=0
  ca_pem=""
  for name in "${clusters[@]}"; do [[ "$(get "$name" url)" != https://* ]] || https=1; done
  ensure_namespace hub hubgate
  ensure_namespace hub monitoring
  make_grafana_password
  ((!https)) || configure_certificate
  if ((finish)); then
    for_each_cluster finish_rotation
  else
    for_each_cluster enrol
    for_each_cluster deliver
  fi
}

summarise() {
  local name secrets checked count
  printf '\n%-24s %-10s %-12s %s\n' CLUSTER SECRETS CREDENTIALS CHECK
  for name in "${selected[@]}"; do
    secrets=unchanged checked=- count="$(cat "$tmp/credentials.$name" 2>/dev/null || printf -- -)"
    [[ ! -e "$tmp/changed.$name" ]] || secrets=changed
    may_write || { secrets=- && count=-; }
    [[ ! -e "$tmp/failed.$name" ]] || secrets=failed
    if [[ "$check" != none ]]; then
      checked=ok
      [[ ! -e "$tmp/unreachable.$name" ]] || checked=failed
      [[ ! -e "$tmp/failed.$name" ]] || checked=-
    fi
    printf '%-24s %-10s %-12s %s\n' "$name" "$secrets" "$count" "$checked"
  done
}

explain_next() {
  local name
  if ((dry_run)); then
    say "Nothing was written."
  elif [[ "$target" == none ]]; then
    say "No cluster was changed: give --apply, or --secrets-dir for manifests with the Secrets."
  elif [[ "$target" == files ]]; then
    say "Apply $secrets_dir/hub to the hub first; a minute later each other folder to its cluster."
  elif ((rotate)); then
    say "In five minutes or more: --finish-rotation."
  else
    for name in "${selected[@]}"; do
      say "Next: kubectl --context $(context_of "$name") apply -k deploy/clusters/$name"
    done
    say "Next, for the source ranges: kubectl${hub_context:+ --context $hub_context} apply -k deploy/hub"
    say "Where Flux applies deploy/, commit it instead."
  fi
  for name in "${selected[@]}"; do
    if ((!rotate && !finish)) && [[ "$(cat "$tmp/credentials.$name" 2>/dev/null)" == [2-9] ]]; then
      say "$name has more than one credential: --finish-rotation takes away what is no longer used."
    fi
  done
}

finish_with_code() {
  local name code=0
  for name in "${selected[@]}"; do
    [[ ! -e "$tmp/unreachable.$name" || "$code" == 1 ]] || code=3
    [[ ! -e "$tmp/failed.$name" ]] || code=1
  done
  exit "$code"
}

run_checks() {
  case "$check" in
    here) for_each_cluster check_from_here ;;
    there) for_each_cluster check_from_cluster ;;
    *) ;;
  esac
}

check_files() {
  if complete_stage; then
    if cmp -s "$stage/$source_ranges_file" "$deploy/$source_ranges_file"; then
      say "the declarations agree"
      exit 0
    fi
    complain "deploy/$source_ranges_file differs from the declarations; this script writes it"
    diff -u -L committed -L derived "$deploy/$source_ranges_file" "$stage/$source_ranges_file" >&2 || true
  fi
  exit 1
}

print_entries() {
  local name separator=""
  [[ -z "$hub_context" ]] || target=cluster
  for name in "${selected[@]}"; do
    read_entry "$name"
    if ((${#credentials[@]} == 0)); then
      if [[ "$(get "$name" credential)" == token ]]; then
        add_token "$not_yet_made"
      else
        add_credential "$(jwt_credential "$name" "$(get "$name" issuer)")"
      fi
    fi
    printf '%s' "$separator"
    render_entry "$name"
    separator=$'---\n'
  done
}

# shellcheck disable=SC2317,SC2329 # a trap calls it
cleanup() {
  local path
  # A process in the background does not get the interrupt of the terminal.
  [[ ! -s "$tmp/forward.pid" ]] || kill "$(cat "$tmp/forward.pid")" 2>/dev/null || true
  for path in ${leftovers[@]+"${leftovers[@]}"}; do rm -rf "$path"; done
  rm -rf "$tmp"
}

main() {
  local name i first
  deploy="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
  wait_seconds="${HUBGATE_WAIT_SECONDS:-180}"
  check_image="${HUBGATE_CHECK_IMAGE:-docker.io/curlimages/curl:8.11.1}"
  parse_options ${1+"$@"}
  [[ "$wait_seconds" != *[!0-9]* ]] || misuse "HUBGATE_WAIT_SECONDS is no number of seconds"
  for name in kubectl curl openssl; do
    command -v "$name" >/dev/null || die "$name is not on PATH"
  done
  leftovers=()
  tmp="$(mktemp -d "${TMPDIR:-/tmp}/configure-source-clusters.XXXXXX")"
  trap cleanup EXIT
  trap 'exit 130' HUP INT TERM
  stage="$tmp/deploy" target=none
  ((!apply)) || target=cluster
  [[ -z "$secrets_dir" ]] || target=files

  stage_declarations
  [[ -z "$new_cluster" ]] || stage_new_cluster
  if [[ -n "$new_cluster" ]] && ! contains "$new_cluster" ${selected[@]+"${selected[@]}"}; then
    selected+=("$new_cluster")
  fi
  ((${#selected[@]} > 0)) || selected=(${clusters[@]+"${clusters[@]}"})
  check_options
  [[ "$only" != check-declarations ]] || check_files
  if [[ "$only" == print-gateway-config ]]; then
    complete_stage 2>/dev/null || die "the declarations are not valid: see --check-declarations"
    print_entries
    exit 0
  fi
  if [[ "$check" != none ]] && ((!apply)); then
    complete_stage || exit 1
    run_checks
    summarise
    finish_with_code
  fi
  [[ -z "$secrets_dir" ]] || prepare_secrets_dir

  for name in "${selected[@]}"; do
    first=1
    for ((i = 0; i < ${#range_names[@]}; i++)); do
      [[ "${range_names[i]}" == "$name" ]] || continue
      if ((first)); then put "$name" source_ranges "${range_values[i]}"; else
        put "$name" source_ranges "$(get "$name" source_ranges),${range_values[i]}"
      fi
      first=0
    done
    [[ -z "$server_name" ]] || put "$name" server_name "$server_name"
  done
  stage_endpoint
  complete_stage || exit 1
  confirm
  install_stage
  configure_clusters
  ((dry_run)) || run_checks
  summarise
  explain_next
  finish_with_code
}

main ${1+"$@"}
