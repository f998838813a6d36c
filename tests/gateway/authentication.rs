//! Who may write, and from where.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::support::config::{argon2, bcrypt, config, sha256, spoke, spoke_with, token};
use crate::support::gate::{Gate, start_hub_and_gate};
use crate::support::hub::ScriptedHub;
use crate::support::sender::{Request, send_raw};

/// The spoke that a request is taken for, by the label the gate gives its series.
async fn taken_for(gate: &Gate, hub: &ScriptedHub, request: Request) -> Option<String> {
    let response = gate.send(request).await;
    match response.status {
        204 => {
            let received = hub.take_one().labels().remove(0);
            let (_, cluster) = received.split_once("cluster=").unwrap();
            Some(cluster.split(',').next().unwrap().to_owned())
        }
        401 => {
            hub.expect_no_request();
            None
        }
        _ => panic!("{response:?}"),
    }
}

#[tokio::test]
async fn a_token_identifies_its_spoke() {
    let hub = ScriptedHub::start().await;
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, format!("{}\n", token("filed"))).unwrap();
    let token_file = format!("{{token_file: \"{}\"}}", token_file.display());
    let hashes = ["old", "new"].map(|name| format!("{{token_sha256: {}}}", sha256(&token(name))));
    let spokes = [
        spoke("production", ""),
        spoke_with("rotating", &hashes.join(", "), ""),
        spoke_with("filed", &token_file, ""),
    ];
    let gate = Gate::start(&config(&hub.url(), &spokes)).await;
    let lower_case = format!("bearer {}", token("production"));
    let spaced = format!("Bearer    {}  ", token("production"));
    for (case, request, spoke) in [
        (
            "token",
            Request::up().spoke("production"),
            Some("production"),
        ),
        (
            "scheme in lower case",
            Request::up().header("authorization", &lower_case),
            Some("production"),
        ),
        (
            "several spaces",
            Request::up().header("authorization", &spaced),
            Some("production"),
        ),
        ("old token", Request::up().spoke("old"), Some("rotating")),
        ("new token", Request::up().spoke("new"), Some("rotating")),
        ("token file", Request::up().spoke("filed"), Some("filed")),
        ("nothing", Request::up(), None),
        (
            "wrong token",
            Request::up().token(&token("production").replace('0', "1")),
            None,
        ),
        ("empty token", Request::up().token(""), None),
        (
            "the hash as token",
            Request::up().token(&sha256(&token("production"))),
            None,
        ),
    ] {
        let seen = taken_for(&gate, &hub, request).await;
        assert_eq!(seen.as_deref(), spoke, "{case}");
    }
    let metrics = gate.metrics().await;
    assert_eq!(metrics.sum("hubgate_auth_failures_total", &[]), 4.0);
    let last_used = "hubgate_credential_last_used_timestamp_seconds";
    let used = metrics.values(last_used, &[("spoke", "rotating")]);
    assert_eq!(used.len(), 2, "one series a credential");
    assert!(used.iter().all(|time| *time > 1e9), "{used:?}");
}

#[tokio::test]
async fn a_username_and_password_identify_their_spoke() {
    let hub = ScriptedHub::start().await;
    let spokes = [
        spoke_with("bcrypt", &bcrypt("bcrypt", "pass word:x"), ""),
        spoke_with("argon", &argon2("argon", "argon-password"), ""),
        spoke("production", ""),
    ];
    let gate = Gate::start(&config(&hub.url(), &spokes)).await;
    for (case, request, spoke) in [
        (
            "colon in the password",
            Request::up().basic("bcrypt", "pass word:x"),
            Some("bcrypt"),
        ),
        (
            "argon2",
            Request::up().basic("argon", "argon-password"),
            Some("argon"),
        ),
        (
            "from the cache",
            Request::up().basic("argon", "argon-password"),
            Some("argon"),
        ),
        (
            "wrong",
            Request::up().basic("argon", "argon-passwore"),
            None,
        ),
        (
            "wrong again",
            Request::up().basic("argon", "argon-passwore"),
            None,
        ),
        (
            "right after wrong",
            Request::up().basic("argon", "argon-password"),
            Some("argon"),
        ),
        (
            "cut short",
            Request::up().basic("bcrypt", "pass word"),
            None,
        ),
        (
            "unknown user",
            Request::up().basic("nobody", "argon-password"),
            None,
        ),
        (
            "password of another",
            Request::up().basic("bcrypt", "argon-password"),
            None,
        ),
        (
            "token as password",
            Request::up().basic("production", &token("production")),
            None,
        ),
        (
            "no base64",
            Request::up().header("authorization", "Basic %%%"),
            None,
        ),
        (
            "no colon",
            Request::up().header("authorization", "Basic YWJj"),
            None,
        ),
    ] {
        let seen = taken_for(&gate, &hub, request).await;
        assert_eq!(seen.as_deref(), spoke, "{case}");
    }
    assert_eq!(
        gate.metrics().await.sum("hubgate_auth_failures_total", &[]),
        8.0
    );
}

