"""The overlays for a hub that is outgrown, as they are built."""

import os
import pathlib
import subprocess
import urllib.parse

import pytest
import yaml

import gates
import manifests
from pod import Pod, authority, spoke_file

STORES = {
    "mimir": "mimir-distributed",
    "thanos": "thanos",
    "victoria-metrics": "victoria-metrics-cluster",
}
OVERLAYS = [*STORES, "hub-pair"]
HUBGATE = {"app.kubernetes.io/name": "hubgate"}
TENANTS = {
    "mimir": {"X-Scope-OrgID": "${spoke}"},
    "thanos": {"THANOS-TENANT": "${spoke}"},
    "victoria-metrics": {},
    "hub-pair": {},
}

overlays = pytest.mark.parametrize("overlay", OVERLAYS)
stores = pytest.mark.parametrize("store", STORES)


def chart(store):
    """What is known about the chart of a store."""
    text = pathlib.Path(__file__).with_name("outgrown-charts.yaml").read_text()
    return yaml.safe_load(text)[STORES[store]]


def release(deploy, store):
    """The HelmRelease of a store."""
    return deploy.find(f"outgrown/{store}/release", "HelmRelease")


def hub_values(deploy, overlay):
    return deploy.values(f"outgrown/{overlay}")


def identity(it):
    return it["kind"], it["metadata"].get("namespace"), it["metadata"]["name"]


def by_identity(objects):
    return {identity(it): it for it in objects}


def test_each_overlay_is_checked_here(deploy):
    folders = [
        it.relative_to("outgrown").as_posix()
        for it in deploy.kustomizations()
        if it.is_relative_to("outgrown") and it.name != "release"
    ]
    assert sorted(folders) == sorted(OVERLAYS)


def files_of_the_configuration(deploy):
    """The files of hubgate's configuration in the base and in components, and how they are added."""
    found = {}
    for folder in [pathlib.Path("gateway/base"), *deploy.components()]:
        [it] = manifests.load_all((deploy.root / folder / "kustomization.yaml").read_text())
        for generator in it.get("configMapGenerator", []):
            if generator["name"] == "hubgate-config":
                files = {file: deploy.root / folder / file for file in generator["files"]}
                found[folder.as_posix()] = generator.get("behavior", "create"), files
    return found


def test_overlays_and_components_own_different_files_of_the_configuration(deploy):
    found = files_of_the_configuration(deploy)
    behavior, base = found.pop("gateway/base")
    assert behavior == "create"
    assert {it for it in found if it.startswith("outgrown/")} == {
        f"outgrown/{overlay}/gateway" for overlay in OVERLAYS
    }
    for folder, (behavior, files) in found.items():
        owned = "hubs.yaml" if folder.startswith("outgrown/") else "listen.yaml"
        assert (behavior, list(files)) == ("merge", [owned]), folder
        keys = set(manifests.load_all(files[owned].read_text())[0])
        others = [it.read_text() for name, it in base.items() if name != owned]
        assert not any(keys & set(manifests.load_all(it)[0]) for it in others), folder


