//! How many requests a hub is sent at once.
//!
//! A hub that is slow because it has too much to do becomes slower with every further request, until
//! none is answered in time. So the number follows what the hub does with it, as a congestion window
//! follows the network: it grows while the hub answers as fast as ever, halves when a tenth of the
//! responses say or show that the hub is overloaded, and shrinks a little when they become slow. Fewer
//! failures may well be about one spoke, whose mistake must not slow the others; nor do more of one spoke
//! count while most are served. A hub that always takes two seconds is not slow by that measure: how long a
//! message takes is compared with the shortest time that messages of about its size took. That time may rise
//! only while the hub is sent the fewest requests at once. Otherwise what they wait for each other would be
//! taken for the pace of the hub, and the limit would rise with it.
//!
//! A hub that does not answer at all, or is replaced by one that does, is tried with one request more
//! each second, so that its recovery is seen though all requests before wait for a dead one.

mod spokes;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use spokes::Spokes;

/// Most requests at once. Prometheus takes 512 connections by default (`--web.max-connections`), for
/// its users as well; more than that hang unaccepted.
pub(super) const LIMIT_MAX: usize = 256;

/// Fewest requests at once, so that a hub behind a balancer that lost one instance is still used.
pub(super) const LIMIT_MIN: usize = 4;

/// The first limit. It doubles with each round of responses until the hub shows a limit of its own.
pub(super) const LIMIT_FIRST: usize = 32;

/// A response that takes no longer is not slow, whatever others took.
const SLOW_MIN: Duration = Duration::from_secs(1);

/// A response is slow if it takes this many times as long as it can.
const SLOW_FACTOR: u32 = 3;

/// A hub is overloaded if more than this part of what it was sent lately shows that.
const FAILING_MAX: f32 = 0.1;

/// About so many of the last responses are lately.
const FAILING_RESPONSES: f32 = 32.0;

/// A hub that is sent the fewest requests at once for this long shows what it takes without a queue.
const WINDOW: Duration = Duration::from_secs(10);

/// A hub is silent if all requests at once are under way and none is answered for this long, nor for
/// [`SLOW_FACTOR`] times as long as it can take.
const SILENCE: Duration = Duration::from_secs(2);

/// The limit is counted in parts of a request.
const REQUEST: usize = 1 << 16;

/// Sizes of messages are told apart by powers of 8, from 512 bytes.
const SIZES: usize = 8;

/// What the end of a request says about the load of a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// It did its work.
    Served,
    /// It has too much to do.
    Overloaded,
    /// It closed the connection. It may have too much to do, or be replaced, which says nothing about what it
    /// can do.
    Reset,
    /// It cannot be reached, which says nothing about what it can do once it is back.
    Unreachable,
    /// Nothing, as a fault may come from the message.
    None,
    /// There was no response, but there was little time for it as well.
    Unheard,
}

/// A request that ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    /// When it was sent.
    pub began: Instant,
    /// Who sent it.
    pub spoke: u64,
    /// Size of its message, in bytes.
    pub bytes: usize,
    /// What its end says.
    pub sign: Sign,
    /// How many requests were under way, this one included.
    pub in_flight: usize,
}

/// The limit of requests at once, and what it follows from.
#[derive(Debug)]
pub(super) struct Concurrency {
    /// In parts of a [`REQUEST`], as is the threshold.
    limit: usize,
    /// Up to here the limit grows with each response, and beyond with each round of them.
    threshold: usize,
    /// When it was lowered last. What was sent before says nothing about the lower limit.
    lowered: Instant,
    /// The part of what the hub was sent lately that shows an overload.
    failing: f32,
    spokes: Spokes,
    /// It was lowered for an overload, and the hub has served nothing since.
    falling: bool,
    /// When the last response came.
    heard: Instant,
    /// Since when all requests at once are under way.
    full: Option<Instant>,
    shortest: [Shortest; SIZES],
}

/// The shortest time that messages of about one size took.
#[derive(Debug, Clone, Copy, Default)]
struct Shortest {
    known: Option<Duration>,
    /// The shortest since the limit is the lowest, and in this window.
    alone: Option<Duration>,
    since: Option<Instant>,
}

