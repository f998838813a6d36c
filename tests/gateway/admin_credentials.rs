//! `admin.credentials`: who may use the admin port.

use std::time::{Duration, Instant, SystemTime};

use crate::support::config::{argon2, config, not_after, spoke, token, token_sha256};
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::metrics::Metrics;
use crate::support::prometheus::{Binary, ONE_AT_A_TIME, Prometheus};
use crate::support::sender::{Request, Response};
use crate::support::{DEADLINE, eventually, eventually_equal};

/// A configuration with a spoke, and with these credentials for the admin port.
fn with_credentials(hub: &ScriptedHub, credentials: &[String]) -> String {
    let config = config(&hub.url(), &[spoke("production", "")]);
    let keys = match credentials {
        [] => String::new(),
        credentials => format!(", credentials: [{}]", credentials.join(", ")),
    };
    format!("admin: {{address: \"127.0.0.1:0\"{keys}}}\n{config}")
}

/// The credentials of a scraper and of a person.
fn both() -> [String; 2] {
    [
        token_sha256(&token("scraper")),
        argon2("operator", "password"),
    ]
}

async fn start(credentials: &[String]) -> (ScriptedHub, Gate) {
    let hub = ScriptedHub::start().await;
    let gate = Gate::start(&with_credentials(&hub, credentials)).await;
    (hub, gate)
}

async fn metrics(gate: &Gate) -> Metrics {
    let request = Request::get("/metrics").token(&token("scraper"));
    Metrics::parse(&gate.admin(request).await.expect(200).text)
}

/// Asks for a reload as the scraper.
async fn reload(gate: &Gate, yaml: &str) -> Response {
    gate.write_config(yaml);
    let request = Request::new("POST", "/-/reload");
    gate.admin(request.token(&token("scraper"))).await
}

#[tokio::test]
async fn everything_but_health_checks_needs_a_credential() {
    let (_hub, gate) = start(&both()).await;
    let paths = [
        ("GET", "/metrics"),
        ("GET", "/api/v1/spokes"),
        ("POST", "/-/reload"),
    ];
    for (method, path) in paths {
        let request = || Request::new(method, path);
        for (case, request, status) in [
            ("nothing", request(), 401),
            ("a wrong token", request().token("wrong"), 401),
            ("the token of a spoke", request().spoke("production"), 401),
            (
                "no base64",
                request().header("authorization", "Basic %"),
                401,
            ),
            (
                "a wrong password",
                request().basic("operator", "wrong"),
                401,
            ),
            (
                "an unknown user",
                request().basic("nobody", "password"),
                401,
            ),
            ("a token", request().token(&token("scraper")), 200),
            ("a password", request().basic("operator", "password"), 200),
            ("HTTP/2", request().token(&token("scraper")).http2(), 200),
            ("HTTP/2 and nothing", request().http2(), 401),
        ] {
            let response = gate.admin(request).await;
            assert_eq!(response.status, status, "{path}: {case}: {response:?}");
            let challenges = response.headers.get_all("www-authenticate").iter();
            let challenges: Vec<_> = challenges.map(|it| it.to_str().unwrap()).collect();
            let asked = [r#"Bearer realm="hubgate""#, r#"Basic realm="hubgate""#];
            let expected = if status == 401 { &asked[..] } else { &[] };
            assert_eq!(challenges, expected, "{path}: {case}");
        }
    }
    for path in ["/-/healthy", "/-/ready"] {
        for request in [Request::get(path), Request::get(path).token("wrong")] {
            gate.admin(request).await.expect(200);
        }
    }
    for (path, status) in [
        ("/", 200),
        ("/ui/app.js", 200),
        ("/api/v1/status", 200),
        ("/-/healthy/", 404),
        ("//-/ready", 404),
        ("/-/ready/../../metrics", 404),
    ] {
        gate.admin(Request::get(path)).await.expect(401);
        let request = Request::get(path).token(&token("scraper"));
        gate.admin(request).await.expect(status);
    }
    // An operator's credential is for the admin port only.
    let write = Request::up().token(&token("scraper"));
    gate.send(write).await.expect(401);
    let metrics = metrics(&gate).await;
    let failures = |reason| metrics.sum("hubgate_admin_auth_failures_total", &[("reason", reason)]);
    assert_eq!(failures("missing"), 12.0);
    assert_eq!(failures("malformed"), 3.0);
    assert_eq!(failures("unknown"), 12.0);
    assert_eq!(metrics.sum("hubgate_auth_failures_total", &[]), 1.0);
}

#[tokio::test]
async fn a_refused_operator_is_told_what_to_do_and_the_log_has_no_credential() {
    let (_hub, gate) = start(&both()).await;
    let get = || Request::get("/metrics");
    for (request, text) in [
        (
            get(),
            "no credential; the admin port asks for one of admin.credentials",
        ),
        (
            get().token("secret-token"),
            "admin.credentials has no such credential",
        ),
        (
            get().basic("operator", "secret-password"),
            "admin.credentials has no such credential",
        ),
        (
            get().header("authorization", "secret-token"),
            "the Authorization header cannot be read",
        ),
    ] {
        let response = gate.admin(request).await.expect(401);
        assert!(response.text.starts_with(text), "{response:?}");
    }
    let line = gate
        .wait_for_log(&["no credential for the admin port"])
        .await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["level"], "WARN");
    assert_eq!(line["failure"], "missing");
    let log = gate.log().concat();
    assert!(!log.contains("secret-"), "{log}");
    assert_eq!(log.matches("for the admin port").count(), 1, "{log}");
}

