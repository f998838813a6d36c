//! What people write in place of a key or a value, and what to write instead.
//!
//! They copy keys from a Prometheus or a proxy, and values from the output of `htpasswd`, `argon2`,
//! `sha256sum` or a shell. No advice quotes a value, and a key only if it is a word of this file.

use std::path::Path;

use super::{credential, entry, hub, hub_credentials, hub_tls, tls};

/// Maximum number of edits between a misspelt key and the key that is suggested for it.
const TYPOS_MAX: usize = 2;

/// Letters that a key must share with the beginning of another one to be suggested for it.
const PREFIX_BYTES_MIN: usize = 4;

/// Prefixes of the hashes that hubgate verifies.
const HASHES: &[&str] = &["$argon2", "$2a$", "$2b$", "$2y$"];

/// Prefixes of the hashes of `htpasswd`, nginx, LDAP and `/etc/shadow` that hubgate does not verify.
const OTHER_HASHES: &[&str] = &[
    "$apr1$", "$1$", "$5$", "$6$", "$7$", "$gy$", "$md5", "$pbkdf2", "$scrypt$", "$sha1$", "$y$",
    "{",
];

/// About a hash without quotes among others between braces.
pub(super) const SPLIT_HASH: &str = "ends at its first comma; put the hash into quotes";

const TOKEN: &str = "credentials take the digest of a token as token_sha256 (`hubgate token` prints \
                     both), or a file that contains the token as token_file; the token itself goes \
                     to the spoke's Prometheus";
const BASIC: &str = "write an item of credentials, basic: {username: NAME, password_hash: HASH}";
const PASSWORD: &str = "hubgate keeps only a hash of a password; write password_hash (`hubgate \
                        hash-password` makes one) into basic; the password itself goes to the \
                        spoke's Prometheus";

/// Keys of other programs and of other places, with what to write. They are compared as
/// [`letters`].
const KEYS: &[(&[&str], &str)] = &[
    (&["token", "tokens", "bearer", "bearertoken"], TOKEN),
    (&["authorization", "credential"], TOKEN),
    (
        &["bearertokenfile", "credentialsfile", "tokenpath"],
        "write an item of credentials, token_file: FILE",
    ),
    (
        &["tokenhash", "tokendigest", "sha256", "digest"],
        "write an item of credentials, token_sha256: DIGEST",
    ),
    (
        &["tokensha256", "tokenfile", "basic", "certificate", "jwt"],
        "it goes into an item of credentials",
    ),
    (&["basicauth", "basicauthusers", "htpasswd"], BASIC),
    (&["password", "passwordfile", "passwd", "pass"], PASSWORD),
    (
        &["hash", "bcrypt", "argon2", "passwordhash"],
        "write password_hash into basic",
    ),
    (&["login", "username"], "write username into basic"),
    (
        &["tls", "tlsconfig", "tlsserverconfig", "certfile", "keyfile"],
        "write tls: {cert_file: FILE, key_file: FILE} into listen or admin",
    ),
    (
        &["clientca", "clientcafile"],
        "write client_ca_file: FILE into tls of listen or admin",
    ),
    (
        &["clientcrl", "clientcrlfile"],
        "write client_crl_file: FILE into tls of listen or admin",
    ),
    (
        &["clientauth", "clientauthtype"],
        "write client_auth: optional or client_auth: required into tls of listen or admin",
    ),
    (
        &["clientcertificate", "spiffe", "spiffeid"],
        "write an item of credentials, certificate: {dns: NAME} or certificate: {uri: URI}",
    ),
    (&["remotewrite", "upstream", "url"], "write hub: {url: URL}"),
    (
        &[
            "seriesperrequestmax",
            "labelsperseriesmax",
            "labelvaluebytesmax",
            "requestsinflightmax",
            "samplesagemax",
            "samplesaheadmax",
            "samplespersecond",
        ],
        "it goes into limits of a spoke, or of spoke_defaults",
    ),
    (
        &["bytesinflightmax", "bodybytesmax", "decodedbytesmax"],
        "it goes into limits of the whole file, since all spokes share it",
    ),
];

/// As [`KEYS`], for `tls` of a listener.
const TLS_KEYS: &[(&[&str], &str)] = &[
    (
        &["clientauthtype"],
        "write client_auth: optional or client_auth: required",
    ),
    (
        &["ca", "cacert", "cafile", "clientca", "clientcas"],
        "write client_ca_file: FILE, the authorities that issue the clients' certificates",
    ),
    (
        &["crl", "crlfile", "clientcrl"],
        "write client_crl_file: FILE, the revocation lists of the clients' authorities",
    ),
    (
        &["cert", "certificate", "key"],
        "write cert_file: FILE and key_file: FILE",
    ),
];

