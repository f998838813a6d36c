//! How many connections the gate accepts, and for how long it keeps them.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::config::{config, spoke};
use crate::support::gate::{Gate, start_hub_and_gate};
use crate::support::hub::ScriptedHub;
use crate::support::sender::{Connection, Request, send_raw};
use crate::support::{DEADLINE, eventually};

#[tokio::test]
async fn connections_beyond_connections_max_get_no_response() {
    let hub = ScriptedHub::start().await;
    let spokes = ["first", "second", "third"];
    let gate = start_with_three_places(&hub, &spokes).await;
    let mut held = Vec::new();
    for spoke in spokes {
        held.push((hold_connection(&gate, spoke).await, spoke));
    }
    let request = Request::up().spoke("first");
    gate.wait_for_metric("hubgate_connections", &[], 3.0).await;
    assert_eq!(gate.sum("hubgate_connections_limit", &[]).await, 3.0);
    gate.try_send(request.clone())
        .await
        .expect_err("it is closed");
    let reason = [("reason", "connections_max")];
    let refused = gate.sum("hubgate_connections_refused_total", &reason).await;
    assert_eq!(refused, 1.0);
    gate.wait_for_log(&["all connections", "\"refused\":1", "127.0.0.1: 3"])
        .await;
    for (connection, spoke) in &mut held {
        let request = Request::up().spoke(spoke);
        connection.send(request).await.unwrap().expect(204);
    }
    drop(held);
    gate.wait_for_metric("hubgate_connections", &[], 0.0).await;
    gate.send(request).await.expect(204);
}

/// It opens ever more, as through a proxy, and each is used again before it is idle for long.
#[tokio::test]
async fn a_spoke_with_all_connections_does_not_keep_others_out() {
    let hub = ScriptedHub::start().await;
    let gate = start_with_three_places(&hub, &["storm", "other"]).await;
    let mut storm = Vec::new();
    for _ in 0..3 {
        storm.push(hold_connection(&gate, "storm").await);
    }
    let mut other = hold_connection(&gate, "other").await;
    let evicted = [("reason", "evicted")];
    gate.wait_for_metric("hubgate_connections_refused_total", &evicted, 1.0)
        .await;
    let storms = Request::up().spoke("storm");
    storm[0]
        .send(storms.clone())
        .await
        .expect_err("it is closed");
    for connection in &mut storm[1..] {
        connection.send(storms.clone()).await.unwrap().expect(204);
    }
    let others = Request::up().spoke("other");
    other.send(others).await.unwrap().expect(204);
}

/// Starts with these spokes and three connections at most.
async fn start_with_three_places(hub: &ScriptedHub, spokes: &[&str]) -> Gate {
    let listen = "listen: {address: \"127.0.0.1:0\", connections_max: 3}\n";
    let spokes: Vec<_> = spokes.iter().map(|name| spoke(name, "")).collect();
    let yaml = format!("{listen}{}", config(&hub.url(), &spokes));
    Gate::start(&yaml).await
}

/// A connection that this spoke has used.
async fn hold_connection(gate: &Gate, spoke: &str) -> Connection {
    let opened = Connection::open(gate.write_address(), None, false).await;
    let mut connection = opened.unwrap();
    let request = Request::up().spoke(spoke);
    connection.send(request).await.unwrap().expect(204);
    connection
}

/// The start of a request line.
const HALF_A_REQUEST_HEAD: &[u8] = b"POST /api";

/// What an HTTP/2 client sends before its first request: the preface and empty SETTINGS.
const HTTP2_OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Returns true when the gate closes the connection in less than `within`.
async fn closes(stream: &mut TcpStream, within: Duration) -> bool {
    let closed = async {
        let mut buffer = [0; 1024];
        while let Ok(1..) = stream.read(&mut buffer).await {}
    };
    tokio::time::timeout(within, closed).await.is_ok()
}

#[tokio::test]
async fn draining_closes_connections_without_a_request_first() {
    let (hub, mut gate) = start_hub_and_gate("").await;
    hub.hold_responses();
    let sender = tokio::spawn(Request::up().spoke("production").send(gate.write_address()));
    hub.wait_for_requests(1).await;
    let mut held = Vec::new();
    for opening in [HALF_A_REQUEST_HEAD, HTTP2_OPENING] {
        let mut stream = TcpStream::connect(gate.write_address()).await.unwrap();
        stream.write_all(opening).await.unwrap();
        held.push(stream);
    }
    gate.wait_for_metric("hubgate_connections", &[], 3.0).await;
    gate.start_draining("TERM").await;
    for stream in &mut held {
        assert!(closes(stream, DEADLINE / 2).await);
    }
    assert!(!sender.is_finished());
    hub.release_responses();
    sender.await.unwrap().expect("a response").expect(204);
    let released = Instant::now();
    assert!(gate.wait_for_exit().await.success());
    assert!(released.elapsed() < DEADLINE / 2);
    let log = gate.log();
    assert!(!log.iter().any(|line| line.contains("cut")), "{log:#?}");
}

#[tokio::test]
async fn a_connection_without_a_request_head_is_closed_after_ten_seconds() {
    let (_hub, gate) = start_hub_and_gate("").await;
    let opened = Instant::now();
    let silence = 2 * DEADLINE;
    tokio::join!(
        send_raw(gate.write_address(), HALF_A_REQUEST_HEAD, silence),
        send_raw(gate.write_address(), HTTP2_OPENING, silence),
        send_raw(gate.write_address(), b"", silence),
    );
    let seconds = opened.elapsed().as_secs();
    assert!((9..14).contains(&seconds), "{seconds} s");
    let reason = [("reason", "header_timeout")];
    gate.wait_for_metric("hubgate_connections_refused_total", &reason, 3.0)
        .await;
}

/// Idle connections are for spokes, which reuse them. Other clients could take all connections that
/// the gate accepts.
#[tokio::test]
async fn a_connection_is_closed_after_a_request_without_a_spoke() {
    let (_hub, gate) = start_hub_and_gate("").await;
    for (status, head) in [
        (401, "POST /api/v1/write"),
        (404, "GET /"),
        (405, "GET /api/v1/write"),
    ] {
        let mut stream = TcpStream::connect(gate.write_address()).await.unwrap();
        let request = format!("{head} HTTP/1.1\r\nHost: gate\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        assert!(closes(&mut stream, DEADLINE / 2).await, "{status}");
    }
    for request in [
        Request::up().token("wrong"),
        Request::get("/").token("wrong"),
    ] {
        let to = gate.write_address();
        let mut connection = Connection::open(to, None, true).await.unwrap();
        connection.send(request).await.expect("a response");
        eventually(
            "the connection closes",
            DEADLINE / 2,
            async || match connection.send(Request::up().spoke("production")).await {
                Err(_) => Ok(()),
                Ok(response) => Err(response),
            },
        )
        .await;
    }
    gate.wait_for_metric("hubgate_connections", &[], 0.0).await;
    let response = gate
        .send(Request::up().spoke("production"))
        .await
        .expect(204);
    assert_eq!(response.header("connection"), None);
}
