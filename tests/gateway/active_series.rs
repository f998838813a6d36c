//! The limit of active series: what is known flows, what is new is refused alone and named.
//!
//! Here a table always fills, since that takes minutes: a quarter more than the limit may enter. What
//! depends on time is tested in `src/series/tests.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::support::body::{Protocol, Series, bare, now, sorted_units};
use crate::support::config::{config, config_with_hub_keys, spoke};
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;

/// A configuration with two spokes, of which `production` has this limit.
fn limited(hub: &ScriptedHub, limit: &str) -> String {
    let limits = format!("limits: {{active_series_max: {limit}}}");
    config(
        &hub.url(),
        &[spoke("production", &limits), spoke("staging", "")],
    )
}

/// So many series of a metric, each with a sample, from this number on.
fn of_metric(metric: &str, numbers: std::ops::Range<u64>) -> Vec<Series> {
    of_metric_at(metric, numbers, now())
}

fn of_metric_at(metric: &str, numbers: std::ops::Range<u64>, timestamp: i64) -> Vec<Series> {
    let series = |n| bare(&format!("__name__={metric},cluster=production,user=u{n}"));
    numbers.map(|n| series(n).sample(1.0, timestamp)).collect()
}

fn names(series: &[Series]) -> BTreeSet<String> {
    series.iter().map(Series::notation).collect()
}

async fn of_limit(gate: &Gate, metric: &str) -> f64 {
    let labels = [("spoke", "production"), ("limit", "active_series_max")];
    gate.sum(metric, &labels).await
}

async fn active(gate: &Gate) -> f64 {
    let labels = [("spoke", "production")];
    gate.sum("hubgate_active_series", &labels).await
}

#[tokio::test]
async fn new_series_are_refused_alone_and_their_metric_is_named() {
    for protocol in Protocol::BOTH {
        let hub = ScriptedHub::start().await;
        let spokes = [
            spoke("production", "limits: {active_series_max: 80}"),
            spoke("staging", ""),
        ];
        let config = config_with_hub_keys(&hub.url(), &protocol.hub_key(), &spokes);
        let gate = Gate::start(&config).await;
        let known = of_metric("known", 0..100);
        gate.write(protocol, &known).await.expect(204);
        hub.take_one();
        let mut batch = of_metric("requests", 0..70);
        batch.extend(of_metric("known", 0..100));
        batch.extend(of_metric("sizes", 0..10));
        let response = gate.write(protocol, &batch).await;
        let parts = [
            "production",
            "active_series",
            "80 of 180 refused",
            "limits.active_series_max",
            "beyond 80 active series",
            "requests 70",
        ];
        response.expect_refusal("new", 400, &parts);
        assert_eq!(response.written(), Some((100, 0, 0)));
        assert_eq!(names(&hub.take_one().series), names(&known));
        assert_eq!(gate.rejected("float", "active_series").await, 80.0);
        assert_eq!(of_limit(&gate, "hubgate_limit").await, 80.0);
        assert_eq!(of_limit(&gate, "hubgate_limit_used").await, 100.0);
        assert_eq!(of_limit(&gate, "hubgate_limit_exceeded_total").await, 80.0);
        assert_eq!(active(&gate).await, 100.0);
        let labels = [("spoke", "production")];
        let created = gate.sum("hubgate_active_series_created_total", &labels);
        assert_eq!(created.await, 100.0);
        let exact = gate.sum("hubgate_active_series_exact", &labels);
        assert_eq!(exact.await, 1.0);
        gate.wait_for_log(&["refused", "active_series", "requests 70", "sizes 10"])
            .await;
        gate.wait_for_log(&["comes near limits.active_series_max", "production"])
            .await;
        let status = &gate.spokes().await["spokes"];
        let growing = &status[0]["active_series"]["growing"];
        assert_eq!(growing[0]["metric"], "requests", "{growing}");
        assert_eq!(growing[0]["new"], 70, "{growing}");
        assert_eq!(growing[1]["metric"], "sizes", "{growing}");
        assert!(status[1]["active_series"].is_null());
        // The other spoke does not notice.
        let others = (0..200).map(|n| bare(&format!("__name__=requests,user=u{n}")));
        let others: Vec<_> = others.map(|series| series.sample(1.0, now())).collect();
        gate.write_as("staging", protocol, &others)
            .await
            .expect(204);
        gate.expect_balanced_counts("production").await;
    }
}

