//! The protocol that a hub speaks: how the gate finds it, and what it sends until then.

use crate::support::body::{Protocol, Series, series, success_headers};
use crate::support::config::{config_with_hub_keys, spoke};
use crate::support::gate::{Gate, start_hub_and_gate};
use crate::support::hub::{ScriptedHub, V2, protocols};
use crate::support::reply::Reply;
use crate::support::{DEADLINE, eventually_equal};

/// One series that the gate forwards unchanged.
fn unchanged() -> [Series; 1] {
    [series("__name__=up,cluster=production")]
}

#[tokio::test]
async fn a_configured_protocol_is_used_without_a_probe() {
    for (v2, configured) in [
        (V2::Speaks, Protocol::V1),
        (V2::Speaks, Protocol::V2),
        (V2::Ignores, Protocol::V1),
    ] {
        let hub = ScriptedHub::start().await;
        hub.set_v2(v2);
        let gate = Gate::start_for(&hub.url(), &configured.hub_key()).await;
        gate.wait_for_protocol(None, configured).await;
        for protocol in Protocol::BOTH {
            gate.write(protocol, &unchanged()).await.expect(204);
            let case = format!("{protocol:?} to {configured:?}");
            assert_eq!(hub.take_one().protocol, configured, "{case}");
            assert_eq!(hub.take_stored().len(), 1, "{case}");
        }
        assert_eq!(hub.probes(), 0, "the hub was probed");
    }
}

#[tokio::test]
async fn the_protocol_of_a_hub_is_found_at_the_start() {
    for (v2, found) in [
        (V2::Speaks, Protocol::V2),
        (V2::Ignores, Protocol::V1),
        (V2::Refuses, Protocol::V1),
    ] {
        let hub = ScriptedHub::start().await;
        hub.set_v2(v2);
        let gate = Gate::start_for(&hub.url(), "").await;
        gate.wait_for_protocol(None, found).await;
        let name = found.name();
        let logged = format!("\"protocol\":\"{name}\"");
        gate.wait_for_log(&["found the protocol of a hub", &logged])
            .await;
        let status = gate.spokes().await;
        assert_eq!(status["hubs"][0]["protocol"], name, "{status}");
        for protocol in Protocol::BOTH {
            gate.write(protocol, &unchanged()).await.expect(204);
            assert_eq!(hub.take_one().protocol, found, "{protocol:?}, {v2:?}");
        }
    }
}

/// An older hub replaced it. The write that shows this is repeated as V1, and so is every later one.
#[tokio::test]
async fn a_downgraded_hub_gets_v1_within_the_same_write() {
    for protocol in Protocol::BOTH {
        let (hub, gate) = start_hub_and_gate("").await;
        gate.wait_for_protocol(None, Protocol::V2).await;
        hub.set_v2(V2::Refuses);
        let response = gate.write(protocol, &unchanged()).await.expect(204);
        let expected = success_headers(protocol, (1, 0, 0));
        assert_eq!(response.written(), expected, "{protocol:?}");
        assert_eq!(
            protocols(&hub.take_received()),
            [Protocol::V2, Protocol::V1],
            "{protocol:?}"
        );
        assert_eq!(hub.take_stored().len(), 1, "stored once");
        gate.wait_for_protocol(None, Protocol::V1).await;
        gate.write(protocol, &unchanged()).await.expect(204);
        assert_eq!(hub.take_one().protocol, Protocol::V1, "the next write");
        gate.expect_balanced_counts("production").await;
    }
}

