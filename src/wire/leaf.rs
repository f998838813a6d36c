//! The messages that V1 and V2 share: samples, histograms, and exemplars except for their labels.
//!
//! They are checked and copied, and never encoded from numbers: values must arrive bit for bit, and
//! a stale marker is a NaN that arithmetic could change. V2 defines one more field in samples and
//! histograms, the start timestamp. Histograms of custom buckets exist in V2 only.

use super::protobuf::{Malformed, Reader, WireType, expect, put_key, put_varint, varint_len};
use super::{Protocol, SeriesFault};

const SAMPLE_VALUE: u32 = 1;
const SAMPLE_TIMESTAMP: u32 = 2;
const SAMPLE_START_TIMESTAMP: u32 = 3;

/// References in V2.
pub(super) const EXEMPLAR_LABELS: u32 = 1;
pub(super) const EXEMPLAR_VALUE: u32 = 2;
pub(super) const EXEMPLAR_TIMESTAMP: u32 = 3;

const HISTOGRAM_SCHEMA: u32 = 4;
pub(super) const HISTOGRAM_CUSTOM_VALUES: u32 = 16;
const HISTOGRAM_START_TIMESTAMP: u32 = 17;

/// -53 in zigzag encoding: the schema of custom buckets (Prometheus `model/histogram/generic.go`,
/// `CustomBucketsSchema`).
const CUSTOM_BUCKETS_SCHEMA: u64 = 105;

/// The key of a series' samples, field 2 in both versions.
const SAMPLES_KEY: u8 = 2 << 3 | 2;

/// Reads the sample at the front of `bytes`, when it is encoded as every encoder does; returns its
/// timestamp in milliseconds and what follows it.
#[inline]
pub(super) fn first_sample(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let [SAMPLES_KEY, length, rest @ ..] = bytes else {
        return None;
    };
    let (sample, rest) = rest.split_at_checked(usize::from(*length))?;
    // Below 128 the length is a varint of one byte; a usual sample has 20 bytes at most.
    Some((usual_sample(sample)?, rest))
}

/// The timestamp of a sample that gives its value and its timestamp and nothing else. Encoders
/// leave out a value of 0.
#[inline]
fn usual_sample(bytes: &[u8]) -> Option<i64> {
    let ([0x09, _, _, _, _, _, _, _, _, 0x10, timestamp @ ..] | [0x10, timestamp @ ..]) = bytes
    else {
        return None;
    };
    // Six bytes from 2004 to 2109.
    if let &[a, b, c, d, e, f] = timestamp {
        let bytes = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
        if bytes & 0x8080_8080_8080 == 0x0080_8080_8080 {
            // Seven bits of each byte, then 14 of each two.
            let pairs = bytes & 0x007f_007f_007f | (bytes & 0x7f00_7f00_7f00) >> 1;
            let bits = pairs & 0x3fff | (pairs >> 16 & 0x3fff) << 14 | pairs >> 32 << 28;
            return Some(bits.cast_signed());
        }
    }
    let mut reader = Reader::new(timestamp);
    let timestamp = reader.varint().ok()?.cast_signed();
    reader.rest().is_empty().then_some(timestamp)
}

/// Reads an exemplar, whose labels are field 1 in both versions: hands these to `labels`, and
/// appends the fields for value and timestamp to `rest` as they lie.
pub(super) fn exemplar<'a>(
    bytes: &'a [u8],
    rest: &mut Vec<u8>,
    mut labels: impl FnMut(&mut Reader<'a>, WireType) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut reader = Reader::new(bytes);
    loop {
        let before = reader.rest();
        let Some((field, wire_type)) = reader.key()? else {
            return Ok(());
        };
        if field == EXEMPLAR_LABELS {
            labels(&mut reader, wire_type)?;
            continue;
        }
        reader.skip(wire_type)?;
        if matches!(field, EXEMPLAR_VALUE | EXEMPLAR_TIMESTAMP) {
            rest.extend_from_slice(&before[..before.len() - reader.rest().len()]);
        }
    }
}

