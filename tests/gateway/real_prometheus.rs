//! Real Prometheus servers as hubs and spokes: the results are queried at the hub.
//!
//! Each test runs with every Prometheus found; one test at a time.

use std::path::Path;
use std::time::Duration;

use crate::support::arrivals::{
    ARRIVAL_DEADLINE, expect_same_samples, now, wait_for_spokes, wait_until,
};
use crate::support::body::Protocol;
use crate::support::config::{
    bcrypt, config, config_hubs, hub_named, sha256, spoke, spoke_with, token, token_sha256,
};
use crate::support::eventually;
use crate::support::gate::Gate;
use crate::support::prometheus::{Binary, ONE_AT_A_TIME, Prometheus, Spoke};
use crate::support::sender::Request;

#[tokio::test]
async fn two_spokes_reach_the_hub_without_a_failed_sample() {
    let _turn = ONE_AT_A_TIME.lock().await;
    for binary in Binary::all() {
        for protocol in binary.protocols() {
            eprintln!("{binary:?} {protocol:?}");
            two_spokes(&binary, *protocol).await;
        }
    }
}

async fn two_spokes(binary: &Binary, protocol: Protocol) {
    let hub = Prometheus::start_hub(binary).await;
    let spokes = [
        spoke("production", ""),
        spoke_with("staging", &bcrypt("staging", "basic-password"), ""),
    ];
    let gate = Gate::start(&config(&hub.url(), &spokes)).await;
    let production = Spoke::new(&gate, "production", protocol);
    let staging = Spoke {
        name: "staging",
        authentication: "basic_auth: {username: staging, password: basic-password}".to_owned(),
        ..Spoke::new(&gate, "staging", protocol)
    };
    let production = Prometheus::start_spoke(binary, &production).await;
    let staging = Prometheus::start_spoke(binary, &staging).await;
    wait_for_spokes(&hub, &["production", "staging"]).await;
    // Metadata is sent every two seconds, so by this count some has been sent.
    for name in ["production", "staging"] {
        eventually("5,000 written samples", ARRIVAL_DEADLINE, async || {
            let metrics = gate.metrics().await;
            let labels = [("spoke", name), ("kind", "float")];
            let written = metrics.sum("hubgate_samples_written_total", &labels);
            if written > 5_000.0 {
                Ok(())
            } else {
                Err(written)
            }
        })
        .await;
    }
    for spoke in [&production, &staging] {
        let metrics = spoke.metrics().await;
        for kind in ["samples", "exemplars", "metadata", "histograms"] {
            let name = format!("prometheus_remote_storage_{kind}_failed_total");
            assert_eq!(metrics.sum(&name, &[]), 0.0, "{name}");
        }
    }
    gate.expect_balanced_counts("production").await;
    gate.expect_balanced_counts("staging").await;
}

#[tokio::test]
async fn each_mismatch_policy_has_its_effect_at_the_hub() {
    let _turn = ONE_AT_A_TIME.lock().await;
    for binary in Binary::all() {
        let hub = Prometheus::start_hub(&binary).await;
        let policies = ["reject", "rename", "overwrite"];
        let spokes =
            policies.map(|policy| spoke(policy, &format!("labels: {{mismatch: {policy}}}")));
        let gate = Gate::start(&config(&hub.url(), &spokes)).await;
        let mut servers = Vec::new();
        for policy in policies {
            let spoke = Spoke {
                foreign_cluster: Some("kafka"),
                ..Spoke::new(&gate, policy, Protocol::V1)
            };
            servers.push(Prometheus::start_spoke(&binary, &spoke).await);
        }
        wait_for_spokes(&hub, &policies).await;
        wait_for_mismatches(&gate, &policies).await;
        for (query, series) in [
            ("up{cluster=\"kafka\"}", 0),
            ("up{cluster=\"reject\",job=\"kafka\"}", 0),
            (
                "up{cluster=\"rename\",job=\"kafka\",exported_cluster=\"kafka\"}",
                1,
            ),
            (
                "up{cluster=\"overwrite\",job=\"kafka\",exported_cluster=\"\"}",
                1,
            ),
            ("up{job=\"prometheus\",exported_cluster!=\"\"}", 0),
        ] {
            eventually(query, ARRIVAL_DEADLINE, async || {
                let found = hub.query(query).await;
                if found.len() == series {
                    Ok(())
                } else {
                    Err(found)
                }
            })
            .await;
        }
    }
}

