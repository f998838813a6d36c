//! `prometheus.WriteRequest`: the walk over its fields, and the writer of a checked one.

use super::leaf;
use super::protobuf::{
    Malformed, Reader, WireType, expect, put_bytes, put_key, put_varint, varint_len,
};
use super::{Kind, Label, Labels, Protocol, Series, SeriesFault};

const LABELS: u32 = 1;
const SAMPLES: u32 = 2;
const EXEMPLARS: u32 = 3;
const HISTOGRAMS: u32 = 4;

/// Keys as one byte: field number and the wire type of length-delimited fields, 2.
const LABELS_KEY: u8 = 1 << 3 | 2;
const NAME_KEY: u8 = 1 << 3 | 2;
const VALUE_KEY: u8 = 2 << 3 | 2;

const TIMESERIES: u32 = 1;
const METADATA: u32 = 3;

/// A top-level field of the message.
#[derive(Debug, Clone, Copy)]
pub enum Field<'a> {
    /// The bytes of a `TimeSeries`.
    Series(&'a [u8]),
    /// The bytes of a `MetricMetadata`.
    Metadata(&'a [u8]),
    /// A field that the message does not define.
    Foreign,
}

/// Reads the next top-level field; `None` at the end.
#[inline]
pub fn next_field<'a>(reader: &mut Reader<'a>) -> Result<Option<Field<'a>>, Malformed> {
    let Some((field, wire_type)) = reader.key()? else {
        return Ok(None);
    };
    Ok(Some(match field {
        TIMESERIES => {
            expect(wire_type, WireType::Len)?;
            Field::Series(reader.bytes()?)
        }
        METADATA => {
            expect(wire_type, WireType::Len)?;
            Field::Metadata(reader.bytes()?)
        }
        _ => {
            reader.skip(wire_type)?;
            Field::Foreign
        }
    }))
}

/// Walks a `TimeSeries` and fills `labels` with its labels.
#[inline]
pub fn series<'a>(raw: &'a [u8], labels: &mut Labels<'a>) -> Result<Series<'a>, Malformed> {
    labels.clear();
    let mut series = Series::new(raw);
    let mut reader = Reader::new(raw);
    loop {
        if !usual_labels(&mut reader, labels) {
            series.fail(SeriesFault::InvalidUtf8);
        }
        let Some((field, wire_type)) = reader.key()? else {
            return Ok(series);
        };
        if field > HISTOGRAMS {
            reader.skip(wire_type)?;
            series.foreign = true;
            continue;
        }
        expect(wire_type, WireType::Len)?;
        let bytes = reader.bytes()?;
        match field {
            LABELS => {
                let label = label(bytes)?;
                labels.push(label.label);
                series.foreign |= label.foreign;
                if label.repeated {
                    series.fail(SeriesFault::RepeatedLabelField);
                }
                if !label.utf8 {
                    series.fail(SeriesFault::InvalidUtf8);
                }
            }
            SAMPLES => {
                series.times.add(leaf::sample(bytes, Protocol::V1)?);
                series.counts.add(Kind::Float, 1);
            }
            EXEMPLARS => {
                if !exemplar(bytes)? {
                    series.fail(SeriesFault::InvalidUtf8);
                }
                series.counts.add(Kind::Exemplar, 1);
            }
            _ => {
                series.times.add(leaf::histogram(bytes, Protocol::V1)?);
                series.counts.add(Kind::Histogram, 1);
            }
        }
    }
}

/// Walks a `MetricMetadata`; false when one of its strings is not UTF-8.
pub fn metadata(bytes: &[u8]) -> Result<bool, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut valid = true;
    while let Some((field, wire_type)) = reader.key()? {
        match field {
            1 => {
                expect(wire_type, WireType::Varint)?;
                reader.varint()?;
            }
            2 | 4 | 5 => {
                expect(wire_type, WireType::Len)?;
                valid &= str::from_utf8(reader.bytes()?).is_ok();
            }
            _ => reader.skip(wire_type)?,
        }
    }
    Ok(valid)
}

/// Appends the bytes of a `MetricMetadata` as they lie.
pub fn put_metadata(out: &mut Vec<u8>, raw: &[u8]) {
    put_bytes(out, METADATA, raw);
}

