//! Measures what happens when a hub comes back and all spokes send hours of backlog at once.
//!
//! While no hub is there, spokes with a backlog begin to send it over all of their shards, beside quiet
//! spokes that send what is fresh. Then the hub comes, and takes only a fraction of what hubgate could
//! send it. The bench fails unless each sample arrives at the hub exactly once and in order, no response would
//! have a Prometheus drop anything, hubgate keeps to its memory, its counts add up, and what the quiet
//! spokes send is never late.
//!
//! `cargo bench --bench storm -- --help` lists the options. The smoke form for CI is
//! `cargo bench --bench storm -- --test`, with fewer and smaller spokes, and with less memory for them.
//! `cargo test --bench storm -- --test` does the same without a release build.

mod gate;
mod hub;
#[allow(dead_code, reason = "other benches use all of it")]
#[path = "../load/markdown.rs"]
mod markdown;
mod message;
mod plan;
#[allow(dead_code, reason = "other benches use all of it")]
#[path = "../load/process.rs"]
mod process;
mod report;
mod sender;
#[allow(dead_code, reason = "other benches use all of it")]
#[path = "../load/spokes.rs"]
mod spokes;

use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use hubgate::load::client::Server;
use hubgate::load::drive::unix_ms;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, timeout};

use gate::{Gate, Limits};
use hub::Hub;
use markdown::note;
use plan::{Group, HubPlan};
use process::free_address;
use report::Figures;
use sender::{Shard, Tally};
use spokes::Spoke;

/// The allocator of hubgate; the senders use it as well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How often the bytes in flight are read.
const READ_INTERVAL: Duration = Duration::from_secs(1);

/// A quiet spoke is scraped as often as this, in milliseconds, and no more than so many times.
const QUIET_INTERVAL_MS: i64 = 1_000;
const QUIET_SCRAPES_MAX: usize = 3_600;

/// Measures a storm of spokes that catch up.
#[derive(Debug, Clone, Parser)]
struct Args {
    /// Spokes with a backlog
    #[arg(long, default_value_t = 100)]
    spokes: usize,
    /// Shards of each of them, each with one request under way
    #[arg(long, default_value_t = 50)]
    shards: usize,
    /// Series of each of them
    #[arg(long, default_value_t = 1_000)]
    series: usize,
    /// Samples of each of their series: two hours of one every 15 s
    #[arg(long, default_value_t = 480)]
    scrapes: usize,
    /// Samples of a request, at most
    #[arg(long, default_value_t = 2_000)]
    samples_per_request: usize,
    /// Spokes without a backlog, each with a request a second
    #[arg(long, default_value_t = 10)]
    quiet: usize,
    /// Samples a second that the hub takes
    #[arg(long, default_value_t = 250_000)]
    hub_rate: u32,
    /// Requests that the hub works on at once
    #[arg(long, default_value_t = 8)]
    hub_workers: u32,
    /// How long the hub is away after the spokes have begun to send
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    outage: Duration,
    /// limits.bytes_in_flight_max of the gate, in MiB
    #[arg(long, default_value_t = 256)]
    budget_mib: u64,
    /// Check in half a minute that nothing is lost, repeated or late; the figures mean little
    #[arg(long)]
    test: bool,
    /// Cargo passes this to every bench
    #[arg(long, hide = true)]
    bench: bool,
    /// Run as a hub
    #[arg(long, hide = true)]
    hub: Option<String>,
}

impl Args {
    /// What a debug build sends in half a minute.
    fn scaled_down(self) -> Self {
        Self {
            spokes: 20,
            shards: 8,
            series: 96,
            samples_per_request: 500,
            quiet: 4,
            hub_rate: 60_000,
            outage: Duration::from_secs(2),
            budget_mib: 8,
            ..self
        }
    }

    fn limits(&self) -> Limits {
        let connections = self.spokes * self.shards + self.quiet;
        Limits {
            // What closes may be counted for a moment.
            connections: connections + connections / 10,
            bytes_in_flight: self.budget_mib << 20,
            request_bytes: (self.budget_mib << 20) / 8,
            series: self.samples_per_request.max(self.series),
        }
    }

    /// The groups of those with a backlog and of those without.
    fn groups(&self) -> [Group; 2] {
        let now_ms = unix_ms();
        let interval_ms = 15_000;
        let storm = Group {
            first: 1,
            spokes: self.spokes,
            series: self.series,
            begin_ms: now_ms - interval_ms * self.scrapes as i64,
            interval_ms,
            scrapes: self.scrapes,
        };
        let quiet = Group {
            first: storm.numbers().end,
            spokes: self.quiet,
            series: 100,
            begin_ms: now_ms,
            interval_ms: QUIET_INTERVAL_MS,
            scrapes: QUIET_SCRAPES_MAX,
        };
        [storm, quiet]
    }

