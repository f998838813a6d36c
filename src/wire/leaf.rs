//! The messages that V1 and V2 share field by field: sample and histogram.
//!
//! They are checked and copied, never built: values must arrive bit for bit, and a stale marker
//! is a NaN that arithmetic could change.

use super::Protocol;
use super::protobuf::{Malformed, Reader, WireType, doubles, expect, varints};

/// Walks a `Sample` and returns its timestamp in milliseconds.
#[inline]
pub(super) fn sample(bytes: &[u8], protocol: Protocol) -> Result<i64, Malformed> {
    // As every encoder writes it: the value, the timestamp, nothing else.
    if let [0x09, _, _, _, _, _, _, _, _, 0x10, timestamp @ ..] = bytes {
        let mut reader = Reader::new(timestamp);
        let timestamp = reader.varint()?.cast_signed();
        if reader.rest().is_empty() {
            return Ok(timestamp);
        }
    }
    let mut reader = Reader::new(bytes);
    let mut timestamp = 0;
    while let Some((field, wire_type)) = reader.key()? {
        match field {
            1 => {
                expect(wire_type, WireType::Fixed64)?;
                reader.fixed64()?;
            }
            2 => {
                expect(wire_type, WireType::Varint)?;
                timestamp = reader.varint()?.cast_signed();
            }
            3 if protocol == Protocol::V2 => {
                expect(wire_type, WireType::Varint)?;
                reader.varint()?;
            }
            _ => reader.skip(wire_type)?,
        }
    }
    Ok(timestamp)
}

/// Walks a `Histogram` and returns its timestamp in milliseconds.
pub(super) fn histogram(bytes: &[u8], protocol: Protocol) -> Result<i64, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut timestamp = 0;
    while let Some((field, wire_type)) = reader.key()? {
        match field {
            // count_int, schema, zero_count_int, reset_hint
            1 | 4 | 6 | 14 => {
                expect(wire_type, WireType::Varint)?;
                reader.varint()?;
            }
            // count_float, sum, zero_threshold, zero_count_float
            2 | 3 | 5 | 7 => {
                expect(wire_type, WireType::Fixed64)?;
                reader.fixed64()?;
            }
            8 | 11 => {
                expect(wire_type, WireType::Len)?;
                bucket_span(reader.bytes()?)?;
            }
            9 | 12 => varints(&mut reader, wire_type, drop)?,
            // negative_counts, positive_counts, custom_values
            10 | 13 | 16 => doubles(&mut reader, wire_type)?,
            15 => {
                expect(wire_type, WireType::Varint)?;
                timestamp = reader.varint()?.cast_signed();
            }
            17 if protocol == Protocol::V2 => {
                expect(wire_type, WireType::Varint)?;
                reader.varint()?;
            }
            _ => reader.skip(wire_type)?,
        }
    }
    Ok(timestamp)
}

fn bucket_span(bytes: &[u8]) -> Result<(), Malformed> {
    let mut reader = Reader::new(bytes);
    while let Some((field, wire_type)) = reader.key()? {
        if field == 1 || field == 2 {
            expect(wire_type, WireType::Varint)?;
        }
        reader.skip(wire_type)?;
    }
    Ok(())
}
