"""What the containers of a stack ask for, read from `spec.values` of its release.

The chart is not at hand in the tests, so this knows which containers its objects have. It counts
each that runs for as long as the stack does, and refuses values that add one it does not know.
Init containers and the chart's Jobs end, and are not counted.

`python3 tests/deploy/resources.py` prints the table of the guide.
"""

import dataclasses
import pathlib
import re
import tempfile

import clusters
import manifests

HUB = "hub/monitoring/controllers/kube-prometheus-stack"
NODES = (1, 3, 10)

UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def cores(quantity):
    """A quantity of CPU, in thousandths of a core."""
    text = str(quantity)
    return int(text[:-1]) if text.endswith("m") else round(float(text) * 1000)


def mebibytes(quantity):
    """A quantity of memory or storage, in MiB."""
    number, unit = re.fullmatch(r"([\d.]+)([A-Za-z]*)", str(quantity)).groups()
    return float(number) * UNITS[unit] / 2**20


def at(values, path, default=None):
    """The value at a path of keys, or the default that the chart has for it."""
    for key in path.split("."):
        if not isinstance(values, dict) or values.get(key) is None:
            return default
        values = values[key]
    return values


# Values that add a container which is not counted here. All are off or empty in the chart.
UNCOUNTED = (
    "alertmanager.alertmanagerSpec.containers",
    "grafana.extraContainers",
    "grafana.imageRenderer.enabled",
    "kube-state-metrics.containers",
    "kube-state-metrics.kubeRBACProxy.enabled",
    "prometheus-node-exporter.kubeRBACProxy.enabled",
    "prometheus-node-exporter.sidecars",
    "prometheus.prometheusSpec.containers",
    "prometheus.prometheusSpec.shards",
    "prometheus.prometheusSpec.thanos",
    "prometheusOperator.admissionWebhooks.deployment.enabled",
    "thanosRuler.enabled",
    "windowsMonitoring.enabled",
)

# The sidecars of Grafana, and whether kube-prometheus-stack runs them by default.
GRAFANA_SIDECARS = {
    "alerts": False,
    "dashboards": True,
    "datasources": True,
    "notifiers": False,
    "plugins": False,
}


@dataclasses.dataclass
class Container:
    """A container of a stack, and how many of it run."""

    name: str
    count: int
    resources: dict

    def request(self, resource):
        return self.resources["requests"][resource]


def containers(values, nodes):
    """Every long-running container that the chart and the operator make of the values."""
    uncounted = [path for path in UNCOUNTED if at(values, path)]
    assert uncounted == [], f"these values add containers that are not counted: {uncounted}"

    def container(name, count, path):
        return Container(name, count, at(values, path, {}))

    reloader = "prometheusOperator.prometheusConfigReloader.resources"
    prometheuses = at(values, "prometheus.prometheusSpec.replicas", 1)
    yield container("prometheus", prometheuses, "prometheus.prometheusSpec.resources")
    yield container("prometheus config-reloader", prometheuses, reloader)
    yield container("prometheus-operator", 1, "prometheusOperator.resources")
    states = at(values, "kube-state-metrics.replicas", 1)
    yield container("kube-state-metrics", states, "kube-state-metrics.resources")
    yield container("node-exporter", nodes, "prometheus-node-exporter.resources")
    if at(values, "alertmanager.enabled", True):
        alertmanagers = at(values, "alertmanager.alertmanagerSpec.replicas", 1)
        yield container("alertmanager", alertmanagers, "alertmanager.alertmanagerSpec.resources")
        yield container("alertmanager config-reloader", alertmanagers, reloader)
    if at(values, "grafana.enabled", True):
        grafanas = at(values, "grafana.replicas", 1)
        yield container("grafana", grafanas, "grafana.resources")
        for sidecar, default in GRAFANA_SIDECARS.items():
            if at(values, f"grafana.sidecar.{sidecar}.enabled", default):
                yield container(f"grafana {sidecar}", grafanas, "grafana.sidecar.resources")


@dataclasses.dataclass
class Sum:
    """The requests of a stack: CPU in thousandths of a core, memory and volumes in MiB."""

    cpu: int
    memory: float
    storage: float

    def saved(self, full):
        """How much less than a full stack, in percent, as (cpu, memory, storage)."""
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(full))
        return tuple(100 * (1 - ours / theirs) for ours, theirs in pairs)


def storage(values):
    """The volumes of a stack, in MiB."""
    claim = "volumeClaimTemplate.spec.resources.requests.storage"
    total = 0.0
    for spec in ("prometheus.prometheusSpec.storageSpec", "alertmanager.alertmanagerSpec.storage"):
        total += mebibytes(at(values, f"{spec}.{claim}", 0))
    if at(values, "grafana.persistence.enabled", False):
        total += mebibytes(at(values, "grafana.persistence.size", "10Gi"))
    return total


def requests(values, nodes):
    """What a stack asks for in a cluster of so many nodes."""
    counted = list(containers(values, nodes))
    return Sum(
        cpu=sum(it.count * cores(it.request("cpu")) for it in counted),
        memory=sum(it.count * mebibytes(it.request("memory")) for it in counted),
        storage=storage(values),
    )


def agent(deploy, spoke):
    """The values of a spoke that runs as an agent."""
    with tempfile.TemporaryDirectory() as folder:
        copy = clusters.with_components(deploy, folder, spoke, "agent-mode")
        return copy.values(f"clusters/{spoke}")


def without_grafana_and_alertmanager(deploy, spoke, nodes):
    """What a spoke saves of a full stack that has the spoke's own Prometheus, in percent."""
    hub, ours = deploy.values(HUB), deploy.values(f"clusters/{spoke}")
    full = {**ours, "grafana": hub.get("grafana"), "alertmanager": hub.get("alertmanager")}
    return requests(ours, nodes).saved(requests(full, nodes))


def table(deploy):
    """The figures of the guide, in Markdown: what the stacks ask for, and the shares saved."""
    hub = deploy.values(HUB)
    stacks = {
        "production": deploy.values("clusters/production"),
        "staging": deploy.values("clusters/staging"),
        "production as an agent": agent(deploy, "production"),
    }
    lines = [
        "| nodes | hub | " + " | ".join(stacks) + " |",
        "|---:|" + "---|" * (1 + len(stacks)),
    ]
    for nodes in NODES:
        full = requests(hub, nodes)
        row = [str(nodes), f"{full.cpu}m, {full.memory:.0f}Mi"]
        for values in stacks.values():
            ours = requests(values, nodes)
            cpu, memory, _ = ours.saved(full)
            row.append(f"{ours.cpu}m, {ours.memory:.0f}Mi (−{cpu:.0f} %, −{memory:.0f} %)")
        lines.append("| " + " | ".join(row) + " |")
    full = requests(hub, 1)
    row = ["volumes", f"{full.storage / 1024:.0f}Gi"]
    for values in stacks.values():
        ours = requests(values, 1)
        row.append(f"{ours.storage / 1024:.0f}Gi (−{ours.saved(full)[2]:.0f} %)")
    lines.append("| " + " | ".join(row) + " |")
    cpu, memory, _ = without_grafana_and_alertmanager(deploy, "production", nodes=3)
    lines += [
        "",
        "The shares are of the hub's full stack. Against a full stack in the same cluster, with",
        f"the same Prometheus and three nodes, production saves {cpu:.0f} % of the CPU and "
        f"{memory:.0f} % of",
        "the memory: the rest comes from the hub's larger Prometheus.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(manifests.Deploy(pathlib.Path(__file__).resolve().parents[2] / "deploy")), end="")
