//! How the limit follows simulated hubs.

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
            spoke: 0,
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
    for sign in [Sign::Overloaded, Sign::Reset, Sign::Unreachable] {
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
                        spoke: 0,
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

/// It closes the connections of all requests under way, and says nothing about its limit by that.
#[test]
fn a_hub_that_restarts_gets_more_with_each_response() {
    let start = Instant::now();
    let mut concurrency = Concurrency::new(start);
    let mut now = start;
    let mut round = |sign| {
        let (began, in_flight) = (now, concurrency.limit());
        now += Duration::from_millis(200);
        for _ in 0..in_flight {
            let ended = Ended {
                began,
                spoke: 0,
                bytes: BYTES,
                sign,
                in_flight,
            };
            concurrency.ended(&ended, now);
        }
        concurrency.limit()
    };
    assert_eq!(round(Sign::Reset), LIMIT_FIRST / 2);
    let limits = [(); 3].map(|()| round(Sign::Served));
    assert_eq!(limits, [LIMIT_FIRST, 2 * LIMIT_FIRST, 4 * LIMIT_FIRST]);
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
                    spoke: 0,
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
        spoke: 0,
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
                spoke: 0,
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
                spoke: 0,
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
