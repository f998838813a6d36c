//! The keys of issuers of JSON Web Tokens: fetched in the background, and kept.
//!
//! A request does not fetch. It finds keys in memory, or it asks the task of the [`Source`] to fetch
//! sooner. What it may be told:
//!
//! | state of the keys | the request |
//! |---|---|
//! | they have the key that the token names | is judged by them |
//! | never fetched, or not since a token named an unknown key, or soon after | waits a little, then 503 |
//! | fetched later, and still without it | is judged by them, so it is 401 |
//!
//! An issuer may sign with a new key a moment after its keys were fetched, and not all of its servers
//! show the key at once. So an unknown key is held against a token only after a fetch that began 30 s
//! or more after the first token with it. Until then the spoke keeps its data and tries again.
//!
//! Everyone may send tokens that name keys at random. They cost the issuer one fetch in
//! `ASKED_INTERVAL`, and they never reach tokens whose key is known.
//!
//! Keys stay in force while their issuer cannot be reached, without a limit. An issuer that is down
//! renews no tokens, and to refuse those that it gave out would add a second outage to the first. The
//! metric `hubgate_jwks_last_success_timestamp_seconds` shows how old they are.

mod fetch;
#[cfg(test)]
mod tests;
mod unknown;

use std::convert::Infallible;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::config::KeysPlace;
use crate::jwt::KeySet;
use crate::metrics::JwksMetrics;
use crate::reasons::FetchResult;

use fetch::FetchError;
use unknown::{LAG, UnknownKeys};

/// Seconds from one fetch to the next. Drawn, so that replicas do not ask together.
const INTERVAL_SECONDS: std::ops::RangeInclusive<u64> = 300..=600;

/// The least time from a fetch to one that a token with an unknown key asks for.
const ASKED_INTERVAL: Duration = Duration::from_secs(30);

/// The time from a failed fetch to the next one, which doubles with each further failure.
const RETRY_FIRST: Duration = Duration::from_secs(1);

/// The most time from a failed fetch to the next one.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// How long a request waits for a fetch that runs.
const WAIT: Duration = Duration::from_secs(3);

/// The most requests that wait for one source.
const WAITING_MAX: usize = 64;

/// The keys that judge a token are not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unavailable;

/// A place that the keys of an issuer are fetched from, with the keys that were fetched last.
#[derive(Debug)]
pub struct Source {
    place: KeysPlace,
    keys: ArcSwapOption<KeySet>,
    fetches: watch::Sender<Fetches>,
    unknown: Mutex<UnknownKeys>,
    /// A token named a key that is not known.
    asked: Notify,
    waiting: Semaphore,
    metrics: JwksMetrics,
}

/// What is known of the fetches so far.
#[derive(Debug, Default)]
struct Fetches {
    is_running: bool,
    /// When the last one began.
    last: Option<Instant>,
    /// When the last one that succeeded began.
    last_success: Option<Instant>,
}

impl Fetches {
    /// Whether one succeeded that began after a time.
    fn has_succeeded_since(&self, time: Instant) -> bool {
        self.last_success.is_some_and(|last| last >= time)
    }

    /// Whether one runs, or begins as soon as it is asked for.
    fn is_near(&self) -> bool {
        self.is_running
            || self
                .last
                .is_none_or(|last| last.elapsed() >= ASKED_INTERVAL)
    }
}

impl Source {
    /// The keys at this place, of which none is known yet.
    pub fn new(place: &KeysPlace) -> Arc<Self> {
        Arc::new(Self {
            metrics: JwksMetrics::new(place.url.to_string()),
            place: place.clone(),
            keys: ArcSwapOption::empty(),
            fetches: watch::Sender::default(),
            unknown: Mutex::default(),
            asked: Notify::new(),
            waiting: Semaphore::new(WAITING_MAX),
        })
    }

    /// Where the keys are fetched from.
    pub fn place(&self) -> &KeysPlace {
        &self.place
    }

    /// What is counted of it.
    pub fn metrics(&self) -> &JwksMetrics {
        &self.metrics
    }

    /// The keys that are in force, if any were fetched.
    pub fn keys(&self) -> Option<Arc<KeySet>> {
        self.keys.load_full()
    }

