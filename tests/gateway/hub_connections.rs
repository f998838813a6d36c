//! The connections to hubs: which address they lead to, when they are kept, and what a broken one
//! costs.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::support::body::{Protocol, many_series, up};
use crate::support::config::{config_with_hub_keys, spoke};
use crate::support::gate::{Gate, start_hub_and_gate};
use crate::support::hub::{ScriptedHub, V2};
use crate::support::nginx::Nginx;
use crate::support::raw_hub::{Act, Network, RawHub, shared_port};
use crate::support::reply::Reply;
use crate::support::sender::{Failure, Request, Response};
use crate::support::{DEADLINE, eventually};

/// Two addresses of loopback for one name.
const OLD: &str = "127.0.0.2";
const NEW: &str = "127.0.0.3";

/// The lines of an `/etc/hosts` for the hub.
fn hosts(addresses: &[&str]) -> String {
    let lines = addresses.iter().map(|it| format!("{it} hub.test\n"));
    lines.collect()
}

async fn hub_at(address: &str, port: u16) -> ScriptedHub {
    ScriptedHub::start_at(format!("{address}:{port}").parse().unwrap()).await
}

/// A gate whose hub is at `hub.test`, a name with these addresses.
async fn gate_of_name(port: u16, addresses: &[&str], keys: &str) -> Option<Gate> {
    let url = format!("http://hub.test:{port}/api/v1/write");
    let yaml = config_with_hub_keys(&url, keys, &[spoke("production", "")]);
    Gate::start_with_hosts(&yaml, &hosts(addresses)).await
}

type Write = JoinHandle<Result<Response, Failure>>;

/// Starts so many writes at once.
fn start_writes(gate: &Gate, count: usize) -> Vec<Write> {
    let start = |_| tokio::spawn(Request::up().spoke("production").send(gate.write_address()));
    (0..count).map(start).collect()
}

async fn expect_stored(writes: Vec<Write>) {
    for write in writes {
        write.await.unwrap().unwrap().expect(204);
    }
}

/// Opens so many connections to the hub, by as many writes at once.
async fn open_connections(hub: &ScriptedHub, gate: &Gate, count: usize) {
    hub.hold_responses();
    let writes = start_writes(gate, count);
    hub.wait_for_requests(count).await;
    hub.release_responses();
    expect_stored(writes).await;
    hub.take_received();
}

/// Two hubs on one port, and a gate that writes to the old one.
async fn hub_about_to_move(keys: &str) -> Option<(ScriptedHub, ScriptedHub, Gate)> {
    let port = shared_port(&[OLD, NEW]).await;
    let (old, new) = (hub_at(OLD, port).await, hub_at(NEW, port).await);
    let gate = gate_of_name(port, &[OLD], keys).await?;
    gate.write(Protocol::V1, &up()).await.expect(204);
    old.take_one();
    Some((old, new, gate))
}

/// Writes until the new hub gets one, and returns how many failed before.
async fn writes_until_moved(gate: &Gate, new: &ScriptedHub) -> usize {
    let mut failed = 0;
    eventually("a write reaches the new hub", DEADLINE, async || {
        let status = gate.write(Protocol::V1, &up()).await.status;
        failed += usize::from(status != 204);
        if new.take_received().is_empty() {
            Err(status)
        } else {
            Ok(())
        }
    })
    .await;
    failed
}

/// The old address lives on, and a proxy or an instance in its drain answers 503 there.
#[tokio::test]
async fn a_hub_that_moved_gets_writes_after_a_few_failures_of_its_old_address() {
    for v2 in [V2::Speaks, V2::Ignores] {
        // The last one is a page of whatever has the address today.
        for status in [503, 404, 301, 200] {
            if v2 == V2::Ignores && status == 200 {
                continue;
            }
            let Some((old, new, gate)) = hub_about_to_move("").await else {
                return;
            };
            old.set_v2(v2);
            gate.set_hosts(&hosts(&[NEW]));
            old.reply_always(Reply::status(status).text("a page"));
            let started = Instant::now();
            let failed = writes_until_moved(&gate, &new).await;
            let took = started.elapsed();
            assert!(failed <= 4, "{failed} writes failed with {status}");
            assert!(took < Duration::from_secs(4), "{took:?}");
            old.take_received();
            gate.write(Protocol::V1, &up()).await.expect(204);
            old.expect_no_request();
            gate.expect_balanced_counts("production").await;
        }
    }
}

