//! Measures what strangers, and spokes that misbehave, do to hubgate and to an honest spoke beside
//! them.
//!
//! Each attack has a new hubgate in front of a sink that counts samples. The honest spoke writes all
//! the time, half of its requests over kept connections and half over new ones, first alone and then
//! under the attack. It runs in a process of its own, so that a busy attacker delays its requests but not its
//! clock. One write without a 2xx fails the bench; a slow one does not. In the attacks on TLS it
//! speaks TLS as well. In the table, "times" is the p99 under the attack as a multiple of the one before.
//!
//! All of it shares the cores of one machine, where attackers and hubs have machines of their own in the field. So a
//! spoke that misbehaves is a process that runs when nothing else does, and the sink counts only small messages. Two
//! rows show the same load at a hub of its own, beside the gate: what is slower then is not the gate's doing. In two
//! others the hub takes as long as a Prometheus does, and the latency is one that a spoke would see.
//!
//! `cargo bench --bench hostile -- --help` lists the options. The smoke form for CI is
//! `cargo bench --bench hostile -- --test`: each attack has few connections and small requests for less than a
//! second, and its figures mean nothing. `cargo test --bench hostile -- --test` does the same without a
//! release build.

mod attacks;
#[allow(dead_code, reason = "the load bench uses all of it")]
#[path = "../load/certificate.rs"]
mod certificate;
mod dial;
mod gate;
mod honest;
mod http2;
mod jwt;
#[allow(dead_code, reason = "the load bench uses all of it")]
#[path = "../load/markdown.rs"]
mod markdown;
#[allow(dead_code, reason = "the load bench uses all of it")]
#[path = "../load/process.rs"]
mod process;
mod rogue;
#[allow(dead_code, reason = "the load bench uses all of it")]
#[path = "../load/sink.rs"]
mod sink;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use hubgate::tls::Authorities;
use hubgate::wire::Protocol;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::sleep;

use attacks::{Attack, Layer, Tally};
use dial::{Plain, Tls};
use gate::Gate;
use honest::{Honest, Seen};
use markdown::{machine, millis, note, table};
use process::Usage;
use sink::{Manner, Sink};

/// The allocator of hubgate; the attackers use it as well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The time for a first attempt beyond that of an attack.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(60);

/// The sink counts what is in messages of up to this size, such as those of the honest spoke: on a machine of its own,
/// it would take no time from the gate.
const COUNTED_BYTES_MAX: usize = 16 * 1024;

/// How often the open files of hubgate are counted.
const COUNT_INTERVAL: Duration = Duration::from_millis(250);

