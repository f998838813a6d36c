//! `prometheus.WriteRequest`: the walk over its fields.

mod shapes;

use super::histogram::histogram;
use super::leaf::{self, Exemplar, ExemplarFault};
use super::protobuf::{Malformed, Reader, WireType, expect};
use super::utf8::{is_ascii, is_utf8};
use super::{Kind, Label, Labels, Protocol, Series, SeriesFault};

pub use shapes::{Matched, Shapes};

pub(super) const LABELS: u32 = 1;
pub(super) const SAMPLES: u32 = 2;
pub(super) const EXEMPLARS: u32 = 3;
pub(super) const HISTOGRAMS: u32 = 4;

pub(super) const LABEL_NAME: u32 = 1;
pub(super) const LABEL_VALUE: u32 = 2;

/// Keys as one byte: field number and the wire type of length-delimited fields, 2.
const TIMESERIES_KEY: u8 = 1 << 3 | 2;
const LABELS_KEY: u8 = 1 << 3 | 2;
const NAME_KEY: u8 = 1 << 3 | 2;
const VALUE_KEY: u8 = 2 << 3 | 2;

pub(super) const TIMESERIES: u32 = 1;
pub(super) const METADATA: u32 = 3;

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

/// True when the message defines a top-level field of this number.
pub fn is_field(number: u32) -> bool {
    matches!(number, TIMESERIES | METADATA)
}

/// Reads the next top-level field; `None` at the end.
#[inline(always)] // Once for each series: its result would go through memory.
pub fn next_field<'a>(reader: &mut Reader<'a>) -> Result<Option<Field<'a>>, Malformed> {
    if reader.pass(TIMESERIES_KEY) {
        return reader.bytes().map(|raw| Some(Field::Series(raw)));
    }
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

/// Walks a `TimeSeries`; its labels are in `labels` afterwards.
pub fn series<'a>(raw: &'a [u8], labels: &mut Labels<'a>) -> Result<Series<'a>, Malformed> {
    let mut series = Series::new(raw);
    labels.clear();
    let rest = read_usual_labels(raw, labels);
    let block = &raw[..raw.len() - rest.len()];
    if !is_block_utf8(block) {
        series.fail(SeriesFault::InvalidUtf8);
    }
    let labelled = read_items(&mut series, rest, labels)?;
    series.block = (!labelled).then_some(block);
    Ok(series)
}

/// Reads the labels at the front of a series, as far as they are encoded as every encoder does it.
/// Returns what follows them.
pub(super) fn read_usual_labels<'a>(mut bytes: &'a [u8], labels: &mut Labels<'a>) -> &'a [u8] {
    while bytes.first() == Some(&LABELS_KEY) {
        if let Some((label, rest)) = short_label(bytes) {
            labels.push(label.name, label.value);
            bytes = rest;
        } else if let Some((label, rest)) = long_label(bytes) {
            // A second call, since what comes from another function goes through memory.
            labels.push(label.name, label.value);
            bytes = rest;
        } else {
            break;
        }
    }
    bytes
}

/// True when the strings of labels are UTF-8 that [`usual_label`] reads one after the other.
fn is_block_utf8(block: &[u8]) -> bool {
    is_ascii(block) || usual_labels(block).all(|it| is_utf8(it.name) && is_utf8(it.value))
}

/// The labels at the front of a series, as far as they are encoded as every encoder does it.
pub(super) fn usual_labels(bytes: &[u8]) -> impl Iterator<Item = Label<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (label, after) = usual_label(rest)?;
        rest = after;
        Some(label)
    })
}

/// Splits a block of usual labels in front of the label at a place.
#[inline]
pub(super) fn split_block(block: &[u8], place: usize) -> (&[u8], &[u8]) {
    let mut rest = block;
    for _ in 0..place {
        let Some((_, after)) = usual_label(rest) else {
            break;
        };
        rest = after;
    }
    block.split_at(block.len() - rest.len())
}

/// Reads what a series carries behind its labels. Returns whether there are more labels, which it
/// keeps as well.
#[inline]
fn read_items<'a>(
    series: &mut Series<'a>,
    rest: &'a [u8],
    labels: &mut Labels<'a>,
) -> Result<bool, Malformed> {
    if let Some((timestamp, [])) = leaf::first_sample(rest) {
        series.samples = Some(rest);
        series.times.add(timestamp);
        series.counts.add(Kind::Float, 1);
        return Ok(false);
    }
    read_any_items(series, rest, labels)
}

