//! Configuration in YAML: a document of hubs and spokes, and the credentials of spokes.

/// A configuration of one hub and some spokes, each an element of `spokes`.
pub(crate) fn config(hub: &str, spokes: &[String]) -> String {
    format!("hub: {{url: \"{hub}\"}}\nspokes:\n{}", spokes.concat())
}

/// A configuration of one hub with further keys in YAML flow style, and some spokes.
pub(crate) fn config_hub(hub: &str, further: &str, spokes: &[String]) -> String {
    let spokes = spokes.concat();
    format!("hub: {{url: \"{hub}\", {further}}}\nspokes:\n{spokes}")
}

/// A configuration of several hubs, each of [`hub_named`], and some spokes.
pub(crate) fn config_hubs(ack: &str, hubs: &[String], spokes: &[String]) -> String {
    let (hubs, spokes) = (hubs.concat(), spokes.concat());
    format!("ack: {ack}\nhubs:\n{hubs}spokes:\n{spokes}")
}

/// An element of `hubs`, with further keys in YAML flow style.
pub(crate) fn hub_named(name: &str, url: &str, further: &str) -> String {
    let further = if further.is_empty() {
        String::new()
    } else {
        format!(", {further}")
    };
    format!("- {{name: {name}, url: \"{url}\"{further}}}\n")
}

/// A spoke with the token [`token`] gives it, and further keys in YAML flow style.
pub(crate) fn spoke(name: &str, further: &str) -> String {
    let credential = format!("{{token_sha256: {}}}", sha256(&token(name)));
    spoke_with(name, &credential, further)
}

/// A spoke with credentials in YAML flow style.
pub(crate) fn spoke_with(name: &str, credentials: &str, further: &str) -> String {
    let further = if further.is_empty() {
        String::new()
    } else {
        format!(", {further}")
    };
    format!("- {{name: {name}, credentials: [{credentials}]{further}}}\n")
}

/// A credential in YAML: the user's name and the bcrypt hash of a password, at the lowest cost.
pub(crate) fn bcrypt(username: &str, password: &str) -> String {
    let hash = bcrypt::hash(password, 4).unwrap();
    format!("{{basic: {{username: {username}, password_hash: \"{hash}\"}}}}")
}

/// A credential in YAML: the user's name and the argon2 hash of a password, at the lowest cost.
pub(crate) fn argon2(username: &str, password: &str) -> String {
    use argon2::password_hash::{PasswordHasher, phc::PasswordHash};
    let cheap = argon2::Params::new(8, 1, 1, None).unwrap();
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, cheap);
    let hash: PasswordHash = argon2
        .hash_password_with_salt(password.as_bytes(), b"0123456789abcdef")
        .unwrap();
    format!("{{basic: {{username: {username}, password_hash: \"{hash}\"}}}}")
}

/// The token of a spoke.
pub(crate) fn token(spoke: &str) -> String {
    format!("{spoke}-0123456789abcdef0123456789abcdef")
}

/// In lower-case hexadecimal.
pub(crate) fn sha256(text: &str) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
