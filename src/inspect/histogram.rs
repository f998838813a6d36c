//! The buckets of a native histogram, with their bounds.

use serde::Serialize;

use crate::wire::proto::v2::histogram::{Count, ResetHint, ZeroCount};
use crate::wire::proto::v2::{BucketSpan, Histogram};

use super::shown::{Number, Time};

/// The schema of custom buckets (Prometheus `model/histogram/generic.go`, `CustomBucketsSchema`).
const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// Buckets of a histogram that are shown. Prometheus keeps at most 160 of one by default.
const BUCKETS_MAX: usize = 1000;

/// A native histogram as it is shown.
#[derive(Serialize)]
pub(super) struct HistogramView {
    pub(super) timestamp: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) start_timestamp: Option<Time>,
    pub(super) schema: i32,
    pub(super) count: Number,
    pub(super) sum: Number,
    pub(super) reset_hint: &'static str,
    /// Those that are not empty, from the lowest to the highest.
    pub(super) buckets: Vec<Bucket>,
    /// Buckets beyond those that are shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) more_buckets: Option<usize>,
}

/// A bucket with its bounds.
#[derive(Serialize)]
pub(super) struct Bucket {
    /// The lower bound belongs to it.
    pub(super) lower_closed: bool,
    pub(super) lower: Number,
    pub(super) upper: Number,
    /// The upper bound belongs to it.
    pub(super) upper_closed: bool,
    pub(super) count: Number,
}

impl HistogramView {
    pub(super) fn new(histogram: &Histogram) -> Self {
        let count = match histogram.count {
            None => 0.0,
            Some(Count::CountInt(count)) => count as f64,
            Some(Count::CountFloat(count)) => count,
        };
        let zero_count = match histogram.zero_count {
            None => 0.0,
            Some(ZeroCount::ZeroCountInt(count)) => count as f64,
            Some(ZeroCount::ZeroCountFloat(count)) => count,
        };
        let (mut buckets, beyond) = side(
            histogram,
            &histogram.negative_spans,
            &histogram.negative_deltas,
            &histogram.negative_counts,
        );
        buckets.reverse();
        buckets.iter_mut().for_each(Bucket::mirror);
        if zero_count != 0.0 {
            let threshold = histogram.zero_threshold;
            buckets.push(Bucket {
                lower_closed: true,
                lower: Number(-threshold),
                upper: Number(threshold),
                upper_closed: true,
                count: Number(zero_count),
            });
        }
        let (positive, further) = side(
            histogram,
            &histogram.positive_spans,
            &histogram.positive_deltas,
            &histogram.positive_counts,
        );
        buckets.extend(positive);
        let more = buckets.len().saturating_sub(BUCKETS_MAX) + beyond + further;
        buckets.truncate(BUCKETS_MAX);
        let start = histogram.start_timestamp;
        Self {
            timestamp: Time(histogram.timestamp),
            start_timestamp: (start != 0).then_some(Time(start)),
            schema: histogram.schema,
            count: Number(count),
            sum: Number(histogram.sum),
            reset_hint: match histogram.reset_hint() {
                ResetHint::Unspecified => "unknown",
                ResetHint::Yes => "yes",
                ResetHint::No => "no",
                ResetHint::Gauge => "gauge",
            },
            buckets,
            more_buckets: (more > 0).then_some(more),
        }
    }
}

impl Bucket {
    /// Makes a bucket of positive values the one of the same negative values.
    fn mirror(&mut self) {
        (self.lower, self.upper) = (Number(-self.upper.0), Number(-self.lower.0));
        (self.lower_closed, self.upper_closed) = (self.upper_closed, self.lower_closed);
    }
}

