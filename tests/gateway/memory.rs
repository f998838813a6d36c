//! Memory stays within the budget, whatever arrives at the same time.

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::support::body::{Protocol, Series, bare, encode, field, noises, series, snappy};
use crate::support::gate::{Gate, start_hub_and_gate, start_with_limits};
use crate::support::reply::Reply;
use crate::support::sender::{Failure, Request, Response};

const MIB: u64 = 1 << 20;

/// How far the peak of the process may exceed the budget, in MiB, without the pages of the program itself,
/// of which a debug build has many.
const OVERHEAD_MIB: u64 = 52;

/// Bodies at once; all of them together are many times the budget.
const CLIENTS: usize = 24;

/// The ways to send the same body.
const FRAMINGS: [(&str, Framing); 3] = [
    ("Content-Length", |request| request),
    ("chunked", Request::chunked),
    ("HTTP/2", Request::http2),
];

type Framing = fn(Request) -> Request;

/// A body of almost 32 MiB that does not compress.
fn large_body(protocol: Protocol, cluster: &str) -> Bytes {
    let noises = noises(65_000);
    // V2 would hold the same noise once, so each series has noise of its own.
    let series: Vec<_> = (0..510)
        .zip(noises.iter().cycle())
        .map(|(n, noise)| format!("__name__=large{cluster},noise={n:03}{}", &noise[3..]))
        .map(|labels| bare(&labels).sample(0.0, 1))
        .collect();
    Bytes::from(encode(protocol, &series))
}

/// Series with 60 kB of noise each.
fn noisy_series(count: usize) -> Vec<Series> {
    let noises = noises(60_000);
    (0..count)
        .zip(noises.iter().cycle())
        .map(|(n, noise)| series(&format!("__name__=large,n={n},noise={noise}{n}")))
        .collect()
}

/// Sends the body from all clients at once and returns how many got a 204. The others must get a
/// 503 or be cut off while they send.
async fn send_from_all_clients(
    gate: &Gate,
    body: &Bytes,
    protocol: Protocol,
    framing: Framing,
) -> usize {
    let address = gate.write_address();
    let senders: Vec<_> = (0..CLIENTS)
        .map(|_| framing(Request::write(protocol, body.clone()).spoke("production")))
        .map(|request| tokio::spawn(request.send(address)))
        .collect();
    let mut successes = 0;
    for sender in senders {
        match sender.await.unwrap() {
            Ok(Response { status: 204, .. }) => successes += 1,
            Ok(response) => {
                assert_eq!(response.status, 503, "{response:?}");
                assert!(response.retry_after().is_some(), "{response:?}");
            }
            Err(Failure::Silence) => panic!("a client got no response"),
            Err(Failure::Broken(_)) => {}
        }
    }
    successes
}

/// Fails when the peak of memory exceeds the budget under all bodies at once. The hub is sent
/// `to`. Each framing has a gate of its own, because a peak never falls.
async fn expect_bounded(cluster: &str, from: Protocol, to: Protocol, budget_mib: u64) {
    let body = large_body(from, cluster);
    assert!(body.len() as u64 > 31 * MIB, "{} bytes", body.len());
    for (case, framing) in FRAMINGS {
        let limits = format!("bytes_in_flight_max: {budget_mib}MiB");
        let (hub, gate) = start_with_limits(&limits, &to.hub_key()).await;
        hub.keep_nothing();
        let case = format!("{case}, {from:?} to a {to:?} hub");
        let successes = send_from_all_clients(&gate, &body, from, framing).await;
        assert!(successes > 0, "{case}: no write succeeded");
        let peak = (gate.peak_memory_bytes() - gate.memory_bytes("RssFile")) / MIB;
        assert!(peak <= budget_mib + OVERHEAD_MIB, "{case}: {peak} MiB");
        gate.wait_for_metric("hubgate_bytes_in_flight", &[], 0.0)
            .await;
        gate.expect_balanced_counts("production").await;
    }
}

#[tokio::test]
async fn many_large_unchanged_bodies_at_once_stay_within_the_budget() {
    for protocol in Protocol::BOTH {
        expect_bounded(",cluster=production", protocol, protocol, 128).await;
    }
}

#[tokio::test]
async fn many_large_changed_bodies_at_once_stay_within_the_budget() {
    for protocol in Protocol::BOTH {
        expect_bounded("", protocol, protocol, 128).await;
    }
}

