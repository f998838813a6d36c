//! Salvage: a request that a hub refuses whole is halved until the bad sample, or what is too large,
//! is alone. The number of requests is limited, and the spoke gets exact counts.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::body::{Protocol, Series, bare, success_headers};
use crate::support::gate::{Gate, start_hub_and_gate};
use crate::support::hub::{ScriptedHub, protocols};
use crate::support::reply::Reply;

/// The value that the hubs here refuse.
const BAD: f64 = 666.0;

/// A hub that refuses samples of [`BAD`].
async fn hub_that_refuses_bad() -> ScriptedHub {
    let hub = ScriptedHub::start().await;
    hub.refuse_if(|unit| unit.samples.iter().any(|it| it.bits == BAD.to_bits()));
    hub
}

/// `count` series of one sample each. The series at the positions in `bad` have a bad one.
fn batch(count: usize, bad: &[usize]) -> Vec<Series> {
    let value = |n| if bad.contains(&n) { BAD } else { 1.0 };
    (0..count)
        .map(|n| numbered(n).sample(value(n), 1))
        .collect()
}

/// A series without samples, by its number.
fn numbered(n: usize) -> Series {
    bare(&format!("__name__=up,cluster=production,id={n:04}"))
}

/// The good samples of some series in order, each as a series of its own.
fn good(series: &[Series]) -> Vec<Series> {
    let units = series.iter().flat_map(Series::units);
    units
        .filter(|unit| unit.samples.iter().all(|it| it.bits != BAD.to_bits()))
        .collect()
}

#[tokio::test]
async fn bad_samples_lose_only_themselves_at_a_v1_hub() {
    for protocol in Protocol::BOTH {
        for (count, bad) in [
            (1000, &[500][..]),
            (1000, &[0]),
            (1000, &[999]),
            (1000, &[3, 4, 700]),
            (2, &[1]),
            (1, &[0]),
        ] {
            let hub = hub_that_refuses_bad().await;
            let gate = Gate::start_for(&hub.url(), "protocol: v1").await;
            let case = format!("{protocol:?}, {bad:?} of {count}");
            let sent = batch(count, bad);
            let response = gate.write(protocol, &sent).await;
            response.expect_refusal(
                &case,
                400,
                &["production", "the hub says (400): bad", "id="],
            );
            let written = count - bad.len();
            assert_eq!(response.written(), Some((written, 0, 0)), "{case}");
            // Each good sample is stored once, in its order in the request.
            assert_eq!(hub.take_stored(), good(&sent), "{case}");
            assert!(hub.take_received().len() <= 65, "{case}");
            assert_eq!(
                gate.samples("received", "float").await,
                count as f64,
                "{case}"
            );
            assert_eq!(
                gate.samples("written", "float").await,
                written as f64,
                "{case}"
            );
            assert_eq!(
                gate.samples("rejected", "float").await,
                bad.len() as f64,
                "{case}"
            );
            gate.expect_balanced_counts("production").await;
        }
    }
}

#[tokio::test]
async fn the_rest_of_a_series_with_a_bad_sample_is_stored_in_order() {
    let hub = hub_that_refuses_bad().await;
    let gate = Gate::start_for(&hub.url(), "protocol: v1").await;
    for protocol in Protocol::BOTH {
        let mut sent = batch(20, &[]);
        // A series with one bad sample among 50, and series with exemplars and histograms.
        let mut long = numbered(20);
        for timestamp in 0..50 {
            let value = if timestamp == 31 { BAD } else { 1.0 };
            long = long.sample(value, timestamp);
        }
        sent.push(long.exemplar("trace_id=a", 3));
        sent.push(numbered(21).histogram(1).histogram(2).histogram(3));
        sent.push(numbered(20).sample(1.0, 50).sample(1.0, 51));
        let response = gate.write(protocol, &sent).await.expect(400);
        assert_eq!(
            response.written(),
            Some((20 + 49 + 2, 3, 1)),
            "{protocol:?}"
        );
        let stored = hub.take_stored();
        let mut orders: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for unit in &stored {
            let order = orders.entry(unit.notation()).or_default();
            order.extend(unit.samples.iter().map(|sample| sample.timestamp));
            order.extend(unit.histograms.iter().map(|histogram| histogram.timestamp));
        }
        let long: Vec<_> = (0..52).filter(|it| *it != 31).collect();
        assert_eq!(orders[&numbered(20).notation()], long, "{protocol:?}");
        assert_eq!(orders[&numbered(21).notation()], [1, 2, 3], "{protocol:?}");
        assert_eq!(stored.len(), 71 + 3 + 1, "stored once each");
        gate.expect_balanced_counts("production").await;
    }
}

