//! The bytes of requests that a hub still has to take, and a bound on them.
//!
//! With `ack: any` a spoke is answered while slower hubs still work on its request, so nothing but
//! this bound limits what such a hub keeps in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes that a hub holds of requests under way, whether their spokes still wait or not.
#[derive(Debug, Default)]
pub(super) struct Backlog(AtomicUsize);

/// The bytes of one request in a backlog, which are free again when this is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    backlog: Arc<Backlog>,
    bytes: usize,
}

impl Backlog {
    /// Takes `bytes` for a request, unless the backlog holds more than `bytes_max` with it. A request
    /// of any size may be the only one.
    pub(super) fn enter(self: &Arc<Self>, bytes: usize, bytes_max: usize) -> Option<Slot> {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        // Dropped at once when there is no room.
        let slot = Slot {
            backlog: Arc::clone(self),
            bytes,
        };
        (before == 0 || before.saturating_add(bytes) <= bytes_max).then_some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.backlog.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_any_size_may_be_the_only_one() {
        let backlog = Arc::new(Backlog::default());
        let large = backlog.enter(1000, 100).unwrap();
        assert!(backlog.enter(1, 100).is_none());
        drop(large);
        let first = backlog.enter(60, 100).unwrap();
        assert!(backlog.enter(41, 100).is_none());
        let _second = backlog.enter(40, 100).unwrap();
        drop(first);
        assert!(backlog.enter(60, 100).is_some());
    }
}
