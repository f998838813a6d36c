//! Real hubs: what a bad sample loses, V2 for a hub that speaks V1 only, and exemplars.
//!
//! Each test runs with every Prometheus found, as sender and as hub; one test at a time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::support::body::{Protocol, Series, bare, now};
use crate::support::gate::Gate;
use crate::support::prometheus::{Binary, ONE_AT_A_TIME, Prometheus, Spoke};
use crate::support::scrape_target::ScrapeTarget;
use crate::support::sender::Request;
use crate::support::victoria_metrics::VictoriaMetrics;
use crate::support::{eventually, eventually_equal};

/// Longest wait for the samples of a spoke to reach the hub.
const ARRIVAL_DEADLINE: Duration = Duration::from_secs(30);

/// Writes to a hub without the gate.
async fn write_directly(hub: &Prometheus, series: Series) {
    let request = Request::series(Protocol::V1, &[series]);
    let response = request.send(hub.address()).await.expect("a response");
    assert!((200..300).contains(&response.status), "{response:?}");
}

/// A spoke that scrapes this target.
fn spoke_of<'a>(gate: &Gate, protocol: Protocol, target: &ScrapeTarget) -> Spoke<'a> {
    Spoke {
        target: Some(target.address),
        ..Spoke::new(gate, "production", protocol)
    }
}

/// A case of a sample that a hub refuses.
struct BadSample {
    case: &'static str,
    /// The value and time of a sample of the same series that must be at the hub before.
    stored: Option<(f64, i64)>,
    bad: Series,
}

fn bad_samples(now: i64) -> Vec<BadSample> {
    let labelled = |case: &str| bare(&format!("__name__=bad,case={case},cluster=production"));
    let bad_sample = |case, stored, timestamp| BadSample {
        case,
        stored,
        bad: labelled(case).sample(1.0, timestamp),
    };
    vec![
        bad_sample("order", Some((2.0, now)), now - 10_000),
        bad_sample("duplicate", Some((2.0, now)), now),
        bad_sample("old", None, now - 3 * 3_600_000),
    ]
}

#[tokio::test]
async fn one_bad_sample_among_a_thousand_loses_only_itself() {
    let _turn = ONE_AT_A_TIME.lock().await;
    for binary in Binary::all() {
        // The second configuration shows salvage at a hub that would need none for V2.
        for (key, found) in [
            ("protocol: auto", binary.receives()),
            ("protocol: v1", Protocol::V1),
        ] {
            let hub = Prometheus::start_strict_hub(&binary).await;
            let gate = Gate::start_for(&hub.url(), key).await;
            gate.wait_for_protocol(None, found).await;
            one_bad_of_a_thousand(&hub, &gate, &format!("{binary:?}, {key}")).await;
        }
    }
}

async fn one_bad_of_a_thousand(hub: &Prometheus, gate: &Gate, what: &str) {
    let now = now();
    // The hub compares ages with its newest sample.
    let newest = bare("__name__=newest,cluster=production");
    write_directly(hub, newest.sample(1.0, now)).await;
    for BadSample { case, stored, bad } in bad_samples(now) {
        let labels = bad.notation();
        if let Some((value, timestamp)) = stored {
            write_directly(hub, bare(&labels).sample(value, timestamp)).await;
        }
        for protocol in Protocol::BOTH {
            let name = format!("good_{case}_{protocol:?}");
            let mut batch: Vec<_> = (0..999)
                .map(|n| bare(&format!("__name__={name},cluster=production,n={n}")))
                .map(|series| series.sample(1.0, now))
                .collect();
            batch.insert(500, bad.clone());
            let response = gate.write(protocol, &batch).await;
            let case = format!("{what}: {case}, {protocol:?}");
            response.expect_refusal(&case, 400, &["production", "the hub says (400)"]);
            assert_eq!(
                response.written(),
                Some((999, 0, 0)),
                "{case}: {response:?}"
            );
            let count = hub.value(&format!("count({name})")).await;
            assert_eq!(count, 999.0, "{case}");
        }
        let query = format!("bad{{case=\"{case}\"}}");
        let there: Vec<_> = hub.query(&query).await.iter().map(|it| it.1).collect();
        let wanted: Vec<_> = stored.iter().map(|it| it.0).collect();
        assert_eq!(there, wanted, "{what}: {case}");
    }
    gate.expect_balanced_counts("production").await;
}

