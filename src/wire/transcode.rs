//! Encodes a message that was checked before: in the other version, or a part of it.
//!
//! This is the way back when a hub turns out not to take what it was sent. Nothing is judged here.
//! Bytes that are not well-formed are an error all the same.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::encoder::{Encoded, Encoder, Form, NewLabels, Piece, Source, symbol_bytes};
use super::item::Item;
use super::protobuf::Reader;
use super::{Kind, Labels, Malformed, Protocol, histogram, leaf, v1, v2};

/// Memory that is reused from message to message.
#[derive(Debug, Default)]
pub struct Scratch {
    labels: Labels<'static>,
    symbols: v2::Symbols<'static>,
}

impl Scratch {
    /// The memory that it holds, in bytes.
    pub fn bytes(&self) -> usize {
        self.labels.bytes() + self.symbols.bytes()
    }

    /// Gives memory back if the last messages left more than about `bytes_max` somewhere.
    pub fn trim(&mut self, bytes_max: usize) {
        if self.labels.bytes() > bytes_max {
            self.labels = Labels::default();
        }
        if self.symbols.bytes() > bytes_max {
            self.symbols = v2::Symbols::default();
        }
    }
}

/// A part of a message, counted in units. Each sample, each histogram, and each series without
/// either is a unit, in the order of the message; V1 metadata entries are units behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The first unit.
    pub first: u64,
    /// The unit after the last.
    pub end: u64,
}

impl Part {
    /// Everything.
    pub const WHOLE: Self = Self {
        first: 0,
        end: u64::MAX,
    };

    /// Both halves; `None` for a part of one unit.
    pub fn halves(self) -> Option<[Self; 2]> {
        let Self { first, end } = self;
        let middle = first + (end - first) / 2;
        let halves = [Self { first, end: middle }, Self { first: middle, end }];
        (middle > first).then_some(halves)
    }
}

/// What a unit of a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    /// A hash of the labels of its series. Units of one series have the same.
    pub series: u64,
    /// What it carries: a series without a sample or histogram is taken for its exemplars.
    pub kind: Kind,
    /// The timestamp of its sample or histogram, in milliseconds since the Unix epoch.
    pub time: Option<i64>,
}

/// All units of a message, in their order.
pub fn units(
    message: &[u8],
    protocol: Protocol,
    scratch: &mut Scratch,
) -> Result<Vec<Unit>, Malformed> {
    let mut units = Vec::new();
    walk(message, protocol, scratch, |found| {
        let (series, labels) = match found {
            Found::Series(series, labels, _) => (series, labels),
            Found::Metadata(raw) => {
                units.push(Unit {
                    series: hash(raw),
                    kind: Kind::Metadata,
                    time: None,
                });
                return Ok(());
            }
        };
        let mut hasher = DefaultHasher::new();
        for label in labels.list() {
            (label.name, label.value).hash(&mut hasher);
        }
        let of = |kind, time| Unit {
            series: hasher.finish(),
            kind,
            time,
        };
        if series.counts.samples() == 0 {
            units.push(of(Kind::Exemplar, None));
            return Ok(());
        }
        let mut reader = Reader::new(series.raw);
        while let Some(item) = Item::next(&mut reader, protocol)? {
            match item {
                Item::Sample(bytes) => {
                    let time = leaf::sample(bytes, protocol)?.timestamp;
                    units.push(of(Kind::Float, Some(time)));
                }
                Item::Histogram(bytes) => {
                    let time = histogram::histogram(bytes, protocol)?.timestamp;
                    units.push(of(Kind::Histogram, Some(time)));
                }
                Item::Exemplar(_) | Item::Metadata(_) | Item::Other => {}
            }
        }
        Ok(())
    })?;
    Ok(units)
}

