//! A hub, a gate and two spokes on one machine, and checks of what an operator wants to know of
//! them.
//!
//! A demo needs nothing but this binary, or a Prometheus program for hub and spokes. Every numbered
//! line of its report is the result of a check over real sockets.

mod checks;
mod environment;
mod hub;
mod message;
mod process;
mod prometheus;
mod query;
mod report;
mod spoke;

use std::io::{self, Write};

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};

use environment::{Environment, Threads};
use prometheus::Program;
use report::Report;

pub use prometheus::PrometheusPath;

/// What a demo runs.
#[derive(Debug)]
pub struct Options {
    /// Stay up after the checks, until Ctrl-C.
    pub stay: bool,
    /// The Prometheus to use as hub and spokes; without it they run in this process.
    pub prometheus: Option<PrometheusPath>,
}

/// Runs a demo and prints its report on stdout. Tells whether every check held.
///
/// # Errors
///
/// Fails if a part could not start or the report could not be printed, or on Ctrl-C before the end
/// of the report.
pub fn run(options: &Options) -> anyhow::Result<bool> {
    let threads = Threads::start()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut report = Report::new(io::stdout());
        let (environment, held) = tokio::select! {
            outcome = start_and_check(options, &threads, &mut report) => outcome?,
            interrupt = interrupted() => {
                interrupt?;
                // The parts that have started end as they are dropped.
                bail!("interrupted");
            }
        };
        if options.stay {
            stay(&environment, &mut report).await?;
        }
        environment.end(&threads).await?;
        Ok(held)
    })
}

async fn start_and_check<W: Write>(
    options: &Options,
    threads: &Threads,
    report: &mut Report<W>,
) -> anyhow::Result<(Environment, bool)> {
    let environment = match &options.prometheus {
        None => Environment::start(threads).await?,
        Some(path) => Environment::start_with(Program::find(path)?, threads).await?,
    };
    report.print(&environment.diagram())?;
    check(&environment, report).await?;
    let held = report.summary()?;
    Ok((environment, held))
}

async fn check<W: Write>(environment: &Environment, report: &mut Report<W>) -> io::Result<()> {
    report.check(
        "both spokes are at the hub",
        checks::both_spokes_arrive(environment).await,
    )?;
    report.check(
        "production writes as staging: refused; its other series are stored",
        checks::forged_cluster_is_refused(environment).await,
    )?;
    report.check(
        "a wrong token: refused",
        checks::wrong_token_is_refused(environment).await,
    )?;
    report.check(
        "staging writes without a cluster label: it gets its own",
        checks::missing_cluster_is_added(environment).await,
    )?;
    for spoke in [&environment.production, &environment.staging] {
        report.check(
            &format!("load as {} ({})", spoke.name, spoke.protocol.name()),
            checks::load_passes(environment, spoke).await,
        )?;
    }
    report.check(
        "the spokes lost nothing",
        checks::no_spoke_lost_samples(environment).await,
    )?;
    report.check(
        "the gate's accounts balance",
        checks::sample_counts_balance(environment).await,
    )?;
    report.check(
        "the admin port answers",
        checks::admin_answers(environment).await,
    )
}

async fn stay<W: Write>(environment: &Environment, report: &mut Report<W>) -> anyhow::Result<()> {
    report.print("\nstaying up until Ctrl-C; where to look:")?;
    for page in environment.pages() {
        report.print(&format!("  {page}"))?;
    }
    interrupted().await
}

/// Waits for Ctrl-C or SIGTERM.
async fn interrupted() -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("wait for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
