//! Everything that the demo runs: hub, gate and spokes, in this process or as Prometheus servers.
//!
//! All of it ends when the environment is dropped, so an error or Ctrl-C leaves nothing behind.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};

use super::hub::Hub;
use super::prometheus::{Folder, Program, Server};
use super::spoke::{Sender, Spoke};
use crate::config;
use crate::gateway::Gateway;
use crate::remote_write::WRITE_PATH;
use crate::wire::Protocol;

/// How long requests in flight may take at the end. Their samples are not needed any more.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// The name of the gate's threads, by which their CPU time is found.
pub(super) const GATE_THREADS: &str = "gate";

/// The threads of hub and gate.
pub(super) struct Threads {
    hub: Runtime,
    gate: Runtime,
}

impl Threads {
    /// Starts the threads.
    pub(super) fn start() -> anyhow::Result<Self> {
        let start = |name| {
            let runtime = Builder::new_multi_thread()
                .thread_name(name)
                .enable_all()
                .build();
            runtime.with_context(|| format!("start the threads of the {name}"))
        };
        Ok(Self {
            hub: start("hub")?,
            gate: start(GATE_THREADS)?,
        })
    }
}

/// The running parts. They are dropped in the order of the fields, so the senders end first.
pub(super) struct Environment {
    parts: Parts,
    /// The two spokes of the gate's configuration.
    pub(super) production: Spoke,
    pub(super) staging: Spoke,
    pub(super) hub: SocketAddr,
    /// The address for the writes of spokes.
    pub(super) gate: SocketAddr,
    /// The address for operators.
    pub(super) admin: SocketAddr,
    gateway: Gateway,
}

/// The hub and the senders of the spokes.
enum Parts {
    InProcess {
        senders: Vec<Sender>,
        _hub: Hub,
    },
    Prometheus {
        spokes: Vec<(&'static str, Server)>,
        _hub: Server,
        version: String,
        _folder: Folder,
    },
}

/// How many samples of its own metrics a spoke counts as sent and as failed.
pub(super) struct SpokeCounts {
    pub(super) spoke: &'static str,
    pub(super) samples: f64,
    pub(super) samples_failed: f64,
}

impl Environment {
    /// Starts hub, gate and senders in this process.
    pub(super) async fn start(threads: &Threads) -> anyhow::Result<Self> {
        let hub = threads.hub.spawn(Hub::start()).await??;
        let production = Spoke::new("production", Protocol::V1)?;
        let staging = Spoke::new("staging", Protocol::V2)?;
        let gateway = start_gate(threads, hub.address(), [&production, &staging]).await?;
        let gate = gateway.write_address();
        let senders = [&production, &staging].map(|spoke| Sender::start(spoke.clone(), gate));
        Ok(Self {
            hub: hub.address(),
            gate,
            admin: gateway.admin_address(),
            parts: Parts::InProcess {
                senders: senders.into(),
                _hub: hub,
            },
            production,
            staging,
            gateway,
        })
    }

    /// Starts the gate in this process, and Prometheus servers as hub and spokes.
    pub(super) async fn start_with(program: Program, threads: &Threads) -> anyhow::Result<Self> {
        let folder = Folder::new()?;
        let hub = Server::hub(&program, &folder).await?;
        let newest = if program.speaks_v2() {
            Protocol::V2
        } else {
            Protocol::V1
        };
        let production = Spoke::new("production", Protocol::V1)?;
        let staging = Spoke::new("staging", newest)?;
        let gateway = start_gate(threads, hub.address, [&production, &staging]).await?;
        let gate = gateway.write_address();
        let mut spokes = Vec::new();
        for spoke in [&production, &staging] {
            spokes.push((
                spoke.name,
                Server::spoke(&program, &folder, spoke, gate).await?,
            ));
        }
        Ok(Self {
            hub: hub.address,
            gate,
            admin: gateway.admin_address(),
            parts: Parts::Prometheus {
                spokes,
                _hub: hub,
                version: program.version,
                _folder: folder,
            },
            production,
            staging,
            gateway,
        })
    }

