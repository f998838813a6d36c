//! What operators see: metrics, the status as JSON, and the log. None of them holds a secret.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::body::{Protocol, bare, now, series};
use crate::support::config::{
    bcrypt, config, config_hubs, hub_named, sha256, spoke, spoke_with, token,
};
use crate::support::gate::{Gate, start_hub_and_gate};
use crate::support::hub::ScriptedHub;
use crate::support::prometheus::find_on_path;
use crate::support::sender::Request;

/// A gate that has handled writes with status 204, 400 and 401.
async fn start_with_traffic(hub: &ScriptedHub) -> Gate {
    let basic = bcrypt("staging", "basic-password");
    let spokes = [spoke("production", ""), spoke_with("staging", &basic, "")];
    let gate = Gate::start(&config(&hub.url(), &spokes)).await;
    for protocol in Protocol::BOTH {
        let batch = [series("__name__=up"), series("__name__=bad,cluster=\"\\\n")];
        gate.write(protocol, &batch[..1]).await.expect(204);
        gate.write(protocol, &batch).await.expect(400);
    }
    let request = Request::up();
    gate.send(request.clone().basic("staging", "basic-password"))
        .await
        .expect(204);
    gate.send(request.clone().basic("staging", "wrong-password"))
        .await
        .expect(401);
    gate.send(request.token("wrong-token")).await.expect(401);
    gate
}

#[tokio::test]
async fn metrics_pass_promtool_check() {
    let promtool = find_on_path("promtool").expect("promtool on PATH; run tests/run.sh");
    let hub = ScriptedHub::start().await;
    let gate = start_with_traffic(&hub).await;
    let mut promtool = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let text = gate.metrics().await.text;
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    let output_text =
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(
        output.status.success() && output_text.is_empty(),
        "{output_text}\n{text}"
    );
}

/// Dashboards and alerts depend on these, so a change must be deliberate.
#[tokio::test]
async fn metric_names_and_help_texts_match_the_committed_file() {
    let hub = ScriptedHub::start().await;
    let gate = start_with_traffic(&hub).await;
    let metrics = gate.metrics().await;
    let mut pinned: BTreeSet<String> = BTreeSet::new();
    let comments = metrics
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("# "));
    for comment in comments {
        let (kind, rest) = comment.split_once(' ').unwrap();
        let (name, text) = rest.split_once(' ').unwrap();
        pinned.insert(format!("{name} {kind} {text}\n"));
    }
    expect_pinned("metrics.txt", &pinned.into_iter().collect::<String>());
}

/// Fails unless a file of the fixtures holds this text.
fn expect_pinned(file: &str, text: &str) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    let path = Path::new(folder).join(file);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == text,
        "metrics changed; if that is deliberate, run `UPDATE=1 cargo test --test gateway admin::`\n{text}"
    );
}

/// Alerts on a rate need a series before its first event.
#[tokio::test]
async fn the_series_of_a_gate_before_its_first_request_are_pinned() {
    let hub = hub_named(
        "fresh-hub",
        &ScriptedHub::start().await.url(),
        "protocol: v1",
    );
    let spoke = spoke("fresh-spoke", "");
    let gate = Gate::start(&config_hubs("all", &[hub], &[spoke])).await;
    let series = gate.metrics().await.series().into_iter();
    let text: String = series
        // Its label changes with each release.
        .filter(|series| !series.starts_with("hubgate_build_info{"))
        .map(|series| series + "\n")
        .collect();
    expect_pinned("metrics-fresh.txt", &text);
}

