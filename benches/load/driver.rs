//! Sends a load with `hubgate load`, a process of its own, and reads what it says of it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use hubgate::load::tally::Summary;
use hubgate::wire::Protocol;
use tokio::process::Command;
use tokio::time::timeout;

/// The program of this package.
pub(crate) const HUBGATE: &str = env!("CARGO_BIN_EXE_hubgate");

/// Value of the cluster label, and name of the only spoke.
pub(crate) const SPOKE: &str = "production";

/// Series, each with one sample, in a request.
pub(crate) const SERIES_PER_REQUEST: u64 = 2_000;

/// For making the bodies and for the last answers, beside the duration of the load.
const GRACE: Duration = Duration::from_secs(60);

/// What to send, and how.
#[derive(Debug, Clone)]
pub(crate) struct Load<'a> {
    pub(crate) url: String,
    pub(crate) token_file: &'a Path,
    pub(crate) protocol: Protocol,
    /// Whether the series name their cluster.
    pub(crate) cluster: bool,
    pub(crate) connections: usize,
    /// Distinct bodies of a connection; `None` is the generator's default.
    pub(crate) bodies_per_connection: Option<usize>,
    /// Samples a second of an open loop; a closed loop without.
    pub(crate) rate: Option<f64>,
}

impl Load<'_> {
    /// Sends for so long; an answer that is not 2xx is an error.
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
            "not all requests were answered: {stdout}"
        );
        Ok(summary)
    }
}
