//! A hub that answers 500: what it will never take loses only itself, and what it takes later is
//! never refused.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::body::{Protocol, Series, bare, now, success_headers};
use crate::support::config::{config_hubs, hub_named, spoke};
use crate::support::gate::{Gate, start_hub_and_gate};
use crate::support::hub::{Received, ScriptedHub};
use crate::support::reply::Reply;
use crate::support::sender::Response;

/// Longest time in which a sample is refused that a hub answers with an unknown text.
const VERDICT_DEADLINE: Duration = Duration::from_secs(60);

/// Longest time between two attempts of a sender.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Most requests to the hub for one write.
const REQUESTS_MAX: usize = 65;

/// `count` series of one sample each, of the present.
fn batch(name: &str, count: usize) -> Vec<Series> {
    let time = now();
    (0..count)
        .map(|n| bare(&format!("__name__={name},cluster=production,id={n:04}")).sample(1.0, time))
        .collect()
}

/// Fails every request with a sample whose labels contain `part`.
fn fails(part: &str, text: &str) -> impl FnMut(&[Series]) -> Option<String> + Send + 'static {
    let (part, text) = (part.to_owned(), text.to_owned());
    move |units| {
        let found = units.iter().any(|unit| unit.notation().contains(&part));
        found.then(|| text.clone())
    }
}

/// What the hub stored, each sample once.
fn stored(hub: &ScriptedHub) -> Vec<String> {
    let mut stored: Vec<_> = hub.take_stored().iter().map(Series::notation).collect();
    stored.sort();
    stored.dedup();
    stored
}

fn notations(series: &[Series], without: &str) -> Vec<String> {
    let notations = series.iter().map(Series::notation);
    notations.filter(|it| !it.contains(without)).collect()
}

