//! The label policy a second time, slowly and in other words, to compare the real one with.
//!
//! The fuzz targets include this file.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use prost::Message;

use super::invariants::NOW;
use super::mirror::{PlainLabels, PlainSeries, V1Metadata};
use crate::config::{Absent, LabelPolicy, Mismatch, SpokeLimits};
use crate::policy::Rules;
use crate::reasons::{Limit, Reason};

/// Whose series are judged, and how.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) cluster_label: String,
    pub(crate) spoke: String,
    pub(crate) policy: LabelPolicy,
    pub(crate) limits: SpokeLimits,
}

impl Setting {
    pub(crate) fn rules(&self) -> Rules {
        Rules::new(&self.cluster_label, &self.spoke, self.policy, self.limits)
    }

    /// Without the limits of labels and times that refuse nothing.
    pub(super) fn refusing(&self) -> Self {
        let (mut limits, observed) = (self.limits, self.limits.observed);
        if observed.contains(Limit::LabelsPerSeries) {
            limits.labels_per_series_max = usize::MAX;
        }
        if observed.contains(Limit::LabelValueBytes) {
            limits.label_value_bytes_max = usize::MAX;
        }
        if observed.contains(Limit::SamplesAge) {
            limits.samples_age_max = None;
        }
        if observed.contains(Limit::SamplesAhead) {
            limits.samples_ahead_max = None;
        }
        Self {
            limits,
            ..self.clone()
        }
    }

    /// The timestamps that the limits allow.
    pub(super) fn times(&self) -> RangeInclusive<i64> {
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap();
        let (age, ahead) = (self.limits.samples_age_max, self.limits.samples_ahead_max);
        let oldest = age.map_or(i64::MIN, |age| NOW - millis(age));
        let newest = ahead.map_or(i64::MAX, |ahead| NOW + millis(ahead));
        oldest..=newest
    }
}

/// The labels that a series leaves with, or the reasons that its refusal may give.
pub(super) fn judge(series: &PlainSeries, setting: &Setting) -> Result<PlainLabels, Vec<Reason>> {
    let policy = setting.policy;
    let (cluster_label, spoke) = (setting.cluster_label.as_bytes(), setting.spoke.as_bytes());
    check_strings(series)?;
    let labels = series.labels.as_ref().expect("checked with the strings");
    if labels.len() > setting.limits.labels_per_series_max {
        return Err(vec![Reason::LabelsPerSeries]);
    }
    check_names(labels, setting.limits.label_value_bytes_max)?;
    let mut map: BTreeMap<Vec<u8>, Vec<u8>> = labels.iter().cloned().collect();
    map.retain(|_, value| !value.is_empty());
    if !map.contains_key("__name__".as_bytes()) {
        return Err(vec![Reason::MissingMetricName]);
    }
    let found = map.insert(cluster_label.to_vec(), spoke.to_vec());
    match found {
        None if policy.absent == Absent::Reject => return Err(vec![Reason::AbsentLabel]),
        Some(foreign) if foreign != spoke => match policy.mismatch {
            Mismatch::Overwrite => {}
            Mismatch::Reject => return Err(vec![Reason::MismatchedLabel]),
            Mismatch::Rename => {
                let mut name = [b"exported_", cluster_label].concat();
                while map.contains_key(&name) {
                    name.splice(0..0, *b"exported_");
                }
                map.insert(name, foreign);
            }
        },
        _ => {}
    }
    Ok(map.into_iter().collect())
}

/// True when an encoded V1 metadata entry may travel on.
pub(super) fn keeps_metadata(entry: &[u8]) -> bool {
    let entry = V1Metadata::decode(entry).expect("prost wrote it");
    let strings = [entry.metric_family_name, entry.help, entry.unit];
    strings.iter().all(|text| is_utf8(text))
}

/// Symbol references and UTF-8. Which of the two is found first depends on where they lie.
fn check_strings(series: &PlainSeries) -> Result<(), Vec<Reason>> {
    let mut reasons = Vec::new();
    match &series.labels {
        None => reasons.push(Reason::SymbolReference),
        Some(labels) => {
            let mut strings = labels.iter().flat_map(|(name, value)| [name, value]);
            if !strings.all(|text| is_utf8(text)) {
                reasons.push(Reason::InvalidUtf8);
            }
        }
    }
    // Labels of odd number are not resolved by the mirror, and may hold wrong UTF-8 as well.
    if reasons.contains(&Reason::SymbolReference) {
        reasons.push(Reason::InvalidUtf8);
    }
    if reasons.is_empty() {
        Ok(())
    } else {
        Err(reasons)
    }
}

/// Names that are empty or stand twice, and strings that are too long; in the order of the names, the
/// first fault counts.
fn check_names(labels: &PlainLabels, bytes_max: usize) -> Result<(), Vec<Reason>> {
    if labels.iter().any(|(name, _)| name.is_empty()) {
        return Err(vec![Reason::EmptyLabelName]);
    }
    let mut of_name: BTreeMap<&[u8], Vec<&[u8]>> = BTreeMap::new();
    for (name, value) in labels {
        of_name.entry(name).or_default().push(value);
    }
    for (name, values) in of_name {
        let mut reasons = Vec::new();
        if values
            .iter()
            .any(|value| name.len().max(value.len()) > bytes_max)
        {
            reasons.push(Reason::LabelLength);
        }
        // Which of the labels of a name is the first is not said.
        if values.len() > 1 {
            reasons.push(Reason::DuplicateLabelName);
        }
        if !reasons.is_empty() {
            return Err(reasons);
        }
    }
    Ok(())
}

fn is_utf8(text: &[u8]) -> bool {
    str::from_utf8(text).is_ok()
}
