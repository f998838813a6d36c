#!/usr/bin/env bash
# Connects source clusters to the hub. `--help` says how.
#
# The order of the steps is what makes it safe:
# - The gateway knows a token before the spoke sends it. A Prometheus drops what is answered 401.
# - A new token is under the key `token-next` of the spoke's Secret until the gateway knows it, so
#   that a run which ends early is continued by the next one.
# - Secrets go through pipes and variables of this shell, never into an argument list.
#
# It keeps to bash 3.2, which macOS has: no associative arrays, no mapfile, no ${name,,}.
set -euo pipefail
set +x # a trace would show tokens
export LC_ALL=C
unset CDPATH
# What comes from the environment stays exported when it is set again: a variable of this script with
# a token in it would be in the environment of every program that it runs.
for name in $(compgen -e | grep '^[a-z]'); do
  case "$name" in *_proxy) ;; *) unset "$name" ;; esac
done

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

deploy="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
source "$deploy/lib/messages.sh"
source "$deploy/lib/addresses.sh"
source "$deploy/lib/declarations.sh"
source "$deploy/lib/secrets.sh"
source "$deploy/lib/endpoint.sh"
source "$deploy/lib/certificate.sh"
source "$deploy/lib/gateway-entry.sh"
source "$deploy/lib/spokes.sh"
source "$deploy/lib/rotation.sh"
source "$deploy/lib/checks.sh"

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
  ensure_namespace hub hubgate
  ensure_namespace hub monitoring
  make_grafana_password
  # Whatever the URLs are: the pods of hubgate and the release of a spoke wait for what it makes.
  configure_certificate
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
  elif ((!finish)); then
    for name in "${selected[@]}"; do
      say "Next: kubectl --context $(context_of "$name") apply -k deploy/clusters/$name"
    done
    say "Next, for the source ranges: kubectl${hub_context:+ --context $hub_context} apply -k deploy/hub"
    say "Where Flux applies deploy/, commit it instead; without Flux, use deploy/without-flux.sh."
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
