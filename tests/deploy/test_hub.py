"""The hub's stack is right for the series of many clusters."""

import json
import re
import subprocess
import time
import urllib.request

import pytest
import yaml

import manifests
import promrules

CONFIGS = "hub/monitoring/configs"
CONTROLLERS = "hub/monitoring/controllers/kube-prometheus-stack"

# The alerts of the chart that cannot tell clusters apart, and what is in their place. With the three
# in the middle, the chart leaves out their group, which has a second alert.
REPLACED = {
    "KubeAPIDown": {"ClusterAPIDown"},
    "KubeControllerManagerDown": {"ClusterComponentDown", "ClusterComponentInstanceDown"},
    "KubeProxyDown": {"ClusterComponentDown", "ClusterComponentInstanceDown"},
    "KubeSchedulerDown": {"ClusterComponentDown", "ClusterComponentInstanceDown"},
    "PrometheusNotConnectedToAlertmanagers": {"PrometheusNotConnectedToAlertmanagers"},
}


@pytest.fixture
def values(deploy):
    return deploy.values("hub")


@pytest.fixture
def prometheus(values):
    return values["prometheus"]["prometheusSpec"]


@pytest.fixture
def clusters(deploy):
    return promrules.from_build(deploy, CONFIGS, "clusters")


def walk(value):
    """Every key and every leaf of a tree."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield key
            yield from walk(below)
    elif isinstance(value, list):
        for below in value:
            yield from walk(below)
    else:
        yield value


def seconds(duration):
    """A duration of one unit, as Go and Prometheus write it."""
    number, unit = re.fullmatch(r"(\d+)([smhd])", duration).groups()
    return int(number) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]


def gigabytes(quantity):
    number, unit = re.fullmatch(r"(\d+)(GB|Gi)", quantity).groups()
    return int(number) * {"GB": 1, "Gi": 2**30 / 10**9}[unit]


# The release


def test_release_has_the_names_that_rules_and_the_gateway_rely_on(deploy):
    release = deploy.find("hub", "HelmRelease")
    assert release["metadata"]["namespace"] == "monitoring"
    names = [release["spec"][it] for it in ("releaseName", "targetNamespace", "storageNamespace")]
    assert names == ["kube-prometheus-stack", "monitoring", "monitoring"]


def test_release_brings_and_updates_the_resource_types(deploy):
    spec = deploy.find("hub", "HelmRelease")["spec"]
    assert (spec["install"]["crds"], spec["upgrade"]["crds"]) == ("Create", "CreateReplace")
    assert spec["install"]["strategy"] == spec["upgrade"]["strategy"]
    assert spec["install"]["strategy"]["name"] == "RetryOnFailure"


def test_release_stays_within_the_version_of_the_chart_that_was_checked(deploy):
    assert deploy.find("hub", "HelmRelease")["spec"]["chart"]["spec"]["version"] == "88.x"


def test_namespace_of_monitoring_lets_in_node_exporter_and_survives_flux(deploy):
    namespace = deploy.find("infra-controllers", "Namespace")["metadata"]
    assert namespace["name"] == "monitoring"
    assert namespace["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"
    assert namespace["annotations"]["kustomize.toolkit.fluxcd.io/prune"] == "disabled"


# Prometheus


def test_prometheus_is_not_reachable_from_outside(deploy, values):
    assert values["prometheus"]["service"] == {"type": "ClusterIP"}
    assert {"LoadBalancer", "NodePort"} & set(walk(values)) == set()
    exposed = [it for it in deploy.objects("hub") if it["kind"] in ("Ingress", "HTTPRoute")]
    assert exposed == []


def test_prometheus_receives_remote_write(prometheus):
    assert prometheus["enableRemoteWriteReceiver"] is True


def test_no_prometheus_gets_the_flag_that_it_refuses(deploy, kustomization):
    # The operator joins the list with a comma; Prometheus ends with `unknown type`.
    assert "remoteWriteReceiverMessageVersions" not in set(walk(deploy.objects(kustomization)))


def test_hub_takes_samples_as_late_as_a_spoke_sends_them(deploy, prometheus, spoke):
    [remote] = deploy.values(f"clusters/{spoke}")["prometheus"]["prometheusSpec"]["remoteWrite"]
    window = seconds(prometheus["tsdb"]["outOfOrderTimeWindow"])
    assert window >= seconds(remote["queueConfig"]["sampleAgeLimit"])


def test_one_prometheus_has_all_samples(prometheus):
    assert prometheus["replicas"] == 1


def test_volume_has_room_for_more_than_the_blocks(prometheus):
    assert prometheus["retention"] == "30d"
    claim = prometheus["storageSpec"]["volumeClaimTemplate"]["spec"]
    volume = gigabytes(claim["resources"]["requests"]["storage"])
    assert gigabytes(prometheus["retentionSize"]) <= 0.85 * volume


def test_every_series_and_alert_of_the_hub_has_its_cluster_label(prometheus):
    [scrape_class] = prometheus["scrapeClasses"]
    assert scrape_class["default"] is True
    assert scrape_class["relabelings"] == [
        {"targetLabel": "cluster", "replacement": "hub", "action": "replace"}
    ]
    assert prometheus["externalLabels"] == {"cluster": "hub"}
    # A raw text, which the scrape class does not reach.
    assert "additionalScrapeConfigs" not in prometheus


def test_no_spoke_is_called_as_the_hub(deploy):
    assert "hub" not in deploy.spokes()


def test_prometheus_has_connections_for_every_replica_of_hubgate(deploy, prometheus):
    replicas = [
        it["spec"].get("maxReplicas") or it["spec"].get("replicas", 1)
        for it in deploy.objects("hub")
        if it["kind"] in ("HorizontalPodAutoscaler", "Deployment")
    ]
    assert prometheus["web"]["maxConnections"] >= 512 + 256 * max(replicas)


def test_network_policy_lets_in_hubgate_and_lets_out_scrapes(deploy, values):
    policy = values["prometheus"]["networkPolicy"]
    assert policy["enabled"] is True
    assert policy["egress"] == [{}]
    hubgate = deploy.find("hub", "Deployment", "hubgate")
    namespace = {"kubernetes.io/metadata.name": hubgate["metadata"]["namespace"]}
    labels = hubgate["spec"]["template"]["metadata"]["labels"]
    ports = [
        [port["port"] for port in rule["ports"]]
        for rule in policy["ingress"]
        for peer in rule["from"]
        if peer.get("namespaceSelector", {}).get("matchLabels") == namespace
        and peer["podSelector"]["matchLabels"].items() <= labels.items()
    ]
    assert ports == [[9090]]
    # Without a selector of a namespace, a peer is in the namespace of Prometheus.
    others = [peer for rule in policy["ingress"] for peer in rule["from"]]
    assert all(peer.get("podSelector", {}).get("matchLabels") for peer in others)


def test_hubgate_writes_to_the_service_of_this_release(deploy):
    release = deploy.find("hub", "HelmRelease")["spec"]
    service = f"{release['releaseName']}-prometheus.{release['targetNamespace']}.svc"
    [hub] = deploy.hubgate_config("hub")["hubs"]
    assert hub["url"] == f"http://{service}:9090/api/v1/write"


# Grafana


def test_grafana_takes_its_password_from_a_secret(values):
    admin = {"existingSecret": "grafana-admin", "userKey": "admin-user"}
    assert values["grafana"]["admin"] == {**admin, "passwordKey": "admin-password"}
    assert "adminPassword" not in set(walk(values))


def test_dashboards_have_a_choice_of_the_cluster(values, prometheus):
    dashboards = values["grafana"]["sidecar"]["dashboards"]
    assert dashboards["multicluster"]["global"]["enabled"] is True
    assert prometheus["remoteWriteDashboards"] is True


# Rules


def test_alerts_that_cannot_tell_clusters_apart_are_replaced(values, clusters):
    disabled = values["defaultRules"]["disabled"]
    assert disabled == dict.fromkeys(REPLACED, True)
    assert set.union(*REPLACED.values()) <= set(clusters.alerts())


def test_rules_of_the_chart_keep_clusters_apart(values):
    assert values["defaultRules"]["additionalAggregationLabels"] == ["cluster"]
    assert values["defaultRules"]["rules"] == {"kubePrometheusNodeRecording": False}
    # Late samples must not make a rule see a part of them.
    assert seconds(values["prometheus"]["prometheusSpec"]["ruleQueryOffset"]) >= 60


def test_no_rule_of_ours_asks_for_absence_in_all_clusters_together(deploy):
    for it in deploy.objects(CONFIGS):
        if it["kind"] == "PrometheusRule":
            for rule in promrules.Rules(it):
                for argument in re.findall(r"absent(?:_over_time)?\(([^)]*)", rule["expr"]):
                    assert re.search(r'\bcluster=~?"', argument), rule


def test_what_the_operator_and_grafana_select_has_their_label(deploy):
    for it in deploy.objects(CONFIGS):
        labels = it["metadata"].get("labels", {})
        if it["kind"] in ("PrometheusRule", "ServiceMonitor", "PodMonitor"):
            assert labels.get("release") == "kube-prometheus-stack", it["metadata"]


def test_rules_about_clusters_are_valid(clusters, tmp_path):
    clusters.check(tmp_path)


def test_rules_about_clusters_pass_their_unit_tests(clusters, tmp_path):
    clusters.test("clusters_test.yaml", tmp_path)


def test_each_alert_about_clusters_is_seen_firing_and_quiet(clusters):
    alerts = set(clusters.alerts())
    assert promrules.cases("clusters_test.yaml") == (alerts, alerts)


# Alertmanager


@pytest.fixture
def alertmanager_config(values, tmp_path):
    """The file that Alertmanager reads."""
    file = tmp_path / "alertmanager.yaml"
    file.write_text(yaml.safe_dump(values["alertmanager"]["config"]))
    return file


def test_alertmanager_takes_its_configuration(alertmanager_config):
    done = subprocess.run(
        ["amtool", "check-config", str(alertmanager_config)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 inhibit rules" in done.stdout


@pytest.fixture
def alertmanager(alertmanager_program, alertmanager_config, tmp_path):
    """The URL of a real Alertmanager with that configuration."""
    log = tmp_path / "log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [
                alertmanager_program,
                f"--config.file={alertmanager_config}",
                f"--storage.path={tmp_path / 'data'}",
                "--web.listen-address=127.0.0.1:0",
                "--cluster.listen-address=",
            ],
            stderr=stderr,
        )

    def address():
        assert process.poll() is None, log.read_text()
        return re.search(r'msg="Listening on" address=(\S+)', log.read_text())

    try:
        yield f"http://{until(address, log.read_text).group(1)}/api/v2"
    finally:
        process.kill()
        process.wait()


def until(found, otherwise):
    """Waits until `found` finds something, and returns that."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if it := found():
            return it
        time.sleep(0.05)
    raise AssertionError(otherwise())


