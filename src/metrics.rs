//! What hubgate counts, and the page that shows it to a scraper.
//!
//! All names, help texts and labels are declared in `families`, and no other module names one. Label
//! values come from the configuration, from closed enums and from HTTP statuses, never from what a
//! sender writes; a sender that is not identified is the spoke `unknown`. The spoke is in the label
//! `spoke` and never in `cluster`, which kube-prometheus-stack sets itself.
//!
//! A spoke and a hub own their metrics. A request looks up nothing but its status code. A page walks
//! the spokes and hubs that are configured when it is encoded ([`Live`]), so one that left is on no
//! page, even if a late response still counts something.
//!
//! There may be thousands of spokes, and each series of a spoke costs a store of metrics as much as any
//! other. So a counter that stays at 0 for most spokes has no series before its first count. A scraper
//! does not see such a first count as a rise; where an alert must, the series exists at 0 from the
//! moment at which the configuration is loaded (`docs/metrics.md` lists them). What tells spokes apart
//! is a histogram of few buckets, and what does not is a metric of the process.
//!
//! The crate is `prometheus-client`, which writes OpenMetrics 1.0 and the text format 0.0.4 from one
//! declaration. Its histograms take a lock. A request makes three observations, each of which takes
//! about 20 ns, two of them under locks that all requests share, so atomics would gain nothing.

mod door;
mod families;
mod format;
mod hub;
mod jwks;
mod listener;
mod page;
mod process;
mod series;
mod shown;
mod spoke;
#[cfg(test)]
mod tests;

use std::fmt::{self, Debug};
use std::net::IpAddr;
use std::sync::Arc;

use http::StatusCode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use crate::reasons::{AuthFailure, ConnectionRefusal, RequestReason, UNKNOWN};
use crate::wire::{Counts, Kind};

use door::Door;
use families::{GateFamilies, SenderFamilies, encode_families};
use page::Spare;
use process::ProcessCollector;
use series::Each;

pub use door::{DoorReason, DoorRefusals};
pub use format::PageFormat;
pub use hub::{HubMetrics, LostPart};
pub use jwks::JwksMetrics;
pub use listener::ListenerMetrics;
pub use page::PageText;
pub use prometheus_client::metrics::gauge::Gauge;
pub use shown::{CredentialTimes, Durations, InUse, Requests};
pub use spoke::SpokeMetrics;

/// Status codes of requests whose sender is not identified. These exist at 0 from the start, for
/// alerts on their rate; every other code is counted as well.
const UNIDENTIFIED_CODES: [&str; 4] = ["401", "404", "405", "503"];

/// Room for a page without spokes.
const PAGE_BYTES: usize = 32 << 10;

/// Room for the series of a spoke in use, with a long name. A page that needs more grows, and so leaves
/// behind what it outgrew.
const SPOKE_BYTES: usize = 4 << 10;

/// What exists at the moment of a scrape.
pub trait Live: Debug + Send + Sync + 'static {
    /// The metrics of each spoke; names are unique.
    fn spokes(&self) -> impl Iterator<Item = &SpokeMetrics> + Clone;

    /// The metrics of each hub; names are unique.
    fn hubs(&self) -> impl Iterator<Item = &HubMetrics> + Clone;

    /// The metrics of each listener with TLS; names are unique.
    fn listeners(&self) -> impl Iterator<Item = &ListenerMetrics> + Clone;

    /// The metrics of each place that keys are fetched from; URLs are unique.
    fn jwks(&self) -> impl Iterator<Item = &JwksMetrics> + Clone;
}

/// The metrics of hubgate as a whole, and those of all senders that are not identified.
#[derive(Debug, Clone)]
pub struct Metrics {
    gate: Arc<GateFamilies>,
    unidentified: Arc<SenderFamilies>,
    door: Arc<Door>,
    spare: Spare,
}

impl Metrics {
    /// Metrics at 0.
    pub fn new() -> Self {
        let unidentified = SenderFamilies::default();
        let requests = unidentified.requests.of(None);
        requests.start_at_zero(&UNIDENTIFIED_CODES);
        Self {
            gate: Arc::default(),
            unidentified: Arc::new(unidentified),
            door: Arc::default(),
            spare: Spare::default(),
        }
    }

    /// Encodes a page of these metrics and of everything that is `live`. An error is impossible as
    /// long as every family can be encoded as text.
    pub fn encode<L: Live>(
        &self,
        format: PageFormat,
        live: Arc<L>,
    ) -> Result<PageText, fmt::Error> {
        let room = PAGE_BYTES + live.spokes().count() * SPOKE_BYTES;
        let mut registry = Registry::default();
        let page = Page {
            metrics: self.clone(),
            live,
        };
        let ours = registry.sub_registry_with_prefix("hubgate");
        ours.register_collector(Box::new(page));
        let process = registry.sub_registry_with_prefix("process");
        process.register_collector(Box::new(ProcessCollector));
        let mut page = self.spare.page(room);
        match format {
            PageFormat::OpenMetrics => text::encode(&mut page.text, &registry)?,
            PageFormat::Text => prometheus_text::encode(&mut page.text, &registry)?,
        }
        Ok(page)
    }

