//! Series as the Prometheus of a Kubernetes cluster sends them once it has scraped all its targets.
//!
//! The series of [`super::kube`] lie by pod and have the same number of short labels. Here they lie by
//! family, as in a scrape: neighbours share the metric and differ in pod, image and `id`, series have 9
//! to 18 labels, and a quarter of them has a label of more than 127 bytes. Shares and lengths are those
//! of the captured bodies `tests/fixtures/cluster-*`; a test compares them.

use super::kube::Labels;

/// Series of a node and of what runs on it. Their numbers follow each other, target by target.
const SERIES_PER_NODE: usize = 200;

/// Families of a container.
const CONTAINER_METRICS: [&str; 3] = [
    "container_cpu_system_seconds_total",
    "container_memory_working_set_bytes",
    "container_fs_reads_bytes_total",
];

const NETWORK_METRICS: [&str; 2] = [
    "container_network_receive_packets_total",
    "container_network_transmit_bytes_total",
];

const CONTAINERS: usize = 14;
const PODS: usize = 9;

const NAMESPACES: [&str; 6] = [
    "checkout",
    "flux-system",
    "ingress-nginx",
    "kube-system",
    "monitoring",
    "payments",
];

const APPS: [&str; 5] = ["api", "controller", "coredns", "ledger", "worker"];

const BUCKET_BOUNDS: [&str; 12] = [
    "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf",
];

const HANDLERS: [&str; 3] = ["/", "/api/orders", "/healthz"];

const CPU_MODES: [&str; 8] = [
    "idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user",
];

const PHASES: [&str; 5] = ["Failed", "Pending", "Running", "Succeeded", "Unknown"];

const VERBS: [&str; 4] = ["GET", "LIST", "PATCH", "WATCH"];

/// Makes the labels of series `number`, with `cluster` among them if it is given.
pub(super) fn series(number: usize, cluster: Option<&str>) -> Labels {
    let node = Node(number / SERIES_PER_NODE);
    let own = match number % SERIES_PER_NODE {
        index @ 0..60 => node.kubelet(index),
        index @ 60..110 => node.application(index - 60),
        index @ 110..154 => node.node_exporter(index - 110),
        index @ 154..180 => node.kube_state_metrics(index - 154),
        index => node.apiserver(index - 180),
    };
    let own = own.into_iter().chain(node.target());
    let mut labels: Labels = own
        .map(|(name, value)| (name.to_owned(), value))
        .chain(cluster.map(|cluster| ("cluster".to_owned(), cluster.to_owned())))
        .collect();
    labels.sort();
    labels
}

