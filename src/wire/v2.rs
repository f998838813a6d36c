//! `io.prometheus.write.v2.Request`: the walk over its fields.
//!
//! Symbols may follow the series that refer to them, so a request is walked twice: once for the
//! symbols, once for the series. Names are compared as strings, never by index: a string may
//! stand twice in the table.

use super::histogram::histogram;
use super::labels::{is_utf8, recycle};
use super::leaf::{self, EXEMPLAR_LABELS, EXEMPLAR_TIMESTAMP, EXEMPLAR_VALUE};
use super::protobuf::{Malformed, Reader, WireType, expect, varints};
use super::{Kind, Label, Labels, Protocol, Series, SeriesFault};

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
const UNREADABLE: &[u8] = "\u{fffd}".as_bytes();

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

/// Reads the next top-level field; `None` at the end.
#[inline]
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

/// The symbol table of one request.
#[derive(Debug, Default)]
pub struct Symbols<'a> {
    list: Vec<Symbol<'a>>,
    max: usize,
    overflow: bool,
    invalid: bool,
    foreign: bool,
}

#[derive(Debug, Clone, Copy)]
struct Symbol<'a> {
    text: &'a [u8],
    utf8: bool,
}

impl<'a> Symbols<'a> {
    /// An empty table that keeps at most `max` symbols, in the memory of `spare`.
    pub fn new(spare: Symbols<'_>, max: usize) -> Self {
        Self {
            list: recycle(spare.list),
            max,
            overflow: false,
            invalid: false,
            foreign: false,
        }
    }

    /// Collects the symbols of a message.
    pub fn collect(&mut self, message: &'a [u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(message);
        while let Some(field) = next_field(&mut reader)? {
            match field {
                Field::Symbol(text) => self.push(text),
                Field::Series(_) => {}
                Field::Foreign => self.foreign = true,
            }
        }
        Ok(())
    }

    /// The memory that the table holds, in bytes.
    pub fn bytes(&self) -> usize {
        self.list.capacity() * size_of::<Symbol<'_>>()
    }

    /// True when the message holds fields that it does not define.
    pub fn foreign(&self) -> bool {
        self.foreign
    }

    /// Keeps a symbol, or remembers that it was one too many.
    #[inline]
    fn push(&mut self, text: &'a [u8]) {
        if self.list.len() < self.max {
            let utf8 = is_utf8(text);
            self.invalid |= !utf8;
            self.list.push(Symbol { text, utf8 });
        } else {
            self.overflow = true;
        }
    }

    /// True when the request had more symbols than are kept.
    pub fn overflow(&self) -> bool {
        self.overflow
    }

    /// True when the first symbol is not the empty string that the specification asks for.
    pub fn displaced(&self) -> bool {
        self.list
            .first()
            .is_some_and(|symbol| !symbol.text.is_empty())
    }

    /// True when a symbol is not UTF-8. Decoders that check it refuse the whole request for one,
    /// even if no series refers to it.
    pub fn invalid(&self) -> bool {
        self.invalid
    }

    /// Reads a pair of references that hold.
    #[inline]
    fn usual_label<'r>(&self, refs: &'r [u8]) -> Option<(Label<'a>, &'r [u8])> {
        let mut reader = Reader::new(refs);
        let name = self.get(reader.varint().ok()?).ok()?;
        let value = self.get(reader.varint().ok()?).ok()?;
        Some((Label { name, value }, reader.rest()))
    }

    /// The string that a reference leads to.
    #[inline]
    pub(super) fn get(&self, reference: u64) -> Result<&'a [u8], SeriesFault> {
        let symbol = usize::try_from(reference)
            .ok()
            .and_then(|index| self.list.get(index));
        match symbol {
            Some(symbol) if symbol.utf8 => Ok(symbol.text),
            Some(_) => Err(SeriesFault::InvalidUtf8),
            None => Err(SeriesFault::SymbolReference),
        }
    }

    /// Like [`Self::get`] for a reference whose absence, 0, means the empty string even where
    /// the table is empty.
    fn get_optional(&self, reference: u64) -> Result<&'a [u8], SeriesFault> {
        if reference == 0 && self.list.is_empty() {
            Ok(b"")
        } else {
            self.get(reference)
        }
    }
}

