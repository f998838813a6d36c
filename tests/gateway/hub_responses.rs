//! What the spoke is told for each response of the hub, and that a fault of the hub is never a 4xx.

use std::time::Duration;

use crate::support::body::{Protocol, Series, bare, encode, series};
use crate::support::config::{config, config_hub, spoke, token};
use crate::support::gate::Gate;
use crate::support::hub::{Reply, ScriptedHub, V2};
use crate::support::sender::{Request, Response};
use crate::support::{DEADLINE, eventually};

async fn start(hub: &ScriptedHub) -> Gate {
    Gate::start(&config(&hub.url(), &[spoke("production", "")])).await
}

/// A gate that writes the hub in one version whatever it says, and asks nothing twice: for what
/// one response means.
async fn start_plain(hub: &ScriptedHub, protocol: Protocol) -> Gate {
    let protocol = match protocol {
        Protocol::V1 => "v1",
        Protocol::V2 => "v2",
    };
    let further = format!("protocol: {protocol}, salvage_requests_max: 0");
    Gate::start(&config_hub(
        &hub.url(),
        &further,
        &[spoke("production", "")],
    ))
    .await
}

async fn send(gate: &Gate, protocol: Protocol, batch: &[Series]) -> Response {
    let request = Request::write(protocol, encode(protocol, batch));
    gate.send(request.token(&token("production"))).await
}

fn one() -> [Series; 1] {
    [series("__name__=up")]
}

fn two() -> [Series; 2] {
    [
        series("__name__=up"),
        series("__name__=bad,cluster=staging"),
    ]
}

/// Retry-After must be whole seconds, and not so long that a spoke falls behind for it.
#[track_caller]
fn retry_after(response: &Response) -> Option<u64> {
    let seconds = response.header("retry-after")?.parse::<u64>();
    let seconds = seconds.unwrap_or_else(|_| panic!("not whole seconds: {response:?}"));
    assert!((1..=30).contains(&seconds), "{response:?}");
    Some(seconds)
}

#[tokio::test]
async fn what_the_hub_stored_is_a_204() {
    let hub = ScriptedHub::start().await;
    let gate = start_plain(&hub, Protocol::V1).await;
    let response = send(&gate, Protocol::V1, &one()).await.expect(204);
    assert_eq!((response.written(), response.text.as_str()), (None, ""));
    hub.reply(Reply::status(200).text("ok"));
    send(&gate, Protocol::V1, &one()).await.expect(204);

    let gate = start(&hub).await;

    let batch = [
        series("__name__=up").exemplar("trace_id=a", 1),
        Series {
            samples: Vec::new(),
            ..series("__name__=h")
        }
        .histogram(2),
    ];
    let response = send(&gate, Protocol::V2, &batch).await.expect(204);
    assert_eq!(response.written(), Some((1, 1, 1)));
    hub.reply(Reply::status(200).written(1, 0, 0));
    let response = send(&gate, Protocol::V2, &one()).await.expect(204);
    assert_eq!(response.written(), Some((1, 0, 0)));
    gate.expect_accounts("production").await;
}

#[tokio::test]
async fn empty_messages_are_a_204() {
    let hub = ScriptedHub::start().await;
    let gate = start(&hub).await;
    for (protocol, written) in [(Protocol::V1, None), (Protocol::V2, Some((0, 0, 0)))] {
        let request = Request::write(protocol, &b"\x00"[..]).token(&token("production"));
        let response = gate.send(request).await.expect(204);
        assert_eq!(response.written(), written, "{protocol:?}");
    }
}

#[tokio::test]
async fn what_the_gate_refused_makes_a_stored_rest_a_400() {
    let hub = ScriptedHub::start().await;
    let gate = start(&hub).await;
    for protocol in Protocol::BOTH {
        let response = send(&gate, protocol, &two()).await.expect(400);
        assert_eq!(response.written(), Some((1, 0, 0)), "{response:?}");
        assert!(response.text.contains("mismatched_label"), "{response:?}");
    }
    let all_refused = [series("__name__=bad,cluster=staging")];
    hub.take();
    for protocol in Protocol::BOTH {
        let response = send(&gate, protocol, &all_refused).await.expect(400);
        assert_eq!(response.written(), Some((0, 0, 0)), "{response:?}");
    }
    hub.expect_nothing();
    gate.expect_accounts("production").await;
}