type Own = Vec<(&'static str, String)>;

struct Node(usize);

impl Node {
    /// The labels of all targets on the node.
    fn target(&self) -> Own {
        let [a, b, c] = self.address();
        vec![
            ("instance", format!("10.{a}.{b}.{c}:10250")),
            (
                "node",
                format!("ip-10-{a}-{b}-{c}.eu-west-1.compute.internal"),
            ),
        ]
    }

    fn address(&self) -> [usize; 3] {
        [self.0 / 62_500 % 250, self.0 / 250 % 250, self.0 % 250]
    }

    fn digest(&self, sort: &str, index: usize, digits: usize) -> String {
        digest(self.0, sort, index, digits)
    }

    fn namespace(&self, pod: usize) -> String {
        NAMESPACES[(self.0 + pod) % NAMESPACES.len()].to_owned()
    }

    fn pod(&self, pod: usize) -> String {
        let app = APPS[(self.0 + pod) % APPS.len()];
        let (set, own) = (self.digest("set", pod, 9), self.digest("pod", pod, 5));
        format!("{app}-{set}-{own}")
    }

    fn pod_slice(&self, pod: usize) -> String {
        let uid = self.digest("uid", pod, 32);
        let uid = [
            &uid[..8],
            &uid[8..12],
            &uid[12..16],
            &uid[16..20],
            &uid[20..],
        ]
        .join("_");
        format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice")
    }

    fn kubelet(&self, index: usize) -> Own {
        let of_containers = CONTAINER_METRICS.len() * CONTAINERS;
        let mut own = vec![
            ("endpoint", "https-metrics".to_owned()),
            ("job", "kubelet".to_owned()),
            ("metrics_path", "/metrics/cadvisor".to_owned()),
            ("service", "kube-prometheus-stack-kubelet".to_owned()),
        ];
        let (pod, name) = if index < of_containers {
            let (metric, container) = (CONTAINER_METRICS[index / CONTAINERS], index % CONTAINERS);
            let pod = container % PODS;
            let name = self.digest("container", container, 64);
            let scope = format!("{}/cri-containerd-{name}.scope", self.pod_slice(pod));
            let container = if container < PODS {
                "app"
            } else {
                "istio-proxy"
            };
            own.push(("__name__", metric.to_owned()));
            own.push(("id", scope));
            own.push(("container", container.to_owned()));
            if metric.contains("_fs_") {
                own.push(("device", "/dev/nvme0n1".to_owned()));
            }
            (pod, name)
        } else {
            let (metric, pod) = ((index - of_containers) / PODS, index % PODS);
            own.push(("__name__", NETWORK_METRICS[metric].to_owned()));
            own.push(("id", self.pod_slice(pod)));
            own.push(("interface", "eth0".to_owned()));
            (pod, self.digest("sandbox", pod, 64))
        };
        let namespace = self.namespace(pod);
        let digest = self.digest("image", pod % 3, 64);
        let image = format!("registry.example.com/{namespace}/api@sha256:{digest}");
        own.extend([
            ("image", image),
            ("name", name),
            ("namespace", namespace),
            ("pod", self.pod(pod)),
        ]);
        own
    }

    fn application(&self, index: usize) -> Own {
        let mut own = vec![
            ("endpoint", "http".to_owned()),
            ("job", "orders".to_owned()),
            ("metrics_path", "/metrics".to_owned()),
            ("namespace", "shop".to_owned()),
            ("service", "orders".to_owned()),
        ];
        // A histogram of 12 buckets and its counter, for each handler; then what has no such labels.
        let Some(handler) = HANDLERS.get(index / 13) else {
            let metric = digest(0, "memstats", index, 5);
            own.push(("__name__", format!("go_memstats_{metric}_bytes")));
            return own;
        };
        let (metric, bound) = match BUCKET_BOUNDS.get(index % 13) {
            Some(bound) => ("http_request_duration_seconds_bucket", Some(bound)),
            None => ("http_requests_total", None),
        };
        own.extend(bound.map(|bound| ("le", (*bound).to_owned())));
        own.extend([
            ("__name__", metric.to_owned()),
            ("code", ["200", "404", "500"][index / 13].to_owned()),
            ("handler", (*handler).to_owned()),
            ("method", "GET".to_owned()),
        ]);
        own
    }

    fn node_exporter(&self, index: usize) -> Own {
        let mut own = match index {
            0..16 => vec![
                ("__name__", "node_cpu_seconds_total".to_owned()),
                ("cpu", (index / CPU_MODES.len()).to_string()),
                ("mode", CPU_MODES[index % CPU_MODES.len()].to_owned()),
            ],
            16..30 => vec![
                ("__name__", "node_network_receive_bytes_total".to_owned()),
                ("device", format!("veth{}", self.digest("veth", index, 8))),
            ],
            30..38 => {
                let metric = digest(0, "memory", index, 6);
                vec![("__name__", format!("node_memory_{metric}_bytes"))]
            }
            _ => {
                let sandbox = self.digest("sandbox", index, 64);
                let folder = "/run/containerd/io.containerd.grpc.v1.cri/sandboxes";
                vec![
                    ("__name__", "node_filesystem_avail_bytes".to_owned()),
                    ("device", "tmpfs".to_owned()),
                    ("fstype", "tmpfs".to_owned()),
                    ("mountpoint", format!("{folder}/{sandbox}/shm")),
                ]
            }
        };
        own.extend([
            ("endpoint", "http-metrics".to_owned()),
            ("job", "node-exporter".to_owned()),
            ("metrics_path", "/metrics".to_owned()),
            ("namespace", "kube-system".to_owned()),
            (
                "service",
                "kube-prometheus-stack-prometheus-node-exporter".to_owned(),
            ),
        ]);
        own
    }

    fn kube_state_metrics(&self, index: usize) -> Own {
        // The pods lie behind those that cAdvisor knows.
        let pod = PODS + index;
        let mut own = match index {
            0..15 => vec![
                ("__name__", "kube_pod_status_phase".to_owned()),
                ("phase", PHASES[index % PHASES.len()].to_owned()),
            ],
            15..24 => vec![
                (
                    "__name__",
                    "kube_pod_container_resource_requests".to_owned(),
                ),
                ("container", "sidecar".to_owned()),
                ("exported_node", format!("ip-10-0-1-{}", self.0 % 250)),
                ("resource", ["cpu", "memory"][index % 2].to_owned()),
                ("unit", ["core", "byte"][index % 2].to_owned()),
            ],
            _ => vec![
                ("__name__", "kube_pod_info".to_owned()),
                ("created_by_kind", "ReplicaSet".to_owned()),
                ("created_by_name", self.digest("set", pod, 9)),
                ("exported_node", format!("ip-10-0-1-{}", self.0 % 250)),
                ("host_ip", format!("10.0.1.{}", self.0 % 250)),
                ("host_network", "false".to_owned()),
                ("pod_ip", format!("10.1.{}.{index}", self.0 % 250)),
            ],
        };
        own.extend([
            ("endpoint", "http".to_owned()),
            ("job", "kube-state-metrics".to_owned()),
            ("metrics_path", "/metrics".to_owned()),
            ("namespace", self.namespace(pod)),
            ("pod", self.pod(pod)),
            (
                "service",
                "kube-prometheus-stack-kube-state-metrics".to_owned(),
            ),
            ("uid", self.digest("uid", pod, 32)),
        ]);
        own
    }

    fn apiserver(&self, index: usize) -> Own {
        let (bound, more) = (index % BUCKET_BOUNDS.len(), index / BUCKET_BOUNDS.len());
        vec![
            (
                "__name__",
                "apiserver_request_duration_seconds_bucket".to_owned(),
            ),
            ("component", "apiserver".to_owned()),
            ("endpoint", "https".to_owned()),
            ("job", "apiserver".to_owned()),
            ("le", BUCKET_BOUNDS[bound].to_owned()),
            ("metrics_path", "/metrics".to_owned()),
            ("namespace", "default".to_owned()),
            ("resource", "pods".to_owned()),
            ("scope", "cluster".to_owned()),
            ("service", "kubernetes".to_owned()),
            ("verb", VERBS[(self.0 + more) % VERBS.len()].to_owned()),
            ("version", "v1".to_owned()),
        ]
    }
}

/// Hexadecimal digits as of a hash: those of the thing `index` of a sort on a node.
fn digest(node: usize, sort: &str, index: usize, digits: usize) -> String {
    let mut state = (node as u64) << 16 | index as u64;
    for byte in sort.bytes() {
        state = (state ^ u64::from(byte)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        state ^= state >> 29;
    }
    let mut text = String::new();
    while text.len() < digits {
        state = state.wrapping_mul(0xBF58_476D_1CE4_E5B9) ^ state >> 31;
        text.push_str(&format!("{state:016x}"));
    }
    text.truncate(digits);
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use prost::Message;

    use super::*;
    use crate::wire::proto::v1;
    use crate::wire::snappy;

    const CAPTURED: &[u8] = include_bytes!("../../tests/fixtures/cluster-v1s8.snappy");

    /// What decides how much work a body is, for a series on average.
    fn figures(series: &[Labels]) -> [(&'static str, f64); 6] {
        let count = series.len() as f64;
        let bytes = |(name, value): &(String, String)| name.len() + value.len() + 4;
        let is_long = |labels: &&Labels| labels.iter().any(|label| bytes(label) >= 128);
        let (mut same_names, mut changed, mut families) = (0.0, 0.0, 0.0);
        for pair in series.windows(2) {
            let names = |labels: &Labels| labels.iter().map(|label| label.0.clone()).collect();
            let (before, after): (Vec<_>, Vec<_>) = (names(&pair[0]), names(&pair[1]));
            families += f64::from(pair[0][0] != pair[1][0]);
            if before == after {
                same_names += 1.0;
                let both = pair[0].iter().zip(&pair[1]);
                changed += both.filter(|(before, after)| before != after).count() as f64;
            }
        }
        let labels: usize = series.iter().map(Vec::len).sum();
        let label_bytes: usize = series.iter().flatten().map(bytes).sum();
        [
            ("labels", labels as f64 / count),
            ("bytes of labels", label_bytes as f64 / count),
            (
                "with a long label",
                series.iter().filter(is_long).count() as f64 / count,
            ),
            ("with the names of the one before", same_names / count),
            ("values unlike those before", changed / same_names),
            ("of a family in a row", count / families),
        ]
    }

    fn captured() -> Vec<Labels> {
        let mut plain = Vec::new();
        let plain = snappy::decompress(CAPTURED, 32 << 20, &mut plain).unwrap();
        let request = v1::WriteRequest::decode(plain).unwrap();
        let labels = |series: v1::TimeSeries| {
            let labels = series.labels.into_iter();
            labels.map(|label| (label.name, label.value)).collect()
        };
        request.timeseries.into_iter().map(labels).collect()
    }

    #[test]
    fn is_the_work_that_a_captured_body_is() {
        let made: Vec<Labels> = (0..2_000)
            .map(|number| series(number, Some("production")))
            .collect();
        for ((name, made), (_, captured)) in figures(&made).into_iter().zip(figures(&captured())) {
            let ratio = made / captured;
            assert!(
                (0.75..1.3).contains(&ratio),
                "{name}: {made:.3}, captured {captured:.3}"
            );
        }
    }

    #[test]
    fn every_number_has_a_series_of_its_own_with_sorted_unique_names() {
        let mut seen = HashSet::new();
        for number in 0..20_000 {
            let labels = series(number, Some("production"));
            assert!(
                labels.is_sorted_by(|left, right| left.0 < right.0),
                "{labels:?}"
            );
            assert!(
                seen.insert(labels),
                "series {number} repeats an earlier one"
            );
        }
    }
}
