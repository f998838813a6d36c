//! Whom hubgate refuses before it knows which spoke sends.

use serde_json::json;

use super::{open, url};
use crate::api::ask;
use crate::support::config::{config, spoke};
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::sender::Request;

#[tokio::test]
async fn who_is_refused_at_the_door_is_shown_with_what_to_do() {
    let hub = ScriptedHub::start().await;
    let listen = "listen: {address: \"127.0.0.1:0\", source_ranges: [\"127.0.0.0/24\"]}\n";
    let yaml = format!("{listen}{}", config(&hub.url(), &[spoke("production", "")]));
    let gate = Gate::start(&yaml).await;
    let mut browser = open(&gate, "").await;
    let count = "document.querySelector('#door-count').checkVisibility()";
    assert_eq!(browser.value(count).await, false);
    for last in 2..4 {
        let address = format!("127.0.0.{last}");
        let request = Request::up().spoke("nobody").from(&address);
        gate.send(request).await.expect(401);
    }
    let without = Request::new("POST", "/api/v1/write");
    gate.send(without).await.expect(401);
    let outside = Request::up().spoke("production").from("127.0.1.1");
    gate.try_send(outside).await.unwrap_err();

    let door = ask(&gate, "/api/v1/status").await["door"].take();
    let refused = door.as_array().unwrap().iter();
    let mut refused: Vec<_> = refused
        .map(|it| json!([it["reason"], it["count"], it["refuses"]]))
        .collect();
    assert_eq!(refused.remove(0), json!(["unknown", 2, "request"]));
    assert_eq!(door[0]["last_source_address"], "127.0.0.3");
    for expected in [
        json!(["missing", 1, "request"]),
        json!(["source_range", 1, "connection"]),
    ] {
        assert!(refused.contains(&expected), "{expected} in {door:#}");
    }

    browser
        .until_text("Refused at the door in the last hour: 3 requests and 1 connection")
        .await;
    browser
        .value("document.querySelector('#door-count a').click()")
        .await;
    browser.until("location.hash === '#/door'").await;
    for text in [
        "no spoke has this credential; check the token or password",
        "127.0.0.3",
        "no credential; set authorization",
        "127.0.1.1",
        "the address is outside listen.source_ranges",
    ] {
        browser.until_text(text).await;
    }
    for width in [1280, 360] {
        browser.resize(width, 900).await;
        let shown = browser.value("document.documentElement.scrollWidth").await;
        assert!(shown.as_u64().unwrap() <= width.into(), "{shown}");
        let findings = browser.accessibility_findings("door").await;
        assert!(findings.is_empty(), "{findings:#?}");
        browser.picture(&format!("door-{width}")).await;
    }
    browser.go(&url(&gate, "")).await;
    browser.expect_no_complaint().await;
}
