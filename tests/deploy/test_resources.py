"""A spoke asks for 60 to 80 % less than the hub's full stack, with every container counted."""

import pytest

import clusters
import resources

BEGIN, END = "<!-- resources: begin -->\n", "<!-- resources: end -->\n"


@pytest.fixture(scope="session")
def hub(deploy):
    return deploy.values(resources.HUB)


def lacking_requests(values):
    return [
        f"{it.name}: {resource}"
        for it in resources.containers(values, nodes=1)
        for resource in ("cpu", "memory")
        if resource not in it.resources.get("requests", {})
    ]


def test_every_container_of_the_hub_has_requests(hub):
    assert lacking_requests(hub) == []


def test_every_container_of_a_spoke_has_requests(deploy, spoke):
    assert lacking_requests(deploy.values(f"clusters/{spoke}")) == []


def test_every_container_of_a_spoke_has_a_memory_limit_and_none_for_cpu(deploy, spoke):
    for it in resources.containers(deploy.values(f"clusters/{spoke}"), nodes=1):
        assert list(it.resources["limits"]) == ["memory"], it.name
        limit = resources.mebibytes(it.resources["limits"]["memory"])
        assert limit >= 2 * resources.mebibytes(it.request("memory")), it.name


def test_counts_every_container_that_the_chart_has_by_default():
    counted = {it.name: it.count for it in resources.containers({}, nodes=3)}
    assert counted == {
        "prometheus": 1,
        "prometheus config-reloader": 1,
        "prometheus-operator": 1,
        "kube-state-metrics": 1,
        "node-exporter": 3,
        "alertmanager": 1,
        "alertmanager config-reloader": 1,
        "grafana": 1,
        "grafana dashboards": 1,
        "grafana datasources": 1,
    }


def test_counts_the_dashboards_and_alerts_of_the_hub(hub):
    counted = {it.name for it in resources.containers(hub, nodes=3)}
    assert {"grafana", "alertmanager", "alertmanager config-reloader"} < counted


def test_counts_five_kinds_of_container_of_a_spoke(deploy, spoke):
    values = deploy.values(f"clusters/{spoke}")
    counted = {it.name: it.count for it in resources.containers(values, nodes=3)}
    assert counted == {
        "prometheus": 1,
        "prometheus config-reloader": 1,
        "prometheus-operator": 1,
        "kube-state-metrics": 1,
        "node-exporter": 3,
    }


def test_refuses_values_that_add_a_container_it_does_not_count(hub):
    values = {**hub, "thanosRuler": {"enabled": True}}
    with pytest.raises(AssertionError, match="thanosRuler.enabled"):
        list(resources.containers(values, nodes=1))


@pytest.mark.parametrize("nodes", resources.NODES)
@pytest.mark.parametrize("name", ["production", "staging"])
def test_a_spoke_asks_for_60_to_80_percent_less_than_the_hub(deploy, hub, name, nodes):
    ours = resources.requests(deploy.values(f"clusters/{name}"), nodes)
    cpu, memory, _ = ours.saved(resources.requests(hub, nodes))
    assert 60 <= cpu <= 80
    assert 60 <= memory <= 80


def test_an_agent_asks_for_less_than_the_same_spoke_with_blocks(deploy, hub):
    full = resources.requests(hub, nodes=3)
    agent = resources.requests(resources.agent(deploy, "production"), nodes=3).saved(full)
    blocks = resources.requests(deploy.values("clusters/production"), nodes=3).saved(full)
    assert agent[0] > blocks[0] and agent[1] > blocks[1]


def test_a_cluster_made_of_the_template_asks_for_what_staging_does(deploy, tmp_path):
    copy = clusters.with_cluster(deploy, tmp_path, "scaffolded")
    scaffolded = resources.requests(copy.values("clusters/scaffolded"), nodes=3)
    assert scaffolded == resources.requests(deploy.values("clusters/staging"), nodes=3)


@pytest.mark.parametrize(
    "quantity, expected", [("75m", 75), ("0.5", 500), (2, 2000), ("1500m", 1500)]
)
def test_reads_a_quantity_of_cpu(quantity, expected):
    assert resources.cores(quantity) == expected


@pytest.mark.parametrize(
    "quantity, expected", [("300Mi", 300), ("2Gi", 2048), ("512Ki", 0.5), (2**20, 1)]
)
def test_reads_a_quantity_of_memory(quantity, expected):
    assert resources.mebibytes(quantity) == expected


def test_the_guide_shows_these_figures(deploy):
    guide = (deploy.root / "README.md").read_text()
    shown = guide.split(BEGIN)[1].split(END)[0]
    assert shown.strip() == resources.table(deploy).strip()
