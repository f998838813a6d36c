//! JSON Web Tokens as credentials, with keys in a file.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::config::{config, spoke, spoke_with, token};
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::jwt::{SUBJECT, SigningKey, claims, jwks, jwt};
use crate::support::sender::Request;
use crate::support::{DEADLINE, eventually_equal};

/// A folder with the keys of an issuer.
struct Keys(tempfile::TempDir);

impl Keys {
    fn new(keys: &[&SigningKey]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write(keys);
        folder
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("keys.json")
    }

    /// Replaces the keys as a mounted ConfigMap does.
    fn write(&self, keys: &[&SigningKey]) {
        let new = self.0.path().join("new");
        std::fs::write(&new, jwks(keys)).unwrap();
        std::fs::rename(new, self.file()).unwrap();
    }

    /// A credential with these keys.
    fn credential(&self, audience: &str) -> String {
        jwt(audience, &jwks_file(&self.file()))
    }
}

fn jwks_file(file: &Path) -> String {
    format!("jwks_file: \"{}\"", file.display())
}

async fn status_of(gate: &Gate, token: &str) -> u16 {
    gate.send(Request::up().token(token)).await.status
}

#[tokio::test]
async fn a_service_account_identifies_its_spoke() {
    let hub = ScriptedHub::start().await;
    let (rsa, ec) = (SigningKey::rsa("rsa"), SigningKey::ec("ec"));
    let keys = Keys::new(&[&rsa, &ec]);
    let spokes = [
        spoke_with("production", &keys.credential("production"), ""),
        spoke_with("staging", &keys.credential("staging"), ""),
        spoke("opaque", ""),
    ];
    let gate = Gate::start(&config(&hub.url(), &spokes)).await;
    for (token, spoke) in [
        (rsa.sign(&claims("production", 600)), "production"),
        (ec.sign(&claims("production", 600)), "production"),
        (ec.sign(&claims("staging", 600)), "staging"),
        (token("opaque"), "opaque"),
    ] {
        for _ in 0..2 {
            gate.send(Request::up().token(&token)).await.expect(204);
            let received = hub.take_one().labels().remove(0);
            assert!(received.contains(&format!("cluster={spoke}")), "{received}");
        }
    }
    let metrics = gate.metrics().await;
    let name = format!("jwt:{SUBJECT}");
    let labels = [("spoke", "staging"), ("credential", &*name)];
    let used = metrics.sum("hubgate_credential_last_used_timestamp_seconds", &labels);
    assert!(used > 1e9, "{used}");
}

#[tokio::test]
async fn a_refused_token_is_told_what_is_wrong_with_it() {
    let hub = ScriptedHub::start().await;
    let key = SigningKey::ec("key");
    let keys = Keys::new(&[&key]);
    let spokes = [spoke_with("production", &keys.credential("hubgate"), "")];
    let gate = Gate::start(&config(&hub.url(), &spokes)).await;
    let with = |name: &str, value: serde_json::Value| {
        let mut claims = claims("hubgate", 600);
        claims[name] = value;
        key.sign(&claims)
    };
    let crit = json!({"alg": "ES256", "kid": "key", "crit": ["exp"]});
    let none = json!({"alg": "none"});
    let cases = [
        ("expired", key.sign(&claims("hubgate", -31)), "has expired"),
        (
            "invalid_token",
            with("exp", json!("never")),
            "iss, sub, aud and exp",
        ),
        (
            "invalid_token",
            key.sign_with(&crit, &claims("hubgate", 600)),
            "no header crit",
        ),
        (
            "wrong_algorithm",
            key.sign_with(&none, &claims("hubgate", 600)),
            "jwt.algorithms",
        ),
        (
            "wrong_audience",
            key.sign(&claims("api", 600)),
            "another audience",
        ),
        (
            "wrong_issuer",
            with("iss", json!("https://other.example")),
            "jwt.issuer",
        ),
        (
            "wrong_signature",
            SigningKey::ec("key").sign(&claims("hubgate", 600)),
            "no key of the issuer",
        ),
        (
            "wrong_signature",
            SigningKey::ec("new").sign(&claims("hubgate", 600)),
            "no key of the issuer",
        ),
        (
            "wrong_subject",
            with("sub", json!("system:serviceaccount:a:b")),
            "jwt.subject",
        ),
    ];
    for (reason, token, advice) in &cases {
        let failures = ("hubgate_auth_failures_total", [("reason", *reason)]);
        let before = gate.sum(failures.0, &failures.1).await;
        for http2 in [false, true] {
            let mut request = Request::up().token(token);
            if http2 {
                request = request.http2();
            }
            let response = gate.send(request).await;
            response.expect_refusal(reason, 401, &["unauthenticated: ", advice]);
            let challenge = response.header("www-authenticate").unwrap();
            assert_eq!(
                challenge,
                "Bearer realm=\"hubgate\", error=\"invalid_token\""
            );
            for part in [SUBJECT, "hubgate-", "example"] {
                assert!(!response.text.contains(part), "{}", response.text);
            }
        }
        let after = gate.sum(failures.0, &failures.1).await;
        assert_eq!(after, before + 2.0, "{reason}");
    }
    let early = with("nbf", json!(4_000_000_000_i64));
    let response = gate.send(Request::up().token(&early)).await;
    let response = response.expect_retryable(503);
    assert!(
        response.text.starts_with("token_not_yet_valid: "),
        "{}",
        response.text
    );
    let opaque = gate.send(Request::up().token("an-opaque-token")).await;
    opaque.expect_refusal("opaque", 401, &["no spoke has this credential"]);
    assert_eq!(
        opaque.header("www-authenticate"),
        Some("Bearer realm=\"hubgate\"")
    );
    hub.expect_no_request();
}

