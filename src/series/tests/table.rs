//! The table against a map, its size, and what it is not told.

use std::collections::HashMap;

use super::*;
use crate::series::clock::Minute;
use crate::series::table::{Counted, Found, Table};

fn minute(minutes: u64) -> Minute {
    Second::new(Duration::from_secs(60 * minutes)).minute()
}

/// A series in the map: the minute in which it was seen, and what it counts.
type Known = (u64, Counted);

/// What a series counts that was seen when one in `1 << shift` was looked up.
fn seen(shift: u32) -> Counted {
    Counted {
        entries: 1,
        unseen: (1 << shift) - 1,
        asleep: 0,
    }
}

const ASLEEP: Counted = Counted {
    entries: 0,
    unseen: 0,
    asleep: 1,
};

fn sum(counted: impl Iterator<Item = Counted>) -> Counted {
    counted.fold(Counted::default(), Counted::and)
}

/// Removes what is idle from the map; it is put to sleep at first if as many as there are may be.
fn remove_idle(
    map: &mut HashMap<u64, Known>,
    now: u64,
    remembered_max: Option<usize>,
) -> [Counted; 2] {
    let idle = |(seen, _): &Known| now - seen > 60;
    let is_gone = |known: &Known| match known.1 {
        ASLEEP => remembered_max.is_none() || now - known.0 > 840,
        _ => remembered_max != Some(usize::MAX),
    };
    let gone = map.extract_if(|_, known| idle(known) && is_gone(known));
    let gone = sum(gone.map(|(_, (_, counted))| counted));
    let falls = |known: &&mut Known| idle(known) && known.1 != ASLEEP;
    let falls = map.values_mut().filter(falls);
    let remembered = sum(falls.map(|(_, counted)| std::mem::replace(counted, ASLEEP)));
    [gone, remembered]
}

#[test]
fn a_table_has_what_a_map_has() {
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..20 {
        let mut table = Table::with_lines(Table::lines_for(2000));
        let mut map: HashMap<u64, Known> = HashMap::new();
        let mut now = random.u64(0..1000);
        for _ in 0..20_000 {
            let number = random.u64(0..3000);
            let mark = Mark::new(identity(number));
            match random.u32(0..1000) {
                0..3 => now += random.u64(1..25),
                3 => {
                    let room = random.usize(2000..3000).max(map.len() * 6 / 5);
                    let other = Table::with_lines(Table::lines_for(room));
                    assert_eq!(other.add_all(&table), Counted::default());
                    table = other;
                }
                4..8 => {
                    let choices = [None, Some(0), Some(usize::MAX), Some(usize::MAX)];
                    let remembered_max = choices[random.usize(0..4)];
                    let removed = table.remove_idle(minute(now), remembered_max);
                    assert_eq!(removed, remove_idle(&mut map, now, remembered_max));
                    assert_eq!(table.all(), sum(map.values().map(|known| known.1)));
                }
                _ => {
                    let shift = random.u32(0..5);
                    let found = table.see(mark, minute(now));
                    match (map.get_mut(&number), found) {
                        (Some((at, counted)), Found::Series(_)) if *counted == seen(0) => *at = now,
                        (Some((at, counted)), Found::Awaited) => {
                            let change = [*counted, seen(0)];
                            assert_eq!(table.see_again(mark, minute(now)), change);
                            (*at, *counted) = (now, seen(0));
                        }
                        (None, Found::Nothing) => {
                            if map.len() < table.room() {
                                let added = table.add(mark, minute(now), shift);
                                assert_eq!(added, Some(seen(shift)));
                                map.insert(number, (now, seen(shift)));
                            }
                        }
                        (expected, found) => panic!("{expected:?}, {found:?}"),
                    }
                }
            }
        }
    }
}

/// A sweep begins before the minute ends, and a request after.
#[test]
fn a_series_that_was_seen_after_a_sweep_began_is_not_idle() {
    for now in [0, 1, 100, 1021, 1022, 1023] {
        let table = Table::with_lines(10);
        let mark = Mark::new(identity(1));
        table.add(mark, minute(now + 1), 0).unwrap();
        for remembered_max in [None, Some(0), Some(10)] {
            let removed = table.remove_idle(minute(now), remembered_max);
            assert_eq!(removed, [Counted::default(); 2], "in minute {now}");
        }
    }
}

