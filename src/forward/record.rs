//! What happened with a hub, in metrics and log at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::metrics::{HubMetrics, LostPart};
use crate::reasons::{HubFailure, UNKNOWN};
use crate::rewrite::Lost;
use crate::telemetry::SharedRepeats;
use crate::wire::{Counts, Protocol};

use super::response::HubResponse;

/// The code of a request that is counted again with what comes of it.
const RESENT: &str = "resent";

/// Records the events of one hub.
#[derive(Debug)]
pub(super) struct Recorder {
    hub: String,
    metrics: HubMetrics,
    /// The parts of [`LostPart::ALL`] whose loss was logged.
    logged_losses: [AtomicBool; LostPart::ALL.len()],
    failures: SharedRepeats,
    cuts: SharedRepeats,
    /// The clock of the hub differs, and that was logged.
    clock_differs: AtomicBool,
}

impl Recorder {
    /// Records what happens with the hub of this name, and keeps its counters from `before`.
    pub(super) fn new(hub: &str, before: Option<&HubMetrics>) -> Self {
        Self {
            hub: hub.to_owned(),
            metrics: HubMetrics::new(hub, before),
            logged_losses: Default::default(),
            failures: SharedRepeats::default(),
            cuts: SharedRepeats::default(),
            clock_differs: AtomicBool::new(false),
        }
    }

    pub(super) fn metrics(&self) -> &HubMetrics {
        &self.metrics
    }

    /// A request ended with a response or without one.
    pub(super) fn request(
        &self,
        protocol: Protocol,
        result: &Result<HubResponse, HubFailure>,
        duration: Duration,
    ) {
        let code = match result {
            Ok(response) => response.status.as_str(),
            Err(failure) => failure.name(),
        };
        self.metrics.count_request(protocol, code, Some(duration));
    }

    /// A request is sent once more, because the hub closed the connection without reading it.
    pub(super) fn resent(&self, protocol: Protocol) {
        self.metrics.count_request(protocol, RESENT, None);
    }

    /// A request was not sent. Returns why.
    pub(super) fn unsent(&self, protocol: Protocol, failure: HubFailure) -> HubFailure {
        self.metrics.count_request(protocol, failure.name(), None);
        self.failed(&format!("{}: {failure}", failure.name()));
        failure
    }

    /// The hub did not take a request that another hub may have taken.
    pub(super) fn failed(&self, example: &str) {
        if let Some(count) = self.failures.add() {
            let hub = &self.hub;
            tracing::warn!(hub, count, example, "a hub did not take a write");
        }
    }

    /// A request is cut, since the hub answers it with a fault and stores others.
    pub(super) fn cut(&self, spoke: &str, example: &str) {
        if let Some(count) = self.cuts.add() {
            let hub = &self.hub;
            tracing::warn!(
                hub,
                spoke,
                count,
                example,
                "the hub answers a write with 500 and takes others, so the write is cut to find what \
                 it does not take"
            );
        }
    }

    /// Samples were refused because the hub answered them with a fault alone.
    pub(super) fn isolated(&self, counts: &Counts) {
        self.metrics.count_isolated(counts);
    }

    /// The hub wrote this.
    pub(super) fn written(&self, counts: &Counts) {
        self.metrics.count_written(counts);
    }

    /// Something was left out, because the version sent has no place for it. Each part is logged
    /// once, as it may be lost with every request.
    pub(super) fn lost(&self, lost: &Lost, speaks: Option<Protocol>) {
        let counts = [lost.custom_buckets, lost.metadata, lost.start_timestamps];
        self.metrics.count_lost(counts);
        for ((part, count), logged) in LostPart::ALL
            .into_iter()
            .zip(counts)
            .zip(&self.logged_losses)
        {
            if count > 0 && !logged.swap(true, Ordering::Relaxed) {
                let protocol = speaks.map_or(UNKNOWN, Protocol::name);
                tracing::warn!(
                    hub = self.hub,
                    protocol,
                    part = part.name(),
                    metric = LostPart::METRIC,
                    "the hub's protocol cannot hold this part, so it is left out; the metric counts \
                     it, and it is not logged again"
                );
            }
        }
    }

    /// The clock of the hub is ahead of that here by so many seconds.
    pub(super) fn clock(&self, seconds_ahead: i64) {
        self.metrics.record_clock(seconds_ahead);
        let differs = seconds_ahead != 0;
        let hub = &self.hub;
        match (self.clock_differs.swap(differs, Ordering::Relaxed), differs) {
            (false, true) => tracing::warn!(
                hub,
                seconds_ahead,
                "the clocks of hubgate and of a hub differ, so samples are only refused for their time if they \
                 are to be by both, and a credential that has expired gets 503; set both clocks"
            ),
            (true, false) => tracing::info!(hub, "the clocks of hubgate and of a hub agree again"),
            _ => {}
        }
    }

    /// The hub was found to speak this, or the configuration says so.
    pub(super) fn found(&self, protocol: Protocol) {
        self.metrics.record_protocol(Some(protocol));
        let protocol = protocol.name();
        tracing::info!(hub = self.hub, protocol, "found the protocol of a hub");
    }
}
