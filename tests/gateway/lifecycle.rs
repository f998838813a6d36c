//! From ready to gone: health, draining, and that no accepted request is lost on the way.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::body::{Protocol, now, series, up};
use crate::support::gate::start_hub_and_gate;
use crate::support::reply::Reply;
use crate::support::sender::{Connection, Request, send_raw};
use crate::support::{DEADLINE, eventually};

/// Half a head.
const HALF_A_HEAD: &[u8] = b"POST /api";

/// What an HTTP/2 client says before its first request: the preface and empty SETTINGS.
const HTTP2_OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn write() -> Request {
    Request::series(Protocol::V1, &up()).spoke("production")
}

/// True when the gate closes the connection in less than `within`, whatever it says before.
async fn closes(stream: &mut TcpStream, within: Duration) -> bool {
    let closed = async {
        let mut buffer = [0; 1024];
        while let Ok(1..) = stream.read(&mut buffer).await {}
    };
    tokio::time::timeout(within, closed).await.is_ok()
}

#[tokio::test]
async fn a_started_gate_is_healthy_and_ready() {
    let (_hub, gate) = start_hub_and_gate("").await;
    for path in ["/-/healthy", "/-/ready"] {
        gate.admin(Request::get(path)).await.expect(200);
    }
    gate.admin(Request::get("/-/nonsense")).await.expect(404);
    gate.admin(Request::get("/-/reload")).await.expect(405);
    let admin_on_write_port = gate.send(Request::new("POST", "/-/reload")).await;
    assert_eq!(admin_on_write_port.status, 404, "{admin_on_write_port:?}");
}

#[tokio::test]
async fn termination_waits_for_requests_in_flight() {
    for signal in ["TERM", "INT"] {
        let (hub, mut gate) = start_hub_and_gate("").await;
        hub.hold_responses();
        let address = gate.write_address();
        let senders: Vec<_> = (0..8)
            .map(|n| if n % 2 == 0 { write() } else { write().http2() })
            .map(|request| tokio::spawn(request.send(address)))
            .collect();
        hub.wait_for_requests(8).await;
        gate.start_draining(signal).await;
        gate.admin(Request::get("/-/healthy")).await.expect(200);
        hub.release_responses();
        for sender in senders {
            sender.await.unwrap().expect("a response").expect(204);
        }
        assert!(gate.wait_for_exit().await.success(), "{signal}");
    }
}

#[tokio::test]
async fn an_idle_gate_exits_at_once_despite_open_connections() {
    let (_hub, mut gate) = start_hub_and_gate("").await;
    let mut idle = Vec::new();
    for http2 in [false, true] {
        let mut connection = Connection::open(gate.write_address(), None, http2)
            .await
            .unwrap();
        connection
            .send(write())
            .await
            .expect("a response")
            .expect(204);
        idle.push(connection);
    }
    let never_used = TcpStream::connect(gate.write_address()).await.unwrap();
    gate.signal("TERM");
    let started = Instant::now();
    assert!(gate.wait_for_exit().await.success());
    assert!(started.elapsed() < DEADLINE, "{:?}", started.elapsed());
    drop(never_used);
}

#[tokio::test]
async fn draining_closes_connections_without_a_request_first() {
    let (hub, mut gate) = start_hub_and_gate("").await;
    hub.hold_responses();
    let sender = tokio::spawn(write().send(gate.write_address()));
    hub.wait_for_requests(1).await;
    let mut held = Vec::new();
    for opening in [HALF_A_HEAD, HTTP2_OPENING] {
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
        send_raw(gate.write_address(), HALF_A_HEAD, silence),
        send_raw(gate.write_address(), HTTP2_OPENING, silence),
        send_raw(gate.write_address(), b"", silence),
    );
    let seconds = opened.elapsed().as_secs();
    assert!((9..14).contains(&seconds), "{seconds} s");
    let late = [("reason", "header_timeout")];
    gate.wait_for_metric("hubgate_connections_refused_total", &late, 3.0)
        .await;
}

