//! Checks a credential that is a JSON Web Token.
//!
//! Messages quote no value: a token may be pasted in the place of each.

use std::sync::Arc;

use super::entry::{Entry, Fields, UnknownKeys};
use super::visible::check_visible;
use super::{Check, absolute, advice, value};
use crate::config::errors::Reported;
use crate::config::{Jwt, JwtKeys, KeysPlace, KeysUrl, Secret};
use crate::jwt::{Algorithm, KEY_SET_BYTES_MAX, KeySet};
use crate::tls::{Authorities, ClientTls};

const KEYS: &[&str] = &[
    "issuer",
    "audience",
    "subject",
    "algorithms",
    "jwks_file",
    "jwks_url",
    "discovery",
    "jwks_ca_file",
];

/// The keys of which one says where the keys of the issuer are.
const SOURCES: &[&str] = &["jwks_file", "jwks_url", "discovery"];

/// The longest claim that is compared, in bytes. A token with a longer one is too long itself.
const CLAIM_BYTES_MAX: usize = 1024;

/// The longest file of certificates. A bundle of all public authorities takes 250 KiB.
const CA_FILE_BYTES_MAX: usize = 1 << 20;

/// The algorithms of Kubernetes API servers, and of most other issuers.
const ALGORITHMS: [Algorithm; 2] = [Algorithm::Rs256, Algorithm::Es256];

/// Checks the value of `jwt`, and returns the name of the credential as well.
pub(super) fn jwt(check: &mut Check<'_>, entry: &Entry<'_>) -> Result<(String, Secret), Reported> {
    let fields = entry.fields(&mut check.report, UnknownKeys::Hidden, KEYS);
    let issuer = fields.parse_required(&mut check.report, "issuer", claim);
    let audience = fields.parse_required(&mut check.report, "audience", claim);
    let subject = fields.parse_required(&mut check.report, "subject", claim);
    let algorithms = algorithms(check, &fields);
    let keys = keys(check, &fields);
    if let Some(reported) = fields.reported() {
        return Err(reported);
    }
    let (issuer, audience, subject) = (issuer?, audience?, subject?);
    let identity = [&*issuer, &*audience, &*subject];
    check.unique.claim_jwt(&mut check.report, entry, identity)?;
    let name = format!("jwt:{subject}");
    let jwt = Jwt {
        issuer,
        audience,
        subject,
        algorithms: algorithms?,
        keys: keys?,
    };
    Ok((name, Secret::Jwt(Box::new(jwt))))
}

fn claim(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > CLAIM_BYTES_MAX {
        return Err(format!("must have 1 to {CLAIM_BYTES_MAX} bytes"));
    }
    check_visible(text)?;
    Ok(text.to_owned())
}

fn algorithms(check: &mut Check<'_>, fields: &Fields<'_>) -> Result<Vec<Algorithm>, Reported> {
    let Some(list) = fields.get("algorithms") else {
        return Ok(ALGORITHMS.to_vec());
    };
    let items = list.items(&mut check.report)?;
    if items.is_empty() {
        let message = "is empty, so no token could be good; leave the key out for RS256 and ES256";
        return Err(list.fail(&mut check.report, message));
    }
    let items = items.iter();
    let checked: Vec<_> = items
        .map(|item| item.parse(&mut check.report, algorithm))
        .collect();
    checked.into_iter().collect()
}

fn algorithm(text: &str) -> Result<Algorithm, String> {
    Algorithm::named(text).ok_or_else(|| {
        let allowed = Algorithm::ALL.map(Algorithm::name).join(", ");
        let fault = match text {
            "HS256" | "HS384" | "HS512" => "has no public key, so whoever checks could also sign",
            "none" => "is no signature",
            _ => "is not an algorithm of signatures that is supported",
        };
        format!("{fault}; allowed: {allowed}")
    })
}

