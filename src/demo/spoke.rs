//! A spoke of the demo: its name and token, and a sender of metrics of this process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use sha2::{Digest, Sha256};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use super::message::{self, Series};
use super::process::{self, CpuSeconds};
use crate::load::client::{Client, Response, Server, bearer, write_request};
use crate::load::drive::unix_ms;
use crate::remote_write::WRITE_PATH;
use crate::wire::Protocol;

const SEND_INTERVAL: Duration = Duration::from_secs(1);

/// A spoke that is in the gate's configuration.
#[derive(Clone)]
pub(super) struct Spoke {
    pub(super) name: &'static str,
    /// The version of the messages that it sends.
    pub(super) protocol: Protocol,
    pub(super) token: String,
}

impl Spoke {
    /// Makes a spoke with a new random token.
    pub(super) fn new(name: &'static str, protocol: Protocol) -> anyhow::Result<Self> {
        let mut random = [0; 32];
        getrandom::fill(&mut random).context("no randomness from the operating system")?;
        Ok(Self {
            name,
            protocol,
            token: hex(&random),
        })
    }

    /// The SHA-256 of the token in hex, for the gate's configuration.
    pub(super) fn token_sha256(&self) -> String {
        hex(&Sha256::digest(&self.token))
    }

    /// Sends series to the gate over a connection of its own.
    pub(super) async fn send(
        &self,
        gate: SocketAddr,
        series: &[Series],
    ) -> anyhow::Result<Response> {
        self.send_over(&mut Client::new(Server::at(gate)), series)
            .await
    }

    async fn send_over(&self, client: &mut Client, series: &[Series]) -> anyhow::Result<Response> {
        let body = message::encode(self.protocol, series)?;
        let authorization = bearer(&self.token)?;
        let request = write_request(WRITE_PATH, self.protocol, Some(&authorization), body)?;
        client.send(request).await
    }

    fn own_metrics(&self) -> anyhow::Result<[Series; 3]> {
        let instance = format!("{}-0", self.name);
        let labels = [
            ("cluster", self.name),
            ("instance", &instance),
            ("job", "demo"),
        ];
        let now = unix_ms();
        let cpu_seconds = CpuSeconds::now()?.process;
        Ok([
            Series::new("up", &labels, (1.0, now)),
            Series::new("process_cpu_seconds_total", &labels, (cpu_seconds, now)),
            Series::new(
                "process_resident_memory_bytes",
                &labels,
                (process::resident_bytes()?, now),
            ),
        ])
    }
}

/// Counts of a sender, as a Prometheus has them: a request without a response or with a 5xx is
/// repeated, so it counts only once.
#[derive(Debug, Default)]
pub(super) struct SentCounts {
    /// Samples of requests with a final response.
    pub(super) samples: AtomicU64,
    /// Those whose response was 4xx, so that they are lost.
    pub(super) samples_failed: AtomicU64,
}

/// Sends the metrics of this process every second, until it is dropped.
pub(super) struct Sender {
    pub(super) spoke: Spoke,
    pub(super) sent: Arc<SentCounts>,
    _task: AbortOnDropHandle<()>,
}

impl Sender {
    /// Starts sending.
    pub(super) fn start(spoke: Spoke, gate: SocketAddr) -> Self {
        let sent = Arc::new(SentCounts::default());
        let client = Client::new(Server::at(gate));
        let task = tokio::spawn(send_metrics(spoke.clone(), client, Arc::clone(&sent)));
        Self {
            spoke,
            sent,
            _task: AbortOnDropHandle::new(task),
        }
    }
}

async fn send_metrics(spoke: Spoke, mut client: Client, sent: Arc<SentCounts>) {
    let mut ticks = interval(SEND_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // A failure needs no retry: the next tick sends newer values.
        let Ok(series) = spoke.own_metrics() else {
            continue;
        };
        let Ok(response) = spoke.send_over(&mut client, &series).await else {
            continue;
        };
        if !response.status.is_server_error() {
            sent.samples
                .fetch_add(series.len() as u64, Ordering::Relaxed);
        }
        if response.status.is_client_error() {
            sent.samples_failed
                .fetch_add(series.len() as u64, Ordering::Relaxed);
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
