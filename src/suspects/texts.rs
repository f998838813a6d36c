//! What a hub's text says of a fault. Texts shorten the way to a refusal, or close it; no refusal
//! needs one.

/// What a text complains of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Complaint {
    /// The hub takes no native histograms.
    HistogramsDisabled,
    /// A native histogram that does not add up.
    Histogram,
    /// A sample that its series cannot take, whatever the time is.
    Sample,
    /// A sample that is older than what the hub takes. The hub compares with its newest sample, which
    /// another sender may have put far ahead.
    Time,
    /// A part of the hub is out of reach for a while.
    Outage,
    /// Anything else.
    Other,
}

/// What receivers say, in lower case: Prometheus 2.42 to 3.x (`tsdb/head_append.go`,
/// `model/histogram`), Thanos, Cortex and Mimir, M3, VictoriaMetrics. The first that is found counts.
const TEXTS: &[(&str, Complaint)] = &[
    (
        "native histograms are disabled",
        Complaint::HistogramsDisabled,
    ),
    (
        "histogram ingestion is disabled",
        Complaint::HistogramsDisabled,
    ),
    ("unavailable", Complaint::Outage),
    ("deadline exceeded", Complaint::Outage),
    ("timed out", Complaint::Outage),
    ("timeout", Complaint::Outage),
    ("context canceled", Complaint::Outage),
    ("connection refused", Complaint::Outage),
    ("connection reset", Complaint::Outage),
    ("no such host", Complaint::Outage),
    ("no space left", Complaint::Outage),
    ("live replicas", Complaint::Outage),
    ("quorum", Complaint::Outage),
    ("not ready", Complaint::Outage),
    ("shutting down", Complaint::Outage),
    ("too many concurrent", Complaint::Outage),
    ("too many inflight", Complaint::Outage),
    ("too many open files", Complaint::Outage),
    ("too many outstanding", Complaint::Outage),
    ("too many requests", Complaint::Outage),
    ("rate limit", Complaint::Outage),
    ("histogram has a", Complaint::Histogram),
    ("histogram spans", Complaint::Histogram),
    ("histogram's", Complaint::Histogram),
    ("histogram custom", Complaint::Histogram),
    ("invalid histogram", Complaint::Histogram),
    ("native histogram", Complaint::Histogram),
    ("too far in past", Complaint::Time),
    ("too far in the past", Complaint::Time),
    ("too old", Complaint::Time),
    ("out of bounds", Complaint::Time),
    ("out-of-bounds", Complaint::Time),
    ("is not unique", Complaint::Sample),
    ("out of order", Complaint::Sample),
    ("out-of-order", Complaint::Sample),
    ("duplicate sample", Complaint::Sample),
];

/// Most characters of a text that tell it from others.
const FINGERPRINT_CHARS: usize = 120;

impl Complaint {
    /// What `text` complains of.
    pub fn of(text: &str) -> Self {
        let text = without_series(text).to_lowercase();
        let found = TEXTS.iter().find(|(part, _)| text.contains(part));
        found.map_or(Self::Other, |(_, complaint)| *complaint)
    }
}

/// True when a 400 with this text compares a sample with the newest of the hub, as Prometheus does.
pub fn compares_with_newest(text: &str) -> bool {
    let text = without_series(text).to_lowercase();
    let future = text.contains("future");
    !future && (text.contains("out of bounds") || text.contains("too old"))
}

/// A text without the names and labels of series: these are the spoke's words, and not the hub's.
fn without_series(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        kept.push_str(before);
        rest = if starts_labels(after) {
            // The text may be cut off.
            after.split_once("\"}").map_or("", |(_, rest)| rest)
        } else {
            after
        };
    }
    kept.push_str(rest);
    let is_end = |it: char| !it.is_alphanumeric() && it != '_' && it != ':';
    let words = kept.split_inclusive(is_end);
    words.filter(|word| !word.contains('_')).collect()
}

/// True for what follows the brace of a label set: a name and `=`. In JSON, a quote follows.
fn starts_labels(text: &str) -> bool {
    let name = text.split_once('=').map_or("", |(name, _)| name);
    let is_name = |it: char| it.is_ascii_alphanumeric() || it == '_';
    !name.is_empty() && name.chars().all(is_name)
}

