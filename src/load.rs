//! Sends remote writes with series like those of Kubernetes to an endpoint and measures the responses.
//!
//! A load runs on the machine that it measures, so it must be cheap: a body is compressed once
//! ([`bodies`]), and each connection has one thread and no queue ([`drive`]). A request that fails
//! is counted and not retried. The demo and the benches use the same parts.

pub mod bodies;
pub mod client;
mod cluster;
pub mod drive;
mod kube;
mod messages;
mod progress;
pub mod scrape;
pub mod shape;
mod snappy;
pub mod tally;

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use http::HeaderValue;

use client::Server;
use drive::Load;
use progress::ProgressLine;
use shape::Shape;
use tally::Tally;

pub use progress::Progress;

/// How many distinct bodies a connection sends in turn, unless told otherwise.
pub const BODIES_PER_CONNECTION: usize = 2;

/// How often the progress line is rewritten.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// A load to send.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The server of the remote-write endpoint.
    pub server: Server,
    /// The path of the remote-write endpoint.
    pub path: String,
    /// The value of the `Authorization` header.
    pub authorization: Option<HeaderValue>,
    /// What the bodies look like.
    pub shape: Shape,
    /// The number of connections, each with one request in flight.
    pub connections: usize,
    /// How many distinct bodies a connection sends in turn. No two bodies of a load share a series.
    pub bodies_per_connection: usize,
    /// How long to send.
    pub duration: Duration,
    /// The rate of an open loop; `None` is a closed loop.
    pub samples_per_second: Option<f64>,
}

/// Sends a load and prints its summary as one line of JSON on stdout. Tells whether requests were
/// sent and every response was 2xx.
///
/// The first failure goes to stderr, and so does the progress if stderr is a terminal. Ctrl-C ends
/// the load early, with its summary.
///
/// # Errors
///
/// Fails if the load could not start or the summary could not be printed.
pub fn run(plan: Plan) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (tally, duration) = runtime.block_on(send(plan))?;
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

/// Sends a load on threads of its own while this one shows the progress and waits for Ctrl-C.
async fn send(plan: Plan) -> anyhow::Result<(Tally, Duration)> {
    let progress = Arc::new(Progress::default());
    let seen_by_load = Arc::clone(&progress);
    let mut load = tokio::task::spawn_blocking(move || Load::new(&plan, &seen_by_load)?.drive());
    let mut line = ProgressLine::new();
    let mut ticks = tokio::time::interval(PROGRESS_INTERVAL);
    loop {
        tokio::select! {
            outcome = &mut load => {
                line.clear()?;
                return outcome.context("the load ended unexpectedly")?;
            }
            _ = ticks.tick() => line.show(&progress)?,
            _ = tokio::signal::ctrl_c() => progress.stop.store(true, Ordering::Relaxed),
        }
    }
}
