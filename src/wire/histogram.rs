//! Native histograms: the walk over their fields, and what of their numbers cannot be.
//!
//! Prometheus validates what it stores (`model/histogram`, `Validate`). Some releases store what
//! others refuse, and then answer queries wrong, panic, or compute without end. Releases before 3.8
//! refuse with 500, so senders repeat such a histogram for ever. Both are found here; the table in
//! `docs/responses.md` has each case. What a Prometheus may send is no fault: floats that do not add
//! up, or that are negative where they are no buckets, come from recording rules.
//!
//! Fields may lie in any order, so the walk adds up what it meets and judges at the end.

use super::protobuf::{Malformed, Reader, WireType, doubles, expect, varints};
use super::{Protocol, leaf::HISTOGRAM_CUSTOM_VALUES};

/// The schema of custom buckets (Prometheus `model/histogram/generic.go`, `CustomBucketsSchema`).
const CUSTOM_BUCKETS_SCHEMA: i64 = -53;

/// The schemas of exponential buckets (Prometheus `model/histogram/generic.go`).
const EXPONENTIAL_SCHEMAS: std::ops::RangeInclusive<i64> = -4..=8;

/// What of a histogram cannot be. The text completes "e.g. a series: ...".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HistogramFault {
    /// Bounds belong to the schema -53.
    #[error("custom bounds, and another schema than -53")]
    BoundsWithoutSchema,
    /// The index of a bucket has 32 bits.
    #[error("the spans lead beyond 32 bits")]
    BucketIndex,
    /// The count must be the sum of the buckets, or at least as much where NaN was observed.
    #[error("the count is not that of the buckets")]
    Count,
    /// The bounds must increase, and have no infinite one at the end.
    #[error("the custom bounds are not finite numbers that increase")]
    CustomBounds,
    /// There is one bucket more than bounds.
    #[error("too few custom bounds for the buckets")]
    CustomBoundsMissing,
    /// Custom buckets cover everything, so there is no zero bucket and there are no negative ones.
    #[error("a zero bucket or negative buckets beside custom ones")]
    CustomSides,
    /// Counts are integers or floats; decoders drop those of the other form.
    #[error("integer and float counts are mixed")]
    MixedForms,
    /// A bucket holds less than nothing.
    #[error("the count of a bucket is negative or beyond 64 bits")]
    NegativeBucket,
    /// There is no such resolution.
    #[error("the schema is neither from -4 to 8 nor -53")]
    Schema,
    /// The lengths of the spans must be as many as there are buckets.
    #[error("the spans are for another number of buckets")]
    SpanLengths,
    /// Only the first span may begin below zero, and that of custom buckets may not.
    #[error("a span has a negative offset")]
    SpanOffset,
    /// The width of the zero bucket.
    #[error("the zero threshold is negative or not a number")]
    ZeroThreshold,
}

/// A histogram after its walk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Histogram {
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// It has custom buckets.
    pub custom_buckets: bool,
    /// The first fault found.
    pub fault: Option<HistogramFault>,
}

