//! A token: what it says of itself, and whether a key signed it.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Algorithm, KeySet};

/// How far the clocks of an issuer and of hubgate may be apart.
pub const LEEWAY: Duration = Duration::from_secs(30);

/// The most signature checks for one token. A token that names its key takes one.
const CHECKS_MAX: usize = 16;

/// The bytes are not a token that can be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// They are not three parts of base64url, the first two of them JSON objects.
    #[error("is not a JWT in compact form")]
    Form,
    /// The header lists extensions that must be understood, and none are.
    #[error("has the header crit, and no extension is supported")]
    Critical,
    /// There is no `exp`, so it would be valid for ever.
    #[error("has no exp")]
    NoExpiry,
}

/// Why a token is not known to be from its issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotSigned {
    /// Its algorithm is not allowed.
    Algorithm,
    /// No key that it may name fits its signature.
    Signature,
}

/// A token that was taken apart. Nothing in it is proved before [`Token::check_signature`] says so.
#[derive(Debug)]
pub struct Token<'t> {
    header: Header,
    claims: Claims,
    /// What is signed.
    message: &'t str,
    signature: &'t str,
}

/// The part of a header that is read. `jwk`, `jku`, `x5u` and `x5c` are not.
#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
}

/// The part of the claims that is read. Each stands at most once, or the token is refused.
#[derive(Debug, Deserialize)]
struct Claims {
    iss: Option<String>,
    sub: Option<String>,
    aud: Option<Audience>,
    exp: Option<f64>,
    nbf: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl<'t> Token<'t> {
    /// Whether a text has the form of a token: three parts, the first one a JSON object in base64url.
    pub fn has_form(text: &str) -> bool {
        parts(text).is_some_and(|[header, ..]| decode(header).is_some_and(|it| is_object(&it)))
    }

    /// Takes a text apart.
    pub fn parse(text: &'t str) -> Result<Self, Malformed> {
        let [header, claims, signature] = parts(text).ok_or(Malformed::Form)?;
        let message = &text[..header.len() + 1 + claims.len()];
        let header: Header = object(header).ok_or(Malformed::Form)?;
        let claims: Claims = object(claims).ok_or(Malformed::Form)?;
        if header.crit.is_some() {
            return Err(Malformed::Critical);
        }
        if claims.exp.is_none() {
            return Err(Malformed::NoExpiry);
        }
        Ok(Self {
            header,
            claims,
            message,
            signature,
        })
    }

    /// `iss`: who says that they issued it.
    pub fn issuer(&self) -> Option<&str> {
        self.claims.iss.as_deref()
    }

    /// `sub`: whom it is about.
    pub fn subject(&self) -> Option<&str> {
        self.claims.sub.as_deref()
    }

    /// Whether `aud` names this audience.
    pub fn is_for(&self, audience: &str) -> bool {
        match &self.claims.aud {
            None => false,
            Some(Audience::One(one)) => one == audience,
            Some(Audience::Several(several)) => several.iter().any(|one| one == audience),
        }
    }

    /// `kid`: the ID of the key that signed it.
    pub fn key_id(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// The time from which on it is refused, since the Unix epoch: `exp` and the [`LEEWAY`].
    pub fn refused_from(&self) -> Duration {
        let expiry = self.claims.exp.map_or(Duration::ZERO, since_epoch);
        expiry.saturating_add(LEEWAY)
    }

    /// Whether `nbf` is still to come at a time since the Unix epoch, by more than the [`LEEWAY`].
    pub fn is_early(&self, now: Duration) -> bool {
        let not_before = self.claims.nbf.map_or(Duration::ZERO, since_epoch);
        not_before > now.saturating_add(LEEWAY)
    }

    /// Checks that one of the keys signed it by one of the algorithms.
    pub fn check_signature(&self, keys: &KeySet, allowed: &[Algorithm]) -> Result<(), NotSigned> {
        let algorithm = Algorithm::named(&self.header.alg);
        let algorithm = algorithm.filter(|algorithm| allowed.contains(algorithm));
        let algorithm = algorithm.ok_or(NotSigned::Algorithm)?;
        let mut keys = keys.for_token(self.key_id(), algorithm).take(CHECKS_MAX);
        let signed = keys.any(|key| {
            let message = self.message.as_bytes();
            let algorithm = algorithm.implemented();
            let fits = jsonwebtoken::crypto::verify(self.signature, message, &key.key, algorithm);
            fits.unwrap_or(false)
        });
        signed.then_some(()).ok_or(NotSigned::Signature)
    }
}

/// The three parts of a token in compact form, none of them empty.
fn parts(text: &str) -> Option<[&str; 3]> {
    let (header, rest) = text.split_once('.')?;
    let (claims, signature) = rest.split_once('.')?;
    let parts = [header, claims, signature];
    let filled = parts.iter().all(|part| !part.is_empty());
    (filled && !signature.contains('.')).then_some(parts)
}

/// The value of a part that holds a JSON object. A list would be read as a struct by its places.
fn object<T: for<'d> Deserialize<'d>>(part: &str) -> Option<T> {
    let json = decode(part)?;
    is_object(&json).then(|| serde_json::from_slice(&json).ok())?
}

fn is_object(json: &[u8]) -> bool {
    json.trim_ascii_start().starts_with(b"{")
}

fn decode(part: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(part).ok()
}

/// A NumericDate (RFC 7519 section 2), which may have a fraction. One before the epoch counts as the
/// epoch, and one that no clock reaches as the end of time.
fn since_epoch(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}
