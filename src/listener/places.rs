//! The places of a listener: how many connections are open, who holds them, and which gives way when
//! all are taken.
//!
//! A connection stays once its handler knows who sends. One of a stranger, who may open many to keep
//! others out, gives way to a new one. To send a request is not enough to stay: a stranger can have one
//! in flight for long, by a password that waits to be checked or by a response that it does not read.
//!
//! The oldest connection of the address with most of them is first. Otherwise a stranger who opens
//! connections faster than heads travel would have new ones give way. An accept, a request and a close
//! cost here a few steps in trees, however many connections are open.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::metrics::Gauge;
use crate::telemetry::Repeats;

use super::pace::Pace;

/// The time for a connection to give way. Its task only has to run once.
const GIVE_WAY_TIMEOUT: Duration = Duration::from_millis(100);

/// The number of holders that the log names.
const HOLDERS_LOGGED: usize = 3;

/// The number of connections that may be read at once after their last response. Anybody can cause
/// that; beyond it a response may be lost.
const LINGERING_MAX: usize = 64;

/// Which connections give way to new ones when all places are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivesWay {
    /// Those whose handler has not told them to stay, requests in flight included.
    Unknown,
    /// Those without a request that is being handled, where the handler knows nobody. A response that
    /// is not read keeps no place.
    Idle,
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

#[derive(Debug, Default)]
struct Open {
    /// Those with open connections.
    holders: HashMap<Holder, Held>,
    /// Those with connections that give way. The last one has most of them, and of those with as
    /// many, the oldest.
    crowd: BTreeSet<(usize, Reverse<u64>, Holder)>,
    /// The last order that was given.
    last: u64,
    log: Repeats,
    /// The connections that gave way and are not logged.
    evicted: u64,
}

/// An IPv4 address or the first half of an IPv6 address, as one party has the other half for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Holder(IpAddr);

/// The connections of one holder.
#[derive(Debug, Default)]
struct Held {
    open: usize,
    /// The connections that give way, by the order in which they do.
    waiting: BTreeMap<u64, CancellationToken>,
}

impl Open {
    /// Changes what a holder has.
    fn change<T>(&mut self, holder: Holder, change: impl FnOnce(&mut Held) -> T) -> T {
        let held = self.holders.entry(holder).or_default();
        if let Some(rank) = held.rank(holder) {
            self.crowd.remove(&rank);
        }
        let result = change(held);
        if let Some(rank) = held.rank(holder) {
            self.crowd.insert(rank);
        }
        if held.open == 0 {
            self.holders.remove(&holder);
        }
        result
    }

    /// Takes the first connection that gives way.
    fn pop_first(&mut self) -> Option<CancellationToken> {
        let (_, _, holder) = *self.crowd.last()?;
        let first = self.change(holder, |held| held.waiting.pop_first());
        first.map(|(_, over)| over)
    }
}

impl Held {
    fn rank(&self, holder: Holder) -> Option<(usize, Reverse<u64>, Holder)> {
        let (oldest, _) = self.waiting.first_key_value()?;
        Some((self.waiting.len(), Reverse(*oldest), holder))
    }
}

impl Holder {
    fn of(address: IpAddr) -> Self {
        Self(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
        })
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(address) = self;
        let half = if address.is_ipv6() { "/64" } else { "" };
        write!(f, "{address}{half}")
    }
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

    /// Takes a place for a connection from an address, and has another connection give way if it
    /// must. Returns `None` when none does. The gauge shows the place for as long as it lives.
    pub(super) async fn take(
        self: &Arc<Self>,
        address: IpAddr,
        gauge: Option<Gauge>,
    ) -> Option<Place> {
        let permit = match Arc::clone(&self.free).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.evict(address).await?,
        };
        let holder = Holder::of(address);
        self.lock().change(holder, |held| held.open += 1);
        let turn = Arc::new(Turn {
            places: Arc::clone(self),
            holder,
            order: Mutex::default(),
            over: CancellationToken::new(),
        });
        turn.wait();
        if let Some(gauge) = &gauge {
            gauge.inc();
        }
        Some(Place {
            turn,
            gauge,
            _permit: permit,
        })
    }

    /// Has the first of the waiting connections give way, and takes its place.
    async fn evict(&self, address: IpAddr) -> Option<OwnedSemaphorePermit> {
        self.pace.turn().await;
        let evicted = self.lock().pop_first();
        if let Some(over) = &evicted {
            over.cancel();
        }
        self.log_full(address, evicted.is_some());
        evicted?;
        let free = Arc::clone(&self.free).acquire_owned();
        timeout(GIVE_WAY_TIMEOUT, free).await.ok()?.ok()
    }

    fn log_full(&self, address: IpAddr, evicted: bool) {
        let mut open = self.lock();
        open.evicted += u64::from(evicted);
        let Some(count) = open.log.add(1, Instant::now()) else {
            return;
        };
        let evicted = std::mem::take(&mut open.evicted);
        let (limit, refused) = (self.limit, count - evicted);
        let most = Most::of(&open.holders);
        drop(open);
        tracing::warn!(
            limit,
            evicted,
            refused,
            %address,
            %most,
            "all connections that may be open are taken"
        );
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
        self.turn.stay();
        let Turn { places, holder, .. } = &*self.turn;
        places.lock().change(*holder, |held| held.open -= 1);
        if let Some(gauge) = &self.gauge {
            gauge.dec();
        }
    }
}

