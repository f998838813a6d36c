//! Hubs that speak another version than the spoke: what they get, what is lost on the way and said
//! so, and how the gate finds out.

use hubgate::wire::proto::v2;
use prost::Message as _;

use crate::support::body::{
    Protocol, Series, bare, decode, encode_v2, fixture, metadata_v1, series, sorted_units,
    success_headers, unsnappy,
};
use crate::support::config::{config_with_hub_keys, spoke};
use crate::support::gate::{Gate, start_hub_and_gate};
use crate::support::hub::{Received, ScriptedHub, V2, protocols};
use crate::support::reply::Reply;
use crate::support::sender::Request;
use crate::support::{DEADLINE, eventually_equal};

/// A gate that has found out what the hub speaks.
async fn start(hub: &ScriptedHub, speaks: Protocol) -> Gate {
    let gate = Gate::start_for(&hub.url(), "").await;
    gate.wait_for_protocol(None, speaks).await;
    gate
}

fn one() -> [Series; 1] {
    [series("__name__=up,cluster=production")]
}

async fn lost(gate: &Gate, part: &str) -> f64 {
    gate.sum("hubgate_hub_lost_total", &[("part", part)]).await
}

/// Fails unless a message and its headers are what the specification asks of a V2 sender.
#[track_caller]
fn expect_canonical(received: &Received) {
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
        let sorts = [&series.samples.len(), &series.histograms.len()];
        let sorts = sorts.iter().filter(|count| ***count > 0).count();
        assert_eq!(sorts, 1, "samples or histograms, and not both: {series:?}");
    }
}

#[tokio::test]
async fn v1_is_translated_for_a_v2_hub() {
    let hub = ScriptedHub::start().await;
    let gate = start(&hub, Protocol::V2).await;
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
    expect_canonical(&hub.take_one());
    let wanted = [
        bare("__name__=a,cluster=production,job=x")
            .sample(1.5, 7)
            .sample(stale, 8)
            .exemplar("trace_id=a", 7),
        bare("__name__=b,cluster=production")
            .sample(2.0, 9)
            .histogram(10),
        bare("__name__=b,cluster=production,job=x").histogram(11),
    ];
    assert_eq!(sorted_units(&hub.take_stored()), sorted_units(&wanted));
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
    let gate = start(&hub, Protocol::V1).await;
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
    let wanted = [
        bare("__name__=a,cluster=production")
            .sample(1.5, 7)
            .sample(stale, 8)
            .exemplar("trace_id=a", 7),
        bare("__name__=h,cluster=production").histogram(11),
    ];
    assert_eq!(sorted_units(&hub.take_stored()), sorted_units(&wanted));
    gate.expect_balanced_counts("production").await;
}

/// What real senders made travels whole to a hub of the other version.
#[tokio::test]
async fn captured_bodies_are_translated_without_loss() {
    for (file, name, from, to) in [
        ("prometheus-2.42-v1-mixed", "staging", Protocol::V1, "v2"),
        ("prometheus-3.12-v1-mixed", "production", Protocol::V1, "v2"),
        ("prometheus-3.12-v1-2000", "production", Protocol::V1, "v2"),
        ("prometheus-3.12-v2-mixed", "production", Protocol::V2, "v1"),
        (
            "prometheus-3.12-v2-floats",
            "production",
            Protocol::V2,
            "v1",
        ),
        ("prometheus-3.12-v2-2000", "production", Protocol::V2, "v1"),
    ] {
        let hub = ScriptedHub::start().await;
        let spokes = ["production", "staging"].map(|name| spoke(name, ""));
        let further = format!("protocol: {to}");
        let gate = Gate::start(&config_with_hub_keys(&hub.url(), &further, &spokes)).await;
        let body = fixture(file);
        let sent = decode(from, &unsnappy(&body).unwrap()).unwrap();
        let request = Request::write(from, body).spoke(name);
        let response = gate.send(request).await;
        assert_eq!(response.status, 204, "{file}: {response:?}");
        let received = hub.take_one();
        if to == "v2" {
            expect_canonical(&received);
        }
        assert_eq!(
            sorted_units(&hub.take_stored()),
            sorted_units(&sent),
            "{file}"
        );
        gate.expect_balanced_counts(name).await;
    }
}

