//! The limits of a spoke, and what becomes of what exceeds them.

use std::time::Duration;

use crate::reasons::Limit;

use super::defaults;

/// `limits` of a spoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpokeLimits {
    /// Maximum number of samples in a second, over all requests; `None` for no limit.
    pub samples_per_second: Option<usize>,
    /// Maximum number of requests under way; `None` for no limit.
    pub requests_in_flight_max: Option<usize>,
    /// Maximum of what its requests hold of the budget, in bytes; `None` for no limit.
    pub bytes_in_flight_max: Option<usize>,
    /// Maximum number of active series, over all requests; `None` for no limit.
    pub active_series_max: Option<usize>,
    /// Maximum number of series in a request.
    pub series_per_request_max: usize,
    /// Maximum number of labels of a series.
    pub labels_per_series_max: usize,
    /// Maximum length of a label name or value, in bytes.
    pub label_value_bytes_max: usize,
    /// Maximum time by which a sample may be behind the time of its request; `None` for no limit.
    pub samples_age_max: Option<Duration>,
    /// Maximum time by which a sample may be ahead of the time of its request; `None` for no limit.
    pub samples_ahead_max: Option<Duration>,
    /// The status of a request that would pass later.
    pub answer: LimitAnswer,
    /// The limits that refuse nothing.
    pub observed: LimitSet,
    /// The limits that the configuration of the spoke or `spoke_defaults` names.
    pub named: LimitSet,
}

impl SpokeLimits {
    /// The limits of a spoke whose configuration says nothing of them. No number of samples, requests, bytes
    /// or active series fits all spokes: a Prometheus with 200 shards has 200 requests under way when it catches up,
    /// and a pair of them has twice as many. Nor does an age: a spoke catches up with hours.
    pub const DEFAULT: Self = Self {
        samples_per_second: None,
        requests_in_flight_max: None,
        bytes_in_flight_max: None,
        active_series_max: None,
        series_per_request_max: defaults::SERIES_PER_REQUEST_MAX,
        labels_per_series_max: defaults::LABELS_PER_SERIES_MAX,
        label_value_bytes_max: defaults::LABEL_VALUE_BYTES_MAX,
        samples_age_max: None,
        samples_ahead_max: Some(defaults::SAMPLES_AHEAD_MAX),
        answer: defaults::LIMIT_ANSWER,
        observed: LimitSet::EMPTY,
        named: LimitSet::EMPTY,
    };

    /// What becomes of what exceeds a limit.
    pub fn mode(&self, limit: Limit) -> LimitMode {
        match self.observed.contains(limit) {
            true => LimitMode::Observe,
            false => LimitMode::Enforce,
        }
    }

    /// [`samples_age_max`](Self::samples_age_max) in milliseconds.
    pub fn samples_age_millis(&self) -> Option<i64> {
        self.samples_age_max?.as_millis().try_into().ok()
    }

    /// [`samples_ahead_max`](Self::samples_ahead_max) in milliseconds.
    pub fn samples_ahead_millis(&self) -> Option<i64> {
        self.samples_ahead_max?.as_millis().try_into().ok()
    }

    /// A limit as a number, in seconds where it is a time; `None` for no limit.
    pub fn number(&self, limit: Limit) -> Option<f64> {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        let count = match limit {
            Limit::ActiveSeries => self.active_series_max?,
            Limit::BytesInFlight => self.bytes_in_flight_max?,
            Limit::LabelValueBytes => self.label_value_bytes_max,
            Limit::LabelsPerSeries => self.labels_per_series_max,
            Limit::RequestsInFlight => self.requests_in_flight_max?,
            Limit::SamplesAge => return seconds(self.samples_age_max),
            Limit::SamplesAhead => return seconds(self.samples_ahead_max),
            Limit::SamplesPerSecond => self.samples_per_second?,
            Limit::SeriesPerRequest => self.series_per_request_max,
        };
        Some(count as f64)
    }
}

/// `limits.answer`: the status of a request that would pass later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitAnswer {
    /// 503, after which every sender sends the request again.
    ServiceUnavailable,
    /// 429, after which a Prometheus sends the request again only with `retry_on_http_429`.
    TooManyRequests,
}

/// `mode` of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitMode {
    /// What exceeds it is refused.
    Enforce,
    /// What exceeds it is counted.
    Observe,
}

impl LimitMode {
    /// The name in the configuration and in `/api/v1/spokes`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        }
    }
}

/// Some of the limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimitSet(u16);

impl LimitSet {
    /// None of them.
    pub const EMPTY: Self = Self(0);

    /// The set with one more limit.
    #[must_use]
    pub const fn with(self, limit: Limit) -> Self {
        Self(self.0 | (1 << limit as u16))
    }

    /// True when a limit is in it.
    pub const fn contains(self, limit: Limit) -> bool {
        self.0 & (1 << limit as u16) != 0
    }
}

impl FromIterator<Limit> for LimitSet {
    fn from_iter<I: IntoIterator<Item = Limit>>(limits: I) -> Self {
        limits.into_iter().fold(Self::EMPTY, Self::with)
    }
}
