//! One configured spoke at run time: its rules, its counters, and what goes on over reloads.

pub mod condition;
pub mod history;
pub mod hour;
mod status;

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use crate::admission::Admission;
use crate::budget::Account;
use crate::config::{self, HubUrl, LimitAnswer, LimitMode, SourceRanges, SpokeLimits};
use crate::metrics::SpokeMetrics;
use crate::policy::Rules;
use crate::reasons::Limit;
use crate::series::{ActiveSeries, Standing, Watching};
use crate::shares::Share;
use crate::suspects::Docket;

use history::{History, Totals};

pub use status::{Refusals, Snapshot, Status};

/// Most hubs of which something is remembered, and those in use.
const HUBS_MAX: usize = 64;

/// A spoke as the request path uses it.
#[derive(Debug)]
pub struct Spoke {
    /// Its name, the only value of the cluster label it may write.
    pub name: String,
    /// Where it may write from.
    pub source_ranges: SourceRanges,
    /// Its label rules.
    pub rules: Rules,
    /// Its limits.
    pub limits: SpokeLimits,
    /// What it has under way and has sent lately; goes on over reloads.
    pub admission: Arc<Admission>,
    /// Its metrics; what they have counted goes on over reloads.
    pub metrics: SpokeMetrics,
    /// What its requests hold of the budget; goes on over reloads.
    pub account: Arc<Account>,
    /// Its active series, if they are limited; goes on over reloads.
    pub series: Option<Arc<ActiveSeries>>,
    /// Its share of what spokes compete for.
    pub share: Share,
    /// What was last seen of it; goes on over reloads.
    pub status: Arc<Status>,
    /// Its last hour; goes on over reloads.
    pub history: Arc<History>,
    /// What its last requests met; goes on over reloads.
    pub throttles: Arc<Throttles>,
}

impl Spoke {
    /// Puts together what the configuration says and what is known of the spoke from `before`. Fails
    /// when the system has no random bytes.
    pub fn new(
        config: &config::Spoke,
        cluster_label: &str,
        before: Option<&Self>,
    ) -> Result<Self, getrandom::Error> {
        let credentials = config.credentials.iter().map(|it| it.name.as_str());
        let metrics = before.map(|before| &before.metrics);
        let mismatch = config.labels.mismatch;
        let metrics = SpokeMetrics::new(&config.name, mismatch, credentials, metrics);
        for (place, credential) in config.credentials.iter().enumerate() {
            metrics.record_credential_expiry(place, credential.not_after);
        }
        let limits = config.limits;
        for limit in Limit::ALL {
            if limits.named.contains(limit) && limits.number(limit).is_some() {
                metrics.start_exceeded(limit);
            }
        }
        let of_load = [
            Limit::BytesInFlight,
            Limit::RequestsInFlight,
            Limit::SamplesPerSecond,
        ];
        if of_load.into_iter().any(|it| limits.number(it).is_some()) {
            metrics.start_delayed_refusals();
        }
        if limits.active_series_max.is_some() {
            metrics.start_active_series();
        }
        if limits.answer == LimitAnswer::TooManyRequests {
            metrics.start_too_many_requests();
        }
        let series = limits.active_series_max.map(|_| {
            let before = before.and_then(|before| before.series.clone());
            before.map_or_else(|| ActiveSeries::new().map(Arc::new), Ok)
        });
        Ok(Self {
            name: config.name.clone(),
            source_ranges: config.source_ranges.clone(),
            rules: Rules::new(cluster_label, &config.name, config.labels, limits),
            limits,
            admission: before.map_or_else(Arc::default, |it| Arc::clone(&it.admission)),
            metrics,
            account: before.map_or_else(Arc::default, |it| Arc::clone(&it.account)),
            series: series.transpose()?,
            share: before.map_or_else(
                || Share::new(config.weight),
                |it| it.share.with_weight(config.weight),
            ),
            status: before.map_or_else(Arc::default, |it| Arc::clone(&it.status)),
            history: before.map_or_else(Arc::default, |it| Arc::clone(&it.history)),
            throttles: before.map_or_else(Arc::default, |it| Arc::clone(&it.throttles)),
        })
    }

    /// Puts its limits in force, in place of those that it had before a reload.
    pub fn put_limits_in_force(&self) {
        let limits = &self.limits;
        let mode = limits.mode(Limit::BytesInFlight);
        self.account.set_limit(limits.bytes_in_flight_max, mode);
        self.admission.set_limits(limits);
    }

    /// Ends the step of this number in its history.
    pub fn record_history(&self, number: u64) {
        let rejected = self.metrics.rejected();
        let seen = self.status.snapshot();
        let part = |it: LimitInUse| Some((it.limit, it.used? / it.number));
        let refusals = seen.refusals.iter().map(|it| (it.reason, it.count));
        let totals = Totals {
            written: self.metrics.written().samples(),
            rejected: rejected.map(|(_, counts)| counts.samples()).sum(),
            failed: self.metrics.failed().samples(),
            lag: condition::lag(&seen, SystemTime::now()),
            limits: self.limits_in_use().into_iter().filter_map(part).collect(),
            refusals: refusals.collect(),
        };
        self.history.record(number, totals);
    }

