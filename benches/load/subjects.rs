//! The subjects: hubgate with each kind of work, and other programs in front of a hub.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use hubgate::remote_write::WRITE_PATH;
use hubgate::wire::Protocol;
use tokio::process::Command;

use crate::certificate::Files;
use crate::peers::{Kind, Peer};
use crate::process::{Process, free_address};
use crate::spokes::Spoke;
use crate::traffic::{Mix, Traffic};

/// The path of the hubgate binary.
pub(crate) const HUBGATE: &str = env!("CARGO_BIN_EXE_hubgate");

/// A row of the table.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) program: Program,
    pub(crate) work: &'static str,
    /// Whether the load sends over TLS.
    tls: bool,
    /// The version that the load sends.
    pub(crate) sent: Protocol,
    pub(crate) traffic: Traffic,
    /// Whether it lacks the cluster label, so that hubgate injects it.
    injects: bool,
    /// The newest version that the hub speaks.
    pub(crate) hub: Protocol,
}

#[derive(Debug, Clone)]
pub(crate) enum Program {
    /// hubgate, with `hub.protocol`; `None` lets it find out.
    Hubgate(Option<Protocol>),
    /// Another binary of hubgate, likewise.
    Base(PathBuf, Option<Protocol>),
    Peer(Peer),
}

/// A subject that accepts requests.
pub(crate) struct Running {
    pub(crate) process: Process,
    address: SocketAddr,
    /// The files of its certificate, if it speaks TLS.
    tls: Option<Files>,
    /// The address of its admin port, if it is hubgate.
    pub(crate) admin: Option<SocketAddr>,
}

impl Running {
    /// The URL for remote writes.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{WRITE_PATH}", self.address)
    }

    /// The authority of its certificate.
    pub(crate) fn ca_file(&self) -> Option<PathBuf> {
        self.tls.as_ref().map(|files| files.cert.clone())
    }
}

impl Subject {
    /// hubgate with a spoke and a hub of V1, which changes nothing.
    pub(crate) fn unchanged_v1() -> Self {
        Self {
            program: Program::Hubgate(None),
            work: "V1 to V1, unchanged",
            tls: false,
            sent: Protocol::V1,
            traffic: Mix::Uniform.usual(),
            injects: false,
            hub: Protocol::V1,
        }
    }

    /// hubgate with the kinds of work that depend on the set-up and on the labels.
    pub(crate) fn works() -> [Self; 5] {
        let unchanged_v1 = Self::unchanged_v1();
        [
            unchanged_v1.clone(),
            Self {
                work: "V2 to V2, unchanged",
                sent: Protocol::V2,
                hub: Protocol::V2,
                ..unchanged_v1.clone()
            },
            Self {
                work: "V1 to V2, upgraded",
                program: Program::Hubgate(Some(Protocol::V2)),
                hub: Protocol::V2,
                ..unchanged_v1.clone()
            },
            Self {
                work: "V2 to V1, downgraded",
                program: Program::Hubgate(Some(Protocol::V1)),
                sent: Protocol::V2,
                ..unchanged_v1.clone()
            },
            Self {
                work: "V1 to V1, label injected",
                injects: true,
                ..unchanged_v1
            },
        ]
    }

    fn unchanged_v1_over_tls() -> Self {
        Self {
            work: "V1 to V1, unchanged, over TLS",
            tls: true,
            ..Self::unchanged_v1()
        }
    }

    /// The same work of another binary of hubgate.
    fn of(self, base: &Path) -> Self {
        let program = match self.program {
            Program::Hubgate(protocol) => Program::Base(base.to_owned(), protocol),
            other => other,
        };
        Self { program, ..self }
    }

    /// The subjects of a table: hubgate with each kind of work, another binary of it, and the peers with
    /// what they can take.
    pub(crate) fn all(mix: Mix, base: Option<&Path>, peers: &[Peer]) -> Vec<Self> {
        let hubgate = Self::works()
            .into_iter()
            .chain([Self::unchanged_v1_over_tls()]);
        let works = Self::works().into_iter();
        let base = base.map(|base| works.map(|subject| subject.of(base)));
        let v1 = peers.iter().map(|peer| Self::peer(peer, Protocol::V1));
        let copying = peers.iter().filter(|peer| peer.kind.copies());
        let v2 = copying.map(|peer| Self::peer(peer, Protocol::V2));
        let base = base.into_iter().flatten();
        let tls = peers.iter().filter_map(Self::peer_over_tls);
        let peers = v1.chain(v2).chain(tls);
        let subjects = hubgate.chain(base).chain(peers);
        subjects.map(|subject| subject.with(mix.usual())).collect()
    }

    /// vmauth, which shows what a copy costs.
    pub(crate) fn vmauth(peers: &[Peer]) -> Option<Self> {
        let vmauth = peers.iter().find(|peer| peer.kind == Kind::Vmauth)?;
        Some(Self::peer(vmauth, Protocol::V1))
    }

    /// A peer in front of a hub of the version that the load sends.
    fn peer(peer: &Peer, protocol: Protocol) -> Self {
        Self {
            work: peer.kind.work(),
            program: Program::Peer(peer.clone()),
            sent: protocol,
            hub: protocol,
            ..Self::unchanged_v1()
        }
    }

    /// A peer that ends TLS in front of a hub of V1, if it is measured so.
    fn peer_over_tls(peer: &Peer) -> Option<Self> {
        Some(Self {
            work: peer.kind.tls_work()?,
            tls: true,
            ..Self::peer(peer, Protocol::V1)
        })
    }

    /// The same with other traffic.
    pub(crate) fn with(&self, traffic: Traffic) -> Self {
        Self {
            traffic,
            ..self.clone()
        }
    }

