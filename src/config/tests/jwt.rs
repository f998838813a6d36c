//! Tests of the credential `jwt`: its defaults, its files, and its errors.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::values::refuses_each;
use super::{parse, with_spoke};
use crate::config::{Config, Jwt, JwtKeys, Secret, load};
use crate::jwt::Algorithm;
use crate::jwt::tests::signing::{SigningKey, jwks};

const CLAIMS: &str = "issuer: https://issuer.example, audience: hubgate, subject: s";

fn with_jwt(keys: &str) -> String {
    with_spoke(&format!("  credentials: [jwt: {{{keys}}}]"))
}

fn jwt(config: &Config) -> &Jwt {
    match &config.spokes[0].credentials[0].secret {
        Secret::Jwt(jwt) => jwt,
        _ => panic!("a JWT"),
    }
}

fn url(jwt: &Jwt) -> String {
    match &jwt.keys {
        JwtKeys::Remote(place) => place.url.to_string(),
        JwtKeys::File(_) => panic!("a place"),
    }
}

/// A folder with `keys.json`, and a configuration that names it.
fn folder(keys: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("keys.json"), keys).unwrap();
    let config = with_jwt(&format!("{CLAIMS}, jwks_file: keys.json"));
    let config = config.replace("http://hub/", "http://hub/api/v1/write");
    fs::write(folder.path().join("hubgate.yaml"), config).unwrap();
    folder
}

fn loaded(folder: &Path) -> crate::config::Load {
    load(&folder.join("hubgate.yaml"))
}

#[test]
fn keys_are_at_a_url_or_where_the_issuer_says() {
    let keys = format!("{CLAIMS}, jwks_url: http://127.0.0.1:8001/openid/v1/jwks");
    let config = parse(&with_jwt(&keys)).unwrap();
    let credential = &config.spokes[0].credentials[0];
    assert_eq!(credential.name, "jwt:s");
    let found = jwt(&config);
    let claims = (&*found.issuer, &*found.audience, &*found.subject);
    assert_eq!(claims, ("https://issuer.example", "hubgate", "s"));
    assert_eq!(found.algorithms, [Algorithm::Rs256, Algorithm::Es256]);
    assert_eq!(url(found), "http://127.0.0.1:8001/openid/v1/jwks");

    let keys = "issuer: 'http://127.0.0.1/a/', audience: a, subject: b, discovery: true, \
                algorithms: [ES384, EdDSA]";
    let config = parse(&with_jwt(keys)).unwrap();
    let found = jwt(&config);
    assert_eq!(found.algorithms, [Algorithm::Es384, Algorithm::EdDsa]);
    let metadata = "http://127.0.0.1/a/.well-known/openid-configuration";
    assert_eq!(url(found), metadata);
    let JwtKeys::Remote(place) = &found.keys else {
        panic!("a place");
    };
    assert_eq!(place.issuer.as_deref(), Some("http://127.0.0.1/a/"));
}

