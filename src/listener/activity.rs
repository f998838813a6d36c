//! Tracks what a connection is doing, and when it must have done more.
//!
//! The service and the reading side record what happens. The connection's task waits here until a
//! deadline has passed. This file tells which deadline that is, and the task decides what follows.
//!
//! A request of a connection that stays open wakes nobody here: it only puts deadlines off, and who
//! waits for one looks again when it would have passed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::reasons::ConnectionRefusal;

use super::places::Turn;

/// The time for the head of a request of a sender.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The deadlines of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    /// For the head of a request. The time of the first head runs from the accept, and that of a
    /// later one from its first byte. A sender writes a head in one piece, so only lost packets
    /// take time.
    pub(super) head: Duration,
    /// For a connection without a request. It is longer than the 5 minutes for which Prometheus
    /// keeps an idle connection: the sender must be the one that closes, or a request may arrive
    /// just as hubgate closes.
    pub(super) idle: Duration,
    /// For a connection without a request after a response that ends it. The rest of a refused body
    /// is read for as long as this.
    pub(super) closing: Duration,
    /// For a connection without a request while hubgate drains. The last response is still sent,
    /// and half a head does not delay the end of the process.
    pub(super) drain: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            head: HEAD_TIMEOUT,
            idle: Duration::from_secs(6 * 60),
            closing: Duration::from_secs(10),
            drain: Duration::from_secs(1),
        }
    }
}

/// What a connection is doing.
#[derive(Debug)]
pub(super) struct Activity {
    phase: watch::Sender<Phase>,
    /// The number of requests whose response the handler has not made.
    unanswered: watch::Sender<usize>,
    /// The connection is to end, so its task follows each request.
    ending: AtomicBool,
    turn: Arc<Turn>,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// A head is awaited, or has been arriving, since this time.
    Head(Instant),
    /// This number of requests is in flight. It is never 0.
    Busy(usize),
    /// There has been no request since this time.
    Idle(Instant),
}

impl Activity {
    /// The activity of a connection that was just accepted and stands here among those that give
    /// way.
    pub(super) fn new(turn: Arc<Turn>) -> Arc<Self> {
        Arc::new(Self {
            phase: watch::Sender::new(Phase::Head(Instant::now())),
            unanswered: watch::Sender::new(0),
            ending: AtomicBool::new(false),
            turn,
        })
    }

    /// Records that a part of a head arrived. The heads of HTTP/2, but for the first, have the idle
    /// deadline only.
    pub(super) fn head_began(&self) {
        self.phase.send_if_modified(|phase| {
            let begins = matches!(phase, Phase::Idle(_));
            if begins {
                *phase = Phase::Head(Instant::now());
            }
            begins
        });
    }

    /// Records that the whole head of a request arrived. The request is in flight for as long as
    /// the returned value lives.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.turn.busy();
        self.phase.send_if_modified(|phase| match phase {
            Phase::Busy(requests) => {
                *requests += 1;
                false
            }
            Phase::Head(_) | Phase::Idle(_) => {
                *phase = Phase::Busy(1);
                self.ending()
            }
        });
        InFlight {
            activity: Arc::clone(self),
        }
    }

    /// Records that the handler begins with a request. It has no response for as long as the returned
    /// value lives.
    pub(super) fn ask(self: &Arc<Self>) -> Unanswered {
        self.unanswered.send_if_modified(|requests| {
            *requests += 1;
            self.ending()
        });
        Unanswered {
            activity: Arc::clone(self),
        }
    }

    fn end(&self) {
        self.phase.send_if_modified(|phase| match phase {
            Phase::Busy(requests @ 2..) => {
                *requests -= 1;
                false
            }
            _ => {
                self.turn.rest();
                *phase = Phase::Idle(Instant::now());
                self.ending()
            }
        });
    }

    /// Waits until the peer has missed a deadline.
    pub(super) async fn overdue(&self, deadlines: &Deadlines) -> ConnectionRefusal {
        use ConnectionRefusal::{HeaderTimeout, IdleTimeout};
        let mut phases = self.phase.subscribe();
        loop {
            let phase = *phases.borrow_and_update();
            let now = Instant::now();
            let (due, overdue) = match phase {
                Phase::Head(since) => (since + deadlines.head, HeaderTimeout),
                Phase::Idle(since) => (since + deadlines.idle, IdleTimeout),
                // The connection is idle for less than that when it is looked at again.
                Phase::Busy(_) => (now + deadlines.idle, IdleTimeout),
            };
            if now >= due {
                return overdue;
            }
            tokio::select! {
                _ = phases.changed() => {}
                () = sleep_until(due) => {}
            }
        }
    }

    /// Tells whether a change wakes the connection's task. A part of a head always does, since its
    /// deadline is nearer than the one that is waited for.
    fn ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Has all changes wake the connection's task from now on.
    fn follow(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Waits until each request has had its response for `time`, counted from now on. The peer may not
    /// have read them.
    pub(super) async fn answered(&self, time: Duration) {
        self.follow();
        let mut unanswered = self.unanswered.subscribe();
        loop {
            let answered = *unanswered.borrow_and_update() == 0;
            tokio::select! {
                _ = unanswered.changed() => {}
                () = sleep(time), if answered => return,
            }
        }
    }

    /// Waits until there has been no request for `time`, counted from now on.
    pub(super) async fn quiet(&self, time: Duration) {
        self.follow();
        let mut phases = self.phase.subscribe();
        loop {
            let busy = matches!(*phases.borrow_and_update(), Phase::Busy(_));
            tokio::select! {
                _ = phases.changed() => {}
                () = sleep(time), if !busy => return,
            }
        }
    }
}

/// A request without a response.
#[derive(Debug)]
pub(super) struct Unanswered {
    activity: Arc<Activity>,
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        let unanswered = &self.activity.unanswered;
        unanswered.send_if_modified(|requests| {
            *requests -= 1;
            self.activity.ending()
        });
    }
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct InFlight {
    activity: Arc<Activity>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.activity.end();
    }
}
