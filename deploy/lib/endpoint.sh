# shellcheck shell=bash disable=SC2034,SC2154 # the files share their variables
# Finds the address of the gateway, and writes it into the declarations.

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
