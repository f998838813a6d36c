//! What is counted of one spoke and of its credentials.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::StatusCode;

use crate::config::Mismatch;
use crate::reasons::{Limit, Reason};
use crate::wire::{Counts, Kind, Protocol};

use super::add;
use super::families::{CredentialFamilies, SenderFamilies, SpokeFamilies};

/// Status codes of requests that exist at 0 from the start, so that a scraper sees even the first one as
/// a rise: those that lose samples for good, and the one with which hubgate itself asks for another
/// attempt. Every other code is counted as well, and exists from its first request on.
const CODES: [&str; 3] = ["400", "413", "503"];

/// The metrics of one spoke.
#[derive(Debug)]
pub struct SpokeMetrics {
    name: String,
    mismatch: Mismatch,
    pub(super) sender: Arc<SenderFamilies>,
    pub(super) families: Arc<SpokeFamilies>,
    credentials: Vec<Credential>,
}

#[derive(Debug)]
struct Credential {
    name: String,
    families: Arc<CredentialFamilies>,
}

impl SpokeMetrics {
    /// The metrics of the spoke `name` with this policy for a mismatched label and these credentials,
    /// in the order of the configuration. What the metrics `before` have counted of the spoke and of
    /// each credential goes on.
    pub fn new<'c>(
        name: &str,
        mismatch: Mismatch,
        credentials: impl Iterator<Item = &'c str>,
        before: Option<&Self>,
    ) -> Self {
        let mut metrics = Self {
            name: name.to_owned(),
            mismatch,
            sender: before.map_or_else(started_at_zero, |it| Arc::clone(&it.sender)),
            families: before.map_or_else(Arc::default, |it| Arc::clone(&it.families)),
            credentials: Vec::new(),
        };
        metrics.start_series();
        for name in credentials {
            // Two token files can have the same name, and then they are one series.
            let known = metrics.credential(name);
            let known = known.or_else(|| before.and_then(|before| before.credential(name)));
            metrics.credentials.push(Credential {
                name: name.to_owned(),
                families: known.map(Arc::clone).unwrap_or_default(),
            });
        }
        metrics
    }

    /// Makes the series of late counters whose first count a scraper must see as a rise.
    fn start_series(&self) {
        self.families.label_mismatches.of(self.mismatch).start();
        // What hubs refuse is what most spokes lose, if they lose something. It also gives each spoke a
        // sum of what was rejected, which is 0 and not absent.
        let rejected = self.families.samples_rejected.of(Kind::Float);
        rejected.of(Reason::Hub).start();
    }

    fn credential(&self, name: &str) -> Option<&Arc<CredentialFamilies>> {
        let credential = self.credentials.iter().find(|it| it.name == name);
        credential.map(|credential| &credential.families)
    }

    /// The label of its series.
    pub(super) fn labels(&self) -> [(&'static str, &str); 1] {
        [("spoke", &self.name)]
    }

    /// The labels and the metrics of its credentials, each name once.
    pub(super) fn credentials(
        &self,
    ) -> impl Iterator<Item = ([(&'static str, &str); 2], &CredentialFamilies)> + Clone {
        let credentials = self.credentials.iter().enumerate();
        let first = credentials.filter(|(place, credential)| {
            let before = &self.credentials[..*place];
            before.iter().all(|before| before.name != credential.name)
        });
        first.map(|(_, credential)| {
            let labels = [("spoke", &*self.name), ("credential", &*credential.name)];
            (labels, &*credential.families)
        })
    }

    /// Remembers that a credential, by its place in the configuration, identified the spoke.
    pub fn record_credential_use(&self, credential: usize) {
        if let Some(credential) = self.credentials.get(credential) {
            let last_used = &credential.families.credential_last_used_timestamp_seconds;
            last_used.set_to_now();
        }
    }

    /// Shows when a credential, by its place in the configuration, expires.
    pub fn record_credential_expiry(&self, credential: usize, not_after: Option<SystemTime>) {
        if let Some(credential) = self.credentials.get(credential) {
            let expiry = &credential.families.credential_expiry_timestamp_seconds;
            expiry.set(not_after);
        }
    }

    /// Counts a request that got a response, and its duration.
    pub fn count_request(
        &self,
        protocol: Option<Protocol>,
        status: StatusCode,
        duration: Duration,
    ) {
        self.sender.requests.of(protocol).count(status.as_str());
        let durations = &self.families.request_duration_seconds;
        durations.record(duration.as_secs_f64());
    }

    /// Counts the bytes of a body as they were sent.
    pub fn count_received_bytes(&self, body: usize) {
        self.families.received_bytes.inc_by(body as u64);
    }

    /// Counts what a decoded request carried.
    pub fn count_received(&self, counts: &Counts) {
        add(&self.families.samples_received, counts);
    }

    /// Counts what a hub wrote, and the newest timestamp in it, in milliseconds since the Unix epoch.
    pub fn count_written(&self, counts: &Counts, newest: Option<i64>) {
        add(&self.families.samples_written, counts);
        // V1 metadata names no cluster, so it passes where all samples of a spoke are refused.
        if counts.samples() == 0 {
            return;
        }
        self.families.last_write_timestamp_seconds.set_to_now();
        if let Some(newest) = newest {
            let newest_sample = &self.families.newest_sample_timestamp_seconds;
            newest_sample.advance_to(newest as f64 / 1000.0);
        }
    }

    /// Counts what was refused for good.
    pub fn count_rejected(&self, reason: Reason, counts: &Counts) {
        for kind in Kind::ALL {
            let rejected = self.families.samples_rejected.of(kind).of(reason);
            rejected.inc_by(counts.of(kind));
        }
    }

    /// Counts what the sender will retry.
    pub fn count_failed(&self, counts: &Counts) {
        add(&self.families.samples_failed, counts);
    }

    /// Counts series whose cluster label named another spoke.
    pub fn count_label_mismatches(&self, series: u64) {
        let mismatches = self.families.label_mismatches.of(self.mismatch);
        mismatches.inc_by(series);
    }

    /// Makes the series of requests with the response 429.
    pub fn start_too_many_requests(&self) {
        for protocol in [Protocol::V1, Protocol::V2] {
            let requests = self.sender.requests.of(Some(protocol));
            requests.start_at_zero(&[StatusCode::TOO_MANY_REQUESTS.as_str()]);
        }
    }

    /// Makes the series of what exceeds a limit.
    pub fn start_exceeded(&self, limit: Limit) {
        self.families.limit_exceeded.of(limit).start();
    }

    /// Counts what exceeded a limit.
    pub fn count_exceeded(&self, limit: Limit, count: u64) {
        self.families.limit_exceeded.of(limit).inc_by(count);
    }

    /// Shows how much exceeded a limit, as it was counted elsewhere.
    pub fn record_exceeded(&self, limit: Limit, count: u64) {
        self.families.limit_exceeded.of(limit).advance_to(count);
    }

    /// How much exceeded a limit.
    pub fn exceeded(&self, limit: Limit) -> u64 {
        self.families.limit_exceeded.of(limit).count()
    }

    /// Shows a limit and how much of it is used, as far as there is a limit and as its use is known.
    pub fn record_limit(&self, limit: Limit, number: Option<f64>, used: Option<f64>) {
        self.families.limit.of(limit).set(number);
        self.families.limit_used.of(limit).set(used);
    }

    /// Makes the series of series that became known.
    pub fn start_active_series(&self) {
        self.families.active_series_created.start();
    }

    /// Shows how many series are active, and whether that is exact, if they are counted.
    pub fn record_active_series(&self, active: Option<(usize, bool)>) {
        let exact = active.map(|(_, exact)| f64::from(exact));
        self.families.active_series_exact.set(exact);
        let active = active.map(|(active, _)| active as f64);
        self.families.active_series.set(active);
    }

    /// Counts series that became known.
    pub fn count_created_series(&self, count: u64) {
        self.families.active_series_created.inc_by(count);
    }

    /// Counts a request that the sender marked as a retry.
    pub fn count_retry(&self) {
        self.families.retried_requests.inc();
    }

    /// Makes the series of responses that are held back.
    pub fn start_delayed_refusals(&self) {
        self.families.refusals_delayed.start();
    }

    /// Counts a response that is held back because the spoke does not wait.
    pub fn count_delayed_refusal(&self) {
        self.families.refusals_delayed.inc_by(1);
    }

    /// Counts a request from outside the spoke's ranges.
    pub fn count_source_range_refusal(&self) {
        self.families.source_range_refusals.inc();
    }
}

fn started_at_zero() -> Arc<SenderFamilies> {
    let sender = SenderFamilies::default();
    for protocol in [Protocol::V1, Protocol::V2] {
        sender.requests.of(Some(protocol)).start_at_zero(&CODES);
    }
    Arc::new(sender)
}
