//! What comes before HTTP on a connection.

use super::*;
use crate::config::{ProxyProtocol, SourceRanges};

const HEADER: &[u8] = b"PROXY TCP4 203.0.113.7 127.0.0.1 9 9\r\n";

/// Requires a PROXY protocol header from 127.0.0.1.
fn behind_a_proxy() -> ConnectionRules {
    ConnectionRules {
        proxy_protocol: ProxyProtocol::Required,
        trusted_proxies: SourceRanges::from_iter(["127.0.0.1/32".parse().unwrap()]),
        ..ConnectionRules::open()
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_header_must_arrive_within_ten_seconds_of_the_accept() {
    for part in [0, 1, HEADER.len() - 1] {
        let (served, mut stream) = Served::start_with(behind_a_proxy()).await;
        stream.write_all(&HEADER[..part]).await.unwrap();
        served
            .ends(Duration::from_secs(10), Some("proxy_header"))
            .await;
    }
    let (served, mut stream) = Served::start_with(behind_a_proxy()).await;
    let trickle = tokio::spawn(async move {
        for byte in HEADER {
            sleep(Duration::from_secs(1)).await;
            stream.write_all(&[*byte]).await?;
        }
        std::io::Result::Ok(())
    });
    served
        .ends(Duration::from_secs(10), Some("proxy_header"))
        .await;
    trickle.await.unwrap().unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_head_shares_its_deadline_with_the_proxy_header() {
    let (served, mut stream) = Served::start_with(behind_a_proxy()).await;
    sleep(Duration::from_secs(8)).await;
    stream.write_all(HEADER).await.unwrap();
    stream.write_all(b"POST /api").await.unwrap();
    served
        .ends(Duration::from_secs(10), Some("header_timeout"))
        .await;
}

#[tokio::test(start_paused = true)]
async fn http_of_either_version_follows_a_proxy_header() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let (served, mut stream) = Served::start_with(behind_a_proxy()).await;
        stream.write_all(HEADER).await.unwrap();
        let mut client = Client::open(stream, version).await;
        client.get("/close").await.unwrap();
        served.ends(Duration::ZERO, None).await;
    }
}

#[tokio::test(start_paused = true)]
async fn draining_waits_for_no_proxy_header() {
    let (served, _stream) = Served::start_with(behind_a_proxy()).await;
    sleep(Duration::from_secs(3)).await;
    served.drain.begun.cancel();
    let drain = Deadlines::default().drain;
    served.ends(Duration::from_secs(3) + drain, None).await;
}
