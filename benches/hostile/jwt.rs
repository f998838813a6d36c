//! JSON Web Tokens that claim to be of a spoke, and whose signature somebody made up.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

/// The bytes of a key of RSA with 2048 bits, and of its signatures.
const RSA_BYTES: usize = 256;

/// A credential, in YAML flow style, whose keys are in a file.
pub(crate) fn credential(jwks_file: &str) -> String {
    format!(
        "{{jwt: {{issuer: \"https://issuer\", audience: gate, subject: spoke, jwks_file: \
         \"{jwks_file}\"}}}}"
    )
}

/// The keys of the issuer, of which nobody has the private part.
pub(crate) fn key_set() -> String {
    let modulus = BASE64_URL_SAFE_NO_PAD.encode([0xff; RSA_BYTES]);
    format!(r#"{{"keys": [{{"kty": "RSA", "kid": "known", "n": "{modulus}", "e": "AQAB"}}]}}"#)
}

/// A token that fits the credential in all but its signature, which takes a whole check.
pub(crate) fn forged() -> String {
    let header = r#"{"alg": "RS256", "kid": "known"}"#;
    let claims = r#"{"iss": "https://issuer", "aud": "gate", "sub": "spoke", "exp": 99999999999}"#;
    let mut signature = [0; RSA_BYTES];
    // One that is larger than the modulus is no signature.
    signature[1..].fill_with(|| fastrand::u8(..));
    let parts = [header.as_bytes(), claims.as_bytes(), &signature];
    parts
        .map(|part| BASE64_URL_SAFE_NO_PAD.encode(part))
        .join(".")
}