/// Checks `jwks_file`, `jwks_url` and `discovery`, of which exactly one must be given.
fn keys(check: &mut Check<'_>, fields: &Fields<'_>) -> Result<JwtKeys, Reported> {
    let given: Vec<_> = fields
        .found()
        .iter()
        .filter(|(name, _)| SOURCES.contains(name))
        .collect();
    match given[..] {
        [("jwks_file", entry)] => {
            refuse_ca(check, fields, "jwks_file")?;
            keys_file(check, entry)
        }
        [("jwks_url", entry)] => {
            let url = entry.parse(&mut check.report, KeysUrl::parse)?;
            place(check, fields, entry, url, None)
        }
        [(_, entry)] => {
            entry.parse(&mut check.report, is_true)?;
            let issuer = fields.require(&mut check.report, "issuer")?;
            let url = issuer.parse(&mut check.report, |issuer| {
                KeysUrl::of_metadata(issuer).map_err(|fault| {
                    format!("with discovery, the issuer is a URL, and this one {fault}")
                })
            })?;
            let name = issuer.text(&mut check.report)?.to_owned();
            place(check, fields, entry, url, Some(name))
        }
        [] => Err(fields.reported().unwrap_or_else(|| {
            let message = "has no keys of the issuer; give one of: jwks_file, jwks_url, \
                           discovery: true";
            fields.entry().fail(&mut check.report, message)
        })),
        [_, (name, second), ..] => {
            let message = format!(
                "{name} is given beside {}; the keys of an issuer are in one place",
                given[0].0
            );
            Err(second.fail(&mut check.report, message))
        }
    }
}

fn is_true(text: &str) -> Result<(), String> {
    match text {
        "true" => Ok(()),
        _ => Err("write true, or leave the key out and give jwks_file or jwks_url".to_owned()),
    }
}

/// Checks a place that keys are fetched from. `entry` is the key that names it.
fn place(
    check: &mut Check<'_>,
    fields: &Fields<'_>,
    entry: &Entry<'_>,
    url: KeysUrl,
    issuer: Option<String>,
) -> Result<JwtKeys, Reported> {
    let tls = if url.is_https() {
        Some(tls(check, fields, entry)?)
    } else {
        refuse_ca(check, fields, "http://")?;
        None
    };
    let place = KeysPlace { url, issuer, tls };
    check
        .unique
        .claim_keys_place(&mut check.report, entry, &place)?;
    Ok(JwtKeys::Remote(Box::new(place)))
}

/// The TLS of connections to a place, with the authorities of `jwks_ca_file` or of the system.
fn tls(
    check: &mut Check<'_>,
    fields: &Fields<'_>,
    entry: &Entry<'_>,
) -> Result<ClientTls, Reported> {
    let (entry, authorities) = match fields.get("jwks_ca_file") {
        None => {
            let message = "no certificate authority is installed on this system; give one in \
                           jwks_ca_file";
            let authorities = check.sources.system_authorities();
            (entry, authorities.ok_or_else(|| message.to_owned()))
        }
        Some(entry) => {
            let (path, content) = read(check, entry, CA_FILE_BYTES_MAX)?;
            let authorities = Authorities::from_pem(&content);
            let authorities = authorities.map_err(|fault| format!("the file {path} {fault}"));
            (entry, authorities)
        }
    };
    let tls = authorities.and_then(|authorities| {
        ClientTls::new(&authorities, None).map_err(|fault| fault.to_string())
    });
    tls.map_err(|message| entry.fail(&mut check.report, message))
}

fn refuse_ca(check: &mut Check<'_>, fields: &Fields<'_>, beside: &str) -> Result<(), Reported> {
    match fields.get("jwks_ca_file") {
        None => Ok(()),
        Some(ca) => {
            let message = format!("has no effect with {beside}; leave it out");
            Err(ca.fail(&mut check.report, message))
        }
    }
}

fn keys_file(check: &mut Check<'_>, entry: &Entry<'_>) -> Result<JwtKeys, Reported> {
    let (path, content) = read(check, entry, KEY_SET_BYTES_MAX)?;
    let keys = KeySet::parse(&content).map_err(|fault| {
        let message = format!("the file {path} {fault}");
        entry.fail(&mut check.report, message)
    })?;
    if keys.skipped() > 0 {
        let message = format!(
            "of the file {path}, {} of {} keys cannot verify a signature and are skipped",
            keys.skipped(),
            keys.skipped() + keys.len()
        );
        entry.warn(&mut check.report, message);
    }
    Ok(JwtKeys::File(Arc::new(keys)))
}

/// Reads the file that an entry names, and returns its path for messages as well.
fn read(
    check: &mut Check<'_>,
    entry: &Entry<'_>,
    bytes_max: usize,
) -> Result<(String, Vec<u8>), Reported> {
    let text = entry.text(&mut check.report)?;
    entry.parse(&mut check.report, |text| value::path(text).map(|_| ()))?;
    let path = entry.file.resolve(text);
    let content = check.sources.read(&path, bytes_max).map_err(|reason| {
        let message = advice::unreadable_file(text, &absolute(&path), &reason);
        entry.fail(&mut check.report, message)
    })?;
    Ok((absolute(&path).display().to_string(), content))
}
