//! Foreign values of the cluster label in unusual encodings: none of them reaches a hub.

use hubgate::wire::proto::{v1, v2};
use prost::Message;

use crate::support::body::{Protocol, encode, message, series, snappy};
use crate::support::gate::start_hub_and_gate;
use crate::support::hub::Received;
use crate::support::sender::Request;

/// A hub may decode such a body as either message, so only the checked one may reach it.
#[tokio::test]
async fn a_body_that_holds_both_messages_is_forwarded_as_the_named_one_alone() {
    let (hub, gate) = start_hub_and_gate("").await;
    let concatenated = |first: (Protocol, &str), second: (Protocol, &str)| {
        let messages = [first, second].map(|(protocol, cluster)| {
            let name = protocol.name();
            let labels = format!("__name__={name},cluster={cluster}");
            message(protocol, &[series(&labels)])
        });
        snappy(&messages.concat())
    };
    let (v1, v2) = (Protocol::V1, Protocol::V2);
    for (named, body, status) in [
        (v1, concatenated((v1, "production"), (v2, "victim")), 204),
        (v1, concatenated((v1, "victim"), (v2, "victim")), 400),
        (v1, concatenated((v1, "victim"), (v2, "production")), 400),
        (v2, concatenated((v1, "victim"), (v2, "production")), 204),
        (v2, concatenated((v2, "victim"), (v1, "victim")), 400),
        (v2, concatenated((v2, "victim"), (v1, "production")), 400),
    ] {
        // The media type with a space is a valid way to name V2.
        let content_type = named.content_type().replace(';', "; ");
        let request = Request::write(named, body).header("content-type", &content_type);
        let response = gate.send(request.spoke("production")).await;
        assert_eq!(response.status, status, "{named:?}: {response:?}");
        if status == 204 {
            let received = hub.take_one();
            expect_only_own(&received, "production");
            assert_eq!(received.series.len(), 1, "{named:?}: {received:?}");
        } else {
            hub.expect_no_request();
        }
    }
}

#[tokio::test]
async fn a_body_under_the_media_type_of_the_other_message_is_not_forwarded() {
    let (hub, gate) = start_hub_and_gate("").await;
    for (encoded, named, status) in [
        (Protocol::V1, Protocol::V2, 400),
        (Protocol::V2, Protocol::V1, 400),
    ] {
        for cluster in ["victim", "production"] {
            let labels = format!("__name__=up,cluster={cluster}");
            let body = encode(encoded, &[series(&labels)]);
            let request = Request::write(named, body.clone()).spoke("production");
            let response = gate.send(request).await;
            assert_eq!(
                response.status, status,
                "{encoded:?}, {cluster}: {response:?}"
            );
            hub.expect_no_request();
            // Under its own media type the same body reaches the hub, if it is the spoke's own.
            let request = Request::write(encoded, body).spoke("production");
            if cluster == "production" {
                gate.send(request).await.expect(204);
                expect_only_own(&hub.take_one(), "production");
            } else {
                gate.send(request).await.expect(400);
                hub.expect_no_request();
            }
        }
    }
}

/// A symbol may be repeated, and the table of symbols may come after the series.
#[tokio::test]
async fn v2_labels_are_compared_by_text_and_not_by_symbol() {
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
        (
            "the second symbol of the label name",
            &[1, 2, 5, 6][..],
            400,
        ),
        ("the label name by both symbols", &[1, 2, 3, 4, 5, 6], 400),
        (
            "the label name by both symbols, same value",
            &[1, 2, 3, 4, 5, 7],
            400,
        ),
        ("the value by its second symbol", &[1, 2, 5, 7], 204),
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

/// Decodes a request as either message. Fails unless it holds series of one message only, and each
/// has this value of the cluster label.
#[track_caller]
fn expect_only_own(received: &Received, cluster: &str) {
    let as_v1 = v1::WriteRequest::decode(&received.message[..]).unwrap();
    let as_v2 = v2::Request::decode(&received.message[..]).unwrap();
    let series_v1 = as_v1.timeseries.len();
    let series_v2 = as_v2.timeseries.len();
    assert!(
        series_v1 == 0 || series_v2 == 0,
        "series of both messages: {received:?}"
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
    assert_eq!(received.series.len(), series_v1 + series_v2, "{received:?}");
}
