//! Refused requests: each status and what its text must name.

use std::time::Duration;

use crate::support::body::{Protocol, encode, field, message, series, snappy, up};
use crate::support::config::token;
use crate::support::gate::{Gate, start_hub_and_gate, start_with_limits};
use crate::support::sender::{Request, send_raw};

const MIB: usize = 1 << 20;

/// Longest wait for the next byte of a response.
const SILENCE: Duration = Duration::from_secs(2);

/// Limits that are small enough to exceed in a test.
const LIMITS: &str = "body_bytes_max: 16MiB, decoded_bytes_max: 24MiB";

/// A write of an encoded body by the spoke `production`.
fn write(protocol: Protocol, body: Vec<u8>) -> Request {
    Request::write(protocol, body).spoke("production")
}

/// A write that the gate accepts.
fn good(protocol: Protocol) -> Request {
    write(protocol, encode(protocol, &up()))
}

#[tokio::test]
async fn a_request_without_a_valid_credential_is_a_401() {
    let (hub, gate) = start_with_limits(LIMITS, "").await;
    let request = Request::up();
    for (case, request) in [
        ("no credential", request.clone()),
        ("wrong token", request.clone().token("wrong")),
        (
            "token of the wrong length",
            request.clone().token(&"x".repeat(4000)),
        ),
        (
            "unknown scheme",
            request.header("authorization", "Digest a=b"),
        ),
        (
            "two credentials",
            good(Protocol::V1).add_header("authorization", "Bearer wrong"),
        ),
    ] {
        let response = gate.send(request).await;
        response.expect_refusal(case, 401, &[]);
        assert!(
            response.header("www-authenticate").is_some(),
            "{case}: {response:?}"
        );
    }
    hub.expect_no_request();
}

#[tokio::test]
async fn wrong_headers_are_refused_before_the_body_is_decoded() {
    let (hub, gate) = start_with_limits(LIMITS, "").await;
    let malformed = || write(Protocol::V1, b"\xff\xff\xff\xff\xff".to_vec());
    let media = |text| malformed().header("content-type", text);
    let encoding = |text| malformed().header("content-encoding", text);
    let plain = |method: &str| Request::new(method, "/api/v1/write").spoke("production");
    for (case, request, status, part) in [
        ("another media type", media("text/plain"), 415, "text/plain"),
        ("json", media("application/json"), 415, "production"),
        (
            "unknown message",
            media("application/x-protobuf;proto=a.B"),
            415,
            "a.B",
        ),
        (
            "message named twice",
            media(
                "application/x-protobuf;proto=prometheus.WriteRequest;proto=io.prometheus.write.v2.Request",
            ),
            415,
            "proto",
        ),
        ("gzip", encoding("gzip"), 415, "snappy"),
        ("zstd", encoding("zstd"), 415, "snappy"),
        ("identity", encoding("identity"), 415, "snappy"),
        ("two encodings", encoding("snappy, gzip"), 415, "snappy"),
        ("get", plain("GET"), 405, "POST"),
        ("put", plain("PUT"), 405, "POST"),
        ("delete", plain("DELETE"), 405, "POST"),
        (
            "another path",
            good(Protocol::V1).path("/api/v1/query"),
            404,
            "/api/v1/write",
        ),
        (
            "the admin's path",
            good(Protocol::V1).path("/metrics"),
            404,
            "",
        ),
        (
            "a path below",
            good(Protocol::V1).path("/api/v1/write/x"),
            404,
            "",
        ),
    ] {
        let response = gate.send(request).await;
        response.expect_refusal(case, status, &[part]);
        let allow = response.header("allow");
        assert_eq!(
            allow,
            (status == 405).then_some("POST"),
            "{case}: {response:?}"
        );
    }
    hub.expect_no_request();
}

