//! Turns to compute something of a handshake, fair to those who wait for one.
//!
//! There are a few turns, and a line of those who wait. The handshakes of one network have at most as
//! many places in the line as there are turns; the rest of them wait for a place. So a network with
//! thousands of handshakes has all turns while nobody else wants one, and yet the handshake of another
//! network waits for two rounds at most.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio_util::sync::PollSemaphore;

use super::super::peer::network;

/// The turns, and those who wait for one.
#[derive(Debug)]
pub(super) struct Turns {
    number: usize,
    line: Arc<Semaphore>,
    /// The networks with handshakes.
    networks: Mutex<HashMap<IpAddr, Places>>,
}

/// The places of a network in the line.
#[derive(Debug)]
struct Places {
    free: Arc<Semaphore>,
    /// The handshakes that share them.
    handshakes: usize,
}

impl Turns {
    /// As many turns as may be taken at once.
    pub(super) fn new(number: usize) -> Arc<Self> {
        Arc::new(Self {
            number,
            line: Arc::new(Semaphore::new(number)),
            networks: Mutex::default(),
        })
    }

    /// The turns of a handshake with a peer at this address.
    pub(super) fn of(self: &Arc<Self>, address: IpAddr) -> HandshakeTurns {
        let network = network(address);
        let mut networks = self.networks();
        let places = networks.entry(network).or_insert_with(|| Places {
            free: Arc::new(Semaphore::new(self.number)),
            handshakes: 0,
        });
        places.handshakes += 1;
        HandshakeTurns {
            network,
            places: PollSemaphore::new(Arc::clone(&places.free)),
            place: None,
            line: PollSemaphore::new(Arc::clone(&self.line)),
            turns: Arc::clone(self),
        }
    }

    /// Waits for a turn of no network.
    pub(super) async fn next(&self) -> Option<SemaphorePermit<'_>> {
        self.line.acquire().await.ok()
    }

    fn networks(&self) -> MutexGuard<'_, HashMap<IpAddr, Places>> {
        // Nothing under the lock can leave it half done.
        self.networks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turns of one handshake.
#[derive(Debug)]
pub(super) struct HandshakeTurns {
    network: IpAddr,
    places: PollSemaphore,
    /// The place in the line.
    place: Option<OwnedSemaphorePermit>,
    line: PollSemaphore,
    turns: Arc<Turns>,
}

impl HandshakeTurns {
    /// Waits for the next turn, which lasts for as long as the returned value lives.
    pub(super) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<OwnedSemaphorePermit>> {
        if self.place.is_none() {
            self.place = ready!(self.places.poll_acquire(context));
        }
        let turn = ready!(self.line.poll_acquire(context));
        self.place = None;
        Poll::Ready(turn)
    }
}

impl Drop for HandshakeTurns {
    fn drop(&mut self) {
        let mut networks = self.turns.networks();
        if let Some(places) = networks.get_mut(&self.network) {
            places.handshakes -= 1;
            if places.handshakes == 0 {
                networks.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::task::{JoinSet, yield_now};

    use super::*;

    /// Who had turns, in order, when each of these asked for one while all were taken.
    async fn order(turns: &Arc<Turns>, asking: &[IpAddr]) -> Vec<IpAddr> {
        let taken = turns.line.acquire_many(turns.number.try_into().unwrap());
        let taken = taken.await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        for address in asking {
            let (mut turns, order, address) = (turns.of(*address), Arc::clone(&order), *address);
            tasks.spawn(async move {
                let _turn = poll_fn(|context| turns.poll_next(context)).await;
                order.lock().unwrap().push(address);
                yield_now().await;
            });
            yield_now().await;
        }
        drop(taken);
        tasks.join_all().await;
        std::mem::take(&mut *order.lock().unwrap())
    }

    #[tokio::test]
    async fn many_handshakes_of_one_network_delay_another_by_two_rounds_at_most() {
        for number in [1, 4] {
            let turns = Turns::new(number);
            let many: Vec<IpAddr> = (0..=99)
                .map(|last| format!("2001:db8::{last}").parse().unwrap())
                .collect();
            let other: IpAddr = [203, 0, 113, 7].into();
            let asking = [&many[..], &[other]].concat();
            let order = order(&turns, &asking).await;
            assert_eq!(order.len(), asking.len());
            let before = order.iter().position(|address| *address == other);
            assert!(before <= Some(2 * number), "{number}: {before:?}");
            assert!(turns.networks().is_empty());
        }
    }

    #[tokio::test]
    async fn one_network_has_all_turns_while_no_other_wants_one() {
        let turns = Turns::new(4);
        let mut handshakes: Vec<_> = (0..5).map(|_| turns.of([127, 0, 0, 1].into())).collect();
        let mut taken = Vec::new();
        for handshake in &mut handshakes[..4] {
            taken.push(poll_fn(|context| handshake.poll_next(context)).await);
        }
        let last = &mut handshakes[4];
        poll_fn(|context| {
            assert!(last.poll_next(context).is_pending());
            Poll::Ready(())
        })
        .await;
        taken.pop();
        assert!(poll_fn(|context| last.poll_next(context)).await.is_some());
    }
}
