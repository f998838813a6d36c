//! The active series of a spoke: those that it sent in the last hour. With `limits.active_series_max`,
//! series that are new beyond the limit are refused, and those that are known pass.
//!
//! A table has the known ones, eight bytes for each and room to spare: 13 to 17 bytes in all. It has many
//! parts, each of which grows and is swept alone, so no request waits for the whole table. To
//! look a series up takes longer than the rest of a walk does with it. So as long as a spoke is below four
//! fifths of its limit, some of its series are looked up and the others pass unseen: one in 32, at random. In a
//! round, each is: every 45 minutes, and when many seem to be new, for little more than a scrape
//! interval. So the table gets to know nearly all, and what it does not know when the limit comes near has room to
//! enter. From there on each series is looked up. What is not
//! seen for an hour no longer counts as active, but is remembered for thirteen more hours: far from the limit, a series
//! that is sent every five minutes often passes unseen for an hour.
//!
//! Which series are looked up depends on nothing that the spoke sends, and nothing that it sees tells. So it
//! can hide none. It could only send series once that are never sent again, of which one in 32 is seen.
//! Therefore a series that was seen once counts for all that passed unseen meanwhile, until it is seen
//! again. That is never less than there are, on average, and more while many series are a few minutes old.
//! It only decides how many are looked up: refused is what is new when the table has as many as the
//! limit allows, and each of these was seen.
//!
//! Nothing is kept over a restart. While a table fills for the first time, or after an hour without a series,
//! all are looked up, until a minute brings few new ones. For an hour, a quarter more than the limit may enter,
//! whatever kept the spoke from sending all its series at once. So none is refused that was known before, unless
//! the spoke floods at that moment: then it is first come, first served.
//!
//! Two ways were rejected. To look up the series whose hash ends in some zeros estimates as well, but then
//! the table knows these alone, and when a flood comes it cannot tell the others from it. A sketch of
//! distinct values needs a hash of each series, which takes half as long as the walk.

mod clock;
mod count;
mod growth;
mod pace;
mod round;
mod shard;
mod table;
#[cfg(test)]
mod tests;
mod watching;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crate::wire::identity::Key;

use clock::{Second, finds_all_idle, forgets_all};
use count::Count;
use growth::Growth;
use pace::Pace;
use shard::{Admission, SHARDS, Shard};
use table::Mark;

pub use growth::Growing;
pub use watching::Watching;

/// Shards that one request sweeps at most. The next one goes on.
const SHARDS_AT_ONCE: usize = 8;

/// Series that are idle and remembered are no more than this part of the limit.
const REMEMBERED_PART: usize = 4;

/// The active series of one spoke.
#[derive(Debug)]
pub struct ActiveSeries {
    started: Instant,
    key: Key,
    /// Says by chance which series are looked up.
    chance: RandomState,
    requests: AtomicU64,
    /// When the last request came.
    asked: AtomicU64,
    shards: Box<[Shard]>,
    count: Count,
    pace: Pace,
    growth: Mutex<Growth>,
    /// The series that became known and were told of.
    told: AtomicU64,
    /// When the keeper was at work last.
    kept: AtomicU64,
    keeper: Mutex<Keeper>,
}