impl Concurrency {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            limit: LIMIT_FIRST * REQUEST,
            threshold: LIMIT_MAX * REQUEST,
            lowered: now,
            failing: 0.0,
            spokes: Spokes::default(),
            falling: false,
            heard: now,
            full: None,
            shortest: Default::default(),
        }
    }

    /// Most requests at once.
    pub(super) fn limit(&self) -> usize {
        self.limit / REQUEST
    }

    /// A request ended now. Returns the limit from now on.
    pub(super) fn ended(&mut self, ended: &Ended, now: Instant) -> usize {
        let took = now.saturating_duration_since(ended.began);
        if matches!(ended.sign, Sign::Served | Sign::None) {
            self.heard = now;
        }
        match ended.sign {
            Sign::None | Sign::Unheard => {}
            Sign::Unreachable => {
                if ended.began >= self.lowered {
                    self.lower(self.limit / 2, now);
                }
            }
            Sign::Overloaded | Sign::Reset => {
                let is_of_hub = self.spokes.failed(ended.spoke, now);
                if is_of_hub && ended.began >= self.lowered {
                    self.failing += (1.0 - self.failing) / FAILING_RESPONSES;
                    if self.failing > FAILING_MAX {
                        self.lower(self.limit / 2, now);
                        if ended.sign == Sign::Overloaded && !self.falling {
                            self.falling = true;
                            self.threshold = self.limit;
                        }
                    }
                }
            }
            Sign::Served => {
                self.falling = false;
                self.spokes.served(ended.spoke, now);
                self.failing -= self.failing / FAILING_RESPONSES;
                let lowest = self.limit() <= 2 * LIMIT_MIN;
                let shortest = &mut self.shortest[size(ended.bytes)];
                let (known, rose) = shortest.update(took, lowest, now);
                if rose {
                    // What it showed of its limit was at another pace.
                    self.threshold = LIMIT_MAX * REQUEST;
                }
                if took <= SLOW_MIN.max(known.saturating_mul(SLOW_FACTOR)) {
                    self.raise(ended.in_flight);
                } else if ended.began >= self.lowered {
                    self.lower(self.limit / 8 * 7, now);
                    self.threshold = self.limit;
                }
            }
        }
        self.limit()
    }

    /// Allows one request more if the hub is silent: all of `taken` requests are under way. It is to be
    /// called each second. Returns the limit from now on.
    pub(super) fn tick(&mut self, taken: usize, now: Instant) -> usize {
        if taken < self.limit() {
            self.full = None;
            return self.limit();
        }
        let full = *self.full.get_or_insert(now);
        let usual = self.shortest.iter().filter_map(|it| it.known).max();
        let silence = SILENCE.max(usual.unwrap_or_default().saturating_mul(SLOW_FACTOR));
        if now.saturating_duration_since(full.max(self.heard)) >= silence {
            self.limit = (self.limit + REQUEST).min(LIMIT_MAX * REQUEST);
        }
        self.limit()
    }

    fn raise(&mut self, in_flight: usize) {
        // What is not used says nothing about what would be.
        if in_flight < self.limit() / 2 {
            return;
        }
        let step = if self.limit < self.threshold {
            REQUEST
        } else {
            REQUEST * REQUEST / self.limit
        };
        self.limit = (self.limit + step).min(LIMIT_MAX * REQUEST);
    }

    fn lower(&mut self, limit: usize, now: Instant) {
        self.limit = limit.max(LIMIT_MIN * REQUEST);
        self.lowered = now;
    }
}

impl Shortest {
    /// Takes a time into account. Returns the shortest one, and whether it rose.
    fn update(&mut self, took: Duration, lowest: bool, now: Instant) -> (Duration, bool) {
        let least = |known: Option<Duration>| known.map_or(took, |known| known.min(took));
        let known = least(self.known);
        self.known = Some(known);
        if !lowest {
            (self.alone, self.since) = (None, None);
            return (known, false);
        }
        let alone = least(self.alone);
        self.alone = Some(alone);
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) < WINDOW {
            return (known, false);
        }
        self.known = self.alone.take();
        self.since = None;
        (alone, alone > known)
    }
}

/// The place of messages of this many bytes among those of other sizes.
fn size(bytes: usize) -> usize {
    let bits = usize::BITS - (bytes >> 9).leading_zeros();
    (bits.div_ceil(3) as usize).min(SIZES - 1)
}
