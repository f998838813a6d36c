//! Everything the demo runs: hub, gate and spokes, in this process or as real Prometheus servers.
//!
//! Dropping the stage ends all of it, so an error or Ctrl-C anywhere leaves nothing behind.

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
use crate::load::WRITE_PATH;
use crate::wire::Protocol;

/// How long requests in flight may take at the end; nothing is lost with them here.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Threads of hub and gate, under names that tell their processor time apart.
pub(super) struct Threads {
    pub(super) hub: Runtime,
    pub(super) gate: Runtime,
}

impl Threads {
    /// Starts them.
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
            gate: start("gate")?,
        })
    }
}

/// The running parts. Fields are dropped in their order: who writes goes first.
pub(super) struct Stage {
    actors: Actors,
    /// The gate's configuration has both, in this order.
    pub(super) production: Spoke,
    pub(super) staging: Spoke,
    pub(super) hub: SocketAddr,
    /// Where spokes write to.
    pub(super) gate: SocketAddr,
    /// Where operators look.
    pub(super) admin: SocketAddr,
    gateway: Gateway,
}

/// Who writes and who stores.
enum Actors {
    Own {
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

/// What a spoke says of its own writes.
pub(super) struct SpokeAccount {
    pub(super) spoke: &'static str,
    pub(super) samples: f64,
    pub(super) samples_failed: f64,
}

impl Stage {
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
            actors: Actors::Own {
                senders: senders.into(),
                _hub: hub,
            },
            production,
            staging,
            gateway,
        })
    }

    /// Starts the gate in this process between real Prometheus servers.
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
            actors: Actors::Prometheus {
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

    /// Ends the writers, then the gate.
    pub(super) async fn end(self, threads: &Threads) -> anyhow::Result<()> {
        let Self {
            actors, gateway, ..
        } = self;
        let actors = match actors {
            Actors::Own { senders, _hub } => {
                drop(senders);
                Actors::Own {
                    senders: Vec::new(),
                    _hub,
                }
            }
            prometheus @ Actors::Prometheus { .. } => prometheus,
        };
        threads
            .gate
            .spawn(gateway.shutdown(SHUTDOWN_TIMEOUT))
            .await?;
        drop(actors);
        Ok(())
    }

    /// Says in a few lines what runs.
    pub(super) fn picture(&self) -> String {
        let line = |spoke: &Spoke| format!("{:>12} --{}--", spoke.name, spoke.protocol.name());
        let (what, where_to) = match &self.actors {
            Actors::Own { .. } => ("all in this process".to_owned(), "hub in this process"),
            Actors::Prometheus { version, .. } => (
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

    /// Asks each spoke what became of its writes.
    pub(super) async fn spoke_accounts(&self) -> anyhow::Result<Vec<SpokeAccount>> {
        let mut accounts = Vec::new();
        match &self.actors {
            Actors::Own { senders, .. } => {
                accounts.extend(senders.iter().map(|sender| SpokeAccount {
                    spoke: sender.spoke.name,
                    samples: sender.sent.samples.load(Ordering::Relaxed) as f64,
                    samples_failed: sender.sent.samples_failed.load(Ordering::Relaxed) as f64,
                }));
            }
            Actors::Prometheus { spokes, .. } => {
                for (spoke, server) in spokes {
                    let sum = async |name| server.own_metric(name).await;
                    accounts.push(SpokeAccount {
                        spoke,
                        samples: sum("prometheus_remote_storage_samples_total").await?,
                        samples_failed: sum("prometheus_remote_storage_samples_failed_total")
                            .await?,
                    });
                }
            }
        }
        Ok(accounts)
    }

    /// Tells whether the hub is the demo's own, which counts what it takes.
    pub(super) fn has_own_hub(&self) -> bool {
        matches!(self.actors, Actors::Own { .. })
    }

    /// Where to look while the demo stays up.
    pub(super) fn pages(&self) -> Vec<String> {
        let hub_page = match &self.actors {
            Actors::Own { .. } => format!("curl 'http://{}/api/v1/query?query=up'", self.hub),
            Actors::Prometheus { .. } => format!("http://{}/graph?g0.expr=up&g0.tab=1", self.hub),
        };
        let load = |spoke: &Spoke| {
            let Spoke {
                name,
                protocol,
                token,
            } = spoke;
            let protocol = protocol.name();
            let gate = format!("http://{}{WRITE_PATH}", self.gate);
            format!(
                "hubgate load --url {gate} --protocol {protocol} --token {token} --cluster {name}"
            )
        };
        vec![
            format!(
                "gate   http://{0}/api/v1/spokes  http://{0}/metrics",
                self.admin
            ),
            format!("hub    {hub_page}"),
            format!("load   {}", load(&self.production)),
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
