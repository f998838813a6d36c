//! One spoke that sends much does not take the hub and the memory from another.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::body::{Protocol, encode, noise, series, snappy};
use crate::support::config::{config, spoke, token};
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::reply::Reply;
use crate::support::sender::{Request, Response};
use crate::support::{DEADLINE, eventually};

/// What a hub is sent at once before it has shown what it can do.
const PLACES_FIRST: usize = 32;

/// The fewest that it is sent at once.
const PLACES_MIN: usize = 4;

async fn start(limits: &str) -> (ScriptedHub, Arc<Gate>) {
    let hub = ScriptedHub::start().await;
    let spokes = [spoke("production", ""), spoke("staging", "")];
    let gate = Gate::start(&format!("{limits}\n{}", config(&hub.url(), &spokes))).await;
    gate.wait_for_protocol(None, Protocol::V2).await;
    (hub, Arc::new(gate))
}

/// Sends requests at once.
fn send(gate: &Arc<Gate>, spoke: &'static str, requests: usize) -> JoinSet<Response> {
    let mut sent = JoinSet::new();
    for _ in 0..requests {
        let gate = Arc::clone(gate);
        sent.spawn(async move { gate.send(Request::up().spoke(spoke)).await });
    }
    sent
}

async fn expect_all(sent: JoinSet<Response>, status: u16) {
    for response in sent.join_all().await {
        response.expect(status);
    }
}

#[tokio::test]
async fn a_place_at_a_slow_hub_goes_to_who_has_fewer() {
    let (hub, gate) = start("").await;
    hub.hold_responses();
    let many = send(&gate, "production", 2 * PLACES_FIRST);
    hub.wait_for_requests(PLACES_FIRST).await;
    let few = send(&gate, "staging", 1);
    // Since the hub is silent, there is one more place each second.
    hub.wait_for_requests(PLACES_FIRST + 3).await;
    hub.release_responses();
    expect_all(few, 204).await;
    expect_all(many, 204).await;
    let received = hub.take_received();
    assert_eq!(received.len(), 2 * PLACES_FIRST + 1);
    let of_few = received.iter().position(|received| {
        let labels = received.labels();
        labels.iter().any(|it| it.contains("cluster=staging"))
    });
    let of_few = of_few.expect("the request of staging");
    assert!(of_few < PLACES_FIRST + 3, "{of_few}");
    gate.expect_balanced_counts("production").await;
    gate.expect_balanced_counts("staging").await;
}

#[tokio::test]
async fn a_hub_that_is_silent_is_tried_again_each_second() {
    let (hub, gate) = start("").await;
    hub.hold_responses();
    let sent = send(&gate, "production", PLACES_FIRST + 8);
    hub.wait_for_requests(PLACES_FIRST).await;
    // One of these would be answered if the hub was back, though the ones before never are.
    hub.wait_for_requests(PLACES_FIRST + 2).await;
    hub.release_responses();
    expect_all(sent, 204).await;
}

#[tokio::test]
async fn a_hub_that_is_overloaded_is_sent_less_until_it_recovers() {
    let (hub, gate) = start("").await;
    hub.reply_always(Reply::status(503));
    for _ in 0..4 {
        expect_all(send(&gate, "production", PLACES_FIRST), 503).await;
    }
    let limit = "hubgate_hub_requests_in_flight_limit";
    gate.wait_for_metric(limit, &[], PLACES_MIN as f64).await;
    hub.reply_as_usual();
    for _ in 0..20 {
        expect_all(send(&gate, "production", PLACES_FIRST), 204).await;
    }
    eventually("the hub is sent more", DEADLINE, async || {
        let limit = gate.sum(limit, &[]).await;
        if limit > 2.0 * PLACES_MIN as f64 {
            Ok(())
        } else {
            Err(limit)
        }
    })
    .await;
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn who_would_wait_too_long_for_a_hub_is_told_when_to_come_back() {
    let (hub, gate) = start("").await;
    hub.hold_responses();
    let mut sent = send(&gate, "production", 3 * PLACES_FIRST);
    let mut busy = 0;
    // Most of them wait for as long as they may.
    while busy < PLACES_FIRST {
        let response = sent.join_next().await.unwrap().unwrap();
        let response = response.expect_retryable(503);
        assert!(response.text.contains("too much to do"), "{response:?}");
        busy += 1;
    }
    hub.release_responses();
    for response in sent.join_all().await {
        if response.status != 204 {
            response.expect_retryable(503);
            busy += 1;
        }
    }
    let labels = [("code", "busy")];
    let counted = gate.sum("hubgate_hub_requests_total", &labels).await;
    assert_eq!(counted, busy as f64);
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn bodies_of_one_spoke_leave_room_for_those_of_another() {
    let (_hub, gate) = start("limits: {bytes_in_flight_max: 96MiB}").await;
    const MIB: usize = 1024 * 1024;
    let text = noise(3 * MIB);
    let body = snappy(text.as_bytes());
    let begin = async || {
        let mut stream = TcpStream::connect(gate.write_address()).await.unwrap();
        let head = format!(
            "POST /api/v1/write HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer {}\r\n\
             Content-Encoding: snappy\r\nContent-Type: application/x-protobuf\r\n\
             X-Prometheus-Remote-Write-Version: 0.1.0\r\nContent-Length: {}\r\n\r\n",
            token("production"),
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // The end of the body never comes, and what the gate refuses it may not read.
        let _ = stream.write_all(&body[..body.len() - 1]).await;
        stream
    };
    let mut streams = Vec::new();
    for _ in 0..40 {
        streams.push(begin().await);
    }
    let refused = [("spoke", "production"), ("code", "503")];
    eventually("bodies are refused", DEADLINE, async || {
        let refused = gate.sum("hubgate_requests_total", &refused).await;
        if refused > 5.0 { Ok(()) } else { Err(refused) }
    })
    .await;
    let held = gate.sum("hubgate_bytes_in_flight", &[]).await;
    assert!(held > 50.0 * MIB as f64, "{held} bytes");
    assert!(held <= 0.81 * 96.0 * MIB as f64, "{held} bytes");
    let large = [series(&format!("__name__=large,noise={}", noise(60_000)))];
    let large = encode(Protocol::V1, &large);
    for _ in 0..20 {
        let request = Request::write(Protocol::V1, large.clone()).spoke("staging");
        gate.send(request).await.expect(204);
    }
    drop(streams);
}
