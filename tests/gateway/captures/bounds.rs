//! When a capture ends, and what becomes of its memory.

use tokio::net::TcpSocket;

use super::*;
use crate::support::metrics::Metrics;

async fn bytes_in_flight(gate: &Gate) -> f64 {
    let request = Request::get("/metrics").token(&token("operator"));
    let page = gate.admin(request).await.expect(200).text;
    Metrics::parse(&page).sum("hubgate_bytes_in_flight", &[])
}

/// Begins a capture whose client reads nothing.
async fn begin(gate: &Gate) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    // What fits into the sockets is as good as read.
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    let mut stream = socket.connect(gate.admin_address()).await.unwrap();
    let head = format!(
        "POST /api/v1/spokes/production/capture?requests=1000 HTTP/1.1\r\nHost: localhost\r\n\
         Authorization: Bearer {}\r\nContent-Length: 0\r\n\r\n",
        token("operator")
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    gate.wait_for_log(&["a capture of refused requests begins"])
        .await;
    stream
}

/// A large body that is no snappy block.
fn noise() -> Vec<u8> {
    let byte = |it: u32| (it.wrapping_mul(it) >> 7) as u8;
    (0..90_000).map(byte).collect()
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_capture() {
    let (_hub, gate) = start().await;
    let client = begin(&gate).await;
    for _ in 0..20 {
        gate.send(write(Protocol::V1, noise())).await.expect(400);
    }
    // Bodies are kept beside the budget of writes.
    eventually_equal("the budget", DEADLINE, 0.0, async || {
        bytes_in_flight(&gate).await
    })
    .await;
    let status = async || {
        let request = Request::get("/api/v1/status").token(&token("operator"));
        let answer = gate.admin(request).await.expect(200);
        serde_json::from_str::<Value>(&answer.text).unwrap()
    };
    let shown = status().await["capture"].take();
    assert_eq!(shown["spoke"], "production");
    assert!(shown["end_timestamp_seconds"].as_f64().unwrap() > 1.7e9);
    // One goes on at a time.
    let second = || {
        let path = "/api/v1/spokes/staging/capture?seconds=1";
        Request::new("POST", path).token(&token("operator"))
    };
    let refused = gate.admin(second()).await.expect(409);
    let start = "a capture of spoke production goes on, and only one may; it ends in ";
    assert!(refused.text.starts_with(start), "{refused:?}");
    drop(client);
    let ended = gate
        .wait_for_log(&["a capture of refused requests ended"])
        .await;
    assert!(ended.contains("\"why\":\"gone\""), "{ended}");
    assert!(!ended.contains("\"requests\":0,"), "{ended}");
    assert!(status().await["capture"].is_null());
    // The next one ends with its time.
    let last = gate.admin(second()).await.expect(200);
    let lines: Vec<_> = last.text.lines().filter(|it| !it.is_empty()).collect();
    assert!(lines[0].starts_with("{\"capture\":\"begins\",\"spoke\":\"staging\""));
    assert_eq!(
        lines[1],
        "{\"capture\":\"ended\",\"why\":\"time\",\"requests\":0}"
    );
}

#[tokio::test]
async fn a_client_that_reads_slowly_gets_no_body_after_its_credential_went() {
    let (hub, gate) = start().await;
    let mut client = begin(&gate).await;
    // Twice what the sockets hold.
    let count = 200;
    for _ in 0..count {
        gate.send(write(Protocol::V1, noise())).await.expect(400);
    }
    let [operator, other] = ["operator", "other"].map(|it| may_capture(&token(it)));
    let spokes = [spoke("production", "")];
    gate.write_config(&guarded(&hub, &spokes).replace(&operator, &other));
    let reload = Request::new("POST", "/-/reload").token(&token("operator"));
    gate.admin(reload).await.expect(200);
    let mut read = Vec::new();
    let mut part = vec![0; 1 << 20];
    // The connection may stay open.
    while !read.ends_with(b"\r\n0\r\n\r\n") {
        let length = tokio::time::timeout(DEADLINE, client.read(&mut part)).await;
        let length = length.unwrap().unwrap();
        assert!(length > 0, "the answer ended early");
        read.extend_from_slice(&part[..length]);
    }
    let text = String::from_utf8(read).unwrap();
    let requests = text.matches("{\"capture\":\"request\"").count();
    assert!(requests > 0 && requests < count, "{requests}");
    assert!(text.contains("{\"capture\":\"ended\",\"why\":\"revoked\","));
}

#[tokio::test]
async fn a_body_is_cut_and_the_bodies_have_a_sum() {
    let (_hub, gate) = start().await;
    let cut = ["--body-bytes=10", "--bytes=15"];
    let mut capturing = Capturing::start(&gate, &cut).await;
    let body = mismatched();
    for _ in 0..2 {
        gate.send(write(Protocol::V2, body.clone()))
            .await
            .expect(400);
    }
    assert_eq!(capturing.end().await.0, Some(0));
    let end = "the bodies reached the size after 2 requests\n";
    assert_eq!(capturing.line().await, end);
    for file in capturing.files() {
        let captured = read(&file);
        assert_eq!(body_of(&captured), body[..10]);
        assert_eq!(captured["body_bytes"], body.len());
        expect_cut(&capturing, &file);
    }
}

#[tokio::test]
async fn a_capture_without_a_request_is_told_apart() {
    let (_hub, gate) = start().await;
    let mut capturing = Capturing::start(&gate, &["--duration=1s"]).await;
    assert_eq!(
        capturing.line().await,
        "the time is over after 0 requests\n"
    );
    assert_eq!(capturing.end().await, (Some(1), String::new()));
    let mut interrupted = Capturing::start(&gate, &[]).await;
    interrupted.interrupt();
    assert_eq!(interrupted.line().await, "interrupted after 0 requests\n");
    assert_eq!(interrupted.end().await.0, Some(1));
    // A second one is refused with the reason, until hubgate has noticed.
    eventually("the end of it", DEADLINE, async || {
        let ended = "a capture of refused requests ended";
        let count = gate.log().concat().matches(ended).count();
        if count == 2 { Ok(()) } else { Err(count) }
    })
    .await;
}

#[tokio::test]
async fn a_reload_that_takes_its_credential_away_and_a_shutdown_end_a_capture() {
    let (hub, mut gate) = start().await;
    let mut capturing = Capturing::start(&gate, &["--requests=1"]).await;
    let spokes = [spoke("production", "labels: {mismatch: reject}")];
    let reload = async |yaml: String| {
        gate.write_config(&yaml);
        let reload = Request::new("POST", "/-/reload").token(&token("operator"));
        gate.admin(reload).await.expect(200);
    };
    // Another credential, and all else that a reload renews, change nothing.
    let other = format!("credentials: [{}, ", token_sha256(&token("other")));
    let both = guarded(&hub, &spokes).replacen("credentials: [", &other, 1);
    reload(both.clone()).await;
    gate.send(write(Protocol::V2, mismatched()))
        .await
        .expect(400);
    assert_eq!(capturing.end().await.0, Some(0));
    let mut capturing = Capturing::start(&gate, &[]).await;
    let [operator, other] = ["operator", "other"].map(|it| may_capture(&token(it)));
    reload(guarded(&hub, &spokes).replace(&operator, &other)).await;
    let end = "the credential is no longer valid, or the spoke is gone after 0 requests\n";
    assert_eq!(capturing.line().await, end);
    assert_eq!(capturing.end().await.0, Some(1));
    gate.write_config(&both);
    let reload = Request::new("POST", "/-/reload").token(&token("other"));
    gate.admin(reload).await.expect(200);
    let mut capturing = Capturing::start(&gate, &[]).await;
    gate.signal("INT");
    assert_eq!(
        capturing.line().await,
        "hubgate shuts down after 0 requests\n"
    );
    assert!(gate.wait_for_exit().await.success());
}
