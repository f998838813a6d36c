//! The API of the admin port, and `hubgate status`, which shows it in a terminal.

mod changes;
mod command;
mod fleet;
mod hubs;

use std::process::Command;

use serde_json::{Value, json};

use crate::support::DEADLINE;
use crate::support::body::{Protocol, bare, now, series};
use crate::support::config::{bcrypt, config, spoke, spoke_with, token_sha256};
use crate::support::eventually;
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::prometheus::find_on_path;
use crate::support::reply::Reply;
use crate::support::sender::{Request, Response};

/// Text that would do harm where it is not taken for text.
pub(crate) const HOSTILE: &str = "<img src=x onerror=alert(1)>\u{202e}\u{1b}[31m";

/// A gate whose spokes are in all conditions that need no time.
pub(crate) async fn start_with_all_conditions() -> (ScriptedHub, Gate) {
    let hub = ScriptedHub::start().await;
    let gate = Gate::start(&config(&hub.url(), &spokes())).await;
    bring_about_conditions(&hub, &gate).await;
    (hub, gate)
}

/// A gate whose spokes are in all conditions. It started twelve minutes ago by its clock, and the spoke
/// `silent` wrote then.
pub(crate) async fn start_with_all_conditions_and_silence() -> (ScriptedHub, Gate) {
    let hub = ScriptedHub::start().await;
    let mut spokes = spokes();
    spokes.push(spoke("silent", ""));
    let gate = Gate::start_with_clock(&config(&hub.url(), &spokes), -720).await;
    let then = [bare("__name__=up").sample(1.0, now() - 720_000)];
    gate.write_as("silent", Protocol::V2, &then)
        .await
        .expect(204);
    gate.set_clock(0);
    bring_about_conditions(&hub, &gate).await;
    (hub, gate)
}

fn spokes() -> Vec<String> {
    vec![
        spoke("writing", ""),
        spoke("late", ""),
        spoke("limited", "limits: {samples_per_second: 1}"),
        spoke("failing", ""),
        spoke("refused", "labels: {mismatch: reject}"),
        spoke("never came", ""),
    ]
}

async fn bring_about_conditions(hub: &ScriptedHub, gate: &Gate) {
    let up = || Request::up().header("user-agent", HOSTILE.split('\u{202e}').next().unwrap());
    for name in ["writing", "refused"] {
        gate.send(up().spoke(name)).await.expect(204);
    }
    let forged = format!("__name__={HOSTILE},cluster=another");
    let forged = [bare(&forged).sample(1.0, now()), series("__name__=up")];
    gate.write_as("refused", Protocol::V1, &forged)
        .await
        .expect(400);
    let old = [bare("__name__=up").sample(1.0, now() - 1_200_000)];
    gate.write_as("late", Protocol::V2, &old).await.expect(204);
    let many = [
        series("__name__=a"),
        series("__name__=b"),
        series("__name__=c"),
    ];
    gate.write_as("limited", Protocol::V1, &many)
        .await
        .expect(204);
    gate.send(up().spoke("limited")).await.expect_retryable(503);
    hub.reply_always(Reply::status(503));
    gate.send(up().spoke("failing")).await.expect_retryable(503);
    hub.reply_as_usual();
}

pub(crate) async fn ask(gate: &Gate, path: &str) -> Value {
    let response = gate.admin(Request::get(path)).await.expect(200);
    assert_eq!(response.header("content-type"), Some("application/json"));
    serde_json::from_str(&response.text).expect("JSON")
}

fn named<'v>(list: &'v Value, name: &str) -> &'v Value {
    let mut elements = list.as_array().unwrap().iter();
    let found = elements.find(|it| it["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {list}"))
}

#[tokio::test]
async fn each_condition_of_a_spoke_is_shown() {
    let (_hub, gate) = start_with_all_conditions().await;
    let spokes = ask(&gate, "/api/v1/spokes").await;
    for name in [
        "writing",
        "late",
        "limited",
        "failing",
        "refused",
        "never came",
    ] {
        let conditions = &named(&spokes["spokes"], name)["conditions"];
        assert_eq!(conditions, &json!([name.replace(' ', "_")]), "{name}");
    }
    let status = ask(&gate, "/api/v1/status").await;
    let summary = status["summary"].as_str().unwrap();
    let expected = "4 of 6 spokes write; never came has not come in the ";
    assert!(summary.starts_with(expected), "{summary}");
    assert!(
        summary.contains("refused (mismatched_label); "),
        "{summary}"
    );
    assert_eq!(status["spokes"]["late"], 1);
    assert_eq!(status["spokes"]["silent"], 0);
}

