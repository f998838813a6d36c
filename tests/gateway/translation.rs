//! Translation between V1 and V2: what the hub gets, and what becomes of the parts that its protocol
//! cannot hold.

use hubgate::wire::proto::v2;
use prost::Message as _;

use crate::support::body::{
    Protocol, Series, bare, decode, encode_v2, fixture, metadata_v1, series, sorted_units,
    success_headers, unsnappy,
};
use crate::support::config::{config_with_hub_keys, spoke};
use crate::support::gate::{Gate, start_hub_and_gate};
use crate::support::hub::{Received, ScriptedHub};
use crate::support::reply::Reply;
use crate::support::sender::Request;

/// How many times a part was left out of a message for a hub.
async fn left_out(gate: &Gate, part: &str) -> f64 {
    gate.sum("hubgate_hub_lost_total", &[("part", part)]).await
}

/// Fails unless a request is what the specification demands of a V2 sender.
#[track_caller]
fn expect_canonical_v2(received: &Received) {
    assert_eq!(received.protocol, Protocol::V2);
    assert_eq!(
        received.header("content-type"),
        Some(Protocol::V2.content_type())
    );
    assert_eq!(received.header("content-encoding"), Some("snappy"));
    assert_eq!(
        received.header("x-prometheus-remote-write-version"),
        Some("2.0.0")
    );
    let message = v2::Request::decode(&received.message[..]).unwrap();
    let symbols = message.symbols;
    assert_eq!(symbols[0], "");
    let mut unique: Vec<_> = symbols.iter().collect();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), symbols.len(), "{symbols:?}");
    for series in message.timeseries {
        let mut names = Vec::new();
        for pair in series.labels_refs.chunks(2) {
            assert!((pair[1] as usize) < symbols.len(), "{pair:?}");
            names.push(&symbols[pair[0] as usize]);
        }
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
        assert_ne!(
            series.samples.is_empty(),
            series.histograms.is_empty(),
            "samples or histograms, and not both: {series:?}"
        );
    }
}

