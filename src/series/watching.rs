//! The series of one request, of which some are looked up.

use std::hint::black_box;

use crate::policy::Census;
use crate::wire::identity::Key;

use super::clock::{Minute, Second};
use super::growth::{Growing, Growth};
use super::shard::{Admission, Reader, SHARDS};
use super::table::{Found, Mark};
use super::{ActiveSeries, shard_of};

/// Watches the series of a request.
#[derive(Debug)]
pub struct Watching<'s> {
    series: &'s ActiveSeries,
    /// Those of the shards that were asked.
    readers: [Option<Reader<'s>>; SHARDS],
    limit: usize,
    now: Second,
    minute: Minute,
    seed: u64,
    again: bool,
    chance: fastrand::Rng,
    /// Series that are left of those of which one was chosen.
    left: u32,
    /// Series that were looked up, and those that passed meanwhile.
    passed: u64,
    /// Series that were looked up.
    looked_up: u64,
    /// Those of them that were seen for the first time in a round.
    late: u64,
    /// The minutes since that began.
    round_minutes: Option<u64>,
    /// What was not known. A flood would meet at a lock of the spoke for each series.
    growth: Growth,
}

impl<'s> Watching<'s> {
    pub(super) fn new(series: &'s ActiveSeries, limit: usize, now: Second, seed: u64) -> Self {
        Self {
            series,
            readers: [const { None }; SHARDS],
            limit,
            now,
            minute: now.minute(),
            seed,
            again: false,
            chance: fastrand::Rng::with_seed(seed),
            left: 0,
            passed: 0,
            looked_up: 0,
            late: 0,
            round_minutes: series.pace.round_minutes(now),
            growth: Growth::default(),
        }
    }

    /// Which series are chosen follows from this, as long as it is as many.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Watches the same series as before, of which all notice was taken.
    pub(super) fn again(mut self) -> Self {
        self.again = true;
        self
    }

    fn reader(&mut self, series: u64) -> &mut Reader<'s> {
        let place = shard_of(series);
        let shard = &self.series.shards[place];
        self.readers[place].get_or_insert_with(|| shard.reader())
    }

    fn tell_growth(&mut self) {
        if !self.growth.is_empty() {
            self.series.growth().take(&mut self.growth, self.now);
        }
    }
}

impl Census for Watching<'_> {
    fn key(&self) -> &Key {
        &self.series.key
    }

    /// Of as many series in a row as stand for one, one is chosen by chance.
    fn pass(&mut self) -> u32 {
        let last = (1 << self.series.pace.shift()) - 1;
        let place = match last {
            0 => 0,
            _ => self.chance.u32(..=last),
        };
        let pass = self.left + place;
        self.left = last - place;
        pass
    }

    /// Where the limit is far, nothing is refused.
    fn is_patient(&self) -> bool {
        self.series.pace.is_far(self.limit)
    }

    fn fetch(&mut self, series: &[u64]) {
        // To get hold of a table waits for all that was read before.
        for it in series {
            self.reader(*it);
        }
        let fetched = series
            .iter()
            .map(|it| self.reader(*it).fetch(Mark::new(*it)));
        black_box(fetched.fold(0, u64::wrapping_add));
    }

    fn knows(&mut self, series: u64) -> bool {
        let shift = self.series.pace.shift();
        self.passed += 1 << shift;
        self.looked_up += 1;
        let (mark, minute) = (Mark::new(series), self.minute);
        match self.reader(series).see(mark, minute) {
            Found::Nothing => {
                self.late += 1;
                false
            }
            Found::Series(minutes) => {
                let is_late = self.round_minutes.is_some_and(|since| minutes > since);
                self.late += u64::from(is_late);
                true
            }
            Found::Awaited => {
                self.late += 1;
                // What a request brought is not seen again because its inspection is repeated.
                if !self.again {
                    let shard = &self.series.shards[shard_of(series)];
                    shard.see_again(mark, minute, &self.series.count);
                }
                true
            }
        }
    }

    fn has(&mut self, series: u64) -> bool {
        self.reader(series).has(Mark::new(series))
    }

    fn admit(&mut self, series: u64, metric: &[u8]) -> bool {
        let admission = self.series.admit(series, self.limit, self.now);
        // When a table fills, all series are new.
        let tells = match admission {
            Admission::Known => false,
            Admission::New => !self.series.pace.fills(),
            Admission::Refused => true,
        };
        if tells && !self.again {
            self.growth.add(metric, self.now);
        }
        admission != Admission::Refused
    }

    fn describe(&mut self) -> String {
        self.tell_growth();
        let growing = self.series.growth().most();
        let growing = growing.iter().map(Growing::to_string);
        let growing: Vec<_> = growing.collect();
        format!(
            "beyond {} active series; most new ones lately: {}",
            self.limit,
            growing.join(", ")
        )
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.tell_growth();
        if !self.again {
            self.series
                .pace
                .pass(self.passed, self.looked_up, self.late);
        }
    }
}
