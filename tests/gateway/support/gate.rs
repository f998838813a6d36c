//! The gate as a process: started from a configuration, observed by its log and its metrics, and
//! ended by signals.
//!
//! A failing test prints the end of the log and the metrics. A passing test still fails when the
//! gate panicked or logged an error that the test did not allow.

mod process;
mod resources;

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use tempfile::TempDir;

use super::body::{Protocol, Series};
use super::clock;
use super::config::{config_with_hub_keys, spoke};
use super::hub::ScriptedHub;
use super::metrics::Metrics;
use super::sender::{Failure, Request, Response};
use super::{DEADLINE, eventually, eventually_equal};
use process::{Flags, HOSTS_FILE, PROGRAM_FILE, Process};

/// A running `hubgate serve`.
pub(crate) struct Gate {
    process: Process,
    dir: TempDir,
    flags: Flags,
    allowed_errors: Vec<&'static str>,
}

/// Starts a scripted hub, and a gate with this hub and the spoke `production`. `hub_keys` are
/// further keys of the hub in YAML flow style, or empty.
pub(crate) async fn start_hub_and_gate(hub_keys: &str) -> (ScriptedHub, Gate) {
    let hub = ScriptedHub::start().await;
    let gate = Gate::start_for(&hub.url(), hub_keys).await;
    (hub, gate)
}

/// As [`start_hub_and_gate`], with `limits` of the gate in YAML flow style.
pub(crate) async fn start_with_limits(limits: &str, hub_keys: &str) -> (ScriptedHub, Gate) {
    let hub = ScriptedHub::start().await;
    let config = config_with_hub_keys(&hub.url(), hub_keys, &[spoke("production", "")]);
    let gate = Gate::start(&format!("limits: {{{limits}}}\n{config}")).await;
    (hub, gate)
}

impl Gate {
    /// Starts with this configuration. Both listeners are on free ports of loopback, unless the
    /// configuration has their addresses.
    pub(crate) async fn start(yaml: &str) -> Self {
        Self::start_with(yaml, Flags::USUAL).await
    }

    /// As [`Gate::start`], with this `--shutdown.delay`.
    pub(crate) async fn start_with_delay(yaml: &str, shutdown_delay: &'static str) -> Self {
        let flags = Flags {
            shutdown_delay,
            ..Flags::USUAL
        };
        Self::start_with(yaml, flags).await
    }

    /// As [`Gate::start`], with these `--threads`.
    pub(crate) async fn start_with_threads(yaml: &str, threads: u16) -> Self {
        let flags = Flags {
            threads: Some(threads),
            ..Flags::USUAL
        };
        Self::start_with(yaml, flags).await
    }

    /// Starts with an `/etc/hosts` of its own. `None` where this user may not have one.
    pub(crate) async fn start_with_hosts(yaml: &str, hosts: &str) -> Option<Self> {
        let allowed = Command::new("unshare").args(["-rm", "true"]).status();
        if !allowed.is_ok_and(|status| status.success()) {
            eprintln!("skipped: no mount namespace for this user (unshare -rm)");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(HOSTS_FILE), hosts).unwrap();
        std::fs::write(dir.path().join("hubgate.yaml"), complete(yaml, None)).unwrap();
        Some(Self::start_process(dir, Flags::USUAL).await)
    }

    /// Replaces the `/etc/hosts` of [`Self::start_with_hosts`].
    pub(crate) fn set_hosts(&self, hosts: &str) {
        std::fs::write(self.dir.path().join(HOSTS_FILE), hosts).unwrap();
    }

    /// Starts with a clock that differs from that of the machine by so many seconds.
    pub(crate) async fn start_with_clock(yaml: &str, seconds: i64) -> Self {
        Self::start_with_clock_file(yaml, &clock::offset(seconds)).await
    }

    /// Starts with a clock that is so many times as fast as others, and an hour behind at first.
    pub(crate) async fn start_with_fast_clock(yaml: &str, speed: u32) -> Self {
        Self::start_with_clock_file(yaml, &clock::fast(speed)).await
    }

    /// The same with another program than the one built with the tests.
    pub(crate) async fn start_program(program: &Path, yaml: &str, speed: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        symlink(program, dir.path().join(PROGRAM_FILE)).unwrap();
        Self::start_with_clock_in(dir, yaml, &clock::fast(speed)).await
    }

    async fn start_with_clock_file(yaml: &str, clock: &str) -> Self {
        Self::start_with_clock_in(tempfile::tempdir().unwrap(), yaml, clock).await
    }

