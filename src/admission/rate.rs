//! A token bucket that samples are taken out of, and that can be in debt.
//!
//! The bucket fills by the rate up to the samples of one second, the burst. A request is let in while
//! the bucket is not in debt, and then takes all its samples, however many they are. So a request that
//! is larger than the burst passes, and the next one waits until it is paid for. Requests that are let
//! in at the same time may each make debt: none of them has taken its samples yet.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

const SECOND: u64 = 1_000_000_000;

/// The time in which an empty bucket fills, in nanoseconds: the burst is what comes in one second.
const BURST: u64 = SECOND;

/// A bucket. Times are those since the start.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// When it will be full if nothing more is taken, in nanoseconds since the start. One number is the
    /// whole state, so a request needs one atomic operation.
    full_at: AtomicU64,
    /// The samples in a second; 0 for no limit.
    rate: AtomicU64,
}

/// Samples that were taken out of a bucket.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Taken {
    samples: u64,
    /// When time has paid for them, in nanoseconds since the start.
    paid_at: u64,
}

/// What is not paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Debt {
    /// The samples.
    pub(super) samples: u64,
    /// The time until they are paid for.
    pub(super) wait: Duration,
}

impl Bucket {
    /// Changes the rate. The samples that are missing stay the same.
    pub(super) fn set_rate(&self, rate: Option<usize>, now: Duration) {
        let rate = rate.map_or(0, |rate| rate as u64);
        let before = self.rate.swap(rate, Relaxed);
        if before == rate {
            return;
        }
        let now = nanos(now);
        let rescaled = |full_at: u64| {
            let missing = full_at.saturating_sub(now);
            let time = match rate {
                0 => 0,
                _ => scaled(missing, before, rate),
            };
            Some(now.saturating_add(time))
        };
        let _ = self.full_at.fetch_update(Relaxed, Relaxed, rescaled);
    }

    /// What is not paid for; `None` lets a request in.
    pub(super) fn debt(&self, now: Duration) -> Option<Debt> {
        let rate = self.rate.load(Relaxed);
        let missing = self.full_at.load(Relaxed).saturating_sub(nanos(now));
        let wait = missing.checked_sub(BURST).filter(|wait| *wait > 0)?;
        (rate > 0).then(|| Debt {
            samples: scaled(wait, rate, SECOND).max(1),
            wait: Duration::from_nanos(wait),
        })
    }

    /// Takes the samples of a request that was let in.
    pub(super) fn charge(&self, samples: u64, now: Duration) -> Taken {
        let (now, cost) = (nanos(now), self.cost(samples));
        if cost == 0 {
            return Taken::default();
        }
        let mut paid_at = now;
        let charged = |full_at: u64| {
            paid_at = full_at.max(now).saturating_add(cost);
            Some(paid_at)
        };
        let _ = self.full_at.fetch_update(Relaxed, Relaxed, charged);
        Taken { samples, paid_at }
    }

    /// Gives back samples that were taken, as far as time has not paid for them yet. More of them would
    /// pay for samples of other requests.
    pub(super) fn give_back(&self, taken: Taken, now: Duration) {
        let unpaid = taken.paid_at.saturating_sub(nanos(now));
        let cost = self.cost(taken.samples).min(unpaid);
        let given = |full_at: u64| Some(full_at.saturating_sub(cost));
        let _ = self.full_at.fetch_update(Relaxed, Relaxed, given);
    }

    /// The time in which these samples come, in nanoseconds.
    fn cost(&self, samples: u64) -> u64 {
        match self.rate.load(Relaxed) {
            0 => 0,
            rate => scaled(samples, SECOND, rate),
        }
    }
}

/// The nanoseconds of a time.
pub(super) fn nanos(time: Duration) -> u64 {
    time.as_nanos().try_into().unwrap_or(u64::MAX)
}

