//! Which keys of a JWK Set are used.

use serde_json::{Value, json};

use super::signing::{SigningKey, base64, jwks};
use super::{EC, RSA, USUAL, check, good, key_set};
use crate::jwt::{KEY_SET_BYTES_MAX, KeySet, KeySetError};

#[test]
fn keys_that_verify_nothing_are_skipped() {
    let with = |key: &SigningKey, field: &str, value: Value| {
        let mut jwk = key.jwk();
        jwk[field] = value;
        jwk
    };
    let zero_bytes = base64([&[0; 200][..], &[1; 56][..]].concat());
    let unusable = [
        (
            "a type that is unknown",
            json!({"kty": "AKP", "kid": "x", "alg": "ML-DSA-44", "pub": "AA"}),
        ),
        (
            "a symmetric key",
            json!({"kty": "oct", "kid": "x", "k": "AAAA"}),
        ),
        ("no type", json!({"kid": "x"})),
        ("no object", json!("x")),
        ("for encryption", with(&RSA, "use", json!("enc"))),
        ("for signing only", with(&RSA, "key_ops", json!(["sign"]))),
        (
            "for another algorithm",
            with(&RSA, "alg", json!("RSA-OAEP")),
        ),
        (
            "for an algorithm of another type",
            with(&RSA, "alg", json!("ES256")),
        ),
        ("a private key", with(&RSA, "d", json!("AA"))),
        (
            "a short modulus",
            with(&RSA, "n", json!(base64([255; 255]))),
        ),
        ("a modulus of zeros", with(&RSA, "n", json!(zero_bytes))),
        (
            "a long modulus",
            with(&RSA, "n", json!(base64([255; 1025]))),
        ),
        ("no modulus", with(&RSA, "n", json!(""))),
        ("an even exponent", with(&RSA, "e", json!("Ag"))),
        ("a long exponent", with(&RSA, "e", json!("AQAAAAE"))),
        (
            "a curve that is not supported",
            with(&EC, "crv", json!("secp256k1")),
        ),
        ("the curve of another key", with(&EC, "crv", json!("P-384"))),
        ("half a point", with(&EC, "y", json!(null))),
        ("a number that is no base64", with(&EC, "x", json!("+"))),
        ("a long ID", with(&EC, "kid", json!("x".repeat(1025)))),
    ];
    for (case, jwk) in &unusable {
        let set = json!({"keys": [jwk]}).to_string();
        let parsed = KeySet::parse(set.as_bytes()).map(|_| ());
        assert_eq!(parsed, Err(KeySetError::NoUsableKey), "{case}");
    }
    let mut keys: Vec<_> = unusable.into_iter().map(|(_, jwk)| jwk).collect();
    let skipped = keys.len();
    keys.push(EC.jwk());
    let keys = key_set(&keys);
    assert_eq!((keys.len(), keys.skipped()), (1, skipped));
    assert_eq!(check(&EC.sign(&good()), &keys, USUAL), Ok(()));
}

#[test]
fn what_is_no_key_set_is_an_error() {
    let many = json!({"keys": vec![EC.jwk(); 101]}).to_string();
    let large = format!("{}{}", jwks(&[&EC]), " ".repeat(KEY_SET_BYTES_MAX));
    for (text, expected) in [
        ("", KeySetError::NotAKeySet),
        ("<html>", KeySetError::NotAKeySet),
        ("[]", KeySetError::NotAKeySet),
        ("{}", KeySetError::NotAKeySet),
        (r#"{"keys": {}}"#, KeySetError::NotAKeySet),
        (r#"{"keys": []}"#, KeySetError::NoUsableKey),
        (&many, KeySetError::TooManyKeys),
        (&large, KeySetError::TooLarge),
    ] {
        let start = &text[..text.len().min(20)];
        assert_eq!(
            KeySet::parse(text.as_bytes()).unwrap_err(),
            expected,
            "{start}"
        );
    }
}

#[test]
fn keys_without_an_id_and_with_the_same_id_are_all_tried() {
    let mut nameless = EC.jwk();
    nameless.as_object_mut().unwrap().remove("kid");
    let other = SigningKey::ec("ec").jwk();
    let token = EC.sign(&good());
    assert_eq!(
        check(&token, &key_set(&[other.clone(), EC.jwk()]), USUAL),
        Ok(())
    );
    assert_eq!(
        check(&token, &key_set(&[other.clone(), nameless]), USUAL),
        Ok(())
    );
    let without_id = EC.sign_with(&json!({"alg": "ES256"}), &good());
    let keys = key_set(&[RSA.jwk(), other, EC.jwk()]);
    assert_eq!(check(&without_id, &keys, USUAL), Ok(()));
    assert!(keys.has(None) && keys.has(Some("ec")) && !keys.has(Some("new")));
}