fn read_any_items<'a>(
    series: &mut Series<'a>,
    rest: &'a [u8],
    labels: &mut Labels<'a>,
) -> Result<bool, Malformed> {
    let (mut usual, mut labelled) = (true, false);
    let mut reader = Reader::new(rest);
    while let Some((field, wire_type)) = reader.key()? {
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
                labels.push(label.label.name, label.label.value);
                labelled = true;
                series.foreign |= label.foreign;
                if label.repeated {
                    series.fail(SeriesFault::RepeatedLabelField);
                }
                if !label.utf8 {
                    series.fail(SeriesFault::InvalidUtf8);
                }
            }
            SAMPLES => {
                let sample = leaf::sample(bytes, Protocol::V1)?;
                usual &= sample.usual;
                series.times.add(sample.timestamp);
                series.counts.add(Kind::Float, 1);
                continue;
            }
            EXEMPLARS => series.add_exemplar(&exemplar(bytes)?),
            _ => {
                series.add_histogram(histogram(bytes, Protocol::V1)?);
            }
        }
        usual = false;
    }
    series.samples = (usual && !series.foreign).then_some(rest);
    Ok(labelled)
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

/// Reads a label that is encoded as every encoder does it: its name, its value and nothing else. The
/// others are for the strict [`label`].
#[inline]
fn usual_label(bytes: &[u8]) -> Option<(Label<'_>, &[u8])> {
    short_label(bytes).or_else(|| long_label(bytes))
}

/// [`usual_label`] for a label of less than 128 bytes, whose lengths are varints of one byte.
#[inline(always)] // As with `Labels::push`.
fn short_label(bytes: &[u8]) -> Option<(Label<'_>, &[u8])> {
    let [LABELS_KEY, length @ 0..0x80, NAME_KEY, name_len, rest @ ..] = bytes else {
        return None;
    };
    let (name, rest) = rest.split_at_checked(usize::from(*name_len))?;
    let [VALUE_KEY, value_len, rest @ ..] = rest else {
        return None;
    };
    let (value, rest) = rest.split_at_checked(usize::from(*value_len))?;
    let whole = usize::from(*length) == name.len() + value.len() + 4;
    whole.then_some((Label { name, value }, rest))
}

/// [`usual_label`] for a label of 128 bytes or more, such as the `id` that cAdvisor gives every
/// series.
#[inline(never)]
fn long_label(bytes: &[u8]) -> Option<(Label<'_>, &[u8])> {
    fn field<'a>(reader: &mut Reader<'a>, key: u8) -> Option<&'a [u8]> {
        reader.pass(key).then(|| reader.bytes().ok()).flatten()
    }
    if !matches!(bytes, [LABELS_KEY, 0x80..=0xff, ..]) {
        return None;
    }
    let mut reader = Reader::new(bytes);
    let mut label = Reader::new(field(&mut reader, LABELS_KEY)?);
    let name = field(&mut label, NAME_KEY)?;
    let value = field(&mut label, VALUE_KEY)?;
    let whole = label.rest().is_empty();
    whole.then_some((Label { name, value }, reader.rest()))
}

pub(super) struct WalkedLabel<'a> {
    pub(super) label: Label<'a>,
    /// Every string given is UTF-8, also one that a repetition hides: decoders may check it.
    utf8: bool,
    repeated: bool,
    foreign: bool,
}

/// Walks a `Label`.
#[inline]
pub(super) fn label(bytes: &[u8]) -> Result<WalkedLabel<'_>, Malformed> {
    let mut reader = Reader::new(bytes);
    let (mut name, mut value) = (None, None);
    let (mut utf8, mut repeated, mut foreign) = (true, false, false);
    while let Some((field, wire_type)) = reader.key()? {
        let slot = match field {
            LABEL_NAME => &mut name,
            LABEL_VALUE => &mut value,
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

/// Walks an `Exemplar`. Its labels are no part of the series' identity, so no policy looks at them.
pub(super) fn exemplar(bytes: &[u8]) -> Result<Exemplar, Malformed> {
    Exemplar::walk(bytes, |exemplar, reader, wire_type| {
        expect(wire_type, WireType::Len)?;
        let label = label(reader.bytes()?)?;
        if label.repeated {
            exemplar.ambiguity = Some(SeriesFault::RepeatedLabelField);
        }
        if !label.utf8 {
            exemplar.fail(ExemplarFault::InvalidUtf8);
        }
        exemplar.take(label.label.name);
        exemplar.take(label.label.value);
        Ok(())
    })
}
