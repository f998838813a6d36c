//! Every metric of hubgate: its name, help text, type and labels, each in one place.
//!
//! A field of a struct below is a family. Its name is the name of the metric without `hubgate_` (or
//! `process_`) and without the `_total` of a counter, its doc comment is the help text, and its type
//! says the type of the metric and the labels beside those of the owner.
//!
//! A new metric is a field here and a method that counts it: in `metrics/spoke.rs`, called from
//! `write/record.rs`; in `metrics/hub.rs`, called from `forward/record.rs`; in `metrics/jwks.rs`; or in
//! `metrics.rs`. Tests then ask for its row in `docs/metrics.md` and for the golden files
//! `tests/fixtures/metrics*.txt`, which `UPDATE=1 cargo test --test gateway admin::` writes. A test also
//! counts the series of a spoke at rest: there may be thousands of spokes. A counter of a spoke with many
//! values of a label is a `LateCounter`.

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::config::Mismatch;
use crate::reasons::{AuthFailure, ConnectionRefusal, FetchResult, Limit, Reason, UNKNOWN};
use crate::wire::{Kind, Protocol};

use super::LostPart;
use super::series::{
    Bytes, Codes, Distribution, Each, FewSeconds, Label, Labels, LateCounter, Seconds, Series,
    SetNumber, SetTimestamp, Timestamp,
};

/// The name, help text and type of a metric, and how an owner's series of it are encoded.
pub(super) struct Family<Owner> {
    name: &'static str,
    help: &'static str,
    metric_type: MetricType,
    encode: fn(&Owner, &Labels<'_>, &mut MetricEncoder<'_>) -> fmt::Result,
}

/// A struct of which each field is a family.
pub(super) trait Families: Sized + 'static {
    const ALL: &'static [Family<Self>];
}

/// Encodes the families of all owners, each family in one piece. An owner comes with the labels of
/// its series.
pub(super) fn encode_families<'a, T: Families, const LABELS: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    owners: impl Iterator<Item = ([(&'static str, &'a str); LABELS], &'a T)> + Clone,
) -> fmt::Result {
    for family in T::ALL {
        let (name, help) = (family.name, family.help);
        let mut encoder = encoder.encode_descriptor(name, help, None, family.metric_type)?;
        for (labels, owner) in owners.clone() {
            (family.encode)(owner, &Labels::Owner(&labels), &mut encoder)?;
        }
    }
    Ok(())
}

