"""How hubgate is scraped, and the alerts about it."""

import pytest

import promrules
from watching import CONFIGS

TESTS = "hubgate_test.yaml"


@pytest.fixture
def rules(deploy):
    return promrules.from_build(deploy, CONFIGS, "hubgate")


def test_the_service_monitor_selects_the_admin_port_of_hubgate(deploy):
    monitor = deploy.find(CONFIGS, "ServiceMonitor", "hubgate")
    namespaces = monitor["spec"]["namespaceSelector"]["matchNames"]
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    services = [
        it
        for it in deploy.objects("gateway/overlays/hub")
        if it["kind"] == "Service"
        and it["metadata"]["namespace"] in namespaces
        and wanted <= it["metadata"]["labels"].items()
    ]
    assert [it["metadata"]["name"] for it in services] == ["hubgate-admin"]
    [service], [endpoint] = services, monitor["spec"]["endpoints"]
    [port] = [it for it in service["spec"]["ports"] if it["name"] == endpoint["port"]]
    deployment = deploy.find("gateway/overlays/hub", "Deployment", "hubgate")
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert port["targetPort"] in [it["name"] for it in container["ports"]]
    # The rules and dashboards select the job by this name.
    assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "hubgate"


def test_the_release_finds_monitors_rules_and_dashboards(deploy):
    for it in deploy.objects(CONFIGS):
        labels = it["metadata"].get("labels", {})
        if it["kind"] in ("ServiceMonitor", "PrometheusRule"):
            assert labels["release"] == "kube-prometheus-stack", it["metadata"]["name"]
        elif it["kind"] == "ConfigMap":
            assert labels["grafana_dashboard"] == "1"
            substitute = it["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/substitute"]
            assert substitute == "disabled"


def test_rules_about_hubgate_are_valid(rules, tmp_path):
    rules.check(tmp_path)


def test_rules_about_hubgate_pass_their_unit_tests(rules, tmp_path):
    rules.test(TESTS, tmp_path)


def test_each_alert_about_hubgate_is_seen_firing_and_quiet(rules):
    alerts = set(rules.alerts())
    assert promrules.cases(TESTS) == (alerts, alerts)


def test_alerts_about_hubgate_say_how_urgent_they_are_and_where_to_read_on(rules):
    for name, alert in rules.alerts().items():
        assert alert["labels"]["severity"] in ("warning", "critical"), name
        assert name.startswith("Hubgate")
        annotations = alert["annotations"]
        assert set(annotations) == {"summary", "description", "runbook"}, name
        assert annotations["runbook"] == f"docs/runbook.md#{name.lower()}"


def test_an_alert_about_a_spoke_has_its_cluster_label(rules):
    for name, alert in rules.alerts().items():
        if "$labels.spoke" in alert["annotations"]["description"]:
            assert alert["expr"].startswith("label_replace("), name
            assert alert["expr"].rstrip().endswith('"cluster", "$1", "spoke", "(.+)"\n)'), name
