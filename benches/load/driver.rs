//! Sends a load with a process of its own, so that its CPU time is not in the figures, and reads the
//! summaries.
//!
//! The process makes the bodies once and sends them as often as it is asked to: at first to warm a
//! subject up, then to measure it.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use hubgate::load::tally::Summary;
use hubgate::wire::Protocol;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::spokes::Spoke;
use crate::traffic::Body;

/// How much longer than its duration a load may take: it makes the bodies first, and waits for the
/// last responses.
const GRACE: Duration = Duration::from_secs(60);

/// A load to send.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) url: String,
    /// The authority of an `https://` URL.
    pub(crate) ca_file: Option<PathBuf>,
    /// The spokes that send; the connections are spread over them.
    pub(crate) spokes: Vec<Spoke>,
    #[serde(with = "protocol_name")]
    pub(crate) protocol: Protocol,
    pub(crate) body: Body,
    /// Whether made series have a cluster label.
    pub(crate) cluster: bool,
    pub(crate) connections: usize,
    /// Distinct bodies of a connection.
    pub(crate) bodies_per_connection: usize,
    /// Samples per second of an open loop; `None` is a closed loop.
    pub(crate) rate: Option<f64>,
}

/// What a process that sends says about a load.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) summary: Summary,
    /// Whether requests were sent and every response was 2xx.
    pub(crate) is_clean: bool,
    pub(crate) first_failure: Option<String>,
}

/// A process that sends a load.
pub(crate) struct Driver {
    body: Body,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    /// It ends when it is dropped.
    _child: Child,
}

impl Driver {
    /// Starts the process, and waits until its bodies are made.
    pub(crate) async fn start(load: &Load) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("find the bench's own program")?;
        let mut child = Command::new(program)
            .arg("--send")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start the load")?;
        let stdin = child.stdin.take().context("stdin is piped")?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let mut driver = Self {
            body: load.body,
            stdin,
            stdout: BufReader::new(stdout).lines(),
            _child: child,
        };
        driver
            .ask(&serde_json::to_string(load)?, Duration::ZERO)
            .await?;
        Ok(driver)
    }

    /// Sends the load for so long. A response other than 2xx is an error.
    pub(crate) async fn send(&mut self, duration: Duration) -> anyhow::Result<Summary> {
        let answer = self
            .ask(&duration.as_millis().to_string(), duration)
            .await?;
        let outcome: Outcome = serde_json::from_str(&answer).context("the load's JSON")?;
        let (summary, failure) = (outcome.summary, outcome.first_failure);
        ensure!(
            outcome.is_clean,
            "{} with the responses {:?}",
            failure.unwrap_or_else(|| "no request".to_owned()),
            summary.responses
        );
        ensure!(
            summary.samples == summary.requests * self.body.samples(),
            "not every request has a response: {summary:?}"
        );
        Ok(summary)
    }

    /// Writes a line and reads one.
    async fn ask(&mut self, line: &str, duration: Duration) -> anyhow::Result<String> {
        self.stdin.write_all(format!("{line}\n").as_bytes()).await?;
        let answer = timeout(duration + GRACE, self.stdout.next_line()).await;
        let answer = answer.context("the load does not end")??;
        answer.context("the load failed")
    }
}

mod protocol_name {
    use hubgate::wire::Protocol;
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::{Serialize, Serializer};

    use crate::protocol;

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
    pub(super) fn serialize<S: Serializer>(
        protocol: &Protocol,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        protocol.name().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Protocol, D::Error> {
        protocol(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
