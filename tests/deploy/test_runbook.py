"""The runbook has what an alert needs, and names what is there."""

import re

import promql
import promrules
from watching import CONFIGS, queries, runbook, sections


def test_each_alert_has_a_section_in_the_runbook(deploy, project):
    rules = [it for it in deploy.objects(CONFIGS) if it["kind"] == "PrometheusRule"]
    alerts = [alert for it in rules for alert in promrules.Rules(it).alerts().items()]
    assert sorted(sections(project)) == sorted(name for name, _ in alerts)
    for name, alert in alerts:
        # As GitHub makes the anchor of a heading.
        assert alert["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"


def test_sections_of_the_runbook_say_what_it_means_and_what_to_do(project):
    for alert, text in sections(project).items():
        parts = re.findall(r"^\*\*(.*?)\*\*", text, flags=re.MULTILINE)
        assert parts == ["Meaning.", "Impact.", "Diagnosis.", "Mitigation."], alert


def test_promtool_parses_every_query_of_the_runbook(project, tmp_path):
    promql.check(queries(project), tmp_path)


def test_objects_that_the_runbook_names_are_built(deploy, project):
    built = {
        (it["metadata"].get("namespace"), it["kind"].lower(), it["metadata"]["name"])
        for folder in ("gateway/overlays/hub", "hub", CONFIGS)
        for it in deploy.objects(folder)
    }
    # Made by the script, cert-manager or the release.
    elsewhere = {
        ("hubgate", "secret", "hubgate-spokes"),
        ("hubgate", "secret", "hubgate-tls"),
        ("monitoring", "secret", "hubgate"),
        ("monitoring", "configmap", "hubgate-ca"),
        ("monitoring", "service", "kube-prometheus-stack-prometheus"),
        ("monitoring", "deployment", "kube-prometheus-stack-operator"),
        ("monitoring", "prometheus", "kube-prometheus-stack-prometheus"),
    }
    named = 0
    for namespace, rest in re.findall(r"kubectl -n (\S+) ([^\n]*)", runbook(project)):
        for kind, name in re.findall(r"(?<![\w.])([a-z]+)/([a-z0-9-]+)", rest):
            key = (namespace, kind, name)
            assert key in built | elsewhere, rest
            named += 1
    assert named > 10
