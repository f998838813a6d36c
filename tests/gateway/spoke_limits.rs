//! Limits of a spoke: samples a second, requests and bytes in flight, the age of samples, and limits
//! that refuse nothing.

mod real_prometheus;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::support::body::{
    Protocol, Series, bare, many_series, message, noise, now, series, snappy, sorted_units,
};
use crate::support::config::{config, config_hubs, config_with_hub_keys, hub_named, spoke};
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::reply::Reply;
use crate::support::sender::{Request, Response};
use crate::support::{DEADLINE, eventually, eventually_equal};

/// A configuration with two spokes, of which `production` has these limits.
fn limited(hub: &ScriptedHub, limits: &str) -> String {
    let limits = format!("limits: {{{limits}}}");
    config(
        &hub.url(),
        &[spoke("production", &limits), spoke("staging", "")],
    )
}

async fn start(limits: &str) -> (ScriptedHub, Gate) {
    let hub = ScriptedHub::start().await;
    let gate = Gate::start(&limited(&hub, limits)).await;
    (hub, gate)
}

/// How much of `production` has exceeded a limit.
async fn exceeded(gate: &Gate, limit: &str) -> f64 {
    let labels = [("spoke", "production"), ("limit", limit)];
    gate.sum("hubgate_limit_exceeded_total", &labels).await
}

async fn used(gate: &Gate, limit: &str) -> f64 {
    let labels = [("spoke", "production"), ("limit", limit)];
    gate.sum("hubgate_limit_used", &labels).await
}

/// The facts that a person needs stand where Prometheus logs them.
#[track_caller]
fn expect_in_the_log_of_a_spoke(response: &Response, status: u16, parts: &[&str]) {
    response.expect_refusal("limited", status, parts);
    let start = &response.text[..response.text.len().min(200)];
    for part in ["production", "limits."].iter().chain(parts) {
        assert!(start.contains(part), "{part} in {start}");
    }
    assert!(response.retry_after().is_some(), "{response:?}");
}

#[tokio::test]
async fn a_request_beyond_the_rate_passes_once_and_is_paid_back() {
    for protocol in Protocol::BOTH {
        let (hub, gate) = start("samples_per_second: 100").await;
        gate.write(protocol, &many_series(3000)).await.expect(204);
        hub.take_one();
        let refused = gate.write(protocol, &many_series(1)).await;
        expect_in_the_log_of_a_spoke(&refused, 503, &["rate_limited", "100", "send again in"]);
        // 29 s, and some at random.
        assert!(refused.retry_after() >= Some(20), "{refused:?}");
        assert_eq!(refused.written(), None);
        hub.expect_no_request();
        // Other spokes do not notice.
        gate.send(Request::up().spoke("staging")).await.expect(204);
        assert_eq!(exceeded(&gate, "samples_per_second").await, 1.0);
        assert!(used(&gate, "samples_per_second").await > 0.0);
        // Nothing of a request that was not read was received.
        assert_eq!(gate.samples("received", "float").await, 3000.0);
        gate.expect_balanced_counts("production").await;
        // The debt stays, and is paid faster.
        gate.reload_with(&limited(&hub, "samples_per_second: 200"))
            .await;
        let refused = gate.write(protocol, &many_series(1)).await;
        let seconds = refused.expect_retryable(503).retry_after().unwrap();
        assert!((10..=22).contains(&seconds), "{seconds} s");
        gate.reload_with(&limited(&hub, "samples_per_second: 10000000"))
            .await;
        gate.write(protocol, &many_series(1)).await.expect(204);
    }
}

#[tokio::test]
async fn a_spoke_recovers_from_its_debt_by_itself() {
    let (_hub, gate) = start("samples_per_second: 1000").await;
    let protocol = Protocol::V2;
    gate.write(protocol, &many_series(2000)).await.expect(204);
    gate.write(protocol, &many_series(1)).await.expect(503);
    eventually("the debt is paid", DEADLINE, async || {
        let response = gate.write(protocol, &many_series(1)).await;
        match response.status {
            204 => Ok(()),
            _ => Err(response),
        }
    })
    .await;
}

/// The first 200 refusals are told at once, and then no more than 100 a second.
#[tokio::test]
async fn a_sender_that_does_not_wait_is_refused_more_slowly() {
    let (_hub, gate) = start("samples_per_second: 1").await;
    gate.write(Protocol::V1, &many_series(3000))
        .await
        .expect(204);
    let began = Instant::now();
    for _ in 0..300 {
        gate.send(Request::up().spoke("production"))
            .await
            .expect_retryable(503);
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(950), "{took:?}");
    // Other spokes do not wait, and nothing is in flight.
    gate.send(Request::up().spoke("staging")).await.expect(204);
    assert_eq!(gate.sum("hubgate_bytes_in_flight", &[]).await, 0.0);
    gate.expect_balanced_counts("production").await;
}

