//! Real Prometheus servers as hubs and as spokes, each in a folder and on a port of its own.
//!
//! `PROMETHEUS_BIN` may name one binary and PATH may hold another; tests run with each of them. A
//! test fails without any and is not skipped; `tests/run.sh` unpacks one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::Mutex;

use super::body::Protocol;
use super::config::token;
use super::gate::Gate;
use super::metrics::Metrics;
use super::sender::Request;
use super::{DEADLINE, eventually};

/// Longest wait for a server to start on a machine that is busy with other tests.
pub(crate) const START_DEADLINE: Duration = Duration::from_secs(60);

/// Held by a test that runs real servers: several sets of them at once overload two cores.
pub(crate) static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// An installed Prometheus.
#[derive(Debug, Clone)]
pub(crate) struct Binary {
    path: PathBuf,
    pub(crate) major: u32,
    minor: u32,
}

impl Binary {
    /// Every distinct binary to test with.
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

    /// The newest protocol that it understands as a hub.
    pub(crate) fn receives(&self) -> Protocol {
        if self.major >= 3 {
            Protocol::V2
        } else {
            Protocol::V1
        }
    }

    /// True when a hub takes native histograms only if a feature flag is set.
    pub(crate) fn has_a_flag_for_histograms(&self) -> bool {
        (self.major, self.minor) < (3, 8)
    }

    /// The protocols that it can send.
    pub(crate) fn protocols(&self) -> &'static [Protocol] {
        if self.major >= 3 {
            &Protocol::BOTH
        } else {
            &[Protocol::V1]
        }
    }
}

/// The path of a program on PATH.
pub(crate) fn find_on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut candidates = std::env::split_paths(&path).map(|folder| folder.join(program));
    candidates.find(|candidate| candidate.is_file())
}

/// The settings of a Prometheus that is a spoke.
pub(crate) struct Spoke<'a> {
    pub(crate) name: &'a str,
    pub(crate) url: String,
    /// A line of the `remote_write` section: `authorization` or `basic_auth`.
    pub(crate) authentication: String,
    pub(crate) protocol: Protocol,
    /// The `cluster` label of the target in a second job, `kafka`, that scrapes the same server.
    pub(crate) foreign_cluster: Option<&'a str>,
    /// What the job `target` scrapes.
    pub(crate) target: Option<SocketAddr>,
    /// Further keys of `queue_config` in YAML flow style, each after a comma.
    pub(crate) queue_config: &'a str,
}

impl<'a> Spoke<'a> {
    /// A spoke that writes to a gate with the token of `config::spoke`.
    pub(crate) fn new(gate: &Gate, name: &'a str, protocol: Protocol) -> Self {
        Self {
            name,
            url: gate.url(),
            authentication: format!("authorization: {{credentials: {}}}", token(name)),
            protocol,
            foreign_cluster: None,
            target: None,
            queue_config: "",
        }
    }
}

/// A running server.
pub(crate) struct Prometheus {
    binary: Binary,
    dir: TempDir,
    address: SocketAddr,
    child: Option<Child>,
    is_hub: bool,
    native_histograms: bool,
    /// The `--web.config.file`, if there is one.
    web: Option<String>,
}

impl Prometheus {
    /// Starts a hub that accepts samples of the last half hour in any order.
    pub(crate) async fn start_hub(binary: &Binary) -> Self {
        let config = |_| "storage: {tsdb: {out_of_order_time_window: 30m}}\n".to_owned();
        Self::start(binary, true, config).await
    }

    /// Starts a hub without configuration: of each series it accepts only newer samples.
    pub(crate) async fn start_strict_hub(binary: &Binary) -> Self {
        Self::start(binary, true, |_| String::new()).await
    }

    /// Starts a hub that replies 500 to native histograms, if it is older than 3.8.
    pub(crate) async fn start_hub_without_histograms(binary: &Binary) -> Self {
        Self::start_with(binary, true, false, None, |_| String::new()).await
    }

