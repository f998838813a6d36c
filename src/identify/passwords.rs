//! Slow password hashes, checked at a price that strangers cannot raise.
//!
//! One check runs at a time in the whole process, a bounded number waits, and results are
//! remembered under a keyed digest, because a spoke sends the same password with every request.
//! A result says only that a password fits a hash: who exists is for the authenticator, so
//! results outlive a reload.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use argon2::{Argon2, PasswordVerifier};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::NotIdentified;

/// Requests that may wait for their password to be checked, the one under way included.
const WAITING_MAX: usize = 16;

/// Results remembered. What is right is bounded by the configuration; the room is for what is
/// wrong, so that a sender with an old password costs one hash and not one a request.
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
    /// Fails when the system has no random bytes.
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

    /// Says whether a password belongs to an argon2 (PHC string) or bcrypt hash.
    ///
    /// The user name is part of what is remembered: a quick answer to one user must not tell
    /// that another has the same hash.
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

    /// A number that a stranger cannot foresee, and always the same for a name.
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
        // The one before in line may have sent the same.
        if let Some(fits) = self.remembered(&key) {
            return Ok(fits);
        }
        let passwords = Arc::clone(self);
        let check = tokio::task::spawn_blocking(move || {
            // A sender that goes away does not stop the check, so its places must stay taken.
            let _places = (waiting, checking);
            let fits = verify();
            passwords.remember(key, fits);
            fits
        });
        check.await.map_err(|_| NotIdentified::Internal)
    }

    /// From now on only what is remembered is answered.
    #[cfg(test)]
    pub(super) fn stop(&self) {
        self.checking.close();
    }

    fn remember(&self, key: Key, fits: bool) {
        let mut results = self.results();
        if results.len() >= REMEMBERED_MAX {
            results.retain(|_, fits| *fits);
        }
        // Reloads and passwords that several names were tried with.
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
        // Whatever a panic leaves behind is a set of true results.
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

    /// A check that says when it runs and goes on when it is told the result.
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

    /// Asks in a task of its own, as a connection does, and goes on when that task waits.
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
    async fn a_check_outlives_who_asked_and_keeps_its_places() {
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
        assert!(again.await.unwrap().unwrap(), "nothing is lost");
        assert_eq!(passwords.waiting.available_permits(), WAITING_MAX);
    }

    #[tokio::test]
    async fn equal_checks_that_wait_cost_one() {
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
    async fn those_over_the_bound_are_told_to_come_back() {
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
    fn what_is_remembered_is_bounded() {
        let passwords = Passwords::new().unwrap();
        for fits in [true, false, true] {
            for n in 0..REMEMBERED_MAX {
                passwords.remember(passwords.digest(&[&n.to_le_bytes(), &[fits.into()]]), fits);
                assert!(passwords.results().len() <= REMEMBERED_MAX);
            }
        }
    }
}
