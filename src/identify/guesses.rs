//! Slows down senders that guess credentials.
//!
//! Once many wrong credentials came from a network, the responses to further ones are held back, each
//! time for longer. The check of a credential is not: whoever sends a right one from the same network,
//! as behind the NAT of a site, gets the response at once.
//!
//! A response that is held back costs memory and keeps its connection open, so few are at once. To
//! those beyond, hubgate responds at once. This is no lock, and need not be one: a token cannot be
//! guessed, and passwords are checked one at a time.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use crate::reasons::AuthFailure;

use super::failures::{Failures, Network};

/// The wrong credentials of a network that are answered at once. A spoke whose credential was replaced
/// at one end only sends more; it loses nothing by a slower 401.
const FREE: usize = 10;

/// The first delay. Each further one is twice as long.
const DELAY_MIN: Duration = Duration::from_millis(100);

/// The longest delay, well below the 30 s after which Prometheus gives up a request.
const DELAY_MAX: Duration = Duration::from_secs(5);

/// The number of responses that are held back at once.
const HELD_MAX: usize = 256;

/// The wrong credentials of the last minutes, by network.
pub struct Guesses {
    failures: Mutex<Failures<Network>>,
    free: Arc<Semaphore>,
}

/// The delay of one response.
#[derive(Debug)]
pub struct Delay {
    time: Duration,
    _place: OwnedSemaphorePermit,
}

impl Guesses {
    /// Nobody has guessed yet.
    pub fn new() -> Self {
        Self {
            failures: Mutex::default(),
            free: Arc::new(Semaphore::new(HELD_MAX)),
        }
    }

    /// Remembers that a sender at an address was not identified. Returns the delay of the response, if
    /// it is held back.
    pub fn add(&self, address: IpAddr, failure: AuthFailure) -> Option<Delay> {
        if !failure.may_be_guess() {
            return None;
        }
        let now = Instant::now().into_std();
        // Nothing under the lock can leave it half done.
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let beyond = failures
            .add(Network::of(address), now)
            .checked_sub(FREE + 1);
        drop(failures);
        let doublings = u32::try_from(beyond?).unwrap_or(u32::MAX);
        let factor = 2_u32.saturating_pow(doublings);
        let place = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(Delay {
            time: DELAY_MIN.saturating_mul(factor).min(DELAY_MAX),
            _place: place,
        })
    }
}

impl Default for Guesses {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Guesses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guesses").finish_non_exhaustive()
    }
}

impl Delay {
    /// Waits until the response may be sent.
    pub async fn passes(self) {
        sleep(self.time).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::failures::FORGOTTEN_AFTER;
    use super::*;

    fn address(last: u8) -> IpAddr {
        [203, 0, 113, last].into()
    }

    /// The time for which the response to a wrong credential is held back.
    async fn held_back(guesses: &Guesses, address: IpAddr) -> Duration {
        let started = Instant::now();
        if let Some(delay) = guesses.add(address, AuthFailure::Unknown) {
            delay.passes().await;
        }
        started.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_credentials_of_one_network_are_answered_more_and_more_slowly() {
        let guesses = Guesses::new();
        for _ in 0..FREE {
            assert_eq!(held_back(&guesses, address(1)).await, Duration::ZERO);
        }
        for milliseconds in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            let held = held_back(&guesses, address(1)).await;
            assert_eq!(held, Duration::from_millis(milliseconds));
            let other = held_back(&guesses, address(2)).await;
            assert_eq!(other, Duration::ZERO);
        }
        for _ in 0..100 {
            assert_eq!(held_back(&guesses, address(1)).await, DELAY_MAX);
        }
        tokio::time::advance(FORGOTTEN_AFTER).await;
        assert_eq!(held_back(&guesses, address(1)).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_guess_is_never_held_back() {
        let guesses = Guesses::new();
        for _ in 0..2 * FREE {
            for failure in [
                AuthFailure::Expired,
                AuthFailure::Malformed,
                AuthFailure::Missing,
            ] {
                assert!(guesses.add(address(1), failure).is_none(), "{failure:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn responses_beyond_the_bound_are_not_held_back() {
        let guesses = Guesses::new();
        let wrong = || guesses.add(address(1), AuthFailure::Unknown);
        for _ in 0..FREE {
            assert!(wrong().is_none());
        }
        let mut held: Vec<_> = (0..HELD_MAX).map(|_| wrong().unwrap()).collect();
        assert!(wrong().is_none());
        let started = Instant::now();
        held.pop().unwrap().passes().await;
        assert_eq!(started.elapsed(), DELAY_MAX);
        assert!(wrong().is_some());
    }
}
