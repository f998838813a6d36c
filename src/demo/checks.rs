//! What the demo claims, each claim tried over real sockets: at the gate as a sender, at the hub by
//! query, at the admin port as an operator.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use http::StatusCode;
use http::header::WWW_AUTHENTICATE;

use super::hub::SAMPLES_METRIC;
use super::message::Series;
use super::processor::ProcessorTime;
use super::query::{self, Found};
use super::report::Check;
use super::spoke::Spoke;
use super::stage::{SpokeAccount, Stage};
use crate::load::bodies::Shape;
use crate::load::client::{Response, Server, bearer};
use crate::load::drive::{Load, unix_ms};
use crate::load::{BODIES_PER_CONNECTION, Plan, Progress, WRITE_PATH, scrape};
use crate::wire::Kind;

/// A spoke scrapes every second and sends within five.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(30);

/// Counters read while a request is under way do not add up for a moment.
const ACCOUNTS_TIMEOUT: Duration = Duration::from_secs(5);

const POLL_INTERVAL: Duration = Duration::from_millis(50);

const LOAD_DURATION: Duration = Duration::from_secs(1);
const LOAD_CONNECTIONS: usize = 4;

/// `up` of both spokes is at the hub, each under its own cluster.
pub(super) async fn both_spokes_arrive(stage: &Stage) -> Check {
    eventually(ARRIVAL_TIMEOUT, async || {
        let up = query::query(stage.hub, "up").await?;
        for spoke in [&stage.production, &stage.staging] {
            let is_up =
                |found: &Found| found.label("cluster") == spoke.name && found.value.1 == "1";
            ensure!(
                up.iter().any(is_up),
                "the hub has no up{{cluster=\"{}\"}}",
                spoke.name
            );
        }
        let mut lines = show(&up);
        lines.sort();
        Ok(lines)
    })
    .await
}

/// A spoke cannot write another's cluster label, and its other series are stored.
pub(super) async fn forged_cluster_is_refused(stage: &Stage) -> Check {
    let metric = "demo_forged";
    let series = [
        ("before", "production"),
        ("forged", "staging"),
        ("after", "production"),
    ]
    .map(|(place, cluster)| probe(metric, &[("cluster", cluster), ("place", place)]));
    let response = stage.production.write(stage.gate, &series).await?;
    expect(&response, StatusCode::BAD_REQUEST)?;
    let mut stored = query::query(stage.hub, metric).await?;
    stored.sort_by(|left, right| right.label("place").cmp(left.label("place")));
    let places: Vec<&str> = stored.iter().map(|found| found.label("place")).collect();
    ensure!(
        places == ["before", "after"],
        "the hub has {:?}",
        show(&stored)
    );
    ensure!(
        stored
            .iter()
            .all(|found| found.label("cluster") == "production"),
        "the hub has {:?}",
        show(&stored)
    );
    Ok([told(&response), show(&stored)].concat())
}

/// A token that is not a spoke's gets nothing in.
pub(super) async fn wrong_token_is_refused(stage: &Stage) -> Check {
    let metric = "demo_wrong_token";
    let impostor = Spoke::new(stage.production.name, stage.production.protocol)?;
    let response = impostor.write(stage.gate, &[probe(metric, &[])]).await?;
    expect(&response, StatusCode::UNAUTHORIZED)?;
    ensure!(
        response.headers.contains_key(WWW_AUTHENTICATE),
        "no WWW-Authenticate in the response"
    );
    let stored = query::query(stage.hub, metric).await?;
    ensure!(stored.is_empty(), "the hub has {:?}", show(&stored));
    Ok(told(&response))
}

/// A series without a cluster label gets that of its spoke.
pub(super) async fn missing_cluster_is_added(stage: &Stage) -> Check {
    let metric = "demo_without_cluster";
    let response = stage
        .staging
        .write(stage.gate, &[probe(metric, &[])])
        .await?;
    expect(&response, StatusCode::NO_CONTENT)?;
    let stored = query::query(stage.hub, metric).await?;
    let clusters: Vec<&str> = stored.iter().map(|found| found.label("cluster")).collect();
    ensure!(clusters == ["staging"], "the hub has {:?}", show(&stored));
    Ok(show(&stored))
}

