//! Bearer tokens.
//!
//! A token is looked up by its SHA-256, so the time of a look-up says nothing about a token.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use crate::reasons::AuthFailure;

use super::Place;

/// The tokens of one configuration, by SHA-256.
#[derive(Default)]
pub(super) struct Tokens(HashMap<[u8; 32], Place>);

impl Tokens {
    /// Adds the token with this SHA-256.
    pub(super) fn insert(&mut self, digest: [u8; 32], place: Place) {
        self.0.insert(digest, place);
    }

    /// Returns the credential that a token is.
    pub(super) fn find(&self, token: &str) -> Result<Place, AuthFailure> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        self.0.get(&digest).copied().ok_or(AuthFailure::Unknown)
    }

    /// The number of tokens.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