/// Declares a struct of families.
macro_rules! families {
    ($(
        $(#[doc = $doc:literal])+
        struct $owner:ident {
            $($(#[doc = $help:literal])+ $field:ident: $series:ty,)+
        }
    )+) => {$(
        $(#[doc = $doc])+
        #[derive(Debug, Default)]
        pub(super) struct $owner {
            $($(#[doc = $help])+ pub(super) $field: $series,)+
        }

        impl Families for $owner {
            const ALL: &'static [Family<Self>] = &[$(Family {
                name: stringify!($field),
                help: concat!($($help),+).trim_ascii_start(),
                metric_type: <$series as Series>::TYPE,
                encode: |owner, labels, encoder| {
                    Series::encode(&owner.$field, labels, encoder)
                },
            }),+];
        }
    )+};
}

families! {
    /// The metrics of hubgate as a whole.
    struct GateFamilies {
        /// Requests to the admin port with the response 401, by what was wrong with the credential.
        admin_auth_failures: Each<AuthFailure, Counter>,
        /// Requests with the response 503 because too many passwords waited to be checked.
        auth_busy: Counter,
        /// Responses 401 that were held back because many wrong credentials came from their address.
        auth_delayed: Counter,
        /// Requests with the response 401, by what was wrong with the credential.
        auth_failures: Each<AuthFailure, Counter>,
        /// Requests with the response 503 because the keys that judge a JWT were not known.
        auth_keys_unavailable: Counter,
        /// The version of hubgate; always 1.
        build_info: Version,
        /// Bytes of the budget for bodies and decoded bytes that are in use.
        bytes_in_flight: Gauge,
        /// The budget for bodies and decoded bytes, limits.bytes_in_flight_max.
        bytes_in_flight_limit: Gauge,
        /// When a configuration was last loaded successfully.
        config_last_reload_success_timestamp_seconds: Timestamp,
        /// 1 when the last attempt to load the configuration succeeded, else 0.
        config_last_reload_successful: Gauge,
        /// Open connections of senders.
        connections: Gauge,
        /// The most open connections that senders may have: listen.connections_max, or fewer if open
        /// files are few.
        connections_limit: Gauge,
        /// Connections that were refused, or closed because of what their senders did or did not do.
        connections_refused: Each<ConnectionRefusal, Counter>,
        /// Sizes of request bodies as they were sent.
        request_body_bytes: Distribution<Bytes>,
        /// Sizes of request bodies after decompression.
        request_decoded_bytes: Distribution<Bytes>,
    }

    /// The metrics of a sender: of each spoke, and of all unidentified senders together.
    struct SenderFamilies {
        /// Requests that ended, by the status code of the response.
        requests: Each<Option<Protocol>, Codes>,
    }

    /// The metrics of a spoke, in the label `spoke`.
    struct SpokeFamilies {
        /// Series that the spoke sent in the last hour, or an estimate while not all are looked up; of
        /// spokes with the limit active_series_max.
        active_series: SetNumber,
        /// Series that became known to be active.
        active_series_created: LateCounter,
        /// 1 when all series of the spoke are looked up, so active_series is exact; 0 while it is an estimate.
        active_series_exact: SetNumber,
        /// Series whose cluster label named another spoke, by labels.mismatch, which says what became
        /// of them.
        label_mismatches: Each<Mismatch, LateCounter>,
        /// When a sample of the spoke was last written; 0 means never.
        last_write_timestamp_seconds: Timestamp,
        /// The limits of the spoke by their keys, in bytes and seconds where they have units; those
        /// that are configured or were exceeded.
        limit: Each<Limit, SetNumber>,
        /// What exceeded a limit, whether it was refused or not: requests for requests_in_flight_max,
        /// bytes_in_flight_max, samples_per_second and series_per_request_max, series for
        /// active_series_max and the limits of labels, samples and exemplars for those of times.
        limit_exceeded: Each<Limit, LateCounter>,
        /// How much of the limit is used, in its unit: now for what is in flight, over the last hour for
        /// active_series_max, over the last minute for samples_per_second, and the most of one request in the last one to two minutes.
        limit_used: Each<Limit, SetNumber>,
        /// The newest timestamp among the samples that were written; 0 means none.
        newest_sample_timestamp_seconds: Timestamp,
        /// Bytes of request bodies as they were sent.
        received_bytes: Counter,
        /// Time from the end of a request's headers to its response.
        request_duration_seconds: Distribution<FewSeconds>,
        /// Responses 503 or 429 that were held back because the spoke was refused many times a second: it does not
        /// wait as Retry-After asks.
        refusals_delayed: LateCounter,
        /// Requests that the sender marked as a retry (Retry-Attempt).
        retried_requests: Counter,
        /// Samples in requests with a 5xx response, which the sender retries.
        samples_failed: Each<Kind, Counter>,
        /// Samples in decoded requests; always written + rejected + failed.
        samples_received: Each<Kind, Counter>,
        /// Samples that hubgate or a hub refused for good.
        samples_rejected: Each<Kind, Each<Reason, LateCounter>>,
        /// Samples that were written, by any hub or by all as ack says.
        samples_written: Each<Kind, Counter>,
        /// Requests with the response 403: a good credential from outside the spoke's ranges.
        source_range_refusals: Counter,
    }

    /// The metrics of a credential, in the labels `spoke` and `credential`.
    struct CredentialFamilies {
        /// When a credential expires, its not_after; absent for one that does not.
        credential_expiry_timestamp_seconds: SetTimestamp,
        /// When a credential last identified its spoke; 0 means never.
        credential_last_used_timestamp_seconds: Timestamp,
    }

    /// The metrics of a hub, in the label `hub`.
    struct HubFamilies {
        /// Seconds by which the clock of the hub is ahead of that of hubgate, negative if it is behind; 0 while
        /// they agree within a minute, or the hub says no time.
        hub_clock_ahead_seconds: Gauge,
        /// What was left out because the hub's protocol has no place for it.
        hub_lost: Each<LostPart, Counter>,
        /// 1 for the newest protocol that the hub was found to speak, else 0.
        hub_protocol: Each<Protocol, Gauge>,
        /// Time from sending a request to the hub to the end of its response.
        hub_request_duration_seconds: Distribution<Seconds>,
        /// Requests to the hub, by status code or busy, connect_error, resent, reset, skipped,
        /// timeout, tls_error.
        hub_requests: Each<Protocol, Codes>,
        /// Requests under way to the hub.
        hub_requests_in_flight: Gauge,
        /// Most requests that the hub is sent at once at present.
        hub_requests_in_flight_limit: Gauge,
        /// Requests that wait until the hub is sent fewer.
        hub_requests_waiting: Gauge,
        /// Samples refused because the hub answered them alone with 500 and stored others in between.
        hub_samples_isolated: Each<Kind, Counter>,
        /// Samples that the hub wrote, also when the spoke got an error because of another hub.
        hub_samples_written: Each<Kind, Counter>,
        /// When the certificate ends that hubgate shows the hub; 0 means none.
        hub_tls_certificate_expiry_timestamp_seconds: Timestamp,
    }

    /// The metrics of a place that keys of an issuer are fetched from, in the label `url`.
    struct JwksFamilies {
        /// Attempts to fetch the keys of an issuer.
        jwks_fetches: Each<FetchResult, Counter>,
        /// When the keys of an issuer were last fetched; 0 means never.
        jwks_last_success_timestamp_seconds: Timestamp,
    }

    /// The metrics of a listener with TLS, in the label `listener`.
    struct ListenerFamilies {
        /// When the certificate of the listener expires.
        tls_certificate_expiry_timestamp_seconds: Timestamp,
    }

    /// What Prometheus client libraries show of a process, as `process_*`.
    struct ProcessFamilies {
        /// Total user and system CPU time spent in seconds.
        cpu_seconds: Counter<f64, AtomicU64>,
        /// Maximum number of open file descriptors.
        max_fds: Gauge<u64, AtomicU64>,
        /// Number of open file descriptors.
        open_fds: Gauge<u64, AtomicU64>,
        /// Resident memory size in bytes.
        resident_memory_bytes: Gauge<u64, AtomicU64>,
        /// Start time of the process since unix epoch in seconds.
        start_time_seconds: Gauge<f64, AtomicU64>,
        /// Number of OS threads in the process.
        threads: Gauge,
        /// Virtual memory size in bytes.
        virtual_memory_bytes: Gauge<u64, AtomicU64>,
    }
}

/// Declares the label that the values of a closed set of reasons and the like are shown in.
macro_rules! labels {
    ($($name:literal: $($values:ident),+;)+) => {$($(
        impl Label for $values {
            const NAME: &'static str = $name;
            const ALL: &'static [Self] = &Self::ALL;

            fn value(self) -> &'static str {
                self.name()
            }

            fn place(self) -> usize {
                self as usize
            }
        }
    )+)+};
}

labels! {
    "kind": Kind;
    "limit": Limit;
    "part": LostPart;
    "reason": AuthFailure, ConnectionRefusal, Reason;
    "result": FetchResult;
}

/// The policy that a cluster label with the name of another spoke meets.
impl Label for Mismatch {
    const NAME: &'static str = "policy";
    const ALL: &'static [Self] = &[Self::Overwrite, Self::Reject, Self::Rename];

    fn value(self) -> &'static str {
        self.name()
    }

    fn place(self) -> usize {
        self as usize
    }
}

impl Label for Protocol {
    const NAME: &'static str = "protocol";
    const ALL: &'static [Self] = &[Self::V1, Self::V2];

    fn value(self) -> &'static str {
        self.name()
    }

    fn place(self) -> usize {
        self as usize
    }
}

