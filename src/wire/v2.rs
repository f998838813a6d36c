//! `io.prometheus.write.v2.Request`: the walk over its fields.
//!
//! Symbols may follow the series that refer to them, so a request is walked twice: once for the
//! symbols, once for the series. Names are compared as strings, never by index: a string may
//! stand twice in the table.

mod references;
mod shapes;
mod symbols;

use super::histogram::histogram;
use super::leaf::{self, Exemplar, ExemplarFault};
use super::protobuf::{Malformed, Reader, WireType, expect, varints};
use super::{Kind, Labels, Protocol, Series, SeriesFault};

pub use references::Pair;
pub(super) use references::PairList;
pub use shapes::Shapes;
pub(super) use symbols::Place;
pub use symbols::Symbols;
use symbols::Traits;

pub(super) const SYMBOLS: u32 = 4;
pub(super) const TIMESERIES: u32 = 5;

pub(super) const LABELS_REFS: u32 = 1;
pub(super) const SAMPLES: u32 = 2;
pub(super) const HISTOGRAMS: u32 = 3;
pub(super) const EXEMPLARS: u32 = 4;
pub(super) const METADATA: u32 = 5;

pub(super) const METADATA_TYPE: u32 = 1;
pub(super) const METADATA_HELP_REF: u32 = 3;
pub(super) const METADATA_UNIT_REF: u32 = 4;

/// Stands for a string that a series cannot have, so that the other labels of its description
/// stay in pairs.
pub(super) const UNREADABLE: &[u8] = "\u{fffd}".as_bytes();

/// A top-level field of the message.
#[derive(Debug, Clone, Copy)]
pub enum Field<'a> {
    /// A string of the symbol table.
    Symbol(&'a [u8]),
    /// The bytes of a `TimeSeries`.
    Series(&'a [u8]),
    /// A field that the message does not define.
    Foreign,
}

/// True when the message defines a top-level field of this number.
pub fn is_field(number: u32) -> bool {
    matches!(number, SYMBOLS | TIMESERIES)
}

/// Reads the next top-level field; `None` at the end.
#[inline(always)] // Once for each series: its result would go through memory.
pub fn next_field<'a>(reader: &mut Reader<'a>) -> Result<Option<Field<'a>>, Malformed> {
    const SYMBOLS_KEY: u8 = 4 << 3 | 2;
    const TIMESERIES_KEY: u8 = 5 << 3 | 2;
    if reader.pass(TIMESERIES_KEY) {
        return reader.bytes().map(|raw| Some(Field::Series(raw)));
    }
    if reader.pass(SYMBOLS_KEY) {
        return reader.bytes().map(|text| Some(Field::Symbol(text)));
    }
    let Some((field, wire_type)) = reader.key()? else {
        return Ok(None);
    };
    Ok(Some(match field {
        SYMBOLS => {
            expect(wire_type, WireType::Len)?;
            Field::Symbol(reader.bytes()?)
        }
        TIMESERIES => {
            expect(wire_type, WireType::Len)?;
            Field::Series(reader.bytes()?)
        }
        _ => {
            reader.skip(wire_type)?;
            Field::Foreign
        }
    }))
}

/// Walks a `TimeSeries`; its labels are in `labels` afterwards.
pub fn series<'a>(
    raw: &'a [u8],
    symbols: &Symbols<'a>,
    labels: &mut Labels<'a>,
) -> Result<Series<'a>, Malformed> {
    let mut series = Series::new(raw);
    labels.clear();
    let (refs, rest) = usual_refs(raw).unwrap_or((&[], raw));
    let unusual = read_usual_labels(refs, symbols, labels);
    let mut pairs = Pairs::default();
    let mut packed = Reader::new(unusual);
    while !packed.rest().is_empty() {
        pairs.push(packed.varint()?, symbols, &mut series, labels);
    }
    let read = read_any_items(&mut series, rest, symbols, labels, pairs)?;
    series.block = (unusual.is_empty() && !read.labelled).then_some(refs);
    Ok(series)
}

