//! Whose turn it is to wait for room: one request at a time, and not for ever.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// The turn of one request among several.
#[derive(Debug, Default)]
pub(super) struct Turn(Mutex<Holder>);

#[derive(Debug, Default)]
struct Holder {
    /// Which of all turns it is.
    ticket: u64,
    /// When it ends, if the request does not end it; `None` when it is nobody's.
    until: Option<Instant>,
}

impl Turn {
    /// Begins a turn if it is nobody's, and returns its ticket.
    pub(super) fn begin(&self, until: Instant) -> Option<u64> {
        let mut holder = self.lock();
        if holder.goes_on() {
            return None;
        }
        holder.ticket += 1;
        holder.until = Some(until);
        Some(holder.ticket)
    }

    /// True if it is the turn of somebody.
    pub(super) fn goes_on(&self) -> bool {
        self.lock().goes_on()
    }

    /// True if it is the turn with this ticket.
    pub(super) fn is(&self, ticket: u64) -> bool {
        let holder = self.lock();
        holder.ticket == ticket && holder.goes_on()
    }

    /// Ends the turn with this ticket. Returns false if it was over.
    pub(super) fn end(&self, ticket: u64) -> bool {
        let mut holder = self.lock();
        let is = holder.ticket == ticket;
        if is {
            holder.until = None;
        }
        is
    }

    fn lock(&self) -> MutexGuard<'_, Holder> {
        // Nothing under the lock can leave it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holder {
    fn goes_on(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }
}