/// Appends a series with `labels` instead of its own, and nothing that the message does not
/// define.
pub fn put_series(
    out: &mut Vec<u8>,
    series: &Series<'_>,
    labels: &[Label<'_>],
) -> Result<(), Malformed> {
    let labels_len: usize = labels.iter().map(|label| field_len(label_len(label))).sum();
    let rest_len: usize = rest_fields(series.raw)
        .map(|rest| rest.map(|(_, bytes)| field_len(bytes.len())))
        .sum::<Result<usize, _>>()?;
    put_key(out, TIMESERIES, WireType::Len);
    put_varint(out, (labels_len + rest_len) as u64);
    for label in labels {
        put_key(out, LABELS, WireType::Len);
        put_varint(out, label_len(label) as u64);
        put_bytes(out, 1, label.name);
        put_bytes(out, 2, label.value);
    }
    for rest in rest_fields(series.raw) {
        let (field, bytes) = rest?;
        put_bytes(out, field, bytes);
    }
    Ok(())
}

/// Walks labels at the front as long as they are encoded as every encoder does and their lengths
/// take a byte each, which is nearly all of them; false when one is not UTF-8.
///
/// They are checked for UTF-8 together: keys and lengths below 128 are ASCII, so the bytes are
/// UTF-8 as a whole exactly if each string is.
#[inline]
fn usual_labels<'a>(reader: &mut Reader<'a>, labels: &mut Labels<'a>) -> bool {
    let start = reader.rest();
    let mut rest = start;
    while let Some((label, after)) = usual_label(rest) {
        labels.push(label);
        rest = after;
    }
    *reader = Reader::new(rest);
    str::from_utf8(&start[..start.len() - rest.len()]).is_ok()
}

#[inline]
fn usual_label(bytes: &[u8]) -> Option<(Label<'_>, &[u8])> {
    let [LABELS_KEY, length, NAME_KEY, name_len, rest @ ..] = bytes else {
        return None;
    };
    let (name, rest) = rest.split_at_checked(usize::from(*name_len))?;
    let [VALUE_KEY, value_len, rest @ ..] = rest else {
        return None;
    };
    let (value, rest) = rest.split_at_checked(usize::from(*value_len))?;
    // Below 128 each, the lengths are varints of one byte.
    let whole = usize::from(*length) == name.len() + value.len() + 4;
    (whole && *length < 0x80).then_some((Label { name, value }, rest))
}

struct WalkedLabel<'a> {
    label: Label<'a>,
    /// Every string given is UTF-8, also one that a repetition hides: decoders may check it.
    utf8: bool,
    repeated: bool,
    foreign: bool,
}

#[inline]
fn label(bytes: &[u8]) -> Result<WalkedLabel<'_>, Malformed> {
    let mut reader = Reader::new(bytes);
    let (mut name, mut value) = (None, None);
    let (mut utf8, mut repeated, mut foreign) = (true, false, false);
    while let Some((field, wire_type)) = reader.key()? {
        let slot = match field {
            1 => &mut name,
            2 => &mut value,
            _ => {
                reader.skip(wire_type)?;
                foreign = true;
                continue;
            }
        };
        expect(wire_type, WireType::Len)?;
        let text = reader.bytes()?;
        utf8 &= str::from_utf8(text).is_ok();
        repeated |= slot.replace(text).is_some();
    }
    let label = Label {
        name: name.unwrap_or_default(),
        value: value.unwrap_or_default(),
    };
    Ok(WalkedLabel {
        label,
        utf8,
        repeated,
        foreign,
    })
}

/// Walks an `Exemplar`; false when a string of its labels is not UTF-8. Its labels are no part of
/// the series' identity, so no policy looks at them.
fn exemplar(bytes: &[u8]) -> Result<bool, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut valid = true;
    while let Some((field, wire_type)) = reader.key()? {
        match field {
            1 => {
                expect(wire_type, WireType::Len)?;
                valid &= label(reader.bytes()?)?.utf8;
            }
            2 => {
                expect(wire_type, WireType::Fixed64)?;
                reader.fixed64()?;
            }
            3 => {
                expect(wire_type, WireType::Varint)?;
                reader.varint()?;
            }
            _ => reader.skip(wire_type)?,
        }
    }
    Ok(valid)
}

/// The samples, exemplars and histograms of a series, as they lie.
fn rest_fields(raw: &[u8]) -> impl Iterator<Item = Result<(u32, &[u8]), Malformed>> {
    let mut reader = Reader::new(raw);
    std::iter::from_fn(move || {
        loop {
            let (field, wire_type) = match reader.key() {
                Ok(Some(key)) => key,
                Ok(None) => return None,
                Err(malformed) => return Some(Err(malformed)),
            };
            if matches!(field, SAMPLES | EXEMPLARS | HISTOGRAMS) {
                return Some(reader.bytes().map(|bytes| (field, bytes)));
            }
            if let Err(malformed) = reader.skip(wire_type) {
                return Some(Err(malformed));
            }
        }
    })
}

fn label_len(label: &Label<'_>) -> usize {
    field_len(label.name.len()) + field_len(label.value.len())
}

/// The bytes of a length-delimited field with a one-byte key.
fn field_len(length: usize) -> usize {
    1 + varint_len(length as u64) + length
}
