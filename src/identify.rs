//! Identifies the spoke that sends a request, from its headers or from the certificate of its
//! connection, before a byte of the body is read. The address of the sender proves nothing; it only keeps password checks fair.
//!
//! Each scheme has its own file. A new one needs
//! 1. a file here, a field of [`Authenticator`], and an arm in `new` and in `identify`; a second kind
//!    of bearer token is told apart from the opaque ones there,
//! 2. a variant of [`Secret`] in `config.rs`, its key in `config/check/credential.rs`, and a check in
//!    `config/check/unique.rs` that no two spokes share what identifies them,
//! 3. its advice in `reasons.rs` ([`AuthFailure`]) and its challenge in `write/respond.rs`,
//! 4. its key and a section in `docs/configuration.md`; what it reads in the background is started by
//!    `gateway.rs`.
//!
//! The values held here identify spokes, so `Debug` shows none of them.

mod basic;
mod certificate;
mod line;
mod passwords;
#[cfg(test)]
mod tests;
mod token;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::config::Secret;
use crate::reasons::AuthFailure;
use crate::spoke::Spoke;
use crate::tls::ClientCertificate;

use basic::Users;
use certificate::Certificates;
use token::Tokens;

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

/// Why a sender is not identified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotIdentified {
    /// Too many password checks wait, so it is not known yet who sends.
    #[error("too many passwords wait to be checked; try again")]
    Busy,
    /// A check panicked, so it is not known who sends.
    #[error("a credential could not be checked")]
    Internal,
    /// The credential proves no spoke.
    #[error("{}", .0.advice())]
    Unauthenticated(AuthFailure),
}

impl From<AuthFailure> for NotIdentified {
    fn from(failure: AuthFailure) -> Self {
        Self::Unauthenticated(failure)
    }
}

/// The credentials of one configuration.
pub struct Authenticator {
    certificates: Certificates,
    tokens: Tokens,
    users: Users,
}

impl Authenticator {
    /// Takes the credentials of the spokes, each with its secret and its place in the order of the
    /// configuration. Passwords that the authenticator `before` a reload has checked need not be
    /// checked again. Fails when the system has no random bytes.
    pub fn new<'s>(
        spokes: impl Iterator<Item = (&'s Arc<Spoke>, &'s Secret, usize)>,
        before: Option<&Self>,
    ) -> Result<Self, getrandom::Error> {
        let mut certificates = Certificates::default();
        let mut tokens = Tokens::default();
        let mut users = Users::new(before.map(|before| &before.users))?;
        for (spoke, secret, credential) in spokes {
            let identity = Identity {
                spoke: Arc::clone(spoke),
                credential,
            };
            match secret {
                Secret::Certificate(name) => certificates.insert(name, identity),
                Secret::Token(digest) => tokens.insert(*digest, identity),
                Secret::Basic {
                    username,
                    password_hash,
                } => users.insert(username, password_hash, identity),
            }
        }
        Ok(Self {
            certificates,
            tokens,
            users,
        })
    }

    /// Returns the spoke that the headers of a request from an address prove, and by which
    /// credential. Without an Authorization header, the certificate of the client decides. With one it
    /// has no say: what somebody sends for a request is more specific than what it sends for all.
    pub async fn identify(
        &self,
        headers: &HeaderMap,
        certificate: Option<&ClientCertificate>,
        address: IpAddr,
    ) -> Result<Identity, NotIdentified> {
        if let Some(certificate) = certificate
            && !headers.contains_key(AUTHORIZATION)
        {
            return Ok(self.certificates.identify(certificate)?);
        }
        let (scheme, credential) = authorization(headers)?;
        if scheme.eq_ignore_ascii_case("bearer") {
            Ok(self.tokens.identify(credential)?)
        } else if scheme.eq_ignore_ascii_case("basic") {
            self.users.identify(credential, address).await
        } else {
            Err(AuthFailure::Malformed.into())
        }
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator")
            .field("certificates", &Vec::from_iter(self.certificates.names()))
            .field("tokens", &self.tokens.len())
            .field("users", &Vec::from_iter(self.users.names()))
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
