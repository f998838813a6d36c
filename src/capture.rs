//! Captures: the next refused requests of a spoke, kept for an operator who asked to look at them.
//!
//! What a spoke sends belongs to another team. So nothing is kept unless somebody with a credential of the
//! admin port asks for it, [`admin`](crate::admin) hands it out once and to nobody else, and no part of a
//! body reaches the log or the status page.
//!
//! At most one capture goes on in the process, and what it holds has one bound with what is left of those
//! before it: [`HELD_BYTES_MAX`]. That is beside the budget of bytes in flight, since requests of other
//! spokes must find all of it, whatever is captured. As long as no capture goes on, a request costs the load
//! of one atomic.

pub mod bounds;
mod kept;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::pending;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::StatusCode;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::wire::Protocol;

pub use kept::Kept;

/// The most bytes that bodies may hold at once in the process, those of requests under way included.
pub const HELD_BYTES_MAX: usize = 32 * 1024 * 1024;

/// How long after its end a capture may still be read. A client that reads nothing must not keep the
/// bodies.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// What is captured, and how much of it.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The name of the spoke.
    pub spoke: String,
    /// The reasons of refusals that are of interest. Without any, each request with a 4xx is.
    pub reasons: Vec<&'static str>,
    /// The most requests.
    pub requests: usize,
    /// The most bytes of one body.
    pub body_bytes: usize,
    /// The bodies after which no other is kept, in bytes.
    pub bytes: usize,
    /// When it ends at the latest.
    pub until: Instant,
}

/// A request of which something was refused.
#[derive(Debug)]
pub struct Captured {
    /// When it was answered.
    pub time: SystemTime,
    /// The status of the response.
    pub status: StatusCode,
    /// Why something was refused.
    pub reasons: Vec<&'static str>,
    /// The text of the response.
    pub text: String,
    /// The message that its headers name, if they name one.
    pub protocol: Option<Protocol>,
    /// What was kept of its headers.
    pub sender: Sender,
    /// Its body as it came.
    pub body: Kept,
}

/// Who sent a request, and what it said of its body. Each text is cut.
#[derive(Debug, Clone)]
pub struct Sender {
    /// The address.
    pub address: IpAddr,
    /// How the address is known.
    pub address_source: &'static str,
    /// The header of this name.
    pub user_agent: Option<String>,
    /// The header of this name.
    pub content_type: Option<String>,
    /// The header of this name.
    pub content_encoding: Option<String>,
}

impl Captured {
    /// Adds it to its capture, unless that is over.
    pub fn store(self) {
        let capture = Arc::clone(self.body.capture());
        capture.add(self);
    }
}

/// Why a capture ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The bodies have as many bytes as it was to have.
    Bytes,
    /// Whoever asked for it went away.
    Gone,
    /// It has as many requests as it was to have.
    Requests,
    /// The credential of whoever asked for it is no longer valid, or the spoke is gone.
    Revoked,
    /// hubgate is shutting down.
    Shutdown,
    /// Its time is over.
    Time,
}

impl End {
    /// Its name in the log and for clients.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Gone => "gone",
            Self::Requests => "requests",
            Self::Revoked => "revoked",
            Self::Shutdown => "shutdown",
            Self::Time => "time",
        }
    }
}

/// The capture that goes on, if there is one.
#[derive(Debug, Default)]
pub struct Captures {
    /// There is one. Each request looks at it, so it has no lock.
    begun: AtomicBool,
    current: Mutex<Option<Arc<Capture>>>,
    changed: Notify,
    /// What bodies hold, in bytes. Those of a capture that has ended may do so for a while.
    held: Arc<AtomicUsize>,
}

impl Captures {
    /// The capture of a spoke's requests, if one goes on.
    pub fn of(&self, spoke: &str) -> Option<Arc<Capture>> {
        if !self.begun.load(Ordering::Relaxed) {
            return None;
        }
        let capture = self.lock().clone()?;
        (capture.terms.spoke == spoke && capture.end().is_none()).then_some(capture)
    }

    /// The capture that goes on, of whichever spoke.
    pub fn current(&self) -> Option<Arc<Capture>> {
        self.lock().clone()
    }

