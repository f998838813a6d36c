//! Memory stays within the budget, whatever comes at once.

use bytes::Bytes;

use crate::support::body::{Protocol, Sample, Series, encode, field, labels, snappy};
use crate::support::gate::{Gate, config, spoke, token};
use crate::support::hub::ScriptedHub;
use crate::support::sender::{Answer, Failure, Request};

const MIB: u64 = 1 << 20;

/// How a request is sent.
type Shape = fn(Request) -> Request;

/// A body of almost 32 MiB that does not compress: each series has a label of noise as long as
/// the blocks in which snappy looks for repetition.
fn large(protocol: Protocol, cluster: &str) -> Bytes {
    let noise: String = std::iter::repeat_with(fastrand::alphanumeric)
        .take(65_000)
        .collect();
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
        .map(|_| shape(Request::write(protocol, body.clone()).token(&token("production"))))
        .map(|request| tokio::spawn(request.send(address)))
        .collect();
    let mut stored = 0;
    for sender in senders {
        match sender.await.unwrap() {
            Ok(Answer { status: 204, .. }) => stored += 1,
            Ok(answer) => {
                assert_eq!(answer.status, 503, "{answer:?}");
                assert!(answer.header("retry-after").is_some(), "{answer:?}");
            }
            Err(Failure::Silence) => panic!("a client was left without an answer"),
            Err(_) => {}
        }
    }
    stored
}

#[tokio::test]
async fn large_bodies_at_once_stay_within_the_budget() {
    expect_bounded(",cluster=production").await;
}

#[tokio::test]
async fn large_bodies_that_are_written_anew_stay_within_the_budget() {
    expect_bounded("").await;
}

async fn expect_bounded(cluster: &str) {
    let hub = ScriptedHub::start().await;
    hub.forget();
    let limits = "limits: {bytes_in_flight_max: 128MiB}\n";
    let yaml = format!("{limits}{}", config(&hub.url(), &[spoke("production", "")]));
    let gate = Gate::start(&yaml).await;
    let cases: [(&str, Protocol, Shape); 4] = [
        ("Content-Length", Protocol::V1, |request| request),
        ("chunked", Protocol::V1, Request::chunked),
        ("http/2", Protocol::V1, Request::http2),
        ("Content-Length, V2", Protocol::V2, |request| request),
    ];
    for (case, protocol, shape) in cases {
        let body = large(protocol, cluster);
        assert!(body.len() as u64 > 31 * MIB, "{case}: {} bytes", body.len());
        let stored = storm(&gate, &body, protocol, shape).await;
        assert!(stored > 0, "{case}: nobody was served");
        let peak = gate.memory("VmHWM") / MIB;
        assert!(peak <= 128 + 64, "{case}: {peak} MiB");
    }
    gate.metric_becomes("hubgate_bytes_in_flight", &[], 0.0)
        .await;
    gate.expect_accounts("production").await;
}

#[tokio::test]
async fn beyond_the_budget_a_sender_is_told_to_come_back() {
    let hub = ScriptedHub::start().await;
    let limits =
        "limits: {bytes_in_flight_max: 2MiB, body_bytes_max: 1MiB, decoded_bytes_max: 1MiB}\n";
    let yaml = format!("{limits}{}", config(&hub.url(), &[spoke("production", "")]));
    let gate = Gate::start(&yaml).await;
    hub.hold();
    let noise: String = std::iter::repeat_with(fastrand::alphanumeric)
        .take(60_000)
        .collect();
    let series: Vec<_> = (0..15)
        .map(|n| crate::support::body::series(&format!("__name__=large,n={n},noise={noise}{n}")))
        .collect();
    let body = Bytes::from(encode(Protocol::V1, &series));
    let request = Request::write(Protocol::V1, body).token(&token("production"));
    let address = gate.write_address();
    let mut held = vec![tokio::spawn(request.clone().send(address))];
    hub.wait_received(1).await;
    let refused = loop {
        let mut next = tokio::spawn(request.clone().send(address));
        tokio::select! {
            () = hub.wait_received(held.len() + 1) => held.push(next),
            answer = &mut next => break answer.unwrap().expect("an answer"),
        }
        assert!(held.len() < 64, "no limit in sight");
    };
    let refused = refused.expect(503);
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert!(refused.text.contains("production"), "{refused:?}");
    hub.release();
    for held in held {
        held.await.unwrap().expect("an answer").expect(204);
    }
    gate.send(request).await.expect(204);
}

/// A field that the message does not define makes it a candidate for writing anew, and empty
/// entries would grow the most by it. The budget holds the body and its decoded form, no more: a
/// gate that took room for anything else would answer 503.
#[tokio::test]
async fn a_flood_of_metadata_is_refused_within_the_room_of_its_body() {
    let hub = ScriptedHub::start().await;
    let limits =
        "limits: {bytes_in_flight_max: 10MiB, body_bytes_max: 1MiB, decoded_bytes_max: 9MiB}\n";
    let yaml = format!("{limits}{}", config(&hub.url(), &[spoke("production", "")]));
    let gate = Gate::start(&yaml).await;
    let mut message = [0x1a, 0x00].repeat(4 << 20);
    message.extend(field(15, b"x"));
    let request = Request::write(Protocol::V1, snappy(&message)).token(&token("production"));
    for request in [request.clone(), request.clone().chunked(), request.http2()] {
        let answer = gate.send(request).await;
        answer.expect_refusal("flood", 400, &["production", "series_per_request"]);
    }
    hub.expect_nothing();
    gate.metric_becomes("hubgate_bytes_in_flight", &[], 0.0)
        .await;
    let peak = gate.memory("VmHWM") / MIB;
    assert!(peak < 64, "{peak} MiB");
    gate.expect_accounts("production").await;
}
