//! A real nginx before a hub, which closes connections as proxies do.
//!
//! It must be on PATH. A test fails without it and is not skipped; `tests/run.sh` unpacks it.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tokio::net::TcpStream;

use super::prometheus::{START_DEADLINE, find_on_path, free_address};
use super::{eventually, signal};

/// A running server.
pub(crate) struct Nginx {
    scheme: &'static str,
    address: SocketAddr,
    child: Child,
    _dir: TempDir,
}

impl Nginx {
    /// Starts a server that leads to `hub`, with these directives for its connections to clients.
    pub(crate) async fn start(hub: SocketAddr, directives: &str) -> Self {
        Self::start_with("http", hub, directives).await
    }

    /// As [`Self::start`], for clients that speak TLS. The directives name its certificate.
    pub(crate) async fn start_tls(hub: SocketAddr, directives: &str) -> Self {
        Self::start_with("https", hub, directives).await
    }

    async fn start_with(scheme: &'static str, hub: SocketAddr, directives: &str) -> Self {
        let binary = find_on_path("nginx").expect("nginx is on PATH; run tests/run.sh");
        let (address, dir) = (free_address(), tempfile::tempdir().unwrap());
        let config = dir.path().join("nginx.conf");
        let listen = match scheme {
            "https" => format!("{address} ssl"),
            _ => address.to_string(),
        };
        std::fs::write(&config, configuration(&listen, hub, directives)).unwrap();
        let child = Command::new(binary)
            .arg("-p")
            .arg(dir.path())
            .arg("-c")
            .arg(&config)
            .args(["-e", "stderr"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let server = Self {
            scheme,
            address,
            child: child.unwrap(),
            _dir: dir,
        };
        eventually("nginx accepts connections", START_DEADLINE, async || {
            TcpStream::connect(address).await
        })
        .await;
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}/api/v1/write", self.scheme, self.address)
    }

    /// Starts new workers. The old ones close idle connections at once.
    pub(crate) fn reload(&self) {
        signal(self.child.id(), "HUP");
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It ends its workers, which a kill would leave behind.
        signal(self.child.id(), "TERM");
        let _ = self.child.wait();
    }
}

fn configuration(listen: &str, hub: SocketAddr, directives: &str) -> String {
    format!(
        "\
daemon off;
worker_processes 1;
error_log stderr error;
pid nginx.pid;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  {directives}
  server {{
    listen {listen};
    location / {{ proxy_pass http://{hub}; }}
  }}
}}
"
    )
}
