# deploy/configure-source-clusters.sh: the checks with an empty write, from here and from a cluster.
# shellcheck disable=SC2154 # stubs/helper.bash sets contexts, deploy, port, project and script

bats_require_minimum_version 1.5.0
load stubs/helper.bash

setup() {
  setup_script_test
  one=(--cluster production "${contexts[@]}")
}

teardown() { teardown_script_test; }

# A cluster that works, without a check.
configured() {
  start_hubgate
  from_loopback production
  configure --apply "${one[@]}" --endpoint "127.0.0.1:$port"
  exits 0
}

# Puts a curl in front of the real one that fails, or answers with a status.
fake_curl() {
  mkdir -p "$BATS_TEST_TMPDIR/bin"
  printf '#!/bin/sh\ncat >/dev/null\nprintf %%s %s\nexit %s\n' "$2" "$1" >"$BATS_TEST_TMPDIR/bin/curl"
  chmod +x "$BATS_TEST_TMPDIR/bin/curl"
}

@test "a check finds what works, from here and from the cluster, and changes nothing" {
  configured
  local before
  before="$(everything | grep -v -e pod.yaml -e writes)"
  configure --check "${one[@]}"
  exits 0
  says "ok         production, without a token: 401"
  says "ok         production, with its token: 204"
  configure --check-from-cluster "${one[@]}"
  exits 0
  says "ok         production, without a token: 401"
  says "ok         production, with its token: 204"
  [[ "$(everything | grep -v -e pod.yaml -e writes)" == "$before" ]]
  [[ -z "$(ls "$STUB/production/monitoring/Pod")" ]]
  kubernetes-validate --kubernetes-version 1.30 --strict "$STUB/pod.yaml"
  keeps_secrets
  run ! grep -F "$(token_of production)" "$STUB/pod.yaml"
}

@test "the pod of a check is one that a restricted namespace takes" {
  configured
  configure --check-from-cluster "${one[@]}"
  exits 0
  python3 - "$STUB/pod.yaml" <<'PYTHON'
import sys, yaml
spec = yaml.safe_load(open(sys.argv[1]))["spec"]
security, container = spec["securityContext"], spec["containers"][0]["securityContext"]
assert security["runAsNonRoot"] and security["runAsUser"] == 65532
assert security["seccompProfile"] == {"type": "RuntimeDefault"}
assert container["allowPrivilegeEscalation"] is False and container["readOnlyRootFilesystem"]
assert container["capabilities"] == {"drop": ["ALL"]}
assert spec["automountServiceAccountToken"] is False
PYTHON
}

@test "without a context only the request without a token is tried" {
  configured
  stored production monitoring ConfigMap hubgate-ca ca.crt >"$BATS_TEST_TMPDIR/ca.crt"
  configure --check --cluster production --ca-file "$BATS_TEST_TMPDIR/ca.crt"
  exits 0
  says "not tried  production, with its token: give --context production=CONTEXT"
}

@test "a token that the gateway does not know is found" {
  configured
  place production monitoring Secret hubgate '{"token": "0123456789-0123456789-0123456789"}'
  configure --check "${one[@]}"
  exits 3
  says "production, with its token: status 401: the gateway does not know the token"
  says "unauthenticated"
  configure --check-from-cluster "${one[@]}"
  exits 3
  says "production, with its token: status 401: the gateway does not know the token"
}

@test "a token with a newline is found, which curl would send and Prometheus would not" {
  configured
  place production monitoring Secret hubgate "{\"token\": \"$(token_of production)\\n\"}"
  configure --check "${one[@]}"
  exits 3
  says "has no token, or one with white space"
  configure --check-from-cluster "${one[@]}"
  exits 3
}

@test "an address outside the source ranges of the spoke is found" {
  start_hubgate
  from_loopback production
  configure --apply "${one[@]}" --endpoint "127.0.0.1:$port" --source-range production=198.18.0.0/24 --check
  exits 3
  says "status 403: the address is not in source_ranges of production; this machine is usually not"
  configure --check-from-cluster "${one[@]}"
  exits 3
  says "status 403: the address is not in source_ranges of production"
  never_says "this machine"
}

@test "an address outside the source ranges of the listener is found" {
  start_hubgate 198.18.0.0/24
  from_loopback production
  configure --apply "${one[@]}" --endpoint "127.0.0.1:$port" --check
  exits 3
  says "the connection ends in or before TLS"
}

@test "the authority of somebody else is found" {
  configured
  place production monitoring ConfigMap hubgate-ca '{"ca.crt": "nothing"}'
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj /CN=other \
    -keyout /dev/null -out "$BATS_TEST_TMPDIR/other.crt" 2>/dev/null
  configure --check "${one[@]}" --ca-file "$BATS_TEST_TMPDIR/other.crt"
  exits 3
  says "curl exits with 60: the certificate is not by the authority of production"
}

@test "a name that the certificate does not have is found, and another one is used as the spoke does" {
  configured
  sed -i.old -e 's/^server_name=.*/server_name=gate.corp.example/' "$deploy/clusters/production/spoke.env"
  configure --check "${one[@]}"
  exits 3
  says "or not for gate.corp.example"
  configure --apply "${one[@]}" --endpoint "127.0.0.1:$port" --server-name gate.corp.example --check
  exits 0
  configure --check-from-cluster "${one[@]}"
  exits 0
}

@test "a ServiceAccount's token is tried" {
  start_hubgate
  from_loopback production
  service_account production
  echo 0123456789.0123456789.0123456789 \
    >"$STUB/production/token-kube-prometheus-stack-prometheus-hubgate-production"
  configure --apply "${one[@]}" --endpoint "127.0.0.1:$port" --check
  exits 3
  says "production, with its token: status 401"
  configure --check-from-cluster "${one[@]}"
  exits 3
  says "production, with its token: status 401"
  grep -F "audience: hubgate-production" "$STUB/pod.yaml"
}

@test "a pod that does not start is found and deleted" {
  configured
  echo Pending >"$STUB/pod-phase"
  HUBGATE_WAIT_SECONDS=1 configure --check-from-cluster "${one[@]}"
  exits 3
  says "did not run in 1 s: Pending"
  [[ -z "$(ls "$STUB/production/monitoring/Pod")" ]]
}

@test "every failure of curl and every status has an advice" {
  configure --endpoint gate.corp.example
  local code status advice
  while IFS='|' read -r code status advice; do
    fake_curl "$code" "$status"
    PATH="$BATS_TEST_DIRNAME/stubs:$BATS_TEST_TMPDIR/bin:${PATH#*:}" configure --check --cluster production
    exits 3
    says "$advice"
  done <<'ROWS'
6|000|cannot be resolved
7|000|nothing listens
28|000|a firewall, or loadBalancerSourceRanges without this address; this machine is usually not in
35|000|the connection ends in or before TLS
52|000|the connection ends in or before TLS
56|000|the connection ends in or before TLS
60|000|the certificate is not by the authority
99|000|curl exits with 99
0|200|an empty write must get 204
0|204|the gateway takes writes of production
0|301|something redirects
0|400|something else than hubgate answers
0|403|not in source_ranges
0|404|the path is wrong
0|413|limits the size of a body
0|429|limits the number of requests
0|502|does not reach what is behind it
0|503|no ready pod
0|504|does not reach what is behind it
ROWS
}
