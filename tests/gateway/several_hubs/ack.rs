//! What the spoke is told under `ack: all` and under `ack: any`.

use std::time::{Duration, Instant};

use super::{gate, requests, start, three, written};
use crate::support::body::{Protocol, Series, bare, noise, series, success_headers};
use crate::support::config::{config_hubs, hub_named, spoke};
use crate::support::gate::Gate;
use crate::support::hub::{ScriptedHub, vacant};
use crate::support::reply::Reply;
use crate::support::sender::{Connection, Request};
use crate::support::{DEADLINE, eventually};

/// What must not wait for a hub takes less.
const AT_ONCE: Duration = Duration::from_secs(2);

/// About 100 KiB that do not compress.
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
    for (picky, other) in [(&a, &b), (&b, &a)] {
        picky.refuse_if(|unit| unit.notation().contains("__name__=b,"));
        other.refuse_if(|_| false);
        for protocol in Protocol::BOTH {
            let response = gate.write(protocol, &three()).await;
            response.expect_refusal(
                "one refuses",
                400,
                &["production", "the hub says (400): bad"],
            );
            assert_eq!(response.written(), Some((2, 0, 0)), "{protocol:?}");
            assert_eq!(picky.take_stored().len(), 2);
            assert_eq!(other.take_stored().len(), 3);
        }
    }
    let metrics = gate.metrics().await;
    let float = [("spoke", "production"), ("kind", "float")];
    assert_eq!(metrics.sum("hubgate_samples_written_total", &float), 8.0);
    assert_eq!(metrics.sum("hubgate_samples_rejected_total", &float), 4.0);
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
    for order in [0, 1] {
        let up = ScriptedHub::start().await;
        let (address, url) = vacant();
        let mut urls = [up.url(), url];
        urls.rotate_left(order);
        let gate = gate("all", [&urls[0], &urls[1]], "").await;
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
    // The other hub has had the time for its response.
    eventually("the fast one answered", DEADLINE, async || {
        match written(&gate, "a").await {
            3.0 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    assert!(!sender.is_finished());
    b.release_responses();
    sender.await.unwrap().expect("a response").expect(204);
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn ack_any_does_not_wait_for_a_hub_that_is_down() {
    for order in [0, 1] {
        let up = ScriptedHub::start().await;
        let mut urls = [up.url(), vacant().1];
        urls.rotate_left(order);
        let gate = gate("any", [&urls[0], &urls[1]], "").await;
        let (down, well) = if order == 0 { ("b", "a") } else { ("a", "b") };
        gate.wait_for_protocol(Some(well), Protocol::V2).await;
        let started = Instant::now();
        for protocol in Protocol::BOTH {
            let response = gate.write(protocol, &three()).await.expect(204);
            let expected = success_headers(protocol, (3, 0, 0));
            assert_eq!(response.written(), expected);
        }
        assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
        assert_eq!(up.take_stored().len(), 6);
        eventually("the fault is counted", DEADLINE, async || {
            // Two writes, and the probes.
            match requests(&gate, down, "connect_error").await {
                2.0.. => Ok(()),
                other => Err(other),
            }
        })
        .await;
        assert_eq!(written(&gate, down).await, 0.0);
        let hub = format!("\"hub\":\"{down}\"");
        gate.wait_for_log(&["a hub did not take a write", &hub])
            .await;
        gate.expect_balanced_counts("production").await;
    }
}

#[tokio::test]
async fn ack_any_succeeds_when_one_hub_refuses_and_one_stores() {
    let ([a, b], gate) = start("any").await;
    for (refusing, taking) in [(&a, &b), (&b, &a)] {
        for protocol in Protocol::BOTH {
            refusing.reply_once(Reply::status(400).written(1, 0, 0).text("too old"));
            // The refusal comes first.
            taking.reply_once(Reply::as_usual().after(Duration::from_millis(100)));
            let response = gate.write(protocol, &three()).await.expect(204);
            let expected = success_headers(protocol, (3, 0, 0));
            assert_eq!(response.written(), expected);
            assert_eq!(taking.take_stored(), three());
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
            // A fault of one is none of the request, where the other has settled it.
            more.reply_once(Reply::status(400).written(2, 0, 0).text("too old"));
            less.reply_once(Reply::status(503));
            let response = gate.write(protocol, &three()).await.expect(400);
            assert_eq!(response.written(), Some((2, 0, 0)));
        }
    }
    gate.expect_balanced_counts("production").await;
}

/// What is too large for one hub need not be for the other, when that is well again.
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
    let gate = gate("any", [&vacant().1, &vacant().1], "").await;
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

/// A hub that answers nothing takes what it may hold and is then left out, until it caught up.
#[tokio::test]
async fn ack_any_skips_a_silent_hub_beyond_its_share_of_memory() {
    for order in [0, 1] {
        let (taking, silent) = (ScriptedHub::start().await, ScriptedHub::start().await);
        let mut urls = [taking.url(), silent.url()];
        urls.rotate_left(order);
        let silent_name = if order == 0 { "b" } else { "a" };
        let hubs = [("a", &urls[0]), ("b", &urls[1])].map(|(name, url)| hub_named(name, url, ""));
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
        assert_eq!(taking.take_stored().len(), 40);
        // A quarter of the budget: half of it for all hubs.
        let held = silent.take_received().len();
        assert!((5..=9).contains(&held), "{held} requests at the silent hub");
        let skipped = requests(&gate, silent_name, "skipped").await;
        assert_eq!(skipped, 20.0 - held as f64);
        let metrics = gate.metrics().await;
        let taken = metrics.sum("hubgate_bytes_in_flight", &[]);
        assert!(taken <= f64::from(1_u32 << 20), "{taken} bytes");
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

/// A V1 hub is no worse for what its version has no place for, but it took less than the other.
#[tokio::test]
async fn ack_any_succeeds_when_only_the_v2_hub_can_hold_a_sample() {
    for order in [0, 1] {
        let (v1, v2) = (
            ScriptedHub::start_v1_only().await,
            ScriptedHub::start().await,
        );
        let mut urls = [v1.url(), v2.url()];
        urls.rotate_left(order);
        let gate = gate("any", [&urls[0], &urls[1]], "").await;
        let (v1_name, v2_name) = if order == 0 { ("a", "b") } else { ("b", "a") };
        gate.wait_for_protocol(Some(v1_name), Protocol::V1).await;
        gate.wait_for_protocol(Some(v2_name), Protocol::V2).await;
        // The V1 hub is the faster one.
        v2.reply_always(Reply::as_usual().after(Duration::from_millis(200)));
        let mut custom = bare("__name__=h,cluster=production").histogram(1);
        custom.histograms[0].schema = -53;
        custom.histograms[0].custom_values = vec![1.0, 2.0];
        let batch = [three().to_vec(), vec![custom]].concat();
        let response = gate.write(Protocol::V2, &batch).await.expect(204);
        assert_eq!(response.written(), Some((3, 1, 0)));
        assert_eq!(v1.take_stored().len(), 3);
        // Without the other it is a loss, and said to be one.
        v2.reply_always(Reply::status(503));
        let response = gate.write(Protocol::V2, &batch).await;
        response.expect_refusal("custom buckets", 400, &["production", "hub_protocol"]);
        assert_eq!(response.written(), Some((3, 0, 0)));
        gate.expect_balanced_counts("production").await;
    }
}

/// Small requests take memory as well, and there may be very many of them.
#[tokio::test]
async fn ack_any_bounds_the_memory_of_small_requests_to_a_silent_hub() {
    let (taking, silent) = (ScriptedHub::start().await, ScriptedHub::start().await);
    let hubs = [("a", &taking), ("b", &silent)].map(|(name, hub)| hub_named(name, &hub.url(), ""));
    let yaml = config_hubs("any", &hubs, &[spoke("production", "")]);
    let gate = Gate::start(&format!("limits: {{bytes_in_flight_max: 64MiB}}\n{yaml}")).await;
    gate.wait_for_protocol(None, Protocol::V2).await;
    taking.keep_nothing();
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