/// The connections of many requests at once are left together, not after three failures each.
#[tokio::test]
async fn all_connections_to_a_failing_address_are_left_together() {
    let Some((old, new, gate)) = hub_about_to_move("protocol: v1").await else {
        return;
    };
    open_connections(&old, &gate, 8).await;
    assert_eq!(old.connections().open, 8);
    gate.set_hosts(&hosts(&[NEW]));
    old.reply_always(Reply::status(503));
    let failed = writes_until_moved(&gate, &new).await;
    assert!(failed <= 4, "{failed} writes failed");
    old.wait_for_connections(|it| it.open == 0).await;
}

/// It does not notice that it moved: the old instance works on.
#[tokio::test]
async fn a_hub_that_moved_gets_writes_when_connections_reach_their_age() {
    let keys = "connection_age_max: 1s, protocol: v1";
    let Some((old, new, gate)) = hub_about_to_move(keys).await else {
        return;
    };
    gate.set_hosts(&hosts(&[NEW]));
    let started = Instant::now();
    assert_eq!(writes_until_moved(&gate, &new).await, 0);
    assert!(started.elapsed() < Duration::from_secs(3));
    assert_eq!(old.connections().accepted, 1);
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn a_hub_that_moved_gets_writes_after_a_reload_of_the_same_configuration() {
    let Some((old, new, gate)) = hub_about_to_move("protocol: v1").await else {
        return;
    };
    gate.set_hosts(&hosts(&[NEW]));
    gate.signal("HUP");
    old.wait_for_connections(|it| it.open == 0).await;
    assert_eq!(writes_until_moved(&gate, &new).await, 0);
}

#[tokio::test]
async fn a_connection_in_use_during_a_reload_is_closed_after_its_request() {
    let (hub, gate) = start_hub_and_gate("protocol: v1").await;
    hub.hold_responses();
    let writes = start_writes(&gate, 1);
    hub.wait_for_requests(1).await;
    gate.reload().await.expect(200);
    hub.release_responses();
    expect_stored(writes).await;
    hub.wait_for_connections(|it| it.accepted == 1 && it.open == 0)
        .await;
}

#[tokio::test]
async fn one_connection_serves_writes_one_after_the_other() {
    let (hub, gate) = start_hub_and_gate("protocol: v1").await;
    for status in [204, 400, 503, 204] {
        if status != 204 {
            hub.reply_once(Reply::status(status).written(0, 0, 0).text("no"));
        }
        for protocol in Protocol::BOTH {
            gate.write(protocol, &up()).await;
        }
    }
    assert_eq!(hub.connections().accepted, 1);
}

#[tokio::test]
async fn the_addresses_of_a_name_are_used_in_turn() {
    let port = shared_port(&[OLD, NEW]).await;
    let hubs = [hub_at(OLD, port).await, hub_at(NEW, port).await];
    let Some(gate) = gate_of_name(port, &[OLD, NEW], "protocol: v1").await else {
        return;
    };
    for hub in &hubs {
        hub.hold_responses();
    }
    let writes = start_writes(&gate, 4);
    for hub in &hubs {
        hub.wait_for_requests(2).await;
        hub.release_responses();
    }
    expect_stored(writes).await;
}

#[tokio::test]
async fn a_dead_address_of_a_name_is_skipped() {
    let port = shared_port(&[OLD, NEW]).await;
    let hub = hub_at(NEW, port).await;
    for order in [[OLD, NEW], [NEW, OLD]] {
        let keys = "connection_age_max: 1ms, protocol: v1";
        let Some(gate) = gate_of_name(port, &order, keys).await else {
            return;
        };
        let started = Instant::now();
        for _ in 0..20 {
            gate.write(Protocol::V1, &up()).await.expect(204);
        }
        assert!(started.elapsed() < Duration::from_secs(2));
        assert_eq!(hub.take_received().len(), 20);
    }
}

/// A firewall forgot them, or the machine is gone.
#[tokio::test]
async fn connections_that_went_silent_cost_one_timeout_together() {
    let hub = ScriptedHub::start().await;
    let network = Network::start(hub.default_name().parse().unwrap()).await;
    let gate = Gate::start_for(&network.url(), "timeout: 1s, protocol: v1").await;
    open_connections(&hub, &gate, 8).await;
    assert_eq!(network.connections(), 8);
    network.silence();
    gate.write(Protocol::V1, &up()).await.expect(504);
    let started = Instant::now();
    for _ in 0..8 {
        gate.write(Protocol::V1, &up()).await.expect(204);
    }
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!(network.connections(), 9);
    gate.expect_balanced_counts("production").await;
}

/// The requests of the only hub so far, by code.
async fn requests(gate: &Gate, code: &str) -> f64 {
    let (metrics, labels) = (gate.metrics().await, [("code", code)]);
    let name = "hubgate_hub_requests_total";
    if metrics.has(name, &labels) {
        metrics.sum(name, &labels)
    } else {
        0.0
    }
}

#[tokio::test]
async fn a_hub_that_closes_a_kept_connection_unread_gets_the_request_again() {
    for second in [Act::CloseUnread, Act::CloseRead] {
        let acts: &'static [&'static [Act]] = match second {
            Act::CloseUnread => &[&[Act::Take, Act::CloseUnread], &[Act::Take]],
            _ => &[&[Act::Take, Act::CloseRead], &[Act::Take]],
        };
        let hub = RawHub::start(acts).await;
        let gate = Gate::start_for(&hub.url(), "protocol: v1").await;
        for sent in [1, 3, 4] {
            gate.write(Protocol::V1, &up()).await.expect(204);
            assert_eq!(hub.requests(), sent, "{second:?}");
        }
        assert_eq!(requests(&gate, "204").await, 3.0);
        assert_eq!(requests(&gate, "resent").await, 1.0);
        assert_eq!(requests(&gate, "reset").await, 0.0);
        gate.expect_balanced_counts("production").await;
    }
}

