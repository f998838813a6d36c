//! Names and labels of series as the Prometheus of a Kubernetes cluster sends them.
//!
//! A series is a pure function of its number, so bodies need no state to be distinct, and every run
//! sends the same series. The mix (cadvisor, kube-state-metrics, node exporter, API server
//! histograms) is what such clusters send most. Nothing here knows the wire format.

use crate::wire::proto::v2::metadata::MetricType;

/// Series of a pod. Their numbers follow each other, as in a scrape.
const SERIES_PER_POD: usize = 100;

const CONTAINER_METRICS: [&str; 20] = [
    "container_cpu_cfs_periods_total",
    "container_cpu_cfs_throttled_periods_total",
    "container_cpu_cfs_throttled_seconds_total",
    "container_cpu_usage_seconds_total",
    "container_fs_reads_bytes_total",
    "container_fs_reads_total",
    "container_fs_usage_bytes",
    "container_fs_writes_bytes_total",
    "container_fs_writes_total",
    "container_last_seen",
    "container_memory_cache",
    "container_memory_rss",
    "container_memory_working_set_bytes",
    "container_network_receive_bytes_total",
    "container_network_receive_packets_dropped_total",
    "container_network_receive_packets_total",
    "container_network_transmit_bytes_total",
    "container_network_transmit_packets_dropped_total",
    "container_network_transmit_packets_total",
    "container_processes",
];

const KUBE_METRICS: [&str; 20] = [
    "kube_pod_completion_time",
    "kube_pod_container_info",
    "kube_pod_container_resource_limits",
    "kube_pod_container_resource_requests",
    "kube_pod_container_state_started",
    "kube_pod_container_status_ready",
    "kube_pod_container_status_restarts_total",
    "kube_pod_container_status_running",
    "kube_pod_container_status_terminated",
    "kube_pod_container_status_waiting",
    "kube_pod_created",
    "kube_pod_info",
    "kube_pod_ips",
    "kube_pod_owner",
    "kube_pod_restart_policy",
    "kube_pod_start_time",
    "kube_pod_status_phase",
    "kube_pod_status_ready",
    "kube_pod_status_scheduled",
    "kube_pod_status_scheduled_time",
];

const CPU_MODES: [&str; 8] = [
    "idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user",
];

const BUCKET_BOUNDS: [&str; 24] = [
    "0.005", "0.025", "0.05", "0.1", "0.2", "0.4", "0.6", "0.8", "1.0", "1.25", "1.5", "2.0",
    "3.0", "4.0", "5.0", "6.0", "8.0", "10.0", "15.0", "20.0", "30.0", "45.0", "60.0", "+Inf",
];

const APPS: [&str; 9] = [
    "cart",
    "catalogue",
    "checkout",
    "frontend",
    "ledger",
    "notification-worker",
    "payment-gateway",
    "recommendation",
    "search",
];

const NAMESPACES: [&str; 4] = ["default", "kube-system", "monitoring", "shop"];

/// Labels that operators add to every series. They fill a series up to the wanted number of labels.
const FILLERS: [(&str, &str); 8] = [
    ("prometheus", "monitoring/k8s"),
    ("region", "eu-central-1"),
    ("zone", "eu-central-1b"),
    ("environment", "live"),
    ("team", "platform"),
    ("tier", "backend"),
    ("cost_center", "4711"),
    ("prometheus_replica", "prometheus-k8s-0"),
];

/// The least number of labels that keeps every series distinct.
pub const LABELS_MIN: usize = 6;

/// The labels of a series, sorted by name, with unique names.
pub type Labels = Vec<(String, String)>;

/// Makes the `count` labels of series `number`, with `cluster` among them if it is given.
pub(super) fn series(number: usize, count: usize, cluster: Option<&str>) -> Labels {
    let own = own_labels(number)
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    let fillers = FILLERS
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let more = (0..).map(|n| (format!("label_{n:02}"), format!("value-{n:02}")));
    let mut labels: Labels = cluster
        .map(|cluster| ("cluster".to_owned(), cluster.to_owned()))
        .into_iter()
        .chain(own)
        .chain(fillers)
        .chain(more)
        .take(count.max(LABELS_MIN))
        .collect();
    labels.sort();
    labels
}

/// Returns type and help of a metric, made from its name.
pub(super) fn metadata(metric: &str) -> (MetricType, String) {
    let kind = if metric.ends_with("_total") {
        MetricType::Counter
    } else if metric.ends_with("_bucket") {
        MetricType::Histogram
    } else {
        MetricType::Gauge
    };
    (kind, format!("The {}.", metric.replace('_', " ")))
}

/// The labels of a series in order of importance: the first `LABELS_MIN - 1` identify it.
fn own_labels(number: usize) -> Vec<(&'static str, String)> {
    let pod = Pod::new(number / SERIES_PER_POD);
    match number % SERIES_PER_POD {
        index @ 0..40 => container_labels(&pod, index),
        index @ 40..60 => kube_labels(&pod, index - 40),
        index @ 60..76 => node_labels(&pod, index - 60),
        index => apiserver_labels(&pod, index - 76),
    }
}

