# deploy/configure-source-clusters.sh: the certificate of the gateway and its authority.
# shellcheck disable=SC2154 # stubs/helper.bash sets contexts, deploy, port, project and script

bats_require_minimum_version 1.5.0
load stubs/helper.bash

setup() {
  setup_script_test
  one=(--apply --cluster production "${contexts[@]}")
}

teardown() { teardown_script_test; }

# Writes the gateway's certificate and its authority into files.
fetch_certificates() {
  stored hub hubgate Secret hubgate-tls tls.crt >"$BATS_TEST_TMPDIR/tls.crt"
  stored hub hubgate Secret hubgate-tls tls.key >"$BATS_TEST_TMPDIR/tls.key"
  stored hub hubgate Secret hubgate-ca tls.crt >"$BATS_TEST_TMPDIR/ca.crt"
  stored production monitoring ConfigMap hubgate-ca ca.crt >"$BATS_TEST_TMPDIR/spoke.crt"
}

verify() { openssl verify -x509_strict -purpose sslserver -CAfile "$BATS_TEST_TMPDIR/spoke.crt" "$@" "$BATS_TEST_TMPDIR/tls.crt"; }

place_certificate() { # a Secret of type tls, from $BATS_TEST_TMPDIR/made; $1: more of its data
  python3 - "$BATS_TEST_TMPDIR/made" "${1:-}" >"$BATS_TEST_TMPDIR/data" <<'PYTHON'
import json, pathlib, sys

folder, more = pathlib.Path(sys.argv[1]), sys.argv[2]
data = {name: (folder / name).read_text() for name in ("tls.crt", "tls.key")}
print(json.dumps(data | ({more: data["tls.crt"]} if more else {})))
PYTHON
  place hub hubgate Secret hubgate-tls "$(cat "$BATS_TEST_TMPDIR/data")"
}

@test "an authority and a certificate are made for names and addresses alike" {
  configure "${one[@]}" --endpoint 2001:db8::7 --server-name gate.corp.example
  exits 0
  fetch_certificates
  verify -verify_hostname gate.corp.example
  diff "$BATS_TEST_TMPDIR/ca.crt" "$BATS_TEST_TMPDIR/spoke.crt"
  openssl x509 -in "$BATS_TEST_TMPDIR/tls.crt" -noout -text | grep -F "TLS Web Server Authentication"
  openssl x509 -in "$BATS_TEST_TMPDIR/tls.crt" -noout -checkend $((364 * 24 * 3600))
  ! openssl x509 -in "$BATS_TEST_TMPDIR/tls.crt" -noout -checkend $((366 * 24 * 3600)) || false
  [[ "$(openssl x509 -in "$BATS_TEST_TMPDIR/tls.crt" -noout -pubkey)" == \
    "$(openssl pkey -in "$BATS_TEST_TMPDIR/tls.key" -pubout)" ]]

  # Another address: another certificate of the same authority.
  configure "${one[@]}" --endpoint 2001:db8::8 --server-name 2001:db8::8
  exits 0
  says "it is not for IP Address:2001:DB8:0:0:0:0:0:8"
  local authority
  authority="$(cat "$BATS_TEST_TMPDIR/ca.crt")"
  fetch_certificates
  verify -verify_ip 2001:db8::8
  [[ "$(cat "$BATS_TEST_TMPDIR/ca.crt")" == "$authority" ]]
  configure "${one[@]}" --endpoint 2001:db8:0::8 --server-name 2001:db8:0::8
  says "unchanged  hub: Secret hubgate/hubgate-tls"
}

@test "a certificate of the script's authority is renewed in its last 30 days" {
  configure "${one[@]}" --endpoint 198.51.100.7
  local days authority
  for days in 29 31; do
    fetch_certificates
    stored hub hubgate Secret hubgate-ca tls.key >"$BATS_TEST_TMPDIR/ca.key"
    openssl req -new -key "$BATS_TEST_TMPDIR/tls.key" -subj /CN=hubgate |
      openssl x509 -req -days "$days" -CA "$BATS_TEST_TMPDIR/ca.crt" -CAkey "$BATS_TEST_TMPDIR/ca.key" \
        -set_serial 7 -extfile <(echo subjectAltName=IP:198.51.100.7,DNS:hubgate.example.com) \
        -out "$BATS_TEST_TMPDIR/old.crt"
    place hub hubgate Secret hubgate-tls "$(python3 -c 'import json, sys
print(json.dumps({k: open(sys.argv[1] + v).read() for k, v in
  {"tls.crt": "/old.crt", "tls.key": "/tls.key", "ca.crt": "/ca.crt"}.items()}))' "$BATS_TEST_TMPDIR")"
    configure "${one[@]}" --endpoint 198.51.100.7
    exits 0
    authority="$(cat "$BATS_TEST_TMPDIR/ca.crt")"
    fetch_certificates
    [[ "$(cat "$BATS_TEST_TMPDIR/ca.crt")" == "$authority" ]]
    verify
    if ((days == 29)); then
      says "it ends within 30 days"
      ! cmp "$BATS_TEST_TMPDIR/tls.crt" "$BATS_TEST_TMPDIR/old.crt" || false
    else
      cmp "$BATS_TEST_TMPDIR/tls.crt" "$BATS_TEST_TMPDIR/old.crt"
    fi
  done
}