/// Most bytes of the names and values of an exemplar's labels. OpenMetrics allows 128 characters, and
/// hubs drop what has more. Some of them allocate all of it before they count it, and a reference of one
/// byte may stand for a megabyte.
const EXEMPLAR_BYTES_MAX: usize = 4096;

/// Why an exemplar may not travel on. Of several, the last in this order counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum ExemplarFault {
    /// Its names and values are too long together.
    #[error("an exemplar's labels may have {EXEMPLAR_BYTES_MAX} bytes together")]
    Length,
    /// A string that is not UTF-8.
    #[error("an exemplar's labels must be UTF-8")]
    InvalidUtf8,
    /// A symbol reference out of range, or an odd number of them.
    #[error("an exemplar's references must be pairs within the symbol table")]
    SymbolReference,
}

/// An exemplar after its walk.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Exemplar {
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// Why it may not travel on, if it may not.
    pub fault: Option<ExemplarFault>,
    /// Why its series may not travel on either: decoders would not agree on what it says.
    pub ambiguity: Option<SeriesFault>,
    bytes: usize,
}

impl Exemplar {
    /// Walks an `Exemplar`, whose labels `labels` reads and tells to it.
    pub(super) fn walk<'a>(
        bytes: &'a [u8],
        mut labels: impl FnMut(&mut Self, &mut Reader<'a>, WireType) -> Result<(), Malformed>,
    ) -> Result<Self, Malformed> {
        let mut exemplar = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some((field, wire_type)) = reader.key()? {
            match field {
                EXEMPLAR_LABELS => labels(&mut exemplar, &mut reader, wire_type)?,
                EXEMPLAR_VALUE => {
                    expect(wire_type, WireType::Fixed64)?;
                    reader.fixed64()?;
                }
                EXEMPLAR_TIMESTAMP => {
                    expect(wire_type, WireType::Varint)?;
                    exemplar.timestamp = reader.varint()?.cast_signed();
                }
                _ => reader.skip(wire_type)?,
            }
        }
        Ok(exemplar)
    }

    /// Takes in a name or a value.
    pub(super) fn take(&mut self, text: &[u8]) {
        self.bytes = self.bytes.saturating_add(text.len());
        if self.bytes > EXEMPLAR_BYTES_MAX {
            self.fail(ExemplarFault::Length);
        }
    }

    pub(super) fn fail(&mut self, fault: ExemplarFault) {
        self.fault = self.fault.max(Some(fault));
    }
}

/// A sample after its walk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// It holds its value and its timestamp once and nothing else.
    pub usual: bool,
}

/// Walks a `Sample`.
#[inline]
pub(super) fn sample(bytes: &[u8], protocol: Protocol) -> Result<Sample, Malformed> {
    if let Some(timestamp) = usual_sample(bytes) {
        return Ok(Sample {
            timestamp,
            usual: true,
        });
    }
    let mut reader = Reader::new(bytes);
    let mut timestamp = 0;
    while let Some((field, wire_type)) = reader.key()? {
        match field {
            SAMPLE_VALUE => {
                expect(wire_type, WireType::Fixed64)?;
                reader.fixed64()?;
            }
            SAMPLE_TIMESTAMP => {
                expect(wire_type, WireType::Varint)?;
                timestamp = reader.varint()?.cast_signed();
            }
            SAMPLE_START_TIMESTAMP if protocol == Protocol::V2 => {
                expect(wire_type, WireType::Varint)?;
                reader.varint()?;
            }
            _ => reader.skip(wire_type)?,
        }
    }
    Ok(Sample {
        timestamp,
        usual: false,
    })
}

/// What was left out, since the other version has no place for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Left {
    /// A start timestamp was left out.
    pub start_timestamp: bool,
    /// Nothing was appended, since it is a histogram of custom buckets.
    pub custom_buckets: bool,
}

