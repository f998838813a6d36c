//! `io.prometheus.write.v2.Request`: the walk over its fields, and the writer of a checked one.
//!
//! Symbols may follow the series that refer to them, so a request is walked twice: once for the
//! symbols, once for the series. Names are compared as strings, never by index: a string may
//! stand twice in the table.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::leaf;
use super::protobuf::{
    Malformed, Reader, WireType, expect, put_bytes, put_key, put_varint, varint_len, varints,
};
use super::{Kind, Label, Labels, Protocol, Series, SeriesFault, recycle};

const SYMBOLS: u32 = 4;
const TIMESERIES: u32 = 5;

const LABELS_REFS: u32 = 1;
const SAMPLES: u32 = 2;
const HISTOGRAMS: u32 = 3;
const EXEMPLARS: u32 = 4;
const METADATA: u32 = 5;

const EXEMPLAR_LABELS_REFS: u32 = 1;

const METADATA_TYPE: u32 = 1;
const METADATA_HELP_REF: u32 = 3;
const METADATA_UNIT_REF: u32 = 4;

/// Stands for a string that a series cannot have, so that the other labels of its description
/// stay in pairs.
const UNREADABLE: &[u8] = "\u{fffd}".as_bytes();

/// Memory that a [`Writer`] takes for a symbol beside its bytes, about: an entry in each of two
/// hash tables that are half full, and one in the list.
pub const INTERNED_BYTES: usize = 128;

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

    /// How many symbols are kept.
    pub fn count(&self) -> usize {
        self.list.len()
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
            let utf8 = str::from_utf8(text).is_ok();
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

    #[inline]
    fn get(&self, reference: u64) -> Result<&'a [u8], SeriesFault> {
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

/// Walks a `TimeSeries` and fills `labels` with its labels.
pub fn series<'a>(
    raw: &'a [u8],
    symbols: &Symbols<'a>,
    labels: &mut Labels<'a>,
) -> Result<Series<'a>, Malformed> {
    labels.clear();
    let mut series = Series::new(raw);
    let mut reader = Reader::new(raw);
    let mut pairs = Pairs::default();
    let mut has_metadata = false;
    while let Some((field, wire_type)) = reader.key()? {
        match field {
            LABELS_REFS => varints(&mut reader, wire_type, |reference| {
                let text = symbols.get(reference).unwrap_or_else(|fault| {
                    series.fail(fault);
                    UNREADABLE
                });
                if let Some(label) = pairs.push(text) {
                    labels.push(label);
                }
            })?,
            SAMPLES => {
                expect(wire_type, WireType::Len)?;
                series
                    .times
                    .add(leaf::sample(reader.bytes()?, Protocol::V2)?);
                series.counts.add(Kind::Float, 1);
            }
            HISTOGRAMS => {
                expect(wire_type, WireType::Len)?;
                series
                    .times
                    .add(leaf::histogram(reader.bytes()?, Protocol::V2)?);
                series.counts.add(Kind::Histogram, 1);
            }
            EXEMPLARS => {
                expect(wire_type, WireType::Len)?;
                if let Err(fault) = exemplar(reader.bytes()?, symbols)? {
                    series.fail(fault);
                }
                series.counts.add(Kind::Exemplar, 1);
            }
            METADATA => {
                expect(wire_type, WireType::Len)?;
                let metadata = Metadata::default().merge(reader.bytes()?)?;
                if let Err(fault) = metadata.strings(symbols) {
                    series.fail(fault);
                }
                has_metadata = true;
            }
            _ => {
                reader.skip(wire_type)?;
                series.foreign = true;
            }
        }
    }
    if pairs.name.is_some() {
        series.fail(SeriesFault::SymbolReference);
    }
    series.counts.add(Kind::Metadata, u64::from(has_metadata));
    Ok(series)
}

/// Builds a request anew, with a symbol table of its own that holds each string once and none
/// that no series refers to.
#[derive(Debug)]
pub struct Writer<'a> {
    symbols: Interner<'a>,
    /// Encoded `timeseries` fields.
    series: Vec<u8>,
    /// The message of the series at hand, whose length must stand before it.
    message: Vec<u8>,
    /// The packed references at hand, likewise.
    refs: Vec<u8>,
    /// The fields of the exemplar at hand that are no references.
    exemplar: Vec<u8>,
}

impl<'a> Writer<'a> {
    /// A request without series.
    pub fn new() -> Self {
        Self {
            symbols: Interner::new(),
            series: Vec::new(),
            message: Vec::new(),
            refs: Vec::new(),
            exemplar: Vec::new(),
        }
    }

    /// Appends a series that was walked without a fault, with `labels` instead of its own, and
    /// nothing that the message does not define.
    pub fn put_series(
        &mut self,
        series: &Series<'a>,
        labels: &[Label<'a>],
        symbols: &Symbols<'a>,
    ) -> Result<(), Malformed> {
        self.message.clear();
        self.refs.clear();
        for label in labels {
            put_varint(&mut self.refs, self.symbols.index(label.name).into());
            put_varint(&mut self.refs, self.symbols.index(label.value).into());
        }
        put_bytes(&mut self.message, LABELS_REFS, &self.refs);
        let mut reader = Reader::new(series.raw);
        let mut metadata: Option<Metadata> = None;
        while let Some((field, wire_type)) = reader.key()? {
            match field {
                SAMPLES | HISTOGRAMS => put_bytes(&mut self.message, field, reader.bytes()?),
                EXEMPLARS => self.put_exemplar(reader.bytes()?, symbols)?,
                METADATA => {
                    metadata = Some(metadata.unwrap_or_default().merge(reader.bytes()?)?);
                }
                _ => reader.skip(wire_type)?,
            }
        }
        if let Some(metadata) = metadata {
            self.put_metadata(metadata, symbols);
        }
        put_bytes(&mut self.series, TIMESERIES, &self.message);
        Ok(())
    }

    /// The finished message.
    pub fn finish(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.symbols.bytes + self.series.len());
        for symbol in &self.symbols.list {
            put_bytes(&mut out, SYMBOLS, symbol);
        }
        out.extend_from_slice(&self.series);
        out
    }

