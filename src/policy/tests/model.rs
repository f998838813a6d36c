//! The label policy a second time, slowly and in other words, to compare the real one with.

use std::collections::BTreeMap;

use prost::Message;

use crate::config::{Absent, LabelPolicy, Mismatch};
use crate::reasons::Reason;
use crate::wire::tests::mirror::{PlainLabels, PlainSeries, V1Metadata};

use super::invariants::{LIMITS, SPOKE};

/// The labels that a series leaves with, or the reasons that its refusal may give.
pub(super) fn judge(series: &PlainSeries, policy: LabelPolicy) -> Result<PlainLabels, Vec<Reason>> {
    check_strings(series)?;
    let labels = series.labels.as_ref().expect("checked with the strings");
    if labels.len() > LIMITS.labels_per_series_max {
        return Err(vec![Reason::LabelsPerSeries]);
    }
    check_names(labels)?;
    let mut map: BTreeMap<Vec<u8>, Vec<u8>> = labels.iter().cloned().collect();
    map.retain(|_, value| !value.is_empty());
    if !map.contains_key("__name__".as_bytes()) {
        return Err(vec![Reason::MissingMetricName]);
    }
    let found = map.insert(b"cluster".to_vec(), SPOKE.into());
    match found {
        None if policy.absent == Absent::Reject => return Err(vec![Reason::AbsentLabel]),
        Some(foreign) if foreign != SPOKE.as_bytes() => match policy.mismatch {
            Mismatch::Overwrite => {}
            Mismatch::Reject => return Err(vec![Reason::MismatchedLabel]),
            Mismatch::Rename => {
                let mut name = b"exported_cluster".to_vec();
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
    let exemplars = series
        .payload
        .exemplars
        .iter()
        .map(|(labels, ..)| labels.as_ref());
    for labels in exemplars.chain([series.labels.as_ref()]) {
        match labels {
            None => reasons.push(Reason::SymbolReference),
            Some(labels) => {
                let strings = labels.iter().flat_map(|(name, value)| [name, value]);
                reasons.extend(
                    strings
                        .filter(|text| !is_utf8(text))
                        .map(|_| Reason::InvalidUtf8),
                );
            }
        }
    }
    match &series.payload.metadata {
        Some((_, None)) => reasons.push(Reason::SymbolReference),
        Some((_, Some(strings))) if !strings.iter().all(|text| is_utf8(text)) => {
            reasons.push(Reason::InvalidUtf8);
        }
        _ => {}
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

/// Names that are empty or stand twice; in the order of the names, the first fault counts.
fn check_names(labels: &PlainLabels) -> Result<(), Vec<Reason>> {
    if labels.iter().any(|(name, _)| name.is_empty()) {
        return Err(vec![Reason::EmptyLabelName]);
    }
    let repeated = |name| labels.iter().filter(|(other, _)| other == name).count() > 1;
    if labels.iter().any(|(name, _)| repeated(name)) {
        return Err(vec![Reason::DuplicateLabelName]);
    }
    Ok(())
}

fn is_utf8(text: &[u8]) -> bool {
    str::from_utf8(text).is_ok()
}
