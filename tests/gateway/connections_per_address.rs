//! How many connections one address may have, and which of them give way.

use std::time::Duration;

use crate::support::config::{config, spoke};
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::sender::{Connection, Request, connect, read_all};

const SPOKES: [&str; 4] = ["production", "staging", "testing", "lab"];

async fn start(listen_keys: &str) -> (ScriptedHub, Gate) {
    let hub = ScriptedHub::start().await;
    let listen = format!("listen: {{address: \"127.0.0.1:0\", {listen_keys}}}\n");
    let spokes = SPOKES.map(|name| spoke(name, ""));
    let yaml = listen + &config(&hub.url(), &spokes);
    let gate = Gate::start(&yaml).await;
    (hub, gate)
}

/// Opens a connection of a spoke from an address, and writes on it.
async fn written(gate: &Gate, from: &str, spoke: &str) -> Option<Connection> {
    let from = Some(from.parse().unwrap());
    let connection = Connection::open(gate.write_address(), from, false).await;
    let mut connection = connection.unwrap();
    let response = connection.send(Request::up().spoke(spoke)).await;
    response.ok().map(|response| {
        response.expect(204);
        connection
    })
}

#[tokio::test]
async fn one_address_has_a_part_of_the_connections() {
    let (_hub, gate) = start("connections_per_address_max: 2").await;
    let mut held = Vec::new();
    for (from, spoke, taken) in [
        ("127.0.0.2", "production", true),
        ("127.0.0.2", "staging", true),
        ("127.0.0.2", "testing", false),
        ("127.0.0.3", "testing", true),
    ] {
        let connection = written(&gate, from, spoke).await;
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
    assert!(written(&gate, "127.0.0.2", "testing").await.is_some());
}

/// Nor must a spoke that has all connections of the address.
#[tokio::test]
async fn a_spoke_at_the_address_of_others_does_not_keep_them_out() {
    let (_hub, gate) = start("connections_per_address_max: 3").await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(written(&gate, "127.0.0.2", "production").await.unwrap());
    }
    let _other = written(&gate, "127.0.0.2", "staging").await.unwrap();
    let reason = [("reason", "evicted")];
    gate.wait_for_metric("hubgate_connections_refused_total", &reason, 1.0)
        .await;
    let up = || Request::up().spoke("production");
    assert!(held.remove(0).send(up()).await.is_err(), "the oldest one");
    for mut connection in held {
        connection.send(up()).await.unwrap().expect(204);
    }
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
    for (stranger, spoke) in strangers.into_iter().zip(SPOKES) {
        let connection = written(&gate, "127.0.0.2", spoke).await;
        held.push(connection.expect("a response"));
        // The oldest one is closed.
        assert!(read_all(stranger, Duration::from_secs(10)).await.is_empty());
    }
    let reason = [("reason", "evicted")];
    gate.wait_for_metric("hubgate_connections_refused_total", &reason, 3.0)
        .await;
    assert!(written(&gate, "127.0.0.2", SPOKES[3]).await.is_none());
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
        let connection = written(&gate, from, "production").await;
        assert_eq!(connection.is_some(), taken, "{from}");
        held.extend(connection);
    }
}
