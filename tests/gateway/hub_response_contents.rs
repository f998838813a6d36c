//! The text and the headers of a hub's response: what the gate concludes from them, and what of them
//! reaches the spoke.

use crate::support::body::{Protocol, metadata_v1, up};
use crate::support::gate::{Gate, start_hub_and_gate};
use crate::support::hub::ScriptedHub;
use crate::support::reply::Reply;
use crate::support::sender::Request;

/// What a proxy, a login page or a wrong URL may respond to every request.
const PAGE: &str = "<!doctype html>\n<title>Welcome</title>";

/// The keys of a hub that is sent V1 only and no request twice.
const V1_WITHOUT_RETRIES: &str = "protocol: v1, salvage_requests_max: 0";

/// The values of `hubgate_hub_protocol` for V1 and for V2.
async fn protocol_metrics(gate: &Gate) -> [f64; 2] {
    let metrics = gate.metrics().await;
    ["v1", "v2"].map(|protocol| metrics.sum("hubgate_hub_protocol", &[("protocol", protocol)]))
}

#[tokio::test]
async fn a_page_with_status_200_does_not_make_a_v2_hub_v1() {
    let (hub, gate) = start_hub_and_gate("").await;
    gate.write(Protocol::V2, &up()).await.expect(204);
    assert_eq!(protocol_metrics(&gate).await, [0.0, 1.0]);
    let probes = hub.probes();
    hub.reply_to_probes(Reply::status(200).text(PAGE));
    hub.reply_once(Reply::status(200).text(PAGE));
    let response = gate.write(Protocol::V2, &up()).await.expect(502);
    assert!(!response.text.contains("Welcome"), "{response:?}");
    hub.wait_for_probes(probes + 1).await;
    hub.take_received();
    // V1 is still sent as V2. A page in response to V1 would look like a success.
    hub.reply_always(Reply::status(200).text(PAGE));
    for protocol in Protocol::BOTH {
        gate.write(protocol, &up()).await.expect(502);
        assert_eq!(hub.take_one().protocol, Protocol::V2);
    }
    hub.reply_as_usual();
    for protocol in Protocol::BOTH {
        gate.write(protocol, &up()).await.expect(204);
        assert_eq!(hub.take_one().protocol, Protocol::V2);
    }
    assert_eq!(protocol_metrics(&gate).await, [0.0, 1.0]);
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn a_hub_that_served_a_page_at_the_start_is_written_once_it_recovers() {
    let hub = ScriptedHub::start().await;
    hub.reply_to_probes(Reply::status(200).text(PAGE));
    let gate = Gate::start_for(&hub.url(), "").await;
    hub.wait_for_probes(2).await;
    hub.reply_always(Reply::status(200).text(PAGE));
    for _ in 0..3 {
        gate.write(Protocol::V2, &up()).await.expect(502);
    }
    hub.reply_as_usual();
    gate.write(Protocol::V2, &up()).await.expect(204);
}

/// Some receivers send these headers with a V1 success.
#[tokio::test]
async fn written_headers_of_zero_in_a_v1_success_are_ignored() {
    let (hub, gate) = start_hub_and_gate(V1_WITHOUT_RETRIES).await;
    for status in [200, 204] {
        let zero = "x-prometheus-remote-write-samples-written";
        hub.reply_once(Reply::status(status).header(zero, "0"));
        let response = gate.write(Protocol::V1, &up()).await.expect(204);
        assert_eq!(response.written(), None, "{response:?}");
    }
    assert_eq!(gate.samples("written", "float").await, 2.0);
    assert_eq!(gate.samples("rejected", "float").await, 0.0);
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn v1_metadata_that_the_hub_refuses_is_counted_as_rejected() {
    let (hub, gate) = start_hub_and_gate(V1_WITHOUT_RETRIES).await;
    hub.reply_once(Reply::status(400).text("metadata is disabled"));
    let request = Request::write(Protocol::V1, metadata_v1("up")).spoke("production");
    let response = gate.send(request).await;
    response.expect_refusal("metadata", 400, &["production", "metadata is disabled"]);
    assert_eq!(gate.rejected("metadata", "hub").await, 1.0);
    assert_eq!(gate.samples("written", "metadata").await, 0.0);
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn a_hub_s_refusal_without_text_still_names_its_status() {
    let (hub, gate) = start_hub_and_gate(V1_WITHOUT_RETRIES).await;
    for (status, advice) in [(400, ""), (413, "max_samples_per_send")] {
        for protocol in Protocol::BOTH {
            hub.reply_once(Reply::status(status));
            let response = gate.write(protocol, &up()).await;
            let code = status.to_string();
            response.expect_refusal(&code, status, &["production", "hub", &code, advice]);
        }
    }
}

/// The text of a fault may name hosts and tenants of the hub.
#[tokio::test]
async fn the_text_of_a_hub_s_fault_is_logged_and_not_shown_to_the_spoke() {
    let (hub, gate) = start_hub_and_gate("").await;
    for status in [301, 401, 403, 404, 429, 500, 502, 503, 504] {
        for protocol in Protocol::BOTH {
            hub.reply_once(Reply::status(status).text("tenant-7 at 10.9.8.7"));
            let response = gate.write(protocol, &up()).await;
            assert!(response.status >= 500, "{status}: {response:?}");
            assert!(
                !response.text.contains("tenant-7"),
                "{status}: {response:?}"
            );
            let code = status.to_string();
            assert!(response.text.contains(&code), "{status}: {response:?}");
        }
    }
    gate.wait_for_log(&["tenant-7 at 10.9.8.7"]).await;
}

#[tokio::test]
async fn a_hub_s_text_becomes_one_line_without_control_characters() {
    let (hub, gate) = start_hub_and_gate(V1_WITHOUT_RETRIES).await;
    let text = "out of\r\norder\tsample\n\n\x1b]0;x\x07\x1b[31m{up}\u{9b}2J\u{2028}end\0\n";
    for protocol in Protocol::BOTH {
        hub.reply_once(Reply::status(400).text(text));
        let response = gate.write(protocol, &up()).await.expect(400);
        let line = response.text.strip_suffix('\n').unwrap_or(&response.text);
        assert!(line.contains("out of order sample"), "{response:?}");
        assert!(line.contains("{up}"), "{response:?}");
        let printable = line
            .chars()
            .all(|it| !it.is_control() && !"\u{2028}\u{2029}".contains(it));
        assert!(printable, "{line:?}");
    }
}

#[tokio::test]
async fn retry_after_is_spread_and_never_below_the_hub_s_value() {
    let (hub, gate) = start_hub_and_gate("").await;
    for (status, from_hub, least, most) in [
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
            hub.reply_once(Reply::status(status).header("retry-after", from_hub));
            let response = gate.write(Protocol::V1, &up()).await;
            let seconds = response.retry_after().expect("Retry-After");
            let case = format!("{status} {from_hub}: {response:?}");
            assert!((least..=most).contains(&seconds), "{case}");
        }
    }
    let mut seconds = std::collections::BTreeSet::new();
    for _ in 0..20 {
        hub.reply_once(Reply::status(503).header("retry-after", "10"));
        seconds.insert(gate.write(Protocol::V1, &up()).await.retry_after());
    }
    assert!(
        seconds.len() > 1,
        "all spokes come back at once: {seconds:?}"
    );
}
