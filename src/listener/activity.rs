//! What goes on on one connection, and until when something must.
//!
//! The service and the reading side say what happened; the connection's task waits here for a
//! deadline to pass. It only tells which one: what follows from it is the task's.

use std::sync::Arc;
use std::time::Duration;

use http::Version;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::reasons::ConnectionRefusal;

/// The deadlines of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    /// For a request's head: the first one from the accept on, a later one from its first byte
    /// on. Senders write a head in one piece, so that only lost packets take time.
    pub(super) head: Duration,
    /// For a connection without a request. Longer than the 5 minutes that Prometheus keeps an
    /// idle connection: whoever closes first must be the sender, or a request may cross the
    /// closing.
    pub(super) idle: Duration,
    /// For a connection without a request while draining: an answer just given is still sent,
    /// and half a head does not hold up the end of the process.
    pub(super) drain: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            idle: Duration::from_secs(6 * 60),
            drain: Duration::from_secs(1),
        }
    }
}

/// What goes on on one connection.
#[derive(Debug)]
pub(super) struct Activity(watch::Sender<Phase>);

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// A head is awaited or arriving since then.
    Head(Instant),
    /// So many requests are in flight, never 0.
    Busy(usize),
    /// No request since then; the last one was of this version.
    Idle(Instant, Version),
}

impl Activity {
    /// A connection that was just accepted.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(Phase::Head(Instant::now()))))
    }

    /// Records that bytes arrived. On an idle connection of HTTP/1.1 they begin a head. On one of
    /// HTTP/2 they may be an acknowledgement, so that its later heads have the idle deadline only.
    ///
    /// The version is known here without looking at the bytes: a connection is idle only after a
    /// request.
    pub(super) fn received(&self) {
        self.0.send_if_modified(|phase| {
            let begins = matches!(phase, Phase::Idle(_, version) if *version != Version::HTTP_2);
            if begins {
                *phase = Phase::Head(Instant::now());
            }
            begins
        });
    }

    /// Records that the whole head of a request arrived. The request is in flight for as long as
    /// the returned value lives.
    pub(super) fn begin(self: &Arc<Self>, version: Version) -> InFlight {
        self.0.send_if_modified(|phase| match phase {
            Phase::Busy(requests) => {
                *requests += 1;
                false
            }
            Phase::Head(_) | Phase::Idle(..) => {
                *phase = Phase::Busy(1);
                true
            }
        });
        InFlight {
            activity: Arc::clone(self),
            version,
        }
    }

    fn end(&self, version: Version) {
        self.0.send_if_modified(|phase| match phase {
            Phase::Busy(requests @ 2..) => {
                *requests -= 1;
                false
            }
            _ => {
                *phase = Phase::Idle(Instant::now(), version);
                true
            }
        });
    }

    /// Waits until a deadline for the sender has passed.
    pub(super) async fn overdue(&self, deadlines: &Deadlines) -> ConnectionRefusal {
        let mut phases = self.0.subscribe();
        loop {
            let phase = *phases.borrow_and_update();
            let (since, patience, overdue) = match phase {
                Phase::Head(since) => (since, deadlines.head, ConnectionRefusal::HeaderTimeout),
                Phase::Idle(since, _) => (since, deadlines.idle, ConnectionRefusal::IdleTimeout),
                Phase::Busy(_) => {
                    // Fails only without a sender, and that is `self`.
                    let _ = phases.changed().await;
                    continue;
                }
            };
            tokio::select! {
                _ = phases.changed() => {}
                () = sleep_until(since + patience) => return overdue,
            }
        }
    }

    /// Waits until there was no request for `time`, from now on.
    pub(super) async fn quiet(&self, time: Duration) {
        let mut phases = self.0.subscribe();
        loop {
            let busy = matches!(*phases.borrow_and_update(), Phase::Busy(_));
            tokio::select! {
                _ = phases.changed() => {}
                () = sleep(time), if !busy => return,
            }
        }
    }
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct InFlight {
    activity: Arc<Activity>,
    version: Version,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.activity.end(self.version);
    }
}