/// As [`KEYS`], for the credentials of the admin port.
const ADMIN_CREDENTIAL_KEYS: &[(&[&str], &str)] = &[
    (
        &["certificate"],
        "the admin port takes tokens and passwords; to ask for certificates as well, write \
         client_auth: required into tls of admin",
    ),
    (
        &["jwt"],
        "the admin port takes tokens and passwords, and no JSON Web Tokens",
    ),
];

const HUB_TOKEN: &str = "write credentials: {token_file: FILE} into the hub";
const HUB_BASIC: &str =
    "write credentials: {basic: {username: NAME, password_file: FILE}} into the hub";

/// As [`KEYS`], for a hub and its parts: hubgate shows it a secret, and checks the secret of a spoke.
const HUB_KEYS: &[(&[&str], &str)] = &[
    (
        &[
            "authorization",
            "bearertoken",
            "bearertokenfile",
            "credential",
            "credentialsfile",
            "token",
            "tokenfile",
            "tokenpath",
        ],
        HUB_TOKEN,
    ),
    (
        &["tokensha256", "sha256", "digest", "tokenhash"],
        "a hub is sent the token itself; write credentials: {token_file: FILE} into the hub",
    ),
    (
        &[
            "basic",
            "basicauth",
            "password",
            "passwordfile",
            "passwordhash",
            "username",
        ],
        HUB_BASIC,
    ),
    (
        &["tlsconfig", "cafile", "certfile", "keyfile", "servername"],
        "write tls: {ca_file: FILE, cert_file: FILE, key_file: FILE} into the hub; each may be left \
         out",
    ),
    (
        &["insecure", "insecureskipverify", "skipverify", "verify"],
        "not supported: the certificate of a hub is always verified; set ca_file in tls to trust an \
         authority of your own, and server_name if the certificate is for another name",
    ),
    (
        &["ca", "cacert", "cacerts", "cabundle"],
        "write ca_file: FILE into tls of the hub",
    ),
    (
        &["cert", "certificate", "clientcert", "key", "clientkey"],
        "write cert_file: FILE and key_file: FILE into tls of the hub",
    ),
];

/// The keys of a hub and of its parts.
const OF_A_HUB: &[&[&str]] = &[
    hub::KEYS,
    hub_credentials::KINDS,
    hub_credentials::BASIC_KEYS,
    hub_tls::KEYS,
];

/// Says what is wrong with a key that is not allowed.
pub(super) fn unknown_key(allowed: &[&str], key: &str, shown: bool) -> String {
    let quoted = entry::quote(key);
    let letters = letters(key);
    let misspelt = misspelt_key(allowed, &letters);
    let other = advice_among(allowed)
        .iter()
        .chain(KEYS)
        .find(|(keys, _)| keys.contains(&letters.as_str()));
    if let (None, Some((_, advice))) = (misspelt, other) {
        return format!("unknown key {quoted}; {advice}");
    }
    let name = if shown {
        format!(" {quoted}")
    } else {
        String::new()
    };
    let guess = match misspelt.or_else(|| related_key(allowed, &letters)) {
        Some(close) => format!(", did you mean {close}?"),
        None => ";".to_owned(),
    };
    format!("unknown key{name}{guess} allowed: {}", allowed.join(", "))
}

/// What holds only where these keys are allowed.
fn advice_among(allowed: &[&str]) -> &'static [(&'static [&'static str], &'static str)] {
    if OF_A_HUB.contains(&allowed) {
        HUB_KEYS
    } else if allowed == tls::KEYS {
        TLS_KEYS
    } else if allowed.starts_with(credential::ADMIN_KINDS) && !allowed.contains(&"jwt") {
        ADMIN_CREDENTIAL_KEYS
    } else {
        &[]
    }
}

/// The allowed key with the fewest typos; two letters that changed places are one.
fn misspelt_key<'a>(allowed: &[&'a str], key: &str) -> Option<&'a str> {
    let names = allowed.iter().map(|name| (letters(name), *name));
    let near = names.filter(|(other, _)| other.len().abs_diff(key.len()) <= TYPOS_MAX);
    let typos = near.map(|(other, name)| (strsim::osa_distance(&other, key), name));
    let (typos, name) = typos.min()?;
    (typos <= TYPOS_MAX).then_some(name)
}

