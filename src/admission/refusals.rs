//! How fast a spoke is refused.
//!
//! A sender that waits as `Retry-After` asks is refused once in some seconds on each of its connections. One
//! that does not would be refused thousands of times a second, which takes CPU time from the others. So the
//! responses to refusals that come faster are held back, for no longer than a sender hardly notices.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::rate::nanos;

/// The time between two refusals that are not held back, in nanoseconds. 200 shards of a Prometheus that wait
/// for two seconds each are refused as often.
const INTERVAL: u64 = 10_000_000;

/// So much time without a refusal has no effect on later ones, in nanoseconds: as many are told at once as fit
/// into it. That is a Prometheus of many shards that meets a limit.
const BURST: u64 = 2_000_000_000;

/// The longest time that a response is held back, in nanoseconds. `Retry-After` is no shorter.
const DELAY_MAX: u64 = 1_000_000_000;

/// The refusals of one spoke. Times are those since the start.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// When the last one was paid for, in nanoseconds since the start.
    paid_at: AtomicU64,
}

impl Refusals {
    /// Counts a refusal. Returns the time for which its response is held back.
    pub(super) fn add(&self, now: Duration) -> Duration {
        // Time begins with the burst, so that it does not have to be paid for at first.
        let now = nanos(now).saturating_add(BURST);
        let mut delay = 0;
        let paid = |paid_at: u64| {
            let paid_at = paid_at.clamp(now - BURST, now + DELAY_MAX);
            delay = paid_at.saturating_sub(now);
            Some(paid_at + INTERVAL)
        };
        let _ = self.paid_at.fetch_update(Relaxed, Relaxed, paid);
        Duration::from_nanos(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The refusals that are not held back at first.
    const FREE: u64 = BURST / INTERVAL + 1;

    /// How long so many connections, each of which sends again after `pause`, are refused as often as said.
    fn refused(connections: usize, pause: Duration, time: Duration) -> Vec<Duration> {
        let refusals = Refusals::default();
        let mut due = vec![Duration::ZERO; connections];
        let mut delays = Vec::new();
        loop {
            let (place, now) = due
                .iter()
                .copied()
                .enumerate()
                .min_by_key(|(_, due)| *due)
                .unwrap();
            if now >= time {
                return delays;
            }
            let delay = refusals.add(now);
            delays.push(delay);
            due[place] = now + delay + pause;
        }
    }

    #[test]
    fn a_sender_that_waits_is_never_held_back() {
        // 200 shards, as `max_shards` may allow, and the shortest `Retry-After` but one.
        let delays = refused(200, Duration::from_secs(2), Duration::from_secs(600));
        assert!(delays.len() > 50_000);
        assert!(delays.iter().all(Duration::is_zero));
    }

    #[test]
    fn a_sender_that_does_not_wait_is_held_back_more_and_more() {
        let refusals = Refusals::default();
        for _ in 0..FREE {
            assert_eq!(refusals.add(Duration::ZERO), Duration::ZERO);
        }
        for refused in 1..=DELAY_MAX / INTERVAL {
            let expected = Duration::from_nanos(refused * INTERVAL);
            assert_eq!(refusals.add(Duration::ZERO), expected);
        }
        for _ in 0..1000 {
            assert_eq!(refusals.add(Duration::ZERO).as_nanos(), DELAY_MAX.into());
        }
        // What was beyond is not held against it.
        let later = Duration::from_nanos(DELAY_MAX + INTERVAL);
        assert_eq!(refusals.add(later), Duration::ZERO);
    }

    #[test]
    fn many_connections_are_refused_as_often_as_few() {
        let minute = Duration::from_secs(60);
        for connections in [1, 64] {
            let refused = refused(connections, Duration::from_micros(50), minute).len();
            let expected = usize::try_from(FREE).unwrap() + 6_000;
            assert!(
                refused.abs_diff(expected) <= connections + 100,
                "{connections}: {refused}"
            );
        }
        // Each of them waits for no longer than the bound.
        let refused = refused(1000, Duration::from_micros(50), minute).len();
        assert!(refused <= 61_000 + 1000, "{refused}");
    }
}
