"""The rules of a PrometheusRule as kubectl builds it, given to promtool.

A file of unit tests names `rules.yaml` as its only rule file, and is in tests/deploy/rules. It
does not expect the annotation `runbook`, which is the same for every case of an alert."""

import copy
import pathlib
import shutil
import subprocess

import yaml

import manifests

TESTS = pathlib.Path(__file__).parent / "rules"


def promtool(*arguments, folder):
    """Runs promtool in a folder, and returns what it said."""
    done = subprocess.run(["promtool", *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"promtool {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


class Rules:
    """The rule groups of one PrometheusRule."""

    def __init__(self, prometheus_rule):
        self.groups = prometheus_rule["spec"]["groups"]

    def __iter__(self):
        return (rule for group in self.groups for rule in group["rules"])

    def alerts(self):
        """The alerting rules by name."""
        alerts = [rule for rule in self if "alert" in rule]
        by_name = {rule["alert"]: rule for rule in alerts}
        assert len(by_name) == len(alerts), "an alert has two rules"
        return by_name

    def write(self, folder):
        """Writes the groups as Prometheus reads them, to `rules.yaml` in the folder."""
        groups = copy.deepcopy(self.groups)
        for group in groups:
            for rule in group["rules"]:
                rule.get("annotations", {}).pop("runbook", None)
        (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}, sort_keys=False))

    def check(self, folder):
        """Lets promtool check the rules, in an empty folder."""
        self.write(folder)
        promtool("check", "rules", "--lint=all", "--lint-fatal", "rules.yaml", folder=folder)

    def test(self, name, folder):
        """Lets promtool run the unit tests tests/deploy/rules/NAME, in an empty folder."""
        assert manifests.load_all((TESTS / name).read_text())[0]["rule_files"] == ["rules.yaml"]
        self.write(folder)
        shutil.copy(TESTS / name, folder)
        promtool("test", "rules", name, folder=folder)


def cases(name):
    """The alerts that the unit tests tests/deploy/rules/NAME see fire, and those they see quiet.

    Both are sets. An alert is quiet where `exp_alerts` is empty: promtool takes an alert that no
    rule has for quiet, so the names must be held against the rules."""
    firing, quiet = set(), set()
    for test in manifests.load_all((TESTS / name).read_text())[0]["tests"]:
        for case in test.get("alert_rule_test", []):
            (firing if case.get("exp_alerts") else quiet).add(case["alertname"])
    return firing, quiet


def from_build(deploy, folder, name=None):
    """The rules of a PrometheusRule in the build of a folder of deploy/."""
    return Rules(deploy.find(folder, "PrometheusRule", name))
