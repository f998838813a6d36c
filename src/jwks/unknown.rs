//! The keys that tokens named and that were not among those of their issuer, each with the time at
//! which a token named it first.

use std::collections::HashMap;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

/// The most keys that are remembered. An issuer begins to use one or two at a time; the rest is for
/// those who make them up.
const KEYS_MAX: usize = 256;

/// How long an issuer may take to show a new key everywhere. One of several servers, or a cache before
/// them, may not have it when tokens that it signed arrive here.
pub(super) const LAG: Duration = Duration::from_secs(30);

/// How long a key is remembered. After that, a token that names it has the issuer asked again.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10 * 60);

/// Keys by a digest of their ID, whose length a sender chooses.
#[derive(Debug, Default)]
pub(super) struct UnknownKeys(HashMap<[u8; 32], Instant>);

impl UnknownKeys {
    /// A token names a key that is unknown. Returns when one did so first. When the last fetch that
    /// succeeded says nothing about too many, that is now, so none of the others is held against its token.
    pub(super) fn seen(
        &mut self,
        key_id: Option<&str>,
        now: Instant,
        last_success: Option<Instant>,
    ) -> Instant {
        let digest = Sha256::digest(key_id.unwrap_or_default()).into();
        let known = self.0.get(&digest).copied();
        if let Some(first) = known.filter(|first| !is_forgotten(*first, now)) {
            return first;
        }
        if self.0.len() >= KEYS_MAX {
            self.0.retain(|_, first| !is_forgotten(*first, now));
        }
        if self.0.len() >= KEYS_MAX {
            // The issuer was asked for these.
            self.0.retain(|_, first| is_newer(*first, last_success));
        }
        if self.0.len() < KEYS_MAX || known.is_some() {
            self.0.insert(digest, now);
        }
        now
    }

    /// Whether the last fetch that succeeded says nothing yet about a key.
    pub(super) fn any_since(&self, last_success: Option<Instant>) -> bool {
        let mut keys = self.0.values();
        keys.any(|first| is_newer(*first, last_success))
    }
}

fn is_newer(first: Instant, last_success: Option<Instant>) -> bool {
    last_success.is_none_or(|last| first + LAG > last)
}

fn is_forgotten(first: Instant, now: Instant) -> bool {
    now.duration_since(first) >= FORGOTTEN_AFTER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_is_known_from_the_first_token_that_names_it() {
        let (mut keys, start) = (UnknownKeys::default(), Instant::now());
        assert!(!keys.any_since(None));
        assert_eq!(keys.seen(Some("a"), start, None), start);
        let later = start + Duration::from_secs(5);
        assert_eq!(keys.seen(Some("a"), later, None), start);
        assert_eq!(keys.seen(Some("b"), later, None), later);
        assert!(keys.any_since(None));
        assert!(keys.any_since(Some(start + LAG)));
        assert!(!keys.any_since(Some(later + LAG)));
        let forgotten = start + FORGOTTEN_AFTER;
        assert_eq!(keys.seen(Some("a"), forgotten, Some(later)), forgotten);
        assert!(keys.any_since(Some(later)));
    }

    #[tokio::test(start_paused = true)]
    async fn made_up_keys_do_not_take_the_place_of_new_ones_for_long() {
        let (mut keys, start) = (UnknownKeys::default(), Instant::now());
        for n in 0..2 * KEYS_MAX {
            keys.seen(Some(&n.to_string()), start, None);
            assert!(keys.0.len() <= KEYS_MAX);
        }
        let later = start + Duration::from_secs(1);
        assert_eq!(keys.seen(Some("new"), later, None), later);
        let again = later + Duration::from_secs(1);
        assert_eq!(
            keys.seen(Some("new"), again, None),
            again,
            "it had no place"
        );
        let fetched = Some(start + LAG);
        assert_eq!(keys.seen(Some("new"), again, fetched), again);
        let after = again + Duration::from_secs(1);
        assert_eq!(keys.seen(Some("new"), after, fetched), again);
    }
}
