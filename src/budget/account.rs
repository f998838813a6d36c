//! What the requests of one spoke hold of the budget, and its limit.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use tokio::sync::Notify;

use crate::config::LimitMode;

use super::AccountFull;
use super::drain::Drain;
use super::turn::Turn;

/// The bytes that all requests of one spoke have taken from the budget.
#[derive(Debug)]
pub struct Account {
    taken: AtomicUsize,
    limit: AtomicUsize,
    enforced: AtomicBool,
    /// Requests that exceeded the limit.
    exceeded: AtomicU64,
    turn: Turn,
    given_back: Notify,
    drain: Drain,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            taken: AtomicUsize::new(0),
            limit: usize::MAX.into(),
            enforced: true.into(),
            exceeded: AtomicU64::new(0),
            turn: Turn::default(),
            given_back: Notify::new(),
            drain: Drain::default(),
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

    /// Fails when a request that holds `held`, and must leave `owed` to another one, may not take more
    /// bytes at present. Takes none.
    pub(super) fn check_room(
        &self,
        bytes: usize,
        held: usize,
        owed: usize,
    ) -> Result<(), AccountFull> {
        let taken = self.bytes();
        if !self.enforced.load(Relaxed) || self.has_room(taken, bytes, held, owed) {
            return Ok(());
        }
        Err(self.full(taken, owed))
    }

    /// Counts a request that exceeds the limit.
    pub(super) fn exceed(&self) {
        self.exceeded.fetch_add(1, Relaxed);
    }

    fn full(&self, taken: usize, owed: usize) -> AccountFull {
        AccountFull {
            limit: self.limit.load(Relaxed),
            taken: taken.saturating_add(owed),
        }
    }

    /// True when a request that holds `held` of the bytes `taken` may take more. One that is alone may go
    /// beyond the limit, or a large one would never pass.
    fn has_room(&self, taken: usize, bytes: usize, held: usize, owed: usize) -> bool {
        let alone = taken == held && owed == 0;
        let sum = taken.saturating_add(owed).saturating_add(bytes);
        alone || sum <= self.limit.load(Relaxed)
    }

    /// Takes bytes, and returns whether they were within the limit.
    pub(super) fn take(&self, bytes: usize, held: usize, owed: usize) -> Result<bool, AccountFull> {
        let enforced = self.enforced.load(Relaxed);
        let mut within = true;
        let grown = |taken: usize| {
            within = self.has_room(taken, bytes, held, owed);
            // Wraps as giving back does, where the budget refuses a number that no memory has.
            (within || !enforced).then_some(taken.wrapping_add(bytes))
        };
        let taken = &self.taken;
        let took = taken.fetch_update(Relaxed, Relaxed, grown);
        took.map(|_| within).map_err(|taken| self.full(taken, owed))
    }

    /// Gives back what was taken a moment ago and is not used.
    pub(super) fn untake(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Relaxed);
        self.given_back.notify_one();
    }

    /// Takes bytes back, of which so many were held for longer than the work on a message takes.
    pub(super) fn give_back(&self, bytes: usize, lasting: usize) {
        self.drain.add(lasting);
        self.untake(bytes);
    }

    /// Tells the request whose turn it is that there may be room.
    pub(super) fn given_back(&self) -> &Notify {
        &self.given_back
    }

    pub(super) fn drain(&self) -> &Drain {
        &self.drain
    }

    /// Whose turn it is among the requests of the spoke.
    pub(super) fn turn(&self) -> &Turn {
        &self.turn
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::JoinSet;
    use tokio::time::{Duration, Instant, sleep};

    use crate::budget::{Budget, Full, Overloaded, TURN_TIMEOUT};
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
        let refused = second.grow(1).unwrap_err();
        let full = Full::Account(AccountFull {
            limit: 100,
            taken: 100,
        });
        assert_eq!(refused, Overloaded::new(41, full));
        let began = Instant::now();
        assert_eq!(second.grow_in_turn(1).await, Err(refused));
        assert_eq!(began.elapsed(), TURN_TIMEOUT, "it is its turn");
        assert_eq!(second.wait_to_begin(1).await.unwrap_err().full, full);
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

    /// Requests that come again and again must not keep out one that does not fit beside them.
    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_too_large_beside_others_passes() {
        for (limit, large) in [(Some(100), 150), (Some(100), 90), (None, 90_000)] {
            let budget = Budget::new(100_000, Gauge::default());
            let account: Arc<Account> = Arc::default();
            account.set_limit(limit, LimitMode::Enforce);
            let small = limit.unwrap_or(80_000) / 16;
            let mut others = JoinSet::new();
            for number in 0..16 {
                let (budget, account) = (Arc::clone(&budget), Arc::clone(&account));
                others.spawn(async move {
                    sleep(Duration::from_millis(number)).await;
                    loop {
                        let request = budget.begin(&account, Share::default());
                        if request.grow_in_turn(small).await.is_ok() {
                            sleep(Duration::from_millis(50)).await;
                            // What has begun is to be finished.
                            let _ = request.grow(small);
                        }
                        sleep(Duration::from_millis(50)).await;
                    }
                });
            }
            sleep(Duration::from_secs(1)).await;
            let mut tries = 0;
            let request = loop {
                let request = budget.begin(&account, Share::default());
                if request.wait_to_begin(large).await.is_ok() {
                    break request;
                }
                tries += 1;
                assert!(tries < 1000, "{large} of {limit:?}");
                sleep(Duration::from_millis(30)).await;
            };
            request.grow_in_turn(large / 2).await.unwrap();
            sleep(Duration::from_secs(1)).await;
            request.grow_in_turn(large / 2).await.unwrap();
            request.end_turn();
            assert_eq!(account.turn().lacks(), 0);
            others.shutdown().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_of_a_spoke_waits_at_a_time() {
        let budget = Budget::new(1000, Gauge::default());
        let account: Arc<Account> = Arc::default();
        account.set_limit(Some(100), LimitMode::Enforce);
        let begin = || budget.begin(&account, Share::default());
        let (held, first, second, third) = (begin(), begin(), begin(), begin());
        held.grow(60).unwrap();
        let began = Instant::now();
        let (passed, ()) = tokio::join!(first.grow_in_turn(80), async {
            let refused = second.grow_in_turn(80).await.unwrap_err();
            let full = AccountFull {
                limit: 100,
                taken: 140,
            };
            assert_eq!(refused.full, Full::Account(full));
            // The other one lacks all that is left.
            second.grow(1).unwrap_err();
            held.grow(40).unwrap();
            sleep(Duration::from_secs(1)).await;
            drop(held);
        });
        passed.unwrap();
        assert_eq!(began.elapsed(), Duration::from_secs(1));
        third.grow(20).unwrap();
        first.grow_in_turn(1).await.unwrap_err();
        drop(first);
        second.grow_in_turn(80).await.unwrap();
    }
}