#[tokio::test]
async fn metrics_of_a_configured_spoke_exist_before_its_first_request() {
    let (_hub, gate) = start_hub_and_gate("").await;
    let metrics = gate.metrics().await;
    for kind in ["float", "histogram", "exemplar", "metadata"] {
        let labels = [("spoke", "production"), ("kind", kind)];
        for fate in ["received", "written", "failed"] {
            assert_eq!(
                metrics.sum(&format!("hubgate_samples_{fate}_total"), &labels),
                0.0
            );
        }
    }
    // Of the other counters, those whose first count a rate must show.
    for (name, labels) in [
        ("samples_rejected", [("kind", "float"), ("reason", "hub")]),
        ("requests", [("protocol", "v1"), ("code", "400")]),
        ("requests", [("protocol", "v2"), ("code", "400")]),
        ("requests", [("protocol", "v1"), ("code", "413")]),
        ("requests", [("protocol", "v2"), ("code", "413")]),
        ("requests", [("protocol", "v1"), ("code", "503")]),
        ("requests", [("protocol", "v2"), ("code", "503")]),
        (
            "label_mismatches",
            [("spoke", "production"), ("policy", "reject")],
        ),
    ] {
        assert_eq!(
            metrics.sum(&format!("hubgate_{name}_total"), &labels),
            0.0,
            "{name}"
        );
    }
    assert!(
        !metrics.text.contains("cluster="),
        "the label is `spoke`:\n{}",
        metrics.text
    );
}

/// A counter that disappears and comes back looks like a restart.
#[tokio::test]
async fn a_series_that_appeared_stays_when_a_reload_changes_the_policy() {
    let hub = ScriptedHub::start().await;
    let yaml = |policy: &str| {
        let labels = format!("labels: {{mismatch: {policy}}}");
        config(&hub.url(), &[spoke("production", &labels)])
    };
    let gate = Gate::start(&yaml("reject")).await;
    let rejected = "hubgate_samples_rejected_total";
    let reason = [("reason", "mismatched_label")];
    assert!(!gate.metrics().await.has(rejected, &reason));
    let batch = [bare("__name__=up,cluster=staging").sample(1.0, now())];
    gate.write(Protocol::V1, &batch).await.expect(400);
    gate.reload_with(&yaml("rename")).await;
    let mismatches = "hubgate_label_mismatches_total";
    let of = |policy| [("policy", policy)];
    let metrics = gate.metrics().await;
    assert_eq!(metrics.sum(rejected, &reason), 1.0);
    assert_eq!(metrics.sum(mismatches, &of("reject")), 1.0);
    assert_eq!(metrics.sum(mismatches, &of("rename")), 0.0);
    gate.write(Protocol::V1, &batch).await.expect(204);
    let metrics = gate.metrics().await;
    assert_eq!(metrics.sum(rejected, &reason), 1.0);
    assert_eq!(metrics.sum(mismatches, &of("reject")), 1.0);
    assert_eq!(metrics.sum(mismatches, &of("rename")), 1.0);
    assert!(!metrics.has(mismatches, &of("overwrite")));
}

#[tokio::test]
async fn metrics_show_the_freshness_and_size_of_a_write() {
    let (_hub, gate) = start_hub_and_gate("").await;
    let newest = now() - 60_000;
    let batch = [series("__name__=up")];
    let mut batch = batch.map(|series| series.sample(1.0, newest));
    batch[0].samples.remove(0);
    gate.write(Protocol::V1, &batch).await.expect(204);
    let metrics = gate.metrics().await;
    let spoke = [("spoke", "production")];
    let newest_seen = metrics.sum("hubgate_newest_sample_timestamp_seconds", &spoke);
    assert!(
        (newest_seen - newest as f64 / 1000.0).abs() < 0.01,
        "{newest_seen}"
    );
    let last_write = metrics.sum("hubgate_last_write_timestamp_seconds", &spoke);
    assert!(
        (last_write - now() as f64 / 1000.0).abs() < 10.0,
        "{last_write}"
    );
    for name in [
        "request_duration_seconds",
        "request_body_bytes",
        "request_decoded_bytes",
    ] {
        assert!(
            metrics.sum(&format!("hubgate_{name}_count"), &[]) >= 1.0,
            "{name}"
        );
    }
    let received = metrics.sum("hubgate_received_bytes_total", &spoke);
    assert_eq!(received, metrics.sum("hubgate_request_body_bytes_sum", &[]));
    assert!(received > 0.0);
    assert_eq!(metrics.sum("hubgate_bytes_in_flight", &[]), 0.0);
    assert_eq!(
        metrics.sum("hubgate_bytes_in_flight_limit", &[]),
        268_435_456.0
    );
    let success = [("spoke", "production"), ("code", "204")];
    assert_eq!(metrics.sum("hubgate_requests_total", &success), 1.0);
}

