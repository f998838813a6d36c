//! Checks passwords against slow hashes, at a cost that a stranger cannot raise.
//!
//! One check runs at a time in the whole process, and a bounded number waits in a [`Line`] that is fair
//! to the others. Results are remembered under a keyed digest, because a spoke sends the same
//! password with every request. A result says only whether a password fits a hash, and not which
//! users exist, so it stays valid over a reload.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use argon2::{Argon2, PasswordVerifier};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::NotIdentified;
use super::line::{Line, Sender, WAITING_MAX};

/// The number of results that are remembered. The configuration bounds the number of right
/// passwords. The rest is for wrong ones, so that a sender with an old password costs one check and
/// not one for each request.
const REMEMBERED_MAX: usize = 4096;

type Key = [u8; 32];

/// What a check found, once it is known.
type Found = Option<Result<bool, NotIdentified>>;

/// The password checks of the process, which outlive a reload.
pub struct Passwords {
    key: Key,
    results: Mutex<HashMap<Key, bool>>,
    checks: Mutex<Checks>,
}

/// The checks that are not done yet.
struct Checks {
    running: Option<(Key, watch::Receiver<Found>)>,
    line: Line<Check>,
}

/// A check that waits or runs. Each request with the same password from the same network watches the
/// same check.
struct Check {
    key: Key,
    verify: Box<dyn FnOnce() -> bool + Send>,
    found: watch::Sender<Found>,
}