@overlays
@pytest.mark.parametrize("component", ["client-certificates", "proxy-protocol"])
def test_an_overlay_goes_with_a_component_of_the_gateway(
    deploy, overlay, component, hubgate_bin, tmp_path
):
    root = os.path.relpath(deploy.root.resolve(), tmp_path.resolve())
    kustomization = {
        "resources": [f"{root}/outgrown/{overlay}"],
        "components": [f"{root}/gateway/components/{component}"],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    objects = manifests.load_all(manifests.build(tmp_path))
    [files] = [it["data"] for it in objects if it["metadata"]["name"] == "hubgate-config"]
    sources = files_of_the_configuration(deploy)
    for folder in (f"outgrown/{overlay}/gateway", f"gateway/components/{component}"):
        for name, file in sources[folder][1].items():
            assert files[name] == file.read_text(), name
    tls = authority(tmp_path, ["hubgate.example.com"])
    secrets = {
        "hubgate-tls": tls,
        "hubgate-client-ca": {"ca.crt": tls["ca.crt"]},
        "hubgate-spokes": {"a.yaml": spoke_file("a", "a" * 32)},
    }
    with Pod(objects, secrets) as gate:
        assert "the configuration is valid" in gate.check_config(hubgate_bin)


@overlays
def test_hubgate_takes_the_configuration(deploy, overlay, hubgate_bin, tmp_path):
    gate = gates.Gate(hubgate_bin, tmp_path, deploy.spokes()[:2])
    gate.configure(deploy, f"outgrown/{overlay}", addresses={})
    done = subprocess.run(
        [hubgate_bin, "check-config", "--strict", gate.config], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@overlays
def test_nothing_of_the_hub_changes_but_what_has_to(deploy, overlay):
    hub = by_identity(deploy.objects("hub"))
    changed = by_identity(deploy.objects(f"outgrown/{overlay}"))
    differing = {key for key in hub if hub[key] != changed.get(key)}
    assert differing == {
        ("ConfigMap", "hubgate", "hubgate-config"),
        ("HelmRelease", "monitoring", "kube-prometheus-stack"),
    }


@overlays
def test_spokes_are_not_touched(deploy, overlay):
    hub = by_identity(deploy.objects("hub"))
    objects = by_identity(deploy.objects(f"outgrown/{overlay}"))
    added = {key: it for key, it in objects.items() if key not in hub}
    kinds = {"Namespace", "HelmRepository", "HelmRelease", "NetworkPolicy"}
    assert {kind for kind, _, _ in added} <= kinds
    assert {namespace for _, namespace, _ in added} <= {None, "hubgate", overlay}
    # What they connect to, and what hubgate knows them by.
    service = ("Service", "hubgate", "hubgate")
    assert objects[service] == hub[service]
    assert deploy.hubgate_config(f"outgrown/{overlay}")["spoke_files"] == ["/etc/hubgate/spokes/*.yaml"]


@overlays
def test_the_tenant_is_the_spoke(deploy, overlay):
    for hub in deploy.hubgate_config(f"outgrown/{overlay}")["hubs"]:
        assert hub.get("headers", {}) == TENANTS[overlay]


@overlays
def test_flux_leaves_variables_of_others_alone(deploy, overlay):
    key = "kustomize.toolkit.fluxcd.io/substitute"
    for it in deploy.objects(f"outgrown/{overlay}"):
        if "${" in yaml.safe_dump(it):
            assert it["metadata"].get("annotations", {}).get(key) == "disabled", identity(it)


@stores
def test_the_chart_knows_each_key(deploy, store):
    known = chart(store)["keys"]

    def unknown(values, above=""):
        for key, value in values.items():
            path = f"{above}{key}"
            if path in known or f"{path}.*" in known:
                continue
            if isinstance(value, dict) and any(it.startswith(f"{path}.") for it in known):
                yield from unknown(value, f"{path}.")
            else:
                yield path

    assert list(unknown(release(deploy, store)["spec"]["values"])) == []


@stores
def test_the_chart_is_of_the_version_that_is_known(deploy, store):
    spec = release(deploy, store)["spec"]["chart"]["spec"]
    assert (spec["chart"], spec["version"]) == (STORES[store], chart(store)["version"])


def service_of(deploy, store, url):
    """The Service of the chart that a URL names, after a look at name, namespace and port."""
    name, namespace, *rest = urllib.parse.urlsplit(url).hostname.split(".")
    it = release(deploy, store)
    assert rest == ["svc"], url
    assert namespace == it["spec"].get("targetNamespace", it["metadata"]["namespace"]), url
    found = chart(store)["services"].get(name)
    assert found, f"{url}: the chart has no Service {name}"
    assert (urllib.parse.urlsplit(url).port or 80) in found["ports"], url
    return found


@stores
def test_each_url_names_a_service_of_the_store(deploy, store):
    values = hub_values(deploy, store)
    spec = values["prometheus"]["prometheusSpec"]
    ruler = values["thanosRuler"]["thanosRulerSpec"]
    [hub] = deploy.hubgate_config(f"outgrown/{store}")["hubs"]
    [hub_own], [recorded] = spec["remoteWrite"], ruler["remoteWrite"]
    [source] = values["grafana"]["additionalDataSources"]
    [query] = ruler["queryEndpoints"]
    for url in (hub["url"], source["url"], query):
        service_of(deploy, store, url)
    # The hub's own samples take the way of the others, under the tenant `hub`.
    assert hub["url"] == hub_own["url"] == recorded["url"]
    headers = {name: "hub" for name in hub.get("headers", {})}
    assert hub_own.get("headers", {}) == recorded.get("headers", {}) == headers
    # Grafana and the ruler ask the same.
    assert source["url"] == query.replace(":80/", "/")


def test_each_hub_of_the_pair_is_a_pod_of_the_prometheus(deploy):
    values = hub_values(deploy, "hub-pair")
    pods = [
        f"prometheus-kube-prometheus-stack-prometheus-{ordinal}"
        for ordinal in range(values["prometheus"]["prometheusSpec"]["replicas"])
    ]
    hubs = deploy.hubgate_config("outgrown/hub-pair")["hubs"]
    assert len(pods) == 2
    assert [it["url"] for it in hubs] == [
        f"http://{pod}.prometheus-operated.monitoring.svc:9090/api/v1/write" for pod in pods
    ]


@overlays
def test_the_hub_has_a_receiver_that_takes_late_samples(deploy, overlay):
    if overlay == "hub-pair":
        spec = hub_values(deploy, overlay)["prometheus"]["prometheusSpec"]
        assert spec["enableRemoteWriteReceiver"] is True
        window = spec["tsdb"]["outOfOrderTimeWindow"]
    else:
        values = release(deploy, overlay)["spec"]["values"]
        window = {
            "mimir": lambda: values["mimir"]["structuredConfig"]["limits"]["out_of_order_time_window"],
            "thanos": lambda: flag(values["receive"]["extraArgs"], "--tsdb.out-of-order.time-window"),
            # Takes samples of any time within its retention.
            "victoria-metrics": lambda: "2h" if values["vmstorage"]["retentionPeriod"] else "",
        }[overlay]()
    assert window == "2h"


def flag(arguments, name):
    [value] = [it.partition("=")[2] for it in arguments if it.partition("=")[0] == name]
    return value


@stores
def test_the_store_takes_the_labels_that_hubgate_lets_through(deploy, project, store):
    [example] = [
        it
        for it in (project / "docs/configuration.md").read_text().split("```")
        if it.startswith("yaml\n# hubgate.yaml\n")
    ]
    limits = manifests.load_all(example.removeprefix("yaml\n"))[0]["spoke_defaults"]["limits"]
    labels, length = limits["labels_per_series_max"], limits["label_value_bytes_max"]
    assert length == "64KiB"
    values = release(deploy, store)["spec"]["values"]
    if store == "mimir":
        given = values["mimir"]["structuredConfig"]["limits"]
        assert given["max_label_names_per_series"] >= labels
        assert given["max_label_value_length"] >= 64 << 10
        assert given["max_global_series_per_user"] >= 1_000_000
    elif store == "victoria-metrics":
        given = values["vminsert"]["extraArgs"]
        assert int(given["maxLabelsPerTimeseries"]) >= labels
        # The most that VictoriaMetrics can store.
        assert int(given["maxLabelValueLen"]) == 65535
    else:
        assert not [it for it in values["receive"]["extraArgs"] if "limits" in it]


@stores
def test_rules_are_evaluated_where_the_samples_are(deploy, store):
    values = hub_values(deploy, store)
    assert values["thanosRuler"]["enabled"] is True
    selector = values["prometheus"]["prometheusSpec"]["ruleSelector"]
    labels = {"release": "kube-prometheus-stack"}
    assert not selects(selector, labels)
    for it in deploy.objects("hub/monitoring/configs"):
        if it["kind"] == "PrometheusRule":
            assert not selects(selector, it["metadata"]["labels"])
            # The ruler's selector, which the chart makes of the name of the release.
            assert selects({"matchLabels": labels}, it["metadata"]["labels"])


@stores
def test_what_spokes_wrote_before_is_not_sent_again_by_the_hub(deploy, store):
    [write] = hub_values(deploy, store)["prometheus"]["prometheusSpec"]["remoteWrite"]
    first = write["writeRelabelConfigs"][0]
    assert first == {"sourceLabels": ["cluster"], "regex": "hub", "action": "keep"}


@stores
def test_no_secret_is_in_the_project(deploy, store):
    assert "Secret" not in [it["kind"] for it in deploy.objects(f"outgrown/{store}")]


def selects(selector, labels):
    """Whether a label selector selects an object with these labels."""
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for it in selector.get("matchExpressions", []):
        assert it["operator"] == "In"
        if labels.get(it["key"]) not in it["values"]:
            return False
    return True


def allowed(policies, direction, pod, peer, port):
    """Whether NetworkPolicies let through a connection of a pod, (namespace, labels) both."""
    side = {"Ingress": "from", "Egress": "to"}[direction]
    isolating = [
        it["spec"]
        for it in policies
        if it["metadata"]["namespace"] == pod[0]
        and direction in it["spec"]["policyTypes"]
        and selects(it["spec"]["podSelector"], pod[1])
    ]

    def is_peer(it):
        if "ipBlock" in it:
            return False
        if "namespaceSelector" in it:
            namespace = {"kubernetes.io/metadata.name": peer[0]}
            if not selects(it["namespaceSelector"], namespace):
                return False
        elif peer[0] != pod[0]:
            return False
        return selects(it.get("podSelector", {}), peer[1])

    def matches(rule):
        ports = [it["port"] for it in rule.get("ports", [])]
        peers = rule.get(side)
        return (not ports or port in ports) and (peers is None or any(map(is_peer, peers)))

    rules = [rule for spec in isolating for rule in spec.get(direction.lower(), [])]
    return not isolating or any(map(matches, rules))


def policies(deploy, folder):
    return [it for it in deploy.objects(folder) if it["kind"] == "NetworkPolicy"]


@stores
def test_hubgate_reaches_the_store_and_only_where_it_writes(deploy, store):
    [hub] = deploy.hubgate_config(f"outgrown/{store}")["hubs"]
    pods = service_of(deploy, store, hub["url"])["pods"]
    port = urllib.parse.urlsplit(hub["url"]).port
    rules = policies(deploy, f"outgrown/{store}")
    gate = ("hubgate", HUBGATE)

    def passes(labels, port):
        return allowed(rules, "Egress", gate, (store, labels), port) and allowed(
            rules, "Ingress", (store, labels), gate, port
        )

    assert passes(pods, port)
    assert not passes(pods, port + 1)
    for labels in chart(store)["others"]:
        assert not passes(labels, port)
    # As before: for the way back, and for the time with both.
    prometheus = ("monitoring", {"app.kubernetes.io/name": "prometheus"})
    assert allowed(rules, "Egress", gate, prometheus, 9090)


@stores
def test_only_the_monitoring_reads_from_the_store(deploy, store):
    rules = policies(deploy, f"outgrown/{store}")
    [source] = hub_values(deploy, store)["grafana"]["additionalDataSources"]
    service = service_of(deploy, store, source["url"])
    pod = (store, service["pods"])
    for name in ("grafana", "prometheus", "thanos-ruler"):
        peer = ("monitoring", {"app.kubernetes.io/name": name})
        assert all(allowed(rules, "Ingress", pod, peer, port) for port in service["ports"])
    others = [("hubgate", HUBGATE), ("default", {"app.kubernetes.io/name": "grafana"}),
              ("monitoring", {"app.kubernetes.io/name": "node-exporter"})]  # fmt: skip
    for peer in others:
        assert not any(allowed(rules, "Ingress", pod, peer, port) for port in service["ports"])


def test_hubgate_reaches_both_of_the_pair(deploy):
    rules = policies(deploy, "outgrown/hub-pair")
    gate = ("hubgate", HUBGATE)
    pod = ("monitoring", {"app.kubernetes.io/name": "prometheus"})
    assert allowed(rules, "Egress", gate, pod, 9090)
    assert not allowed(rules, "Egress", gate, ("mimir", {}), 8080)


@stores
def test_the_store_lives_in_a_restricted_namespace(deploy, store):
    namespace = deploy.find(f"outgrown/{store}/release", "Namespace")
    assert namespace["metadata"]["name"] == store
    labels = namespace["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def flux_components(deploy):
    """What the guide adds to Kustomizations of Flux, by their names."""
    text = (deploy.root / "outgrown/README.md").read_text()
    table = text.split("| Kustomization | `spec.components` |\n|---|---|\n")[1].split("\n\n")[0]
    rows = (row.split("|")[1:3] for row in table.splitlines())
    return {name.strip(" `"): component.strip(" `") for name, component in rows}


@overlays
def test_with_flux_the_folders_of_the_guide_build_the_same(deploy, overlay, tmp_path):
    flux = manifests.load_all((deploy.root / "hub/flux.yaml").read_text())
    paths = {it["metadata"]["name"]: it["spec"]["path"] for it in flux}
    built = []
    for name, component in flux_components(deploy).items():
        folder = deploy.root / paths[name].removeprefix("./deploy/")
        component = folder / component.replace("/mimir/", f"/{overlay}/")
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [os.path.relpath(folder.resolve(), tmp_path / name)],
            "components": [os.path.relpath(component.resolve(), tmp_path / name)],
        }
        (tmp_path / name).mkdir()
        (tmp_path / name / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        built += manifests.load_all(manifests.build(tmp_path / name))
    assert len(built) > 10
    if overlay in STORES:
        built += deploy.objects(f"outgrown/{overlay}/release")
    assert by_identity(built) == by_identity(deploy.objects(f"outgrown/{overlay}"))


def readme_configurations(deploy):
    """The examples of hubs.yaml in the guide."""
    parts = (deploy.root / "outgrown/README.md").read_text().split("```yaml\n# hubs.yaml\n")[1:]
    return [it.split("```")[0] for it in parts]


def test_hubgate_takes_the_examples_of_the_guide(deploy, hubgate_bin, tmp_path):
    examples = readme_configurations(deploy)
    assert examples
    for number, example in enumerate(examples):
        gate = gates.Gate(hubgate_bin, tmp_path / str(number), deploy.spokes()[:2])
        whole = deploy.hubgate_config("gateway/base") | manifests.load_all(example)[0]
        gate.write(gates.derive.with_paths(whole, gate.paths))
        done = subprocess.run(
            [hubgate_bin, "check-config", "--strict", gate.config], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
