"""What the hub's values and rules must hold."""

import promrules

CONFIGS = "hub/monitoring/configs"


def test_rules_about_clusters_are_valid(deploy, tmp_path):
    promrules.from_build(deploy, CONFIGS, "clusters").check(tmp_path)


def test_rules_about_clusters_pass_their_unit_tests(deploy, tmp_path):
    promrules.from_build(deploy, CONFIGS, "clusters").test("clusters_test.yaml", tmp_path)


def test_each_alert_about_clusters_is_seen_firing_and_quiet(deploy):
    alerts = set(promrules.from_build(deploy, CONFIGS, "clusters").alerts())
    assert promrules.cases("clusters_test.yaml") == (alerts, alerts)
