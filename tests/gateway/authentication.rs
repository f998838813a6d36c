//! Who may write, and from where.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::support::body::{Protocol, series};
use crate::support::config::{argon2, bcrypt, config, sha256, spoke, spoke_with, token};
use crate::support::gate::{Gate, start_hub_and_gate};
use crate::support::hub::ScriptedHub;
use crate::support::sender::{Request, send_raw};

fn write() -> Request {
    Request::series(Protocol::V1, &[series("__name__=up")])
}

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
        ("token", write().spoke("production"), Some("production")),
        (
            "scheme in lower case",
            write().header("authorization", &lower_case),
            Some("production"),
        ),
        (
            "several spaces",
            write().header("authorization", &spaced),
            Some("production"),
        ),
        ("old token", write().spoke("old"), Some("rotating")),
        ("new token", write().spoke("new"), Some("rotating")),
        ("token file", write().spoke("filed"), Some("filed")),
        ("nothing", write(), None),
        (
            "wrong token",
            write().token(&token("production").replace('0', "1")),
            None,
        ),
        ("empty token", write().token(""), None),
        (
            "the hash as token",
            write().token(&sha256(&token("production"))),
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
            write().basic("bcrypt", "pass word:x"),
            Some("bcrypt"),
        ),
        (
            "argon2",
            write().basic("argon", "argon-password"),
            Some("argon"),
        ),
        (
            "from the cache",
            write().basic("argon", "argon-password"),
            Some("argon"),
        ),
        ("wrong", write().basic("argon", "argon-passwore"), None),
        (
            "wrong again",
            write().basic("argon", "argon-passwore"),
            None,
        ),
        (
            "right after wrong",
            write().basic("argon", "argon-password"),
            Some("argon"),
        ),
        ("cut short", write().basic("bcrypt", "pass word"), None),
        (
            "unknown user",
            write().basic("nobody", "argon-password"),
            None,
        ),
        (
            "password of another",
            write().basic("bcrypt", "argon-password"),
            None,
        ),
        (
            "token as password",
            write().basic("production", &token("production")),
            None,
        ),
        (
            "no base64",
            write().header("authorization", "Basic %%%"),
            None,
        ),
        (
            "no colon",
            write().header("authorization", "Basic YWJj"),
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
    let good = write().spoke("production").http2();
    assert_eq!(
        taken_for(&gate, &hub, good).await.as_deref(),
        Some("production")
    );
    assert_eq!(
        taken_for(&gate, &hub, write().token("wrong").http2()).await,
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
    gate.send(write().basic("cheap", "cheap-password"))
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
    let first = line(write().token("secret-token").from("127.0.0.7")).await;
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
        write(),
        write().header("authorization", "Basic secret-token"),
        write().token("secret-token"),
        write().basic("basic", "secret-password"),
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
        gate.send(write().basic(name, "x")).await.expect(401);
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

#[tokio::test]
async fn a_spoke_may_write_from_its_source_ranges_only() {
    let hub = ScriptedHub::start().await;
    let spokes = [
        spoke("anywhere", ""),
        spoke("two", "source_ranges: [\"127.0.0.2/32\", \"::1/128\"]"),
        spoke("mapped", "source_ranges: [\"::ffff:127.0.0.3/128\"]"),
    ];
    let on = |address: &str| {
        format!(
            "listen: {{address: \"{address}:0\"}}\n{}",
            config(&hub.url(), &spokes)
        )
    };
    // The second listener takes IPv4 as IPv4-mapped IPv6.
    for (listen, clients) in [
        ("127.0.0.1", &["127.0.0.1", "127.0.0.2", "127.0.0.3"][..]),
        ("[::]", &["127.0.0.1", "127.0.0.2", "127.0.0.3", "::1"]),
    ] {
        let gate = Gate::start(&on(listen)).await;
        for client in clients {
            for (name, allowed) in [
                ("anywhere", true),
                ("two", ["127.0.0.2", "::1"].contains(client)),
                ("mapped", *client == "127.0.0.3"),
            ] {
                let request = write().spoke(name).from(client);
                let port = gate.write_address().port();
                let host = if client.contains(':') {
                    "::1"
                } else {
                    "127.0.0.1"
                };
                let response =
                    request.send((host.parse::<std::net::IpAddr>().unwrap(), port).into());
                let response = response.await.expect("a response");
                let case = format!("{name} from {client} on {listen}: {response:?}");
                assert_eq!(response.status, if allowed { 204 } else { 403 }, "{case}");
                assert!(
                    allowed || response.text.contains(name) && response.text.contains(client),
                    "{case}"
                );
                assert!(response.text.len() <= 1024, "{case}");
            }
        }
        let refused = gate.metrics().await;
        let refusals =
            |name| refused.sum("hubgate_source_range_refusals_total", &[("spoke", name)]);
        let of_two = clients
            .iter()
            .filter(|c| !["127.0.0.2", "::1"].contains(*c))
            .count();
        assert_eq!(
            (refusals("anywhere"), refusals("two")),
            (0.0, of_two as f64)
        );
    }
}

#[tokio::test]
async fn a_connection_from_outside_the_listener_s_source_ranges_is_closed() {
    let hub = ScriptedHub::start().await;
    let listen = "listen: {address: \"127.0.0.1:0\", source_ranges: [\"127.0.0.2/32\"]}\n";
    let yaml = format!("{listen}{}", config(&hub.url(), &[spoke("production", "")]));
    let gate = Gate::start(&yaml).await;
    let request = write().spoke("production");
    gate.send(request.clone().from("127.0.0.2"))
        .await
        .expect(204);
    gate.try_send(request.clone().from("127.0.0.3"))
        .await
        .expect_err("closed");
    let refused = gate.metrics().await;
    let reason = [("reason", "source_range")];
    assert_eq!(
        refused.sum("hubgate_connections_refused_total", &reason),
        1.0
    );
    hub.take_one();
}

#[tokio::test]
async fn connections_beyond_connections_max_get_no_response() {
    let hub = ScriptedHub::start().await;
    let listen = "listen: {address: \"127.0.0.1:0\", connections_max: 3}\n";
    let yaml = format!("{listen}{}", config(&hub.url(), &[spoke("production", "")]));
    let gate = Gate::start(&yaml).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(
            tokio::net::TcpStream::connect(gate.write_address())
                .await
                .unwrap(),
        );
    }
    gate.wait_for_metric("hubgate_connections", &[], 3.0).await;
    assert_eq!(
        gate.metrics().await.sum("hubgate_connections_limit", &[]),
        3.0
    );
    // Over the cap a connection is closed or waits; room brings it back.
    let waiting = gate.try_send(write().spoke("production"));
    let answered = tokio::time::timeout(Duration::from_millis(300), waiting).await;
    assert!(!matches!(answered, Ok(Ok(_))), "{answered:?}");
    hub.expect_no_request();
    drop(held);
    gate.wait_for_metric("hubgate_connections", &[], 0.0).await;
    gate.send(write().spoke("production")).await.expect(204);
}
