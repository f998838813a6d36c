//! Checks `credentials`, with which a spoke or an operator proves who it is.
//!
//! Everything here handles secrets. Messages never quote a value, not even an invalid one: a token
//! that was pasted into the wrong place is still a token.

use std::time::{Duration, SystemTime};

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Params, Version};
use bcrypt::HashParts;
use sha2::{Digest, Sha256};

use super::certificate::certificate;
use super::entry::{Entry, Fields, UnknownKeys};
use super::jwt::jwt;
use super::visible::check_visible;
use super::{Check, absolute, advice, value};
use crate::config::errors::{Report, Reported};
use crate::config::{Credential, Secret, defaults};

/// The kinds that an operator can have, who scrapes or asks with curl.
pub(super) const ADMIN_KINDS: &[&str] = &["token_sha256", "token_file", "basic"];

/// Keys beside the kind.
const NOT_AFTER: &str = "not_after";
const CAPTURES: &str = "captures";

/// The keys of a credential.
pub(super) struct Keys {
    kinds: &'static [&'static str],
    /// What may stand beside the kind.
    beside: &'static [&'static str],
}

/// Those of a spoke.
pub(super) const OF_SPOKE: Keys = Keys {
    kinds: &["token_sha256", "token_file", "basic", "certificate", "jwt"],
    beside: &[NOT_AFTER],
};

/// Those of an operator.
pub(super) const OF_OPERATOR: Keys = Keys {
    kinds: ADMIN_KINDS,
    beside: &[NOT_AFTER, CAPTURES],
};

const BASIC_KEYS: &[&str] = &["username", "password_hash"];

/// Hex digits of a SHA-256.
const DIGEST_DIGITS: usize = 64;

/// Hex digits of a token's digest in the name of its credential. They are enough to find it in the
/// file, and useless to an attacker.
const NAME_DIGITS: usize = 8;

/// A token is looked up by its plain SHA-256, which only protects a token that cannot be guessed.
const TOKEN_CHARS_MIN: usize = 20;

/// Longer than any token. Few servers accept a longer header.
const TOKEN_FILE_BYTES_MAX: usize = 8 << 10;

const USERNAME_BYTES_MAX: usize = 128;

/// Memory of one verification, in KiB. A few at once must not exhaust the memory of the machine.
const ARGON2_MEMORY_KIB_MAX: u32 = 256 << 10;

/// Memory in KiB times passes of one verification, which keeps a core busy for some seconds.
const ARGON2_WORK_KIB_MAX: u64 = 1 << 20;

/// The shortest salt that argon2 allows.
const ARGON2_SALT_BYTES_MIN: usize = 8;

/// A verification at this cost keeps a core busy for about a second.
const BCRYPT_COST_MAX: u32 = 14;

/// The lowest cost that the algorithm allows.
const BCRYPT_COST_MIN: u32 = 4;

/// Whoever replaces credentials by hand needs some days.
const EXPIRES_SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// Checks a list of credentials with these keys. Without any, `nobody` says what would follow.
pub(super) fn credentials(
    check: &mut Check<'_>,
    list: &Entry<'_>,
    keys: &Keys,
    nobody: &str,
) -> Result<Vec<Credential>, Reported> {
    let items = list.items(&mut check.report)?;
    if items.is_empty() {
        return Err(list.fail(&mut check.report, nobody));
    }
    // Every item is checked before the first error is returned.
    let checked: Vec<_> = items
        .iter()
        .map(|item| credential(check, item, keys))
        .collect();
    checked.into_iter().collect()
}

fn credential(
    check: &mut Check<'_>,
    entry: &Entry<'_>,
    keys: &Keys,
) -> Result<Credential, Reported> {
    let all = [keys.kinds, keys.beside].concat();
    let fields = entry.fields(&mut check.report, UnknownKeys::Hidden, &all);
    let not_after = not_after(&mut check.report, &fields);
    let default = defaults::MAY_CAPTURE;
    let may_capture = fields.parse_or(&mut check.report, CAPTURES, may_capture, default);
    let (name, secret) = secret(check, &fields, keys)?;
    Ok(Credential {
        name,
        secret,
        not_after: not_after?,
        may_capture: may_capture?,
    })
}

fn may_capture(text: &str) -> Result<bool, String> {
    match text {
        "off" => Ok(false),
        "allow" => Ok(true),
        _ => Err("unknown value; allowed: off, allow".to_owned()),
    }
}

