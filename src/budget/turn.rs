//! Whose turn it is to wait for room: one request at a time, and not for ever.
//!
//! A turn may lapse, and the next one begin, before the request notices that had it. So what it lacks is
//! noted with its ticket.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// The turn of one request among several.
#[derive(Debug, Default)]
pub(super) struct Turn {
    holder: Mutex<Holder>,
    /// What the request lacks whose turn it is, in bytes. It is changed with the lock, and most often 0.
    lacks: AtomicUsize,
}

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
        self.lacks.store(0, Ordering::Release);
        Some(holder.ticket)
    }

    /// True if it is the turn with this ticket.
    pub(super) fn is(&self, ticket: u64) -> bool {
        self.lock().is(ticket)
    }

    /// What the request lacks whose turn it is, in bytes.
    pub(super) fn lacks(&self) -> usize {
        let lacks = self.lacks.load(Ordering::Acquire);
        if lacks > 0 && self.lock().goes_on() {
            lacks
        } else {
            0
        }
    }

    /// The request with this ticket lacks so many bytes. Returns false if its turn is over.
    pub(super) fn lack(&self, ticket: u64, bytes: usize) -> bool {
        let holder = self.lock();
        let is = holder.is(ticket);
        if is {
            self.lacks.store(bytes, Ordering::Release);
        }
        is
    }

    /// The request with this ticket took so many of the bytes that it lacks.
    pub(super) fn paid(&self, ticket: u64, bytes: usize) {
        let holder = self.lock();
        if holder.is(ticket) {
            let lacks = self.lacks.load(Ordering::Acquire);
            self.lacks
                .store(lacks.saturating_sub(bytes), Ordering::Release);
        }
    }

    /// Ends the turn with this ticket.
    pub(super) fn end(&self, ticket: u64) {
        let mut holder = self.lock();
        if holder.ticket == ticket {
            holder.until = None;
            self.lacks.store(0, Ordering::Release);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Holder> {
        // Nothing under the lock can leave it half done.
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holder {
    fn is(&self, ticket: u64) -> bool {
        self.ticket == ticket && self.goes_on()
    }

    fn goes_on(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }
}
