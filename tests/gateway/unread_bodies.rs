//! Responses to requests whose body the gate does not want. Many clients write a whole body before
//! they read.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::DEADLINE;
use crate::support::config::{config, spoke, token};
use crate::support::gate::{Gate, start_hub_and_gate};
use crate::support::hub::ScriptedHub;

const MIB: usize = 1 << 20;

fn head(path: &str, token: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n\
         Content-Length: {length}\r\n\r\n"
    )
}

/// Writes the whole request, and reads the response only then.
async fn write_then_read(gate: &Gate, head: &str, length: usize) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(gate.write_address()).await?;
    stream.write_all(head.as_bytes()).await?;
    for piece in vec![0; length].chunks(64 * 1024) {
        stream.write_all(piece).await?;
    }
    let mut response = vec![0; 4096];
    let length = tokio::time::timeout(DEADLINE, stream.read(&mut response)).await??;
    Ok(String::from_utf8_lossy(&response[..length]).into_owned())
}

#[tokio::test]
async fn a_stranger_s_large_body_is_answered() {
    let hub = ScriptedHub::start().await;
    let foreign = spoke("foreign", "source_ranges: [\"127.0.0.77/32\"]");
    let gate = Gate::start(&config(&hub.url(), &[spoke("production", ""), foreign])).await;
    for (status, path, token) in [
        (401, "/api/v1/write", "wrong".to_owned()),
        (404, "/", token("production")),
        (403, "/api/v1/write", token("foreign")),
    ] {
        let head = head(path, &token, MIB);
        let response = write_then_read(&gate, &head, MIB).await.unwrap();
        let expected = format!("HTTP/1.1 {status} ");
        assert!(response.starts_with(&expected), "{response}");
    }
    let head = head("/api/v1/write", "wrong", MIB).replace("Host: gate\r\n", "");
    let response = write_then_read(&gate, &head, MIB).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
    gate.wait_for_metric("hubgate_connections", &[], 0.0).await;
}

#[tokio::test]
async fn a_stranger_who_goes_on_sending_is_cut_soon() {
    let (_hub, gate) = start_hub_and_gate("").await;
    let head = head("/api/v1/write", "wrong", 1 << 30);
    // This comes first: after many wrong tokens the response is held back for longer.
    let endless = async {
        let mut stream = TcpStream::connect(gate.write_address()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        while stream.write_all(&[0; 64 * 1024]).await.is_ok() {}
    };
    let cut = tokio::time::timeout(DEADLINE / 2, endless).await;
    cut.expect("the gate closes");
    let mut held = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(gate.write_address()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        held.push(stream);
    }
    let mut response = vec![0; 4096];
    for stream in &mut held {
        let length = stream.read(&mut response).await.unwrap();
        assert!(response[..length].starts_with(b"HTTP/1.1 401 "));
    }
    let started = Instant::now();
    gate.wait_for_metric("hubgate_connections", &[], 0.0).await;
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_spoke_s_body_over_the_limit_is_read_and_its_connection_kept() {
    let (_hub, gate) = start_hub_and_gate("").await;
    let length = 40 * MIB;
    let mut stream = TcpStream::connect(gate.write_address()).await.unwrap();
    for _ in 0..2 {
        let head = head("/api/v1/write", &token("production"), length);
        stream.write_all(head.as_bytes()).await.unwrap();
        for piece in vec![0; length].chunks(64 * 1024) {
            stream.write_all(piece).await.unwrap();
        }
        let mut response = vec![0; 4096];
        let length = stream.read(&mut response).await.unwrap();
        let response = String::from_utf8_lossy(&response[..length]);
        assert!(response.starts_with("HTTP/1.1 413 "), "{response}");
        assert!(!response.contains("connection: close"), "{response}");
    }
}