/// They wait no longer when the gate is to end.
#[tokio::test]
async fn a_response_that_is_held_back_is_sent_when_the_gate_drains() {
    let (_hub, gate) = start("samples_per_second: 1").await;
    gate.write(Protocol::V1, &many_series(3000))
        .await
        .expect(204);
    let gate = Arc::new(gate);
    let began = Instant::now();
    let senders: Vec<_> = (0..400)
        .map(|_| {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move { gate.send(Request::up().spoke("production")).await })
        })
        .collect();
    let refused = [("spoke", "production"), ("code", "503")];
    eventually("all are refused", DEADLINE, async || {
        let refused = gate.sum("hubgate_requests_total", &refused).await;
        if refused == 400.0 {
            Ok(())
        } else {
            Err(refused)
        }
    })
    .await;
    // The first ones are not, nor is one in each 10 ms.
    let at_once = 202.0 + began.elapsed().as_secs_f64() * 100.0;
    let delayed = [("spoke", "production")];
    let metrics = gate.metrics().await;
    let delayed = metrics.sum_or_zero("hubgate_refusals_delayed_total", &delayed);
    assert!(delayed >= 400.0 - at_once, "{delayed}");
    gate.signal("INT");
    for sender in senders {
        sender.await.unwrap().expect_retryable(503);
    }
}

#[tokio::test]
async fn the_answer_may_be_429() {
    for protocol in Protocol::BOTH {
        let (_hub, gate) = start("samples_per_second: 1, answer: 429").await;
        let labels = [("spoke", "production"), ("code", "429")];
        assert_eq!(gate.sum("hubgate_requests_total", &labels).await, 0.0);
        gate.write(protocol, &many_series(100)).await.expect(204);
        let refused = gate.write(protocol, &many_series(1)).await;
        expect_in_the_log_of_a_spoke(&refused, 429, &["rate_limited"]);
        // A V2 sender learns that nothing was written.
        let written = (protocol == Protocol::V2).then_some((0, 0, 0));
        assert_eq!(refused.written(), written);
        assert_eq!(gate.sum("hubgate_requests_total", &labels).await, 1.0);
    }
}

/// They will be sent again.
#[tokio::test]
async fn samples_that_a_hub_fails_are_not_paid_for() {
    let (hub, gate) = start("samples_per_second: 1").await;
    let batch = many_series(1000);
    for status in [503, 500, 502] {
        hub.reply_always(Reply::status(status));
        gate.write(Protocol::V1, &batch).await.expect(status);
    }
    hub.reply_as_usual();
    assert_eq!(exceeded(&gate, "samples_per_second").await, 0.0);
    assert_eq!(used(&gate, "samples_per_second").await, 0.0);
    gate.write(Protocol::V1, &batch).await.expect(204);
    gate.write(Protocol::V1, &batch).await.expect(503);
    gate.expect_balanced_counts("production").await;
}

/// What one hub has stored is sent to it again and again while another one fails.
#[tokio::test]
async fn samples_that_one_of_two_hubs_wrote_are_paid_for() {
    let [up, down] = [ScriptedHub::start().await, ScriptedHub::start().await];
    let hubs = [
        hub_named("up", &up.url(), ""),
        hub_named("down", &down.url(), ""),
    ];
    let limited = spoke("production", "limits: {samples_per_second: 1}");
    let gate = Gate::start(&config_hubs("all", &hubs, &[limited])).await;
    down.reply_always(Reply::status(503));
    let batch = many_series(1000);
    let failed = gate.write(Protocol::V1, &batch).await;
    failed.expect_refusal("down", 503, &["the hub answered 503"]);
    let refused = gate.write(Protocol::V1, &batch).await;
    expect_in_the_log_of_a_spoke(&refused, 503, &["rate_limited"]);
    up.take_one();
    gate.expect_balanced_counts("production").await;
}

/// They cost hubgate as much as others.
#[tokio::test]
async fn bodies_that_cannot_be_read_are_paid_for() {
    for protocol in Protocol::BOTH {
        let (hub, gate) = start("samples_per_second: 1").await;
        let message = message(protocol, &many_series(1000));
        let malformed = snappy(&message[..message.len() - 1]);
        let request = || Request::write(protocol, malformed.clone()).spoke("production");
        gate.send(request()).await.expect(400);
        let refused = gate.send(request()).await;
        expect_in_the_log_of_a_spoke(&refused, 503, &["rate_limited"]);
        hub.expect_no_request();
    }
}

/// A write of some series that a hub holds.
fn held(gate: &Arc<Gate>, series: Vec<Series>) -> JoinHandle<u16> {
    let gate = Arc::clone(gate);
    tokio::spawn(async move { gate.write(Protocol::V1, &series).await.status })
}

