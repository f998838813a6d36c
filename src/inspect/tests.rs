//! The output for any bytes: it is bounded, and holds nothing that a terminal obeys.

use proptest::prelude::*;
use prost::Message as _;
use snap::raw::Encoder;

use super::*;
use crate::wire::proto::v2::{BucketSpan, Exemplar, Histogram, Request, Sample, TimeSeries};
use crate::wire::tests::generate;

fn ask(body: &[u8], question: &Question<'_>) -> (Finding, String) {
    let mut out = Vec::new();
    let finding = inspect(body, question, &mut out).unwrap();
    (finding, String::from_utf8(out).unwrap())
}

fn question(format: Format) -> Question<'static> {
    Question {
        limits: &Limits::DEFAULT,
        encoding: None,
        protocol: None,
        spoke: None,
        captured: None,
        now_millis: 1_799_000_000_000,
        format,
        output_bytes_max: 1 << 30,
    }
}

/// One long string, which each of many series names.
fn crowd() -> Vec<u8> {
    let series = TimeSeries {
        labels_refs: vec![1, 2, 3, 3],
        ..TimeSeries::default()
    };
    let symbols = ["", "__name__", "up", &"x".repeat(100_000)];
    let message = Request {
        symbols: symbols.map(str::to_owned).into(),
        timeseries: vec![series; 100],
    };
    message.encode_to_vec()
}

#[test]
fn the_output_is_bounded() {
    // What a string is cut to, and its frame.
    for (format, longest, end) in [
        (Format::Text, 2 * 1100, "# the output ends here"),
        (Format::Json, 2 * 66_000, "\"truncated\":true"),
    ] {
        let (finding, whole) = ask(&crowd(), &question(format));
        assert_eq!(finding, Finding::Sound);
        assert!(whole.len() < 100 * longest, "{}", whole.len());
        assert!(!whole.contains(end));
        let output_bytes_max = 10_000;
        let question = Question {
            output_bytes_max,
            ..question(format)
        };
        let (_, short) = ask(&crowd(), &question);
        assert!((short.len() as u64) < output_bytes_max + longest as u64 + 1000);
        assert!(short.contains(end) && short.contains("100"));
    }
}

/// One series that is short as it lies and long as it is shown.
fn long_series(series: TimeSeries) -> Vec<u8> {
    let symbols = ["", "__name__", "up", &"\u{1b}".repeat(70_000)];
    let message = Request {
        symbols: symbols.map(str::to_owned).into(),
        timeseries: vec![series],
    };
    message.encode_to_vec()
}

#[test]
fn the_output_is_bounded_within_a_series() {
    const MANY: usize = 4000;
    let labels = || [vec![1, 2], vec![3; 2 * MANY]].concat();
    let exemplar = Exemplar {
        labels_refs: vec![3; 2 * MANY],
        ..Exemplar::default()
    };
    let span = BucketSpan {
        offset: 0,
        length: 1000,
    };
    let histogram = Histogram {
        positive_spans: vec![span],
        positive_deltas: [vec![1], vec![0; 999]].concat(),
        ..Histogram::default()
    };
    let of_labels = TimeSeries {
        labels_refs: labels(),
        ..TimeSeries::default()
    };
    let of_exemplars = TimeSeries {
        labels_refs: vec![1, 2],
        exemplars: vec![exemplar; 100],
        ..TimeSeries::default()
    };
    let of_histograms = TimeSeries {
        labels_refs: vec![1, 2],
        histograms: vec![histogram; MANY],
        ..TimeSeries::default()
    };
    let of_samples = TimeSeries {
        labels_refs: vec![1, 2],
        samples: vec![Sample::default(); 20 * MANY],
        ..TimeSeries::default()
    };
    let output_bytes_max = 1_000_000;
    for (series, text, json) in [
        (of_labels, ",...}", "\"more_labels\":true"),
        (of_exemplars, "  # and 9", "\"more_items\":9"),
        (of_histograms, "  # and 39", "\"more_items\":39"),
        (of_samples, "  # and 7", "\"more_items\":7"),
    ] {
        let message = long_series(series);
        for (format, cut) in [(Format::Text, text), (Format::Json, json)] {
            let question = Question {
                output_bytes_max,
                ..question(format)
            };
            let (_, shown) = ask(&message, &question);
            let bytes = shown.len() as u64;
            assert!(bytes < output_bytes_max + 1000, "{cut}: {bytes}");
            assert!(shown.contains(cut), "{cut}: {bytes}");
            let end = match format {
                Format::Text => "# the output ends here",
                Format::Json => "\"truncated\":true",
            };
            assert!(shown.contains(end), "{cut}");
        }
    }
}

