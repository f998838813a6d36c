//! Histograms that are refused, and those that are not.

use crate::reasons::Reason;
use crate::wire::Kind;
use crate::wire::proto::v2;
use crate::wire::proto::v2::histogram::{Count, ZeroCount};
use crate::wire::tests::mirror::PlainMessage;

use super::invariants::{LIMITS, Memory, NOW, inspect, leaving, rules};
use super::refusals::LENIENT;
use super::samples::{BOTH, refused, with};

/// The value of a stale marker, which is a NaN.
const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// Three observations: one in the zero bucket, two in the first positive bucket.
fn integers() -> v2::Histogram {
    v2::Histogram {
        count: Some(Count::CountInt(3)),
        zero_count: Some(ZeroCount::ZeroCountInt(1)),
        sum: 4.5,
        schema: 3,
        zero_threshold: 0.001,
        positive_spans: spans(&[(0, 1)]),
        positive_deltas: vec![2],
        timestamp: NOW,
        ..v2::Histogram::default()
    }
}

/// The same in floats.
fn floats() -> v2::Histogram {
    v2::Histogram {
        count: Some(Count::CountFloat(3.0)),
        zero_count: Some(ZeroCount::ZeroCountFloat(1.0)),
        positive_deltas: Vec::new(),
        positive_counts: vec![2.0],
        ..integers()
    }
}

/// Two buckets up to 0.5 and 1.
fn custom() -> v2::Histogram {
    v2::Histogram {
        zero_count: None,
        schema: -53,
        zero_threshold: 0.0,
        positive_spans: spans(&[(0, 2)]),
        positive_deltas: vec![1, 1],
        custom_values: vec![0.5, 1.0],
        ..integers()
    }
}

fn spans(spans: &[(i32, u32)]) -> Vec<v2::BucketSpan> {
    let span = |&(offset, length): &(i32, u32)| v2::BucketSpan { offset, length };
    spans.iter().map(span).collect()
}

fn changed(mut histogram: v2::Histogram, change: impl Fn(&mut v2::Histogram)) -> v2::Histogram {
    change(&mut histogram);
    histogram
}

/// A sender of Prometheus may send each of these, and some release stores it right.
#[test]
fn histograms_that_some_release_stores_right_travel_on() {
    let offset = |offset| changed(integers(), |it| it.positive_spans = spans(&[(offset, 1)]));
    let stale = |count, zero_count| v2::Histogram {
        count,
        zero_count,
        sum: STALE,
        timestamp: NOW,
        ..v2::Histogram::default()
    };
    let rows = [
        ("integers", integers()),
        ("floats", floats()),
        ("custom buckets", custom()),
        ("schema -4", changed(integers(), |it| it.schema = -4)),
        ("schema 8", changed(floats(), |it| it.schema = 8)),
        ("nothing", stale(None, None)),
        (
            "a stale marker",
            stale(Some(Count::CountInt(0)), Some(ZeroCount::ZeroCountInt(0))),
        ),
        (
            "a stale marker of floats",
            stale(
                Some(Count::CountFloat(0.0)),
                Some(ZeroCount::ZeroCountFloat(0.0)),
            ),
        ),
        (
            "a stale marker with counts",
            changed(integers(), |it| it.sum = STALE),
        ),
        (
            "observed NaNs",
            changed(integers(), |it| {
                (it.sum, it.count) = (f64::NAN, Some(Count::CountInt(5)));
            }),
        ),
        ("the lowest bucket", offset(i32::MIN + 1)),
        ("the highest bucket", offset(i32::MAX)),
        (
            "spans without a bucket",
            changed(integers(), |it| {
                it.positive_spans = spans(&[(5, 0), (1, 1), (0, 0)]);
                it.negative_spans = spans(&[(0, 0)]);
            }),
        ),
        (
            "floats that do not add up",
            changed(floats(), |it| it.count = Some(Count::CountFloat(2.5))),
        ),
        (
            "a negative count of floats",
            changed(floats(), |it| it.count = Some(Count::CountFloat(-3.0))),
        ),
        (
            "a negative zero bucket",
            changed(floats(), |it| {
                it.zero_count = Some(ZeroCount::ZeroCountFloat(-1.0));
            }),
        ),
        (
            "a bucket of NaN",
            changed(floats(), |it| it.positive_counts = vec![f64::NAN]),
        ),
        (
            "an infinite bucket",
            changed(floats(), |it| it.positive_counts = vec![f64::INFINITY]),
        ),
        (
            "a hint that is none",
            changed(integers(), |it| it.reset_hint = 77),
        ),
        (
            "an infinite zero threshold",
            changed(integers(), |it| it.zero_threshold = f64::INFINITY),
        ),
        (
            "a zero count of 0 in the other form",
            changed(floats(), |it| {
                it.zero_count = Some(ZeroCount::ZeroCountInt(0));
            }),
        ),
        (
            "a lowest bound of -Inf",
            changed(custom(), |it| it.custom_values[0] = f64::NEG_INFINITY),
        ),
    ];
    for (name, histogram) in rows {
        for protocol in BOTH {
            let payload = v2::TimeSeries {
                histograms: vec![histogram.clone()],
                ..v2::TimeSeries::default()
            };
            let message = with(protocol, payload);
            let rules = rules(LENIENT, LIMITS);
            let inspection = inspect(protocol, &message, &rules, &mut Memory::default());
            let verdict = inspection.unwrap().verdict;
            assert_eq!(verdict.rejections, [], "{name}, {protocol:?}");
            assert!(!verdict.changed(), "{name}, {protocol:?}");
        }
    }
}

