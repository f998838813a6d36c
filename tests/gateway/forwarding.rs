//! Forwarding to a hub of the spoke's own protocol: headers, unchanged bodies, and disconnects.

use crate::support::body::{Protocol, Series, encode, series, up};
use crate::support::gate::{Gate, start_hub_and_gate};
use crate::support::hub::ScriptedHub;
use crate::support::sender::Request;

#[tokio::test]
async fn the_hub_gets_canonical_headers_and_no_credential_of_the_spoke() {
    let hub = ScriptedHub::start().await;
    for protocol in Protocol::BOTH {
        let gate = Gate::start_for(&hub.url(), &protocol.hub_key()).await;
        let request = Request::series(protocol, &up())
            .spoke("production")
            .header("content-type", &protocol.content_type().replace(";", " ; "))
            .header("x-scope-orgid", "other")
            .header("x-forwarded-for", "10.0.0.1")
            .header("cookie", "a=b")
            .header("retry-attempt", "3")
            .header("x-prometheus-remote-write-version", "9.9.9")
            .path("/api/v1/push");
        gate.send(request).await.expect(204);
        let received = hub.take_one();
        assert_eq!(received.path, "/api/v1/write");
        assert_eq!(
            received.header("content-type"),
            Some(protocol.content_type())
        );
        assert_eq!(received.header("content-encoding"), Some("snappy"));
        assert_eq!(
            received.header("x-prometheus-remote-write-version"),
            Some(protocol.version())
        );
        assert!(
            received
                .header("user-agent")
                .unwrap()
                .starts_with("hubgate/")
        );
        for name in [
            "authorization",
            "x-scope-orgid",
            "x-forwarded-for",
            "cookie",
        ] {
            assert_eq!(received.header(name), None, "{name}");
        }
        assert_eq!(received.header("retry-attempt"), Some("3"));
        let spoke = [("spoke", "production")];
        let retried = gate.sum("hubgate_retried_requests_total", &spoke).await;
        assert_eq!(retried, 1.0);
    }
}

#[tokio::test]
async fn an_unchanged_body_is_forwarded_byte_for_byte() {
    let hub = ScriptedHub::start().await;
    for protocol in Protocol::BOTH {
        let gate = Gate::start_for(&hub.url(), &protocol.hub_key()).await;
        let stale = f64::from_bits(0x7ff0_0000_0000_0002);
        let batch = [
            series("__name__=up,cluster=production")
                .sample(stale, 7)
                .exemplar("trace_id=a", 7),
            Series {
                samples: Vec::new(),
                ..series("__name__=h,cluster=production")
            }
            .histogram(9),
        ];
        let body = encode(protocol, &batch);
        for request in [
            Request::write(protocol, body.clone()),
            Request::write(protocol, body.clone()).chunked(),
            Request::write(protocol, body.clone()).http2(),
            Request::write(protocol, body.clone()).path("/api/v1/receive"),
        ] {
            gate.send(request.spoke("production")).await.expect(204);
            assert_eq!(hub.take_one().body, body, "{protocol:?}");
        }
    }
}

#[tokio::test]
async fn a_write_to_the_hub_is_finished_when_the_spoke_disconnects() {
    let (hub, gate) = start_hub_and_gate("").await;
    hub.hold_responses();
    let request = Request::up().spoke("production");
    let sender = tokio::spawn(request.send(gate.write_address()));
    hub.wait_for_requests(1).await;
    sender.abort();
    hub.release_responses();
    let float = [("spoke", "production"), ("kind", "float")];
    gate.wait_for_metric("hubgate_samples_written_total", &float, 1.0)
        .await;
    gate.expect_balanced_counts("production").await;
}
