# deploy/configure-source-clusters.sh: the rotation of tokens.
# shellcheck disable=SC2030,SC2031 # each test sets its own
# shellcheck disable=SC2154 # stubs/helper.bash sets contexts, deploy, port, project and script

bats_require_minimum_version 1.5.0
load stubs/helper.bash

setup() {
  setup_script_test
  one=(--cluster production "${contexts[@]}" --endpoint gate.corp.example)
}

teardown() { teardown_script_test; }

# The metrics of the gateway's pods. Arguments: start, and the last use of the old and the new token.
metrics() {
  cat >"$STUB/metrics" <<METRICS
# TYPE hubgate_credential_last_used_timestamp_seconds gauge
hubgate_credential_last_used_timestamp_seconds{spoke="production",credential="token_sha256:$(sha256 "$old" | cut -c 1-8)"} $2
hubgate_credential_last_used_timestamp_seconds{spoke="production",credential="token_sha256:$(sha256 "$new" | cut -c 1-8)"} $3
hubgate_credential_last_used_timestamp_seconds{spoke="staging",credential="token_sha256:$(sha256 "$new" | cut -c 1-8)"} 1
process_start_time_seconds $1
METRICS
  place hub hubgate Pod hubgate-0 '{"status": {"phase": "Running"}}'
}

# Puts production into the middle of a rotation, in which the spoke has the new token already.
rotate_without_pods() {
  configure --apply "${one[@]}"
  old="$(token_of production)"
  configure --apply "${one[@]}" --rotate
  exits 0
  new="$(token_of production)"
  [[ "$new" != "$old" ]]
  both="$(entry_of production)"
}

@test "a rotation keeps the old token good, and the spoke sends the new one when the gateway knows it" {
  start_hubgate
  from_loopback production
  one=(--cluster production "${contexts[@]}" --endpoint "127.0.0.1:$port")
  configure --apply "${one[@]}"
  exits 0
  local old
  old="$(token_of production)"

  touch "$STUB/hold"
  HUBGATE_WAIT_SECONDS=2 configure --apply "${one[@]}" --rotate
  exits 1
  says "hubgate-0 does not know it"
  [[ "$(token_of production)" == "$old" && -n "$(next_token_of production)" ]]
  [[ "$(write_as production)" == 204 ]]
  local next
  next="$(next_token_of production)"
  keeps_secrets "$old"

  rm "$STUB/hold"
  configure --apply "${one[@]}" --rotate
  exits 0
  says "going on with the token that an earlier run made"
  [[ "$(token_of production)" == "$next" && -z "$(next_token_of production)" ]]
  [[ "$(write_as production)" == 204 && "$(write_as production "$old")" == 204 ]]
  keeps_secrets "$old"

  # The pod of a moment ago cannot know that nobody uses the old one.
  configure --apply "${one[@]}" --finish-rotation
  exits 1
  says "may still be in use"
  [[ "$(write_as production "$old")" == 204 ]]
}

@test "after a rotation only the new token is left" {
  rotate_without_pods
  metrics 1000.5 2000.25 2300.5
  configure --apply "${one[@]}" --finish-rotation
  exits 0
  never_says "Next"
  [[ "$(entry_of production | grep token_sha256)" == "  - token_sha256: $(sha256 "$new")" ]]
  keeps_secrets "$old"
  local before
  before="$(everything)"
  configure --apply "${one[@]}" --finish-rotation
  exits 0
  says "production has one credential"
  [[ "$(everything)" == "$before" ]]
}

@test "an old token that may be in use is not taken away" {
  rotate_without_pods
  local row
  # The start of the pod, and the last use of the old and the new token.
  for row in "1000 2000 0" "1000 2000 2299" "1000 3000 2300" "2100 0 2300" "1000 0 0"; do
    # shellcheck disable=SC2086 # three arguments
    metrics $row
    configure --apply "${one[@]}" --finish-rotation
    exits 1
    [[ "$(entry_of production)" == "$both" ]]
  done
}

@test "the end of a rotation needs an answer of every pod" {
  rotate_without_pods
  configure --apply "${one[@]}" --finish-rotation
  exits 1
  says "no pod of hubgate runs"
  metrics 1000 2000 2300
  echo none >"$STUB/metrics-fail"
  configure --apply "${one[@]}" --finish-rotation
  exits 1
  says "hubgate-0 does not answer"
  [[ "$(entry_of production)" == "$both" ]]
}

