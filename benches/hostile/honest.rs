//! The honest spoke: a process that writes at a steady pace, and says how long its writes took.
//!
//! A latency counts from the time when the write was due, so a stall shows in the writes that wait for
//! it.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use hubgate::load::bodies::Body;
use hubgate::load::client::{self, Client, Server};
use hubgate::load::drive::unix_ms;
use hubgate::load::shape::{Mix, Shape};
use hubgate::remote_write::WRITE_PATH;
use hubgate::tls::{Authorities, ClientTls};
use hubgate::wire::Protocol;
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::gate::{Gate, HONEST, HONEST_TOKEN};

/// The threads that write, in turn. A write that takes longer than usual delays no other one.
const WORKERS: u32 = 8;

/// The time between two writes of all together.
const INTERVAL: Duration = Duration::from_millis(10);

/// A higher latency counts as this one.
const LATENCY_MAX: Duration = Duration::from_secs(3600);

/// The series of a write, each with one sample.
const SERIES: usize = 100;

/// What the honest spoke has seen. Latencies are in seconds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) writes: u64,
    /// Writes without a 2xx.
    pub(crate) failures: u64,
    pub(crate) first_failure: Option<String>,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Seen {
    /// The samples of writes with a 2xx.
    pub(crate) fn samples_written(&self) -> u64 {
        (self.writes - self.failures) * SERIES as u64
    }
}

/// A running honest spoke.
pub(crate) struct Honest(Child);

impl Honest {
    pub(crate) fn start(gate: &Gate) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("find the bench's own program")?;
        let mut command = Command::new(program);
        command.args(["--honest", &gate.address.to_string()]);
        if let Some(certificate) = &gate.certificate {
            command.arg("--certificate").arg(certificate);
        }
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        Ok(Self(child.context("start the honest spoke")?))
    }

    /// Lets it write for a time, and returns what it has seen since its start.
    pub(crate) async fn stop_after(mut self, time: Duration) -> anyhow::Result<Seen> {
        sleep(time).await;
        // It ends with its stdin.
        drop(self.0.stdin.take());
        let output = self.0.wait_with_output().await?;
        ensure!(
            output.status.success(),
            "the honest spoke ended: {}",
            output.status
        );
        serde_json::from_slice(&output.stdout).context("read what the honest spoke has seen")
    }
}

/// Runs as an honest spoke until stdin is closed.
pub(crate) fn run(gate: SocketAddr, certificate: Option<&Path>) -> anyhow::Result<ExitCode> {
    let gate = match certificate {
        None => Server::at(gate),
        Some(file) => {
            let authorities = Authorities::from_pem(&std::fs::read(file)?)?;
            let url = format!("https://{gate}").parse()?;
            Server::new(&url, Some(ClientTls::new(&authorities, None)?))?
        }
    };
    let stop = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    let workers = (0..WORKERS).map(|worker| {
        let (gate, stop) = (gate.clone(), Arc::clone(&stop));
        thread::spawn(move || write(&gate, worker, begun, &stop))
    });
    let workers: Vec<_> = workers.collect();
    io::stdin().read_to_end(&mut Vec::new())?;
    stop.store(true, Ordering::Relaxed);
    let mut seen = Seen::default();
    let mut latencies: Option<Histogram<u64>> = None;
    for worker in workers {
        let (of_worker, micros) = worker.join().ok().context("a worker panicked")??;
        seen.writes += of_worker.writes;
        seen.failures += of_worker.failures;
        seen.first_failure = seen.first_failure.or(of_worker.first_failure);
        match &mut latencies {
            Some(all) => all.add(micros)?,
            None => latencies = Some(micros),
        }
    }
    let latencies = latencies.context("there are workers")?;
    let seconds = |quantile| {
        let micros = latencies.value_at_quantile(quantile);
        Duration::from_micros(micros).as_secs_f64()
    };
    (seen.p50, seen.p99) = (seconds(0.5), seconds(0.99));
    writeln!(io::stdout(), "{}", serde_json::to_string(&seen)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes at a steady pace, over one connection or, each second worker, over a new one each time.
fn write(
    gate: &Server,
    worker: u32,
    begun: Instant,
    stop: &AtomicBool,
) -> anyhow::Result<(Seen, Histogram<u64>)> {
    let keeps = worker.is_multiple_of(2);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let shape = Shape {
        protocol: Protocol::V1,
        series_per_request: SERIES,
        mix: Mix::Uniform { labels: 14 },
        extra: None,
        cluster: Some(HONEST.to_owned()),
    };
    let mut body = Body::new(&shape, worker as usize * SERIES);
    let authorization = client::bearer(HONEST_TOKEN)?;
    let mut client = Client::new(gate.clone());
    let mut seen = Seen::default();
    let mut micros = Histogram::new_with_bounds(1, LATENCY_MAX.as_micros().try_into()?, 3)?;
    let mut due = begun + worker * INTERVAL;
    // One write at least: a machine that is busy may start this late.
    loop {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let bytes = body.next(unix_ms());
        let request = client::write_request(WRITE_PATH, Protocol::V1, Some(&authorization), bytes)?;
        let failure = match runtime.block_on(client.send(request)) {
            Ok(response) if response.status.is_success() => None,
            Ok(response) => Some(format!("{}: {}", response.status, response.text())),
            Err(error) => Some(format!("{error:#}")),
        };
        seen.writes += 1;
        if let Some(failure) = failure {
            seen.failures += 1;
            seen.first_failure.get_or_insert(failure);
        }
        micros.saturating_record(u64::try_from(due.elapsed().as_micros())?);
        if !keeps {
            client = Client::new(gate.clone());
        }
        due += WORKERS * INTERVAL;
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok((seen, micros))
}