    /// Its name in the tables that compare traffic.
    pub(crate) fn column(&self) -> &'static str {
        match &self.program {
            Program::Hubgate(_) | Program::Base(..) => self.work,
            Program::Peer(peer) => peer.kind.name(),
        }
    }

    /// Names the subject, its work and its traffic.
    pub(crate) fn row(&self) -> String {
        let (sent, traffic) = (self.sent.name(), self.traffic.name());
        format!("{}: {}: {sent}, {traffic}", self.name(), self.work)
    }

    pub(crate) fn name(&self) -> &'static str {
        match &self.program {
            Program::Hubgate(_) => "hubgate",
            Program::Base(..) => "hubgate of --base",
            Program::Peer(peer) => peer.kind.name(),
        }
    }

    pub(crate) fn is_hubgate(&self) -> bool {
        matches!(self.program, Program::Hubgate(_))
    }

    /// Whether it is vmauth with the same bodies as `other`, and neither speaks TLS.
    pub(crate) fn is_vmauth_of(&self, other: &Self) -> bool {
        let is_vmauth = matches!(&self.program, Program::Peer(peer) if peer.kind == Kind::Vmauth);
        is_vmauth && !other.tls && (self.sent, self.traffic) == (other.sent, other.traffic)
    }

    /// Whether the series that are made for it have a cluster label.
    pub(crate) fn is_sent_cluster(&self) -> bool {
        !self.injects
    }

    /// The label that hubgate injects or checks. Captured series have a cluster label in any case.
    fn cluster_label(&self) -> &'static str {
        if self.injects && self.traffic.body.mix == Mix::Captured {
            "tenant"
        } else {
            "cluster"
        }
    }

    /// Whether its rate decides the rate of the latency row.
    pub(crate) fn is_unchanged_v1(&self) -> bool {
        let unchanged = Self::unchanged_v1();
        let facts = |it: &Self| (it.work, it.name(), it.traffic);
        facts(self) == facts(&unchanged)
    }

    /// Whether it responds before the hub does, so that the sink has its samples later.
    pub(crate) fn responds_early(&self) -> bool {
        matches!(&self.program, Program::Peer(peer) if peer.kind.responds_early())
    }

    /// Starts the subject in front of a hub, with its files in `folder`.
    pub(crate) async fn start(&self, folder: &Path, hub: SocketAddr) -> anyhow::Result<Running> {
        let tls = self.tls.then(|| Files::write(folder)).transpose()?;
        let (binary, protocol) = match &self.program {
            Program::Hubgate(protocol) => (Path::new(HUBGATE), *protocol),
            Program::Base(path, protocol) => (path.as_path(), *protocol),
            Program::Peer(peer) => {
                let address = free_address()?;
                let token = Spoke::first().token;
                let command = peer.command(folder, address, tls.as_ref(), hub, &token)?;
                let mut process = Process::start(peer.kind.name(), command)?;
                process.listens(address).await?;
                return Ok(Running {
                    process,
                    address,
                    tls,
                    admin: None,
                });
            }
        };
        let set_up = SetUp {
            tls,
            hub,
            protocol,
            cluster_label: self.cluster_label(),
            spokes: self.traffic.spokes,
        };
        start(binary, folder, set_up).await
    }
}

/// The configuration of a gate.
struct SetUp {
    tls: Option<Files>,
    hub: SocketAddr,
    protocol: Option<Protocol>,
    cluster_label: &'static str,
    spokes: usize,
}

/// Starts hubgate with one spoke and waits until it logs its addresses.
pub(crate) async fn start_hubgate(folder: &Path, hub: SocketAddr) -> anyhow::Result<Running> {
    let set_up = SetUp {
        tls: None,
        hub,
        protocol: None,
        cluster_label: "cluster",
        spokes: 1,
    };
    start(Path::new(HUBGATE), folder, set_up).await
}

async fn start(binary: &Path, folder: &Path, set_up: SetUp) -> anyhow::Result<Running> {
    let path = folder.join("hubgate.yaml");
    std::fs::write(&path, hubgate_yaml(&set_up))?;
    let mut command = Command::new(binary);
    command
        .arg("serve")
        .arg(format!("--config.file={}", path.display()))
        .arg("--log.format=json");
    let process = Process::start("hubgate", command)?;
    let address = logged_address(&process, "receiving remote writes").await?;
    let admin = Some(logged_address(&process, "serving admin").await?);
    Ok(Running {
        process,
        address,
        tls: set_up.tls,
        admin,
    })
}

async fn logged_address(process: &Process, message: &str) -> anyhow::Result<SocketAddr> {
    let line = process.logged(message).await?;
    let line: serde_json::Value = serde_json::from_str(&line)?;
    let address = line["address"].as_str().context("the address is logged")?;
    Ok(address.parse()?)
}

fn hubgate_yaml(set_up: &SetUp) -> String {
    let SetUp {
        hub, cluster_label, ..
    } = set_up;
    let protocol = set_up.protocol.map_or_else(String::new, |protocol| {
        format!("  protocol: {}\n", protocol.name())
    });
    let tls = set_up.tls.as_ref();
    let tls = tls.map_or_else(String::new, |Files { cert, key, .. }| {
        let (cert, key) = (cert.display(), key.display());
        format!(", tls: {{cert_file: {cert}, key_file: {key}}}")
    });
    let spokes = (0..set_up.spokes).map(|number| Spoke::new(number).yaml());
    let spokes: String = spokes.collect();
    format!(
        "\
cluster_label: {cluster_label}
listen: {{address: \"127.0.0.1:0\"{tls}}}
admin: {{address: \"127.0.0.1:0\"}}
hub:
  url: \"http://{hub}{WRITE_PATH}\"
{protocol}spokes:
{spokes}"
    )
}
