//! The time of a request.

/// The time of a request, in milliseconds since the Unix epoch, by each of the clocks that may be right. What is
/// out of a limit of time is so by all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The time by the clock that is furthest behind.
    pub(super) earliest: i64,
    /// The time by the clock that is furthest ahead.
    pub(super) latest: i64,
}

impl Moment {
    /// With a clock more, by which it is this time.
    #[must_use]
    pub fn or(self, millis: i64) -> Self {
        Self {
            earliest: self.earliest.min(millis),
            latest: self.latest.max(millis),
        }
    }

    /// True when the clocks do not say the same.
    pub fn is_doubtful(self) -> bool {
        self.earliest < self.latest
    }
}

impl From<i64> for Moment {
    /// The time by the only clock.
    fn from(millis: i64) -> Self {
        Self {
            earliest: millis,
            latest: millis,
        }
    }
}