@test "without the key of the authority nothing is issued" {
  configure "${one[@]}" --endpoint 198.51.100.7
  drop hub hubgate Secret hubgate-ca tls.key
  local certificate
  certificate="$(stored hub hubgate Secret hubgate-tls tls.crt)"
  configure "${one[@]}" --endpoint 198.51.100.8
  exits 1
  says "Secret hubgate-ca has no tls.key"
  [[ "$(stored hub hubgate Secret hubgate-tls tls.crt)" == "$certificate" ]]
}

@test "a certificate of somebody else is left alone" {
  mkdir "$BATS_TEST_TMPDIR/made"
  make_certificate "$BATS_TEST_TMPDIR/made" 198.51.100.7 10
  place_certificate
  configure "${one[@]}" --endpoint 198.51.100.7
  exits 1
  says "does not say which authority issued it: give --ca-file"
  place_certificate ca.crt
  configure "${one[@]}" --endpoint 198.51.100.7
  exits 0
  says "warning: renew the certificate"
  [[ "$(stored hub hubgate Secret hubgate-tls tls.crt)" == "$(cat "$BATS_TEST_TMPDIR/made/tls.crt")" ]]
  [[ "$(stored production monitoring ConfigMap hubgate-ca ca.crt)" == "$(cat "$BATS_TEST_TMPDIR/made/tls.crt")" ]]
  [[ -z "$(stored hub hubgate Secret hubgate-ca tls.key)" ]]
}

@test "with --ca-file the spokes get that authority and the hub no certificate" {
  mkdir "$BATS_TEST_TMPDIR/made"
  make_certificate "$BATS_TEST_TMPDIR/made" 198.51.100.7
  configure "${one[@]}" --endpoint 198.51.100.7 --ca-file "$BATS_TEST_TMPDIR/made/tls.crt"
  exits 0
  says "warning: the hub needs the Secret hubgate-tls"
  [[ "$(stored production monitoring ConfigMap hubgate-ca ca.crt)" == "$(cat "$BATS_TEST_TMPDIR/made/tls.crt")" ]]
  [[ -z "$(stored hub hubgate Secret hubgate-tls tls.crt)" ]]
}

@test "a certificate of somebody else is compared with the names, wildcards included" {
  mkdir "$BATS_TEST_TMPDIR/made"
  make_certificate "$BATS_TEST_TMPDIR/made" "198.51.100.7,DNS:*.corp.example"
  place_certificate
  local given=(--ca-file "$BATS_TEST_TMPDIR/made/tls.crt")
  configure --apply "${contexts[@]}" "${given[@]}" --endpoint 198.51.100.7 --server-name gate.corp.example
  exits 0
  never_says "warning: renew the certificate"
  configure --apply "${contexts[@]}" "${given[@]}" --endpoint 198.51.100.7 --server-name a.gate.corp.example
  exits 0
  says "it is not for DNS:a.gate.corp.example"
}

@test "where cert-manager issues the certificate the script does not" {
  place hub hubgate Certificate hubgate '{"status": {}}'
  configure "${one[@]}" --endpoint 198.51.100.7
  exits 1
  says "cert-manager has not made the Secrets"
  place hub hubgate Secret hubgate-ca '{"tls.crt": "authority\n", "tls.key": "k"}'
  place hub hubgate Secret hubgate-tls '{"tls.crt": "certificate", "tls.key": "k", "ca.crt": "authority\n"}'
  configure "${one[@]}" --endpoint 198.51.100.7
  exits 0
  [[ "$(stored hub hubgate Secret hubgate-tls tls.crt)" == certificate ]]
  [[ "$(stored production monitoring ConfigMap hubgate-ca ca.crt)" == authority ]]
}

@test "with an http:// endpoint, the Secret and the ConfigMap that pods wait for are made as well" {
  configure --apply "${contexts[@]}" --endpoint http://10.1.2.3:9480 --insecure-http
  exits 0
  [[ -n "$(stored hub hubgate Secret hubgate-tls tls.key)" ]]
  [[ "$(stored production monitoring ConfigMap hubgate-ca ca.crt)" == *"END CERTIFICATE"* ]]
}
