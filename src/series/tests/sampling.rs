//! Far below the limit, some series are looked up, and the table gets to know nearly all.

use super::*;

/// A limit with room, and a spoke that has half of it.
const LIMIT: usize = 20_000;
const KNOWN: u64 = 10_000;

/// Sends these series each `interval` seconds until a time, in requests of 2,000.
fn scrape(
    series: &ActiveSeries,
    interval: u64,
    seconds: std::ops::Range<u64>,
    known: std::ops::Range<u64>,
) {
    let mut second = seconds.start;
    while second < seconds.end {
        let mut first = known.start;
        while first < known.end {
            pass(series, LIMIT, second, first..known.end.min(first + 2000));
            first += 2000;
        }
        second += interval;
    }
}

fn shift(series: &ActiveSeries) -> u32 {
    series.pace.shift()
}

#[test]
fn few_series_are_looked_up_and_nearly_all_are_known() {
    for (interval, expected) in [(15, 5), (30, 5), (60, 5), (120, 4), (300, 3)] {
        let series = new_series();
        scrape(&series, interval, 0..2 * 3600, 0..KNOWN);
        assert_eq!(shift(&series), expected, "{interval} s");
        let standing = series.standing_at(LIMIT, at(2 * 3600));
        assert!(!standing.exact);
        let table = series.count.entries() as u64;
        let unknown = KNOWN - table;
        assert!(unknown * 500 < KNOWN, "{interval} s: {unknown} are unknown");
        let active = standing.active as u64;
        assert!((9_900..10_400).contains(&active), "{interval} s: {active}");
    }
}

/// Series that were seen once count for others, though all are looked up from now on.
#[test]
fn an_estimate_is_not_called_exact() {
    let series = new_series();
    scrape(&series, 15, 0..3600, 0..KNOWN);
    scrape(&series, 15, 3600..3601, KNOWN..KNOWN + 2000);
    let standing = series.standing_at(LIMIT, at(3601));
    assert_eq!(shift(&series), 0);
    assert!(series.count.unseen() > 0 && !standing.exact, "{standing:?}");
    let near = LIMIT as u64 * 9 / 10;
    scrape(&series, 15, 3615..3700, 0..near);
    let standing = series.standing_at(LIMIT, at(3700));
    assert_eq!((standing.active as u64, standing.exact), (near, true));
}

/// Beside much that is sent often, chance finds what is sent seldom too seldom.
#[test]
fn series_of_a_longer_interval_are_known_as_well() {
    let series = new_series();
    // Their interval, the first of them, and how many of a hundred may be unknown.
    let slow = [(120, 1 << 20, 0), (300, 1 << 21, 4), (600, 1 << 22, 20)];
    let hundred = |first: u64| first..first + 100;
    let end = 16 * 3600;
    for second in (0..end).step_by(15) {
        scrape(&series, 15, second..second + 1, 0..KNOWN / 2);
        for (interval, first, _) in slow {
            // At another time of the interval than what is looked up whole.
            if second % interval == interval - 15 {
                scrape(&series, 15, second..second + 1, hundred(first));
            }
        }
    }
    assert_eq!(shift(&series), 5);
    // A flood fills the table.
    refused(&series, LIMIT, end, 1 << 30..(1 << 30) + 400_000);
    for (interval, first, unknown_max) in slow {
        let unknown = refused(&series, LIMIT, end + 1, hundred(first)).len();
        assert!(
            unknown <= unknown_max,
            "{interval} s: {unknown} are unknown"
        );
    }
}

/// What is remembered takes memory, but no place of what is active.
#[test]
fn what_is_only_remembered_does_not_count() {
    let series = new_series();
    // Two times as many are far from the limit as well.
    let known = 7_000;
    scrape(&series, 15, 0..3600, 0..known);
    let later = 1 << 20..(1 << 20) + known;
    scrape(&series, 15, 3600..3600 + 65 * 60, later);
    let now = 3600 + 65 * 60;
    let standing = series.standing_at(LIMIT, at(now));
    assert!((6_900..7_400).contains(&standing.active), "{standing:?}");
    let asleep = series.count.asleep();
    assert!((4_000..=LIMIT / 4).contains(&asleep), "{asleep}");
    // Whoever comes back is active at once.
    refused(&series, LIMIT, now, 1 << 30..(1 << 30) + 400_000);
    let refused = refused(&series, LIMIT, now, 0..known).len() as u64;
    let came_back = known - refused;
    assert_eq!(came_back, asleep as u64);
    assert_eq!(series.count.entries(), LIMIT + asleep);
    assert_eq!(series.count.asleep(), 0);
}