    /// Ends the senders, then the gate, then the hub.
    pub(super) async fn end(mut self, threads: &Threads) -> anyhow::Result<()> {
        match &mut self.parts {
            Parts::InProcess { senders, .. } => senders.clear(),
            Parts::Prometheus { spokes, .. } => spokes.clear(),
        }
        threads
            .gate
            .spawn(self.gateway.shutdown(Duration::ZERO, SHUTDOWN_TIMEOUT))
            .await?;
        Ok(())
    }

    /// A diagram of what runs, with addresses.
    pub(super) fn diagram(&self) -> String {
        let line = |spoke: &Spoke| format!("{:>12} --{}--", spoke.name, spoke.protocol.name());
        let (what, where_to) = match &self.parts {
            Parts::InProcess { .. } => ("all in this process".to_owned(), "hub in this process"),
            Parts::Prometheus { version, .. } => (
                format!("spokes and hub are Prometheus {version}"),
                "hub Prometheus",
            ),
        };
        let (gate, hub) = (self.gate, self.hub);
        format!(
            "hubgate demo: two spokes write through the gate to one hub; {what}\n\n\
             {}\\\n{:20}+--> gate {gate} --> {where_to} {hub}\n{}/     admin {}\n",
            line(&self.production),
            "",
            line(&self.staging),
            self.admin,
        )
    }

    /// Asks each spoke how many samples it sent.
    pub(super) async fn spoke_counts(&self) -> anyhow::Result<Vec<SpokeCounts>> {
        let mut counts = Vec::new();
        match &self.parts {
            Parts::InProcess { senders, .. } => {
                counts.extend(senders.iter().map(|sender| SpokeCounts {
                    spoke: sender.spoke.name,
                    samples: sender.sent.samples.load(Ordering::Relaxed) as f64,
                    samples_failed: sender.sent.samples_failed.load(Ordering::Relaxed) as f64,
                }));
            }
            Parts::Prometheus { spokes, .. } => {
                for (spoke, server) in spokes {
                    let sum = async |name| server.own_metric(name).await;
                    counts.push(SpokeCounts {
                        spoke,
                        samples: sum("prometheus_remote_storage_samples_total").await?,
                        samples_failed: sum("prometheus_remote_storage_samples_failed_total")
                            .await?,
                    });
                }
            }
        }
        Ok(counts)
    }

    /// Whether the hub is the demo's own, which counts the samples that it accepts.
    pub(super) fn has_own_hub(&self) -> bool {
        matches!(self.parts, Parts::InProcess { .. })
    }

    /// Where to look while the demo stays up.
    pub(super) fn pages(&self) -> Vec<String> {
        let hub_page = match &self.parts {
            Parts::InProcess { .. } => format!("curl 'http://{}/api/v1/query?query=up'", self.hub),
            Parts::Prometheus { .. } => format!("http://{}/graph?g0.expr=up&g0.tab=1", self.hub),
        };
        let Spoke {
            name,
            protocol,
            token,
        } = &self.production;
        vec![
            format!(
                "gate   http://{0}/  http://{0}/metrics  hubgate status --admin http://{0}",
                self.admin
            ),
            format!("hub    {hub_page}"),
            format!(
                "load   hubgate load --url http://{}{WRITE_PATH} --protocol {} --token {token} \
                 --cluster {name}",
                self.gate,
                protocol.name()
            ),
        ]
    }
}

async fn start_gate(
    threads: &Threads,
    hub: SocketAddr,
    spokes: [&Spoke; 2],
) -> anyhow::Result<Gateway> {
    let mut text = format!(
        "listen: {{address: 127.0.0.1:0}}\nadmin: {{address: 127.0.0.1:0}}\n\
         hub: {{url: 'http://{hub}{WRITE_PATH}'}}\nspokes:\n"
    );
    for spoke in spokes {
        let (name, digest) = (spoke.name, spoke.token_sha256());
        text += &format!("  - {{name: {name}, credentials: [{{token_sha256: {digest}}}]}}\n");
    }
    let config = config::parse(&text).context("the demo's configuration")?;
    threads
        .gate
        .spawn(Gateway::start(config))
        .await?
        .context("start the gate")
}