/// One wrong clock must not hide for ever that a spoke has stopped writing.
#[tokio::test]
async fn a_timestamp_in_the_far_future_does_not_become_the_newest() {
    let hub = ScriptedHub::start().await;
    let spokes = [spoke("production", "limits: {samples_ahead_max: 0s}")];
    let gate = Gate::start(&config(&hub.url(), &spokes)).await;
    let name = "hubgate_newest_sample_timestamp_seconds";
    for protocol in [Protocol::V2, Protocol::V1] {
        let batch = [bare("__name__=up").sample(1.0, i64::MAX)];
        gate.write(protocol, &batch).await.expect(204);
        let horizon = now() as f64 / 1000.0 + 600.0;
        let seen = gate.metrics().await.sum(name, &[("spoke", "production")]);
        assert!(seen <= horizon, "{protocol:?}: {seen}");
        let ahead = now() + 60_000;
        let batch = [bare("__name__=up").sample(1.0, ahead)];
        gate.write(protocol, &batch).await.expect(204);
        let seen = gate.metrics().await.sum(name, &[("spoke", "production")]);
        assert!((seen - ahead as f64 / 1000.0).abs() < 0.01, "{seen}");
    }
}

#[tokio::test]
async fn the_spokes_endpoint_shows_every_spoke_as_json() {
    let hub = ScriptedHub::start().await;
    let gate = start_with_traffic(&hub).await;
    let status = gate.spokes().await;
    let text = status.to_string();
    for fact in [
        "production",
        "staging",
        "mismatched_label",
        "bad",
        "Prometheus/2.42.0",
        "127.0.0.1",
    ] {
        assert!(text.contains(fact), "{fact}: {status:#}");
    }
}

#[tokio::test]
async fn the_json_of_the_spokes_endpoint_is_a_line() {
    let (_hub, gate) = start_hub_and_gate("").await;
    let response = gate.admin(Request::get("/api/v1/spokes")).await;
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert!(response.text.ends_with("}\n"), "{response:?}");
}

#[tokio::test]
async fn secrets_appear_in_no_endpoint_and_no_log_line() {
    let hub = ScriptedHub::start().await;
    let mut gate = start_with_traffic(&hub).await;
    let file = std::fs::read_to_string(gate.config_file()).unwrap();
    let hash = file
        .split("password_hash: \"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned();
    let mut shown = String::new();
    for path in [
        "/metrics",
        "/api/v1/spokes",
        "/",
        "/-/ready",
        "/config",
        "/debug/pprof",
    ] {
        shown += &gate.admin(Request::get(path)).await.text;
    }
    gate.signal("TERM");
    gate.wait_for_exit().await;
    shown += &gate.log().join("\n");
    for secret in [
        token("production"),
        sha256(&token("production")),
        hash,
        "basic-password".to_owned(),
        "wrong-password".to_owned(),
        "wrong-token".to_owned(),
    ] {
        assert!(!shown.contains(&secret), "{secret} in {shown}");
    }
}

#[tokio::test]
async fn many_scrapes_at_once_take_little_memory() {
    let (_hub, gate) = start_hub_and_gate("").await;
    for _ in 0..4 {
        let mut scrapes = tokio::task::JoinSet::new();
        for _ in 0..250 {
            let request = Request::get("/metrics");
            scrapes.spawn(request.send(gate.admin_address()));
        }
        for response in scrapes.join_all().await {
            response.unwrap().expect(200);
        }
    }
    gate.expect_peak_memory_below(100);
}