    /// Watches the series of a request, if the active ones are limited. `watched` is empty the first time,
    /// and tells later that it is the same request.
    pub fn watch_series(&self, watched: &OnceLock<u64>) -> Option<Watching<'_>> {
        let (series, limit) = self.limited_series()?;
        if let Some(seed) = watched.get() {
            return Some(series.watch_again(limit, *seed));
        }
        let watching = series.watch(limit);
        // Nobody else works on the request.
        let _ = watched.set(watching.seed());
        Some(watching)
    }

    /// How many series are active, if they are limited.
    pub fn active_series(&self) -> Option<Standing> {
        let (series, limit) = self.limited_series()?;
        Some(series.standing(limit))
    }

    /// How many series are active, once each time that the limit of them comes near.
    pub fn nears_active_series(&self) -> Option<Standing> {
        let (series, limit) = self.limited_series()?;
        series.tells_near(limit).then(|| series.standing(limit))
    }

    fn limited_series(&self) -> Option<(&ActiveSeries, usize)> {
        self.series.as_deref().zip(self.limits.active_series_max)
    }

    /// Returns the limits that the configuration names or that were exceeded, and brings the metrics of
    /// limits up to date.
    pub fn limits_in_use(&self) -> Vec<LimitInUse> {
        let bytes = Limit::BytesInFlight;
        self.metrics.record_exceeded(bytes, self.account.exceeded());
        let standing = self.active_series();
        let shown = standing.as_ref().map(|it| (it.active, it.exact));
        self.metrics.record_active_series(shown);
        let active = standing.map(|standing| standing.active);
        if let Some(series) = &self.series {
            self.metrics.count_created_series(series.take_created());
        }
        let in_use = |limit| {
            let exceeded = self.metrics.exceeded(limit);
            let shown = self.limits.named.contains(limit) || exceeded > 0;
            let number = self.limits.number(limit).filter(|_| shown);
            let used = match limit {
                Limit::ActiveSeries => active.map(|active| active as f64),
                Limit::BytesInFlight => Some(self.account.bytes() as f64),
                _ => self.admission.used_lately(limit),
            };
            let used = used.filter(|_| number.is_some());
            self.metrics.record_limit(limit, number, used);
            Some(LimitInUse {
                limit,
                mode: self.limits.mode(limit),
                number: number?,
                used,
                exceeded,
            })
        };
        Limit::ALL.into_iter().filter_map(in_use).collect()
    }
}

/// A limit of a spoke, and how much of it is used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LimitInUse {
    /// The limit.
    pub limit: Limit,
    /// What becomes of what exceeds it.
    pub mode: LimitMode,
    /// The limit as a number, in seconds where it is a time.
    pub number: f64,
    /// How much of it is used, as far as that is known.
    pub used: Option<f64>,
    /// How much exceeded it since the start.
    pub exceeded: u64,
}

/// What is remembered of a spoke's last requests at a hub.
#[derive(Debug)]
struct AtHub {
    url: HubUrl,
    docket: Arc<Mutex<Docket>>,
}

/// What is remembered of a spoke's last requests to treat its next ones.
#[derive(Debug, Default)]
pub struct Throttles {
    /// The rules changed something in the last request, so they may well in the next.
    pub changes: AtomicBool,
    /// What is remembered at each hub, by its name.
    hubs: Mutex<HashMap<String, AtHub>>,
}

impl Throttles {
    /// What is remembered of the spoke's requests at the hub of this name and URL.
    pub fn docket(&self, hub: &str, url: &HubUrl) -> Arc<Mutex<Docket>> {
        // Nothing under the lock can leave it half done.
        let mut hubs = self.hubs.lock().unwrap_or_else(PoisonError::into_inner);
        // A reload may give a name to another hub, which has stored nothing yet.
        if let Some(known) = hubs.get(hub)
            && known.url == *url
        {
            return Arc::clone(&known.docket);
        }
        // Hubs that reloads took away do not add up.
        if hubs.len() >= HUBS_MAX {
            hubs.retain(|_, known| Arc::strong_count(&known.docket) > 1);
        }
        let docket = Arc::default();
        let at_hub = AtHub {
            url: url.clone(),
            docket: Arc::clone(&docket),
        };
        hubs.insert(hub.to_owned(), at_hub);
        docket
    }
}

#[cfg(test)]
mod tests {
    use crate::budget::Budget;
    use crate::metrics::Gauge;

    use super::*;

    /// A reload may fail after the spokes of the new configuration were made.
    #[test]
    fn a_spoke_that_is_not_in_force_changes_no_limit() {
        let spoke = |bytes: usize, before: Option<&Spoke>| {
            let yaml = format!(
                "hub: {{url: 'http://hub/api/v1/write'}}\nspokes: [{{name: production, \
                 credentials: [{{token_sha256: '{}'}}], limits: {{bytes_in_flight_max: {bytes}}}}}]",
                "0".repeat(64)
            );
            let config = config::parse(&yaml).unwrap();
            Spoke::new(&config.spokes[0], &config.cluster_label, before).unwrap()
        };
        let budget = Budget::new(1000, Gauge::default());
        let old = spoke(100, None);
        old.put_limits_in_force();
        let may_hold = |bytes: usize| {
            let [first, second] = [0; 2].map(|_| budget.begin(&old.account, old.share));
            first.grow(1).is_ok() && second.grow(bytes - 1).is_ok()
        };
        assert!(may_hold(100) && !may_hold(101));
        let new = spoke(10, Some(&old));
        assert!(may_hold(100), "the old one is in force");
        new.put_limits_in_force();
        assert!(may_hold(10) && !may_hold(11));
    }
}
