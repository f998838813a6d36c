//! What was refused in the last hour before it was known which spoke sends.

use std::cmp::Reverse;
use std::fmt::Write as _;

use super::Look;
use super::answers::AtTheDoor;
use super::fleet::Told;
use super::table::ago;
use super::wrap::wrapped;
use crate::printable::clean;
use crate::telemetry::words;

/// The columns before a remedy.
const REMEDY_COLUMNS: usize = 4;

/// What was refused there, if anything was, with what to do.
pub(super) fn text(told: &[Told], look: &Look) -> Option<String> {
    let refused = together(told);
    if refused.is_empty() {
        return None;
    }
    let mut text = "Refused in the last hour, before it was known which spoke sends:\n".to_owned();
    for it in &refused {
        let count = words::count(it.count, &clean(&it.refuses));
        let last = ago(Some(it.last_timestamp_seconds), look.now);
        let from = it.last_source_address.as_deref();
        let from = from.map_or_else(String::new, |it| format!(" from {}", clean(it)));
        let _ = writeln!(
            text,
            "  {}: {count}, the last {last}{from}",
            clean(&it.reason)
        );
        text += &wrapped(&clean(&it.remedy), REMEDY_COLUMNS, look.columns);
    }
    Some(text)
}

/// What was refused at the doors of all replicas together, the most frequent first.
fn together(told: &[Told]) -> Vec<AtTheDoor> {
    let mut merged: Vec<AtTheDoor> = Vec::new();
    for refused in told.iter().flat_map(|it| &it.status.door) {
        let same =
            |it: &&mut AtTheDoor| (&it.reason, &it.refuses) == (&refused.reason, &refused.refuses);
        let Some(known) = merged.iter_mut().find(same) else {
            merged.push(refused.clone());
            continue;
        };
        known.count += refused.count;
        if refused.last_timestamp_seconds > known.last_timestamp_seconds {
            known.last_timestamp_seconds = refused.last_timestamp_seconds;
            known
                .last_source_address
                .clone_from(&refused.last_source_address);
        }
    }
    merged.sort_by_key(|it| Reverse(it.count));
    merged
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_refused_at_the_doors_adds_up() {
        let told = |reason: &str, count: u64, last: f64, address: Option<&str>| {
            let refused = json!({
                "reason": reason, "refuses": "request", "count": count, "last_timestamp_seconds": last,
                "last_source_address": address, "remedy": "",
            });
            let status = json!({
                "summary": "", "version": "1", "timestamp_seconds": 0.0, "start_timestamp_seconds": 0.0,
                "configuration": {"errors": []}, "ahead": [], "door": [refused],
            });
            Told {
                admin: String::new(),
                status: serde_json::from_value(status).unwrap(),
                spokes: Vec::new(),
            }
        };
        let told = [
            told("missing", 4, 10.0, None),
            told("unknown", 2, 20.0, Some("192.0.2.1")),
            told("unknown", 3, 30.0, Some("192.0.2.2")),
        ];
        let together = together(&told);
        let shown: Vec<_> = together
            .iter()
            .map(|it| {
                (
                    it.reason.as_str(),
                    it.count,
                    it.last_source_address.as_deref(),
                )
            })
            .collect();
        assert_eq!(
            shown,
            [("unknown", 5, Some("192.0.2.2")), ("missing", 4, None)]
        );
    }
}
