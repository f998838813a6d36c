//! Checks `limits` of a spoke and of `spoke_defaults`.
//!
//! A limit is a plain value, or a mapping of the value and of what becomes of what exceeds it. Both
//! parts may come from different places: a spoke that only says `{mode: observe}` of a limit takes its
//! value from `spoke_defaults`.

use std::time::Duration;

use super::entry::{Fields, UnknownKeys};
use super::value;
use crate::config::errors::Report;
use crate::config::{LimitAnswer, LimitMode, SpokeLimits, defaults};
use crate::reasons::Limit;

const LIMIT_KEYS: &[&str] = &["limit", "mode"];
const KEYS: &[&str] = &[
    "mode",
    "answer",
    "samples_per_second",
    "requests_in_flight_max",
    "bytes_in_flight_max",
    "active_series_max",
    "series_per_request_max",
    "labels_per_series_max",
    "label_value_bytes_max",
    "samples_age_max",
    "samples_ahead_max",
];

/// The limits of a spoke or of `spoke_defaults`. `None` means that the key was left out.
#[derive(Default)]
pub(super) struct LimitSettings {
    mode: Option<LimitMode>,
    answer: Option<LimitAnswer>,
    samples_per_second: Setting<Option<usize>>,
    requests_in_flight_max: Setting<Option<usize>>,
    bytes_in_flight_max: Setting<Option<usize>>,
    active_series_max: Setting<Option<usize>>,
    series_per_request_max: Setting<usize>,
    labels_per_series_max: Setting<usize>,
    label_value_bytes_max: Setting<usize>,
    samples_age_max: Setting<Option<Duration>>,
    samples_ahead_max: Setting<Option<Duration>>,
}

/// One limit.
struct Setting<T> {
    limit: Option<T>,
    mode: Option<LimitMode>,
}

impl<T> Default for Setting<T> {
    fn default() -> Self {
        Self {
            limit: None,
            mode: None,
        }
    }
}

impl<T: Copy> Setting<T> {
    fn check(
        report: &mut Report,
        limits: &Fields<'_>,
        limit: Limit,
        parser: impl FnOnce(&str) -> Result<T, String>,
    ) -> Self {
        let Some(entry) = limits.get(limit.name()) else {
            return Self::default();
        };
        if !entry.is_mapping() {
            return Self {
                limit: entry.parse(report, parser).ok(),
                mode: None,
            };
        }
        let fields = entry.fields(report, UnknownKeys::Shown, LIMIT_KEYS);
        Self {
            limit: fields.parse_optional(report, "limit", parser),
            mode: fields.parse_optional(report, "mode", value::limit_mode),
        }
    }

    /// Takes what was left out from `defaults`. The mode of all limits, where there is one, is nearer
    /// than those.
    fn or(self, mode: Option<LimitMode>, defaults: &Self) -> Self {
        Self {
            limit: self.limit.or(defaults.limit),
            mode: self.mode.or(mode).or(defaults.mode),
        }
    }

    /// Whether the configuration says something of it, and its mode.
    fn terms(&self) -> (bool, Option<LimitMode>) {
        (self.limit.is_some() || self.mode.is_some(), self.mode)
    }
}

impl LimitSettings {
    /// Checks the limits among the fields of a spoke or of `spoke_defaults`.
    pub(super) fn check(report: &mut Report, fields: &Fields<'_>) -> Self {
        let limits = &fields.section(report, "limits", KEYS);
        let label_value_size = value::size(defaults::BODY_BYTES_CEILING);
        let bytes = value::size_or_none(defaults::BYTES_IN_FLIGHT_CEILING);
        let (count, count_or_none) = (value::count, value::count_or_none);
        Self {
            mode: limits.parse_optional(report, "mode", value::limit_mode),
            answer: limits.parse_optional(report, "answer", value::limit_answer),
            samples_per_second: Setting::check(
                report,
                limits,
                Limit::SamplesPerSecond,
                count_or_none,
            ),
            requests_in_flight_max: Setting::check(
                report,
                limits,
                Limit::RequestsInFlight,
                count_or_none,
            ),
            bytes_in_flight_max: Setting::check(report, limits, Limit::BytesInFlight, bytes),
            active_series_max: Setting::check(report, limits, Limit::ActiveSeries, count_or_none),
            series_per_request_max: Setting::check(report, limits, Limit::SeriesPerRequest, count),
            labels_per_series_max: Setting::check(report, limits, Limit::LabelsPerSeries, count),
            label_value_bytes_max: Setting::check(
                report,
                limits,
                Limit::LabelValueBytes,
                label_value_size,
            ),
            samples_age_max: Setting::check(report, limits, Limit::SamplesAge, value::samples_age),
            samples_ahead_max: Setting::check(
                report,
                limits,
                Limit::SamplesAhead,
                value::samples_ahead,
            ),
        }
    }