/// What sleeps takes no room from what comes again, though it may be what comes first.
#[test]
fn after_an_hour_of_silence_as_many_may_enter_as_before() {
    let series = new_series();
    let known = 0..24_000;
    scrape(&series, 15, 0..7200, known.clone());
    let back = 7200 + 65 * 60;
    for second in (7200..back).step_by(15) {
        series.standing_at(LIMIT, at(second));
    }
    assert_eq!(series.count.entries(), 0);
    let sleeps = |number: &u64| {
        let identity = identity(*number);
        series.shards[shard_of(identity)].has(Mark::new(identity))
    };
    let sleeper = known.clone().find(sleeps).unwrap();
    // One of 32 is looked up, whatever the chance.
    pass(&series, LIMIT, back, [sleeper; 32]);
    scrape(&series, 15, back..back + 60, known);
    assert_eq!(active(&series, LIMIT, back + 60), 24_000);
    let most = LIMIT + LIMIT / 4;
    let flood = refused(&series, LIMIT, back + 60, 1 << 30..(1 << 30) + 10_000);
    assert_eq!(flood.len(), 10_000 - (most - 24_000));
}

/// Series that are sent once, as when a label holds the number of a request.
#[test]
fn a_flood_of_series_that_are_sent_once_does_not_pass_unseen() {
    let series = new_series();
    scrape(&series, 15, 0..3600, 0..KNOWN);
    assert_eq!(shift(&series), 5);
    let mut refused_new = 0;
    let mut next = 1 << 20;
    for second in 3600..3660 {
        for _ in 0..10 {
            refused_new += refused(&series, LIMIT, second, next..next + 2000).len();
            next += 2000;
        }
        if second % 15 == 0 {
            scrape(&series, 15, second..second + 1, 0..KNOWN);
        }
    }
    assert_eq!(shift(&series), 0);
    // Of 1,200,000 series, those pass that have room, and what came before the limit was near.
    let passed = next - (1 << 20) - refused_new as u64;
    let room = LIMIT as u64 - KNOWN;
    assert!(
        (room..room + room / 2).contains(&passed),
        "{passed} of {room}"
    );
    let growing = series.standing_at(LIMIT, at(3660)).growing;
    assert_eq!(growing[0].metric, "metric_1");
}

/// So slowly that there could be many rounds until the limit is near, after each of which more pass unseen.
#[test]
fn a_slow_flood_of_series_that_are_sent_once_does_not_pass_unseen() {
    let series = new_series();
    let limit = 5 * LIMIT;
    let all = || 0..KNOWN;
    for second in (0..3600).step_by(15) {
        pass(&series, limit, second, all());
    }
    assert_eq!(shift(&series), 5);
    let (mut next, mut passed) = (1 << 20, 0);
    for second in 3600..2 * 3600 {
        let new = next..next + 40;
        next = new.end;
        passed += 40 - refused(&series, limit, second, new).len();
        if second % 15 == 0 {
            pass(&series, limit, second, all());
        }
    }
    // Of 144,000 those for which there is room, and 22,000 of the 70,000 that come until the limit is near. If one in 32
    // were looked up between all rounds, it would be 27,000.
    let room = limit - LIMIT / 2;
    assert!((room..room + 25_000).contains(&passed), "{passed}, {room}");
}

/// The same ones, sent again and again, as from a new deployment with too many labels.
#[test]
fn a_flood_of_series_that_stay_refuses_none_that_was_known() {
    let series = new_series();
    scrape(&series, 15, 0..3600, 0..KNOWN);
    let flood = 1 << 20..(1 << 20) + 100_000;
    for second in (3600..3800).step_by(15) {
        refused(&series, LIMIT, second, flood.clone());
        scrape(&series, 15, second + 7..second + 8, 0..KNOWN);
    }
    assert_eq!(active(&series, LIMIT, 3800), LIMIT);
}

/// For how many seconds of some each series is looked up, where these series are sent each `interval` seconds.
fn seconds_of_rounds(series: &ActiveSeries, interval: u64, seconds: std::ops::Range<u64>) -> u64 {
    let mut looks_all_up = 0;
    for second in seconds {
        // What is sent in an interval is spread over it.
        let part = KNOWN / interval;
        let first = second % interval * part;
        pass(series, LIMIT, second, first..first + part);
        looks_all_up += u64::from(shift(series) == 0);
    }
    looks_all_up
}

