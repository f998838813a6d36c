# deploy/configure-source-clusters.sh against a stub of kubectl, a real curl and a real hubgate: what
# it makes on the clusters.
# shellcheck disable=SC2154 # stubs/helper.bash sets contexts, deploy, port, project and script

bats_require_minimum_version 1.5.0
load stubs/helper.bash

setup() { setup_script_test; }
teardown() { teardown_script_test; }

@test "the first run brings two clusters from nothing to working, the second changes nothing" {
  start_hubgate
  from_loopback production staging
  configure --apply "${contexts[@]}" --endpoint "127.0.0.1:$port" --check
  exits 0
  keeps_secrets
  [[ "$(write_as production)" == 204 ]]
  [[ "$(write_as staging)" == 204 ]]
  [[ "$(token_of production)" =~ ^[A-Za-z0-9_-]{43}$ ]]
  [[ "$(token_of production)" != "$(token_of staging)" ]]
  [[ -z "$(next_token_of production)" ]]
  [[ ! -e "$STUB/reload-failed" ]]
  "$HUBGATE_BIN" check-config --strict "$STUB/mount/hubgate.yaml"

  local before
  before="$(everything)"
  configure --apply "${contexts[@]}" --endpoint "127.0.0.1:$port"
  exits 0
  never_says $'\nchanged '
  [[ "$(everything)" == "$before" ]]
}

@test "a dry run writes neither files nor objects" {
  local before
  before="$(everything)"
  configure --apply --dry-run "${contexts[@]}" --endpoint gate.corp.example
  exits 0
  says "+url=https://gate.corp.example/api/v1/write"
  says "token-next: REDACTED"
  says "Nothing was written"
  [[ "$(everything)" == "$before" ]]
  run ! grep -E '"(apply|create|patch|delete)"' "$STUB/calls"

  configure --dry-run --new-cluster eu-west --endpoint gate.corp.example
  exits 0
  says "+cluster=eu-west"
  [[ "$(everything)" == "$before" ]]
}

@test "without --apply it writes the files, says what belongs where, and asks no cluster" {
  configure --endpoint gate.corp.example
  exits 0
  says "for production: Secret monitoring/hubgate"
  says "for hub: Secret hubgate/hubgate-spokes, staging.yaml"
  grep -Fx url=https://gate.corp.example/api/v1/write "$deploy/clusters/production/spoke.env"
  grep -Fx server_name=gate.corp.example "$deploy/clusters/production/spoke.env"
  [[ ! -s "$STUB/calls" ]]
  # Comments and the other keys stay.
  diff <(grep -v -e ^url= -e ^server_name= "$BATS_TEST_DIRNAME/../../deploy/clusters/staging/spoke.env") \
    <(grep -v -e ^url= -e ^server_name= "$deploy/clusters/staging/spoke.env")
}

@test "only the chosen cluster is configured" {
  configure --apply --hub-context hub --context staging=staging --cluster staging --endpoint gate.corp.example
  exits 0
  [[ -n "$(entry_of staging)" && -z "$(entry_of production)" ]]
  run ! grep gate.corp.example "$deploy/clusters/production/spoke.env"
}

@test "the keys of other spokes, and what a user added to an entry, stay" {
  place hub hubgate Secret hubgate-spokes '{
    "other.yaml": "name: other\n",
    "production.yaml": "name: \"production\"\ncredentials:\n  - certificate: {dns: p.example.com}\nlimits:\n  labels_per_series_max: 64\nlabels: {mismatch: rename}\n"}'
  configure --apply "${contexts[@]}" --endpoint gate.corp.example
  exits 0
  [[ "$(stored hub hubgate Secret hubgate-spokes other.yaml)" == "name: other" ]]
  diff - <(entry_of production) <<YAML
# From deploy/clusters/production/spoke.env, by deploy/configure-source-clusters.sh.
name: "production"
source_ranges:
$(sed -n 's/^source_ranges=//p' "$deploy/clusters/production/spoke.env" | tr ',' '\n' | sed 's/.*/  - "&"/')
credentials:
  - certificate: {dns: p.example.com}
  - token_sha256: $(sha256 "$(token_of production)")
limits:
  labels_per_series_max: 64
labels: {mismatch: rename}
YAML
}