/// What the hub says, and what the spoke is told for it.
#[tokio::test]
async fn every_status_of_the_hub_has_its_answer() {
    for written in Protocol::BOTH {
        expect_answers(written).await;
    }
}

async fn expect_answers(written: Protocol) {
    let hub = ScriptedHub::start().await;
    let gate = start_plain(&hub, written).await;
    for (status, told) in [
        (400, 400),
        (409, 400),
        (413, 413),
        (415, 502),
        (301, 502),
        (302, 502),
        (307, 502),
        (401, 502),
        (403, 502),
        (404, 502),
        (405, 502),
        (429, 503),
        (500, 500),
        (502, 502),
        (503, 503),
        (504, 504),
    ] {
        for protocol in Protocol::BOTH {
            hub.reply(
                Reply::status(status)
                    .header("location", "/elsewhere")
                    .text("no"),
            );
            let response = send(&gate, protocol, &one()).await;
            assert_eq!(
                response.status, told,
                "{protocol:?} written {written:?}, the hub said {status}: {response:?}"
            );
            assert!(
                (1..=1024).contains(&response.text.len()),
                "{status}: {response:?}"
            );
            retry_after(&response);
            assert_eq!(response.header("location"), None, "{status}");
        }
        // The next request is not hurt, whatever the gate tried in between.
        eventually("the gate writes again", DEADLINE, async || {
            let response = send(&gate, Protocol::V2, &one()).await;
            if response.status == 204 {
                Ok(())
            } else {
                Err(response)
            }
        })
        .await;
    }
    gate.expect_accounts("production").await;
}

/// What the gate refused stays refused, but must not hide that the rest is to be sent again.
#[tokio::test]
async fn a_retryable_fault_wins_over_refused_series() {
    let hub = ScriptedHub::start().await;
    let gate = start(&hub).await;
    for protocol in Protocol::BOTH {
        hub.reply(Reply::status(503));
        send(&gate, protocol, &two()).await.expect(503);
    }
    gate.expect_accounts("production").await;
}

#[tokio::test]
async fn the_hub_s_refusal_is_passed_on_cut() {
    let hub = ScriptedHub::start().await;
    let gate = start_plain(&hub, Protocol::V1).await;
    let long = format!("out of order sample {}", "x".repeat(5000));
    hub.reply(Reply::status(400).text(&long));
    let response = send(&gate, Protocol::V1, &one()).await.expect(400);
    assert!(
        response.text.contains("out of order sample"),
        "{response:?}"
    );
    assert!(response.text.len() <= 1024, "{} bytes", response.text.len());

    let gate = start_plain(&hub, Protocol::V2).await;
    let batch = [
        series("__name__=a")
            .sample(1.0, 1)
            .exemplar("trace_id=a", 1),
        bare("__name__=h").histogram(1).histogram(2),
    ];
    for written in [(1, 1, 0), (0, 0, 0), (2, 2, 1)] {
        let (samples, histograms, exemplars) = written;
        let reply = Reply::status(400).text("out of order sample");
        hub.reply(reply.written(samples, histograms, exemplars));
        let response = send(&gate, Protocol::V2, &batch).await.expect(400);
        assert_eq!(response.written(), Some(written));
    }
    gate.expect_accounts("production").await;
}

#[tokio::test]
async fn partly_refused_v2_is_counted_as_the_hub_counted() {
    let hub = ScriptedHub::start().await;
    let gate = start(&hub).await;
    hub.reply(
        Reply::status(400)
            .written(1, 0, 0)
            .text("out of order sample"),
    );
    let batch = [
        series("__name__=a"),
        series("__name__=b"),
        series("__name__=c"),
    ];
    send(&gate, Protocol::V2, &batch).await.expect(400);
    let metrics = gate.metrics().await;
    let float = [("spoke", "production"), ("kind", "float")];
    assert_eq!(metrics.sum("hubgate_samples_received_total", &float), 3.0);
    assert_eq!(metrics.sum("hubgate_samples_written_total", &float), 1.0);
    let hub_s = [
        ("spoke", "production"),
        ("kind", "float"),
        ("reason", "hub"),
    ];
    assert_eq!(metrics.sum("hubgate_samples_rejected_total", &hub_s), 2.0);
}

