//! `hubgate serve`: runs the gateway until a signal ends it, and reloads its configuration.

mod reloader;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{ConfigFile, version};
use crate::config::{self, Config, Finding, Hub};
use crate::gateway::{DRAIN_TIMEOUT, Gateway};
use crate::telemetry::{self, Format, Level};

use reloader::Reloader;

/// So many tasks a worker runs before it asks the system what has arrived. A task may take some 100 µs here, and
/// with tokio's 61 a new request would wait for milliseconds before anybody knows of it.
const EVENT_INTERVAL: u32 = 8;

/// The exit code after a second signal.
const EXIT_INTERRUPTED: u8 = 130;

#[derive(Debug, clap::Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    config: ConfigFile,
    /// How often the configuration files are checked for changes; 0s is never.
    #[arg(
        long = "config.auto-reload-interval",
        value_name = "DURATION",
        default_value = "5s",
        value_parser = humantime::parse_duration
    )]
    auto_reload_interval: Duration,
    /// How long connections are still accepted after SIGTERM, while /-/ready says no; 0s without a
    /// balancer.
    #[arg(
        long = "shutdown.delay",
        value_name = "DURATION",
        default_value = "10s",
        value_parser = humantime::parse_duration
    )]
    shutdown_delay: Duration,
    /// How many threads serve requests; without it, one for each core. Each keeps buffers of about 20 MiB.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// The least important level that is logged: debug, info, warn or error.
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info")]
    log_level: Level,
    /// How log lines are written.
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "logfmt")]
    log_format: Format,
}

/// Keeps the memory in pages of the usual size. Bodies of all sizes come and go on thousands of connections, and of a
/// huge page that is given back in parts, all stays: with them hubgate holds up to three times as much, and takes as
/// much CPU time. The allocator does not ask for any (`no_thp`), but a system may give them to all.
fn avoid_huge_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "the memory may be in huge pages");
    }
}

pub(super) fn run(args: &ServeArgs) -> ExitCode {
    telemetry::start(args.log_format, args.log_level);
    avoid_huge_pages();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = args.threads {
        builder.worker_threads(threads.into());
    }
    builder.event_interval(EVENT_INTERVAL);
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(serve(args)).unwrap_or_else(|error| {
        tracing::error!(error = format!("{error:#}"), "cannot serve");
        ExitCode::FAILURE
    });
    // A blocking thread may still read a file that never ends.
    runtime.shutdown_background();
    code
}

async fn serve(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let load = config::load(args.config.path());
    log_warnings(&load.warnings);
    let config = match load.result {
        Ok(config) => config,
        Err(errors) => {
            for error in errors.iter() {
                tracing::error!(%error, "the configuration is not valid");
            }
            return Ok(ExitCode::FAILURE);
        }
    };
    log_start(args.config.path(), &config);
    // Signals are handled before the log says that the gateway listens, so that whoever waits for
    // that line can send one.
    let mut signals = Signals::new().context("cannot listen for signals")?;
    let gateway = Gateway::start(config).await?;
    let file = args.config.path().to_owned();
    let mut reloader = Reloader::new(gateway, load.fingerprint, move || config::load(&file));
    let delay = tokio::select! {
        end = signals.end.next() => match end {
            End::Terminate => args.shutdown_delay,
            End::Interrupt => Duration::ZERO,
        },
        never = reloader.run(&mut signals.hang_up, args.auto_reload_interval) => match never {},
    };
    tracing::info!(delay = %humantime::format_duration(delay), "shutting down");
    tokio::select! {
        drained = reloader.into_gateway().shutdown(delay, DRAIN_TIMEOUT) => {
            if !drained {
                tracing::warn!("the deadline cut requests in flight");
            }
            Ok(ExitCode::SUCCESS)
        }
        _ = signals.end.next() => {
            tracing::warn!("a second signal cut requests in flight");
            // `exit` does not wait for blocking threads that still run.
            std::process::exit(EXIT_INTERRUPTED.into())
        }
    }
}

/// Logs what someone needs who reads nothing but the log.
fn log_start(file: &Path, config: &Config) {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let hubs: Vec<_> = config.hubs.iter().map(Hub::shown_url).collect();
    let limits = &config.limits;
    tracing::info!(
        version = version::VERSION,
        revision = version::revision(),
        file = %file.display(),
        hubs = hubs.join(", "),
        spokes = config.spokes.len(),
        threads = Handle::current().metrics().num_workers(),
        connections_max = config.listen.connections_max,
        bytes_in_flight_max = limits.bytes_in_flight_max,
        body_bytes_max = limits.body_bytes_max,
        decoded_bytes_max = limits.decoded_bytes_max,
        "starting hubgate"
    );
}

fn log_warnings(warnings: &[Finding]) {
    for warning in warnings {
        tracing::warn!(%warning, "the configuration is doubtful");
    }
}

/// The signals that the server handles.
struct Signals {
    end: EndSignals,
    /// SIGHUP: reload.
    hang_up: Signal,
}

/// SIGTERM and SIGINT.
struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            end: EndSignals {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            },
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

/// Who ends the server.
enum End {
    /// SIGTERM: what runs it. A balancer may have to notice first.
    Terminate,
    /// SIGINT: a person at a terminal, who waits.
    Interrupt,
}

impl EndSignals {
    async fn next(&mut self) -> End {
        tokio::select! {
            _ = self.terminate.recv() => End::Terminate,
            _ = self.interrupt.recv() => End::Interrupt,
        }
    }
}