/// Most of it is not even written when the connection breaks.
#[tokio::test]
async fn a_large_request_is_sent_again_as_well() {
    let hub = RawHub::start(&[&[Act::Take, Act::CloseUnread], &[Act::Take]]).await;
    let gate = Gate::start_for(&hub.url(), "protocol: v1").await;
    gate.write(Protocol::V1, &up()).await.expect(204);
    let large = many_series(40_000);
    gate.write(Protocol::V1, &large).await.expect(204);
    assert_eq!(hub.requests(), 3);
    assert_eq!(requests(&gate, "resent").await, 1.0);
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn a_request_is_sent_again_once_at_most() {
    let hub = RawHub::start(&[&[Act::Take, Act::CloseUnread], &[Act::CloseUnread]]).await;
    let gate = Gate::start_for(&hub.url(), "protocol: v1").await;
    gate.write(Protocol::V1, &up()).await.expect(204);
    gate.write(Protocol::V1, &up()).await.expect(502);
    assert_eq!(hub.requests(), 3);
    // There is no kept connection.
    gate.write(Protocol::V1, &up()).await.expect(502);
    assert_eq!(hub.requests(), 4);
    assert_eq!(requests(&gate, "resent").await, 1.0);
    assert_eq!(requests(&gate, "reset").await, 2.0);
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn a_request_is_not_sent_again_after_a_part_of_the_response() {
    let hub = RawHub::start(&[&[Act::Take, Act::CloseInHead], &[Act::Take]]).await;
    let gate = Gate::start_for(&hub.url(), "protocol: v1").await;
    gate.write(Protocol::V1, &up()).await.expect(204);
    gate.write(Protocol::V1, &up()).await.expect(502);
    assert_eq!(hub.requests(), 2);
    gate.write(Protocol::V1, &up()).await.expect(204);
    assert_eq!(requests(&gate, "resent").await, 0.0);
    gate.expect_balanced_counts("production").await;
}

/// It closes each connection after some requests, after 30 ms without one, and at a reload; all of
/// these meet requests on their way.
#[tokio::test]
async fn no_write_fails_while_an_nginx_before_the_hub_closes_connections() {
    let hub = ScriptedHub::start().await;
    let directives = "keepalive_timeout 30ms; keepalive_requests 7;";
    let nginx = Nginx::start(hub.default_name().parse().unwrap(), directives).await;
    let gate = Gate::start_for(&nginx.url(), "protocol: v1").await;
    let writer = async |pause: u64| {
        for _ in 0..60 {
            gate.write(Protocol::V1, &up()).await.expect(204);
            // About the time after which idle connections are closed.
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    };
    let reloads = async {
        for _ in 0..4 {
            hub.wait_for_requests(40).await;
            hub.take_received();
            nginx.reload();
        }
    };
    tokio::join!(writer(27), writer(29), writer(30), writer(31), reloads);
    gate.expect_balanced_counts("production").await;
}
