//! What the requests of one spoke hold of the budget, and its limit.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use crate::config::LimitMode;

use super::AccountFull;

/// The bytes that all requests of one spoke have taken from the budget.
#[derive(Debug)]
pub struct Account {
    taken: AtomicUsize,
    limit: AtomicUsize,
    enforced: AtomicBool,
    /// Requests that exceeded the limit.
    exceeded: AtomicU64,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            taken: AtomicUsize::new(0),
            limit: usize::MAX.into(),
            enforced: true.into(),
            exceeded: AtomicU64::new(0),
        }
    }
}

impl Account {
    /// What they have taken, in bytes.
    pub fn bytes(&self) -> usize {
        self.taken.load(Relaxed)
    }

    /// How many requests have exceeded the limit.
    pub fn exceeded(&self) -> u64 {
        self.exceeded.load(Relaxed)
    }

    /// Changes the limit, in bytes, and whether it refuses what exceeds it.
    pub fn set_limit(&self, limit: Option<usize>, mode: LimitMode) {
        let limit = limit.unwrap_or(usize::MAX);
        self.limit.store(limit, Relaxed);
        let enforced = mode == LimitMode::Enforce;
        self.enforced.store(enforced, Relaxed);
    }

    /// Fails when a request that holds `held` may not take more bytes at present. Takes none.
    pub(super) fn check_room(&self, bytes: usize, held: usize) -> Result<(), AccountFull> {
        let taken = self.bytes();
        if !self.enforced.load(Relaxed) || self.has_room(taken, bytes, held) {
            return Ok(());
        }
        Err(self.full(taken))
    }

    /// Counts a request that exceeds the limit.
    pub(super) fn exceed(&self) {
        self.exceeded.fetch_add(1, Relaxed);
    }

    fn full(&self, taken: usize) -> AccountFull {
        AccountFull {
            limit: self.limit.load(Relaxed),
            taken,
        }
    }

    /// True when a request that holds `held` of the bytes `taken` may take more. One that is alone may go
    /// beyond the limit, or a large one would never pass.
    fn has_room(&self, taken: usize, bytes: usize, held: usize) -> bool {
        taken == held || taken.saturating_add(bytes) <= self.limit.load(Relaxed)
    }

    /// Takes bytes, and returns whether they were within the limit.
    pub(super) fn take(&self, bytes: usize, held: usize) -> Result<bool, AccountFull> {
        let enforced = self.enforced.load(Relaxed);
        let mut within = true;
        let grown = |taken: usize| {
            within = self.has_room(taken, bytes, held);
            // Wraps as giving back does, where the budget refuses a number that no memory has.
            (within || !enforced).then_some(taken.wrapping_add(bytes))
        };
        let taken = &self.taken;
        let took = taken.fetch_update(Relaxed, Relaxed, grown);
        took.map(|_| within).map_err(|taken| self.full(taken))
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::time::Instant;

    use crate::budget::Budget;
    use crate::metrics::Gauge;
    use crate::shares::Share;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_spoke_holds_no_more_than_its_limit_unless_one_request_needs_it() {
        let budget = Budget::new(1000, Gauge::default());
        let account = Arc::new(Account::default());
        account.set_limit(Some(100), LimitMode::Enforce);
        let first = budget.begin(&account, Share::default());
        let second = budget.begin(&account, Share::default());
        first.grow(60).unwrap();
        second.grow(40).unwrap();
        let began = Instant::now();
        let refused = second.grow_in_turn(1).await.unwrap_err();
        let full = AccountFull {
            limit: 100,
            taken: 100,
        };
        assert_eq!((refused.needed, refused.account), (41, Some(full)));
        assert_eq!(began.elapsed(), Duration::ZERO, "nobody waits for it");
        second.grow(1).unwrap_err();
        assert_eq!(second.check_room(1), Err(refused));
        assert_eq!(account.exceeded(), 1, "a request counts once");
        budget
            .begin(&Arc::default(), Share::default())
            .grow(900)
            .unwrap();
        drop(second);
        first.grow(140).unwrap();
        assert_eq!((account.bytes(), account.exceeded()), (200, 1));
        account.set_limit(Some(100), LimitMode::Observe);
        let third = budget.begin(&account, Share::default());
        third.grow(1).unwrap();
        third.grow(1).unwrap();
        assert_eq!((account.bytes(), account.exceeded()), (202, 2));
        third.grow(1000).unwrap_err();
        assert_eq!(account.bytes(), 202, "the budget refused it");
        drop((first, third));
        assert_eq!(account.bytes(), 0);
    }
}