    /// Counts a request of a sender that was not identified.
    pub fn count_unidentified_request(&self, status: StatusCode) {
        let requests = self.unidentified.requests.of(None);
        requests.count(status.as_str());
    }

    /// Counts a sender at this address that was not identified.
    pub fn count_auth_failure(&self, reason: AuthFailure, address: IpAddr) {
        self.gate.auth_failures.of(reason).inc();
        let reason = DoorReason::Unidentified(reason);
        self.door.add(reason, Some(address));
    }

    /// Counts a sender that was not identified on the admin listener.
    pub fn count_admin_auth_failure(&self, reason: AuthFailure) {
        self.gate.admin_auth_failures.of(reason).inc();
    }

    /// Counts a request from this address that is refused because too many passwords wait to be checked.
    pub fn count_auth_busy(&self, address: IpAddr) {
        self.gate.auth_busy.inc();
        self.count_at_the_door(RequestReason::AuthBusy, address);
    }

    /// Counts a response that is held back because its sender may be guessing credentials.
    pub fn count_auth_delayed(&self) {
        self.gate.auth_delayed.inc();
    }

    /// Counts a request from this address that is refused because the keys that judge its JWT are not known.
    pub fn count_auth_keys_unavailable(&self, address: IpAddr) {
        self.gate.auth_keys_unavailable.inc();
        self.count_at_the_door(RequestReason::KeysUnavailable, address);
    }

    /// Counts a request from this address that is refused before it is known which spoke sends.
    pub fn count_at_the_door(&self, reason: RequestReason, address: IpAddr) {
        self.door.add(DoorReason::Request(reason), Some(address));
    }

    /// Counts a connection that was refused, or closed because of its sender, who is at this address as far as
    /// that is known.
    pub fn count_refused_connection(&self, reason: ConnectionRefusal, address: Option<IpAddr>) {
        self.gate.connections_refused.of(reason).inc();
        self.door.add(DoorReason::Connection(reason), address);
    }

    /// What was refused in the last hour before it was known which spoke sends, the most frequent first.
    pub fn refused_at_the_door(&self) -> Vec<DoorRefusals> {
        self.door.shown()
    }

    /// Records the sizes of a body as it was sent and after decompression, in bytes.
    pub fn record_sizes(&self, body: usize, decoded: usize) {
        self.gate.request_body_bytes.record(body as f64);
        self.gate.request_decoded_bytes.record(decoded as f64);
    }

    /// The gauge of open connections.
    pub fn connections(&self) -> &Gauge {
        &self.gate.connections
    }

    /// The gauge of bytes taken from the budget.
    pub fn bytes_in_flight(&self) -> &Gauge {
        &self.gate.bytes_in_flight
    }

    /// Shows the limits that are in force.
    pub fn record_limits(&self, bytes_in_flight_max: usize, connections_max: usize) {
        self.record_bytes_in_flight_limit(bytes_in_flight_max);
        self.gate.connections_limit.set(to_i64(connections_max));
    }

    /// Shows the limit of the budget, in bytes.
    pub fn record_bytes_in_flight_limit(&self, bytes_in_flight_max: usize) {
        let limit = &self.gate.bytes_in_flight_limit;
        limit.set(to_i64(bytes_in_flight_max));
    }

    /// Shows how loading the configuration ended.
    pub fn record_config_load(&self, success: bool) {
        self.gate.config_last_reload_successful.set(success.into());
        if success {
            let last = &self.gate.config_last_reload_success_timestamp_seconds;
            last.set_to_now();
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// What one page shows.
#[derive(Debug)]
struct Page<L> {
    metrics: Metrics,
    live: Arc<L>,
}

impl<L: Live> Collector for Page<L> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let gate = [([], &*self.metrics.gate)];
        let unidentified = [([("spoke", UNKNOWN)], &*self.metrics.unidentified)];
        let senders = self.live.spokes().map(|it| (it.labels(), &*it.sender));
        let spokes = self.live.spokes().map(|it| (it.labels(), &*it.families));
        let credentials = self.live.spokes().flat_map(SpokeMetrics::credentials);
        let hubs = self.live.hubs().map(|it| (it.labels(), &*it.families));
        encode_families(&mut encoder, gate.into_iter())?;
        encode_families(&mut encoder, unidentified.into_iter().chain(senders))?;
        encode_families(&mut encoder, spokes)?;
        encode_families(&mut encoder, credentials)?;
        encode_families(&mut encoder, hubs)?;
        let jwks = self.live.jwks().map(|it| (it.labels(), &*it.families));
        encode_families(&mut encoder, jwks)?;
        let listeners = self.live.listeners().map(|it| (it.labels(), &it.families));
        encode_families(&mut encoder, listeners)
    }
}

/// Adds to the counters of each kind.
fn add(counters: &Each<Kind, Counter>, counts: &Counts) {
    for kind in Kind::ALL {
        counters.of(kind).inc_by(counts.of(kind));
    }
}

fn to_i64(number: usize) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
