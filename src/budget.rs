//! The budget of bytes: what a request may hold in memory is reserved before it is held.
//!
//! There is no queue: a request that finds the budget taken is refused at once and sent again later,
//! since a waiting request would hold a connection and its body. But large requests that arrive
//! together would then starve each other, each holding what another one lacks. So one request at a
//! time, the one whose turn it is, may wait for what the others give back. Counting requests would be
//! no measure: one of them may hold a kilobyte or the whole limit.

mod account;
mod overloaded;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::metrics::Gauge;

pub use account::Account;
pub use overloaded::{AccountFull, Overloaded};

/// How long a request waits in its turn. Prometheus gives a request up after 30 s
/// (`remote_timeout`), and what comes after the wait takes time as well.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);

/// While a request waits in its turn, a body that arrives gets no more than this, in bytes. It is
/// several times what the usual request holds.
const BYTES_BESIDE_A_TURN_MAX: usize = 4 * 1024 * 1024;

/// The bytes that all requests together may hold.
#[derive(Default)]
pub struct Budget {
    limit: AtomicUsize,
    taken: AtomicUsize,
    /// Follows `taken` by additions, which leave the right value in whatever order they happen.
    gauge: Gauge,
    /// It is the turn of a request.
    turn: AtomicBool,
    /// The request whose turn it is waits.
    waiting: AtomicBool,
    given_back: Notify,
    /// Gives back what is kept for later requests.
    reclaim: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Budget {
    /// A budget of `limit` bytes that shows in `gauge` how many are taken.
    pub fn new(limit: usize, gauge: Gauge) -> Arc<Self> {
        Arc::new(Self {
            limit: limit.into(),
            gauge,
            ..Self::default()
        })
    }

    /// Changes the limit, in bytes; what is taken stays taken.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Has `reclaim` called when bytes are short; it should drop the reservations of what no request
    /// uses. Only the first call has an effect.
    pub fn on_shortage(&self, reclaim: impl Fn() + Send + Sync + 'static) {
        // The same caller would come with the same function.
        let _ = self.reclaim.set(Box::new(reclaim));
    }

    /// Begins a request of the spoke with this account. It holds nothing.
    pub fn begin(self: &Arc<Self>, account: &Arc<Account>) -> Reservation {
        Reservation {
            budget: Arc::clone(self),
            account: Arc::clone(account),
            bytes: 0.into(),
            turn: false.into(),
            exceeded: false.into(),
        }
    }

    /// The bytes taken when a request that holds `held` has taken `bytes` more, if there is room. A
    /// request that is alone may go beyond the limit, or one that grows beyond it when it is rewritten
    /// would never pass.
    fn sum(&self, taken: usize, bytes: usize, held: usize) -> Option<usize> {
        let sum = taken.checked_add(bytes)?;
        let alone = held > 0 && taken == held;
        (alone || sum <= self.limit.load(Ordering::Relaxed)).then_some(sum)
    }

    fn take(&self, bytes: usize, held: usize) -> Result<(), Overloaded> {
        let grown = |taken| self.sum(taken, bytes, held);
        let take = || {
            self.taken
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, grown)
        };
        if take().is_err() {
            self.reclaim();
            let needed = held.saturating_add(bytes);
            take().map_err(|_| Overloaded::new(needed))?;
        }
        self.gauge.inc_by(to_i64(bytes));
        Ok(())
    }

    fn reclaim(&self) {
        if let Some(reclaim) = self.reclaim.get() {
            reclaim();
        }
    }

    fn give_back(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::AcqRel);
        self.gauge.dec_by(to_i64(bytes));
        self.given_back.notify_one();
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("limit", &self.limit)
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}

fn to_i64(bytes: usize) -> i64 {
    bytes.try_into().unwrap_or(i64::MAX)
}

/// The bytes that one request has taken; dropping it gives all of them back.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    account: Arc<Account>,
    bytes: AtomicUsize,
    /// It is the turn of this request.
    turn: AtomicBool,
    /// It exceeded the limit of its account.
    exceeded: AtomicBool,
}

/// Some bytes of a reservation, which are given back when this is dropped.
#[derive(Debug)]
pub struct Permit {
    reservation: Arc<Reservation>,
    bytes: usize,
}