/// A V2 body of one series of each sort that V1 has no place for, and one that it has.
fn beyond_v1() -> Vec<u8> {
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
    let gate = start(&hub, Protocol::V1).await;
    for requests in [1.0, 2.0] {
        let request = Request::write(Protocol::V2, beyond_v1()).spoke("production");
        let response = gate.send(request).await;
        response.expect_refusal("beyond V1", 400, &["production", "hub_protocol", "1 of 2"]);
        // Without its start timestamp a sample is written all the same.
        assert_eq!(response.written(), Some((2, 1, 0)));
        let stored = hub.take_stored();
        let stored: Vec<_> = stored.iter().map(Series::notation).collect();
        let labels = |name| format!("__name__={name},cluster=production");
        assert_eq!(stored, ["total", "native", "gauge"].map(labels));
        let refused = gate.rejected("histogram", "hub_protocol").await;
        assert_eq!(refused, requests);
        assert_eq!(gate.rejected("metadata", "hub_protocol").await, requests);
        assert_eq!(gate.rejected("histogram", "hub").await, 0.0);
        assert_eq!(lost(&gate, "custom_buckets").await, requests);
        assert_eq!(lost(&gate, "metadata").await, requests);
        assert_eq!(lost(&gate, "start_timestamp").await, 2.0 * requests);
    }
    let log = gate.log();
    for part in ["custom_buckets", "metadata", "start_timestamp"] {
        let part = format!("\"part\":\"{part}\"");
        let lines: Vec<_> = log.iter().filter(|line| line.contains(&part)).collect();
        assert_eq!(lines.len(), 1, "{part}: {lines:?}");
    }
    gate.expect_balanced_counts("production").await;
}

