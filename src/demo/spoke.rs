//! A spoke of the demo: its name, its token, and a sender that writes this process' own metrics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use sha2::{Digest, Sha256};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use super::message::{self, Series};
use super::processor::{self, ProcessorTime};
use crate::load::WRITE_PATH;
use crate::load::client::{Client, Response, Server, bearer, write_request};
use crate::load::drive::unix_ms;
use crate::wire::Protocol;

const SEND_INTERVAL: Duration = Duration::from_secs(1);

/// A spoke as the gate's configuration knows it.
#[derive(Clone)]
pub(super) struct Spoke {
    pub(super) name: &'static str,
    /// What it writes.
    pub(super) protocol: Protocol,
    pub(super) token: String,
}

impl Spoke {
    /// Makes a spoke with a new token.
    pub(super) fn new(name: &'static str, protocol: Protocol) -> anyhow::Result<Self> {
        let mut random = [0; 32];
        getrandom::fill(&mut random).context("no randomness from the operating system")?;
        Ok(Self {
            name,
            protocol,
            token: hex(&random),
        })
    }

    /// The digest of the token, for the gate's configuration.
    pub(super) fn token_sha256(&self) -> String {
        hex(&Sha256::digest(&self.token))
    }

    /// Writes series to the gate over a connection of its own.
    pub(super) async fn write(
        &self,
        gate: SocketAddr,
        series: &[Series],
    ) -> anyhow::Result<Response> {
        self.write_over(&mut Client::new(Server::at(gate)), series)
            .await
    }

    async fn write_over(&self, client: &mut Client, series: &[Series]) -> anyhow::Result<Response> {
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
        let processor = ProcessorTime::now()?.process;
        Ok([
            Series::new("up", &labels, (1.0, now)),
            Series::new("process_cpu_seconds_total", &labels, (processor, now)),
            Series::new(
                "process_resident_memory_bytes",
                &labels,
                (processor::resident_bytes()?, now),
            ),
        ])
    }
}

/// What a sender has sent, counted as Prometheus counts: a 5xx or no response is tried again.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pub(super) samples: AtomicU64,
    /// Samples that were refused for good.
    pub(super) samples_failed: AtomicU64,
}

/// Writes a spoke's metrics once a second until it is dropped.
pub(super) struct Sender {
    pub(super) spoke: Spoke,
    pub(super) sent: Arc<Sent>,
    _task: AbortOnDropHandle<()>,
}

impl Sender {
    /// Starts sending.
    pub(super) fn start(spoke: Spoke, gate: SocketAddr) -> Self {
        let sent = Arc::new(Sent::default());
        let client = Client::new(Server::at(gate));
        let task = tokio::spawn(send(spoke.clone(), client, Arc::clone(&sent)));
        Self {
            spoke,
            sent,
            _task: AbortOnDropHandle::new(task),
        }
    }
}

async fn send(spoke: Spoke, mut client: Client, sent: Arc<Sent>) {
    let mut ticks = interval(SEND_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // The next tick is the retry: these are gauges and counters of now.
        let Ok(series) = spoke.own_metrics() else {
            continue;
        };
        let Ok(response) = spoke.write_over(&mut client, &series).await else {
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
