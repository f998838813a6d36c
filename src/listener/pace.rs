//! How fast connections give way to others.
//!
//! Where places are few, strangers on many addresses could open connections so fast that each gives way
//! before its head was read, those of spokes included. So one that gives way has had its place for some
//! time, and new ones wait meanwhile in the system's queue, where their first bytes arrive as well.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// The time in which a connection keeps its place at least. Its head comes with the first packets.
const STAY_MIN: Duration = Duration::from_millis(50);

/// A timer has a resolution of a millisecond, so turns that it delayed are taken together.
const CATCH_UP_MAX: Duration = Duration::from_millis(5);

/// Spaces the connections that give way.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    /// Spaces the connections of so many places. The oldest one gives way, so each has its place for as
    /// long as all of them take.
    pub(super) fn new(places: usize) -> Self {
        let places = u32::try_from(places).unwrap_or(u32::MAX).max(1);
        Self {
            interval: STAY_MIN / places,
            next: Mutex::new(Instant::now()),
        }
    }

    /// Waits until the next connection may give way.
    pub(super) async fn turn(&self) {
        let turn = {
            // Nothing under the lock can leave it half done.
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let turn = (*next).max(now.checked_sub(CATCH_UP_MAX).unwrap_or(now));
            *next = turn + self.interval;
            turn
        };
        sleep_until(turn).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The time that so many turns take.
    async fn time_of(places: usize, turns: u32) -> Duration {
        let pace = Pace::new(places);
        let began = Instant::now();
        for _ in 0..turns {
            pace.turn().await;
        }
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn all_places_together_take_as_long_as_one_connection_stays() {
        for places in [1, 64, 4096] {
            let turns = 10 * u32::try_from(places).unwrap();
            let took = time_of(places, turns).await;
            let expected = 10 * STAY_MIN;
            assert!(took <= expected, "{places}: {took:?}");
            assert!(
                took + STAY_MIN + CATCH_UP_MAX >= expected,
                "{places}: {took:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn turns_that_were_not_taken_are_lost() {
        let pace = Pace::new(1);
        pace.turn().await;
        tokio::time::advance(100 * STAY_MIN).await;
        let began = Instant::now();
        for _ in 0..3 {
            pace.turn().await;
        }
        assert!(began.elapsed() + CATCH_UP_MAX >= 2 * STAY_MIN);
    }
}
