//! Identifies the spoke that sends a request, from its headers or from the certificate of its
//! connection, before a byte of the body is read. The address of the sender proves nothing; it only
//! keeps password checks fair.
//!
//! What a credential proves is no business of the schemes: to them, a credential is its `Place`. So an
//! [`Authenticator`] of spokes and one of operators are the same code.
//!
//! Each scheme has its own file. A new one needs
//! 1. a file here, a field of [`Authenticator`], and an arm in `new` and in `find`; a second kind
//!    of bearer token is told apart from the opaque ones there,
//! 2. a variant of [`Secret`] in `config.rs`, its key in `config/check/credential.rs`, and a check in
//!    `config/check/unique.rs` that no two spokes share what identifies them,
//! 3. its advice in `reasons/auth_failure.rs` ([`AuthFailure`]) and its challenge in [`challenges`],
//! 4. its key and a section in `docs/configuration.md`; what it reads in the background is started by
//!    `gateway.rs`, as for the keys of [`jwks`].
//!
//! The values held here identify spokes, so `Debug` shows none of them.
//!
//! [`jwks`]: crate::jwks

mod basic;
mod certificate;
mod failures;
mod guesses;
mod jwt;
mod line;
mod passwords;
#[cfg(test)]
mod tests;
mod token;
mod verified;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use crate::config::{self, Credential, Secret};
use crate::jwks::{Source, Unavailable};
use crate::reasons::AuthFailure;
use crate::spoke::Spoke;
use crate::tls::ClientCertificate;

use basic::Users;
use certificate::Certificates;
use jwt::Jwts;
use token::Tokens;

pub use guesses::{Delay, Guesses};
pub use passwords::Passwords;

/// What a response 401 asks for, each in a `WWW-Authenticate` header. It also says whether the bearer
/// token that came is not valid (RFC 6750 section 3.1).
pub fn challenges(invalid_token: bool) -> [HeaderValue; 2] {
    let bearer = if invalid_token {
        "Bearer realm=\"hubgate\", error=\"invalid_token\""
    } else {
        "Bearer realm=\"hubgate\""
    };
    [bearer, "Basic realm=\"hubgate\""].map(HeaderValue::from_static)
}

/// The longest Authorization header that is read, in bytes.
const HEADER_BYTES_MAX: usize = 4096;

/// A spoke, and which of its credentials proved it.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The spoke.
    pub spoke: Arc<Spoke>,
    /// The place of the credential among those of the spoke, in the order of the configuration.
    pub credential: usize,
}

impl Identity {
    /// The credentials of a spoke, each with what it proves.
    pub fn each<'c>(
        config: &'c config::Spoke,
        spoke: &'c Arc<Spoke>,
    ) -> impl Iterator<Item = (Self, &'c Credential)> {
        let credentials = config.credentials.iter().enumerate();
        credentials.map(|(place, credential)| {
            let identity = Self {
                spoke: Arc::clone(spoke),
                credential: place,
            };
            (identity, credential)
        })
    }
}

/// Why a sender is not identified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotIdentified {
    /// Too many password checks wait, so it is not known yet who sends.
    #[error("too many passwords wait to be checked; try again")]
    Busy,
    /// The credential was that of a spoke, and has expired by the clock here.
    #[error("{}", AuthFailure::Expired.advice())]
    Expired,
    /// A check panicked, so it is not known who sends.
    #[error("a credential could not be checked")]
    Internal,
    /// The keys that judge a JWT are not known, so it is not known yet who sends.
    #[error(
        "the keys that judge this JWT could not be fetched yet; try again (the log of hubgate says \
         more)"
    )]
    KeysUnavailable,
    /// A JWT is valid from a later time on, so it is good when it comes again.
    #[error(
        "the nbf of the JWT is still to come; try again, and set the clocks of its issuer and of \
         hubgate"
    )]
    NotYetValid,
    /// The credential proves no spoke.
    #[error("{}", .0.advice())]
    Unauthenticated(AuthFailure),
}

impl NotIdentified {
    /// What was wrong with the credential, if something was.
    pub fn failure(self) -> Option<AuthFailure> {
        match self {
            Self::Expired => Some(AuthFailure::Expired),
            Self::Unauthenticated(failure) => Some(failure),
            Self::Busy | Self::Internal | Self::KeysUnavailable | Self::NotYetValid => None,
        }
    }
}

impl From<AuthFailure> for NotIdentified {
    fn from(failure: AuthFailure) -> Self {
        Self::Unauthenticated(failure)
    }
}

impl From<Unavailable> for NotIdentified {
    fn from(_: Unavailable) -> Self {
        Self::KeysUnavailable
    }
}

/// A credential of an authenticator: its place in the order in which they were given.
type Place = usize;

/// What a credential proves.
pub trait Proven: Clone {
    /// Whether two credentials prove the same sender.
    fn is_same(&self, other: &Self) -> bool;
}

impl Proven for Identity {
    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.spoke, &other.spoke)
    }
}

/// An operator, by the credential.
#[derive(Debug, Clone)]
pub struct Operator(pub Arc<Credential>);

impl Proven for Operator {
    /// Only of certificates and JWTs several can match, and operators have none.
    fn is_same(&self, _: &Self) -> bool {
        true
    }
}

