//! How many series there are in all shards.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use super::table::Counted;

#[derive(Debug, Default)]
pub(super) struct Count {
    /// The series that are active, and that the tables have.
    entries: AtomicUsize,
    /// Series that passed unseen, as those let think that were seen once.
    unseen: AtomicUsize,
    /// Series that are only remembered.
    asleep: AtomicUsize,
    /// Series that became known.
    created: AtomicU64,
}

impl Count {
    pub(super) fn entries(&self) -> usize {
        self.entries.load(Relaxed)
    }

    pub(super) fn unseen(&self) -> usize {
        self.unseen.load(Relaxed)
    }

    pub(super) fn asleep(&self) -> usize {
        self.asleep.load(Relaxed)
    }

    /// The series that are active.
    pub(super) fn active(&self) -> usize {
        self.entries().saturating_add(self.unseen())
    }

    /// The series that became known since the start.
    pub(super) fn created(&self) -> u64 {
        self.created.load(Relaxed)
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

    /// Counts a new entry that has a place.
    pub(super) fn add_reserved(&self, entry: Counted) {
        self.created.fetch_add(1, Relaxed);
        self.unseen.fetch_add(entry.unseen, Relaxed);
    }

    pub(super) fn add(&self, entries: Counted) {
        self.entries.fetch_add(entries.entries, Relaxed);
        self.unseen.fetch_add(entries.unseen, Relaxed);
        self.asleep.fetch_add(entries.asleep, Relaxed);
    }

    pub(super) fn remove(&self, entries: Counted) {
        self.entries.fetch_sub(entries.entries, Relaxed);
        self.unseen.fetch_sub(entries.unseen, Relaxed);
        self.asleep.fetch_sub(entries.asleep, Relaxed);
    }

    /// Series that were active are only remembered from now on.
    pub(super) fn put_to_sleep(&self, entries: Counted) {
        self.remove(entries);
        self.asleep.fetch_add(entries.entries, Relaxed);
    }
}
