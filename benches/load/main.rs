//! Measures what hubgate costs, beside other programs that are put in front of hubs, and beside a
//! hub alone.
//!
//! A subject is a process in front of a sink that counts samples. Another process sends to it what
//! `hubgate load` sends, and its CPU time is read from `/proc`. At first all subjects get the same
//! traffic, then hubgate gets traffic that might be a cliff. A real Prometheus (`PROMETHEUS_BIN`, and
//! the one on `PATH`) shows what gate and hub cost together. A lost sample or a response other than 2xx
//! fails the bench; a slow subject does not.
//!
//! `cargo bench --bench load -- --help` lists the options. The smoke form for CI is
//! `cargo bench --bench load -- --test`: it runs each of hubgate's own subjects for less than a
//! second and needs no other program, and its figures mean nothing.
//! `cargo test --bench load -- --test` does the same without a release build.

mod captured;
mod certificate;
mod cliffs;
mod driver;
mod hub;
mod markdown;
mod measure;
mod peers;
mod process;
mod real_spoke;
mod report;
mod scrape;
mod sender;
mod sink;
mod spokes;
mod subjects;
mod targets;
mod traffic;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::Parser;
use hubgate::wire::Protocol;
use tokio::signal::unix::{SignalKind, signal};

use cliffs::{Cell, Table};
use hub::Prometheus;
use measure::{Extent, Figures};
use peers::{Kind, Peer};
use subjects::{Program, Subject};
use traffic::Mix;

/// The allocator of hubgate; the sink uses it as well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LATENCY_ROW: &str = "added latency at half load";

/// Measures hubgate, its peers and a hub behind it.
#[derive(Debug, Parser)]
struct Args {
    /// How long each subject is measured
    #[arg(long, default_value = "3s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// How long each subject is under load before it is measured
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    warm_up: Duration,
    /// Connections, each with one request in flight
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Samples a second to the real hub; less than it can take
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1_000..))]
    hub_rate: u32,
    /// Another binary of hubgate to measure beside this one, such as an older one
    #[arg(long, value_name = "PATH")]
    base: Option<PathBuf>,
    /// Measure only rows whose name contains this text, such as "upgraded", "captured", "sizes:",
    /// "contents:", "connections:", "spokes:" or "Prometheus 3"
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Check in a few seconds that hubgate's own rows work; the figures mean nothing
    #[arg(long)]
    test: bool,
    /// Cargo passes this to every bench
    #[arg(long, hide = true)]
    bench: bool,
    /// Run as a sink with this protocol
    #[arg(long, hide = true, value_parser = protocol)]
    sink: Option<Protocol>,
    #[command(flatten)]
    manner: sink::Manner,
    /// Run as the sender of a load
    #[arg(long, hide = true)]
    send: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if let Some(protocol) = args.sink {
        return sink::serve(protocol, args.manner).await;
    }
    if args.send {
        return tokio::task::spawn_blocking(sender::serve).await?;
    }
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // The processes that `run` holds end when it is dropped.
    tokio::select! {
        outcome = run(&args) => outcome,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
}

