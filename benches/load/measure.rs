//! Sends a load through a subject to a sink, and takes the figures.
//!
//! A measurement fails if a response is not 2xx, or if the sink or hubgate did not count every
//! sample. It does not fail because of a time.

use std::time::{Duration, Instant};

use anyhow::ensure;
use hubgate::load::tally::Latency;
use hubgate::wire::Protocol;

use crate::driver::{Driver, Load};
use crate::process::{Process, Usage};
use crate::scrape;
use crate::sink::{Manner, Sink};
use crate::spokes::Spoke;
use crate::subjects::Subject;
use crate::traffic::{Mix, Traffic};

/// How long a load is sent, and over how many connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
    pub(crate) connections: usize,
}

/// Distinct bodies of a connection, unless there are so many connections that the bodies of a load would
/// take the memory and the time of the machine.
const BODIES_PER_CONNECTION: usize = 2;
const CONNECTIONS_WITH_ONE_BODY_MIN: usize = 50;

impl Extent {
    /// Just enough to see that everything works.
    pub(crate) fn brief() -> Self {
        let duration = Duration::from_millis(100);
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

    pub(crate) fn peak_mebibytes(&self) -> f64 {
        self.peak_bytes as f64 / f64::from(1 << 20)
    }
}

/// Measures a subject, in a closed loop or at a rate.
pub(crate) async fn subject(
    subject: &Subject,
    extent: Extent,
    rate: Option<f64>,
) -> anyhow::Result<Figures> {
    let folder = tempfile::tempdir()?;
    let sink = Sink::start(subject.hub, Manner::default()).await?;
    let running = subject.start(folder.path(), sink.address()).await?;
    let load = Load {
        url: running.url(),
        ca_file: running.ca_file(),
        protocol: subject.sent,
        cluster: subject.is_sent_cluster(),
        ..load(subject.traffic, extent, rate)
    };
    let early = subject.responds_early();
    let figures = send(&load, extent, &sink, Some(&running.process), early).await?;
    if let Some(admin) = running.admin {
        let written = "hubgate_samples_written_total";
        let counted = scrape::sum(admin, written, &["kind=\"float\""]).await?
            + scrape::sum(admin, written, &["kind=\"histogram\""]).await?;
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

/// Measures load and sink without a subject, with the traffic of the unchanged V1 subject.
pub(crate) async fn sink_alone(extent: Extent, rate: Option<f64>) -> anyhow::Result<Figures> {
    let sink = Sink::start(Protocol::V1, Manner::default()).await?;
    let load = Load {
        url: sink.url(),
        ..load(Mix::Uniform.usual(), extent, rate)
    };
    let figures = send(&load, extent, &sink, None, false).await?;
    sink.end().await?;
    Ok(figures)
}

fn load(traffic: Traffic, extent: Extent, rate: Option<f64>) -> Load {
    let connections = traffic.connections_or(extent.connections);
    let senders = connections.min(traffic.spokes);
    // They are spread over all that the gate knows.
    let spokes = (0..senders).map(|number| Spoke::new(number * traffic.spokes / senders));
    Load {
        url: String::new(),
        ca_file: None,
        spokes: spokes.collect(),
        protocol: Protocol::V1,
        body: traffic.body,
        cluster: true,
        connections,
        bodies_per_connection: if connections < CONNECTIONS_WITH_ONE_BODY_MIN {
            BODIES_PER_CONNECTION
        } else {
            1
        },
        rate,
    }
}

async fn send(
    load: &Load,
    extent: Extent,
    sink: &Sink,
    process: Option<&Process>,
    responds_early: bool,
) -> anyhow::Result<Figures> {
    let mut driver = Driver::start(load).await?;
    let warm_up = driver.send(extent.warm_up).await?;
    let wait_for = |samples| if responds_early { samples } else { 0 };
    let before = sink.totals(wait_for(warm_up.samples)).await?;
    let usage = || process.map(Process::usage).transpose();
    let usage_before = usage()?;
    let start = Instant::now();
    let outcome = driver.send(extent.duration).await?;
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