/// A spoke without a network for longer than the window of the hub must lose no newer samples.
#[tokio::test]
async fn a_sample_older_than_the_out_of_order_window_loses_only_itself() {
    let _turn = ONE_AT_A_TIME.lock().await;
    for binary in Binary::all() {
        let hub = Prometheus::start_hub(&binary).await;
        let gate = Gate::start_for(&hub.url(), "").await;
        gate.wait_for_protocol(None, binary.receives()).await;
        let now = now();
        let newest = bare("__name__=newest,cluster=production");
        write_directly(&hub, newest.sample(1.0, now)).await;
        for protocol in Protocol::BOTH {
            let name = format!("good_{protocol:?}");
            let mut batch: Vec<_> = (0..99)
                .map(|n| bare(&format!("__name__={name},cluster=production,n={n}")))
                .map(|series| series.sample(1.0, now))
                .collect();
            let old = bare("__name__=old,cluster=production");
            batch.insert(50, old.sample(1.0, now - 48 * 3_600_000));
            let response = gate.write(protocol, &batch).await;
            let case = format!("{binary:?}, {protocol:?}");
            response.expect_refusal(&case, 400, &["production", "the hub says"]);
            assert_eq!(response.written(), Some((99, 0, 0)), "{case}: {response:?}");
            let count = hub.value(&format!("count({name})")).await;
            assert_eq!(count, 99.0, "{case}");
        }
        gate.expect_balanced_counts("production").await;
    }
}

/// A hub compares ages with its newest sample, which another spoke may have put far ahead. Prometheus
/// takes such a sample before 2.54. It is no fault of the samples of the present.
#[tokio::test]
async fn nothing_of_the_present_is_refused_where_the_hub_is_a_year_ahead() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let old = |binary: &Binary| binary.receives() == Protocol::V1;
    for binary in Binary::all().into_iter().filter(old) {
        for hub in [
            Prometheus::start_hub(&binary).await,
            Prometheus::start_strict_hub(&binary).await,
        ] {
            let gate = Gate::start_for(&hub.url(), "").await;
            gate.wait_for_protocol(None, binary.receives()).await;
            let ahead = bare("__name__=ahead,cluster=other").sample(1.0, now() + 365 * 86_400_000);
            write_directly(&hub, ahead).await;
            for protocol in Protocol::BOTH {
                let batch: Vec<_> = (0..50)
                    .map(|n| bare(&format!("__name__=up,cluster=production,n={n}")))
                    .map(|series| series.sample(1.0, now()))
                    .collect();
                for sent in [&batch[..], &batch[..1]] {
                    for _ in 0..12 {
                        let response = gate.write(protocol, sent).await;
                        assert!(response.status >= 500, "{response:?}");
                    }
                }
            }
            assert_eq!(gate.rejected("float", "hub").await, 0.0);
            gate.expect_balanced_counts("production").await;
        }
    }
}

/// A target with 20 series. When a time is set, one scrape also gets a sample of that time.
async fn target_with_a_late_sample() -> (ScrapeTarget, Arc<AtomicI64>) {
    let late = Arc::new(AtomicI64::new(0));
    let served = Arc::clone(&late);
    let target = ScrapeTarget::start(move |before| {
        let mut page = "# TYPE steady gauge\n".to_owned();
        for n in 0..20 {
            page += &format!("steady{{n=\"{n}\"}} {before}\n");
        }
        // OpenMetrics has seconds. A series with explicit times gets no stale marker when it ends.
        let time = served.swap(0, Ordering::Relaxed);
        if time > 0 {
            let (seconds, millis) = (time / 1000, time % 1000);
            page += &format!("# TYPE late gauge\nlate 1 {seconds}.{millis:03}\n");
        }
        page
    })
    .await;
    (target, late)
}