fn not_after(report: &mut Report, fields: &Fields<'_>) -> Result<Option<SystemTime>, Reported> {
    let Some(entry) = fields.get(NOT_AFTER) else {
        return Ok(None);
    };
    let time = entry.parse(report, |text| {
        humantime::parse_rfc3339(text)
            .map_err(|_| "is not a time in UTC; write it as 2027-01-31T00:00:00Z".to_owned())
    })?;
    match time.duration_since(SystemTime::now()) {
        Err(_) => {
            let message = "is in the past, so whoever sends this credential gets the response 401; \
                           replace the credential, or remove it";
            entry.warn(report, message);
        }
        Ok(left) if left < EXPIRES_SOON => {
            let days = EXPIRES_SOON.as_secs() / (24 * 3600);
            let message = format!(
                "is less than {days} days away; add another credential, and move the sender to it \
                 before"
            );
            entry.warn(report, message);
        }
        Ok(_) => {}
    }
    Ok(Some(time))
}

/// Checks the one kind among the fields of a credential. Returns the name of the credential as well.
fn secret(
    check: &mut Check<'_>,
    fields: &Fields<'_>,
    keys: &Keys,
) -> Result<(String, Secret), Reported> {
    let entry = fields.entry();
    let kinds = keys.kinds;
    let found = fields.found().iter();
    let found = found.filter(|(key, _)| kinds.contains(key));
    let found: Vec<_> = found.collect();
    match (found.as_slice(), fields.reported()) {
        ([], Some(reported)) => Err(reported),
        ([], None) => Err(entry.fail(
            &mut check.report,
            format!("contains no credential; give one of: {}", kinds.join(", ")),
        )),
        ([(kind, value)], _) => match *kind {
            "token_sha256" => token_digest(check, value),
            "token_file" => token_file(check, value),
            "basic" => basic(check, value),
            "certificate" => certificate(check, value),
            _ => jwt(check, value),
        },
        (several, _) => {
            let kinds: Vec<_> = several.iter().map(|(kind, _)| *kind).collect();
            let message = format!(
                "contains {} at once; give each its own item of the list",
                kinds.join(" and ")
            );
            Err(entry.fail(&mut check.report, message))
        }
    }
}

fn token_digest(check: &mut Check<'_>, entry: &Entry<'_>) -> Result<(String, Secret), Reported> {
    let digest = entry.parse(&mut check.report, parse_digest)?;
    let digits = entry.text(&mut check.report)?.to_ascii_lowercase();
    let name = format!("token_sha256:{}", &digits[..NAME_DIGITS]);
    token(check, entry, name, digest)
}

fn token_file(check: &mut Check<'_>, entry: &Entry<'_>) -> Result<(String, Secret), Reported> {
    let path_text = entry.text(&mut check.report)?;
    entry.parse(&mut check.report, |text| value::path(text).map(|_| ()))?;
    let path = entry.file.resolve(path_text);
    let digest = match check.sources.read(&path, TOKEN_FILE_BYTES_MAX) {
        Ok(content) => digest_token(&content)
            .map_err(|problem| format!("the file {} {problem}", absolute(&path).display())),
        Err(reason) => Err(advice::unreadable_file(
            path_text,
            &absolute(&path),
            &reason,
        )),
    };
    let digest = digest.map_err(|message| entry.fail(&mut check.report, message))?;
    token(check, entry, format!("token_file:{path_text}"), digest)
}

fn token(
    check: &mut Check<'_>,
    entry: &Entry<'_>,
    name: String,
    digest: [u8; 32],
) -> Result<(String, Secret), Reported> {
    check.unique.claim_token(&mut check.report, entry, digest)?;
    Ok((name, Secret::Token(digest)))
}

fn basic(check: &mut Check<'_>, entry: &Entry<'_>) -> Result<(String, Secret), Reported> {
    refuse_split_hash(&mut check.report, entry)?;
    let fields = entry.fields(&mut check.report, UnknownKeys::Hidden, BASIC_KEYS);
    let username = username(check, &fields);
    let password_hash =
        fields.parse_required(&mut check.report, "password_hash", parse_password_hash);
    let username = username?;
    let name = format!("basic:{username}");
    let secret = Secret::Basic {
        username,
        password_hash: password_hash?,
    };
    Ok((name, secret))
}

/// Refuses an argon2 hash that ends at its first comma, since what follows became keys of their own.
/// Errors about those would hide what is wrong.
fn refuse_split_hash(report: &mut Report, entry: &Entry<'_>) -> Result<(), Reported> {
    let is_rest = |key: &str| key.starts_with("t=") || key.starts_with("p=");
    match entry.peek("password_hash") {
        Some(hash) if entry.keys().any(is_rest) => Err(hash.fail(report, advice::SPLIT_HASH)),
        _ => Ok(()),
    }
}

fn username(check: &mut Check<'_>, fields: &Fields<'_>) -> Result<String, Reported> {
    let entry = fields.require(&mut check.report, "username")?;
    let username = entry.parse(&mut check.report, parse_username)?;
    check
        .unique
        .claim_username(&mut check.report, entry, &username)?;
    Ok(username)
}