#[tokio::test]
async fn a_place_is_free_when_its_request_is_finished_and_not_before() {
    let (hub, gate) = start("requests_in_flight_max: 2").await;
    let gate = Arc::new(gate);
    hub.hold_responses();
    let stays = held(&gate, many_series(1));
    let leaves = held(&gate, many_series(1));
    hub.wait_for_requests(2).await;
    assert_eq!(used(&gate, "requests_in_flight_max").await, 2.0);
    let parts = ["requests_in_flight", "2 requests", "max_shards"];
    let refused = gate.write(Protocol::V2, &many_series(1)).await;
    expect_in_the_log_of_a_spoke(&refused, 503, &parts);
    leaves.abort();
    leaves.await.unwrap_err();
    let refused = gate.write(Protocol::V2, &many_series(1)).await;
    expect_in_the_log_of_a_spoke(&refused, 503, &parts);
    assert_eq!(exceeded(&gate, "requests_in_flight_max").await, 2.0);
    hub.release_responses();
    assert_eq!(stays.await.unwrap(), 204);
    eventually("all places are free", DEADLINE, async || {
        match used(&gate, "requests_in_flight_max").await {
            0.0 => Ok(()),
            used => Err(used),
        }
    })
    .await;
    gate.write(Protocol::V2, &many_series(1)).await.expect(204);
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn a_reload_changes_a_limit_and_forgets_no_request() {
    let (hub, gate) = start("").await;
    let gate = Arc::new(gate);
    hub.hold_responses();
    let requests = [held(&gate, many_series(1)), held(&gate, many_series(1))];
    hub.wait_for_requests(2).await;
    for (limits, status) in [
        ("requests_in_flight_max: 2", 503),
        ("requests_in_flight_max: 2, answer: 429", 429),
    ] {
        gate.reload_with(&limited(&hub, limits)).await;
        let response = gate.write(Protocol::V1, &many_series(1)).await;
        response.expect(status);
    }
    gate.reload_with(&limited(&hub, "requests_in_flight_max: 3"))
        .await;
    let third = held(&gate, many_series(1));
    hub.wait_for_requests(3).await;
    hub.release_responses();
    for request in requests.into_iter().chain([third]) {
        assert_eq!(request.await.unwrap(), 204);
    }
}

/// A series of the spoke that takes so many bytes, compressed as well.
fn large(bytes: usize) -> Vec<Series> {
    vec![series(&format!(
        "__name__=large,cluster=production,noise={}",
        noise(bytes)
    ))]
}

#[tokio::test]
async fn what_a_spoke_holds_is_limited_unless_one_request_needs_it() {
    let (hub, gate) = start("bytes_in_flight_max: 70kB").await;
    let gate = Arc::new(gate);
    hub.hold_responses();
    // It holds its body twice while it is decoded, and once while the hub has it.
    let first = held(&gate, large(60_000));
    hub.wait_for_requests(1).await;
    let held_bytes = used(&gate, "bytes_in_flight_max").await;
    assert!((30_000.0..=70_000.0).contains(&held_bytes), "{held_bytes}");
    // One request of the spoke may wait for room, and only one.
    let second = held(&gate, large(60_000));
    let limit = "bytes_in_flight_max";
    eventually_equal("requests exceed the limit", DEADLINE, 1.0, async || {
        exceeded(&gate, limit).await
    })
    .await;
    let refused = gate.write(Protocol::V1, &large(60_000)).await;
    let parts = ["bytes_in_flight", "70000", "max_samples_per_send"];
    expect_in_the_log_of_a_spoke(&refused, 503, &parts);
    assert_eq!(exceeded(&gate, limit).await, 2.0);
    let other = Request::series(Protocol::V1, &[series("__name__=up")]).spoke("staging");
    let other = tokio::spawn(other.send(gate.write_address()));
    hub.wait_for_requests(2).await;
    hub.release_responses();
    assert_eq!(first.await.unwrap(), 204);
    assert_eq!(second.await.unwrap(), 204);
    assert_eq!(other.await.unwrap().unwrap().status, 204);
    gate.expect_balanced_counts("production").await;
}

/// A series with a sample, a histogram and an exemplar of this age, in milliseconds, and others of now.
fn with_old_samples(age: i64) -> Series {
    let old = now() - age;
    bare("__name__=a,cluster=production")
        .sample(1.0, old)
        .sample(2.0, now())
        .histogram(old)
        .histogram(now())
        .exemplar("trace_id=a", old)
        .exemplar("trace_id=b", now())
}

#[tokio::test]
async fn old_samples_are_refused_alone() {
    for protocol in Protocol::BOTH {
        let hub = ScriptedHub::start().await;
        let spoke = spoke("production", "limits: {samples_age_max: 1h}");
        let config = config_with_hub_keys(&hub.url(), &protocol.hub_key(), &[spoke]);
        let gate = Gate::start(&config).await;
        let young = gate
            .write(protocol, &[with_old_samples(30 * 60_000)])
            .await
            .expect(204);
        assert_eq!(sorted_units(&hub.take_one().series).len(), 6, "{young:?}");
        let response = gate.write(protocol, &[with_old_samples(90 * 60_000)]).await;
        let parts = ["too_old", "3 of 6 samples and exemplars", "5400 s old"];
        response.expect_refusal("old", 400, &parts);
        assert_eq!(response.written(), Some((1, 1, 1)));
        assert_eq!(sorted_units(&hub.take_one().series).len(), 3);
        for kind in ["float", "histogram", "exemplar"] {
            assert_eq!(gate.rejected(kind, "too_old").await, 1.0, "{kind}");
        }
        assert_eq!(exceeded(&gate, "samples_age_max").await, 3.0);
        let age = used(&gate, "samples_age_max").await;
        assert!((1800.0..1900.0).contains(&age), "{age} s");
        gate.expect_balanced_counts("production").await;
    }
}

#[tokio::test]
async fn observed_limits_refuse_nothing_and_count_what_they_would_refuse() {
    let limits = "mode: observe, samples_per_second: 1, requests_in_flight_max: 1, \
                  bytes_in_flight_max: 1, series_per_request_max: 1, labels_per_series_max: 3, \
                  label_value_bytes_max: 12, samples_age_max: 1h, samples_ahead_max: 1s";
    let (hub, gate) = start(limits).await;
    let gate = Arc::new(gate);
    hub.hold_responses();
    let batch = vec![
        with_old_samples(2 * 3_600_000),
        bare("__name__=b,cluster=production,c=c,d=d").sample(1.0, now() + 60_000),
        // Enough samples for a debt that lasts.
        (0..200).fold(
            bare("__name__=c,cluster=production,c=more_than_twelve"),
            |series, n| series.sample(1.0, now() - n),
        ),
    ];
    let first = held(&gate, batch.clone());
    hub.wait_for_requests(1).await;
    let second = held(&gate, batch);
    hub.wait_for_requests(2).await;
    assert_eq!(used(&gate, "requests_in_flight_max").await, 2.0);
    hub.release_responses();
    assert_eq!(first.await.unwrap(), 204);
    assert_eq!(second.await.unwrap(), 204);
    for received in hub.take_received() {
        assert_eq!(sorted_units(&received.series).len(), 207);
    }
    for (limit, expected) in [
        ("samples_per_second", 1.0),
        ("requests_in_flight_max", 1.0),
        ("series_per_request_max", 2.0),
        ("labels_per_series_max", 2.0),
        ("label_value_bytes_max", 2.0),
        ("samples_age_max", 6.0),
        ("samples_ahead_max", 2.0),
    ] {
        assert_eq!(exceeded(&gate, limit).await, expected, "{limit}");
    }
    // The first was alone for as long as the second had not begun.
    assert!(exceeded(&gate, "bytes_in_flight_max").await >= 1.0);
    gate.expect_balanced_counts("production").await;
    let spokes = gate.spokes().await;
    let production = &spokes["spokes"][0];
    assert_eq!(production["refusals"].as_array().map(Vec::len), Some(0));
    let limits = production["limits"].as_array().unwrap();
    assert_eq!(limits.len(), 8, "{limits:?}");
    for limit in limits {
        assert_eq!(limit["mode"], "observe", "{limit:?}");
        assert!(limit["exceeded"].as_u64() >= Some(1), "{limit:?}");
    }
    assert_eq!(
        spokes["spokes"][1]["limits"].as_array().map(Vec::len),
        Some(0)
    );
}

/// There may be thousands of spokes, and each series costs a store of metrics as much as any other.
#[tokio::test]
async fn a_limit_has_series_once_it_is_configured_or_exceeded() {
    let (_hub, gate) = start("samples_per_second: {limit: 5, mode: observe}").await;
    let metrics = gate.metrics().await;
    let of = |metrics: &crate::support::metrics::Metrics, spoke| {
        let series = metrics.series().into_iter();
        let spoke = format!("spoke=\"{spoke}\"");
        series
            .filter(|it| it.starts_with("hubgate_limit") && it.contains(&spoke))
            .count()
    };
    assert_eq!(of(&metrics, "production"), 3);
    assert_eq!(of(&metrics, "staging"), 0);
    let ahead = bare("__name__=a").sample(1.0, now() + 3_600_000);
    let response = gate.write_as("staging", Protocol::V1, &[ahead]).await;
    response.expect(400);
    assert_eq!(of(&gate.metrics().await, "staging"), 3);
}