/// Waits until the gate has counted mismatches, so that a sample absent at the hub is not just late.
async fn wait_for_mismatches(gate: &Gate, spokes: &[&str]) {
    for name in spokes {
        eventually("foreign labels at the gate", ARRIVAL_DEADLINE, async || {
            let metrics = gate.metrics().await;
            let mismatches = metrics.sum("hubgate_label_mismatches_total", &[("spoke", name)]);
            if mismatches > 0.0 {
                Ok(())
            } else {
                Err(mismatches)
            }
        })
        .await;
    }
}

#[tokio::test]
async fn no_sample_is_missing_after_the_hub_was_down_for_ten_seconds() {
    let _turn = ONE_AT_A_TIME.lock().await;
    for binary in Binary::all() {
        let mut hub = Prometheus::start_hub(&binary).await;
        let gate = Gate::start_for(&hub.url(), "").await;
        let production = Spoke::new(&gate, "production", Protocol::V1);
        let production = Prometheus::start_spoke(&binary, &production).await;
        wait_for_spokes(&hub, &["production"]).await;
        let from = now(&production).await;
        hub.stop().await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        hub.restart().await;
        wait_until(&production, from + 20).await;
        expect_same_samples(&hub, &production, "production", 18, from + 18).await;
        let metrics = production.metrics().await;
        let retried = metrics.sum("prometheus_remote_storage_samples_retried_total", &[]);
        assert!(retried > 0.0, "the spoke repeated no write");
        gate.expect_balanced_counts("production").await;
    }
}

