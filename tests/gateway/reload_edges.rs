//! Reloads beside something else: a change that needs a restart, a hub that goes, the end of the
//! process, a file that never ends.

use std::time::{Duration, Instant};

use crate::support::DEADLINE;
use crate::support::body::{Protocol, up};
use crate::support::config::{config, spoke, spoke_with, token, token_sha256};
use crate::support::gate::{Gate, start_hub_and_gate};
use crate::support::hub::ScriptedHub;
use crate::support::sender::Request;

fn write(name: &str) -> Request {
    Request::series(Protocol::V1, &up()).spoke(name)
}

#[tokio::test]
async fn a_token_is_revoked_even_when_another_change_needs_a_restart() {
    let hub = ScriptedHub::start().await;
    let credentials = |names: &[&str]| {
        let each = names.iter().map(|name| token_sha256(&token(name)));
        each.collect::<Vec<_>>().join(", ")
    };
    let yaml = |names: &[&str]| {
        let spokes = [spoke_with("production", &credentials(names), "")];
        config(&hub.url(), &spokes)
    };
    let gate = Gate::start(&yaml(&["kept", "revoked"])).await;
    for name in ["kept", "revoked"] {
        gate.send(write(name)).await.expect(204);
    }
    let listen = "listen: {address: \"127.0.0.1:0\", connections_max: 7}\n";
    gate.reload_with(&format!("{listen}{}", yaml(&["kept"])))
        .await;
    gate.send(write("revoked")).await.expect(401);
    gate.send(write("kept")).await.expect(204);
    gate.wait_for_log(&["listen.connections_max"]).await;
    let log = gate.log();
    let warned = log.iter().filter(|line| line.contains(r#""level":"WARN""#));
    let warned: Vec<_> = warned.filter(|line| line.contains("restart")).collect();
    assert_eq!(warned.len(), 1, "{warned:#?}");
    let successful = "hubgate_config_last_reload_successful";
    assert_eq!(gate.metrics().await.sum(successful, &[]), 1.0);
}

/// A hub that is gone must not look like one that is silent, nor come back by a late response.
#[tokio::test]
async fn a_removed_hub_disappears_from_the_metrics() {
    let (old, new) = (ScriptedHub::start().await, ScriptedHub::start().await);
    let gate = Gate::start_for(&old.url(), "").await;
    gate.send(write("production")).await.expect(204);
    old.hold_responses();
    let late = tokio::spawn(write("production").send(gate.write_address()));
    old.wait_for_requests(2).await;
    gate.reload_with(&config(&new.url(), &[spoke("production", "")]))
        .await;
    gate.send(write("production")).await.expect(204);
    expect_one_hub(&gate, &new).await;
    old.release_responses();
    late.await.unwrap().expect("a response").expect(204);
    expect_one_hub(&gate, &new).await;
}

async fn expect_one_hub(gate: &Gate, hub: &ScriptedHub) {
    let url = hub.url();
    let metrics = gate.metrics().await;
    for name in [
        "hubgate_hub_requests_total",
        "hubgate_hub_request_duration_seconds_count",
        "hubgate_hub_protocol",
    ] {
        let hubs = metrics.label_values(name, "hub");
        assert!(!hubs.is_empty(), "{name}");
        assert!(hubs.iter().all(|hub| url.contains(hub)), "{name}: {hubs:?}");
    }
}

#[tokio::test]
async fn a_draining_gate_refuses_a_reload_at_once() {
    let (hub, mut gate) = start_hub_and_gate("").await;
    hub.hold_responses();
    let sender = tokio::spawn(write("production").send(gate.write_address()));
    hub.wait_for_requests(1).await;
    gate.start_draining("TERM").await;
    let asked = Instant::now();
    let response = gate.reload().await;
    assert!(response.status >= 500, "{response:?}");
    assert!(response.text.contains("shutting down"), "{response:?}");
    assert!(asked.elapsed() < Duration::from_secs(3));
    hub.release_responses();
    sender.await.unwrap().expect("a response").expect(204);
    assert!(gate.wait_for_exit().await.success());
}

/// The main file may be a pipe, and one that nobody writes to holds the reading thread for ever.
#[tokio::test]
async fn a_blocked_reload_does_not_delay_termination() {
    let (_hub, mut gate) = start_hub_and_gate("").await;
    let pipe = gate.folder().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success(), "mkfifo");
    std::fs::rename(&pipe, gate.config_file()).unwrap();
    let reload = Request::new("POST", "/-/reload").send(gate.admin_address());
    let reload = tokio::spawn(reload);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!reload.is_finished(), "nobody writes to the pipe");
    gate.send(write("production")).await.expect(204);
    let told = Instant::now();
    gate.signal("TERM");
    assert_eq!(gate.wait_for_exit().await.code(), Some(0));
    assert!(told.elapsed() < DEADLINE / 2, "{:?}", told.elapsed());
    let response = reload.await.unwrap().expect("a response");
    assert!(response.status >= 500, "{response:?}");
    assert!(response.text.contains("shutting down"), "{response:?}");
}
