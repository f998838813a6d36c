//! Exact sample counts: received = written + rejected + failed, for each spoke and kind.

use crate::support::body::{Protocol, bare, decode, fixture, metadata_v1, sorted_units, unsnappy};
use crate::support::config::{config_with_hub_keys, spoke};
use crate::support::gate::{Gate, start_hub_and_gate};
use crate::support::hub::ScriptedHub;
use crate::support::metrics::Metrics;
use crate::support::sender::Request;

/// A captured body, its protocol, its spoke, and how many float samples, histograms, exemplars and
/// metadata entries it holds.
const BODIES: [(&str, Protocol, &str, [f64; 4]); 8] = [
    (
        "prometheus-2.42-v1-mixed",
        Protocol::V1,
        "staging",
        [298.0, 0.0, 2.0, 0.0],
    ),
    (
        "prometheus-2.42-v1-metadata",
        Protocol::V1,
        "staging",
        [0.0, 0.0, 0.0, 206.0],
    ),
    (
        "prometheus-3.12-v1-mixed",
        Protocol::V1,
        "production",
        [281.0, 17.0, 2.0, 0.0],
    ),
    (
        "prometheus-3.12-v1-2000",
        Protocol::V1,
        "production",
        [2000.0, 0.0, 0.0, 0.0],
    ),
    (
        "prometheus-3.12-v1-metadata",
        Protocol::V1,
        "production",
        [0.0, 0.0, 0.0, 267.0],
    ),
    (
        "prometheus-3.12-v2-mixed",
        Protocol::V2,
        "production",
        [281.0, 17.0, 2.0, 300.0],
    ),
    (
        "prometheus-3.12-v2-floats",
        Protocol::V2,
        "production",
        [300.0, 0.0, 0.0, 300.0],
    ),
    (
        "prometheus-3.12-v2-2000",
        Protocol::V2,
        "production",
        [2000.0, 0.0, 0.0, 2000.0],
    ),
];

#[tokio::test]
async fn captured_bodies_are_forwarded_and_counted_exactly() {
    let hub = ScriptedHub::start().await;
    let spokes = ["production", "staging"].map(|name| spoke(name, ""));
    let v1 = Gate::start(&config_with_hub_keys(&hub.url(), "protocol: v1", &spokes)).await;
    let v2 = Gate::start(&config_with_hub_keys(&hub.url(), "protocol: v2", &spokes)).await;
    for (file, protocol, name, counts) in BODIES {
        let gate = match protocol {
            Protocol::V1 => &v1,
            Protocol::V2 => &v2,
        };
        // A hub refuses V2 series with exemplars alone, so the gate moves them into the others.
        let exemplars_are_moved = file == "prometheus-3.12-v2-mixed";
        let body = fixture(file);
        let before = gate.metrics().await;
        let request = Request::write(protocol, body.clone()).spoke(name);
        let response = gate.send(request).await;
        assert_eq!(response.status, 204, "{file}: {response:?}");
        let received = hub.take_one();
        if exemplars_are_moved {
            let message = unsnappy(&body).unwrap();
            let sent = decode(protocol, &message).unwrap();
            assert_eq!(
                sorted_units(&received.series),
                sorted_units(&sent),
                "{file}"
            );
        } else {
            assert_eq!(received.body, body, "{file}");
        }
        let after = gate.metrics().await;
        for (kind, count) in ["float", "histogram", "exemplar", "metadata"]
            .iter()
            .zip(counts)
        {
            let labels = [("spoke", name), ("kind", *kind)];
            let growth = |fate| after.samples(fate, &labels) - before.samples(fate, &labels);
            assert_eq!(growth("received"), count, "{file} {kind}");
            assert_eq!(growth("rejected"), 0.0, "{file} {kind}");
        }
        gate.expect_balanced_counts(name).await;
    }
}

#[tokio::test]
async fn samples_are_counted_exactly_by_kind_and_reason() {
    let (_hub, gate) = start_hub_and_gate("").await;
    for protocol in Protocol::BOTH {
        let before = gate.metrics().await;
        let batch = [
            bare("__name__=a")
                .sample(1.0, 1)
                .sample(2.0, 2)
                .exemplar("trace_id=a", 1),
            bare("__name__=h").histogram(1),
            bare("__name__=x,cluster=other")
                .sample(1.0, 1)
                .sample(2.0, 2)
                .sample(3.0, 3),
            bare("__name__=x,cluster=other").histogram(1).histogram(2),
            bare("__name__=x,job=x,job=y")
                .sample(1.0, 1)
                .exemplar("trace_id=a", 1),
        ];
        gate.write(protocol, &batch).await.expect(400);
        let after = gate.metrics().await;
        let growth = |fate: &str, labels: &[(&str, &str)]| {
            let labels = [&[("spoke", "production")], labels].concat();
            after.samples(fate, &labels) - before.samples(fate, &labels)
        };
        for (kind, received, written, mismatched, duplicate) in [
            ("float", 6.0, 2.0, 3.0, 1.0),
            ("histogram", 3.0, 1.0, 2.0, 0.0),
            ("exemplar", 2.0, 1.0, 0.0, 1.0),
        ] {
            let kind = ("kind", kind);
            let rejected = |reason| growth("rejected", &[kind, ("reason", reason)]);
            assert_eq!(growth("received", &[kind]), received, "{kind:?}");
            assert_eq!(growth("written", &[kind]), written, "{kind:?}");
            assert_eq!(rejected("mismatched_label"), mismatched, "{kind:?}");
            assert_eq!(rejected("duplicate_label_name"), duplicate, "{kind:?}");
        }
        let mismatches = |metrics: &Metrics| metrics.sum("hubgate_label_mismatches_total", &[]);
        assert_eq!(mismatches(&after) - mismatches(&before), 2.0);
        gate.expect_balanced_counts("production").await;
    }
}

#[tokio::test]
async fn a_body_of_v1_metadata_alone_is_a_204_and_counted() {
    let (_hub, gate) = start_hub_and_gate("").await;
    let request = Request::write(Protocol::V1, metadata_v1("up")).spoke("production");
    gate.send(request).await.expect(204);
    assert_eq!(gate.samples("received", "metadata").await, 1.0);
    gate.expect_balanced_counts("production").await;
    // It names no cluster, so it is no sign that the samples of the spoke pass.
    let metrics = gate.metrics().await;
    assert_eq!(
        metrics.sum("hubgate_last_write_timestamp_seconds", &[]),
        0.0
    );
}
