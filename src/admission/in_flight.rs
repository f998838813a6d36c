//! How many requests are under way.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// The requests of a spoke that are under way.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// Those within the limit.
    within: AtomicUsize,
    /// Those beyond a limit that refuses nothing.
    beyond: AtomicUsize,
}

impl InFlight {
    /// Takes a place if fewer than `most` are taken.
    pub(super) fn take(&self, most: usize) -> bool {
        let taken = |taken: usize| (taken < most).then_some(taken + 1);
        self.within.fetch_update(Relaxed, Relaxed, taken).is_ok()
    }

    /// Takes a place that the limit does not have.
    pub(super) fn take_beyond(&self) {
        self.beyond.fetch_add(1, Relaxed);
    }

    /// Gives a place back: one within the limit, or one beyond.
    pub(super) fn free(&self, within: bool) {
        let taken = if within { &self.within } else { &self.beyond };
        taken.fetch_sub(1, Relaxed);
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.within.load(Relaxed) + self.beyond.load(Relaxed)
    }
}
