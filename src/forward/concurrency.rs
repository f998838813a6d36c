//! How many requests a hub is sent at once.
//!
//! A hub that is slow because it has too much to do becomes slower with every further request, until
//! none is answered in time. So the number follows what the hub does with it, as a congestion window
//! follows the network: it grows while the hub answers as fast as ever, halves when a tenth of the
//! responses say or show that the hub is overloaded, and shrinks a little when they become slow. Fewer
//! failures may well be about one spoke, whose mistake must not slow the others. A hub that always
//! takes two seconds is not slow by that measure: how long a message takes is compared with the
//! shortest time that messages of about its size took. That time may rise only while the hub is sent the
//! fewest requests at once. Otherwise what they wait for each other would be taken for the pace of the
//! hub, and the limit would rise with it.
//!
//! A hub that does not answer at all, or is replaced by one that does, is tried with one request more
//! each second, so that its recovery is seen though all requests before wait for a dead one.

use std::time::{Duration, Instant};

/// Most requests at once. Prometheus takes 512 connections by default (`--web.max-connections`), for
/// its users as well; more than that hang unaccepted.
pub(super) const LIMIT_MAX: usize = 256;

/// Fewest requests at once, so that a hub behind a balancer that lost one instance is still used.
const LIMIT_MIN: usize = 4;