@test "a second rotation waits for the end of the first" {
  rotate_without_pods
  configure --apply "${one[@]}" --rotate
  exits 1
  says "give --finish-rotation first"
  [[ "$(token_of production)" == "$new" && "$(entry_of production)" == "$both" ]]
  configure --apply "${one[@]}"
  exits 0
  [[ "$(entry_of production)" == "$both" ]]
}

@test "a rotation that ends early anywhere is completed, and the spoke's token is always good" {
  configure --apply "${one[@]}"
  cp -R "$STUB/hub" "$STUB/production" "$BATS_TEST_TMPDIR"
  local writes complete=0 old
  old="$(token_of production)"
  for writes in 0 1 2 3; do
    rm -r "$STUB/hub" "$STUB/production"
    cp -R "$BATS_TEST_TMPDIR/hub" "$BATS_TEST_TMPDIR/production" "$STUB"
    echo "$writes" >"$STUB/fail-after"
    configure --apply "${one[@]}" --rotate
    rm "$STUB/fail-after"
    entry_of production | grep -F "$(sha256 "$(token_of production)")"
    if ((status == 0)); then
      complete=1
      break
    fi
    configure --apply "${one[@]}" --rotate
    exits 0
    [[ "$(token_of production)" != "$old" && -z "$(next_token_of production)" ]]
    [[ "$(entry_of production | grep -c token_sha256)" == 2 ]]
  done
  ((complete && writes == 3))
}

@test "a dry run of a rotation changes nothing" {
  configure --apply "${one[@]}"
  local before
  before="$(everything)"
  configure --apply "${one[@]}" --rotate --dry-run
  exits 0
  says "(the SHA-256 of the new token)"
  [[ "$(everything)" == "$before" ]]
  keeps_secrets
}

# Runs the script, and once, just before its first call of kubectl with all of the given words, a whole
# run of somebody else with the same options.
configure_while_another_does() {
  local word words=("$1" "$2") tests=""
  shift 2
  for word in "${words[@]}"; do tests+="[[ \" \$* \" == *\" $word \"* ]] && "; done
  mkdir -p "$BATS_TEST_TMPDIR/interrupting"
  cat >"$BATS_TEST_TMPDIR/interrupting/kubectl" <<KUBECTL
#!/usr/bin/env bash
export PATH="$PATH"
if $tests mkdir "$BATS_TEST_TMPDIR/came" 2>/dev/null; then
  bash "$script" $(printf '%q ' "$@") </dev/null >"$BATS_TEST_TMPDIR/other" 2>&1
  echo "\$?" >"$BATS_TEST_TMPDIR/other-status"
fi
exec kubectl "\$@"
KUBECTL
  chmod +x "$BATS_TEST_TMPDIR/interrupting/kubectl"
  PATH="$BATS_TEST_TMPDIR/interrupting:$PATH" configure "$@"
  [[ "$(cat "$BATS_TEST_TMPDIR/other-status")" == 0 ]]
}

sends_what_the_gateway_knows() {
  [[ "$(entry_of production)" == *"$(sha256 "$(token_of production)")"* ]]
}

@test "of two first runs at the same time, the spoke has a token that the gateway knows" {
  configure_while_another_does apply production --apply "${one[@]}"
  sends_what_the_gateway_knows
  configure --apply "${one[@]}"
  exits 0
  sends_what_the_gateway_knows
}

@test "two runs that make the hub's Secrets at the same time leave one authority and all tokens" {
  configure_while_another_does create --filename --apply "${one[@]}"
  exits 1
  sends_what_the_gateway_knows
  configure --apply "${one[@]}"
  exits 0
  sends_what_the_gateway_knows
  [[ "$(stored production monitoring ConfigMap hubgate-ca ca.crt)" == \
    "$(stored hub hubgate Secret hubgate-ca tls.crt)" ]]
}

@test "two rotations at the same time lose no token" {
  configure --apply "${one[@]}"
  exits 0
  configure_while_another_does patch hubgate-spokes --apply "${one[@]}" --rotate
  sends_what_the_gateway_knows
  exits 1
  says "if the Secret was changed in the meantime, run this again"
}
