//! What a hub says beside its status: pages, empty texts, headers that mean nothing, and how much
//! of it reaches the spoke.

use std::time::Duration;

use crate::support::body::{Protocol, Series, encode, metadata_v1, series};
use crate::support::config::{config, config_hub, spoke, token};
use crate::support::gate::Gate;
use crate::support::hub::{Reply, ScriptedHub};
use crate::support::sender::{Request, Response, raw};

/// What a proxy, a login page or a wrong URL answers to everything.
const PAGE: &str = "<!doctype html>\n<title>Welcome</title>";

async fn start(hub: &ScriptedHub) -> Gate {
    Gate::start(&config(&hub.url(), &[spoke("production", "")])).await
}

/// A gate that writes the hub V1, and nothing twice.
async fn start_v1(hub: &ScriptedHub) -> Gate {
    let further = "protocol: v1, salvage_requests_max: 0";
    Gate::start(&config_hub(&hub.url(), further, &[spoke("production", "")])).await
}

fn one() -> [Series; 1] {
    [series("__name__=up")]
}

async fn send(gate: &Gate, protocol: Protocol) -> Response {
    let request = Request::write(protocol, encode(protocol, &one()));
    gate.send(request.token(&token("production"))).await
}

fn seconds(response: &Response) -> Option<u64> {
    let seconds = response.header("retry-after")?;
    Some(seconds.parse().expect("whole seconds"))
}

/// 1 or 0 for each protocol that the hub may be found to speak: V1, V2.
async fn found(gate: &Gate) -> [f64; 2] {
    let metrics = gate.metrics().await;
    ["v1", "v2"].map(|protocol| metrics.sum("hubgate_hub_protocol", &[("protocol", protocol)]))
}

#[tokio::test]
async fn a_page_in_place_of_the_hub_is_no_sign_of_v1() {
    let hub = ScriptedHub::start().await;
    let gate = start(&hub).await;
    send(&gate, Protocol::V2).await.expect(204);
    assert_eq!(found(&gate).await, [0.0, 1.0]);
    let probed = hub.probed();
    hub.reply_to_probes(Reply::status(200).text(PAGE));
    hub.reply(Reply::status(200).text(PAGE));
    let response = send(&gate, Protocol::V2).await.expect(502);
    assert!(!response.text.contains("Welcome"), "{response:?}");
    hub.wait_probed(probed + 1).await;
    hub.take();
    // V1 goes out as V2 as before: a page in response to V1 would be taken for a success.
    hub.always(Reply::status(200).text(PAGE));
    for protocol in Protocol::BOTH {
        send(&gate, protocol).await.expect(502);
        assert_eq!(hub.one().protocol, Protocol::V2);
    }
    hub.recover();
    for protocol in Protocol::BOTH {
        send(&gate, protocol).await.expect(204);
        assert_eq!(hub.one().protocol, Protocol::V2);
    }
    assert_eq!(found(&gate).await, [0.0, 1.0]);
    gate.expect_accounts("production").await;
}

#[tokio::test]
async fn a_page_from_the_start_keeps_nobody_out() {
    let hub = ScriptedHub::start().await;
    hub.reply_to_probes(Reply::status(200).text(PAGE));
    let gate = start(&hub).await;
    hub.wait_probed(2).await;
    hub.always(Reply::status(200).text(PAGE));
    for _ in 0..3 {
        send(&gate, Protocol::V2).await.expect(502);
    }
    hub.recover();
    send(&gate, Protocol::V2).await.expect(204);
}

/// Some receivers send zeros with a V1 success.
#[tokio::test]
async fn zeros_beside_a_v1_success_mean_nothing() {
    let hub = ScriptedHub::start().await;
    let gate = start_v1(&hub).await;
    for status in [200, 204] {
        let zero = "x-prometheus-remote-write-samples-written";
        hub.reply(Reply::status(status).header(zero, "0"));
        let response = send(&gate, Protocol::V1).await.expect(204);
        assert_eq!(response.written(), None, "{response:?}");
    }
    let metrics = gate.metrics().await;
    let float = [("spoke", "production"), ("kind", "float")];
    assert_eq!(metrics.sum("hubgate_samples_written_total", &float), 2.0);
    assert_eq!(metrics.sum("hubgate_samples_rejected_total", &float), 0.0);
    gate.expect_accounts("production").await;
}

#[tokio::test]
async fn v1_metadata_that_the_hub_refuses_is_counted_as_refused() {
    let hub = ScriptedHub::start().await;
    let gate = start_v1(&hub).await;
    hub.reply(Reply::status(400).text("metadata is disabled"));
    let request = Request::write(Protocol::V1, metadata_v1("up")).token(&token("production"));
    let response = gate.send(request).await;
    response.expect_refusal("metadata", 400, &["production", "metadata is disabled"]);
    let metrics = gate.metrics().await;
    let kind = [("spoke", "production"), ("kind", "metadata")];
    let refused = [&kind[..], &[("reason", "hub")]].concat();
    assert_eq!(metrics.sum("hubgate_samples_rejected_total", &refused), 1.0);
    assert_eq!(metrics.sum("hubgate_samples_written_total", &kind), 0.0);
    gate.expect_accounts("production").await;
}

