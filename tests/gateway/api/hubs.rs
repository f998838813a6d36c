//! What the API shows of the last hour of a hub, at a gate whose clock runs faster.

use serde_json::{Value, json};

use super::ask;
use crate::support::body::{Protocol, bare};
use crate::support::config::{config_hubs, hub_named, spoke};
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::reply::Reply;
use crate::support::sender::Response;
use crate::support::{DEADLINE, eventually};

/// A step of 15 s is over in less than one.
const SPEED: u32 = 20;

fn yaml(url: &str, keys: &str) -> String {
    let hubs = [hub_named("hub", url, keys)];
    config_hubs("all", &hubs, &[spoke("production", "")])
}

/// The history of the only hub, once a step of it has such a state.
async fn history(gate: &Gate, is_wanted: impl Fn(&Value) -> bool) -> Value {
    eventually("a step of the hub", DEADLINE, async || {
        let history = ask(gate, "/api/v1/hubs").await["hubs"][0]["history"].take();
        let states = history["state"].as_array().unwrap();
        let found = states.iter().any(&is_wanted);
        if found { Ok(history) } else { Err(history) }
    })
    .await
}

/// Writes a sample of the present by the clock of the gate.
async fn write(gate: &Gate) -> Response {
    let status = ask(gate, "/api/v1/status").await;
    let now = status["timestamp_seconds"].as_f64().unwrap() * 1000.0;
    let up = [bare("__name__=up").sample(1.0, now as i64)];
    gate.write(Protocol::V2, &up).await
}

#[tokio::test]
async fn a_hub_through_which_no_write_goes_is_down_whatever_it_answers() {
    let hub = ScriptedHub::start().await;
    for (protocol, status) in [("v2", 204), ("v2", 415), ("v1", 415)] {
        hub.reply_always(Reply::status(status));
        let keys = format!("protocol: {protocol}");
        let gate = Gate::start_with_fast_clock(&yaml(&hub.url(), &keys), SPEED).await;
        write(&gate).await.expect(502);
        let history = history(&gate, |state| !state.is_null() && *state != "idle").await;
        let states = history["state"].as_array().unwrap();
        assert!(
            states.contains(&json!("down")),
            "{keys}, {status}: {history}"
        );
    }
}

/// It answers the probes, as it answers everything.
#[tokio::test]
async fn a_hub_that_understands_neither_version_is_down_and_does_not_only_fail() {
    let hub = ScriptedHub::start().await;
    hub.reply_always(Reply::status(415));
    hub.reply_to_probes(Reply::status(415));
    let gate = Gate::start_with_fast_clock(&yaml(&hub.url(), ""), SPEED).await;
    hub.wait_for_probes(1).await;
    write(&gate).await.expect(502);
    let history = history(&gate, |state| *state == "down").await;
    let states = history["state"].as_array().unwrap().iter();
    let mut other = states.filter(|it| !it.is_null() && **it != "down" && **it != "idle");
    assert_eq!(other.next(), None, "{history}");
}

#[tokio::test]
async fn a_hub_at_another_url_begins_with_an_hour_of_its_own() {
    let hub = ScriptedHub::start().await;
    let gate = Gate::start_with_fast_clock(&yaml(&hub.url(), "protocol: v2"), SPEED).await;
    write(&gate).await.expect(204);
    history(&gate, |state| *state == "up").await;
    let another = format!("{}/another", hub.url());
    gate.reload_with(&yaml(&another, "protocol: v2")).await;
    let history = history(&gate, |state| !state.is_null()).await;
    assert_eq!(history["state"][0], "idle", "{history}");
}
