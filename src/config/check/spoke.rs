//! Checks spokes, in the main file and in files of their own, and `spoke_defaults`.

use std::num::NonZeroU32;

use super::entry::{Entry, Fields, UnknownKeys};
use super::spoke_limits::LimitSettings;
use super::value;
use super::{Check, credential};
use crate::config::errors::{Report, Reported};
use crate::config::{Absent, Credential, LabelPolicy, Mismatch, SourceRanges, Spoke, defaults};

const KEYS: &[&str] = &[
    "name",
    "credentials",
    "source_ranges",
    "labels",
    "limits",
    "weight",
];
const LABELS_KEYS: &[&str] = &["absent", "mismatch"];

/// The keys of `spoke_defaults`: those of a spoke, except its name and credentials.
pub(super) const DEFAULTS_KEYS: &[&str] = &["source_ranges", "labels", "limits", "weight"];

/// The settings of a spoke or of `spoke_defaults`. `None` means that the key was left out.
#[derive(Default)]
pub(super) struct Settings {
    source_ranges: Option<SourceRanges>,
    absent: Option<Absent>,
    mismatch: Option<Mismatch>,
    limits: LimitSettings,
    weight: Option<NonZeroU32>,
}

impl Settings {
    /// Checks the settings among the fields of a spoke or of `spoke_defaults`.
    pub(super) fn check(report: &mut Report, fields: &Fields<'_>) -> Self {
        let labels = fields.section(report, "labels", LABELS_KEYS);
        Self {
            source_ranges: source_ranges(report, fields),
            absent: labels.parse_optional(report, "absent", value::absent),
            mismatch: labels.parse_optional(report, "mismatch", value::mismatch),
            limits: LimitSettings::check(report, fields),
            weight: fields.parse_optional(report, "weight", value::weight),
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
            limits: self.limits.or(&defaults.limits),
            weight: self.weight.or(defaults.weight),
        }
    }

    fn labels(&self) -> LabelPolicy {
        LabelPolicy {
            absent: self.absent.unwrap_or(defaults::ABSENT),
            mismatch: self.mismatch.unwrap_or(defaults::MISMATCH),
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
        limits: settings.limits.limits(),
        weight: settings.weight.unwrap_or(defaults::WEIGHT),
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
    credential::credentials(check, list, &credential::OF_SPOKE, nobody)
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
