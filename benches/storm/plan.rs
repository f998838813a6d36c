//! Who sends what, known to the senders and to the hub that counts it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Spokes that are alike. Each of their series has a sample at each scrape.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Group {
    /// The number of the first spoke. That of the next group is not below `first + spokes`.
    pub(crate) first: usize,
    pub(crate) spokes: usize,
    /// Series of a spoke.
    pub(crate) series: usize,
    /// The time of the first scrape, in milliseconds since the Unix epoch.
    pub(crate) begin_ms: i64,
    pub(crate) interval_ms: i64,
    /// Scrapes, at most.
    pub(crate) scrapes: usize,
}

/// What a hub is to take.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HubPlan {
    pub(crate) address: SocketAddr,
    /// What it takes at most.
    pub(crate) samples_per_second: u32,
    /// How many requests it works on at once.
    pub(crate) workers: u32,
    /// The spokes with a backlog.
    pub(crate) storm: Group,
    /// Those that send what is fresh.
    pub(crate) quiet: Group,
}

/// A sample as a message has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) spoke: usize,
    pub(crate) series: usize,
    pub(crate) time_ms: i64,
}

impl Group {
    pub(crate) fn numbers(&self) -> std::ops::Range<usize> {
        self.first..self.first + self.spokes
    }

    /// All series of all spokes.
    pub(crate) fn all_series(&self) -> usize {
        self.spokes * self.series
    }

    /// All samples of all series.
    pub(crate) fn samples(&self) -> usize {
        self.all_series() * self.scrapes
    }

    /// When a scrape is due.
    pub(crate) fn due_ms(&self, scrape: usize) -> i64 {
        self.begin_ms + scrape as i64 * self.interval_ms
    }

    /// The numbers of the series and the scrape of a sample. `None` if it is no sample of the group.
    pub(crate) fn place(&self, sample: &Sample) -> Option<(usize, usize)> {
        let spoke = sample.spoke.checked_sub(self.first)?;
        let since = sample.time_ms - self.begin_ms;
        let scrape = usize::try_from(since / self.interval_ms).ok()?;
        let known = spoke < self.spokes
            && sample.series < self.series
            && scrape < self.scrapes
            && since % self.interval_ms == 0;
        known.then_some((spoke * self.series + sample.series, scrape))
    }
}
