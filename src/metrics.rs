//! Every metric of hubgate: names, help, labels. No other file names one.
//!
//! Handles of a spoke are resolved when the configuration is loaded, so a request only adds, and
//! so that every series of a configured spoke exists at 0 from the start. Label values come from
//! the configuration and from closed enums, never from traffic; a sender that is not identified
//! is the spoke `unknown`. The spoke is in the label `spoke` and never in `cluster`, which
//! kube-prometheus-stack sets itself.
//!
//! The crate is `prometheus` rather than `prometheus-client`: it writes the text format 0.0.4,
//! which `promtool check metrics` and every scraper read, and its histograms take no lock.

mod handles;
mod process;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use crate::reasons::{AuthFailure, ConnectionRefusal, Reason, UNKNOWN};
use crate::wire::{Kind, Protocol};

pub use handles::{HubMetrics, SpokeMetrics};

/// From a cached answer of a local hub to the timeout of a spoke, 30 s.
const DURATION_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0,
];

/// From a lone series to the default limit of 32 MiB.
const SIZE_BUCKETS: &[f64] = &[
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    33_554_432.0,
];

/// Status codes that a spoke can be told once its protocol is known.
const CODES: [u16; 8] = [204, 400, 413, 415, 500, 502, 503, 504];

/// The values of the label `part`: what a version of remote write may have no place for.
pub const LOST_PARTS: [&str; 3] = ["custom_buckets", "metadata", "start_timestamp"];

/// Status codes that a spoke can be told before.
const UNKNOWN_CODES: [u16; 2] = [403, 415];

/// All families, in one registry.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    auth_failures: IntCounterVec,
    bytes_in_flight: IntGauge,
    bytes_in_flight_limit: IntGauge,
    config_last_reload_success: Gauge,
    config_last_reload_successful: IntGauge,
    connections: IntGauge,
    connections_limit: IntGauge,
    connections_refused: IntCounterVec,
    credential_last_used: GaugeVec,
    hub_lost: IntCounterVec,
    hub_protocol: IntGaugeVec,
    hub_request_duration: HistogramVec,
    hub_requests: IntCounterVec,
    hub_samples_written: IntCounterVec,
    label_mismatches: IntCounterVec,
    last_write: GaugeVec,
    newest_sample: GaugeVec,
    request_body_bytes: HistogramVec,
    request_decoded_bytes: HistogramVec,
    request_duration: HistogramVec,
    requests: IntCounterVec,
    retried_requests: IntCounterVec,
    samples_failed: IntCounterVec,
    samples_received: IntCounterVec,
    samples_rejected: IntCounterVec,
    samples_written: IntCounterVec,
    source_range_refusals: IntCounterVec,
}

