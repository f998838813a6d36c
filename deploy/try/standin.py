"""Stands in for what Prometheus scrapes in a cluster: kube-state-metrics, kubelet and the others.

What kube-state-metrics serves of Flux's objects follows from the values of the release: without its
customResourceState, there is no gotk_resource_info.
"""

import contextlib
import http.server
import threading

# A few series of each job that every cluster has, with a name that remote write drops and others
# that rules and dashboards of the hub need.
METRICS = {
    "apiserver": """\
# TYPE apiserver_request_duration_seconds histogram
apiserver_request_duration_seconds_bucket{verb="GET",resource="pods",le="0.1"} 90
apiserver_request_duration_seconds_bucket{verb="GET",resource="pods",le="+Inf"} 100
apiserver_request_duration_seconds_sum{verb="GET",resource="pods"} 4.5
apiserver_request_duration_seconds_count{verb="GET",resource="pods"} 100
# TYPE apiserver_request_sli_duration_seconds histogram
apiserver_request_sli_duration_seconds_bucket{verb="GET",resource="pods",le="0.1"} 95
apiserver_request_sli_duration_seconds_bucket{verb="GET",resource="pods",le="+Inf"} 100
apiserver_request_sli_duration_seconds_sum{verb="GET",resource="pods"} 3.5
apiserver_request_sli_duration_seconds_count{verb="GET",resource="pods"} 100
# TYPE apiserver_request_total counter
apiserver_request_total{verb="GET",resource="pods",code="200"} 100
# TYPE go_goroutines gauge
go_goroutines 1000
# TYPE go_memstats_alloc_bytes gauge
go_memstats_alloc_bytes 1e+08
""",
    "kubelet": """\
# TYPE kubelet_node_name gauge
kubelet_node_name{node="node-1"} 1
# TYPE kubelet_running_pods gauge
kubelet_running_pods 12
""",
    "kube-state-metrics": """\
# TYPE kube_node_info gauge
kube_node_info{node="node-1",kubelet_version="v1.32.0"} 1
# TYPE kube_node_status_condition gauge
kube_node_status_condition{node="node-1",condition="Ready",status="true"} 1
# TYPE kube_pod_status_phase gauge
kube_pod_status_phase{namespace="monitoring",pod="a-pod",phase="Running"} 1
""",
    "node-exporter": """\
# TYPE node_cpu_seconds_total counter
node_cpu_seconds_total{cpu="0",mode="idle"} 1000
# TYPE node_uname_info gauge
node_uname_info{nodename="node-1"} 1
""",
}


def state_of_custom_resources(release):
    """The series of kube-state-metrics' customResourceState, one for each resource and metric."""
    state = release["spec"]["values"].get("kube-state-metrics", {}).get("customResourceState", {})
    if not state.get("enabled"):
        return ""
    lines = []
    for resource in state["config"]["spec"]["resources"]:
        kind = resource["groupVersionKind"]
        for metric in resource["metrics"]:
            name = "_".join(
                it
                for it in (resource.get("metricNamePrefix", "kube_customresource"), metric["name"])
                if it
            )
            each = metric["each"][metric["each"]["type"].lower()]
            paths = {
                **resource.get("labelsFromPath", {}),
                **metric.get("labelsFromPath", {}),
                **each.get("labelsFromPath", {}),
            }
            labels = {
                "customresource_group": kind["group"],
                "customresource_version": kind["version"],
                "customresource_kind": kind["kind"],
                **{label: EXAMPLES.get(label, f"a-{label}") for label in paths},
                **metric.get("commonLabels", {}),
            }
            lines.append(f"{name}{labels_text(labels)} 1")
    return "".join(f"{line}\n" for line in lines)


EXAMPLES = {
    "name": "flux-system",
    "exported_namespace": "flux-system",
    "ready": "True",
    "suspended": "false",
}


def labels_text(labels):
    return "{" + ",".join(f'{name}="{value}"' for name, value in sorted(labels.items())) + "}"


class StandIn:
    """An HTTP server on a free port of loopback, with a page for each cluster and job."""

    def __init__(self, releases):
        self.pages = {}
        for cluster, release in releases.items():
            for job, text in METRICS.items():
                if job == "kube-state-metrics":
                    text += state_of_custom_resources(release)
                self.pages[self.path(cluster, job)] = text.encode()
        stand_in = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                page = stand_in.pages.get(self.path)
                self.send_response(200 if page is not None else 404)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(page or b"")))
                self.end_headers()
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(page or b"")

            def log_message(self, *arguments):
                """Says nothing: a line for each scrape helps nobody."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @staticmethod
    def path(cluster, job):
        return f"/{cluster}/{job}/metrics"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