#[tokio::test]
async fn every_valid_form_of_the_media_types_is_accepted() {
    let (hub, gate) = start_with_limits(LIMITS, "").await;
    for (content_type, protocol) in [
        ("application/x-protobuf", Protocol::V1),
        ("Application/X-Protobuf", Protocol::V1),
        ("application/x-protobuf; charset=utf-8", Protocol::V1),
        (
            "application/x-protobuf;proto=prometheus.WriteRequest",
            Protocol::V1,
        ),
        (
            "application/x-protobuf;proto=io.prometheus.write.v2.Request",
            Protocol::V2,
        ),
        (
            "application/x-protobuf; proto=io.prometheus.write.v2.Request",
            Protocol::V2,
        ),
        (
            "application/x-protobuf ; PROTO=\"io.prometheus.write.v2.Request\"",
            Protocol::V2,
        ),
    ] {
        let labels = [("protocol", protocol.name()), ("code", "204")];
        let accepted = async || {
            let metrics = gate.metrics().await;
            metrics.sum_or_zero("hubgate_requests_total", &labels)
        };
        let before = accepted().await;
        let request = good(protocol).header("content-type", content_type);
        let response = gate
            .send(request.header("content-encoding", "Snappy"))
            .await;
        assert_eq!(response.status, 204, "{content_type}: {response:?}");
        assert_eq!(accepted().await, before + 1.0, "{content_type}");
        assert_eq!(hub.take_one().labels().len(), 1, "{content_type}");
    }
}

/// Sends a write's headers without its body, and returns the first line of the response.
async fn send_head_only(gate: &Gate, headers: &str) -> String {
    let host = gate.write_address();
    let head = format!(
        "POST /api/v1/write HTTP/1.1\r\nHost: {host}\r\nContent-Encoding: snappy\r\n{headers}\r\n"
    );
    let response = send_raw(host, head.as_bytes(), SILENCE).await;
    let response = String::from_utf8_lossy(&response);
    response.lines().next().unwrap_or_default().to_owned()
}

