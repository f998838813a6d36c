//! How many of the series are looked up, and how many may be known.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use super::clock::{Second, finds_all_idle};
use super::count::Count;
use super::round::Round;

/// How long a table fills at least. Most spokes send all their series in two minutes, and what they had to send
/// again before that.
const FILL_SECONDS: u64 = 150;

/// A table fills until a minute brings no more than this part of its series, and no longer than
/// [`MARGIN_SECONDS`].
const FILL_PART: u64 = 512;

/// How long more than the limit may enter when a table begins to fill. By then a series that did not come is
/// not active.
const MARGIN_SECONDS: u64 = 3600;

/// Up to this limit, each series is looked up. So few take no time, and chance would tell too little.
const SMALL_LIMIT: usize = 4096;

/// At least one in `1 << SHIFT_MAX` series is looked up.
const SHIFT_MAX: u32 = 5;

#[derive(Debug)]
pub(super) struct Pace {
    /// One in `1 << shift` series is looked up.
    shift: AtomicU32,
    /// One in `1 << far_shift` series is looked up while the limit is far, but in rounds.
    far_shift: AtomicU32,
    /// When the limit was last far, in seconds; 0 is never.
    far_at: AtomicU64,
    /// The limit is near.
    near: AtomicBool,
    /// That it is near was told.
    told: AtomicBool,
    /// When the table began to fill.
    began: AtomicU64,
    /// The table fills.
    fills: AtomicBool,
    /// The series that had become known a minute ago.
    created: AtomicU64,
    round: Round,
    /// Series that were looked up, and those that passed meanwhile.
    passed: AtomicU64,
    /// Series in a minute, on average.
    per_minute: AtomicU64,
}

impl Pace {
    pub(super) fn new(phase: u64) -> Self {
        Self {
            shift: AtomicU32::new(0),
            far_shift: AtomicU32::new(0),
            far_at: AtomicU64::new(0),
            near: AtomicBool::new(false),
            told: AtomicBool::new(false),
            began: AtomicU64::new(0),
            fills: AtomicBool::new(true),
            created: AtomicU64::new(0),
            round: Round::new(phase),
            passed: AtomicU64::new(0),
            per_minute: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(super) fn shift(&self) -> u32 {
        self.shift.load(Relaxed)
    }

    /// Series were looked up, or passed meanwhile. Of those that were looked up, some had not been seen in this
    /// [round](Self::round_minutes).
    pub(super) fn pass(&self, series: u64, looked_up: u64, late: u64) {
        self.passed.fetch_add(series, Relaxed);
        self.round.pass(looked_up, late);
    }

    /// For how many minutes a series was not seen that was not seen in this round; `None` when there is none.
    pub(super) fn round_minutes(&self, now: Second) -> Option<u64> {
        self.round.minutes(now)
    }

    /// Lets more than the limit enter for some time, and looks all up.
    pub(super) fn begin_to_fill(&self, now: Second) {
        self.began.store(now.number(), Relaxed);
        self.fills.store(true, Relaxed);
        self.shift.store(0, Relaxed);
    }

    /// True while the table fills.
    pub(super) fn fills(&self) -> bool {
        self.fills.load(Relaxed)
    }

    /// The entries beyond which none may enter.
    pub(super) fn most(&self, limit: usize, now: Second) -> usize {
        match self.since_began(now) < MARGIN_SECONDS {
            true => limit.saturating_add(limit / 4),
            false => limit,
        }
    }

    fn since_began(&self, now: Second) -> u64 {
        now.number().saturating_sub(self.began.load(Relaxed))
    }

    /// Adapts to the series of the last minutes how many are looked up by chance.
    pub(super) fn adapt(&self, now: Second, minutes: u64, count: &Count) {
        let passed = self.passed.swap(0, Relaxed) / minutes.max(1);
        let created = count.created();
        let new = created.saturating_sub(self.created.swap(created, Relaxed));
        let few = passed > 0 && new / minutes.max(1) <= count.entries() as u64 / FILL_PART;
        let since = self.since_began(now);
        if since >= MARGIN_SECONDS || few && since >= FILL_SECONDS {
            self.fills.store(false, Relaxed);
        }
        let per_minute = match self.per_minute.load(Relaxed) {
            0 => passed,
            before => (15 * before).saturating_add(passed) / 16,
        };
        self.per_minute.store(per_minute, Relaxed);
        let sightings = per_minute.saturating_mul(60) / (count.active().max(1) as u64);
        // Once in an hour. A round finds what was not.
        let shift = sightings.max(1).ilog2();
        self.far_shift.store(shift.min(SHIFT_MAX), Relaxed);
    }

    /// Begins and ends rounds.
    pub(super) fn keep_round(&self, limit: usize, now: Second, count: &Count) {
        match self.is_far(limit) {
            true => {
                self.far_at.store(now.number(), Relaxed);
                self.round.keep(now, count);
            }
            false => self.round.put_off(now, count),
        }
    }

    /// Takes notice of a series that became known.
    pub(super) fn take_in(&self, limit: usize, now: Second, count: &Count) {
        if self.is_far(limit) {
            self.round.take_in(now, count);
            self.update(limit, count);
        }
    }

    /// Looks up as many series as it has become right.
    pub(super) fn update(&self, limit: usize, count: &Count) {
        let near = is_near(limit, count, self.near.load(Relaxed));
        self.near.store(near, Relaxed);
        let far_shift = self.far_shift.load(Relaxed);
        let shift = if !self.is_far(limit) || self.round.goes_on() {
            0
        } else if self.round.misses_many(count) {
            far_shift.min(1)
        } else {
            far_shift
        };
        self.shift.store(shift, Relaxed);
    }

    /// True when not all series have to be looked up all the time.
    pub(super) fn is_far(&self, limit: usize) -> bool {
        !self.near.load(Relaxed) && limit > SMALL_LIMIT && !self.fills()
    }

    /// True when not all series were looked up in the whole last hour.
    pub(super) fn was_far(&self, now: Second) -> bool {
        let far_at = self.far_at.load(Relaxed);
        far_at > 0 && !finds_all_idle(now.number().saturating_sub(far_at))
    }

    /// True when the limit is near and that was not told yet.
    pub(super) fn tells_near(&self, limit: usize, count: &Count) -> bool {
        // The limit is far while not all are looked up.
        if self.shift() > 0 {
            return false;
        }
        let near = is_near(limit, count, self.told.load(Relaxed));
        let told = self.told.swap(near, Relaxed);
        near && !told
    }

    #[cfg(test)]
    pub(super) fn passed(&self) -> u64 {
        self.passed.load(Relaxed)
    }

    #[cfg(test)]
    pub(super) fn set_phase(&self, phase: u64) {
        self.round.set_phase(phase);
    }

    #[cfg(test)]
    pub(super) fn set_shift(&self, shift: u32) {
        self.shift.store(shift, Relaxed);
    }
}

/// True when the limit is near. It stays near until it is clearly far.
fn is_near(limit: usize, count: &Count, before: bool) -> bool {
    let tenths = if before { 7 } else { 8 };
    count.active() >= limit.saturating_mul(tenths) / 10
}
