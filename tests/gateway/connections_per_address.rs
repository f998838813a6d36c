//! How many connections one address may have, and which of them give way.

use std::time::Duration;

use crate::support::config::{config, spoke};
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::sender::{Connection, Request, connect, read_all};

async fn start(listen_keys: &str) -> (ScriptedHub, Gate) {
    let hub = ScriptedHub::start().await;
    let listen = format!("listen: {{address: \"127.0.0.1:0\", {listen_keys}}}\n");
    let yaml = listen + &config(&hub.url(), &[spoke("production", "")]);
    let gate = Gate::start(&yaml).await;
    (hub, gate)
}

/// Opens a connection from an address, and writes on it.
async fn written(gate: &Gate, from: &str) -> Option<Connection> {
    let from = Some(from.parse().unwrap());
    let connection = Connection::open(gate.write_address(), from, false).await;
    let mut connection = connection.unwrap();
    let response = connection.send(Request::up().spoke("production")).await;
    response.ok().map(|response| {
        response.expect(204);
        connection
    })
}

#[tokio::test]
async fn one_address_has_a_part_of_the_connections() {
    let (_hub, gate) = start("connections_per_address_max: 2").await;
    let mut held = Vec::new();
    for (from, taken) in [
        ("127.0.0.2", true),
        ("127.0.0.2", true),
        ("127.0.0.2", false),
        ("127.0.0.3", true),
    ] {
        let connection = written(&gate, from).await;
        assert_eq!(connection.is_some(), taken, "{from}");
        held.extend(connection);
    }
    let reason = [("reason", "connections_per_address_max")];
    gate.wait_for_metric("hubgate_connections_refused_total", &reason, 1.0)
        .await;
    gate.wait_for_log(&["an address has all connections that it may", "127.0.0.2"])
        .await;
    held.remove(0);
    gate.wait_for_metric("hubgate_connections", &[], 2.0).await;
    assert!(written(&gate, "127.0.0.2").await.is_some());
}

/// A stranger behind the same NAT must not keep a spoke out.
#[tokio::test]
async fn strangers_at_the_address_of_a_spoke_give_way_to_it() {
    let (_hub, gate) = start("connections_per_address_max: 3").await;
    let from = "127.0.0.2".parse().unwrap();
    let mut strangers = Vec::new();
    for _ in 0..3 {
        let to = gate.write_address();
        strangers.push(connect(to, Some(from)).await.unwrap());
    }
    gate.wait_for_metric("hubgate_connections", &[], 3.0).await;
    let mut held = Vec::new();
    for stranger in strangers {
        held.push(written(&gate, "127.0.0.2").await.expect("a response"));
        // The oldest one is closed.
        assert!(read_all(stranger, Duration::from_secs(10)).await.is_empty());
    }
    let reason = [("reason", "evicted")];
    gate.wait_for_metric("hubgate_connections_refused_total", &reason, 3.0)
        .await;
    assert!(written(&gate, "127.0.0.2").await.is_none());
}

#[tokio::test]
async fn the_connections_of_a_trusted_proxy_are_not_limited() {
    let (_hub, gate) = start(
        "connections_per_address_max: 1, forwarded_for: x_forwarded_for, \
         trusted_proxies: [127.0.0.2]",
    )
    .await;
    let mut held = Vec::new();
    for (from, taken) in [
        ("127.0.0.2", true),
        ("127.0.0.2", true),
        ("127.0.0.2", true),
        ("127.0.0.3", true),
        ("127.0.0.3", false),
    ] {
        let connection = written(&gate, from).await;
        assert_eq!(connection.is_some(), taken, "{from}");
        held.extend(connection);
    }
}