/// Where a connection stands among those that give way.
#[derive(Debug)]
pub struct Turn {
    places: Arc<Places>,
    holder: Holder,
    /// The order of the connection while it waits, else 0.
    order: Mutex<u64>,
    /// Cancelled when the connection gives way or has ended.
    over: CancellationToken,
}

impl Turn {
    /// The connection stays: the handler knows who sends.
    pub fn stay(&self) {
        let mut order = self.order();
        if *order > 0 {
            let mut open = self.places.lock();
            open.change(self.holder, |held| held.waiting.remove(&*order));
            *order = 0;
        }
    }

    /// A request of the connection is being handled.
    pub(super) fn busy(&self) {
        if self.places.gives_way == GivesWay::Idle {
            self.stay();
        }
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
        *self.order() > 0
    }

    /// Puts the connection behind all that wait.
    fn wait(&self) {
        let mut order = self.order();
        if *order > 0 || self.over.is_cancelled() {
            return;
        }
        let mut open = self.places.lock();
        open.last += 1;
        *order = open.last;
        let over = self.over.clone();
        open.change(self.holder, |held| held.waiting.insert(*order, over));
    }

    fn order(&self) -> MutexGuard<'_, u64> {
        // Nothing under the lock can leave it half done.
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The holders with most connections, each with their number.
struct Most(Vec<(usize, Holder)>);

impl Most {
    fn of(holders: &HashMap<Holder, Held>) -> Self {
        let mut most: Vec<_> = holders.iter().map(|(it, held)| (held.open, *it)).collect();
        most.sort_unstable_by_key(|(open, holder)| (Reverse(*open), *holder));
        most.truncate(HOLDERS_LOGGED);
        Self(most)
    }
}

impl fmt::Display for Most {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (open, holder)) in self.0.iter().enumerate() {
            let separator = if place == 0 { "" } else { ", " };
            write!(f, "{separator}{holder}: {open}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([203, 0, 113, last])
    }

    async fn take(places: &Arc<Places>, last: u8) -> Option<Place> {
        places.take(address(last), None).await
    }

    /// Keeps a place until it has to give way.
    fn hold(place: Place) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move { place.evicted().await })
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_connection_that_is_not_told_to_stay_gives_way() {
        let places = Places::new(3, GivesWay::Unknown);
        let served = take(&places, 1).await.unwrap();
        served.turn().stay();
        let oldest = take(&places, 2).await.unwrap();
        // A request alone does not keep it.
        oldest.turn().busy();
        let oldest = hold(oldest);
        let second = hold(take(&places, 3).await.unwrap());
        let third = take(&places, 4).await.unwrap();
        oldest.await.unwrap();
        assert!(!second.is_finished());
        third.turn().stay();
        let fourth = take(&places, 5).await.unwrap();
        second.await.unwrap();
        fourth.turn().stay();
        assert!(take(&places, 6).await.is_none());
        fourth.turn().idle();
        assert!(take(&places, 6).await.is_none());
        drop(served);
        assert!(take(&places, 6).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn idle_connections_give_way_where_anybody_may_send_requests() {
        let places = Places::new(2, GivesWay::Idle);
        let first = take(&places, 1).await.unwrap();
        let (first_turn, second) = (Arc::clone(first.turn()), take(&places, 2).await.unwrap());
        first_turn.busy();
        second.turn().busy();
        assert!(take(&places, 3).await.is_none());
        first_turn.idle();
        let first = hold(first);
        let third = take(&places, 3).await.unwrap();
        first.await.unwrap();
        drop((second, third));
        // A request may end after its connection.
        first_turn.idle();
        assert!(places.lock().crowd.is_empty());
        assert!(places.lock().holders.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_does_not_go_costs_the_new_one_its_place() {
        let places = Places::new(1, GivesWay::Unknown);
        let stuck = take(&places, 1).await.unwrap();
        assert!(take(&places, 2).await.is_none());
        drop(stuck);
        assert!(take(&places, 2).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_address_with_most_connections_that_give_way_is_first() {
        let places = Places::new(4, GivesWay::Unknown);
        let alone = take(&places, 1).await.unwrap();
        let mut crowd = Vec::new();
        for _ in 0..3 {
            crowd.push(hold(take(&places, 2).await.unwrap()));
        }
        let mut stay = Vec::new();
        for gives_way in crowd.drain(..2) {
            let new = take(&places, 3).await.unwrap();
            gives_way.await.unwrap();
            new.turn().stay();
            stay.push(new);
        }
        // Both have one left, and this one is older.
        let alone = hold(alone);
        take(&places, 3).await.unwrap();
        alone.await.unwrap();
    }

    #[tokio::test]
    async fn those_with_most_connections_are_named_first() {
        let places = Places::new(10, GivesWay::Unknown);
        let mut held = Vec::new();
        for address in [
            "203.0.113.1",
            "2001:db8::1",
            "2001:db8::ffff:2",
            "203.0.113.2",
        ] {
            held.push(places.take(address.parse().unwrap(), None).await);
        }
        held.push(take(&places, 2).await);
        held.push(take(&places, 2).await);
        let most = Most::of(&places.lock().holders).to_string();
        assert_eq!(most, "203.0.113.2: 3, 2001:db8::/64: 2, 203.0.113.1: 1");
    }
}
