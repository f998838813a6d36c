//! Real hubs: what they would store wrong, or not store for others, does not reach them.
//!
//! Each test runs with every Prometheus found; one test at a time.

use std::time::Duration;

use crate::support::body::{Protocol, Series, bare, now};
use crate::support::config::{config, spoke};
use crate::support::gate::Gate;
use crate::support::prometheus::{Binary, ONE_AT_A_TIME, Prometheus, Spoke};
use crate::support::scrape_target::ScrapeTarget;
use crate::support::sender::Request;
use crate::support::{eventually, eventually_equal};

use super::{YEAR, bad_samples, own};

/// Longest wait for the samples of a spoke to reach the hub.
const ARRIVAL_DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_thousand_samples_with_one_that_is_refused_are_stored_without_it() {
    let _turn = ONE_AT_A_TIME.lock().await;
    for binary in Binary::all() {
        let hub = Prometheus::start_hub(&binary).await;
        let gate = Gate::start_for(&hub.url(), "").await;
        gate.wait_for_protocol(None, binary.receives()).await;
        let mut cases = bad_samples();
        if binary.receives() == Protocol::V1 {
            cases.push((
                "hub_protocol",
                "histogram",
                own("bad").custom_buckets(now()),
            ));
        }
        for (place, (reason, _, bad)) in cases.into_iter().enumerate() {
            for protocol in Protocol::BOTH {
                let name = format!("good_{place}_{protocol:?}");
                let mut batch: Vec<_> = (0..999)
                    .map(|n| bare(&format!("__name__={name},cluster=production,n={n}")))
                    .map(|series| series.sample(1.0, now()))
                    .collect();
                batch.insert(500, bad.clone());
                let response = gate.write(protocol, &batch).await;
                let case = format!("{binary:?}: {reason}, {protocol:?}");
                response.expect_refusal(&case, 400, &["production", reason]);
                assert_eq!(response.written(), Some((999, 0, 0)), "{case}");
                let count = hub.value(&format!("count({name})")).await;
                assert_eq!(count, 999.0, "{case}");
            }
        }
        let there = hub.query("last_over_time(bad[2y] offset -1y)").await;
        assert_eq!(there, [], "{binary:?}");
        gate.expect_balanced_counts("production").await;
    }
}

/// Histograms that a hub stores right are none of those that are refused.
#[tokio::test]
async fn sound_histograms_are_stored_by_the_hub() {
    let _turn = ONE_AT_A_TIME.lock().await;
    for binary in Binary::all() {
        let hub = Prometheus::start_hub(&binary).await;
        let gate = Gate::start_for(&hub.url(), "").await;
        gate.wait_for_protocol(None, binary.receives()).await;
        for protocol in Protocol::BOTH {
            let name = format!("sound_{protocol:?}");
            let mut batch = vec![bare(&format!("__name__={name},cluster=production,n=1"))];
            batch[0] = batch[0].clone().histogram(now());
            if binary.receives() == Protocol::V2 {
                let custom = bare(&format!("__name__={name},cluster=production,n=2"));
                batch.push(custom.custom_buckets(now()));
            }
            gate.write(protocol, &batch).await.expect(204);
            let query = format!("histogram_count({name}) == 3");
            assert_eq!(hub.query(&query).await.len(), batch.len(), "{binary:?}");
        }
        gate.expect_balanced_counts("production").await;
    }
}

/// A hub before 2.54 takes a sample of any time, and then finds all others too old.
#[tokio::test]
async fn a_spoke_that_is_a_year_ahead_costs_another_spoke_no_sample() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let binaries = Binary::all();
    // Later releases take no sample that is a year ahead, so they send none.
    let ahead = binaries.iter().find(|binary| binary.major < 3);
    let ahead = ahead.expect("a Prometheus 2 on PATH; run tests/run.sh");
    for hub_binary in &binaries {
        for sender_binary in &binaries {
            for protocol in sender_binary.protocols() {
                eprintln!("{sender_binary:?} {protocol:?} to {hub_binary:?}");
                let hub = Prometheus::start_hub(hub_binary).await;
                beside_a_spoke_that_is_ahead(&hub, ahead, sender_binary, *protocol).await;
            }
        }
    }
}

async fn beside_a_spoke_that_is_ahead(
    hub: &Prometheus,
    ahead_binary: &Binary,
    sender_binary: &Binary,
    protocol: Protocol,
) {
    let spokes = [spoke("production", ""), spoke("staging", "")];
    let gate = Gate::start(&config(&hub.url(), &spokes)).await;
    let target = ScrapeTarget::start(|before| {
        let mut page = "# TYPE steady gauge\n".to_owned();
        for n in 0..20 {
            page += &format!("steady{{n=\"{n}\"}} {before}\n");
        }
        page
    })
    .await;
    let honest = Spoke {
        target: Some(target.address),
        ..Spoke::new(&gate, "production", protocol)
    };
    let honest = Prometheus::start_spoke(sender_binary, &honest).await;
    let staging = Spoke::new(&gate, "staging", Protocol::V1);
    let staging = Prometheus::start_spoke(ahead_binary, &staging).await;
    let count = "count(steady{cluster=\"production\"})";
    eventually_equal("series at the hub", ARRIVAL_DEADLINE, 20.0, async || {
        hub.value(count).await
    })
    .await;
    let from = now() / 1000;
    let bad: [Series; 1] = [bare("__name__=bad").sample(1.0, now() + YEAR)];
    let response = Request::series(Protocol::V1, &bad)
        .send(staging.address())
        .await;
    response.expect("a response").expect(204);
    let refused = [("spoke", "staging"), ("reason", "too_far_in_future")];
    eventually(
        "the sample ahead is refused",
        ARRIVAL_DEADLINE,
        async || {
            let rejected = gate.metrics().await.samples("rejected", &refused);
            if rejected >= 1.0 {
                Ok(())
            } else {
                Err(rejected)
            }
        },
    )
    .await;
    // Samples of before and after it must be there.
    let to = u64::try_from(now() / 1000).unwrap() + 5;
    let seconds = to - u64::try_from(from).unwrap() + 3;
    eventually(
        "the same samples at the hub",
        ARRIVAL_DEADLINE,
        async || {
            if now() / 1000 < to as i64 + 2 {
                return Err("not yet".to_owned());
            }
            let own = honest.samples("steady", seconds, to).await;
            let selector = "steady{cluster=\"production\"}";
            let there = hub.samples(selector, seconds, to).await;
            if own.len() == 20 && own == there {
                Ok(())
            } else {
                Err(format!("{own:?} at the spoke, {there:?} at the hub"))
            }
        },
    )
    .await;
    let metrics = honest.metrics().await;
    let failed = metrics.sum("prometheus_remote_storage_samples_failed_total", &[]);
    assert_eq!(failed, 0.0);
    let metrics = gate.metrics().await;
    for name in ["rejected", "failed"] {
        let name = format!("hubgate_samples_{name}_total");
        let labels = [("spoke", "production"), ("kind", "float")];
        assert_eq!(metrics.sum(&name, &labels), 0.0, "{name}");
    }
    let there = hub.query("last_over_time(bad[2y] offset -1y)").await;
    assert_eq!(there, []);
    gate.expect_balanced_counts("production").await;
    gate.expect_balanced_counts("staging").await;
}
