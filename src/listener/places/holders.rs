//! Who holds the open connections of a listener, and whose is the first that gives way.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use crate::reasons::ConnectionRefusal;
use crate::telemetry::Repeats;

use super::super::peer::network;
use super::Taker;
use super::known::{Connection, Known};

/// The number of holders that the log names.
const HOLDERS_LOGGED: usize = 3;

/// The open connections by who holds them.
#[derive(Debug, Default)]
pub(super) struct Open {
    /// Those with open connections.
    holders: HashMap<Holder, Held>,
    /// The connections whose sender is known.
    known: Known,
    /// Those with connections that give way. The last one has most of them, and of those with as
    /// many, the oldest.
    crowd: BTreeSet<(usize, Reverse<u64>, Holder)>,
    /// The last number that was given.
    last: u64,
    log: Repeats,
    /// Connections that are refused because of those of their address.
    crowded: Repeats,
    /// The connections that gave way and are not logged.
    evicted: u64,
}

/// Those whose connections count together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Holder {
    /// Their [`network`].
    network: IpAddr,
    /// The number of a connection behind a trusted proxy, which counts for itself, else 0.
    alone: u64,
}

/// The connections of one holder.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) open: usize,
    /// The connections that give way, by the order in which they do.
    pub(super) waiting: BTreeMap<u64, CancellationToken>,
    /// Those whose sender is known, of an address that may have a limit.
    known: Known,
}

impl Open {
    /// A number that was not given before, above 0.
    pub(super) fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Tells whose connections count together with one of this taker. If they are as many as may be,
    /// the first of them gives way, and the second value is true.
    pub(super) fn admit(&mut self, taker: Taker) -> Result<(Holder, bool), ConnectionRefusal> {
        let (address, limit) = match taker {
            Taker::Address(address, limit) => (address, limit),
            Taker::Behind(proxy) => {
                let alone = self.next_number();
                return Ok((Holder::of(proxy, alone), false));
            }
        };
        let holder = Holder::of(address, 0);
        let open = self.holders.get(&holder).map_or(0, |held| held.open);
        let Some(limit) = limit.filter(|limit| open >= *limit) else {
            return Ok((holder, false));
        };
        let over = self.pop_first_of(holder);
        let over = over.or_else(|| self.pop_known_of(holder, limit));
        let Some(over) = over else {
            if let Some(count) = self.crowded.add(1, Instant::now()) {
                let address = holder.network;
                tracing::warn!(%address, open, count, "an address has all connections that it may");
            }
            return Err(ConnectionRefusal::ConnectionsPerAddressMax);
        };
        over.cancel();
        Ok((holder, true))
    }

    /// Changes what a holder has.
    pub(super) fn change<T>(&mut self, holder: Holder, change: impl FnOnce(&mut Held) -> T) -> T {
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

    /// Takes the first connection that gives way, now that all of `limit` places are taken.
    pub(super) fn pop_first(&mut self, limit: usize) -> Option<CancellationToken> {
        match self.crowd.last() {
            Some((_, _, holder)) => self.pop_first_of(*holder),
            None => {
                let (sender, number, connection) = self.known.pop(limit)?;
                let holder = connection.holder;
                self.change(holder, |held| held.known.remove(&sender, number));
                Some(connection.over)
            }
        }
    }

    fn pop_first_of(&mut self, holder: Holder) -> Option<CancellationToken> {
        let first = self.change(holder, |held| held.waiting.pop_first());
        first.map(|(_, over)| over)
    }

    /// Takes the first connection of a known sender that gives way, now that all of `limit` places of its holder
    /// are taken.
    fn pop_known_of(&mut self, holder: Holder, limit: usize) -> Option<CancellationToken> {
        let popped = self.change(holder, |held| held.known.pop(limit));
        let (sender, number, connection) = popped?;
        self.known.remove(&sender, number);
        Some(connection.over)
    }

    /// Adds a connection whose sender is known. Returns the key of the sender.
    pub(super) fn add_known(
        &mut self,
        sender: &str,
        number: u64,
        connection: Connection,
    ) -> Arc<str> {
        let holder = connection.holder;
        let key = self.known.add(sender, number, connection.clone());
        // What counts for itself has no limit of its own.
        if holder.alone == 0 {
            self.change(holder, |held| held.known.add(&key, number, connection));
        }
        key
    }

    /// Removes a connection whose sender is known. Returns nothing when it has given way already.
    pub(super) fn remove_known(&mut self, sender: &str, number: u64) -> Option<Connection> {
        let connection = self.known.remove(sender, number)?;
        let holder = connection.holder;
        self.change(holder, |held| held.known.remove(sender, number));
        Some(connection)
    }

    /// Logs now and then that all places are taken, as a new connection finds out.
    pub(super) fn log_full(&mut self, limit: usize, new: Holder, evicted: bool) {
        self.evicted += u64::from(evicted);
        let Some(count) = self.log.add(1, Instant::now()) else {
            return;
        };
        let evicted = std::mem::take(&mut self.evicted);
        let (refused, address, most) = (count - evicted, new.network, Most::of(&self.holders));
        tracing::warn!(
            limit,
            evicted,
            refused,
            %address,
            %most,
            "all connections that may be open are taken"
        );
    }

    /// The holders with most connections, for people.
    #[cfg(test)]
    pub(super) fn most(&self) -> String {
        Most::of(&self.holders).to_string()
    }

    /// Tells whether nobody holds anything.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.crowd.is_empty() && self.holders.is_empty() && self.known.is_empty()
    }
}

impl Held {
    fn rank(&self, holder: Holder) -> Option<(usize, Reverse<u64>, Holder)> {
        let (oldest, _) = self.waiting.first_key_value()?;
        Some((self.waiting.len(), Reverse(*oldest), holder))
    }
}

impl Holder {
    fn of(address: IpAddr, alone: u64) -> Self {
        let network = network(address);
        Self { network, alone }
    }
}

/// The networks with most connections, each with their number.
struct Most(Vec<(usize, IpAddr)>);

impl Most {
    fn of(holders: &HashMap<Holder, Held>) -> Self {
        let mut networks: HashMap<IpAddr, usize> = HashMap::new();
        for (holder, held) in holders {
            *networks.entry(holder.network).or_default() += held.open;
        }
        let mut most: Vec<_> = networks.into_iter().map(|(it, open)| (open, it)).collect();
        most.sort_unstable_by_key(|(open, network)| (Reverse(*open), *network));
        most.truncate(HOLDERS_LOGGED);
        Self(most)
    }
}

impl fmt::Display for Most {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (open, network)) in self.0.iter().enumerate() {
            let separator = if place == 0 { "" } else { ", " };
            let half = if network.is_ipv6() { "/64" } else { "" };
            write!(f, "{separator}{network}{half}: {open}")?;
        }
        Ok(())
    }
}
