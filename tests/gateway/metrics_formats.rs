//! The formats of `/metrics`: who gets which, and whether a real Prometheus reads both.

use crate::support::body::{Protocol, series};
use crate::support::config::{config_with_hub_keys, spoke, token};
use crate::support::eventually;
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::metrics::Metrics;
use crate::support::prometheus::{Binary, ONE_AT_A_TIME, Prometheus, START_DEADLINE};
use crate::support::scrape_target::ScrapeTarget;
use crate::support::sender::{Request, Response};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A gate with a spoke whose name needs escapes, of which three samples were written.
async fn gate(hub: &ScriptedHub) -> Gate {
    let production = spoke("production", "");
    let quoted = spoke("a\"b\\c", "").replace("name: a\"b\\c", r#"name: "a\"b\\c""#);
    let gate = Gate::start(&config_with_hub_keys(
        &hub.url(),
        // Without probes, which would add a series at any moment.
        "protocol: v1",
        &[production, quoted],
    ))
    .await;
    for _ in 0..3 {
        let request = Request::series(Protocol::V1, &[series("__name__=up")]);
        gate.send(request.token(&token("production")))
            .await
            .expect(204);
    }
    gate
}

async fn page(gate: &Gate, accept: &str) -> Response {
    let request = Request::get("/metrics").header("accept", accept);
    gate.admin(request).await.expect(200)
}

#[tokio::test]
async fn the_accept_header_chooses_the_format() {
    let hub = ScriptedHub::start().await;
    let gate = gate(&hub).await;
    let plain = gate.admin(Request::get("/metrics")).await.expect(200);
    assert_eq!(plain.header("content-type"), Some(TEXT));
    for (accept, content_type) in [
        ("*/*", TEXT),
        ("text/plain;version=0.0.4", TEXT),
        ("application/json", TEXT),
        ("application/openmetrics-text;version=1.0.0", OPEN_METRICS),
        (
            "application/openmetrics-text;version=1.0.0;q=0.2,text/plain;q=0.5",
            TEXT,
        ),
    ] {
        let page = page(&gate, accept).await;
        assert_eq!(page.header("content-type"), Some(content_type), "{accept}");
        let ends = page.text.ends_with("\n# EOF\n");
        assert_eq!(ends, content_type == OPEN_METRICS, "{accept}");
    }
}

#[tokio::test]
async fn both_formats_have_the_same_series() {
    let hub = ScriptedHub::start().await;
    let gate = gate(&hub).await;
    let [text, open_metrics] = [TEXT, OPEN_METRICS].map(async |accept| {
        let page = page(&gate, accept).await;
        Metrics::parse(&page.text).series()
    });
    assert_eq!(text.await, open_metrics.await);
}

/// Queries match `le` as text, so its spelling is a part of the contract (docs/metrics.md).
#[tokio::test]
async fn the_bounds_of_histograms_are_spelled_as_the_format_asks() {
    let hub = ScriptedHub::start().await;
    let gate = gate(&hub).await;
    for (accept, one_second, one_mebibyte) in [
        (TEXT, "1", "1.048576e+06"),
        (OPEN_METRICS, "1.0", "1048576.0"),
    ] {
        let text = page(&gate, accept).await.text;
        for (family, bound) in [
            ("request_duration_seconds", one_second),
            ("request_body_bytes", one_mebibyte),
        ] {
            let (name, bound) = (
                format!("hubgate_{family}_bucket{{"),
                format!("le=\"{bound}\""),
            );
            let mut buckets = text.lines().filter(|line| line.starts_with(&name));
            let found = buckets.any(|line| line.contains(&bound));
            assert!(found, "{accept}: no {name}{bound} in {text}");
        }
    }
}

/// Debian's Prometheus 2.42 cannot be told to ask for text, so text comes from a target that serves
/// the page that hubgate wrote for a client that asked for it.
#[tokio::test]
async fn prometheus_reads_both_formats() {
    let _one = ONE_AT_A_TIME.lock().await;
    for binary in Binary::all() {
        let hub = ScriptedHub::start().await;
        let gate = gate(&hub).await;
        let text = page(&gate, TEXT).await.text;
        let series = Metrics::parse(&text).series().len() as f64;
        let target = ScrapeTarget::serving(TEXT, move |_| text.clone()).await;
        let jobs = [("gate", gate.admin_address()), ("text", target.address)];
        let prometheus = Prometheus::scraper(&binary, &jobs).await;
        for (job, family) in [
            ("gate", "hubgate_samples_written"),
            ("text", "hubgate_samples_written_total"),
        ] {
            eventually("a scrape", START_DEADLINE, async || {
                let up = prometheus.query(&format!("up{{job=\"{job}\"}}")).await;
                if up.len() == 1 { Ok(()) } else { Err(up) }
            })
            .await;
            let value = async |selector: &str| prometheus.value(selector).await;
            assert_eq!(value(&format!("up{{job=\"{job}\"}}")).await, 1.0, "{job}");
            let written = "hubgate_samples_written_total{spoke=\"production\",kind=\"float\"";
            let written = value(&format!("{written},job=\"{job}\"}}")).await;
            assert_eq!(written, 3.0, "{job}");
            let scraped = value(&format!("scrape_samples_scraped{{job=\"{job}\"}}")).await;
            assert_eq!(scraped, series, "{job}");
            let quoted = r#"hubgate_label_mismatches_total{spoke="a\"b\\c""#;
            let quoted = prometheus.query(&format!("{quoted},job=\"{job}\"}}")).await;
            assert_eq!(quoted.len(), 1, "{job}");
            let families = prometheus.families(job).await;
            assert!(families.contains(family), "{job}: {families:?}");
        }
    }
}
