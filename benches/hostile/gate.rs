//! The gate under attack.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use hubgate::remote_write::WRITE_PATH;
use sha2::{Digest, Sha256};
use tokio::process::Command;

use crate::attacks::{Attack, Layer};
use crate::certificate::Files;
use crate::jwt;
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
    /// The certificate of a gate with TLS, which is its own authority.
    pub(crate) certificate: Option<PathBuf>,
}

impl Gate {
    /// Starts a gate in front of a hub, with what an attack needs, and waits until it listens.
    pub(crate) async fn start(
        folder: &Path,
        hub: SocketAddr,
        attack: &Attack,
    ) -> anyhow::Result<Self> {
        let path = folder.join("hubgate.yaml");
        let tls = attack.layer.gate_speaks_tls();
        let files = tls.then(|| Files::write(folder)).transpose()?;
        let keys = folder.join("jwks.json");
        std::fs::write(&keys, jwt::key_set())?;
        std::fs::write(&path, yaml(hub, attack, files.as_ref(), &keys))?;
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
        Ok(Self {
            process,
            address,
            certificate: files.map(|files| files.cert),
        })
    }
}

fn yaml(hub: SocketAddr, attack: &Attack, tls: Option<&Files>, keys: &Path) -> String {
    let mut listen = String::new();
    if let Some(connections) = attack.connections_max {
        listen += &format!(", connections_max: {connections}");
    }
    if attack.trusted {
        listen += ", forwarded_for: x_forwarded_for, trusted_proxies: [127.0.9.0/24]";
    }
    if let Some(Files { cert, key, .. }) = tls {
        let (cert, key) = (cert.display(), key.display());
        let asks = match attack.layer {
            Layer::FalseCertificates => format!(", client_auth: optional, client_ca_file: {cert}"),
            _ => String::new(),
        };
        listen += &format!(", tls: {{cert_file: {cert}, key_file: {key}{asks}}}");
    }
    let token = |token: &str| {
        let digest = Sha256::digest(token);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("[{{token_sha256: {digest}}}]")
    };
    format!(
        "\
listen: {{address: \"127.0.0.1:0\"{listen}}}
admin: {{address: \"127.0.0.1:0\"}}
hub: {{url: \"http://{hub}{WRITE_PATH}\", protocol: v1}}
spokes:
- {{name: {HONEST}, credentials: {}}}
- {{name: rogue, credentials: {}, limits: {}}}
- {{name: tokens, credentials: [{}]}}
- name: {USERNAME}
  credentials: [{{basic: {{username: {USERNAME}, password_hash: \"{PASSWORD_HASH}\"}}}}]
",
        token(HONEST_TOKEN),
        token(ROGUE_TOKEN),
        attack.limits(),
        jwt::credential(&keys.display().to_string())
    )
}
