//! The active series of a spoke: those that it sent in the last hour. With `limits.active_series_max`,
//! series that are new beyond the limit are refused, and those that are known pass.
//!
//! A table has the known ones, eight bytes for each and room to spare: 13 to 16 bytes in all. To
//! look a series up takes longer than the rest of a walk does with it. So as long as a spoke is below four
//! fifths of its limit, some of its series are looked up and the others pass unseen: at least one in 16, at
//! random. A spoke sends each series again and again, so in an hour the table gets to know all but one in
//! a thousand, and what it does not know when the limit comes near has room to enter. From there on
//! each series is looked up. So it is for some minutes of each hour, to find what is sent seldom.
//!
//! Which series are looked up depends on nothing that the spoke sends, and nothing that it sees tells. So it
//! can hide none. It could only send series once that are never sent again, of which one in 16 is seen.
//! Therefore a series that was seen once counts for all that passed unseen meanwhile, until it is seen
//! again. That is never less than there are, on average, and more while many series are a few minutes old.
//! It only decides how many are looked up: refused is what is new when the table has as many as the
//! limit allows, and each of these was seen.
//!
//! Nothing is kept over a restart. While a table fills for the first time, or after an hour without a series,
//! all are looked up and a quarter more than the limit may enter. A spoke sends all its series within a
//! scrape interval, so none is refused that was known before, unless the spoke floods at that moment: then
//! it is first come, first served.
//!
//! Two ways were rejected. To look up the series whose hash ends in some zeros estimates as well, but then
//! the table knows these alone, and when a flood comes it cannot tell the others from it. A sketch of
//! distinct values needs a hash of each series, which takes half as long as the walk.

mod clock;
mod growth;
mod register;
mod table;
#[cfg(test)]
mod tests;
mod watching;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::wire::identity::Key;

use clock::{Second, forgets_all};
use register::Register;
use table::{Found, Mark, Table};

pub use growth::Growing;
pub use watching::Watching;

/// Room below which a table does not shrink.
const SMALL_ROOM: usize = 4096;

/// The active series of one spoke.
#[derive(Debug)]
pub struct ActiveSeries {
    started: Instant,
    key: Key,
    /// Says by chance which series are looked up.
    chance: RandomState,
    requests: AtomicU64,
    /// One in `1 << shift` series is looked up.
    shift: AtomicU32,
    /// Whoever adds and removes entries, or puts another table in its place, holds the register.
    table: ArcSwap<Table>,
    register: Mutex<Register>,
    /// When idle series were last removed.
    swept: AtomicU64,
    /// Series that were looked up, and those that passed meanwhile.
    passed: AtomicU64,
}

/// How many series are active.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Standing {
    /// The series that are active, or an estimate while not all are looked up.
    pub active: usize,
    /// All are looked up.
    pub exact: bool,
    /// The metrics that most new series came from lately.
    pub growing: Vec<Growing>,
    /// The memory of the table, in bytes.
    pub table_bytes: usize,
}

impl ActiveSeries {
    /// Draws the key of identities. Fails when the system has no random bytes.
    pub fn new() -> Result<Self, getrandom::Error> {
        let mut secret = [0; 8 * Key::WORDS];
        getrandom::fill(&mut secret)?;
        let (words, _) = secret.as_chunks();
        let key = Key::new(std::array::from_fn(|place| u64::from_le_bytes(words[place])));
        let chance = RandomState::new();
        let mut register = Register::default();
        register.phase = chance.hash_one("phase");
        Ok(Self {
            started: Instant::now(),
            key,
            chance,
            requests: AtomicU64::new(0),
            shift: AtomicU32::new(0),
            table: ArcSwap::from_pointee(Table::with_room(0)),
            register: Mutex::new(register),
            swept: AtomicU64::new(0),
            passed: AtomicU64::new(0),
        })
    }

