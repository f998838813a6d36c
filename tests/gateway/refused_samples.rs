//! Refused samples: each is refused alone, and the rest of its series and of its request is written.

mod real_hubs;

use hubgate::wire::proto::v2;

use crate::support::body::{
    Protocol, Series, bare, message, metadata_v1, now, series, snappy, sorted_units,
    success_headers, unsnappy,
};
use crate::support::config::{config, config_hubs, hub_named, spoke};
use crate::support::gate::{Gate, start_hub_and_gate};
use crate::support::hub::ScriptedHub;
use crate::support::sender::Request;

/// A year, in milliseconds.
const YEAR: i64 = 365 * 24 * 3_600_000;

/// A series of the spoke `production`.
fn own(name: &str) -> Series {
    bare(&format!("__name__={name},cluster=production"))
}

/// A series with one histogram, changed by `change`.
fn histogram(name: &str, change: impl Fn(&mut v2::Histogram)) -> Series {
    let mut series = own(name).histogram(now());
    change(&mut series.histograms[0]);
    series
}

/// Reasons, each with the kind of what is refused for it and a series with nothing else.
fn bad_samples() -> Vec<(&'static str, &'static str, Series)> {
    vec![
        (
            "too_far_in_future",
            "float",
            own("bad").sample(1.0, now() + YEAR),
        ),
        (
            "too_far_in_future",
            "float",
            own("bad").sample(1.0, now() + 660_000),
        ),
        (
            "too_far_in_future",
            "histogram",
            own("bad").histogram(now() + YEAR),
        ),
        (
            "invalid_histogram",
            "histogram",
            histogram("bad", |it| it.schema = 9),
        ),
        (
            "invalid_histogram",
            "histogram",
            histogram("bad", |it| it.positive_spans[0].length = 2),
        ),
        (
            "invalid_histogram",
            "histogram",
            histogram("bad", |it| it.positive_deltas[0] = -2),
        ),
        (
            "invalid_histogram",
            "histogram",
            histogram("bad", |it| it.zero_threshold = f64::NAN),
        ),
    ]
}

#[tokio::test]
async fn one_bad_sample_of_a_thousand_is_refused_alone() {
    for protocol in Protocol::BOTH {
        for (reason, kind, bad) in bad_samples() {
            let (hub, gate) = start_hub_and_gate(&protocol.hub_key()).await;
            let mut good: Vec<_> = (0..999)
                .map(|n| series(&format!("__name__=good,cluster=production,n={n}")))
                .collect();
            // One of the series has a bad sample beside its good one.
            let mut batch = good.clone();
            batch[500].samples.extend(bad.samples.clone());
            batch[500].histograms.extend(bad.histograms.clone());
            let response = gate.write(protocol, &batch).await;
            let case = format!("{reason}, {kind}, {protocol:?}");
            response.expect_refusal(&case, 400, &["production", reason, "1 of 1000 samples"]);
            assert_eq!(response.written(), Some((999, 0, 0)), "{case}");
            let received = hub.take_one();
            good.sort_by_key(Series::notation);
            assert_eq!(
                sorted_units(&received.series),
                sorted_units(&good),
                "{case}"
            );
            assert_eq!(gate.rejected(kind, reason).await, 1.0, "{case}");
            assert_eq!(gate.samples("written", "float").await, 999.0, "{case}");
            gate.expect_balanced_counts("production").await;
        }
    }
}

#[tokio::test]
async fn a_request_of_bad_samples_alone_reaches_no_hub() {
    let (hub, gate) = start_hub_and_gate("").await;
    let batch: Vec<_> = bad_samples().into_iter().map(|(.., bad)| bad).collect();
    for protocol in Protocol::BOTH {
        let response = gate.write(protocol, &batch).await;
        let reasons = bad_samples().into_iter().map(|(reason, ..)| reason);
        let counts = ["production", "3 of 7 samples", "4 of 7 samples"];
        let texts: Vec<_> = reasons.chain(counts).collect();
        response.expect_refusal("all", 400, &texts);
        assert_eq!(response.written(), Some((0, 0, 0)));
        hub.expect_no_request();
    }
    let spokes = gate.spokes().await.to_string();
    assert!(spokes.contains("the schema is neither from -4 to 8 nor -53"));
}

/// The exemplar is refused, since later ones of its series could not be stored after it.
#[tokio::test]
async fn an_exemplar_too_far_ahead_is_refused_alone() {
    for protocol in Protocol::BOTH {
        let (hub, gate) = start_hub_and_gate(&protocol.hub_key()).await;
        let series = own("a").sample(1.0, now());
        let good = series.exemplar("trace_id=a", now());
        let bad = good.clone().exemplar("trace_id=b", now() + YEAR);
        let response = gate.write(protocol, &[bad]).await;
        let texts = ["too_far_in_future", "1 of 3 samples and exemplars"];
        response.expect_refusal("exemplar", 400, &texts);
        assert_eq!(response.written(), Some((1, 0, 1)), "{protocol:?}");
        assert_eq!(hub.take_one().series, [good], "{protocol:?}");
        assert_eq!(gate.rejected("exemplar", "too_far_in_future").await, 1.0);
        gate.expect_balanced_counts("production").await;
    }
}

