//! The gate as a process: started from a configuration, watched by its log, killed by its pid.
//!
//! A test that fails shows the end of the log and the metrics. A test that passes still fails
//! when the gate logged an error or panicked without the test saying so.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

use tempfile::TempDir;
use tokio::sync::watch;

use super::body::Protocol;
use super::metrics::Metrics;
use super::sender::{Failure, Request, Response};
use super::{DEADLINE, eventually};

/// Nothing is reloaded unasked.
const NO_AUTO_RELOAD: &str = "0s";

/// A running `hubgate serve`.
pub(crate) struct Gate {
    process: Process,
    dir: TempDir,
    reload_interval: &'static str,
    tolerated: Vec<&'static str>,
}

struct Process {
    child: Child,
    log: watch::Receiver<Vec<String>>,
    reader: Option<JoinHandle<()>>,
    write: SocketAddr,
    admin: SocketAddr,
}

impl Gate {
    /// Starts with this configuration; addresses it leaves out are free ones on loopback.
    pub(crate) async fn start(yaml: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("hubgate.yaml"), complete(yaml, None)).unwrap();
        Self::start_in(dir, NO_AUTO_RELOAD).await
    }

    /// Starts with the `hubgate.yaml` of a folder.
    pub(crate) async fn start_in(dir: TempDir, reload_interval: &'static str) -> Self {
        let process = Process::start(&dir, reload_interval).await;
        Self {
            process,
            dir,
            reload_interval,
            tolerated: Vec::new(),
        }
    }

    /// Starts again after the end of the process, on the same ports.
    pub(crate) async fn restart(&mut self, yaml: &str) {
        let addresses = Some((self.process.write, self.process.admin));
        std::fs::write(self.config(), complete(yaml, addresses)).unwrap();
        self.process = Process::start(&self.dir, self.reload_interval).await;
    }

    /// The file it was started with.
    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("hubgate.yaml")
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// Writes the configuration anew; the gate is not told.
    pub(crate) fn configure(&self, yaml: &str) {
        std::fs::write(self.config(), complete(yaml, None)).unwrap();
    }

    /// Lets log lines of level ERROR with this text pass.
    pub(crate) fn tolerate(&mut self, text: &'static str) {
        self.tolerated.push(text);
    }

    pub(crate) fn write_address(&self) -> SocketAddr {
        self.process.write
    }

    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.process.admin
    }

    /// The URL that a spoke is given.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/v1/write", self.process.write)
    }

    /// Sends to the write listener and wants a response.
    pub(crate) async fn send(&self, request: Request) -> Response {
        self.try_send(request).await.expect("a response")
    }

    pub(crate) async fn try_send(&self, request: Request) -> Result<Response, Failure> {
        request.send(self.process.write).await
    }

    /// Asks the admin listener.
    pub(crate) async fn admin(&self, request: Request) -> Response {
        request.send(self.process.admin).await.expect("a response")
    }

    pub(crate) async fn metrics(&self) -> Metrics {
        let response = self.admin(Request::get("/metrics")).await.expect(200);
        Metrics::parse(&response.text)
    }

    /// `GET /api/v1/spokes`.
    pub(crate) async fn spokes(&self) -> serde_json::Value {
        let response = self.admin(Request::get("/api/v1/spokes")).await.expect(200);
        serde_json::from_str(&response.text).expect("JSON")
    }

    /// `POST /-/reload`.
    pub(crate) async fn reload(&self) -> Response {
        self.admin(Request::new("POST", "/-/reload")).await
    }

    /// Waits until a metric has this value, summed over the series with these labels.
    pub(crate) async fn metric_becomes(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        eventually(name, DEADLINE, async || {
            let metrics = self.metrics().await;
            let sum = metrics.has(name, labels).then(|| metrics.sum(name, labels));
            if sum == Some(value) { Ok(()) } else { Err(sum) }
        })
        .await;
    }

    /// Waits until a hub, or every hub, was found to speak this.
    pub(crate) async fn found(&self, hub: Option<&str>, protocol: Protocol) {
        let labels = hub.map(|hub| ("hub", hub));
        eventually("the protocol is found", DEADLINE, async || {
            let metrics = self.metrics().await;
            let of = |protocol| {
                let protocol = ("protocol", protocol);
                let labels: Vec<_> = labels.into_iter().chain([protocol]).collect();
                metrics.values("hubgate_hub_protocol", &labels)
            };
            let (found, other) = match protocol {
                Protocol::V1 => (of("v1"), of("v2")),
                Protocol::V2 => (of("v2"), of("v1")),
            };
            let all = found.iter().all(|it| *it == 1.0) && other.iter().all(|it| *it == 0.0);
            if all { Ok(()) } else { Err((found, other)) }
        })
        .await;
    }

    /// Fails unless received = written + rejected + failed, for each kind of a spoke.
    ///
    /// A scrape may fall between two counters of a request under way, so another look is taken.
    pub(crate) async fn expect_accounts(&self, spoke: &str) {
        eventually("the accounts balance", DEADLINE, async || {
            let metrics = self.metrics().await;
            for kind in ["float", "histogram", "exemplar", "metadata"] {
                let [received, written, rejected, failed] =
                    ["received", "written", "rejected", "failed"].map(|fate| {
                        let name = format!("hubgate_samples_{fate}_total");
                        metrics.sum(&name, &[("spoke", spoke), ("kind", kind)])
                    });
                if received != written + rejected + failed {
                    return Err(format!(
                        "{kind} of {spoke}: {received} received, {written} written, \
                         {rejected} rejected, {failed} failed"
                    ));
                }
            }
            Ok(())
        })
        .await;
    }

    /// Sends a signal by its short name, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    pub(crate) async fn wait_exit(&mut self) -> ExitStatus {
        let child = &mut self.process.child;
        eventually("exit of the gate", DEADLINE * 6, async || {
            child.try_wait().unwrap().ok_or("still running")
        })
        .await
    }

    /// Waits for a log line with all these texts in it, and returns it.
    pub(crate) async fn logged(&self, texts: &[&str]) -> String {
        self.process.logged(texts).await
    }

    /// All log lines so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.process.log.borrow().clone()
    }

    /// A `kB` line of `/proc/PID/status`, in bytes.
    pub(crate) fn memory(&self, key: &str) -> u64 {
        let path = format!("/proc/{}/status", self.process.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix(key)).unwrap();
        let kibibytes = line.trim_matches([':', ' ', '\t', 'k', 'B']);
        kibibytes.parse::<u64>().unwrap() * 1024
    }

    /// Error lines and panics that the test did not expect.
    fn complaints(&self) -> Vec<String> {
        let log = self.process.log.borrow();
        let bad = |line: &&String| {
            let error = line.contains(r#""level":"ERROR""#) || line.contains("panicked at");
            error && !self.tolerated.iter().any(|text| line.contains(text))
        };
        log.iter().filter(bad).cloned().collect()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let metrics = super::get_blocking(self.process.admin, "/metrics");
            self.process.end();
            let log = self.process.log.borrow();
            let tail = &log[log.len().saturating_sub(40)..];
            eprintln!("--- log of the gate\n{}", tail.join("\n"));
            eprintln!("--- metrics of the gate\n{metrics}");
        } else {
            self.process.end();
            let complaints = self.complaints();
            assert!(complaints.is_empty(), "the gate logged {complaints:#?}");
        }
    }
}