    /// Begins to watch the series of a request, of which so many may be active.
    pub fn watch(&self, limit: usize) -> Watching<'_> {
        self.watch_at(limit, self.started.elapsed())
    }

    /// Like [`watch`](Self::watch), at a time since the start.
    pub fn watch_at(&self, limit: usize, now: Duration) -> Watching<'_> {
        let now = Second::new(now);
        self.sweep(limit, now);
        let request = self.requests.fetch_add(1, Relaxed);
        Watching::new(self, limit, now, self.chance.hash_one(request))
    }

    /// How many series are active, where so many may be.
    pub fn standing(&self, limit: usize) -> Standing {
        self.standing_at(limit, self.started.elapsed())
    }

    fn standing_at(&self, limit: usize, now: Duration) -> Standing {
        self.sweep(limit, Second::new(now));
        let register = self.register();
        Standing {
            active: register.active(),
            exact: self.shift.load(Relaxed) == 0,
            growing: register.growth.most(),
            table_bytes: self.table.load().bytes(),
        }
    }

    /// The series that became known since the last call.
    pub fn take_created(&self) -> u64 {
        std::mem::take(&mut self.register().created)
    }

    /// True once each time that the limit, of so many, comes near.
    pub fn tells_near(&self, limit: usize) -> bool {
        // The limit is far while not all are looked up.
        self.shift.load(Relaxed) == 0 && self.register().tells_near(limit)
    }

    /// Removes idle series, a part of the table each second and all of it in a minute. Looks up as many
    /// series as it has become right.
    fn sweep(&self, limit: usize, now: Second) {
        if self.swept.load(Relaxed) >= now.number() {
            return;
        }
        let mut register = self.register();
        if register.swept >= now {
            return;
        }
        self.swept.store(now.number(), Relaxed);
        let table = self.table.load_full();
        let seconds = now.since(register.swept);
        if forgets_all(seconds) {
            register.forget_all();
            self.table.store(Arc::new(Table::with_room(0)));
        } else {
            register.remove_idle(&table, seconds, now);
        }
        register.swept = now;
        let minutes = register.minutes_ended(now);
        if minutes > 0 {
            register.adapt(self.passed.swap(0, Relaxed), minutes);
            let wanted = with_room_to_grow(register.entries);
            if wanted.max(SMALL_ROOM) < table.room() / 3 * 2 {
                self.move_to(Table::with_room(wanted), &mut register);
            }
        }
        self.shift.store(register.shift(limit, now), Relaxed);
    }

    /// Takes in a series that was not found. False when there are too many.
    fn admit(&self, mark: Mark, metric: &[u8], limit: usize, now: Second) -> bool {
        let mut register = self.register();
        let found = self.table.load().see(mark, now.minute());
        if found != Found::Nothing {
            return true;
        }
        if register.entries == 0 {
            register.begin_to_fill(now);
            self.shift.store(0, Relaxed);
        }
        let most = register.most(limit, now);
        let admitted = register.entries < most;
        // When a table fills, all series are new.
        if !admitted || !register.fills(now) {
            register.growth.add(metric, now);
        }
        if !admitted {
            return false;
        }
        let room = self.table.load().room();
        if register.entries >= room {
            let grown = with_room_to_grow(room).min(most).max(register.entries + 1);
            self.move_to(Table::with_room(grown), &mut register);
        }
        let shift = self.shift.load(Relaxed);
        // Where there is no slot for a series, it passes each time.
        if let Some(unseen) = self.table.load().add(mark, now.minute(), shift) {
            register.add(unseen);
            if shift > 0 {
                self.shift.store(register.shift(limit, now), Relaxed);
            }
        }
        true
    }

    /// Takes notice that a series that was seen once was seen again.
    fn see_again(&self, mark: Mark, now: Second) {
        let mut register = self.register();
        let unseen = self.table.load().see_again(mark, now.minute());
        register.see_again(unseen);
    }

    /// Puts another table in the place of the present one. Whoever reads that one goes on.
    fn move_to(&self, table: Table, register: &mut Register) {
        let lost = table.add_all(&self.table.load());
        register.remove(lost);
        self.table.store(Arc::new(table));
    }

    fn register(&self) -> MutexGuard<'_, Register> {
        // Nothing under the lock can leave it half done.
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A table grows by a quarter: it is copied seldom enough, and never much too large.
fn with_room_to_grow(entries: usize) -> usize {
    entries.saturating_add(entries / 4)
}