#[test]
fn a_round_takes_little_more_than_a_scrape_interval() {
    for (interval, seconds_max) in [(10, 20), (20, 40), (50, 90), (100, 155)] {
        let series = new_series();
        seconds_of_rounds(&series, interval, 0..3600);
        // Four rounds.
        let seconds = seconds_of_rounds(&series, interval, 3600..4 * 3600);
        assert!(
            (4 * interval..4 * seconds_max).contains(&seconds),
            "{interval} s: {seconds} s in three hours"
        );
    }
}

#[test]
fn a_spoke_that_has_many_new_series_is_looked_at_more_closely() {
    let series = new_series();
    scrape(&series, 15, 0..3600, 0..KNOWN);
    // Two fifths of its series are replaced, and some more.
    let later = 4_000..14_000;
    for scrape_number in 0..20 {
        let second = 3600 + 15 * scrape_number;
        scrape(&series, 15, second..second + 1, later.clone());
        let active = active(&series, LIMIT, second);
        assert!(
            (9_900..16_000).contains(&active),
            "{active} at scrape {scrape_number}"
        );
    }
    scrape(&series, 15, 3900..7400, later);
    assert_eq!(shift(&series), 5);
    assert!((9_900..10_400).contains(&active(&series, LIMIT, 7400)));
}

/// Nothing about a series decides whether it is looked up.
#[test]
fn each_place_of_a_request_is_looked_up_equally_often() {
    let series = new_series();
    series.pace.set_shift(4);
    let mut looked_up = [0_u32; 100];
    let requests = 40_000;
    for _ in 0..requests {
        let mut watching = Watching::new(
            &series,
            LIMIT,
            Second::default(),
            series
                .chance
                .hash_one(series.requests.fetch_add(1, Relaxed)),
        );
        let mut place = watching.pass() as usize;
        while let Some(count) = looked_up.get_mut(place) {
            *count += 1;
            place += 1 + watching.pass() as usize;
        }
    }
    let expected = f64::from(requests) / 16.0;
    for (place, count) in looked_up.into_iter().enumerate() {
        let off = (f64::from(count) - expected) / expected.sqrt();
        assert!(off.abs() < 6.0, "place {place}: {count} of {expected}");
    }
}

#[test]
fn two_spokes_are_looked_up_at_different_places() {
    let places = || {
        let series = new_series();
        series.pace.set_shift(4);
        let mut watching =
            Watching::new(&series, LIMIT, Second::default(), series.chance.hash_one(0));
        (0..50).map(|_| watching.pass()).collect::<Vec<_>>()
    };
    assert_ne!(places(), places());
}

/// As when the budget had no room for what a request became.
#[test]
fn a_request_that_is_inspected_again_is_not_seen_again() {
    let series = new_series();
    scrape(&series, 15, 0..3600, 0..KNOWN);
    let now = Second::new(at(3600));
    let inspect = |mut watching: Watching| {
        let mut asked = Vec::new();
        let mut place = watching.pass();
        while place < 400 {
            let identity = identity((1 << 20) + u64::from(place));
            if !watching.knows(identity) {
                watching.admit(identity, b"up");
            }
            asked.push(place);
            place += 1 + watching.pass();
        }
        drop(watching);
        let seen = (series.count.unseen(), series.pace.passed());
        (asked, seen, series.growth().most())
    };
    let first = inspect(Watching::new(&series, LIMIT, now, 7));
    assert!((11..=14).contains(&first.0.len()), "{first:?}");
    let again = inspect(Watching::new(&series, LIMIT, now, 7).again());
    assert_eq!(first, again);
}

/// As where deployments replace one in twenty series in an hour.
#[test]
fn what_comes_and_goes_is_estimated_at_little_cost() {
    for interval in [20, 50] {
        let series = new_series();
        seconds_of_rounds(&series, interval, 0..3600);
        let (mut looks_all_up, mut sum) = (0_u64, 0.0);
        let seconds = 3600..3 * 3600;
        for second in seconds.clone() {
            // A deployment has 50.
            let gone = (second - 3600) * KNOWN / 20 / 3600 / 50 * 50;
            let part = KNOWN / interval;
            let first = gone + second % interval * part;
            pass(&series, LIMIT, second, first..first + part);
            looks_all_up += u64::from(shift(&series) == 0);
            let active = KNOWN + gone.min(KNOWN / 20);
            let off = series.count.active() as f64 / active as f64;
            assert!((0.95..1.2).contains(&off), "{off} at {second}");
            sum += off;
        }
        let count = (seconds.end - seconds.start) as f64;
        let (rounds, off) = (looks_all_up as f64 / count, sum / count);
        assert!(rounds < 0.1 && off < 1.08, "{interval} s: {rounds}, {off}");
    }
}
