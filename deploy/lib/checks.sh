# shellcheck shell=bash disable=SC2034,SC2154 # the files share their variables
# Sends an empty write to the gateway, from here or from a pod of a spoke, and explains the result.

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