/// Refused histograms, each with the text of the example.
fn refused_histograms() -> Vec<(&'static str, v2::Histogram)> {
    let schemas = [-54, -52, -5, 9, 52, i32::MAX, i32::MIN].map(|schema| {
        let histogram = changed(integers(), |it| it.schema = schema);
        let text = "the schema is neither from -4 to 8 nor -53";
        (text, histogram)
    });
    let positive = |list: &[(i32, u32)], deltas: &[i64]| {
        changed(integers(), |it| {
            (it.positive_spans, it.positive_deltas) = (spans(list), deltas.to_vec());
        })
    };
    let lengths = "the spans are for another number of buckets";
    let offset = "a span has a negative offset";
    let beyond = "the spans lead beyond 32 bits";
    let of_spans = [
        (lengths, positive(&[(0, 2)], &[2])),
        (lengths, positive(&[], &[2])),
        (lengths, positive(&[(0, u32::MAX), (0, 2)], &[2])),
        (offset, positive(&[(0, 1), (-1, 1)], &[1, 0])),
        (
            offset,
            changed(custom(), |it| it.positive_spans = spans(&[(-1, 2)])),
        ),
        (beyond, positive(&[(i32::MIN, 1)], &[2])),
        (beyond, positive(&[(i32::MAX, 2)], &[1, 0])),
        (beyond, positive(&[(i32::MAX, 1), (i32::MAX, 1)], &[1, 0])),
    ];
    let negative = "the count of a bucket is negative or beyond 64 bits";
    let count = "the count is not that of the buckets";
    let mixed = "integer and float counts are mixed";
    let with_count = |count| changed(integers(), |it| it.count = Some(Count::CountInt(count)));
    let of_counts = [
        (negative, positive(&[(0, 1)], &[-2])),
        (negative, positive(&[(0, 2)], &[i64::MAX, 1])),
        (
            negative,
            changed(floats(), |it| it.positive_counts = vec![-2.0]),
        ),
        (count, with_count(2)),
        (count, with_count(4)),
        (count, changed(integers(), |it| it.count = None)),
        (
            count,
            changed(integers(), |it| {
                (it.sum, it.count) = (f64::NAN, Some(Count::CountInt(2)));
            }),
        ),
        // With 64 bits, the buckets add up to the count.
        (
            count,
            changed(positive(&[(0, 2)], &[i64::MAX, 0]), |it| {
                it.count = Some(Count::CountInt(0));
                it.zero_count = Some(ZeroCount::ZeroCountInt(2));
            }),
        ),
        (
            mixed,
            changed(integers(), |it| it.positive_counts = vec![7.0]),
        ),
        (mixed, changed(floats(), |it| it.negative_deltas = vec![7])),
        (
            mixed,
            changed(integers(), |it| {
                it.zero_count = Some(ZeroCount::ZeroCountFloat(1.0));
            }),
        ),
        (
            mixed,
            changed(floats(), |it| {
                it.zero_count = Some(ZeroCount::ZeroCountInt(1));
            }),
        ),
    ];
    let bounds = "the custom bounds are not finite numbers that increase";
    let missing = "too few custom bounds for the buckets";
    let sides = "a zero bucket or negative buckets beside custom ones";
    let threshold = "the zero threshold is negative or not a number";
    let with_bounds = |list: &[f64]| changed(custom(), |it| it.custom_values = list.to_vec());
    let with_threshold = |threshold| changed(floats(), |it| it.zero_threshold = threshold);
    let of_bounds = [
        (bounds, with_bounds(&[1.0, 0.5])),
        (bounds, with_bounds(&[1.0, 1.0])),
        (bounds, with_bounds(&[1.0, f64::INFINITY])),
        (bounds, with_bounds(&[f64::NAN, 1.0])),
        (missing, with_bounds(&[])),
        (
            missing,
            changed(custom(), |it| it.positive_spans = spans(&[(2, 2)])),
        ),
        (
            sides,
            changed(custom(), |it| {
                (it.zero_count, it.count) =
                    (Some(ZeroCount::ZeroCountInt(1)), Some(Count::CountInt(4)));
            }),
        ),
        (sides, changed(custom(), |it| it.zero_threshold = 0.5)),
        (
            sides,
            changed(custom(), |it| it.negative_spans = spans(&[(0, 0)])),
        ),
        (
            "custom bounds, and another schema than -53",
            changed(integers(), |it| it.custom_values = vec![1.0]),
        ),
        (threshold, with_threshold(-1.0)),
        (threshold, with_threshold(f64::NAN)),
    ];
    let mut rows = schemas.to_vec();
    rows.extend(of_spans);
    rows.extend(of_counts);
    rows.extend(of_bounds);
    rows
}

#[test]
fn a_histogram_that_cannot_be_is_refused_and_its_neighbours_are_not() {
    for (text, bad) in refused_histograms() {
        for protocol in BOTH {
            let payload = v2::TimeSeries {
                histograms: vec![integers(), bad.clone(), floats()],
                ..v2::TimeSeries::default()
            };
            let message = with(protocol, payload);
            let rules = rules(LENIENT, LIMITS);
            let inspection = inspect(protocol, &message, &rules, &mut Memory::default()).unwrap();
            let verdict = &inspection.verdict;
            let case = format!("{protocol:?}: {text}: {bad:?}: {verdict:?}");
            let invalid = (Reason::InvalidHistogram, 0, [0, 1, 0]);
            assert_eq!(refused(verdict), [invalid], "{case}");
            let example = format!("up{{cluster=\"production\"}}: {text}");
            assert_eq!(verdict.rejections[0].example, example, "{case}");
            let left = leaving(&message, &inspection).unwrap();
            let left = PlainMessage::decode(protocol, left).unwrap();
            assert_eq!(left.counts().of(Kind::Histogram), 2, "{case}");
        }
    }
}