    /// Appends an exemplar with its references renumbered and the rest of its bytes as they lie.
    fn put_exemplar(&mut self, bytes: &[u8], symbols: &Symbols<'a>) -> Result<(), Malformed> {
        self.refs.clear();
        self.exemplar.clear();
        let mut reader = Reader::new(bytes);
        loop {
            let before = reader.rest();
            let Some((field, wire_type)) = reader.key()? else {
                break;
            };
            if field == EXEMPLAR_LABELS_REFS {
                varints(&mut reader, wire_type, |reference| {
                    let text = symbols.get(reference).unwrap_or_default();
                    put_varint(&mut self.refs, self.symbols.index(text).into());
                })?;
            } else {
                reader.skip(wire_type)?;
                let field_len = before.len() - reader.rest().len();
                self.exemplar.extend_from_slice(&before[..field_len]);
            }
        }
        let refs_len = self.refs.len();
        let refs_field_len = match refs_len {
            0 => 0,
            _ => 1 + varint_len(refs_len as u64) + refs_len,
        };
        put_key(&mut self.message, EXEMPLARS, WireType::Len);
        put_varint(
            &mut self.message,
            (refs_field_len + self.exemplar.len()) as u64,
        );
        if refs_len > 0 {
            put_bytes(&mut self.message, EXEMPLAR_LABELS_REFS, &self.refs);
        }
        self.message.extend_from_slice(&self.exemplar);
        Ok(())
    }

    fn put_metadata(&mut self, metadata: Metadata, symbols: &Symbols<'a>) {
        let (help, unit) = metadata.strings(symbols).unwrap_or_default();
        let mut message = Vec::new();
        for (field, value) in [
            (METADATA_TYPE, metadata.metric_type),
            (METADATA_HELP_REF, self.symbols.index(help).into()),
            (METADATA_UNIT_REF, self.symbols.index(unit).into()),
        ] {
            if value != 0 {
                put_key(&mut message, field, WireType::Varint);
                put_varint(&mut message, value);
            }
        }
        put_bytes(&mut self.message, METADATA, &message);
    }
}

impl Default for Writer<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// Gives each string its index in a new symbol table.
#[derive(Debug)]
struct Interner<'a> {
    indexes: HashMap<&'a [u8], u32>,
    /// The index of a string by where it lies, its address and length. Thousands of series may
    /// refer to one string of megabytes, which must not be hashed for each.
    places: HashMap<(usize, usize), u32>,
    list: Vec<&'a [u8]>,
    /// The encoded table, about.
    bytes: usize,
}

impl<'a> Interner<'a> {
    /// A table whose first string is empty, as the specification asks.
    fn new() -> Self {
        let empty: &[u8] = b"";
        Self {
            indexes: HashMap::from([(empty, 0)]),
            places: HashMap::new(),
            list: vec![empty],
            bytes: 2,
        }
    }

    fn index(&mut self, text: &'a [u8]) -> u32 {
        let place = (text.as_ptr().addr(), text.len());
        if let Some(index) = self.places.get(&place) {
            return *index;
        }
        let next = u32::try_from(self.list.len()).expect("a message of 4 GiB is never decoded");
        let index = match self.indexes.entry(text) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                entry.insert(next);
                self.list.push(text);
                self.bytes += text.len() + 6;
                next
            }
        };
        self.places.insert(place, index);
        index
    }
}

/// Puts references together to labels; a pair may lie across packed chunks.
#[derive(Debug, Default)]
struct Pairs<'a> {
    name: Option<&'a [u8]>,
}

impl<'a> Pairs<'a> {
    #[inline]
    fn push(&mut self, text: &'a [u8]) -> Option<Label<'a>> {
        match self.name.take() {
            Some(name) => Some(Label { name, value: text }),
            None => {
                self.name = Some(text);
                None
            }
        }
    }
}

/// A `Metadata` with its repetitions merged, as protobuf asks for a field that is not repeated.
#[derive(Debug, Default, Clone, Copy)]
struct Metadata {
    metric_type: u64,
    help_ref: u64,
    unit_ref: u64,
}

impl Metadata {
    fn merge(mut self, bytes: &[u8]) -> Result<Self, Malformed> {
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

    fn strings<'a>(self, symbols: &Symbols<'a>) -> Result<(&'a [u8], &'a [u8]), SeriesFault> {
        Ok((
            symbols.get_optional(self.help_ref)?,
            symbols.get_optional(self.unit_ref)?,
        ))
    }
}

/// Walks an `Exemplar`. Its labels are no part of the series' identity, so no policy looks at
/// them; their references must hold.
fn exemplar(bytes: &[u8], symbols: &Symbols<'_>) -> Result<Result<(), SeriesFault>, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut references = 0usize;
    let mut result = Ok(());
    while let Some((field, wire_type)) = reader.key()? {
        match field {
            EXEMPLAR_LABELS_REFS => varints(&mut reader, wire_type, |reference| {
                references += 1;
                result = result.and(symbols.get(reference).map(drop));
            })?,
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
    if !references.is_multiple_of(2) {
        result = result.and(Err(SeriesFault::SymbolReference));
    }
    Ok(result)
}
