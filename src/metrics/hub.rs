//! What is counted of one hub.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::shares::Use;
use crate::wire::{Counts, Protocol};

use super::add;
use super::families::HubFamilies;

/// Something that a version of remote write may have no place for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostPart {
    /// The buckets of a native histogram with custom bounds.
    CustomBuckets,
    /// Metadata.
    Metadata,
    /// The time at which a counter started.
    StartTimestamp,
}

impl LostPart {
    /// The metric that counts them.
    pub const METRIC: &'static str = "hubgate_hub_lost_total";

    /// All of them, in the order of their names.
    pub const ALL: [Self; 3] = [Self::CustomBuckets, Self::Metadata, Self::StartTimestamp];

    /// The value of the label `part` of `hubgate_hub_lost_total`.
    pub fn name(self) -> &'static str {
        match self {
            Self::CustomBuckets => "custom_buckets",
            Self::Metadata => "metadata",
            Self::StartTimestamp => "start_timestamp",
        }
    }
}

/// The metrics of one hub.
#[derive(Debug)]
pub struct HubMetrics {
    name: String,
    pub(super) families: Arc<HubFamilies>,
}

impl HubMetrics {
    /// The metrics of the hub `name`. What the metrics `before` have counted of it goes on.
    pub fn new(name: &str, before: Option<&Self>) -> Self {
        Self {
            name: name.to_owned(),
            families: before.map_or_else(Arc::default, |it| Arc::clone(&it.families)),
        }
    }

    /// The label of its series.
    pub(super) fn labels(&self) -> [(&'static str, &str); 1] {
        [("hub", &self.name)]
    }

    /// Counts a request by its status code or its failure, with the time it took.
    pub fn count_request(&self, protocol: Protocol, code: &str, duration: Option<Duration>) {
        self.families.hub_requests.of(protocol).count(code);
        if let Some(duration) = duration {
            let durations = &self.families.hub_request_duration_seconds;
            durations.record(duration.as_secs_f64());
        }
    }

    /// Counts what was refused because the hub answered it alone with a fault.
    pub fn count_isolated(&self, counts: &Counts) {
        add(&self.families.hub_samples_isolated, counts);
    }

    /// Counts what the hub wrote.
    pub fn count_written(&self, counts: &Counts) {
        add(&self.families.hub_samples_written, counts);
    }

    /// Counts what the hub's protocol has no place for, in the order of [`LostPart::ALL`].
    pub fn count_lost(&self, counts: [u64; LostPart::ALL.len()]) {
        for (part, count) in LostPart::ALL.into_iter().zip(counts) {
            self.families.hub_lost.of(part).inc_by(count);
        }
    }

    /// Shows when the certificate ends that the hub is shown, if there is one.
    pub fn record_certificate(&self, not_after: Option<SystemTime>) {
        let expiry = &self.families.hub_tls_certificate_expiry_timestamp_seconds;
        expiry.set_to(not_after);
    }

    /// Shows by how many seconds the clock of the hub is ahead.
    pub fn record_clock(&self, seconds_ahead: i64) {
        self.families.hub_clock_ahead_seconds.set(seconds_ahead);
    }

    /// Shows how many requests are under way, may be at once, and wait.
    pub fn record_places(&self, places: Use) {
        let to_gauge = |number| i64::try_from(number).unwrap_or(i64::MAX);
        let families = &self.families;
        families.hub_requests_in_flight.set(to_gauge(places.taken));
        let limit = &families.hub_requests_in_flight_limit;
        limit.set(to_gauge(places.places));
        families.hub_requests_waiting.set(to_gauge(places.waiting));
    }

    /// Shows the newest protocol that the hub was found to speak.
    pub fn record_protocol(&self, found: Option<Protocol>) {
        for protocol in [Protocol::V1, Protocol::V2] {
            let speaks = found == Some(protocol);
            self.families.hub_protocol.of(protocol).set(speaks.into());
        }
    }
}
