//! The checks of the demo, all over real sockets: writes to the gate, queries of the hub, and pages
//! of the admin port.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use http::StatusCode;
use http::header::WWW_AUTHENTICATE;

use super::environment::{Environment, GATE_THREADS, SpokeCounts};
use super::hub::SAMPLES_METRIC;
use super::message::Series;
use super::process::CpuSeconds;
use super::query::{self, Found};
use super::report::Check;
use super::spoke::Spoke;
use crate::load::client::{Response, Server, bearer};
use crate::load::drive::{Load, unix_ms};
use crate::load::shape::{Mix, Shape};
use crate::load::{BODIES_PER_CONNECTION, Plan, Progress, scrape};
use crate::remote_write::WRITE_PATH;
use crate::wire::Kind;

/// A Prometheus as spoke scrapes every second and sends within five.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(30);

/// While a request is in flight, counters do not add up for a moment.
const COUNTS_TIMEOUT: Duration = Duration::from_secs(5);

const POLL_INTERVAL: Duration = Duration::from_millis(50);

const LOAD_DURATION: Duration = Duration::from_secs(1);
const LOAD_CONNECTIONS: usize = 4;

/// The hub has `up` of both spokes, each with the cluster label of its spoke.
pub(super) async fn both_spokes_arrive(environment: &Environment) -> Check {
    eventually(ARRIVAL_TIMEOUT, async || {
        let up = query::query(environment.hub, "up").await?;
        for spoke in [&environment.production, &environment.staging] {
            let is_up =
                |found: &Found| found.label("cluster") == spoke.name && found.value.1 == "1";
            ensure!(
                up.iter().any(is_up),
                "the hub has no up{{cluster=\"{}\"}}",
                spoke.name
            );
        }
        let mut lines = to_text(&up);
        lines.sort();
        Ok(lines)
    })
    .await
}

/// The gate refuses a series with the cluster label of another spoke, and the hub stores the other
/// series of that request.
pub(super) async fn forged_cluster_is_refused(environment: &Environment) -> Check {
    let metric = "demo_forged";
    let series = [
        ("before", "production"),
        ("forged", "staging"),
        ("after", "production"),
    ]
    .map(|(place, cluster)| test_series(metric, &[("cluster", cluster), ("place", place)]));
    let response = environment
        .production
        .send(environment.gate, &series)
        .await?;
    expect_status(&response, StatusCode::BAD_REQUEST)?;
    let mut stored = query::query(environment.hub, metric).await?;
    stored.sort_by(|left, right| right.label("place").cmp(left.label("place")));
    let places: Vec<&str> = stored.iter().map(|found| found.label("place")).collect();
    ensure!(
        places == ["before", "after"],
        "the hub has {:?}",
        to_text(&stored)
    );
    ensure!(
        stored
            .iter()
            .all(|found| found.label("cluster") == "production"),
        "the hub has {:?}",
        to_text(&stored)
    );
    Ok([to_lines(&response), to_text(&stored)].concat())
}

/// A request with a token that no spoke has is refused, and the hub stores nothing of it.
pub(super) async fn wrong_token_is_refused(environment: &Environment) -> Check {
    let metric = "demo_wrong_token";
    let unknown = Spoke::new(environment.production.name, environment.production.protocol)?;
    let response = unknown
        .send(environment.gate, &[test_series(metric, &[])])
        .await?;
    expect_status(&response, StatusCode::UNAUTHORIZED)?;
    ensure!(
        response.headers.contains_key(WWW_AUTHENTICATE),
        "no WWW-Authenticate in the response"
    );
    let stored = query::query(environment.hub, metric).await?;
    ensure!(stored.is_empty(), "the hub has {:?}", to_text(&stored));
    Ok(to_lines(&response))
}

/// A series without a cluster label gets the one of its spoke.
pub(super) async fn missing_cluster_is_added(environment: &Environment) -> Check {
    let metric = "demo_without_cluster";
    let response = environment
        .staging
        .send(environment.gate, &[test_series(metric, &[])])
        .await?;
    expect_status(&response, StatusCode::NO_CONTENT)?;
    let stored = query::query(environment.hub, metric).await?;
    let clusters: Vec<&str> = stored.iter().map(|found| found.label("cluster")).collect();
    ensure!(
        clusters == ["staging"],
        "the hub has {:?}",
        to_text(&stored)
    );
    Ok(to_text(&stored))
}

