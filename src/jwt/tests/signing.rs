//! An issuer for tests: keys, their JWK Set, and tokens that say what a test wants.
//!
//! The black-box tests include this file as well.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::{KeyPair, SignatureAlgorithm};
use serde_json::{Value, json};

/// The bytes in front of a PKCS#1 key in a PKCS#8 key of RSA with 2048 bits.
const PKCS8_BYTES: usize = 26;

/// A private key with its ID.
pub(crate) struct SigningKey {
    pub(crate) id: String,
    algorithm: Algorithm,
    key: EncodingKey,
}

impl SigningKey {
    /// A new key for RS256.
    pub(crate) fn rsa(id: &str) -> Self {
        let der = der(&rcgen::PKCS_RSA_SHA256);
        let key = EncodingKey::from_rsa_der(&der[PKCS8_BYTES..]);
        Self::new(id, Algorithm::RS256, key)
    }

    /// A new key for ES256.
    pub(crate) fn ec(id: &str) -> Self {
        let key = EncodingKey::from_ec_der(&der(&rcgen::PKCS_ECDSA_P256_SHA256));
        Self::new(id, Algorithm::ES256, key)
    }

    /// A new key for ES384.
    pub(crate) fn ec384(id: &str) -> Self {
        let key = EncodingKey::from_ec_der(&der(&rcgen::PKCS_ECDSA_P384_SHA384));
        Self::new(id, Algorithm::ES384, key)
    }

    fn new(id: &str, algorithm: Algorithm, key: EncodingKey) -> Self {
        Self {
            id: id.to_owned(),
            algorithm,
            key,
        }
    }

    /// The same key, to be used with another algorithm.
    pub(crate) fn with_algorithm(&self, algorithm: Algorithm) -> Self {
        Self::new(&self.id, algorithm, self.key.clone())
    }

    /// The public key, as its issuer publishes it.
    pub(crate) fn jwk(&self) -> Value {
        let jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        jwk["kid"] = json!(self.id);
        jwk["use"] = json!("sig");
        jwk
    }

    /// The usual header of its tokens.
    pub(crate) fn header(&self) -> Value {
        json!({"alg": format!("{:?}", self.algorithm), "kid": self.id})
    }

    /// A token with these claims.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_with(&self.header(), claims)
    }

    /// A token with this header and these claims.
    pub(crate) fn sign_with(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// A token with a header and claims that need not be JSON.
    pub(crate) fn sign_text(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", base64(header), base64(claims));
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }
}

fn der(algorithm: &'static SignatureAlgorithm) -> Vec<u8> {
    KeyPair::generate_for(algorithm).unwrap().serialize_der()
}

/// The JWK Set of some keys.
pub(crate) fn jwks(keys: &[&SigningKey]) -> String {
    let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
    json!({"keys": keys}).to_string()
}

/// Base64url without padding.
pub(crate) fn base64(text: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(text)
}

/// Seconds since the Unix epoch.
pub(crate) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_secs().try_into().unwrap()
}

/// The issuer of [`claims`].
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// The subject of [`claims`].
pub(crate) const SUBJECT: &str = "system:serviceaccount:monitoring:prometheus-k8s";

/// The claims of a token that Kubernetes gives to a pod, valid for this number of seconds.
pub(crate) fn claims(audience: &str, seconds: i64) -> Value {
    let now = now();
    json!({
        "aud": [audience],
        "exp": now + seconds,
        "iat": now,
        "iss": ISSUER,
        "jti": "5a4f1bfc-4ef7-4b0e-a9a5-7d6e6b6f6a0c",
        "kubernetes.io": {
            "namespace": "monitoring",
            "node": {"name": "worker-1", "uid": "f6a3c8f3-3f51-4d5d-9f3b-0c2bb8f3a1de"},
            "pod": {"name": "prometheus-k8s-0", "uid": "2f5d9a7e-0d4a-4e8f-8f0e-6a1b7a8c9d0e"},
            "serviceaccount": {"name": "prometheus-k8s", "uid": "9b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0"},
            "warnafter": now + seconds,
        },
        "nbf": now,
        "sub": SUBJECT,
    })
}