/// The credentials of one configuration that are valid for the same requests, and what each of them
/// proves.
pub struct Authenticator<P> {
    certificates: Certificates,
    jwts: Jwts,
    tokens: Tokens,
    users: Users,
    known: Vec<Known<P>>,
}

/// A credential, whatever its scheme.
struct Known<P> {
    proven: P,
    not_after: Option<SystemTime>,
}

impl<P> Known<P> {
    fn has_expired(&self) -> bool {
        self.not_after.is_some_and(|end| end < SystemTime::now())
    }
}

impl<P: Proven> Authenticator<P> {
    /// Takes credentials, each with what it proves, and the sources of the keys that they name. A
    /// password that `passwords` have checked before a reload is not checked again. Fails when the
    /// system has no random bytes.
    pub fn new<'c>(
        credentials: impl Iterator<Item = (P, &'c Credential)>,
        sources: &[Arc<Source>],
        passwords: &Arc<Passwords>,
    ) -> Result<Self, getrandom::Error> {
        let mut authenticator = Self {
            certificates: Certificates::default(),
            jwts: Jwts::new()?,
            tokens: Tokens::default(),
            users: Users::new(passwords),
            known: Vec::new(),
        };
        for (proven, credential) in credentials {
            let place = authenticator.known.len();
            match &credential.secret {
                Secret::Certificate(name) => authenticator.certificates.insert(name, place),
                Secret::Jwt(jwt) => authenticator.jwts.insert(jwt, sources, place),
                Secret::Token(digest) => authenticator.tokens.insert(*digest, place),
                Secret::Basic {
                    username,
                    password_hash,
                } => authenticator.users.insert(username, password_hash, place),
            }
            authenticator.known.push(Known {
                proven,
                not_after: credential.not_after,
            });
        }
        Ok(authenticator)
    }

    /// Returns what the headers of a request from an address prove. Without an Authorization header,
    /// the certificate of the client decides. With one it has no say: what somebody sends for a
    /// request is more specific than what it sends for all.
    pub async fn identify(
        &self,
        headers: &HeaderMap,
        certificate: Option<&ClientCertificate>,
        address: IpAddr,
    ) -> Result<P, NotIdentified> {
        let place = if let Some(certificate) = certificate
            && !headers.contains_key(AUTHORIZATION)
        {
            self.find_certificate(certificate)?
        } else {
            self.find(headers, address).await?
        };
        let known = &self.known[place];
        if known.has_expired() {
            return Err(NotIdentified::Expired);
        }
        Ok(known.proven.clone())
    }

    /// Returns a credential that a certificate has, one that has not expired if there is any. One that
    /// has names of several senders proves none of them.
    fn find_certificate(&self, certificate: &ClientCertificate) -> Result<Place, AuthFailure> {
        let places: Vec<Place> = self.certificates.find(certificate).collect();
        let [first, others @ ..] = &places[..] else {
            return Err(AuthFailure::UnknownCertificate);
        };
        let proven = |place: &Place| &self.known[*place].proven;
        if others.iter().any(|it| !proven(it).is_same(proven(first))) {
            return Err(AuthFailure::AmbiguousCertificate);
        }
        let mut places = places.iter();
        let valid = places.find(|place| !self.known[**place].has_expired());
        Ok(*valid.unwrap_or(first))
    }

    /// Returns the credential that the sender has.
    async fn find(&self, headers: &HeaderMap, address: IpAddr) -> Result<Place, NotIdentified> {
        let (scheme, credential) = authorization(headers)?;
        if scheme.eq_ignore_ascii_case("bearer") {
            self.find_bearer(credential).await
        } else if scheme.eq_ignore_ascii_case("basic") {
            self.users.find(credential, address).await
        } else {
            Err(AuthFailure::Malformed.into())
        }
    }

    /// Returns the credential that a bearer token is. A token that a spoke has as it stands is that
    /// spoke's, whatever form it has.
    async fn find_bearer(&self, token: &str) -> Result<Place, NotIdentified> {
        if let Some(place) = self.jwts.remembered(token) {
            return Ok(place);
        }
        match self.tokens.find(token) {
            Err(AuthFailure::Unknown) if self.jwts.takes(token) => {
                let proven = |place: Place| &self.known[place].proven;
                let is_same = |one, other| proven(one).is_same(proven(other));
                self.jwts.find(token, is_same).await
            }
            found => Ok(found?),
        }
    }
}

impl<P> fmt::Debug for Authenticator<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator")
            .field("certificates", &Vec::from_iter(self.certificates.names()))
            .field("tokens", &self.tokens.len())
            .field("users", &Vec::from_iter(self.users.names()))
            .field("jwts", &self.jwts.len())
            .finish_non_exhaustive()
    }
}

/// The scheme and the credential of the one Authorization header (RFC 9110 section 11.6.2).
fn authorization(headers: &HeaderMap) -> Result<(&str, &str), AuthFailure> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(AuthFailure::Missing)?;
    if values.next().is_some() || value.len() > HEADER_BYTES_MAX {
        return Err(AuthFailure::Malformed);
    }
    let value = value.to_str().map_err(|_| AuthFailure::Malformed)?.trim();
    let (scheme, credential) = value.split_once(' ').ok_or(AuthFailure::Malformed)?;
    Ok((scheme, credential.trim()))
}
