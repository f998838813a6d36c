//! Histograms whose numbers fit, those with one that does not, and those of any numbers.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{number, timestamp};
use crate::wire::proto::v2;
use crate::wire::proto::v2::histogram::{Count, ZeroCount};

/// A histogram as V2 has it, which holds all that V1 has.
pub(super) fn histogram() -> impl Strategy<Value = v2::Histogram> {
    prop_oneof![
        4 => sound(),
        3 => (sound(), change()).prop_map(|(mut histogram, change)| {
            change.apply(&mut histogram);
            histogram
        }),
        1 => wild(),
    ]
}

/// Spans, and the count of each of their buckets.
type Side = (Vec<v2::BucketSpan>, Vec<u8>);

fn side() -> impl Strategy<Value = Side> {
    vec((0..4i32, vec(0..9u8, 0..3)), 0..3).prop_map(|spans| {
        let span = |(offset, counts): &(i32, Vec<u8>)| v2::BucketSpan {
            offset: *offset,
            length: u32::try_from(counts.len()).unwrap(),
        };
        let list = spans.iter().map(span).collect();
        (list, spans.into_iter().flat_map(|span| span.1).collect())
    })
}

/// A histogram whose numbers fit.
fn sound() -> impl Strategy<Value = v2::Histogram> {
    let head = (any::<bool>(), prop_oneof![3 => -4..9i32, 1 => Just(-53)]);
    let sum = prop_oneof![3 => number(), 1 => Just(f64::NAN)];
    let first_offset = prop_oneof![Just(0), -9..0i32, Just(i32::MIN + 1), Just(i32::MAX - 20)];
    let times = (0..5i32, timestamp(), timestamp());
    (
        head,
        0..9u8,
        sum,
        first_offset,
        side(),
        side(),
        0..3u64,
        times,
    )
        .prop_map(
            |((is_float, schema), zero, sum, first_offset, negative, positive, more, times)| {
                let custom = schema == -53;
                let (reset_hint, timestamp, start_timestamp) = times;
                let zero = if custom { 0 } else { zero };
                let (negative_spans, negative) = if custom { Side::default() } else { negative };
                let (mut positive_spans, positive) = positive;
                let reach = |span: &v2::BucketSpan| span.offset.unsigned_abs() + span.length;
                let reach: u32 = positive_spans.iter().map(reach).sum();
                if let Some(first) = positive_spans.first_mut().filter(|_| !custom) {
                    first.offset = first_offset;
                }
                let mut histogram = v2::Histogram {
                    sum,
                    schema,
                    zero_threshold: if custom { 0.0 } else { 0.001 },
                    negative_spans,
                    positive_spans,
                    reset_hint,
                    timestamp,
                    start_timestamp,
                    custom_values: (0..reach).filter(|_| custom).map(f64::from).collect(),
                    ..v2::Histogram::default()
                };
                let all = negative.iter().chain(&positive).chain([&zero]);
                let mut count: u64 = all.copied().map(u64::from).sum();
                if sum.is_nan() {
                    count += more;
                }
                if is_float {
                    let floats = |counts: Vec<u8>| counts.into_iter().map(f64::from).collect();
                    histogram.count = Some(Count::CountFloat(count as f64 - more as f64));
                    histogram.zero_count = Some(ZeroCount::ZeroCountFloat(zero.into()));
                    histogram.negative_counts = floats(negative);
                    histogram.positive_counts = floats(positive);
                } else {
                    histogram.count = Some(Count::CountInt(count));
                    histogram.zero_count = Some(ZeroCount::ZeroCountInt(zero.into()));
                    histogram.negative_deltas = deltas(&negative);
                    histogram.positive_deltas = deltas(&positive);
                }
                histogram
            },
        )
}

fn deltas(counts: &[u8]) -> Vec<i64> {
    let mut last = 0;
    let delta = |count: &u8| {
        let count = i64::from(*count);
        count - std::mem::replace(&mut last, count)
    };
    counts.iter().map(delta).collect()
}

/// One number that may not fit the others.
#[derive(Debug, Clone)]
enum Change {
    Bound(f64),
    Count(u64),
    CountFloat(f64),
    Delta(i64),
    Float(f64),
    Schema(i32),
    Span(bool, i32, u32),
    Threshold(f64),
    Zero(u64),
    ZeroFloat(f64),
}

