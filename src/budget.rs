//! The budget of bytes: what a request may hold in memory is reserved before it is held.
//!
//! There is no queue: a request that finds the budget taken is refused at once and sent again later,
//! since a waiting request would hold a connection and its body. But large requests that arrive
//! together would then starve each other, each holding what another one lacks. So one request at a
//! time, the one whose turn it is, may wait for what the others give back. Counting requests would be
//! no measure: one of them may hold a kilobyte or the whole limit.
//!
//! A spoke that sends as much as it can, such as two hours of its write-ahead log, would hold all of
//! the budget, and take back at once what it gives back. So a spoke may hold a few times what it leaves
//! free for others: four fifths of the budget when it is alone, four ninths when two do so. Whoever
//! else comes finds room. Switches share their packet memory by this rule (Choudhury and Hahne,
//! "Dynamic queue length thresholds for shared-memory packet switches", 1998). It needs no list of
//! who is active. What was admitted may grow beyond it, so that work that has begun is finished.

mod account;
mod overloaded;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::metrics::Gauge;
use crate::shares::Share;

pub use account::Account;
pub use overloaded::{AccountFull, Overloaded};

/// How long a request waits in its turn. Prometheus gives a request up after 30 s
/// (`remote_timeout`), and what comes after the wait takes time as well.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);

/// While a request waits in its turn, a body that arrives gets no more than this, in bytes, and nothing
/// if its spoke holds more than this and than what the request that waits needs. It is several times what
/// the usual request holds.
const BYTES_BESIDE_A_TURN_MAX: usize = 4 * 1024 * 1024;

/// A spoke of weight 1 may hold as many times what it leaves free.
const FREE_FACTOR: usize = 4;

/// The bytes that all requests together may hold.
#[derive(Default)]
pub struct Budget {
    limit: AtomicUsize,
    taken: AtomicUsize,
    /// Follows `taken` by additions, which leave the right value in whatever order they happen.
    gauge: Gauge,
    /// It is the turn of a request.
    turn: AtomicBool,
    /// What the request needs that waits in its turn, in bytes; 0 if none waits.
    waiting: AtomicUsize,
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
        self.given_back.notify_one();
    }

    /// Has `reclaim` called when bytes are short; it should drop the reservations of what no request
    /// uses. Only the first call has an effect.
    pub fn on_shortage(&self, reclaim: impl Fn() + Send + Sync + 'static) {
        // The same caller would come with the same function.
        let _ = self.reclaim.set(Box::new(reclaim));
    }

    /// Begins a request of the spoke with this account and share. It holds nothing.
    pub fn begin(self: &Arc<Self>, account: &Arc<Account>, share: Share) -> Reservation {
        Reservation {
            share,
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

    /// True if a spoke may take `bytes` more, so that it holds `sum`, for what it leaves free then.
    fn leaves_enough(&self, share: Share, bytes: usize, sum: usize) -> bool {
        let taken = self.taken.load(Ordering::Relaxed).saturating_add(bytes);
        let free = self.limit.load(Ordering::Relaxed).saturating_sub(taken);
        sum <= free.saturating_mul(FREE_FACTOR.saturating_mul(share.weight()))
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
    share: Share,
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
    /// The share of the spoke.
    pub fn share(&self) -> Share {
        self.share
    }

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

    /// Takes more bytes, as far as the share of the spoke goes, and waits for them when it is the turn
    /// of this request, or can be.
    pub async fn grow_in_turn(&self, bytes: usize) -> Result<(), Overloaded> {
        let deadline = Self::turn_deadline();
        loop {
            self.check_account(bytes)?;
            self.check_share(bytes)?;
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
        self.check_account(bytes)?;
        self.check_share(bytes)?;
        self.check_space(bytes)
    }

    /// Fails when the limit of the spoke has no room for more bytes.
    fn check_account(&self, bytes: usize) -> Result<(), Overloaded> {
        let room = self.account.check_room(bytes, self.bytes());
        room.map_err(|full| self.account_full(full, bytes))
    }

    /// Fails when the spoke would hold more than its share, unless this is its only request.
    fn check_share(&self, bytes: usize) -> Result<(), Overloaded> {
        let held = self.bytes();
        let all = self.account.bytes();
        let shares = all == held || {
            let sum = all.saturating_add(bytes);
            let leaves_enough = || self.budget.leaves_enough(self.share, bytes, sum);
            leaves_enough() || {
                self.budget.reclaim();
                leaves_enough()
            }
        };
        let needed = held.saturating_add(bytes);
        shares.then_some(()).ok_or(Overloaded::new(needed))
    }

    fn check_space(&self, bytes: usize) -> Result<(), Overloaded> {
        let held = self.bytes();
        let needed = held.saturating_add(bytes);
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
        let _waiting = Waiting::begin(&self.budget, overloaded.needed);
        let missing = || overloaded.needed.saturating_sub(self.bytes());
        let room = async {
            loop {
                self.check_account(missing())?;
                if self.check_space(missing()).is_ok() {
                    return Ok(());
                }
                self.budget.given_back.notified().await;
            }
        };
        timeout_at(deadline, room).await.map_err(|_| overloaded)?
    }

    /// Until when a request may wait that begins to.
    pub fn turn_deadline() -> Instant {
        Instant::now() + TURN_TIMEOUT
    }

    /// Fails when another request waits in its turn and this one, or its spoke, would hold too much
    /// beside it.
    fn check_turn(&self, needed: usize) -> Result<(), Overloaded> {
        let waiting = self.budget.waiting.load(Ordering::Acquire);
        if waiting == 0 || self.turn.load(Ordering::Relaxed) {
            return Ok(());
        }
        let spoke_max = waiting.max(BYTES_BESIDE_A_TURN_MAX);
        if needed > BYTES_BESIDE_A_TURN_MAX || self.account.bytes() > spoke_max {
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
    fn begin(budget: &'b Budget, needed: usize) -> Self {
        budget.waiting.store(needed.max(1), Ordering::Release);
        Self(budget)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.store(0, Ordering::Release);
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
