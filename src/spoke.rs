//! One configured spoke at run time: its rules, its counters, and what goes on over reloads.

mod status;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::budget::Account;
use crate::config::{self, SourceRanges};
use crate::metrics::SpokeMetrics;
use crate::policy::Rules;

pub use status::{Refusals, Snapshot, Status};

/// How many times in a row a spoke is told to retry when the hub is too slow for salvage.
const SALVAGE_PUT_OFF_MAX: u32 = 2;

/// A spoke as the request path uses it.
#[derive(Debug)]
pub struct Spoke {
    /// Its name, the only value of the cluster label it may write.
    pub name: String,
    /// Where it may write from.
    pub source_ranges: SourceRanges,
    /// Its label rules.
    pub rules: Rules,
    /// Its metrics; what they have counted goes on over reloads.
    pub metrics: SpokeMetrics,
    /// What its requests hold of the budget; goes on over reloads.
    pub account: Arc<Account>,
    /// What was last seen of it; goes on over reloads.
    pub status: Arc<Status>,
    /// What its last requests met; goes on over reloads.
    pub throttles: Arc<Throttles>,
}

impl Spoke {
    /// Puts together what the configuration says and what is known of the spoke from `before`.
    pub fn new(config: &config::Spoke, cluster_label: &str, before: Option<&Self>) -> Self {
        let credentials = config.credentials.iter().map(|it| it.name.as_str());
        let metrics = before.map(|before| &before.metrics);
        Self {
            name: config.name.clone(),
            source_ranges: config.source_ranges.clone(),
            rules: Rules::new(cluster_label, &config.name, config.labels, config.limits),
            metrics: SpokeMetrics::new(&config.name, credentials, metrics),
            account: before.map_or_else(Arc::default, |it| Arc::clone(&it.account)),
            status: before.map_or_else(Arc::default, |it| Arc::clone(&it.status)),
            throttles: before.map_or_else(Arc::default, |it| Arc::clone(&it.throttles)),
        }
    }
}

/// What is remembered of a spoke's last requests to treat its next ones.
#[derive(Debug, Default)]
pub struct Throttles {
    /// The rules changed something in the last request, so they may well in the next.
    pub changes: AtomicBool,
    /// Salvages in a row that the hub was too slow for.
    salvage_put_off: AtomicU32,
}

impl Throttles {
    /// Records that the hub is too slow to salvage a request, and returns true when the spoke is to
    /// retry it. Every third time the rest is refused instead; otherwise the spoke would send the
    /// same request for ever.
    pub fn put_off_salvage(&self) -> bool {
        let next = |before| Some((before + 1) % (SALVAGE_PUT_OFF_MAX + 1));
        let counter = &self.salvage_put_off;
        let before = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        before.is_ok_and(|before| before < SALVAGE_PUT_OFF_MAX)
    }

    /// Remembers that a salvage ended in time.
    pub fn record_salvage(&self) {
        self.salvage_put_off.store(0, Ordering::Relaxed);
    }
}