/// Texts with fewer letters, and these, say nothing of what is wrong.
const TELLING_CHARS_MIN: usize = 8;
const UNTELLING: &[&str] = &["internalservererror", "internalerror"];

/// True for a fingerprint that tells what is wrong, so that it may be about other series as well.
pub(super) fn is_telling(fingerprint: &str) -> bool {
    fingerprint.len() >= TELLING_CHARS_MIN && !UNTELLING.contains(&fingerprint)
}

/// What stays the same in a text from sample to sample: its letters, outside of braces and quotes.
pub(super) fn fingerprint(text: &str) -> String {
    let mut depth = 0_usize;
    let mut quoted = false;
    let mut kept = String::new();
    for character in text.chars() {
        match character {
            '"' => quoted = !quoted,
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            _ if quoted || depth > 0 => {}
            _ if character.is_alphabetic() && kept.len() < FINGERPRINT_CHARS => {
                kept.extend(character.to_lowercase());
            }
            _ => {}
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_receivers_are_known() {
        use Complaint::{Histogram, HistogramsDisabled, Other, Outage, Sample, Time};
        let rows = [
            ("native histograms are disabled", HistogramsDisabled),
            ("Native Histograms are disabled", HistogramsDisabled),
            ("too old sample", Time),
            ("2 errors: too old sample", Time),
            (
                "the sample has been rejected because its timestamp is too old",
                Time,
            ),
            ("out of bounds", Time),
            ("datapoint is too far in past: datapoint timestamp", Time),
            ("out of order sample", Sample),
            ("datapoint timestamp is not unique", Sample),
            (
                "histogram has a bucket whose observation count is negative",
                Histogram,
            ),
            (
                "histogram spans specify different number of buckets than provided",
                Histogram,
            ),
            (
                "histogram's observation count should be at least the number of",
                Histogram,
            ),
            (
                "rpc error: code = Unavailable desc = connection error",
                Outage,
            ),
            (
                "at least 2 live replicas required, could only find 1",
                Outage,
            ),
            ("write /data/wal/0001: no space left on device", Outage),
            ("context deadline exceeded", Outage),
            ("pipe: too many open files", Outage),
            ("the series has too many labels", Other),
            ("histogram has a count for too many buckets", Histogram),
            ("boom", Other),
            ("", Other),
        ];
        for (text, expected) in rows {
            assert_eq!(Complaint::of(text), expected, "{text}");
        }
    }

    #[test]
    fn names_and_labels_of_series_say_nothing() {
        use Complaint::{Other, Outage, Sample, Time};
        let rows = [
            (
                r#"cannot take {__name__="http_timeout_total", reason="quorum"}"#,
                Other,
            ),
            (r#"too old sample for up{reason="timeout"}"#, Time),
            (
                r#"{"error":"out of order sample for {reason=\"timeout\"}"}"#,
                Sample,
            ),
            ("out of order sample for http_timeout_total", Sample),
            (r#"out of order sample for {reason="unavail"#, Sample),
            (r#"timeout at up{job="a"}"#, Outage),
            (r#"up{job="a"}: timeout"#, Outage),
            (r#"{"error":"timeout"}"#, Outage),
        ];
        for (text, expected) in rows {
            assert_eq!(Complaint::of(text), expected, "{text}");
        }
        assert!(compares_with_newest(r#"out of bounds {time="future"}"#));
    }

    #[test]
    fn only_texts_about_the_newest_sample_excuse_a_400() {
        let rows = [
            ("out of bounds", true),
            ("too old sample", true),
            ("out of bounds: timestamp is too far in the future", false),
            ("out of order sample", false),
            ("datapoint is too far in past", false),
        ];
        for (text, expected) in rows {
            assert_eq!(compares_with_newest(text), expected, "{text}");
        }
    }

    #[test]
    fn a_fingerprint_leaves_out_what_changes_from_sample_to_sample() {
        let one = fingerprint(r#"cannot take up{job="a"} at 1700000000000: broken"#);
        let other = fingerprint(r#"cannot take up{job="b", x="y"} at 1700000000999: broken"#);
        assert_eq!(one, other);
        assert_ne!(one, fingerprint("cannot take it: broken"));
        assert!(is_telling(&one));
        for text in ["", "boom", "500 Internal Server Error", "{...}"] {
            assert!(!is_telling(&fingerprint(text)), "{text}");
        }
    }
}