fn change() -> impl Strategy<Value = Change> {
    let few = || prop_oneof![-3..4i32, any::<i32>()];
    prop_oneof![
        number().prop_map(Change::Bound),
        prop_oneof![0..9u64, any::<u64>()].prop_map(Change::Count),
        number().prop_map(Change::CountFloat),
        prop_oneof![-9..9i64, Just(i64::MAX), any::<i64>()].prop_map(Change::Delta),
        number().prop_map(Change::Float),
        prop_oneof![-9..53i32, -60..-50i32, any::<i32>()].prop_map(Change::Schema),
        (any::<bool>(), few(), prop_oneof![0..2u32, any::<u32>()])
            .prop_map(|(negative, offset, length)| Change::Span(negative, offset, length)),
        prop_oneof![Just(-1.0), Just(-0.0), number()].prop_map(Change::Threshold),
        (0..3u64).prop_map(Change::Zero),
        number().prop_map(Change::ZeroFloat),
    ]
}

impl Change {
    fn apply(self, histogram: &mut v2::Histogram) {
        match self {
            Self::Bound(bound) => histogram.custom_values.push(bound),
            Self::Count(count) => histogram.count = Some(Count::CountInt(count)),
            Self::CountFloat(count) => histogram.count = Some(Count::CountFloat(count)),
            Self::Delta(delta) => match histogram.positive_deltas.last_mut() {
                Some(last) => *last = delta,
                None => histogram.positive_deltas.push(delta),
            },
            Self::Float(count) => match histogram.positive_counts.last_mut() {
                Some(last) => *last = count,
                None => histogram.positive_counts.push(count),
            },
            Self::Schema(schema) => histogram.schema = schema,
            Self::Span(negative, offset, length) => {
                let span = v2::BucketSpan { offset, length };
                match negative {
                    true => histogram.negative_spans.push(span),
                    false => histogram.positive_spans.push(span),
                }
            }
            Self::Threshold(threshold) => histogram.zero_threshold = threshold,
            Self::Zero(zero) => histogram.zero_count = Some(ZeroCount::ZeroCountInt(zero)),
            Self::ZeroFloat(zero) => {
                histogram.zero_count = Some(ZeroCount::ZeroCountFloat(zero));
            }
        }
    }
}

/// A histogram of any numbers, none of which fits another.
fn wild() -> impl Strategy<Value = v2::Histogram> {
    let counts = prop_oneof![
        any::<(u64, u64)>().prop_map(|(count, zero)| (
            Some(Count::CountInt(count)),
            Some(ZeroCount::ZeroCountInt(zero)),
        )),
        (number(), number()).prop_map(|(count, zero)| (
            Some(Count::CountFloat(count)),
            Some(ZeroCount::ZeroCountFloat(zero)),
        )),
        Just((None, None)),
    ];
    let spans = || {
        vec((any::<i32>(), any::<u32>()), 0..3).prop_map(|spans| {
            let span = |(offset, length)| v2::BucketSpan { offset, length };
            spans.into_iter().map(span).collect::<Vec<_>>()
        })
    };
    let schema = prop_oneof![-4..9i32, Just(-53), any::<i32>()];
    let numbers = || vec(number(), 0..4);
    let deltas = || vec(any::<i64>(), 0..4);
    (
        (counts, number(), schema, number(), spans(), spans()),
        (deltas(), deltas(), numbers(), numbers(), numbers()),
        (0..5i32, timestamp(), timestamp()),
    )
        .prop_map(
            |(head, buckets, (reset_hint, timestamp, start_timestamp))| {
                let (
                    (count, zero_count),
                    sum,
                    schema,
                    zero_threshold,
                    negative_spans,
                    positive_spans,
                ) = head;
                let (
                    negative_deltas,
                    positive_deltas,
                    negative_counts,
                    positive_counts,
                    custom_values,
                ) = buckets;
                v2::Histogram {
                    sum,
                    schema,
                    zero_threshold,
                    negative_spans,
                    negative_deltas,
                    negative_counts,
                    positive_spans,
                    positive_deltas,
                    positive_counts,
                    reset_hint,
                    timestamp,
                    custom_values,
                    start_timestamp,
                    count,
                    zero_count,
                }
            },
        )
}