#[tokio::test]
async fn salvage_stops_at_its_limit_and_counts_exactly() {
    for requests_max in [2, 3, 8, 20] {
        let hub = hub_that_refuses_bad().await;
        let further = format!("protocol: v1, salvage_requests_max: {requests_max}");
        let gate = Gate::start_for(&hub.url(), &further).await;
        for protocol in Protocol::BOTH {
            // There are more bad samples than this number of requests can isolate.
            let bad: Vec<_> = (0..1000).step_by(37).collect();
            let sent = batch(1000, &bad);
            let response = gate.write(protocol, &sent).await.expect(400);
            let requests = hub.take_received().len();
            assert!(requests <= 1 + requests_max, "{requests} of {requests_max}");
            let stored = hub.take_stored();
            assert_eq!(
                response.written(),
                Some((stored.len(), 0, 0)),
                "{requests_max}"
            );
            assert!(good(&sent).len() >= stored.len());
            assert!(stored.is_sorted_by(|a, b| a.notation() < b.notation()));
        }
        gate.expect_balanced_counts("production").await;
    }
}

#[tokio::test]
async fn a_limit_of_two_requests_saves_one_half() {
    let hub = hub_that_refuses_bad().await;
    let gate = Gate::start_for(&hub.url(), "protocol: v1, salvage_requests_max: 2").await;
    for protocol in Protocol::BOTH {
        let sent = batch(1000, &[0]);
        let response = gate.write(protocol, &sent).await.expect(400);
        assert_eq!(response.written(), Some((500, 0, 0)));
        assert_eq!(hub.take_stored(), good(&sent[500..]));
        assert_eq!(hub.take_received().len(), 3);
    }
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn salvage_requests_max_of_0_sends_nothing_twice() {
    let hub = hub_that_refuses_bad().await;
    let gate = Gate::start_for(&hub.url(), "protocol: v1, salvage_requests_max: 0").await;
    for protocol in Protocol::BOTH {
        let response = gate.write(protocol, &batch(10, &[5])).await.expect(400);
        // The response of a V1 hub does not tell whether it stored anything.
        let expected = success_headers(protocol, (0, 0, 0));
        assert_eq!(response.written(), expected, "{protocol:?}");
        hub.take_one();
        assert_eq!(hub.take_stored(), []);
    }
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn a_bad_sample_takes_one_request_at_a_v2_hub() {
    let hub = hub_that_refuses_bad().await;
    let gate = Gate::start_for(&hub.url(), "protocol: v2").await;
    for protocol in Protocol::BOTH {
        let response = gate.write(protocol, &batch(10, &[5])).await.expect(400);
        assert_eq!(response.written(), Some((9, 0, 0)), "{protocol:?}");
        hub.take_one();
        assert_eq!(hub.take_stored().len(), 9);
    }
}

#[tokio::test]
async fn a_body_too_large_for_the_hub_is_halved() {
    for to in Protocol::BOTH {
        for protocol in Protocol::BOTH {
            let hub = ScriptedHub::start().await;
            hub.limit_message_bytes(10_000);
            let gate = Gate::start_for(&hub.url(), &to.hub_key()).await;
            let sent = batch(1000, &[]);
            let response = gate.write(protocol, &sent).await.expect(204);
            let expected = success_headers(protocol, (1000, 0, 0));
            assert_eq!(response.written(), expected, "{protocol:?} as {to:?}");
            assert_eq!(hub.take_stored(), good(&sent), "{protocol:?} as {to:?}");
            let received = hub.take_received();
            assert!((2..=65).contains(&received.len()), "{}", received.len());
            gate.expect_balanced_counts("production").await;
        }
    }
}

#[tokio::test]
async fn a_series_too_large_for_the_hub_loses_only_itself() {
    for to in Protocol::BOTH {
        for protocol in Protocol::BOTH {
            let hub = ScriptedHub::start().await;
            hub.limit_message_bytes(10_000);
            let gate = Gate::start_for(&hub.url(), &to.hub_key()).await;
            let case = format!("{protocol:?} as {to:?}");
            let noise = "x".repeat(20_000);
            let large = bare(&format!("__name__=up,cluster=production,noise={noise}"));
            let mut sent = batch(100, &[]);
            sent.insert(50, large.sample(1.0, 1));
            let response = gate.write(protocol, &sent).await;
            response.expect_refusal(&case, 413, &["production", "the hub says (413)"]);
            assert_eq!(response.written(), Some((100, 0, 0)), "{case}");
            assert_eq!(hub.take_stored(), batch(100, &[]), "{case}");
            gate.expect_balanced_counts("production").await;
        }
    }
}

#[tokio::test]
async fn a_body_both_too_large_and_bad_is_halved_for_both() {
    let hub = hub_that_refuses_bad().await;
    hub.limit_message_bytes(10_000);
    let gate = Gate::start_for(&hub.url(), "protocol: v1").await;
    for protocol in Protocol::BOTH {
        let sent = batch(400, &[123]);
        let response = gate.write(protocol, &sent).await.expect(400);
        assert_eq!(response.written(), Some((399, 0, 0)), "{protocol:?}");
        assert_eq!(hub.take_stored(), good(&sent), "{protocol:?}");
    }
    gate.expect_balanced_counts("production").await;
}

/// The spoke repeats the whole write, and the hub ignores what it has already. A 4xx would lose what
/// is not stored yet.
#[tokio::test]
async fn a_hub_fault_during_salvage_makes_the_whole_write_retryable() {
    let hub = hub_that_refuses_bad().await;
    let gate = Gate::start_for(&hub.url(), "protocol: v1").await;
    for (fault, status) in [
        (Reply::status(503), 503),
        (Reply::status(429), 503),
        (Reply::status(401), 502),
        (Reply::cut_off(500), 502),
    ] {
        for protocol in Protocol::BOTH {
            for _ in 0..3 {
                hub.reply_once(Reply::as_usual());
            }
            hub.reply_once(fault.clone());
            let response = gate
                .write(protocol, &batch(100, &[90]))
                .await
                .expect(status);
            assert_eq!(response.written(), None, "{fault:?}: {response:?}");
            assert_eq!(hub.take_received().len(), 4, "{fault:?}");
            hub.take_stored();
            // The spoke repeats the write.
            gate.write(protocol, &batch(100, &[90])).await.expect(400);
            assert_eq!(hub.take_stored().len(), 99, "{fault:?}");
            hub.take_received();
        }
    }
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn refusals_by_the_gate_and_by_the_hub_add_up() {
    let hub = hub_that_refuses_bad().await;
    let gate = Gate::start_for(&hub.url(), "protocol: v1").await;
    for protocol in Protocol::BOTH {
        let mut sent = batch(100, &[7]);
        sent.push(bare("__name__=up,cluster=staging").sample(1.0, 1));
        let response = gate.write(protocol, &sent).await;
        let parts = ["mismatched_label: 1 of 101", "the hub says (400): bad"];
        response.expect_refusal("both", 400, &parts);
        assert_eq!(response.written(), Some((99, 0, 0)), "{protocol:?}");
        assert_eq!(hub.take_stored().len(), 99);
    }
    gate.expect_balanced_counts("production").await;
}

/// A hub that is slow for some attempts costs no sample, however many are bad.
#[tokio::test]
async fn salvage_is_put_off_while_the_hub_is_too_slow() {
    let hub = hub_that_refuses_bad().await;
    let gate = Gate::start_for(&hub.url(), "protocol: v1, timeout: 2s").await;
    let sent = batch(1000, &[3, 900]);
    hub.reply_always(Reply::as_usual().after(Duration::from_millis(450)));
    for _ in 0..4 {
        let response = gate.write(Protocol::V1, &sent).await.expect_retryable(503);
        assert!(response.text.contains("too slow"), "{response:?}");
    }
    hub.reply_as_usual();
    hub.take_stored();
    let response = gate.write(Protocol::V1, &sent).await.expect(400);
    assert_eq!(response.written(), Some((998, 0, 0)), "{response:?}");
    assert_eq!(hub.take_stored().len(), 998);
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn the_response_names_what_salvage_did_not_reach() {
    let hub = hub_that_refuses_bad().await;
    let gate = Gate::start_for(&hub.url(), "protocol: v1, salvage_requests_max: 4").await;
    for protocol in Protocol::BOTH {
        let response = gate.write(protocol, &batch(1000, &[3])).await;
        let parts = [
            "250 samples refused without being tried one by one",
            "salvage_requests_max",
        ];
        response.expect_refusal("4 requests", 400, &parts);
        assert_eq!(response.written(), Some((750, 0, 0)), "{protocol:?}");
        hub.take_stored();
    }
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn a_v2_body_too_large_as_v1_is_halved_first() {
    let (hub, gate) = start_hub_and_gate("protocol: auto").await;
    gate.wait_for_protocol(None, Protocol::V2).await;
    // V2 holds the value once; V1 would hold it 1,000 times.
    let value = "v".repeat(60_000);
    let sent: Vec<_> = (0..1000)
        .map(|n| {
            bare(&format!(
                "__name__=up,cluster=production,id={n},note={value}"
            ))
        })
        .map(|series| series.sample(1.0, 1))
        .collect();
    hub.reply_once(Reply::status(400).text("decoded size exceeds"));
    let response = gate.write(Protocol::V2, &sent).await.expect(204);
    assert_eq!(response.written(), Some((1000, 0, 0)), "{response:?}");
    assert_eq!(hub.take_stored().len(), 1000);
    assert_eq!(protocols(&hub.take_received()), [Protocol::V2; 3]);
    gate.expect_balanced_counts("production").await;
}

/// The gate knows that the hub speaks V1, so the V2 message is cut before anything is sent.
#[tokio::test]
async fn a_v2_body_too_large_as_v1_is_cut_before_it_is_sent() {
    let value = "v".repeat(60_000);
    let sent: Vec<_> = (0..1000)
        .map(|n| {
            bare(&format!(
                "__name__=up,cluster=production,id={n:04},note={value}"
            ))
        })
        .map(|series| series.sample(1.0, 1))
        .collect();
    let (hub, gate) = start_hub_and_gate("protocol: v1").await;
    let response = gate.write(Protocol::V2, &sent).await.expect(204);
    assert_eq!(response.written(), Some((1000, 0, 0)), "{response:?}");
    assert_eq!(hub.take_stored(), sent);
    assert_eq!(protocols(&hub.take_received()), [Protocol::V1; 2]);
    gate.expect_balanced_counts("production").await;

    // Nothing is cut without further requests. The hub refused nothing.
    let (hub, gate) = start_hub_and_gate("protocol: v1, salvage_requests_max: 0").await;
    let response = gate.write(Protocol::V2, &sent).await;
    response.expect_refusal("too large", 413, &["hub_protocol", "larger than 32 MiB"]);
    assert_eq!(response.written(), Some((0, 0, 0)), "{response:?}");
    hub.expect_no_request();
    assert_eq!(gate.rejected("float", "hub_protocol").await, 1000.0);
    gate.expect_balanced_counts("production").await;
}

/// Some receivers also send Written headers of zero with a refused V1 request.
#[tokio::test]
async fn a_400_to_v1_with_written_headers_of_zero_is_halved() {
    let (hub, gate) = start_hub_and_gate("protocol: v1").await;
    for protocol in Protocol::BOTH {
        hub.reply_once(Reply::status(400).written(0, 0, 0).text("bad"));
        let sent = batch(10, &[]);
        let response = gate.write(protocol, &sent).await.expect(204);
        let expected = success_headers(protocol, (10, 0, 0));
        assert_eq!(response.written(), expected);
        assert_eq!(hub.take_stored(), sent);
        // A hub that counts some samples as written has stored all good ones.
        hub.reply_once(Reply::status(400).written(9, 0, 0).text("bad"));
        hub.take_received();
        let response = gate.write(protocol, &sent).await.expect(400);
        assert_eq!(response.written(), Some((9, 0, 0)));
        assert_eq!(hub.take_received().len(), 1);
    }
    gate.expect_balanced_counts("production").await;
}
