//! Every closed "why": its name in metrics, log lines, responses and documentation, and advice where
//! that needs no details of the case.
//!
//! All of them take the names from here, so that an operator finds the same word everywhere.

mod auth_failure;
mod limit;

pub use auth_failure::AuthFailure;
pub use limit::Limit;

/// The label value for what is not known: the spoke of a sender that is not identified, the
/// protocol of a request that was refused before its headers named one.
pub const UNKNOWN: &str = "unknown";

/// Why a connection was refused, or closed because of what its sender did or did not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionRefusal {
    /// `connections_max` are open, and none of them gives way.
    ConnectionsMax,
    /// `connections_per_address_max` are open from its address, and none of them gives way.
    ConnectionsPerAddressMax,
    /// As many were open as may be, of all or of its address, and this one gave way to a new one.
    Evicted,
    /// The head of a request did not arrive in time.
    HeaderTimeout,
    /// The peer sent many HTTP/2 frames without a request.
    Http2Flood,
    /// The connection had no request for longer than senders keep idle connections.
    IdleTimeout,
    /// The head of a request can be read in two ways, or has not one Host.
    MalformedHead,
    /// After a reload, or the end of the client's certificate, the connection could not begin as it did.
    Outdated,
    /// The peer sent HTTP where TLS is spoken.
    PlainHttp,
    /// There is no PROXY protocol header, it cannot be read, or it did not arrive in time.
    ProxyHeader,
    /// The peer is outside `listen.source_ranges`.
    SourceRange,
    /// The TLS handshake failed.
    TlsHandshake,
    /// The TLS handshake took too long.
    TlsHandshakeTimeout,
    /// A PROXY protocol header is required, and the peer is not among `listen.trusted_proxies`.
    UntrustedProxy,
}

impl ConnectionRefusal {
    /// All of them, in the order of their names.
    pub const ALL: [Self; 14] = [
        Self::ConnectionsMax,
        Self::ConnectionsPerAddressMax,
        Self::Evicted,
        Self::HeaderTimeout,
        Self::Http2Flood,
        Self::IdleTimeout,
        Self::MalformedHead,
        Self::Outdated,
        Self::PlainHttp,
        Self::ProxyHeader,
        Self::SourceRange,
        Self::TlsHandshake,
        Self::TlsHandshakeTimeout,
        Self::UntrustedProxy,
    ];

    /// The value of the label `reason` of `hubgate_connections_refused_total`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConnectionsMax => "connections_max",
            Self::ConnectionsPerAddressMax => "connections_per_address_max",
            Self::Evicted => "evicted",
            Self::HeaderTimeout => "header_timeout",
            Self::Http2Flood => "http2_flood",
            Self::IdleTimeout => "idle_timeout",
            Self::MalformedHead => "malformed_head",
            Self::Outdated => "outdated",
            Self::PlainHttp => "plain_http",
            Self::ProxyHeader => "proxy_header",
            Self::SourceRange => "source_range",
            Self::TlsHandshake => "tls_handshake",
            Self::TlsHandshakeTimeout => "tls_handshake_timeout",
            Self::UntrustedProxy => "untrusted_proxy",
        }
    }
}

/// How an attempt to fetch the keys of an issuer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchResult {
    /// The keys were not fetched; those of before stay in force.
    Failure,
    /// They are in force.
    Success,
}

impl FetchResult {
    /// Both, in the order of their names.
    pub const ALL: [Self; 2] = [Self::Failure, Self::Success];

    /// The value of the label `result` of `hubgate_jwks_fetches_total`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Success => "success",
        }
    }
}

/// Why a whole request was refused or failed; the log and `/api/v1/spokes` show its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestReason {
    /// Too many password checks wait.
    AuthBusy,
    /// The body is not framed as HTTP asks for.
    BodyFraming,
    /// The body did not arrive in time.
    BodyTimeout,
    /// The body is over `limits.body_bytes_max`.
    BodyTooLarge,
    /// The connection broke within the body.
    BodyTruncated,
    /// The requests of the spoke hold what `limits.bytes_in_flight_max` of the spoke allows.
    BytesInFlight,
    /// The time decides, and the clock of hubgate may be wrong.
    ClockInDoubt,
    /// The Content-Encoding is not snappy.
    ContentEncoding,
    /// The Content-Type is not a remote-write message.
    ContentType,
    /// The body is over `limits.decoded_bytes_max` after decompression.
    DecodedTooLarge,
    /// hubgate drains, and the request has not arrived.
    Draining,
    /// `X-Forwarded-For` of a trusted proxy does not say where the request comes from.
    ForwardedFor,
    /// No hub took the request, and the spoke sends it again.
    HubFailed,
    /// hubgate has a fault.
    Internal,
    /// The keys that judge a JWT are not known.
    KeysUnavailable,
    /// The body is not the message that the headers name.
    Malformed,
    /// The method is not POST.
    MethodNotAllowed,
    /// The path takes no writes.
    NotFound,
    /// The budget for bytes in flight is taken.
    Overloaded,
    /// The spoke sent more samples than `samples_per_second` allows.
    RateLimited,
    /// The spoke has as many requests under way as `requests_in_flight_max` allows.
    RequestsInFlight,
    /// The body is not a snappy block.
    Snappy,
    /// The address is outside the source ranges of the spoke or of the listener.
    SourceRange,
    /// A JWT is valid from a later time on.
    TokenNotYetValid,
    /// The sender is not identified; [`AuthFailure`] says why.
    Unauthenticated,
    /// The body holds only fields of another message.
    WrongMessage,
}

