# What the tests of configure-source-clusters.sh share. A test has a copy of deploy/ in a folder with
# a space in its name, three empty clusters behind the stub of kubectl, and, if it starts one, a real
# hubgate that stands for the pods of the hub.
#
# CONFIGURE_BASH names another bash to run the script with.
# shellcheck disable=SC2034,SC2154 # tests use what is set here, and bats sets output and status

setup_script_test() {
  export STUB="$BATS_TEST_TMPDIR/stub"
  mkdir -p "$STUB/hub" "$STUB/production" "$STUB/staging" "$BATS_TEST_TMPDIR/a project"
  touch "$STUB/calls" "$STUB/writes"
  export PATH="$BATS_TEST_DIRNAME/stubs:$PATH"
  project="$BATS_TEST_TMPDIR/a project"
  deploy="$project/deploy"
  cp -R "$BATS_TEST_DIRNAME/../../deploy" "$deploy"
  script="$deploy/configure-source-clusters.sh"
  export HUBGATE_WAIT_SECONDS=60
  unset REMOTE_WRITE_ENDPOINT
  contexts=(--hub-context hub --context production=production --context staging=staging)
  local name
  for name in "$deploy"/clusters/*/; do
    name="$(basename "$name")"
    case "$name" in
      _template | base | components | production | staging) ;;
      *) rm -r "$deploy/clusters/${name:?}" ;;
    esac
  done
}

teardown_script_test() {
  [[ ! -e "$BATS_TEST_TMPDIR/hubgate.pid" ]] || kill "$(cat "$BATS_TEST_TMPDIR/hubgate.pid")"
}

# Runs the script without a terminal, with its output and exit code in $output and $status.
configure() {
  run "${CONFIGURE_BASH:-bash}" "$script" "$@" </dev/null
  echo "--- configure-source-clusters.sh $*"
  echo "$output"
  echo "--- exit code $status"
}

# Fails with what is printed above unless the script exited with this code.
exits() { [[ "$status" == "$1" ]] || { echo "exit code $status, not $1" && false; }; }

says() { [[ "$output" == *"$1"* ]] || { echo "it does not say: $1" && false; }; }

never_says() { [[ "$output" != *"$1"* ]] || { echo "it says: $1" && false; }; }

# Prints a key of an object in a cluster. Arguments: context namespace kind name key
stored() {
  python3 - "$STUB/$1/$2/$3/$4.json" "$5" <<'PYTHON'
import base64, json, pathlib, sys

path, key = pathlib.Path(sys.argv[1]), sys.argv[2]
thing = json.loads(path.read_text()) if path.exists() else {"kind": "", "data": {}}
value = thing["data"].get(key, "")
sys.stdout.buffer.write(base64.b64decode(value) if thing["kind"] == "Secret" else value.encode())
PYTHON
}

# Puts an object into a cluster; $5 is its data in JSON, in plain text. The namespace is made.
place() {
  python3 - "$STUB/$1" "$2" "$3" "$4" "$5" <<'PYTHON'
import base64, json, pathlib, sys

root, namespace, kind, name, data = sys.argv[1:]
data = json.loads(data)
if kind == "Secret":
    data = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
thing = {"kind": kind, "metadata": {"name": name, "namespace": namespace}}
thing |= {"data": data} if kind in ("Secret", "ConfigMap") else data
for path, it in (
    (f"-/Namespace/{namespace}.json", {"kind": "Namespace", "metadata": {"name": namespace}}),
    (f"{namespace}/{kind}/{name}.json", thing),
):
    path = pathlib.Path(root, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(it))
PYTHON
}

token_of() { stored "$1" monitoring Secret hubgate token; }
next_token_of() { stored "$1" monitoring Secret hubgate token-next; }
entry_of() { stored hub hubgate Secret hubgate-spokes "$1.yaml"; }
sha256() { printf '%s' "$1" | openssl dgst -sha256 -r | cut -c 1-64; }

load_balancer() { # its address: {"ip": ...} or {"hostname": ...}
  place hub hubgate Service hubgate \
    "{\"spec\": {\"type\": \"LoadBalancer\"}, \"status\": {\"loadBalancer\": {\"ingress\": [$1]}}}"
}

# One digest of every file of the project and every object of the clusters.
everything() {
  (cd "$BATS_TEST_TMPDIR" && find "a project" stub -type f ! -name calls -exec openssl dgst -sha256 -r {} + | sort)
}

# No secret that is in a cluster, or once was, is in an argument of kubectl or in the output.
keeps_secrets() {
  local secret
  for secret in "$(token_of production)" "$(next_token_of production)" "$(token_of staging)" \
    "$(next_token_of staging)" "$(stored hub monitoring Secret grafana-admin admin-password)" \
    "$(stored hub hubgate Secret hubgate-tls tls.key | sed -n 2p)" "$@"; do
    [[ -n "$secret" ]] || continue
    never_says "$secret"
    never_says "$(printf '%s' "$secret" | openssl base64 -A)"
    ! grep -F -e "$secret" -e "$(printf '%s' "$secret" | openssl base64 -A)" "$STUB/calls"
  done
  ! grep -r --include='*' -F -e "$(token_of production)" "$project"
}

# Starts hubgate as the pods of the hub: it reads what the stub mounts. Sets `port`.
start_hubgate() {
  local mount="$STUB/mount" log="$BATS_TEST_TMPDIR/hubgate.log" range="${1:-127.0.0.0/8}" tries
  mkdir -p "$mount/spokes" "$mount/tls"
  make_certificate "$mount/tls" 127.0.0.1
  cat >"$mount/hubgate.yaml" <<YAML
listen:
  address: 127.0.0.1:0
  source_ranges: [$range]
  tls: {cert_file: tls/tls.crt, key_file: tls/tls.key}
admin: {address: "127.0.0.1:0"}
hub: {url: "http://127.0.0.1:9/api/v1/write"}
spoke_files: [spokes/*.yaml]
YAML
  touch "$log"
  "$HUBGATE_BIN" serve "$mount/hubgate.yaml" >"$log" 2>&1 3>&- &
  echo $! >"$BATS_TEST_TMPDIR/hubgate.pid"
  for ((tries = 0; tries < 100; tries++)); do
    sed -n 's/.*"serving admin" address=127.0.0.1:\([0-9]*\).*/\1/p' "$log" >"$STUB/admin"
    [[ ! -s "$STUB/admin" ]] || break
    sleep 0.1
  done
  port="$(sed -n 's/.*"receiving remote writes" address=127.0.0.1:\([0-9]*\).*/\1/p' "$log")"
  [[ -n "$port" ]] || { cat "$log" && false; }
  place hub hubgate Pod hubgate-0 '{"status": {"phase": "Running"}}'
}