#[tokio::test]
async fn v1_is_translated_for_a_v2_hub() {
    let (hub, gate) = start_hub_and_gate("").await;
    gate.wait_for_protocol(None, Protocol::V2).await;
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    let batch = [
        bare("job=x,__name__=a")
            .sample(1.5, 7)
            .sample(stale, 8)
            .exemplar("trace_id=a", 7),
        bare("__name__=b,empty=").sample(2.0, 9).histogram(10),
        bare("__name__=b,cluster=production,job=x").histogram(11),
    ];
    let response = gate.write(Protocol::V1, &batch).await.expect(204);
    assert_eq!((response.written(), response.text.as_str()), (None, ""));
    expect_canonical_v2(&hub.take_one());
    let expected = [
        bare("__name__=a,cluster=production,job=x")
            .sample(1.5, 7)
            .sample(stale, 8)
            .exemplar("trace_id=a", 7),
        bare("__name__=b,cluster=production")
            .sample(2.0, 9)
            .histogram(10),
        bare("__name__=b,cluster=production,job=x").histogram(11),
    ];
    assert_eq!(sorted_units(&hub.take_stored()), sorted_units(&expected));
    for (kind, count) in [("float", 3.0), ("histogram", 2.0), ("exemplar", 1.0)] {
        assert_eq!(gate.samples("written", kind).await, count, "{kind}");
        let labels = [("hub", &*hub.default_name()), ("kind", kind)];
        gate.wait_for_metric("hubgate_hub_samples_written_total", &labels, count)
            .await;
    }
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn v2_is_translated_for_a_v1_hub() {
    let hub = ScriptedHub::start_v1_only().await;
    let gate = Gate::start_for(&hub.url(), "").await;
    gate.wait_for_protocol(None, Protocol::V1).await;
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    let batch = [
        bare("__name__=a")
            .sample(1.5, 7)
            .sample(stale, 8)
            .exemplar("trace_id=a", 7),
        bare("__name__=h,cluster=production").histogram(11),
    ];
    let response = gate.write(Protocol::V2, &batch).await.expect(204);
    assert_eq!(response.written(), Some((2, 1, 1)));
    let received = hub.take_one();
    assert_eq!(received.protocol, Protocol::V1);
    assert_eq!(
        received.header("content-type"),
        Some(Protocol::V1.content_type())
    );
    assert_eq!(
        received.header("x-prometheus-remote-write-version"),
        Some("0.1.0")
    );
    let expected = [
        bare("__name__=a,cluster=production")
            .sample(1.5, 7)
            .sample(stale, 8)
            .exemplar("trace_id=a", 7),
        bare("__name__=h,cluster=production").histogram(11),
    ];
    assert_eq!(sorted_units(&hub.take_stored()), sorted_units(&expected));
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn captured_bodies_are_translated_without_loss() {
    for (file, name, from, to) in [
        (
            "prometheus-2.42-v1-mixed",
            "staging",
            Protocol::V1,
            Protocol::V2,
        ),
        (
            "prometheus-3.12-v1-mixed",
            "production",
            Protocol::V1,
            Protocol::V2,
        ),
        (
            "prometheus-3.12-v1-2000",
            "production",
            Protocol::V1,
            Protocol::V2,
        ),
        (
            "prometheus-3.12-v2-mixed",
            "production",
            Protocol::V2,
            Protocol::V1,
        ),
        (
            "prometheus-3.12-v2-floats",
            "production",
            Protocol::V2,
            Protocol::V1,
        ),
        (
            "prometheus-3.12-v2-2000",
            "production",
            Protocol::V2,
            Protocol::V1,
        ),
    ] {
        let hub = ScriptedHub::start().await;
        let spokes = ["production", "staging"].map(|name| spoke(name, ""));
        let config = config_with_hub_keys(&hub.url(), &to.hub_key(), &spokes);
        let gate = Gate::start(&config).await;
        let body = fixture(file);
        let sent = decode(from, &unsnappy(&body).unwrap()).unwrap();
        let request = Request::write(from, body).spoke(name);
        let response = gate.send(request).await;
        assert_eq!(response.status, 204, "{file}: {response:?}");
        let received = hub.take_one();
        if to == Protocol::V2 {
            expect_canonical_v2(&received);
        }
        assert_eq!(
            sorted_units(&hub.take_stored()),
            sorted_units(&sent),
            "{file}"
        );
        gate.expect_balanced_counts(name).await;
    }
}

/// A V2 body of four series: a sample with a start timestamp and metadata, a histogram with custom
/// buckets, a histogram with a start timestamp, and a sample that V1 can hold.
fn more_than_v1_can_hold() -> Vec<u8> {
    let series = |value_ref| v2::TimeSeries {
        labels_refs: vec![1, value_ref],
        ..v2::TimeSeries::default()
    };
    let histogram = v2::Histogram {
        count: Some(v2::histogram::Count::CountInt(3)),
        zero_count: Some(v2::histogram::ZeroCount::ZeroCountInt(0)),
        sum: 4.5,
        positive_spans: vec![v2::BucketSpan {
            offset: 0,
            length: 1,
        }],
        positive_deltas: vec![3],
        timestamp: 12,
        ..v2::Histogram::default()
    };
    let timeseries = vec![
        v2::TimeSeries {
            samples: vec![v2::Sample {
                value: 1.0,
                timestamp: 10,
                start_timestamp: 5,
            }],
            metadata: Some(v2::Metadata {
                r#type: v2::metadata::MetricType::Counter.into(),
                help_ref: 6,
                unit_ref: 0,
            }),
            ..series(2)
        },
        v2::TimeSeries {
            histograms: vec![v2::Histogram {
                schema: -53,
                custom_values: vec![1.0, 2.0],
                ..histogram.clone()
            }],
            ..series(3)
        },
        v2::TimeSeries {
            histograms: vec![v2::Histogram {
                schema: 0,
                start_timestamp: 5,
                ..histogram
            }],
            ..series(4)
        },
        v2::TimeSeries {
            samples: vec![v2::Sample {
                value: 2.0,
                timestamp: 11,
                start_timestamp: 0,
            }],
            ..series(5)
        },
    ];
    let symbols = ["", "__name__", "total", "custom", "native", "gauge", "help"];
    encode_v2(&symbols, timeseries)
}

#[tokio::test]
async fn what_v1_cannot_hold_is_refused_counted_and_logged_once() {
    let hub = ScriptedHub::start_v1_only().await;
    let gate = Gate::start_for(&hub.url(), "").await;
    gate.wait_for_protocol(None, Protocol::V1).await;
    for requests in [1.0, 2.0] {
        let request = Request::write(Protocol::V2, more_than_v1_can_hold()).spoke("production");
        let response = gate.send(request).await;
        response.expect_refusal(
            "custom buckets",
            400,
            &["production", "hub_protocol", "1 of 2"],
        );
        // A sample is written even when its start timestamp is left out.
        assert_eq!(response.written(), Some((2, 1, 0)));
        let stored = hub.take_stored();
        let stored: Vec<_> = stored.iter().map(Series::notation).collect();
        let labels = |name| format!("__name__={name},cluster=production");
        assert_eq!(stored, ["total", "native", "gauge"].map(labels));
        assert_eq!(gate.rejected("histogram", "hub_protocol").await, requests);
        assert_eq!(gate.rejected("metadata", "hub_protocol").await, requests);
        assert_eq!(gate.rejected("histogram", "hub").await, 0.0);
        assert_eq!(left_out(&gate, "custom_buckets").await, requests);
        assert_eq!(left_out(&gate, "metadata").await, requests);
        assert_eq!(left_out(&gate, "start_timestamp").await, 2.0 * requests);
    }
    let log = gate.log();
    for part in ["custom_buckets", "metadata", "start_timestamp"] {
        let part = format!("\"part\":\"{part}\"");
        let lines: Vec<_> = log.iter().filter(|line| line.contains(&part)).collect();
        assert_eq!(lines.len(), 1, "{part}: {lines:?}");
    }
    gate.expect_balanced_counts("production").await;
}

/// A 400 would make the spoke count samples as lost, but it loses none.
#[tokio::test]
async fn metadata_that_v1_cannot_hold_is_dropped_with_a_204() {
    let hub = ScriptedHub::start_v1_only().await;
    let gate = Gate::start_for(&hub.url(), "").await;
    gate.wait_for_protocol(None, Protocol::V1).await;
    let batch = [series("__name__=up").help("whether it is up")];
    let response = gate.write(Protocol::V2, &batch).await.expect(204);
    assert_eq!(response.written(), Some((1, 0, 0)));
    assert_eq!(left_out(&gate, "metadata").await, 1.0);
    gate.expect_balanced_counts("production").await;
}

/// Metadata and exemplars without samples have no V2 form.
#[tokio::test]
async fn what_only_v1_can_hold_is_refused_by_a_hub_without_v1() {
    let (hub, gate) = start_hub_and_gate("metadata: forward_v1").await;
    gate.wait_for_protocol(None, Protocol::V2).await;
    hub.reply_once(Reply::status(415).text("V2 only"));
    let request = Request::write(Protocol::V1, metadata_v1("up")).spoke("production");
    gate.send(request).await.expect(204);
    assert_eq!(gate.rejected("metadata", "hub_protocol").await, 1.0);
    for (count, protocol) in [(1.0, Protocol::V1), (2.0, Protocol::V2)] {
        let orphan = bare("__name__=o,cluster=production").exemplar("trace_id=y", 5);
        hub.reply_once(Reply::as_usual());
        hub.reply_once(Reply::status(415).text("V2 only"));
        let batch = [separate_exemplars().to_vec(), vec![orphan]].concat();
        let response = gate.write(protocol, &batch).await;
        response.expect_refusal("orphan", 400, &["hub_protocol: 1 of 2 exemplars"]);
        assert_eq!(response.written(), Some((2, 0, 1)), "{response:?}");
        assert_eq!(gate.rejected("exemplar", "hub_protocol").await, count);
    }
    gate.wait_for_protocol(None, Protocol::V2).await;
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn v1_metadata_for_a_v2_hub_is_dropped_by_default() {
    let (hub, gate) = start_hub_and_gate("").await;
    gate.wait_for_protocol(None, Protocol::V2).await;
    let request = Request::write(Protocol::V1, metadata_v1("up")).spoke("production");
    let response = gate.send(request).await.expect(204);
    assert_eq!((response.written(), response.text.as_str()), (None, ""));
    hub.expect_no_request();
    assert_eq!(left_out(&gate, "metadata").await, 1.0);
    assert_eq!(gate.rejected("metadata", "hub_protocol").await, 1.0);
    assert_eq!(gate.samples("written", "metadata").await, 0.0);
    gate.expect_balanced_counts("production").await;
}

/// It was on its way as V1, before the hub was known.
#[tokio::test]
async fn v1_metadata_that_a_hub_wants_as_v2_after_all_is_dropped_by_default() {
    for (metadata, kept) in [("drop", 0.0), ("forward_v1", 1.0)] {
        let hub = ScriptedHub::start().await;
        hub.reply_to_probes(Reply::status(503));
        let keys = format!("protocol: auto, metadata: {metadata}");
        let gate = Gate::start_for(&hub.url(), &keys).await;
        hub.reply_once(Reply::status(415).text("V2 only"));
        let request = Request::write(Protocol::V1, metadata_v1("up")).spoke("production");
        gate.send(request).await.expect(204);
        let received = hub.take_received();
        let forwarded = received.len() - 1;
        assert_eq!(forwarded as f64, kept, "{metadata}: {received:?}");
        assert_eq!(left_out(&gate, "metadata").await, 1.0 - kept, "{metadata}");
        let rejected = gate.rejected("metadata", "hub_protocol").await;
        assert_eq!(rejected, 1.0 - kept, "{metadata}");
        let written = gate.samples("written", "metadata").await;
        assert_eq!(written, kept, "{metadata}");
        gate.expect_balanced_counts("production").await;
    }
}

#[tokio::test]
async fn v1_metadata_for_a_v2_hub_is_forwarded_under_forward_v1() {
    let (hub, gate) = start_hub_and_gate("metadata: forward_v1").await;
    gate.wait_for_protocol(None, Protocol::V2).await;
    let body = metadata_v1("up");
    let request = Request::write(Protocol::V1, body.clone()).spoke("production");
    gate.send(request).await.expect(204);
    let received = hub.take_one();
    assert_eq!(received.protocol, Protocol::V1);
    assert_eq!(received.message, unsnappy(&body).unwrap());
    assert_eq!(gate.samples("written", "metadata").await, 1.0);
    assert_eq!(left_out(&gate, "metadata").await, 0.0);
    gate.expect_balanced_counts("production").await;
}

/// Series with exemplars as Prometheus sends them: in a series of their own after the samples.
fn separate_exemplars() -> [Series; 3] {
    [
        bare("__name__=a,cluster=production").sample(1.0, 7),
        bare("__name__=b,cluster=production").sample(2.0, 7),
        bare("__name__=a,cluster=production").exemplar("trace_id=x", 6),
    ]
}

#[tokio::test]
async fn separate_exemplars_join_the_samples_of_their_series_for_a_v2_hub() {
    let (hub, gate) = start_hub_and_gate("").await;
    gate.wait_for_protocol(None, Protocol::V2).await;
    for protocol in Protocol::BOTH {
        let response = gate
            .write(protocol, &separate_exemplars())
            .await
            .expect(204);
        let expected = success_headers(protocol, (2, 0, 1));
        assert_eq!(response.written(), expected);
        let received = hub.take_one();
        expect_canonical_v2(&received);
        let [a, b] = received.series.as_slice() else {
            panic!("{received:#?}");
        };
        assert_eq!((a.samples.len(), a.exemplars.len()), (1, 1), "{a:?}");
        assert_eq!((b.samples.len(), b.exemplars.len()), (1, 0), "{b:?}");
        assert_eq!(
            sorted_units(&hub.take_stored()),
            sorted_units(&separate_exemplars())
        );
    }
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn exemplars_without_samples_reach_a_v2_hub_in_a_second_v1_request() {
    let (hub, gate) = start_hub_and_gate("").await;
    gate.wait_for_protocol(None, Protocol::V2).await;
    let orphan = bare("__name__=o,cluster=production").exemplar("trace_id=y", 5);
    let batch = [separate_exemplars().to_vec(), vec![orphan.clone()]].concat();
    for protocol in Protocol::BOTH {
        let response = gate.write(protocol, &batch).await.expect(204);
        let expected = success_headers(protocol, (2, 0, 2));
        assert_eq!(response.written(), expected);
        let received = hub.take_received();
        let [first, second] = received.as_slice() else {
            panic!("{received:#?}");
        };
        expect_canonical_v2(first);
        assert_eq!(first.series.len(), 2, "{first:#?}");
        assert_eq!(second.protocol, Protocol::V1);
        assert_eq!(second.series, std::slice::from_ref(&orphan));
        assert_eq!(sorted_units(&hub.take_stored()), sorted_units(&batch));
    }
    // A batch of nothing else is one V1 request.
    for protocol in Protocol::BOTH {
        gate.write(protocol, std::slice::from_ref(&orphan))
            .await
            .expect(204);
        assert_eq!(hub.take_one().protocol, Protocol::V1);
    }
    gate.expect_balanced_counts("production").await;
}