#[tokio::test]
async fn a_header_of_4_kib_is_read_and_a_longer_one_is_not() {
    let hub = ScriptedHub::start().await;
    let key = SigningKey::ec("key");
    let keys = Keys::new(&[&key]);
    let spokes = [spoke_with("production", &keys.credential("hubgate"), "")];
    let gate = Gate::start(&config(&hub.url(), &spokes)).await;
    let padded = |bytes: usize| {
        let mut claims = claims("hubgate", 600);
        claims["padding"] = json!("x".repeat(bytes));
        key.sign(&claims)
    };
    // Base64 makes four characters of three bytes.
    let room = (4096 - "Bearer ".len() - padded(0).len()) / 4 * 3;
    let longest = padded(room);
    assert!((4090..=4096).contains(&("Bearer ".len() + longest.len())));
    assert_eq!(status_of(&gate, &longest).await, 204);
    let response = gate.send(Request::up().token(&padded(room + 8))).await;
    response.expect_refusal("longer", 401, &["cannot be read"]);
}

#[tokio::test]
async fn a_credential_or_key_that_is_taken_away_is_shut_out_by_the_next_reload() {
    let hub = ScriptedHub::start().await;
    let (old, new) = (SigningKey::ec("old"), SigningKey::ec("new"));
    let keys = Keys::new(&[&old]);
    let folder = tempfile::tempdir().unwrap();
    let yaml = |audience: &str| {
        let credentials = format!(
            "{}, {}",
            keys.credential(audience),
            keys.credential("other")
        );
        let listeners =
            "listen: {address: \"127.0.0.1:0\"}\nadmin: {address: \"127.0.0.1:0\"}\n".to_owned();
        listeners + &config(&hub.url(), &[spoke_with("production", &credentials, "")])
    };
    std::fs::write(folder.path().join("hubgate.yaml"), yaml("hubgate")).unwrap();
    let gate = Gate::start_in(folder, "100ms").await;
    let token = |key: &SigningKey, audience: &str| key.sign(&claims(audience, 600));
    let (removed, other) = (token(&old, "hubgate"), token(&old, "other"));
    let wait_for = async |token: &str, status: u16| {
        let seen = async || status_of(&gate, token).await;
        eventually_equal("the status of a token", DEADLINE, status, seen).await;
    };
    assert_eq!(status_of(&gate, &removed).await, 204);
    std::fs::write(gate.config_file(), yaml("changed")).unwrap();
    wait_for(&removed, 401).await;
    assert_eq!(
        status_of(&gate, &other).await,
        204,
        "another credential stays"
    );

    let renewed = token(&new, "other");
    assert_eq!(status_of(&gate, &renewed).await, 401);
    keys.write(&[&old, &new]);
    wait_for(&renewed, 204).await;
    assert_eq!(status_of(&gate, &other).await, 204);
    keys.write(&[&new]);
    wait_for(&other, 401).await;
    assert_eq!(status_of(&gate, &renewed).await, 204);
}