/// The idle allowance is for spokes, whose pools keep connections; for others it is a way to take
/// all there are.
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
    for request in [write().token("wrong"), Request::get("/").token("wrong")] {
        let to = gate.write_address();
        let mut connection = Connection::open(to, None, true).await.unwrap();
        connection.send(request).await.expect("a response");
        eventually(
            "the connection closes",
            DEADLINE / 2,
            async || match connection.send(write()).await {
                Err(_) => Ok(()),
                Ok(response) => Err(response),
            },
        )
        .await;
    }
    gate.wait_for_metric("hubgate_connections", &[], 0.0).await;
    let response = gate.send(write()).await.expect(204);
    assert_eq!(response.header("connection"), None);
}

#[tokio::test]
async fn a_second_signal_ends_the_gate_at_once() {
    let (hub, mut gate) = start_hub_and_gate("").await;
    hub.reply_always(Reply::never());
    let address = gate.write_address();
    let sender = tokio::spawn(write().send(address));
    hub.wait_for_requests(1).await;
    gate.start_draining("TERM").await;
    gate.signal("TERM");
    let ended = tokio::time::timeout(Duration::from_secs(5), gate.wait_for_exit()).await;
    assert!(
        !ended.expect("it ends at once").success(),
        "work was cut off"
    );
    sender.await.unwrap().expect_err("no response came");
}

/// Each sender counts what it was told; the hub counts what it stored. A request that the gate
/// took and answered with anything but 204, or not at all, makes the two differ.
#[tokio::test]
async fn termination_under_load_acknowledges_every_stored_write() {
    let (hub, mut gate) = start_hub_and_gate("").await;
    hub.reply_always(Reply::as_usual().after(Duration::from_millis(20)));
    let address = gate.write_address();
    let senders: Vec<_> = (0..8)
        .map(|n| tokio::spawn(flow(address, n % 2 == 1)))
        .collect();
    hub.wait_for_requests(100).await;
    gate.signal("TERM");
    assert!(gate.wait_for_exit().await.success());
    let mut acknowledged = 0;
    for sender in senders {
        acknowledged += sender.await.unwrap();
    }
    assert_eq!(hub.take_received().len(), acknowledged);
}

/// Writes on one connection after the other until there is nobody to connect to, and returns how
/// many writes were acknowledged.
async fn flow(to: std::net::SocketAddr, http2: bool) -> usize {
    let mut acknowledged = 0;
    while let Ok(mut connection) = Connection::open(to, None, http2).await {
        while let Ok(response) = connection.send(write()).await {
            match response.status {
                204 => acknowledged += 1,
                // Not taken: the sender keeps the data.
                503 => break,
                _ => panic!("{response:?}"),
            }
        }
    }
    acknowledged
}

#[tokio::test]
async fn a_killed_gate_has_acknowledged_stored_writes_only() {
    let (hub, mut gate) = start_hub_and_gate("").await;
    let address = gate.write_address();
    let senders: Vec<_> = (0..4)
        .map(|sender| {
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for n in 0.. {
                    let labels = format!("__name__=up,id={sender}-{n}");
                    let request =
                        Request::series(Protocol::V1, &[series(&labels).sample(1.0, now())]);
                    match request.spoke("production").send(address).await {
                        Ok(response) if response.status == 204 => {
                            acknowledged.push(format!("{sender}-{n}"))
                        }
                        Ok(response) => panic!("{response:?}"),
                        Err(_) => break,
                    }
                }
                acknowledged
            })
        })
        .collect();
    hub.wait_for_requests(100).await;
    gate.signal("KILL");
    gate.wait_for_exit().await;
    let received = hub.take_received();
    let stored: Vec<_> = received
        .iter()
        .flat_map(|received| received.labels())
        .collect();
    for sender in senders {
        for id in sender.await.unwrap() {
            assert!(
                stored
                    .iter()
                    .any(|labels| labels.ends_with(&format!("id={id}"))),
                "{id}"
            );
        }
    }
}
