//! The response of the gate for each response of the hub. A fault of the hub is never a 4xx.

use std::time::Duration;

use crate::support::body::{Protocol, Series, bare, series, up};
use crate::support::gate::{Gate, start_hub_and_gate};
use crate::support::hub::{ScriptedHub, V2, vacant};
use crate::support::reply::Reply;
use crate::support::sender::Request;
use crate::support::{DEADLINE, eventually_equal};

/// A gate that sends the hub one protocol and never repeats a request.
async fn start_without_retries(hub: &ScriptedHub, protocol: Protocol) -> Gate {
    let keys = format!("{}, salvage_requests_max: 0", protocol.hub_key());
    Gate::start_for(&hub.url(), &keys).await
}

/// Two series, of which the gate refuses the second.
fn one_good_one_mismatched() -> [Series; 2] {
    [
        series("__name__=up"),
        series("__name__=bad,cluster=staging"),
    ]
}

#[tokio::test]
async fn a_write_that_the_hub_stored_is_a_204() {
    let hub = ScriptedHub::start().await;
    let gate = start_without_retries(&hub, Protocol::V1).await;
    let response = gate.write(Protocol::V1, &up()).await.expect(204);
    assert_eq!((response.written(), response.text.as_str()), (None, ""));
    hub.reply_once(Reply::status(200).text("ok"));
    gate.write(Protocol::V1, &up()).await.expect(204);

    let gate = Gate::start_for(&hub.url(), "").await;

    let batch = [
        series("__name__=up").exemplar("trace_id=a", 1),
        Series {
            samples: Vec::new(),
            ..series("__name__=h")
        }
        .histogram(2),
    ];
    let response = gate.write(Protocol::V2, &batch).await.expect(204);
    assert_eq!(response.written(), Some((1, 1, 1)));
    hub.reply_once(Reply::status(200).written(1, 0, 0));
    let response = gate.write(Protocol::V2, &up()).await.expect(204);
    assert_eq!(response.written(), Some((1, 0, 0)));
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn an_empty_message_is_a_204() {
    let (_hub, gate) = start_hub_and_gate("").await;
    for (protocol, written) in [(Protocol::V1, None), (Protocol::V2, Some((0, 0, 0)))] {
        let request = Request::write(protocol, &b"\x00"[..]).spoke("production");
        let response = gate.send(request).await.expect(204);
        assert_eq!(response.written(), written, "{protocol:?}");
    }
}

#[tokio::test]
async fn a_write_with_refused_series_is_a_400_after_the_rest_is_stored() {
    let (hub, gate) = start_hub_and_gate("").await;
    for protocol in Protocol::BOTH {
        let response = gate
            .write(protocol, &one_good_one_mismatched())
            .await
            .expect(400);
        assert_eq!(response.written(), Some((1, 0, 0)), "{response:?}");
        assert!(response.text.contains("mismatched_label"), "{response:?}");
    }
    let all_refused = [series("__name__=bad,cluster=staging")];
    hub.take_received();
    for protocol in Protocol::BOTH {
        let response = gate.write(protocol, &all_refused).await.expect(400);
        assert_eq!(response.written(), Some((0, 0, 0)), "{response:?}");
    }
    hub.expect_no_request();
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn each_status_of_the_hub_leads_to_its_status_for_the_spoke() {
    for hub_protocol in Protocol::BOTH {
        expect_status_for_each_hub_status(hub_protocol).await;
    }
}

async fn expect_status_for_each_hub_status(hub_protocol: Protocol) {
    let hub = ScriptedHub::start().await;
    let gate = start_without_retries(&hub, hub_protocol).await;
    for (hub_status, status) in [
        (400, 400),
        (409, 400),
        (413, 413),
        (415, 502),
        (422, 400),
        (301, 502),
        (302, 502),
        (307, 502),
        (401, 502),
        (403, 502),
        (404, 502),
        (405, 502),
        (406, 502),
        (407, 502),
        (408, 502),
        (410, 502),
        (426, 502),
        (431, 502),
        (429, 503),
        (500, 500),
        (501, 502),
        (502, 502),
        (503, 503),
        (504, 504),
    ] {
        for protocol in Protocol::BOTH {
            hub.reply_once(
                Reply::status(hub_status)
                    .header("location", "/elsewhere")
                    .text("no"),
            );
            let response = gate.write(protocol, &up()).await;
            let case = format!("{hub_status} to {hub_protocol:?} for {protocol:?}");
            response.expect_refusal(&case, status, &[]);
            // Fails when there is one outside its range.
            response.retry_after();
            assert_eq!(response.header("location"), None, "{case}");
        }
        // The next requests succeed, whatever the gate sent to the hub in between.
        eventually_equal("status of the next write", DEADLINE, 204, async || {
            gate.write(Protocol::V2, &up()).await.status
        })
        .await;
    }
    gate.expect_balanced_counts("production").await;
}

/// The text of the response may be empty, and then nothing else says what is wrong with the hub.
#[tokio::test]
async fn the_log_has_the_status_of_a_hub_s_failure_with_or_without_a_text() {
    for (status, text) in [
        (307, ""),
        (503, ""),
        (404, "no such page"),
        (500, "a fault"),
    ] {
        let hub = ScriptedHub::start().await;
        let gate = start_without_retries(&hub, Protocol::V2).await;
        hub.reply_once(Reply::status(status).text(text));
        let response = gate.write(Protocol::V2, &up()).await;
        assert!(response.status >= 500, "{response:?}");
        let logged = format!("the hub answered {status}");
        gate.wait_for_log(&["hub_failed", &logged, text]).await;
    }
    let hub = ScriptedHub::start_v1_only().await;
    let gate = start_without_retries(&hub, Protocol::V2).await;
    gate.write(Protocol::V2, &up()).await.expect(502);
    gate.wait_for_log(&["hub_failed", "the hub answered 204"])
        .await;
}

/// A 400 for the refused series would make the spoke drop the rest.
#[tokio::test]
async fn a_retryable_fault_of_the_hub_outweighs_refused_series() {
    let (hub, gate) = start_hub_and_gate("").await;
    for protocol in Protocol::BOTH {
        hub.reply_once(Reply::status(503));
        gate.write(protocol, &one_good_one_mismatched())
            .await
            .expect(503);
    }
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn the_hub_s_refusal_reaches_the_spoke_in_at_most_1024_bytes() {
    let hub = ScriptedHub::start().await;
    let gate = start_without_retries(&hub, Protocol::V1).await;
    let long = format!("out of order sample {}", "x".repeat(5000));
    hub.reply_once(Reply::status(400).text(&long));
    let response = gate.write(Protocol::V1, &up()).await.expect(400);
    assert!(
        response.text.contains("out of order sample"),
        "{response:?}"
    );
    assert!(response.text.len() <= 1024, "{} bytes", response.text.len());

    let gate = start_without_retries(&hub, Protocol::V2).await;
    let batch = [
        series("__name__=a")
            .sample(1.0, 1)
            .exemplar("trace_id=a", 1),
        bare("__name__=h").histogram(1).histogram(2),
    ];
    for written in [(1, 1, 0), (0, 0, 0), (2, 2, 1)] {
        let (samples, histograms, exemplars) = written;
        let reply = Reply::status(400).text("out of order sample");
        hub.reply_once(reply.written(samples, histograms, exemplars));
        let response = gate.write(Protocol::V2, &batch).await.expect(400);
        assert_eq!(response.written(), Some(written));
    }
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn a_partly_refused_v2_write_is_counted_by_the_hub_s_written_headers() {
    let (hub, gate) = start_hub_and_gate("").await;
    hub.reply_once(
        Reply::status(400)
            .written(1, 0, 0)
            .text("out of order sample"),
    );
    let batch = [
        series("__name__=a"),
        series("__name__=b"),
        series("__name__=c"),
    ];
    gate.write(Protocol::V2, &batch).await.expect(400);
    assert_eq!(gate.samples("received", "float").await, 3.0);
    assert_eq!(gate.samples("written", "float").await, 1.0);
    assert_eq!(gate.rejected("float", "hub").await, 2.0);
}

#[tokio::test]
async fn retry_after_is_passed_on_up_to_a_cap_and_added_to_a_429() {
    let (hub, gate) = start_hub_and_gate("").await;
    for (status, from_hub, least) in [
        (503, Some("7"), 7),
        (503, Some("86400"), 15),
        (429, Some("3"), 3),
        (429, None, 1),
    ] {
        let mut reply = Reply::status(status);
        if let Some(from_hub) = from_hub {
            reply = reply.header("retry-after", from_hub);
        }
        hub.reply_once(reply);
        let response = gate.write(Protocol::V1, &up()).await.expect(503);
        let seconds = response.retry_after().expect("Retry-After");
        assert!(seconds >= least, "{status} {from_hub:?}: {response:?}");
    }
}

#[tokio::test]
async fn a_hub_that_breaks_the_connection_is_a_502() {
    let (hub, gate) = start_hub_and_gate("").await;
    hub.reply_always(Reply::reset());
    for protocol in Protocol::BOTH {
        gate.write(protocol, &up()).await.expect(502);
    }
    hub.reply_as_usual();
    hub.reply_once(Reply::cut_off(500).text("half a resp"));
    let response = gate.write(Protocol::V1, &up()).await;
    assert!(response.status >= 500, "{response:?}");
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn a_hub_that_is_down_is_a_502() {
    let gate = Gate::start_for(&vacant().1, "").await;
    for protocol in Protocol::BOTH {
        let response = gate.write(protocol, &up()).await;
        assert_eq!(response.status, 502, "{protocol:?}: {response:?}");
        assert!(response.text.contains("production"), "{response:?}");
    }
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn a_hub_that_sends_no_response_in_time_is_a_504() {
    let (hub, gate) = start_hub_and_gate("timeout: 500ms").await;
    for protocol in Protocol::BOTH {
        hub.reply_once(Reply::never());
        gate.write(protocol, &up()).await.expect(504);
        // A slow response within the timeout is no fault.
        hub.reply_once(
            Reply::status(204)
                .written(1, 0, 0)
                .after(Duration::from_millis(200)),
        );
        gate.write(protocol, &up()).await.expect(204);
    }
    gate.expect_balanced_counts("production").await;
}

/// Such a hub replies 2xx and stores nothing, so a 2xx for the spoke would lose its samples.
#[tokio::test]
async fn a_hub_that_ignores_the_configured_v2_is_a_502() {
    let hub = ScriptedHub::start_v1_only().await;
    let gate = start_without_retries(&hub, Protocol::V2).await;
    for protocol in Protocol::BOTH {
        gate.write(protocol, &up()).await.expect_retryable(502);
    }
    assert_eq!(hub.take_stored(), []);
    gate.expect_balanced_counts("production").await;
}

/// A wrong configuration must not make the spoke drop its samples.
#[tokio::test]
async fn a_hub_that_refuses_the_configured_v2_is_a_502() {
    let hub = ScriptedHub::start().await;
    hub.set_v2(V2::Refuses);
    let gate = start_without_retries(&hub, Protocol::V2).await;
    for protocol in Protocol::BOTH {
        let response = gate.write(protocol, &up()).await;
        response.expect_refusal("415", 502, &["production", "the hub answered 415"]);
        assert_eq!(response.written(), None, "{response:?}");
        // V1 is not tried, because the configuration excludes it.
        assert_eq!(hub.take_one().protocol, Protocol::V2);
    }
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn written_counts_of_a_v2_hub_reach_senders_of_both_versions() {
    let (hub, gate) = start_hub_and_gate("").await;
    gate.wait_for_protocol(None, Protocol::V2).await;
    hub.refuse_if(|unit| unit.notation().contains("id=500,"));
    let batch: Vec<_> = (0..1000)
        .map(|n| bare(&format!("__name__=up,cluster=production,id={n},job=x")).sample(1.0, 1))
        .collect();
    for protocol in Protocol::BOTH {
        let response = gate.write(protocol, &batch).await;
        response.expect_refusal("999", 400, &["production", "the hub says (400)", "id=500"]);
        assert_eq!(response.written(), Some((999, 0, 0)), "{protocol:?}");
        assert_eq!(hub.take_received().len(), 1, "{protocol:?}");
        assert_eq!(hub.take_stored().len(), 999, "{protocol:?}");
    }
    assert_eq!(gate.rejected("float", "hub").await, 2.0);
    gate.expect_balanced_counts("production").await;
}
