//! Health, termination, and that a write is acknowledged if and only if it is stored.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::body::{self, Protocol, now, series};
use crate::support::config::{config, spoke, token};
use crate::support::gate::{Gate, start_hub_and_gate};
use crate::support::hub::ScriptedHub;
use crate::support::reply::Reply;
use crate::support::sender::{Connection, Request};
use crate::support::{DEADLINE, eventually};

#[tokio::test]
async fn a_started_gate_is_healthy_and_ready() {
    let (_hub, gate) = start_hub_and_gate("").await;
    for path in ["/-/healthy", "/-/ready"] {
        gate.admin(Request::get(path)).await.expect(200);
    }
    gate.admin(Request::get("/-/nonsense")).await.expect(404);
    gate.admin(Request::get("/-/reload")).await.expect(405);
    // The write listener has no admin paths.
    let reload = Request::new("POST", "/-/reload");
    gate.send(reload).await.expect(404);
}

#[tokio::test]
async fn termination_waits_for_requests_in_flight() {
    for signal in ["TERM", "INT"] {
        let (hub, mut gate) = start_hub_and_gate("").await;
        hub.hold_responses();
        let address = gate.write_address();
        let senders: Vec<_> = (0..8)
            .map(|n| {
                if n % 2 == 0 {
                    Request::up().spoke("production")
                } else {
                    Request::up().spoke("production").http2()
                }
            })
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

/// Longer than any test.
const LONG_DELAY: &str = "1h";

async fn start_with_delay(delay: &'static str) -> (ScriptedHub, Gate) {
    let hub = ScriptedHub::start().await;
    let gate = Gate::start_with_delay(&config(&hub.url(), &[spoke("production", "")]), delay).await;
    (hub, gate)
}

#[tokio::test]
async fn in_the_delay_writes_are_accepted_and_each_response_ends_its_connection() {
    let (_hub, gate) = start_with_delay(LONG_DELAY).await;
    let request = || Request::up().spoke("production");
    let mut open = Vec::new();
    for http2 in [false, true] {
        let opened = Connection::open(gate.write_address(), None, http2).await;
        let mut connection = opened.unwrap();
        let response = connection.send(request()).await.unwrap().expect(204);
        assert_eq!(response.header("connection"), None);
        open.push((connection, http2));
    }
    let unused = TcpStream::connect(gate.write_address()).await.unwrap();
    gate.wait_for_metric("hubgate_connections", &[], 3.0).await;
    gate.start_draining("TERM").await;
    // Nothing is closed before its next response, or a request might be on its way.
    assert_eq!(gate.sum("hubgate_connections", &[]).await, 3.0);
    for (mut connection, http2) in open {
        let response = connection.send(request()).await.unwrap().expect(204);
        let close = (!http2).then_some("close");
        assert_eq!(response.header("connection"), close);
        eventually("the connection ends", DEADLINE, async || {
            match connection.send(request()).await {
                Err(_) => Ok(()),
                Ok(response) => Err(response),
            }
        })
        .await;
    }
    gate.wait_for_metric("hubgate_connections", &[], 1.0).await;
    for http2 in [false, true] {
        let request = if http2 { request().http2() } else { request() };
        gate.send(request).await.expect(204);
    }
    drop(unused);
    gate.admin(Request::get("/-/healthy")).await.expect(200);
    let reload = gate.admin(Request::new("POST", "/-/reload")).await;
    reload.expect(500);
}

#[tokio::test]
async fn after_the_delay_a_gate_finishes_what_arrived_in_it() {
    let (hub, mut gate) = start_with_delay("1s").await;
    let address = gate.write_address();
    let signalled = Instant::now();
    gate.start_draining("TERM").await;
    hub.hold_responses();
    let sender = tokio::spawn(Request::up().spoke("production").send(address));
    hub.wait_for_requests(1).await;
    gate.wait_for_log(&["finishing the requests in flight"])
        .await;
    assert!(signalled.elapsed() >= Duration::from_secs(1));
    eventually(
        "connections are refused",
        DEADLINE,
        async || match TcpStream::connect(address).await {
            Err(_) => Ok(()),
            Ok(_) => Err("accepted"),
        },
    )
    .await;
    assert!(!sender.is_finished());
    hub.release_responses();
    sender.await.unwrap().expect("a response").expect(204);
    assert!(gate.wait_for_exit().await.success());
}

#[tokio::test]
async fn a_second_signal_ends_the_delay_and_the_gate_at_once() {
    for second in ["TERM", "INT"] {
        let (_hub, mut gate) = start_with_delay(LONG_DELAY).await;
        gate.start_draining("TERM").await;
        gate.signal(second);
        assert_eq!(gate.wait_for_exit().await.code(), Some(130), "{second}");
    }
}

/// Ctrl-C at a terminal, where no balancer has to notice.
#[tokio::test]
async fn an_interrupt_has_no_delay() {
    let (_hub, mut gate) = start_with_delay(LONG_DELAY).await;
    gate.signal("INT");
    assert!(gate.wait_for_exit().await.success());
}

/// Begins a write of [`body::up`], and returns the connection and the last byte once the gate reads the
/// body.
async fn begin_write(to: SocketAddr) -> (TcpStream, u8) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let mut body = body::encode(Protocol::V1, &body::up());
    let (token, length) = (token("production"), body.len());
    let head = format!(
        "POST /api/v1/write HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = *b"HTTP/1.1 100 Continue\r\n\r\n";
    let wanted = interim;
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(interim, wanted);
    let last = body.pop().unwrap();
    stream.write_all(&body).await.unwrap();
    (stream, last)
}

/// Everything that the gate sends until it closes the connection.
async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut response = String::new();
    let read = stream.read_to_string(&mut response);
    tokio::time::timeout(DEADLINE, read).await.unwrap().unwrap();
    response
}

#[tokio::test]
async fn a_body_that_is_arriving_at_termination_is_finished_or_told_503() {
    let (hub, mut gate) = start_hub_and_gate("").await;
    let (mut finished, last) = begin_write(gate.write_address()).await;
    let (mut stalled, _) = begin_write(gate.write_address()).await;
    gate.start_draining("TERM").await;
    let signalled = Instant::now();
    finished.write_all(&[last]).await.unwrap();
    let response = read_to_end(&mut finished).await;
    assert!(response.starts_with("HTTP/1.1 204"), "{response}");
    hub.take_one();
    let response = read_to_end(&mut stalled).await;
    assert!(response.starts_with("HTTP/1.1 503"), "{response}");
    for part in ["draining", "retry-after: ", "connection: close"] {
        assert!(response.contains(part), "{part}: {response}");
    }
    assert!(gate.wait_for_exit().await.success());
    let elapsed = signalled.elapsed();
    assert!(elapsed < DEADLINE, "{elapsed:?}");
    hub.expect_no_request();
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
            .send(Request::up().spoke("production"))
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
async fn a_second_signal_ends_the_gate_at_once() {
    let (hub, mut gate) = start_hub_and_gate("").await;
    hub.reply_always(Reply::never());
    let address = gate.write_address();
    let sender = tokio::spawn(Request::up().spoke("production").send(address));
    hub.wait_for_requests(1).await;
    gate.start_draining("TERM").await;
    gate.signal("TERM");
    let ended = tokio::time::timeout(Duration::from_secs(5), gate.wait_for_exit()).await;
    assert!(
        !ended.expect("an exit at once").success(),
        "the exit code hides that a request was cut off"
    );
    sender.await.unwrap().expect_err("no response");
}

/// The senders count 204s and the hub counts requests. A request that is forwarded and gets no 204
/// makes the two differ.
#[tokio::test]
async fn termination_under_load_acknowledges_every_stored_write() {
    let (hub, mut gate) = start_hub_and_gate("").await;
    hub.reply_always(Reply::as_usual().after(Duration::from_millis(20)));
    let address = gate.write_address();
    let senders: Vec<_> = (0..8)
        .map(|n| tokio::spawn(write_until_the_end(address, n % 2 == 1)))
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

/// Writes on one connection after the other until none can be opened, and returns how many writes
/// were acknowledged.
async fn write_until_the_end(to: SocketAddr, http2: bool) -> usize {
    let mut acknowledged = 0;
    while let Ok(mut connection) = Connection::open(to, None, http2).await {
        while let Ok(response) = connection.send(Request::up().spoke("production")).await {
            match response.status {
                204 => acknowledged += 1,
                // The gate did not forward it, and the sender would repeat it.
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