def inhibited(alertmanager, *alerts):
    """Sends alerts, and returns which of them others silence."""
    body = json.dumps([{"labels": dict(labels)} for labels in alerts]).encode()
    request = urllib.request.Request(
        f"{alertmanager}/alerts", body, {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request).close()

    def states():
        with urllib.request.urlopen(f"{alertmanager}/alerts") as response:
            found = json.load(response)
        silent = [it["labels"] for it in found if it["status"]["inhibitedBy"]]
        # The last alert shows that Alertmanager has seen all of them.
        return silent if len(found) == len(alerts) and alerts[-1] in silent else None

    silent = until(states, lambda: f"not all of {alerts} arrived, or the last is not silent")
    return [it for it in alerts if it in silent]


def alert(name, cluster, severity, namespace="shop"):
    return {
        "alertname": name,
        "cluster": cluster,
        "namespace": namespace,
        "severity": severity,
    }


def test_an_alert_silences_lesser_ones_of_its_own_cluster_only(alertmanager):
    elsewhere = alert("DiskFull", "staging", "warning")
    here = alert("DiskFull", "production", "warning")
    silent = inhibited(alertmanager, alert("DiskFull", "production", "critical"), elsewhere, here)
    assert silent == [here]


def test_an_info_alert_is_silent_unless_its_own_cluster_has_a_worse_one(alertmanager):
    elsewhere = alert("Busy", "production", "info")
    inhibitor = alert("InfoInhibitor", "staging", "none")
    here = alert("Busy", "staging", "info")
    assert inhibited(alertmanager, elsewhere, inhibitor, here) == [inhibitor, here]


def test_a_notification_is_about_one_cluster(values):
    assert "cluster" in values["alertmanager"]["config"]["route"]["group_by"]


# Flux's objects


def test_state_of_flux_is_told_by_the_hub_and_every_spoke_alike(deploy, values):
    for spoke in deploy.spokes():
        ours = deploy.values(f"clusters/{spoke}")["kube-state-metrics"]
        for key in ("customResourceState", "rbac"):
            assert ours[key] == values["kube-state-metrics"][key]


def test_kube_state_metrics_keeps_its_usual_metrics(values):
    assert values["kube-state-metrics"].keys() == {"customResourceState", "rbac", "resources"}


def test_state_of_flux_is_read_from_versions_that_are_served_and_may_be_listed(values):
    ours = values["kube-state-metrics"]
    allowed = {
        (group, resource)
        for rule in ours["rbac"]["extraRules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        if rule["verbs"] == ["list", "watch"]
    }
    listed = set()
    for resource in ours["customResourceState"]["config"]["spec"]["resources"]:
        kind = resource["groupVersionKind"]
        listed.add((kind["group"], re.sub("ys$", "ies", kind["kind"].lower() + "s")))
        assert kind["version"] == ("v2" if kind["kind"] == "HelmRelease" else "v1")
        [metric] = resource["metrics"]
        assert resource["metricNamePrefix"] + "_" + metric["name"] == "gotk_resource_info"
    assert listed == allowed


# Flux


@pytest.fixture
def flux(deploy):
    """The Flux Kustomizations of the hub, by name."""
    found = manifests.load_all((deploy.root / "hub/flux.yaml").read_text())
    return {it["metadata"]["name"]: it["spec"] for it in found}


def test_flux_applies_every_object_of_the_hub_once(deploy, flux):
    def identities(folder):
        return [
            (it["kind"], it["metadata"].get("namespace"), it["metadata"]["name"])
            for it in deploy.objects(folder)
        ]

    by_flux = [
        it for spec in flux.values() for it in identities(spec["path"].removeprefix("./deploy/"))
    ]
    assert sorted(by_flux, key=str) == sorted(identities("hub") + identities(CONFIGS), key=str)


def test_flux_waits_for_what_brings_the_resource_types(deploy, flux):
    dependencies = {name: spec.get("dependsOn", []) for name, spec in flux.items()}
    assert dependencies == {
        "monitoring-controllers": [],
        "hubgate": [],
        "monitoring-configs": [{"name": "monitoring-controllers"}],
    }
    assert all(spec["wait"] and spec["prune"] for spec in flux.values())
    assert flux["monitoring-controllers"]["path"] == f"./deploy/{CONTROLLERS}"
    release = deploy.find(CONTROLLERS, "HelmRelease")["spec"]
    assert seconds(flux["monitoring-controllers"]["timeout"]) > seconds(release["timeout"])