impl Process {
    async fn start(dir: &TempDir, reload_interval: &str) -> Self {
        let config = dir.path().join("hubgate.yaml");
        let mut child = Command::new(env!("CARGO_BIN_EXE_hubgate"))
            .arg("serve")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--config.auto-reload-interval={reload_interval}"))
            .arg("--log.format=json")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, log) = watch::channel(Vec::new());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                sender.send_modify(|lines: &mut Vec<String>| lines.push(line));
            }
        });
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut process = Self {
            child,
            log,
            reader: Some(reader),
            write: unknown,
            admin: unknown,
        };
        process.write = process.address("receiving remote writes").await;
        process.admin = process.address("serving admin").await;
        process
    }

    async fn address(&self, message: &str) -> SocketAddr {
        let line = self.logged(&[message]).await;
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        line["address"].as_str().unwrap().parse().unwrap()
    }

    async fn logged(&self, texts: &[&str]) -> String {
        let has_all = |line: &&String| texts.iter().all(|text| line.contains(text));
        let mut log = self.log.clone();
        let seen = log.wait_for(|lines| lines.iter().any(|line| has_all(&line)));
        match tokio::time::timeout(DEADLINE, seen).await {
            Ok(Ok(lines)) => lines.iter().find(has_all).unwrap().clone(),
            _ => {
                let lines = self.log.borrow().join("\n");
                panic!("not logged in time, or the gate ended: {texts:?}\n{lines}")
            }
        }
    }

    fn signal(&self, name: &str) {
        super::signal(self.child.id(), name);
    }

    /// Kills it if it still runs, and reads the log to its end.
    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Fills in the addresses that a configuration leaves out.
fn complete(yaml: &str, addresses: Option<(SocketAddr, SocketAddr)>) -> String {
    let free = || "127.0.0.1:0".parse().unwrap();
    let (write, admin) = addresses.unwrap_or_else(|| (free(), free()));
    let mut whole = String::new();
    if !yaml.contains("listen:") {
        whole += &format!("listen: {{address: \"{write}\"}}\n");
    }
    if !yaml.contains("admin:") {
        whole += &format!("admin: {{address: \"{admin}\"}}\n");
    }
    whole + yaml
}