/// The gate passes a load on without a refusal.
pub(super) async fn load_passes(stage: &Stage, spoke: &Spoke) -> Check {
    let plan = Plan {
        server: Server::at(stage.gate),
        path: WRITE_PATH.to_owned(),
        authorization: Some(bearer(&spoke.token)?),
        shape: Shape {
            protocol: spoke.protocol,
            series_per_request: 2_000,
            labels: 14,
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
        let before = ProcessorTime::now()?;
        let (tally, duration) = load.drive()?;
        anyhow::Ok((tally, duration, before, ProcessorTime::now()?))
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
            per_million(after.of("gate") - before.of("gate")),
            per_million(after.process - before.process)
        ),
    ])
}

/// No write of the spokes' own was refused.
pub(super) async fn no_spoke_lost_samples(stage: &Stage) -> Check {
    let accounts = stage.spoke_accounts().await?;
    for SpokeAccount {
        spoke,
        samples,
        samples_failed,
    } in &accounts
    {
        ensure!(*samples > 0.0, "{spoke} sent nothing");
        ensure!(
            *samples_failed == 0.0,
            "{spoke} lost {samples_failed} samples of {samples}"
        );
    }
    let show = |it: &SpokeAccount| format!("{}: {} samples sent, 0 failed", it.spoke, it.samples);
    Ok(accounts.iter().map(show).collect())
}

/// The gate's counters add up for each spoke, and to what the hub took.
pub(super) async fn accounts_balance(stage: &Stage) -> Check {
    eventually(ACCOUNTS_TIMEOUT, async || {
        let page = scrape::get(stage.admin, "/metrics").await?.text();
        let mut lines = Vec::new();
        let mut floats_written = 0.0;
        for spoke in [&stage.production, &stage.staging] {
            let account = |kind| Account::read(&page, spoke.name, kind);
            for kind in Kind::ALL {
                lines.extend(account(kind).line()?);
            }
            let floats = account(Kind::Float);
            ensure!(floats.received > 0.0, "{}: nothing received", spoke.name);
            floats_written += floats.written;
        }
        if stage.has_own_hub() {
            let stored = query::query(stage.hub, SAMPLES_METRIC).await?;
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

/// The pages an operator looks at are there and know both spokes.
pub(super) async fn admin_answers(stage: &Stage) -> Check {
    let mut lines = Vec::new();
    for path in ["/-/healthy", "/-/ready", "/metrics", "/api/v1/spokes"] {
        let page = scrape::get(stage.admin, path).await?.text();
        lines.push(format!("http://{}{path}", stage.admin));
        let names = [stage.production.name, stage.staging.name];
        let knows_spokes = names
            .iter()
            .all(|name| page.contains(&format!("\"{name}\"")));
        ensure!(
            knows_spokes || path.starts_with("/-/"),
            "{path} does not name both spokes"
        );
    }
    Ok(lines)
}

fn probe(metric: &str, labels: &[(&str, &str)]) -> Series {
    Series::new(metric, labels, (1.0, unix_ms()))
}

fn expect(response: &Response, status: StatusCode) -> anyhow::Result<()> {
    let text = response.text();
    ensure!(
        response.status == status,
        "answered {} instead of {status}: {text}",
        response.status
    );
    Ok(())
}

fn told(response: &Response) -> Vec<String> {
    let text = response.text();
    let status = format!("{}:", response.status);
    std::iter::once(status.as_str())
        .chain(text.lines())
        .map(str::to_owned)
        .collect()
}

fn show(found: &[Found]) -> Vec<String> {
    found.iter().map(Found::to_string).collect()
}

/// Tries until it holds; says why it does not when the time is over.
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

/// What the gate's metrics say of one spoke's samples of one kind.
#[derive(Debug)]
struct Account<'a> {
    spoke: &'a str,
    kind: Kind,
    received: f64,
    written: f64,
    rejected: f64,
    failed: f64,
}

impl<'a> Account<'a> {
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

    /// Shows it, unless there was nothing; fails when it does not balance.
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
    fn adds_up_the_account_of_one_spoke_and_kind() {
        let line = |spoke, kind| Account::read(METRICS, spoke, kind).line();
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
