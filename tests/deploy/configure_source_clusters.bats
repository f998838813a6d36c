# deploy/configure-source-clusters.sh against a stub of kubectl, a real curl and a real hubgate.
# shellcheck disable=SC2154 # stubs/helper.bash sets contexts, deploy, port, project and script

load stubs/helper.bash

setup() { setup_script_test; }
teardown() { teardown_script_test; }

@test "the first run brings two clusters from nothing to working" {
  start_hubgate
  from_loopback production staging
  configure --apply "${contexts[@]}" --endpoint "127.0.0.1:$port" --check
  exits 0
  keeps_secrets
  [[ "$(write_as production)" == 204 ]]
  [[ "$(write_as staging)" == 204 ]]
  [[ ! -e "$STUB/reload-failed" ]]
}