# Makes a certificate of no authority's, in tls.crt and tls.key of a folder. Arguments: folder address
make_certificate() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days "${3:-90}" -subj /CN=test \
    -addext "subjectAltName=IP:$2" -keyout "$1/tls.key" -out "$1/tls.crt" 2>/dev/null
}

# Makes spoke.env of a cluster say that its traffic comes from here.
from_loopback() {
  local name
  for name in "$@"; do
    printf 'cluster=%s\nurl=https://127.0.0.1:%s/api/v1/write\nserver_name=127.0.0.1\nsource_ranges=%s\ncredential=token\n' \
      "$name" "$port" 127.0.0.0/8 >"$deploy/clusters/$name/spoke.env"
  done
}

# Sends an empty write as a Prometheus with the token in its Secret; prints the status.
write_as() {
  stored "$1" monitoring ConfigMap hubgate-ca ca.crt >"$BATS_TEST_TMPDIR/ca.crt"
  printf '\0' >"$BATS_TEST_TMPDIR/empty"
  printf 'Authorization: Bearer %s\n' "${2:-$(token_of "$1")}" | curl -q -sS -o /dev/null \
    -w '%{http_code}\n' --cacert "$BATS_TEST_TMPDIR/ca.crt" -H @- \
    -H 'Content-Type: application/x-protobuf' -H 'Content-Encoding: snappy' \
    --data-binary @"$BATS_TEST_TMPDIR/empty" "https://127.0.0.1:$port/api/v1/write"
}

# Makes a cluster one that proves itself with its ServiceAccount.
service_account() {
  local kustomization="$deploy/clusters/$1/kustomization.yaml"
  sed -i.old -e 's/^credential=.*/credential=service-account/' "$deploy/clusters/$1/spoke.env"
  sed -i.old -e 's,^components:$,&\n  - ../components/service-account-token,' "$kustomization"
  mkdir -p "$STUB/$1/raw/openid/v1" "$STUB/$1/raw/.well-known"
  printf '%s' '{"keys":[{"use":"sig","kty":"EC","kid":"1","crv":"P-256","alg":"ES256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}' \
    >"$STUB/$1/raw/openid/v1/jwks"
  printf '{"issuer":"https:\\/\\/issuer.corp.example/a","jwks_uri":"https://x/openid/v1/jwks"}' \
    >"$STUB/$1/raw/.well-known/openid-configuration"
}

# Runs the script at a terminal of its own. Arguments: prompt answer option...
at_terminal() {
  local prompt="$1" answer="$2"
  shift 2
  run python3 "$BATS_TEST_DIRNAME/stubs/terminal.py" "$prompt" "$answer" "${CONFIGURE_BASH:-bash}" \
    "$script" "$@"
  echo "$output"
  echo "--- exit code $status"
}

# Takes a key of an object away. Arguments: context namespace kind name key
drop() {
  python3 - "$STUB/$1/$2/$3/$4.json" "$5" <<'PYTHON'
import json, pathlib, sys

path = pathlib.Path(sys.argv[1])
thing = json.loads(path.read_text())
thing["data"].pop(sys.argv[2], None)
path.write_text(json.dumps(thing))
PYTHON
}

# The kubectl behind the stub.
kubectl_real() {
  local path="${PATH//"$BATS_TEST_DIRNAME/stubs:"/}"
  PATH="$path" kubectl "$@"
}
