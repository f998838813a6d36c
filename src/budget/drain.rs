//! How fast bytes become free, for the time that a refused request is told to wait.
//!
//! Giving back only adds a number. All else is done when a request is refused, which is seldom.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The pace is measured over this time at least.
const PACE_TIME: Duration = Duration::from_secs(1);

/// After this time without a refusal, the pace says nothing any more.
const PACE_AGE_MAX: Duration = Duration::from_secs(10);

/// Nobody is told to wait for longer, so that what is added at random stays below the most that a
/// Prometheus is told.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// Bytes that become free.
#[derive(Debug, Default)]
pub(super) struct Drain {
    given_back: AtomicU64,
    measured: Mutex<Measured>,
    /// Until when what becomes free is promised to requests that were refused.
    promised: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Measured {
    since: Option<Instant>,
    /// What had been given back then.
    given_back: u64,
    /// Bytes a second in the time before.
    pace: Option<f64>,
}

impl Drain {
    /// Some bytes become free.
    pub(super) fn add(&self, bytes: usize) {
        self.given_back.fetch_add(bytes as u64, Relaxed);
    }

    /// The bytes a second that became free lately, unless nobody was refused.
    pub(super) fn pace(&self, now: Instant) -> Option<f64> {
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        let given_back = self.given_back.load(Relaxed);
        let time = measured.since.map(|since| now.duration_since(since));
        let pace = match time {
            Some(time) if time < PACE_TIME => return measured.pace,
            Some(time) if time <= PACE_AGE_MAX => {
                let bytes = given_back.wrapping_sub(measured.given_back);
                Some(bytes as f64 / time.as_secs_f64())
            }
            _ => None,
        };
        *measured = Measured {
            since: Some(now),
            given_back,
            pace,
        };
        pace
    }

    /// Promises so many bytes to a request that was refused, after what others were promised. Returns the
    /// time until then at this pace.
    pub(super) fn promise(&self, bytes: usize, pace: f64, now: Instant) -> Duration {
        let time = Duration::try_from_secs_f64(bytes as f64 / pace);
        let time = time.unwrap_or(WAIT_MAX).min(WAIT_MAX);
        let mut promised = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        let from = promised.map_or(now, |promised| promised.max(now));
        let until = (from + time).min(now + WAIT_MAX);
        *promised = Some(until);
        until - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_that_of_the_last_seconds() {
        let drain = Drain::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        drain.add(5000);
        assert_eq!(drain.pace(start), None);
        drain.add(3000);
        assert_eq!(drain.pace(start + PACE_TIME / 2), None);
        assert_eq!(drain.pace(at(2)), Some(1500.0));
        drain.add(9000);
        assert_eq!(drain.pace(at(2)), Some(1500.0));
        assert_eq!(drain.pace(at(4)), Some(4500.0));
        assert_eq!(drain.pace(at(6)), Some(0.0));
        assert_eq!(drain.pace(at(60)), None, "too long ago");
    }

    #[test]
    fn requests_that_are_refused_together_come_back_one_after_the_other() {
        let drain = Drain::default();
        let start = Instant::now();
        let second = Duration::from_secs(1);
        for number in 1..=5 {
            assert_eq!(drain.promise(1000, 1000.0, start), second * number);
        }
        assert_eq!(drain.promise(1000, 1000.0, start + 2 * second), 4 * second);
        for _ in 0..100 {
            drain.promise(1000, 1000.0, start);
        }
        assert_eq!(drain.promise(1000, 1000.0, start), WAIT_MAX);
        let drain = Drain::default();
        assert_eq!(drain.promise(1, 0.0, start), WAIT_MAX);
        assert_eq!(drain.promise(0, 0.0, start), WAIT_MAX);
    }
}
