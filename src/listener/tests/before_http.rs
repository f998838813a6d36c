//! What comes before HTTP on a connection, and the age at which it ends.

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

fn with_age(age: Duration) -> ConnectionRules {
    ConnectionRules {
        connection_age_max: Some(age),
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

#[tokio::test(start_paused = true)]
async fn a_connection_ends_with_a_response_in_the_last_quarter_of_its_age() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let (served, stream) = Served::start_with(with_age(10 * MINUTE)).await;
        let mut client = Client::open(stream, version).await;
        while client.get("/").await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
        let lasted = served.task.await.unwrap().as_secs();
        assert!((450..=601).contains(&lasted), "{version:?}: {lasted} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_in_flight_at_the_age_of_its_connection_has_its_response() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let (served, stream) = Served::start_with(with_age(10 * MINUTE)).await;
        let mut client = Client::open(stream, version).await;
        client.get("/long").await.unwrap();
        served.ends(LONG, None).await;
    }
}

/// A request could be on its way.
#[tokio::test(start_paused = true)]
async fn the_age_alone_does_not_end_a_connection() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let (served, stream) = Served::start_with(with_age(MINUTE)).await;
        let mut client = Client::open(stream, version).await;
        client.get("/").await.unwrap();
        served.ends(6 * MINUTE, Some("idle_timeout")).await;
    }
}
