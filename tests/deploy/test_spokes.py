"""A spoke's stack has its figures, and its remote write follows from its declaration alone."""

import ipaddress
import re
import urllib.parse

import pytest

import clusters
import manifests

FIGURES = {
    "production": {
        "cpu": "100m",
        "memory": "400Mi",
        "storage": "2Gi",
        "retention": "2h",
        "retentionSize": "1600MB",
        "maxShards": 10,
    },
    "staging": {
        "cpu": "75m",
        "memory": "300Mi",
        "storage": "1Gi",
        "retention": "2h",
        "retentionSize": "800MB",
        "maxShards": 5,
    },
}

# What a cluster may set for itself in infra-controllers/, and what its declaration sets.
SIZES = [
    ("resources",),
    ("retention",),
    ("retentionSize",),
    ("storageSpec",),
    ("remoteWrite", 0, "queueConfig", "maxShards"),
]
DECLARED = [
    ("externalLabels", "cluster"),
    ("remoteWrite", 0, "url"),
    ("remoteWrite", 0, "tlsConfig", "serverName"),
]

# Metrics that rules and dashboards of the hub select, or that the guide tells readers to look at.
NEEDED_AT_THE_HUB = [
    "apiserver_request_sli_duration_seconds_bucket",
    "apiserver_request_total",
    "container_cpu_usage_seconds_total",
    "etcd_disk_wal_fsync_duration_seconds_bucket",
    "go_goroutines",
    "go_info",
    "gotk_resource_info",
    "kube_node_info",
    "kube_pod_container_resource_requests",
    "kubelet_pod_worker_duration_seconds_bucket",
    "node_memory_MemAvailable_bytes",
    "process_resident_memory_bytes",
    "prometheus_build_info",
    "prometheus_remote_storage_samples_failed_total",
    "prometheus_remote_storage_samples_total",
    "up",
]


def cluster(spoke):
    return f"clusters/{spoke}"


def prometheus(deploy, spoke):
    return deploy.values(cluster(spoke))["prometheus"]["prometheusSpec"]


def remote_write(deploy, spoke):
    [remote] = prometheus(deploy, spoke)["remoteWrite"]
    return remote


