//! How many series there are in all shards.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use super::table::Gone;

#[derive(Debug, Default)]
pub(super) struct Count {
    /// The entries of all tables.
    entries: AtomicUsize,
    /// Series that passed unseen, as those let think that were seen once.
    unseen: AtomicUsize,
    /// Series that became known, and were not told of.
    created: AtomicU64,
}

impl Count {
    pub(super) fn entries(&self) -> usize {
        self.entries.load(Relaxed)
    }

    pub(super) fn unseen(&self) -> usize {
        self.unseen.load(Relaxed)
    }

    /// The series that are active.
    pub(super) fn active(&self) -> usize {
        self.entries().saturating_add(self.unseen())
    }

    /// The series that became known since the last call.
    pub(super) fn take_created(&self) -> u64 {
        self.created.swap(0, Relaxed)
    }

    /// Takes a place for a new entry, of which there may be so many.
    pub(super) fn reserve(&self, most: usize) -> bool {
        let more = |entries| (entries < most).then_some(entries + 1);
        self.entries.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    /// Gives a place back.
    pub(super) fn release(&self) {
        self.entries.fetch_sub(1, Relaxed);
    }

    /// Counts a new entry that has a place, and stands for so many series that passed unseen.
    pub(super) fn add(&self, unseen: usize) {
        self.created.fetch_add(1, Relaxed);
        self.unseen.fetch_add(unseen, Relaxed);
    }

    /// A series was seen again that stood for others.
    pub(super) fn see_again(&self, unseen: usize) {
        self.unseen.fetch_sub(unseen, Relaxed);
    }

    /// Entries are gone.
    pub(super) fn remove(&self, gone: Gone) {
        self.entries.fetch_sub(gone.entries, Relaxed);
        self.unseen.fetch_sub(gone.unseen, Relaxed);
    }
}
