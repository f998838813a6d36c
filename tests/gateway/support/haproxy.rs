//! A real HAProxy before gates, which asks them whether they are ready.
//!
//! It must be on PATH. A test fails without it and is not skipped; `tests/run.sh` unpacks it.

use std::env::consts::ARCH;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tokio::net::TcpStream;

use super::prometheus::{START_DEADLINE, find_on_path, free_address};
use super::sender::Request;
use super::{DEADLINE, eventually};

/// A running server.
pub(crate) struct Haproxy {
    address: SocketAddr,
    statistics: SocketAddr,
    child: Child,
    dir: TempDir,
}

impl Haproxy {
    /// Starts a server that leads to the section `backend hubgate`, which is part of `sections`.
    pub(crate) async fn start(sections: &str) -> Self {
        let (address, statistics) = (free_address(), free_address());
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("haproxy.cfg");
        std::fs::write(&config, configuration(address, statistics, sections)).unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = command()
            .args(["-db", "-f"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let server = Self {
            address,
            statistics,
            child: child.unwrap(),
            dir,
        };
        eventually("HAProxy accepts connections", START_DEADLINE, async || {
            // The one that it listens on last.
            TcpStream::connect(statistics)
                .await
                .map_err(|_| server.log())
        })
        .await;
        server
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until a server of the backend has a status that begins with this text: `UP` or `DOWN`.
    pub(crate) async fn wait_for_status(&self, server: &str, status: &str) {
        let what = format!("{server} is {status}");
        eventually(&what, DEADLINE * 3, async || {
            let seen = self.status(server).await;
            if seen.starts_with(status) {
                Ok(())
            } else {
                Err(seen)
            }
        })
        .await;
    }

    async fn status(&self, server: &str) -> String {
        let response = Request::get("/;csv").send(self.statistics).await;
        let table = response.expect("a response").expect(200).text;
        let cells = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
        let head = cells(table.lines().next().unwrap());
        let column = head.iter().position(|name| name == "status").unwrap();
        let rows = table.lines().map(cells);
        let mut of_server = rows.filter(|row| row[0] == "hubgate" && row[1] == server);
        of_server.next().expect("a server of the backend")[column].clone()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of HAProxy\n{}", self.log());
        }
    }
}

/// The program, with the libraries of its package.
pub(crate) fn command() -> Command {
    let binary = find_on_path("haproxy").expect("haproxy is on PATH; run tests/run.sh");
    let mut command = Command::new(&binary);
    command.env("LD_LIBRARY_PATH", libraries(&binary));
    command
}

/// Where the libraries of a package are that was unpacked and not installed.
pub(crate) fn libraries(binary: &Path) -> String {
    let usr = binary.ancestors().nth(2).unwrap();
    let folder = usr.join(format!("lib/{ARCH}-linux-gnu"));
    folder.to_str().unwrap().to_owned()
}

fn configuration(listen: SocketAddr, statistics: SocketAddr, sections: &str) -> String {
    format!(
        "\
global
  maxconn 1000
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend spokes
  bind {listen}
  default_backend hubgate
frontend statistics
  bind {statistics}
  stats enable
  stats uri /
{sections}"
    )
}
