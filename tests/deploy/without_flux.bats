# What deploy/without-flux.sh does with kubectl and helm. Stand-ins for both record each call as a line
# of $calls; that of kubectl lets the real one do what needs no cluster.

setup() {
  script="$BATS_TEST_DIRNAME/../../deploy/without-flux.sh"
  calls="$BATS_TEST_TMPDIR/calls"
  applied="$BATS_TEST_TMPDIR/applied.yaml"
  values="$BATS_TEST_TMPDIR/values.yaml"
  folder="$BATS_TEST_TMPDIR/folder"
  chart_definitions="$BATS_TEST_TMPDIR/definitions.yaml"
  touch "$calls" "$applied" "$chart_definitions"
  export calls applied values chart_definitions real_kubectl
  # The oldest that the guide names.
  real_kubectl="$(command -v kubectl-1.30 || command -v kubectl)"
  mkdir "$BATS_TEST_TMPDIR/bin" "$folder"

  cat >"$BATS_TEST_TMPDIR/bin/kubectl" <<'KUBECTL'
#!/usr/bin/env bash
case " $* " in
  *" kustomize "* | *" --local "*) exec "$real_kubectl" "$@" ;;
esac
echo "kubectl $*" >>"$calls"
for file; do :; done
cat "$file" >>"$applied"
KUBECTL
  cat >"$BATS_TEST_TMPDIR/bin/helm" <<'HELM'
#!/usr/bin/env bash
if [[ "$1" == upgrade ]]; then
  while [[ "$1" != --values ]]; do
    line+=" $1"
    shift
  done
  cp "$2" "$values"
  echo "helm$line" >>"$calls"
else
  echo "helm $*" >>"$calls"
  cat "$chart_definitions"
fi
HELM
  chmod +x "$BATS_TEST_TMPDIR"/bin/*
  PATH="$BATS_TEST_TMPDIR/bin:$PATH"

  cat >"$folder/kustomization.yaml" <<'YAML'
resources: [objects.yaml]
YAML
  cat >"$folder/objects.yaml" <<'YAML'
apiVersion: v1
kind: Namespace
metadata: {name: place}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: tricky, namespace: place}
data:
  text: |
    kind: HelmRelease
    ---
    apiVersion: source.toolkit.fluxcd.io/v1
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: HelmRepository
metadata: {name: other, namespace: place}
spec: {interval: 1h, url: "https://wrong.example.com"}
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: HelmRepository
metadata: {name: charts, namespace: place}
spec: {interval: 1h, url: "https://charts.example.com"}
---
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: thing, namespace: place}
spec:
  interval: 1h
  chart:
    spec:
      chart: thing-chart
      version: 1.x
      sourceRef: {kind: HelmRepository, name: charts}
  values: {a: "on", b: {c: [1, "2", null]}, d: "x: {{ $y }} \"z\""}
YAML
}

# Sets a field of the HelmRelease.
with() {
  cat >>"$folder/kustomization.yaml" <<YAML
patches:
  - target: {kind: HelmRelease}
    patch: '[{"op": "add", "path": "/spec/$1", "value": $2}]'
YAML
}

@test "applies what is not Flux's with kubectl, then the release with helm" {
  run "$script" "$folder"
  [ "$status" -eq 0 ]
  run cat "$calls"
  [[ "${lines[0]}" == "kubectl apply --server-side -f "*/plain.yaml ]]
  [ "${lines[1]}" = "helm upgrade --install thing thing-chart --repo https://charts.example.com --version 1.x --namespace place --timeout 5m" ]
  [ "${#lines[@]}" -eq 2 ]
}

@test "applies every object but those of Flux, unchanged" {
  "$script" "$folder"
  rm "$folder/kustomization.yaml"
  cat >"$folder/kustomization.yaml" <<'YAML'
resources: [objects.yaml]
patches:
  - target: {group: helm.toolkit.fluxcd.io}
    patch: "{apiVersion: helm.toolkit.fluxcd.io/v2, kind: HelmRelease, metadata: {name: thing}, $patch: delete}"
  - target: {name: charts}
    patch: "{apiVersion: source.toolkit.fluxcd.io/v1, kind: HelmRepository, metadata: {name: charts}, $patch: delete}"
  - target: {name: other}
    patch: "{apiVersion: source.toolkit.fluxcd.io/v1, kind: HelmRepository, metadata: {name: other}, $patch: delete}"
YAML
  diff <(echo ---; kubectl kustomize "$folder") "$applied"
}

@test "gives helm the values as they are" {
  "$script" "$folder"
  # shellcheck disable=SC2016 # nothing to expand
  [ "$(cat "$values")" = '{"a":"on","b":{"c":[1,"2",null]},"d":"x: {{ $y }} \"z\""}' ]
}

