//! `GET /api/v1/spokes`: what is known of each spoke, as JSON.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::spoke::{Refusals, Spoke};
use crate::state::State;

/// The answer.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    hubs: Vec<HubStatus>,
    spokes: Vec<SpokeStatus>,
}

#[derive(Debug, Serialize)]
struct HubStatus {
    name: String,
    /// The newest protocol it was found to speak.
    protocol: Option<&'static str>,
}

/// Times are seconds since the Unix epoch; what never happened is null.
#[derive(Debug, Serialize)]
struct SpokeStatus {
    name: String,
    last_write_timestamp_seconds: Option<f64>,
    newest_sample_timestamp_seconds: Option<f64>,
    /// How far the newest sample is behind now.
    lag_seconds: Option<f64>,
    /// Samples of all kinds that the hub wrote, averaged over about a minute.
    samples_per_second: f64,
    protocol: Option<&'static str>,
    user_agent: String,
    /// The last ones, newest first.
    source_addresses: Vec<IpAddr>,
    refusals: Vec<RefusalStatus>,
}

#[derive(Debug, Serialize)]
struct RefusalStatus {
    reason: &'static str,
    /// Series, or requests where the whole request was refused.
    count: u64,
    example: String,
    last_timestamp_seconds: f64,
}

impl Status {
    pub(super) fn of(state: &State) -> Self {
        let hubs = state.hubs.iter().map(|hub| HubStatus {
            name: hub.name().to_owned(),
            protocol: hub.speaks().map(|protocol| protocol.name()),
        });
        Self {
            hubs: hubs.collect(),
            spokes: state
                .spokes
                .iter()
                .map(|spoke| SpokeStatus::of(spoke))
                .collect(),
        }
    }
}

impl SpokeStatus {
    fn of(spoke: &Spoke) -> Self {
        let seen = spoke.status.snapshot();
        let newest = seen
            .newest_sample
            .map(|milliseconds| milliseconds as f64 / 1000.0);
        Self {
            name: spoke.name.clone(),
            last_write_timestamp_seconds: seen.last_write.map(unix_seconds),
            newest_sample_timestamp_seconds: newest,
            lag_seconds: newest.map(|newest| unix_seconds(SystemTime::now()) - newest),
            samples_per_second: seen.samples_per_second(),
            protocol: seen.protocol.map(|protocol| protocol.name()),
            user_agent: seen.user_agent,
            source_addresses: seen.addresses.into(),
            refusals: seen.refusals.into_iter().map(RefusalStatus::of).collect(),
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

fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}