/// Parses a user name of HTTP basic authentication.
pub(super) fn parse_username(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > USERNAME_BYTES_MAX {
        return Err(format!("must have 1 to {USERNAME_BYTES_MAX} bytes"));
    }
    if text.contains(':') {
        return Err("must not contain a colon".to_owned());
    }
    check_visible(text)?;
    Ok(text.to_owned())
}

fn parse_digest(text: &str) -> Result<[u8; 32], String> {
    let wanted = "is not a SHA-256 in 64 hex digits; `hubgate token` prints a token and its digest";
    if advice::has_digest_beside_text(text, DIGEST_DIGITS) {
        return Err(format!(
            "has a text beside the digest; keep only the {DIGEST_DIGITS} hex digits"
        ));
    }
    let digits: Option<Vec<u8>> = text.chars().map(hex_digit).collect();
    let digits = digits.filter(|digits| digits.len() == DIGEST_DIGITS);
    let digits = digits.ok_or(wanted)?;
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair.iter().fold(0, |value, digit| value << 4 | digit);
    }
    // What `printf %s "$UNSET" | sha256sum` and `echo $UNSET | sha256sum` give.
    if [&b""[..], b"\n"]
        .iter()
        .any(|nothing| sha256(nothing) == digest)
    {
        return Err("is the SHA-256 of an empty text, not of a token".to_owned());
    }
    Ok(digest)
}

fn hex_digit(digit: char) -> Option<u8> {
    digit
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// Digests the token in the content of a file. The error continues "the file PATH".
fn digest_token(content: &[u8]) -> Result<[u8; 32], String> {
    let token = content.trim_ascii();
    if token.is_empty() {
        return Err("is empty; put a token into it (`hubgate token` makes one)".to_owned());
    }
    if !token.iter().all(u8::is_ascii_graphic) {
        return Err("is not one word of ASCII; put only the token into it".to_owned());
    }
    if token.len() < TOKEN_CHARS_MIN {
        return Err(format!(
            "has a token of fewer than {TOKEN_CHARS_MIN} characters, which can be guessed; make \
             one with `hubgate token`"
        ));
    }
    Ok(sha256(token))
}

/// Accepts a hash that can be verified at an acceptable cost.
fn parse_password_hash(text: &str) -> Result<String, String> {
    if let Some(advice) = advice::unusable_hash(text) {
        return Err(advice.to_owned());
    }
    if text.starts_with("$argon2") {
        check_argon2(text)?;
    } else if text.starts_with("$2") {
        check_bcrypt(text)?;
    } else {
        let wanted = "wanted argon2 ($argon2id$...) or bcrypt ($2a$, $2b$, $2y$)";
        return Err(format!(
            "is not a password hash; {wanted}, such as `hubgate hash-password` prints"
        ));
    }
    Ok(text.to_owned())
}

fn check_argon2(text: &str) -> Result<(), String> {
    let incomplete =
        "is not a complete argon2 hash; wanted $argon2id$v=19$m=...,t=...,p=...$SALT$HASH";
    let hash = PasswordHash::new(text).map_err(|_| incomplete)?;
    Algorithm::try_from(hash.algorithm.as_str()).map_err(|_| incomplete)?;
    if let Some(version) = hash.version {
        Version::try_from(version).map_err(|_| incomplete)?;
    }
    let salt = hash.salt.as_ref().ok_or(incomplete)?;
    if salt.len() < ARGON2_SALT_BYTES_MIN || hash.hash.is_none() {
        return Err(incomplete.to_owned());
    }
    let params = Params::try_from(&hash).map_err(|_| incomplete)?;
    let work = u64::from(params.m_cost()) * u64::from(params.t_cost());
    if params.m_cost() > ARGON2_MEMORY_KIB_MAX || work > ARGON2_WORK_KIB_MAX {
        return Err(format!(
            "costs too much to verify; allowed: memory m up to {ARGON2_MEMORY_KIB_MAX} (KiB), and \
             m times passes t up to {ARGON2_WORK_KIB_MAX}"
        ));
    }
    Ok(())
}

fn check_bcrypt(text: &str) -> Result<(), String> {
    let incomplete = "is not a complete bcrypt hash; wanted 60 characters that begin with $2a$, $2b$ \
                  or $2y$";
    let parts: HashParts = text.parse().map_err(|_| incomplete)?;
    if text.starts_with("$2x$") {
        return Err(incomplete.to_owned());
    }
    if !(BCRYPT_COST_MIN..=BCRYPT_COST_MAX).contains(&parts.get_cost()) {
        return Err(format!(
            "has a cost out of range; allowed: {BCRYPT_COST_MIN} to {BCRYPT_COST_MAX}"
        ));
    }
    Ok(())
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}