impl Metrics {
    /// Registers every family in a registry of its own.
    pub fn new() -> Self {
        let registry = Registry::new();
        let families = Families {
            registry: &registry,
        };
        let metrics = Self {
            auth_failures: families.counters(
                "auth_failures_total",
                "Requests answered 401, by what was wrong with the credential.",
                &["reason"],
            ),
            bytes_in_flight: families.gauge(
                "bytes_in_flight",
                "Bytes of the budget for bodies and decoded bytes that are taken.",
            ),
            bytes_in_flight_limit: families.gauge(
                "bytes_in_flight_limit",
                "The budget for bodies and decoded bytes, limits.bytes_in_flight_max.",
            ),
            config_last_reload_success: families.float_gauge(
                "config_last_reload_success_timestamp_seconds",
                "When a configuration was last loaded with success.",
            ),
            config_last_reload_successful: families.gauge(
                "config_last_reload_successful",
                "1 when the last attempt to load the configuration had success, else 0.",
            ),
            connections: families.gauge("connections", "Open connections of senders."),
            connections_limit: families.gauge(
                "connections_limit",
                "Most open connections of senders, listen.connections_max.",
            ),
            connections_refused: families.counters(
                "connections_refused_total",
                "Connections closed before a request.",
                &["reason"],
            ),
            credential_last_used: families.float_gauges(
                "credential_last_used_timestamp_seconds",
                "When a credential last identified its spoke; 0 is never.",
                &["spoke", "credential"],
            ),
            hub_lost: families.counters(
                "hub_lost_total",
                "What was left out because the hub's protocol has no place for it.",
                &["hub", "part"],
            ),
            hub_protocol: families.gauges(
                "hub_protocol",
                "1 for the newest protocol that the hub was found to speak, else 0.",
                &["hub", "protocol"],
            ),
            hub_request_duration: families.histograms(
                "hub_request_duration_seconds",
                "Time from sending a request to the hub to the end of its answer.",
                &["hub"],
                DURATION_BUCKETS,
            ),
            hub_requests: families.counters(
                "hub_requests_total",
                "Requests to the hub, by status code or connect_error, reset, timeout, skipped.",
                &["hub", "protocol", "code"],
            ),
            hub_samples_written: families.counters(
                "hub_samples_written_total",
                "Samples that the hub took, also where another answer was given to the spoke.",
                &["hub", "kind"],
            ),
            label_mismatches: families.counters(
                "label_mismatches_total",
                "Series whose cluster label named another spoke, whatever became of them.",
                &["spoke"],
            ),
            last_write: families.float_gauges(
                "last_write_timestamp_seconds",
                "When the hub last took something of the spoke; 0 is never.",
                &["spoke"],
            ),
            newest_sample: families.float_gauges(
                "newest_sample_timestamp_seconds",
                "The newest timestamp among the samples that the hub took; 0 is none.",
                &["spoke"],
            ),
            request_body_bytes: families.histograms(
                "request_body_bytes",
                "Sizes of request bodies as sent.",
                &["spoke"],
                SIZE_BUCKETS,
            ),
            request_decoded_bytes: families.histograms(
                "request_decoded_bytes",
                "Sizes of request bodies after decompression.",
                &["spoke"],
                SIZE_BUCKETS,
            ),
            request_duration: families.histograms(
                "request_duration_seconds",
                "Time from the end of a request's headers to its answer.",
                &["spoke"],
                DURATION_BUCKETS,
            ),
            requests: families.counters(
                "requests_total",
                "Requests answered, by status code.",
                &["spoke", "protocol", "code"],
            ),
            retried_requests: families.counters(
                "retried_requests_total",
                "Requests that the sender marked as a retry (Retry-Attempt).",
                &["spoke"],
            ),
            samples_failed: families.counters(
                "samples_failed_total",
                "Samples in requests answered 5xx, which the sender retries.",
                &["spoke", "kind"],
            ),
            samples_received: families.counters(
                "samples_received_total",
                "Samples in decoded requests; always written + rejected + failed.",
                &["spoke", "kind"],
            ),
            samples_rejected: families.counters(
                "samples_rejected_total",
                "Samples refused for good, here or by the hub.",
                &["spoke", "kind", "reason"],
            ),
            samples_written: families.counters(
                "samples_written_total",
                "Samples that the hub took.",
                &["spoke", "kind"],
            ),
            source_range_refusals: families.counters(
                "source_range_refusals_total",
                "Requests answered 403: a good credential from outside the spoke's ranges.",
                &["spoke"],
            ),
            registry: registry.clone(),
        };
        families.build_info();
        metrics.start_at_zero();
        metrics
    }

    fn start_at_zero(&self) {
        for reason in AuthFailure::ALL {
            self.auth_failures.with_label_values(&[reason.name()]);
        }
        for reason in ConnectionRefusal::ALL {
            self.connections_refused.with_label_values(&[reason.name()]);
        }
        for code in ["401", "404", "405", "503"] {
            self.requests.with_label_values(&[UNKNOWN, UNKNOWN, code]);
        }
    }

    /// The text format 0.0.4.
    pub fn encode(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        Ok(out)
    }

