//! A spoke that misbehaves: a process that sends what it can over many connections.
//!
//! It runs when nothing else does (`SCHED_IDLE`), because it makes its load on the cores that the gate and the
//! honest spoke use. On a machine of its own it would take nothing from them.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use http::StatusCode;
use hubgate::load::bodies::Body;
use hubgate::load::client::{self, Client, Server};
use hubgate::load::drive::unix_ms;
use hubgate::load::shape::{Mix, Shape};
use hubgate::remote_write::WRITE_PATH;
use hubgate::wire::Protocol;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::attacks::{Attack, Tally};
use crate::gate::ROGUE_TOKEN;

/// How often it tells what it has done.
const TELL_INTERVAL: Duration = Duration::from_millis(100);

/// The series of a usual request.
const SERIES: usize = 2_000;

/// The series of a request of some 26 MiB, decoded.
const GIANT_SERIES: usize = 50_000;

/// The series that a spoke with too many new ones had before, and how often it sends them.
const KNOWN_SERIES: usize = 50_000;
const KNOWN_INTERVAL: Duration = Duration::from_secs(5);

/// What it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Load {
    /// Requests of the usual size.
    Usual,
    /// Requests that are nearly as large as a body may be.
    Giant,
    /// Series that it never sent before, beside those that it always sends.
    New,
}

impl Load {
    fn name(self) -> &'static str {
        match self {
            Self::Usual => "usual",
            Self::Giant => "giant",
            Self::New => "new",
        }
    }
}

/// Starts the process. It ends when the result is dropped.
pub(crate) fn start(
    load: Load,
    attack: &Attack,
    to: SocketAddr,
    tally: &Arc<Tally>,
) -> anyhow::Result<JoinSet<()>> {
    let program = std::env::current_exe().context("find the bench's own program")?;
    let mut child = Command::new("chrt")
        .args(["-i", "0"])
        .arg(program)
        .args(["--rogue", &to.to_string(), "--load", load.name()])
        .args(["--connections", &attack.connections.to_string()])
        .args(["--scale", &attack.scale.to_string()])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("start the rogue spoke")?;
    let told = child.stdout.take().context("its output is piped")?;
    let tally = Arc::clone(tally);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut lines = BufReader::new(told).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            match line.parse() {
                Ok(attempts) => tally.add(attempts),
                Err(_) => tally.fail(line),
            }
        }
        drop(child);
    });
    Ok(tasks)
}

/// Runs as the rogue spoke until it is killed. Prints the requests that had a response, and what went wrong.
/// All requests have `scale` times fewer series.
pub(crate) async fn run(
    gate: SocketAddr,
    load: Load,
    connections: usize,
    scale: usize,
) -> anyhow::Result<ExitCode> {
    let rogue = Arc::new(Rogue {
        gate: Server::at(gate),
        scale,
        next: AtomicUsize::new(2 * KNOWN_SERIES),
        answered: AtomicU64::new(0),
    });
    let mut tasks = JoinSet::new();
    if load == Load::New {
        // The gate gets to know them before the flood.
        rogue.scrape().await?;
        let rogue = Arc::clone(&rogue);
        tasks.spawn(async move {
            let mut due = Instant::now();
            loop {
                due += KNOWN_INTERVAL;
                sleep_until(due).await;
                rogue.scrape().await?;
            }
        });
    }
    for connection in 0..connections {
        let rogue = Arc::clone(&rogue);
        tasks.spawn(async move { rogue.flood(load, connection).await });
    }
    loop {
        tokio::select! {
            Some(ended) = tasks.join_next() => {
                let Err(error) = ended?;
                writeln!(std::io::stdout(), "{error:#}")?;
                bail!("a connection ended");
            }
            () = sleep(TELL_INTERVAL) => {
                let answered = rogue.answered.swap(0, Ordering::Relaxed);
                writeln!(std::io::stdout(), "{answered}")?;
            }
        }
    }
}

struct Rogue {
    gate: Server,
    /// How many times fewer series its requests have.
    scale: usize,
    /// The first series that it did not send yet.
    next: AtomicUsize,
    /// Requests that had a response and were not told of.
    answered: AtomicU64,
}

impl Rogue {
    /// Sends what it always sends. All of it must be written, however long that takes.
    async fn scrape(&self) -> anyhow::Result<()> {
        let mut client = Client::new(self.gate.clone());
        let series = SERIES / self.scale;
        for first in (0..KNOWN_SERIES / self.scale).step_by(series) {
            let mut body = body(series, first);
            let bytes = body.next(unix_ms());
            loop {
                let (status, text) = self.send(&mut client, bytes.clone()).await?;
                if status.is_success() {
                    break;
                }
                ensure!(status.is_server_error(), "known series: {status}: {text}");
                sleep(TELL_INTERVAL).await;
            }
        }
        Ok(())
    }

    /// Sends at full speed, whatever the gate responds.
    async fn flood(
        &self,
        load: Load,
        connection: usize,
    ) -> anyhow::Result<std::convert::Infallible> {
        let mut client = Client::new(self.gate.clone());
        let series = if load == Load::Giant {
            GIANT_SERIES
        } else {
            SERIES
        } / self.scale;
        let mut same = body(series, 2 * KNOWN_SERIES + connection * series);
        loop {
            let bytes = match load {
                Load::New => {
                    let first = self.next.fetch_add(series, Ordering::Relaxed);
                    body(series, first).next(unix_ms())
                }
                Load::Usual | Load::Giant => same.next(unix_ms()),
            };
            let Ok((status, text)) = self.send(&mut client, bytes).await else {
                // The gate may close a connection whose body it does not want.
                client = Client::new(self.gate.clone());
                continue;
            };
            self.answered.fetch_add(1, Ordering::Relaxed);
            if status == StatusCode::BAD_REQUEST {
                let named = text.contains("most new ones lately: ");
                ensure!(load == Load::New && named, "nobody is named: {text}");
            }
        }
    }

    async fn send(
        &self,
        client: &mut Client,
        body: bytes::Bytes,
    ) -> anyhow::Result<(StatusCode, String)> {
        let authorization = client::bearer(ROGUE_TOKEN)?;
        let request = client::write_request(WRITE_PATH, Protocol::V1, Some(&authorization), body)?;
        let response = client.send(request).await?;
        Ok((response.status, response.text()))
    }
}

/// A body of so many series, from this one on.
fn body(series_per_request: usize, first: usize) -> Body {
    let shape = Shape {
        protocol: Protocol::V1,
        series_per_request,
        mix: Mix::Uniform { labels: 14 },
        extra: None,
        cluster: Some("rogue".to_owned()),
    };
    Body::new(&shape, first)
}
