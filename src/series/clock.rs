//! Time as the table of series keeps it: in minutes, of which ten bits are enough.

use std::time::Duration;

/// How long a series is active without being seen, in minutes.
const IDLE_MINUTES: u64 = 60;

/// How long a series is remembered without being seen, at most.
const REMEMBERED_MINUTES: u64 = 14 * 60;

/// Numbers of minutes, from 1 on. They repeat, so nothing may stay in the table for as long, which may be
/// swept an hour late.
const NUMBERS: u64 = 1023;

/// From so many minutes on, the number is of a minute that comes: of a request that began after the sweep that
/// meets it.
const AHEAD_FROM: u64 = NUMBERS - 5;

/// A time since the start, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Second(u64);

impl Second {
    pub(super) fn new(since_start: Duration) -> Self {
        Self(since_start.as_secs())
    }

    pub(super) fn number(self) -> u64 {
        self.0
    }

    /// The seconds since an earlier one.
    pub(super) fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    pub(super) fn minutes(self) -> u64 {
        self.0 / 60
    }

    pub(super) fn minute(self) -> Minute {
        Minute(1 + self.minutes() % NUMBERS)
    }
}

/// A minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Minute(u64);

impl Minute {
    pub(super) fn number(self) -> u64 {
        self.0
    }

    /// True when a series that was last seen in the minute of this number was idle for an hour.
    pub(super) fn finds_idle(self, number: u64) -> bool {
        self.since(number) > IDLE_MINUTES
    }

    /// True when a series that was last seen in the minute of this number is remembered no longer.
    pub(super) fn has_forgotten(self, number: u64) -> bool {
        self.since(number) > REMEMBERED_MINUTES
    }

    /// The minutes since that of this number.
    pub(super) fn since(self, number: u64) -> u64 {
        match (self.0 + NUMBERS - number) % NUMBERS {
            AHEAD_FROM.. => 0,
            since => since,
        }
    }
}

/// True when all series are idle if none was seen for so many seconds.
pub(super) fn finds_all_idle(seconds: u64) -> bool {
    seconds >= 60 * IDLE_MINUTES
}

/// True when all series that were seen before a time of so many seconds ago are forgotten.
pub(super) fn forgets_all(seconds: u64) -> bool {
    seconds > 60 * (IDLE_MINUTES + 1)
}