/// The gate forwards a load and refuses nothing of it.
pub(super) async fn load_passes(environment: &Environment, spoke: &Spoke) -> Check {
    let plan = Plan {
        server: Server::at(environment.gate),
        path: WRITE_PATH.to_owned(),
        authorization: Some(bearer(&spoke.token)?),
        shape: Shape {
            protocol: spoke.protocol,
            series_per_request: 2_000,
            mix: Mix::Uniform { labels: 14 },
            extra: None,
            cluster: Some(spoke.name.to_owned()),
        },
        connections: LOAD_CONNECTIONS,
        bodies_per_connection: BODIES_PER_CONNECTION,
        duration: LOAD_DURATION,
        samples_per_second: None,
    };
    let load = move || {
        let progress = Progress::default();
        let load = Load::new(&plan, &progress)?;
        let before = CpuSeconds::now()?;
        let (tally, duration) = load.drive()?;
        anyhow::Ok((tally, duration, before, CpuSeconds::now()?))
    };
    let (tally, duration, before, after) = tokio::task::spawn_blocking(load).await??;
    if let Some(failure) = &tally.first_failure {
        anyhow::bail!("a request failed: {failure}");
    }
    ensure!(tally.is_clean(), "nothing was sent");
    let summary = tally.summary(duration);
    let processors = std::thread::available_parallelism()?;
    let per_million = |seconds: f64| seconds * 1e6 / tally.samples as f64;
    Ok(vec![
        format!(
            "{} samples in {:.1} s: {:.0} samples/s, latency p99 {:.1} ms",
            tally.samples,
            summary.duration_seconds,
            summary.samples_per_second,
            summary.latency_seconds.p99 * 1e3
        ),
        format!(
            "CPU-seconds a million samples: gate {:.3}, whole process {:.3} \
             (hub, gate and load share {processors} processors)",
            per_million(after.of(GATE_THREADS) - before.of(GATE_THREADS)),
            per_million(after.process - before.process)
        ),
    ])
}

/// No spoke lost a sample of its own metrics.
pub(super) async fn no_spoke_lost_samples(environment: &Environment) -> Check {
    let counts = environment.spoke_counts().await?;
    for SpokeCounts {
        spoke,
        samples,
        samples_failed,
    } in &counts
    {
        ensure!(*samples > 0.0, "{spoke} sent nothing");
        ensure!(
            *samples_failed == 0.0,
            "{spoke} lost {samples_failed} samples of {samples}"
        );
    }
    let line = |it: &SpokeCounts| format!("{}: {} samples sent, 0 failed", it.spoke, it.samples);
    Ok(counts.iter().map(line).collect())
}

/// The gate's counters add up for each spoke, and they match the count of the hub.
pub(super) async fn sample_counts_balance(environment: &Environment) -> Check {
    eventually(COUNTS_TIMEOUT, async || {
        let page = scrape::get(environment.admin, "/metrics").await?.text();
        let mut lines = Vec::new();
        let mut floats_written = 0.0;
        for spoke in [&environment.production, &environment.staging] {
            let counts = |kind| SampleCounts::read(&page, spoke.name, kind);
            for kind in Kind::ALL {
                lines.extend(counts(kind).line()?);
            }
            let floats = counts(Kind::Float);
            ensure!(floats.received > 0.0, "{}: nothing received", spoke.name);
            floats_written += floats.written;
        }
        if environment.has_own_hub() {
            let stored = query::query(environment.hub, SAMPLES_METRIC).await?;
            let stored = &stored.first().context("the hub does not count")?.value.1;
            let stored: f64 = stored.parse()?;
            ensure!(
                stored == floats_written,
                "the hub has {stored} samples, not {floats_written}"
            );
            lines.push(format!(
                "hub: took {stored} samples, as many as the gate says it wrote"
            ));
        }
        Ok(lines)
    })
    .await
}

