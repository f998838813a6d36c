"""What the hub's values and rules must hold."""

import promrules

CONFIGS = "hub/monitoring/configs"


def test_rules_about_clusters_are_valid(deploy, tmp_path):
    promrules.from_build(deploy, CONFIGS, "clusters").check(tmp_path)
