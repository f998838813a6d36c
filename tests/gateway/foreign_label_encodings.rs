//! Foreign labels in disguise: no encoding of them reaches a hub.

use hubgate::wire::proto::{v1, v2};
use prost::Message;

use crate::support::body::{Protocol, encode, message, series, snappy};
use crate::support::gate::start_hub_and_gate;
use crate::support::hub::Received;
use crate::support::sender::Request;

/// A hub may read such a body as either message, so only the checked one may reach it.
#[tokio::test]
async fn a_body_of_both_messages_leaves_as_the_named_one() {
    let (hub, gate) = start_hub_and_gate("").await;
    let both = |own: &str| {
        let v1 = message(
            Protocol::V1,
            &[series(&format!("__name__=v1,cluster={own}"))],
        );
        let v2 = message(Protocol::V2, &[series("__name__=v2,cluster=victim")]);
        ([v1.clone(), v2.clone()].concat(), [v2, v1].concat())
    };
    let (v1_is_ours, _) = both("production");
    let (_, v1_is_foreign) = both("victim");
    let content_type = "application/x-protobuf; proto=io.prometheus.write.v2.Request";
    for (protocol, content_type, body) in [
        (Protocol::V1, Protocol::V1.content_type(), v1_is_ours),
        (Protocol::V2, content_type, v1_is_foreign),
    ] {
        let request = Request::write(protocol, snappy(&body)).header("content-type", content_type);
        let response = gate.send(request.spoke("production")).await;
        assert!([204, 400].contains(&response.status), "{response:?}");
        for received in hub.take_received() {
            expect_only_own(&received, "production");
        }
    }
}

#[tokio::test]
async fn a_body_under_the_other_header_leaves_nothing_unchecked() {
    let (hub, gate) = start_hub_and_gate("").await;
    for (sent, named) in [(Protocol::V1, Protocol::V2), (Protocol::V2, Protocol::V1)] {
        let body = encode(sent, &[series("__name__=up,cluster=victim")]);
        let response = gate
            .send(Request::write(named, body).spoke("production"))
            .await;
        assert!([204, 400, 415].contains(&response.status), "{response:?}");
        for received in hub.take_received() {
            expect_only_own(&received, "production");
        }
    }
}

/// A symbol may stand twice, stand after its use, and references may come in pieces.
#[tokio::test]
async fn v2_labels_are_compared_by_text() {
    let (hub, gate) = start_hub_and_gate("").await;
    let symbols = [
        "",
        "__name__",
        "up",
        "cluster",
        "production",
        "cluster",
        "victim",
        "production",
    ];
    let sample = v2::Sample::default();
    let timeseries = |refs: &[u32]| v2::TimeSeries {
        labels_refs: refs.to_vec(),
        samples: vec![sample],
        ..v2::TimeSeries::default()
    };
    let body = |timeseries: Vec<v2::TimeSeries>| {
        let series = v2::Request {
            symbols: Vec::new(),
            timeseries,
        };
        let symbols = v2::Request {
            symbols: symbols.map(str::to_owned).to_vec(),
            timeseries: Vec::new(),
        };
        snappy(&[series.encode_to_vec(), symbols.encode_to_vec()].concat())
    };
    for (case, refs, status) in [
        ("the other symbol of the same name", &[1, 2, 5, 6][..], 400),
        ("the name by two symbols", &[1, 2, 3, 4, 5, 6], 400),
        (
            "the name by two symbols, same value",
            &[1, 2, 3, 4, 5, 7],
            400,
        ),
        ("the value by its other symbol", &[1, 2, 5, 7], 204),
    ] {
        let request = Request::write(
            Protocol::V2,
            body(vec![timeseries(refs), timeseries(&[1, 2])]),
        );
        let response = gate.send(request.spoke("production")).await;
        assert_eq!(response.status, status, "{case}: {response:?}");
        expect_only_own(&hub.take_one(), "production");
    }
}

/// Decodes what a hub got as either message; each series of each must be the spoke's own.
#[track_caller]
fn expect_only_own(received: &Received, cluster: &str) {
    let as_v1 = v1::WriteRequest::decode(&received.message[..]).unwrap();
    let as_v2 = v2::Request::decode(&received.message[..]).unwrap();
    let of_v1 = as_v1.timeseries.len();
    let of_v2 = as_v2.timeseries.len();
    assert!(
        of_v1 == 0 || of_v2 == 0,
        "series of both messages left: {received:?}"
    );
    for series in &received.series {
        let clusters: Vec<_> = series
            .labels
            .iter()
            .filter(|(name, _)| name == "cluster")
            .collect();
        assert_eq!(clusters.len(), 1, "{}", series.notation());
        assert_eq!(clusters[0].1, cluster, "{}", series.notation());
    }
    assert_eq!(received.series.len(), of_v1 + of_v2, "{received:?}");
}
