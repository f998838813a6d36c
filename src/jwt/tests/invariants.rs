//! What holds of any bytes as a token and as a set of keys.
//!
//! The keys below are fixed, and their private halves are gone. So what they signed is known: a token
//! that is not in the list and has a signature that fits is forged.

use std::sync::LazyLock;
use std::time::Duration;

use crate::jwt::{Algorithm, KeySet, LEEWAY, Token};

const KEYS: &str = r#"{"keys":[{"kty":"RSA","use":"sig","kid":"rsa","n":"5OinI0uswBL8wYG0ULgjKK8qMZH1pE03YEgIixp0MKg7WHaaZxkUq3Brko9D4FH87VNsJdIB9mNhSMmP1UmYvKuIGVruFiPWVWh4fb89cFN0LAKKrFdrEI2-mFi_qNVdKSCA8Ye7f-3LMSqjRnYoUdQPwlKtSH5UF0G-aA8WKzwYIAWgFnZRKqzPmay970Y6InyuHkDNd6lJY2owt0bCcL3pvPOMR7UmLOif7sduc4LMf3i6Vxk4trEEMOzz7JyKB1H1xGDo9uvHEa2kIifD7zGvmam5QgEdHyO847_A3gu_GJLmlkcPSOP7WPeWDYd8bLLLQz4r8osO0CmvYGFM3w","e":"AQAB"},{"kty":"EC","use":"sig","kid":"ec","alg":"ES256","crv":"P-256","x":"bRx9pbI-Kwr0cIUOXt_cu83pwIAtLb655lpIbXIeFj0","y":"rRizNpkc7s_YGQiu-4aUGxW_5Ij8inSLQAT42T0Jh-M"},{"kty":"OKP","kid":"ed","alg":"EdDSA","crv":"Ed25519","x":"KRo1cdJdRHS1PW3UMEMWKjqum67ipl9kidMjpi8c8eU"}]}"#;

/// Everything that the keys signed: the header and the claims of each token.
const SIGNED: [&str; 4] = [
    "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSJ9.eyJhdWQiOlsiaHViZ2F0ZSJdLCJleHAiOjE3NjcyMjU2MDAsImlzcyI6Imh0dHBzOi8va3ViZXJuZXRlcy5kZWZhdWx0LnN2Yy5jbHVzdGVyLmxvY2FsIiwibmJmIjoxNzY3MjIyMDAwLCJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQ6bW9uaXRvcmluZzpwcm9tZXRoZXVzLWs4cyJ9",
    "eyJhbGciOiJQUzI1NiIsImtpZCI6InJzYSJ9.eyJhdWQiOlsiaHViZ2F0ZSJdLCJleHAiOjE3NjcyMjU2MDAsImlzcyI6Imh0dHBzOi8va3ViZXJuZXRlcy5kZWZhdWx0LnN2Yy5jbHVzdGVyLmxvY2FsIiwibmJmIjoxNzY3MjIyMDAwLCJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQ6bW9uaXRvcmluZzpwcm9tZXRoZXVzLWs4cyJ9",
    "eyJhbGciOiJFUzI1NiIsImtpZCI6ImVjIn0.eyJhdWQiOlsiaHViZ2F0ZSJdLCJleHAiOjE3NjcyMjU2MDAsImlzcyI6Imh0dHBzOi8va3ViZXJuZXRlcy5kZWZhdWx0LnN2Yy5jbHVzdGVyLmxvY2FsIiwibmJmIjoxNzY3MjIyMDAwLCJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQ6bW9uaXRvcmluZzpwcm9tZXRoZXVzLWs4cyJ9",
    "eyJhbGciOiJFZERTQSIsImtpZCI6ImVkIn0.eyJhdWQiOlsiaHViZ2F0ZSJdLCJleHAiOjE3NjcyMjU2MDAsImlzcyI6Imh0dHBzOi8va3ViZXJuZXRlcy5kZWZhdWx0LnN2Yy5jbHVzdGVyLmxvY2FsIiwibmJmIjoxNzY3MjIyMDAwLCJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQ6bW9uaXRvcmluZzpwcm9tZXRoZXVzLWs4cyJ9",
];

static KEY_SET: LazyLock<KeySet> = LazyLock::new(|| KeySet::parse(KEYS.as_bytes()).expect("keys"));

/// Reads bytes as a token and as keys. Returns whether a key signed them.
pub(crate) fn check(bytes: &[u8]) -> bool {
    if let Ok(keys) = KeySet::parse(bytes) {
        assert!(!keys.is_empty() && keys.has(None));
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let has_form = Token::has_form(text);
    let Ok(token) = Token::parse(text) else {
        return false;
    };
    assert!(has_form, "it was taken apart");
    assert!(token.refused_from() >= LEEWAY);
    assert!(!token.is_early(Duration::MAX));
    let allowed = [Algorithm::Es384];
    assert!(
        token.check_signature(&KEY_SET, &allowed).is_err(),
        "no key for these"
    );
    let signed = token.check_signature(&KEY_SET, &Algorithm::ALL).is_ok();
    if signed {
        let message = text.rsplit_once('.').map(|(message, _)| message);
        assert!(
            message.is_some_and(|it| SIGNED.contains(&it)),
            "forged: {text}"
        );
    }
    signed
}