impl RequestReason {
    /// All of them, in the order of their names.
    pub const ALL: [Self; 26] = [
        Self::AuthBusy,
        Self::BodyFraming,
        Self::BodyTimeout,
        Self::BodyTooLarge,
        Self::BodyTruncated,
        Self::BytesInFlight,
        Self::ClockInDoubt,
        Self::ContentEncoding,
        Self::ContentType,
        Self::DecodedTooLarge,
        Self::Draining,
        Self::ForwardedFor,
        Self::HubFailed,
        Self::Internal,
        Self::KeysUnavailable,
        Self::Malformed,
        Self::MethodNotAllowed,
        Self::NotFound,
        Self::Overloaded,
        Self::RateLimited,
        Self::RequestsInFlight,
        Self::Snappy,
        Self::SourceRange,
        Self::TokenNotYetValid,
        Self::Unauthenticated,
        Self::WrongMessage,
    ];

    /// The name that responses, the log and `/api/v1/spokes` use.
    pub fn name(self) -> &'static str {
        match self {
            Self::AuthBusy => "auth_busy",
            Self::BodyFraming => "body_framing",
            Self::BodyTimeout => "body_timeout",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyTruncated => "body_truncated",
            Self::BytesInFlight => "bytes_in_flight",
            Self::ClockInDoubt => "clock_in_doubt",
            Self::ContentEncoding => "content_encoding",
            Self::ContentType => "content_type",
            Self::DecodedTooLarge => "decoded_too_large",
            Self::Draining => "draining",
            Self::ForwardedFor => "forwarded_for",
            Self::HubFailed => "hub_failed",
            Self::Internal => "internal",
            Self::KeysUnavailable => "keys_unavailable",
            Self::Malformed => "malformed",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::NotFound => "not_found",
            Self::Overloaded => "overloaded",
            Self::RateLimited => "rate_limited",
            Self::RequestsInFlight => "requests_in_flight",
            Self::Snappy => "snappy",
            Self::SourceRange => "source_range",
            Self::TokenNotYetValid => "token_not_yet_valid",
            Self::Unauthenticated => "unauthenticated",
            Self::WrongMessage => "wrong_message",
        }
    }
}

/// Why a series, a metadata entry or a sample of a request was refused; the neighbours were not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The cluster label is absent and the policy says `absent: reject`.
    AbsentLabel,
    /// The series is new, and as many are active as `active_series_max` allows.
    ActiveSeries,
    /// A label name stands twice.
    DuplicateLabelName,
    /// A label without a name.
    EmptyLabelName,
    /// The hub refused it, and its text says why.
    Hub,
    /// The version that the hub speaks cannot hold it.
    HubProtocol,
    /// The numbers of a histogram do not fit together; the example says what is wrong.
    InvalidHistogram,
    /// A string that is not UTF-8.
    InvalidUtf8,
    /// A label name or value is longer than `label_value_bytes_max`, or the names of the request
    /// are longer together than its series limit allows for.
    LabelLength,
    /// The series has more labels than `labels_per_series_max`.
    LabelsPerSeries,
    /// The cluster label names another spoke.
    MismatchedLabel,
    /// No `__name__`, or an empty one.
    MissingMetricName,
    /// A label gives its name or its value twice.
    RepeatedLabelField,
    /// The request has more series, or metadata entries, than `series_per_request_max`.
    SeriesPerRequest,
    /// A V2 symbol reference out of range, or an odd number of them.
    SymbolReference,
    /// The request has more symbols than its series limit allows for.
    SymbolsPerRequest,
    /// The timestamp is later than the time of the request by more than `samples_ahead_max`.
    TooFarInFuture,
    /// The timestamp is earlier than the time of the request by more than `samples_age_max`.
    TooOld,
}

impl Reason {
    /// All reasons, in the order of their names.
    pub const ALL: [Self; 18] = [
        Self::AbsentLabel,
        Self::ActiveSeries,
        Self::DuplicateLabelName,
        Self::EmptyLabelName,
        Self::Hub,
        Self::HubProtocol,
        Self::InvalidHistogram,
        Self::InvalidUtf8,
        Self::LabelLength,
        Self::LabelsPerSeries,
        Self::MismatchedLabel,
        Self::MissingMetricName,
        Self::RepeatedLabelField,
        Self::SeriesPerRequest,
        Self::SymbolReference,
        Self::SymbolsPerRequest,
        Self::TooFarInFuture,
        Self::TooOld,
    ];