#[tokio::test]
async fn a_token_identifies_its_spoke_over_http2() {
    let (hub, gate) = start_hub_and_gate("").await;
    let good = Request::up().spoke("production").http2();
    assert_eq!(
        taken_for(&gate, &hub, good).await.as_deref(),
        Some("production")
    );
    assert_eq!(
        taken_for(&gate, &hub, Request::up().token("wrong").http2()).await,
        None
    );
}

/// Senders that go away must not leave their hashes running side by side.
#[tokio::test]
async fn clients_that_disconnect_cause_one_password_check_at_a_time() {
    let hub = ScriptedHub::start().await;
    // The hash of no known password: nobody has to compute it.
    let parameters = "$argon2id$v=19$m=8192,t=4,p=1$MDEyMzQ1Njc4OWFiY2RlZg";
    let hash = format!("{parameters}${}", "A".repeat(43));
    let dear = format!("{{basic: {{username: dear, password_hash: \"{hash}\"}}}}");
    let spokes = [
        spoke_with("dear", &dear, ""),
        spoke_with("cheap", &argon2("cheap", "cheap-password"), ""),
    ];
    let gate = Gate::start(&config(&hub.url(), &spokes)).await;
    let threads = async || gate.metrics().await.sum("process_threads", &[]);
    let before = threads().await;
    for attempt in 0..10 {
        let pair = BASE64_STANDARD.encode(format!("dear:{attempt}"));
        let request = format!(
            "POST /api/v1/write HTTP/1.1\r\nHost: gate\r\nAuthorization: Basic {pair}\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let silence = Duration::from_millis(30);
        send_raw(gate.write_address(), request.as_bytes(), silence).await;
    }
    gate.send(Request::up().basic("cheap", "cheap-password"))
        .await
        .expect(204);
    // A thread stays a while after its work, so all that ever ran at once are still there.
    let added = threads().await - before;
    assert!(added <= 3.0, "{added} threads more than at the start");
}

/// One line for many, with what finds the sender and nothing of what it sent.
#[tokio::test]
async fn failed_authentication_is_logged_once_without_the_credential() {
    let hub = ScriptedHub::start().await;
    let spokes = [
        spoke("production", ""),
        spoke_with("basic", &bcrypt("basic", "right-password"), ""),
    ];
    let gate = Gate::start(&config(&hub.url(), &spokes)).await;
    let line = async |request: Request| {
        gate.send(request).await.expect(401);
        gate.wait_for_log(&["not identified"]).await
    };
    let first = line(Request::up().token("secret-token").from("127.0.0.7")).await;
    let first: serde_json::Value = serde_json::from_str(&first).unwrap();
    for (field, value) in [
        ("level", "WARN".into()),
        ("address", "127.0.0.7".into()),
        ("failure", "unknown".into()),
        ("count", serde_json::Value::from(1)),
    ] {
        assert_eq!(first[field], value, "{field} of {first}");
    }
    for request in [
        Request::up(),
        Request::up().header("authorization", "Basic secret-token"),
        Request::up().token("secret-token"),
        Request::up().basic("basic", "secret-password"),
    ] {
        line(request).await;
    }
    let log = gate.log();
    let of_strangers = log.iter().filter(|line| line.contains("not identified"));
    assert_eq!(of_strangers.count(), 1, "{log:#?}");
    assert!(!log.concat().contains("secret-"), "{log:#?}");
}

/// A name that sorts, lasts and shows: metrics and answers never invent spokes.
#[tokio::test]
async fn failed_authentication_creates_no_series_per_username() {
    let (_hub, gate) = start_hub_and_gate("").await;
    for name in ["alice", "bob", "carol"] {
        gate.send(Request::up().basic(name, "x")).await.expect(401);
    }
    let metrics = gate.metrics().await;
    let spokes = metrics.label_values("hubgate_requests_total", "spoke");
    assert!(
        spokes
            .iter()
            .all(|name| ["production", "unknown"].contains(name)),
        "{spokes:?}"
    );
    assert!(!metrics.text.contains("alice"), "{}", metrics.text);
}
