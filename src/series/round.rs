//! Rounds, in which each series is looked up although the limit is far.
//!
//! Chance finds soon what is sent often. A round finds what is sent seldom beside it, and which of those that were
//! seen once are sent again. It ends when hardly any series is seen in it for the first time: after little
//! more than a scrape interval.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::clock::Second;
use super::count::Count;

/// How often there is a round. A series is active for longer than that and a round.
const EVERY_SECONDS: u64 = 45 * 60;

/// How long one takes at most: more than most scrape intervals.
const SECONDS_MAX: u64 = 150;

/// A round ends when no more than this part of those that were looked up last are seen in it for the first time.
const LATE_PART: u64 = 1024;

/// A round begins at once when more than this part of the series may have passed unseen since the last one. Most of
/// them are just new, and count as one when they are seen again.
const UNSEEN_PART: usize = 8;

#[derive(Debug)]
pub(super) struct Round {
    goes_on: AtomicBool,
    /// When the last one began, in seconds.
    began: AtomicU64,
    /// Series that were looked up lately, and those of them that had not been seen in this round.
    lately: AtomicU64,
    late: AtomicU64,
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
    /// What may have passed unseen when the last one ended.
    unseen: usize,
}

impl Round {
    pub(super) fn new(phase: u64) -> Self {
        Self {
            goes_on: AtomicBool::new(false),
            began: AtomicU64::new(0),
            lately: AtomicU64::new(0),
            late: AtomicU64::new(0),
            plan: Mutex::new(Plan {
                phase: phase % EVERY_SECONDS,
                due: 0,
                looked_up: 0,
                unseen: 0,
            }),
        }
    }

    pub(super) fn goes_on(&self) -> bool {
        self.goes_on.load(Relaxed)
    }

    /// For how many minutes a series was not seen that was not seen in this round; more than there are when there is
    /// none.
    pub(super) fn minutes(&self, now: Second) -> u64 {
        match self.goes_on() {
            true => now.minutes().saturating_sub(self.began.load(Relaxed) / 60),
            false => u64::MAX,
        }
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
        self.end(&mut plan, count);
    }

    /// Begins and ends rounds.
    pub(super) fn keep(&self, now: Second, count: &Count) {
        let mut plan = self.plan();
        if self.goes_on() {
            if self.is_over(&mut plan, now, count) {
                self.end(&mut plan, count);
            }
            return;
        }
        if now.number() >= plan.due {
            plan.due = now.number() + EVERY_SECONDS;
            self.begin(&mut plan, now);
        }
        self.keep_few_unseen(&mut plan, now, count);
    }

    /// A series became known. Begins a round if many may have passed unseen.
    pub(super) fn take_in(&self, now: Second, count: &Count) {
        self.keep_few_unseen(&mut self.plan(), now, count);
    }

    fn keep_few_unseen(&self, plan: &mut Plan, now: Second, count: &Count) {
        if self.goes_on() {
            return;
        }
        let unseen = count.unseen();
        plan.unseen = plan.unseen.min(unseen);
        if unseen - plan.unseen > count.entries() / UNSEEN_PART {
            self.begin(plan, now);
        }
    }

    fn begin(&self, plan: &mut Plan, now: Second) {
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

    fn end(&self, plan: &mut Plan, count: &Count) {
        self.goes_on.store(false, Relaxed);
        plan.unseen = count.unseen();
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
