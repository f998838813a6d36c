//! The places of a listener: how many connections are open, who holds them, and which gives way when
//! all are taken.
//!
//! A connection stays once its handler knows who sends, unless its sender has more than a fair part of all
//! places (see `known`). One of a stranger, who may open many to keep others out, gives way to a new one. To
//! send a request is not enough to stay: a stranger can have one in flight for long, by a password that waits
//! to be checked or by a response that it does not read.
//!
//! The oldest connection of a stranger is first, of the address with most of them. Otherwise a stranger who opens
//! connections faster than heads travel would have new ones give way. When one address has as many as
//! it may, only its own give way to its next one, in the same order. An accept, a request and a close cost here a few
//! steps in trees, however many connections are open.

mod holders;
mod known;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::metrics::Gauge;
use crate::reasons::ConnectionRefusal;

use holders::{Holder, Open};
use known::Connection;

use super::pace::Pace;

/// The time for a connection to give way. Its task only has to run once.
const GIVE_WAY_TIMEOUT: Duration = Duration::from_millis(100);

/// The number of connections that may be read at once after their last response. Anybody can cause
/// that; beyond it a response may be lost.
const LINGERING_MAX: usize = 64;

/// Which connections give way to new ones when all places are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivesWay {
    /// Those whose handler has not told them to stay, requests in flight included. If there are none, one
    /// of the sender that has most connections, and more than its part.
    Unknown,
    /// Those without a request that is being handled, where the handler knows nobody. A response that
    /// is not read keeps no place.
    Idle,
}

/// Who takes a place.
#[derive(Debug, Clone, Copy)]
pub(super) enum Taker {
    /// Whoever is at this address, which may have so many connections; `None` for no limit.
    Address(IpAddr, Option<usize>),
    /// The trusted proxy at this address, or somebody behind it. Many may be there, so the connection
    /// is not counted together with the others of the proxy.
    Behind(IpAddr),
}

/// The places of one listener.
#[derive(Debug)]
pub(super) struct Places {
    limit: usize,
    gives_way: GivesWay,
    free: Arc<Semaphore>,
    lingering: Semaphore,
    pace: Pace,
    open: Mutex<Open>,
}

impl Places {
    pub(super) fn new(limit: usize, gives_way: GivesWay) -> Arc<Self> {
        Arc::new(Self {
            limit,
            gives_way,
            free: Arc::new(Semaphore::new(limit)),
            lingering: Semaphore::new(LINGERING_MAX),
            pace: Pace::new(limit),
            open: Mutex::default(),
        })
    }

    /// Takes a place for a connection, and has another one give way if it must. The gauge shows the
    /// place for as long as it lives.
    pub(super) async fn take(
        self: &Arc<Self>,
        taker: Taker,
        gauge: Option<Gauge>,
    ) -> Result<Place, ConnectionRefusal> {
        let (holder, freed) = self.lock().admit(taker)?;
        let permit = match Arc::clone(&self.free).try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) if freed => self.freed().await,
            Err(_) => self.evict(holder).await,
        };
        let permit = permit.ok_or(ConnectionRefusal::ConnectionsMax)?;
        self.lock().change(holder, |held| held.open += 1);
        let turn = Arc::new(Turn {
            places: Arc::clone(self),
            standing: Mutex::new(Standing {
                holder,
                order: 0,
                known: None,
            }),
            busy: Arc::default(),
            over: CancellationToken::new(),
        });
        turn.wait();
        if let Some(gauge) = &gauge {
            gauge.inc();
        }
        Ok(Place {
            turn,
            gauge,
            _permit: permit,
        })
    }

    /// Has the first of the waiting connections give way, and takes its place.
    async fn evict(&self, holder: Holder) -> Option<OwnedSemaphorePermit> {
        self.pace.turn().await;
        let evicted = self.lock().pop_first(self.limit);
        if let Some(over) = &evicted {
            over.cancel();
        }
        self.lock().log_full(self.limit, holder, evicted.is_some());
        evicted?;
        self.freed().await
    }

    /// Takes the place of a connection that gives way.
    async fn freed(&self) -> Option<OwnedSemaphorePermit> {
        let free = Arc::clone(&self.free).acquire_owned();
        timeout(GIVE_WAY_TIMEOUT, free).await.ok()?.ok()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Nothing under the lock can leave it half done.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the open connections.
#[derive(Debug)]
pub(super) struct Place {
    turn: Arc<Turn>,
    gauge: Option<Gauge>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// Where the connection stands among those that give way.
    pub(super) fn turn(&self) -> &Arc<Turn> {
        &self.turn
    }

    /// Counts the connection for another taker from now on, as it is known who is behind a proxy.
    pub(super) fn pass_to(&self, taker: Taker) -> Result<(), ConnectionRefusal> {
        let mut standing = self.turn.standing();
        let mut open = self.turn.places.lock();
        let (holder, _) = open.admit(taker)?;
        let order = standing.order;
        let over = open.change(standing.holder, |held| {
            held.open -= 1;
            held.waiting.remove(&order)
        });
        open.change(holder, |held| {
            held.open += 1;
            held.waiting.extend(over.map(|over| (order, over)));
        });
        if let Some((sender, number)) = &standing.known
            && let Some(connection) = open.remove_known(sender, *number)
        {
            open.add_known(
                sender,
                *number,
                Connection {
                    holder,
                    ..connection
                },
            );
        }
        standing.holder = holder;
        Ok(())
    }

    /// Lets the connection be read after its last response, unless many are.
    pub(super) fn may_linger(&self) -> Option<SemaphorePermit<'_>> {
        self.turn.places.lingering.try_acquire().ok()
    }

    /// Waits until the connection has to give way.
    pub(super) async fn evicted(&self) {
        self.turn.over.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.turn.over.cancel();
        self.turn.leave_line();
        let Turn { places, .. } = &*self.turn;
        let mut standing = self.turn.standing();
        let mut open = places.lock();
        if let Some((sender, number)) = standing.known.take() {
            open.remove_known(&sender, number);
        }
        open.change(standing.holder, |held| held.open -= 1);
        if let Some(gauge) = &self.gauge {
            gauge.dec();
        }
    }
}