/// Appends a sample of the other version as the field `field`. Fields that its version does not
/// define are left out: they could mean something in this version.
pub(super) fn put_sample(
    out: &mut Vec<u8>,
    field: u32,
    bytes: &[u8],
    from: Protocol,
) -> Result<Left, Malformed> {
    let mut left = Left::default();
    let (mut value, mut timestamp): (&[u8], u64) = (&[], 0);
    let mut reader = Reader::new(bytes);
    while let Some((field, wire_type)) = reader.key()? {
        match field {
            SAMPLE_VALUE => {
                value = reader.rest().get(..8).unwrap_or_default();
                reader.fixed64()?;
            }
            SAMPLE_TIMESTAMP => timestamp = reader.varint()?,
            SAMPLE_START_TIMESTAMP if from == Protocol::V2 => {
                left.start_timestamp = reader.varint()? != 0;
            }
            _ => reader.skip(wire_type)?,
        }
    }
    // Defaults are left out, so that a flood of empty samples does not grow.
    let value_len = value.len() + usize::from(!value.is_empty());
    let timestamp_len = match timestamp {
        0 => 0,
        timestamp => 1 + varint_len(timestamp),
    };
    put_key(out, field, WireType::Len);
    put_varint(out, (value_len + timestamp_len) as u64);
    if value_len > 0 {
        put_key(out, SAMPLE_VALUE, WireType::Fixed64);
        out.extend_from_slice(value);
    }
    if timestamp_len > 0 {
        put_key(out, SAMPLE_TIMESTAMP, WireType::Varint);
        put_varint(out, timestamp);
    }
    Ok(left)
}

/// Appends a histogram of the other version as the field `field`, like [`put_sample`] does.
pub(super) fn put_histogram(
    out: &mut Vec<u8>,
    field: u32,
    bytes: &[u8],
    from: Protocol,
) -> Result<Left, Malformed> {
    let mut left = Left::default();
    let (mut schema, mut length) = (0, 0);
    for piece in histogram_fields(bytes) {
        let (number, piece) = piece?;
        match number {
            HISTOGRAM_START_TIMESTAMP if from == Protocol::V2 => {
                let mut reader = Reader::new(piece);
                reader.key()?;
                left.start_timestamp = reader.varint()? != 0;
            }
            HISTOGRAM_SCHEMA => {
                let mut reader = Reader::new(piece);
                reader.key()?;
                // 32 bits, as decoders of `sint32` take them.
                schema = reader.varint()? & u64::from(u32::MAX);
                length += piece.len();
            }
            1..=HISTOGRAM_CUSTOM_VALUES => length += piece.len(),
            _ => {}
        }
    }
    if from == Protocol::V2 && schema == CUSTOM_BUCKETS_SCHEMA {
        return Ok(Left {
            custom_buckets: true,
            ..Left::default()
        });
    }
    put_key(out, field, WireType::Len);
    put_varint(out, length as u64);
    for piece in histogram_fields(bytes) {
        let (number, piece) = piece?;
        if number <= HISTOGRAM_CUSTOM_VALUES {
            out.extend_from_slice(piece);
        }
    }
    Ok(left)
}

/// The fields of a histogram with their numbers, each with its key as it lies.
fn histogram_fields(bytes: &[u8]) -> impl Iterator<Item = Result<(u32, &[u8]), Malformed>> {
    let mut reader = Reader::new(bytes);
    std::iter::from_fn(move || {
        let before = reader.rest();
        let (field, wire_type) = match reader.key() {
            Ok(Some(key)) => key,
            Ok(None) => return None,
            Err(malformed) => return Some(Err(malformed)),
        };
        let skipped = reader.skip(wire_type);
        Some(skipped.map(|()| (field, &before[..before.len() - reader.rest().len()])))
    })
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::wire::proto;

    #[test]
    fn reads_timestamps_of_any_length() {
        let edges = (0..63).flat_map(|bits| [(1i64 << bits) - 1, 1 << bits]);
        let others = [i64::MIN, i64::MAX, -1, 1_764_000_000_000, 0x1234_5678_9abc];
        for timestamp in edges.chain(others) {
            for value in [0.0, 1.5] {
                let series = proto::v1::TimeSeries {
                    samples: vec![proto::v1::Sample { value, timestamp }],
                    ..Default::default()
                };
                let bytes = series.encode_to_vec();
                // prost leaves out a timestamp of 0.
                let expected = (timestamp != 0).then_some((timestamp, &b""[..]));
                assert_eq!(first_sample(&bytes), expected);
            }
        }
    }
}
