//! `GET /api/v1/hubs`: the hubs, what they took, and how they are.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::forward::Hub;
use crate::state::State;

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
    /// Its last hour.
    history: HubHistory,
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
            history: HubHistory::of(&hub.history().shown()),
        }
    }
}