    /// Starts a hub with this `--web.config.file`, which has it speak TLS. It may not be ready yet.
    pub(crate) async fn start_hub_with_web_config(binary: &Binary, web: &str) -> Self {
        Self::start_with(binary, true, true, Some(web), |_| String::new()).await
    }

    /// Forgets the `--web.config.file`, so that after a restart everyone is let in over plain HTTP.
    pub(crate) fn forget_web_config(&mut self) {
        self.web = None;
    }

    /// Starts a spoke that scrapes itself every second and writes everything to a gate.
    pub(crate) async fn start_spoke(binary: &Binary, spoke: &Spoke<'_>) -> Self {
        Self::start(binary, false, |address| spoke_config(spoke, address)).await
    }

    /// A server that scrapes targets every second, each as a job of its own.
    pub(crate) async fn scraper(binary: &Binary, jobs: &[(&str, SocketAddr)]) -> Self {
        let jobs: Vec<_> = jobs
            .iter()
            .map(|(job, target)| (*job, *target, ""))
            .collect();
        Self::scraper_with(binary, &jobs).await
    }

    /// As [`Self::scraper`], with a further line for each job, such as `authorization`.
    pub(crate) async fn scraper_with(binary: &Binary, jobs: &[(&str, SocketAddr, &str)]) -> Self {
        let config = |_| {
            let job = |(job, target, line): &(&str, SocketAddr, &str)| {
                format!(
                    "- job_name: {job}\n  static_configs: [{{targets: [\"{target}\"]}}]\n  {line}\n"
                )
            };
            let jobs: String = jobs.iter().map(job).collect();
            format!("global: {{scrape_interval: 1s}}\nscrape_configs:\n{jobs}")
        };
        Self::start(binary, false, config).await
    }

    /// A server that scrapes one target over TLS every second.
    pub(crate) async fn scraper_over_tls(
        binary: &Binary,
        (job, target): (&str, SocketAddr),
        ca_file: &Path,
    ) -> Self {
        let ca_file = ca_file.display();
        let config = |_| {
            format!(
                "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: {job}\n  scheme: \
                 https\n  tls_config: {{ca_file: {ca_file}}}\n  static_configs: [{{targets: \
                 [\"{target}\"]}}]\n"
            )
        };
        Self::start(binary, false, config).await
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/v1/write", self.address)
    }

    /// Queries an instant vector.
    pub(crate) async fn query(&self, promql: &str) -> Vec<(BTreeMap<String, String>, f64)> {
        let sample = |sample: &serde_json::Value| {
            let labels = serde_json::from_value(sample["metric"].clone()).unwrap();
            (
                labels,
                sample["value"][1].as_str().unwrap().parse().unwrap(),
            )
        };
        self.query_json(promql).await.iter().map(sample).collect()
    }

