//! Connections end at an age, so that spokes spread over all replicas again, and no request is cut.

use std::time::{Duration, Instant};

use crate::support::DEADLINE;
use crate::support::config::{config, spoke};
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::sender::{Connection, Request};

fn configuration(hub: &ScriptedHub, age: &str) -> String {
    let listen = format!("listen: {{address: \"127.0.0.1:0\", connection_age_max: {age}}}\n");
    listen + &config(&hub.url(), &[spoke("production", "")])
}

fn request() -> Request {
    Request::up().spoke("production")
}

#[tokio::test]
async fn a_connection_of_http1_ends_with_the_first_response_after_its_age() {
    let hub = ScriptedHub::start().await;
    let gate = Gate::start(&configuration(&hub, "1s")).await;
    let opened = Instant::now();
    let to = gate.write_address();
    let mut connection = Connection::open(to, None, false).await.unwrap();
    loop {
        let response = connection
            .send(request())
            .await
            .expect("a response")
            .expect(204);
        let age = opened.elapsed();
        if response.header("connection") == Some("close") {
            assert!(age > Duration::from_millis(700), "{age:?}");
            break;
        }
        assert!(age < DEADLINE, "{age:?}");
    }
    connection.send(request()).await.expect_err("it is closed");
    gate.wait_for_metric("hubgate_connections", &[], 0.0).await;
    gate.send(request()).await.expect(204);
}

#[tokio::test]
async fn a_connection_of_http2_ends_after_its_age_and_cuts_no_request() {
    let hub = ScriptedHub::start().await;
    let gate = Gate::start(&configuration(&hub, "1s")).await;
    let opened = Instant::now();
    let to = gate.write_address();
    let mut connection = Connection::open(to, None, true).await.unwrap();
    let mut written = 0.0;
    // What is not sent because of GOAWAY was not cut: the client knows that it may send it again.
    while let Ok(response) = connection.send(request()).await {
        response.expect(204);
        written += 1.0;
        assert!(opened.elapsed() < DEADLINE);
    }
    let age = opened.elapsed();
    assert!(age > Duration::from_millis(700), "{age:?}");
    assert_eq!(gate.samples("written", "float").await, written);
    assert_eq!(gate.samples("received", "float").await, written);
    gate.wait_for_metric("hubgate_connections", &[], 0.0).await;
}

#[tokio::test]
async fn a_request_in_flight_at_the_age_has_its_response() {
    for http2 in [false, true] {
        let hub = ScriptedHub::start().await;
        let gate = Gate::start(&configuration(&hub, "100ms")).await;
        hub.hold_responses();
        let to = gate.write_address();
        let mut connection = Connection::open(to, None, http2).await.unwrap();
        let opened = Instant::now();
        let sender = tokio::spawn(async move { connection.send(request()).await });
        hub.wait_for_requests(1).await;
        tokio::time::sleep_until((opened + Duration::from_millis(300)).into()).await;
        hub.release_responses();
        sender.await.unwrap().expect("a response").expect(204);
        gate.wait_for_metric("hubgate_connections", &[], 0.0).await;
    }
}

#[tokio::test]
async fn a_reload_changes_the_age_of_new_connections() {
    let hub = ScriptedHub::start().await;
    let gate = Gate::start(&configuration(&hub, "0s")).await;
    let to = gate.write_address();
    let mut old = Connection::open(to, None, false).await.unwrap();
    old.send(request()).await.unwrap().expect(204);
    gate.reload_with(&configuration(&hub, "1ms")).await;
    let mut new = Connection::open(to, None, false).await.unwrap();
    let closing = new.send(request()).await.unwrap().expect(204);
    assert_eq!(closing.header("connection"), Some("close"));
    for _ in 0..3 {
        let response = old.send(request()).await.unwrap().expect(204);
        assert_eq!(response.header("connection"), None);
    }
}
