//! A real nginx before a hub, which closes connections as proxies do, or before a gate.
//!
//! It must be on PATH. A test fails without it and is not skipped; `tests/run.sh` unpacks it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tokio::net::TcpStream;

use super::pki::Files;
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
    /// Starts a server that leads to `hub`, with these directives of `http`.
    pub(crate) async fn start(hub: SocketAddr, directives: &str) -> Self {
        Self::start_server("http", "", &format!("http://{hub}"), directives).await
    }

    /// As [`Self::start`], for clients that speak TLS. The directives name its certificate.
    pub(crate) async fn start_tls(hub: SocketAddr, directives: &str) -> Self {
        Self::start_server("https", " ssl", &format!("http://{hub}"), directives).await
    }

    /// Starts a server that ends TLS before `gate`.
    pub(crate) async fn start_with_tls(gate: SocketAddr, files: &Files) -> Self {
        let directives = tls_directives(files);
        let upstream = format!("http://{gate}");
        Self::start_server("https", " ssl http2", &upstream, &directives).await
    }

    /// Starts a server with TLS before a `gate` with TLS, which it verifies.
    pub(crate) async fn start_between_tls(gate: SocketAddr, files: &Files, ca: &Path) -> Self {
        let verify = format!(
            "proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_ssl_verify on; \
             proxy_ssl_name localhost; proxy_ssl_trusted_certificate {};",
            ca.display()
        );
        let directives = tls_directives(files) + &verify;
        let upstream = format!("https://{gate}");
        Self::start_server("https", " ssl http2", &upstream, &directives).await
    }

    async fn start_server(
        scheme: &'static str,
        listen: &str,
        upstream: &str,
        directives: &str,
    ) -> Self {
        let binary = find_on_path("nginx").expect("nginx is on PATH; run tests/run.sh");
        let (address, dir) = (free_address(), tempfile::tempdir().unwrap());
        let config = dir.path().join("nginx.conf");
        let server = format!("listen {address}{listen}; location / {{ proxy_pass {upstream}; }}");
        std::fs::write(&config, configuration(directives, &server)).unwrap();
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

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
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

fn tls_directives(files: &Files) -> String {
    let (cert, key) = (files.cert.display(), files.key.display());
    format!("client_max_body_size 32m; ssl_certificate {cert}; ssl_certificate_key {key}; ")
}

/// A whole configuration with one server, which has this content.
pub(crate) fn configuration_of(server: &str) -> String {
    configuration("", server)
}

fn configuration(directives: &str, server: &str) -> String {
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
    {server}
  }}
}}
"
    )
}
