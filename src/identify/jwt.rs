//! JSON Web Tokens, above all those of Kubernetes for a ServiceAccount.
//!
//! The issuer, the subject and the audience of a token say which credential it claims to be. The keys
//! of that credential and of no other decide whether it is. So two clusters whose issuers have the
//! same name, as all of kubeadm have, are told apart by their audiences, and neither can speak for the
//! other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config::{Jwt, JwtKeys};
use crate::jwks::{Source, Unavailable};
use crate::jwt::{Algorithm, KeySet, NotSigned, Token};
use crate::reasons::AuthFailure;

use super::verified::{Verified, VerifiedTokens};
use super::{NotIdentified, Place};

/// The tokens that the spokes of one configuration may send.
pub(super) struct Jwts {
    credentials: Vec<Credential>,
    /// The indices in `credentials`, by issuer and then by subject.
    indices: HashMap<String, HashMap<String, Vec<usize>>>,
    /// They belong to this configuration, so a credential that a reload takes away proves nothing.
    verified: VerifiedTokens,
}

struct Credential {
    audience: String,
    algorithms: Vec<Algorithm>,
    keys: Keys,
    place: Place,
}

/// The keys that judge the tokens of a credential.
enum Keys {
    File(Arc<KeySet>),
    Remote(Arc<Source>),
}

impl Keys {
    /// The keys in force.
    fn current(&self) -> Option<Arc<KeySet>> {
        match self {
            Self::File(keys) => Some(Arc::clone(keys)),
            Self::Remote(source) => source.keys(),
        }
    }

    /// The keys that judge a token which names a key.
    async fn for_token(&self, key_id: Option<&str>) -> Result<Arc<KeySet>, Unavailable> {
        match self {
            Self::File(keys) => Ok(Arc::clone(keys)),
            Self::Remote(source) => source.keys_for(key_id).await,
        }
    }
}

impl Jwts {
    /// None yet. Fails when the system has no random bytes.
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        Ok(Self {
            credentials: Vec::new(),
            indices: HashMap::new(),
            verified: VerifiedTokens::new()?,
        })
    }

    /// Adds a credential, whose keys are in it or come from one of the sources.
    pub(super) fn insert(&mut self, jwt: &Jwt, sources: &[Arc<Source>], place: Place) {
        let keys = match &jwt.keys {
            JwtKeys::File(keys) => Keys::File(Arc::clone(keys)),
            JwtKeys::Remote(place) => {
                let source = sources.iter().find(|source| source.place() == &**place);
                Keys::Remote(source.map_or_else(|| Source::new(place), Arc::clone))
            }
        };
        let index = self.credentials.len();
        self.credentials.push(Credential {
            audience: jwt.audience.clone(),
            algorithms: jwt.algorithms.clone(),
            keys,
            place,
        });
        let of_issuer = self.indices.entry(jwt.issuer.clone()).or_default();
        let of_subject = of_issuer.entry(jwt.subject.clone()).or_default();
        of_subject.push(index);
    }

    /// The number of credentials.
    pub(super) fn len(&self) -> usize {
        self.credentials.len()
    }

    /// Whether a bearer token is to be judged here.
    pub(super) fn takes(&self, token: &str) -> bool {
        !self.credentials.is_empty() && Token::has_form(token)
    }

    /// Returns the credential that a token was before, as long as it is valid and the keys that judged
    /// it are in force.
    pub(super) fn remembered(&self, token: &str) -> Option<Place> {
        self.remembered_at(token, now())
    }

    /// As [`Self::remembered`], at a time since the Unix epoch.
    pub(super) fn remembered_at(&self, token: &str, now: Duration) -> Option<Place> {
        // Without a dot it is no JWT, and needs no second digest.
        if self.credentials.is_empty() || !token.contains('.') {
            return None;
        }
        let verified = self.verified.find(token)?;
        let credential = self.credentials.get(verified.credential)?;
        let keys = credential.keys.current()?;
        let stays = now < verified.refused_from && Arc::ptr_eq(&keys, &verified.keys);
        stays.then_some(credential.place)
    }

    /// Returns the credential that a token is. `is_same` tells whether two credentials prove the same
    /// sender.
    pub(super) async fn find(
        &self,
        text: &str,
        is_same: impl Fn(Place, Place) -> bool,
    ) -> Result<Place, NotIdentified> {
        let token = Token::parse(text).map_err(|_| AuthFailure::InvalidToken)?;
        let index = self.claimed(&token, is_same)?;
        let credential = &self.credentials[index];
        if now() >= token.refused_from() {
            // Hubs may be asked for the time because of a credential that expired, so it has to be a spoke's. No keys
            // are fetched for it.
            let keys = credential.keys.current();
            let keys = keys.ok_or(NotIdentified::KeysUnavailable)?;
            let proved = token.check_signature(&keys, &credential.algorithms);
            return Err(match proved {
                Ok(()) => NotIdentified::Expired,
                Err(_) => AuthFailure::Expired.into(),
            });
        }
        let keys = credential.keys.for_token(token.key_id()).await?;
        token
            .check_signature(&keys, &credential.algorithms)
            .map_err(|fault| match fault {
                NotSigned::Algorithm => AuthFailure::WrongAlgorithm,
                NotSigned::Signature => AuthFailure::WrongSignature,
            })?;
        if token.is_early(now()) {
            return Err(NotIdentified::NotYetValid);
        }
        let verified = Verified {
            credential: index,
            keys,
            refused_from: token.refused_from(),
        };
        self.verified.insert(text, verified, now());
        Ok(credential.place)
    }

    /// The index of the credential that a token claims to be.
    fn claimed(
        &self,
        token: &Token<'_>,
        is_same: impl Fn(Place, Place) -> bool,
    ) -> Result<usize, AuthFailure> {
        let of_issuer = token.issuer().and_then(|issuer| self.indices.get(issuer));
        let of_issuer = of_issuer.ok_or(AuthFailure::WrongIssuer)?;
        let of_subject = token.subject().and_then(|subject| of_issuer.get(subject));
        let of_subject = of_subject.ok_or(AuthFailure::WrongSubject)?;
        let indices = of_subject.iter().copied();
        let mut claimed = indices.filter(|index| token.is_for(&self.credentials[*index].audience));
        let first = claimed.next().ok_or(AuthFailure::WrongAudience)?;
        // A token for the audiences of two spokes could be meant for either.
        let place = |index: usize| self.credentials[index].place;
        if claimed.any(|other| !is_same(place(other), place(first))) {
            return Err(AuthFailure::WrongAudience);
        }
        Ok(first)
    }
}

/// The time since the Unix epoch.
fn now() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
}
