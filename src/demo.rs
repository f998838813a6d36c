//! `hubgate demo`: hub, gate and two spokes on one machine, and what an operator wants to see.
//!
//! Needs nothing but this binary, or with `--prometheus` a Prometheus for hub and spokes. Every
//! numbered line is a check over a real socket; the exit code says whether all of them held.

mod checks;
mod hub;
mod message;
mod processor;
mod prometheus;
mod query;
mod report;
mod spoke;
mod stage;

use std::io::{self, Write};

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};

use prometheus::Program;
use report::Report;
use stage::{Stage, Threads};

pub use prometheus::PrometheusPath;

/// What a demo runs.
#[derive(Debug)]
pub struct Options {
    /// Stay up after the checks, until Ctrl-C.
    pub stay: bool,
    /// Use this Prometheus as hub and spokes; without it they run in this process.
    pub prometheus: Option<PrometheusPath>,
}

/// Runs a demo and prints its report on stdout. Tells whether every check held.
///
/// # Errors
///
/// Fails if a part did not start, the report could not be printed, or Ctrl-C came before its end.
pub fn run(options: &Options) -> anyhow::Result<bool> {
    let threads = Threads::start()?;
    let story = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    story.block_on(async {
        let mut report = Report::new(io::stdout());
        let (stage, held) = tokio::select! {
            told = tell(options, &threads, &mut report) => told?,
            interrupt = interrupted() => {
                interrupt?;
                // Dropping the story ends what it started.
                bail!("interrupted");
            }
        };
        if options.stay {
            stay(&stage, &mut report).await?;
        }
        stage.end(&threads).await?;
        Ok(held)
    })
}

async fn tell<W: Write>(
    options: &Options,
    threads: &Threads,
    report: &mut Report<W>,
) -> anyhow::Result<(Stage, bool)> {
    let stage = match &options.prometheus {
        None => Stage::start(threads).await?,
        Some(path) => Stage::start_with(Program::find(path)?, threads).await?,
    };
    report.say(&stage.picture())?;
    show(&stage, report).await?;
    let held = report.summary()?;
    Ok((stage, held))
}

async fn stay<W: Write>(stage: &Stage, report: &mut Report<W>) -> anyhow::Result<()> {
    report.say("\nstaying up until Ctrl-C; where to look:")?;
    for page in stage.pages() {
        report.say(&format!("  {page}"))?;
    }
    interrupted().await
}

async fn show<W: Write>(stage: &Stage, report: &mut Report<W>) -> io::Result<()> {
    report.check(
        "both spokes are at the hub",
        checks::both_spokes_arrive(stage).await,
    )?;
    report.check(
        "production writes as staging: refused; its other series are stored",
        checks::forged_cluster_is_refused(stage).await,
    )?;
    report.check(
        "a wrong token: refused",
        checks::wrong_token_is_refused(stage).await,
    )?;
    report.check(
        "staging writes without a cluster label: it gets its own",
        checks::missing_cluster_is_added(stage).await,
    )?;
    for spoke in [&stage.production, &stage.staging] {
        report.check(
            &format!("load as {} ({})", spoke.name, spoke.protocol.name()),
            checks::load_passes(stage, spoke).await,
        )?;
    }
    report.check(
        "the spokes lost nothing",
        checks::no_spoke_lost_samples(stage).await,
    )?;
    report.check(
        "the gate's accounts balance",
        checks::accounts_balance(stage).await,
    )?;
    report.check("the admin port answers", checks::admin_answers(stage).await)
}

/// Waits for Ctrl-C or a request to terminate.
async fn interrupted() -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("wait for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
