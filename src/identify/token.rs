//! Bearer tokens.
//!
//! A token is looked up by its SHA-256, so the time of a look-up says nothing about a token.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use crate::reasons::AuthFailure;

use super::Identity;

/// The tokens of one configuration, by SHA-256.
#[derive(Default)]
pub(super) struct Tokens(HashMap<[u8; 32], Identity>);

impl Tokens {
    /// Adds the token with this SHA-256.
    pub(super) fn insert(&mut self, digest: [u8; 32], identity: Identity) {
        self.0.insert(digest, identity);
    }

    /// Returns the identity that a token proves.
    pub(super) fn identify(&self, token: &str) -> Result<Identity, AuthFailure> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        self.0.get(&digest).cloned().ok_or(AuthFailure::Unknown)
    }

    /// The number of tokens.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