/// Senders from 2.54 on read the Written headers.
#[tokio::test]
async fn a_prometheus_sender_counts_only_the_bad_sample_as_failed() {
    let _turn = ONE_AT_A_TIME.lock().await;
    for hub_binary in Binary::all() {
        for sender_binary in Binary::all() {
            for protocol in sender_binary.protocols() {
                eprintln!("{sender_binary:?} {protocol:?} to {hub_binary:?}");
                let hub = Prometheus::start_strict_hub(&hub_binary).await;
                bad_sample_of_a_real_sender(&hub, &hub_binary, &sender_binary, *protocol).await;
            }
        }
    }
}

async fn bad_sample_of_a_real_sender(
    hub: &Prometheus,
    hub_binary: &Binary,
    sender_binary: &Binary,
    protocol: Protocol,
) {
    let gate = Gate::start_for(&hub.url(), "").await;
    gate.wait_for_protocol(None, hub_binary.receives()).await;
    let (target, late) = target_with_a_late_sample().await;
    let spoke = spoke_of(&gate, protocol, &target);
    let spoke = Prometheus::start_spoke(sender_binary, &spoke).await;
    let count = "count(steady{cluster=\"production\"})";
    eventually_equal("series at the hub", ARRIVAL_DEADLINE, 20.0, async || {
        hub.value(count).await
    })
    .await;
    let from = now();
    // The hub has a newer sample of this series than the late one.
    let labels = format!(
        "__name__=late,cluster=production,instance={},job=target",
        target.address
    );
    write_directly(hub, bare(&labels).sample(2.0, from)).await;
    late.store(from - 5_000, Ordering::Relaxed);
    let refused = [("spoke", "production"), ("reason", "hub")];
    eventually_equal("rejected by the hub", ARRIVAL_DEADLINE, 1.0, async || {
        gate.metrics().await.samples("rejected", &refused)
    })
    .await;
    // Samples after the refused one must arrive.
    let to = u64::try_from(from / 1000).unwrap() + 5;
    eventually(
        "the same samples at the hub",
        ARRIVAL_DEADLINE,
        async || {
            if now() / 1000 < to as i64 + 2 {
                return Err("not yet".to_owned());
            }
            let own = spoke.samples("steady", 10, to).await;
            let there = hub.samples("steady{cluster=\"production\"}", 10, to).await;
            if own.len() == 20 && own == there {
                Ok(())
            } else {
                Err(format!("{own:?} at the spoke, {there:?} at the hub"))
            }
        },
    )
    .await;
    let late = hub.value("late{cluster=\"production\"} @ end()").await;
    assert_eq!(late, 2.0);
    let metrics = gate.metrics().await;
    let rejected = metrics.samples("rejected", &refused);
    assert_eq!(rejected, 1.0);
    let metrics = spoke.metrics().await;
    let failed = metrics.sum("prometheus_remote_storage_samples_failed_total", &[]);
    if sender_binary.major >= 3 {
        assert_eq!(failed, 1.0);
    } else {
        // It counts the whole batch and ignores the Written headers.
        assert!(failed >= 1.0, "{failed}");
    }
    gate.expect_balanced_counts("production").await;
}

/// A Prometheus before 3.8 replies 500 to every request with a native histogram unless a feature flag
/// is set.
#[tokio::test]
async fn the_floats_of_a_spoke_with_native_histograms_reach_a_hub_without() {
    let _turn = ONE_AT_A_TIME.lock().await;
    for hub_binary in Binary::all() {
        if !hub_binary.has_a_flag_for_histograms() {
            continue;
        }
        for sender_binary in Binary::all() {
            for protocol in sender_binary.protocols() {
                eprintln!("{sender_binary:?} {protocol:?} to {hub_binary:?}");
                floats_reach_a_hub_without_histograms(&hub_binary, &sender_binary, *protocol).await;
            }
        }
    }
}