/// Removes idle series, a part of the shards each second and all of them in a minute, one after the other.
#[derive(Debug, Default)]
struct Keeper {
    /// When it was at work last.
    at: Second,
    /// The shards that were swept since the start, again and again.
    swept: usize,
    /// Shards that are to be swept, in sixtieths.
    due: usize,
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
        let key = Key::new(std::array::from_fn(|place| {
            u64::from_le_bytes(words[place])
        }));
        let chance = RandomState::new();
        let pace = Pace::new(chance.hash_one("phase"));
        Ok(Self {
            started: Instant::now(),
            key,
            chance,
            requests: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            shards: (0..SHARDS).map(Shard::new).collect(),
            count: Count::default(),
            pace,
            growth: Mutex::default(),
            told: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            keeper: Mutex::default(),
        })
    }

    /// Begins to watch the series of a request, of which so many may be active.
    pub fn watch(&self, limit: usize) -> Watching<'_> {
        self.watch_at(limit, self.started.elapsed())
    }

    /// Like [`watch`](Self::watch), at a time since the start.
    pub fn watch_at(&self, limit: usize, now: Duration) -> Watching<'_> {
        let now = Second::new(now);
        if self.kept.load(Relaxed) < now.number() {
            match self.keeper.try_lock() {
                Ok(mut keeper) => self.keep(&mut keeper, limit, now, SHARDS_AT_ONCE),
                Err(TryLockError::Poisoned(poisoned)) => {
                    self.keep(&mut poisoned.into_inner(), limit, now, SHARDS_AT_ONCE);
                }
                // Another request is at it.
                Err(TryLockError::WouldBlock) => {}
            }
        }
        let asked = self.asked.fetch_max(now.number(), Relaxed);
        let was_silent = finds_all_idle(now.number().saturating_sub(asked));
        if was_silent || self.count.entries() == 0 {
            self.begin_to_fill(now, was_silent);
        }
        let request = self.requests.fetch_add(1, Relaxed);
        Watching::new(self, limit, now, self.chance.hash_one(request))
    }

    /// Begins with an empty table. What is only remembered would take part of the room that it gives to
    /// those that come again, and so would what was not yet found idle.
    fn begin_to_fill(&self, now: Second, was_silent: bool) {
        let _keeper = self.keeper.lock();
        // Another request may have been faster.
        if self.count.entries() > 0 && !was_silent {
            return;
        }
        if was_silent || self.count.asleep() > 0 {
            self.forget_all();
        }
        self.pace.begin_to_fill(now);
    }

    /// Watches the series of a request once more, with the [seed](Watching::seed) of the first time: then
    /// its inspection is repeated, and all notice was taken of it.
    pub fn watch_again(&self, limit: usize, seed: u64) -> Watching<'_> {
        let now = Second::new(self.started.elapsed());
        Watching::new(self, limit, now, seed).again()
    }

    /// How many series are active, where so many may be.
    pub fn standing(&self, limit: usize) -> Standing {
        self.standing_at(limit, self.started.elapsed())
    }

    fn standing_at(&self, limit: usize, now: Duration) -> Standing {
        let keeper = self.keeper.lock();
        let mut keeper = keeper.unwrap_or_else(PoisonError::into_inner);
        self.keep(&mut keeper, limit, Second::new(now), SHARDS);
        drop(keeper);
        Standing {
            active: self.count.active(),
            exact: !self.pace.is_far(limit) && self.count.unseen() == 0,
            growing: self.growth().most(),
            table_bytes: self.shards.iter().map(Shard::bytes).sum(),
        }
    }

    /// The series that became known since the last call.
    pub fn take_created(&self) -> u64 {
        self.tell(self.count.created())
    }

    /// Tells of the series up to this number that nobody was told of. Another caller may have seen a higher
    /// one meanwhile.
    fn tell(&self, created: u64) -> u64 {
        created.saturating_sub(self.told.fetch_max(created, Relaxed))
    }

    /// True once each time that the limit, of so many, comes near.
    pub fn tells_near(&self, limit: usize) -> bool {
        self.pace.tells_near(limit, &self.count)
    }

    /// Removes idle series of some shards, at most so many. Looks up as many series as it has become
    /// right.
    fn keep(&self, keeper: &mut Keeper, limit: usize, now: Second, shards_max: usize) {
        if forgets_all(now.since(keeper.at)) {
            self.forget_all();
        }
        // What becomes due in a minute is all of them. Where requests are rare, one can do more.
        let seconds = usize::try_from(now.since(keeper.at).min(60)).unwrap_or(60);
        let shards_max = shards_max + seconds * SHARDS / 60;
        keeper.due = (keeper.due + seconds * SHARDS).min(60 * SHARDS);
        for _ in 0..shards_max.min(keeper.due / 60) {
            let shard = &self.shards[keeper.swept % SHARDS];
            shard.remove_idle(now.minute(), self.remembered_max(limit, now), &self.count);
            keeper.swept = keeper.swept.wrapping_add(1);
            keeper.due -= 60;
        }
        let minutes = now.minutes().saturating_sub(keeper.at.minutes());
        if minutes > 0 {
            self.pace.adapt(now, minutes, &self.count);
        }
        keeper.at = keeper.at.max(now);
        self.kept.store(keeper.at.number(), Relaxed);
        self.pace.keep_round(limit, now, &self.count);
        self.pace.update(limit, &self.count);
    }

    fn forget_all(&self) {
        for shard in &self.shards {
            shard.forget_all(&self.count);
        }
    }

    /// How many series may be put to sleep; `None` where all were looked up for an hour: there, what is idle is
    /// new when it comes again.
    fn remembered_max(&self, limit: usize, now: Second) -> Option<usize> {
        let most = (limit / REMEMBERED_PART).saturating_sub(self.count.asleep());
        self.pace.was_far(now).then_some(most)
    }

    /// Takes in a series that was not found, unless there are too many.
    fn admit(&self, series: u64, limit: usize, now: Second) -> Admission {
        let most = self.pace.most(limit, now);
        let shard = &self.shards[shard_of(series)];
        let mark = Mark::new(series);
        if self.count.entries() >= most {
            // A flood takes no lock. Another request may have brought the series a moment ago.
            return match shard.has(mark) {
                true => Admission::Known,
                false => Admission::Refused,
            };
        }
        let shift = self.pace.shift();
        let admission = shard.admit(mark, now.minute(), shift, most, &self.count);
        if admission == Admission::New {
            self.pace.take_in(limit, now, &self.count);
        }
        admission
    }

    fn growth(&self) -> MutexGuard<'_, Growth> {
        // Nothing under the lock can leave it half done.
        self.growth.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of the shard that a series is in.
#[inline]
fn shard_of(series: u64) -> usize {
    // Its mark does not have these bits.
    let [bits, ..] = series.to_le_bytes();
    usize::from(bits) % SHARDS
}