@test "an entry that the script cannot read is left alone" {
  local entry='name: production\ncredentials: [{token_sha256: ab}]\n'
  place hub hubgate Secret hubgate-spokes "{\"production.yaml\": \"$entry\"}"
  configure --apply "${contexts[@]}" --endpoint gate.corp.example
  exits 1
  says "is not in the form that this script writes"
  [[ "$(entry_of production)" == "$(printf '%b' "$entry")" ]]
  [[ -z "$(token_of production)" ]]
}

@test "a token with a newline at its end is repaired, once the gateway knows it without" {
  local token=0123456789-0123456789-0123456789-0123456789
  place production monitoring Secret hubgate "{\"token\": \"$token\\n\"}"
  start_hubgate
  from_loopback production
  touch "$STUB/hold"
  HUBGATE_WAIT_SECONDS=2 configure --apply --cluster production "${contexts[@]}" --endpoint "127.0.0.1:$port"
  exits 1
  says "the gateway does not know the new token of production"
  [[ "$(stored production monitoring Secret hubgate token | wc -c)" == $((${#token} + 1)) ]]
  rm "$STUB/hold"
  configure --apply --cluster production "${contexts[@]}" --endpoint "127.0.0.1:$port" --check
  exits 0
  [[ "$(stored production monitoring Secret hubgate token | wc -c)" == "${#token}" ]]
  [[ "$(token_of production)" == "$token" ]]
  keeps_secrets
}

@test "an entry by hand is kept as it is, or left alone" {
  local credential
  credential="  - token_sha256: $(sha256 old)"
  place_entry() { place hub hubgate Secret hubgate-spokes "$(python3 -c \
    'import json, sys; print(json.dumps({"production.yaml": sys.argv[1]}))' "$1")"; }
  local refused=(
    $'"name": production\n"credentials":\n'"$credential"
    $'name: production\ncredentials:\n\t- token_sha256: x'
    $'name: production\ncredentials :\n'"$credential"
    $'{name: production}'
    $'? name\n: production'
  )
  local text
  for text in "${refused[@]}"; do
    place_entry "$text"
    configure --apply --cluster production "${contexts[@]}" --endpoint gate.corp.example
    exits 1
    says "not in the form that this script writes"
    [[ "$(entry_of production)" == "$text" ]]
  done
  place_entry $'name: production\nlimits:\n  labels_per_series_max: 64\ncredentials:\n# the old one\n'"$credential"
  configure --apply --cluster production "${contexts[@]}" --endpoint gate.corp.example
  exits 0
  python3 - "$(sha256 old)" "$(sha256 "$(token_of production)")" <<PYTHON
import sys, yaml
entry = yaml.safe_load("""$(entry_of production)""")
assert [it["token_sha256"] for it in entry["credentials"]] == sys.argv[1:], entry
assert entry["limits"] == {"labels_per_series_max": 64}, entry
PYTHON
}

@test "a token with a NUL is not taken for one without" {
  place production monitoring Secret hubgate '{"token": "a-token-that-is-long-enough\u0000"}'
  configure --apply --cluster production "${contexts[@]}" --endpoint gate.corp.example
  exits 0
  [[ "$(stored production monitoring Secret hubgate token | wc -c | tr -d ' ')" == 27 ]]
  [[ "$(entry_of production)" == *"$(sha256 "$(token_of production)")"* ]]
}

@test "what cannot be a token is replaced" {
  place production monitoring Secret hubgate '{"token": "changeme"}'
  configure --apply "${contexts[@]}" --endpoint gate.corp.example
  exits 0
  says "it gets a new one"
  [[ "$(token_of production)" =~ ^[A-Za-z0-9_-]{43}$ ]]
  entry_of production | grep -Fx "  - token_sha256: $(sha256 "$(token_of production)")"
}

@test "a token that is there is kept and the gateway learns it" {
  local token=0123456789-0123456789-0123456789-0123456789
  place production monitoring Secret hubgate "{\"token\": \"$token\"}"
  configure --apply "${contexts[@]}" --endpoint gate.corp.example
  exits 0
  [[ "$(token_of production)" == "$token" ]]
  entry_of production | grep -Fx "  - token_sha256: $(sha256 "$token")"
  keeps_secrets
}

@test "a cluster that does not answer gets no new token, and does not keep the others from theirs" {
  configure --apply "${contexts[@]}" --endpoint gate.corp.example
  local token entry
  token="$(token_of production)" entry="$(entry_of production)"
  echo "Unable to connect to the server" >"$STUB/production/fail"
  rm -r "$STUB/staging/monitoring"
  configure --apply "${contexts[@]}" --endpoint gate.corp.example
  exits 1
  [[ "$output" =~ production\ +failed && "$output" =~ staging\ +changed ]]
  [[ "$(token_of production)" == "$token" && "$(entry_of production)" == "$entry" ]]
  [[ -n "$(token_of staging)" ]]
}

@test "a hub that does not answer fails before anything is changed on a spoke" {
  echo "Unable to connect to the server" >"$STUB/hub/fail"
  configure --apply "${contexts[@]}" --endpoint gate.corp.example
  exits 1
  [[ ! -s "$STUB/writes" ]]
}

# After every write that may be the last one, the spoke's token is one that the gateway has been
# given, and the next run completes what was begun.
@test "a run that ends early anywhere is completed by the next one" {
  local writes complete=0
  configure --apply --cluster staging "${contexts[@]}" --endpoint gate.corp.example
  exits 0
  for writes in 0 1 2 3 4 5 6; do
    rm -rf "$STUB/production/monitoring"
    rm -rf "$STUB/production/-"
    drop hub hubgate Secret hubgate-spokes production.yaml
    echo "$writes" >"$STUB/fail-after"
    configure --apply --cluster production "${contexts[@]}" --endpoint gate.corp.example
    [[ -z "$(token_of production)" ]] ||
      entry_of production | grep -F "$(sha256 "$(token_of production)")"
    rm "$STUB/fail-after"
    if ((status == 0)); then
      complete=1
      break
    fi
    exits 1
    configure --apply --cluster production "${contexts[@]}" --endpoint gate.corp.example
    exits 0
    [[ "$(entry_of production | grep -c token_sha256)" == 1 ]]
    entry_of production | grep -F "$(sha256 "$(token_of production)")"
    [[ -z "$(next_token_of production)" ]]
  done
  ((complete && writes == 5))
}

@test "the login of Grafana is made once" {
  configure --apply "${contexts[@]}" --endpoint gate.corp.example
  exits 0
  says "to read the password: kubectl --context hub"
  [[ "$(stored hub monitoring Secret grafana-admin admin-user)" == admin ]]
  local password
  password="$(stored hub monitoring Secret grafana-admin admin-password)"
  ((${#password} == 43))
  configure --apply "${contexts[@]}" --endpoint gate.corp.example
  [[ "$(stored hub monitoring Secret grafana-admin admin-password)" == "$password" ]]
}

@test "a spoke with a ServiceAccount gets an entry with its keys and no token" {
  start_hubgate
  from_loopback production
  service_account production
  configure --apply --cluster production "${contexts[@]}" --endpoint "127.0.0.1:$port"
  exits 0
  [[ -z "$(token_of production)" ]]
  [[ ! -e "$STUB/reload-failed" ]]
  "$HUBGATE_BIN" check-config --strict "$STUB/mount/hubgate.yaml"
  entry_of production | grep -Fx '      issuer: "https://issuer.corp.example/a"'
  entry_of production | grep -Fx '      audience: "hubgate-production"'
  entry_of production | grep -Fx "      subject: \"system:serviceaccount:monitoring:kube-prometheus-stack-prometheus\""
  entry_of production | grep -Fx '      jwks_file: /etc/hubgate/spokes/production.jwks.json'
  stored hub hubgate Secret hubgate-spokes production.jwks.json | grep '"keys"'

  local before
  before="$(everything)"
  configure --apply --cluster production "${contexts[@]}" --endpoint "127.0.0.1:$port"
  [[ "$(everything)" == "$before" ]]

  sed -i.old -e '/^issuer=/d' "$deploy/clusters/production/spoke.env"
  echo issuer=https://other.corp.example >>"$deploy/clusters/production/spoke.env"
  configure --apply --cluster production "${contexts[@]}" --endpoint "127.0.0.1:$port"
  exits 0
  [[ "$(entry_of production | grep issuer)" == '      issuer: "https://other.corp.example"' ]]
}

@test "a spoke that changes from a token to its ServiceAccount keeps both for a while" {
  configure --apply --cluster production "${contexts[@]}" --endpoint gate.corp.example
  exits 0
  service_account production
  configure --apply --cluster production "${contexts[@]}" --endpoint gate.corp.example
  exits 0
  entry_of production | grep -F "token_sha256: $(sha256 "$(token_of production)")"
  entry_of production | grep -F "jwks_file"
  [[ "$output" =~ production\ +changed\ +2 ]]
}

@test "without a ServiceAccount's keys no entry is made" {
  service_account production
  rm -r "$STUB/production/raw"
  configure --apply --cluster production "${contexts[@]}" --endpoint gate.corp.example
  exits 1
  [[ -z "$(entry_of production)" ]]
}

@test "a trace of the shell shows no token" {
  run bash -x "$script" --apply "${contexts[@]}" --endpoint gate.corp.example </dev/null
  exits 0
  keeps_secrets
}

@test "at a terminal it asks before it changes clusters" {
  at_terminal "[y/N]" n --apply "${contexts[@]}" --endpoint gate.corp.example
  exits 1
  says "production: context production"
  [[ ! -s "$STUB/writes" ]]
  at_terminal "[y/N]" y --apply "${contexts[@]}" --endpoint gate.corp.example
  exits 0
  [[ -n "$(token_of production)" ]]
  at_terminal "[y/N]" n --apply --yes "${contexts[@]}" --endpoint gate.corp.example
  exits 0
  never_says "[y/N]"
}

@test "with --secrets-dir it writes manifests, and the same tokens again in a second run" {
  local secrets="$BATS_TEST_TMPDIR/my secrets" before file
  configure --secrets-dir "$secrets" --endpoint gate.corp.example
  exits 0
  [[ ! -s "$STUB/calls" ]]
  [[ "$(cd "$secrets" && find . -type f | sort | tr '\n' ' ')" == "./hub/grafana-admin.yaml\
 ./hub/hubgate-ca.yaml ./hub/hubgate-spokes.yaml ./hub/hubgate-tls.yaml ./production/hubgate-ca.yaml\
 ./production/hubgate.yaml ./staging/hubgate-ca.yaml ./staging/hubgate.yaml " ]]
  [[ -z "$(find "$secrets" -perm /077)" ]]
  for file in "$secrets"/*/*.yaml; do
    kubernetes-validate --kubernetes-version 1.30 --strict "$file"
  done
  file="$(sed -n 's/^  token: //p' "$secrets/production/hubgate.yaml" | openssl base64 -d -A)"
  never_says "$file"
  sed -n 's/^  production.yaml: //p' "$secrets/hub/hubgate-spokes.yaml" | openssl base64 -d -A |
    grep -F "$(sha256 "$file")"

  before="$(cd "$secrets" && cat ./*/*)"
  configure --secrets-dir "$secrets" --endpoint gate.corp.example
  exits 0
  [[ "$(cd "$secrets" && cat ./*/*)" == "$before" ]]
}

@test "manifests with tokens never go into the repository" {
  configure --secrets-dir "$project/secrets" --endpoint gate.corp.example
  exits 2
  says "must be outside the repository"
  [[ ! -e "$project/secrets" ]]
  git -C "$BATS_TEST_TMPDIR" init -q
  configure --secrets-dir "$BATS_TEST_TMPDIR/secrets" --endpoint gate.corp.example
  exits 2
}

@test "no program gets a secret in its environment, whatever is exported" {
  mkdir "$BATS_TEST_TMPDIR/spying"
  cat >"$BATS_TEST_TMPDIR/spying/kubectl" <<SPY
#!/bin/sh
env >>"$BATS_TEST_TMPDIR/environments"
exec "$BATS_TEST_DIRNAME/stubs/kubectl" "\$@"
SPY
  chmod +x "$BATS_TEST_TMPDIR/spying/kubectl"
  # Every name that the script sets or declares.
  local name names
  names="$(grep -ohE '[a-z_]+\+?=' "$script" "$deploy"/lib/*.sh | tr -d '+=' | sort -u)"
  [[ $'\n'"$names"$'\n' == *$'\nvalue\n'* && $'\n'"$names"$'\n' == *$'\nwanted\n'* ]]
  for name in $names token next encoded text keys credential; do export "$name=exported"; done
  unset names name
  PATH="$BATS_TEST_TMPDIR/spying:$PATH" https_proxy=http://proxy.corp.example:3128 run bash "$script" \
    --apply --hub-context hub --context production=production --context staging=staging \
    --endpoint gate.corp.example </dev/null
  exits 0
  run ! grep -F -e "$(token_of production)" -e "$(printf '%s' "$(token_of production)" |
    openssl base64 -A)" "$BATS_TEST_TMPDIR/environments"
  grep -q '^https_proxy=http://proxy' "$BATS_TEST_TMPDIR/environments"
}