#[tokio::test]
async fn a_reload_changes_how_far_ahead_samples_may_be() {
    let hub = ScriptedHub::start().await;
    let with_limit = |limit: &str| {
        let keys = format!("limits: {{samples_ahead_max: {limit}}}");
        config(&hub.url(), &[spoke("production", &keys)])
    };
    let gate = Gate::start(&config(&hub.url(), &[spoke("production", "")])).await;
    let ahead = |time: i64| [own("ahead").sample(1.0, now() + time)];
    let minute = 60_000;
    for (limit, time, status) in [
        (None, 9 * minute, 204),
        (None, 11 * minute, 400),
        (Some("1m"), 2 * minute, 400),
        (Some("1h"), 50 * minute, 204),
        (Some("1h"), 70 * minute, 400),
        (Some("0s"), YEAR, 204),
    ] {
        if let Some(limit) = limit {
            gate.reload_with(&with_limit(limit)).await;
        }
        for protocol in Protocol::BOTH {
            let response = gate.write(protocol, &ahead(time)).await;
            assert_eq!(response.status, status, "{limit:?}, {time}: {response:?}");
        }
    }
}

#[tokio::test]
async fn hubs_of_both_versions_get_the_same_samples() {
    let hubs = [ScriptedHub::start().await, ScriptedHub::start().await];
    let keys = Protocol::BOTH.map(Protocol::hub_key);
    let config = config_hubs(
        "all",
        &[
            hub_named("a", &hubs[0].url(), &keys[0]),
            hub_named("b", &hubs[1].url(), &keys[1]),
        ],
        &[spoke("production", "")],
    );
    let gate = Gate::start(&config).await;
    for protocol in Protocol::BOTH {
        let good = own("a").sample(1.0, now()).histogram(now());
        let mut bad = good.clone().sample(2.0, now() + YEAR);
        bad.histograms
            .extend(histogram("a", |it| it.schema = 9).histograms);
        let response = gate.write(protocol, &[bad]).await;
        let texts = ["too_far_in_future: 1 of 4", "invalid_histogram: 1 of 4"];
        response.expect_refusal("both", 400, &texts);
        assert_eq!(response.written(), Some((1, 1, 0)), "{protocol:?}");
        for hub in &hubs {
            let received = sorted_units(&hub.take_one().series);
            assert_eq!(
                received,
                sorted_units(std::slice::from_ref(&good)),
                "{protocol:?}"
            );
        }
    }
    gate.expect_balanced_counts("production").await;
}

/// V1 has no place for them: a Prometheus before 3.4 drops their bounds and stores the counts.
#[tokio::test]
async fn histograms_of_custom_buckets_are_no_samples_for_a_v1_hub() {
    for from in Protocol::BOTH {
        let batch = [
            own("a").custom_buckets(now()),
            series("__name__=b,cluster=production"),
        ];
        let (hub, gate) = start_hub_and_gate("protocol: v1").await;
        let response = gate.write(from, &batch).await;
        let texts = ["production", "hub_protocol", "1 of 1 histograms"];
        response.expect_refusal("custom buckets", 400, &texts);
        assert_eq!(response.written(), Some((1, 0, 0)), "{from:?}");
        assert_eq!(hub.take_one().series, batch[1..], "{from:?}");
        assert_eq!(gate.rejected("histogram", "hub_protocol").await, 1.0);
        gate.expect_balanced_counts("production").await;

        let (hub, gate) = start_hub_and_gate("protocol: v2").await;
        let response = gate.write(from, &batch).await.expect(204);
        assert_eq!(response.written(), success_headers(from, (1, 1, 0)));
        assert_eq!(hub.take_one().series, batch, "{from:?}");
    }
}

/// The message, compressed, with a byte in the text `help` that no UTF-8 has.
fn with_bad_help(mut message: Vec<u8>) -> Vec<u8> {
    let place = message.windows(4).position(|text| text == b"help");
    message[place.expect("it has the help")] = 0xff;
    snappy(&message)
}

/// A Prometheus hub stores such a help. A 400 would make the spoke count samples as lost.
#[tokio::test]
async fn metadata_that_is_not_utf8_costs_no_sample() {
    for protocol in Protocol::BOTH {
        let (hub, gate) = start_hub_and_gate(&protocol.hub_key()).await;
        let described = own("described").sample(1.0, now()).help("help");
        let batch = [described, own("other").sample(2.0, now())];
        let body = with_bad_help(message(Protocol::V2, &batch));
        let request = Request::write(Protocol::V2, body).spoke("production");
        let response = gate.send(request).await.expect(204);
        assert_eq!(response.written(), Some((2, 0, 0)), "{protocol:?}");
        let received = hub.take_one();
        assert!(received.series.iter().all(|it| it.metadata.is_none()));
        assert_eq!(sorted_units(&received.series), sorted_units(&batch));
        assert_eq!(gate.rejected("metadata", "invalid_utf8").await, 1.0);

        let body = with_bad_help(unsnappy(&metadata_v1("up")).unwrap());
        let request = Request::write(Protocol::V1, body).spoke("production");
        gate.send(request).await.expect(204);
        hub.expect_no_request();
        assert_eq!(gate.rejected("metadata", "invalid_utf8").await, 2.0);
        assert_eq!(gate.samples("written", "metadata").await, 0.0);
        gate.expect_balanced_counts("production").await;
    }
}