/// The pages for operators are there, and those about spokes name both.
pub(super) async fn admin_answers(environment: &Environment) -> Check {
    let mut lines = Vec::new();
    for path in ["/-/healthy", "/-/ready", "/metrics", "/api/v1/spokes"] {
        let page = scrape::get(environment.admin, path).await?.text();
        lines.push(format!("http://{}{path}", environment.admin));
        let names = [environment.production.name, environment.staging.name];
        let names_spokes = names
            .iter()
            .all(|name| page.contains(&format!("\"{name}\"")));
        ensure!(
            names_spokes || path.starts_with("/-/"),
            "{path} does not name both spokes"
        );
    }
    Ok(lines)
}

fn test_series(metric: &str, labels: &[(&str, &str)]) -> Series {
    Series::new(metric, labels, (1.0, unix_ms()))
}

fn expect_status(response: &Response, status: StatusCode) -> anyhow::Result<()> {
    let text = response.text();
    ensure!(
        response.status == status,
        "answered {} instead of {status}: {text}",
        response.status
    );
    Ok(())
}

fn to_lines(response: &Response) -> Vec<String> {
    let text = response.text();
    let status = format!("{}:", response.status);
    std::iter::once(status.as_str())
        .chain(text.lines())
        .map(str::to_owned)
        .collect()
}

fn to_text(found: &[Found]) -> Vec<String> {
    found.iter().map(Found::to_string).collect()
}

/// Repeats a check until it holds or the time is over; returns its last result.
async fn eventually(timeout: Duration, check: impl AsyncFn() -> Check) -> Check {
    let deadline = Instant::now() + timeout;
    loop {
        let result = check().await;
        if result.is_ok() || Instant::now() > deadline {
            return result;
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// The gate's sample counters of one spoke and kind.
#[derive(Debug)]
struct SampleCounts<'a> {
    spoke: &'a str,
    kind: Kind,
    received: f64,
    written: f64,
    rejected: f64,
    failed: f64,
}

impl<'a> SampleCounts<'a> {
    fn read(metrics: &str, spoke: &'a str, kind: Kind) -> Self {
        let labels = [
            &*format!("spoke=\"{spoke}\""),
            &*format!("kind=\"{}\"", kind.name()),
        ];
        let sum = |what| {
            let metric = format!("hubgate_samples_{what}_total");
            scrape::sum(metrics, &metric, &labels).unwrap_or_default()
        };
        Self {
            spoke,
            kind,
            received: sum("received"),
            written: sum("written"),
            rejected: sum("rejected"),
            failed: sum("failed"),
        }
    }

    /// Returns a line with the counts, or `None` if nothing was received. Fails if they do not add
    /// up.
    fn line(&self) -> anyhow::Result<Option<String>> {
        let Self {
            spoke,
            kind,
            received,
            written,
            rejected,
            failed,
        } = self;
        let kind = kind.name();
        let line = format!(
            "{spoke} {kind}: {received} received = {written} written + {rejected} rejected + \
             {failed} failed"
        );
        ensure!(
            *received == written + rejected + failed,
            "does not balance: {line}"
        );
        Ok((*received > 0.0).then_some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = "# TYPE hubgate_samples_rejected_total counter\n\
        hubgate_samples_received_total{kind=\"float\",spoke=\"a\"} 70\n\
        hubgate_samples_received_total{kind=\"histogram\",spoke=\"a\"} 1\n\
        hubgate_samples_written_total{kind=\"float\",spoke=\"a\"} 65\n\
        hubgate_samples_written_total{kind=\"float\",spoke=\"ab\"} 1000\n\
        hubgate_samples_rejected_total{kind=\"float\",reason=\"hub\",spoke=\"a\"} 2\n\
        hubgate_samples_rejected_total{kind=\"float\",reason=\"label_length\",spoke=\"a\"} 3\n";

    #[test]
    fn counts_of_one_spoke_and_kind_are_added_up_and_compared() {
        let line = |spoke, kind| SampleCounts::read(METRICS, spoke, kind).line();
        let floats = line("a", Kind::Float).unwrap().unwrap();
        assert_eq!(
            floats,
            "a float: 70 received = 65 written + 5 rejected + 0 failed"
        );
        assert!(line("a", Kind::Exemplar).unwrap().is_none());
        let error = line("a", Kind::Histogram).unwrap_err().to_string();
        assert!(
            error.starts_with("does not balance: a histogram: 1 received"),
            "{error}"
        );
    }
}
