//! Reloads beside something else: a change that needs a restart, a hub that goes, the end of the
//! process, a file that never ends.

use std::time::{Duration, Instant};

use crate::support::body::{Protocol, series};
use crate::support::config::{config, sha256, spoke, spoke_with, token};
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::sender::Request;
use crate::support::{DEADLINE, eventually};

fn write(name: &str) -> Request {
    Request::series(Protocol::V1, &[series("__name__=up")]).token(&token(name))
}

/// Waits until the admin listener says that the gate ends.
async fn wait_draining(gate: &Gate) {
    eventually("not ready", DEADLINE, async || {
        let response = Request::get("/-/ready").send(gate.admin_address()).await;
        match response {
            Ok(response) if response.status == 503 => Ok(()),
            other => Err(other),
        }
    })
    .await;
}

#[tokio::test]
async fn a_token_is_revoked_beside_a_change_that_needs_a_restart() {
    let hub = ScriptedHub::start().await;
    let credentials = |names: &[&str]| {
        let each = names
            .iter()
            .map(|name| format!("{{token_sha256: {}}}", sha256(&token(name))));
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
    gate.configure(&format!("{listen}{}", yaml(&["kept"])));
    gate.reload().await.expect(200);
    gate.send(write("revoked")).await.expect(401);
    gate.send(write("kept")).await.expect(204);
    gate.logged(&["listen.connections_max"]).await;
    let log = gate.log();
    let warned = log.iter().filter(|line| line.contains(r#""level":"WARN""#));
    let warned: Vec<_> = warned.filter(|line| line.contains("restart")).collect();
    assert_eq!(warned.len(), 1, "{warned:#?}");
    let successful = "hubgate_config_last_reload_successful";
    assert_eq!(gate.metrics().await.sum(successful, &[]), 1.0);
}

/// A hub that is gone must not look like one that is silent, nor come back by a late response.
#[tokio::test]
async fn a_hub_that_left_is_in_no_metric() {
    let (old, new) = (ScriptedHub::start().await, ScriptedHub::start().await);
    let gate = Gate::start(&config(&old.url(), &[spoke("production", "")])).await;
    gate.send(write("production")).await.expect(204);
    old.hold();
    let late = tokio::spawn(write("production").send(gate.write_address()));
    old.wait_received(2).await;
    gate.configure(&config(&new.url(), &[spoke("production", "")]));
    gate.reload().await.expect(200);
    gate.send(write("production")).await.expect(204);
    expect_one_hub(&gate, &new).await;
    old.release();
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
async fn a_draining_gate_reloads_nothing_and_says_so_at_once() {
    let hub = ScriptedHub::start().await;
    let mut gate = Gate::start(&config(&hub.url(), &[spoke("production", "")])).await;
    hub.hold();
    let sender = tokio::spawn(write("production").send(gate.write_address()));
    hub.wait_received(1).await;
    gate.signal("TERM");
    wait_draining(&gate).await;
    let asked = Instant::now();
    let response = gate.reload().await;
    assert!(response.status >= 500, "{response:?}");
    assert!(response.text.contains("shutting down"), "{response:?}");
    assert!(asked.elapsed() < Duration::from_secs(3));
    hub.release();
    sender.await.unwrap().expect("a response").expect(204);
    assert!(gate.wait_exit().await.success());
}

/// The main file may be a pipe, and one that nobody writes to holds the reading thread for ever.
#[tokio::test]
async fn a_file_that_never_ends_does_not_hold_up_the_end() {
    let hub = ScriptedHub::start().await;
    let mut gate = Gate::start(&config(&hub.url(), &[spoke("production", "")])).await;
    let pipe = gate.folder().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success(), "mkfifo");
    std::fs::rename(&pipe, gate.config()).unwrap();
    let reload = Request::new("POST", "/-/reload").send(gate.admin_address());
    let reload = tokio::spawn(reload);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!reload.is_finished(), "nobody writes to the pipe");
    gate.send(write("production")).await.expect(204);
    let told = Instant::now();
    gate.signal("TERM");
    assert_eq!(gate.wait_exit().await.code(), Some(0));
    assert!(told.elapsed() < DEADLINE / 2, "{:?}", told.elapsed());
    // Whoever asked is told, or sees the connection close.
    if let Ok(response) = reload.await.unwrap() {
        assert!(response.status >= 500, "{response:?}");
    }
}