    /// The value of the label `reason` of `hubgate_samples_rejected_total`.
    pub fn name(self) -> &'static str {
        match self {
            Self::AbsentLabel => "absent_label",
            Self::ActiveSeries => "active_series",
            Self::DuplicateLabelName => "duplicate_label_name",
            Self::EmptyLabelName => "empty_label_name",
            Self::Hub => "hub",
            Self::HubProtocol => "hub_protocol",
            Self::InvalidHistogram => "invalid_histogram",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::LabelLength => "label_length",
            Self::LabelsPerSeries => "labels_per_series",
            Self::MismatchedLabel => "mismatched_label",
            Self::MissingMetricName => "missing_metric_name",
            Self::RepeatedLabelField => "repeated_label_field",
            Self::SeriesPerRequest => "series_per_request",
            Self::SymbolReference => "symbol_reference",
            Self::SymbolsPerRequest => "symbols_per_request",
            Self::TooFarInFuture => "too_far_in_future",
            Self::TooOld => "too_old",
        }
    }

    /// What the people behind the spoke can do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::AbsentLabel => "set it in external_labels of the spoke, or labels.absent: inject",
            Self::ActiveSeries => {
                "drop labels of the metrics that grow, or raise limits.active_series_max"
            }
            Self::DuplicateLabelName => "a label name may stand once in a series",
            Self::EmptyLabelName => "every label needs a name",
            Self::Hub => "the hub says why",
            Self::HubProtocol => "the remote write that the hub speaks has no place for it",
            Self::InvalidHistogram => "its numbers do not fit together; check the sender",
            Self::InvalidUtf8 => "strings must be UTF-8",
            Self::LabelLength => {
                "shorten label names and values or raise limits.label_value_bytes_max"
            }
            Self::LabelsPerSeries => "drop labels or raise limits.labels_per_series_max",
            Self::MismatchedLabel => {
                "set it in external_labels to the name of this spoke, drop or rename it in targets, or set \
                 labels.mismatch: rename"
            }
            Self::MissingMetricName => "every series needs the label __name__",
            Self::RepeatedLabelField => "a label may give its name and its value once",
            Self::SeriesPerRequest => {
                "lower max_samples_per_send at the spoke or raise limits.series_per_request_max"
            }
            Self::SymbolReference => "references must be pairs within the symbol table",
            Self::SymbolsPerRequest => {
                "lower max_samples_per_send at the spoke or raise limits.series_per_request_max"
            }
            Self::TooFarInFuture => "check the clocks, or raise limits.samples_ahead_max",
            Self::TooOld => "check the clocks and the backlog, or raise limits.samples_age_max",
        }
    }

    /// True when the time of the request decides.
    pub fn is_of_time(self) -> bool {
        matches!(self, Self::TooFarInFuture | Self::TooOld)
    }

    /// True when it refuses single samples, histograms and exemplars, and not whole series.
    pub fn is_of_samples(self) -> bool {
        match self {
            Self::Hub
            | Self::HubProtocol
            | Self::InvalidHistogram
            | Self::TooFarInFuture
            | Self::TooOld => true,
            Self::AbsentLabel
            | Self::ActiveSeries
            | Self::DuplicateLabelName
            | Self::EmptyLabelName
            | Self::InvalidUtf8
            | Self::LabelLength
            | Self::LabelsPerSeries
            | Self::MismatchedLabel
            | Self::MissingMetricName
            | Self::RepeatedLabelField
            | Self::SeriesPerRequest
            | Self::SymbolReference
            | Self::SymbolsPerRequest => false,
        }
    }
}

/// Why there is no response of a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HubFailure {
    /// The hub was not asked, since a place among the requests to it would come too late.
    #[error("the hub has too much to do")]
    Busy {
        /// When to try again, in seconds.
        seconds: u64,
    },
    /// No connection could be made.
    #[error("the hub cannot be reached")]
    Connect,
    /// The connection broke before the response was whole.
    #[error("the connection to the hub broke")]
    Reset,
    /// The hub was not asked, since too many requests wait for it.
    #[error("too many requests wait for the hub")]
    Skipped,
    /// The response did not arrive in time.
    #[error("the hub did not answer in time")]
    Timeout,
    /// TLS could not be agreed on, or one side does not trust the other.
    #[error("hubgate and the hub do not agree on TLS")]
    Tls,
}

impl HubFailure {
    /// The value of the label `code` of `hubgate_hub_requests_total`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Busy { .. } => "busy",
            Self::Connect => "connect_error",
            Self::Reset => "reset",
            Self::Skipped => "skipped",
            Self::Timeout => "timeout",
            Self::Tls => "tls_error",
        }
    }
}