    /// Several times what the hub needs for everything.
    fn time_max(&self, storm: &Group) -> Duration {
        let least = storm.samples() as f64 / f64::from(self.hub_rate);
        self.outage + Duration::from_secs(60) + Duration::from_secs_f64(least * 4.0)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if let Some(plan) = &args.hub {
        return hub::serve(plan).await;
    }
    raise_open_files()?;
    let args = if args.test { args.scaled_down() } else { args };
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // The processes that `run` holds end when it is dropped.
    tokio::select! {
        outcome = run(&args) => outcome,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
}

/// Each connection of a shard is an open file here as well.
fn raise_open_files() -> anyhow::Result<()> {
    let mut limits = getrlimit(Resource::Nofile);
    limits.current = limits.maximum;
    setrlimit(Resource::Nofile, limits).context("raise the limit of open files")
}

async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let figures = measure(args).await?;
    figures.print()?;
    markdown::machine()?;
    let failures = figures.failures();
    for failure in &failures {
        note(&format!("FAILED {failure}"))?;
    }
    Ok(if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn measure(args: &Args) -> anyhow::Result<Figures> {
    let folder = tempfile::tempdir()?;
    let address = free_address()?;
    let [storm, quiet] = args.groups();
    let spokes: Vec<_> = (storm.first..quiet.numbers().end).map(Spoke::new).collect();
    let limits = args.limits();
    let gate = Gate::start(folder.path(), address, &limits, spokes.iter().cloned()).await?;
    let idle = gate.process.usage()?;

    note("no hub is there, and everybody sends ...")?;
    let (stop, stopped) = watch::channel(false);
    let mut catching_up = JoinSet::new();
    for shard in shards(&gate, &storm, args.shards) {
        catching_up.spawn(shard.catch_up(args.samples_per_request));
    }
    // Shards that make requests would delay them, as no other Prometheus does.
    let keeping_up = on_a_thread(
        shards(&gate, &quiet, 1).collect(),
        args.samples_per_request,
        stopped,
    );
    let mut bytes_in_flight: f64 = 0.0;
    watch_bytes(&gate, &mut bytes_in_flight, sleep(args.outage)).await;
    note("the hub is back ...")?;
    let began = Instant::now();
    let hub = Hub::start(HubPlan {
        address,
        samples_per_second: args.hub_rate,
        workers: args.hub_workers,
        storm,
        quiet,
    });
    let hub = hub.await?;
    let catching_up = timeout(args.time_max(&storm), join(catching_up));
    let tallies = watch_bytes(&gate, &mut bytes_in_flight, catching_up).await;
    let storm_tallies = tallies.context("the storm does not end")??;
    stop.send_replace(true);
    let quiet_tallies = keeping_up.await??;
    let usage = gate.process.usage()?;
    let page = gate.metrics().await?;
    let totals = hub.totals().await?;
    hub.end().await?;
    gate.process.end().await?;
    let ends = storm_tallies.iter().filter_map(|tally| tally.ended);
    let ends: Vec<_> = ends.map(|end| (end - began).as_secs_f64()).collect();
    Ok(Figures {
        spokes: args.spokes,
        shards: args.shards,
        quiet_spokes: args.quiet,
        scrapes: args.scrapes,
        hub_rate: args.hub_rate,
        limits,
        storm: sum(&storm_tallies),
        quiet: sum(&quiet_tallies),
        first_end: ends.iter().copied().fold(f64::INFINITY, f64::min),
        seconds: ends.iter().copied().fold(0.0, f64::max),
        totals,
        cpu_seconds: usage.cpu_seconds - idle.cpu_seconds,
        peak_bytes: usage.peak_bytes,
        bytes_in_flight,
        refused_connections: page.refused_connections(),
        accounts: spokes.iter().map(|spoke| page.account(spoke)).collect(),
    })
}

/// Does something, and meanwhile reads how many bytes are in flight at most.
async fn watch_bytes<T>(gate: &Gate, most: &mut f64, done: impl Future<Output = T>) -> T {
    let mut done = pin!(done);
    loop {
        tokio::select! {
            result = &mut done => return result,
            () = sleep(READ_INTERVAL) => {
                // A gate with too few cores may be late. One that ended is noticed in the end.
                if let Ok(page) = gate.metrics().await {
                    *most = most.max(page.bytes_in_flight());
                }
            }
        }
    }
}

/// Has shards keep up on a thread of their own.
fn on_a_thread(
    shards: Vec<Shard>,
    samples_per_request: usize,
    mut stopped: watch::Receiver<bool>,
) -> JoinHandle<anyhow::Result<Vec<Tally>>> {
    spawn_blocking(move || {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut keeping_up = JoinSet::new();
            for shard in shards {
                keeping_up.spawn(shard.keep_up(samples_per_request, stopped.clone()));
            }
            tokio::select! {
                tallies = join(keeping_up) => tallies,
                // Whoever waits for this thread has failed.
                _ = stopped.wait_for(|_| false) => bail!("nobody asks for it any more"),
            }
        })
    })
}

/// The shards of all spokes of a group. Each has every so many series of its spoke.
fn shards(gate: &Gate, group: &Group, shards: usize) -> impl Iterator<Item = Shard> {
    let (server, group) = (Server::at(gate.address), *group);
    group.numbers().flat_map(move |number| {
        let spoke = Spoke::new(number);
        let labels = message::labels(&spoke, group.series);
        let server = server.clone();
        (0..shards).map(move |shard| Shard {
            gate: server.clone(),
            spoke: spoke.clone(),
            group,
            series: labels.iter().skip(shard).step_by(shards).cloned().collect(),
        })
    })
}

/// Waits for all shards, and fails with the first that fails.
async fn join(mut shards: JoinSet<anyhow::Result<Tally>>) -> anyhow::Result<Vec<Tally>> {
    let mut tallies = Vec::new();
    while let Some(tally) = shards.join_next().await {
        tallies.push(tally??);
    }
    Ok(tallies)
}

fn sum(tallies: &[Tally]) -> Tally {
    let mut sum = Tally::default();
    for tally in tallies {
        sum.add(tally);
    }
    sum
}