    /// The handles of a spoke and its credentials, all existing from now on.
    pub fn spoke<'c>(
        &self,
        spoke: &str,
        credentials: impl Iterator<Item = &'c str>,
    ) -> SpokeMetrics {
        let kinds = |family: &IntCounterVec| {
            Kind::ALL.map(|kind| family.with_label_values(&[spoke, kind.name()]))
        };
        let requests = |protocol: &str, codes: &[u16]| {
            codes
                .iter()
                .map(|code| {
                    self.requests
                        .with_label_values(&[spoke, protocol, &code.to_string()])
                })
                .collect()
        };
        SpokeMetrics {
            body_bytes: self.request_body_bytes.with_label_values(&[spoke]),
            credential_last_used: credentials
                .map(|name| self.credential_last_used.with_label_values(&[spoke, name]))
                .collect(),
            decoded_bytes: self.request_decoded_bytes.with_label_values(&[spoke]),
            duration: self.request_duration.with_label_values(&[spoke]),
            failed: kinds(&self.samples_failed),
            label_mismatches: self.label_mismatches.with_label_values(&[spoke]),
            last_write: self.last_write.with_label_values(&[spoke]),
            newest_sample: self.newest_sample.with_label_values(&[spoke]),
            received: kinds(&self.samples_received),
            rejected: Kind::ALL.map(|kind| {
                Reason::ALL.map(|reason| {
                    let values = [spoke, kind.name(), reason.name()];
                    self.samples_rejected.with_label_values(&values)
                })
            }),
            requests_unknown: requests(UNKNOWN, &UNKNOWN_CODES),
            requests_v1: requests(Protocol::V1.name(), &CODES),
            requests_v2: requests(Protocol::V2.name(), &CODES),
            retried: self.retried_requests.with_label_values(&[spoke]),
            source_range_refusals: self.source_range_refusals.with_label_values(&[spoke]),
            written: kinds(&self.samples_written),
        }
    }

    /// Takes a credential that left the configuration out of the exposition.
    pub fn remove_credential(&self, spoke: &str, credential: &str) {
        // Fails only when there is no such series, which is what is wanted.
        let _ = self
            .credential_last_used
            .remove_label_values(&[spoke, credential]);
    }

    /// Takes a spoke that left the configuration out of the exposition.
    pub fn remove_spoke(&self, spoke: &str) {
        let counters = [
            &self.label_mismatches,
            &self.retried_requests,
            &self.source_range_refusals,
        ];
        for family in counters {
            let _ = family.remove_label_values(&[spoke]);
        }
        for family in [&self.last_write, &self.newest_sample] {
            let _ = family.remove_label_values(&[spoke]);
        }
        let histograms = [
            &self.request_body_bytes,
            &self.request_decoded_bytes,
            &self.request_duration,
        ];
        for family in histograms {
            let _ = family.remove_label_values(&[spoke]);
        }
        for kind in Kind::ALL.map(Kind::name) {
            for family in [
                &self.samples_failed,
                &self.samples_received,
                &self.samples_written,
            ] {
                let _ = family.remove_label_values(&[spoke, kind]);
            }
            for reason in Reason::ALL {
                let _ = self
                    .samples_rejected
                    .remove_label_values(&[spoke, kind, reason.name()]);
            }
        }
        for code in CODES.iter().chain(&UNKNOWN_CODES).map(u16::to_string) {
            for protocol in [UNKNOWN, Protocol::V1.name(), Protocol::V2.name()] {
                let _ = self.requests.remove_label_values(&[spoke, protocol, &code]);
            }
        }
    }

    /// The handles of a hub.
    pub fn hub(&self, hub: &str) -> HubMetrics {
        HubMetrics {
            duration: self.hub_request_duration.with_label_values(&[hub]),
            lost: LOST_PARTS.map(|part| self.hub_lost.with_label_values(&[hub, part])),
            written: Kind::ALL.map(|kind| {
                self.hub_samples_written
                    .with_label_values(&[hub, kind.name()])
            }),
            protocol: [Protocol::V1, Protocol::V2]
                .map(|protocol| self.hub_protocol.with_label_values(&[hub, protocol.name()])),
            requests: self.hub_requests.clone(),
            hub: hub.into(),
            removed: Arc::default(),
        }
    }

    /// Takes a hub that left the configuration out of the exposition, for good.
    pub fn remove_hub(&self, hub: &HubMetrics) {
        let mut removed = hub.removed.lock().unwrap_or_else(PoisonError::into_inner);
        *removed = true;
        let hub = &*hub.hub;
        let _ = self.hub_request_duration.remove_label_values(&[hub]);
        for protocol in [Protocol::V1, Protocol::V2].map(Protocol::name) {
            let _ = self.hub_protocol.remove_label_values(&[hub, protocol]);
        }
        for part in LOST_PARTS {
            let _ = self.hub_lost.remove_label_values(&[hub, part]);
        }
        for kind in Kind::ALL.map(Kind::name) {
            let _ = self.hub_samples_written.remove_label_values(&[hub, kind]);
        }
        // Its status codes are not known beforehand.
        for family in self.hub_requests.collect() {
            for metric in family.get_metric() {
                let labels: HashMap<_, _> = metric
                    .get_label()
                    .iter()
                    .map(|label| (label.name(), label.value()))
                    .collect();
                if labels.get("hub") == Some(&hub) {
                    let _ = self.hub_requests.remove(&labels);
                }
            }
        }
    }

    /// Counts a request of a sender that was not identified.
    pub fn unknown_request(&self, code: u16) {
        let values = [UNKNOWN, UNKNOWN, &code.to_string()];
        self.requests.with_label_values(&values).inc();
    }

    /// Counts a sender that was not identified.
    pub fn auth_failure(&self, reason: AuthFailure) {
        self.auth_failures.with_label_values(&[reason.name()]).inc();
    }

    /// Counts a connection closed before a request.
    pub fn connection_refused(&self, reason: ConnectionRefusal) {
        self.connections_refused
            .with_label_values(&[reason.name()])
            .inc();
    }

    /// The gauge of open connections.
    pub fn connections(&self) -> &IntGauge {
        &self.connections
    }

    /// The gauge of bytes taken from the budget.
    pub fn bytes_in_flight(&self) -> &IntGauge {
        &self.bytes_in_flight
    }

    /// Shows the limits that are in force.
    pub fn limits(&self, bytes_in_flight_max: usize, connections_max: usize) {
        self.bytes_in_flight_limit(bytes_in_flight_max);
        self.connections_limit
            .set(connections_max.try_into().unwrap_or(i64::MAX));
    }

    /// Shows the limit of the budget, in bytes.
    pub fn bytes_in_flight_limit(&self, bytes_in_flight_max: usize) {
        self.bytes_in_flight_limit
            .set(bytes_in_flight_max.try_into().unwrap_or(i64::MAX));
    }

    /// Shows how loading the configuration ended.
    pub fn config_loaded(&self, success: bool) {
        self.config_last_reload_successful.set(success.into());
        if success {
            self.config_last_reload_success.set(unix_seconds());
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Makes families with the common prefix and registers them.
struct Families<'r> {
    registry: &'r Registry,
}

impl Families<'_> {
    fn opts(name: &str, help: &str) -> Opts {
        Opts::new(name, help).namespace("hubgate")
    }

    fn register<C: Collector + Clone + 'static>(&self, family: Result<C, prometheus::Error>) -> C {
        let family = family.expect("names and labels are constants of this file");
        self.registry
            .register(Box::new(family.clone()))
            .expect("names are unique in this file");
        family
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(Self::opts(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::with_opts(Self::opts(name, help)))
    }

    fn float_gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(Gauge::with_opts(Self::opts(name, help)))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(Self::opts(name, help), labels))
    }

    fn float_gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.register(GaugeVec::new(Self::opts(name, help), labels))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
        let opts = HistogramOpts::from(Self::opts(name, help)).buckets(buckets.to_vec());
        self.register(HistogramVec::new(opts, labels))
    }

    fn build_info(&self) {
        let info = self.gauges(
            "build_info",
            "The version of hubgate; always 1.",
            &["version"],
        );
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        self.registry
            .register(Box::new(process::ProcessCollector::new()))
            .expect("names are unique in this file");
    }
}

fn unix_seconds() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}
