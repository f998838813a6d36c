//! Encodes a message that was checked before: in the other version, or a part of it.
//!
//! This is the way back when a hub turns out not to take what it was sent. Nothing is judged here.
//! Bytes that are not well-formed are an error all the same.

use super::encoder::{Encoded, Encoder, Form, Piece, Source};
use super::protobuf::Reader;
use super::{Change, Labels, Malformed, Protocol, v1, v2};

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

/// The part that is all of a message, with its end.
pub fn extent(
    message: &[u8],
    protocol: Protocol,
    scratch: &mut Scratch,
) -> Result<Part, Malformed> {
    let mut units = 0;
    walk(message, protocol, scratch, |unit| {
        units += match unit {
            Unit::Series(series, ..) => series.units(),
            Unit::Metadata(_) => 1,
        };
        Ok(())
    })?;
    Ok(Part {
        first: 0,
        end: units,
    })
}

/// Encodes a part of a message as `form` says.
pub fn transcode<'w>(
    message: &[u8],
    from: Protocol,
    form: Form,
    part: Part,
    scratch: &mut Scratch,
    encoder: &'w mut Encoder,
) -> Result<Encoded<'w>, Malformed> {
    encoder.start(form, message.len());
    let mut unit_before = 0;
    let mut pending = Change::ALL;
    walk(message, from, scratch, |unit| {
        let first = unit_before;
        let (series, labels, source) = match unit {
            Unit::Series(series, labels, source) => (series, labels, source),
            Unit::Metadata(raw) => {
                unit_before += 1;
                if (part.first..part.end).contains(&first) {
                    encoder.put_metadata(raw);
                }
                return Ok(());
            }
        };
        unit_before += series.units();
        pending = pending.then(labels.change());
        if unit_before <= part.first || first >= part.end {
            return Ok(());
        }
        let piece = if first >= part.first && unit_before <= part.end {
            Piece::WHOLE
        } else {
            Piece {
                first: part.first.saturating_sub(first),
                end: part.end - first,
            }
        };
        let change = std::mem::replace(&mut pending, Change::NONE);
        encoder.put_series(series, labels.list(), change, source, piece)
    })?;
    encoder.finish()
}

enum Unit<'u, 'a> {
    Series(&'u super::Series<'a>, &'u Labels<'a>, Source<'u, 'a>),
    Metadata(&'a [u8]),
}

/// Calls `each` with all series of a message, and then with its metadata entries.
fn walk<'a>(
    message: &'a [u8],
    protocol: Protocol,
    scratch: &mut Scratch,
    mut each: impl FnMut(Unit<'_, 'a>) -> Result<(), Malformed>,
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
                        each(Unit::Series(&series, &labels, Source::V1))?;
                    }
                    v1::Field::Metadata(raw) => entries.push(raw),
                    v1::Field::Foreign => {}
                }
            }
        }
        Protocol::V2 => {
            symbols.collect(message)?;
            while let Some(field) = v2::next_field(&mut reader)? {
                if let v2::Field::Series(raw) = field {
                    let series = v2::series(raw, &symbols, &mut labels)?;
                    each(Unit::Series(&series, &labels, Source::V2(&symbols)))?;
                }
            }
        }
    }
    entries
        .into_iter()
        .try_for_each(|raw| each(Unit::Metadata(raw)))?;
    scratch.labels = Labels::new(labels, 0);
    scratch.symbols = v2::Symbols::new(symbols, 0);
    Ok(())
}
