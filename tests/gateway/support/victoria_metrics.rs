//! A real VictoriaMetrics as a hub, in a folder and on a port of its own.
//!
//! It must be on PATH. A test fails without it and is not skipped; `tests/run.sh` unpacks it.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::eventually;
use super::prometheus::{START_DEADLINE, find_on_path, free_address, get_data, percent_encode};
use super::sender::Request;

/// A running server.
pub(crate) struct VictoriaMetrics {
    dir: TempDir,
    address: SocketAddr,
    child: Child,
}

impl VictoriaMetrics {
    pub(crate) async fn start() -> Self {
        let binary = find_on_path("victoria-metrics");
        let binary = binary.expect("victoria-metrics is on PATH; run tests/run.sh");
        for _ in 0..5 {
            let address = free_address();
            let dir = tempfile::tempdir().unwrap();
            let log = std::fs::File::create(dir.path().join("log")).unwrap();
            let child = Command::new(&binary)
                .arg(format!("-httpListenAddr={address}"))
                .arg(format!(
                    "-storageDataPath={}",
                    dir.path().join("data").display()
                ))
                // By default a query does not return the newest half minute.
                .arg("-search.latencyOffset=0s")
                .arg("-memory.allowedBytes=64MiB")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn();
            let mut server = Self {
                dir,
                address,
                child: child.unwrap(),
            };
            if server.is_ready().await {
                return server;
            }
            let log = server.log();
            // Another process may take the port before the server does.
            assert!(log.contains("address already in use"), "{log}");
        }
        panic!("no free port for VictoriaMetrics in 5 tries");
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/v1/write", self.address)
    }

    /// The sum of an expression's values at a time in seconds; 0 when there is none.
    pub(crate) async fn value(&self, expression: &str, time: u64) -> f64 {
        let expression = percent_encode(expression);
        // Cached results may be from before the last write.
        let path = format!("/api/v1/query?query={expression}&time={time}&nocache=1");
        let data = get_data(self.address, &path).await;
        let result = data["result"].as_array().unwrap().iter();
        let values = result.map(|series| series["value"][1].as_str().unwrap().parse::<f64>());
        values.map(Result::unwrap).sum()
    }

    /// Waits until the server is ready. Returns false when it ended instead.
    async fn is_ready(&mut self) -> bool {
        let (child, address) = (&mut self.child, self.address);
        eventually("VictoriaMetrics is ready", START_DEADLINE, async || {
            if child.try_wait().unwrap().is_some() {
                return Ok(false);
            }
            match Request::get("/health").send(address).await {
                Ok(response) if response.status == 200 => Ok(true),
                other => Err(other),
            }
        })
        .await
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for VictoriaMetrics {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().rev().take(15).collect();
            eprintln!(
                "--- log of VictoriaMetrics, newest first\n{}",
                lines.join("\n")
            );
        }
    }
}