#[test]
fn a_series_takes_16_bytes_at_most() {
    let series = new_series();
    let limit = 300_000;
    for thousand in 1..=300 {
        let first = (thousand - 1) * 1000;
        pass(&series, limit, 0, first..first + 1000);
        let standing = series.standing_at(limit, at(0));
        assert_eq!(standing.active as u64, thousand * 1000);
        // A line of each shard may be nearly empty.
        let bytes = (standing.table_bytes - 64 * SHARDS) as f64 / standing.active as f64;
        assert!(bytes < 16.0, "{bytes} bytes at {} series", standing.active);
    }
}

/// To copy a table takes as long as it is large, and the requests of its spoke wait.
#[test]
fn a_table_grows_in_small_parts_and_at_many_times() {
    let series = new_series();
    let limit = 300_000;
    pass(&series, limit, 0, 0..100_000);
    let mut before = series.standing_at(limit, at(0)).table_bytes;
    let mut times = 0;
    for first in (100_000..150_000).step_by(100) {
        pass(&series, limit, 0, first..first + 100);
        let bytes = series.standing_at(limit, at(0)).table_bytes;
        let more = bytes - before;
        assert!(more * 20 < bytes, "{more} of {bytes} bytes at once");
        times += usize::from(more > 0);
        before = bytes;
    }
    assert!(times > 100, "it grew {times} times");
}

#[test]
fn a_table_shrinks_when_series_are_gone() {
    let series = new_series();
    let limit = 100_000;
    pass(&series, limit, 0, 0..100_000);
    for minute in 0..250 {
        pass(&series, limit, 60 * minute, 0..10_000);
        let standing = series.standing_at(limit, at(60 * minute));
        let (active, bytes) = (standing.active, standing.table_bytes);
        match minute {
            0..=60 => assert_eq!(active, 100_000),
            // Some may be remembered, as the limit becomes far.
            62..245 => assert!(active == 10_000 && bytes < 25 * 35_000, "{standing:?}"),
            245.. => assert!(active == 10_000 && bytes < 25 * 10_000, "{standing:?}"),
            _ => {}
        }
    }
}

/// The limit stays near, so nothing is remembered.
#[test]
fn a_series_takes_16_bytes_at_most_when_some_are_gone() {
    let limit = 20_000;
    for left in [19_000, 18_000, 17_000, 16_000, 15_000] {
        let series = new_series();
        pass(&series, limit, 0, 0..20_000);
        for minute in (0..65).step_by(5) {
            pass(&series, limit, 60 * minute, 0..left);
        }
        let standing = series.standing_at(limit, at(65 * 60));
        assert_eq!(standing.active as u64, left);
        let bytes = (standing.table_bytes - 64 * SHARDS) as f64 / left as f64;
        assert!(bytes < 16.0, "{bytes} bytes at {left} series");
    }
}

/// A thread that panics with a lock must not stop all requests of a spoke.
#[test]
fn a_lock_that_a_panic_left_is_taken() {
    let series = new_series();
    std::thread::scope(|scope| {
        let mut dying = Vec::new();
        for shard in &series.shards {
            dying.push(scope.spawn(|| shard.poison()));
        }
        dying.push(scope.spawn(|| {
            let _locks = (series.keeper.lock(), series.growth());
            panic!("with the locks");
        }));
        assert!(dying.into_iter().all(|thread| thread.join().is_err()));
    });
    fill(&series, 100, 0..10);
    assert_eq!(active(&series, 100, FILLED / 2), 10);
    assert_eq!(refused(&series, 10, FILLED, 10..11), [10]);
}

#[test]
fn a_name_is_cut_and_cannot_mislead() {
    let series = new_series();
    fill(&series, 1, 0..1);
    let mut watching = series.watch_at(1, at(FILLED));
    let hostile = "up 5, \u{202e}down\n".repeat(100);
    assert!(!watching.admit(identity(7), hostile.as_bytes()));
    drop(watching);
    let growing = series.standing_at(1, at(FILLED)).growing;
    let shown = growing[0].to_string();
    assert!(
        shown.len() < 70 && !shown.contains(['\n', '\u{202e}']),
        "{shown}"
    );
}
