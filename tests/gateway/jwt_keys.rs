//! Keys that are fetched from the issuer of JSON Web Tokens, and an issuer that cannot be reached.

use std::time::Duration;

use serde_json::json;

use crate::support::config::{config, spoke, spoke_with};
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::jwt::{KeyServer, Reply, SigningKey, claims, jwks, jwt, jwt_of, ok};
use crate::support::pki::{Authority, Subject};
use crate::support::sender::Request;
use crate::support::{DEADLINE, eventually, eventually_equal};

/// Longer than a fetch may take, with the wait for the next one.
const FETCH_DEADLINE: Duration = Duration::from_secs(30);

fn keys_of(key: &SigningKey) -> Reply {
    Reply::Text(jwks(&[key]))
}

/// A credential with the keys at a path of a server.
fn fetched(audience: &str, server: &KeyServer) -> String {
    jwt(audience, &format!("jwks_url: \"{}/keys\"", server.url()))
}

async fn status_of(gate: &Gate, token: &str) -> u16 {
    gate.send(Request::up().token(token)).await.status
}

async fn wait_for_status(gate: &Gate, token: &str, status: u16) {
    eventually_equal(
        "the status of a token",
        FETCH_DEADLINE,
        status,
        async || status_of(gate, token).await,
    )
    .await;
}

/// Waits for a log line that contains all of these texts.
async fn wait_for_line(gate: &Gate, parts: &[&str]) {
    eventually("a line of the log", FETCH_DEADLINE, async || {
        let log = gate.log();
        let found = log
            .iter()
            .any(|line| parts.iter().all(|part| line.contains(part)));
        found
            .then_some(())
            .ok_or_else(|| format!("no {parts:?} in {log:#?}"))
    })
    .await;
}

#[tokio::test]
async fn credentials_share_the_keys_of_a_server_and_a_reload_keeps_them() {
    let hub = ScriptedHub::start().await;
    let key = SigningKey::rsa("key");
    let server = KeyServer::start(keys_of(&key)).await;
    let spokes = |others: &str| {
        let spokes = [
            spoke_with("a", &fetched("a", &server), ""),
            spoke_with("b", &fetched("b", &server), ""),
            spoke(others, ""),
        ];
        config(&hub.url(), &spokes)
    };
    let gate = Gate::start(&spokes("before")).await;
    for audience in ["a", "b"] {
        assert_eq!(
            status_of(&gate, &key.sign(&claims(audience, 600))).await,
            204
        );
    }
    server.reply(Reply::Close);
    gate.reload_with(&spokes("after")).await;
    assert_eq!(status_of(&gate, &key.sign(&claims("a", 600))).await, 204);
    let requests = server.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    let request = requests[0].to_lowercase();
    assert!(request.starts_with("get /keys http/1.1\r\n"), "{request}");
    assert!(request.contains("\r\nuser-agent: hubgate/"), "{request}");
    assert!(!request.contains("authorization"), "{request}");
    let url = format!("{}/keys", server.url());
    let metrics = gate.metrics().await;
    let labels = [("url", url.as_str()), ("result", "success")];
    assert_eq!(metrics.sum("hubgate_jwks_fetches_total", &labels), 1.0);
    let time = "hubgate_jwks_last_success_timestamp_seconds";
    assert!(metrics.sum(time, &labels[..1]) > 1e9);
    gate.reload_with(&config(&hub.url(), &[spoke("after", "")]))
        .await;
    let gone = gate.metrics().await;
    assert!(!gone.has(time, &[]), "the place left with its credentials");
}

