//! Heads of requests that two servers could read in two ways, and senders that close their side.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::DEADLINE;
use crate::support::body::{self, Protocol};
use crate::support::config::token;
use crate::support::gate::{Gate, start_hub_and_gate};
use crate::support::sender::{Connection, Request, send_raw};

/// Long enough that the gate has answered and closed.
const SILENCE: Duration = Duration::from_secs(5);

/// The head of a valid write without its end, and its body. `{...}` of the head are for the cases.
fn write() -> (String, Vec<u8>) {
    let body = body::encode(Protocol::V1, &body::up());
    let head = format!(
        "POST /api/v1/write HTTP/1.1\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n",
        token("production")
    );
    (head, body)
}

/// Sends a head and a body, and returns what came back until the gate closed the connection.
async fn exchange(to: SocketAddr, head: &str, body: &[u8]) -> String {
    let request = [head.as_bytes(), body].concat();
    let sent = tokio::time::Instant::now();
    let response = send_raw(to, &request, SILENCE).await;
    assert!(
        sent.elapsed() < SILENCE,
        "the connection stays open: {head}"
    );
    String::from_utf8_lossy(&response).into_owned()
}

#[tokio::test]
async fn a_head_that_can_be_read_in_two_ways_is_a_400_and_closes() {
    let (hub, gate) = start_hub_and_gate("").await;
    let (head, body) = write();
    let length = format!("Content-Length: {}\r\n", body.len());
    let second = "GET / HTTP/1.1\r\nHost: gate\r\n\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    let cases = [
        ("Host", format!("{head}{length}\r\n")),
        ("Host", format!("{head}Host: a\r\nhost: a\r\n{length}\r\n")),
        ("LF", format!("{head}Host: a\n{length}\r\n")),
        ("LF", format!("{head}Host: a\r\n{length}\n")),
        (
            "LF",
            format!("{head}Host: a\r\n{length}\r\n").replace("\r\n", "\n"),
        ),
        (
            "Transfer-Encoding",
            format!("{head}Host: a\r\n{length}{chunked}\r\n"),
        ),
        (
            "Transfer-Encoding",
            format!("{head}Host: a\r\n{chunked}{length}\r\n"),
        ),
        (
            "Content-Length",
            format!("{head}Host: a\r\n{length}{length}\r\n"),
        ),
        (
            "Transfer-Encoding",
            format!("{head}Host: a\r\n{chunked}{chunked}\r\n"),
        ),
        (
            "Transfer-Encoding",
            format!("{head}Host: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
        ),
    ];
    let count = cases.len();
    for (named, head) in cases {
        let body = [body.as_slice(), second.as_bytes()].concat();
        let response = exchange(gate.write_address(), &head, &body).await;
        assert!(response.starts_with("HTTP/1.1 400 "), "{head}{response}");
        assert!(response.contains("malformed_head"), "{head}{response}");
        assert!(response.contains(named), "{head}{response}");
        assert_eq!(response.matches("HTTP/1.1 ").count(), 1, "{head}{response}");
    }
    hub.expect_no_request();
    let reason = [("reason", "malformed_head")];
    let refused = gate.sum("hubgate_connections_refused_total", &reason).await;
    assert_eq!(refused, count as f64);
}

/// hyper refuses these itself, without a text.
#[tokio::test]
async fn a_head_that_is_not_http_or_too_large_is_refused_and_closes() {
    let (hub, gate) = start_hub_and_gate("").await;
    let (head, body) = write();
    let headers = "X: y\r\n".repeat(100);
    for (status, rest) in [
        (400, "Content-Length: 1\r\nContent-Length: 2\r\n"),
        (400, "Content-Length: 1, 1\r\n"),
        (400, "Content-Length: -1\r\n"),
        (400, "Content-Length: 18446744073709551616\r\n"),
        (431, "Content-Length: 18446744073709551615\r\n"),
        (400, "Transfer-Encoding: gzip\r\n"),
        (400, "Folded: a\r\n b\r\n"),
        (400, "Spaced : a\r\n"),
        (431, headers.as_str()),
    ] {
        let head = format!("{head}Host: a\r\n{rest}Connection: close\r\n\r\n");
        let response = exchange(gate.write_address(), &head, &body).await;
        let expected = format!("HTTP/1.1 {status} ");
        assert!(response.starts_with(&expected), "{rest}{response}");
    }
    hub.expect_no_request();
}

