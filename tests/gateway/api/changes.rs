//! What a client gets of the spokes that has asked before: what changed.

use serde_json::{Value, json};

use super::{ask, named, start_with_all_conditions};
use crate::support::body::{Protocol, series};
use crate::support::config::{config, spoke};
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::sender::Request;

const SPOKES: &str = "/api/v1/spokes";

/// What changed since an answer.
async fn since(gate: &Gate, answer: &Value) -> Value {
    let version = answer["version"].as_str().unwrap();
    ask(gate, &format!("{SPOKES}?since={version}")).await
}

fn names(answer: &Value) -> Vec<&str> {
    let spokes = answer["spokes"].as_array().unwrap().iter();
    spokes.map(|it| it["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn what_a_write_changes_is_in_columns_and_what_else_changed_is_whole() {
    let hub = ScriptedHub::start().await;
    let spokes = [
        spoke("idle", ""),
        spoke("refused", "labels: {mismatch: reject}"),
        spoke("writing", "limits: {samples_per_second: 1000}"),
    ];
    let yaml = config(&hub.url(), &spokes);
    let gate = Gate::start(&yaml).await;
    let write = async |name: &str, labels: &str, status: u16| {
        gate.write_as(name, Protocol::V2, &[series(labels)])
            .await
            .expect(status);
    };
    for name in ["refused", "writing"] {
        write(name, "__name__=up", 204).await;
    }
    let whole = ask(&gate, SPOKES).await;
    let nothing = since(&gate, &whole).await;
    assert_eq!(names(&nothing), [""; 0], "{nothing:#}");
    for (name, column) in nothing["columns"].as_object().unwrap() {
        assert_eq!(column.as_array().unwrap().len(), 3, "{name}");
    }
    let column = |answer: &Value, name: &str| answer["columns"][name].clone();
    let expected = json!([["never_came"], ["writing"], ["writing"]]);
    assert_eq!(column(&nothing, "conditions"), expected);
    let newest = |answer: &Value| column(answer, "newest_sample_timestamp_seconds");
    let of_whole = |name| &named(&whole["spokes"], name)["newest_sample_timestamp_seconds"];
    assert_eq!(newest(&nothing)[2], *of_whole("writing"));

    write("writing", "__name__=up", 204).await;
    write("refused", "__name__=up,cluster=another", 400).await;
    let changed = since(&gate, &nothing).await;
    assert_eq!(names(&changed), ["refused"], "{changed:#}");
    let refusals = &changed["spokes"][0]["refusals"];
    assert_eq!(refusals[0]["reason"], "mismatched_label");
    assert!(newest(&changed)[2].as_f64() > newest(&nothing)[2].as_f64());
    let used = &column(&changed, "limits_used")[2]["samples_per_second"];
    assert!(used.as_f64().unwrap() > 0.0, "{changed:#}");
    // Another sender is told once.
    gate.send(Request::up().spoke("writing").from("127.0.0.9"))
        .await
        .expect(204);
    let sender = since(&gate, &changed).await;
    assert_eq!(names(&sender), ["writing"], "{sender:#}");
    assert_eq!(sender["spokes"][0]["source_addresses"][0], "127.0.0.9");
    assert_eq!(names(&since(&gate, &sender).await), [""; 0]);

    gate.reload_with(&yaml).await;
    let after_reload = since(&gate, &sender).await;
    assert_eq!(names(&after_reload), ["idle", "refused", "writing"]);
    assert!(after_reload["hubs"].is_array() && after_reload["columns"].is_null());
}

#[tokio::test]
async fn a_version_that_is_not_known_gets_all_spokes() {
    let (_hub, gate) = start_with_all_conditions().await;
    for version in ["", "nonsense", "1-0-1"] {
        let all = ask(&gate, &format!("{SPOKES}?since={version}")).await;
        assert_eq!(names(&all).len(), 6, "{version}");
    }
    let other = gate
        .admin(Request::get(&format!("{SPOKES}?name=late")))
        .await;
    other.expect_refusal("name", 400, &["the only parameter is since"]);
}
