//! User names and passwords.
//!
//! A password is checked for an unknown user as for a known one, so that the time of the response
//! does not tell which users exist.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::reasons::AuthFailure;

use super::passwords::Passwords;
use super::{NotIdentified, Place};

/// The users of one configuration.
pub(super) struct Users {
    /// The hash of the password and the credential, by user name.
    users: HashMap<String, (Arc<str>, Place)>,
    /// The hashes of all users. One of them is checked when the user is unknown.
    decoys: Vec<Arc<str>>,
    passwords: Arc<Passwords>,
}

impl Users {
    /// No users yet.
    pub(super) fn new(passwords: &Arc<Passwords>) -> Self {
        Self {
            users: HashMap::new(),
            decoys: Vec::new(),
            passwords: Arc::clone(passwords),
        }
    }

    /// Adds a user.
    pub(super) fn insert(&mut self, username: &str, password_hash: &str, place: Place) {
        let hash: Arc<str> = password_hash.into();
        self.decoys.push(Arc::clone(&hash));
        self.users.insert(username.to_owned(), (hash, place));
    }

    /// Returns the credential that the base64 of `username:password`, sent from an address, is.
    pub(super) async fn find(
        &self,
        encoded: &str,
        address: IpAddr,
    ) -> Result<Place, NotIdentified> {
        let (username, password) = decode(encoded).ok_or(AuthFailure::Malformed)?;
        let user = self.users.get(&username);
        let hash = user.map(|(hash, _)| hash);
        let hash = hash.or_else(|| self.decoy(&username));
        let hash = hash.ok_or(AuthFailure::Unknown)?;
        let fits = self.passwords.fits(address, &username, password, hash);
        let fits = fits.await?;
        match user {
            Some((_, place)) if fits => Ok(*place),
            _ => Err(AuthFailure::Unknown.into()),
        }
    }

    /// The names of the users.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(String::as_str)
    }

    /// A hash to check for an unknown user. It is always the same for a name: hashes differ in
    /// cost, so the time of several checks would otherwise tell that the user does not exist.
    pub(super) fn decoy(&self, username: &str) -> Option<&Arc<str>> {
        let place = self.passwords.draw(username).checked_rem(self.decoys.len());
        self.decoys.get(place?)
    }
}

fn decode(encoded: &str) -> Option<(String, Vec<u8>)> {
    let mut username = BASE64_STANDARD.decode(encoded).ok()?;
    let colon = username.iter().position(|byte| *byte == b':')?;
    let password = username.split_off(colon + 1);
    username.pop();
    Some((String::from_utf8(username).ok()?, password))
}