/// Walks a `Histogram`.
pub(super) fn histogram(bytes: &[u8], protocol: Protocol) -> Result<Histogram, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut timestamp = 0;
    let mut numbers = Numbers::default();
    while let Some((field, wire_type)) = reader.key()? {
        match field {
            1 | 6 => {
                expect(wire_type, WireType::Varint)?;
                let count = Some(Count::Integer(reader.varint()?));
                *numbers.count(field == 1) = count;
            }
            2 | 7 => {
                expect(wire_type, WireType::Fixed64)?;
                let count = Some(Count::Float(reader.double()?));
                *numbers.count(field == 2) = count;
            }
            3 => {
                expect(wire_type, WireType::Fixed64)?;
                numbers.sum = reader.double()?;
            }
            4 => {
                expect(wire_type, WireType::Varint)?;
                numbers.schema = zigzag(low_bits(reader.varint()?));
            }
            5 => {
                expect(wire_type, WireType::Fixed64)?;
                numbers.zero_threshold = reader.double()?;
            }
            8 | 11 => {
                expect(wire_type, WireType::Len)?;
                let (offset, length) = bucket_span(reader.bytes()?)?;
                numbers.side(field == 8).add_span(offset, length);
            }
            9 | 12 => {
                let side = numbers.side(field == 9);
                varints(&mut reader, wire_type, |delta| {
                    side.add_delta(zigzag(delta))
                })?;
            }
            10 | 13 => {
                let side = numbers.side(field == 10);
                doubles(&mut reader, wire_type, |count| side.add_float(count))?;
            }
            // reset_hint
            14 => {
                expect(wire_type, WireType::Varint)?;
                reader.varint()?;
            }
            15 => {
                expect(wire_type, WireType::Varint)?;
                timestamp = reader.varint()?.cast_signed();
            }
            HISTOGRAM_CUSTOM_VALUES => {
                let bounds = &mut numbers.bounds;
                doubles(&mut reader, wire_type, |bound| bounds.add(bound))?;
            }
            // start_timestamp
            17 if protocol == Protocol::V2 => {
                expect(wire_type, WireType::Varint)?;
                reader.varint()?;
            }
            _ => reader.skip(wire_type)?,
        }
    }
    Ok(Histogram {
        timestamp,
        custom_buckets: numbers.schema == CUSTOM_BUCKETS_SCHEMA,
        fault: numbers.fault(),
    })
}

/// Walks a `BucketSpan` and returns its offset and its length.
fn bucket_span(bytes: &[u8]) -> Result<(i64, u64), Malformed> {
    let (mut offset, mut length) = (0, 0);
    let mut reader = Reader::new(bytes);
    while let Some((field, wire_type)) = reader.key()? {
        let slot = match field {
            1 => &mut offset,
            2 => &mut length,
            _ => {
                reader.skip(wire_type)?;
                continue;
            }
        };
        expect(wire_type, WireType::Varint)?;
        *slot = low_bits(reader.varint()?);
    }
    Ok((zigzag(offset), length))
}

/// The 32 bits that decoders keep of a field of 32 bits.
fn low_bits(value: u64) -> u64 {
    value & u64::from(u32::MAX)
}

fn zigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// A count of either form.
#[derive(Debug, Clone, Copy)]
enum Count {
    Integer(u64),
    Float(f64),
}

impl Count {
    fn is_zero(self) -> bool {
        matches!(self, Self::Integer(0) | Self::Float(0.0))
    }
}

/// What a walk adds up. The last of repeated numbers counts, as decoders have it.
#[derive(Debug, Default)]
struct Numbers {
    schema: i64,
    count: Option<Count>,
    zero_count: Option<Count>,
    sum: f64,
    zero_threshold: f64,
    negative: Side,
    positive: Side,
    bounds: Bounds,
}

impl Numbers {
    /// The count of all observations, or that of the zero bucket.
    fn count(&mut self, all: bool) -> &mut Option<Count> {
        if all {
            &mut self.count
        } else {
            &mut self.zero_count
        }
    }

    fn side(&mut self, negative: bool) -> &mut Side {
        if negative {
            &mut self.negative
        } else {
            &mut self.positive
        }
    }

    fn fault(&self) -> Option<HistogramFault> {
        let sides = [&self.negative, &self.positive];
        let custom = self.schema == CUSTOM_BUCKETS_SCHEMA;
        if !custom && !EXPONENTIAL_SCHEMAS.contains(&self.schema) {
            return Some(HistogramFault::Schema);
        }
        // Decoders take the form from the count.
        let is_float = matches!(self.count, Some(Count::Float(_)));
        if self.mixes_forms(is_float) {
            return Some(HistogramFault::MixedForms);
        }
        for side in sides {
            if let Some(fault) = side.fault(is_float, custom) {
                return Some(fault);
            }
        }
        let fault = if custom {
            self.custom_fault()
        } else {
            self.exponential_fault()
        };
        fault.or_else(|| self.count_fault())
    }

    fn mixes_forms(&self, is_float: bool) -> bool {
        let sides = [&self.negative, &self.positive];
        let zero_is_float = match self.zero_count {
            Some(count) if !count.is_zero() => matches!(count, Count::Float(_)),
            _ => is_float,
        };
        let foreign = |side: &&Side| if is_float { side.deltas } else { side.floats };
        zero_is_float != is_float || sides.iter().any(|side| foreign(side) > 0)
    }

