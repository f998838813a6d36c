//! Real Prometheus servers as hub and as spokes, each in a folder and on a port of its own.
//!
//! `PROMETHEUS_BIN` names one binary and PATH may hold another; scenarios run with each. None at
//! all is a failure and not a skip: `tests/run.sh` gets one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::Mutex;

use super::body::Protocol;
use super::metrics::Metrics;
use super::sender::Request;
use super::{DEADLINE, eventually};

/// Longest wait for a server to start, on a machine that is busy with other tests.
pub(super) const START_DEADLINE: Duration = Duration::from_secs(60);

/// Several sets of servers at once are too much for two cores.
pub(crate) static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// An installed Prometheus.
#[derive(Debug, Clone)]
pub(crate) struct Binary {
    path: PathBuf,
    pub(crate) major: u32,
    minor: u32,
}

impl Binary {
    /// Every binary to test with, once each.
    pub(crate) fn all() -> Vec<Self> {
        let named = std::env::var_os("PROMETHEUS_BIN").map(PathBuf::from);
        let on_path = find_on_path("prometheus");
        let mut paths: Vec<_> = named.into_iter().chain(on_path).collect();
        paths.dedup();
        assert!(
            !paths.is_empty(),
            "no PROMETHEUS_BIN and no prometheus on PATH; run tests/run.sh"
        );
        paths.into_iter().map(Self::new).collect()
    }

    fn new(path: PathBuf) -> Self {
        let output = Command::new(&path).arg("--version").output();
        let output = output.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // Older releases print the version on stderr.
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        let (_, version) = text.split_once("version ").expect("a version");
        let mut numbers = version.split('.').map(str::parse);
        let mut number = || numbers.next().and_then(Result::ok);
        eprintln!("{}: {}", path.display(), text.lines().next().unwrap());
        Self {
            major: number().expect("a version such as 3.1.0"),
            minor: number().expect("a version such as 3.1.0"),
            path,
        }
    }

    /// The newest message that it takes as a hub.
    pub(crate) fn receives(&self) -> Protocol {
        if self.major >= 3 {
            Protocol::V2
        } else {
            Protocol::V1
        }
    }

    /// True when as a hub it says 400 to a histogram that contradicts itself: 3.12 does, 2.42 and
    /// 3.5 say 500, and what lies between was not tried.
    pub(crate) fn refuses_bad_histograms(&self) -> bool {
        (self.major, self.minor) >= (3, 12)
    }

    /// The messages its senders speak.
    pub(crate) fn protocols(&self) -> &'static [Protocol] {
        if self.major >= 3 {
            &Protocol::BOTH
        } else {
            &[Protocol::V1]
        }
    }
}

/// The path of a program that PATH holds.
pub(crate) fn find_on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut candidates = std::env::split_paths(&path).map(|folder| folder.join(program));
    candidates.find(|candidate| candidate.is_file())
}

/// How a spoke writes to the gate.
pub(crate) struct Spoke<'a> {
    pub(crate) name: &'a str,
    pub(crate) url: String,
    /// A line of the `remote_write` section: `authorization` or `basic_auth`.
    pub(crate) authentication: String,
    pub(crate) protocol: Protocol,
    /// Scrape itself a second time as job `kafka`, whose target has this `cluster` label.
    pub(crate) foreign_cluster: Option<&'a str>,
    /// Scrape this as job `target`, each second.
    pub(crate) target: Option<SocketAddr>,
}

/// A running server.
pub(crate) struct Prometheus {
    binary: Binary,
    dir: TempDir,
    address: SocketAddr,
    child: Option<Child>,
    hub: bool,
}

impl Prometheus {
    /// A hub: it takes remote writes, samples of the last half hour in any order.
    pub(crate) async fn hub(binary: &Binary) -> Self {
        let config = |_| "storage: {tsdb: {out_of_order_time_window: 30m}}\n".to_owned();
        Self::start(binary, true, config).await
    }

    /// A hub as it is without configuration: of each series it takes nothing but what is newer.
    pub(crate) async fn strict_hub(binary: &Binary) -> Self {
        Self::start(binary, true, |_| String::new()).await
    }

    /// A spoke: it scrapes itself every second and writes everything to a gate.
    pub(crate) async fn spoke(binary: &Binary, spoke: &Spoke<'_>) -> Self {
        Self::start(binary, false, |address| spoke_config(spoke, address)).await
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/v1/write", self.address)
    }

    /// Asks for an instant vector.
    pub(crate) async fn query(&self, promql: &str) -> Vec<(BTreeMap<String, String>, f64)> {
        let sample = |sample: &serde_json::Value| {
            let labels = serde_json::from_value(sample["metric"].clone()).unwrap();
            (
                labels,
                sample["value"][1].as_str().unwrap().parse().unwrap(),
            )
        };
        self.ask(promql).await.iter().map(sample).collect()
    }

    /// The samples of each series in the seconds before a time, as text of time and value; a
    /// series is its labels but `cluster`, which a spoke itself does not have.
    pub(crate) async fn samples(
        &self,
        selector: &str,
        seconds: u64,
        time: u64,
    ) -> BTreeMap<String, Vec<String>> {
        let series = |series: &serde_json::Value| {
            let mut labels = series["metric"].as_object().unwrap().clone();
            labels.remove("cluster");
            let labels = serde_json::Value::Object(labels).to_string();
            let values = series["values"].as_array().unwrap();
            (labels, values.iter().map(ToString::to_string).collect())
        };
        let range = format!("{selector}[{seconds}s] @ {time}");
        self.ask(&range).await.iter().map(series).collect()
    }