/// A translation needs more memory than an edit. The default budget of 256 MiB is enough for one.
#[tokio::test]
async fn many_large_translated_bodies_at_once_stay_within_the_budget() {
    for [from, to] in [[Protocol::V1, Protocol::V2], [Protocol::V2, Protocol::V1]] {
        expect_bounded("", from, to, 256).await;
    }
}

/// V2 holds a string once that V1 repeats in every series: 60 kB here, each time.
#[tokio::test]
async fn a_v2_body_that_grows_too_much_as_v1_is_cut_within_the_budget() {
    let (hub, gate) = start_hub_and_gate("protocol: v1").await;
    hub.keep_nothing();
    let noises = noises(60_000);
    for count in [500, 2000] {
        let series: Vec<_> = (0..count)
            .zip(noises.iter().cycle())
            .map(|(n, noise)| series(&format!("__name__=small,n={n},noise={noise}")))
            .collect();
        let response = gate.write(Protocol::V2, &series).await.expect(204);
        assert_eq!(response.written(), Some((count, 0, 0)));
    }
    let peak = gate.peak_memory_bytes() / MIB;
    assert!(peak <= 256, "{peak} MiB");
    gate.wait_for_metric("hubgate_bytes_in_flight", &[], 0.0)
        .await;
    gate.expect_balanced_counts("production").await;
}

/// Both halves of a body are in memory beside the whole until the hub has written them.
#[tokio::test]
async fn the_halves_of_a_body_count_towards_the_bytes_in_flight() {
    let (hub, gate) = start_hub_and_gate("protocol: v1, timeout: 2s").await;
    let body = Bytes::from(encode(Protocol::V1, &noisy_series(2)));
    let body_bytes = body.len() as f64;
    hub.reply_once(Reply::status(413));
    hub.reply_once(Reply::never());
    let request = Request::write(Protocol::V1, body).spoke("production");
    let sender = tokio::spawn(request.send(gate.write_address()));
    hub.wait_for_requests(2).await;
    let in_flight = gate.sum("hubgate_bytes_in_flight", &[]).await;
    assert!(
        (1.8..2.2).contains(&(in_flight / body_bytes)),
        "{in_flight} bytes"
    );
    sender.await.unwrap().expect("a response").expect(504);
    gate.wait_for_metric("hubgate_bytes_in_flight", &[], 0.0)
        .await;
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn a_request_beyond_the_budget_is_a_503_with_retry_after() {
    let limits = "bytes_in_flight_max: 2MiB, body_bytes_max: 1MiB, decoded_bytes_max: 1MiB";
    let (hub, gate) = start_with_limits(limits, "").await;
    hub.hold_responses();
    let request = Request::series(Protocol::V1, &noisy_series(15)).spoke("production");
    let mut sent = JoinSet::new();
    for _ in 0..16 {
        sent.spawn(request.clone().send(gate.write_address()));
    }
    // The hub has some of them, and one may wait for room.
    let mut next = async || {
        let response = sent.join_next().await?.unwrap();
        Some(response.expect("a response"))
    };
    let refused = next().await.unwrap().expect(503);
    assert!(refused.retry_after().is_some(), "{refused:?}");
    assert!(refused.text.contains("production"), "{refused:?}");
    hub.release_responses();
    let mut written = 0;
    while let Some(response) = next().await {
        match response.status {
            204 => written += 1,
            _ => drop(response.expect_retryable(503)),
        }
    }
    assert!(written > 0);
    gate.send(request).await.expect(204);
}

/// A field that the message does not define makes a body a candidate for encoding, and empty
/// entries would grow the most by it. The budget has room for the body and its decoded form only,
/// so a gate that reserved memory for more would reply 503.
#[tokio::test]
async fn a_flood_of_metadata_is_refused_without_further_memory() {
    let limits = "bytes_in_flight_max: 10MiB, body_bytes_max: 1MiB, decoded_bytes_max: 9MiB";
    let (hub, gate) = start_with_limits(limits, "").await;
    let mut message = [0x1a, 0x00].repeat(4 << 20);
    message.extend(field(15, b"x"));
    let request = Request::write(Protocol::V1, snappy(&message)).spoke("production");
    for (case, framing) in FRAMINGS {
        let response = gate.send(framing(request.clone())).await;
        response.expect_refusal(case, 400, &["production", "series_per_request"]);
    }
    hub.expect_no_request();
    gate.wait_for_metric("hubgate_bytes_in_flight", &[], 0.0)
        .await;
    gate.expect_peak_memory_below(64);
    gate.expect_balanced_counts("production").await;
}
