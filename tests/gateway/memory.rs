//! Memory stays within the budget, whatever comes at once.

use bytes::Bytes;

use crate::support::body::{Protocol, Sample, Series, encode, field, labels, noise, snappy};
use crate::support::config::{config, config_with_hub_keys, spoke};
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::reply::Reply;
use crate::support::sender::{Failure, Request, Response};

const MIB: u64 = 1 << 20;

/// How a request is sent.
type Shape = fn(Request) -> Request;

/// A body of almost 32 MiB that does not compress: each series has a label of noise as long as
/// the blocks in which snappy looks for repetition.
fn large(protocol: Protocol, cluster: &str) -> Bytes {
    let noise = noise(65_000);
    let large = Series {
        labels: labels(&format!("__name__=large{cluster},noise={noise}")),
        samples: vec![Sample {
            bits: 0,
            timestamp: 1,
        }],
        ..Series::default()
    };
    // V2 would say the noise once, so each series has its own: the number in front.
    let series: Vec<_> = (0..510)
        .map(|n| {
            let mut series = large.clone();
            let noise = &mut series.labels.last_mut().unwrap().1;
            noise.replace_range(..3, &format!("{n:03}"));
            series
        })
        .collect();
    Bytes::from(encode(protocol, &series))
}

/// Sends from 64 clients at once; each is served, told to come back, or cut off while it sends.
async fn storm(gate: &Gate, body: &Bytes, protocol: Protocol, shape: Shape) -> usize {
    let address = gate.write_address();
    let senders: Vec<_> = (0..64)
        .map(|_| shape(Request::write(protocol, body.clone()).spoke("production")))
        .map(|request| tokio::spawn(request.send(address)))
        .collect();
    let mut stored = 0;
    for sender in senders {
        match sender.await.unwrap() {
            Ok(Response { status: 204, .. }) => stored += 1,
            Ok(response) => {
                assert_eq!(response.status, 503, "{response:?}");
                assert!(response.header("retry-after").is_some(), "{response:?}");
            }
            Err(Failure::Silence) => panic!("a client was left without a response"),
            Err(_) => {}
        }
    }
    stored
}

#[tokio::test]
async fn large_bodies_at_once_stay_within_the_budget() {
    for protocol in Protocol::BOTH {
        expect_bounded(",cluster=production", protocol, protocol, 128).await;
    }
}

#[tokio::test]
async fn large_bodies_that_are_written_anew_stay_within_the_budget() {
    for protocol in Protocol::BOTH {
        expect_bounded("", protocol, protocol, 128).await;
    }
}

/// The other version takes more room while it is written, of which the default has enough for one.
#[tokio::test]
async fn large_bodies_that_change_their_version_stay_within_the_budget() {
    for [from, to] in [[Protocol::V1, Protocol::V2], [Protocol::V2, Protocol::V1]] {
        expect_bounded("", from, to, 256).await;
    }
}

/// `to` is what the hub is written; `budget` is in MiB.
async fn expect_bounded(cluster: &str, from: Protocol, to: Protocol, budget: u64) {
    let hub = ScriptedHub::start().await;
    hub.keep_nothing();
    let further = match to {
        Protocol::V1 => "protocol: v1",
        Protocol::V2 => "protocol: v2",
    };
    let limits = format!("limits: {{bytes_in_flight_max: {budget}MiB}}\n");
    let config = config_with_hub_keys(&hub.url(), further, &[spoke("production", "")]);
    let gate = Gate::start(&(limits + &config)).await;
    let cases: [(&str, Shape); 3] = [
        ("Content-Length", |request| request),
        ("chunked", Request::chunked),
        ("http/2", Request::http2),
    ];
    let body = large(from, cluster);
    assert!(body.len() as u64 > 31 * MIB, "{} bytes", body.len());
    for (case, shape) in cases {
        let case = format!("{case}, {from:?} written {to:?}");
        let stored = storm(&gate, &body, from, shape).await;
        assert!(stored > 0, "{case}: nobody was served");
        let peak = gate.peak_memory_bytes() / MIB;
        assert!(peak <= budget + 64, "{case}: {peak} MiB");
    }
    gate.wait_for_metric("hubgate_bytes_in_flight", &[], 0.0)
        .await;
    gate.expect_balanced_counts("production").await;
}

