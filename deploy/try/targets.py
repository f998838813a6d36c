"""The jobs of each Prometheus, with static targets in place of those that Kubernetes would find.

The jobs of the chart are written here, with the labels that its ServiceMonitors give them. The
ServiceMonitors of deploy/ are taken as they are built.
"""

import copy

import derive
import prometheus_operator
from standin import StandIn

# Job, namespace, and whether the chart honours the labels of what it scrapes.
STAND_IN_JOBS = (
    ("apiserver", "default", False),
    ("kubelet", "kube-system", True),
    ("kube-state-metrics", "monitoring", True),
    ("node-exporter", "monitoring", False),
)


def of_release(release, cluster, own_address, stand_in_address, version):
    """The jobs that the chart makes: Prometheus itself, and those that a stand-in serves."""
    namespace, name = prometheus_operator.release_names(release)
    itself = {
        "job": f"{name}-prometheus",
        "namespace": namespace,
        "service": f"{name}-prometheus",
        "pod": f"prometheus-{name}-prometheus-0",
        "container": "prometheus",
        "endpoint": "http-web",
    }
    jobs = [job(itself, own_address, {})]
    for stand_in, its_namespace, honors_labels in STAND_IN_JOBS:
        labels = {"job": stand_in, "namespace": its_namespace}
        config = {"honor_labels": honors_labels, "metrics_path": StandIn.path(cluster, stand_in)}
        jobs.append(job(labels, stand_in_address, config))
    return [with_scrape_class(it, release, version) for it in jobs]


def of_monitors(objects, release, addresses, version):
    """The jobs of the built ServiceMonitors.

    addresses: the `IP:PORT` of each port of a Service, by namespace, name and port's name.
    """
    jobs = []
    for monitor in derive.kind(objects, "ServiceMonitor"):
        for service in services(objects, monitor):
            for endpoint in monitor["spec"]["endpoints"]:
                jobs.append(of_endpoint(monitor, service, endpoint, addresses, version))
    return [with_scrape_class(it, release, version) for it in jobs]


def services(objects, monitor):
    """The Services that a ServiceMonitor selects."""
    spec = monitor["spec"]
    selector = spec.get("namespaceSelector", {})
    own = monitor["metadata"]["namespace"]
    selected = [
        it
        for it in derive.kind(objects, "Service")
        if (selector.get("any") or it["metadata"]["namespace"] in selector.get("matchNames", [own]))
        and matches(spec["selector"], it["metadata"].get("labels", {}))
    ]
    if not selected:
        raise derive.Mistake(f"ServiceMonitor {monitor['metadata']['name']} selects no Service")
    return selected


def matches(selector, labels):
    if "matchExpressions" in selector:
        raise derive.Mistake("deploy/try knows no matchExpressions in a ServiceMonitor")
    return selector["matchLabels"].items() <= labels.items()


def of_endpoint(monitor, service, endpoint, addresses, version):
    names = [port["name"] for port in service["spec"]["ports"]]
    if endpoint["port"] not in names:
        raise derive.Mistake(
            f"Service {service['metadata']['name']} has no port {endpoint['port']}"
        )
    namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
    job_label = monitor["spec"].get("jobLabel")
    labels = {
        "job": service["metadata"].get("labels", {}).get(job_label, name),
        "namespace": namespace,
        "service": name,
        "pod": f"{name}-0",
        "container": name,
        "endpoint": endpoint["port"],
    }
    config = {
        "honor_labels": endpoint.get("honorLabels", False),
        "metrics_path": endpoint.get("path", "/metrics"),
        "scheme": endpoint.get("scheme", "http").lower(),
    }
    for field, its_name in (("interval", "scrape_interval"), ("scrapeTimeout", "scrape_timeout")):
        if field in endpoint:
            config[its_name] = endpoint[field]
    fields = prometheus_operator.Fields(version)
    for field, its_name in (
        ("relabelings", "relabel_configs"),
        ("metricRelabelings", "metric_relabel_configs"),
    ):
        if field in endpoint:
            config[its_name] = fields.relabelings(field, endpoint[field])
    key = (namespace, name, endpoint["port"])
    if key not in addresses:
        raise derive.Mistake(f"no address on this machine for port {key[2]} of Service {name}")
    return job(labels, addresses[key], config)


def job(labels, address, config):
    return {
        "job_name": labels["job"],
        **config,
        "static_configs": [{"targets": [address], "labels": labels}],
    }


def with_scrape_class(job_, release, version):
    """A job with what the default scrape class of a release adds: before its own relabelings."""
    result = copy.deepcopy(job_)
    for key, rules in prometheus_operator.default_scrape_class(release, version).items():
        if rules:
            result[key] = [*rules, *result.get(key, [])]
    return result