async fn floats_reach_a_hub_without_histograms(
    hub_binary: &Binary,
    sender_binary: &Binary,
    protocol: Protocol,
) {
    let hub = Prometheus::start_hub_without_histograms(hub_binary).await;
    let gate = Gate::start_for(&hub.url(), "").await;
    gate.wait_for_protocol(None, hub_binary.receives()).await;
    let target = ScrapeTarget::with_native_histograms(20).await;
    let spoke = spoke_of(&gate, protocol, &target);
    let spoke = Prometheus::start_spoke(sender_binary, &spoke).await;
    let count = "count(steady{cluster=\"production\"})";
    eventually_equal("series at the hub", ARRIVAL_DEADLINE, 20.0, async || {
        hub.value(count).await
    })
    .await;
    // They go on arriving: the spoke and the hub have the same samples of the next 10 s.
    let to = u64::try_from(now() / 1000).unwrap() + 10;
    eventually("the same floats at the hub", ARRIVAL_DEADLINE, async || {
        if now() / 1000 < to as i64 + 2 {
            return Err("not yet".to_owned());
        }
        let own = spoke.samples("steady", 10, to).await;
        let there = hub.samples("steady{cluster=\"production\"}", 10, to).await;
        if own.len() == 20 && own == there {
            Ok(())
        } else {
            Err(format!("{own:?} at the spoke, {there:?} at the hub"))
        }
    })
    .await;
    let metrics = gate.metrics().await;
    let refused = |kind| {
        let labels = [("spoke", "production"), ("reason", "hub"), ("kind", kind)];
        metrics.samples("rejected", &labels)
    };
    assert!(refused("histogram") >= 200.0, "{}", refused("histogram"));
    assert_eq!(refused("float"), 0.0);
    let metrics = spoke.metrics().await;
    let failed = |kind: &str| {
        let name = format!("prometheus_remote_storage_{kind}_failed_total");
        metrics.sum(&name, &[])
    };
    assert!(failed("histograms") >= 200.0, "{}", failed("histograms"));
    if sender_binary.major >= 3 {
        assert_eq!(failed("samples"), 0.0);
    }
    gate.expect_balanced_counts("production").await;
}

/// VictoriaMetrics replies 204 to V2 and stores nothing of it.
#[tokio::test]
async fn v2_writes_are_stored_by_victoria_metrics() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let hub = VictoriaMetrics::start().await;
    let gate = Gate::start_for(&hub.url(), "").await;
    // The first writes come before the gate has found what the hub speaks.
    for round in 0..5 {
        let batch: Vec<_> = (0..500)
            .map(|n| {
                bare(&format!(
                    "__name__=bulk,cluster=production,n={n},round={round}"
                ))
            })
            .map(|series| series.sample(f64::from(round), now()))
            .collect();
        let response = gate.write(Protocol::V2, &batch).await.expect(204);
        assert_eq!(response.written(), Some((500, 0, 0)), "{round}");
    }
    gate.wait_for_protocol(None, Protocol::V1).await;
    eventually_equal("samples at the hub", ARRIVAL_DEADLINE, 2500.0, async || {
        let time = u64::try_from(now() / 1000).unwrap() + 1;
        let query = "sum(count_over_time(bulk{cluster=\"production\"}[10m]))";
        hub.value(query, time).await
    })
    .await;
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn a_prometheus_spoke_loses_no_sample_to_victoria_metrics() {
    let _turn = ONE_AT_A_TIME.lock().await;
    for binary in Binary::all() {
        for protocol in binary.protocols() {
            eprintln!("{binary:?} {protocol:?}");
            let hub = VictoriaMetrics::start().await;
            let gate = Gate::start_for(&hub.url(), "").await;
            let (target, _) = target_with_a_late_sample().await;
            let spoke = spoke_of(&gate, *protocol, &target);
            let spoke = Prometheus::start_spoke(&binary, &spoke).await;
            eventually_equal("series at the hub", ARRIVAL_DEADLINE, 20.0, async || {
                let time = u64::try_from(now() / 1000).unwrap();
                hub.value("count(steady{cluster=\"production\"})", time)
                    .await
            })
            .await;
            let to = u64::try_from(now() / 1000).unwrap() + 8;
            eventually(
                "the same samples at the hub",
                ARRIVAL_DEADLINE,
                async || {
                    if now() / 1000 < to as i64 + 2 {
                        return Err("not yet".to_owned());
                    }
                    let own = spoke.samples("steady", 8, to).await;
                    let own: usize = own.values().map(Vec::len).sum();
                    let query = "sum(count_over_time(steady{cluster=\"production\"}[8s]))";
                    let there = hub.value(query, to).await;
                    if own >= 20 * 7 && own as f64 == there {
                        Ok(())
                    } else {
                        Err(format!("{own} at the spoke, {there} at the hub"))
                    }
                },
            )
            .await;
            gate.wait_for_protocol(None, Protocol::V1).await;
            let metrics = spoke.metrics().await;
            let failed = metrics.sum("prometheus_remote_storage_samples_failed_total", &[]);
            assert_eq!(failed, 0.0);
            gate.expect_balanced_counts("production").await;
        }
    }
}

