//! Refused series: each is refused for its reason, and its neighbours reach the hub.

use hubgate::wire::proto::v2;
use prost::Message;

use crate::support::body::{Protocol, field, message, series, snappy};
use crate::support::config::{config, spoke};
use crate::support::gate::{Gate, start_hub_and_gate};
use crate::support::hub::ScriptedHub;
use crate::support::sender::Request;

const MIB: usize = 1 << 20;

/// A write of an encoded body by the spoke `production`.
fn write(protocol: Protocol, body: Vec<u8>) -> Request {
    Request::write(protocol, body).spoke("production")
}

/// Reasons, each with the labels of a series that is refused for it.
const BAD_SERIES: [(&str, &str); 6] = [
    ("mismatched_label", "__name__=bad,cluster=staging"),
    ("duplicate_label_name", "__name__=bad,job=x,job=y"),
    (
        "duplicate_label_name",
        "__name__=bad,cluster=production,cluster=staging",
    ),
    ("empty_label_name", "__name__=bad,=x"),
    ("missing_metric_name", "job=bad"),
    ("missing_metric_name", "__name__=,job=bad"),
];

#[tokio::test]
async fn a_bad_series_is_refused_for_its_reason_and_its_neighbours_are_written() {
    for protocol in Protocol::BOTH {
        for (reason, labels) in BAD_SERIES {
            let batch = [
                series("__name__=a,cluster=production"),
                series(labels),
                series("__name__=z,cluster=production"),
            ];
            expect_middle_refused(protocol, reason, message(protocol, &batch)).await;
        }
        let long = format!("__name__=bad,job={}", "x".repeat(10 * MIB));
        let many: Vec<_> = (0..200).map(|n| format!("label{n:03}=x")).collect();
        let many = format!("__name__=bad,{}", many.join(","));
        for (reason, labels) in [("label_length", long), ("labels_per_series", many)] {
            let batch = [series("__name__=a"), series(&labels), series("__name__=z")];
            expect_middle_refused(protocol, reason, message(protocol, &batch)).await;
        }
    }
}

