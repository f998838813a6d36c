//! `hubgate status` of several replicas, and of an admin port that asks for a certificate.

use serde_json::Value;

use super::command::{status, text, url};
use crate::support::body::{Protocol, bare, now};
use crate::support::config::{config, spoke, token, token_sha256};
use crate::support::gate::Gate;
use crate::support::hub::{ScriptedHub, vacant};
use crate::support::pki::{Authority, Subject};
use crate::support::sender::Request;
use crate::support::tls;

/// Two replicas: one spoke writes through the first, one through the second, and one is refused there.
async fn replicas(hub: &ScriptedHub) -> [Gate; 2] {
    let limited = "labels: {mismatch: reject}, limits: {active_series_max: 1}";
    let spokes = [
        spoke("one", ""),
        spoke("other", ""),
        spoke("forged", limited),
    ];
    let yaml = config(&hub.url(), &spokes);
    let gates = [Gate::start(&yaml).await, Gate::start(&yaml).await];
    for (gate, name) in [(0, "one"), (1, "other"), (0, "forged"), (1, "forged")] {
        let write = Request::up().spoke(name);
        gates[gate].send(write).await.expect(204);
    }
    let forged = [
        bare("__name__=up,cluster=one").sample(1.0, now()),
        bare("__name__=grown").sample(1.0, now()),
    ];
    for gate in &gates {
        gate.write_as("forged", Protocol::V1, &forged)
            .await
            .expect(400);
    }
    gates
}

/// The columns of the row of a spoke.
pub(super) fn row<'t>(table: &'t str, name: &str) -> Vec<&'t str> {
    let row = table.lines().find(|line| line.starts_with(name)).unwrap();
    let cells = row.split("   ").map(str::trim);
    cells.filter(|it| !it.is_empty()).collect()
}

#[tokio::test]
async fn replicas_are_shown_as_one() {
    let hub = ScriptedHub::start().await;
    let [first, second] = replicas(&hub).await;
    let other = format!("--admin={}", url(&second));
    let both = status(url(&first), &[&other]).await;
    assert_eq!(both.status.code(), Some(0), "{both:?}");
    let table = text(&both.stdout);
    assert!(
        table.starts_with("All 3 spokes write, through 2 replicas.\n\nNAME"),
        "{table}"
    );
    assert_eq!(row(&table, "one")[1], "writing", "{table}");
    assert_eq!(row(&table, "other")[1], "writing", "{table}");
    assert_eq!(row(&table, "forged")[1], "refused", "{table}");
    let wide = text(&status(url(&first), &[&other, "--output=wide"]).await.stdout);
    assert!(row(&wide, "forged").contains(&"grown +2"), "{wide}");
    // Alone, each hears of two.
    let alone = text(&status(url(&first), &[]).await.stdout);
    assert_eq!(row(&alone, "other")[1], "never_came", "{alone}");
    let one = text(&status(url(&first), &[&other, "forged"]).await.stdout);
    assert!(one.starts_with("Name:        forged\n"), "{one}");
    assert!(one.contains("  mismatched_label: 2, the last "), "{one}");
    assert!(
        one.contains("Series:      about 2 active; most new ones: grown +2\n"),
        "{one}"
    );
    let json = status(url(&first), &[&other, "-o", "json"]).await;
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["replicas"].as_array().unwrap().len(), 2, "{json}");
    let forged = &json["spokes"][2];
    assert_eq!(forged["refusals"][0]["count"], 2, "{forged}");
    assert_eq!(forged["active_series"]["growing"][0]["metric"], "grown");
    // A spoke that one of them does not know yet.
    let more = [spoke("one", ""), spoke("new", "")];
    second.reload_with(&config(&hub.url(), &more)).await;
    let table = text(&status(url(&first), &[&other]).await.stdout);
    let lines: Vec<_> = table.lines().collect();
    let expected = format!("{}/ does not know new.", url(&first));
    assert_eq!(lines[1], expected, "{table}");
    let expected = format!("{}/ does not know other and 1 more.", url(&second));
    assert_eq!(lines[2], expected, "{table}");
}

#[tokio::test]
async fn a_replica_that_cannot_be_asked_leaves_the_answer_open() {
    let hub = ScriptedHub::start().await;
    let [first, _second] = replicas(&hub).await;
    let (nobody, _) = vacant();
    let away = format!("--admin=http://{nobody}");
    let part = status(url(&first), &[&away]).await;
    assert_eq!(part.status.code(), Some(2), "{part:?}");
    let table = text(&part.stdout);
    let line = format!("http://{nobody}/ cannot be asked: ");
    assert!(table.contains(&line), "{table}");
    assert_eq!(row(&table, "one")[1], "writing", "{table}");
    let json = status(url(&first), &[&away, "-o", "json"]).await;
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(json["replicas"][1]["error"].is_string(), "{json}");
    let none = status(format!("http://{nobody}"), &[&away]).await;
    assert_eq!(none.status.code(), Some(2));
    assert_eq!(text(&none.stderr).matches("cannot be asked").count(), 1);
}

#[tokio::test]
async fn an_admin_port_that_asks_for_a_certificate_is_asked_with_one() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let hub = ScriptedHub::start().await;
    let asks = tls::client_auth("required", &clients.file());
    let credential = token_sha256(&token("operator"));
    let admin = tls::admin(&tls::gate_certificate(&servers));
    let keys = format!("{asks}}}, credentials: [{credential}]}}");
    let admin = admin.replace("}}", &keys);
    let gate = Gate::start(&(admin + &config(&hub.url(), &[spoke("production", "")]))).await;
    let files = clients.issue_files("operator", &Subject::default());
    let token = token("operator");
    let path = |path: &std::path::Path| path.display().to_string();
    let [ca, cert, key] = [
        format!("--ca-file={}", path(&servers.file())),
        format!("--cert-file={}", path(&files.cert)),
        format!("--key-file={}", path(&files.key)),
    ];
    let token = format!("--token={token}");
    let admin = format!("https://{}", gate.admin_address());
    for (arguments, code) in [
        (&[&ca, &cert, &key, &token][..], 0),
        (&[&ca, &token], 2),
        (&[&ca, &cert, &key], 2),
        (&[&ca, &cert, &token], 2),
    ] {
        let arguments: Vec<_> = arguments.iter().map(|it| it.as_str()).collect();
        let asked = status(admin.clone(), &arguments).await;
        assert_eq!(asked.status.code(), Some(code), "{arguments:?}: {asked:?}");
    }
}