/// Headers for which a request is refused, and the status.
fn refused_heads() -> [(String, &'static str); 3] {
    let authorization = format!("Authorization: Bearer {}\r\n", token("production"));
    let protobuf = "Content-Type: application/x-protobuf\r\n";
    let (small, large) = ("Content-Length: 1000\r\n", "Content-Length: 17000000\r\n");
    [
        (
            format!("Authorization: Bearer x\r\n{protobuf}{small}"),
            "401",
        ),
        (
            format!("{authorization}Content-Type: a/b\r\n{small}"),
            "415",
        ),
        (format!("{authorization}{protobuf}{large}"), "413"),
    ]
}

#[tokio::test]
async fn a_refusal_by_headers_does_not_wait_for_the_body() {
    let (hub, gate) = start_with_limits(LIMITS, "").await;
    for (headers, status) in refused_heads() {
        for expect in ["", "Expect: 100-continue\r\n"] {
            let response = send_head_only(&gate, &format!("{expect}{headers}")).await;
            assert!(
                response.starts_with(&format!("HTTP/1.1 {status} ")),
                "{expect}: {response}"
            );
        }
    }
    hub.expect_no_request();
}

#[tokio::test]
async fn malformed_bodies_are_refused_whole() {
    let (hub, gate) = start_with_limits(LIMITS, "").await;
    let valid = message(Protocol::V1, &[series("__name__=up,job=x")]);
    let compressed = snappy(&valid);
    let mut corrupt = compressed.clone();
    *corrupt.last_mut().unwrap() = 0xff;
    corrupt.truncate(corrupt.len() - 2);
    let declares = |length: u64, rest: &[u8]| {
        let mut body = Vec::new();
        prost::encoding::encode_varint(length, &mut body);
        body.extend_from_slice(rest);
        body
    };
    let mut framed = b"\xff\x06\x00\x00sNaPpY".to_vec();
    framed.extend_from_slice(&compressed);
    let too_long_inside = field(1, &[field(1, b"\x0a\x7f\x61"), vec![]].concat());
    for (case, body, status) in [
        ("empty body", Vec::new(), 400),
        ("framed snappy", framed, 400),
        (
            "cut snappy",
            compressed[..compressed.len() - 5].to_vec(),
            400,
        ),
        ("corrupt snappy", corrupt, 400),
        ("declared size without end", vec![0xff; 10], 400),
        (
            "declares more than 22 times the body",
            declares(MIB as u64, &[0x0c; 16]),
            400,
        ),
        (
            "declares more than the limit",
            declares(25 << 20, &vec![0; 2 * MIB]),
            413,
        ),
        (
            "declares 4 GiB",
            declares(u64::from(u32::MAX), &[0; 100]),
            413,
        ),
        (
            "protobuf ends early",
            snappy(&valid[..valid.len() - 3]),
            400,
        ),
        ("protobuf ends in a length", snappy(&[0x0a, 0xff]), 400),
        ("length beyond the parent", snappy(&too_long_inside), 400),
        ("a group", snappy(&[0x0b, 0x0c]), 400),
        ("field number 0", snappy(&[0x02, 0x00]), 400),
        (
            "a number where a message belongs",
            snappy(&[0x08, 0x01]),
            400,
        ),
        ("not protobuf at all", snappy(b"up{cluster=\"x\"} 1\n"), 400),
    ] {
        let response = gate.send(write(Protocol::V1, body)).await;
        response.expect_refusal(case, status, &["production"]);
        hub.expect_no_request();
    }
    gate.expect_peak_memory_below(128);
}

#[tokio::test]
async fn a_body_over_the_limit_is_a_413_in_every_framing() {
    let (hub, gate) = start_with_limits("body_bytes_max: 1MiB", "").await;
    for size in [MIB + 1, MIB + 100_000] {
        let request = write(Protocol::V1, vec![0; size]);
        for (case, request) in [
            ("Content-Length", request.clone()),
            ("chunked", request.clone().chunked()),
            ("HTTP/2", request.http2()),
        ] {
            let response = gate.send(request).await;
            response.expect_refusal(case, 413, &["production", "1048576"]);
        }
    }
    hub.expect_no_request();
    gate.wait_for_metric("hubgate_bytes_in_flight", &[], 0.0)
        .await;
}

#[tokio::test]
async fn bytes_that_are_not_http_are_refused_and_harm_no_other_request() {
    let (hub, gate) = start_with_limits(LIMITS, "").await;
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(MIB));
    for (case, bytes) in [
        ("noise", &b"\x00\xff\x13\x37\r\n\r\n"[..]),
        (
            "a TLS hello",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        ),
        ("a header of 1 MiB", long.as_bytes()),
        (
            "http/2, then noise",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        ),
        (
            "two lengths",
            b"POST /api/v1/write HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        ),
    ] {
        let response = send_raw(gate.write_address(), bytes, SILENCE).await;
        let response = String::from_utf8_lossy(&response);
        assert!(!response.contains("HTTP/1.1 2"), "{case}: {response}");
    }
    hub.expect_no_request();
    gate.send(good(Protocol::V1)).await.expect(204);
    gate.wait_for_metric("hubgate_connections", &[], 0.0).await;
}

#[tokio::test]
async fn a_body_with_malformed_chunks_is_a_400() {
    let (hub, gate) = start_hub_and_gate("").await;
    let to = gate.write_address();
    let token = token("production");
    for chunk in ["zz\r\nxx\r\n0\r\n\r\n", "-1\r\n\r\n", "5 x\r\nhello\r\n"] {
        let request = format!(
            "POST /api/v1/write HTTP/1.1\r\nHost: {to}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n\
             Transfer-Encoding: chunked\r\n\r\n{chunk}"
        );
        let response = send_raw(to, request.as_bytes(), SILENCE).await;
        let response = String::from_utf8_lossy(&response);
        assert!(
            response.starts_with("HTTP/1.1 400 "),
            "{chunk:?}: {response}"
        );
        for part in ["production", "body_framing"] {
            assert!(response.contains(part), "{chunk:?}: {response}");
        }
    }
    hub.expect_no_request();
}