    async fn start_with_clock_in(dir: TempDir, yaml: &str, clock: &str) -> Self {
        std::fs::write(dir.path().join("hubgate.yaml"), complete(yaml, None)).unwrap();
        std::fs::write(dir.path().join(clock::FILE), clock).unwrap();
        Self::start_process(dir, Flags::USUAL).await
    }

    /// Sets the clock of [`Self::start_with_clock`].
    pub(crate) fn set_clock(&self, seconds: i64) {
        let file = self.dir.path().join(clock::FILE);
        let new = file.with_extension("new");
        std::fs::write(&new, clock::offset(seconds)).unwrap();
        std::fs::rename(new, file).unwrap();
    }

    /// Starts with one hub and the spoke `production`. `hub_keys` are further keys of the hub in
    /// YAML flow style, or empty.
    pub(crate) async fn start_for(hub_url: &str, hub_keys: &str) -> Self {
        let spokes = [spoke("production", "")];
        Self::start(&config_with_hub_keys(hub_url, hub_keys, &spokes)).await
    }

    /// As [`Gate::start`], in a shell that first runs `ulimit` with these arguments.
    pub(crate) async fn start_with_ulimit(ulimit: &'static str, yaml: &str) -> Self {
        let flags = Flags {
            ulimit,
            ..Flags::USUAL
        };
        Self::start_with(yaml, flags).await
    }

    /// Starts with the `hubgate.yaml` of a folder.
    pub(crate) async fn start_in(dir: TempDir, reload_interval: &'static str) -> Self {
        let flags = Flags {
            reload_interval,
            ..Flags::USUAL
        };
        Self::start_process(dir, flags).await
    }

    /// Starts with the folder `config` in a folder as the configuration.
    pub(crate) async fn start_with_folder(dir: TempDir, reload_interval: &'static str) -> Self {
        let flags = Flags {
            config: "config",
            reload_interval,
            ..Flags::USUAL
        };
        Self::start_process(dir, flags).await
    }