/// Sends a message of three series. Fails unless the middle one is refused for this reason and the
/// others, `a` and `z`, reach the hub.
async fn expect_middle_refused(protocol: Protocol, reason: &str, message: Vec<u8>) {
    let (hub, gate) = start_hub_and_gate("").await;
    let response = gate.send(write(protocol, snappy(&message))).await;
    response.expect_refusal(reason, 400, &["production", reason, "1", "3"]);
    assert_eq!(
        response.written(),
        Some((2, 0, 0)),
        "{reason}: {response:?}"
    );
    let received = hub.take_one();
    let names: Vec<_> = received
        .series
        .iter()
        .map(|s| s.labels[0].1.clone())
        .collect();
    assert_eq!(names, ["a", "z"], "{reason}");
    let rejected = gate.rejected("float", reason).await;
    assert_eq!(rejected, 1.0, "{reason}");
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn v1_series_with_invalid_utf8_or_repeated_label_fields_are_refused() {
    let label = |name: &[u8], value: &[u8]| field(1, &[field(1, name), field(2, value)].concat());
    let sample = field(
        2,
        &[&[0x09][..], &1.0_f64.to_le_bytes(), &[0x10, 0x01]].concat(),
    );
    let timeseries = |labels: &[Vec<u8>]| field(1, &[labels.concat(), sample.clone()].concat());
    let name = label(b"__name__", b"bad");
    let name_twice = [field(1, b"cluster"), field(2, b"x"), field(1, b"job")].concat();
    let value_twice = [
        field(1, b"cluster"),
        field(2, b"staging"),
        field(2, b"production"),
    ]
    .concat();
    for (reason, labels) in [
        (
            "invalid_utf8",
            vec![name.clone(), label(b"job", b"\xff\xfe")],
        ),
        ("invalid_utf8", vec![name.clone(), label(b"j\xffob", b"x")]),
        (
            "repeated_label_field",
            vec![name.clone(), field(1, &name_twice)],
        ),
        (
            "repeated_label_field",
            vec![name.clone(), field(1, &value_twice)],
        ),
    ] {
        let first = timeseries(&[label(b"__name__", b"a")]);
        let last = timeseries(&[label(b"__name__", b"z")]);
        let message = [first, timeseries(&labels), last].concat();
        expect_middle_refused(Protocol::V1, reason, message).await;
    }
}

#[tokio::test]
async fn v2_series_with_invalid_symbols_are_refused() {
    let symbols = ["", "__name__", "a", "bad", "z", "job"];
    let timeseries = |refs: &[u32]| v2::TimeSeries {
        labels_refs: refs.to_vec(),
        samples: vec![v2::Sample::default()],
        ..v2::TimeSeries::default()
    };
    for refs in [
        &[1, 3, 5][..],
        &[1, 3, 5, 6],
        &[1, 3, 5, u32::MAX],
        &[1, 3, 99, 3],
    ] {
        let message = v2::Request {
            symbols: symbols.map(str::to_owned).to_vec(),
            timeseries: vec![timeseries(&[1, 2]), timeseries(refs), timeseries(&[1, 4])],
        };
        expect_middle_refused(Protocol::V2, "symbol_reference", message.encode_to_vec()).await;
    }
    let bytes = [
        &b""[..],
        b"__name__",
        b"a",
        b"bad",
        b"z",
        b"job",
        b"\xff\xfe",
    ];
    let symbols: Vec<u8> = bytes.iter().flat_map(|symbol| field(4, symbol)).collect();
    let refs = [&[1, 2][..], &[1, 3, 5, 6], &[1, 4]];
    let all = refs.map(|refs| field(5, &timeseries(refs).encode_to_vec()));
    expect_middle_refused(
        Protocol::V2,
        "invalid_utf8",
        [symbols, all.concat()].concat(),
    )
    .await;
}

#[tokio::test]
async fn series_without_the_cluster_label_are_refused_under_absent_reject() {
    let hub = ScriptedHub::start().await;
    let spokes = [spoke("production", "labels: {absent: reject}")];
    let gate = Gate::start(&config(&hub.url(), &spokes)).await;
    for protocol in Protocol::BOTH {
        let batch = [
            series("__name__=bad"),
            series("__name__=a,cluster=production"),
        ];
        let response = gate.write(protocol, &batch).await;
        response.expect_refusal("absent", 400, &["production", "absent_label", "bad"]);
        assert_eq!(hub.take_one().labels(), ["__name__=a,cluster=production"]);
    }
}

#[tokio::test]
async fn a_million_tiny_elements_take_less_than_128_mib() {
    let (hub, gate) = start_hub_and_gate("").await;
    let million = |bytes: &[u8]| snappy(&bytes.repeat(1_000_000));
    let one_series = field(5, &field(2, &[]));
    for (case, protocol, body) in [
        ("empty v1 series", Protocol::V1, million(&[0x0a, 0x00])),
        ("empty v2 series", Protocol::V2, million(&[0x2a, 0x00])),
        (
            "symbols",
            Protocol::V2,
            snappy(&[[0x22, 0x00].repeat(1_000_000), one_series].concat()),
        ),
        (
            "labels of one series",
            Protocol::V1,
            snappy(&field(1, &[0x0a, 0x00].repeat(1_000_000))),
        ),
        (
            "references of one series",
            Protocol::V2,
            snappy(&field(5, &field(1, &vec![0; 1_000_000]))),
        ),
    ] {
        let response = gate.send(write(protocol, body)).await;
        response.expect_refusal(case, 400, &["production"]);
        hub.expect_no_request();
    }
    gate.expect_peak_memory_below(128);
}

#[tokio::test]
async fn many_refusals_are_all_counted_and_logged_in_few_lines() {
    let (hub, gate) = start_hub_and_gate("").await;
    for _ in 0..200 {
        let batch = [series("__name__=bad,cluster=staging")];
        gate.write(Protocol::V1, &batch).await.expect(400);
        gate.send(Request::up()).await.expect(401);
    }
    hub.expect_no_request();
    let metrics = gate.metrics().await;
    let labels = [("spoke", "production"), ("reason", "mismatched_label")];
    assert_eq!(metrics.samples("rejected", &labels), 200.0);
    assert_eq!(metrics.sum("hubgate_auth_failures_total", &[]), 200.0);
    assert!(gate.log().len() < 60, "{} lines", gate.log().len());
}
