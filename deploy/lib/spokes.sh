# shellcheck shell=bash disable=SC2034,SC2154 # the files share their variables
# Makes a spoke known to the gateway, and gives it what it needs to write.

store_authority() {
  local stored_pem
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

# Does everything for a spoke except that it lets it send a new token.
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
  read_secret hub hubgate hubgate-spokes "$name.yaml"
  [[ "$value" == *"$(digest "$next")"* ]] ||
    die "another run gave $name a new token in the meantime; run this again"
  wait_until_known "$name" "token_sha256:$(digest "$next" | cut -c 1-8)"
  store_token "$name" "$next" "" "the token"
}