#[tokio::test]
async fn retry_after_is_passed_on_capped_and_429_gets_one() {
    let hub = ScriptedHub::start().await;
    let gate = start(&hub).await;
    for (status, said, least) in [
        (503, "7", 7),
        (503, "86400", 15),
        (429, "3", 3),
        (429, "", 1),
    ] {
        let mut reply = Reply::status(status);
        if !said.is_empty() {
            reply = reply.header("retry-after", said);
        }
        hub.reply(reply);
        let response = send(&gate, Protocol::V1, &one()).await.expect(503);
        let seconds = retry_after(&response).expect("Retry-After");
        assert!(seconds >= least, "{status} {said:?}: {response:?}");
    }
}

#[tokio::test]
async fn a_hub_that_breaks_off_is_a_502() {
    let hub = ScriptedHub::start().await;
    let gate = start(&hub).await;
    hub.always(Reply::reset());
    for protocol in Protocol::BOTH {
        send(&gate, protocol, &one()).await.expect(502);
    }
    hub.recover();
    hub.reply(Reply::cut_body(500).text("half an ans"));
    let response = send(&gate, Protocol::V1, &one()).await;
    assert!(response.status >= 500, "{response:?}");
    gate.expect_accounts("production").await;
}

#[tokio::test]
async fn a_hub_that_is_not_there_is_a_502() {
    let vacant = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/api/v1/write", vacant.local_addr().unwrap());
    drop(vacant);
    let gate = Gate::start(&config(&url, &[spoke("production", "")])).await;
    for protocol in Protocol::BOTH {
        let response = send(&gate, protocol, &one()).await;
        assert!(
            [502, 503].contains(&response.status),
            "{protocol:?}: {response:?}"
        );
        assert!(response.text.contains("production"), "{response:?}");
    }
    gate.expect_accounts("production").await;
}

#[tokio::test]
async fn a_hub_that_is_silent_is_a_504() {
    let hub = ScriptedHub::start().await;
    let yaml = config(&hub.url(), &[spoke("production", "")]);
    let gate = Gate::start(&yaml.replace("hub: {", "hub: {timeout: 500ms, ")).await;
    for protocol in Protocol::BOTH {
        hub.reply(Reply::hang());
        send(&gate, protocol, &one()).await.expect(504);
        // Slow is not silent.
        hub.reply(
            Reply::status(204)
                .written(1, 0, 0)
                .after(Duration::from_millis(200)),
        );
        send(&gate, protocol, &one()).await.expect(204);
    }
    gate.expect_accounts("production").await;
}

/// Such a hub says 2xx and stores nothing, so a spoke must not be told 2xx for it.
#[tokio::test]
async fn a_hub_that_must_be_written_v2_and_takes_none_is_a_502() {
    let hub = ScriptedHub::start_v1_only().await;
    let gate = start_plain(&hub, Protocol::V2).await;
    for protocol in Protocol::BOTH {
        let response = send(&gate, protocol, &one()).await.expect(502);
        assert_eq!(response.written(), None, "{response:?}");
        assert!(retry_after(&response).is_some(), "{response:?}");
    }
    assert_eq!(hub.take_stored(), []);
    gate.expect_accounts("production").await;
}

/// What hubgate may not change it must not cost a spoke its samples.
#[tokio::test]
async fn a_hub_that_refuses_the_version_it_must_be_written_in_is_a_502() {
    let hub = ScriptedHub::start().await;
    hub.set_v2(V2::Refuses);
    let gate = start_plain(&hub, Protocol::V2).await;
    for protocol in Protocol::BOTH {
        let response = send(&gate, protocol, &one()).await;
        response.expect_refusal("415", 502, &["production", "the hub answered 415"]);
        assert_eq!(response.written(), None, "{response:?}");
        // Nothing is tried beside what the configuration says.
        assert_eq!(hub.one().protocol, Protocol::V2);
    }
    gate.expect_accounts("production").await;
}