/// The first limit. It doubles with each round of responses until the hub shows a limit of its own.
const LIMIT_FIRST: usize = 32;

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
            Sign::Overloaded => {
                if ended.began >= self.lowered {
                    self.failing += (1.0 - self.failing) / FAILING_RESPONSES;
                    if self.failing > FAILING_MAX {
                        self.lower(self.limit / 2, now);
                        if !self.falling {
                            self.falling = true;
                            self.threshold = self.limit;
                        }
                    }
                }
            }
            Sign::Served => {
                self.falling = false;
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

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use super::*;

    const BYTES: usize = 100_000;

    /// A hub that answers `workers` requests at once, each after `service`; others wait. It refuses a
    /// request when `queue` of them wait already. As many are sent as the limit allows, for `seconds`.
    /// Returns the highest and lowest limit of the second half, and the share of time in which all of
    /// the workers had work.
    fn run(workers: usize, service: Duration, queue: usize, seconds: u64) -> (usize, usize, f64) {
        let start = Instant::now();
        let mut concurrency = Concurrency::new(start);
        let mut free = BinaryHeap::from_iter((0..workers).map(|_| Reverse(start)));
        let mut flight: BinaryHeap<Reverse<(Instant, Instant, bool)>> = BinaryHeap::new();
        let (mut highest, mut lowest, mut served) = (0, usize::MAX, 0u32);
        let mut now = start;
        let end = start + Duration::from_secs(seconds);
        while now < end {
            while flight.len() < concurrency.limit() {
                let waits = flight.len().saturating_sub(workers) >= queue;
                let done = if waits {
                    now + Duration::from_millis(1)
                } else {
                    let worker = free.pop().unwrap().0.max(now);
                    free.push(Reverse(worker + service));
                    worker + service
                };
                flight.push(Reverse((done, now, waits)));
            }
            let Some(Reverse((done, began, refused))) = flight.pop() else {
                panic!("nothing is under way");
            };
            now = done;
            served += u32::from(!refused);
            let ended = Ended {
                began,
                bytes: BYTES,
                sign: if refused {
                    Sign::Overloaded
                } else {
                    Sign::Served
                },
                in_flight: flight.len() + 1,
            };
            let limit = concurrency.ended(&ended, now);
            if now > start + Duration::from_secs(seconds / 2) {
                (highest, lowest) = (highest.max(limit), lowest.min(limit));
            }
        }
        let busy = service * served / u32::try_from(workers).unwrap();
        (highest, lowest, busy.as_secs_f64() / seconds as f64)
    }

    #[test]
    fn a_hub_that_keeps_up_gets_all() {
        let (_, lowest, _) = run(LIMIT_MAX, Duration::from_millis(5), LIMIT_MAX, 10);
        assert_eq!(lowest, LIMIT_MAX);
        let (_, lowest, _) = run(LIMIT_MAX, Duration::from_secs(2), LIMIT_MAX, 120);
        assert_eq!(lowest, LIMIT_MAX, "two seconds are usual for it");
    }

    #[test]
    fn a_hub_that_is_slow_is_kept_busy_and_not_pushed_over() {
        let (highest, lowest, busy) = run(4, Duration::from_millis(200), LIMIT_MAX, 1200);
        assert!(lowest >= 4 && highest <= 40, "{lowest} to {highest}");
        assert!(busy > 0.95, "{busy}");
        let (highest, _, busy) = run(10, Duration::from_secs(1), LIMIT_MAX, 600);
        assert!(highest <= 64, "{highest}");
        assert!(busy > 0.9, "{busy}");
    }

    #[test]
    fn a_hub_that_is_back_is_used_again_at_once() {
        for sign in [Sign::Overloaded, Sign::Unreachable] {
            let start = Instant::now();
            let mut concurrency = Concurrency::new(start);
            let mut now = start;
            let mut rounds = |number: u32, sign, concurrency: &mut Concurrency| {
                for _ in 0..number {
                    let (began, in_flight) = (now, concurrency.limit());
                    now += Duration::from_millis(200);
                    for _ in 0..in_flight {
                        let ended = Ended {
                            began,
                            bytes: BYTES,
                            sign,
                            in_flight,
                        };
                        concurrency.ended(&ended, now);
                    }
                }
                concurrency.limit()
            };
            assert_eq!(rounds(10, Sign::Served, &mut concurrency), LIMIT_MAX);
            assert_eq!(rounds(20, sign, &mut concurrency), LIMIT_MIN);
            assert!(rounds(6, Sign::Served, &mut concurrency) >= LIMIT_MAX / 2);
        }
    }

    /// A hub whose responses take a while from some day on is used as before, soon after.
    #[test]
    fn a_hub_that_becomes_slow_for_good_is_used_again() {
        let start = Instant::now();
        let mut concurrency = Concurrency::new(start);
        let mut now = start;
        let mut send = |took: Duration, rounds: u32| {
            let mut limits = Vec::new();
            for _ in 0..rounds {
                let (began, in_flight) = (now, concurrency.limit());
                now += took;
                for _ in 0..in_flight {
                    let ended = Ended {
                        began,
                        bytes: BYTES,
                        sign: Sign::Served,
                        in_flight,
                    };
                    concurrency.ended(&ended, now);
                }
                limits.push(concurrency.limit());
            }
            limits
        };
        assert_eq!(send(Duration::from_millis(5), 10).last(), Some(&LIMIT_MAX));
        let limits = send(Duration::from_secs(2), 60);
        assert_eq!(limits.iter().min(), Some(&LIMIT_MIN));
        assert_eq!(limits.last(), Some(&LIMIT_MAX), "{limits:?}");
    }

    #[test]
    fn a_hub_that_refuses_is_asked_less() {
        let (highest, _, busy) = run(8, Duration::from_millis(50), 8, 300);
        assert!(highest <= 24, "{highest}");
        assert!(busy > 0.9, "{busy}");
    }

    #[test]
    fn requests_of_one_round_lower_the_limit_once() {
        let start = Instant::now();
        let mut concurrency = Concurrency::new(start);
        let ended = |began| Ended {
            began,
            bytes: BYTES,
            sign: Sign::Overloaded,
            in_flight: LIMIT_FIRST,
        };
        let later = start + Duration::from_secs(1);
        for number in 1..=LIMIT_FIRST {
            let limit = concurrency.ended(&ended(start), later);
            assert_eq!(
                limit,
                if number < 4 {
                    LIMIT_FIRST
                } else {
                    LIMIT_FIRST / 2
                }
            );
        }
        let last = later + Duration::from_secs(1);
        assert_eq!(concurrency.ended(&ended(later), last), LIMIT_FIRST / 4);
        for round in 2..10 {
            let began = last + Duration::from_secs(round);
            concurrency.ended(&ended(began), began);
        }
        assert_eq!(concurrency.limit(), LIMIT_MIN);
    }

    /// Such as those of one tenant, or of one spoke with giant requests.
    #[test]
    fn a_few_failures_do_not_lower_the_limit() {
        let start = Instant::now();
        let mut concurrency = Concurrency::new(start);
        let mut share_of_failures = |every: u64| {
            let mut lowest = usize::MAX;
            for number in 0..20_000 {
                let began = start + Duration::from_millis(number);
                let failed = number % every == 0;
                let ended = Ended {
                    began,
                    bytes: BYTES,
                    sign: if failed {
                        Sign::Overloaded
                    } else {
                        Sign::Served
                    },
                    in_flight: concurrency.limit(),
                };
                let limit = concurrency.ended(&ended, began + Duration::from_millis(5));
                if number > 5000 {
                    lowest = lowest.min(limit);
                }
            }
            lowest
        };
        assert_eq!(share_of_failures(100), LIMIT_MAX);
        assert_eq!(share_of_failures(30), LIMIT_MAX);
        assert_eq!(share_of_failures(3), LIMIT_MIN);
    }

    #[test]
    fn a_silent_hub_is_tried_again() {
        let start = Instant::now();
        let mut concurrency = Concurrency::new(start);
        let second = Duration::from_secs(1);
        assert_eq!(concurrency.tick(LIMIT_FIRST, start + second), LIMIT_FIRST);
        let later = start + SILENCE;
        assert_eq!(concurrency.tick(LIMIT_FIRST, later), LIMIT_FIRST);
        let later = later + second;
        assert_eq!(concurrency.tick(LIMIT_FIRST, later), LIMIT_FIRST + 1);
        assert_eq!(concurrency.tick(LIMIT_FIRST, later), LIMIT_FIRST + 1);
        for seconds in 0..1000 {
            concurrency.tick(LIMIT_MAX, later + seconds * second);
        }
        assert_eq!(concurrency.limit(), LIMIT_MAX);
    }

    #[test]
    fn small_messages_are_no_measure_for_large_ones() {
        let start = Instant::now();
        let mut concurrency = Concurrency::new(start);
        for round in 0..100 {
            let began = start + round * Duration::from_secs(10);
            for (bytes, took) in [(600, 1), (30_000_000, 5000)] {
                let now = began + Duration::from_millis(took);
                let ended = Ended {
                    began,
                    bytes,
                    sign: Sign::Served,
                    in_flight: LIMIT_FIRST,
                };
                concurrency.ended(&ended, now);
            }
        }
        assert!(concurrency.limit() > LIMIT_FIRST);
        let sizes = [0, 511, 512, 4095, 4096, 100_000, 1 << 20, usize::MAX];
        assert_eq!(sizes.map(size), [0, 0, 1, 1, 2, 3, 4, 7]);
    }
}