/// V2 says a string once that V1 says in every series: 60 KB here, each time.
#[tokio::test]
async fn what_grows_without_measure_in_v1_is_refused() {
    let hub = ScriptedHub::start().await;
    hub.keep_nothing();
    let config = config_with_hub_keys(&hub.url(), "protocol: v1", &[spoke("production", "")]);
    let gate = Gate::start(&config).await;
    let noise = noise(60_000);
    for (count, status) in [(500, 204), (2000, 413)] {
        let series: Vec<_> = (0..count)
            .map(|n| crate::support::body::series(&format!("__name__=small,n={n},noise={noise}")))
            .collect();
        let body = Bytes::from(encode(Protocol::V2, &series));
        let request = Request::write(Protocol::V2, body).spoke("production");
        let response = gate.send(request).await;
        assert_eq!(response.status, status, "{response:?}");
        if status == 413 {
            assert_eq!(response.written(), Some((0, 0, 0)));
            assert!(
                response.text.contains("max_samples_per_send"),
                "{response:?}"
            );
        }
    }
    let peak = gate.peak_memory_bytes() / MIB;
    assert!(peak <= 256, "{peak} MiB");
    gate.wait_for_metric("hubgate_bytes_in_flight", &[], 0.0)
        .await;
    gate.expect_balanced_counts("production").await;
}

/// Halves are there beside the whole that they were cut from, until the hub has them.
#[tokio::test]
async fn what_is_sent_again_in_pieces_is_counted() {
    let hub = ScriptedHub::start().await;
    let further = "protocol: v1, timeout: 2s";
    let config = config_with_hub_keys(&hub.url(), further, &[spoke("production", "")]);
    let gate = Gate::start(&config).await;
    let noise = noise(60_000);
    let series: Vec<_> = (0..2)
        .map(|n| crate::support::body::series(&format!("__name__=large,n={n},noise={noise}{n}")))
        .collect();
    let body = Bytes::from(encode(Protocol::V1, &series));
    let body_bytes = body.len() as f64;
    hub.reply_once(Reply::status(413));
    hub.reply_once(Reply::never());
    let request = Request::write(Protocol::V1, body).spoke("production");
    let sender = tokio::spawn(request.send(gate.write_address()));
    hub.wait_for_requests(2).await;
    let metrics = gate.metrics().await;
    let taken = metrics.sum("hubgate_bytes_in_flight", &[]);
    assert!((1.8..2.2).contains(&(taken / body_bytes)), "{taken} bytes");
    sender.await.unwrap().expect("a response").expect(504);
    gate.wait_for_metric("hubgate_bytes_in_flight", &[], 0.0)
        .await;
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn beyond_the_budget_a_sender_is_told_to_come_back() {
    let hub = ScriptedHub::start().await;
    let limits =
        "limits: {bytes_in_flight_max: 2MiB, body_bytes_max: 1MiB, decoded_bytes_max: 1MiB}\n";
    let yaml = format!("{limits}{}", config(&hub.url(), &[spoke("production", "")]));
    let gate = Gate::start(&yaml).await;
    hub.hold_responses();
    let noise = noise(60_000);
    let series: Vec<_> = (0..15)
        .map(|n| crate::support::body::series(&format!("__name__=large,n={n},noise={noise}{n}")))
        .collect();
    let body = Bytes::from(encode(Protocol::V1, &series));
    let request = Request::write(Protocol::V1, body).spoke("production");
    let address = gate.write_address();
    let mut held = vec![tokio::spawn(request.clone().send(address))];
    hub.wait_for_requests(1).await;
    let refused = loop {
        let mut next = tokio::spawn(request.clone().send(address));
        tokio::select! {
            () = hub.wait_for_requests(held.len() + 1) => held.push(next),
            response = &mut next => break response.unwrap().expect("a response"),
        }
        assert!(held.len() < 64, "no limit in sight");
    };
    let refused = refused.expect(503);
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert!(refused.text.contains("production"), "{refused:?}");
    hub.release_responses();
    for held in held {
        held.await.unwrap().expect("a response").expect(204);
    }
    gate.send(request).await.expect(204);
}

/// A field that the message does not define makes it a candidate for writing anew, and empty
/// entries would grow the most by it. The budget holds the body and its decoded form, no more: a
/// gate that took room for anything else would response 503.
#[tokio::test]
async fn a_flood_of_metadata_is_refused_within_the_room_of_its_body() {
    let hub = ScriptedHub::start().await;
    let limits =
        "limits: {bytes_in_flight_max: 10MiB, body_bytes_max: 1MiB, decoded_bytes_max: 9MiB}\n";
    let yaml = format!("{limits}{}", config(&hub.url(), &[spoke("production", "")]));
    let gate = Gate::start(&yaml).await;
    let mut message = [0x1a, 0x00].repeat(4 << 20);
    message.extend(field(15, b"x"));
    let request = Request::write(Protocol::V1, snappy(&message)).spoke("production");
    for request in [request.clone(), request.clone().chunked(), request.http2()] {
        let response = gate.send(request).await;
        response.expect_refusal("flood", 400, &["production", "series_per_request"]);
    }
    hub.expect_no_request();
    gate.wait_for_metric("hubgate_bytes_in_flight", &[], 0.0)
        .await;
    let peak = gate.peak_memory_bytes() / MIB;
    assert!(peak < 64, "{peak} MiB");
    gate.expect_balanced_counts("production").await;
}
