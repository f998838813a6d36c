//! Numbers of the last minute.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// The time that one window spans.
const WINDOW: Duration = Duration::from_secs(60);

/// The bits of a number. The others are the number of its window, and last for 31 years.
const VALUE_BITS: u32 = 40;

const VALUE_MAX: u64 = (1 << VALUE_BITS) - 1;

/// Numbers in the window of time at hand and in the one before, either added up or the largest of each.
/// Times are those since the start.
#[derive(Debug, Default)]
pub(super) struct Lately([AtomicU64; 2]);

impl Lately {
    /// Adds to the sum of the window at hand.
    pub(super) fn add(&self, value: u64, now: Duration) {
        self.update(now, |sum| sum.saturating_add(value));
    }

    /// Raises the largest of the window at hand.
    pub(super) fn raise(&self, value: u64, now: Duration) {
        self.update(now, |largest| largest.max(value));
    }

    /// The largest of both windows, so of the last one to two minutes.
    pub(super) fn largest(&self, now: Duration) -> u64 {
        let window = window(now);
        let before = window.checked_sub(1).map_or(0, |it| self.value(it));
        self.value(window).max(before)
    }

    /// The sum of the last minute by the seconds that it has. What the window before adds to it is taken
    /// to have come evenly.
    pub(super) fn per_second(&self, now: Duration) -> f64 {
        let window = window(now);
        let Some(before) = window.checked_sub(1) else {
            // The first seconds would show a rate that nobody sends at.
            let seconds = now.as_secs_f64().max(1.0);
            return self.value(window) as f64 / seconds;
        };
        let begun = (now.as_secs() % WINDOW.as_secs()) as f64 / WINDOW.as_secs_f64();
        let sum = self.value(window) as f64 + self.value(before) as f64 * (1.0 - begun);
        sum / WINDOW.as_secs_f64()
    }

    fn update(&self, now: Duration, change: impl Fn(u64) -> u64) {
        let window = window(now);
        let changed = |packed| {
            let (of, value) = unpack(packed);
            // A late thread may come with a window that is over.
            let value = match of.cmp(&window) {
                std::cmp::Ordering::Less => 0,
                std::cmp::Ordering::Equal => value,
                std::cmp::Ordering::Greater => return None,
            };
            Some((window << VALUE_BITS) | change(value).min(VALUE_MAX))
        };
        // Fails when the window is over.
        let _ = self.slot(window).fetch_update(Relaxed, Relaxed, changed);
    }

    fn value(&self, window: u64) -> u64 {
        let (of, value) = unpack(self.slot(window).load(Relaxed));
        if of == window { value } else { 0 }
    }

    fn slot(&self, window: u64) -> &AtomicU64 {
        let [even, odd] = &self.0;
        if window.is_multiple_of(2) { even } else { odd }
    }
}

fn window(now: Duration) -> u64 {
    (now.as_secs() / WINDOW.as_secs()) & (u64::MAX >> VALUE_BITS)
}

fn unpack(packed: u64) -> (u64, u64) {
    (packed >> VALUE_BITS, packed & VALUE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_largest_is_that_of_one_to_two_minutes() {
        let lately = Lately::default();
        assert_eq!(lately.largest(at(0)), 0);
        lately.raise(7, at(10));
        lately.raise(5, at(20));
        assert_eq!(lately.largest(at(59)), 7);
        lately.raise(3, at(60));
        assert_eq!(lately.largest(at(119)), 7);
        assert_eq!(lately.largest(at(120)), 3);
        assert_eq!(lately.largest(at(180)), 0);
        lately.raise(9, at(100_000));
        lately.raise(99, at(50_000));
        assert_eq!(lately.largest(at(100_000)), 9);
        lately.raise(u64::MAX, at(100_000));
        assert_eq!(lately.largest(at(100_000)), VALUE_MAX);
    }

    #[test]
    fn the_rate_follows_what_comes() {
        let lately = Lately::default();
        lately.add(100, Duration::from_millis(10));
        assert_eq!(lately.per_second(Duration::from_millis(20)), 100.0);
        for second in 1..600 {
            lately.add(100, at(second));
            let rate = lately.per_second(at(second));
            assert!((99.0..=201.0).contains(&rate), "{rate} at {second} s");
        }
        assert_eq!(lately.per_second(at(630)), 50.0);
        assert_eq!(lately.per_second(at(660)), 0.0);
    }
}