/// The buckets of one side that are not empty, as if it were the positive one: the first of them, and how
/// many follow. The last of them ends where the spans or the counts end.
fn side(
    histogram: &Histogram,
    spans: &[BucketSpan],
    deltas: &[i64],
    counts: &[f64],
) -> (Vec<Bucket>, usize) {
    let mut absolute = 0_i64;
    let of_deltas = deltas.iter().map(|delta| {
        absolute = absolute.wrapping_add(*delta);
        absolute as f64
    });
    let counts = of_deltas.chain(counts.iter().copied());
    let mut next = 0_i64;
    let indexes = spans.iter().flat_map(|span| {
        let first = next.wrapping_add(span.offset.into());
        next = first.wrapping_add(span.length.into());
        first..next
    });
    let mut buckets = indexes.zip(counts).filter(|(_, count)| *count != 0.0);
    let bucket = |(index, count)| {
        let bound = |index| Number(upper_bound(histogram, index));
        Bucket {
            lower_closed: false,
            lower: bound(index - 1),
            upper: bound(index),
            upper_closed: true,
            count: Number(count),
        }
    };
    let shown = buckets.by_ref().take(BUCKETS_MAX).map(bucket).collect();
    (shown, buckets.count())
}

/// The upper bound of the bucket with an index.
fn upper_bound(histogram: &Histogram, index: i64) -> f64 {
    if histogram.schema == CUSTOM_BUCKETS_SCHEMA {
        let Ok(place) = usize::try_from(index) else {
            return f64::NEG_INFINITY;
        };
        let bound = histogram.custom_values.get(place);
        return bound.copied().unwrap_or(f64::INFINITY);
    }
    // The bases are 2 to the power of 2 to the power of -schema.
    let index = i32::try_from(index).map_or(f64::INFINITY, f64::from);
    let bound = (index * (-f64::from(histogram.schema)).exp2()).exp2();
    // Beyond six digits there is nothing but rounding.
    format!("{bound:.5e}").parse().unwrap_or(bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(histogram: &Histogram) -> Vec<String> {
        let buckets = HistogramView::new(histogram).buckets.into_iter();
        let text = |it: Bucket| {
            let brackets = (
                if it.lower_closed { '[' } else { '(' },
                if it.upper_closed { ']' } else { ')' },
            );
            let (lower, upper, count) = (it.lower, it.upper, it.count);
            format!("{}{lower},{upper}{}:{count}", brackets.0, brackets.1)
        };
        buckets.map(text).collect()
    }

    /// The example of Prometheus (`model/histogram/histogram_test.go`, `TestHistogramString`), with the
    /// buckets that are not empty.
    #[test]
    fn buckets_have_the_bounds_of_prometheus() {
        let span = |offset, length| BucketSpan { offset, length };
        let histogram = Histogram {
            schema: 1,
            zero_threshold: 0.001,
            zero_count: Some(ZeroCount::ZeroCountInt(2)),
            positive_spans: vec![span(-2, 1), span(2, 3)],
            positive_deltas: vec![1, 2, -2, 3],
            negative_spans: vec![span(0, 2)],
            negative_counts: vec![5.5, 0.0],
            ..Histogram::default()
        };
        assert_eq!(
            shown(&histogram),
            [
                "[-1,-0.707107):5.5",
                "[-0.001,0.001]:2",
                "(0.353553,0.5]:1",
                "(1,1.41421]:3",
                "(1.41421,2]:1",
                "(2,2.82843]:4",
            ]
        );
    }

    #[test]
    fn custom_buckets_begin_and_end_at_infinity() {
        let histogram = Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            custom_values: vec![0.5, 10.0],
            positive_spans: vec![BucketSpan {
                offset: 0,
                length: 3,
            }],
            positive_deltas: vec![1, 0, 0],
            ..Histogram::default()
        };
        let expected = ["(-Inf,0.5]:1", "(0.5,10]:1", "(10,+Inf]:1"];
        assert_eq!(shown(&histogram), expected);
    }

    #[test]
    fn no_histogram_is_too_strange_to_be_shown() {
        let spans = vec![
            BucketSpan {
                offset: i32::MIN,
                length: u32::MAX,
            },
            BucketSpan {
                offset: i32::MAX,
                length: u32::MAX,
            },
        ];
        for schema in [i32::MIN, CUSTOM_BUCKETS_SCHEMA, 0, i32::MAX] {
            let histogram = Histogram {
                schema,
                positive_spans: spans.clone(),
                positive_deltas: vec![i64::MAX; 3000],
                negative_spans: spans.clone(),
                negative_counts: vec![f64::NAN; 10],
                ..Histogram::default()
            };
            let view = HistogramView::new(&histogram);
            assert_eq!(view.buckets.len(), BUCKETS_MAX);
            assert_eq!(view.more_buckets, Some(2010));
        }
    }
}
