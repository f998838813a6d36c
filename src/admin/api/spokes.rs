//! `GET /api/v1/spokes`: the status of each hub and each spoke, as JSON; with `?since=VERSION` what changed.

use std::net::IpAddr;
use std::time::SystemTime;

use serde::Serialize;

use crate::metrics::CredentialTimes;
use crate::series::Standing;
use crate::spoke::condition::{Condition, SILENT_AFTER};
use crate::spoke::{LimitInUse, Refusals, Spoke};
use crate::state::State;

use super::changes::Version;
use super::{ever, unix_seconds};

/// The body of the response.
#[derive(Debug, Serialize)]
pub(super) struct Spokes {
    /// `since` of the next question.
    version: String,
    hubs: Vec<HubStatus>,
    spokes: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct HubStatus {
    name: String,
    /// The newest protocol that the hub was found to speak.
    protocol: Option<&'static str>,
}

/// Times are seconds since the Unix epoch. The time of an event that never happened is null.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    name: String,
    /// What is true of it, the worst first.
    conditions: Vec<&'static str>,
    last_write_timestamp_seconds: Option<f64>,
    newest_sample_timestamp_seconds: Option<f64>,
    /// How far the newest sample is behind the current time.
    lag_seconds: Option<f64>,
    /// What became of that in the last 5 minutes: it catches up, falls behind or keeps its distance.
    lag_trend: Option<&'static str>,
    /// Samples of all kinds that were written, averaged over about a minute.
    samples_per_second: f64,
    /// The part of its samples that was refused for good in the last 5 minutes, from 0 to 1.
    rejected_ratio: f64,
    /// What its requests hold of `limits.bytes_in_flight_max`.
    bytes_in_flight: usize,
    protocol: Option<&'static str>,
    user_agent: String,
    /// The most recent addresses, newest first.
    source_addresses: Vec<IpAddr>,
    /// How the newest of them is known.
    address_source: Option<&'static str>,
    refusals: Vec<RefusalStatus>,
    /// Null where they are not limited.
    active_series: Option<ActiveSeriesStatus>,
    /// Those that are configured or were exceeded.
    limits: Vec<LimitStatus>,
    /// When the credential that it used last expires, or the last of them as long as it used none. Null where
    /// that does not expire.
    credential_expiry_timestamp_seconds: Option<f64>,
}

#[derive(Debug, Serialize)]
struct ActiveSeriesStatus {
    /// Those of the last hour, or an estimate.
    active: usize,
    /// All series are looked up, so it is no estimate.
    exact: bool,
    /// The memory that they take.
    table_bytes: usize,
    /// The metrics that most new series came from, the first of them at the front.
    growing: Vec<GrowingStatus>,
}

#[derive(Debug, Serialize)]
struct GrowingStatus {
    /// Comes from the sender.
    metric: String,
    /// How often a series of it was not known, lately.
    new: u64,
}

/// Numbers have the unit of the limit, and are seconds where it is a time.
#[derive(Debug, Serialize)]
struct LimitStatus {
    name: &'static str,
    mode: &'static str,
    limit: f64,
    used: Option<f64>,
    /// Requests, series or samples that exceeded it since the start, as the limit says.
    exceeded: u64,
}

#[derive(Debug, Serialize)]
struct RefusalStatus {
    reason: &'static str,
    /// Number of refused series or samples, or of requests that were refused as a whole.
    count: u64,
    example: String,
    last_timestamp_seconds: f64,
}

impl Spokes {
    pub(super) fn of(state: &State, version: &Version) -> Self {
        let hubs = state.hubs.iter().map(|hub| HubStatus {
            name: hub.name().to_owned(),
            protocol: hub.speaks().map(|protocol| protocol.name()),
        });
        Self {
            version: version.to_string(),
            hubs: hubs.collect(),
            spokes: state.spokes.iter().map(|spoke| Row::of(spoke)).collect(),
        }
    }
}

impl Row {
    pub(super) fn of(spoke: &Spoke) -> Self {
        let status = spoke.status.snapshot();
        let now = SystemTime::now();
        let conditions = Condition::of(&status, now);
        let newest = status
            .newest_sample
            .map(|milliseconds| milliseconds as f64 / 1000.0);
        Self {
            name: spoke.name.clone(),
            conditions: conditions.into_iter().map(Condition::name).collect(),
            last_write_timestamp_seconds: status.last_write.map(unix_seconds),
            newest_sample_timestamp_seconds: newest,
            lag_seconds: newest.map(|newest| unix_seconds(now) - newest),
            lag_trend: lag_trend(spoke),
            samples_per_second: status.samples_per_second(),
            rejected_ratio: rejected_ratio(spoke),
            bytes_in_flight: spoke.account.bytes(),
            protocol: status.protocol.map(|protocol| protocol.name()),
            user_agent: status.user_agent,
            source_addresses: status.addresses.into(),
            address_source: status.address_source,
            refusals: status.refusals.into_iter().map(RefusalStatus::of).collect(),
            active_series: spoke.active_series().map(ActiveSeriesStatus::of),
            limits: spoke
                .limits_in_use()
                .into_iter()
                .map(LimitStatus::of)
                .collect(),
            credential_expiry_timestamp_seconds: credential_expiry(spoke),
        }
    }
}

impl ActiveSeriesStatus {
    fn of(standing: Standing) -> Self {
        let growing = standing.growing.into_iter().map(|growing| GrowingStatus {
            metric: growing.metric,
            new: growing.count,
        });
        Self {
            active: standing.active,
            exact: standing.exact,
            table_bytes: standing.table_bytes,
            growing: growing.collect(),
        }
    }
}

impl LimitStatus {
    fn of(in_use: LimitInUse) -> Self {
        Self {
            name: in_use.limit.name(),
            mode: in_use.mode.name(),
            limit: in_use.number,
            used: in_use.used,
            exceeded: in_use.exceeded,
        }
    }
}

impl RefusalStatus {
    fn of(refusals: Refusals) -> Self {
        Self {
            reason: refusals.reason,
            count: refusals.count,
            example: refusals.example,
            last_timestamp_seconds: unix_seconds(refusals.last),
        }
    }
}

/// The part of the samples of a spoke that was refused for good in the last 5 minutes.
pub(super) fn rejected_ratio(spoke: &Spoke) -> f64 {
    spoke.history.rejected_ratio(SILENT_AFTER)
}

/// What became of the lag of a spoke in the last 5 minutes.
pub(super) fn lag_trend(spoke: &Spoke) -> Option<&'static str> {
    let trend = spoke.history.lag_trend(SILENT_AFTER)?;
    Some(trend.name())
}

/// When the credential that a spoke used last expires, or the last of them as long as it used none.
pub(super) fn credential_expiry(spoke: &Spoke) -> Option<f64> {
    let end = |it: &CredentialTimes<'_>| ever(it.expiry).unwrap_or(f64::INFINITY);
    let last = spoke.metrics.credential_times().max_by(|a, b| {
        let used = a.last_used.total_cmp(&b.last_used);
        used.then(end(a).total_cmp(&end(b)))
    });
    last.and_then(|it| ever(it.expiry))
}