/// Where a connection stands among those that give way.
#[derive(Debug)]
pub struct Turn {
    places: Arc<Places>,
    /// Locked before `places`.
    standing: Mutex<Standing>,
    /// The connection has a request.
    busy: Arc<AtomicBool>,
    /// Cancelled when the connection gives way or has ended.
    over: CancellationToken,
}

#[derive(Debug)]
struct Standing {
    holder: Holder,
    /// The order of the connection while it waits, else 0.
    order: u64,
    /// The sender once it is known, and the number of the connection among those with a known one.
    known: Option<(Arc<str>, u64)>,
}

impl Turn {
    /// The connection stays while its sender has no more than its part: the handler knows who sends. What
    /// others send over it counts for the first one.
    pub fn stay(&self, sender: &str) {
        if self.standing().known.is_some() {
            return;
        }
        self.leave_line();
        let mut standing = self.standing();
        if standing.known.is_some() || self.over.is_cancelled() {
            return;
        }
        let mut open = self.places.lock();
        let number = open.next_number();
        let connection = Connection {
            over: self.over.clone(),
            busy: Arc::clone(&self.busy),
            holder: standing.holder,
        };
        let sender = open.add_known(sender, number, connection);
        standing.known = Some((sender, number));
    }

    /// The connection does not give way as one of a stranger.
    fn leave_line(&self) {
        let mut standing = self.standing();
        let order = standing.order;
        if order > 0 {
            let mut open = self.places.lock();
            open.change(standing.holder, |held| held.waiting.remove(&order));
            standing.order = 0;
        }
    }

    /// A request of the connection is being handled.
    pub(super) fn busy(&self) {
        self.busy.store(true, Ordering::Relaxed);
        if self.places.gives_way == GivesWay::Idle {
            self.leave_line();
        }
    }

    /// No request of the connection is in flight any more.
    pub(super) fn rest(&self) {
        self.busy.store(false, Ordering::Relaxed);
        self.idle();
    }

    /// A request of the connection has its response, or has ended without one, or is kept waiting for
    /// its response.
    pub fn idle(&self) {
        if self.places.gives_way == GivesWay::Idle {
            self.wait();
        }
    }

    /// Tells whether the connection would give way.
    pub(super) fn waits(&self) -> bool {
        self.standing().order > 0
    }

    /// Puts the connection behind all that wait.
    fn wait(&self) {
        let mut standing = self.standing();
        if standing.order > 0 || self.over.is_cancelled() {
            return;
        }
        let mut open = self.places.lock();
        let order = open.next_number();
        standing.order = order;
        let over = self.over.clone();
        open.change(standing.holder, |held| held.waiting.insert(order, over));
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        // Nothing under the lock can leave it half done.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
