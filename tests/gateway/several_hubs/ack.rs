//! The response to the spoke under `ack: all` and under `ack: any`.

use std::time::{Duration, Instant};

use super::{gate, gate_in_order, requests, start, start_v1_and_v2, three, written};
use crate::support::body::{Protocol, Series, bare, noise, series, success_headers};
use crate::support::config::{config_hubs, hub_named, spoke};
use crate::support::gate::Gate;
use crate::support::hub::{ScriptedHub, vacant};
use crate::support::reply::Reply;
use crate::support::sender::{Connection, Request};
use crate::support::{DEADLINE, eventually, eventually_equal};

/// Longest duration of writes that must not wait for a hub.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Two series of about 60 kB each that do not compress.
fn large(n: usize) -> [Series; 2] {
    [0, 1].map(|half| {
        let noise = noise(60_000);
        series(&format!(
            "__name__=large,cluster=production,half={half},n={n},noise={noise}"
        ))
    })
}

#[tokio::test]
async fn ack_all_returns_the_smallest_written_count() {
    let ([a, b], gate) = start("all").await;
    for (refusing, other) in [(&a, &b), (&b, &a)] {
        refusing.refuse_if(|unit| unit.notation().contains("__name__=b,"));
        other.refuse_if(|_| false);
        for protocol in Protocol::BOTH {
            let response = gate.write(protocol, &three()).await;
            response.expect_refusal(
                "one refuses",
                400,
                &["production", "the hub says (400): bad"],
            );
            assert_eq!(response.written(), Some((2, 0, 0)), "{protocol:?}");
            assert_eq!(refusing.take_stored().len(), 2);
            assert_eq!(other.take_stored().len(), 3);
        }
    }
    assert_eq!(gate.samples("written", "float").await, 8.0);
    assert_eq!(gate.samples("rejected", "float").await, 4.0);
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn ack_all_is_retryable_when_one_hub_fails_and_one_refuses() {
    let ([a, b], gate) = start("all").await;
    for (refusing, faulty) in [(&a, &b), (&b, &a)] {
        for protocol in Protocol::BOTH {
            refusing.reply_once(Reply::status(400).written(1, 0, 0));
            faulty.reply_once(Reply::status(503).after(Duration::from_millis(100)));
            gate.write(protocol, &three()).await.expect_retryable(503);
        }
    }
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn ack_all_loses_nothing_while_one_hub_is_down() {
    for swapped in [false, true] {
        let up = ScriptedHub::start().await;
        let (address, down) = vacant();
        let (gate, _) = gate_in_order("all", swapped, [&up.url(), &down]).await;
        for protocol in Protocol::BOTH {
            gate.write(protocol, &three()).await.expect_retryable(502);
        }
        let back = ScriptedHub::start_at(address).await;
        gate.write(Protocol::V1, &three()).await.expect(204);
        assert_eq!(back.take_stored(), three());
        assert!(up.take_stored().ends_with(&three()));
        gate.expect_balanced_counts("production").await;
    }
}

#[tokio::test]
async fn ack_all_waits_for_the_slowest_hub() {
    let ([a, b], gate) = start("all").await;
    b.hold_responses();
    let sender = tokio::spawn(
        Request::series(Protocol::V2, &three())
            .spoke("production")
            .send(gate.write_address()),
    );
    a.wait_for_requests(1).await;
    b.wait_for_requests(1).await;
    eventually_equal("written by the fast hub", DEADLINE, 3.0, async || {
        written(&gate, "a").await
    })
    .await;
    assert!(!sender.is_finished());
    b.release_responses();
    sender.await.unwrap().expect("a response").expect(204);
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn ack_any_does_not_wait_for_a_hub_that_is_down() {
    for swapped in [false, true] {
        let hub = ScriptedHub::start().await;
        let urls = [&hub.url(), &vacant().1];
        let (gate, [up, down]) = gate_in_order("any", swapped, [urls[0], urls[1]]).await;
        gate.wait_for_protocol(Some(up), Protocol::V2).await;
        let started = Instant::now();
        for protocol in Protocol::BOTH {
            let response = gate.write(protocol, &three()).await.expect(204);
            let expected = success_headers(protocol, (3, 0, 0));
            assert_eq!(response.written(), expected);
        }
        assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
        assert_eq!(hub.take_stored().len(), 6);
        eventually("connection errors are counted", DEADLINE, async || {
            // Two writes; probes may add to them.
            match requests(&gate, down, "connect_error").await {
                2.0.. => Ok(()),
                other => Err(other),
            }
        })
        .await;
        assert_eq!(written(&gate, down).await, 0.0);
        let name = format!("\"hub\":\"{down}\"");
        gate.wait_for_log(&["a hub did not take a write", &name])
            .await;
        gate.expect_balanced_counts("production").await;
    }
}

#[tokio::test]
async fn ack_any_succeeds_when_one_hub_refuses_and_one_stores() {
    let ([a, b], gate) = start("any").await;
    for (refusing, storing) in [(&a, &b), (&b, &a)] {
        for protocol in Protocol::BOTH {
            refusing.reply_once(Reply::status(400).written(1, 0, 0).text("too old"));
            // The refusal comes before the success.
            storing.reply_once(Reply::as_usual().after(Duration::from_millis(100)));
            let response = gate.write(protocol, &three()).await.expect(204);
            let expected = success_headers(protocol, (3, 0, 0));
            assert_eq!(response.written(), expected);
            assert_eq!(storing.take_stored(), three());
        }
    }
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn ack_any_passes_on_the_refusal_of_the_hub_that_wrote_most() {
    let ([a, b], gate) = start("any").await;
    for (more, less) in [(&a, &b), (&b, &a)] {
        for protocol in Protocol::BOTH {
            more.reply_once(Reply::status(400).written(2, 0, 0).text("too old"));
            less.reply_once(Reply::status(400).written(1, 0, 0).text("too new"));
            let response = gate.write(protocol, &three()).await;
            response.expect_refusal("both refuse", 400, &["too old"]);
            assert_eq!(response.written(), Some((2, 0, 0)));
            // The fault of one hub does not matter, because the other one refuses for good.
            more.reply_once(Reply::status(400).written(2, 0, 0).text("too old"));
            less.reply_once(Reply::status(503));
            let response = gate.write(protocol, &three()).await.expect(400);
            assert_eq!(response.written(), Some((2, 0, 0)));
        }
    }
    gate.expect_balanced_counts("production").await;
}

/// The request may not be too large for the other hub once it recovers.
#[tokio::test]
async fn ack_any_is_retryable_when_one_hub_fails_and_one_replies_413() {
    let ([a, b], gate) = start("any").await;
    for (small, faulty) in [(&a, &b), (&b, &a)] {
        for protocol in Protocol::BOTH {
            let batch = &three()[..1];
            small.reply_once(Reply::status(413));
            faulty.reply_once(Reply::status(503).after(Duration::from_millis(100)));
            let response = gate.write(protocol, batch).await.expect(503);
            assert_eq!(response.written(), None, "{response:?}");
            small.reply_once(Reply::status(413));
            gate.write(protocol, batch).await.expect(204);
            small.reply_once(Reply::status(413));
            faulty.reply_once(Reply::status(413));
            let response = gate.write(protocol, batch).await.expect(413);
            assert_eq!(response.written(), Some((0, 0, 0)), "{response:?}");
        }
    }
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn ack_any_is_retryable_when_no_hub_stores() {
    let gate = gate("any", [&vacant().1, &vacant().1]).await;
    for protocol in Protocol::BOTH {
        gate.write(protocol, &three()).await.expect_retryable(502);
    }
    gate.expect_balanced_counts("production").await;
    let ([a, b], gate) = start("any").await;
    for protocol in Protocol::BOTH {
        a.reply_once(Reply::status(503));
        b.reply_once(Reply::status(503));
        gate.write(protocol, &three()).await.expect(503);
    }
    gate.expect_balanced_counts("production").await;
}

/// A silent hub is sent requests until they hold its share of the budget. It is sent more once it
/// has caught up.
#[tokio::test]
async fn ack_any_skips_a_silent_hub_beyond_its_share_of_memory() {
    for (storing_name, silent_name) in [("a", "b"), ("b", "a")] {
        let (storing, silent) = (ScriptedHub::start().await, ScriptedHub::start().await);
        let mut hubs = [(storing_name, &storing), (silent_name, &silent)]
            .map(|(name, hub)| hub_named(name, &hub.url(), ""));
        hubs.sort();
        let limits =
            "limits: {bytes_in_flight_max: 4MiB, body_bytes_max: 1MiB, decoded_bytes_max: 1MiB}\n";
        let spokes = [spoke(
            "production",
            "limits: {series_per_request_max: 1000}",
        )];
        let yaml = config_hubs("any", &hubs, &spokes);
        let gate = Gate::start(&(limits.to_owned() + &yaml)).await;
        gate.wait_for_protocol(None, Protocol::V2).await;
        silent.hold_responses();
        let started = Instant::now();
        for n in 0..20 {
            let protocol = Protocol::BOTH[n % 2];
            gate.write(protocol, &large(n)).await.expect(204);
        }
        assert!(started.elapsed() < 5 * AT_ONCE, "{:?}", started.elapsed());
        assert_eq!(storing.take_stored().len(), 40);
        // All hubs together may hold half of the budget, so this one may hold a quarter.
        let held = silent.take_received().len();
        assert!((5..=9).contains(&held), "{held} requests at the silent hub");
        let skipped = requests(&gate, silent_name, "skipped").await;
        assert_eq!(skipped, 20.0 - held as f64);
        let metrics = gate.metrics().await;
        let in_flight = metrics.sum("hubgate_bytes_in_flight", &[]);
        assert!(in_flight <= f64::from(1_u32 << 20), "{in_flight} bytes");
        silent.release_responses();
        gate.wait_for_metric("hubgate_bytes_in_flight", &[], 0.0)
            .await;
        assert_eq!(silent.take_stored().len(), 2 * held);
        gate.write(Protocol::V2, &three()).await.expect(204);
        silent.wait_for_requests(1).await;
        assert_eq!(silent.take_one().series, three());
        assert_eq!(requests(&gate, silent_name, "skipped").await, skipped);
        gate.expect_balanced_counts("production").await;
    }
}

/// V1 cannot hold a histogram with custom buckets.
#[tokio::test]
async fn ack_any_succeeds_when_only_the_v2_hub_can_hold_a_sample() {
    for swapped in [false, true] {
        let (v1, v2, gate) = start_v1_and_v2("any", swapped).await;
        // The V1 hub replies first.
        v2.reply_always(Reply::as_usual().after(Duration::from_millis(200)));
        let custom = bare("__name__=h,cluster=production").custom_buckets(1);
        let batch = [three().to_vec(), vec![custom]].concat();
        let response = gate.write(Protocol::V2, &batch).await.expect(204);
        assert_eq!(response.written(), Some((3, 1, 0)));
        assert_eq!(v1.take_stored().len(), 3);
        // When the V2 hub fails, the histogram is lost.
        v2.reply_always(Reply::status(503));
        let response = gate.write(Protocol::V2, &batch).await;
        response.expect_refusal("custom buckets", 400, &["production", "hub_protocol"]);
        assert_eq!(response.written(), Some((3, 0, 0)));
        gate.expect_balanced_counts("production").await;
    }
}

/// Each request takes memory beside its bytes, and there may be very many.
#[tokio::test]
async fn ack_any_bounds_the_memory_of_small_requests_to_a_silent_hub() {
    let (storing, silent) = (ScriptedHub::start().await, ScriptedHub::start().await);
    let hubs = [("a", &storing), ("b", &silent)].map(|(name, hub)| hub_named(name, &hub.url(), ""));
    let yaml = config_hubs("any", &hubs, &[spoke("production", "")]);
    let gate = Gate::start(&format!("limits: {{bytes_in_flight_max: 64MiB}}\n{yaml}")).await;
    gate.wait_for_protocol(None, Protocol::V2).await;
    storing.keep_nothing();
    silent.keep_nothing();
    silent.hold_responses();
    gate.write(Protocol::V2, &three()).await.expect(204);
    let before = gate.memory_bytes("VmRSS");
    let request = Request::series(Protocol::V2, &three()).spoke("production");
    let senders: Vec<_> = (0..8)
        .map(|_| {
            let request = request.clone();
            let address = gate.write_address();
            tokio::spawn(async move {
                let mut connection = Connection::open(address, None, false).await.unwrap();
                for _ in 0..1000 {
                    let response = connection.send(request.clone()).await;
                    response.expect("a response").expect(204);
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    let grown = gate.memory_bytes("VmRSS").saturating_sub(before) / 1024;
    assert!(grown < 32 * 1024, "{grown} KiB for 8000 requests");
    silent.release_responses();
    gate.expect_balanced_counts("production").await;
}
