//! Checks spokes, in the main file and in files of their own, and `spoke_defaults`.

use std::time::Duration;

use super::entry::{Entry, Fields, UnknownKeys};
use super::value;
use super::{Check, credential};
use crate::config::errors::{Report, Reported};
use crate::config::{
    Absent, Credential, LabelPolicy, Mismatch, SourceRanges, Spoke, SpokeLimits, defaults,
};

const KEYS: &[&str] = &["name", "credentials", "source_ranges", "labels", "limits"];
const LABELS_KEYS: &[&str] = &["absent", "mismatch"];
const LIMITS_KEYS: &[&str] = &[
    "series_per_request_max",
    "labels_per_series_max",
    "label_value_bytes_max",
    "samples_ahead_max",
];

/// The keys of `spoke_defaults`: those of a spoke, except its name and credentials.
pub(super) const DEFAULTS_KEYS: &[&str] = &["source_ranges", "labels", "limits"];

/// The settings of a spoke or of `spoke_defaults`. `None` means that the key was left out.
#[derive(Default)]
pub(super) struct Settings {
    source_ranges: Option<SourceRanges>,
    absent: Option<Absent>,
    mismatch: Option<Mismatch>,
    series_per_request_max: Option<usize>,
    labels_per_series_max: Option<usize>,
    label_value_bytes_max: Option<usize>,
    /// 0 for no limit.
    samples_ahead_max: Option<Duration>,
}

impl Settings {
    /// Checks the settings among the fields of a spoke or of `spoke_defaults`.
    pub(super) fn check(report: &mut Report, fields: &Fields<'_>) -> Self {
        let labels = fields.section(report, "labels", LABELS_KEYS);
        let limits = fields.section(report, "limits", LIMITS_KEYS);
        let label_value_size = value::size(defaults::BODY_BYTES_CEILING);
        Self {
            source_ranges: source_ranges(report, fields),
            absent: labels.parse_optional(report, "absent", value::absent),
            mismatch: labels.parse_optional(report, "mismatch", value::mismatch),
            series_per_request_max: limits.parse_optional(
                report,
                "series_per_request_max",
                value::count,
            ),
            labels_per_series_max: limits.parse_optional(
                report,
                "labels_per_series_max",
                value::count,
            ),
            label_value_bytes_max: limits.parse_optional(
                report,
                "label_value_bytes_max",
                label_value_size,
            ),
            samples_ahead_max: limits.parse_optional(
                report,
                "samples_ahead_max",
                value::samples_ahead,
            ),
        }
    }

    /// Takes each setting that was left out from `defaults`.
    fn or(self, defaults: &Self) -> Self {
        Self {
            source_ranges: self
                .source_ranges
                .or_else(|| defaults.source_ranges.clone()),
            absent: self.absent.or(defaults.absent),
            mismatch: self.mismatch.or(defaults.mismatch),
            series_per_request_max: self
                .series_per_request_max
                .or(defaults.series_per_request_max),
            labels_per_series_max: self
                .labels_per_series_max
                .or(defaults.labels_per_series_max),
            label_value_bytes_max: self
                .label_value_bytes_max
                .or(defaults.label_value_bytes_max),
            samples_ahead_max: self.samples_ahead_max.or(defaults.samples_ahead_max),
        }
    }

    fn labels(&self) -> LabelPolicy {
        LabelPolicy {
            absent: self.absent.unwrap_or(defaults::ABSENT),
            mismatch: self.mismatch.unwrap_or(defaults::MISMATCH),
        }
    }

    fn limits(&self) -> SpokeLimits {
        let samples_ahead_max = self.samples_ahead_max;
        let samples_ahead_max = samples_ahead_max.unwrap_or(defaults::SAMPLES_AHEAD_MAX);
        SpokeLimits {
            series_per_request_max: self
                .series_per_request_max
                .unwrap_or(defaults::SERIES_PER_REQUEST_MAX),
            labels_per_series_max: self
                .labels_per_series_max
                .unwrap_or(defaults::LABELS_PER_SERIES_MAX),
            label_value_bytes_max: self
                .label_value_bytes_max
                .unwrap_or(defaults::LABEL_VALUE_BYTES_MAX),
            samples_ahead_max: Some(samples_ahead_max).filter(|ahead| !ahead.is_zero()),
        }
    }
}

/// Checks one spoke.
pub(super) fn spoke(
    check: &mut Check<'_>,
    entry: &Entry<'_>,
    defaults: &Settings,
) -> Result<Spoke, Reported> {
    let fields = entry.fields(&mut check.report, UnknownKeys::Shown, KEYS);
    let name = name(check, &fields);
    let credentials = credentials(check, &fields);
    let settings = Settings::check(&mut check.report, &fields).or(defaults);
    Ok(Spoke {
        name: name?,
        credentials: credentials?,
        labels: settings.labels(),
        limits: settings.limits(),
        source_ranges: settings
            .source_ranges
            .unwrap_or_else(SourceRanges::everywhere),
    })
}

fn name(check: &mut Check<'_>, fields: &Fields<'_>) -> Result<String, Reported> {
    let entry = fields.require(&mut check.report, "name")?;
    let name = entry.parse(&mut check.report, value::spoke_name)?;
    check
        .unique
        .claim_spoke_name(&mut check.report, entry, &name)?;
    Ok(name)
}

fn credentials(check: &mut Check<'_>, fields: &Fields<'_>) -> Result<Vec<Credential>, Reported> {
    let list = fields.require(&mut check.report, "credentials")?;
    let nobody = "is empty, so nobody could write as this spoke; `hubgate token` makes a token";
    credential::credentials(check, list, credential::KINDS, nobody)
}

/// Checks `source_ranges`, which means the same for the listener and for a spoke.
///
/// An empty list is an error. It could mean no address or every address; either meaning would
/// surprise someone, and the second one would let everybody in.
pub(super) fn source_ranges(report: &mut Report, fields: &Fields<'_>) -> Option<SourceRanges> {
    let list = fields.get("source_ranges")?;
    let items = list.items(report).ok()?;
    if items.is_empty() {
        list.fail(report, "is empty; leave the key out to allow every address");
        return None;
    }
    let ranges: Vec<_> = items
        .iter()
        .map(|item| item.parse(report, value::range))
        .collect();
    ranges.into_iter().collect::<Result<_, _>>().ok()
}
