//! Measures a real Prometheus as hub, alone and behind the gate.
//!
//! The rate is fixed, so that all set-ups do the same work. It is low enough for the most expensive
//! one on a small machine. A sample that the hub did not append, by its own count, fails the bench.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use hubgate::load::tally::Latency;
use hubgate::remote_write::WRITE_PATH;
use hubgate::wire::Protocol;
use tokio::process::Command;

use crate::driver::{Driver, Load};
use crate::measure::Extent;
use crate::peers::{find_on_path, version};
use crate::process::{Process, free_address};
use crate::scrape;
use crate::spokes::Spoke;
use crate::subjects::start_hubgate;
use crate::traffic::{Body, Mix};

/// The body of the load.
fn body() -> Body {
    Mix::Uniform.usual().body
}

/// With 8 connections these are 96,000 series, as of some 30 nodes.
const BODIES_PER_CONNECTION: usize = 6;

/// The metric of Prometheus that counts appended samples. Some versions have a series for each type
/// of sample.
const APPENDED: &str = "prometheus_tsdb_head_samples_appended_total";

/// An installed Prometheus.
#[derive(Debug, Clone)]
pub(crate) struct Prometheus {
    path: PathBuf,
    /// Such as `3.1.0`.
    pub(crate) version: String,
}

/// Whether the gate is in front of the hub, and what is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SetUp {
    pub(crate) gate: bool,
    pub(crate) sent: Protocol,
}

/// The figures of a set-up. Those of hub and gate are CPU seconds per million samples.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) hub: f64,
    pub(crate) gate: Option<f64>,
    pub(crate) latency: Latency,
    pub(crate) samples: u64,
    pub(crate) requests_unsent: u64,
}

impl Prometheus {
    /// Finds the servers to measure: `PROMETHEUS_BIN`, and the one on `PATH`.
    pub(crate) async fn all() -> anyhow::Result<Vec<Self>> {
        let named = std::env::var_os("PROMETHEUS_BIN").map(PathBuf::from);
        let mut paths: Vec<_> = named
            .into_iter()
            .chain(find_on_path("prometheus"))
            .collect();
        paths.dedup();
        let mut all = Vec::new();
        for path in paths {
            let line = version(&path, "--version").await.unwrap_or_default();
            let version = line.strip_prefix("prometheus, version ");
            let version = version.and_then(|rest| rest.split_whitespace().next());
            let version = version
                .with_context(|| format!("{} is no prometheus: {line}", path.display()))?
                .to_owned();
            all.push(Self { path, version });
        }
        Ok(all)
    }

    /// The set-ups to measure. The hub alone comes first, because the others are compared with it.
    pub(crate) fn set_ups(&self) -> Vec<SetUp> {
        let alone = |sent| SetUp { gate: false, sent };
        let behind = |sent| SetUp { gate: true, sent };
        let mut set_ups = vec![alone(Protocol::V1), behind(Protocol::V1)];
        if self.speaks_v2() {
            set_ups.extend([alone(Protocol::V2), behind(Protocol::V2)]);
        }
        set_ups
    }

    /// Whether it receives V2. A 2.x needs an experimental flag for that.
    fn speaks_v2(&self) -> bool {
        let major = self.version.split('.').next();
        major.and_then(|major| major.parse().ok()) >= Some(3)
    }

    /// Starts it as a hub, with its files in `folder`.
    pub(crate) async fn start(&self, folder: &Path, config: &str) -> anyhow::Result<Server> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join("prometheus.yaml");
        std::fs::write(&path, config)?;
        let data = folder.join("data");
        let address = free_address()?;
        let mut command = Command::new(&self.path);
        command
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--web.enable-remote-write-receiver");
        let process = Process::start("prometheus", command)?;
        process.logged("ready to receive web requests").await?;
        Ok(Server { process, address })
    }

    /// Measures a set-up with a new hub, at `rate` samples per second.
    pub(crate) async fn measure(
        &self,
        set_up: SetUp,
        extent: Extent,
        rate: u32,
    ) -> anyhow::Result<Cost> {
        let folder = tempfile::tempdir()?;
        let hub = self.start(&folder.path().join("hub"), "").await?;
        let gate = if set_up.gate {
            Some(start_hubgate(folder.path(), hub.address).await?)
        } else {
            None
        };
        let load = Load {
            url: gate.as_ref().map_or_else(|| hub.url(), |gate| gate.url()),
            ca_file: None,
            spokes: vec![Spoke::first()],
            protocol: set_up.sent,
            body: body(),
            cluster: true,
            connections: extent.connections,
            bodies_per_connection: BODIES_PER_CONNECTION,
            rate: Some(rate.into()),
        };
        let mut driver = Driver::start(&load).await?;
        driver.send(warm_up(extent, rate)).await?;

        let gate_seconds = || match &gate {
            Some(gate) => anyhow::Ok(Some(gate.process.usage()?.cpu_seconds)),
            None => Ok(None),
        };
        let appended_before = hub.appended().await?;
        let (hub_before, gate_before) = (hub.process.usage()?.cpu_seconds, gate_seconds()?);
        let outcome = driver.send(extent.duration).await?;
        let (hub_after, gate_after) = (hub.process.usage()?.cpu_seconds, gate_seconds()?);
        let appended = hub.appended().await? - appended_before;
        ensure!(
            appended == outcome.samples,
            "{} samples sent, {appended} appended",
            outcome.samples
        );
        hub.process.end().await?;
        if let Some(gate) = gate {
            gate.process.end().await?;
        }
        let millions = outcome.samples as f64 / 1e6;
        Ok(Cost {
            hub: (hub_after - hub_before) / millions,
            gate: gate_before
                .zip(gate_after)
                .map(|(before, after)| (after - before) / millions),
            latency: outcome.latency_seconds,
            samples: outcome.samples,
            requests_unsent: outcome.requests_unsent,
        })
    }
}

impl SetUp {
    pub(crate) fn name(self) -> String {
        let who = if self.gate {
            "gate and hub"
        } else {
            "hub alone"
        };
        format!("{who}, sent {}", self.sent.name().to_uppercase())
    }
}

impl Cost {
    pub(crate) fn sum(&self) -> f64 {
        self.hub + self.gate.unwrap_or_default()
    }
}

/// Long enough to send every series twice. A new series costs the hub much more than a new sample,
/// which must not be in the figures.
fn warm_up(extent: Extent, rate: u32) -> Duration {
    let bodies = (extent.connections * BODIES_PER_CONNECTION) as f64;
    let twice = 2.0 * bodies * f64::from(body().series) / f64::from(rate);
    extent.warm_up.max(Duration::from_secs_f64(twice))
}

/// A running Prometheus.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// The URL for remote writes.
    pub(crate) fn url(&self) -> String {
        format!("http://{}{WRITE_PATH}", self.address)
    }

    /// Samples that it has appended since its start.
    pub(crate) async fn appended(&self) -> anyhow::Result<u64> {
        scrape::sum(self.address, APPENDED, &[]).await
    }
}