/// The hubs have different versions when two are installed.
#[tokio::test]
async fn both_hubs_have_every_sample_after_one_was_down() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let binaries = Binary::all();
    let [first, last] = [binaries.first(), binaries.last()].map(Option::unwrap);
    let stable = Prometheus::start_hub(first).await;
    let mut restarted = Prometheus::start_hub(last).await;
    let hubs = [("stable", stable.url()), ("restarted", restarted.url())];
    let hubs = hubs.map(|(name, url)| hub_named(name, &url, ""));
    let gate = Gate::start(&config_hubs("all", &hubs, &[spoke("production", "")])).await;
    gate.wait_for_protocol(Some("stable"), first.receives())
        .await;
    gate.wait_for_protocol(Some("restarted"), last.receives())
        .await;
    let production = Spoke::new(&gate, "production", *first.protocols().last().unwrap());
    let production = Prometheus::start_spoke(first, &production).await;
    wait_for_spokes(&stable, &["production"]).await;
    let from = now(&production).await;
    restarted.stop().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    restarted.restart().await;
    wait_until(&production, from + 14).await;
    for hub in [&stable, &restarted] {
        expect_same_samples(hub, &production, "production", 12, from + 12).await;
    }
    let metrics = production.metrics().await;
    let failed = metrics.sum("prometheus_remote_storage_samples_failed_total", &[]);
    assert_eq!(failed, 0.0);
    let retried = metrics.sum("prometheus_remote_storage_samples_retried_total", &[]);
    assert!(retried > 0.0, "the spoke repeated no write");
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn no_sample_is_missing_or_repeated_after_the_gate_was_killed() {
    let _turn = ONE_AT_A_TIME.lock().await;
    for binary in Binary::all() {
        let hub = Prometheus::start_hub(&binary).await;
        let yaml = config(&hub.url(), &[spoke("production", "")]);
        let mut gate = Gate::start(&yaml).await;
        let production = Spoke::new(&gate, "production", Protocol::V1);
        let production = Prometheus::start_spoke(&binary, &production).await;
        wait_for_spokes(&hub, &["production"]).await;
        let from = now(&production).await;
        for _ in 0..3 {
            gate.signal("KILL");
            gate.wait_for_exit().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            gate.restart(&yaml).await;
            // The spoke writes between two kills, which no event shows.
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        wait_until(&production, from + 16).await;
        expect_same_samples(&hub, &production, "production", 14, from + 14).await;
        let metrics = production.metrics().await;
        assert_eq!(
            metrics.sum("prometheus_remote_storage_samples_failed_total", &[]),
            0.0
        );
    }
}

/// The names of the tokens that a rotation begins and ends with.
const OLD: &str = "old";
const NEW: &str = "new";

/// How often the gate of a rotation looks at its files.
const RELOAD_INTERVAL: &str = "1s";

/// Reading files and two reloads take less than this, also on a busy machine.
const RELOAD_DEADLINE: Duration = Duration::from_secs(5);

/// The rotation of `docs/operation.md`, while the spoke writes.
#[tokio::test]
async fn a_token_is_replaced_under_flow_without_a_refused_write() {
    let _turn = ONE_AT_A_TIME.lock().await;
    for binary in Binary::all() {
        for protocol in binary.protocols() {
            eprintln!("{binary:?} {protocol:?}");
            replace_token(&binary, *protocol).await;
        }
    }
}

async fn replace_token(binary: &Binary, protocol: Protocol) {
    let hub = Prometheus::start_hub(binary).await;
    let with_tokens = |names: &[&str]| {
        let credentials: Vec<_> = names.iter().map(|it| token_sha256(&token(it))).collect();
        let spokes = [spoke_with("production", &credentials.join(", "), "")];
        let addresses =
            ["listen", "admin"].map(|it| format!("{it}: {{address: \"127.0.0.1:0\"}}\n"));
        addresses.concat() + &config(&hub.url(), &spokes)
    };
    let folder = tempfile::tempdir().unwrap();
    replace(&folder.path().join("hubgate.yaml"), &with_tokens(&[OLD]));
    let gate = Gate::start_in(folder, RELOAD_INTERVAL).await;
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    replace(&token_file, &token(OLD));
    let credentials_file = format!("{{credentials_file: {}}}", token_file.display());
    let production = Spoke {
        authentication: format!("authorization: {credentials_file}"),
        ..Spoke::new(&gate, "production", protocol)
    };
    let production = Prometheus::start_spoke(binary, &production).await;
    wait_for_spokes(&hub, &["production"]).await;
    let from = now(&production).await;

    // First step: both tokens are good, and the spoke moves from one to the other.
    replace(&gate.config_file(), &with_tokens(&[OLD, NEW]));
    eventually("the new token is known", RELOAD_DEADLINE, async || {
        let metrics = gate.metrics().await;
        if metrics.has(LAST_USED, &[("credential", &credential(NEW))]) {
            Ok(())
        } else {
            Err(())
        }
    })
    .await;
    replace(&token_file, &token(NEW));
    // A request with the old token may be under way when the first one with the new token ends.
    eventually("the old token stands still", ARRIVAL_DEADLINE, async || {
        let (old, new) = (last_used(&gate, OLD).await, last_used(&gate, NEW).await);
        if old + 3.0 < new {
            Ok(())
        } else {
            Err((old, new))
        }
    })
    .await;

    // Second step: the old token goes.
    assert_eq!(status_of_token(&gate, OLD).await, 204);
    replace(&gate.config_file(), &with_tokens(&[NEW]));
    eventually("the old token is refused", RELOAD_DEADLINE, async || {
        let status = status_of_token(&gate, OLD).await;
        if status == 401 { Ok(()) } else { Err(status) }
    })
    .await;
    let (removed, used) = (now(&production).await, last_used(&gate, NEW).await);
    eventually("the new token goes on", ARRIVAL_DEADLINE, async || {
        let new = last_used(&gate, NEW).await;
        if new > used + 3.0 { Ok(()) } else { Err(new) }
    })
    .await;

    expect_same_samples(&hub, &production, "production", removed - from, removed).await;
    let metrics = production.metrics().await;
    for kind in ["samples", "exemplars", "metadata", "histograms"] {
        for end in ["failed", "retried"] {
            let name = format!("prometheus_remote_storage_{kind}_{end}_total");
            assert_eq!(metrics.sum(&name, &[]), 0.0, "{name}");
        }
    }
    let failures = gate.sum("hubgate_auth_failures_total", &[]).await;
    assert_eq!(failures, 1.0, "only the request of this test");
    gate.expect_balanced_counts("production").await;
}

const LAST_USED: &str = "hubgate_credential_last_used_timestamp_seconds";

/// The name of a token in metrics.
fn credential(name: &str) -> String {
    format!("token_sha256:{}", &sha256(&token(name))[..8])
}

async fn last_used(gate: &Gate, name: &str) -> f64 {
    gate.sum(LAST_USED, &[("credential", &credential(name))])
        .await
}

/// The status of an empty write with a token.
async fn status_of_token(gate: &Gate, name: &str) -> u16 {
    let empty = Request::write(Protocol::V1, vec![0]);
    gate.send(empty.token(&token(name))).await.status
}

/// Replaces a file as a whole, as Kubernetes does with those of a mounted Secret.
fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, file).unwrap();
}