def keys(value):
    """Every key in a tree, at any depth."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield key
            yield from keys(below)
    elif isinstance(value, list):
        for below in value:
            yield from keys(below)


def without(spec, paths):
    for *parents, last in paths:
        at = spec
        for parent in parents:
            at = at[parent]
        at.pop(last, None)
    return spec


@pytest.mark.parametrize("name", FIGURES)
def test_has_its_figures(deploy, name):
    spec = prometheus(deploy, name)
    found = {
        **spec["resources"]["requests"],
        "storage": spec["storageSpec"]["volumeClaimTemplate"]["spec"]["resources"]["requests"][
            "storage"
        ],
        "retention": spec["retention"],
        "retentionSize": spec["retentionSize"],
        "maxShards": spec["remoteWrite"][0]["queueConfig"]["maxShards"],
    }
    assert found == FIGURES[name]


def test_declares_a_cluster_named_as_its_folder(deploy, spoke):
    declared = deploy.declaration(spoke)
    assert declared["cluster"] == spoke
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", spoke)
    for source_range in declared["source_ranges"].split(","):
        ipaddress.ip_network(source_range)


def test_sends_what_its_declaration_says_where_it_says(deploy, spoke):
    declared = deploy.declaration(spoke)
    remote = remote_write(deploy, spoke)
    assert prometheus(deploy, spoke)["externalLabels"] == {"cluster": declared["cluster"]}
    assert remote["name"] == "hub"
    assert remote["url"] == declared["url"]
    assert remote["tlsConfig"]["serverName"] == declared["server_name"]


def test_sends_over_tls_to_the_write_path(deploy, spoke):
    url = urllib.parse.urlsplit(remote_write(deploy, spoke)["url"])
    assert (url.scheme, url.path, url.query) == ("https", "/api/v1/write", "")
    assert url.hostname and url.username is None


def test_shows_the_credential_that_its_declaration_names(deploy, spoke):
    declared = deploy.declaration(spoke)
    authorization = remote_write(deploy, spoke)["authorization"]
    assert authorization.pop("type") == "Bearer"
    if declared["credential"] == "token":
        assert authorization == {"credentials": {"name": "hubgate", "key": "token"}}
    else:
        assert declared["credential"] == "service-account"
        assert declared["issuer"].startswith("https://")
        assert list(authorization) == ["credentialsFile"]


def test_trusts_the_authority_of_the_gateway_only(deploy, spoke):
    tls = remote_write(deploy, spoke)["tlsConfig"]
    assert tls["ca"] == {"configMap": {"name": "hubgate-ca", "key": "ca.crt"}}
    assert "insecureSkipVerify" not in tls


def test_sends_no_label_of_its_replica(deploy, spoke):
    spec = prometheus(deploy, spoke)
    assert spec["replicas"] == 1
    assert spec["replicaExternalLabelNameClear"] is True
    assert spec["prometheusExternalLabelNameClear"] is True


def test_keeps_what_the_hub_refuses_for_now(deploy, spoke):
    remote = remote_write(deploy, spoke)
    queue = remote["queueConfig"]
    assert queue.pop("maxShards") in range(1, 51)
    assert queue == {
        "capacity": 10000,
        "maxSamplesPerSend": 2000,
        "minShards": 1,
        "batchSendDeadline": "5s",
        "minBackoff": "100ms",
        "maxBackoff": "10s",
        "retryOnRateLimit": True,
        "sampleAgeLimit": "2h",
    }
    assert remote["remoteTimeout"] == "30s"
    assert remote["messageVersion"] == "V2.0"
    assert remote["metadataConfig"] == {"send": False}


def test_drops_no_metric_that_the_hub_needs(deploy, spoke):
    rules = remote_write(deploy, spoke)["writeRelabelConfigs"]
    for rule in rules:
        assert (rule["action"], rule["sourceLabels"]) == ("drop", ["__name__"])
        dropped = [it for it in NEEDED_AT_THE_HUB if re.fullmatch(rule["regex"], it)]
        assert dropped == []


def test_drops_metrics_that_cost_much_and_are_not_needed(deploy, spoke):
    [rule] = remote_write(deploy, spoke)["writeRelabelConfigs"]
    for metric in (
        "apiserver_request_duration_seconds_bucket",
        "go_gc_duration_seconds",
        "go_memstats_alloc_bytes",
    ):
        assert re.fullmatch(rule["regex"], metric)


def test_runs_no_dashboards_alerts_rules_or_webhooks(deploy, spoke):
    values = deploy.values(cluster(spoke))
    assert values["grafana"] == {"enabled": False}
    assert values["alertmanager"] == {"enabled": False}
    assert values["defaultRules"] == {"create": False}
    # With the webhooks alone off, the operator's pod waits for a Secret that nobody makes.
    assert values["prometheusOperator"]["admissionWebhooks"] == {"enabled": False}
    assert values["prometheusOperator"]["tls"] == {"enabled": False}


def test_has_no_setting_that_loses_data_or_opens_a_door(deploy, spoke):
    release = deploy.find(cluster(spoke), "HelmRelease")
    forbidden = {
        "additionalRemoteWrite",  # a second list that the declaration does not reach
        "basicAuth",
        "bearerToken",
        "bearerTokenFile",
        "enableRemoteWriteReceiver",
        "fullnameOverride",
        "headers",
        "insecureSkipVerify",
        "maxRetries",  # the operator drops it without a word
        "nameOverride",
        "oauth2",
        "remoteWriteReceiverMessageVersions",
        "sigv4",
        "valuesFrom",
    }
    assert forbidden.isdisjoint(keys(release["spec"]))


def test_gives_the_release_the_same_name_as_at_the_hub(deploy, spoke):
    release = deploy.find(cluster(spoke), "HelmRelease")
    spec = release["spec"]
    assert release["metadata"]["name"] == "kube-prometheus-stack"
    assert release["metadata"]["namespace"] == "monitoring"
    assert spec["releaseName"] == "kube-prometheus-stack"
    assert spec["targetNamespace"] == spec["storageNamespace"] == "monitoring"


def test_retries_a_release_that_failed(deploy, spoke):
    spec = deploy.find(cluster(spoke), "HelmRelease")["spec"]
    assert spec["chart"]["spec"]["version"] == "88.x"
    for action, crds in (("install", "Create"), ("upgrade", "CreateReplace")):
        assert spec[action]["crds"] == crds
        assert spec[action]["strategy"] == {"name": "RetryOnFailure", "retryInterval": "5m"}
    assert spec["driftDetection"]["mode"] == "enabled"


def test_applies_the_release_and_what_it_needs_but_no_declaration(deploy, spoke):
    kinds = sorted(it["kind"] for it in deploy.objects(cluster(spoke)))
    assert kinds == ["HelmRelease", "HelmRepository", "Namespace"]


def test_is_what_its_flux_kustomization_applies(deploy, spoke):
    flux = manifests.load_all((deploy.root / cluster(spoke) / "flux.yaml").read_text())
    paths = [it["spec"]["path"] for it in flux]
    assert paths == [f"./deploy/clusters/{spoke}"]
    for it in flux:
        assert it["apiVersion"] == "kustomize.toolkit.fluxcd.io/v1"
        assert it["spec"]["sourceRef"] == {"kind": "GitRepository", "name": "flux-system"}


def test_tells_the_hub_what_flux_reconciles(deploy):
    for name in FIGURES:
        state = deploy.values(cluster(name))["kube-state-metrics"]["customResourceState"]
        assert state["enabled"] is True


def test_works_without_flux_metrics_as_well(deploy, tmp_path):
    copy = clusters.copy(deploy, tmp_path)
    path = copy.root / "clusters/staging/kustomization.yaml"
    path.write_text(path.read_text().replace("  - ../../components/flux-metrics\n", ""))
    assert "customResourceState" not in copy.values(cluster("staging"))["kube-state-metrics"]
    assert prometheus(copy, "staging") == prometheus(deploy, "staging")


def test_a_cluster_made_of_the_template_sends_as_itself(deploy, tmp_path):
    copy = clusters.with_cluster(deploy, tmp_path, "eu-west-1")
    assert "eu-west-1" in copy.spokes()
    folder = copy.root / "clusters" / "eu-west-1"
    assert "CLUSTER_NAME" not in "".join(
        f"{it}{it.read_text()}" for it in folder.rglob("*") if it.is_file()
    )
    text = {manifests.build(folder, kubectl) for kubectl in ("kubectl", "kubectl-1.30")}
    assert len(text) == 1
    assert prometheus(copy, "eu-west-1")["externalLabels"] == {"cluster": "eu-west-1"}


@pytest.mark.parametrize("name", FIGURES)
def test_differs_from_the_template_in_its_sizes_and_declaration_only(deploy, tmp_path, name):
    copy = clusters.with_cluster(deploy, tmp_path, "scaffolded")
    theirs, ours = copy.objects(cluster("scaffolded")), deploy.objects(cluster(name))
    for objects in (theirs, ours):
        [release] = [it for it in objects if it["kind"] == "HelmRelease"]
        without(release["spec"]["values"]["prometheus"]["prometheusSpec"], SIZES + DECLARED)
    assert ours == theirs
    flux = (deploy.root / cluster(name) / "flux.yaml").read_text()
    template = (deploy.root / "clusters/_template/flux.yaml").read_text()
    assert flux == template.replace("CLUSTER_NAME", name)


def test_the_template_has_the_sizes_of_staging(deploy, tmp_path):
    copy = clusters.with_cluster(deploy, tmp_path, "scaffolded")
    theirs = without(prometheus(copy, "scaffolded"), DECLARED)
    assert theirs == without(prometheus(deploy, "staging"), DECLARED)


def test_an_agent_keeps_no_blocks_and_sends_the_same(deploy, spoke, tmp_path):
    copy = clusters.with_components(deploy, tmp_path, spoke, "agent-mode")
    assert copy.values(cluster(spoke))["prometheus"]["agentMode"] is True
    spec = prometheus(copy, spoke)
    assert {"retention", "retentionSize"}.isdisjoint(spec)
    assert spec["resources"]["requests"] == {"cpu": "50m", "memory": "200Mi"}
    assert spec["remoteWrite"] == prometheus(deploy, spoke)["remoteWrite"]
    assert spec["externalLabels"] == prometheus(deploy, spoke)["externalLabels"]


def test_a_service_account_token_takes_the_place_of_the_secret(deploy, spoke, tmp_path):
    copy = clusters.with_components(deploy, tmp_path, spoke, "service-account-token")
    spec, remote = prometheus(copy, spoke), remote_write(copy, spoke)
    file = remote["authorization"].pop("credentialsFile")
    # The operator refuses a `credentials` beside it.
    assert remote["authorization"] == {"type": "Bearer"}
    [volume], [mount] = spec["volumes"], spec["volumeMounts"]
    [source] = volume["projected"]["sources"]
    token = source["serviceAccountToken"]
    assert token["audience"] == f"hubgate-{spoke}"
    assert mount["name"] == volume["name"]
    assert file == f"{mount['mountPath']}/{token['path']}"
    # Whose token it is: the chart names the ServiceAccount after the release.
    assert "serviceAccount" not in copy.values(cluster(spoke))["prometheus"]
    # The rest of the remote write is as it was.
    before = remote_write(deploy, spoke)
    del remote["authorization"], before["authorization"]
    assert remote == before


def test_an_audience_holds_the_whole_of_a_name_with_hyphens(deploy, tmp_path):
    scaffolded = clusters.with_cluster(deploy, tmp_path / "scaffolded", "eu-west-1")
    copy = clusters.with_components(
        scaffolded, tmp_path / "changed", "eu-west-1", "service-account-token"
    )
    [volume] = prometheus(copy, "eu-west-1")["volumes"]
    [source] = volume["projected"]["sources"]
    assert source["serviceAccountToken"]["audience"] == "hubgate-eu-west-1"


def test_both_components_go_together_in_either_order(deploy, tmp_path):
    options = ["agent-mode", "service-account-token"]
    built = []
    for order in (options, options[::-1]):
        copy = clusters.with_components(deploy, tmp_path / order[0], "staging", *order)
        folder = copy.root / cluster("staging")
        built += [manifests.build(folder, kubectl) for kubectl in ("kubectl", "kubectl-1.30")]
    assert len(set(built)) == 1
    values = copy.values(cluster("staging"))["prometheus"]
    assert values["agentMode"] is True
    assert "credentialsFile" in values["prometheusSpec"]["remoteWrite"][0]["authorization"]