#[tokio::test]
async fn an_issuer_that_has_no_keys_costs_a_503_and_no_other_credential() {
    let huge = format!("{{\"keys\": [], \"x\": \"{}\"}}", "x".repeat(300 << 10));
    let endless = format!("HTTP/1.1 200 OK\r\ncontent-length: 9999999999\r\n\r\n{huge}");
    let redirect = "HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n";
    let forbidden = "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n";
    let cut = ok(&jwks(&[&SigningKey::ec("key")]));
    let cut = cut.as_bytes()[..cut.len() - 10].to_vec();
    let raw = |text: &str| Reply::Raw(text.as_bytes().to_vec());
    let cases = [
        ("closes", Reply::Close, "broke off or is not HTTP"),
        ("no HTTP", raw("SSH-2.0-OpenSSH_9.2\r\n"), "is not HTTP"),
        (
            "a page",
            Reply::Text("<html>".to_owned()),
            "is not a JWK Set",
        ),
        (
            "no keys",
            Reply::Text("{\"keys\": []}".to_owned()),
            "has no key",
        ),
        ("too large", Reply::Text(huge), "larger than 262144 bytes"),
        ("endless", raw(&endless), "larger than 262144 bytes"),
        ("cut off", Reply::Raw(cut), "broke off"),
        ("a redirect", raw(redirect), "redirects are not followed"),
        (
            "forbidden",
            raw(forbidden),
            "403 Forbidden; let everyone read",
        ),
        ("silence", Reply::Silence, "was not answered within 10 s"),
    ];
    let hub = ScriptedHub::start().await;
    let key = SigningKey::ec("key");
    let mut servers = Vec::new();
    let mut spokes = vec![spoke("production", "")];
    for (place, (_, reply, _)) in cases.iter().enumerate() {
        let server = KeyServer::start(reply.clone()).await;
        let name = format!("s{place}");
        spokes.push(spoke_with(&name, &fetched(&name, &server), ""));
        servers.push(server);
    }
    let gate = Gate::start(&config(&hub.url(), &spokes)).await;
    for (place, (case, _, error)) in cases.iter().enumerate() {
        let token = key.sign(&claims(&format!("s{place}"), 600));
        let response = gate.send(Request::up().token(&token)).await;
        let response = response.expect_retryable(503);
        assert!(
            response.text.starts_with("keys_unavailable: "),
            "{case}: {}",
            response.text
        );
        gate.send(Request::up().spoke("production"))
            .await
            .expect(204);
        wait_for_line(&gate, &["\"WARN\"", servers[place].url(), error]).await;
    }
    let metrics = gate.metrics().await;
    let unavailable = metrics.sum("hubgate_auth_keys_unavailable_total", &[]);
    assert_eq!(unavailable, cases.len() as f64);
    assert_eq!(metrics.sum("hubgate_auth_failures_total", &[]), 0.0);
    for server in &servers {
        let elsewhere = |request: &String| !request.starts_with("GET /keys ");
        assert!(
            !server.requests().iter().any(elsewhere),
            "a redirect was followed"
        );
    }
}

#[tokio::test]
async fn an_issuer_that_comes_back_is_found_soon() {
    let hub = ScriptedHub::start().await;
    let key = SigningKey::ec("key");
    let server = KeyServer::start(Reply::Close).await;
    let spokes = [spoke_with("production", &fetched("hubgate", &server), "")];
    let gate = Gate::start(&config(&hub.url(), &spokes)).await;
    let token = key.sign(&claims("hubgate", 600));
    assert_eq!(status_of(&gate, &token).await, 503);
    server.reply(keys_of(&key));
    wait_for_status(&gate, &token, 204).await;
    let metrics = gate.metrics().await;
    for result in ["failure", "success"] {
        let fetches = metrics.sum("hubgate_jwks_fetches_total", &[("result", result)]);
        assert!(fetches >= 1.0, "{result}");
    }
}

