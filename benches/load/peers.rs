//! Other programs that are put in front of hubs: two proxies that copy bytes, one that checks a
//! token, and one that decodes. Each is configured as its documentation advises, to do no more than
//! it must.
//!
//! They are taken from `PATH`. Versions differ much, so the report has them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use hubgate::remote_write::WRITE_PATH;
use tokio::process::Command;

use crate::certificate::Files;

/// A peer whose program was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    path: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    Haproxy,
    Vmauth,
    Vmagent,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Nginx, Self::Haproxy, Self::Vmauth, Self::Vmagent];

    /// The name of the program.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Vmauth => "vmauth",
            Self::Vmagent => "vmagent",
        }
    }

    pub(crate) fn work(self) -> &'static str {
        match self {
            Self::Nginx => "copies bytes; a worker a core",
            Self::Haproxy => "copies bytes; a thread a core",
            Self::Vmauth => "copies bytes, checks the token",
            Self::Vmagent => "decodes and encodes; answers before the hub",
        }
    }

    /// The work of those that are measured over TLS too.
    pub(crate) fn tls_work(self) -> Option<&'static str> {
        match self {
            Self::Nginx => Some("over TLS: copies bytes; a worker a core"),
            Self::Haproxy => Some("over TLS: copies bytes; a thread a core"),
            Self::Vmauth | Self::Vmagent => None,
        }
    }

    /// Whether it takes any body.
    pub(crate) fn copies(self) -> bool {
        self != Self::Vmagent
    }

    pub(crate) fn responds_early(self) -> bool {
        self == Self::Vmagent
    }

    fn version_flag(self) -> &'static str {
        match self {
            Self::Nginx | Self::Haproxy => "-v",
            Self::Vmauth | Self::Vmagent => "-version",
        }
    }
}

impl Peer {
    /// Looks for the program on `PATH`.
    pub(crate) fn find(kind: Kind) -> Option<Self> {
        find_on_path(kind.name()).map(|path| Self { kind, path })
    }

    /// The version of the program in a line, or that of its package if it prints none.
    pub(crate) async fn version(&self) -> String {
        match version(&self.path, self.kind.version_flag()).await {
            Some(version) => version,
            None => package(&self.path)
                .await
                .unwrap_or_else(|| "unknown version".to_owned()),
        }
    }

    /// The command that runs it in front of a hub.
    pub(crate) fn command(
        &self,
        folder: &Path,
        listen: SocketAddr,
        tls: Option<&Files>,
        hub: SocketAddr,
        token: &str,
    ) -> anyhow::Result<Command> {
        let config = folder.join("config");
        let mut command = Command::new(&self.path);
        match self.kind {
            Kind::Nginx => {
                std::fs::write(&config, nginx(listen, tls, hub))?;
                command.arg("-p").arg(folder).arg("-c").arg(&config);
                command.args(["-e", "stderr"]);
            }
            Kind::Haproxy => {
                std::fs::write(&config, haproxy(listen, tls, hub))?;
                command.arg("-db").arg("-f").arg(&config);
            }
            Kind::Vmauth => {
                let users =
                    format!("users:\n- bearer_token: {token}\n  url_prefix: http://{hub}/\n");
                std::fs::write(&config, users)?;
                command
                    .arg(format!("-auth.config={}", config.display()))
                    .arg(format!("-httpListenAddr={listen}"));
            }
            Kind::Vmagent => {
                let queue = folder.join("queue");
                command
                    .arg(format!("-remoteWrite.url=http://{hub}{WRITE_PATH}"))
                    .arg(format!("-remoteWrite.tmpDataPath={}", queue.display()))
                    .arg(format!("-httpListenAddr={listen}"));
            }
        }
        Ok(command)
    }
}

/// The path of a program on `PATH`.
pub(crate) fn find_on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut candidates = std::env::split_paths(&path).map(|folder| folder.join(program));
    candidates.find(|candidate| candidate.is_file())
}

/// The first line of a program's version, from stdout or stderr.
pub(crate) async fn version(program: &Path, flag: &str) -> Option<String> {
    first_line(Command::new(program).arg(flag)).await
}

/// The name and version of the Debian package of a program. Debian builds VictoriaMetrics without a
/// version.
async fn package(program: &Path) -> Option<String> {
    let owner = first_line(Command::new("dpkg-query").arg("--search").arg(program)).await?;
    let (package, _) = owner.split_once(':')?;
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${Package} ${Version}", package]);
    first_line(&mut query).await
}

async fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().await.ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| !line.trim().is_empty())?;
    Some(line.trim().to_owned())
}

/// By default nginx forwards a body once it has all of it. The buffers keep bodies in memory.
fn nginx(listen: SocketAddr, tls: Option<&Files>, hub: SocketAddr) -> String {
    let (ssl, tls) = match tls {
        None => ("", String::new()),
        Some(Files { cert, key, .. }) => (
            " ssl",
            format!(
                "    ssl_certificate {};\n    ssl_certificate_key {};\n    ssl_protocols TLSv1.2 \
                 TLSv1.3;\n",
                cert.display(),
                key.display()
            ),
        ),
    };
    format!(
        "\
daemon off;
worker_processes auto;
error_log stderr warn;
pid nginx.pid;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  client_max_body_size 32m;
  client_body_buffer_size 1m;
  upstream hub {{ server {hub}; keepalive 64; }}
  server {{
    listen {listen}{ssl};
{tls}    location / {{
      proxy_pass http://hub;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_request_buffering on;
    }}
  }}
}}
"
    )
}

fn haproxy(listen: SocketAddr, tls: Option<&Files>, hub: SocketAddr) -> String {
    let tls = tls.map_or_else(String::new, |files| {
        format!(" ssl crt {}", files.both.display())
    });
    format!(
        "\
global
  maxconn 1024
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend gate
  bind {listen}{tls}
  default_backend hub
backend hub
  server hub {hub}
"
    )
}