/// `number * by / of`, or the largest number.
fn scaled(number: u64, by: u64, of: u64) -> u64 {
    let product = u128::from(number) * u128::from(by);
    (product / u128::from(of)).try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bucket(rate: usize) -> Bucket {
        let bucket = Bucket::default();
        bucket.set_rate(Some(rate), Duration::ZERO);
        bucket
    }

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn wait(bucket: &Bucket, now: Duration) -> Option<Duration> {
        bucket.debt(now).map(|debt| debt.wait)
    }

    #[test]
    fn a_request_larger_than_the_burst_passes_and_is_paid_back() {
        let bucket = bucket(1000);
        assert_eq!(bucket.debt(at(0)), None);
        bucket.charge(5000, at(0));
        let debt = Debt {
            samples: 4000,
            wait: at(4000),
        };
        assert_eq!(bucket.debt(at(0)), Some(debt));
        assert_eq!(wait(&bucket, at(3999)), Some(at(1)));
        assert_eq!(bucket.debt(at(4000)), None);
        bucket.charge(1, at(4000));
        assert_eq!(wait(&bucket, at(4000)), Some(at(1)));
    }

    #[test]
    fn an_idle_bucket_holds_one_second() {
        let bucket = bucket(1000);
        let now = at(3_600_000);
        bucket.charge(1000, now);
        assert_eq!(bucket.debt(now), None);
        bucket.charge(1, now);
        assert_eq!(wait(&bucket, now), Some(at(1)));
    }

    #[test]
    fn what_is_given_back_was_never_taken() {
        let bucket = bucket(1000);
        bucket.charge(500, at(0));
        let taken = bucket.charge(9000, at(0));
        bucket.give_back(taken, at(0));
        assert_eq!(bucket.debt(at(0)), None);
        bucket.charge(500, at(0));
        assert_eq!(bucket.debt(at(0)), None);
        bucket.charge(1, at(0));
        assert!(bucket.debt(at(0)).is_some());
    }

    #[test]
    fn what_time_has_paid_for_is_not_given_back() {
        let bucket = bucket(1000);
        let fails_late = bucket.charge(5000, at(0));
        bucket.charge(5000, at(6000));
        bucket.give_back(fails_late, at(6000));
        assert_eq!(wait(&bucket, at(6000)), Some(at(4000)));
        let fails_early = bucket.charge(5000, at(11_000));
        bucket.give_back(fails_early, at(12_000));
        assert_eq!(bucket.debt(at(12_000)), None);
        bucket.charge(1001, at(12_000));
        assert_eq!(wait(&bucket, at(12_000)), Some(at(1)));
    }

    #[test]
    fn another_rate_leaves_the_samples_that_are_not_paid_for() {
        let bucket = bucket(1000);
        bucket.charge(11_000, at(0));
        assert_eq!(wait(&bucket, at(0)), Some(at(10_000)));
        bucket.set_rate(Some(2000), at(0));
        assert_eq!(wait(&bucket, at(0)), Some(at(4500)));
        bucket.set_rate(Some(2000), at(1000));
        assert_eq!(wait(&bucket, at(1000)), Some(at(3500)));
        bucket.set_rate(None, at(1000));
        assert_eq!(bucket.debt(at(1000)), None);
        bucket.charge(u64::MAX, at(1000));
        bucket.set_rate(Some(1), at(1000));
        assert_eq!(bucket.debt(at(1000)), None);
    }

    proptest! {
        /// Over any time, what passes is within the rate, the burst and the last request.
        #[test]
        fn no_more_passes_than_the_rate(
            rate in 1_usize..100_000,
            requests in prop::collection::vec(
                (0_u64..3000, 1_u64..50_000, prop::option::of(0_u64..30_000)),
                1..200,
            ),
        ) {
            let bucket = bucket(rate);
            let (mut now, mut passed, mut largest) = (0, 0, 0);
            let mut failing = Vec::new();
            for (after, samples, fails_after) in requests {
                now += after;
                for (_, taken) in failing.extract_if(.., |(fails_at, _)| *fails_at <= now) {
                    bucket.give_back(taken, at(now));
                }
                if bucket.debt(at(now)).is_some() {
                    continue;
                }
                let taken = bucket.charge(samples, at(now));
                if let Some(fails_after) = fails_after {
                    failing.push((now + fails_after, taken));
                    continue;
                }
                passed += samples;
                largest = largest.max(samples);
                let seconds = now as f64 / 1000.0;
                let most = rate as f64 * (seconds + 1.0) + largest as f64;
                // Each cost is rounded to a nanosecond.
                prop_assert!(passed as f64 <= most * 1.0001 + 1.0, "{passed} of {most}");
            }
        }

        /// Whoever waits as told is let in, and not before.
        #[test]
        fn the_wait_ends_the_debt(rate in 1_usize..10_000_000, samples in 0_u64..100_000_000) {
            let bucket = bucket(rate);
            bucket.charge(samples, Duration::ZERO);
            if let Some(debt) = bucket.debt(Duration::ZERO) {
                let early = debt.wait - Duration::from_nanos(1);
                prop_assert!(early.is_zero() || bucket.debt(early).is_some());
                prop_assert_eq!(bucket.debt(debt.wait), None);
            }
        }

        #[test]
        fn no_number_is_too_large(
            rate in any::<usize>(),
            then in any::<usize>(),
            samples in any::<u64>(),
            millis in any::<u64>(),
        ) {
            let bucket = bucket(rate);
            let taken = bucket.charge(samples, at(millis));
            bucket.charge(u64::MAX, at(millis));
            bucket.set_rate(Some(then), at(millis / 2));
            bucket.debt(at(0));
            bucket.give_back(taken, at(millis / 2));
            bucket.debt(at(millis));
        }
    }
}
