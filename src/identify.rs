//! Who sends: from the headers alone, before a byte of the body is read.
//!
//! Tokens are looked up by their SHA-256, so the time of a look-up says nothing about a token.
//! Passwords are checked in `passwords`, for users that do not exist as for those that do. What
//! is held here identifies spokes, so nothing of it is ever shown.

mod passwords;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};

use crate::config::Secret;
use crate::reasons::AuthFailure;
use crate::spoke::Spoke;

use passwords::Passwords;

/// Longest Authorization header that is looked at, in bytes.
const HEADER_BYTES_MAX: usize = 4096;

/// A spoke and which of its credentials proved it, by place in the configuration.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The spoke.
    pub spoke: Arc<Spoke>,
    /// Place of the credential among the spoke's.
    pub credential: usize,
}

/// Why a sender is not identified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotIdentified {
    /// Too many password checks wait, so nobody knows yet who sends.
    #[error("too many passwords wait to be checked; try again")]
    Busy,
    /// A check panicked, so nobody knows who sends.
    #[error("a credential could not be checked")]
    Internal,
    /// No spoke is proved by the credential.
    #[error("{}", .0.advice())]
    Unauthenticated(AuthFailure),
}

/// The credentials of one configuration.
pub struct Authenticator {
    tokens: HashMap<[u8; 32], Identity>,
    users: HashMap<String, (Arc<str>, Identity)>,
    /// The hashes of all users, of which one is checked when a user is unknown.
    decoys: Vec<Arc<str>>,
    /// Goes on over reloads.
    passwords: Arc<Passwords>,
}

impl Authenticator {
    /// Takes the credentials of the spokes, each with its secrets in the order of the
    /// configuration. The passwords that were checked before a reload need not be checked again.
    /// Fails when the system has no random bytes.
    pub fn new<'s>(
        spokes: impl Iterator<Item = (&'s Arc<Spoke>, &'s Secret, usize)>,
        before: Option<&Self>,
    ) -> Result<Self, getrandom::Error> {
        let (mut tokens, mut users) = (HashMap::new(), HashMap::new());
        let mut decoys: Vec<Arc<str>> = Vec::new();
        for (spoke, secret, credential) in spokes {
            let identity = Identity {
                spoke: Arc::clone(spoke),
                credential,
            };
            match secret {
                Secret::Token(digest) => {
                    tokens.insert(*digest, identity);
                }
                Secret::Basic {
                    username,
                    password_hash,
                } => {
                    let hash: Arc<str> = password_hash.as_str().into();
                    decoys.push(Arc::clone(&hash));
                    users.insert(username.clone(), (hash, identity));
                }
            }
        }
        let passwords = match before {
            Some(before) => Arc::clone(&before.passwords),
            None => Passwords::new()?,
        };
        Ok(Self {
            tokens,
            users,
            decoys,
            passwords,
        })
    }

    /// Says which spoke sends.
    pub async fn identify(&self, headers: &HeaderMap) -> Result<Identity, NotIdentified> {
        let refuse = |failure| NotIdentified::Unauthenticated(failure);
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next().ok_or(refuse(AuthFailure::Missing))?;
        if values.next().is_some() || value.len() > HEADER_BYTES_MAX {
            return Err(refuse(AuthFailure::Malformed));
        }
        let (scheme, secret) = value
            .to_str()
            .ok()
            .and_then(|value| value.trim().split_once(' '))
            .ok_or(refuse(AuthFailure::Malformed))?;
        let secret = secret.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            let digest: [u8; 32] = Sha256::digest(secret).into();
            return self
                .tokens
                .get(&digest)
                .cloned()
                .ok_or(refuse(AuthFailure::Unknown));
        }
        if scheme.eq_ignore_ascii_case("basic") {
            let (username, password) = basic(secret).ok_or(refuse(AuthFailure::Malformed))?;
            return self.identify_user(&username, password).await;
        }
        Err(refuse(AuthFailure::Malformed))
    }

    async fn identify_user(
        &self,
        username: &str,
        password: Vec<u8>,
    ) -> Result<Identity, NotIdentified> {
        let unknown = NotIdentified::Unauthenticated(AuthFailure::Unknown);
        let user = self.users.get(username);
        let hash = user.map(|(hash, _)| hash);
        let Some(hash) = hash.or_else(|| self.decoy(username)) else {
            return Err(unknown);
        };
        let fits = self.passwords.fits(username, password, hash).await?;
        match user {
            Some((_, identity)) if fits => Ok(identity.clone()),
            _ => Err(unknown),
        }
    }

    /// A hash to check for an unknown user, always the same for a name, so that neither the time
    /// of one check nor that of several tells who exists: hashes differ in cost.
    fn decoy(&self, username: &str) -> Option<&Arc<str>> {
        let place = self.passwords.draw(username).checked_rem(self.decoys.len());
        self.decoys.get(place?)
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator")
            .field("tokens", &self.tokens.len())
            .field("users", &self.users.keys())
            .finish_non_exhaustive()
    }
}

fn basic(encoded: &str) -> Option<(String, Vec<u8>)> {
    let mut username = BASE64_STANDARD.decode(encoded).ok()?;
    let colon = username.iter().position(|byte| *byte == b':')?;
    let password = username.split_off(colon + 1);
    username.pop();
    Some((String::from_utf8(username).ok()?, password))
}