/// Measures hubgate and an honest spoke under attacks.
#[derive(Debug, Parser)]
struct Args {
    /// How long each attack takes, but for one that is to make a number of requests
    #[arg(long, default_value = "20s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// How long the honest spoke is measured alone
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    before: Duration,
    /// Measure only attacks whose name contains this text, such as "idle" or "flood"
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Check in a few seconds that no attack costs the honest spoke a write; the figures mean nothing
    #[arg(long)]
    test: bool,
    /// Cargo passes this to every bench
    #[arg(long, hide = true)]
    bench: bool,
    /// Run as a sink
    #[arg(long, hide = true)]
    sink: Option<String>,
    #[command(flatten)]
    manner: Manner,
    /// Run as an honest spoke of the gate at this address
    #[arg(long, hide = true)]
    honest: Option<SocketAddr>,
    /// The certificate of that gate, if it speaks TLS
    #[arg(long, hide = true)]
    certificate: Option<PathBuf>,
    /// Run as a spoke that misbehaves at the gate at this address
    #[arg(long, hide = true, requires = "load")]
    rogue: Option<SocketAddr>,
    /// What it sends
    #[arg(long, hide = true)]
    load: Option<rogue::Load>,
    /// Over how many connections
    #[arg(long, hide = true, default_value_t = 1)]
    connections: usize,
    /// How many times fewer series its requests have
    #[arg(long, hide = true, default_value_t = 1)]
    scale: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if args.sink.is_some() {
        return sink::serve(Protocol::V1, args.manner).await;
    }
    if let Some(gate) = args.honest {
        return honest::run(gate, args.certificate.as_deref());
    }
    if let (Some(gate), Some(load)) = (args.rogue, args.load) {
        return rogue::run(gate, load, args.connections, args.scale).await;
    }
    raise_open_files()?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // The processes that `run` holds end when it is dropped.
    tokio::select! {
        outcome = run(&args) => outcome,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
}

/// Each connection of an attacker is an open file here as well.
fn raise_open_files() -> anyhow::Result<()> {
    let mut limits = getrlimit(Resource::Nofile);
    limits.current = limits.maximum;
    setrlimit(Resource::Nofile, limits).context("raise the limit of open files")
}

async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let only = args.only.as_deref().unwrap_or_default().to_lowercase();
    let mut rows = Vec::new();
    let mut failed = Vec::new();
    for attack in Attack::all() {
        if !attack.name.to_lowercase().contains(&only) {
            continue;
        }
        note(&format!("{} ...", attack.name))?;
        let attack = if args.test {
            attack.scaled_down()
        } else {
            attack
        };
        match measure(&attack, args).await {
            Ok(figures) => {
                if let Some(failure) = figures.failure() {
                    failed.push(format!("{}: {failure}", attack.name));
                }
                rows.push(figures.row(&attack));
            }
            Err(error) => failed.push(format!("{}: {error:#}", attack.name)),
        }
    }
    table(&HEAD, 1, rows.into_iter())?;
    machine()?;
    for failure in &failed {
        note(&format!("FAILED {failure}"))?;
    }
    Ok(if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

const HEAD: [&str; 12] = [
    "attack",
    "attempts",
    "seconds",
    "gate CPU-s",
    "peak MiB",
    "open files",
    "p50 before ms",
    "p99 before ms",
    "p50 ms",
    "p99 ms",
    "times",
    "failed / writes",
];

/// What was seen of an attack.
struct Figures {
    attempts: u64,
    seconds: f64,
    cpu_seconds: f64,
    peak_bytes: u64,
    open_files: usize,
    before: Seen,
    during: Seen,
}

async fn measure(attack: &Attack, args: &Args) -> anyhow::Result<Figures> {
    let (before, duration) = if args.test {
        (Duration::from_millis(100), Duration::from_millis(300))
    } else {
        (args.before, args.duration)
    };
    let folder = tempfile::tempdir()?;
    let manner = Manner {
        sink_time: attack.hub_time,
        sink_counts_up_to: COUNTED_BYTES_MAX,
    };
    let sink = Sink::start(Protocol::V1, manner).await?;
    let gate = Gate::start(folder.path(), sink.address(), attack).await?;
    let own_sink = match attack.beside {
        true => Some(Sink::start(Protocol::V1, manner).await?),
        false => None,
    };
    // The first write asks the hub what it speaks, and is slow.
    let first = Honest::start(&gate)?.stop_after(before / 2).await?;
    let alone = Honest::start(&gate)?.stop_after(before).await?;

    let tally = Arc::new(Tally::default());
    let usage_before = gate.process.usage()?;
    let began = Instant::now();
    let to = own_sink.as_ref().map_or(gate.address, Sink::address);
    let attackers = start(attack, &gate, to, &tally)?;
    let honest = Honest::start(&gate)?;
    let mut open_files = 0;
    let mut usage;
    loop {
        sleep(COUNT_INTERVAL.min(duration)).await;
        usage = gate.process.usage()?;
        open_files = open_files.max(usage.open_files);
        let done = match attack.attempts_wanted {
            Some(wanted) => tally.attempts() >= wanted,
            // A busy machine may take longer to begin.
            None => began.elapsed() >= duration && tally.attempts() > 0,
        };
        if done || tally.failure().is_some() {
            break;
        }
        ensure!(
            began.elapsed() < duration + BEGIN_TIMEOUT || tally.attempts() > 0,
            "no attempt"
        );
    }
    let seconds = began.elapsed().as_secs_f64();
    let during = honest.stop_after(Duration::ZERO).await?;
    drop(attackers);
    if let Some(sink) = own_sink {
        sink.end().await?;
    }
    if let Some(failure) = tally.failure() {
        bail!("the spoke that misbehaves: {failure}");
    }
    let Usage {
        cpu_seconds,
        peak_bytes,
        ..
    } = usage;
    gate.process.end().await?;
    let written = [&first, &alone, &during].map(Seen::samples_written);
    let written = written.iter().sum();
    let stored = sink.totals(written).await?.samples;
    // A write that failed may be stored as well, and so is what another spoke writes.
    let others = during.failures > 0 || attack.load().is_some() && !attack.beside;
    ensure!(
        stored == written || stored > written && others,
        "{written} samples written, {stored} stored"
    );
    sink.end().await?;
    Ok(Figures {
        attempts: tally.attempts(),
        seconds,
        cpu_seconds: cpu_seconds - usage_before.cpu_seconds,
        peak_bytes,
        open_files,
        before: alone,
        during,
    })
}

/// Starts the attackers of a gate, who send to an address.
fn start(
    attack: &Attack,
    gate: &Gate,
    to: SocketAddr,
    tally: &Arc<Tally>,
) -> anyhow::Result<JoinSet<()>> {
    let alpn = attack.alpn();
    if let Some(load) = attack.load() {
        return rogue::start(load, attack, to, tally);
    }
    let trusted = || {
        let file = gate.certificate.as_ref().context("the gate speaks TLS")?;
        anyhow::Ok(Authorities::from_pem(&std::fs::read(file)?)?)
    };
    Ok(match attack.layer {
        Layer::Plain | Layer::BeforeTls => attack.start(Plain::to(to), tally),
        Layer::Tls => attack.start(Tls::to(to, &trusted()?, alpn)?, tally),
        Layer::FalseCertificates => {
            let dial = Tls::with_false_certificates(to, &trusted()?, alpn)?;
            attack.start(dial, tally)
        }
    })
}

impl Figures {
    /// Why the honest spoke has reason to complain, if it has.
    fn failure(&self) -> Option<String> {
        let Seen {
            writes,
            failures,
            first_failure,
            ..
        } = &self.during;
        if *writes == 0 {
            return Some("the honest spoke wrote nothing".to_owned());
        }
        let first = first_failure.as_ref()?;
        Some(format!(
            "{failures} of {writes} writes failed, the first with {first}"
        ))
    }

    fn row(&self, attack: &Attack) -> Vec<String> {
        let (before, during) = (&self.before, &self.during);
        vec![
            attack.name.to_owned(),
            self.attempts.to_string(),
            format!("{:.0}", self.seconds),
            format!("{:.1}", self.cpu_seconds),
            format!("{:.1}", self.peak_bytes as f64 / f64::from(1 << 20)),
            self.open_files.to_string(),
            millis(before.p50),
            millis(before.p99),
            millis(during.p50),
            millis(during.p99),
            format!("{:.1}", during.p99 / before.p99),
            format!("{} / {}", during.failures, during.writes),
        ]
    }
}