#[tokio::test]
async fn every_usual_form_of_a_head_is_taken() {
    let (_hub, gate) = start_hub_and_gate("").await;
    let to = gate.write_address();
    let (head, body) = write();
    let length = format!("Content-Length: {}\r\n", body.len());
    let chunk = format!("{:x}\r\n", body.len());
    let chunk = [chunk.as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
    let chunked = "Transfer-Encoding: chunked\r\n";
    let absolute = head.replace("/api", &format!("http://{to}/api"));
    let old = head.replace("HTTP/1.1", "HTTP/1.0");
    for (case, head, body) in [
        ("usual", format!("{head}Host: {to}\r\n{length}"), &body),
        (
            "an empty line first",
            format!("\r\n{head}Host: {to}\r\n{length}"),
            &body,
        ),
        ("an empty Host", format!("{head}Host:\r\n{length}"), &body),
        (
            "in chunks",
            format!("{head}Host: {to}\r\n{chunked}"),
            &chunk,
        ),
        (
            "absolute",
            format!("{absolute}Host: {to}\r\n{length}"),
            &body,
        ),
        ("HTTP/1.0 without Host", format!("{old}{length}"), &body),
    ] {
        let head = format!("{head}Connection: close\r\n\r\n");
        let response = exchange(to, &head, body).await;
        assert!(
            response.contains(" 204 No Content\r\n"),
            "{case}: {response}"
        );
    }
    // Two requests in one piece, the first in chunks.
    let first = [
        format!("{head}Host: {to}\r\n{chunked}\r\n").as_bytes(),
        &chunk,
    ]
    .concat();
    let second = format!("{head}Host: {to}\r\n{length}Connection: close\r\n\r\n");
    let both = [&first, second.as_bytes(), &body].concat();
    let response = send_raw(to, &both, SILENCE).await;
    let response = String::from_utf8_lossy(&response);
    assert_eq!(
        response.matches(" 204 No Content\r\n").count(),
        2,
        "{response}"
    );
}

#[tokio::test]
async fn the_authority_of_http2_counts_as_host() {
    let (_hub, gate) = start_hub_and_gate("").await;
    let opened = Connection::open(gate.write_address(), None, true).await;
    let mut connection = opened.unwrap();
    let request = Request::up().spoke("production");
    for request in [request.clone(), request.clone().header("host", "gate")] {
        connection.send(request).await.unwrap().expect(204);
    }
    let twice = request.add_header("host", "a").add_header("host", "b");
    let response = connection.send(twice).await.unwrap();
    response.expect_refusal("two Hosts", 400, &["malformed_head", "Host"]);
}

/// Sends a write, closes the sender's side, and returns what came back.
async fn half_close(gate: &Gate, meanwhile: impl Future<Output = ()>) -> String {
    let (head, body) = write();
    let head = format!("{head}Host: gate\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut stream = TcpStream::connect(gate.write_address()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    stream.shutdown().await.unwrap();
    meanwhile.await;
    let mut response = String::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_string(&mut response));
    read.await.expect("the gate closes").unwrap();
    response
}

#[tokio::test]
async fn a_sender_that_closes_its_side_is_answered_and_counted() {
    let (hub, gate) = start_hub_and_gate("").await;
    let response = half_close(&gate, async {}).await;
    assert!(response.starts_with("HTTP/1.1 204 "), "{response}");
    hub.take_one();
    hub.hold_responses();
    let response = half_close(&gate, async {
        hub.wait_for_requests(1).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        hub.release_responses();
    });
    let response = response.await;
    assert!(response.starts_with("HTTP/1.1 204 "), "{response}");
    let code = [("code", "204")];
    assert_eq!(gate.sum("hubgate_requests_total", &code).await, 2.0);
    assert_eq!(gate.samples("written", "float").await, 2.0);
    gate.wait_for_metric("hubgate_connections", &[], 0.0).await;
}

/// It may be gone before the hub has responded.
#[tokio::test]
async fn what_is_written_for_a_sender_that_has_left_is_counted() {
    let (hub, gate) = start_hub_and_gate("").await;
    for (done, request) in [(1.0, Request::up()), (2.0, Request::up().http2())] {
        hub.hold_responses();
        let request = request.spoke("production");
        let sender = tokio::spawn(request.send(gate.write_address()));
        hub.wait_for_requests(1).await;
        hub.take_received();
        sender.abort();
        assert!(sender.await.unwrap_err().is_cancelled());
        hub.release_responses();
        let code = [("code", "204")];
        gate.wait_for_metric("hubgate_requests_total", &code, done)
            .await;
        assert_eq!(gate.samples("written", "float").await, done);
    }
}
