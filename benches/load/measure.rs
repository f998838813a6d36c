//! Sends a load through a subject to a sink, and takes the figures.
//!
//! A measurement fails if a response is not 2xx, or if the sink or hubgate did not count every
//! sample. It does not fail because of a time.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;
use hubgate::load::tally::Latency;
use hubgate::wire::Protocol;

use crate::driver::{Body, Load};
use crate::process::{Process, Usage};
use crate::scrape;
use crate::sink::Sink;
use crate::subjects::{Subject, write_token};

/// How long a load is sent, and over how many connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
    pub(crate) connections: usize,
}

impl Extent {
    /// Just enough to see that everything works.
    pub(crate) fn brief() -> Self {
        let duration = Duration::from_millis(200);
        Self {
            warm_up: duration,
            duration,
            connections: 2,
        }
    }
}

/// The figures of a subject.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_bytes: u64,
    /// From the start of the load until the sink has all of it.
    pub(crate) seconds: f64,
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    pub(crate) latency: Latency,
    pub(crate) requests_unsent: u64,
}

impl Figures {
    /// CPU seconds of the subject per million samples.
    pub(crate) fn cost(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.delivered as f64
    }

    pub(crate) fn samples_per_second(&self) -> f64 {
        self.delivered as f64 / self.seconds
    }
}

/// Measures a subject, in a closed loop or at a rate.
pub(crate) async fn subject(
    subject: &Subject,
    extent: Extent,
    rate: Option<f64>,
) -> anyhow::Result<Figures> {
    let folder = tempfile::tempdir()?;
    let token_file = write_token(folder.path())?;
    let sink = Sink::start(subject.hub).await?;
    let running = subject.start(folder.path(), sink.address()).await?;
    let load = Load {
        url: running.url(),
        ca_file: running.ca_file(),
        protocol: subject.sent,
        body: subject.body,
        cluster: subject.cluster,
        connections: subject.connections(extent.connections),
        ..load(&token_file, rate)
    };
    let early = subject.responds_early();
    let figures = send(&load, extent, &sink, Some(&running.process), early).await?;
    if let Some(admin) = running.admin {
        let counted =
            scrape::sum(admin, "hubgate_samples_written_total", &["kind=\"float\""]).await?;
        let delivered = sink.totals(0).await?.samples;
        ensure!(
            counted == delivered,
            "hubgate counted {counted} samples, but {delivered} were delivered"
        );
    }
    running.process.end().await?;
    sink.end().await?;
    Ok(figures)
}

/// Measures load and sink without a subject, with the bodies of the unchanged V1 subject.
pub(crate) async fn sink_alone(extent: Extent, rate: Option<f64>) -> anyhow::Result<Figures> {
    let folder = tempfile::tempdir()?;
    let token_file = write_token(folder.path())?;
    let sink = Sink::start(Protocol::V1).await?;
    let load = Load {
        url: sink.url(),
        connections: extent.connections,
        ..load(&token_file, rate)
    };
    let figures = send(&load, extent, &sink, None, false).await?;
    sink.end().await?;
    Ok(figures)
}

fn load(token_file: &Path, rate: Option<f64>) -> Load<'_> {
    Load {
        url: String::new(),
        ca_file: None,
        token_file,
        protocol: Protocol::V1,
        body: Body::UNIFORM,
        cluster: true,
        connections: 1,
        bodies_per_connection: None,
        rate,
    }
}

async fn send(
    load: &Load<'_>,
    extent: Extent,
    sink: &Sink,
    process: Option<&Process>,
    responds_early: bool,
) -> anyhow::Result<Figures> {
    let warm_up = load.send(extent.warm_up).await?;
    let wait_for = |samples| if responds_early { samples } else { 0 };
    let before = sink.totals(wait_for(warm_up.samples)).await?;
    let usage = || process.map(Process::usage).transpose();
    let usage_before = usage()?;
    let start = Instant::now();
    let outcome = load.send(extent.duration).await?;
    let after = sink
        .totals(wait_for(before.samples + outcome.samples))
        .await?;
    let seconds = if responds_early {
        start.elapsed().as_secs_f64()
    } else {
        outcome.duration_seconds
    };
    let usage_after = usage()?;
    let figures = Figures {
        cpu_seconds: 0.0,
        peak_bytes: 0,
        seconds,
        sent: outcome.samples,
        delivered: after.samples - before.samples,
        latency: outcome.latency_seconds,
        requests_unsent: outcome.requests_unsent,
    };
    ensure!(
        figures.delivered == figures.sent,
        "{} samples sent with a response of 2xx, but {} delivered",
        figures.sent,
        figures.delivered
    );
    Ok(match (usage_before, usage_after) {
        (Some(before), Some(after)) => figures.with_usage(before, after),
        _ => figures,
    })
}

impl Figures {
    fn with_usage(self, before: Usage, after: Usage) -> Self {
        Self {
            cpu_seconds: after.cpu_seconds - before.cpu_seconds,
            peak_bytes: after.peak_bytes,
            ..self
        }
    }
}