impl Passwords {
    /// Draws the key of the digests. Fails when the system has no random bytes.
    pub fn new() -> Result<Arc<Self>, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Arc::new(Self {
            key,
            results: Mutex::default(),
            checks: Mutex::new(Checks {
                running: None,
                line: Line::new(WAITING_MAX),
            }),
        }))
    }

    /// Tells whether a password, sent from an address, fits an argon2 (PHC string) or bcrypt hash.
    ///
    /// The user name is part of the digest. Otherwise a quick result for one user would tell that
    /// another user has the same hash.
    pub(super) async fn fits(
        self: &Arc<Self>,
        address: IpAddr,
        username: &str,
        password: Vec<u8>,
        hash: &Arc<str>,
    ) -> Result<bool, NotIdentified> {
        let key = self.digest(&[username.as_bytes(), hash.as_bytes(), &password]);
        let sender = Sender::new(address, self.digest(&[username.as_bytes()]));
        let hash = Arc::clone(hash);
        self.check(sender, key, move || verify(&password, &hash))
            .await
    }

    /// Returns a number that a stranger cannot foresee and that is always the same for a name.
    pub(super) fn draw(&self, username: &str) -> usize {
        let [first, second, ..] = self.digest(&[username.as_bytes()]);
        u16::from_le_bytes([first, second]).into()
    }

    async fn check(
        self: &Arc<Self>,
        sender: Sender,
        key: Key,
        verify: impl FnOnce() -> bool + Send + 'static,
    ) -> Result<bool, NotIdentified> {
        if let Some(fits) = self.remembered(&key) {
            return Ok(fits);
        }
        let mut found = self.watch(sender, key, Box::new(verify));
        // A check ends without a result when the process does.
        let found = found.wait_for(Option::is_some).await;
        found
            .ok()
            .and_then(|found| *found)
            .unwrap_or(Err(NotIdentified::Internal))
    }

    /// Returns what the check of this password will find, and puts it in the line if no other request
    /// did.
    fn watch(
        self: &Arc<Self>,
        sender: Sender,
        key: Key,
        verify: Box<dyn FnOnce() -> bool + Send>,
    ) -> watch::Receiver<Found> {
        let mut checks = self.checks();
        // Whoever is gone leaves no place taken.
        checks.line.retain(|check| !check.found.is_closed());
        if let Some((running, found)) = &checks.running
            && *running == key
        {
            return found.clone();
        }
        // A check of another network has a turn of its own, which may come sooner.
        if let Some(same) = checks.line.find_beside(&sender, |check| check.key == key) {
            return same.found.subscribe();
        }
        let (sending, found) = watch::channel(None);
        let check = Check {
            key,
            verify,
            found: sending,
        };
        if let Some(given_up) = checks.line.add(sender, check, Instant::now()) {
            given_up.found.send_replace(Some(Err(NotIdentified::Busy)));
        }
        if checks.running.is_none()
            && let Some(first) = checks.next()
        {
            drop(checks);
            let passwords = Arc::clone(self);
            // It goes on when its senders go away, so that they cannot make two of them run.
            tokio::task::spawn_blocking(move || passwords.run(first));
        }
        found
    }

    /// Runs a check and then all that wait.
    fn run(&self, first: (Sender, Check)) {
        let mut next = Some(first);
        while let Some((sender, check)) = next {
            // The same password may have been checked for another network.
            let found = match self.remembered(&check.key) {
                Some(fits) => Ok(fits),
                None => self.verify(&check.key, check.verify),
            };
            let mut checks = self.checks();
            if found == Ok(false) {
                checks.line.failed(sender, Instant::now());
            }
            next = checks.next();
            drop(checks);
            check.found.send_replace(Some(found));
        }
    }

    fn verify(&self, key: &Key, verify: impl FnOnce() -> bool) -> Result<bool, NotIdentified> {
        // A panic must not end the checks of everyone else.
        let fits = catch_unwind(AssertUnwindSafe(verify)).map_err(|_| NotIdentified::Internal)?;
        self.remember(*key, fits);
        Ok(fits)
    }

    /// Makes every further check fail; remembered results are still returned.
    #[cfg(test)]
    pub(super) fn stop(&self) {
        self.checks().line = Line::new(0);
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

    fn checks(&self) -> MutexGuard<'_, Checks> {
        // No check runs under the lock, and nothing under it can leave the line half changed.
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Checks {
    /// Takes the next check that is still wanted out of the line, and notes that it runs.
    fn next(&mut self) -> Option<(Sender, Check)> {
        self.line.retain(|check| !check.found.is_closed());
        let next = self.line.next(Instant::now());
        let running = next.as_ref();
        self.running = running.map(|(_, check)| (check.key, check.found.subscribe()));
        next
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").finish_non_exhaustive()
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

    /// A sender that has a network of its own for each user.
    fn sender(user: u8) -> Sender {
        Sender::new([203, 0, 113, user].into(), [user; 32])
    }

    /// Starts a check in a task of its own, as a connection does, and lets that task run until it
    /// waits.
    async fn ask(
        passwords: &Arc<Passwords>,
        sender: Sender,
        key: Key,
        verify: impl FnOnce() -> bool + Send + 'static,
    ) -> tokio::task::JoinHandle<Result<bool, NotIdentified>> {
        let passwords = Arc::clone(passwords);
        let asked = tokio::spawn(async move { passwords.check(sender, key, verify).await });
        tokio::task::yield_now().await;
        asked
    }

    fn never() -> bool {
        panic!("checked again")
    }

    /// Waits until no check runs.
    async fn idle(passwords: &Passwords) {
        while passwords.checks().running.is_some() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_check_finishes_and_stays_the_only_one_when_its_sender_goes_away() {
        let passwords = Passwords::new().unwrap();
        let (held, verify) = Held::new();
        let left = ask(&passwords, sender(1), [1; 32], verify).await;
        held.running().await;
        left.abort();
        left.await.unwrap_err();

        let next = ask(&passwords, sender(2), [2; 32], || true).await;
        assert_eq!(passwords.checks().line.len(), 1, "it waits");
        held.result.send(true).unwrap();
        assert!(next.await.unwrap().unwrap());
        let again = ask(&passwords, sender(1), [1; 32], never).await;
        assert!(again.await.unwrap().unwrap(), "the result is remembered");
    }

    #[tokio::test]
    async fn a_sender_that_goes_away_leaves_its_place() {
        let passwords = Passwords::new().unwrap();
        let (held, verify) = Held::new();
        let first = ask(&passwords, sender(1), [1; 32], verify).await;
        held.running().await;
        let left = ask(&passwords, sender(2), [2; 32], never).await;
        left.abort();
        left.await.unwrap_err();
        let last = ask(&passwords, sender(3), [3; 32], || true).await;
        assert_eq!(passwords.checks().line.len(), 1);
        held.result.send(true).unwrap();
        assert!(first.await.unwrap().unwrap());
        assert!(last.await.unwrap().unwrap());
        idle(&passwords).await;
    }

    #[tokio::test]
    async fn equal_passwords_are_checked_once() {
        let passwords = Passwords::new().unwrap();
        let (held, verify) = Held::new();
        let first = ask(&passwords, sender(1), [1; 32], verify).await;
        held.running().await;
        let mut asked = Vec::new();
        // More than there are places, as from all shards of a spoke at its start.
        for _ in 0..2 * WAITING_MAX {
            asked.push(ask(&passwords, sender(1), [1; 32], never).await);
            asked.push(ask(&passwords, sender(2), [2; 32], || true).await);
            asked.push(ask(&passwords, sender(3), [2; 32], || true).await);
        }
        assert_eq!(passwords.checks().line.len(), 2);
        held.result.send(false).unwrap();
        assert!(!first.await.unwrap().unwrap());
        for (place, asked) in asked.into_iter().enumerate() {
            assert_eq!(asked.await.unwrap().unwrap(), place % 3 != 0);
        }
    }

    #[tokio::test]
    async fn a_check_that_is_given_up_is_refused_as_busy() {
        let passwords = Passwords::new().unwrap();
        let (held, verify) = Held::new();
        let first = ask(&passwords, sender(1), [0; 32], verify).await;
        held.running().await;
        let mut asked = Vec::new();
        for n in 0..WAITING_MAX {
            let key = [u8::try_from(n + 1).unwrap(); 32];
            asked.push(ask(&passwords, sender(2), key, || false).await);
        }
        let refused = ask(&passwords, sender(2), [255; 32], never).await;
        let refused = refused.await.unwrap();
        assert_eq!(refused, Err(NotIdentified::Busy), "the line is full");
        let honest = ask(&passwords, sender(3), [254; 32], || true).await;
        let given_up = asked.pop().unwrap().await.unwrap();
        assert_eq!(given_up, Err(NotIdentified::Busy), "another one came");
        held.result.send(true).unwrap();
        assert!(first.await.unwrap().unwrap());
        assert!(honest.await.unwrap().unwrap());
        for asked in asked {
            assert_eq!(asked.await.unwrap(), Ok(false));
        }
    }

    #[tokio::test]
    async fn a_check_that_panics_does_not_stop_the_others() {
        let passwords = Passwords::new().unwrap();
        let (held, verify) = Held::new();
        let first = ask(&passwords, sender(1), [1; 32], verify).await;
        held.running().await;
        let panics = ask(&passwords, sender(2), [2; 32], never).await;
        let next = ask(&passwords, sender(3), [3; 32], || true).await;
        held.result.send(true).unwrap();
        assert!(first.await.unwrap().unwrap());
        assert_eq!(panics.await.unwrap(), Err(NotIdentified::Internal));
        assert!(next.await.unwrap().unwrap());
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
