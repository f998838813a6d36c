//! Which tokens are taken apart, and which of them a key signed.

mod invariants;
mod keys;
pub(crate) mod signing;

use std::sync::LazyLock;
use std::time::Duration;

use jsonwebtoken::Algorithm as Signing;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use serde_json::{Value, json};

use super::*;
use signing::{SigningKey, base64, claims, jwks};

const USUAL: &[Algorithm] = &[Algorithm::Rs256, Algorithm::Es256];

static RSA: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::rsa("rsa"));
static EC: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::ec("ec"));
static EC384: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::ec384("ec384"));

fn key_set(keys: &[Value]) -> KeySet {
    KeySet::parse(json!({"keys": keys}).to_string().as_bytes()).unwrap()
}

fn published() -> KeySet {
    KeySet::parse(jwks(&[&RSA, &EC, &EC384]).as_bytes()).unwrap()
}

fn good() -> Value {
    claims("hubgate", 600)
}

fn check(token: &str, keys: &KeySet, allowed: &[Algorithm]) -> Result<(), NotSigned> {
    Token::parse(token)
        .expect(token)
        .check_signature(keys, allowed)
}

#[test]
fn a_token_of_kubernetes_is_read_and_its_signature_fits() {
    let keys = published();
    for key in [&*RSA, &*EC] {
        let text = key.sign(&good());
        assert!(text.len() < 2048, "{}", text.len());
        assert!(Token::has_form(&text));
        let token = Token::parse(&text).unwrap();
        assert_eq!(token.issuer(), Some(signing::ISSUER));
        assert_eq!(token.subject(), Some(signing::SUBJECT));
        assert_eq!(token.key_id(), Some(&*key.id));
        assert!(token.is_for("hubgate") && !token.is_for("hub"));
        assert_eq!(token.check_signature(&keys, USUAL), Ok(()));
    }
}

#[test]
fn the_corpus_of_the_fuzz_target_has_tokens_that_its_keys_signed() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/corpus/jwt");
    let files = std::fs::read_dir(corpus).unwrap();
    let mut signed: Vec<_> = files
        .map(|file| file.unwrap().path())
        .filter(|file| invariants::check(&std::fs::read(file).unwrap()))
        .map(|file| file.file_name().unwrap().to_owned())
        .collect();
    signed.sort();
    let expected = [
        "signed-eddsa",
        "signed-es256",
        "signed-ps256",
        "signed-rs256",
    ];
    assert_eq!(signed, expected);
}

#[test]
fn a_forged_signature_does_not_fit() {
    let keys = published();
    let (other_rsa, other_ec) = (SigningKey::rsa("rsa"), SigningKey::ec("ec"));
    let signed = RSA.sign(&good());
    let (message, signature) = signed.rsplit_once('.').unwrap();
    let (header, body) = message.split_once('.').unwrap();
    let modulus = RSA.jwk()["n"].as_str().unwrap().to_owned();
    let hmac = |secret: &[u8]| {
        let header = base64(json!({"alg": "HS256", "kid": "rsa"}).to_string());
        let message = format!("{header}.{body}");
        let secret = jsonwebtoken::EncodingKey::from_secret(secret);
        let signed = jsonwebtoken::crypto::sign(message.as_bytes(), &secret, Signing::HS256);
        format!("{message}.{}", signed.unwrap())
    };
    let with_header = |header: Value| format!("{}.{body}.{signature}", base64(header.to_string()));
    let mut other_claims = good();
    other_claims["sub"] = json!("system:serviceaccount:kube-system:default");
    let embedded = json!({"alg": "RS256", "kid": "rsa", "jwk": other_rsa.jwk()});
    let elsewhere = json!({"alg": "ES256", "kid": "ec", "jku": "https://attacker.example/jwks",
        "x5u": "https://attacker.example/x5u", "x5c": ["AAAA"]});
    use NotSigned::{Algorithm as Alg, Signature};
    let cases = [
        ("another RSA key", other_rsa.sign(&good()), Signature),
        ("another EC key", other_ec.sign(&good()), Signature),
        (
            "an embedded key",
            other_rsa.sign_with(&embedded, &good()),
            Signature,
        ),
        (
            "keys elsewhere",
            other_ec.sign_with(&elsewhere, &good()),
            Signature,
        ),
        (
            "the key of another type",
            EC.sign_with(&json!({"alg": "RS256", "kid": "ec"}), &good()),
            Signature,
        ),
        (
            "the ID of another key",
            EC.sign_with(&json!({"alg": "ES256", "kid": "ec384"}), &good()),
            Signature,
        ),
        (
            "the ID of no key",
            EC.sign_with(&json!({"alg": "ES256", "kid": "new"}), &good()),
            Signature,
        ),
        (
            "an ID in other letters",
            EC.sign_with(&json!({"alg": "ES256", "kid": "EC"}), &good()),
            Signature,
        ),
        (
            "another message",
            format!("{header}.{}.{signature}", base64(other_claims.to_string())),
            Signature,
        ),
        (
            "no signature but a byte",
            format!("{message}.AA"),
            Signature,
        ),
        (
            "a signature that is no base64",
            format!("{message}.+/=="),
            Signature,
        ),
        (
            "none",
            with_header(json!({"alg": "none", "kid": "rsa"})),
            Alg,
        ),
        (
            "None",
            with_header(json!({"alg": "None", "kid": "rsa"})),
            Alg,
        ),
        (
            "no algorithm",
            with_header(json!({"alg": "", "kid": "rsa"})),
            Alg,
        ),
        (
            "lower case",
            with_header(json!({"alg": "rs256", "kid": "rsa"})),
            Alg,
        ),
        ("HS256 with the public key", hmac(modulus.as_bytes()), Alg),
        (
            "HS256 with the JWK",
            hmac(RSA.jwk().to_string().as_bytes()),
            Alg,
        ),
        ("HS256 without a secret", hmac(b""), Alg),
        ("an algorithm that is not allowed", EC384.sign(&good()), Alg),
        (
            "another padding",
            RSA.with_algorithm(Signing::PS256).sign(&good()),
            Alg,
        ),
        (
            "another digest",
            RSA.with_algorithm(Signing::RS512).sign(&good()),
            Alg,
        ),
    ];
    for (case, token, expected) in cases {
        assert_eq!(check(&token, &keys, USUAL), Err(expected), "{case}");
    }
}