#[tokio::test]
async fn a_reload_changes_the_credentials_of_the_admin_port() {
    let (hub, gate) = start(&[]).await;
    let status = async |name: &str| {
        let request = Request::get("/metrics").token(&token(name));
        gate.admin(request).await.status
    };
    assert_eq!(status("anybody").await, 200);
    let scraper = token_sha256(&token("scraper"));
    gate.reload_with(&with_credentials(&hub, std::slice::from_ref(&scraper)))
        .await;
    assert_eq!(status("scraper").await, 200);
    assert_eq!(status("new").await, 401);
    let new = not_after(
        &token_sha256(&token("new")),
        SystemTime::now() + Duration::from_secs(3),
    );
    reload(&gate, &with_credentials(&hub, &[scraper, new.clone()]))
        .await
        .expect(200);
    assert_eq!(status("new").await, 200);
    eventually_equal("the end of a credential", DEADLINE, 401, async || {
        status("new").await
    })
    .await;
    reload(&gate, &with_credentials(&hub, &[]))
        .await
        .expect(200);
    assert_eq!(status("anybody").await, 200);
}

/// A browser adds the password that its user typed to what the pages of others send.
#[tokio::test]
async fn a_page_of_another_origin_is_refused_whatever_credential_it_has() {
    let (_hub, gate) = start(&both()).await;
    for request in [
        Request::new("POST", "/-/reload").basic("operator", "password"),
        Request::new("POST", "/-/reload"),
    ] {
        let request = request.header("origin", "http://example.com");
        gate.admin(request).await.expect(403);
    }
    let metrics = metrics(&gate).await;
    assert_eq!(metrics.sum("hubgate_admin_auth_failures_total", &[]), 0.0);
}

#[tokio::test]
async fn guesses_at_the_admin_port_are_slowed_down_and_a_scrape_beside_them_is_not() {
    let (_hub, gate) = start(&both()).await;
    let mut slowest = Duration::ZERO;
    for attempt in 0..14 {
        let started = Instant::now();
        let request = Request::get("/metrics").token(&format!("wrong-{attempt}"));
        gate.admin(request).await.expect(401);
        slowest = started.elapsed();
    }
    assert!(slowest >= Duration::from_millis(800), "{slowest:?}");
    assert_eq!(
        metrics(&gate).await.sum("hubgate_auth_delayed_total", &[]),
        4.0
    );
    // More than there are places: those whose response is held back give way.
    let guess = || Request::get("/metrics").token("wrong").from("127.0.0.9");
    for _ in 0..14 {
        gate.admin(guess()).await.expect(401);
    }
    let held: Vec<_> = (0..300)
        .map(|_| tokio::spawn(guess().send(gate.admin_address())))
        .collect();
    eventually("guesses are held back", DEADLINE, async || {
        let delayed = metrics(&gate).await.sum("hubgate_auth_delayed_total", &[]);
        if delayed >= 200.0 {
            Ok(())
        } else {
            Err(delayed)
        }
    })
    .await;
    drop(held);
}

#[tokio::test]
async fn a_prometheus_scrapes_the_admin_port_with_a_credential() {
    let _turn = ONE_AT_A_TIME.lock().await;
    for binary in Binary::all() {
        let (_hub, gate) = start(&both()).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, token("scraper")).unwrap();
        let jobs = [
            (
                "token",
                format!("authorization: {{credentials_file: {}}}", file.display()),
            ),
            (
                "password",
                "basic_auth: {username: operator, password: password}".to_owned(),
            ),
            ("nothing", String::new()),
        ];
        let jobs = jobs
            .each_ref()
            .map(|(job, authentication)| (*job, gate.admin_address(), authentication.as_str()));
        let prometheus = Prometheus::scraper_with(&binary, &jobs).await;
        for (job, expected) in [("token", 1.0), ("password", 1.0), ("nothing", 0.0)] {
            eventually_equal(job, DEADLINE, Some(expected), async || {
                let up = prometheus.query(&format!("up{{job=\"{job}\"}}")).await;
                up.first().map(|(_, up)| *up)
            })
            .await;
        }
    }
}