/// Sends a write as a Prometheus does: again after each 5xx, later and later.
async fn deliver(gate: &Gate, protocol: Protocol, series: &[Series]) -> Response {
    let started = tokio::time::Instant::now();
    let mut backoff = Duration::from_millis(30);
    loop {
        let response = gate.write(protocol, series).await;
        if response.status < 500 {
            return response;
        }
        assert_eq!(response.written(), None, "{response:?}");
        assert!(started.elapsed() < VERDICT_DEADLINE, "{response:?}");
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// The text is unknown, so it takes half a minute; all cases run at once.
#[tokio::test]
async fn a_sample_that_a_hub_never_takes_loses_only_itself() {
    use Protocol::{V1, V2};
    tokio::join!(
        one_never_taken(V1, V1),
        one_never_taken(V1, V2),
        one_never_taken(V2, V1),
        one_never_taken(V2, V2),
    );
}

async fn one_never_taken(from: Protocol, to: Protocol) {
    let (hub, gate) = start_hub_and_gate(&to.hub_key()).await;
    hub.fail_if(fails("id=0007", "cannot be appended"));
    let sent = batch("up", 500);
    let case = format!("{from:?} as {to:?}");
    let response = deliver(&gate, from, &sent).await;
    let parts = ["production", "the hub says (500): cannot be appended"];
    response.expect_refusal(&case, 400, &parts);
    assert_eq!(response.written(), Some((499, 0, 0)), "{case}");
    assert_eq!(stored(&hub), notations(&sent, "id=0007"), "{case}");
    gate.wait_for_log(&["the write is cut", "cannot be appended", "production"])
        .await;
    let labels = [("hub", hub.default_name()), ("kind", "float".to_owned())];
    let labels = labels
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let isolated = gate
        .sum("hubgate_hub_samples_isolated_total", &labels)
        .await;
    assert_eq!(isolated, 1.0, "{case}");
    assert_eq!(gate.rejected("float", "hub").await, 1.0, "{case}");
    gate.expect_balanced_counts("production").await;
    // The next write with the same text needs no half minute.
    let before = tokio::time::Instant::now();
    hub.take_received();
    let response = deliver(&gate, from, &batch("next", 500)).await;
    assert_eq!(response.written(), Some((499, 0, 0)), "{case}");
    assert!(before.elapsed() < Duration::from_secs(25), "{case}");
}

/// Other requests of the spoke show that the hub takes something.
#[tokio::test]
async fn a_request_of_one_sample_that_a_hub_never_takes_is_refused_between_others() {
    let (hub, gate) = start_hub_and_gate("protocol: v1").await;
    hub.fail_if(fails("__name__=bad", "boom"));
    let bad = batch("bad", 1);
    let started = tokio::time::Instant::now();
    let response = loop {
        gate.write(Protocol::V1, &batch("good", 3))
            .await
            .expect(204);
        let response = gate.write(Protocol::V1, &bad).await;
        if response.status < 500 {
            break response;
        }
        assert!(started.elapsed() < VERDICT_DEADLINE, "{response:?}");
        tokio::time::sleep(BACKOFF_MAX).await;
    };
    response.expect_refusal("alone", 400, &["the hub says (500): boom"]);
    assert_eq!(response.written(), Some((0, 0, 0)));
    gate.expect_balanced_counts("production").await;
}

/// With `ack: all` the spoke sends again until both hubs are done; with `any` the other hub suffices.
#[tokio::test]
async fn a_sample_that_one_of_two_hubs_never_takes_holds_up_nothing() {
    tokio::join!(one_of_two_hubs("all"), one_of_two_hubs("any"));
}

async fn one_of_two_hubs(ack: &str) {
    let hubs = [ScriptedHub::start().await, ScriptedHub::start().await];
    let key = "protocol: v1";
    let names = [
        hub_named("a", &hubs[0].url(), key),
        hub_named("b", &hubs[1].url(), key),
    ];
    let gate = Gate::start(&config_hubs(ack, &names, &[spoke("production", "")])).await;
    hubs[0].fail_if(fails("id=0007", "boom"));
    let sent = batch("up", 100);
    let response = deliver(&gate, Protocol::V1, &sent).await;
    if ack == "all" {
        response.expect_refusal("all", 400, &["the hub says (500): boom"]);
        assert_eq!(response.written(), Some((99, 0, 0)));
        assert_eq!(stored(&hubs[0]), notations(&sent, "id=0007"));
    } else {
        assert_eq!(response.status, 204, "{response:?}");
    }
    assert_eq!(stored(&hubs[1]), notations(&sent, "nothing"));
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn a_hub_that_is_done_with_a_request_is_not_asked_again_while_another_one_fails() {
    let hubs = [ScriptedHub::start().await, ScriptedHub::start().await];
    let key = "protocol: v1";
    let names = [
        hub_named("a", &hubs[0].url(), key),
        hub_named("b", &hubs[1].url(), key),
    ];
    let gate = Gate::start(&config_hubs("all", &names, &[spoke("production", "")])).await;
    hubs[0].fail_if(fails("id=0007", "datapoint timestamp is not unique"));
    hubs[1].reply_always(Reply::status(503));
    let sent = batch("up", 100);
    gate.write(Protocol::V1, &sent).await.expect_retryable(503);
    assert_eq!(stored(&hubs[0]), notations(&sent, "id=0007"));
    hubs[0].take_received();
    hubs[1].reply_always(Reply::as_usual());
    let response = gate.write(Protocol::V1, &sent).await.expect(400);
    assert_eq!(response.written(), Some((99, 0, 0)), "{response:?}");
    assert_eq!(hubs[0].take_received().len(), 0);
    assert_eq!(stored(&hubs[1]), notations(&sent, "nothing"));
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn a_label_that_reads_like_an_outage_holds_up_nothing() {
    let (hub, gate) = start_hub_and_gate("protocol: v1").await;
    let text = "datapoint timestamp is not unique: {reason=\"timeout\"}";
    hub.fail_if(fails("id=0007", text));
    let response = gate.write(Protocol::V1, &batch("up", 100)).await;
    assert_eq!(response.expect(400).written(), Some((99, 0, 0)));
}

#[tokio::test]
async fn a_known_text_shortens_the_way_to_one_write() {
    for to in Protocol::BOTH {
        for from in Protocol::BOTH {
            let (hub, gate) = start_hub_and_gate(&to.hub_key()).await;
            hub.fail_if(fails("id=0007", "datapoint timestamp is not unique"));
            let sent = batch("up", 1000);
            let response = gate.write(from, &sent).await.expect(400);
            assert_eq!(response.written(), Some((999, 0, 0)), "{response:?}");
            assert_eq!(stored(&hub), notations(&sent, "id=0007"));
            let requests = hub.take_received().len();
            assert!(requests <= REQUESTS_MAX, "{requests}");
            gate.expect_balanced_counts("production").await;
        }
    }
}

#[tokio::test]
async fn histograms_are_split_off_for_a_hub_that_takes_none() {
    for to in Protocol::BOTH {
        for from in Protocol::BOTH {
            let (hub, gate) = start_hub_and_gate(&to.hub_key()).await;
            hub.fail_if(|units| {
                let any = units.iter().any(|unit| !unit.histograms.is_empty());
                any.then(|| "native histograms are disabled".to_owned())
            });
            for round in 0..5 {
                let mut sent = batch("up", 200);
                for n in 0..20 {
                    let labels = format!("__name__=h,cluster=production,id={n}");
                    sent.insert(n * 10, bare(&labels).histogram(now()));
                }
                let response = gate.write(from, &sent).await;
                let parts = ["the hub says (500): native histograms are disabled"];
                response.expect_refusal("histograms", 400, &parts);
                assert_eq!(response.written(), Some((200, 0, 0)));
                assert_eq!(stored(&hub), notations(&sent, "__name__=h"));
                let requests = hub.take_received().len();
                assert!(requests <= if round == 0 { 30 } else { 2 }, "{requests}");
            }
            assert_eq!(gate.rejected("histogram", "hub").await, 100.0);
            assert_eq!(gate.rejected("float", "hub").await, 0.0);
            gate.expect_balanced_counts("production").await;
        }
    }
}

#[tokio::test]
async fn a_hub_that_answers_500_to_everything_for_a_while_loses_nothing() {
    for text in ["boom", "too old sample", "is not unique"] {
        for protocol in Protocol::BOTH {
            let (hub, gate) = start_hub_and_gate(&protocol.hub_key()).await;
            let down = Arc::new(AtomicBool::new(true));
            let is_down = Arc::clone(&down);
            hub.fail_if(move |_| is_down.load(Ordering::Relaxed).then(|| text.to_owned()));
            let writes: Vec<_> = (0..3).map(|n| batch(&format!("m{n}"), 200)).collect();
            for attempt in 0..40 {
                for sent in &writes {
                    gate.write(protocol, sent).await.expect(500);
                }
                let requests = hub.take_received().len();
                assert!(requests <= 3 * 5, "{requests} in attempt {attempt}");
            }
            down.store(false, Ordering::Relaxed);
            for sent in &writes {
                let response = gate.write(protocol, sent).await.expect(204);
                let expected = success_headers(protocol, (200, 0, 0));
                assert_eq!(response.written(), expected, "{text}");
                assert_eq!(stored(&hub), notations(sent, "nothing"), "{text}");
            }
            gate.expect_balanced_counts("production").await;
        }
    }
}

#[tokio::test]
async fn a_hub_that_answers_500_at_random_loses_nothing() {
    for protocol in Protocol::BOTH {
        let (hub, gate) = start_hub_and_gate(&protocol.hub_key()).await;
        hub.fail_if(|_| fastrand::bool().then(|| "boom".to_owned()));
        for n in 0..60 {
            let sent = batch(&format!("m{n}"), 100);
            let response = deliver(&gate, protocol, &sent).await;
            assert_eq!(response.status, 204, "{response:?}");
            let expected = success_headers(protocol, (100, 0, 0));
            assert_eq!(response.written(), expected);
            assert_eq!(stored(&hub), notations(&sent, "nothing"));
        }
        assert_eq!(gate.rejected("float", "hub").await, 0.0);
        gate.expect_balanced_counts("production").await;
    }
}

/// Every second request, so that a sample and its retry could fail each time.
#[tokio::test]
async fn a_hub_that_answers_500_to_every_second_request_loses_nothing() {
    let (hub, gate) = start_hub_and_gate("protocol: v1").await;
    let number = AtomicUsize::new(0);
    hub.fail_if(move |_| {
        let even = number.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        even.then(|| "boom".to_owned())
    });
    for n in 0..40 {
        let sent = batch(&format!("m{n}"), 1 + n);
        let response = deliver(&gate, Protocol::V1, &sent).await;
        assert_eq!(response.status, 204, "{response:?}");
        assert_eq!(stored(&hub), notations(&sent, "nothing"));
    }
    gate.expect_balanced_counts("production").await;
}

/// Prometheus before 2.50 answers 500 to samples older than its out-of-order window.
#[tokio::test]
async fn a_500_for_a_too_old_sample_is_a_400_only_for_a_sample_that_is_old() {
    for to in Protocol::BOTH {
        for protocol in Protocol::BOTH {
            let (hub, gate) = start_hub_and_gate(&to.hub_key()).await;
            hub.fail_if(fails("__name__=old", "too old sample\n"));
            let old = bare("__name__=old,cluster=production").sample(1.0, now() - 49 * 3_600_000);
            let mut sent = batch("up", 50);
            sent.insert(20, old.clone());
            let response = gate.write(protocol, &sent).await;
            response.expect_refusal("too old", 400, &["the hub says (500): too old sample"]);
            assert_eq!(response.written(), Some((50, 0, 0)), "{protocol:?}");
            assert_eq!(stored(&hub), notations(&sent, "__name__=old"));
            let response = gate.write(protocol, &[old]).await.expect(400);
            assert_eq!(response.written(), Some((0, 0, 0)), "{protocol:?}");
            // A sample of the present that is too old is no fault of the sample.
            for _ in 0..20 {
                let present = batch("old", 3);
                gate.write(protocol, &present).await.expect(500);
            }
            gate.expect_balanced_counts("production").await;
        }
    }
}

/// The hub's newest sample is ahead of the clock, so it refuses all that is of the present.
#[tokio::test]
async fn a_400_for_samples_of_the_present_out_of_bounds_is_a_503_until_some_are_stored() {
    for to in Protocol::BOTH {
        for protocol in Protocol::BOTH {
            let (hub, gate) = start_hub_and_gate(&to.hub_key()).await;
            let ahead = Arc::new(AtomicBool::new(true));
            let is_ahead = Arc::clone(&ahead);
            let limit = now() - 30 * 60_000;
            hub.refuse_with("out of bounds", move |unit| {
                let old = unit.samples.iter().any(|it| it.timestamp < limit);
                old || is_ahead.load(Ordering::Relaxed)
            });
            let mut sent = batch("up", 20);
            let late = bare("__name__=late,cluster=production").sample(1.0, now() - 40 * 60_000);
            sent.insert(10, late);
            for _ in 0..5 {
                gate.write(protocol, &sent).await.expect_retryable(503);
            }
            let old = bare("__name__=up,cluster=production").sample(1.0, now() - 2 * 3_600_000);
            gate.write(protocol, &[old]).await.expect(400);
            // When the hub stores samples of the present, it is the sample that is late.
            ahead.store(false, Ordering::Relaxed);
            let response = gate.write(protocol, &sent).await.expect(400);
            assert_eq!(response.written(), Some((20, 0, 0)), "{protocol:?}");
            gate.expect_balanced_counts("production").await;
        }
    }
}

/// What such a hub refuses is asked again, also beside a native histogram that it never takes.
#[tokio::test]
async fn a_400_for_samples_of_the_present_is_not_kept_for_later_attempts() {
    let (hub, gate) = start_hub_and_gate("protocol: v1").await;
    let ahead = Arc::new(AtomicBool::new(true));
    let is_ahead = Arc::clone(&ahead);
    hub.refuse_with("out of bounds", move |_| is_ahead.load(Ordering::Relaxed));
    hub.fail_if(|units| {
        let found = units.iter().any(|unit| !unit.histograms.is_empty());
        found.then(|| "native histograms are disabled".to_owned())
    });
    let mut sent = batch("up", 20);
    sent.push(bare("__name__=h,cluster=production").histogram(now()));
    for _ in 0..3 {
        let response = gate.write(Protocol::V1, &sent).await;
        assert!(response.status >= 500, "{response:?}");
    }
    ahead.store(false, Ordering::Relaxed);
    let response = deliver(&gate, Protocol::V1, &sent).await.expect(400);
    assert_eq!(response.written(), Some((20, 0, 0)), "{response:?}");
    gate.expect_balanced_counts("production").await;
}

/// Whatever a hub answers, each sample ends as written, rejected or failed once, the hub gets a bounded
/// number of requests, and nothing is refused that it has not refused.
#[tokio::test]
async fn a_hub_that_answers_anything_is_believed_in_its_refusals_alone() {
    const STATUSES: [u16; 16] = [
        204, 204, 204, 400, 409, 413, 415, 422, 429, 500, 500, 500, 502, 503, 504, 404,
    ];
    const REFUSING: [u16; 4] = [400, 409, 413, 422];
    for to in Protocol::BOTH {
        let (hub, gate) = start_hub_and_gate(&to.hub_key()).await;
        for round in 0..150 {
            let mut random = fastrand::Rng::with_seed(round);
            let sent = batch(&format!("m{round}"), random.usize(1..40));
            let from = Protocol::BOTH[random.usize(0..2)];
            let mut refused = HashSet::new();
            let mut all = HashSet::new();
            let response = loop {
                let mut may_refuse = false;
                for _ in 0..random.usize(0..12) {
                    let status = STATUSES[random.usize(0..STATUSES.len())];
                    may_refuse |= REFUSING.contains(&status);
                    hub.reply_once(match status {
                        204 => Reply::as_usual(),
                        _ if random.u8(0..20) == 0 => Reply::reset(),
                        status => Reply::status(status).text("boom"),
                    });
                }
                let response = gate.write(from, &sent).await;
                let received = hub.take_received();
                assert!(received.len() <= REQUESTS_MAX, "{}", received.len());
                all.extend(hub.take_stored().iter().map(Series::notation));
                // Which of them was refused is not recorded, so each may be.
                if may_refuse {
                    refused.extend(received.iter().flat_map(Received::labels));
                }
                hub.forget_replies();
                if response.status < 500 {
                    break response;
                }
                assert_eq!(response.written(), None, "{response:?}");
            };
            let told = response.written().map_or(0, |(floats, ..)| floats);
            assert!(
                told <= all.len(),
                "{round}: {response:?}, {} stored",
                all.len()
            );
            match response.status {
                204 => assert_eq!(all.len(), sent.len(), "{round}"),
                400 | 413 => {
                    let lost = sent
                        .iter()
                        .map(Series::notation)
                        .filter(|it| !all.contains(it));
                    let lost: Vec<_> = lost.collect();
                    assert!(
                        lost.iter().all(|it| refused.contains(it)),
                        "{round}: {lost:?}"
                    );
                    assert!(!response.text.contains("(500)"), "{response:?}");
                }
                _ => panic!("{response:?}"),
            }
        }
        gate.expect_balanced_counts("production").await;
    }
}

#[tokio::test]
async fn a_503_or_a_500_with_retry_after_is_never_cut() {
    let (hub, gate) = start_hub_and_gate("protocol: v1").await;
    let sent = batch("up", 100);
    for reply in [
        Reply::status(503).text("is not unique"),
        Reply::status(502).text("is not unique"),
        Reply::status(500)
            .header("retry-after", "1")
            .text("is not unique"),
        Reply::status(500).text("no live replicas: unavailable"),
    ] {
        hub.reply_always(reply);
        for _ in 0..5 {
            let response = gate.write(Protocol::V1, &sent).await;
            assert!(response.status >= 500, "{response:?}");
            hub.take_one();
        }
    }
}
