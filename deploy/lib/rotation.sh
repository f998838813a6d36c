# shellcheck shell=bash disable=SC2034,SC2154 # the files share their variables
# Asks the pods of hubgate which credentials they know and see used, and ends a rotation.

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
