//! Series that come and go, at times that the tests choose.

mod sampling;
mod table;

use std::time::Duration;

use crate::policy::Census;

use super::*;

const MINUTE: u64 = 60;

/// A time at which no more than the limit may enter a table that began at 0.
const FILLED: u64 = 3630;

/// Series of a spoke that are all looked up far from the times of these tests.
fn new_series() -> ActiveSeries {
    let series = ActiveSeries::new().unwrap();
    series.pace.set_phase(200);
    series
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A number that looks like the identity of a series.
fn identity(series: u64) -> u64 {
    let mixed = (series + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 31).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ mixed >> 27
}

/// Sends a request, and returns which of its series are refused.
fn refused(
    series: &ActiveSeries,
    limit: usize,
    seconds: u64,
    request: impl IntoIterator<Item = u64>,
) -> Vec<u64> {
    let mut watching = series.watch_at(limit, at(seconds));
    let mut pass = watching.pass();
    let mut refused = Vec::new();
    for number in request {
        if pass > 0 {
            pass -= 1;
            continue;
        }
        pass = watching.pass();
        let identity = identity(number);
        let metric = || format!("metric_{}", number >> 20);
        if !watching.knows(identity) && !watching.admit(identity, metric().as_bytes()) {
            refused.push(number);
        }
    }
    refused
}

/// Sends a request of which nothing is refused.
#[track_caller]
fn pass(series: &ActiveSeries, limit: usize, seconds: u64, request: impl IntoIterator<Item = u64>) {
    assert_eq!(refused(series, limit, seconds, request), [0; 0]);
}

/// Sends a request at first, and an empty one later: the spoke is not silent until the table is filled.
#[track_caller]
fn fill(series: &ActiveSeries, limit: usize, request: impl IntoIterator<Item = u64>) {
    pass(series, limit, 0, request);
    pass(series, limit, FILLED / 2, []);
}

fn active(series: &ActiveSeries, limit: usize, seconds: u64) -> usize {
    series.standing_at(limit, at(seconds)).active
}

#[test]
fn only_new_series_are_refused() {
    let series = new_series();
    fill(&series, 100, 0..90);
    pass(&series, 100, FILLED, 0..100);
    for second in FILLED..FILLED + 5 {
        assert_eq!(refused(&series, 100, second, 50..103), [100, 101, 102]);
    }
    // The same one twice in a request is one.
    assert_eq!(
        refused(&series, 101, FILLED + 5, [100, 100, 101, 100]),
        [101]
    );
    let standing = series.standing_at(101, at(FILLED + 5));
    assert_eq!((standing.active, standing.exact), (101, true));
    assert_eq!(series.take_created(), 101);
    assert_eq!(series.take_created(), 0);
}

/// What one request removes is limited, and with few requests the same shards must not be the first each time.
#[test]
fn all_that_is_idle_is_removed_however_seldom_requests_come() {
    let series = new_series();
    pass(&series, 4000, 0, 0..2000);
    for second in (0..70 * MINUTE).step_by(15) {
        pass(&series, 4000, second, [5000]);
    }
    assert_eq!(series.count.entries(), 1);
}

/// Two requests bring the same series, and one of them is a moment late.
#[test]
fn a_series_that_another_request_brought_is_not_refused() {
    let series = new_series();
    fill(&series, 100, 0..99);
    let [mut first, mut second] = [(); 2].map(|()| series.watch_at(100, at(FILLED)));
    let new = identity(99);
    assert!(!first.knows(new) && !second.knows(new));
    assert!(second.admit(new, b"up"));
    assert!(first.admit(new, b"up"));
    assert!(!first.admit(identity(100), b"up"));
}

/// Two scrapes at once.
#[test]
fn what_became_known_is_told_once() {
    let series = new_series();
    let told = [20, 10, 20, 25].map(|created| series.tell(created));
    assert_eq!(told, [20, 0, 0, 5]);
}

/// As after a restart: what was known before comes again, though it may take a while, as when the hub is
/// down at that moment or much is sent seldom.
#[test]
fn a_quarter_more_may_enter_for_an_hour() {
    let series = new_series();
    pass(&series, 1000, 0, 0..600);
    for minute in 0..40 {
        pass(&series, 1000, 60 * minute, 0..600);
    }
    pass(&series, 1000, 40 * MINUTE, 600..1250);
    assert_eq!(refused(&series, 1000, 41 * MINUTE, 1200..1260).len(), 10);
    // Whoever is in stays in.
    pass(&series, 1000, FILLED, 0..1250);
    assert_eq!(refused(&series, 1000, FILLED, 1250..1251), [1250]);
    assert_eq!(active(&series, 1000, FILLED), 1250);
}

#[test]
fn series_are_forgotten_after_an_hour_and_not_before() {
    let series = new_series();
    fill(&series, 100, 0..100);
    pass(&series, 100, FILLED, 0..100);
    let mut second = FILLED;
    while second < FILLED + 60 * MINUTE {
        pass(&series, 100, second, 0..50);
        assert_eq!(active(&series, 100, second), 100, "{second} s");
        second += 15;
    }
    assert_eq!(refused(&series, 100, second, 100..101), [100]);
    while second < FILLED + 63 * MINUTE {
        pass(&series, 100, second, 0..50);
        second += 15;
    }
    assert_eq!(active(&series, 100, second), 50);
    pass(&series, 100, second, 100..150);
    assert_eq!(refused(&series, 100, second, 50..51), [50]);
}

/// Minutes have numbers of one byte, so a table must never be left alone for long.
#[test]
fn after_a_silence_all_are_forgotten_and_the_table_fills_again() {
    for silence in [62, 63, 200, 254, 255, 256, 300, 255 * 7 + 3] {
        let series = new_series();
        pass(&series, 100, FILLED, 0..100);
        let back = FILLED + silence * MINUTE;
        pass(&series, 100, back, 1000..1125);
        assert_eq!(active(&series, 100, back), 125, "{silence} minutes");
        assert_eq!(refused(&series, 100, back, 0..3), [0, 1, 2]);
    }
    let series = new_series();
    pass(&series, 100, 0, 0..100);
    // All is swept at once after some minutes.
    assert_eq!(active(&series, 100, 59 * MINUTE), 100);
    assert_eq!(active(&series, 100, 61 * MINUTE), 0);
}

/// Some are found idle and others are not yet, and there are more than the limit.
#[test]
fn after_an_hour_without_a_request_what_was_known_comes_back_whole() {
    let limit = 1000;
    for silence in [60 * MINUTE, 60 * MINUTE + 30, 61 * MINUTE] {
        let series = new_series();
        pass(&series, limit, FILLED, 0..1250);
        let last = FILLED + 20 * MINUTE;
        // They were seen in two minutes.
        pass(&series, limit, last - 40, 0..1250);
        pass(&series, limit, last, 0..600);
        let back = last + silence;
        active(&series, limit, back);
        pass(&series, limit, back, 0..625);
        pass(&series, limit, back + 15, 625..1250);
        assert_eq!(active(&series, limit, back + 15), 1250, "{silence} s");
    }
}

#[test]
fn another_limit_refuses_new_series_only() {
    let series = new_series();
    fill(&series, 100, 0..100);
    pass(&series, 50, FILLED, 0..100);
    assert_eq!(refused(&series, 50, FILLED, 99..102), [100, 101]);
    pass(&series, 200, FILLED, 100..200);
    assert_eq!(refused(&series, 200, FILLED, 0..201), [200]);
}

#[test]
fn many_senders_of_the_same_series_count_them_once() {
    let series = new_series();
    let limit = 20_000;
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let series = &series;
            scope.spawn(move || {
                for request in 0..50 {
                    let first = (request * 7 + thread * 13) % 50 * 500;
                    refused(series, limit, 10, first..first + 500);
                }
            });
        }
    });
    assert_eq!(active(&series, limit, 10), 25_000);
    assert_eq!(series.take_created(), 25_000);
}

