//! Requests to the admin port that a web page makes the browser of an operator send.

use std::time::Duration;

use crate::support::config::{config, spoke};
use crate::support::gate::{Gate, start_hub_and_gate};
use crate::support::hub::ScriptedHub;
use crate::support::sender::{Request, send_raw};

/// The headers that Chromium sends with `fetch(url, {method: "POST", mode: "no-cors"})`.
fn post_of_page(origin: &str, site: &str) -> Request {
    Request::new("POST", "/-/reload")
        .header("origin", origin)
        .header("sec-fetch-site", site)
        .header("sec-fetch-mode", "no-cors")
        .header("sec-fetch-dest", "empty")
        .header("content-type", "text/plain;charset=UTF-8")
}

#[tokio::test]
async fn web_pages_of_others_can_neither_reload_nor_read() {
    let (_hub, gate) = start_hub_and_gate("").await;
    let own = format!("http://{}", gate.admin_address());
    for path in ["/metrics", "/api/v1/spokes", "/-/healthy", "/-/ready"] {
        for (case, request) in [
            (
                "fetch",
                Request::get(path).header("origin", "http://evil.example"),
            ),
            (
                "a sandboxed page",
                Request::get(path).header("origin", "null"),
            ),
            (
                "an image",
                Request::get(path)
                    .header("sec-fetch-site", "cross-site")
                    .header("sec-fetch-mode", "no-cors")
                    .header("sec-fetch-dest", "image"),
            ),
            (
                "a preflight",
                Request::new("OPTIONS", path)
                    .header("origin", "http://evil.example")
                    .header("access-control-request-method", "POST"),
            ),
        ] {
            let response = gate.admin(request).await;
            assert_eq!(response.status, 403, "{case} of {path}: {response:?}");
            assert!(response.text.contains("web pages"), "{case}: {response:?}");
            let allowed = response.header("access-control-allow-origin");
            assert_eq!(allowed, None, "{case}: {response:?}");
        }
        gate.admin(Request::get(path)).await.expect(200);
    }
    for (origin, site) in [
        ("http://evil.example", "cross-site"),
        ("https://evil.example", "cross-site"),
        ("http://127.0.0.1:9090", "same-site"),
        ("null", "cross-site"),
        ("null", "same-origin"),
    ] {
        let request = post_of_page(origin, site);
        gate.admin(request).await.expect(403);
    }
    let old_browser = Request::new("POST", "/-/reload").header("origin", "http://evil.example");
    gate.admin(old_browser.http2()).await.expect(403);
    let log = gate.log().concat();
    assert!(!log.contains("is reloaded"), "{log}");
    gate.wait_for_log(&["refused a request to the admin port", "http://evil.example"])
        .await;

    gate.reload().await.expect(200);
    let own_page = post_of_page(&own, "same-origin");
    gate.admin(own_page).await.expect(200);
}

/// A GET by HTTP/1.1 with this Host.
async fn status_for_host(gate: &Gate, request: &str, host: &str, headers: &str) -> String {
    let head = format!("{request} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n");
    let silence = Duration::from_secs(5);
    let response = send_raw(gate.admin_address(), head.as_bytes(), silence).await;
    let response = String::from_utf8(response).unwrap();
    response
        .split_whitespace()
        .nth(1)
        .unwrap_or_default()
        .to_owned()
}

/// The name of a page may lead to the admin port by the time the page sends its requests.
#[tokio::test]
async fn a_page_whose_name_leads_to_loopback_can_neither_reload_nor_read() {
    let (_hub, gate) = start_hub_and_gate("").await;
    let port = gate.admin_address().port();
    let evil = format!("evil.example:{port}");
    for request in ["GET /metrics", "GET /api/v1/spokes", "POST /-/reload"] {
        assert_eq!(status_for_host(&gate, request, &evil, "").await, "403");
        for host in ["127.0.0.1", "localhost", "[::1]"] {
            let host = format!("{host}:{port}");
            assert_eq!(
                status_for_host(&gate, request, &host, "").await,
                "200",
                "{host}"
            );
        }
    }
}

#[tokio::test]
async fn beyond_loopback_scrapes_may_use_a_name_and_a_rebound_page_cannot_reload() {
    let hub = ScriptedHub::start().await;
    let admin = "admin: {address: \"0.0.0.0:0\"}\nlisten: {address: \"127.0.0.1:0\"}\n";
    let yaml = format!("{admin}{}", config(&hub.url(), &[spoke("production", "")]));
    let gate = Gate::start(&yaml).await;
    let host = "hubgate.monitoring.svc:9481";
    assert_eq!(
        status_for_host(&gate, "GET /metrics", host, "").await,
        "200"
    );
    assert_eq!(
        status_for_host(&gate, "POST /-/reload", host, "").await,
        "200"
    );
    let rebound = format!("Origin: http://{host}\r\n");
    let reload = status_for_host(&gate, "POST /-/reload", host, &rebound).await;
    assert_eq!(reload, "403");
}
