//! Checks passwords against slow hashes, at a cost that a stranger cannot raise.
//!
//! One check runs at a time in the whole process, and a bounded number of requests waits. Results
//! are remembered under a keyed digest, because a spoke sends the same password with every
//! request. A result says only whether a password fits a hash, and not which users exist, so it
//! stays valid over a reload.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use argon2::{Argon2, PasswordVerifier};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::NotIdentified;

/// The number of requests that may wait for their password to be checked, including the one whose
/// check runs.
const WAITING_MAX: usize = 16;

/// The number of results that are remembered. The configuration bounds the number of right
/// passwords. The rest is for wrong ones, so that a sender with an old password costs one check and
/// not one for each request.
const REMEMBERED_MAX: usize = 4096;

type Key = [u8; 32];

/// The password checks of the process.
pub(super) struct Passwords {
    key: [u8; 32],
    results: Mutex<HashMap<Key, bool>>,
    waiting: Arc<Semaphore>,
    checking: Arc<Semaphore>,
}

impl Passwords {
    /// Draws the key of the digests. Fails when the system has no random bytes.
    pub(super) fn new() -> Result<Arc<Self>, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Arc::new(Self {
            key,
            results: Mutex::default(),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            checking: Arc::new(Semaphore::new(1)),
        }))
    }

    /// Tells whether a password fits an argon2 (PHC string) or bcrypt hash.
    ///
    /// The user name is part of the digest. Otherwise a quick result for one user would tell that
    /// another user has the same hash.
    pub(super) async fn fits(
        self: &Arc<Self>,
        username: &str,
        password: Vec<u8>,
        hash: &Arc<str>,
    ) -> Result<bool, NotIdentified> {
        let key = self.digest(&[username.as_bytes(), hash.as_bytes(), &password]);
        let hash = Arc::clone(hash);
        self.check(key, move || verify(&password, &hash)).await
    }

    /// Returns a number that a stranger cannot foresee and that is always the same for a name.
    pub(super) fn draw(&self, username: &str) -> usize {
        let [first, second, ..] = self.digest(&[username.as_bytes()]);
        u16::from_le_bytes([first, second]).into()
    }

    async fn check(
        self: &Arc<Self>,
        key: Key,
        verify: impl FnOnce() -> bool + Send + 'static,
    ) -> Result<bool, NotIdentified> {
        if let Some(fits) = self.remembered(&key) {
            return Ok(fits);
        }
        let waiting = Arc::clone(&self.waiting).try_acquire_owned();
        let waiting = waiting.map_err(|_| NotIdentified::Busy)?;
        let checking = Arc::clone(&self.checking).acquire_owned().await;
        let checking = checking.map_err(|_| NotIdentified::Busy)?;
        // A request that waited before this one may have sent the same password.
        if let Some(fits) = self.remembered(&key) {
            return Ok(fits);
        }
        let passwords = Arc::clone(self);
        let check = tokio::task::spawn_blocking(move || {
            // The check goes on when its sender goes away, so it keeps its places.
            let _places = (waiting, checking);
            let fits = verify();
            passwords.remember(key, fits);
            fits
        });
        check.await.map_err(|_| NotIdentified::Internal)
    }

    /// Makes every further check fail; remembered results are still returned.
    #[cfg(test)]
    pub(super) fn stop(&self) {
        self.checking.close();
    }

    fn remember(&self, key: Key, fits: bool) {
        let mut results = self.results();
        if results.len() >= REMEMBERED_MAX {
            results.retain(|_, fits| *fits);
        }
        // Right passwords alone fill the map only after many reloads, or when one is tried with
        // many names.
        if results.len() >= REMEMBERED_MAX {
            results.clear();
        }
        results.insert(key, fits);
    }

    fn remembered(&self, key: &Key) -> Option<bool> {
        self.results().get(key).copied()
    }

    fn digest(&self, parts: &[&[u8]]) -> Key {
        let mut digest = Sha256::new().chain_update(self.key);
        for part in parts {
            digest.update(part.len().to_le_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }

    fn results(&self) -> MutexGuard<'_, HashMap<Key, bool>> {
        // A panic cannot leave a wrong result in the map.
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn verify(password: &[u8], hash: &str) -> bool {
    if hash.starts_with("$argon2") {
        Argon2::default().verify_password(password, hash).is_ok()
    } else {
        bcrypt::verify(password, hash).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A check that reports that it runs and then waits for its result.
    struct Held {
        runs: mpsc::Receiver<()>,
        result: mpsc::Sender<bool>,
    }

    impl Held {
        fn new() -> (Self, impl FnOnce() -> bool + Send + 'static) {
            let (running, runs) = mpsc::channel();
            let (result, told) = mpsc::channel();
            let verify = move || {
                running.send(()).unwrap();
                told.recv().unwrap()
            };
            (Self { runs, result }, verify)
        }

        async fn running(&self) {
            while self.runs.try_recv().is_err() {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Starts a check in a task of its own, as a connection does, and lets that task run until it
    /// waits.
    async fn ask(
        passwords: &Arc<Passwords>,
        key: Key,
        verify: impl FnOnce() -> bool + Send + 'static,
    ) -> tokio::task::JoinHandle<Result<bool, NotIdentified>> {
        let passwords = Arc::clone(passwords);
        let asked = tokio::spawn(async move { passwords.check(key, verify).await });
        tokio::task::yield_now().await;
        asked
    }

    fn never() -> bool {
        panic!("checked again")
    }

    #[tokio::test]
    async fn a_check_finishes_and_keeps_its_places_when_its_sender_goes_away() {
        let passwords = Passwords::new().unwrap();
        let (held, verify) = Held::new();
        let left = ask(&passwords, [1; 32], verify).await;
        held.running().await;
        left.abort();
        left.await.unwrap_err();
        assert_eq!(passwords.checking.available_permits(), 0);
        assert_eq!(passwords.waiting.available_permits(), WAITING_MAX - 1);

        let next = ask(&passwords, [2; 32], || true).await;
        held.result.send(true).unwrap();
        assert!(next.await.unwrap().unwrap());
        let again = ask(&passwords, [1; 32], never).await;
        assert!(again.await.unwrap().unwrap(), "the result is remembered");
        assert_eq!(passwords.waiting.available_permits(), WAITING_MAX);
    }

    #[tokio::test]
    async fn equal_passwords_that_wait_are_checked_once() {
        let passwords = Passwords::new().unwrap();
        let (held, verify) = Held::new();
        let first = ask(&passwords, [1; 32], verify).await;
        held.running().await;
        let second = ask(&passwords, [1; 32], never).await;
        held.result.send(false).unwrap();
        assert!(!first.await.unwrap().unwrap());
        assert!(!second.await.unwrap().unwrap());
    }

    #[tokio::test]
    async fn a_request_over_the_bound_of_waiting_ones_is_refused_as_busy() {
        let passwords = Passwords::new().unwrap();
        let (held, verify) = Held::new();
        let mut asked = vec![ask(&passwords, [0; 32], verify).await];
        held.running().await;
        for n in 1..WAITING_MAX {
            let n = u8::try_from(n).unwrap();
            asked.push(ask(&passwords, [n; 32], || false).await);
        }
        let refused = ask(&passwords, [255; 32], never).await.await.unwrap();
        assert!(matches!(refused, Err(NotIdentified::Busy)), "{refused:?}");
        held.result.send(true).unwrap();
        for (place, asked) in asked.into_iter().enumerate() {
            assert_eq!(asked.await.unwrap().unwrap(), place == 0);
        }
    }

    #[test]
    fn the_number_of_remembered_results_is_bounded() {
        let passwords = Passwords::new().unwrap();
        for fits in [true, false, true] {
            for n in 0..REMEMBERED_MAX {
                passwords.remember(passwords.digest(&[&n.to_le_bytes(), &[fits.into()]]), fits);
                assert!(passwords.results().len() <= REMEMBERED_MAX);
            }
        }
    }
}
