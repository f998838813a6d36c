//! Places that spokes compete for, given out by share, such as those at a hub.
//!
//! While a place is free, whoever asks has it at once. While all are taken, each spoke has a line of
//! its own, and a place that becomes free goes to the spoke that holds the fewest for its weight; among
//! equals, to the one that was given the fewest. So a spoke that is alone has all places, and one with
//! thousands of requests delays the first request of another until the next place becomes free, not until
//! its own requests are done. Whoever holds none has one even beyond those that there are, as long as
//! fewer spokes than places hold one: then the others hold more than their share, perhaps since a time in
//! which there were more. Each spoke takes one place in that way at most, and as many do as there are places.
//!
//! A line is bounded in number and in time. A request that would not have its turn in time is
//! refused at once, with the time after which the line will have moved on.

mod pace;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use pace::Pace;

/// Most requests of one spoke in a line. They are bounded by the memory that they hold as well.
const WAITING_MAX: usize = 1024;

/// What a place of a spoke with weight 1 counts.
const UNIT: u64 = 1 << 20;

/// As many spokes are remembered before some are forgotten.
const SWEEP_AT: usize = 64;

/// Who competes, and with which weight.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    id: u64,
    weight: NonZeroU32,
}

impl Share {
    /// A new competitor.
    pub fn new(weight: NonZeroU32) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        Self { id, weight }
    }

    /// The same competitor with another weight.
    pub fn with_weight(self, weight: NonZeroU32) -> Self {
        Self { weight, ..self }
    }

    /// What tells it from others.
    pub fn id(self) -> u64 {
        self.id
    }

    /// How many times as much as one of weight 1 it may have.
    pub fn weight(self) -> usize {
        self.weight.get() as usize
    }

    /// What `places` count for it.
    fn weighed(self, places: usize) -> u64 {
        (places as u64).saturating_mul(UNIT) / u64::from(self.weight.get())
    }
}

impl Default for Share {
    /// A new competitor of weight 1.
    fn default() -> Self {
        Self::new(NonZeroU32::MIN)
    }
}

/// A place would come too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many requests wait")]
pub struct Crowded {
    /// The time until a place is to be expected.
    pub retry_after: Duration,
}

/// Some places, and the lines for them.
#[derive(Debug)]
pub struct Shares(Mutex<Lines>);

/// A place, which is free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    shares: Arc<Shares>,
    share: Share,
}

/// How many places there are, are taken and are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    /// How many places there are.
    pub places: usize,
    /// How many of them are taken. They may be more, if there were more before, or for spokes that held
    /// none.
    pub taken: usize,
    /// How many requests wait for one.
    pub waiting: usize,
}

#[derive(Debug)]
struct Lines {
    places: usize,
    /// Most requests of one spoke in its line.
    waiting_max: usize,
    taken: usize,
    /// How many spokes hold one.
    holders: usize,
    waiting: usize,
    /// Those who hold a place, wait for one, or were given one lately.
    spokes: HashMap<u64, Standing>,
    /// With how many of them it is time to look for some that can be forgotten.
    sweep_at: usize,
    /// Those who wait, the next one first.
    order: BTreeSet<Rank>,
    /// What the last one to whom a place was given had been given before.
    level: u64,
    tickets: u64,
    pace: Pace,
}

/// Where a spoke stands.
#[derive(Debug)]
struct Standing {
    share: Share,
    held: usize,
    /// What it was given for its weight; at least what the last one had who was given a place.
    given: u64,
    line: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    place: oneshot::Sender<()>,
}

/// The place of a spoke among all that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    held: u64,
    given: u64,
    id: u64,
}

/// A request that waits.
struct Waiting<'s> {
    shares: &'s Shares,
    share: Share,
    ticket: u64,
    place: oneshot::Receiver<()>,
    /// The place is somebody else's concern now.
    done: bool,
}

impl Shares {
    /// Some places that are free.
    pub fn new(places: usize) -> Arc<Self> {
        Self::with_lines(places, WAITING_MAX)
    }

    /// Some places that are free, with lines of so many requests at most.
    pub fn with_lines(places: usize, waiting_max: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Lines {
            places,
            waiting_max,
            taken: 0,
            holders: 0,
            waiting: 0,
            spokes: HashMap::new(),
            sweep_at: SWEEP_AT,
            order: BTreeSet::new(),
            level: 0,
            tickets: 0,
            pace: Pace::default(),
        })))
    }

    /// Changes how many places there are. Those that are taken stay taken.
    pub fn set_places(&self, places: usize) {
        let mut lines = self.lock();
        lines.places = places;
        lines.give();
    }

    /// What they are used for.
    pub fn usage(&self) -> Use {
        let lines = self.lock();
        Use {
            places: lines.places,
            taken: lines.taken,
            waiting: lines.waiting,
        }
    }

    /// Waits for a place, no longer than `patience`.
    pub async fn enter(
        self: &Arc<Self>,
        share: Share,
        patience: Duration,
    ) -> Result<Place, Crowded> {
        let asked = self.lock().ask(share, patience)?;
        if let Some((ticket, place)) = asked {
            let mut waiting = Waiting {
                shares: self,
                share,
                ticket,
                place,
                done: false,
            };
            let given = timeout(patience, &mut waiting.place).await;
            if !matches!(given, Ok(Ok(()))) {
                drop(waiting);
                let retry_after = self.lock().expected(share);
                return Err(Crowded { retry_after });
            }
            waiting.done = true;
        }
        let shares = Arc::clone(self);
        Ok(Place { shares, share })
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        // Nothing under the lock can leave it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shares.lock().free(self.share);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.shares.lock().leave(self.share, self.ticket);
        }
    }
}

