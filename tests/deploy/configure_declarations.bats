# deploy/configure-source-clusters.sh: the address of the gateway, and the files that it writes.
# shellcheck disable=SC2154 # stubs/helper.bash sets contexts, deploy, port, project and script

bats_require_minimum_version 1.5.0
load stubs/helper.bash

setup() { setup_script_test; }
teardown() { teardown_script_test; }

url_of() { sed -n 's/^url=//p' "$deploy/clusters/$1/spoke.env"; }
server_name_of() { sed -n 's/^server_name=//p' "$deploy/clusters/$1/spoke.env"; }
declare_key() { sed -i.old -e "s,^$2=.*,$2=$3," "$deploy/clusters/$1/spoke.env"; }

@test "the committed declarations agree" {
  cp "$BATS_TEST_DIRNAME"/../../deploy/gateway/overlays/hub/source-ranges.yaml "$deploy/gateway/overlays/hub/"
  configure --check-declarations
  exits 0
}

@test "an endpoint in any form gives the URL and the name in the certificate" {
  local endpoint url server_name
  while read -r endpoint url server_name; do
    configure --endpoint "$endpoint" --cluster production
    exits 0
    [[ "$(url_of production)" == "$url" ]]
    [[ "$(server_name_of production)" == "$server_name" ]]
  done <<'ROWS'
198.51.100.7                      https://198.51.100.7/api/v1/write            198.51.100.7
198.51.100.7:8443                 https://198.51.100.7:8443/api/v1/write       198.51.100.7
Gate.Corp.Example.                https://gate.corp.example/api/v1/write       gate.corp.example
gate.corp.example:443             https://gate.corp.example/api/v1/write       gate.corp.example
https://gate.corp.example         https://gate.corp.example/api/v1/write       gate.corp.example
https://gate.corp.example/        https://gate.corp.example/api/v1/write       gate.corp.example
https://gate.corp.example/x/write https://gate.corp.example/x/write            gate.corp.example
2001:db8::7                       https://[2001:db8::7]/api/v1/write           2001:db8::7
[2001:db8::7]:8443                https://[2001:db8::7]:8443/api/v1/write      2001:db8::7
https://[2001:DB8::7]             https://[2001:db8::7]/api/v1/write           2001:db8::7
ROWS
}