    async fn ask(&self, promql: &str) -> Vec<serde_json::Value> {
        let path = format!("/api/v1/query?query={}", percent_encode(promql));
        let data = get_data(self.address, &path).await;
        data["result"].as_array().unwrap().clone()
    }

    /// The exemplars of some series in the last hour.
    pub(crate) async fn exemplars(&self, selector: &str) -> Vec<serde_json::Value> {
        let now = super::body::now() / 1000;
        let (query, start, end) = (percent_encode(selector), now - 3600, now + 60);
        let path = format!("/api/v1/query_exemplars?query={query}&start={start}&end={end}");
        let data = get_data(self.address, &path).await;
        let series = data.as_array().unwrap().iter();
        let exemplars = series.flat_map(|series| series["exemplars"].as_array().unwrap());
        exemplars.cloned().collect()
    }

    /// The single value of an expression; nothing is 0.
    pub(crate) async fn value(&self, promql: &str) -> f64 {
        self.query(promql)
            .await
            .iter()
            .map(|(_, value)| value)
            .sum()
    }

    pub(crate) async fn metrics(&self) -> Metrics {
        let response = Request::get("/metrics").send(self.address).await;
        Metrics::parse(&response.expect("a response").expect(200).text)
    }

    /// Stops as an operator does, and keeps what it stored.
    pub(crate) async fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        super::signal(child.id(), "TERM");
        eventually("exit of Prometheus", DEADLINE * 3, async || {
            child.try_wait().unwrap().ok_or("still running")
        })
        .await;
    }

    /// Starts again on the same port and storage.
    pub(crate) async fn restart(&mut self) {
        self.child = Some(self.spawn());
        assert!(
            self.ready().await,
            "it does not start again: {}",
            self.log()
        );
    }

    async fn start(binary: &Binary, hub: bool, config: impl Fn(SocketAddr) -> String) -> Self {
        for _ in 0..5 {
            let address = free_address();
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("prometheus.yml"), config(address)).unwrap();
            let mut server = Self {
                binary: binary.clone(),
                dir,
                address,
                child: None,
                hub,
            };
            server.child = Some(server.spawn());
            if server.ready().await {
                return server;
            }
            let log = server.log();
            // Somebody took the port between finding and using it.
            assert!(log.contains("address already in use"), "{log}");
        }
        panic!("no free port for Prometheus in 5 tries");
    }

    fn spawn(&self) -> Child {
        let folder = self.dir.path();
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(folder.join("log"));
        let mut command = Command::new(&self.binary.path);
        command
            .arg(format!(
                "--config.file={}",
                folder.join("prometheus.yml").display()
            ))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.join("data").display()
            ))
            .arg(format!("--web.listen-address={}", self.address))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.unwrap());
        if self.hub {
            command.arg("--web.enable-remote-write-receiver");
            // Without it a release before 3.8 says 500 to a native histogram, and so for ever.
            command.arg("--enable-feature=native-histograms");
        }
        command.arg("--enable-feature=exemplar-storage");
        command.spawn().unwrap()
    }

    /// Waits until it is ready; false when it ended instead.
    async fn ready(&mut self) -> bool {
        let child = self.child.as_mut().expect("it was started");
        let address = self.address;
        eventually("ready Prometheus", START_DEADLINE, async || {
            if child.try_wait().unwrap().is_some() {
                return Ok(false);
            }
            match Request::get("/-/ready").send(address).await {
                Ok(response) if response.status == 200 => Ok(true),
                other => Err(other),
            }
        })
        .await
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().rev().take(15).collect();
            let role = if self.hub { "hub" } else { "spoke" };
            eprintln!(
                "--- log of the {role} {}, newest first\n{}",
                self.address,
                lines.join("\n")
            );
        }
    }
}

fn spoke_config(spoke: &Spoke<'_>, address: SocketAddr) -> String {
    let Spoke {
        name,
        url,
        authentication,
        ..
    } = spoke;
    let protocol = match spoke.protocol {
        // It sends metadata anyway, and warns of being told so.
        Protocol::V2 => {
            "  protobuf_message: io.prometheus.write.v2.Request\n  metadata_config: {send: false}\n"
        }
        Protocol::V1 => "  metadata_config: {send: true, send_interval: 2s}\n",
    };
    let foreign = spoke.foreign_cluster.map_or_else(String::new, |cluster| {
        format!(
            "- job_name: kafka\n  static_configs: [{{targets: [\"{address}\"], labels: {{cluster: {cluster}}}}}]\n"
        )
    });
    let target = spoke.target.map_or_else(String::new, |target| {
        format!("- job_name: target\n  static_configs: [{{targets: [\"{target}\"]}}]\n")
    });
    format!(
        "\
global:
  scrape_interval: 1s
  external_labels: {{cluster: {name}}}
scrape_configs:
- job_name: prometheus
  static_configs: [{{targets: [\"{address}\"]}}]
{foreign}{target}remote_write:
- url: {url}
  {authentication}
  send_exemplars: true
  send_native_histograms: true
{protocol}  queue_config: {{batch_send_deadline: 1s, max_shards: 4}}
"
    )
}

/// `data` of a response of the query API, which VictoriaMetrics has as well.
pub(super) async fn get_data(from: SocketAddr, path: &str) -> serde_json::Value {
    let response = Request::get(path).send(from).await;
    let response = response.expect("a response").expect(200);
    let mut response: serde_json::Value = serde_json::from_str(&response.text).unwrap();
    response["data"].take()
}

/// An address that was free a moment ago; Prometheus cannot say which port it took itself.
pub(super) fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

pub(super) fn percent_encode(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}
