//! The budget of bytes: what a request may hold in memory is reserved before it is held.
//!
//! There is no queue: a request that finds the budget taken is refused at once and sent again later,
//! since a waiting request would hold a connection and its body. But large requests that arrive
//! together would then starve each other, each holding what another one lacks. So one request at a
//! time, the one whose turn it is, may wait for what the others give back. Among the requests of a spoke
//! that has reached its limit or its share, it is the same: a large one of them at a time waits in the turn
//! of the spoke, and new ones leave it the room that it lacks. Counting requests would be
//! no measure: one of them may hold a kilobyte or the whole limit. Whoever is refused is told how long it
//! takes until as many bytes become free, at the pace at which they do.
//!
//! A spoke that sends as much as it can, such as two hours of its write-ahead log, would hold all of
//! the budget, and take back at once what it gives back. So a spoke may hold a few times what it leaves
//! free for others: four fifths of the budget when it is alone, four ninths when two do so. Whoever
//! else comes finds room. Switches share their packet memory by this rule (Choudhury and Hahne,
//! "Dynamic queue length thresholds for shared-memory packet switches", 1998). It needs no list of
//! who is active. What was admitted may grow beyond it, so that work that has begun is finished.
//! Buffers that are kept for later requests count as free here, since they give way.

mod account;
mod drain;
mod overloaded;
mod reservation;
#[cfg(test)]
mod tests;
mod turn;

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;

use crate::metrics::Gauge;
use crate::shares::Share;

use drain::Drain;
use turn::Turn;

pub use account::Account;
pub use overloaded::{AccountFull, Full, Overloaded};
pub use reservation::{Permit, Reservation};

/// How long a request waits at most, and has its turn: from its first wait on, however often it waits. A
/// body that trickles meanwhile does not keep the turn from others. Prometheus gives a request up after 30 s
/// (`remote_timeout`), and what comes after the wait takes time as well.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);

/// While a request waits in its turn, a body that arrives gets no more than this, in bytes, and nothing
/// if its spoke holds more than this and than what the request that waits needs. It is several times what
/// the usual request holds.
const BYTES_BESIDE_A_TURN_MAX: usize = 4 * 1024 * 1024;

/// A request that needs more than the budget when it is worked on passes while all others together hold no
/// more than one in so many parts of it. It would seldom be alone.
const PARTS_BESIDE_A_LARGE_ONE: usize = 8;

/// A spoke of weight 1 may hold as many times what it leaves free.
const FREE_FACTOR: usize = 4;

/// Nor may the heaviest hold more times what it leaves free: one part in 17 is for the others.
const FREE_FACTOR_MAX: usize = 16;

/// The bytes that all requests together may hold.
#[derive(Default)]
pub struct Budget {
    limit: AtomicUsize,
    taken: AtomicUsize,
    /// Follows `taken` by additions, which leave the right value in whatever order they happen.
    gauge: Gauge,
    /// Whose turn it is. What the request lacks is all that it needs, and nothing while it does not wait.
    turn: Turn,
    given_back: Notify,
    /// Tells those that wait for the shares of their spokes that there may be room.
    freed: Notify,
    drain: Drain,
    /// What is kept for later requests.
    kept: Arc<Account>,
    /// Gives back what is kept.
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
        self.tell();
    }

    /// Has `reclaim` called when bytes are short; it should drop the reservations of what no request
    /// uses. Only the first call has an effect.
    pub fn on_shortage(&self, reclaim: impl Fn() + Send + Sync + 'static) {
        // The same caller would come with the same function.
        let _ = self.reclaim.set(Box::new(reclaim));
    }

    /// Begins a request of the spoke with this account and share. It holds nothing.
    pub fn begin(self: &Arc<Self>, account: &Arc<Account>, share: Share) -> Reservation {
        Reservation::new(self, account, share)
    }

    /// Begins to keep something for later requests.
    pub fn keep(self: &Arc<Self>) -> Reservation {
        self.begin(&self.kept, Share::default())
    }

    /// The bytes taken when a request that holds `held` has taken `bytes` more, if there is room. A
    /// request beside which all others hold no more than `beside` may go beyond the limit, or one that grows
    /// beyond it when it is rewritten would never pass.
    fn sum(&self, taken: usize, bytes: usize, held: usize, beside: usize) -> Option<usize> {
        let sum = taken.checked_add(bytes)?;
        let alone = held > 0 && taken.saturating_sub(held) <= beside;
        (alone || sum <= self.limit.load(Ordering::Relaxed)).then_some(sum)
    }

    /// True if a spoke may take `bytes` more, so that it holds `sum`, for what it leaves free then. What is
    /// kept for later is as good as free, and nobody has to give it back to know.
    fn leaves_enough(&self, share: Share, bytes: usize, sum: usize) -> bool {
        let taken = self.taken.load(Ordering::Relaxed).saturating_add(bytes);
        let taken = taken.saturating_sub(self.kept.bytes());
        let free = self.limit.load(Ordering::Relaxed).saturating_sub(taken);
        let factor = FREE_FACTOR.saturating_mul(share.weight());
        sum <= free.saturating_mul(factor.min(FREE_FACTOR_MAX))
    }

    fn take(&self, bytes: usize, held: usize, beside: usize) -> Result<(), Overloaded> {
        let grown = |taken| self.sum(taken, bytes, held, beside);
        let take = || {
            self.taken
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, grown)
        };
        if take().is_err() {
            self.reclaim();
            let needed = held.saturating_add(bytes);
            take().map_err(|_| Overloaded::new(needed, Full::Budget))?;
        }
        self.gauge.inc_by(to_i64(bytes));
        Ok(())
    }

    fn reclaim(&self) {
        if let Some(reclaim) = self.reclaim.get() {
            reclaim();
        }
    }

    /// Takes bytes back, of which so many were held for longer than the work on a message takes.
    fn give_back(&self, bytes: usize, lasting: usize) {
        self.taken.fetch_sub(bytes, Ordering::AcqRel);
        self.gauge.dec_by(to_i64(bytes));
        self.drain.add(lasting);
        self.tell();
    }

    /// Tells those that wait that there may be room.
    fn tell(&self) {
        self.given_back.notify_one();
        self.freed.notify_waiters();
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
