//! The counters of one spoke and of one hub, resolved once, so that a request only adds.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{Gauge, Histogram, IntCounter, IntCounterVec, IntGauge};

use crate::reasons::Reason;
use crate::wire::{Counts, Kind, Protocol};

use super::{CODES, LOST_PARTS, UNKNOWN_CODES, unix_seconds};

/// The handles of one spoke.
#[derive(Debug)]
pub struct SpokeMetrics {
    pub(super) body_bytes: Histogram,
    pub(super) credential_last_used: Vec<Gauge>,
    pub(super) decoded_bytes: Histogram,
    pub(super) duration: Histogram,
    pub(super) failed: [IntCounter; Kind::ALL.len()],
    pub(super) label_mismatches: IntCounter,
    pub(super) last_write: Gauge,
    pub(super) newest_sample: Gauge,
    pub(super) received: [IntCounter; Kind::ALL.len()],
    pub(super) rejected: [[IntCounter; Reason::ALL.len()]; Kind::ALL.len()],
    pub(super) requests_unknown: Vec<IntCounter>,
    pub(super) requests_v1: Vec<IntCounter>,
    pub(super) requests_v2: Vec<IntCounter>,
    pub(super) retried: IntCounter,
    pub(super) source_range_refusals: IntCounter,
    pub(super) written: [IntCounter; Kind::ALL.len()],
}

impl SpokeMetrics {
    /// Remembers that a credential, by its place in the configuration, identified the spoke.
    pub fn credential_used(&self, credential: usize) {
        if let Some(last_used) = self.credential_last_used.get(credential) {
            last_used.set(unix_seconds());
        }
    }

    /// Counts an answered request and its duration.
    pub fn request(&self, protocol: Option<Protocol>, code: u16, duration: Duration) {
        let (counters, codes): (_, &[u16]) = match protocol {
            Some(Protocol::V1) => (&self.requests_v1, &CODES),
            Some(Protocol::V2) => (&self.requests_v2, &CODES),
            None => (&self.requests_unknown, &UNKNOWN_CODES),
        };
        let place = codes.iter().position(|known| *known == code);
        debug_assert!(place.is_some(), "no counter for status {code}");
        if let Some(counter) = place.and_then(|place| counters.get(place)) {
            counter.inc();
        }
        self.duration.observe(duration.as_secs_f64());
    }

    /// Takes the sizes of a request, in bytes.
    pub fn sizes(&self, body: usize, decoded: usize) {
        self.body_bytes.observe(body as f64);
        self.decoded_bytes.observe(decoded as f64);
    }

    /// Counts what a decoded request carried.
    pub fn received(&self, counts: &Counts) {
        add(&self.received, counts);
    }

    /// Counts what the hub took, and until when it reaches, in milliseconds since the epoch.
    pub fn written(&self, counts: &Counts, newest: Option<i64>) {
        add(&self.written, counts);
        if counts.is_empty() {
            return;
        }
        self.last_write.set(unix_seconds());
        if let Some(newest) = newest {
            // A late batch must not take the gauge back.
            self.newest_sample
                .set(self.newest_sample.get().max(newest as f64 / 1000.0));
        }
    }

    /// Counts what was refused for good.
    pub fn rejected(&self, reason: Reason, counts: &Counts) {
        for kind in Kind::ALL {
            self.rejected[kind as usize][reason as usize].inc_by(counts.of(kind));
        }
    }

    /// Counts what the sender will retry.
    pub fn failed(&self, counts: &Counts) {
        add(&self.failed, counts);
    }

    /// Counts series whose cluster label named another spoke.
    pub fn label_mismatches(&self, series: u64) {
        self.label_mismatches.inc_by(series);
    }

    /// Counts a request that the sender marked as a retry.
    pub fn retried(&self) {
        self.retried.inc();
    }

    /// Counts a request from outside the spoke's ranges.
    pub fn source_range_refusal(&self) {
        self.source_range_refusals.inc();
    }
}

fn add(counters: &[IntCounter; Kind::ALL.len()], counts: &Counts) {
    for kind in Kind::ALL {
        counters[kind as usize].inc_by(counts.of(kind));
    }
}

/// The handles of one hub.
#[derive(Debug, Clone)]
pub struct HubMetrics {
    pub(super) duration: Histogram,
    pub(super) lost: [IntCounter; LOST_PARTS.len()],
    pub(super) written: [IntCounter; Kind::ALL.len()],
    pub(super) protocol: [IntGauge; 2],
    pub(super) requests: IntCounterVec,
    pub(super) hub: Arc<str>,
    pub(super) removed: Arc<Mutex<bool>>,
}

impl HubMetrics {
    /// Counts a request by its status code or its failure, with the time it took.
    pub fn request(&self, protocol: Protocol, code: &str, duration: Option<Duration>) {
        // Held until it is counted: a late answer would bring the series of a removed hub back.
        let removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
        if *removed {
            return;
        }
        self.requests
            .with_label_values(&[&self.hub, protocol.name(), code])
            .inc();
        if let Some(duration) = duration {
            self.duration.observe(duration.as_secs_f64());
        }
    }

    /// Counts what the hub took.
    pub fn written(&self, counts: &Counts) {
        add(&self.written, counts);
    }

    /// Counts what the hub's protocol has no place for, in the order of [`LOST_PARTS`].
    pub fn lost(&self, counts: [u64; LOST_PARTS.len()]) {
        for (counter, count) in self.lost.iter().zip(counts) {
            counter.inc_by(count);
        }
    }

    /// Shows the newest protocol that the hub was found to speak.
    pub fn protocol(&self, found: Option<Protocol>) {
        for (gauge, protocol) in self.protocol.iter().zip([Protocol::V1, Protocol::V2]) {
            gauge.set((found == Some(protocol)).into());
        }
    }
}