impl Lines {
    /// Takes a place if there is one for this spoke now, or else a ticket for the end of the line.
    fn ask(
        &mut self,
        share: Share,
        patience: Duration,
    ) -> Result<Option<(u64, oneshot::Receiver<()>)>, Crowded> {
        self.sweep();
        let standing = self.spokes.entry(share.id).or_insert_with(|| Standing {
            share,
            held: 0,
            given: self.level,
            line: VecDeque::new(),
        });
        let newcomer = standing.held == 0 && standing.line.is_empty();
        let free = self.taken < self.places && self.order.is_empty();
        if free || (newcomer && self.holders < self.places) {
            standing.share = share;
            self.take(share.id);
            return Ok(None);
        }
        if self.waiting == 0 {
            self.pace.begin(Instant::now());
        }
        let full = standing.line.len() >= self.waiting_max;
        let retry_after = self.expected(share);
        if full || (self.waiting > 0 && retry_after > patience) {
            return Err(Crowded { retry_after });
        }
        self.waiting += 1;
        self.tickets += 1;
        let ticket = self.tickets;
        let (place, given) = oneshot::channel();
        self.change(share.id, |standing| {
            standing.share = share;
            standing.line.push_back(Waiter { ticket, place });
        });
        Ok(Some((ticket, given)))
    }

    /// A place of this spoke becomes free.
    fn free(&mut self, share: Share) {
        self.taken -= 1;
        let mut held = 0;
        self.change(share.id, |standing| {
            standing.held -= 1;
            held = standing.held;
        });
        self.holders -= usize::from(held == 0);
        if self.taken == 0 && self.waiting == 0 {
            // Nobody is owed anything.
            self.spokes.clear();
        }
        self.give();
    }

    /// A request leaves the line. It may have been given a place meanwhile.
    fn leave(&mut self, share: Share, ticket: u64) {
        let mut waited = false;
        self.change(share.id, |standing| {
            let line = &mut standing.line;
            if let Ok(at) = line.binary_search_by_key(&ticket, |waiter| waiter.ticket) {
                line.remove(at);
                waited = true;
            }
        });
        if waited {
            self.waiting -= 1;
        } else {
            self.free(share);
        }
    }

    /// Gives places that are free to those who wait.
    fn give(&mut self) {
        while let Some(next) = self.order.first().copied()
            && (self.taken < self.places || (next.held == 0 && self.holders < self.places))
        {
            let mut waiter = None;
            self.change(next.id, |standing| waiter = standing.line.pop_front());
            self.take(next.id);
            self.waiting -= 1;
            if self.waiting > 0 {
                self.pace.given(Instant::now(), self.taken);
            } else {
                // Places come as fast as they are asked for, whatever was before.
                self.pace = Pace::default();
            }
            // Whoever left meanwhile waits for the lock to give the place back.
            let _ = waiter.map(|waiter| waiter.place.send(()));
        }
    }

    fn take(&mut self, id: u64) {
        self.taken += 1;
        let mut level = self.level;
        let mut held = 0;
        self.change(id, |standing| {
            standing.held += 1;
            held = standing.held;
            // Who asked for nothing for a while has no claim to what it could have had then.
            level = level.max(standing.given);
            standing.given = level + standing.share.weighed(1);
        });
        self.level = level;
        self.holders += usize::from(held == 1);
    }

    /// Changes the standing of a spoke, and its place among those that wait with it.
    fn change(&mut self, id: u64, change: impl FnOnce(&mut Standing)) {
        let Some(standing) = self.spokes.get_mut(&id) else {
            return;
        };
        if !standing.line.is_empty() {
            self.order.remove(&standing.rank());
        }
        change(standing);
        if !standing.line.is_empty() {
            self.order.insert(standing.rank());
        }
    }

    /// Forgets those who neither hold a place nor wait for one, and have no more than their share: now
    /// and then, so that spokes that reloads took away do not add up.
    fn sweep(&mut self) {
        if self.spokes.len() < self.sweep_at {
            return;
        }
        let level = self.level;
        self.spokes
            .retain(|_, it| it.held > 0 || !it.line.is_empty() || it.given > level);
        self.sweep_at = SWEEP_AT.max(2 * self.spokes.len());
    }

    /// The time until the next request of this spoke would have a place, as places become free now.
    fn expected(&self, share: Share) -> Duration {
        let interval = self.pace.interval(Instant::now(), self.taken);
        if interval.is_zero() {
            return interval;
        }
        let Some(standing) = self.spokes.get(&share.id) else {
            return interval;
        };
        // Those who hold less come first, and then each of them in turn.
        let first = self.order.range(..standing.rank()).count() + 1;
        let rounds = standing.line.len().saturating_mul(self.order.len());
        let places = first.saturating_add(rounds).min(self.waiting + 1);
        let places = u32::try_from(places).unwrap_or(u32::MAX);
        interval.saturating_mul(places)
    }
}

impl Standing {
    fn rank(&self) -> Rank {
        Rank {
            held: self.share.weighed(self.held),
            given: self.given,
            id: self.share.id,
        }
    }
}