struct Pod {
    number: usize,
    app: &'static str,
    namespace: &'static str,
    name: String,
    node: String,
    address: String,
    id: u64,
}

impl Pod {
    fn new(number: usize) -> Self {
        let app = APPS[number % APPS.len()];
        // Gives consecutive pods unlike names, as the hash of a ReplicaSet does.
        let id = (number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let node = number / 30;
        Self {
            number,
            app,
            namespace: NAMESPACES[number % NAMESPACES.len()],
            name: format!("{app}-{:09x}-{number:05}", id >> 28),
            node: format!(
                "ip-10-0-{}-{}.eu-central-1.compute.internal",
                node / 250,
                node % 250
            ),
            address: format!(
                "10.{}.{}.{}",
                number / 62_500 % 250,
                number / 250 % 250,
                number % 250
            ),
            id,
        }
    }
}

fn container_labels(pod: &Pod, index: usize) -> Vec<(&'static str, String)> {
    let container = if index < 20 { pod.app } else { "istio-proxy" };
    vec![
        ("__name__", CONTAINER_METRICS[index % 20].to_owned()),
        ("pod", pod.name.clone()),
        ("container", container.to_owned()),
        ("namespace", pod.namespace.to_owned()),
        ("node", pod.node.clone()),
        ("instance", format!("{}:10250", pod.node)),
        ("job", "kubelet".to_owned()),
        ("endpoint", "https-metrics".to_owned()),
        ("service", "kubelet".to_owned()),
        ("metrics_path", "/metrics/cadvisor".to_owned()),
        (
            "image",
            format!(
                "registry.example.com/shop/{container}:v1.{}.0",
                pod.number % 7
            ),
        ),
        (
            "id",
            format!(
                "/kubepods.slice/kubepods-burstable.slice/pod{:016x}.slice",
                pod.id
            ),
        ),
    ]
}

fn kube_labels(pod: &Pod, index: usize) -> Vec<(&'static str, String)> {
    vec![
        ("__name__", KUBE_METRICS[index].to_owned()),
        ("pod", pod.name.clone()),
        ("namespace", pod.namespace.to_owned()),
        ("node", pod.node.clone()),
        ("container", pod.app.to_owned()),
        ("instance", "10.0.3.17:8443".to_owned()),
        ("job", "kube-state-metrics".to_owned()),
        ("endpoint", "https-main".to_owned()),
        ("service", "kube-state-metrics".to_owned()),
        (
            "uid",
            format!(
                "{:08x}-5b1c-4f0e-9a77-{:012x}",
                pod.id >> 32,
                pod.id & 0xffff_ffff
            ),
        ),
        ("pod_ip", pod.address.clone()),
        ("created_by_kind", "ReplicaSet".to_owned()),
    ]
}

fn node_labels(pod: &Pod, index: usize) -> Vec<(&'static str, String)> {
    vec![
        ("__name__", "node_cpu_seconds_total".to_owned()),
        ("instance", format!("{}:9100", pod.address)),
        ("cpu", (index / CPU_MODES.len()).to_string()),
        ("mode", CPU_MODES[index % CPU_MODES.len()].to_owned()),
        ("job", "node-exporter".to_owned()),
        ("namespace", "monitoring".to_owned()),
        ("pod", format!("node-exporter-{:05}", pod.number)),
        ("node", pod.node.clone()),
        ("container", "node-exporter".to_owned()),
        ("endpoint", "http-metrics".to_owned()),
        ("service", "node-exporter".to_owned()),
    ]
}

fn apiserver_labels(pod: &Pod, index: usize) -> Vec<(&'static str, String)> {
    vec![
        (
            "__name__",
            "apiserver_request_duration_seconds_bucket".to_owned(),
        ),
        ("instance", format!("{}:6443", pod.address)),
        ("le", BUCKET_BOUNDS[index].to_owned()),
        (
            "verb",
            ["GET", "LIST", "PATCH", "WATCH"][pod.number % 4].to_owned(),
        ),
        (
            "resource",
            ["configmaps", "leases", "nodes", "pods"][pod.number / 4 % 4].to_owned(),
        ),
        ("scope", "namespace".to_owned()),
        ("group", "coordination.k8s.io".to_owned()),
        ("version", "v1".to_owned()),
        ("component", "apiserver".to_owned()),
        ("job", "apiserver".to_owned()),
        ("namespace", "default".to_owned()),
        ("endpoint", "https".to_owned()),
        ("service", "kubernetes".to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_number_has_a_series_of_its_own_with_sorted_unique_names() {
        for count in [LABELS_MIN, 14, 40] {
            let mut seen = HashSet::new();
            for number in 0..3_000 {
                let labels = series(number, count, Some("production"));
                assert_eq!(labels.len(), count, "{labels:?}");
                assert!(
                    labels.is_sorted_by(|left, right| left.0 < right.0),
                    "{labels:?}"
                );
                assert!(
                    seen.insert(labels),
                    "series {number} with {count} labels repeats an earlier one"
                );
            }
        }
    }
}