@test "what is no endpoint is refused with the reason, and nothing is written" {
  local before endpoint reason
  before="$(everything)"
  while IFS='|' read -r endpoint reason; do
    configure --endpoint "$endpoint"
    exits 2
    says "$reason"
  done <<'ROWS'
http://gate.corp.example|in the clear
ftp://gate.corp.example|must begin with https://
https://me:secret@gate.corp.example|must not have a user name
me@gate.corp.example|must not have a user name
gate corp|a character that no URL has
gate.corp.example; rm -r x|a character that no URL has
$(hostname)|a character that no URL has
https://gate.corp.example/a?b|must have no
https://gate.corp.example/a#b|must have no
https://gate.corp.example//a|is no path
127.1|is no host name
1.2.3.256|is no host name
1.2.3.04|is no host name
0.0.0.0|nobody can connect
-gate|is no host name
gate..corp|is no host name
gate:port|is no host name
gate:0|is no port
gate:65536|is no port
[2001:db8::1|is no host name
[2001:db8::1::2]|is no host name
1:2:3:4:5:6:7|is no host name
[gate]|is no host name
ROWS
  configure --endpoint gate.corp.example:1 --port 2
  exits 2
  [[ "$(everything)" == "$before" ]]
}

@test "an http:// endpoint needs an option of its own" {
  configure --endpoint http://10.1.2.3:9480 --insecure-http
  exits 0
  [[ "$(url_of staging)" == http://10.1.2.3:9480/api/v1/write ]]
}

@test "a name in the certificate that differs from the host stays" {
  configure --endpoint 198.51.100.7 --server-name gate.corp.example
  configure --endpoint 198.51.100.8
  exits 0
  [[ "$(url_of production)" == https://198.51.100.8/api/v1/write ]]
  [[ "$(server_name_of production)" == gate.corp.example ]]
}

@test "the address comes from the option, then the environment, then the LoadBalancer" {
  load_balancer '{"ip": "198.51.100.3"}'
  REMOTE_WRITE_ENDPOINT=198.51.100.2 configure --endpoint 198.51.100.1
  [[ "$(url_of production)" == https://198.51.100.1/api/v1/write ]]
  REMOTE_WRITE_ENDPOINT=198.51.100.2 configure
  [[ "$(url_of production)" == https://198.51.100.2/api/v1/write ]]
  configure
  exits 0
  [[ "$(url_of production)" == https://198.51.100.3/api/v1/write ]]
  load_balancer '{"hostname": "lb.cloud.example", "ip": "198.51.100.3"}'
  configure
  [[ "$(url_of production)" == https://lb.cloud.example/api/v1/write ]]
}

@test "a name that is declared is kept, and needs no cluster" {
  configure --endpoint gate.corp.example
  load_balancer '{"ip": "198.51.100.3"}'
  configure
  exits 0
  [[ "$(url_of staging)" == https://gate.corp.example/api/v1/write ]]
  [[ ! -s "$STUB/calls" ]]
}

@test "an address that is declared is kept while the hub cannot be asked" {
  configure --endpoint 198.51.100.7
  echo "Unable to connect to the server" >"$STUB/hub/fail"
  configure
  exits 0
  says "keeping the address"
  [[ "$(url_of production)" == https://198.51.100.7/api/v1/write ]]
}

@test "it waits for a LoadBalancer that has no address yet" {
  load_balancer ''
  (sleep 2 && load_balancer '{"ip": "198.51.100.3"}') 3>&- &
  HUBGATE_WAIT_SECONDS=30 configure
  exits 0
  says "waiting for the address of the LoadBalancer"
  [[ "$(url_of production)" == https://198.51.100.3/api/v1/write ]]
}

@test "without an address and a terminal it fails and writes nothing" {
  local before
  load_balancer ''
  before="$(everything)"
  HUBGATE_WAIT_SECONDS=1 configure
  exits 2
  says "Service hubgate got no address in 1 s"
  says "give --endpoint"
  [[ "$(everything)" == "$before" ]]
}

@test "without an address it asks at a terminal" {
  at_terminal "Enter the LoadBalancer IP or hostname: " 198.51.100.9
  exits 0
  [[ "$(url_of production)" == https://198.51.100.9/api/v1/write ]]
}

@test "the source ranges of the load balancer are the sorted union of all clusters'" {
  configure --endpoint gate.corp.example --source-range production=198.18.0.9 \
    --source-range production=2001:db8:1::/56 --source-range staging=198.18.0.0/24
  exits 0
  grep -Fx source_ranges=198.18.0.9/32,2001:db8:1::/56 "$deploy/clusters/production/spoke.env"
  diff "$deploy/gateway/overlays/hub/source-ranges.yaml" - <<'YAML'
# Generated by deploy/configure-source-clusters.sh from deploy/clusters/*/spoke.env; do not edit.
apiVersion: v1
kind: Service
metadata:
  name: hubgate
  namespace: hubgate
spec:
  loadBalancerSourceRanges:
    - 198.18.0.0/24
    - 198.18.0.9/32
    - "2001:db8:1::/56"
YAML
  kubectl_real kustomize "$deploy/gateway/overlays/hub" | grep -F -- "- 198.18.0.9/32"
}

@test "what is no address range is refused" {
  local range
  for range in 1.2.3/24 1.2.3.4/33 1.2.3.4/ 1.2.3.4/x 1.2.3.4/024 1.2.3.4/24 10.0.0.0/0 ::/129 \
    2001:db8::1/64 2001:db8::/28 2001:db8:::/32 g::/16 1.2.3.4/-1 production '1.2.3.0/24,x'; do
    configure --endpoint gate.corp.example --source-range "production=$range"
    exits 2
  done
}

@test "ranges that let in too many or nobody are warned of" {
  local range
  for range in 0.0.0.0/0 ::/0 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 203.0.113.5/32 fd00::/8; do
    configure --endpoint gate.corp.example --source-range "production=$range"
    exits 0
    says "warning: deploy/clusters/production/spoke.env: $range "
  done
}

@test "a new cluster is declared, builds, and is reached where the others are" {
  configure --endpoint gate.corp.example
  configure --new-cluster eu-west --source-range eu-west=198.18.7.0/24
  exits 0
  [[ "$(url_of eu-west)" == https://gate.corp.example/api/v1/write ]]
  [[ "$(server_name_of eu-west)" == gate.corp.example ]]
  run ! grep -r CLUSTER_NAME "$deploy/clusters/eu-west"
  [[ -e "$deploy/clusters/eu-west/infra-controllers/prometheus-community-eu-west.yaml" ]]
  grep -F 198.18.7.0/24 "$deploy/gateway/overlays/hub/source-ranges.yaml"
  kubectl_real kustomize "$deploy/clusters/eu-west" >"$BATS_TEST_TMPDIR/built"
  grep -F "cluster: eu-west" "$BATS_TEST_TMPDIR/built"
  grep -F "url: https://gate.corp.example/api/v1/write" "$BATS_TEST_TMPDIR/built"
  configure --check-declarations
  exits 0
  local before
  before="$(everything)"
  configure --new-cluster eu-west --source-range eu-west=198.18.7.0/24
  exits 0
  [[ "$(everything)" == "$before" ]]
}

@test "a new cluster works at once" {
  start_hubgate
  from_loopback production staging
  mkdir "$STUB/eu"
  configure --new-cluster eu --source-range eu=127.0.0.0/8 --context eu=eu --hub-context hub --apply --check
  exits 0
  [[ "$(write_as eu)" == 204 ]]
}

@test "files that disagree are found" {
  configure --endpoint gate.corp.example
  echo "    - 0.0.0.0/0" >>"$deploy/gateway/overlays/hub/source-ranges.yaml"
  configure --check-declarations
  exits 1
  says "source-ranges.yaml differs"
  says "-    - 0.0.0.0/0"
  local key value reason
  while IFS='|' read -r key value reason; do
    rm -r "$deploy"
    cp -R "$BATS_TEST_DIRNAME/../../deploy" "$deploy"
    declare_key production "$key" "$value"
    configure --check-declarations
    exits 1
    says "$reason"
    configure --endpoint gate.corp.example --cluster staging
    exits 1
  done <<'ROWS'
cluster|prod|cluster=prod differs from the folder's name
url|gate.corp.example|must be a whole URL
url|https://a b|is no URL
server_name|https://x|is neither a name nor an address
source_ranges||has an empty element
source_ranges|203.0.113.10/32\,|has an empty element
source_ranges|203.0.113.10|is no address range
source_ranges|203.0.113.10/24|has bits behind its prefix
credential|password|must be token or service-account
credential|service-account|no kustomization uses service-account-token
ROWS
}

@test "a key that is given twice, and lines of Windows, are found" {
  echo cluster=production >>"$deploy/clusters/production/spoke.env"
  sed -i.old -e "s/\$/$(printf '\r')/" "$deploy/clusters/staging/spoke.env"
  configure --check-declarations
  exits 1
  says "clusters/production/spoke.env: given twice: cluster"
  says "clusters/staging/spoke.env: lines must end in LF"
}

@test "lines that kustomize would read otherwise are found" {
  local line
  for line in " url=https://other.corp.example/api/v1/write" "PATH" "Issuer=x" "credential = token" $'\tissuer=x'; do
    cp "$deploy/clusters/staging/spoke.env" "$deploy/clusters/production/spoke.env"
    sed -i.old -e s/staging/production/ "$deploy/clusters/production/spoke.env"
    printf '\n# m\303\274nchen: a comment\n%s\n' "$line" >>"$deploy/clusters/production/spoke.env"
    configure --check-declarations
    exits 1
    says "clusters/production/spoke.env: neither key=value nor a comment is in line $(
      wc -l <"$deploy/clusters/production/spoke.env" | tr -d ' ')"
  done
}

@test "a declaration that is a link to a file elsewhere stays one" {
  mv "$deploy/clusters/production/spoke.env" "$project/elsewhere"
  ln -s ../../../elsewhere "$deploy/clusters/production/spoke.env"
  configure --endpoint gate.corp.example
  exits 0
  [[ -L "$deploy/clusters/production/spoke.env" ]]
  grep -Fx server_name=gate.corp.example "$project/elsewhere"
}

@test "wrong usage is refused before anything is written" {
  local before options
  before="$(everything)"
  while read -r -a options; do
    configure --endpoint gate.corp.example "${options[@]}"
    exits 2
  done <<'ROWS'
--cluster nowhere
--cluster production --cluster production
--cluster Production
--new-cluster hub
--new-cluster unknown
--new-cluster -a
--new-cluster base
--new-cluster a_b
--apply
--apply --context production=a
--apply --context production=a --context production=b --context staging=c
--apply --context production=a --context staging=a
--apply --context production=a --context staging=b --hub-context a
--apply --context production --context staging=b
--context nowhere=x
--source-range nowhere=1.2.3.4/32
--source-range 1.2.3.4/32
--port 0
--port 99999
--server-name a/b
--ca-file /dev/null
--rotate
--finish-rotation
--apply --rotate --finish-rotation --context production=a --context staging=b
--check --new-cluster x
--check-from-cluster
--secrets-dir x --apply --context production=a --context staging=b
--endpoint
--frobnicate
production
ROWS
  [[ "$(everything)" == "$before" ]]
  [[ ! -s "$STUB/writes" ]]
}

@test "--help names every option that there is" {
  configure --help
  exits 0
  local option
  while read -r option; do
    [[ "$option" == -- ]] || says "  $option"
  done < <(sed -n '/^parse_options()/,/^}/p' "$script" | grep -o -e '--[a-z-]*' | sort -u)
}

@test "--print-gateway-config prints what hubgate takes" {
  configure --apply "${contexts[@]}" --endpoint gate.corp.example
  run --separate-stderr "${CONFIGURE_BASH:-bash}" "$script" --print-gateway-config --hub-context hub --cluster production
  exits 0
  [[ "$output" == "$(entry_of production)" ]]
  configure --print-gateway-config
  exits 0
  says 'name: "staging"'
}
