//! `hubgate load`: sends kube-like remote writes and measures how they are taken.
//!
//! Made to share a machine with what it measures: bodies are compressed once (`bodies`), each
//! connection has one thread and no queue (`drive`), and nothing is retried, only counted.

pub mod bodies;
pub mod client;
pub mod drive;
mod kube;
mod snappy;
pub mod tally;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use http::{HeaderValue, Uri};

use bodies::Shape;
use client::Server;
use drive::{BODIES_PER_CONNECTION, Load, Plan, Progress};
use tally::Tally;

use crate::wire::Protocol;

/// The path at which Prometheus and the gate take remote writes.
pub const WRITE_PATH: &str = "/api/v1/write";

const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// Flags of `hubgate load`.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Remote-write endpoint, such as http://127.0.0.1:9480/api/v1/write
    #[arg(long)]
    url: Uri,
    /// Bearer token; prefer --token-file, as arguments are seen by everyone on the machine
    #[arg(long, allow_hyphen_values = true, conflicts_with_all = ["token_file", "username"])]
    token: Option<String>,
    /// File with the bearer token
    #[arg(long, conflicts_with = "username")]
    token_file: Option<PathBuf>,
    /// User name of basic authentication
    #[arg(long, requires = "password_file")]
    username: Option<String>,
    /// File with the password of basic authentication
    #[arg(long, requires = "username")]
    password_file: Option<PathBuf>,
    /// Remote-write message: v1 is prometheus.WriteRequest, v2 is io.prometheus.write.v2.Request
    #[arg(long, value_name = "v1|v2", default_value = "v1", value_parser = protocol)]
    protocol: Protocol,
    /// Series, each with one sample, in a request
    #[arg(long, default_value_t = 2_000, value_parser = in_range::<1, 100_000>)]
    series_per_request: usize,
    /// Labels of a series, metric name and cluster among them
    #[arg(long, default_value_t = 14, value_parser = in_range::<{ kube::LABELS_MIN }, 64>)]
    labels: usize,
    /// Connections, each with one request in flight
    #[arg(long, default_value_t = 8, value_parser = in_range::<1, 1_024>)]
    connections: usize,
    /// Distinct bodies of a connection, sent in turn, each with series of its own
    #[arg(long, default_value_t = BODIES_PER_CONNECTION, value_parser = in_range::<1, 1_024>)]
    bodies_per_connection: usize,
    /// How long to send
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Samples a second, by the clock; without it the next request follows the last answer
    #[arg(long, value_name = "SAMPLES_PER_SECOND", value_parser = rate)]
    rate: Option<f64>,
    /// Value of the cluster label; without it the series have none
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
}

/// Runs `hubgate load`; fails unless something was sent and all of it answered 2xx.
pub fn run(args: &LoadArgs) -> ExitCode {
    match plan(args).and_then(send) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "hubgate load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn plan(args: &LoadArgs) -> anyhow::Result<Plan> {
    Ok(Plan {
        server: Server::new(&args.url)?,
        path: args
            .url
            .path_and_query()
            .map_or("/", |path| path.as_str())
            .to_owned(),
        authorization: authorization(args)?,
        shape: Shape {
            protocol: args.protocol,
            series_per_request: args.series_per_request,
            labels: args.labels,
            cluster: args.cluster.clone(),
        },
        connections: args.connections,
        bodies_per_connection: args.bodies_per_connection,
        duration: args.duration,
        samples_per_second: args.rate,
    })
}

fn authorization(args: &LoadArgs) -> anyhow::Result<Option<HeaderValue>> {
    if let (Some(username), Some(file)) = (&args.username, &args.password_file) {
        let password = read_secret(file)?;
        let pair = BASE64_STANDARD.encode(format!("{username}:{password}"));
        return secret_header(&format!("Basic {pair}")).map(Some);
    }
    let token = match &args.token_file {
        Some(file) => Some(read_secret(file)?),
        None => args.token.clone(),
    };
    token.map(|token| bearer(&token)).transpose()
}

/// Makes the `Authorization` header of a bearer token.
pub fn bearer(token: &str) -> anyhow::Result<HeaderValue> {
    secret_header(&format!("Bearer {token}"))
}

fn secret_header(value: &str) -> anyhow::Result<HeaderValue> {
    let mut header =
        HeaderValue::from_str(value).context("the credential is not a header value")?;
    header.set_sensitive(true);
    Ok(header)
}

fn read_secret(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let secret = text.trim();
    ensure!(!secret.is_empty(), "{}: empty", file.display());
    Ok(secret.to_owned())
}

fn send(plan: Plan) -> anyhow::Result<bool> {
    let progress = Arc::new(Progress::default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (tally, duration) = runtime.block_on(watch(plan, &progress))?;
    if let Some(failure) = &tally.first_failure {
        writeln!(io::stderr(), "hubgate load: first failure: {failure}")?;
    }
    writeln!(
        io::stdout(),
        "{}",
        serde_json::to_string(&tally.summary(duration))?
    )?;
    Ok(tally.is_clean())
}

/// Drives the load beside the progress line; Ctrl-C ends it early, with its summary.
async fn watch(plan: Plan, progress: &Arc<Progress>) -> anyhow::Result<(Tally, Duration)> {
    let driver = Arc::clone(progress);
    let mut load = tokio::task::spawn_blocking(move || Load::new(&plan, &driver)?.drive());
    let mut line = ProgressLine::new();
    let mut ticks = tokio::time::interval(PROGRESS_INTERVAL);
    loop {
        tokio::select! {
            outcome = &mut load => {
                line.clear()?;
                return outcome.context("the load ended unexpectedly")?;
            }
            _ = ticks.tick() => line.show(progress)?,
            _ = tokio::signal::ctrl_c() => progress.stop.store(true, Ordering::Relaxed),
        }
    }
}

/// The line that is rewritten on a terminal, and nothing anywhere else.
struct ProgressLine {
    terminal: bool,
    last: Instant,
    last_samples: u64,
}

impl ProgressLine {
    fn new() -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
            last: Instant::now(),
            last_samples: 0,
        }
    }

    fn show(&mut self, progress: &Progress) -> io::Result<()> {
        let samples = progress.samples.load(Ordering::Relaxed);
        let seconds = self.last.elapsed().as_secs_f64();
        if !self.terminal || seconds < 0.1 {
            return Ok(());
        }
        let rate = (samples - self.last_samples) as f64 / seconds;
        let failures = progress.failures.load(Ordering::Relaxed);
        self.last = Instant::now();
        self.last_samples = samples;
        write!(
            io::stderr(),
            "\r{samples} samples, {rate:.0}/s, {failures} requests failed   "
        )
    }

    fn clear(&self) -> io::Result<()> {
        if self.terminal {
            write!(io::stderr(), "\r{:60}\r", "")?;
        }
        Ok(())
    }
}

fn protocol(text: &str) -> Result<Protocol, String> {
    [Protocol::V1, Protocol::V2]
        .into_iter()
        .find(|protocol| protocol.name() == text)
        .ok_or_else(|| "must be v1 or v2".to_owned())
}

fn in_range<const MIN: usize, const MAX: usize>(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (MIN..=MAX).contains(&number) => Ok(number),
        _ => Err(format!("must be a number from {MIN} to {MAX}")),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (1.0..=1e9).contains(&rate) => Ok(rate),
        _ => Err("must be a number from 1 to 1e9".to_owned()),
    }
}