    /// Returns the keys that judge a token which names a key, or none. They may lack that key, if the
    /// issuer was asked for it.
    pub async fn keys_for(&self, key_id: Option<&str>) -> Result<Arc<KeySet>, Unavailable> {
        if let Some(keys) = self.keys_with(key_id) {
            return Ok(keys);
        }
        let now = Instant::now();
        let last_success = self.fetches.borrow().last_success;
        let since = self.unknown().seen(key_id, now, last_success);
        if let Some(keys) = self.judging(key_id, since) {
            return Ok(keys);
        }
        self.asked.notify_one();
        let is_near = self.fetches.borrow().is_near();
        let Some(_place) = is_near.then(|| self.waiting.try_acquire().ok()).flatten() else {
            return Err(Unavailable);
        };
        let mut fetches = self.fetches.subscribe();
        let ended = fetches.wait_for(|fetches| !fetches.is_near());
        // Whether it ended or takes too long, what is known by then decides.
        let _ = timeout(WAIT, ended).await;
        self.judging(key_id, since).ok_or(Unavailable)
    }

    /// The keys, if they have the key that a token names, or were fetched long enough after it was seen.
    fn judging(&self, key_id: Option<&str>, since: Instant) -> Option<Arc<KeySet>> {
        let fetched = self.fetches.borrow().has_succeeded_since(since + LAG);
        self.keys_with(key_id)
            .or_else(|| self.keys().filter(|_| fetched))
    }

    fn keys_with(&self, key_id: Option<&str>) -> Option<Arc<KeySet>> {
        self.keys().filter(|keys| keys.has(key_id))
    }

    /// Fetches the keys, again and again. Does not return.
    pub async fn run(&self) -> Infallible {
        self.run_with(|| fetch::fetch(&self.place)).await
    }

    async fn run_with<F>(&self, fetch: impl Fn() -> F) -> Infallible
    where
        F: Future<Output = Result<KeySet, FetchError>>,
    {
        let mut failures = 0;
        loop {
            let started = Instant::now();
            self.fetches.send_modify(|fetches| {
                fetches.is_running = true;
                fetches.last = Some(started);
            });
            let fetched = fetch().await;
            let succeeded = fetched.is_ok();
            failures = if succeeded { 0 } else { failures + 1 };
            self.take(fetched, failures);
            self.fetches.send_modify(|fetches| {
                fetches.is_running = false;
                if succeeded {
                    fetches.last_success = Some(started);
                }
            });
            let next = match failures {
                0 => Duration::from_secs(fastrand::u64(INTERVAL_SECONDS)),
                _ => retry_delay(failures),
            };
            tokio::select! {
                () = sleep_until(Instant::now() + next) => {}
                () = self.asked_after(started + ASKED_INTERVAL) => {}
            }
        }
    }

    /// Waits until some time has passed and a token then names, or has named, a key that was not asked
    /// for yet.
    async fn asked_after(&self, time: Instant) {
        sleep_until(time).await;
        loop {
            let last_success = self.fetches.borrow().last_success;
            if self.unknown().any_since(last_success) {
                return;
            }
            self.asked.notified().await;
        }
    }

    /// Puts fetched keys in force.
    fn take(&self, fetched: Result<KeySet, FetchError>, failures: u32) {
        let url = self.place.url.to_string();
        match fetched {
            Ok(keys) => {
                self.metrics.count_fetch(FetchResult::Success);
                // Tokens that equal keys have judged need not be judged again.
                if self.keys().is_some_and(|before| *before == keys) {
                    return;
                }
                let (number, skipped) = (keys.len(), keys.skipped());
                self.keys.store(Some(Arc::new(keys)));
                tracing::info!(
                    url,
                    keys = number,
                    skipped,
                    "the keys of an issuer are in force"
                );
            }
            Err(error) => {
                self.metrics.count_fetch(FetchResult::Failure);
                let kept = self.keys().map_or(0, |keys| keys.len());
                tracing::warn!(url, %error, failures, kept, "cannot fetch the keys of an issuer");
            }
        }
    }

    /// Puts keys in force that were not fetched.
    #[cfg(test)]
    pub(crate) fn put(&self, keys: KeySet) {
        self.take(Ok(keys), 0);
    }

    fn unknown(&self) -> std::sync::MutexGuard<'_, UnknownKeys> {
        // Nothing under the lock can leave it half changed.
        self.unknown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time to the next attempt after some failures in a row, with up to a fifth on top.
fn retry_delay(failures: u32) -> Duration {
    let doubled = RETRY_FIRST.saturating_mul(1 << (failures - 1).min(16));
    doubled.min(RETRY_MAX).mul_f64(1.0 + fastrand::f64() / 5.0)
}