/// Bytes that the symbols of a message take while it is walked and encoded in the version `to`.
pub fn symbols_bytes(message: &[u8], from: Protocol, to: Protocol) -> Result<usize, Malformed> {
    let mut symbols = 0;
    if from == Protocol::V2 {
        let mut reader = Reader::new(message);
        while let Some(field) = v2::next_field(&mut reader)? {
            symbols += usize::from(matches!(field, v2::Field::Symbol(_)));
        }
    }
    Ok(symbols * symbol_bytes(from, to))
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// The part that is all of a message, with its end.
pub fn extent(
    message: &[u8],
    protocol: Protocol,
    scratch: &mut Scratch,
) -> Result<Part, Malformed> {
    let mut units = 0;
    walk(message, protocol, scratch, |found| {
        units += match found {
            Found::Series(series, ..) => series.units(),
            Found::Metadata(_) => 1,
        };
        Ok(())
    })?;
    Ok(Part {
        first: 0,
        end: units,
    })
}

/// Encodes parts of a message as `form` says. The parts are in the order of the message and do not
/// overlap.
pub fn transcode<'w>(
    message: &[u8],
    from: Protocol,
    form: Form,
    parts: &[Part],
    scratch: &mut Scratch,
    encoder: &'w mut Encoder,
) -> Result<Encoded<'w>, Malformed> {
    encoder.start(form, message.len());
    let mut parts = parts;
    let mut end = 0;
    walk(message, from, scratch, |found| {
        let first = end;
        // Parts that end before this series are done with.
        while let [part, rest @ ..] = parts
            && part.end <= first
        {
            parts = rest;
        }
        let (series, labels, source) = match found {
            Found::Series(series, labels, source) => (series, labels, source),
            Found::Metadata(raw) => {
                end += 1;
                if parts.first().is_some_and(|part| part.first <= first) {
                    encoder.put_metadata(raw);
                }
                return Ok(());
            }
        };
        end += series.units();
        let here = parts.partition_point(|part| part.first < end);
        let piece = match &parts[..here] {
            [] => return Ok(()),
            [part] if part.first <= first && end <= part.end => Piece::WHOLE,
            here => Piece::of(here, first),
        };
        let labels = match series.block {
            Some(block) => NewLabels::Same(block),
            None => NewLabels::List(labels.list()),
        };
        encoder.put_series(series, labels, source, piece)
    })?;
    encoder.finish()
}

/// Something that a message holds.
enum Found<'u, 'a> {
    Series(&'u super::Series<'a>, &'u Labels<'a>, Source<'u, 'a>),
    Metadata(&'a [u8]),
}

/// Calls `each` with all series of a message, and then with its metadata entries.
fn walk<'a>(
    message: &'a [u8],
    protocol: Protocol,
    scratch: &mut Scratch,
    mut each: impl FnMut(Found<'_, 'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut labels = Labels::new(std::mem::take(&mut scratch.labels), usize::MAX);
    let mut symbols = v2::Symbols::new(std::mem::take(&mut scratch.symbols), usize::MAX);
    let mut entries = Vec::new();
    let mut reader = Reader::new(message);
    match protocol {
        Protocol::V1 => {
            while let Some(field) = v1::next_field(&mut reader)? {
                match field {
                    v1::Field::Series(raw) => {
                        let series = v1::series(raw, &mut labels)?;
                        each(Found::Series(&series, &labels, Source::V1(None)))?;
                    }
                    v1::Field::Metadata(raw) => entries.push(raw),
                    v1::Field::Foreign => {}
                }
            }
        }
        Protocol::V2 => {
            symbols.collect(message, None)?;
            while let Some(field) = v2::next_field(&mut reader)? {
                if let v2::Field::Series(raw) = field {
                    let series = v2::series(raw, &symbols, &mut labels)?;
                    each(Found::Series(&series, &labels, Source::V2(&symbols, &[])))?;
                }
            }
        }
    }
    entries
        .into_iter()
        .try_for_each(|raw| each(Found::Metadata(raw)))?;
    scratch.labels = Labels::new(labels, 0);
    scratch.symbols = v2::Symbols::new(symbols, 0);
    Ok(())
}
