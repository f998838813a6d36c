"""The dashboards of hubgate: what Grafana, kubectl and Prometheus take."""

import json
import re

import pytest

import promql
from watching import CONFIGS, dashboards, expressions, panels

FOLDER = "gateway/components/monitoring/dashboards"

# `kubectl apply` keeps a copy of each object in an annotation; all annotations of an object have at
# most so many bytes.
ANNOTATIONS_MAX = 256 * 1024


@pytest.fixture(params=["hubgate-fleet.json", "hubgate-spoke.json"])
def dashboard(request, deploy):
    return dashboards(deploy)[request.param]


def test_kubectl_apply_has_room_for_the_copy_of_each_object(deploy):
    for it in deploy.objects(CONFIGS):
        assert len(json.dumps(it).encode()) < ANNOTATIONS_MAX, it["metadata"]["name"]


def test_dashboards_are_built_from_their_files(deploy):
    files = (deploy.root / FOLDER).iterdir()
    files = {file.name: json.loads(file.read_text()) for file in files}
    assert files == dashboards(deploy)


def test_a_dashboard_has_what_grafana_needs(dashboard):
    assert dashboard["uid"].startswith("hubgate-")
    # That of Grafana 12 and 13; a lower one is migrated each time it is shown.
    assert dashboard["schemaVersion"] == 42
    assert dashboard["id"] is None, "an id belongs to one Grafana"
    variables = {it["name"]: it for it in dashboard["templating"]["list"]}
    assert list(variables) == ["datasource", "spoke"]
    assert variables["datasource"]["query"] == "prometheus"
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    titles = [panel["title"] for panel in panels(dashboard)]
    assert len(set(titles)) == len(titles)


def test_panels_do_not_overlap(dashboard):
    taken = {}
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] >= 0 and place["x"] + place["w"] <= 24, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, (panel["title"], taken.get((x, y)))
                taken[x, y] = panel["title"]


def test_each_panel_says_what_it_shows(dashboard):
    for panel in panels(dashboard):
        title = panel["title"]
        assert panel["description"].endswith("."), title
        assert panel["fieldConfig"]["defaults"]["unit"], title
        assert panel["datasource"]["uid"] == "${datasource}", title
        refs = [target["refId"] for target in panel["targets"]]
        assert refs and len(set(refs)) == len(refs), title
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"], title


def test_rates_fit_the_resolution_of_a_graph(dashboard):
    for expr in expressions(dashboard):
        for window in re.findall(r"rate\([^[]*\[([^]]*)]", expr):
            assert window == "$__rate_interval", expr


def test_a_table_names_only_the_fields_that_its_queries_have(dashboard):
    for panel in panels(dashboard):
        if panel["type"] != "table":
            continue
        [organize] = [it["options"] for it in panel["transformations"] if it["id"] == "organize"]
        values = {f"Value #{target['refId']}" for target in panel["targets"]}
        known = set(organize["renameByName"]) | set(organize["excludeByName"])
        assert values <= known, panel["title"]
        assert {it for it in known if it.startswith("Value")} <= values, panel["title"]
        shown = set(organize["renameByName"].values())
        overridden = {it["matcher"]["options"] for it in panel["fieldConfig"]["overrides"]}
        assert overridden <= shown, panel["title"]


def test_links_lead_to_dashboards_that_exist(deploy):
    boards = dashboards(deploy).values()
    uids = {it["uid"] for it in boards}
    linked = set(re.findall(r'"/d/([^?"]*)', json.dumps(list(boards))))
    assert linked and linked <= uids
    for board in boards:
        [link] = board["links"]
        # Each shows a list of those with this tag.
        assert link["type"] == "dashboards" and set(link["tags"]) <= set(board["tags"])


def test_promtool_parses_every_expression_of_a_dashboard(dashboard, tmp_path):
    exprs = [promql.without_variables(expr, "production") for expr in expressions(dashboard)]
    assert exprs
    promql.check(exprs, tmp_path)
