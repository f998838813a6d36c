//! `GET /api/v1/spokes?since=VERSION`: what changed of the spokes since another answer.
//!
//! A fleet that does well writes all the time, so something of each spoke changes between two polls: a few
//! numbers. They come as columns, which is a sixth of the bytes of the whole, and nothing is copied to make them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::admin::Sources;
use crate::spoke::Spoke;
use crate::spoke::condition::Condition;
use crate::state::State;

use super::spokes::{Row, Spokes, credential_expiry, lag_trend, rejected_ratio};
use super::unix_seconds;

/// The body of the response.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Answer {
    /// The client has nothing, or what it has is of another configuration or process.
    Whole(Spokes),
    Changes(Box<Changes>),
}

#[derive(Debug, Serialize)]
pub(super) struct Changes {
    /// `since` of the next question.
    version: String,
    /// What changes with each write, of all spokes in the order of the whole answer.
    columns: Columns,
    /// The spokes of which something else changed.
    spokes: Vec<Row>,
}

/// Fields of a [`Row`], with one element for each spoke.
#[derive(Debug, Default, Serialize)]
struct Columns {
    conditions: Vec<Vec<&'static str>>,
    last_write_timestamp_seconds: Vec<Option<f64>>,
    newest_sample_timestamp_seconds: Vec<Option<f64>>,
    lag_seconds: Vec<Option<f64>>,
    lag_trend: Vec<Option<&'static str>>,
    samples_per_second: Vec<f64>,
    rejected_ratio: Vec<f64>,
    bytes_in_flight: Vec<usize>,
    credential_expiry_timestamp_seconds: Vec<Option<f64>>,
    /// `used` of each limit, by its name.
    limits_used: Vec<BTreeMap<&'static str, Option<f64>>>,
}

/// When and where an answer was made.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// When the process started, in microseconds since the epoch.
    process: u128,
    /// The configuration in force.
    generation: u64,
    /// The time since the start, in microseconds.
    moment: u64,
}

impl Answer {
    /// What changed since the answer of this version.
    pub(super) fn of(sources: &Sources, since: Option<&str>) -> Self {
        let state = sources.state.load();
        // What changes while the answer is made is in the next one as well.
        let version = Version::now(sources, &state);
        match since.and_then(|since| version.since(since, sources.begun)) {
            Some(moment) => Self::Changes(Box::new(Changes::of(&state, &version, moment))),
            None => Self::Whole(Spokes::of(&state, &version)),
        }
    }
}

impl Changes {
    fn of(state: &State, version: &Version, since: Instant) -> Self {
        let now = SystemTime::now();
        let mut columns = Columns::default();
        let mut changed = Vec::new();
        for spoke in &state.spokes {
            if columns.add(spoke, now).is_some_and(|it| it >= since) {
                changed.push(Row::of(spoke));
            }
        }
        Self {
            version: version.to_string(),
            columns,
            spokes: changed,
        }
    }
}

impl Columns {
    /// Adds a spoke, and returns when something else of it changed.
    fn add(&mut self, spoke: &Spoke, now: SystemTime) -> Option<Instant> {
        let changed = spoke.status.look(|seen| {
            let conditions = Condition::of(seen, now).into_iter();
            self.conditions
                .push(conditions.map(Condition::name).collect());
            let written = seen.last_write.map(unix_seconds).map(rounded);
            self.last_write_timestamp_seconds.push(written);
            let newest = seen.newest_sample.map(|it| it as f64 / 1000.0);
            self.newest_sample_timestamp_seconds.push(newest);
            let lag = newest.map(|newest| rounded(unix_seconds(now) - newest));
            self.lag_seconds.push(lag);
            self.samples_per_second
                .push(rounded(seen.samples_per_second()));
            seen.changed
        });
        self.lag_trend.push(lag_trend(spoke));
        self.rejected_ratio.push(rejected_ratio(spoke));
        self.bytes_in_flight.push(spoke.account.bytes());
        self.credential_expiry_timestamp_seconds
            .push(credential_expiry(spoke));
        let limits = spoke.limits_in_use().into_iter();
        let used = limits.map(|it| (it.limit.name(), it.used.map(rounded)));
        self.limits_used.push(used.collect());
        changed
    }
}

impl Version {
    fn now(sources: &Sources, state: &State) -> Self {
        let started = sources.started.duration_since(UNIX_EPOCH);
        let moment = sources.begun.elapsed().as_micros();
        Self {
            process: started.unwrap_or_default().as_micros(),
            generation: state.generation,
            moment: moment.try_into().unwrap_or(u64::MAX),
        }
    }

    /// The moment of an answer of this version, in a process that began then; none where it is not of this
    /// process and configuration.
    fn since(&self, version: &str, begun: Instant) -> Option<Instant> {
        let mut parts = version.split('-');
        let before = Self {
            process: parts.next()?.parse().ok()?,
            generation: parts.next()?.parse().ok()?,
            moment: parts.next()?.parse().ok()?,
        };
        let same = (before.process, before.generation) == (self.process, self.generation);
        let known = same && before.moment <= self.moment && parts.next().is_none();
        known
            .then(|| begun.checked_add(Duration::from_micros(before.moment)))
            .flatten()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            process,
            generation,
            moment,
        } = self;
        write!(f, "{process}-{generation}-{moment}")
    }
}

/// To a thousandth, which keeps the answer short.
fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_of_another_process_or_configuration_is_not_known() {
        let version = |process, generation, moment| Version {
            process,
            generation,
            moment,
        };
        let now = version(7, 1, 1_000_000);
        let begun = Instant::now();
        let since = |version: Version| now.since(&version.to_string(), begun);
        let moment = begun + Duration::from_micros(500_000);
        assert_eq!(since(version(7, 1, 500_000)), Some(moment));
        for other in [
            version(8, 1, 500_000),
            version(7, 0, 500_000),
            version(7, 1, 1_000_001),
        ] {
            assert_eq!(since(other), None);
        }
        for malformed in [
            "",
            "7",
            "7-1",
            "7-1-",
            "7-1-500000-0",
            "7-1-99999999999999999999",
        ] {
            assert_eq!(now.since(malformed, begun), None, "{malformed}");
        }
    }
}
