//! `GET /api/v1/hubs`: the hubs, what they took, and how they are.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::forward::Hub;
use crate::metrics::LostPart;
use crate::state::State;
use crate::wire::Protocol;

use super::history::HubHistory;
use super::spoke::{RequestCount, by_kind};

/// The body of the response.
#[derive(Debug, Serialize)]
pub(super) struct Hubs {
    hubs: Vec<HubStatus>,
}

#[derive(Debug, Serialize)]
struct HubStatus {
    name: String,
    /// Its URL without the query, which may hold a secret.
    url: String,
    /// The newest protocol that it was found to speak.
    protocol: Option<&'static str>,
    /// By how many seconds its clock is ahead of that of hubgate; 0 while they agree.
    clock_ahead_seconds: i64,
    /// The requests under way to it.
    requests_in_flight: i64,
    /// The most requests that it is sent at once at present.
    requests_in_flight_limit: i64,
    /// The requests that wait until it is sent fewer.
    requests_waiting: i64,
    /// The requests to it since the start.
    requests: Vec<RequestCount>,
    /// What it wrote since the start, by kind.
    written: BTreeMap<&'static str, u64>,
    /// What its protocol had no place for since the start.
    lost: BTreeMap<&'static str, u64>,
    /// The same with why and what to do; what was lost.
    left_out: Vec<LeftOut>,
    /// What was refused since the start because it answered it alone with a fault, by kind.
    isolated: BTreeMap<&'static str, u64>,
    /// Its last hour.
    history: HubHistory,
}

/// A part that was left out.
#[derive(Debug, Serialize)]
struct LeftOut {
    part: &'static str,
    count: u64,
    /// Why it cannot travel on.
    meaning: &'static str,
    /// What to do.
    remedy: &'static str,
}

impl Hubs {
    pub(super) fn of(state: &State) -> Self {
        Self {
            hubs: state.hubs.iter().map(|hub| HubStatus::of(hub)).collect(),
        }
    }
}

impl HubStatus {
    fn of(hub: &Hub) -> Self {
        let metrics = hub.metrics();
        let places = metrics.places();
        let lost = metrics.lost();
        Self {
            name: hub.name().to_owned(),
            url: hub.shown_url(),
            protocol: hub.speaks().map(|protocol| protocol.name()),
            clock_ahead_seconds: hub.clock_seconds_ahead(),
            requests_in_flight: places.used,
            requests_in_flight_limit: places.limit,
            requests_waiting: metrics.waiting(),
            requests: metrics
                .requests()
                .into_iter()
                .map(RequestCount::of)
                .collect(),
            written: by_kind(metrics.written()),
            lost: lost.map(|(part, count)| (part.name(), count)).collect(),
            left_out: LeftOut::all(metrics.lost(), hub.speaks()),
            isolated: by_kind(metrics.isolated()),
            history: HubHistory::of(&hub.history().shown()),
        }
    }
}

impl LeftOut {
    /// What was lost at a hub that speaks this.
    fn all(lost: impl Iterator<Item = (LostPart, u64)>, speaks: Option<Protocol>) -> Vec<Self> {
        let lost = lost.filter(|(_, count)| *count > 0);
        let each = lost.map(|(part, count)| {
            let (meaning, remedy) = explain(part, speaks);
            Self {
                part: part.name(),
                count,
                meaning,
                remedy,
            }
        });
        each.collect()
    }
}

/// Why a hub that speaks this does not get a part, and what to do.
fn explain(part: LostPart, speaks: Option<Protocol>) -> (&'static str, &'static str) {
    const SPEAK_V2: &str = "Let the hub take remote write 2.0, as a Prometheus does from 2.54 on.";
    match (part, speaks) {
        (LostPart::CustomBuckets, _) => (
            "Remote write 1.0 has no place for native histograms with custom buckets; the spoke is told that \
             these samples are refused.",
            SPEAK_V2,
        ),
        (LostPart::Metadata, Some(Protocol::V2)) => (
            "Metadata of a spoke that sends remote write 1.0 has no form in 2.0.",
            "Set `metadata: forward_v1` for the hub, or let the spoke send 2.0.",
        ),
        (LostPart::Metadata, _) => (
            "Remote write 1.0 has no place for the metadata of a series, such as its type and unit.",
            SPEAK_V2,
        ),
        (LostPart::StartTimestamp, _) => (
            "Remote write 1.0 has no place for the time at which a counter started. The samples are written.",
            SPEAK_V2,
        ),
    }
}
