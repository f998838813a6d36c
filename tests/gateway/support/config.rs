//! Configuration in YAML: documents of hubs and spokes, and the credentials of spokes.
//!
//! An argument named `keys` is a list of further keys in YAML flow style, or empty.

use std::time::SystemTime;

/// A configuration of one hub and some spokes, each made by [`spoke`] or [`spoke_with`].
pub(crate) fn config(hub_url: &str, spokes: &[String]) -> String {
    config_with_hub_keys(hub_url, "", spokes)
}

/// A configuration of one hub with further keys, and some spokes.
pub(crate) fn config_with_hub_keys(hub_url: &str, keys: &str, spokes: &[String]) -> String {
    let (keys, spokes) = (appended(keys), spokes.concat());
    format!("hub: {{url: \"{hub_url}\"{keys}}}\nspokes:\n{spokes}")
}

/// A configuration of several hubs, each made by [`hub_named`], and some spokes.
pub(crate) fn config_hubs(ack: &str, hubs: &[String], spokes: &[String]) -> String {
    let (hubs, spokes) = (hubs.concat(), spokes.concat());
    format!("ack: {ack}\nhubs:\n{hubs}spokes:\n{spokes}")
}

/// An element of `hubs`.
pub(crate) fn hub_named(name: &str, url: &str, keys: &str) -> String {
    format!("- {{name: {name}, url: \"{url}\"{}}}\n", appended(keys))
}

/// An element of `spokes` whose credential is the token of [`token`].
pub(crate) fn spoke(name: &str, keys: &str) -> String {
    spoke_with(name, &token_sha256(&token(name)), keys)
}

/// An element of `spokes` with credentials in YAML flow style.
pub(crate) fn spoke_with(name: &str, credentials: &str, keys: &str) -> String {
    let keys = appended(keys);
    format!("- {{name: {name}, credentials: [{credentials}]{keys}}}\n")
}

fn appended(keys: &str) -> String {
    if keys.is_empty() {
        String::new()
    } else {
        format!(", {keys}")
    }
}

/// A credential: the hash of a token.
pub(crate) fn token_sha256(token: &str) -> String {
    format!("{{token_sha256: {}}}", sha256(token))
}

/// A credential: a username and the bcrypt hash of a password, at the lowest cost.
pub(crate) fn bcrypt(username: &str, password: &str) -> String {
    let hash = bcrypt::hash(password, 4).unwrap();
    basic(username, &hash)
}

/// A credential: a username and the argon2 hash of a password, at the lowest cost.
pub(crate) fn argon2(username: &str, password: &str) -> String {
    use argon2::password_hash::{PasswordHasher, phc::PasswordHash};
    let lowest = argon2::Params::new(8, 1, 1, None).unwrap();
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, lowest);
    let hash: PasswordHash = argon2
        .hash_password_with_salt(password.as_bytes(), b"0123456789abcdef")
        .unwrap();
    basic(username, &hash.to_string())
}

/// A credential: a username and the hash of a password.
pub(crate) fn basic(username: &str, password_hash: &str) -> String {
    format!("{{basic: {{username: {username}, password_hash: \"{password_hash}\"}}}}")
}

/// A credential that ends at a time.
pub(crate) fn not_after(credential: &str, time: SystemTime) -> String {
    let open = credential.strip_suffix('}').unwrap();
    let time = humantime::format_rfc3339_millis(time);
    format!("{open}, not_after: {time}}}")
}

/// The token of a spoke.
pub(crate) fn token(spoke: &str) -> String {
    format!("{spoke}-0123456789abcdef0123456789abcdef")
}

/// A SHA-256 digest in lower-case hexadecimal.
pub(crate) fn sha256(text: &str) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