impl Reservation {
    /// What it holds, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Takes more bytes, or fails and takes none.
    pub fn grow(&self, bytes: usize) -> Result<(), Overloaded> {
        let held = self.bytes();
        match self.account.take(bytes, held) {
            Ok(true) => {}
            Ok(false) => self.exceed(),
            Err(full) => return Err(self.account_full(full, bytes)),
        }
        let taken = self.budget.take(bytes, held);
        taken.inspect_err(|_| self.account.give_back(bytes))?;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// The error of an account without room for more bytes. Nobody waits for that: only the spoke could
    /// give them back.
    fn account_full(&self, full: AccountFull, bytes: usize) -> Overloaded {
        self.exceed();
        Overloaded {
            needed: self.bytes().saturating_add(bytes),
            account: Some(full),
        }
    }

    /// Counts the request among those that exceeded the limit of its account, once.
    fn exceed(&self) {
        if !self.exceeded.swap(true, Ordering::Relaxed) {
            self.account.exceed();
        }
    }

    /// Takes more bytes, and waits for them when it is the turn of this request, or can be.
    pub async fn grow_in_turn(&self, bytes: usize) -> Result<(), Overloaded> {
        let deadline = Self::turn_deadline();
        loop {
            let needed = self.bytes().saturating_add(bytes);
            let taken = self.check_turn(needed).and_then(|()| self.grow(bytes));
            match taken {
                Ok(()) => return Ok(()),
                Err(overloaded) => self.wait_for_room(overloaded, deadline).await?,
            }
        }
    }

    /// Fails when there is no room for more bytes at present. Takes none.
    pub fn check_room(&self, bytes: usize) -> Result<(), Overloaded> {
        let held = self.bytes();
        let needed = held.saturating_add(bytes);
        let room = self.account.check_room(bytes, held);
        room.map_err(|full| self.account_full(full, bytes))?;
        self.check_turn(needed)?;
        let fits = || {
            let taken = self.budget.taken.load(Ordering::Acquire);
            self.budget.sum(taken, bytes, held).is_some()
        };
        if !fits() {
            self.budget.reclaim();
            return fits().then_some(()).ok_or(Overloaded::new(needed));
        }
        Ok(())
    }

    /// Waits until there is room for what the request needs, when it is its turn or can be. The bytes
    /// are not taken, so they may be gone again.
    pub async fn wait_for_room(
        &self,
        overloaded: Overloaded,
        deadline: Instant,
    ) -> Result<(), Overloaded> {
        let hopeless = overloaded.account.is_some() || Instant::now() >= deadline;
        if hopeless || !self.begin_turn() {
            return Err(overloaded);
        }
        let _waiting = Waiting::begin(&self.budget);
        let missing = || overloaded.needed.saturating_sub(self.bytes());
        let room = async {
            loop {
                match self.check_room(missing()) {
                    Err(Overloaded { account: None, .. }) => {
                        self.budget.given_back.notified().await;
                    }
                    checked => return checked,
                }
            }
        };
        timeout_at(deadline, room).await.map_err(|_| overloaded)?
    }

    /// Until when a request may wait that begins to.
    pub fn turn_deadline() -> Instant {
        Instant::now() + TURN_TIMEOUT
    }

    /// Fails when another request waits in its turn and this one would hold too much beside it.
    fn check_turn(&self, needed: usize) -> Result<(), Overloaded> {
        let waits = self.budget.waiting.load(Ordering::Acquire);
        let yields = waits && !self.turn.load(Ordering::Relaxed);
        if yields && needed > BYTES_BESIDE_A_TURN_MAX {
            return Err(Overloaded::new(needed));
        }
        Ok(())
    }

    /// True when it is the turn of this request, as it is when it is nobody's.
    fn begin_turn(&self) -> bool {
        self.turn.load(Ordering::Relaxed) || {
            let began = !self.budget.turn.swap(true, Ordering::AcqRel);
            self.turn.store(began, Ordering::Relaxed);
            began
        }
    }

    /// Lets another request have its turn; this one has what it needs.
    pub fn end_turn(&self) {
        if self.turn.swap(false, Ordering::Relaxed) {
            self.budget.turn.store(false, Ordering::Release);
        }
    }

    /// Takes more bytes as long as the permit lives, or fails and takes none.
    pub fn permit(self: &Arc<Self>, bytes: usize) -> Result<Permit, Overloaded> {
        self.grow(bytes)?;
        let reservation = Arc::clone(self);
        Ok(Permit { reservation, bytes })
    }

    /// Takes or gives back bytes until it holds `bytes`, or fails and changes nothing.
    pub fn resize(&self, bytes: usize) -> Result<(), Overloaded> {
        let held = self.bytes();
        if bytes > held {
            return self.grow(bytes - held);
        }
        self.shrink(held - bytes);
        Ok(())
    }

    fn shrink(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.account.give_back(bytes);
        self.budget.give_back(bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.end_turn();
        self.shrink(self.bytes());
    }
}

/// A request that waits in its turn.
struct Waiting<'b>(&'b Budget);

impl<'b> Waiting<'b> {
    fn begin(budget: &'b Budget) -> Self {
        budget.waiting.store(true, Ordering::Release);
        Self(budget)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.store(false, Ordering::Release);
    }
}

impl Permit {
    /// Takes more bytes, or fails and takes none.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Overloaded> {
        self.reservation.grow(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Splits `bytes` off into a permit of their own, or all when it holds less.
    pub fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        let reservation = Arc::clone(&self.reservation);
        Self { reservation, bytes }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.reservation.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A request that holds `bytes`.
    fn holding(budget: &Arc<Budget>, bytes: usize) -> Result<Reservation, Overloaded> {
        let reservation = budget.begin(&Arc::default());
        reservation.grow(bytes).map(|()| reservation)
    }

    #[test]
    fn takes_all_or_nothing_and_gives_back() {
        let gauge = Gauge::default();
        let budget = Budget::new(100, gauge.clone());
        let (account, other) = (Arc::default(), Arc::default());
        let first = budget.begin(&account);
        let second = budget.begin(&other);
        first.grow(60).unwrap();
        second.grow(41).unwrap_err();
        assert_eq!(holding(&budget, 41).unwrap_err().needed, 41);
        second.check_room(41).unwrap_err();
        second.check_room(40).unwrap();
        second.grow(40).unwrap();
        assert_eq!(gauge.get(), 100);
        assert_eq!((account.bytes(), other.bytes()), (60, 40));
        first.resize(10).unwrap();
        assert_eq!(gauge.get(), 50);
        let first = Arc::new(first);
        first.permit(51).unwrap_err();
        let mut permit = first.permit(40).unwrap();
        assert_eq!(permit.grow(11).unwrap_err().needed, 61);
        permit.grow(10).unwrap();
        assert_eq!((gauge.get(), first.bytes()), (100, 60));
        let part = permit.split(20);
        drop(permit);
        assert_eq!((gauge.get(), first.bytes()), (70, 30));
        drop(part);
        assert_eq!((gauge.get(), first.bytes()), (50, 10));
        second.grow(usize::MAX).unwrap_err();
        drop(first);
        second.resize(120).unwrap();
        holding(&budget, 1).unwrap_err();
        drop(second);
        holding(&budget, 101).unwrap_err();
        assert_eq!(gauge.get(), 0);
        assert_eq!((account.bytes(), other.bytes()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_at_a_time_waits_in_its_turn() {
        let budget = Budget::new(100, Gauge::default());
        let first = holding(&budget, 50).unwrap();
        let second = holding(&budget, 50).unwrap();
        let third = holding(&budget, 0).unwrap();
        let (first_grows, ()) = tokio::join!(first.grow_in_turn(50), async {
            assert_eq!(third.grow_in_turn(10).await.unwrap_err().needed, 10);
            let refused = second.grow_in_turn(10).await.unwrap_err();
            assert_eq!(refused.needed, 60);
            drop(second);
        });
        first_grows.unwrap();
        let began = Instant::now();
        first.resize(50).unwrap();
        let held = holding(&budget, 50).unwrap();
        first.grow_in_turn(10).await.unwrap_err();
        assert_eq!(began.elapsed(), TURN_TIMEOUT);
        third.grow_in_turn(10).await.unwrap_err();
        assert_eq!(began.elapsed(), TURN_TIMEOUT, "it is the turn of the first");
        first.end_turn();
        let (third_grows, ()) = tokio::join!(third.grow_in_turn(10), async { drop(held) });
        third_grows.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_body_yields_to_a_request_that_waits() {
        let budget = Budget::new(10 * BYTES_BESIDE_A_TURN_MAX, Gauge::default());
        let first = holding(&budget, BYTES_BESIDE_A_TURN_MAX).unwrap();
        let other = holding(&budget, BYTES_BESIDE_A_TURN_MAX).unwrap();
        let small = holding(&budget, 0).unwrap();
        let waits = first.grow_in_turn(9 * BYTES_BESIDE_A_TURN_MAX);
        let (grown, ()) = tokio::join!(waits, async {
            small.grow_in_turn(BYTES_BESIDE_A_TURN_MAX).await.unwrap();
            other.check_room(1).unwrap_err();
            other.grow_in_turn(1).await.unwrap_err();
            other.grow(1).unwrap();
            drop((small, other));
        });
        grown.unwrap();
    }

    #[test]
    fn what_is_kept_for_later_gives_way() {
        let budget = Budget::new(100, Gauge::default());
        let kept = Arc::new(Mutex::new(Some(holding(&budget, 60).unwrap())));
        let reclaimed = Arc::clone(&kept);
        budget.on_shortage(move || drop(reclaimed.lock().unwrap().take()));
        let first = holding(&budget, 40).unwrap();
        assert!(kept.lock().unwrap().is_some());
        first.check_room(1).unwrap();
        assert!(kept.lock().unwrap().is_none());
        first.grow(60).unwrap();
    }
}