#[tokio::test]
async fn exemplars_of_both_protocols_are_stored_by_the_hub() {
    let _turn = ONE_AT_A_TIME.lock().await;
    for binary in Binary::all() {
        for protocol in binary.protocols() {
            eprintln!("{binary:?} {protocol:?}");
            exemplars(&binary, *protocol).await;
        }
    }
}

async fn exemplars(binary: &Binary, protocol: Protocol) {
    let hub = Prometheus::start_hub(binary).await;
    let gate = Gate::start_for(&hub.url(), "").await;
    gate.wait_for_protocol(None, binary.receives()).await;
    let target = ScrapeTarget::start(|before| {
        let orders = before + 1;
        format!(
            "# TYPE orders counter\n\
             orders_total{{shop=\"a\"}} {orders} # {{trace_id=\"a{before}\"}} 0.25\n\
             orders_total{{shop=\"b\"}} {orders}\n\
             # TYPE latency histogram\n\
             latency_bucket{{le=\"0.5\"}} {orders} # {{trace_id=\"l{before}\"}} 0.125\n\
             latency_bucket{{le=\"+Inf\"}} {orders}\n\
             latency_sum {orders}\nlatency_count {orders}\n"
        )
    })
    .await;
    let spoke = spoke_of(&gate, protocol, &target);
    let spoke = Prometheus::start_spoke(binary, &spoke).await;
    for (metric, prefix) in [("orders_total", "a"), ("latency_bucket", "l")] {
        let selector = format!("{metric}{{cluster=\"production\",job=\"target\"}}");
        eventually("exemplars at the hub", ARRIVAL_DEADLINE, async || {
            let found = hub.exemplars(&selector).await;
            let traces = found.iter().map(|it| it["labels"]["trace_id"].as_str());
            let traces: BTreeSet<_> = traces
                .flatten()
                .filter(|it| it.starts_with(prefix))
                .collect();
            if traces.len() >= 5 {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        })
        .await;
    }
    let log = spoke.log();
    let warnings = log.lines().filter(|line| {
        let level = ["level=error", "level=warn", "level=ERROR", "level=WARN"];
        level.iter().any(|level| line.contains(level)) && line.contains("remote")
    });
    let warnings: Vec<_> = warnings.collect();
    assert!(warnings.is_empty(), "{warnings:#?}");
    let metrics = spoke.metrics().await;
    for kind in ["samples", "exemplars"] {
        let name = format!("prometheus_remote_storage_{kind}_failed_total");
        assert_eq!(metrics.sum(&name, &[]), 0.0, "{name}");
    }
    let metrics = gate.metrics().await;
    let exemplar = [("spoke", "production"), ("kind", "exemplar")];
    assert_eq!(metrics.samples("rejected", &exemplar), 0.0);
    assert!(metrics.sum("hubgate_samples_written_total", &exemplar) >= 10.0);
    gate.expect_balanced_counts("production").await;
}