/// Metadata is no sample: a spoke that loses nothing else is not told of an error.
#[tokio::test]
async fn metadata_that_v1_cannot_hold_is_dropped_with_a_204() {
    let hub = ScriptedHub::start_v1_only().await;
    let gate = start(&hub, Protocol::V1).await;
    let batch = [series("__name__=up").help("whether it is up")];
    let response = gate.write(Protocol::V2, &batch).await.expect(204);
    assert_eq!(response.written(), Some((1, 0, 0)));
    assert_eq!(lost(&gate, "metadata").await, 1.0);
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn a_configured_protocol_is_used_without_a_probe() {
    for (hub_speaks, key, wanted) in [
        (V2::Speaks, "protocol: v1", Protocol::V1),
        (V2::Speaks, "protocol: v2", Protocol::V2),
        (V2::Ignores, "protocol: v1", Protocol::V1),
    ] {
        let hub = ScriptedHub::start().await;
        hub.set_v2(hub_speaks);
        let gate = Gate::start_for(&hub.url(), key).await;
        gate.wait_for_protocol(None, wanted).await;
        for protocol in Protocol::BOTH {
            gate.write(protocol, &one()).await.expect(204);
            assert_eq!(hub.take_one().protocol, wanted, "{protocol:?}, {key}");
            assert_eq!(hub.take_stored().len(), 1, "{protocol:?}, {key}");
        }
        assert_eq!(hub.probes(), 0, "there is nothing to find out");
    }
}

#[tokio::test]
async fn the_protocol_of_a_hub_is_found_at_the_start() {
    for (v2, wanted, name) in [
        (V2::Speaks, Protocol::V2, "v2"),
        (V2::Ignores, Protocol::V1, "v1"),
        (V2::Refuses, Protocol::V1, "v1"),
    ] {
        let hub = ScriptedHub::start().await;
        hub.set_v2(v2);
        let gate = start(&hub, wanted).await;
        gate.wait_for_log(&[
            "found the protocol of a hub",
            &format!("\"protocol\":\"{name}\""),
        ])
        .await;
        let status = gate.spokes().await;
        assert_eq!(status["hubs"][0]["protocol"], name, "{status}");
        for protocol in Protocol::BOTH {
            gate.write(protocol, &one()).await.expect(204);
            assert_eq!(hub.take_one().protocol, wanted, "{protocol:?}, {v2:?}");
        }
    }
}

/// The hub was exchanged for an older one: the write in hand goes on as V1, and so do all others.
#[tokio::test]
async fn a_downgraded_hub_gets_v1_within_the_same_write() {
    for v2 in [V2::Ignores, V2::Refuses] {
        for protocol in Protocol::BOTH {
            let hub = ScriptedHub::start().await;
            let gate = start(&hub, Protocol::V2).await;
            hub.set_v2(v2);
            let response = gate.write(protocol, &one()).await.expect(204);
            let expected = success_headers(protocol, (1, 0, 0));
            assert_eq!(response.written(), expected, "{v2:?}, {protocol:?}");
            assert_eq!(
                protocols(&hub.take_received()),
                [Protocol::V2, Protocol::V1],
                "{v2:?}, {protocol:?}"
            );
            assert_eq!(hub.take_stored().len(), 1, "once");
            gate.wait_for_protocol(None, Protocol::V1).await;
            gate.write(protocol, &one()).await.expect(204);
            assert_eq!(hub.take_one().protocol, Protocol::V1, "it is remembered");
            gate.expect_balanced_counts("production").await;
        }
    }
}

/// A fault on the way to the other version is one of the whole request.
#[tokio::test]
async fn a_hub_fault_after_the_fallback_to_v1_is_retryable() {
    let hub = ScriptedHub::start().await;
    let gate = start(&hub, Protocol::V2).await;
    hub.reply_once(Reply::status(415));
    hub.reply_once(Reply::status(503));
    let response = gate.write(Protocol::V2, &one()).await.expect(503);
    assert_eq!(response.written(), None, "{response:?}");
    assert_eq!(hub.take_stored(), []);
    gate.expect_balanced_counts("production").await;
}

/// A V1 hub is sent no V2 that could show its upgrade. A changed hub in the configuration is a new
/// one to the gate, which probes it at once.
#[tokio::test]
async fn an_upgraded_hub_is_found_by_the_probe_after_a_reload() {
    let hub = ScriptedHub::start_v1_only().await;
    let gate = start(&hub, Protocol::V1).await;
    gate.write(Protocol::V1, &one()).await.expect(204);
    assert_eq!(hub.take_one().protocol, Protocol::V1);
    hub.set_v2(V2::Speaks);
    gate.write(Protocol::V1, &one()).await.expect(204);
    assert_eq!(hub.take_one().protocol, Protocol::V1, "before the probe");
    let spokes = [spoke("production", "")];
    gate.reload_with(&config_with_hub_keys(&hub.url(), "timeout: 29s", &spokes))
        .await;
    expect_v1_arrives_as_v2(&hub, &gate).await;
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn a_hub_of_unknown_protocol_is_probed_until_it_is_found() {
    let hub = ScriptedHub::start().await;
    hub.reply_to_probes(Reply::status(503));
    let gate = Gate::start_for(&hub.url(), "").await;
    hub.wait_for_probes(2).await;
    gate.write(Protocol::V1, &one()).await.expect(204);
    assert_eq!(hub.take_one().protocol, Protocol::V1);
    hub.reply_to_probes_as_usual();
    expect_v1_arrives_as_v2(&hub, &gate).await;
    gate.expect_balanced_counts("production").await;
}

/// Waits until the hub gets V2 for the V1 of the spoke.
async fn expect_v1_arrives_as_v2(hub: &ScriptedHub, gate: &Gate) {
    eventually_equal("protocol at the hub", DEADLINE, Protocol::V2, async || {
        gate.write(Protocol::V1, &one()).await.expect(204);
        hub.take_one().protocol
    })
    .await;
    gate.wait_for_protocol(None, Protocol::V2).await;
}

fn one_bad() -> [Series; 3] {
    ["a", "bad", "b"].map(|name| series(&format!("__name__={name}")))
}

/// A V1 hub that says 400 to V1 may be a V2 hub that nobody asked yet.
#[tokio::test]
async fn a_400_to_v1_is_repeated_as_v2_before_the_protocol_is_known() {
    let hub = ScriptedHub::start().await;
    hub.reply_to_probes(Reply::status(503));
    hub.refuse_if(|unit| unit.notation().contains("bad"));
    let gate = Gate::start_for(&hub.url(), "protocol: auto").await;
    hub.wait_for_probes(1).await;
    hub.reply_to_probes_as_usual();
    let response = gate.write(Protocol::V1, &one_bad()).await.expect(400);
    assert_eq!(response.written(), Some((2, 0, 0)), "{response:?}");
    assert_eq!(
        protocols(&hub.take_received()),
        [Protocol::V1, Protocol::V2]
    );
    assert_eq!(hub.take_stored().len(), 2);
    gate.wait_for_protocol(None, Protocol::V2).await;
    gate.expect_balanced_counts("production").await;
}

/// V2 would only be refused, whole, by a hub that reads it as V1.
#[tokio::test]
async fn a_hub_that_refuses_the_probe_gets_v1_only() {
    let hub = ScriptedHub::start().await;
    hub.reply_to_probes(Reply::status(400).text("unexpected wire type"));
    hub.refuse_if(|unit| unit.notation().contains("bad"));
    let gate = Gate::start_for(&hub.url(), "protocol: auto").await;
    gate.wait_for_log(&["does not say what it speaks", "unexpected wire type"])
        .await;
    let response = gate.write(Protocol::V1, &one_bad()).await.expect(400);
    assert_eq!(response.written(), Some((2, 0, 0)), "{response:?}");
    let sent = hub.take_received();
    let v1 = |received: &Received| received.protocol == Protocol::V1;
    assert!(sent.iter().all(v1), "{sent:#?}");
    assert_eq!(hub.take_stored().len(), 2);
    gate.expect_balanced_counts("production").await;
}

/// Whoever takes each message for V1 finds V2 malformed.
#[tokio::test]
async fn a_400_to_v2_is_repeated_as_v1_before_the_protocol_is_known() {
    let hub = ScriptedHub::start().await;
    hub.reply_to_probes(Reply::status(503));
    let gate = Gate::start_for(&hub.url(), "protocol: auto").await;
    hub.reply_once(Reply::status(400).text("unexpected wire type"));
    let response = gate.write(Protocol::V2, &one()).await.expect(204);
    assert_eq!(response.written(), Some((1, 0, 0)), "{response:?}");
    assert_eq!(
        protocols(&hub.take_received()),
        [Protocol::V2, Protocol::V1]
    );
    // A bad sample is bad in either version, and told as what it is.
    hub.refuse_if(|unit| unit.notation().contains("up"));
    for protocol in Protocol::BOTH {
        let response = gate.write(protocol, &one()).await;
        response.expect_refusal("bad", 400, &["the hub says (400): bad"]);
        assert_eq!(response.written(), Some((0, 0, 0)), "{response:?}");
    }
    gate.expect_balanced_counts("production").await;
}

/// A 2xx that admits that not all was written is no success.
#[tokio::test]
async fn a_2xx_whose_written_headers_count_too_few_is_no_success() {
    let hub = ScriptedHub::start().await;
    let gate = start(&hub, Protocol::V2).await;
    let batch = ["a", "b", "c"].map(|name| series(&format!("__name__={name}")));
    for protocol in Protocol::BOTH {
        hub.reply_once(Reply::status(204).written(2, 0, 0));
        let response = gate.write(protocol, &batch).await;
        response.expect_refusal("2 of 3", 400, &["production", "wrote 2 of 3 samples"]);
        assert_eq!(response.written(), Some((2, 0, 0)));
        assert_eq!(hub.take_one().protocol, Protocol::V2);
        // None at all: nothing of it was understood.
        hub.reply_once(Reply::status(204).written(0, 0, 0));
        let response = gate.write(protocol, &batch).await.expect(204);
        let expected = success_headers(protocol, (3, 0, 0));
        assert_eq!(response.written(), expected);
        assert_eq!(
            protocols(&hub.take_received()),
            [Protocol::V2, Protocol::V1]
        );
        assert_eq!(hub.take_stored().len(), 3);
        gate.wait_for_protocol(None, Protocol::V2).await;
        // Mimir says 202 to what it has from the other replica of a pair.
        hub.reply_once(Reply::status(202).written(0, 0, 0));
        let response = gate.write(protocol, &batch).await.expect(204);
        let expected = success_headers(protocol, (0, 0, 0));
        assert_eq!(response.written(), expected);
        hub.take_received();
    }
    let gate = Gate::start_for(&hub.url(), "protocol: v2").await;
    for protocol in Protocol::BOTH {
        hub.reply_once(Reply::status(204).written(0, 0, 0));
        gate.write(protocol, &batch).await.expect_retryable(502);
    }
    gate.expect_balanced_counts("production").await;
}

/// A hub that stores what it can of V2 counts it. One that does not may decode it as V1.
#[tokio::test]
async fn a_400_to_v2_without_written_headers_is_repeated_as_v1() {
    let hub = ScriptedHub::start().await;
    let gate = start(&hub, Protocol::V2).await;
    for protocol in Protocol::BOTH {
        let probed = hub.probes();
        hub.reply_once(Reply::status(400).text("unexpected wire type"));
        let response = gate.write(protocol, &one()).await.expect(204);
        let expected = success_headers(protocol, (1, 0, 0));
        assert_eq!(response.written(), expected);
        assert_eq!(
            protocols(&hub.take_received()),
            [Protocol::V2, Protocol::V1]
        );
        assert_eq!(hub.take_stored().len(), 1);
        hub.wait_for_probes(probed + 1).await;
        gate.wait_for_protocol(None, Protocol::V2).await;
    }
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn a_400_to_v2_without_written_headers_is_halved_under_protocol_v2() {
    let (hub, gate) = start_hub_and_gate("protocol: v2").await;
    let batch = ["a", "b", "c"].map(|name| series(&format!("__name__={name}")));
    for protocol in Protocol::BOTH {
        hub.reply_once(Reply::status(400).text("too many symbols"));
        let response = gate.write(protocol, &batch).await.expect(204);
        let expected = success_headers(protocol, (3, 0, 0));
        assert_eq!(response.written(), expected);
        assert_eq!(hub.take_received().len(), 3);
        assert_eq!(hub.take_stored().len(), 3);
    }
    hub.reply_always(Reply::status(400).text("out of order"));
    for protocol in Protocol::BOTH {
        let response = gate.write(protocol, &batch).await;
        response.expect_refusal("all bad", 400, &["the hub says (400): out of order"]);
        assert_eq!(response.written(), Some((0, 0, 0)), "{response:?}");
        assert_eq!(hub.take_received().len(), 5);
    }
    gate.expect_balanced_counts("production").await;
}

/// A hub that takes V2 and no V1 has no place for what travels beside.
#[tokio::test]
async fn what_only_v1_can_hold_is_refused_by_a_hub_without_v1() {
    let (hub, gate) = start_hub_and_gate("metadata: forward_v1").await;
    gate.wait_for_protocol(None, Protocol::V2).await;
    hub.reply_once(Reply::status(415).text("V2 only"));
    let request = Request::write(Protocol::V1, metadata_v1("up")).spoke("production");
    gate.send(request).await.expect(204);
    let refused = gate.rejected("metadata", "hub_protocol").await;
    assert_eq!(refused, 1.0);
    for (count, protocol) in [(1.0, Protocol::V1), (2.0, Protocol::V2)] {
        let orphan = bare("__name__=o,cluster=production").exemplar("trace_id=y", 5);
        hub.reply_once(Reply::as_usual());
        hub.reply_once(Reply::status(415).text("V2 only"));
        let batch = [exemplars_apart().to_vec(), vec![orphan]].concat();
        let response = gate.write(protocol, &batch).await;
        response.expect_refusal("orphan", 400, &["hub_protocol: 1 of 2 exemplars"]);
        assert_eq!(response.written(), Some((2, 0, 1)), "{response:?}");
        let refused = gate.rejected("exemplar", "hub_protocol").await;
        assert_eq!(refused, count);
    }
    gate.wait_for_protocol(None, Protocol::V2).await;
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn v1_metadata_for_a_v2_hub_is_dropped_by_default() {
    let hub = ScriptedHub::start().await;
    let gate = start(&hub, Protocol::V2).await;
    let request = Request::write(Protocol::V1, metadata_v1("up")).spoke("production");
    let response = gate.send(request).await.expect(204);
    assert_eq!((response.written(), response.text.as_str()), (None, ""));
    hub.expect_no_request();
    assert_eq!(lost(&gate, "metadata").await, 1.0);
    let refused = gate.rejected("metadata", "hub_protocol").await;
    assert_eq!(refused, 1.0);
    assert_eq!(gate.samples("written", "metadata").await, 0.0);
    gate.expect_balanced_counts("production").await;
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
    assert_eq!(lost(&gate, "metadata").await, 0.0);
    gate.expect_balanced_counts("production").await;
}

/// As Prometheus sends them: a series of its own behind that of the samples.
fn exemplars_apart() -> [Series; 3] {
    [
        bare("__name__=a,cluster=production").sample(1.0, 7),
        bare("__name__=b,cluster=production").sample(2.0, 7),
        bare("__name__=a,cluster=production").exemplar("trace_id=x", 6),
    ]
}

#[tokio::test]
async fn separate_exemplars_join_the_samples_of_their_series_for_a_v2_hub() {
    let hub = ScriptedHub::start().await;
    let gate = start(&hub, Protocol::V2).await;
    for protocol in Protocol::BOTH {
        let response = gate.write(protocol, &exemplars_apart()).await.expect(204);
        let expected = success_headers(protocol, (2, 0, 1));
        assert_eq!(response.written(), expected);
        let received = hub.take_one();
        expect_canonical(&received);
        let [a, b] = received.series.as_slice() else {
            panic!("{received:#?}");
        };
        assert_eq!((a.samples.len(), a.exemplars.len()), (1, 1), "{a:?}");
        assert_eq!((b.samples.len(), b.exemplars.len()), (1, 0), "{b:?}");
        assert_eq!(
            sorted_units(&hub.take_stored()),
            sorted_units(&exemplars_apart())
        );
    }
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn exemplars_without_samples_reach_a_v2_hub_in_a_second_v1_request() {
    let hub = ScriptedHub::start().await;
    let gate = start(&hub, Protocol::V2).await;
    let orphan = bare("__name__=o,cluster=production").exemplar("trace_id=y", 5);
    let batch = [exemplars_apart().to_vec(), vec![orphan.clone()]].concat();
    for protocol in Protocol::BOTH {
        let response = gate.write(protocol, &batch).await.expect(204);
        let expected = success_headers(protocol, (2, 0, 2));
        assert_eq!(response.written(), expected);
        let received = hub.take_received();
        let [message, beside] = received.as_slice() else {
            panic!("{received:#?}");
        };
        expect_canonical(message);
        assert_eq!(message.series.len(), 2, "{message:#?}");
        assert_eq!(beside.protocol, Protocol::V1);
        assert_eq!(beside.series, std::slice::from_ref(&orphan));
        assert_eq!(sorted_units(&hub.take_stored()), sorted_units(&batch));
    }
    // Orphans alone are one V1 message.
    for protocol in Protocol::BOTH {
        gate.write(protocol, std::slice::from_ref(&orphan))
            .await
            .expect(204);
        assert_eq!(hub.take_one().protocol, Protocol::V1);
    }
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn written_counts_of_a_v2_hub_reach_senders_of_both_versions() {
    let hub = ScriptedHub::start().await;
    let gate = start(&hub, Protocol::V2).await;
    hub.refuse_if(|unit| unit.notation().contains("id=500,"));
    let batch: Vec<_> = (0..1000)
        .map(|n| bare(&format!("__name__=up,cluster=production,id={n},job=x")).sample(1.0, 1))
        .collect();
    for protocol in Protocol::BOTH {
        let response = gate.write(protocol, &batch).await;
        response.expect_refusal("999", 400, &["production", "the hub says (400)", "id=500"]);
        assert_eq!(response.written(), Some((999, 0, 0)), "{protocol:?}");
        assert_eq!(hub.take_received().len(), 1, "{protocol:?}");
        assert_eq!(hub.take_stored().len(), 999, "{protocol:?}");
    }
    assert_eq!(gate.rejected("float", "hub").await, 2.0);
    gate.expect_balanced_counts("production").await;
}
