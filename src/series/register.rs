//! What is known of all series together, and how many of them are looked up.

use super::clock::Second;
use super::growth::Growth;
use super::table::{Gone, Table};

/// How long a table fills. A spoke sends all its series within a scrape interval, of at most two minutes, and
/// what it had to send again before that.
const FILL_SECONDS: u64 = 150;

/// Up to this limit, each series is looked up. So few take no time, and chance would tell too little.
const SMALL_LIMIT: usize = 4096;

/// At least one in `1 << SHIFT_MAX` series is looked up.
const SHIFT_MAX: u32 = 4;

/// How often a series should be looked up in an hour, so that nearly all are seen: one in a thousand is not.
const SIGHTINGS: u64 = 7;

/// How often, and for how long, each series is looked up although the limit is far: what is sent seldom beside
/// much that is sent often would not be found otherwise. Once in the time for which a series is known.
const ROUND_SECONDS: u64 = 45 * 60;

/// When more than this part of all may have passed unseen, half of the series are looked up: many are
/// new, and become known sooner.
const UNSEEN_PART: usize = 16;

/// All but the entries of the table themselves.
#[derive(Debug, Default)]
pub(super) struct Register {
    /// The entries of the table.
    pub(super) entries: usize,
    /// Series that passed unseen, as those let think that were seen once.
    pub(super) unseen: usize,
    /// Series that became known, and were not told of.
    pub(super) created: u64,
    pub(super) growth: Growth,
    /// When idle series were last removed.
    pub(super) swept: Second,
    /// The limit is near.
    near: bool,
    /// That it is near was told.
    told: bool,
    /// Until when the table fills.
    fills_until: Second,
    /// When in a round each series is looked up. Spokes do not have the same time.
    pub(super) phase: u64,
    /// The next line to be swept.
    line: usize,
    /// The minute at hand.
    minute: u64,
    /// Series in a minute, on average.
    per_minute: u64,
    /// One in `1 << far_shift` series is looked up while the limit is far and few are new.
    far_shift: u32,
}

impl Register {
    /// The series that are active.
    pub(super) fn active(&self) -> usize {
        self.entries.saturating_add(self.unseen)
    }

    /// Counts a new entry, which stands for so many series that passed unseen.
    pub(super) fn add(&mut self, unseen: usize) {
        self.entries += 1;
        self.created += 1;
        self.unseen += unseen;
    }

    /// A series was seen again that stood for others.
    pub(super) fn see_again(&mut self, unseen: usize) {
        self.unseen = self.unseen.saturating_sub(unseen);
    }

    /// Forgets entries that are gone.
    pub(super) fn remove(&mut self, gone: Gone) {
        self.entries = self.entries.saturating_sub(gone.entries);
        self.see_again(gone.unseen);
    }

    /// Forgets all entries.
    pub(super) fn forget_all(&mut self) {
        self.entries = 0;
        self.unseen = 0;
        self.line = 0;
    }

    /// Removes what is idle of a table, of which all is swept in a minute.
    pub(super) fn remove_idle(&mut self, table: &Table, seconds: u64, now: Second) {
        let all = table.lines();
        let due = all.saturating_mul(seconds.min(60).try_into().unwrap_or(60));
        for _ in 0..due.div_ceil(60) {
            self.line = if self.line < all { self.line } else { 0 };
            let gone = table.remove_idle(self.line, now.minute());
            self.remove(gone);
            self.line += 1;
        }
    }

    /// Lets more than the limit enter for some time.
    pub(super) fn begin_to_fill(&mut self, now: Second) {
        self.fills_until = now.plus(FILL_SECONDS);
    }

    /// True while the table fills.
    pub(super) fn fills(&self, now: Second) -> bool {
        now < self.fills_until
    }

    /// The entries beyond which none may enter.
    pub(super) fn most(&self, limit: usize, now: Second) -> usize {
        match self.fills(now) {
            true => limit.saturating_add(limit / 4),
            false => limit,
        }
    }

    /// The minutes that ended since the last call.
    pub(super) fn minutes_ended(&mut self, now: Second) -> u64 {
        let ended = now.minutes().saturating_sub(self.minute);
        self.minute = now.minutes();
        ended
    }

    /// Adapts to the series of the last minutes how many are looked up: as few as find each of them
    /// several times in an hour.
    pub(super) fn adapt(&mut self, passed: u64, minutes: u64) {
        let passed = passed / minutes.max(1);
        self.per_minute = match self.per_minute {
            0 => passed,
            before => (15 * before).saturating_add(passed) / 16,
        };
        let sightings = self.per_minute.saturating_mul(60) / (self.active().max(1) as u64);
        let once_in = (sightings / SIGHTINGS).max(1);
        self.far_shift = once_in.ilog2().min(SHIFT_MAX);
    }

    /// How many series are looked up from now on: one in `1 << shift`.
    pub(super) fn shift(&mut self, limit: usize, now: Second) -> u32 {
        self.near = self.is_near(limit, self.near);
        let round = now.number().wrapping_add(self.phase) % ROUND_SECONDS;
        if self.near || limit <= SMALL_LIMIT || self.fills(now) || round < FILL_SECONDS {
            0
        } else if self.unseen > self.entries / UNSEEN_PART {
            self.far_shift.min(1)
        } else {
            self.far_shift
        }
    }

    /// True when the limit is near and that was not told yet.
    pub(super) fn tells_near(&mut self, limit: usize) -> bool {
        let told = self.told;
        self.told = self.is_near(limit, told);
        self.told && !told
    }

    /// True when the limit is near. It stays near until it is clearly far.
    fn is_near(&self, limit: usize, before: bool) -> bool {
        let tenths = if before { 7 } else { 8 };
        self.active() >= limit.saturating_mul(tenths) / 10
    }
}
