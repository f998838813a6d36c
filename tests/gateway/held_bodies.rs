//! Bodies that do not arrive take no room from those that do.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::DEADLINE;
use crate::support::body::{Protocol, encode, noise, series};
use crate::support::config::{config, spoke, token};
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::sender::{Request, read_all};

/// Bodies at once; together they declare many times the budget.
const HELD: usize = 54;

/// What [`start_of_a_large_body`] holds of the budget.
const HELD_BYTES: usize = 16 * 1024;

/// A gate with little memory, and two spokes.
async fn start_small() -> (ScriptedHub, Gate) {
    let hub = ScriptedHub::start().await;
    let spokes = [spoke("production", ""), spoke("staging", "")];
    let config = config(&hub.url(), &spokes);
    let limits = "limits: {bytes_in_flight_max: 96MiB}";
    let gate = Gate::start(&format!("{limits}\n{config}")).await;
    (hub, gate)
}

/// A request of production from its head to the first bytes of its body.
fn begun(framing: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /api/v1/write HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer {}\r\n\
         Content-Encoding: snappy\r\nContent-Type: application/x-protobuf\r\n\
         X-Prometheus-Remote-Write-Version: 0.1.0\r\n{framing}",
        token("production")
    );
    [head.as_bytes(), body].concat()
}

/// The first 4.5 kB of a body: it declares 32 MiB, and a literal of almost as many bytes.
fn start_of_a_large_body() -> Vec<u8> {
    let preamble = b"\x80\x80\x80\x10\xfc\xf0\xff\xff\x01";
    [preamble, noise(4491).as_bytes()].concat()
}

#[tokio::test]
async fn bodies_that_only_declare_their_size_take_no_room_from_other_spokes() {
    let (hub, gate) = start_small().await;
    let body = start_of_a_large_body();
    let requests = [
        begun("Content-Length: 33000000\r\n\r\n", &body),
        begun("Transfer-Encoding: chunked\r\n\r\n1f00000\r\n", &body),
    ];
    let opened = Instant::now();
    let mut streams = Vec::new();
    for request in requests.iter().cycle().take(HELD) {
        let mut stream = TcpStream::connect(gate.write_address()).await.unwrap();
        stream.write_all(request).await.unwrap();
        streams.push(stream);
    }
    let held = (HELD * HELD_BYTES) as f64;
    gate.wait_for_metric("hubgate_bytes_in_flight", &[], held)
        .await;
    for _ in 0..50 {
        gate.send(Request::up().spoke("staging")).await.expect(204);
    }
    hub.wait_for_requests(50).await;
    for stream in streams {
        let response = String::from_utf8(read_all(stream, 2 * DEADLINE).await).unwrap();
        assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
        assert!(response.contains("stalled"), "{response}");
        assert!(
            response.to_lowercase().contains("retry-after"),
            "{response}"
        );
    }
    let seconds = opened.elapsed().as_secs();
    assert!((4..20).contains(&seconds), "{seconds} s");
    gate.wait_for_metric("hubgate_bytes_in_flight", &[], 0.0)
        .await;
    let labels = [("spoke", "production"), ("code", "503")];
    gate.wait_for_metric("hubgate_requests_total", &labels, HELD as f64)
        .await;
}

/// As many as the connections of a spoke, each with a body of 32 MiB that is announced and never sent.
#[tokio::test]
async fn bodies_that_are_only_announced_hold_nothing() {
    let hub = ScriptedHub::start().await;
    let limits = "limits: {requests_in_flight_max: {limit: 1, mode: observe}}";
    let spokes = [spoke("production", limits), spoke("staging", "")];
    let config = config(&hub.url(), &spokes);
    let gate = Gate::start(&format!("limits: {{bytes_in_flight_max: 96MiB}}\n{config}")).await;
    let mut streams = Vec::new();
    for framing in ["Content-Length: 33000000", "Transfer-Encoding: chunked"]
        .iter()
        .cycle()
        .take(HELD)
    {
        let mut stream = TcpStream::connect(gate.write_address()).await.unwrap();
        let request = begun(&format!("{framing}\r\n\r\n"), b"");
        stream.write_all(&request).await.unwrap();
        streams.push(stream);
    }
    let announced = [("spoke", "production"), ("limit", "requests_in_flight_max")];
    gate.wait_for_metric("hubgate_limit_used", &announced, HELD as f64)
        .await;
    assert_eq!(gate.sum("hubgate_bytes_in_flight", &[]).await, 0.0);
    let large = format!("__name__=large,noise={}", noise(60_000));
    let large = encode(Protocol::V1, &[series(&large)]);
    for _ in 0..20 {
        let request = Request::write(Protocol::V1, large.clone()).spoke("staging");
        gate.send(request).await.expect(204);
    }
    drop(streams);
}

#[tokio::test]
async fn a_body_that_only_began_holds_little() {
    let (_hub, gate) = start_small().await;
    let body = start_of_a_large_body();
    let mut streams = Vec::new();
    for _ in 0..HELD {
        let mut stream = TcpStream::connect(gate.write_address()).await.unwrap();
        let request = begun("Content-Length: 33000000\r\n\r\n", &body[..10]);
        stream.write_all(&request).await.unwrap();
        streams.push(stream);
    }
    let held = (HELD * 4 * 1024) as f64;
    gate.wait_for_metric("hubgate_bytes_in_flight", &[], held)
        .await;
}

/// A sender may be slow as long as it sends.
#[tokio::test]
async fn a_body_that_arrives_slowly_is_written() {
    let (hub, gate) = start_small().await;
    let notation = format!("__name__=slow,noise={}", noise(40_000));
    let body = encode(Protocol::V1, &[series(&notation)]);
    let length = format!("Content-Length: {}\r\n\r\n", body.len());
    let mut stream = TcpStream::connect(gate.write_address()).await.unwrap();
    stream.write_all(&begun(&length, b"")).await.unwrap();
    for part in body.chunks(5000) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        stream.write_all(part).await.unwrap();
    }
    hub.wait_for_requests(1).await;
    let response = String::from_utf8(read_all(stream, Duration::from_secs(1)).await).unwrap();
    assert!(response.starts_with("HTTP/1.1 204 "), "{response}");
}

/// A few bytes now and then hold no memory.
#[tokio::test]
async fn a_body_that_trickles_is_refused_within_seconds() {
    let (hub, gate) = start_small().await;
    let mut stream = TcpStream::connect(gate.write_address()).await.unwrap();
    let body = start_of_a_large_body();
    let request = begun("Content-Length: 33000000\r\n\r\n", &body);
    stream.write_all(&request).await.unwrap();
    let opened = Instant::now();
    let (mut reader, mut writer) = stream.into_split();
    let trickle = tokio::spawn(async move {
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    let mut response = [0; 13];
    reader.read_exact(&mut response).await.unwrap();
    trickle.abort();
    assert_eq!(&response, b"HTTP/1.1 503 ");
    let seconds = opened.elapsed().as_secs();
    assert!((4..20).contains(&seconds), "{seconds} s");
    hub.expect_no_request();
}
