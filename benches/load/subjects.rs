//! The subjects: hubgate with each kind of work, and other programs in front of a hub.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use hubgate::remote_write::WRITE_PATH;
use hubgate::wire::Protocol;
use sha2::{Digest, Sha256};
use tokio::process::Command;

use crate::certificate::Files;
use crate::driver::{Body, HUBGATE, SPOKE};
use crate::peers::{Kind, Peer};
use crate::process::{Process, free_address};

/// The token of the spoke. It protects nothing.
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A row of the table.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) program: Program,
    pub(crate) work: &'static str,
    /// Whether the load sends over TLS.
    tls: bool,
    /// The version that the load sends.
    pub(crate) sent: Protocol,
    pub(crate) body: Body,
    /// Whether its series have a cluster label.
    pub(crate) cluster: bool,
    /// The newest version that the hub speaks.
    pub(crate) hub: Protocol,
    /// Connections of the load; `None` is the number of the command line.
    connections: Option<usize>,
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
            body: Body::UNIFORM,
            cluster: true,
            hub: Protocol::V1,
            connections: None,
        }
    }

    /// hubgate with the kinds of work that a set-up decides on.
    fn set_ups() -> [Self; 4] {
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
                ..unchanged_v1
            },
        ]
    }

    /// hubgate with each kind of work.
    fn hubgate() -> Vec<Self> {
        let unchanged_v1 = Self::unchanged_v1();
        let mut subjects = Vec::from(Self::set_ups());
        subjects.push(Self {
            work: "V1 to V1, label injected",
            cluster: false,
            ..unchanged_v1.clone()
        });
        subjects.push(Self {
            work: "V1 to V1, unchanged, 50 connections",
            connections: Some(50),
            ..unchanged_v1.clone()
        });
        subjects.push(Self {
            work: "V1 to V1, unchanged, over TLS",
            tls: true,
            ..unchanged_v1
        });
        subjects
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
    pub(crate) fn all(body: Body, base: Option<&Path>, peers: &[Peer]) -> Vec<Self> {
        let set_ups = Self::set_ups().into_iter();
        let base = base.map(|base| set_ups.map(|subject| subject.of(base)));
        let v1 = peers.iter().map(|peer| Self::peer(peer, Protocol::V1));
        let copying = peers.iter().filter(|peer| peer.kind.copies());
        let v2 = copying.map(|peer| Self::peer(peer, Protocol::V2));
        let base = base.into_iter().flatten();
        let tls = peers.iter().filter_map(Self::peer_over_tls);
        let peers = v1.chain(v2).chain(tls);
        let subjects = Self::hubgate().into_iter().chain(base).chain(peers);
        subjects.map(|subject| subject.with(body)).collect()
    }

    /// The subjects of the table of sizes. vmauth shows what a copy costs.
    pub(crate) fn all_sizes(peers: &[Peer]) -> Vec<Self> {
        let vmauth = peers.iter().filter(|peer| peer.kind == Kind::Vmauth);
        let vmauth = vmauth.map(|peer| Self::peer(peer, Protocol::V1));
        Self::set_ups().into_iter().chain(vmauth).collect()
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

    /// The same with another body.
    pub(crate) fn with(&self, body: Body) -> Self {
        Self {
            body,
            ..self.clone()
        }
    }

    /// Its name in the table of sizes.
    pub(crate) fn column(&self) -> &'static str {
        match &self.program {
            Program::Hubgate(_) | Program::Base(..) => self.work,
            Program::Peer(peer) => peer.kind.name(),
        }
    }

    /// Names the subject, its work and its body.
    pub(crate) fn row(&self) -> String {
        let (sent, body) = (self.sent.name(), self.body.name());
        format!("{}: {}: {sent}, {body}", self.name(), self.work)
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

    /// The connections of its load, where others have `usual`.
    pub(crate) fn connections(&self, usual: usize) -> usize {
        let own = self.connections.or(self.body.connections());
        own.unwrap_or(usual)
    }

    /// Whether its rate decides the rate of the latency row.
    pub(crate) fn is_unchanged_v1(&self) -> bool {
        let unchanged = Self::unchanged_v1();
        (self.work, self.name(), self.body) == (unchanged.work, unchanged.name(), unchanged.body)
    }

    /// Whether it responds before the hub does, so that the sink has its samples later.
    pub(crate) fn responds_early(&self) -> bool {
        matches!(&self.program, Program::Peer(peer) if peer.kind.responds_early())
    }

    /// Starts the subject in front of a hub, with its files in `folder`.
    pub(crate) async fn start(&self, folder: &Path, hub: SocketAddr) -> anyhow::Result<Running> {
        let tls = self.tls.then(|| Files::write(folder)).transpose()?;
        match &self.program {
            Program::Hubgate(protocol) => {
                start(Path::new(HUBGATE), folder, tls, hub, *protocol).await
            }
            Program::Base(path, protocol) => start(path, folder, tls, hub, *protocol).await,
            Program::Peer(peer) => {
                let address = free_address()?;
                let command = peer.command(folder, address, tls.as_ref(), hub, TOKEN)?;
                let mut process = Process::start(peer.kind.name(), command)?;
                process.listens(address).await?;
                Ok(Running {
                    process,
                    address,
                    tls,
                    admin: None,
                })
            }
        }
    }
}

/// Writes the token to a file for the load.
pub(crate) fn write_token(folder: &Path) -> anyhow::Result<PathBuf> {
    let path = folder.join("token");
    std::fs::write(&path, TOKEN)?;
    Ok(path)
}

/// Starts hubgate and waits until it logs its addresses.
pub(crate) async fn start_hubgate(
    folder: &Path,
    hub: SocketAddr,
    protocol: Option<Protocol>,
) -> anyhow::Result<Running> {
    start(Path::new(HUBGATE), folder, None, hub, protocol).await
}

async fn start(
    binary: &Path,
    folder: &Path,
    tls: Option<Files>,
    hub: SocketAddr,
    protocol: Option<Protocol>,
) -> anyhow::Result<Running> {
    let path = folder.join("hubgate.yaml");
    std::fs::write(&path, hubgate_yaml(tls.as_ref(), hub, protocol))?;
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
        tls,
        admin,
    })
}

async fn logged_address(process: &Process, message: &str) -> anyhow::Result<SocketAddr> {
    let line = process.logged(message).await?;
    let line: serde_json::Value = serde_json::from_str(&line)?;
    let address = line["address"].as_str().context("the address is logged")?;
    Ok(address.parse()?)
}

fn hubgate_yaml(tls: Option<&Files>, hub: SocketAddr, protocol: Option<Protocol>) -> String {
    let protocol = protocol.map_or_else(String::new, |protocol| {
        format!("  protocol: {}\n", protocol.name())
    });
    let tls = tls.map_or_else(String::new, |Files { cert, key, .. }| {
        let (cert, key) = (cert.display(), key.display());
        format!(", tls: {{cert_file: {cert}, key_file: {key}}}")
    });
    let digest = Sha256::digest(TOKEN);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "\
listen: {{address: \"127.0.0.1:0\"{tls}}}
admin: {{address: \"127.0.0.1:0\"}}
hub:
  url: \"http://{hub}{WRITE_PATH}\"
{protocol}spokes:
- name: {SPOKE}
  credentials: [{{token_sha256: {digest}}}]
"
    )
}
