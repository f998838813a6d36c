//! The connections whose sender is known, and which of them gives way when no other one does.
//!
//! They stay, or strangers could keep senders out. But one sender that opens ever more of them would keep out
//! all others. So when known senders have all places, of the listener or of their address, the one with most
//! connections loses one, if it has more than its part: the new connection may be of one sender more. The oldest one without a request is
//! first. If all have one, it is the newest: the others are finished, however many connections come after
//! them. The sender of a request that is cut sends it again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

use super::holders::Holder;

/// The connections by sender, and in the order in which their senders became known.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<Arc<str>, BTreeMap<u64, Connection>>);

/// One of them.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    /// Cancelled when it gives way.
    pub(super) over: CancellationToken,
    /// It has a request.
    pub(super) busy: Arc<AtomicBool>,
    /// Whom it counts for.
    pub(super) holder: Holder,
}

/// A connection that gives way: its sender, its number, and itself.
pub(super) type Popped = (Arc<str>, u64, Connection);

impl Known {
    /// Adds a connection of this sender. Its number is higher than all before. Returns the key of the
    /// sender.
    pub(super) fn add(&mut self, sender: &str, number: u64, connection: Connection) -> Arc<str> {
        let known = self.0.get_key_value(sender);
        let sender = known.map_or_else(|| sender.into(), |(sender, _)| Arc::clone(sender));
        let connections = self.0.entry(Arc::clone(&sender)).or_default();
        connections.insert(number, connection);
        sender
    }

    /// Removes a connection; it may have given way already.
    pub(super) fn remove(&mut self, sender: &str, number: u64) -> Option<Connection> {
        let connections = self.0.get_mut(sender)?;
        let removed = connections.remove(&number);
        if connections.is_empty() {
            self.0.remove(sender);
        }
        removed
    }

    /// Takes the connection that gives way when all of `limit` places are taken. Nobody loses the only one.
    pub(super) fn pop(&mut self, limit: usize) -> Option<Popped> {
        let part = limit / (self.0.len() + 1);
        let most = self
            .0
            .iter()
            .max_by_key(|(_, connections)| connections.len());
        let (sender, connections) = most.filter(|(_, it)| it.len() > part.max(1))?;
        let is_idle = |it: &Connection| !it.busy.load(Ordering::Relaxed);
        let idle = connections.iter().find(|(_, it)| is_idle(it));
        let (number, _) = idle.or(connections.last_key_value())?;
        let (sender, number) = (Arc::clone(sender), *number);
        let connection = self.remove(&sender, number)?;
        Some((sender, number, connection))
    }

    /// Tells whether there is none.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