#[tokio::test]
async fn a_spoke_of_its_own_is_shown_whole() {
    let (_hub, gate) = start_with_all_conditions().await;
    let spoke = ask(&gate, "/api/v1/spokes/refused").await;
    let of = |kind| spoke["samples"][kind]["float"].as_u64().unwrap();
    let rejected = &spoke["samples"]["rejected"]["mismatched_label"]["float"];
    assert_eq!((of("received"), of("written"), of("failed")), (3, 2, 0));
    assert_eq!(rejected, 1);
    assert_eq!(spoke["rules"]["mismatch"], "reject");
    let refusal = &spoke["refusals"][0];
    assert_eq!(refusal["reason"], "mismatched_label");
    let codes = spoke["requests"].as_array().unwrap().iter();
    let codes: Vec<_> = codes.map(|it| it["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["204", "400"]);
    let used = &spoke["credentials"][0]["last_used_timestamp_seconds"];
    assert!(used.as_f64().unwrap() > 1e9, "{spoke:#}");
    let unknown = gate.admin(Request::get("/api/v1/spokes/nobody")).await;
    unknown.expect_refusal("unknown", 404, &["no spoke has this name"]);
}

/// A poll of what did not change costs a few bytes.
#[tokio::test]
async fn an_answer_that_the_client_has_is_not_sent_again() {
    let (_hub, gate) = start_with_all_conditions().await;
    let get = async |tag: Option<&str>| -> Response {
        let request = Request::get("/api/v1/reasons");
        let request = match tag {
            Some(tag) => request.header("if-none-match", tag),
            None => request,
        };
        gate.admin(request).await
    };
    let first = get(None).await.expect(200);
    let tag = first.header("etag").unwrap().to_owned();
    let again = get(Some(&tag)).await.expect(304);
    assert_eq!(
        (again.text.as_str(), again.header("etag")),
        ("", Some(&*tag))
    );
    let other = get(Some("\"another\"")).await.expect(200);
    assert_eq!(other.text, first.text);
}

/// The first value of a list that is not 0.
fn first_rise(steps: &Value) -> Option<f64> {
    let mut known = steps.as_array()?.iter().filter_map(Value::as_f64);
    known.find(|it| *it > 0.0)
}

#[tokio::test]
async fn the_history_shows_what_was_written_and_goes_on_over_a_reload() {
    let hub = ScriptedHub::start().await;
    let yaml = |keys| config(&hub.url(), &[spoke("production", keys)]);
    let gate = Gate::start(&yaml("")).await;
    gate.write(Protocol::V1, &[series("__name__=up")])
        .await
        .expect(204);
    gate.write(Protocol::V1, &[series("__name__=up,cluster=another")])
        .await
        .expect(400);
    gate.reload_with(&yaml("limits: {samples_per_second: 100}"))
        .await;
    let of_spoke = async || ask(&gate, "/api/v1/spokes/production").await["history"].take();
    let written = async || first_rise(&of_spoke().await["written_per_second"]);
    // A step takes 15 s.
    let shown = "the history shows what was written";
    let rate = eventually(shown, DEADLINE * 2, async || {
        written().await.ok_or("nothing")
    })
    .await;
    assert_eq!(rate, 0.0667);
    let history = of_spoke().await;
    let refused = &history["refusals_per_second"]["mismatched_label"];
    assert_eq!(first_rise(refused), Some(0.0667), "{history}");
    let used = &history["limits_used_ratio"]["samples_per_second"];
    assert!(used.as_array().unwrap().last().unwrap().is_number());
    let hubs = ask(&gate, "/api/v1/hubs").await;
    let hub = &hubs["hubs"][0]["history"];
    assert!(first_rise(&hub["requests_per_second"]).is_some(), "{hub}");
    assert!(first_rise(&hub["duration_seconds"]).is_some(), "{hub}");
    assert_eq!(first_rise(&hub["failed_per_second"]), None);
    assert_eq!(first_rise(&hub["requests_in_flight_limit"]), Some(32.0));
    let states = hub["state"].as_array().unwrap();
    assert!(states.contains(&json!("up")), "{hub}");
    let all = ask(&gate, "/api/v1/history").await;
    let newest = all["newest"].as_u64().unwrap();
    assert!(
        all["spokes"]["production"].as_array().unwrap().len() >= 2,
        "{all}"
    );
    let none = ask(&gate, &format!("/api/v1/history?since={newest}")).await;
    let steps = none["spokes"]["production"].as_array().unwrap().len() as u64;
    assert_eq!(steps, none["newest"].as_u64().unwrap() - newest, "{none}");
}

#[tokio::test]
async fn a_configuration_that_is_not_valid_is_shown_with_its_errors() {
    let hub = ScriptedHub::start().await;
    let mut gate = Gate::start(&config(&hub.url(), &[spoke("production", "")])).await;
    assert_eq!(
        ask(&gate, "/api/v1/status").await["configuration"]["errors"],
        json!([])
    );
    gate.allow_error("the configuration is not valid");
    gate.write_config("hub: {url: \"http://127.0.0.1:9/w\"}\nspokes: []\nack: some\n");
    gate.reload().await.expect(500);
    let status = ask(&gate, "/api/v1/status").await;
    let errors = status["configuration"]["errors"].as_array().unwrap();
    // The file begins with the addresses of the listeners.
    let of_ack = errors
        .iter()
        .find(|it| it["key"] == "ack")
        .expect("an error");
    assert_eq!((&of_ack["line"], &of_ack["column"]), (&json!(5), &json!(6)));
    assert!(of_ack["file"].as_str().unwrap().ends_with("hubgate.yaml"));
    gate.reload_with(&config(&hub.url(), &[spoke("production", "")]))
        .await;
    assert_eq!(
        ask(&gate, "/api/v1/status").await["configuration"]["errors"],
        json!([])
    );
}

/// Whoever copies it into a Prometheus must not have to mend it.
#[tokio::test]
async fn the_remote_write_of_a_spoke_is_valid_whatever_its_name_and_credential() {
    let promtool = find_on_path("promtool").expect("promtool on PATH; run tests/run.sh");
    let hub = ScriptedHub::start().await;
    let name = "'a \"b\": #{c}'";
    let spokes = [
        spoke_with(name, &token_sha256("one"), "labels: {absent: reject}"),
        spoke_with(
            "basic",
            &bcrypt("basic", "password"),
            "limits: {answer: 429}",
        ),
    ];
    let gate = Gate::start(&config(&hub.url(), &spokes)).await;
    let folder = tempfile::tempdir().unwrap();
    for (path, parts) in [
        (
            "a%20%22b%22%3A%20%23%7Bc%7D",
            &[
                "external_labels",
                "cluster: \"a \\\"b\\\": #{c}\"",
                "credentials_file",
            ][..],
        ),
        (
            "basic",
            &[
                "username: \"basic\"",
                "password_file",
                "retry_on_http_429: true",
            ],
        ),
    ] {
        let spoke = ask(&gate, &format!("/api/v1/spokes/{path}")).await;
        let text = spoke["remote_write"].as_str().unwrap();
        for part in parts {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        // promtool looks whether the files of secrets exist.
        let text = text.replace("/etc/prometheus", folder.path().to_str().unwrap());
        for file in ["hubgate-token", "hubgate-password"] {
            std::fs::write(folder.path().join(file), "secret").unwrap();
        }
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, &text).unwrap();
        let mut check = Command::new(&promtool);
        let output = check.args(["check", "config"]).arg(&file).output().unwrap();
        assert!(output.status.success(), "{output:?}\n{text}");
    }
}

/// The page consists of files of hubgate alone, and its policy lets nothing else in.
#[tokio::test]
async fn the_page_and_its_files_are_served_with_a_strict_policy() {
    let hub = ScriptedHub::start().await;
    let gate = Gate::start(&config(&hub.url(), &[spoke("production", "")])).await;
    for (path, media_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/ui/app.js", "text/javascript; charset=utf-8"),
        ("/ui/style.css", "text/css; charset=utf-8"),
        ("/ui/icon.svg", "image/svg+xml"),
    ] {
        let response = gate.admin(Request::get(path)).await.expect(200);
        assert_eq!(response.header("content-type"), Some(media_type), "{path}");
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
        let policy = response.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; "),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        let elsewhere = response.text.replace("http://www.w3.org/2000/svg", "");
        assert!(!elsewhere.contains("http"), "{path}");
    }
    gate.admin(Request::get("/ui/nothing.js")).await.expect(404);
}
