//! Tokens whose signature was checked. A spoke sends the same token for an hour, so the check is done
//! once and not for each request.
//!
//! As with [passwords](super::passwords), they are remembered under a keyed digest, so that no token
//! is kept and nobody can choose where one lands in the map.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::jwt::KeySet;

/// The most tokens that are remembered. Only those that a spoke has proved to be its own are, and a
/// spoke of two replicas has two of them at a time, and four around a renewal.
const REMEMBERED_MAX: usize = 16_384;

type Key = [u8; 32];

/// What a check of a token found.
#[derive(Clone)]
pub(super) struct Verified {
    /// The index of the credential that it is.
    pub(super) credential: usize,
    /// The keys that judged it.
    pub(super) keys: Arc<KeySet>,
    /// The time from which on it is refused, since the Unix epoch.
    pub(super) refused_from: Duration,
}

/// The tokens that were found to be good.
pub(super) struct VerifiedTokens {
    key: Key,
    tokens: Mutex<HashMap<Key, Verified>>,
}

impl VerifiedTokens {
    /// Draws the key of the digests. Fails when the system has no random bytes.
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Self {
            key,
            tokens: Mutex::default(),
        })
    }

    /// What was found of a token, if it was good.
    pub(super) fn find(&self, token: &str) -> Option<Verified> {
        let digest = self.digest(token);
        self.tokens().get(&digest).cloned()
    }

    /// Remembers a good token.
    pub(super) fn insert(&self, token: &str, verified: Verified, now: Duration) {
        let digest = self.digest(token);
        let mut tokens = self.tokens();
        if tokens.len() >= REMEMBERED_MAX {
            tokens.retain(|_, verified| now < verified.refused_from);
        }
        // Many spokes that renew their tokens all the time have each checked again.
        if tokens.len() >= REMEMBERED_MAX {
            tokens.clear();
        }
        tokens.insert(digest, verified);
    }

    fn digest(&self, token: &str) -> Key {
        let digest = Sha256::new().chain_update(self.key).chain_update(token);
        digest.finalize().into()
    }

    fn tokens(&self) -> MutexGuard<'_, HashMap<Key, Verified>> {
        // A panic cannot leave a wrong result in the map.
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_remembered_tokens_is_bounded() {
        let keys = br#"{"keys": [{"kty": "OKP", "crv": "Ed25519",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        let keys = Arc::new(KeySet::parse(keys).unwrap());
        let tokens = VerifiedTokens::new().unwrap();
        let now = Duration::from_secs(100);
        let verified = |refused_from| Verified {
            credential: 7,
            keys: Arc::clone(&keys),
            refused_from,
        };
        let later = now + Duration::from_secs(1);
        tokens.insert("valid", verified(later), now);
        for n in 1..REMEMBERED_MAX {
            tokens.insert(&n.to_string(), verified(now), now);
        }
        tokens.insert("next", verified(later), now);
        assert_eq!(tokens.tokens().len(), 2, "the expired ones are forgotten");
        assert_eq!(tokens.find("valid").unwrap().credential, 7);
        for n in 0..REMEMBERED_MAX {
            tokens.insert(&n.to_string(), verified(later), now);
            assert!(tokens.tokens().len() <= REMEMBERED_MAX);
        }
        assert!(tokens.find("invalid").is_none());
    }
}