/// `None` is the protocol of a request that was refused before its headers named one.
impl Label for Option<Protocol> {
    const NAME: &'static str = Protocol::NAME;
    const ALL: &'static [Self] = &[None, Some(Protocol::V1), Some(Protocol::V2)];

    fn value(self) -> &'static str {
        self.map_or(UNKNOWN, Protocol::name)
    }

    fn place(self) -> usize {
        self.map_or(0, |protocol| 1 + protocol.place())
    }
}

/// The version of hubgate, which is a label.
#[derive(Debug, Default)]
pub(super) struct Version;

impl Series for Version {
    // OpenMetrics has the type info for this; a family of that type would be named without `_info`.
    const TYPE: MetricType = MetricType::Gauge;

    fn encode(&self, labels: &Labels<'_>, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        let labels = Labels::With(labels, "version", env!("CARGO_PKG_VERSION"));
        encoder.encode_family(&labels)?.encode_gauge(&1_u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_label_value_is_its_place_among_all() {
        fn expect<L: Label>() {
            for (place, label) in L::ALL.iter().enumerate() {
                assert_eq!(label.place(), place, "{label:?}");
            }
        }
        expect::<AuthFailure>();
        expect::<ConnectionRefusal>();
        expect::<FetchResult>();
        expect::<Kind>();
        expect::<Limit>();
        expect::<LostPart>();
        expect::<Mismatch>();
        expect::<Option<Protocol>>();
        expect::<Protocol>();
        expect::<Reason>();
    }
}