/// Its millions of buckets would take gigabytes.
#[test]
fn a_long_histogram_is_not_decoded() {
    let histogram = Histogram {
        positive_deltas: vec![0; 2 << 20],
        ..Histogram::default()
    };
    let short = Histogram::default();
    let message = long_series(TimeSeries {
        labels_refs: vec![1, 2],
        histograms: vec![histogram, short],
        ..TimeSeries::default()
    });
    let (_, text) = ask(&message, &question(Format::Text));
    let lines: Vec<_> = text.lines().collect();
    let shown = lines.iter().filter(|it| it.starts_with("  {schema:"));
    assert_eq!(shown.count(), 1, "{text}");
    let rest = "  # and histograms that are too long to be shown: 1";
    assert!(lines.contains(&rest), "{text}");
    let (_, json) = ask(&message, &question(Format::Json));
    assert!(json.contains("\"long_histograms\":1"), "{json}");
}

/// Nothing panics, nothing reaches a terminal, JSON is JSON, and the policy is asked or not.
fn check(message: &[u8], protocol: Protocol) {
    let body = Encoder::new().compress_vec(message).unwrap();
    let policy = LabelPolicy {
        absent: Absent::Inject,
        mismatch: Mismatch::Rename,
    };
    let asked = Asked {
        name: "production".to_owned(),
        rules: Rules::new("cluster", "production", policy, SpokeLimits::DEFAULT),
        limits: SpokeLimits::DEFAULT,
    };
    let mut findings = Vec::new();
    for (body, encoding) in [
        (&body[..], Encoding::Snappy),
        (message, Encoding::Uncompressed),
    ] {
        for format in [Format::Text, Format::Json] {
            for spoke in [None, Some(&asked)] {
                let question = Question {
                    encoding: Some(encoding),
                    protocol: Some(protocol),
                    spoke,
                    ..question(format)
                };
                let (finding, shown) = ask(body, &question);
                let obeyed = |it: char| it != '\n' && (it.is_control() || "\u{202e}".contains(it));
                assert!(!shown.contains(obeyed), "{shown:?}");
                if format == Format::Json {
                    let json: serde_json::Value = serde_json::from_str(&shown).unwrap();
                    let summary = &json["summary"];
                    let refused = !summary["refusal"].is_null()
                        || summary["verdict"]["refused"][0].is_object();
                    assert_eq!(finding == Finding::Refused, refused, "{shown}");
                }
                findings.push((spoke.is_some(), finding));
            }
        }
    }
    // Neither the encoding nor the form of the output changes what is found.
    findings.sort_by_key(|(asked, _)| *asked);
    let (alone, judged) = findings.split_at(findings.len() / 2);
    for same in [alone, judged] {
        assert!(same.iter().all(|it| *it == same[0]), "{findings:?}");
    }
}

proptest! {
    #![proptest_config(crate::wire::tests::config())]

    #[test]
    fn any_v1_is_shown(message in generate::mutated(Protocol::V1)) {
        check(&message, Protocol::V1);
    }

    #[test]
    fn any_v2_is_shown(message in generate::mutated(Protocol::V2)) {
        check(&message, Protocol::V2);
    }

    #[test]
    fn any_bytes_are_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..64)) {
        let mut out = Vec::new();
        // It may be possible to read them in two ways.
        let _ = inspect(&body, &question(Format::Json), &mut out);
    }
}