    /// Begins a capture, or returns the one that goes on.
    pub fn begin(&self, terms: Terms) -> Result<Arc<Capture>, Arc<Capture>> {
        let mut current = self.lock();
        if let Some(capture) = &*current {
            return Err(Arc::clone(capture));
        }
        let capture = Arc::new(Capture {
            terms,
            held: Arc::clone(&self.held),
            queue: Mutex::default(),
            changed: Notify::new(),
        });
        *current = Some(Arc::clone(&capture));
        self.begun.store(true, Ordering::Relaxed);
        self.changed.notify_one();
        Ok(capture)
    }

    /// Ends a capture if it still goes on, and drops what nobody has taken from it.
    pub fn end(&self, capture: &Arc<Capture>, end: End) {
        let mut current = self.lock();
        if current.as_ref().is_some_and(|it| Arc::ptr_eq(it, capture)) {
            *current = None;
            self.begun.store(false, Ordering::Relaxed);
        }
        drop(current);
        capture.finish(end);
        capture.lock().waiting.clear();
    }

    /// Ends each capture some time after its last moment, whatever its client does. Does not return.
    pub async fn expire(&self) -> Infallible {
        loop {
            let capture = self.lock().clone();
            let overdue = async {
                let Some(capture) = capture else {
                    return pending().await;
                };
                sleep_until(capture.terms.until + READ_TIMEOUT).await;
                self.end(&capture, End::Time);
            };
            tokio::select! {
                () = overdue => {}
                () = self.changed.notified() => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Capture>>> {
        // Nothing under the lock can leave it half done.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Requests that are captured, until a client takes them.
#[derive(Debug)]
pub struct Capture {
    terms: Terms,
    /// What the bodies of all captures hold, in bytes.
    held: Arc<AtomicUsize>,
    queue: Mutex<Queue>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Captured>,
    /// Those that were captured so far.
    requests: usize,
    /// The bytes of their bodies.
    bytes: usize,
    /// Why no more are captured.
    end: Option<End>,
}

impl Capture {
    /// What is captured.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Whether a response with this status, and these reasons, is of interest.
    pub fn wants(&self, status: StatusCode, reasons: &[&'static str]) -> bool {
        if self.terms.reasons.is_empty() {
            return status.is_client_error();
        }
        reasons.iter().any(|it| self.terms.reasons.contains(it))
    }

    /// Adds a request, unless the capture is over.
    pub fn add(&self, captured: Captured) {
        if Instant::now() >= self.terms.until {
            return self.finish(End::Time);
        }
        let mut queue = self.lock();
        if queue.end.is_some() {
            return;
        }
        queue.requests += 1;
        queue.bytes += captured.body.bytes().len();
        queue.waiting.push_back(captured);
        if queue.requests >= self.terms.requests {
            queue.end = Some(End::Requests);
        } else if queue.bytes >= self.terms.bytes {
            queue.end = Some(End::Bytes);
        }
        self.changed.notify_one();
    }

    /// Shows the oldest request that nobody has, if there is one. It stays here, where it has an end.
    pub fn first<R>(&self, show: impl FnOnce(&Captured) -> R) -> Option<R> {
        self.lock().waiting.front().map(show)
    }

    /// Drops the oldest request; a client has it.
    pub fn drop_first(&self) {
        self.lock().waiting.pop_front();
    }

    /// Waits until a request was added or the capture ended. There may be nothing new.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Captures no more, if the capture has not ended before.
    pub fn finish(&self, end: End) {
        self.lock().end.get_or_insert(end);
        self.changed.notify_one();
    }

    /// Ends the capture, and drops what its client has not taken: the client may not see it any more.
    pub fn revoke(&self) {
        let mut queue = self.lock();
        if queue.end.is_none() || !queue.waiting.is_empty() {
            queue.end = Some(End::Revoked);
        }
        queue.waiting.clear();
    }

    /// Why no more are captured, once that is so.
    pub fn end(&self) -> Option<End> {
        self.lock().end
    }

    /// How many requests were captured, and the bytes of their bodies.
    pub fn captured(&self) -> (usize, usize) {
        let queue = self.lock();
        (queue.requests, queue.bytes)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing under the lock can leave it half done.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
