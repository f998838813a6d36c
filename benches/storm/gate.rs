//! The gate between the spokes and the hub.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use hubgate::load::scrape;
use hubgate::reasons::ConnectionRefusal;
use hubgate::remote_write::WRITE_PATH;
use serde_json::Value;
use tokio::process::Command;

use crate::process::Process;
use crate::spokes::Spoke;

/// What a gate may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Connections of all spokes, which are of one address here.
    pub(crate) connections: usize,
    pub(crate) bytes_in_flight: u64,
    /// Of a request, as sent and decoded.
    pub(crate) request_bytes: u64,
    /// Of a request.
    pub(crate) series: usize,
}

/// A running gate.
pub(crate) struct Gate {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
}

/// The page of metrics of a gate.
pub(crate) struct Metrics(String);

/// The floats of a spoke.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Account {
    pub(crate) received: f64,
    pub(crate) written: f64,
    pub(crate) rejected: f64,
    pub(crate) failed: f64,
}

impl Gate {
    /// Starts a gate in front of a hub, which need not be there, and waits until it listens.
    pub(crate) async fn start(
        folder: &Path,
        hub: SocketAddr,
        limits: &Limits,
        spokes: impl Iterator<Item = Spoke>,
    ) -> anyhow::Result<Self> {
        let path = folder.join("hubgate.yaml");
        std::fs::write(&path, yaml(hub, limits, spokes))?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_hubgate"));
        command
            .arg("serve")
            .arg(format!("--config.file={}", path.display()))
            .arg("--log.format=json");
        let process = Process::start("hubgate", command)?;
        let address = logged_address(&process, "receiving remote writes").await?;
        let admin = logged_address(&process, "serving admin").await?;
        Ok(Self {
            process,
            address,
            admin,
        })
    }

    pub(crate) async fn metrics(&self) -> anyhow::Result<Metrics> {
        let page = scrape::get(self.admin, "/metrics").await?;
        Ok(Metrics(page.text()))
    }
}

impl Metrics {
    /// What all requests hold.
    pub(crate) fn bytes_in_flight(&self) -> f64 {
        scrape::sum(&self.0, "hubgate_bytes_in_flight", &[]).unwrap_or(0.0)
    }

    /// The connections that the gate closed, each reason with their number.
    pub(crate) fn refused_connections(&self) -> String {
        let refused = ConnectionRefusal::ALL.into_iter().filter_map(|reason| {
            let label = format!("reason=\"{}\"", reason.name());
            let count = scrape::sum(&self.0, "hubgate_connections_refused_total", &[&label])?;
            (count > 0.0).then(|| format!("{count} {}", reason.name()))
        });
        refused.collect::<Vec<_>>().join(", ")
    }

    pub(crate) fn account(&self, spoke: &Spoke) -> Account {
        let spoke = format!("spoke=\"{}\"", spoke.name);
        let count = |fate: &str| {
            let metric = format!("hubgate_samples_{fate}_total");
            scrape::sum(&self.0, &metric, &[&spoke, "kind=\"float\""]).unwrap_or(0.0)
        };
        Account {
            received: count("received"),
            written: count("written"),
            rejected: count("rejected"),
            failed: count("failed"),
        }
    }
}

async fn logged_address(process: &Process, message: &str) -> anyhow::Result<SocketAddr> {
    let line: Value = serde_json::from_str(&process.logged(message).await?)?;
    let address = line["address"].as_str().context("the address is logged")?;
    Ok(address.parse()?)
}

fn yaml(hub: SocketAddr, limits: &Limits, spokes: impl Iterator<Item = Spoke>) -> String {
    let Limits {
        connections,
        bytes_in_flight,
        request_bytes,
        series,
    } = limits;
    let spokes: String = spokes.map(|spoke| spoke.yaml()).collect();
    format!(
        "\
listen:
  address: \"127.0.0.1:0\"
  connections_max: {connections}
  connections_per_address_max: {connections}
admin: {{address: \"127.0.0.1:0\"}}
limits:
  bytes_in_flight_max: {bytes_in_flight}
  body_bytes_max: {request_bytes}
  decoded_bytes_max: {request_bytes}
hub: {{url: \"http://{hub}{WRITE_PATH}\", protocol: v1}}
spoke_defaults: {{limits: {{series_per_request_max: {series}}}}}
spokes:
{spokes}"
    )
}