#[test]
fn a_key_is_used_with_the_algorithms_of_its_type_alone() {
    let signed = |signing| RSA.with_algorithm(signing).sign(&good());
    let mut any_rsa = RSA.jwk();
    any_rsa.as_object_mut().unwrap().remove("alg");
    let (any_rsa, only_rs256) = (key_set(&[any_rsa]), key_set(&[RSA.jwk()]));
    for signing in [
        Signing::RS256,
        Signing::RS384,
        Signing::RS512,
        Signing::PS256,
        Signing::PS512,
    ] {
        let token = signed(signing);
        assert_eq!(
            check(&token, &any_rsa, &Algorithm::ALL),
            Ok(()),
            "{signing:?}"
        );
        let only = check(&token, &only_rs256, &Algorithm::ALL);
        assert_eq!(only.is_ok(), signing == Signing::RS256, "{signing:?}");
    }
    assert_eq!(
        check(&EC384.sign(&good()), &published(), &Algorithm::ALL),
        Ok(())
    );
}

#[test]
fn what_is_no_token_is_refused() {
    let header = base64(r#"{"alg": "ES256"}"#);
    let claims = base64(r#"{"exp": 1}"#);
    let nested = |name: &str| {
        let (open, close) = ("[".repeat(500), "]".repeat(500));
        format!(r#"{{"exp": 1, "{name}": {open}1{close}}}"#)
    };
    let with_claims = |claims: &str| format!("{header}.{}.AA", base64(claims));
    let with_header = |header: &str| format!("{}.{claims}.AA", base64(header));
    let cases = [
        ("nothing", String::new()),
        ("dots", "..".to_owned()),
        (
            "an opaque token",
            "C793mcNdun4y6JxFNos3RWgG2PdZlyxmGf8jnfftMVg".to_owned(),
        ),
        ("two parts", format!("{header}.{claims}")),
        ("four parts", format!("{header}.{claims}.AA.AA")),
        ("five parts, as encrypted", format!("{header}.AA.AA.AA.AA")),
        ("no signature", format!("{header}.{claims}.")),
        ("padding", format!("{header}=.{claims}.AA")),
        ("other base64", format!("{header}.+/+/.AA")),
        (
            "bits beyond the end",
            format!("{header}.{claims}.AA").replacen('.', "B.", 1),
        ),
        ("a header without alg", with_header("{}")),
        ("a header that is a list", with_header(r#"["ES256"]"#)),
        ("a header that is a text", with_header(r#""ES256""#)),
        (
            "two algorithms",
            with_header(r#"{"alg": "ES256", "alg": "none"}"#),
        ),
        (
            "two key IDs",
            with_header(r#"{"alg": "ES256", "kid": "a", "kid": "b"}"#),
        ),
        (
            "a key ID that is a number",
            with_header(r#"{"alg": "ES256", "kid": 1}"#),
        ),
        (
            "bytes after the header",
            with_header(r#"{"alg": "ES256"} x"#),
        ),
        (
            "not UTF-8",
            format!("{}.{claims}.AA", base64(b"{\"alg\": \"\xff\"}")),
        ),
        (
            "claims that are a list",
            with_claims(r#"["iss", "sub", "aud", 1, 1]"#),
        ),
        (
            "two subjects",
            with_claims(r#"{"exp": 1, "sub": "a", "sub": "b"}"#),
        ),
        (
            "two audiences",
            with_claims(r#"{"exp": 1, "aud": "a", "aud": "b"}"#),
        ),
        (
            "two expiries",
            with_claims(r#"{"exp": 1, "exp": 9999999999}"#),
        ),
        (
            "an escaped second subject",
            with_claims(r#"{"exp": 1, "sub": "a", "s\u0075b": "b"}"#),
        ),
        (
            "an expiry that is a text",
            with_claims(r#"{"exp": "9999999999"}"#),
        ),
        ("an expiry beyond numbers", with_claims(r#"{"exp": 1e999}"#)),
        (
            "an audience that is a number",
            with_claims(r#"{"exp": 1, "aud": 1}"#),
        ),
        (
            "an audience with a number",
            with_claims(r#"{"exp": 1, "aud": ["a", 1]}"#),
        ),
        (
            "a subject that is a list",
            with_claims(r#"{"exp": 1, "sub": ["a"]}"#),
        ),
        ("deep nesting", with_claims(&nested("aud"))),
    ];
    for (case, text) in cases {
        assert_eq!(
            Token::parse(&text).map(|_| ()),
            Err(Malformed::Form),
            "{case}: {text}"
        );
    }
    let unread = with_claims(&nested("kubernetes.io"));
    assert!(
        Token::parse(&unread).is_ok(),
        "what is not read may be anything"
    );
    let crit = r#"{"alg": "ES256", "crit": ["b64"], "b64": false}"#;
    assert_eq!(
        Token::parse(&with_header(crit)).map(|_| ()),
        Err(Malformed::Critical)
    );
    for claims in [r#"{"sub": "a"}"#, r#"{"exp": null}"#] {
        let parsed = Token::parse(&with_claims(claims)).map(|_| ());
        assert_eq!(parsed, Err(Malformed::NoExpiry), "{claims}");
    }
}

#[test]
fn an_opaque_token_has_not_the_form_of_a_jwt() {
    let body = "e30.AA";
    for text in [
        "",
        "a.b.c",
        "v2.local.abcdef",
        &format!("{}.{body}", base64("[1]")),
        "e30.e30.",
    ] {
        assert!(!Token::has_form(text), "{text}");
    }
    assert!(
        Token::has_form(&format!("{}.{body}", base64(" {\"typ\": 1"))),
        "a broken header"
    );
}

#[test]
fn times_are_compared_with_a_leeway() {
    let at = |claims: Value| {
        let text = EC.sign(&claims);
        let token = Token::parse(&text).unwrap();
        let early = [69, 70].map(|now| token.is_early(Duration::from_secs(now)));
        (token.refused_from(), early)
    };
    let seconds = Duration::from_secs;
    let never = Duration::MAX;
    for (claims, refused_from, early) in [
        (json!({"exp": 100}), seconds(130), [false, false]),
        (
            json!({"exp": 100.5}),
            Duration::from_millis(130_500),
            [false, false],
        ),
        (json!({"exp": 1e300}), never, [false, false]),
        (json!({"exp": -5}), seconds(30), [false, false]),
        (json!({"exp": 200, "nbf": 100}), seconds(230), [true, false]),
        (
            json!({"exp": 200, "nbf": 1e300}),
            seconds(230),
            [true, true],
        ),
        (
            json!({"exp": 200, "nbf": null}),
            seconds(230),
            [false, false],
        ),
    ] {
        assert_eq!(at(claims.clone()), (refused_from, early), "{claims}");
    }
}

#[test]
fn a_missing_claim_is_equal_to_nothing() {
    let text = EC.sign(&json!({"exp": 1, "aud": []}));
    let token = Token::parse(&text).unwrap();
    assert_eq!((token.issuer(), token.subject()), (None, None));
    assert!(!token.is_for(""));
    let text = EC.sign(&json!({"exp": 1, "aud": "one"}));
    assert!(Token::parse(&text).unwrap().is_for("one"));
}

proptest! {
    #[test]
    fn any_text_is_judged_without_a_panic(text in "\\PC{0,200}") {
        prop_assert!(!invariants::check(text.as_bytes()));
    }

    #[test]
    fn any_parts_are_judged_without_a_panic(
        parts in (any::<Vec<u8>>(), any::<Vec<u8>>(), any::<Vec<u8>>()),
    ) {
        let text = [base64(parts.0), base64(parts.1), base64(parts.2)].join(".");
        prop_assert!(!invariants::check(text.as_bytes()));
    }

    #[test]
    fn any_bytes_are_read_as_keys_without_a_panic(bytes: Vec<u8>) {
        prop_assert_eq!(KeySet::parse(&bytes).map(|_| ()), Err(KeySetError::NotAKeySet));
    }

    #[test]
    fn a_changed_byte_breaks_a_token(place in 0_usize..600, byte in b'0'..=b'z') {
        static TOKEN: LazyLock<String> = LazyLock::new(|| EC.sign(&good()));
        let mut text = TOKEN.clone().into_bytes();
        let place = place % text.len();
        if text[place] != byte {
            text[place] = byte;
            let text = String::from_utf8(text).unwrap();
            let signed = Token::parse(&text).is_ok_and(|token| {
                token.check_signature(&published(), USUAL).is_ok()
            });
            prop_assert!(!signed);
        }
    }
}