#[tokio::test]
async fn an_issuer_says_where_its_keys_are() {
    let hub = ScriptedHub::start().await;
    let key = SigningKey::ec("key");
    let server = KeyServer::start(keys_of(&key)).await;
    let metadata = |issuer: &str, keys: &str| {
        Reply::Text(json!({"issuer": issuer, "jwks_uri": keys}).to_string())
    };
    let issuers: Vec<_> = (0..5).map(|it| format!("{}/{it}", server.url())).collect();
    let keys = format!("{}/keys", server.url());
    let replies = [
        metadata(&issuers[0], &keys),
        metadata(&issuers[0], &keys),
        metadata(&issuers[2], "http://issuer.example/keys"),
        metadata(&issuers[3], "file:///etc/passwd"),
        Reply::Text("{}".to_owned()),
    ];
    let mut spokes = Vec::new();
    for (place, reply) in replies.into_iter().enumerate() {
        server.reply_on(&format!("/{place}/.well-known/openid-configuration"), reply);
        let credential = jwt_of(&issuers[place], "hubgate", "discovery: true");
        spokes.push(spoke_with(&format!("s{place}"), &credential, ""));
    }
    let gate = Gate::start(&config(&hub.url(), &spokes)).await;
    let token = |place: usize| {
        let mut claims = claims("hubgate", 600);
        claims["iss"] = json!(issuers[place]);
        key.sign(&claims)
    };
    assert_eq!(status_of(&gate, &token(0)).await, 204);
    for (place, error) in [
        (1, "the metadata are of the issuer"),
        (2, "is not https, so everyone"),
        (3, "is not an absolute http"),
        (4, "is not the metadata of an issuer"),
    ] {
        assert_eq!(status_of(&gate, &token(place)).await, 503, "{place}");
        wait_for_line(&gate, &["\"WARN\"", &issuers[place], error]).await;
    }
}

#[tokio::test]
async fn keys_come_over_tls_from_a_server_that_an_authority_vouches_for() {
    let hub = ScriptedHub::start().await;
    let key = SigningKey::ec("key");
    let (authority, stranger) = (Authority::new("issuer"), Authority::new("stranger"));
    let local = Subject {
        ip: &["127.0.0.1"],
        ..Subject::default()
    };
    let elsewhere = Subject {
        dns: &["issuer.example"],
        ..Subject::default()
    };
    let cases = [
        ("good", &local, &authority, ""),
        ("stranger", &local, &stranger, "TLS: "),
        ("elsewhere", &elsewhere, &authority, "TLS: "),
    ];
    let mut spokes = vec![spoke("production", "")];
    let mut servers = Vec::new();
    for (name, subject, issuer, _) in cases {
        let server = KeyServer::start_tls(keys_of(&key), issuer, subject).await;
        let keys = format!(
            "jwks_url: \"{}/keys\", jwks_ca_file: \"{}\"",
            server.url(),
            authority.file().display()
        );
        spokes.push(spoke_with(name, &jwt(name, &keys), ""));
        servers.push(server);
    }
    let gate = Gate::start(&config(&hub.url(), &spokes)).await;
    for (place, (name, _, _, error)) in cases.into_iter().enumerate() {
        let status = if error.is_empty() { 204 } else { 503 };
        let token = key.sign(&claims(name, 600));
        assert_eq!(status_of(&gate, &token).await, status, "{name}");
        if !error.is_empty() {
            wait_for_line(&gate, &["\"WARN\"", servers[place].url(), error]).await;
        }
    }
}

#[tokio::test]
async fn a_token_with_a_key_that_its_issuer_never_had_is_refused_after_a_later_fetch() {
    let hub = ScriptedHub::start().await;
    let (key, unknown) = (SigningKey::ec("key"), SigningKey::ec("unknown"));
    let server = KeyServer::start(keys_of(&key)).await;
    let spokes = [spoke_with("production", &fetched("hubgate", &server), "")];
    let gate = Gate::start(&config(&hub.url(), &spokes)).await;
    let good = key.sign(&claims("hubgate", 600));
    let bad = unknown.sign(&claims("hubgate", 600));
    assert_eq!(status_of(&gate, &good).await, 204);
    assert_eq!(
        status_of(&gate, &bad).await,
        503,
        "the issuer may have it by now"
    );
    // The second fetch begins less than 30 s after the first token with the key.
    let deadline = 2 * FETCH_DEADLINE + DEADLINE;
    server.wait_for_requests(3, deadline).await;
    wait_for_status(&gate, &bad, 401).await;
    assert_eq!(status_of(&gate, &good).await, 204);
    assert_eq!(server.requests().len(), 3);
}
