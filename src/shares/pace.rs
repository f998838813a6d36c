//! How fast places become free while somebody waits.

use std::time::Duration;

use tokio::time::Instant;

/// The pace at which places become free is measured over this time at least.
const PACE_TIME: Duration = Duration::from_secs(1);

/// A pace that is older says nothing any more, nor is any measured for longer.
const PACE_AGE_MAX: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The time between two places, on average over [`PACE_TIME`] and more.
    average: Duration,
    /// When that was measured.
    measured: Option<Instant>,
    /// Since when places are counted for the next average.
    since: Option<Instant>,
    /// The places that were given since.
    given: u32,
}

impl Pace {
    /// Somebody begins to wait, and nobody did before.
    pub(super) fn begin(&mut self, now: Instant) {
        (self.since, self.given) = (Some(now), 0);
    }

    /// A place was given to somebody who waited. So many are taken. Those that were taken at once become
    /// free at once, so the first of them say nothing about the time between two.
    pub(super) fn given(&mut self, now: Instant, taken: usize) {
        self.given = self.given.saturating_add(1);
        let time = self.time(now);
        let all = self.given as usize >= taken || time >= PACE_AGE_MAX;
        if time >= PACE_TIME && all {
            // After a stall, those that are taken may all become free at the next moment.
            let taken = u32::try_from(taken).unwrap_or(u32::MAX);
            self.average = time / self.given.max(taken);
            self.measured = Some(now);
            (self.since, self.given) = (Some(now), 0);
        }
    }

    /// The time between two places: what it was on average not long ago, or what it is now if that is
    /// more, though the places that are taken may all become free at the next moment. A moment is no
    /// measure: the first of many who come at once would see no place in it.
    pub(super) fn interval(&self, now: Instant, taken: usize) -> Duration {
        let is_recent = |measured| now.duration_since(measured) <= PACE_AGE_MAX;
        let average = match self.measured.is_some_and(is_recent) {
            true => self.average,
            false => Duration::ZERO,
        };
        let time = self.time(now);
        if time < PACE_TIME {
            return average;
        }
        let taken = u32::try_from(taken.max(1)).unwrap_or(u32::MAX);
        average.max(time / self.given.saturating_add(taken))
    }

    fn time(&self, now: Instant) -> Duration {
        let time = self.since.map(|since| now.duration_since(since));
        time.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_after_a_stall_is_no_pace() {
        let start = Instant::now();
        let mut pace = Pace::default();
        pace.begin(start);
        let stalled = Duration::from_secs(12);
        let now = start + stalled;
        pace.given(now, 32);
        assert_eq!(pace.interval(now, 32), stalled / 32);
        // The others become free with it.
        for _ in 0..31 {
            pace.given(now, 32);
        }
        assert_eq!(pace.interval(now, 32), stalled / 32);
        let now = now + Duration::from_secs(1);
        pace.given(now, 32);
        assert_eq!(pace.interval(now, 32), Duration::from_secs(1) / 32);
    }
}
