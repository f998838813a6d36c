//! A part of the table of series, which grows and shrinks alone.
//!
//! To copy a table of ten million series takes a second, in which all requests of the spoke would wait. A
//! part of it is copied in a millisecond, and only those wait that have a new series for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, Cache};

use super::clock::Minute;
use super::count::Count;
use super::table::{Counted, Found, Mark, Table};

/// How many shards there are. Which one a series is in, some bits of its identity say.
pub(super) const SHARDS: usize = 128;

/// How often a table grows at most for a series that there is no slot for. Of a small table, all slots may
/// be taken that a series can have.
const GROWTHS_MAX: usize = 4;

#[derive(Debug)]
pub(super) struct Shard {
    table: ArcSwap<Table>,
    /// The slots of the table that are taken. Whoever adds and removes some, or puts another table in its place, holds
    /// the lock.
    taken: Mutex<usize>,
    /// So many hundredths more lines it gets when it grows. Each shard has its own number, so that they
    /// grow at different times.
    growth: usize,
}

/// Reads the table of a shard for one request. To get hold of the table for each series would take longer than
/// to search it.
#[derive(Debug)]
pub(super) struct Reader<'s>(Cache<&'s ArcSwap<Table>, Arc<Table>>);

impl Reader<'_> {
    /// Searches a series, and notes that it was seen in this minute.
    #[inline]
    pub(super) fn see(&mut self, mark: Mark, minute: Minute) -> Found {
        self.0.load().see(mark, minute)
    }

    /// True when the table has a series.
    pub(super) fn has(&mut self, mark: Mark) -> bool {
        self.0.load().has(mark)
    }

    /// See [`Table::fetch`].
    #[inline]
    pub(super) fn fetch(&mut self, mark: Mark) -> u64 {
        self.0.load().fetch(mark)
    }
}

/// What became of a series that was not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is known.
    Known,
    /// It has become known.
    New,
    /// There are too many.
    Refused,
}

impl Shard {
    /// An empty shard with this place among all.
    pub(super) fn new(place: usize) -> Self {
        Self {
            table: ArcSwap::from_pointee(Table::default()),
            taken: Mutex::new(0),
            growth: 20 + 10 * place / SHARDS,
        }
    }

    /// The memory of its table, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.table.load().bytes()
    }

    /// True when its table has a series.
    pub(super) fn has(&self, mark: Mark) -> bool {
        self.table.load().has(mark)
    }

    /// Begins to read.
    pub(super) fn reader(&self) -> Reader<'_> {
        Reader(Cache::new(&self.table))
    }

    /// Notes that a series that is awaited was seen.
    pub(super) fn see_again(&self, mark: Mark, minute: Minute, count: &Count) {
        let _taken = self.lock();
        let [before, now] = self.table.load().see_again(mark, minute);
        count.add(now);
        count.remove(before);
    }

    /// Takes in a series that was not found, when one in `1 << shift` is looked up. There may be `most` in
    /// all shards.
    pub(super) fn admit(
        &self,
        mark: Mark,
        minute: Minute,
        shift: u32,
        most: usize,
        count: &Count,
    ) -> Admission {
        let mut taken = self.lock();
        if self.table.load().see(mark, minute) != Found::Nothing {
            return Admission::Known;
        }
        if !count.reserve(most) {
            return Admission::Refused;
        }
        for _ in 0..=GROWTHS_MAX {
            let table = self.table.load();
            if *taken < table.room()
                && let Some(entry) = table.add(mark, minute, shift)
            {
                *taken += 1;
                count.add_reserved(entry);
                return Admission::New;
            }
            self.move_to(self.grown(table.lines()), &mut taken, count);
        }
        // Where there is no slot for a series, it passes each time.
        count.release();
        Admission::Known
    }

    /// Removes the series that are idle, but for so many that are only to be remembered, and those that are
    /// remembered already; `None` removes all. A table that has become too large shrinks.
    pub(super) fn remove_idle(&self, minute: Minute, remembered_max: Option<usize>, count: &Count) {
        let mut taken = self.lock();
        let table = self.table.load();
        let [gone, remembered] = table.remove_idle(minute, remembered_max);
        *taken = taken.saturating_sub(gone.slots());
        count.remove(gone);
        count.put_to_sleep(remembered);
        let wanted = Table::lines_for(*taken + *taken / 5);
        // One that has just grown has 23 parts of 25.
        if wanted < table.lines() * 9 / 10 {
            self.move_to(wanted, &mut taken, count);
        }
    }

    /// Removes all series.
    pub(super) fn forget_all(&self, count: &Count) {
        let mut taken = self.lock();
        let table = self.table.swap(Arc::default());
        *taken = 0;
        count.remove(table.all());
    }

    /// Puts another table, of so many lines or some more, in the place of the present one. Whoever reads
    /// that one goes on.
    fn move_to(&self, mut lines: usize, taken: &mut usize, count: &Count) {
        let before = self.table.load();
        let mut growths = 0;
        let (table, lost) = loop {
            let table = Table::with_lines(lines);
            let lost = table.add_all(&before);
            if lost == Counted::default() || growths == GROWTHS_MAX {
                break (table, lost);
            }
            growths += 1;
            lines = self.grown(lines);
        };
        *taken = taken.saturating_sub(lost.slots());
        count.remove(lost);
        self.table.store(Arc::new(table));
    }

    /// The lines of a table that had so many and grows.
    fn grown(&self, lines: usize) -> usize {
        lines + lines * self.growth / 100 + 1
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        // Nothing under the lock can leave it half done.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn poison(&self) {
        let _taken = self.lock();
        panic!("with the lock");
    }
}