#[test]
fn a_limit_that_comes_near_is_told_once() {
    let series = new_series();
    pass(&series, 1000, FILLED, 0..790);
    assert!(!series.tells_near(1000));
    pass(&series, 1000, FILLED, 0..850);
    assert!(series.tells_near(1000));
    pass(&series, 1000, FILLED, 0..900);
    assert!(!series.tells_near(1000));
    // A higher limit, and near once more.
    assert!(!series.tells_near(1200));
    assert!(!series.tells_near(1000));
    assert!(!series.tells_near(2000));
    assert!(series.tells_near(1000));
}

#[test]
fn the_metrics_that_grow_are_named_with_numbers() {
    let series = new_series();
    fill(&series, 1000, 0..1000);
    assert_eq!(series.standing_at(1000, at(FILLED / 2)).growing, []);
    let of = |metric: u64, count: u64| metric << 20..(metric << 20) + count;
    pass(&series, 1000, FILLED, 0..1000);
    assert_eq!(refused(&series, 1000, FILLED, of(7, 300)).len(), 300);
    assert_eq!(refused(&series, 1000, FILLED, of(8, 20)).len(), 20);
    // Each of another metric.
    let others = (100..200).map(|metric| metric << 20);
    assert_eq!(refused(&series, 1000, FILLED, others).len(), 100);
    let growing = series.standing_at(1000, at(FILLED)).growing;
    let shown = growing[0].to_string();
    assert_eq!(shown, "metric_7 300");
    assert_eq!(growing[1].to_string(), "metric_8 20");
    let text = series.watch_at(1000, at(FILLED)).describe();
    let start = "beyond 1000 active series; most new ones lately: metric_7 300, metric_8 20";
    assert!(text.starts_with(start), "{text}");
    // What was long ago counts less.
    refused(&series, 1000, FILLED + 21 * MINUTE, of(9, 100));
    let growing = series.standing_at(1000, at(FILLED + 21 * MINUTE)).growing;
    let shown: Vec<_> = growing.iter().map(Growing::to_string).collect();
    assert_eq!(shown[..2], ["metric_9 100", "metric_7 75"]);
}
