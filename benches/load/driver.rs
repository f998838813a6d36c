//! Sends a load with a process of `hubgate load`, so that its CPU time is not in the figures, and
//! reads the summary.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use hubgate::load::tally::Summary;
use hubgate::wire::Protocol;
use tokio::process::Command;
use tokio::time::timeout;

/// The path of the hubgate binary.
pub(crate) const HUBGATE: &str = env!("CARGO_BIN_EXE_hubgate");

/// The value of the cluster label and the name of the only spoke.
pub(crate) const SPOKE: &str = "production";

/// Series of a request, each with one sample.
pub(crate) const SERIES_PER_REQUEST: u64 = 2_000;

/// How much longer than its duration a load may take: it makes the bodies first, and waits for the
/// last responses.
const GRACE: Duration = Duration::from_secs(60);

/// A load to send.
#[derive(Debug, Clone)]
pub(crate) struct Load<'a> {
    pub(crate) url: String,
    pub(crate) token_file: &'a Path,
    pub(crate) protocol: Protocol,
    /// Whether the series have a cluster label.
    pub(crate) cluster: bool,
    pub(crate) connections: usize,
    /// Distinct bodies of a connection; `None` is the default of `hubgate load`.
    pub(crate) bodies_per_connection: Option<usize>,
    /// Samples per second of an open loop; `None` is a closed loop.
    pub(crate) rate: Option<f64>,
}

impl Load<'_> {
    /// Sends the load. A response other than 2xx is an error.
    pub(crate) async fn send(&self, duration: Duration) -> anyhow::Result<Summary> {
        let mut command = Command::new(HUBGATE);
        command
            .arg("load")
            .args(["--url", &self.url])
            .arg("--token-file")
            .arg(self.token_file)
            .args(["--protocol", self.protocol.name()])
            .args(["--series-per-request", &SERIES_PER_REQUEST.to_string()])
            .args(["--connections", &self.connections.to_string()])
            .args(["--duration", &format!("{}ms", duration.as_millis())]);
        if self.cluster {
            command.args(["--cluster", SPOKE]);
        }
        if let Some(bodies) = self.bodies_per_connection {
            command.args(["--bodies-per-connection", &bodies.to_string()]);
        }
        if let Some(rate) = self.rate {
            command.args(["--rate", &rate.to_string()]);
        }
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
        let output = timeout(duration + GRACE, output)
            .await
            .context("the load does not end")?
            .context("run hubgate load")?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{stderr}{stdout}");
        let summary: Summary = serde_json::from_str(&stdout).context("the load's JSON")?;
        ensure!(
            summary.samples == summary.requests * SERIES_PER_REQUEST,
            "not every request has a response: {stdout}"
        );
        Ok(summary)
    }
}
