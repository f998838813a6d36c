//! The series of one request, of which some are looked up.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::policy::Census;
use crate::wire::identity::Key;

use super::ActiveSeries;
use super::clock::{Minute, Second};
use super::growth::Growing;
use super::table::{Found, Mark, Table};

/// Watches the series of a request.
#[derive(Debug)]
pub struct Watching<'s> {
    series: &'s ActiveSeries,
    /// As it was when the request began, or when it last added a series.
    table: Arc<Table>,
    limit: usize,
    now: Second,
    minute: Minute,
    chance: fastrand::Rng,
    /// Series that are left of those of which one was chosen.
    left: u32,
    /// Series that were looked up, and those that passed meanwhile.
    passed: u64,
}

impl<'s> Watching<'s> {
    pub(super) fn new(series: &'s ActiveSeries, limit: usize, now: Second, seed: u64) -> Self {
        Self {
            series,
            table: series.table.load_full(),
            limit,
            now,
            minute: now.minute(),
            chance: fastrand::Rng::with_seed(seed),
            left: 0,
            passed: 0,
        }
    }
}

impl Census for Watching<'_> {
    fn key(&self) -> &Key {
        &self.series.key
    }

    /// Of as many series in a row as stand for one, one is chosen by chance.
    fn pass(&mut self) -> u32 {
        let last = (1 << self.series.shift.load(Relaxed)) - 1;
        let place = match last {
            0 => 0,
            _ => self.chance.u32(..=last),
        };
        let pass = self.left + place;
        self.left = last - place;
        pass
    }

    fn knows(&mut self, series: u64) -> bool {
        self.passed += 1 << self.series.shift.load(Relaxed);
        let mark = Mark::new(series);
        match self.table.see(mark, self.minute) {
            Found::Nothing => false,
            Found::Series => true,
            Found::SeenOnce => {
                self.series.see_again(mark, self.now);
                true
            }
        }
    }

    fn admit(&mut self, series: u64, metric: &[u8]) -> bool {
        let mark = Mark::new(series);
        let admitted = self.series.admit(mark, metric, self.limit, self.now);
        self.table = self.series.table.load_full();
        admitted
    }

    fn describe(&self) -> String {
        let growing = self.series.register().growth.most();
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
        self.series.passed.fetch_add(self.passed, Relaxed);
    }
}