async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let extent = if args.test {
        Extent::brief()
    } else {
        Extent {
            warm_up: args.warm_up,
            duration: args.duration,
            connections: args.connections,
        }
    };
    let mut bench = Bench {
        extent,
        only: args.only.as_deref().unwrap_or_default().to_lowercase(),
        brief: args.test,
        hub_rate: args.hub_rate,
        measured_peers: Vec::new(),
        failed: Vec::new(),
    };
    let peers = if args.test { Vec::new() } else { find_peers()? };
    let mut unchanged_rate = None;
    for mix in [Mix::Uniform, Mix::Cluster, Mix::Captured] {
        let rate = bench.subjects(mix, args.base.as_deref(), &peers).await?;
        unchanged_rate = unchanged_rate.or(rate);
    }
    let compared = [Mix::Cluster, Mix::Uniform];
    // A test has not the time for more.
    let compared = if args.test { &compared[..1] } else { &compared };
    for &mix in compared {
        for table in Table::all(mix, &peers) {
            bench.cliffs(&table).await?;
        }
    }
    bench.added_latency(unchanged_rate).await?;
    if !args.test {
        bench.hubs().await?;
    }
    report::machine()?;
    for peer in &bench.measured_peers {
        let name = peer.kind.name();
        report::line(&format!("{name}: {}", peer.version().await))?;
    }
    for failed in &bench.failed {
        report::note(&format!("FAILED {failed}"))?;
    }
    Ok(if bench.failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn find_peers() -> anyhow::Result<Vec<Peer>> {
    let mut peers = Vec::new();
    for kind in Kind::ALL {
        match Peer::find(kind) {
            Some(peer) => peers.push(peer),
            None => report::note(&format!("no {} on PATH: it is not measured", kind.name()))?,
        }
    }
    Ok(peers)
}

struct Bench {
    extent: Extent,
    only: String,
    /// The figures mean nothing.
    brief: bool,
    hub_rate: u32,
    measured_peers: Vec<Peer>,
    /// Rows that could not be measured, with the reason.
    failed: Vec<String>,
}

impl Bench {
    /// Tells whether to measure a row, and notes that it begins.
    fn begin(&self, name: &str) -> anyhow::Result<bool> {
        let asked = name.to_lowercase().contains(&self.only);
        if asked {
            report::note(&format!("{name} ..."))?;
        }
        Ok(asked)
    }

    /// Returns the figures of a row, or notes why it has none and keeps that for the end.
    fn note_failure<T>(
        &mut self,
        name: &str,
        outcome: anyhow::Result<T>,
    ) -> anyhow::Result<Option<T>> {
        match outcome {
            Ok(figures) => Ok(Some(figures)),
            Err(error) => {
                let failure = format!("{name}: {error:#}");
                report::note(&failure)?;
                self.failed.push(failure);
                Ok(None)
            }
        }
    }

    /// Measures a subject, unless its row was not asked for or fails.
    async fn subject(&mut self, name: &str, subject: &Subject) -> anyhow::Result<Option<Figures>> {
        if !self.begin(name)? {
            return Ok(None);
        }
        let outcome = measure::subject(subject, self.extent, None).await;
        let figures = self.note_failure(name, outcome)?;
        if let (Some(_), Program::Peer(peer)) = (&figures, &subject.program)
            && !self.measured_peers.contains(peer)
        {
            self.measured_peers.push(peer.clone());
        }
        Ok(figures)
    }

    /// Measures each subject with the usual traffic of a mix; returns the rate of the unchanged V1 subject
    /// with uniform series if it is among them.
    async fn subjects(
        &mut self,
        mix: Mix,
        base: Option<&Path>,
        peers: &[Peer],
    ) -> anyhow::Result<Option<f64>> {
        let mut rows = Vec::new();
        let mut unchanged_rate = None;
        for subject in Subject::all(mix, base, peers) {
            let Some(figures) = self.subject(&subject.row(), &subject).await? else {
                continue;
            };
            if subject.is_unchanged_v1() {
                unchanged_rate = Some(figures.samples_per_second());
            }
            rows.push((subject, figures));
        }
        if !rows.is_empty() {
            report::subjects(mix, &rows)?;
        }
        Ok(unchanged_rate)
    }

    /// Measures what a sample costs with each traffic of a table.
    async fn cliffs(&mut self, table: &Table) -> anyhow::Result<()> {
        let mut cells = Vec::new();
        for (name, subject) in table.cells() {
            if self.brief && !table.is_tested(&subject) {
                continue;
            }
            if let Some(figures) = self.subject(&name, &subject).await? {
                cells.push(Cell { subject, figures });
            }
        }
        if !cells.is_empty() {
            report::cliffs(table, &cells)?;
        }
        Ok(())
    }

    /// Measures the latency that the gate adds at half of its highest rate.
    async fn added_latency(&mut self, unchanged_rate: Option<f64>) -> anyhow::Result<()> {
        if !self.begin(LATENCY_ROW)? {
            return Ok(());
        }
        let extent = self.extent;
        let outcome = async {
            let gate = Subject::unchanged_v1();
            let most = match unchanged_rate {
                Some(rate) => rate,
                None => measure::subject(&gate, extent, None)
                    .await?
                    .samples_per_second(),
            };
            let rate = (most / 2.0).round().max(1.0);
            let direct = measure::sink_alone(extent, Some(rate)).await?;
            let through = measure::subject(&gate, extent, Some(rate)).await?;
            anyhow::Ok((rate, direct, through))
        };
        let outcome = outcome.await;
        if let Some((rate, direct, gate)) = self.note_failure(LATENCY_ROW, outcome)? {
            report::added_latency(rate, &direct, &gate)?;
        }
        Ok(())
    }

    /// Measures each Prometheus alone and behind the gate.
    async fn hubs(&mut self) -> anyhow::Result<()> {
        let servers = Prometheus::all().await;
        let servers = self
            .note_failure("Prometheus", servers)?
            .unwrap_or_default();
        if servers.is_empty() {
            report::note("no PROMETHEUS_BIN and no prometheus on PATH: no hub is measured")?;
        }
        for server in servers {
            let mut rows = Vec::new();
            for set_up in server.set_ups() {
                let name = format!("Prometheus {}: {}", server.version, set_up.name());
                if !self.begin(&name)? {
                    continue;
                }
                let outcome = server.measure(set_up, self.extent, self.hub_rate).await;
                if let Some(cost) = self.note_failure(&name, outcome)? {
                    rows.push((set_up, cost));
                }
            }
            if !rows.is_empty() {
                report::hub(&server.version, self.hub_rate, &rows)?;
            }
            self.real_spoke(&server).await?;
        }
        Ok(())
    }

    /// Measures a Prometheus as hub of a real spoke, alone and behind the gate.
    async fn real_spoke(&mut self, server: &Prometheus) -> anyhow::Result<()> {
        let mut rows = Vec::new();
        for has_gate in [false, true] {
            let set_up = real_spoke::name(has_gate);
            let name = format!("Prometheus {}: real spoke: {set_up}", server.version);
            if !self.begin(&name)? {
                continue;
            }
            let outcome = real_spoke::measure(server, has_gate, self.extent.duration).await;
            if let Some(cost) = self.note_failure(&name, outcome)? {
                rows.push((set_up, cost));
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        report::real_spoke(&server.version, &rows)
    }
}

fn protocol(text: &str) -> Result<Protocol, String> {
    [Protocol::V1, Protocol::V2]
        .into_iter()
        .find(|protocol| protocol.name() == text)
        .ok_or_else(|| "must be v1 or v2".to_owned())
}