/// The only allowed key that begins as this one, or with which this one begins.
fn related_key<'a>(allowed: &[&'a str], key: &str) -> Option<&'a str> {
    let mut related = allowed.iter().filter(|name| {
        let other = letters(name);
        let shared = other.len().min(key.len());
        shared >= PREFIX_BYTES_MIN && (other.starts_with(key) || key.starts_with(&other))
    });
    let first = related.next()?;
    related.next().is_none().then_some(*first)
}

/// A key without what other programs spell differently: case, underscores and hyphens.
fn letters(key: &str) -> String {
    let letters = key.chars().filter(|it| !matches!(it, '_' | '-'));
    letters.map(|it| it.to_ascii_lowercase()).collect()
}

/// Says what to do with a text that is not a hash of argon2 or bcrypt, or is a part of one.
pub(super) fn unusable_hash(text: &str) -> Option<&'static str> {
    if text.trim() != text {
        return Some("begins or ends with a space; cut it off");
    }
    if text.contains("$$") {
        return Some("has each $ doubled, as Docker Compose needs it; write each $ once");
    }
    if text.starts_with("$argon2") {
        let cut = !text.contains(',') && text.contains("$m=");
        return cut.then_some(SPLIT_HASH);
    }
    if HASHES.iter().any(|prefix| text.starts_with(prefix)) {
        return None;
    }
    let start = HASHES.iter().find_map(|prefix| text.find(prefix));
    if let Some(start) = start {
        return Some(if text[..start].ends_with(':') {
            "begins with a user name, as a line of htpasswd does; cut off what stands before the \
             colon, and the colon"
        } else {
            "has a text before the hash; cut it off, so that the hash begins with $"
        });
    }
    let hash = text.split_once(':').map_or(text, |(_, hash)| hash);
    if OTHER_HASHES.iter().any(|prefix| hash.starts_with(prefix)) {
        return Some(
            "is of a kind that hubgate does not verify; `hubgate hash-password` makes an argon2 \
             hash, and `htpasswd -nB` a bcrypt hash",
        );
    }
    if lost_its_dollars(text) {
        return Some("has lost its $ signs to a shell; put it into single quotes there");
    }
    let is_hex = text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then_some(
        "is a bare hash without its parameters; take the form that begins with $argon2id$, which \
         `hubgate hash-password` and `argon2 -e` print",
    )
}

/// Whether a text is what remains of a hash between double quotes in a shell: `$argon2id`, `$v`,
/// `$m`, `$2` and `$1` were variables.
fn lost_its_dollars(text: &str) -> bool {
    let argon2 = text.starts_with('=') && text.contains(",t=");
    let bcrypt = matches!(text.as_bytes(), [b'a' | b'b' | b'y', b'0'..=b'9', rest @ ..]
        if rest.iter().any(|byte| b"./".contains(byte))
            && rest.iter().all(|byte| byte.is_ascii_alphanumeric() || b"./".contains(byte)));
    argon2 || bcrypt
}

/// Whether a text has a digest beside other text, as `sha256sum` and `openssl` print it.
pub(super) fn has_digest_beside_text(text: &str, digits: usize) -> bool {
    let mut words = text.split(|it: char| !it.is_ascii_hexdigit());
    words.any(|word| word.len() == digits) && text.len() > digits
}

/// The message about a file that cannot be read, with the path as it is written and as it is seen from
/// anywhere.
pub(super) fn unreadable_file(text: &str, path: &Path, reason: &str) -> String {
    if looks_like_token(text) {
        return "cannot read this file, whose name looks like a token and is not shown here; write \
                the token into a file, and here the path of that file"
            .to_owned();
    }
    let start = if Path::new(text).is_absolute() {
        ""
    } else {
        "; a relative path starts at the folder of the file that contains it"
    };
    format!("cannot read {}: {reason}{start}", path.display())
}

/// Whether a text is a token rather than the path of a file. Such a text is shown nowhere.
///
/// A path of that kind is then not shown either, which only makes a message less helpful.
pub(super) fn looks_like_token(text: &str) -> bool {
    let whole = !text.starts_with(['/', '.']) && is_random(text);
    whole || text.split('/').any(is_random)
}

/// Whether a text consists of the letters of base64 or hex, and is as mixed and as long as a token.
fn is_random(text: &str) -> bool {
    const LENGTH_MIN: usize = 20;
    let has = |class: fn(char) -> bool| text.contains(class);
    let mixed = has(|it| it.is_ascii_uppercase()) && has(|it| it.is_ascii_lowercase());
    let hex = !has(|it| !it.is_ascii_hexdigit());
    let base64 = !has(|it| !it.is_ascii_alphanumeric() && !"+/=_-".contains(it));
    text.len() >= LENGTH_MIN && base64 && has(|it| it.is_ascii_digit()) && (mixed || hex)
}
