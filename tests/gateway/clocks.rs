//! A clock that is wrong: that of the gate must not cost spokes what they send, and that of a hub is told of.

use std::time::{Duration, SystemTime};

use crate::support::body::{Protocol, Series, bare, now};
use crate::support::config::{
    config, config_with_hub_keys, not_after, spoke, spoke_with, token, token_sha256,
};
use crate::support::gate::Gate;
use crate::support::hub::{ScriptedHub, vacant};
use crate::support::sender::Request;

const HOUR: i64 = 3600;

/// The clock of the hub in `/metrics`.
const AHEAD: &str = "hubgate_hub_clock_ahead_seconds";

/// A series with one sample that is so many seconds ahead.
fn ahead(seconds: i64) -> [Series; 1] {
    [bare("__name__=up,cluster=production").sample(1.0, now() + 1000 * seconds)]
}

/// A hub that says what time it is, as most do.
async fn start_hub(seconds_ahead: i64) -> ScriptedHub {
    let hub = ScriptedHub::start().await;
    hub.show_clock(seconds_ahead);
    hub
}

fn limited() -> [String; 1] {
    [spoke("production", "limits: {samples_age_max: 1h}")]
}

/// Starts a gate whose clock differs by so many seconds, and waits until it has heard of the hub.
async fn start(hub: &ScriptedHub, seconds: i64) -> Gate {
    let gate = Gate::start_with_clock(&config(&hub.url(), &limited()), seconds).await;
    gate.wait_for_protocol(None, Protocol::V2).await;
    gate
}

#[tokio::test]
async fn a_wrong_clock_of_the_gate_costs_no_sample() {
    for seconds in [-3 * HOUR, 3 * HOUR] {
        let hub = start_hub(0).await;
        let gate = start(&hub, seconds).await;
        for protocol in Protocol::BOTH {
            gate.write(protocol, &ahead(0)).await.expect(204);
            // By both clocks these are wrong.
            for wrong in [-5 * HOUR, 5 * HOUR] {
                gate.write(protocol, &ahead(wrong)).await.expect(400);
            }
        }
        assert_eq!(hub.take_stored().len(), 2);
        gate.expect_balanced_counts("production").await;
    }
}

#[tokio::test]
async fn who_looks_is_told_once_that_clocks_differ() {
    let hub = start_hub(0).await;
    let gate = start(&hub, -3 * HOUR - 30).await;
    gate.wait_for_log(&["WARN", "the clocks of hubgate and of a hub differ"])
        .await;
    let shown = gate.sum(AHEAD, &[]).await - 3.0 * HOUR as f64;
    assert!((0.0..60.0).contains(&shown), "{shown}");
    let status = gate.admin(Request::get("/api/v1/status")).await.expect(200);
    let expected = format!(
        "The clock of hub {} is 3 h ahead of that of hubgate.",
        hub.default_name()
    );
    assert!(status.text.contains(&expected), "{}", status.text);
    gate.set_clock(0);
    gate.wait_for_metric(AHEAD, &[], 0.0).await;
    gate.wait_for_log(&["the clocks of hubgate and of a hub agree again"])
        .await;
    let log = gate.log();
    let told = log.iter().filter(|it| it.contains("of a hub differ"));
    assert_eq!(told.count(), 1);
    gate.write(Protocol::V2, &ahead(3 * HOUR)).await.expect(400);
}

#[tokio::test]
async fn a_hub_that_was_never_heard_of_is_asked_before_a_sample_is_refused() {
    let hub = start_hub(0).await;
    let keys = config_with_hub_keys(&hub.url(), "protocol: v1", &limited());
    let gate = Gate::start_with_clock(&keys, -3 * HOUR).await;
    let first = gate.write(Protocol::V1, &ahead(0)).await;
    let parts = ["production", "clock_in_doubt"];
    first.expect_refusal("the first", 503, &parts);
    gate.write(Protocol::V1, &ahead(0)).await.expect(204);
    gate.expect_balanced_counts("production").await;
    let right = Gate::start(&keys).await;
    right.write(Protocol::V1, &ahead(HOUR)).await.expect(400);
    assert_eq!(hub.probes(), 2);
}

#[tokio::test]
async fn without_any_hub_no_sample_is_refused_for_its_time() {
    let (_, url) = vacant();
    let gate = Gate::start(&config(&url, &limited())).await;
    let response = gate.write(Protocol::V2, &ahead(HOUR)).await;
    response.expect_refusal("no hub", 503, &["clock_in_doubt"]);
}

#[tokio::test]
async fn a_hub_that_does_not_say_the_time_leaves_it_to_the_gate() {
    let hub = ScriptedHub::start().await;
    let gate = Gate::start(&config(&hub.url(), &limited())).await;
    gate.write(Protocol::V2, &ahead(HOUR)).await.expect(400);
    assert_eq!(gate.sum(AHEAD, &[]).await, 0.0);
}

#[tokio::test]
async fn a_credential_that_expired_by_a_wrong_clock_is_not_refused_for_good() {
    let hub = start_hub(0).await;
    let end = SystemTime::now() + Duration::from_secs(3600);
    let credential = not_after(&token_sha256(&token("production")), end);
    let yaml = config(&hub.url(), &[spoke_with("production", &credential, "")]);
    let gate = Gate::start_with_clock(&yaml, 3 * HOUR).await;
    let response = gate.write(Protocol::V2, &ahead(0)).await;
    response.expect_refusal("expired by one clock", 503, &["clock_in_doubt"]);
    gate.set_clock(0);
    gate.write(Protocol::V2, &ahead(0)).await.expect(204);
}