    /// The samples of each series in the seconds before a time, native histograms included, as text of
    /// time and value. The key is the labels without `cluster`, which is absent in the spoke's own
    /// storage.
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
            let of = |kind| series[kind].as_array().into_iter().flatten();
            let all = of("values").chain(of("histograms"));
            (labels, all.map(ToString::to_string).collect())
        };
        let range = format!("{selector}[{seconds}s] @ {time}");
        self.query_json(&range).await.iter().map(series).collect()
    }

    async fn query_json(&self, promql: &str) -> Vec<serde_json::Value> {
        let path = format!("/api/v1/query?query={}", percent_encode(promql));
        let data = get_data(self.address, &path).await;
        data["result"].as_array().unwrap().clone()
    }

    /// The names of the metric families that a job exposes. In OpenMetrics a counter's is without
    /// `_total`.
    pub(crate) async fn families(&self, job: &str) -> BTreeSet<String> {
        let target = percent_encode(&format!("{{job=\"{job}\"}}"));
        let path = format!("/api/v1/targets/metadata?match_target={target}");
        let data = get_data(self.address, &path).await;
        let families = data.as_array().unwrap().iter();
        let names = families.map(|family| family["metric"].as_str().unwrap().to_owned());
        names.collect()
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

    /// The sum of an expression's values; 0 when there is none.
    pub(crate) async fn value(&self, promql: &str) -> f64 {
        self.query(promql)
            .await
            .iter()
            .map(|(_, value)| value)
            .sum()
    }

    /// `GET /metrics`.
    pub(crate) async fn metrics(&self) -> Metrics {
        let response = Request::get("/metrics").send(self.address).await;
        Metrics::parse(&response.expect("a response").expect(200).text)
    }

    /// Sends a signal by its short name, such as `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        super::signal(self.child.as_ref().expect("a running server").id(), name);
    }

    /// Stops the server as an operator does, and keeps its storage.
    pub(crate) async fn stop(&mut self) {
        let mut child = self.child.take().expect("a running server");
        super::signal(child.id(), "TERM");
        eventually("exit of Prometheus", DEADLINE * 3, async || {
            child.try_wait().unwrap().ok_or("still running")
        })
        .await;
    }

    /// Starts the server again with the same port and storage.
    pub(crate) async fn restart(&mut self) {
        self.child = Some(self.spawn());
        assert!(
            self.is_ready().await,
            "the server does not start again: {}",
            self.log()
        );
    }

    async fn start(binary: &Binary, is_hub: bool, config: impl Fn(SocketAddr) -> String) -> Self {
        Self::start_with(binary, is_hub, true, None, config).await
    }

    async fn start_with(
        binary: &Binary,
        is_hub: bool,
        native_histograms: bool,
        web: Option<&str>,
        config: impl Fn(SocketAddr) -> String,
    ) -> Self {
        for _ in 0..5 {
            let address = free_address();
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("prometheus.yml"), config(address)).unwrap();
            let mut server = Self {
                binary: binary.clone(),
                dir,
                address,
                child: None,
                is_hub,
                native_histograms,
                web: web.map(str::to_owned),
            };
            server.child = Some(server.spawn());
            if server.is_ready().await {
                return server;
            }
            let log = server.log();
            // Another process may take the port before the server does.
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
        if let Some(web) = &self.web {
            let file = folder.join("web.yml");
            std::fs::write(&file, web).unwrap();
            command.arg(format!("--web.config.file={}", file.display()));
        }
        // A test puts samples into a spoke that no scrape takes.
        command.arg("--web.enable-remote-write-receiver");
        if self.native_histograms {
            // Without it a release before 3.8 replies 500 to every native histogram, and scrapes none.
            command.arg("--enable-feature=native-histograms");
        }
        command.arg("--enable-feature=exemplar-storage");
        command.spawn().unwrap()
    }

    /// Waits until the server is ready. Returns false when it ended instead.
    async fn is_ready(&mut self) -> bool {
        let child = self.child.as_mut().expect("a started server");
        let address = self.address;
        // A client without TLS is told so.
        let ready = if self.web.is_some() { 400 } else { 200 };
        eventually("Prometheus is ready", START_DEADLINE, async || {
            if child.try_wait().unwrap().is_some() {
                return Ok(false);
            }
            match Request::get("/-/ready").send(address).await {
                Ok(response) if response.status == ready => Ok(true),
                other => Err(other),
            }
        })
        .await
    }

    /// The log so far.
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
            let role = if self.is_hub { "hub" } else { "spoke" };
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
        queue_config,
        ..
    } = spoke;
    let protocol = match spoke.protocol {
        // V2 has metadata in its series; Prometheus warns when it is configured to send it as well.
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
{protocol}  queue_config: {{batch_send_deadline: 1s, max_shards: 4{queue_config}}}
"
    )
}

/// The `data` of a response of the query API, which VictoriaMetrics has as well.
pub(super) async fn get_data(from: SocketAddr, path: &str) -> serde_json::Value {
    let response = Request::get(path).send(from).await;
    let response = response.expect("a response").expect(200);
    let mut response: serde_json::Value = serde_json::from_str(&response.text).unwrap();
    response["data"].take()
}

/// An address that was free a moment ago. Prometheus cannot tell which port it chose itself.
pub(crate) fn free_address() -> SocketAddr {
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
