//! Sends a load with a process of `hubgate load`, so that its CPU time is not in the figures, and
//! reads the summary.

use std::path::{Path, PathBuf};
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

/// What the requests of a load are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Body {
    /// The mix of `hubgate load`.
    pub(crate) mix: &'static str,
    /// Series of a request, each with one sample.
    pub(crate) series: u32,
    /// The bytes of one more label.
    pub(crate) long_label_bytes: Option<u32>,
}

impl Body {
    /// Short labels, the same number for each series.
    pub(crate) const UNIFORM: Self = Self {
        mix: "uniform",
        series: 2_000,
        long_label_bytes: None,
    };

    /// As the Prometheus of a cluster sends them.
    pub(crate) const CLUSTER: Self = Self {
        mix: "cluster",
        ..Self::UNIFORM
    };

    /// The same mix with other numbers of series, and with a long label.
    pub(crate) fn sizes(self) -> [Self; 6] {
        let sized = |series| Self { series, ..self };
        let long_label = Self {
            long_label_bytes: Some(200),
            ..self
        };
        [
            sized(500),
            sized(2_000),
            long_label,
            sized(5_000),
            sized(10_000),
            sized(50_000),
        ]
    }

    pub(crate) fn name(self) -> String {
        let label = match self.long_label_bytes {
            Some(bytes) => format!(" with a label of {bytes} bytes"),
            None => String::new(),
        };
        format!("{}, {} series{label}", self.mix, self.series)
    }

    /// Connections, if not so many as usual: an upgrade of 50,000 series takes more than half of the
    /// bytes that hubgate may hold.
    pub(crate) fn connections(self) -> Option<usize> {
        (self.series > 10_000).then_some(1)
    }
}

/// How much longer than its duration a load may take: it makes the bodies first, and waits for the
/// last responses.
const GRACE: Duration = Duration::from_secs(60);

/// A load to send.
#[derive(Debug, Clone)]
pub(crate) struct Load<'a> {
    pub(crate) url: String,
    /// The authority of an `https://` URL.
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) token_file: &'a Path,
    pub(crate) protocol: Protocol,
    pub(crate) body: Body,
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
            .args(["--mix", self.body.mix])
            .args(["--series-per-request", &self.body.series.to_string()])
            .args(["--connections", &self.connections.to_string()])
            .args(["--duration", &format!("{}ms", duration.as_millis())]);
        if let Some(file) = &self.ca_file {
            command.arg("--ca-file").arg(file);
        }
        if let Some(bytes) = self.body.long_label_bytes {
            command.args(["--long-label-bytes", &bytes.to_string()]);
        }
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
            summary.samples == summary.requests * u64::from(self.body.series),
            "not every request has a response: {stdout}"
        );
        Ok(summary)
    }
}