/// Reads the labels at the front of packed references, as far as these hold. Returns what follows
/// them.
pub(super) fn read_usual_labels<'a, 'r>(
    mut refs: &'r [u8],
    symbols: &Symbols<'a>,
    labels: &mut Labels<'a>,
) -> &'r [u8] {
    while let Some((label, rest)) = symbols.usual_label(refs) {
        labels.push(label.name, label.value);
        refs = rest;
    }
    refs
}

/// What is known of a series behind its labels.
struct ReadItems<'a> {
    /// There are more labels.
    labelled: bool,
    /// Metadata without a fault that stands once, at the end of the series, with its key.
    last_metadata: Option<&'a [u8]>,
}

/// Reads what a series carries behind its packed references, and keeps further labels as well.
/// `good_metadata` is metadata with its key that was found to hold; it may be empty.
#[inline]
fn read_items<'a>(
    series: &mut Series<'a>,
    rest: &'a [u8],
    symbols: &Symbols<'a>,
    labels: &mut Labels<'a>,
    good_metadata: &[u8],
) -> Result<ReadItems<'a>, Malformed> {
    if let Some((timestamp, after)) = leaf::first_sample(rest)
        && (after.is_empty() || after == good_metadata)
    {
        series.samples = Some(&rest[..rest.len() - after.len()]);
        series.metadata = after;
        series
            .counts
            .add(Kind::Metadata, u64::from(!after.is_empty()));
        series.times.add(timestamp);
        series.counts.add(Kind::Float, 1);
        return Ok(ReadItems {
            labelled: false,
            last_metadata: None,
        });
    }
    read_any_items(series, rest, symbols, labels, Pairs::default())
}

/// [`read_items`] for whatever a series carries. `pairs` has been given the references before.
fn read_any_items<'a>(
    series: &mut Series<'a>,
    rest: &'a [u8],
    symbols: &Symbols<'a>,
    labels: &mut Labels<'a>,
    mut pairs: Pairs<'a>,
) -> Result<ReadItems<'a>, Malformed> {
    let mut read = ReadItems {
        labelled: false,
        last_metadata: None,
    };
    let mut usual = true;
    let mut metadata: Option<Metadata> = None;
    let mut reader = Reader::new(rest);
    loop {
        let before = reader.rest();
        let Some((field, wire_type)) = reader.key()? else {
            break;
        };
        match field {
            LABELS_REFS => {
                read.labelled = true;
                varints(&mut reader, wire_type, |reference| {
                    pairs.push(reference, symbols, series, labels);
                })?;
            }
            SAMPLES => {
                expect(wire_type, WireType::Len)?;
                let sample = leaf::sample(reader.bytes()?, Protocol::V2)?;
                usual &= sample.usual;
                series.times.add(sample.timestamp);
                series.counts.add(Kind::Float, 1);
                continue;
            }
            HISTOGRAMS => {
                expect(wire_type, WireType::Len)?;
                series.add_histogram(histogram(reader.bytes()?, Protocol::V2)?);
            }
            EXEMPLARS => {
                expect(wire_type, WireType::Len)?;
                series.add_exemplar(&exemplar(reader.bytes()?, symbols)?);
            }
            METADATA => {
                expect(wire_type, WireType::Len)?;
                let first = metadata.is_none();
                metadata = Some(metadata.unwrap_or_default().merge(reader.bytes()?)?);
                if first && reader.rest().is_empty() {
                    read.last_metadata = Some(before);
                    continue;
                }
            }
            _ => {
                reader.skip(wire_type)?;
                series.foreign = true;
            }
        }
        usual = false;
    }
    if pairs.name.is_some() {
        series.fail(SeriesFault::SymbolReference);
    }
    if let Some(metadata) = metadata {
        series.counts.add(Kind::Metadata, 1);
        if metadata.fault(symbols).is_some() {
            series.faulty += 1;
            read.last_metadata = None;
            usual = false;
        }
        if metadata.is_ambiguous() {
            series.fail(SeriesFault::SymbolReference);
        }
    }
    if usual && !series.foreign {
        series.metadata = read.last_metadata.unwrap_or_default();
        series.samples = Some(&rest[..rest.len() - series.metadata.len()]);
    }
    Ok(read)
}

