//! Several hubs: each gets every write in the protocol that it speaks.

mod ack;

use std::time::{Duration, Instant};

use crate::support::body::{Protocol, Series, bare, series, success_headers};
use crate::support::config::{config_hubs, config_with_hub_keys, hub_named, spoke};
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::reply::Reply;
use crate::support::sender::Request;
use crate::support::{DEADLINE, eventually_equal};

/// Two hubs, and a gate that has found that both speak V2.
async fn start(ack: &str) -> ([ScriptedHub; 2], Gate) {
    let hubs = [ScriptedHub::start().await, ScriptedHub::start().await];
    let gate = gate(ack, [&hubs[0].url(), &hubs[1].url()]).await;
    gate.wait_for_protocol(None, Protocol::V2).await;
    (hubs, gate)
}

/// A gate with the hubs `a` and `b` at these URLs.
async fn gate(ack: &str, [a, b]: [&str; 2]) -> Gate {
    let hubs = [hub_named("a", a, ""), hub_named("b", b, "")];
    Gate::start(&config_hubs(ack, &hubs, &[spoke("production", "")])).await
}

/// A gate with two hubs in this order of the configuration or, if `swapped`, in the other one. Also
/// returns the name of each of the two hubs.
async fn gate_in_order(ack: &str, swapped: bool, urls: [&str; 2]) -> (Gate, [&'static str; 2]) {
    let [first, second] = urls;
    if swapped {
        (gate(ack, [second, first]).await, ["b", "a"])
    } else {
        (gate(ack, [first, second]).await, ["a", "b"])
    }
}

/// Three series that the gate forwards unchanged.
fn three() -> [Series; 3] {
    ["a", "b", "c"].map(|name| bare(&format!("__name__={name},cluster=production")).sample(1.0, 1))
}

/// How many requests to a hub ended with this status or fault.
async fn requests(gate: &Gate, hub: &str, code: &str) -> f64 {
    let metrics = gate.metrics().await;
    let labels = [("hub", hub), ("code", code)];
    metrics.sum_or_zero("hubgate_hub_requests_total", &labels)
}

/// How many samples a hub has written.
async fn written(gate: &Gate, hub: &str) -> f64 {
    let labels = [("hub", hub), ("kind", "float")];
    gate.sum("hubgate_hub_samples_written_total", &labels).await
}

/// A V1 hub, a V2 hub, and a gate that has found what they speak.
async fn start_v1_and_v2(ack: &str, swapped: bool) -> (ScriptedHub, ScriptedHub, Gate) {
    let v1 = ScriptedHub::start_v1_only().await;
    let v2 = ScriptedHub::start().await;
    let (gate, names) = gate_in_order(ack, swapped, [&v1.url(), &v2.url()]).await;
    gate.wait_for_protocol(Some(names[0]), Protocol::V1).await;
    gate.wait_for_protocol(Some(names[1]), Protocol::V2).await;
    (v1, v2, gate)
}

#[tokio::test]
async fn every_hub_gets_every_write() {
    for ack in ["all", "any"] {
        let ([a, b], gate) = start(ack).await;
        for protocol in Protocol::BOTH {
            let response = gate.write(protocol, &three()).await.expect(204);
            let expected = success_headers(protocol, (3, 0, 0));
            assert_eq!(response.written(), expected, "{ack}");
            for hub in [&a, &b] {
                hub.wait_for_requests(1).await;
                assert_eq!(hub.take_one().series, three(), "{ack}");
            }
        }
        for hub in ["a", "b"] {
            eventually_equal("written by each hub", DEADLINE, 6.0, async || {
                written(&gate, hub).await
            })
            .await;
        }
        // A sample that two hubs wrote is counted once for the spoke.
        assert_eq!(gate.samples("written", "float").await, 6.0, "{ack}");
        gate.expect_balanced_counts("production").await;
    }
}

#[tokio::test]
async fn each_hub_gets_the_protocol_that_it_speaks() {
    for ack in ["all", "any"] {
        for swapped in [false, true] {
            let (v1, v2, gate) = start_v1_and_v2(ack, swapped).await;
            for protocol in Protocol::BOTH {
                let response = gate.write(protocol, &three()).await.expect(204);
                let expected = success_headers(protocol, (3, 0, 0));
                assert_eq!(response.written(), expected);
                for (hub, expected) in [(&v1, Protocol::V1), (&v2, Protocol::V2)] {
                    hub.wait_for_requests(1).await;
                    let received = hub.take_one();
                    assert_eq!(received.protocol, expected, "{ack}, {protocol:?}");
                    assert_eq!(received.series, three(), "{ack}, {protocol:?}");
                }
            }
            gate.expect_balanced_counts("production").await;
        }
    }
}

/// The request to the V1 hub is halved until the bad sample is alone; the V2 hub stores the rest by
/// itself.
#[tokio::test]
async fn a_v1_hub_and_a_v2_hub_lose_the_same_bad_sample() {
    let (v1, v2, gate) = start_v1_and_v2("all", false).await;
    for hub in [&v1, &v2] {
        hub.refuse_if(|unit| unit.notation().contains("id=500"));
    }
    let batch: Vec<_> = (0..1000)
        .map(|n| bare(&format!("__name__=up,cluster=production,id={n}")).sample(1.0, 1))
        .collect();
    for protocol in Protocol::BOTH {
        let response = gate.write(protocol, &batch).await.expect(400);
        assert_eq!(response.written(), Some((999, 0, 0)), "{protocol:?}");
        for hub in [&v1, &v2] {
            assert_eq!(hub.take_stored().len(), 999, "{protocol:?}");
        }
    }
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn a_reload_adds_removes_and_changes_hubs() {
    let (a, b) = (ScriptedHub::start().await, ScriptedHub::start().await);
    let spokes = [spoke("production", "")];
    let hub_a = hub_named("a", &a.url(), "");
    let gate = Gate::start(&config_hubs("all", std::slice::from_ref(&hub_a), &spokes)).await;
    gate.wait_for_protocol(Some("a"), Protocol::V2).await;
    let probes = a.probes();
    let both = [hub_a, hub_named("b", &b.url(), "protocol: v1")];
    gate.reload_with(&config_hubs("all", &both, &spokes)).await;
    gate.write(Protocol::V2, &three()).await.expect(204);
    assert_eq!(a.take_one().protocol, Protocol::V2);
    assert_eq!(b.take_one().protocol, Protocol::V1);
    assert_eq!(a.probes(), probes, "probes of a hub that stays");
    // The hub that stays has another protocol now.
    let changed = [hub_named("b", &b.url(), "protocol: v2")];
    gate.reload_with(&config_hubs("any", &changed, &spokes))
        .await;
    gate.write(Protocol::V1, &three()).await.expect(204);
    a.expect_no_request();
    assert_eq!(b.take_one().protocol, Protocol::V2);
    let metrics = gate.metrics().await;
    for family in [
        "hubgate_hub_requests_total",
        "hubgate_hub_protocol",
        "hubgate_hub_lost_total",
        "hubgate_hub_samples_written_total",
        "hubgate_hub_request_duration_seconds_count",
    ] {
        assert_eq!(metrics.label_values(family, "hub"), ["b"], "{family}");
    }
    gate.expect_balanced_counts("production").await;
}

/// The spokes have their 204 already, for the other hub.
#[tokio::test]
async fn draining_finishes_requests_to_a_slow_hub() {
    let ([fast, slow], mut gate) = start("any").await;
    slow.reply_always(Reply::as_usual().after(Duration::from_secs(3)));
    for protocol in Protocol::BOTH {
        gate.write(protocol, &three()).await.expect(204);
    }
    slow.wait_for_requests(2).await;
    gate.signal("TERM");
    let signalled = Instant::now();
    assert!(gate.wait_for_exit().await.success());
    let elapsed = signalled.elapsed();
    assert!(elapsed < DEADLINE, "{elapsed:?}");
    assert_eq!(fast.take_stored().len(), 6);
    assert_eq!(slow.take_stored().len(), 6);
}

#[tokio::test]
async fn metrics_and_status_show_each_hub() {
    let ([a, b], gate) = start("all").await;
    b.reply_once(Reply::status(503));
    gate.write(Protocol::V1, &three()).await.expect(503);
    gate.write(Protocol::V1, &three()).await.expect(204);
    assert_eq!(requests(&gate, "a", "503").await, 0.0);
    assert_eq!(requests(&gate, "b", "503").await, 1.0);
    assert_eq!(written(&gate, "a").await, 6.0);
    assert_eq!(written(&gate, "b").await, 3.0);
    let status = gate.spokes().await;
    let names = status["hubs"].as_array().unwrap().iter();
    let names: Vec<_> = names.map(|hub| hub["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(a.take_received().len() + b.take_received().len(), 4);
    gate.expect_balanced_counts("production").await;
}

/// A hub may keep each spoke as a tenant of its own, so the halves of a request need the header too.
#[tokio::test]
async fn configured_headers_name_the_spoke_in_every_request() {
    let hub = ScriptedHub::start().await;
    let hub_keys = "headers: {X-Scope-OrgID: \"${spoke}\", Authorization: \"Bearer hub-secret\", \
                   X-Both: \"<${spoke}/${spoke}>\"}, protocol: v1";
    let spokes = ["production", "staging"].map(|name| spoke(name, ""));
    let gate = Gate::start(&config_with_hub_keys(&hub.url(), hub_keys, &spokes)).await;
    hub.refuse_if(|unit| unit.notation().contains("__name__=b,"));
    for name in ["production", "staging"] {
        for protocol in Protocol::BOTH {
            let batch = ["a", "b"].map(|it| series(&format!("__name__={it},x=y")));
            let request = Request::series(protocol, &batch)
                .spoke(name)
                .header("x-scope-orgid", "other");
            gate.send(request).await.expect(400);
            let received = hub.take_received();
            assert_eq!(received.len(), 3, "the whole and two halves");
            for received in received {
                let values = |header: &str| -> Vec<_> {
                    let values = received.headers.get_all(header).iter();
                    values.map(|it| it.to_str().unwrap().to_owned()).collect()
                };
                assert_eq!(values("x-scope-orgid"), [name]);
                assert_eq!(values("authorization"), ["Bearer hub-secret"]);
                assert_eq!(values("x-both"), [format!("<{name}/{name}>")]);
            }
        }
    }
    let log = gate.log().join("\n");
    assert!(!log.contains("hub-secret"), "{log}");
}