@test "says what it would do with --dry-run, and calls nothing" {
  run "$script" --dry-run --context far "$folder"
  [ "$status" -eq 0 ]
  [ "${lines[0]}" = "would apply Namespace place" ]
  [ "${lines[1]}" = "would apply ConfigMap place/tricky" ]
  [ "${lines[2]}" = "would run, with spec.values: helm upgrade --install thing thing-chart --repo https://charts.example.com --version 1.x --namespace place --timeout 5m --kube-context far" ]
  [ "${#lines[@]}" -eq 3 ]
  [ ! -s "$calls" ]
}

@test "uses the given context with kubectl and helm" {
  "$script" --context far "$folder"
  run cat "$calls"
  [[ "${lines[0]}" == "kubectl --context far apply "* ]]
  [[ "${lines[1]}" == *" --kube-context far" ]]
}

@test "takes an empty context for a mistake, not for the current one" {
  local options
  for options in "--context=" "--context"; do
    run bash "$script" "$options" "" "$folder" </dev/null
    [[ "$status" == 2 && "$output" == *"--context needs a name"* ]]
  done
  [[ ! -s "$calls" ]]
}

@test "waits for the pods only if it is asked to" {
  "$script" --wait "$folder"
  grep -q "^helm upgrade .* --timeout 5m --wait$" "$calls"
}

@test "takes name, namespace and timeout from the release" {
  cat >>"$folder/kustomization.yaml" <<'YAML'
patches:
  - target: {kind: HelmRelease}
    patch: |
      - {op: add, path: /spec/releaseName, value: named}
      - {op: add, path: /spec/targetNamespace, value: elsewhere}
      - {op: add, path: /spec/timeout, value: 15m}
YAML
  "$script" "$folder"
  grep -q "^helm upgrade --install named .* --namespace elsewhere --timeout 15m$" "$calls"
}

@test "takes a chart from an OCI registry" {
  sed -i 's|https://charts.example.com|oci://charts.example.com/them/|' "$folder/objects.yaml"
  "$script" "$folder"
  grep -q "^helm upgrade --install thing oci://charts.example.com/them/thing-chart --version 1.x " "$calls"
}

@test "updates the chart's custom resource definitions before the release" {
  with upgrade '{"crds": "CreateReplace"}'
  echo "kind: CustomResourceDefinition" >"$chart_definitions"
  "$script" "$folder"
  run cat "$calls"
  [ "${lines[1]}" = "helm show crds thing-chart --repo https://charts.example.com --version 1.x" ]
  [[ "${lines[2]}" == "kubectl apply --server-side --force-conflicts -f "*/definitions.yaml ]]
  [[ "${lines[3]}" == "helm upgrade "* ]]
}

@test "applies no definitions where the chart has none" {
  with upgrade '{"crds": "CreateReplace"}'
  "$script" "$folder"
  [ "$(grep -c ^kubectl "$calls")" -eq 1 ]
}

@test "ends with the first failure" {
  # shellcheck disable=SC2016 # the text to replace has the variable's name
  sed -i 's/^cat "$file".*/exit 1/' "$BATS_TEST_TMPDIR/bin/kubectl"
  run "$script" "$folder"
  [ "$status" -ne 0 ]
  run grep -c helm "$calls"
  [ "$output" = 0 ]
}

@test "refuses what only Flux can do, before it applies anything" {
  with valuesFrom '[{"kind": "Secret", "name": "values"}]'
  run "$script" "$folder"
  [ "$status" -eq 1 ]
  [[ "$output" == *"HelmRelease thing: only Flux can do spec.valuesFrom"* ]]
  [ ! -s "$calls" ]
}

@test "names the repository that is missing" {
  sed -i 's/name: charts}$/name: absent}/' "$folder/objects.yaml"
  run "$script" "$folder"
  [ "$status" -eq 1 ]
  [[ "$output" == *"no HelmRepository absent in the namespace place"* ]]
  [ ! -s "$calls" ]
}

@test "works without helm where there is no release" {
  sed -i '/^apiVersion: helm/,$d' "$folder/objects.yaml"
  rm "$BATS_TEST_TMPDIR/bin/helm"
  "$script" "$folder"
  [ "$(grep -c . "$calls")" -eq 1 ]
}

@test "leaves no files behind" {
  mkdir "$BATS_TEST_TMPDIR/tmp"
  TMPDIR="$BATS_TEST_TMPDIR/tmp" "$script" "$folder"
  [ -z "$(ls "$BATS_TEST_TMPDIR/tmp")" ]
}

@test "says how it is used" {
  run "$script"
  [ "$status" -eq 2 ]
  run "$script" --what "$folder"
  [ "$status" -eq 2 ]
  run "$script" --context
  [ "$status" -eq 2 ]
  run "$script" "$folder" "$folder"
  [ "$status" -eq 2 ]
  run "$script" "$BATS_TEST_TMPDIR"
  [ "$status" -eq 1 ]
  run "$script" --help
  [ "$status" -eq 0 ]
  [[ "$output" == Usage:* ]]
}