/// Splits a series that begins with all its references, packed, as every encoder writes it.
#[inline]
fn usual_refs(raw: &[u8]) -> Option<(&[u8], &[u8])> {
    const LABELS_REFS_KEY: u8 = 1 << 3 | 2;
    let [LABELS_REFS_KEY, rest @ ..] = raw else {
        return None;
    };
    let mut reader = Reader::new(rest);
    Some((reader.bytes().ok()?, reader.rest()))
}

/// Puts references together to labels; a pair may lie across packed chunks.
#[derive(Debug, Default)]
struct Pairs<'a> {
    name: Option<&'a [u8]>,
}

impl<'a> Pairs<'a> {
    fn push(
        &mut self,
        reference: u64,
        symbols: &Symbols<'a>,
        series: &mut Series<'a>,
        labels: &mut Labels<'a>,
    ) {
        let text = symbols.get(reference).unwrap_or_else(|fault| {
            series.fail(fault);
            UNREADABLE
        });
        match self.name.take() {
            Some(name) => labels.push(name, text),
            None => self.name = Some(text),
        }
    }
}

/// A `Metadata` with its repetitions merged, as protobuf asks for a field that is not repeated.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Metadata {
    pub(super) metric_type: u64,
    help_ref: u64,
    unit_ref: u64,
}

impl Metadata {
    /// Takes a further `Metadata` of the same series in.
    pub(super) fn merge(mut self, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        while let Some((field, wire_type)) = reader.key()? {
            let slot = match field {
                METADATA_TYPE => &mut self.metric_type,
                METADATA_HELP_REF => &mut self.help_ref,
                METADATA_UNIT_REF => &mut self.unit_ref,
                _ => {
                    reader.skip(wire_type)?;
                    continue;
                }
            };
            expect(wire_type, WireType::Varint)?;
            *slot = reader.varint()?;
        }
        Ok(self)
    }

    /// Its help and its unit.
    pub(super) fn strings<'a>(self, symbols: &Symbols<'a>) -> [Result<&'a [u8], SeriesFault>; 2] {
        [self.help_ref, self.unit_ref].map(|reference| symbols.get_optional(reference))
    }

    /// Why it may not travel on, if it may not.
    pub(super) fn fault(self, symbols: &Symbols<'_>) -> Option<MetadataFault> {
        let [help, unit] = self.strings(symbols).map(|text| match text {
            Ok(_) => None,
            Err(SeriesFault::InvalidUtf8) => Some(MetadataFault::InvalidUtf8),
            Err(_) => Some(MetadataFault::SymbolReference),
        });
        help.max(unit)
    }

    /// True when decoders that keep the low 32 bits of a reference read something else than others.
    fn is_ambiguous(self) -> bool {
        let refs = [self.help_ref, self.unit_ref];
        refs.iter()
            .any(|reference| u32::try_from(*reference).is_err())
    }
}

/// Why metadata may not travel on. Of several, the last in this order counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum MetadataFault {
    /// A string that is not UTF-8.
    #[error("its metadata must be UTF-8")]
    InvalidUtf8,
    /// A symbol reference out of range.
    #[error("the references of its metadata must be within the symbol table")]
    SymbolReference,
}

/// Walks an `Exemplar`. Its labels are no part of the series' identity, so no policy looks at them; their
/// references must hold.
pub(super) fn exemplar(bytes: &[u8], symbols: &Symbols<'_>) -> Result<Exemplar, Malformed> {
    let mut references = 0usize;
    let mut exemplar = Exemplar::walk(bytes, |exemplar, reader, wire_type| {
        varints(reader, wire_type, |reference| {
            references += 1;
            // Some decoders keep the low 32 bits.
            if u32::try_from(reference).is_err() {
                exemplar.ambiguity = Some(SeriesFault::SymbolReference);
            }
            match symbols.get(reference) {
                Ok(text) => exemplar.take(text),
                Err(SeriesFault::InvalidUtf8) => exemplar.fail(ExemplarFault::InvalidUtf8),
                Err(_) => exemplar.fail(ExemplarFault::SymbolReference),
            }
        })
    })?;
    if !references.is_multiple_of(2) {
        exemplar.fail(ExemplarFault::SymbolReference);
    }
    Ok(exemplar)
}
