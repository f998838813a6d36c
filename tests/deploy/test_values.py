"""The values of each release of kube-prometheus-stack are ones that the chart knows.

The chart has no schema of its values: Helm drops a key that it does not know without a word."""

import functools

import pytest

import schemas

CHART = "kube-prometheus-stack"

# Keys of `prometheusSpec` that the chart turns into a field of another name, or into none.
OF_THE_CHART = {
    "additionalRemoteWrite",
    "podAntiAffinity",
    "podAntiAffinityTopologyKey",
    "podMonitorSelectorNilUsesHelmValues",
    "probeSelectorNilUsesHelmValues",
    "prometheusExternalLabelNameClear",
    "remoteWriteDashboards",
    "replicaExternalLabelNameClear",
    "ruleSelectorNilUsesHelmValues",
    "scrapeConfigSelectorNilUsesHelmValues",
    "serviceMonitorSelectorNilUsesHelmValues",
}
RENAMED = {"storageSpec": "storage"}


@functools.cache
def known_keys():
    """Every path that the chart knows, and the paths that have others below them."""
    paths = (schemas.FOLDER / f"{CHART}-88.5.3.txt").read_text().split()
    parents = {path.rsplit(".", count)[0] for path in paths for count in range(1, path.count(".") + 1)}
    return set(paths), parents


def unknown_keys(values, above=""):
    """The paths of keys that the chart does not know."""
    paths, parents = known_keys()
    for key, value in values.items():
        path = f"{above}{key}"
        if path not in paths | parents:
            yield path
        elif isinstance(value, dict) and path in parents:
            yield from unknown_keys(value, f"{path}.")


def releases(deploy, kustomization):
    return [
        it
        for it in deploy.objects(kustomization)
        if it["kind"] == "HelmRelease" and it["spec"]["chart"]["spec"]["chart"] == CHART
    ]


def resource_errors(values):
    """What the API server would refuse of the Prometheus that the chart makes of the values."""
    prometheus = values["prometheus"]
    kind, version = ("Prometheus", "v1")
    if prometheus.get("agentMode"):
        kind, version = ("PrometheusAgent", "v1alpha1")
    schema = schemas.custom("monitoring.coreos.com", kind, version)["schema"]
    spec = {
        RENAMED.get(key, key): value
        for key, value in prometheus["prometheusSpec"].items()
        if key not in OF_THE_CHART
    }
    return list(schemas.errors_by(schema["properties"]["spec"], spec))


def test_the_chart_knows_each_key(deploy, kustomization):
    for release in releases(deploy, kustomization):
        assert list(unknown_keys(release["spec"]["values"])) == []


def test_the_prometheus_of_each_release_is_valid(deploy, kustomization):
    for release in releases(deploy, kustomization):
        assert resource_errors(release["spec"]["values"]) == []


def test_the_hub_and_each_spoke_have_a_release(deploy):
    folders = ["hub"] + [f"clusters/{spoke}" for spoke in deploy.spokes()]
    assert len(folders) > 1
    assert [folder for folder in folders if not releases(deploy, folder)] == []


@pytest.mark.parametrize(
    ("values", "unknown"),
    [
        ({"prometheus": {"prometheusSpec": {"retentionsize": "1GB"}}}, "retentionsize"),
        ({"grafan": {"enabled": False}}, "grafan"),
        ({"kube-state-metrics": {"customResourcesState": {}}}, "customResourcesState"),
        ({"grafana": {"sidecar": {"dashboard": {}}}}, "grafana.sidecar.dashboard"),
    ],
)
def test_a_key_that_the_chart_does_not_know_is_noticed(values, unknown):
    assert [it for it in unknown_keys(values) if unknown in it]


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ({"remoteWrite": [{"url": "https://it", "queConfig": {}}]}, "queConfig"),
        ({"remoteWrite": [{"url": "https://it", "messageVersion": "V3.0"}]}, "V3.0"),
        ({"retention": "two hours"}, "does not match"),
        ({"externalLabels": {"cluster": 1}}, "not of type"),
    ],
)
def test_a_fault_of_the_prometheus_is_noticed(spec, error):
    errors = resource_errors({"prometheus": {"prometheusSpec": spec}})
    assert any(error in it for it in errors), errors
