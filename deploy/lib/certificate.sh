# shellcheck shell=bash disable=SC2034,SC2154 # the files share their variables
# The certificate of the gateway, and the authority that issues it.

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
    if ! grep -Fxq -e "$name" -e "DNS:*.${name#*.}" <<<"$text"; then
      say "it is not for $name"
      return
    fi
  done
}

# For a certificate that somebody else issues. Arguments: certificate names
warn_of_certificate() {
  local fault
  printf '%s' "$1" >"$tmp/tls.crt"
  fault="$(certificate_fault "$tmp/tls.crt" "$2")"
  [[ -z "$fault" ]] || warn "renew the certificate in the hub's Secret hubgate-tls: $fault"
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

# Makes sure that the gateway has a certificate, and sets ca_pem, the authority for the spokes.
configure_certificate() {
  local names ca certificate
  names="$(certificate_names)"
  read_secret hub hubgate hubgate-tls tls.crt
  certificate="$value"
  if [[ -n "$ca_file" ]]; then
    ca_pem="$(cat "$ca_file")"
    if [[ -n "$certificate" ]]; then
      warn_of_certificate "$certificate" "$names"
    else
      warn "the hub needs the Secret hubgate-tls: kubectl --namespace hubgate create secret tls" \
        "hubgate-tls --cert FILE --key FILE"
    fi
    return
  fi
  read_secret hub hubgate hubgate-ca tls.crt
  ca="$value"
  if has_cert_manager_certificate; then
    [[ -n "$ca" && -n "$certificate" ]] ||
      die "cert-manager has not made the Secrets hubgate-ca and hubgate-tls; see kubectl" \
        "--namespace hubgate describe certificate, or give --ca-file"
    ca_pem="${ca%$'\n'}"
    warn_of_certificate "$certificate" "$names"
    say "unchanged  hub: certificate of cert-manager"
    return
  fi
  read_secret hub hubgate hubgate-tls ca.crt
  if [[ -n "$certificate" && "${value:-none}" != "$ca" ]]; then
    [[ -n "$value" ]] ||
      die "the hub's Secret hubgate-tls does not say which authority issued it: give --ca-file"
    ca_pem="${value%$'\n'}"
    warn_of_certificate "$certificate" "$names"
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
      # Two runs at the same time must not leave spokes with different authorities.
      store hub hubgate-ca "Secret hubgate/hubgate-ca, an authority" new
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
