//! Real Prometheus servers for the demo. They keep their files in a temporary folder, and they end
//! when they are dropped.

use std::fs::{self, DirBuilder, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::spoke::Spoke;
use crate::load::scrape;
use crate::remote_write::WRITE_PATH;
use crate::wire::Protocol;

/// A Prometheus without data is ready within a second or two.
const START_TIMEOUT: Duration = Duration::from_secs(30);

const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Where the Prometheus program is.
#[derive(Debug, Clone)]
pub enum PrometheusPath {
    /// The first on `PATH`.
    Search,
    /// At this path.
    At(PathBuf),
}

/// A `prometheus` program.
pub(super) struct Program {
    path: PathBuf,
    /// Such as `2.42.0`.
    pub(super) version: String,
}

impl Program {
    /// Finds the program and asks it for its version.
    pub(super) fn find(path: &PrometheusPath) -> anyhow::Result<Self> {
        let path = match path {
            PrometheusPath::Search => search()?,
            PrometheusPath::At(path) => path.clone(),
        };
        let output = Command::new(&path)
            .arg("--version")
            .output()
            .with_context(|| format!("run {} --version", path.display()))?;
        // Some versions print to stdout, others to stderr.
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        let version = text.strip_prefix("prometheus, version ");
        let version = version.and_then(|rest| rest.split_whitespace().next());
        let version = version.with_context(|| format!("{} is no prometheus", path.display()))?;
        Ok(Self {
            version: version.to_owned(),
            path,
        })
    }

    /// Whether it sends and receives V2. A 2.x needs an experimental flag for that.
    pub(super) fn speaks_v2(&self) -> bool {
        let major = self
            .version
            .split('.')
            .next()
            .and_then(|major| major.parse().ok());
        major.is_some_and(|major: u32| major >= 3)
    }
}

fn search() -> anyhow::Result<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .map(|folder| folder.join("prometheus"))
        .find(|path| path.is_file())
        .context("no prometheus on PATH; give --prometheus its path")
}

/// A temporary folder, which is removed when it is dropped.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes a new folder that only this user can read, because it will hold tokens.
    pub(super) fn new() -> anyhow::Result<Self> {
        let name = format!(
            "hubgate-demo-{}-{:08x}",
            std::process::id(),
            fastrand::u32(..)
        );
        let path = std::env::temp_dir().join(name);
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A temporary folder that stays does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running Prometheus. It ends when it is dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts a Prometheus that accepts remote writes and scrapes nothing.
    pub(super) async fn hub(program: &Program, folder: &Folder) -> anyhow::Result<Self> {
        let config = "storage: {tsdb: {out_of_order_time_window: 3h}}\n";
        let address = free_address()?;
        let flag = "--web.enable-remote-write-receiver";
        Self::start(program, &folder.0.join("hub"), address, config, &[flag]).await
    }

    /// Starts a Prometheus that scrapes itself and sends everything to the gate.
    pub(super) async fn spoke(
        program: &Program,
        folder: &Folder,
        spoke: &Spoke,
        gate: SocketAddr,
    ) -> anyhow::Result<Self> {
        let address = free_address()?;
        let config = spoke_config(spoke, gate, address);
        Self::start(program, &folder.0.join(spoke.name), address, &config, &[]).await
    }

    async fn start(
        program: &Program,
        folder: &Path,
        address: SocketAddr,
        config: &str,
        flags: &[&str],
    ) -> anyhow::Result<Self> {
        fs::create_dir(folder)?;
        let config_file = folder.join("prometheus.yaml");
        fs::write(&config_file, config)?;
        let log = folder.join("log");
        let output = File::create(&log)?;
        let child = Command::new(&program.path)
            .arg(format!("--config.file={}", config_file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .args(flags)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("start {}", program.path.display()))?;
        let mut server = Self {
            address,
            child,
            log,
        };
        server.wait_until_ready().await?;
        Ok(server)
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while scrape::get(self.address, "/-/ready").await.is_err() {
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                bail!(
                    "prometheus did not start: {}",
                    log.lines().last().unwrap_or_default()
                );
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Adds up the series of a metric on the server's `/metrics`.
    pub(super) async fn own_metric(&self, name: &str) -> anyhow::Result<f64> {
        let page = scrape::get(self.address, "/metrics").await?.text();
        scrape::sum(&page, name, &[])
            .with_context(|| format!("http://{}/metrics has no {name}", self.address))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended already. A kill loses no data that is still needed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spoke_config(spoke: &Spoke, gate: SocketAddr, own: SocketAddr) -> String {
    let Spoke {
        name,
        protocol,
        token,
    } = spoke;
    let message = match protocol {
        Protocol::V1 => "",
        Protocol::V2 => "    protobuf_message: io.prometheus.write.v2.Request\n",
    };
    format!(
        "global:\n  scrape_interval: 1s\n  external_labels: {{cluster: {name}}}\n\
         scrape_configs:\n  - job_name: prometheus\n    static_configs: [{{targets: ['{own}']}}]\n\
         remote_write:\n  - url: http://{gate}{WRITE_PATH}\n\
         \x20   authorization: {{credentials: '{token}'}}\n{message}"
    )
}

/// An address with a port that was free a moment ago. Prometheus does not tell which port it chose
/// for port 0.
fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    Ok(listener.local_addr()?)
}