#[tokio::test]
async fn a_refusal_without_a_text_still_says_what_is_known() {
    let hub = ScriptedHub::start().await;
    let gate = start_v1(&hub).await;
    for (status, says) in [(400, ""), (413, "max_samples_per_send")] {
        for protocol in Protocol::BOTH {
            hub.reply(Reply::status(status));
            let response = send(&gate, protocol).await;
            let code = status.to_string();
            response.expect_refusal(&code, status, &["production", "hub", &code, says]);
        }
    }
}

/// Only what a hub says of a request is for the spoke; the rest may name hosts and tenants.
#[tokio::test]
async fn what_a_hub_says_of_itself_stays_here() {
    let hub = ScriptedHub::start().await;
    let gate = start(&hub).await;
    for status in [301, 401, 403, 404, 429, 500, 502, 503, 504] {
        for protocol in Protocol::BOTH {
            hub.reply(Reply::status(status).text("tenant-7 at 10.9.8.7"));
            let response = send(&gate, protocol).await;
            assert!(response.status >= 500, "{status}: {response:?}");
            assert!(
                !response.text.contains("tenant-7"),
                "{status}: {response:?}"
            );
            let code = status.to_string();
            assert!(response.text.contains(&code), "{status}: {response:?}");
        }
    }
    gate.logged(&["tenant-7 at 10.9.8.7"]).await;
}

#[tokio::test]
async fn a_hub_s_text_is_one_line_that_steers_no_terminal() {
    let hub = ScriptedHub::start().await;
    let gate = start_v1(&hub).await;
    let text = "out of\r\norder\tsample\n\n\x1b]0;x\x07\x1b[31m{up}\u{9b}2J\u{2028}end\0\n";
    for protocol in Protocol::BOTH {
        hub.reply(Reply::status(400).text(text));
        let response = send(&gate, protocol).await.expect(400);
        let line = response.text.strip_suffix('\n').unwrap_or(&response.text);
        assert!(line.contains("out of order sample"), "{response:?}");
        assert!(line.contains("{up}"), "{response:?}");
        let whole = line
            .chars()
            .all(|it| !it.is_control() && !"\u{2028}\u{2029}".contains(it));
        assert!(whole, "{line:?}");
    }
}

#[tokio::test]
async fn a_body_whose_chunks_are_none_is_refused_for_good() {
    let hub = ScriptedHub::start().await;
    let gate = start(&hub).await;
    let to = gate.write_address();
    let token = token("production");
    for chunk in ["zz\r\nxx\r\n0\r\n\r\n", "-1\r\n\r\n", "5 x\r\nhello\r\n"] {
        let request = format!(
            "POST /api/v1/write HTTP/1.1\r\nHost: {to}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n\
             Transfer-Encoding: chunked\r\n\r\n{chunk}"
        );
        let response = raw(to, request.as_bytes(), Duration::from_secs(2)).await;
        let response = String::from_utf8_lossy(&response);
        assert!(
            response.starts_with("HTTP/1.1 400 "),
            "{chunk:?}: {response}"
        );
        for says in ["production", "body_framing"] {
            assert!(response.contains(says), "{chunk:?}: {response}");
        }
    }
    hub.expect_nothing();
}

#[tokio::test]
async fn retry_after_is_spread_and_never_sooner_than_the_hub_said() {
    let hub = ScriptedHub::start().await;
    let gate = start(&hub).await;
    for (status, said, from, to) in [
        (503, "10", 10, 16),
        (500, "10", 10, 16),
        (503, "29", 29, 30),
        (503, "30", 30, 30),
        (503, "999999", 30, 30),
        (503, "0", 1, 5),
        (503, "Fri, 31 Dec 1999 23:59:59 GMT", 1, 5),
        (429, "0", 1, 5),
    ] {
        for _ in 0..5 {
            hub.reply(Reply::status(status).header("retry-after", said));
            let response = send(&gate, Protocol::V1).await;
            let told = seconds(&response).expect("Retry-After");
            assert!((from..=to).contains(&told), "{status} {said}: {response:?}");
        }
    }
    let mut told = std::collections::BTreeSet::new();
    for _ in 0..20 {
        hub.reply(Reply::status(503).header("retry-after", "10"));
        told.insert(seconds(&send(&gate, Protocol::V1).await));
    }
    assert!(told.len() > 1, "everybody comes at once: {told:?}");
}