/// A balancer in maintenance takes everything, and nothing of it is stored. An older hub that replaced
/// this one looks the same to V2.
#[tokio::test]
async fn an_empty_success_for_a_v2_hub_is_no_success() {
    let (hub, gate) = start_hub_and_gate("").await;
    gate.wait_for_protocol(None, Protocol::V2).await;
    for status in [204, 200] {
        hub.reply_always(Reply::status(status));
        hub.reply_to_probes(Reply::status(status));
        let probes = hub.probes();
        for count in 1..=3 {
            for protocol in Protocol::BOTH {
                let response = gate.write(protocol, &unchanged()).await;
                response.expect_retryable(502);
            }
            hub.wait_for_probes(probes + count).await;
        }
        let sent = protocols(&hub.take_received());
        assert!(sent.iter().all(|it| *it == Protocol::V2), "{sent:?}");
        hub.reply_as_usual();
        hub.reply_to_probes_as_usual();
        for protocol in Protocol::BOTH {
            gate.write(protocol, &unchanged()).await.expect(204);
            assert_eq!(hub.take_one().protocol, Protocol::V2);
        }
        assert_eq!(hub.take_stored().len(), 2, "what was answered 204");
    }
    gate.wait_for_log(&["does not say any more what it wrote"])
        .await;
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn a_hub_fault_after_the_fallback_to_v1_is_retryable() {
    let (hub, gate) = start_hub_and_gate("").await;
    gate.wait_for_protocol(None, Protocol::V2).await;
    hub.reply_once(Reply::status(415));
    hub.reply_once(Reply::status(503));
    let response = gate.write(Protocol::V2, &unchanged()).await.expect(503);
    assert_eq!(response.written(), None, "{response:?}");
    assert_eq!(hub.take_stored(), []);
    gate.expect_balanced_counts("production").await;
}

/// A hub that was found to speak V1 is sent no V2 that could show its upgrade. A hub whose keys change
/// is a new hub to the gate, which probes it at once.
#[tokio::test]
async fn an_upgraded_hub_is_found_by_the_probe_after_a_reload() {
    let hub = ScriptedHub::start_v1_only().await;
    let gate = Gate::start_for(&hub.url(), "").await;
    gate.wait_for_protocol(None, Protocol::V1).await;
    gate.write(Protocol::V1, &unchanged()).await.expect(204);
    assert_eq!(hub.take_one().protocol, Protocol::V1);
    hub.set_v2(V2::Speaks);
    gate.write(Protocol::V1, &unchanged()).await.expect(204);
    assert_eq!(hub.take_one().protocol, Protocol::V1, "before the probe");
    let spokes = [spoke("production", "")];
    gate.reload_with(&config_with_hub_keys(&hub.url(), "timeout: 29s", &spokes))
        .await;
    expect_v1_arrives_as_v2(&hub, &gate).await;
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn a_hub_of_unknown_protocol_is_probed_until_it_is_found() {
    let hub = ScriptedHub::start().await;
    hub.reply_to_probes(Reply::status(503));
    let gate = Gate::start_for(&hub.url(), "").await;
    hub.wait_for_probes(2).await;
    gate.write(Protocol::V1, &unchanged()).await.expect(204);
    assert_eq!(hub.take_one().protocol, Protocol::V1);
    hub.reply_to_probes_as_usual();
    expect_v1_arrives_as_v2(&hub, &gate).await;
    gate.expect_balanced_counts("production").await;
}

/// Waits until the hub gets V2 for a V1 write of the spoke.
async fn expect_v1_arrives_as_v2(hub: &ScriptedHub, gate: &Gate) {
    eventually_equal("protocol at the hub", DEADLINE, Protocol::V2, async || {
        gate.write(Protocol::V1, &unchanged()).await.expect(204);
        hub.take_one().protocol
    })
    .await;
    gate.wait_for_protocol(None, Protocol::V2).await;
}

/// Three series, of which the hubs here refuse the second.
fn second_is_bad() -> [Series; 3] {
    ["a", "bad", "b"].map(|name| series(&format!("__name__={name}")))
}

/// The hub may speak V2 and store the rest of the request then.
#[tokio::test]
async fn a_400_to_v1_is_repeated_as_v2_before_the_protocol_is_known() {
    let hub = ScriptedHub::start().await;
    hub.reply_to_probes(Reply::status(503));
    hub.refuse_if(|unit| unit.notation().contains("bad"));
    let gate = Gate::start_for(&hub.url(), "protocol: auto").await;
    hub.wait_for_probes(1).await;
    hub.reply_to_probes_as_usual();
    let response = gate.write(Protocol::V1, &second_is_bad()).await.expect(400);
    assert_eq!(response.written(), Some((2, 0, 0)), "{response:?}");
    assert_eq!(
        protocols(&hub.take_received()),
        [Protocol::V1, Protocol::V2]
    );
    assert_eq!(hub.take_stored().len(), 2);
    gate.wait_for_protocol(None, Protocol::V2).await;
    gate.expect_balanced_counts("production").await;
}

/// A hub that decodes V2 as V1 would refuse it whole.
#[tokio::test]
async fn a_hub_that_refuses_the_probe_gets_v1_only() {
    let hub = ScriptedHub::start().await;
    hub.reply_to_probes(Reply::status(400).text("unexpected wire type"));
    hub.refuse_if(|unit| unit.notation().contains("bad"));
    let gate = Gate::start_for(&hub.url(), "protocol: auto").await;
    gate.wait_for_log(&["does not say what it speaks", "unexpected wire type"])
        .await;
    let response = gate.write(Protocol::V1, &second_is_bad()).await.expect(400);
    assert_eq!(response.written(), Some((2, 0, 0)), "{response:?}");
    let sent = protocols(&hub.take_received());
    assert!(sent.len() > 1, "{sent:?}");
    assert!(sent.iter().all(|it| *it == Protocol::V1), "{sent:?}");
    assert_eq!(hub.take_stored().len(), 2);
    gate.expect_balanced_counts("production").await;
}

/// A hub that decodes V2 as V1 finds it malformed.
#[tokio::test]
async fn a_400_to_v2_is_repeated_as_v1_before_the_protocol_is_known() {
    let hub = ScriptedHub::start().await;
    hub.reply_to_probes(Reply::status(503));
    let gate = Gate::start_for(&hub.url(), "protocol: auto").await;
    hub.reply_once(Reply::status(400).text("unexpected wire type"));
    let response = gate.write(Protocol::V2, &unchanged()).await.expect(204);
    assert_eq!(response.written(), Some((1, 0, 0)), "{response:?}");
    assert_eq!(
        protocols(&hub.take_received()),
        [Protocol::V2, Protocol::V1]
    );
    // A bad sample is bad in both protocols, so its refusal reaches the spoke.
    hub.refuse_if(|unit| unit.notation().contains("up"));
    for protocol in Protocol::BOTH {
        let response = gate.write(protocol, &unchanged()).await;
        response.expect_refusal("bad", 400, &["the hub says (400): bad"]);
        assert_eq!(response.written(), Some((0, 0, 0)), "{response:?}");
    }
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn a_2xx_whose_written_headers_count_too_few_is_no_success() {
    let (hub, gate) = start_hub_and_gate("").await;
    gate.wait_for_protocol(None, Protocol::V2).await;
    let batch = ["a", "b", "c"].map(|name| series(&format!("__name__={name}")));
    for protocol in Protocol::BOTH {
        hub.reply_once(Reply::status(204).written(2, 0, 0));
        let response = gate.write(protocol, &batch).await;
        response.expect_refusal("2 of 3", 400, &["production", "wrote 2 of 3 samples"]);
        assert_eq!(response.written(), Some((2, 0, 0)));
        assert_eq!(hub.take_one().protocol, Protocol::V2);
        // Zero means that the hub understood nothing of it.
        hub.reply_once(Reply::status(204).written(0, 0, 0));
        let response = gate.write(protocol, &batch).await.expect(204);
        let expected = success_headers(protocol, (3, 0, 0));
        assert_eq!(response.written(), expected);
        assert_eq!(
            protocols(&hub.take_received()),
            [Protocol::V2, Protocol::V1]
        );
        assert_eq!(hub.take_stored().len(), 3);
        gate.wait_for_protocol(None, Protocol::V2).await;
        // Mimir replies 202 to samples that it has from the other replica of a pair.
        hub.reply_once(Reply::status(202).written(0, 0, 0));
        let response = gate.write(protocol, &batch).await.expect(204);
        let expected = success_headers(protocol, (0, 0, 0));
        assert_eq!(response.written(), expected);
        hub.take_received();
    }
    let gate = Gate::start_for(&hub.url(), "protocol: v2").await;
    for protocol in Protocol::BOTH {
        hub.reply_once(Reply::status(204).written(0, 0, 0));
        gate.write(protocol, &batch).await.expect_retryable(502);
    }
    gate.expect_balanced_counts("production").await;
}

/// A hub that stores a part of a V2 request counts it in the Written headers. One without them may
/// have decoded it as V1.
#[tokio::test]
async fn a_400_to_v2_without_written_headers_is_repeated_as_v1() {
    let (hub, gate) = start_hub_and_gate("").await;
    gate.wait_for_protocol(None, Protocol::V2).await;
    for protocol in Protocol::BOTH {
        let probes = hub.probes();
        hub.reply_once(Reply::status(400).text("unexpected wire type"));
        let response = gate.write(protocol, &unchanged()).await.expect(204);
        let expected = success_headers(protocol, (1, 0, 0));
        assert_eq!(response.written(), expected);
        assert_eq!(
            protocols(&hub.take_received()),
            [Protocol::V2, Protocol::V1]
        );
        assert_eq!(hub.take_stored().len(), 1);
        hub.wait_for_probes(probes + 1).await;
        gate.wait_for_protocol(None, Protocol::V2).await;
    }
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn a_400_to_v2_without_written_headers_is_halved_under_protocol_v2() {
    let (hub, gate) = start_hub_and_gate("protocol: v2").await;
    let batch = ["a", "b", "c"].map(|name| series(&format!("__name__={name}")));
    for protocol in Protocol::BOTH {
        hub.reply_once(Reply::status(400).text("too many symbols"));
        let response = gate.write(protocol, &batch).await.expect(204);
        let expected = success_headers(protocol, (3, 0, 0));
        assert_eq!(response.written(), expected);
        assert_eq!(hub.take_received().len(), 3);
        assert_eq!(hub.take_stored().len(), 3);
    }
    hub.reply_always(Reply::status(400).text("out of order"));
    for protocol in Protocol::BOTH {
        let response = gate.write(protocol, &batch).await;
        response.expect_refusal("all bad", 400, &["the hub says (400): out of order"]);
        assert_eq!(response.written(), Some((0, 0, 0)), "{response:?}");
        assert_eq!(hub.take_received().len(), 5);
    }
    gate.expect_balanced_counts("production").await;
}