    async fn start_with(yaml: &str, flags: Flags) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("hubgate.yaml"), complete(yaml, None)).unwrap();
        Self::start_process(dir, flags).await
    }

    async fn start_process(dir: TempDir, flags: Flags) -> Self {
        Self {
            process: Process::start(&dir, flags).await,
            dir,
            flags,
            allowed_errors: Vec::new(),
        }
    }

    /// Starts a new process on the same ports after the end of the old one.
    pub(crate) async fn restart(&mut self, yaml: &str) {
        let addresses = Some((self.process.write, self.process.admin));
        std::fs::write(self.config_file(), complete(yaml, addresses)).unwrap();
        self.process = Process::start(&self.dir, self.flags).await;
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.dir.path().join("hubgate.yaml")
    }

    /// The folder of the configuration file.
    pub(crate) fn folder(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// Replaces the configuration file; this alone makes the gate reload nothing.
    pub(crate) fn write_config(&self, yaml: &str) {
        std::fs::write(self.config_file(), complete(yaml, None)).unwrap();
    }

    /// Replaces the configuration file, asks for a reload and expects it to succeed.
    pub(crate) async fn reload_with(&self, yaml: &str) {
        self.write_config(yaml);
        self.reload().await.expect(200);
    }

    /// Allows log lines of level ERROR that contain this text.
    pub(crate) fn allow_error(&mut self, text: &'static str) {
        self.allowed_errors.push(text);
    }

    pub(crate) fn write_address(&self) -> SocketAddr {
        self.process.write
    }

    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.process.admin
    }

    /// The URL that spokes write to.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/v1/write", self.process.write)
    }

    /// Writes some series as the spoke `production`.
    pub(crate) async fn write(&self, protocol: Protocol, series: &[Series]) -> Response {
        self.write_as("production", protocol, series).await
    }

    /// Writes some series as a spoke of [`spoke`].
    pub(crate) async fn write_as(
        &self,
        spoke: &str,
        protocol: Protocol,
        series: &[Series],
    ) -> Response {
        let request = Request::series(protocol, series);
        self.send(request.spoke(spoke)).await
    }

    /// Sends a request to the write listener, and fails when there is no response.
    pub(crate) async fn send(&self, request: Request) -> Response {
        self.try_send(request).await.expect("a response")
    }

    /// Sends a request to the write listener.
    pub(crate) async fn try_send(&self, request: Request) -> Result<Response, Failure> {
        request.send(self.process.write).await
    }

    /// Sends a request to the admin listener, and fails when there is no response.
    pub(crate) async fn admin(&self, request: Request) -> Response {
        request.send(self.process.admin).await.expect("a response")
    }

    /// `GET /metrics`.
    pub(crate) async fn metrics(&self) -> Metrics {
        let response = self.admin(Request::get("/metrics")).await.expect(200);
        Metrics::parse(&response.text)
    }

    /// The present sum of a metric over the series with these labels. There must be one.
    pub(crate) async fn sum(&self, metric: &str, labels: &[(&str, &str)]) -> f64 {
        self.metrics().await.sum(metric, labels)
    }

    /// The present count of samples of the spoke `production`: those of one kind that were
    /// `received`, `written`, `rejected` or `failed`.
    pub(crate) async fn samples(&self, fate: &str, kind: &str) -> f64 {
        let labels = [("spoke", "production"), ("kind", kind)];
        self.metrics().await.samples(fate, &labels)
    }

    /// The present count of rejected samples of the spoke `production`, of one kind and reason.
    pub(crate) async fn rejected(&self, kind: &str, reason: &str) -> f64 {
        let labels = [("spoke", "production"), ("kind", kind), ("reason", reason)];
        self.metrics().await.samples("rejected", &labels)
    }

    /// `GET /api/v1/spokes`.
    pub(crate) async fn spokes(&self) -> serde_json::Value {
        let response = self.admin(Request::get("/api/v1/spokes")).await;
        serde_json::from_str(&response.expect(200).text).expect("JSON")
    }

    /// `POST /-/reload`.
    pub(crate) async fn reload(&self) -> Response {
        self.admin(Request::new("POST", "/-/reload")).await
    }

    /// Waits until the sum of a metric over the series with these labels is `value`.
    pub(crate) async fn wait_for_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        eventually_equal(name, DEADLINE, Some(value), async || {
            let metrics = self.metrics().await;
            metrics.has(name, labels).then(|| metrics.sum(name, labels))
        })
        .await;
    }

    /// Waits until the gate has found one hub, or every hub for `None`, to speak this protocol.
    pub(crate) async fn wait_for_protocol(&self, hub: Option<&str>, protocol: Protocol) {
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

    /// Fails unless received = written + rejected + failed, for each kind of a spoke's samples.
    ///
    /// A scrape may fall between two increments for one request, so this waits for the balance.
    pub(crate) async fn expect_balanced_counts(&self, spoke: &str) {
        eventually("the sample counts balance", DEADLINE, async || {
            let metrics = self.metrics().await;
            for kind in ["float", "histogram", "exemplar", "metadata"] {
                let [received, written, rejected, failed] =
                    ["received", "written", "rejected", "failed"]
                        .map(|fate| metrics.samples(fate, &[("spoke", spoke), ("kind", kind)]));
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

    /// Sends a signal that ends the gate, and waits until it drains.
    pub(crate) async fn start_draining(&self, signal: &str) {
        self.signal(signal);
        eventually("the gate is not ready", DEADLINE, async || {
            let response = Request::get("/-/ready").send(self.process.admin).await;
            match response {
                Ok(response) if response.status == 503 => Ok(()),
                other => Err(other),
            }
        })
        .await;
    }

    pub(crate) async fn wait_for_exit(&mut self) -> ExitStatus {
        let child = &mut self.process.child;
        eventually("exit of the gate", DEADLINE * 6, async || {
            child.try_wait().unwrap().ok_or("still running")
        })
        .await
    }

    /// Waits for a log line that contains all these texts, and returns it.
    pub(crate) async fn wait_for_log(&self, texts: &[&str]) -> String {
        self.process.wait_for_log(texts).await
    }

    /// All log lines so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.process.log.borrow().clone()
    }

    /// Log lines with an error or a panic that the test did not allow.
    fn unexpected_errors(&self) -> Vec<String> {
        let log = self.process.log.borrow();
        let is_unexpected = |line: &&String| {
            let error = line.contains(r#""level":"ERROR""#) || line.contains("panicked at");
            error && !self.allowed_errors.iter().any(|text| line.contains(text))
        };
        log.iter().filter(is_unexpected).cloned().collect()
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
            let errors = self.unexpected_errors();
            assert!(errors.is_empty(), "the gate logged {errors:#?}");
        }
    }
}

/// Adds the addresses of the listeners that a configuration lacks.
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
