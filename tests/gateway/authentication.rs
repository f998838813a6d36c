//! The credentials by which the gate identifies a spoke.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::support::config::{
    argon2, basic, bcrypt, config, not_after, sha256, spoke, spoke_with, token, token_sha256,
};
use crate::support::gate::{Gate, start_hub_and_gate};
use crate::support::hub::ScriptedHub;
use crate::support::sender::{Request, send_raw};
use crate::support::{DEADLINE, eventually};

/// The spoke that the gate identifies for a request, from the label that it adds to the series.
async fn identified(gate: &Gate, hub: &ScriptedHub, request: Request) -> Option<String> {
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
    let hashes = ["old", "new"].map(|name| token_sha256(&token(name)));
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
        let seen = identified(&gate, &hub, request).await;
        assert_eq!(seen.as_deref(), spoke, "{case}");
    }
    let metrics = gate.metrics().await;
    assert_eq!(metrics.sum("hubgate_auth_failures_total", &[]), 4.0);
    let last_used = "hubgate_credential_last_used_timestamp_seconds";
    let used = metrics.values(last_used, &[("spoke", "rotating")]);
    assert_eq!(used.len(), 2, "one series for each credential");
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
        let seen = identified(&gate, &hub, request).await;
        assert_eq!(seen.as_deref(), spoke, "{case}");
    }
    assert_eq!(gate.sum("hubgate_auth_failures_total", &[]).await, 8.0);
}

#[tokio::test]
async fn a_token_identifies_its_spoke_over_http2() {
    let (hub, gate) = start_hub_and_gate("").await;
    let good = Request::up().spoke("production").http2();
    assert_eq!(
        identified(&gate, &hub, good).await.as_deref(),
        Some("production")
    );
    assert_eq!(
        identified(&gate, &hub, Request::up().token("wrong").http2()).await,
        None
    );
}

#[tokio::test]
async fn a_credential_is_refused_after_its_end_and_its_spoke_keeps_the_others() {
    let hub = ScriptedHub::start().await;
    let end = SystemTime::now() + Duration::from_secs(3);
    let credentials = [
        not_after(&token_sha256(&token("ending")), end),
        not_after(&bcrypt("ending", "password"), end),
        token_sha256(&token("lasting")),
    ];
    let spokes = [spoke_with("production", &credentials.join(", "), "")];
    let gate = Gate::start(&config(&hub.url(), &spokes)).await;
    let requests = || {
        [
            Request::up().spoke("ending"),
            Request::up().basic("ending", "password"),
        ]
    };
    for request in requests() {
        gate.send(request).await.expect(204);
    }
    gate.wait_for_log(&["not_after", "is less than 14 days away"])
        .await;
    let metrics = gate.metrics().await;
    let expiry = metrics.values("hubgate_credential_expiry_timestamp_seconds", &[]);
    let seconds = end.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(expiry.len(), 2, "the lasting one has none: {expiry:?}");
    for expiry in expiry {
        let difference = expiry - seconds.as_secs_f64();
        assert!(difference.abs() < 0.01, "{expiry}");
    }
    for request in requests() {
        let refused = eventually("the end", DEADLINE, async || {
            let response = gate.send(request.clone()).await;
            if response.status == 401 {
                Ok(response)
            } else {
                Err(response)
            }
        })
        .await;
        let text = "unauthenticated: the credential has expired; give the sender another one";
        assert!(refused.text.starts_with(text), "{refused:?}");
    }
    gate.send(Request::up().spoke("lasting")).await.expect(204);
    let failures = "hubgate_auth_failures_total";
    assert_eq!(gate.sum(failures, &[("reason", "expired")]).await, 2.0);

    let spokes = [spoke_with("production", &credentials[2], "")];
    gate.reload_with(&config(&hub.url(), &spokes)).await;
    let metrics = gate.metrics().await;
    assert!(!metrics.has("hubgate_credential_expiry_timestamp_seconds", &[]));
    let response = gate.send(Request::up().spoke("ending")).await.expect(401);
    assert!(
        response.text.contains("no spoke has this credential"),
        "{response:?}"
    );
}

/// The checks of disconnected clients must not run at the same time.
#[tokio::test]
async fn clients_that_disconnect_cause_one_password_check_at_a_time() {
    let hub = ScriptedHub::start().await;
    // This is the hash of no known password, so the test need not compute an expensive one.
    let parameters = "$argon2id$v=19$m=8192,t=4,p=1$MDEyMzQ1Njc4OWFiY2RlZg";
    let hash = format!("{parameters}${}", "A".repeat(43));
    let expensive = basic("expensive", &hash);
    let spokes = [
        spoke_with("expensive", &expensive, ""),
        spoke_with("cheap", &argon2("cheap", "cheap-password"), ""),
    ];
    let gate = Gate::start(&config(&hub.url(), &spokes)).await;
    let threads = async || gate.sum("process_threads", &[]).await;
    let before = threads().await;
    for attempt in 0..10 {
        let pair = BASE64_STANDARD.encode(format!("expensive:{attempt}"));
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
    // An idle thread stays for a while, so all threads that ran at the same time still exist.
    let added = threads().await - before;
    assert!(added <= 3.0, "{added} threads more than at the start");
}

/// The line has the address of the client.
#[tokio::test]
async fn each_fault_of_authentication_is_logged_once_without_the_credential() {
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
    // One who scans ports does not hide a spoke with a wrong token.
    for (request, failure) in [
        (Request::up(), "missing"),
        (
            Request::up().header("authorization", "Basic secret-token"),
            "malformed",
        ),
        (Request::up().token("secret-token"), "unknown"),
        (Request::up().basic("basic", "secret-password"), "unknown"),
    ] {
        line(request).await;
        gate.wait_for_log(&["not identified", failure]).await;
    }
    let log = gate.log();
    let failures = log.iter().filter(|line| line.contains("not identified"));
    assert_eq!(failures.count(), 3, "{log:#?}");
    assert!(!log.concat().contains("secret-"), "{log:#?}");
}

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
