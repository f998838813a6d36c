//! Rounds, in which each series is looked up although the limit is far.
//!
//! Chance finds soon what is sent often. A round finds what is sent seldom beside it, and which of those that were
//! seen once are sent again. It ends when hardly any series is seen in it for the first time: after little
//! more than a scrape interval.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::clock::Second;
use super::count::Count;

/// How often there is a round. A series is active for longer than that and a round.
const EVERY_SECONDS: u64 = 45 * 60;

/// How long one takes at most: more than most scrape intervals.
const SECONDS_MAX: u64 = 150;

/// How long after a round in which nothing was sent there is another.
const PAUSE_SECONDS: u64 = 60;

/// A round ends when no more than this part of those that were looked up last are seen in it for the first time.
const LATE_PART: u64 = 1024;

/// A round begins at once when more than this part of the series may have passed unseen since the last one. Mostly they
/// are just new, and those that stand for them no longer do when they are seen again.
const UNSEEN_PART: usize = 8;

#[derive(Debug)]
pub(super) struct Round {
    goes_on: AtomicBool,
    /// When the last one began, in seconds.
    began: AtomicU64,
    /// Series that were looked up lately, and those of them that had not been seen in this round.
    lately: AtomicU64,
    late: AtomicU64,
    /// What may have passed unseen when the last one ended, or later if that was less.
    unseen: AtomicUsize,
    plan: Mutex<Plan>,
}

/// What whoever begins and ends rounds has to know.
#[derive(Debug)]
struct Plan {
    /// How long after the table was filled the first one is due. Spokes that began together should not have them
    /// together.
    phase: u64,
    /// When the next one is due.
    due: u64,
    /// Series that were looked up in the present one, but for lately.
    looked_up: u64,
}

impl Round {
    pub(super) fn new(phase: u64) -> Self {
        Self {
            goes_on: AtomicBool::new(false),
            began: AtomicU64::new(0),
            lately: AtomicU64::new(0),
            late: AtomicU64::new(0),
            unseen: AtomicUsize::new(0),
            plan: Mutex::new(Plan {
                phase: phase % EVERY_SECONDS,
                due: 0,
                looked_up: 0,
            }),
        }
    }

    pub(super) fn goes_on(&self) -> bool {
        self.goes_on.load(Relaxed)
    }

    /// True when more than a part of the series may have passed unseen although there was a round: they are not sent
    /// again, and a round cannot tell how many they are.
    pub(super) fn misses_many(&self, count: &Count) -> bool {
        self.unseen.load(Relaxed) > count.entries() / UNSEEN_PART
    }

    /// For how many minutes a series was not seen that was not seen in this round; `None` when there is none.
    pub(super) fn minutes(&self, now: Second) -> Option<u64> {
        let began = self.began.load(Relaxed) / 60;
        self.goes_on().then(|| now.minutes().saturating_sub(began))
    }

    /// Series were looked up, some of them for the first time in this round.
    pub(super) fn pass(&self, looked_up: u64, late: u64) {
        self.lately.fetch_add(looked_up, Relaxed);
        self.late.fetch_add(late, Relaxed);
    }

    /// There is none as long as all series are looked up anyway.
    pub(super) fn put_off(&self, now: Second, count: &Count) {
        let mut plan = self.plan();
        plan.due = now.number() + plan.phase;
        self.end(count);
    }

    /// Begins and ends rounds.
    pub(super) fn keep(&self, now: Second, count: &Count) {
        let mut plan = self.plan();
        if self.goes_on() {
            if self.is_over(&mut plan, now, count) {
                self.end(count);
            }
        } else if now.number() >= plan.due || self.may_have_missed_many(count) {
            self.begin(&mut plan, now);
        }
    }

    /// Begins a round if many series may have passed unseen, now that another became known.
    pub(super) fn take_in(&self, now: Second, count: &Count) {
        if !self.goes_on() && self.may_have_missed_many(count) {
            self.begin(&mut self.plan(), now);
        }
    }

    fn may_have_missed_many(&self, count: &Count) -> bool {
        let unseen = count.unseen();
        let before = self.unseen.fetch_min(unseen, Relaxed).min(unseen);
        unseen - before > count.entries() / UNSEEN_PART
    }

    fn begin(&self, plan: &mut Plan, now: Second) {
        plan.due = now.number() + EVERY_SECONDS;
        plan.looked_up = 0;
        self.lately.store(0, Relaxed);
        self.late.store(0, Relaxed);
        self.began.store(now.number(), Relaxed);
        self.goes_on.store(true, Relaxed);
    }

    /// True when the round has taken its time, or has seen nearly all series.
    fn is_over(&self, plan: &mut Plan, now: Second, count: &Count) -> bool {
        let seconds = now.number().saturating_sub(self.began.load(Relaxed));
        if seconds >= SECONDS_MAX {
            if plan.looked_up + self.lately.load(Relaxed) == 0 {
                // Nothing was sent.
                plan.due = now.number() + PAUSE_SECONDS;
            }
            return true;
        }
        let entries = count.entries() as u64;
        if self.lately.load(Relaxed) <= entries / 4 {
            return false;
        }
        let [lately, late] = [&self.lately, &self.late].map(|it| it.swap(0, Relaxed));
        plan.looked_up += lately;
        plan.looked_up > entries + entries / 2 && late <= lately / LATE_PART
    }

    fn end(&self, count: &Count) {
        self.goes_on.store(false, Relaxed);
        self.unseen.store(count.unseen(), Relaxed);
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        // Nothing under the lock can leave it half done.
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn set_phase(&self, phase: u64) {
        self.plan().phase = phase;
    }
}