#[test]
fn bad_values_of_a_jwt_are_refused() {
    let table = "
ISSUER, subject: s, jwks_url: 'http://[::1]/' => 4:22: spokes[0].credentials[0].jwt.audience => required key is missing
ISSUER, audience: a, jwks_url: 'http://[::1]/' => 4:22: spokes[0].credentials[0].jwt.subject => required key is missing
CLAIMS => 4:22: spokes[0].credentials[0].jwt => give one of: jwks_file, jwks_url, discovery: true
CLAIMS, jwks_url: 'http://[::1]/', discovery: true => 4:124: spokes[0].credentials[0].jwt.discovery => discovery is given beside jwks_url
CLAIMS, discovery: false => 4:97: spokes[0].credentials[0].jwt.discovery => write true
CLAIMS, jwks_url: http://issuer.example/ => 4:96: spokes[0].credentials[0].jwt.jwks_url => is not https
CLAIMS, jwks_url: 'http://[::1]/', jwks_ca_file: a => 4:127: spokes[0].credentials[0].jwt.jwks_ca_file => has no effect with http
CLAIMS, jwks_url: https://a.example/, jwks_ca_file: nowhere => 4:130: spokes[0].credentials[0].jwt.jwks_ca_file => cannot read
CLAIMS, jwks_file: nowhere => 4:97: spokes[0].credentials[0].jwt.jwks_file => cannot read
CLAIMS, jwks_file: Cargo.toml => 4:97: spokes[0].credentials[0].jwt.jwks_file => is not a JWK Set
CLAIMS, jwks_file: eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ => 4:97: spokes[0].credentials[0].jwt.jwks_file => looks like a token
CLAIMS, algorithms: [], jwks_url: 'http://[::1]/' => 4:98: spokes[0].credentials[0].jwt.algorithms => is empty
CLAIMS, algorithms: [HS256], jwks_url: 'http://[::1]/' => 4:99: spokes[0].credentials[0].jwt.algorithms[0] => has no public key
CLAIMS, algorithms: [none], jwks_url: 'http://[::1]/' => 4:99: spokes[0].credentials[0].jwt.algorithms[0] => is no signature
CLAIMS, algorithms: [rs256], jwks_url: 'http://[::1]/' => 4:99: spokes[0].credentials[0].jwt.algorithms[0] => allowed: EdDSA, ES256,
CLAIMS, jwk_url: 'http://[::1]/' => 4:86: spokes[0].credentials[0].jwt => did you mean jwks_url?
issuer: kubernetes, audience: a, subject: s, discovery: true => 4:31: spokes[0].credentials[0].jwt.issuer => with discovery, the issuer is a URL
issuer: '', audience: a, subject: s, jwks_url: 'http://[::1]/' => 4:31: spokes[0].credentials[0].jwt.issuer => must have 1 to 1024 bytes
issuer: i, audience: ' a', subject: s, jwks_url: 'http://[::1]/' => 4:44: spokes[0].credentials[0].jwt.audience => begins or ends with a space
";
    refuses_each(table, |keys| {
        let keys = keys.replace("CLAIMS", CLAIMS);
        with_jwt(&keys.replace("ISSUER", "issuer: https://issuer.example"))
    });
}

#[test]
fn no_two_credentials_take_the_same_token() {
    let jwt = |audience: &str, url: &str| {
        format!("{{jwt: {{issuer: i, audience: {audience}, subject: s, jwks_url: {url}}}}}")
    };
    let spokes = |first: String, second: String| {
        format!(
            "hub: {{url: http://hub/}}\nspokes:\n- {{name: a, credentials: [{first}]}}\n- {{name: b, credentials: [{second}]}}\n"
        )
    };
    let local = "'http://127.0.0.1/'";
    parse(&spokes(jwt("a", local), jwt("b", local))).unwrap();
    let same = spokes(jwt("a", local), jwt("a", "'http://127.0.0.2/'"));
    let error = parse(&same).unwrap_err().to_string();
    assert!(
        error.contains("the same issuer, audience and subject may be used only once"),
        "{error}"
    );
    assert!(
        error.contains("config:3:33 (spokes[0].credentials[0].jwt)"),
        "{error}"
    );
}

#[test]
fn a_file_of_keys_takes_part_in_the_fingerprint() {
    let folder = folder(&jwks(&[&SigningKey::ec("a")]));
    let before = loaded(folder.path());
    let before_config = before.result.unwrap();
    assert!(matches!(&jwt(&before_config).keys, JwtKeys::File(keys) if keys.len() == 1));
    let again = loaded(folder.path());
    assert_eq!(again.fingerprint, before.fingerprint);
    assert!(before.fingerprint.is_current());
    assert_eq!(again.result.unwrap(), before_config);
    let keys = jwks(&[&SigningKey::ec("b")]);
    fs::write(folder.path().join("keys.json"), keys).unwrap();
    let after = loaded(folder.path());
    assert_ne!(after.fingerprint, before.fingerprint);
    assert!(!before.fingerprint.is_current());
    assert_ne!(after.result.unwrap(), before_config);
}

#[test]
fn keys_of_a_file_that_are_skipped_are_a_warning() {
    let mut keys: serde_json::Value =
        serde_json::from_str(&jwks(&[&SigningKey::ec("a"), &SigningKey::ec("b")])).unwrap();
    keys["keys"][1]["use"] = "enc".into();
    let folder = folder(&keys.to_string());
    let loaded = loaded(folder.path());
    loaded.result.unwrap();
    let [warning] = &loaded.warnings[..] else {
        panic!("{:?}", loaded.warnings);
    };
    assert!(
        warning.message.contains("1 of 2 keys cannot verify"),
        "{warning}"
    );
}