/// Walks a `TimeSeries`; its labels are in `labels` afterwards.
pub fn series<'a>(
    raw: &'a [u8],
    symbols: &Symbols<'a>,
    labels: &mut Labels<'a>,
) -> Result<Series<'a>, Malformed> {
    let mut series = Series::new(raw);
    let mut pairs = Pairs::default();
    let (refs, rest) = usual_refs(raw).unwrap_or((&[], raw));
    let mut packed = Reader::new(labels.follow(refs, |bytes| symbols.usual_label(bytes), |_| true));
    while !packed.rest().is_empty() {
        pairs.push(packed.varint()?, symbols, &mut series, labels);
    }
    if let Some((timestamp, after)) = leaf::first_sample(rest)
        && pairs.name.is_none()
        && (after.is_empty() || after == labels.tail())
    {
        if after.is_empty() {
            series.samples = Some(rest);
        } else {
            series.counts.add(Kind::Metadata, 1);
        }
        series.times.add(timestamp);
        series.counts.add(Kind::Float, 1);
        return Ok(series);
    }
    let mut usual = true;
    let mut has_metadata = false;
    let mut reader = Reader::new(rest);
    loop {
        let before = reader.rest();
        let Some((field, wire_type)) = reader.key()? else {
            break;
        };
        match field {
            LABELS_REFS => varints(&mut reader, wire_type, |reference| {
                pairs.push(reference, symbols, &mut series, labels);
            })?,
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
                let exemplar = exemplar(reader.bytes()?, symbols)?;
                if let Err(fault) = exemplar.references {
                    series.fail(fault);
                }
                series.add_exemplar(exemplar.timestamp);
            }
            METADATA => {
                expect(wire_type, WireType::Len)?;
                let metadata = Metadata::default().merge(reader.bytes()?)?;
                match metadata.strings(symbols) {
                    Ok(_) if reader.rest().is_empty() => labels.set_tail(before),
                    Ok(_) => {}
                    Err(fault) => series.fail(fault),
                }
                has_metadata = true;
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
    series.samples = (usual && !series.foreign).then_some(rest);
    series.counts.add(Kind::Metadata, u64::from(has_metadata));
    Ok(series)
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
            Some(name) => labels.push(Label { name, value: text }),
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
    pub(super) fn strings<'a>(
        self,
        symbols: &Symbols<'a>,
    ) -> Result<(&'a [u8], &'a [u8]), SeriesFault> {
        Ok((
            symbols.get_optional(self.help_ref)?,
            symbols.get_optional(self.unit_ref)?,
        ))
    }
}

struct WalkedExemplar {
    /// Milliseconds since the Unix epoch.
    timestamp: i64,
    /// Whether the references of its labels hold.
    references: Result<(), SeriesFault>,
}

/// Walks an `Exemplar`. Its labels are no part of the series' identity, so no policy looks at
/// them; their references must hold.
fn exemplar(bytes: &[u8], symbols: &Symbols<'_>) -> Result<WalkedExemplar, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut timestamp = 0;
    let mut references = 0usize;
    let mut result = Ok(());
    while let Some((field, wire_type)) = reader.key()? {
        match field {
            EXEMPLAR_LABELS => varints(&mut reader, wire_type, |reference| {
                references += 1;
                result = result.and(symbols.get(reference).map(drop));
            })?,
            EXEMPLAR_VALUE => {
                expect(wire_type, WireType::Fixed64)?;
                reader.fixed64()?;
            }
            EXEMPLAR_TIMESTAMP => {
                expect(wire_type, WireType::Varint)?;
                timestamp = reader.varint()?.cast_signed();
            }
            _ => reader.skip(wire_type)?,
        }
    }
    if !references.is_multiple_of(2) {
        result = result.and(Err(SeriesFault::SymbolReference));
    }
    Ok(WalkedExemplar {
        timestamp,
        references: result,
    })
}