/// They are the same series in both versions, and whether the cluster label is there or is added.
#[tokio::test]
async fn a_series_is_known_however_it_is_sent() {
    let hub = ScriptedHub::start().await;
    let gate = Gate::start(&limited(&hub, "40")).await;
    gate.write(Protocol::V1, &of_metric("a", 0..50))
        .await
        .expect(204);
    for protocol in Protocol::BOTH {
        let without = (0..50).map(|n| bare(&format!("__name__=a,user=u{n}")).sample(1.0, now()));
        let without: Vec<_> = without.collect();
        gate.write(protocol, &without).await.expect(204);
        let unsorted = (0..50).map(|n| {
            let labels = format!("user=u{n},empty=,__name__=a,cluster=production");
            bare(&labels).sample(1.0, now())
        });
        gate.write(protocol, &unsorted.collect::<Vec<_>>())
            .await
            .expect(204);
        gate.write(protocol, &of_metric("a", 0..50))
            .await
            .expect(204);
    }
    assert_eq!(active(&gate).await, 50.0);
    gate.write(Protocol::V2, &of_metric("a", 50..51))
        .await
        .expect(400);
    // A series without samples is none.
    let exemplar = bare("__name__=b,cluster=production").exemplar("trace_id=a", now());
    gate.write(Protocol::V1, &[exemplar]).await.expect(204);
    // Nor is one of which all samples are refused.
    let ahead = bare("__name__=c,cluster=production").sample(1.0, now() + 3_600_000);
    let response = gate.write(Protocol::V1, &[ahead]).await;
    response.expect_refusal("ahead", 400, &["too_far_in_future"]);
    assert!(!response.text.contains("active_series"), "{response:?}");
}

/// What is refused of a request does not travel on in the other version either.
#[tokio::test]
async fn new_series_are_left_out_of_a_translated_message() {
    for (from, to) in [(Protocol::V1, Protocol::V2), (Protocol::V2, Protocol::V1)] {
        let hub = ScriptedHub::start().await;
        let limit = spoke("production", "limits: {active_series_max: 4}");
        let config = config_with_hub_keys(&hub.url(), &to.hub_key(), &[limit]);
        let gate = Gate::start(&config).await;
        gate.write(from, &of_metric("a", 0..5)).await.expect(204);
        hub.take_one();
        let mut batch = of_metric("b", 0..3);
        batch.extend(of_metric("a", 0..5));
        let expected = batch[3..].to_vec();
        let response = gate.write(from, &batch).await.expect(400);
        assert_eq!(response.written(), Some((5, 0, 0)));
        let received = hub.take_one();
        assert_eq!(received.protocol, to);
        assert_eq!(sorted_units(&received.series), sorted_units(&expected));
        gate.expect_balanced_counts("production").await;
    }
}

