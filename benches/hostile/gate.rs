//! The gate under attack.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use hubgate::remote_write::WRITE_PATH;
use sha2::{Digest, Sha256};
use tokio::process::Command;

use crate::attacks::Attack;
use crate::process::Process;

/// The name of the honest spoke and the value of its cluster label.
pub(crate) const HONEST: &str = "production";

/// The token of the honest spoke. It protects nothing.
pub(crate) const HONEST_TOKEN: &str = "honest-0123456789abcdef0123456789abcdef";

/// The token of a spoke that misbehaves.
pub(crate) const ROGUE_TOKEN: &str = "rogue-0123456789abcdef0123456789abcdef";

/// The user name of a spoke with a password.
pub(crate) const USERNAME: &str = "staging";

/// A bcrypt hash of the usual cost; no attacker finds its password.
const PASSWORD_HASH: &str = "$2y$10$f1uKEwuUgaMqn2d1/02yz.hWf.qVy2V5Q56tM/9mBq4aC58F23ZdG";

/// A running gate.
pub(crate) struct Gate {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

impl Gate {
    /// Starts a gate in front of a hub, with what an attack needs, and waits until it listens.
    pub(crate) async fn start(
        folder: &Path,
        hub: SocketAddr,
        attack: &Attack,
    ) -> anyhow::Result<Self> {
        let path = folder.join("hubgate.yaml");
        std::fs::write(&path, yaml(hub, attack))?;
        let limit = attack.open_files_max;
        let limit = limit.map_or_else(String::new, |files| format!("ulimit -n {files} && "));
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("{limit}exec \"$@\""), "sh"])
            .arg(env!("CARGO_BIN_EXE_hubgate"))
            .arg("serve")
            .arg(format!("--config.file={}", path.display()))
            .arg("--log.format=json");
        let process = Process::start("hubgate", command)?;
        let line = process.logged("receiving remote writes").await?;
        let line: serde_json::Value = serde_json::from_str(&line)?;
        let address = line["address"].as_str().context("the address is logged")?;
        let address = address.parse()?;
        Ok(Self { process, address })
    }
}

fn yaml(hub: SocketAddr, attack: &Attack) -> String {
    let connections_max = attack
        .connections_max
        .map_or_else(String::new, |connections| {
            format!(", connections_max: {connections}")
        });
    let token = |token: &str| {
        let digest = Sha256::digest(token);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("[{{token_sha256: {digest}}}]")
    };
    format!(
        "\
listen: {{address: \"127.0.0.1:0\"{connections_max}}}
admin: {{address: \"127.0.0.1:0\"}}
hub: {{url: \"http://{hub}{WRITE_PATH}\", protocol: v1}}
spokes:
- {{name: {HONEST}, credentials: {}}}
- {{name: rogue, credentials: {}}}
- name: {USERNAME}
  credentials: [{{basic: {{username: {USERNAME}, password_hash: \"{PASSWORD_HASH}\"}}}}]
",
        token(HONEST_TOKEN),
        token(ROGUE_TOKEN)
    )
}