    /// Takes each setting that was left out from `defaults`.
    pub(super) fn or(self, defaults: &Self) -> Self {
        let mode = self.mode;
        Self {
            mode: mode.or(defaults.mode),
            answer: self.answer.or(defaults.answer),
            samples_per_second: self
                .samples_per_second
                .or(mode, &defaults.samples_per_second),
            requests_in_flight_max: self
                .requests_in_flight_max
                .or(mode, &defaults.requests_in_flight_max),
            bytes_in_flight_max: self
                .bytes_in_flight_max
                .or(mode, &defaults.bytes_in_flight_max),
            active_series_max: self.active_series_max.or(mode, &defaults.active_series_max),
            series_per_request_max: self
                .series_per_request_max
                .or(mode, &defaults.series_per_request_max),
            labels_per_series_max: self
                .labels_per_series_max
                .or(mode, &defaults.labels_per_series_max),
            label_value_bytes_max: self
                .label_value_bytes_max
                .or(mode, &defaults.label_value_bytes_max),
            samples_age_max: self.samples_age_max.or(mode, &defaults.samples_age_max),
            samples_ahead_max: self.samples_ahead_max.or(mode, &defaults.samples_ahead_max),
        }
    }

    /// The limits of a spoke, when nothing more can be left out.
    pub(super) fn limits(&self) -> SpokeLimits {
        let default = SpokeLimits::DEFAULT;
        let all = [
            (Limit::SamplesPerSecond, self.samples_per_second.terms()),
            (Limit::RequestsInFlight, self.requests_in_flight_max.terms()),
            (Limit::BytesInFlight, self.bytes_in_flight_max.terms()),
            (Limit::ActiveSeries, self.active_series_max.terms()),
            (Limit::SeriesPerRequest, self.series_per_request_max.terms()),
            (Limit::LabelsPerSeries, self.labels_per_series_max.terms()),
            (Limit::LabelValueBytes, self.label_value_bytes_max.terms()),
            (Limit::SamplesAge, self.samples_age_max.terms()),
            (Limit::SamplesAhead, self.samples_ahead_max.terms()),
        ];
        let observes = |mode: Option<LimitMode>| mode.or(self.mode) == Some(LimitMode::Observe);
        let observed = all.iter().filter(|(_, (_, mode))| observes(*mode));
        let named = all.iter().filter(|(_, (named, _))| *named);
        SpokeLimits {
            samples_per_second: self.samples_per_second.limit.unwrap_or_default(),
            requests_in_flight_max: self.requests_in_flight_max.limit.unwrap_or_default(),
            bytes_in_flight_max: self.bytes_in_flight_max.limit.unwrap_or_default(),
            active_series_max: self.active_series_max.limit.unwrap_or_default(),
            series_per_request_max: self
                .series_per_request_max
                .limit
                .unwrap_or(default.series_per_request_max),
            labels_per_series_max: self
                .labels_per_series_max
                .limit
                .unwrap_or(default.labels_per_series_max),
            label_value_bytes_max: self
                .label_value_bytes_max
                .limit
                .unwrap_or(default.label_value_bytes_max),
            samples_age_max: self.samples_age_max.limit.unwrap_or_default(),
            samples_ahead_max: self
                .samples_ahead_max
                .limit
                .unwrap_or(default.samples_ahead_max),
            answer: self.answer.unwrap_or(default.answer),
            observed: observed.map(|(limit, _)| *limit).collect(),
            named: named.map(|(limit, _)| *limit).collect(),
        }
    }
}