    fn custom_fault(&self) -> Option<HistogramFault> {
        let zero_bucket = self.zero_count.is_some_and(|count| !count.is_zero());
        if zero_bucket || self.zero_threshold != 0.0 || self.negative.spans > 0 {
            return Some(HistogramFault::CustomSides);
        }
        if self.bounds.invalid {
            return Some(HistogramFault::CustomBounds);
        }
        // No offset is negative, or it was found before.
        let buckets = self.positive.next.cast_unsigned();
        (self.bounds.count + 1 < buckets).then_some(HistogramFault::CustomBoundsMissing)
    }

    fn exponential_fault(&self) -> Option<HistogramFault> {
        if self.bounds.count > 0 {
            return Some(HistogramFault::BoundsWithoutSchema);
        }
        // With NaN, Prometheus adds two such histograms without end.
        let sound = self.zero_threshold >= 0.0;
        (!sound).then_some(HistogramFault::ZeroThreshold)
    }

    /// Floats are not compared: they are rounded.
    fn count_fault(&self) -> Option<HistogramFault> {
        let integer = |count| match count {
            Some(Count::Integer(count)) => Some(u128::from(count)),
            None => Some(0),
            Some(Count::Float(_)) => None,
        };
        let count = integer(self.count)?;
        let zero_count = integer(self.zero_count).unwrap_or_default();
        let observed = self.negative.sum + self.positive.sum + zero_count;
        // An observed NaN is in the count and in no bucket.
        let sound = observed == count || self.sum.is_nan() && observed < count;
        (!sound).then_some(HistogramFault::Count)
    }
}

/// The buckets on one side of zero.
#[derive(Debug, Default)]
struct Side {
    spans: u64,
    /// The lengths of all spans.
    span_buckets: u64,
    /// The index of the bucket behind the last span.
    next: i64,
    first_offset_negative: bool,
    later_offset_negative: bool,
    beyond_indexes: bool,
    deltas: u64,
    /// The count of the last bucket.
    last: i64,
    /// The counts of the buckets that deltas give.
    sum: u128,
    floats: u64,
    negative_bucket: bool,
}

impl Side {
    fn add_span(&mut self, offset: i64, length: u64) {
        if self.spans == 0 {
            self.first_offset_negative = offset < 0;
        } else {
            self.later_offset_negative |= offset < 0;
        }
        self.spans += 1;
        self.span_buckets += length;
        // Each step has less than 34 bits, and a message has less than 2^30 of them.
        let first = self.next + offset;
        self.next = first + length.cast_signed();
        // The lower bound of a bucket is the upper one of the bucket before.
        let (least, most) = (i64::from(i32::MIN) + 1, i64::from(i32::MAX));
        self.beyond_indexes |= length > 0 && (first < least || self.next - 1 > most);
    }

    fn add_delta(&mut self, delta: i64) {
        self.deltas += 1;
        match self.last.checked_add(delta) {
            Some(count) if count >= 0 => {
                self.last = count;
                self.sum += u128::from(count.cast_unsigned());
            }
            _ => self.negative_bucket = true,
        }
    }

    fn add_float(&mut self, count: f64) {
        self.floats += 1;
        self.negative_bucket |= count < 0.0;
    }

    fn fault(&self, is_float: bool, custom: bool) -> Option<HistogramFault> {
        let buckets = if is_float { self.floats } else { self.deltas };
        if self.later_offset_negative || custom && self.first_offset_negative {
            Some(HistogramFault::SpanOffset)
        } else if self.span_buckets != buckets {
            Some(HistogramFault::SpanLengths)
        } else if self.beyond_indexes {
            Some(HistogramFault::BucketIndex)
        } else if self.negative_bucket {
            Some(HistogramFault::NegativeBucket)
        } else {
            None
        }
    }
}

/// The bounds of custom buckets.
#[derive(Debug, Default)]
struct Bounds {
    count: u64,
    last: f64,
    invalid: bool,
}

impl Bounds {
    fn add(&mut self, bound: f64) {
        let increases = self.count == 0 || bound > self.last;
        self.invalid |= !increases || bound.is_nan() || bound == f64::INFINITY;
        self.count += 1;
        self.last = bound;
    }
}
