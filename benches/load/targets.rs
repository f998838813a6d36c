//! Targets shaped like those of a cluster, for a real Prometheus that scrapes them.
//!
//! Their series are those of the cluster mix. What all series of a target share are labels of the
//! target, as service discovery gives them, and the rest is on its page.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use http::StatusCode;
use hubgate::load::shape::{self, Labels, Shape};
use hubgate::wire::Protocol;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Each node has a kubelet, a node exporter, and a share of the other targets of a cluster.
const NODES: usize = 100;

/// The series of a node in the cluster mix.
const SERIES_PER_NODE: usize = 200;

/// The labels that all series of a target share.
const TARGET_LABELS: [&str; 6] = [
    "endpoint",
    "instance",
    "job",
    "metrics_path",
    "node",
    "service",
];

/// Targets that are served until they are dropped.
pub(crate) struct Targets {
    address: SocketAddr,
    targets: Arc<Vec<Target>>,
    server: JoinHandle<()>,
}

struct Target {
    labels: Labels,
    /// The lines of its page, without the values.
    lines: Vec<String>,
    /// So that values change from scrape to scrape.
    scrapes: AtomicU64,
}

impl Targets {
    /// Serves them on a port of this machine.
    pub(crate) async fn serve() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let targets = Arc::new(all());
        let router = Router::new()
            .route("/{target}", get(page))
            .with_state(Arc::clone(&targets));
        let server = tokio::spawn(async move {
            // A failure shows as samples that do not arrive.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self {
            address,
            targets,
            server,
        })
    }

    /// Series on all pages.
    pub(crate) fn series(&self) -> usize {
        self.targets.iter().map(|target| target.lines.len()).sum()
    }

    /// The `static_configs` of a Prometheus that scrapes them.
    pub(crate) fn static_configs(&self) -> String {
        let mut yaml = String::new();
        for (number, target) in self.targets.iter().enumerate() {
            let labels = target.labels.iter();
            let labels = labels.map(|(name, value)| format!(", {name}: \"{value}\""));
            let labels: String = labels.collect();
            let address = self.address;
            let path = format!("__metrics_path__: /{number}");
            yaml.push_str(&format!(
                "  - {{targets: [\"{address}\"], labels: {{{path}{labels}}}}}\n"
            ));
        }
        yaml
    }
}

impl Drop for Targets {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn all() -> Vec<Target> {
    let shape = Shape {
        protocol: Protocol::V1,
        series_per_request: 0,
        mix: shape::Mix::Cluster,
        extra: None,
        cluster: None,
    };
    let mut lines_by_labels: BTreeMap<Labels, Vec<String>> = BTreeMap::new();
    for number in 0..NODES * SERIES_PER_NODE {
        let labels = shape.series(number).into_iter();
        let (shared, own): (Labels, Labels) =
            labels.partition(|(name, _)| TARGET_LABELS.contains(&name.as_str()));
        let lines = lines_by_labels.entry(shared).or_default();
        lines.push(line(&own));
    }
    let targets = lines_by_labels.into_iter();
    let targets = targets.map(|(labels, lines)| Target {
        labels,
        lines,
        scrapes: AtomicU64::new(0),
    });
    targets.collect()
}

/// A series in the text format. No value of the mix needs an escape.
fn line(labels: &Labels) -> String {
    let (metric, labels): (Labels, Labels) =
        (labels.iter().cloned()).partition(|(name, _)| name == "__name__");
    let metric = metric.first().map_or("", |(_, value)| value.as_str());
    let labels = labels.iter();
    let labels: Vec<_> = labels
        .map(|(name, value)| format!("{name}=\"{value}\""))
        .collect();
    format!("{metric}{{{}}}", labels.join(","))
}

async fn page(
    State(targets): State<Arc<Vec<Target>>>,
    Path(number): Path<usize>,
) -> Result<String, StatusCode> {
    let target = targets.get(number).ok_or(StatusCode::NOT_FOUND)?;
    let scrape = target.scrapes.fetch_add(1, Ordering::Relaxed);
    let mut page = String::new();
    for (number, line) in (0_u64..).zip(&target.lines) {
        let value = (number + 1) * (1_000 + scrape);
        writeln!(page, "{line} {value}.25").map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    }
    Ok(page)
}
