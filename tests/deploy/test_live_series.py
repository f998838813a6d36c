"""Real servers have every series that the rules, the dashboards and the runbook read."""

import re

import pytest

import promql
import promrules
import servers as real
from watching import CONFIGS, dashboards, expressions, panels, queries

# What matches hubgate's own series and none that a spoke sends; see prometheus-rule.yaml.
OWN = 'cluster=~"hub|"'


@pytest.fixture(scope="module")
def rules(deploy):
    return promrules.from_build(deploy, CONFIGS, "hubgate")


@pytest.fixture(scope="module")
def servers(hubgate_bin, rules, tmp_path_factory):
    with real.servers(tmp_path_factory.mktemp("servers"), hubgate_bin, rules) as servers:
        yield servers


def test_every_series_that_is_read_exists_on_real_servers(deploy, project, rules, servers):
    read = {}
    for rule in rules:
        read.update({it: rule.get("alert") or rule["record"] for it in promql.selectors(rule["expr"])})
    for name, board in dashboards(deploy).items():
        for expr in expressions(board):
            read.update({it: name for it in promql.selectors(expr)})
    for query in queries(project):
        read.update({it: "docs/runbook.md" for it in promql.selectors(query)})
    missing = servers.missing(read)
    assert missing == {}, missing


def test_real_servers_evaluate_every_rule_and_panel(deploy, servers):
    servers.expect_rules_healthy()
    for board in dashboards(deploy).values():
        for expr in expressions(board):
            servers.query(promql.without_variables(expr, "production"))


def test_rows_of_a_table_are_not_split_by_the_names_of_metrics(deploy, servers):
    """Grafana merges rows whose labels are the same, and the name of a metric is one of them."""
    for board in dashboards(deploy).values():
        for panel in panels(board):
            if panel["type"] == "table":
                exprs = [target["expr"] for target in panel["targets"]]
                exprs = [promql.without_variables(expr, "production") for expr in exprs]
                series = [it["metric"] for expr in exprs for it in servers.query(expr)]
                assert series and not [it for it in series if "__name__" in it], panel["title"]


def test_only_what_is_wrong_raises_an_alert(servers):
    # One of the hubs and the issuer of the keys are down.
    servers.expect_alerts("HubgateHubDown", "HubgateIssuerKeysStale")


def own(metric):
    return re.match(r"(spoke:)?hubgate_|process_|up$", metric)


def test_no_spoke_can_forge_what_rules_and_dashboards_read(deploy, rules):
    found = [rule["expr"] for rule in rules]
    found += [expr for it in dashboards(deploy).values() for expr in expressions(it)]
    read = 0
    for selector in {it for expr in found for it in promql.selectors(expr)}:
        of_the_spoke = 'cluster="$spoke"' in selector.matchers
        if own(selector.metric) and not of_the_spoke:
            assert OWN in selector.matchers, selector
            read += 1
    assert read > 50
    assert "hub" not in deploy.spokes(), "a spoke with this name could forge the series of hubgate"