#[tokio::test]
async fn an_observed_limit_counts_new_series_and_refuses_none() {
    let hub = ScriptedHub::start().await;
    let gate = Gate::start(&limited(&hub, "{limit: 40, mode: observe}")).await;
    gate.write(Protocol::V1, &of_metric("a", 0..60))
        .await
        .expect(204);
    assert_eq!(of_limit(&gate, "hubgate_limit_exceeded_total").await, 10.0);
    gate.write(Protocol::V2, &of_metric("a", 0..60))
        .await
        .expect(204);
    assert_eq!(of_limit(&gate, "hubgate_limit_exceeded_total").await, 20.0);
    assert_eq!(active(&gate).await, 50.0);
    for received in hub.take_received() {
        assert_eq!(received.series.len(), 60);
    }
    gate.wait_for_log(&["comes near limits.active_series_max", "a 10"])
        .await;
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn a_restart_refuses_no_series_that_was_known() {
    let hub = ScriptedHub::start().await;
    let config = limited(&hub, "1000");
    let mut gate = Gate::start(&config).await;
    gate.write(Protocol::V1, &of_metric("a", 0..1000))
        .await
        .expect(204);
    gate.signal("TERM");
    assert!(gate.wait_for_exit().await.success());
    gate.restart(&config).await;
    // Some new ones come first.
    gate.write(Protocol::V1, &of_metric("b", 0..200))
        .await
        .expect(204);
    gate.write(Protocol::V2, &of_metric("a", 0..1000))
        .await
        .expect(204);
    assert_eq!(active(&gate).await, 1200.0);
}

#[tokio::test]
async fn a_reload_changes_the_limit_and_forgets_no_series() {
    let hub = ScriptedHub::start().await;
    let gate = Gate::start(&limited(&hub, "100")).await;
    let known = of_metric("a", 0..125);
    gate.write(Protocol::V1, &known).await.expect(204);
    gate.write(Protocol::V1, &of_metric("b", 0..1))
        .await
        .expect(400);
    for limit in ["40", "100"] {
        gate.reload_with(&limited(&hub, limit)).await;
        gate.write(Protocol::V1, &known).await.expect(204);
        gate.write(Protocol::V1, &of_metric("b", 0..1))
            .await
            .expect(400);
    }
    gate.reload_with(&limited(&hub, "200")).await;
    gate.write(Protocol::V1, &of_metric("b", 0..100))
        .await
        .expect(204);
    assert_eq!(active(&gate).await, 225.0);
    gate.reload_with(&limited(&hub, "0")).await;
    gate.write(Protocol::V1, &of_metric("c", 0..1000))
        .await
        .expect(204);
    let metrics = gate.metrics().await;
    assert!(!metrics.has("hubgate_active_series", &[]));
    assert!(!metrics.has("hubgate_active_series_exact", &[]));
    // With a new table, created goes on.
    gate.reload_with(&limited(&hub, "1000")).await;
    gate.write(Protocol::V1, &known).await.expect(204);
    let labels = [("spoke", "production")];
    let created = gate.sum("hubgate_active_series_created_total", &labels);
    assert_eq!(created.await, 350.0);
}

/// A cardinality bomb over several connections, beside scrapes of what was known and another spoke.
#[tokio::test]
async fn a_flood_of_new_series_leaves_what_is_known_and_other_spokes_alone() {
    const LIMIT: u64 = 4000;
    const SENDERS: u64 = 8;
    const REQUESTS: u64 = 6;
    const SERIES: u64 = 2000;
    let hub = ScriptedHub::start().await;
    let gate = Arc::new(Gate::start(&limited(&hub, &LIMIT.to_string())).await);
    let known = of_metric("known", 0..2000);
    gate.write(Protocol::V1, &known).await.expect(204);
    hub.take_one();
    // The first of the flood fill the table; memory for bodies is there afterwards.
    gate.write(Protocol::V1, &of_metric("flood", 0..SERIES))
        .await
        .expect(204);
    gate.write(Protocol::V1, &of_metric("flood", 0..SERIES * 2))
        .await
        .expect(400);
    hub.take_received();
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move {
                for request in 0..REQUESTS {
                    let first = SERIES * (10 + sender * REQUESTS + request);
                    let series = of_metric("flood", first..first + SERIES);
                    let protocol = Protocol::BOTH[(request % 2) as usize];
                    gate.write(protocol, &series).await.expect(400);
                }
            })
        })
        .collect();
    let mut written = Vec::new();
    for scrape in 0..20 {
        let timestamp = now() + scrape;
        let known = of_metric_at("known", 0..2000, timestamp);
        let honest = [bare("__name__=up,cluster=staging").sample(1.0, timestamp)];
        gate.write(Protocol::BOTH[(scrape % 2) as usize], &known)
            .await
            .expect(204);
        gate.write_as("staging", Protocol::V2, &honest)
            .await
            .expect(204);
        written.extend(known.into_iter().chain(honest));
    }
    for sender in senders {
        sender.await.unwrap();
    }
    // All of it has arrived once, and nothing of the flood.
    let received = hub.take_received();
    let received: Vec<_> = received.into_iter().flat_map(|it| it.series).collect();
    assert!(sorted_units(&received) == sorted_units(&written));
    assert_eq!(active(&gate).await, (LIMIT + LIMIT / 4) as f64);
    let status = &gate.spokes().await["spokes"][0];
    let series = &status["active_series"];
    assert_eq!(series["growing"][0]["metric"], "flood", "{series}");
    let new = series["growing"][0]["new"].as_u64().unwrap();
    assert!(new >= SENDERS * REQUESTS * SERIES, "{series}");
    assert!(
        series["table_bytes"].as_u64().unwrap() <= 16 * (LIMIT + LIMIT / 4) + 64 * 128,
        "{series}"
    );
    let refused = gate.rejected("float", "active_series").await;
    assert!(refused >= (SENDERS * REQUESTS * SERIES) as f64, "{refused}");
    gate.expect_balanced_counts("production").await;
    gate.expect_balanced_counts("staging").await;
}
