//! The walk over a message that judging and replaying share.

use std::ops::Range;

use crate::wire::encoder::Source;
use crate::wire::protobuf::Reader;
use crate::wire::{Demands, Labels, Malformed, Protocol, Series, v1, v2};

use super::{Rules, Scratch};

/// Takes what a walk finds, in the order of the message.
pub(super) trait Visitor<'a> {
    /// A series. Its labels are in `labels`, unless they fit a [template](Series::clean).
    fn series(
        &mut self,
        series: &Series<'a>,
        labels: &mut Labels<'a>,
        source: Source<'_, 'a>,
    ) -> Result<(), Malformed>;

    /// True when the labels of series that fit a template are taken apart.
    fn takes_apart(&self) -> bool;

    /// The bytes of a V1 `MetricMetadata`.
    fn metadata(&mut self, raw: &'a [u8]) -> Result<(), Malformed>;

    /// A field that V1 does not define.
    fn foreign(&mut self) {}

    /// The symbols of a V2 message, before its series.
    fn symbols(&mut self, _: &v2::Symbols<'a>) {}
}

/// Walks a message in the memory of `scratch`.
pub(super) fn walk<'a>(
    protocol: Protocol,
    message: &'a [u8],
    rules: &Rules,
    scratch: &mut Scratch,
    visitor: &mut impl Visitor<'a>,
) -> Result<(), Malformed> {
    let spare = std::mem::take(&mut scratch.labels);
    let mut labels = Labels::new(spare, rules.labels_max()).of_message(message.len());
    let demands = rules.demands();
    let walked = match protocol {
        Protocol::V1 => {
            let shapes = &mut scratch.shapes_v1;
            shapes.start(visitor.takes_apart());
            walk_v1(message, &demands, shapes, &mut labels, visitor)
        }
        Protocol::V2 => {
            let shapes = &mut scratch.shapes_v2;
            shapes.start(visitor.takes_apart());
            let spare = std::mem::take(&mut scratch.symbols);
            let mut symbols = v2::Symbols::new(spare, rules.symbols_max());
            let memory = MemoryV2 {
                shapes,
                symbols: &mut symbols,
                labels: &mut labels,
            };
            let walked = walk_v2(message, &demands, memory, visitor);
            scratch.symbols = v2::Symbols::new(symbols, 0);
            walked
        }
    };
    scratch.labels = Labels::new(labels, 0);
    walked
}

fn walk_v1<'a>(
    message: &'a [u8],
    demands: &Demands<'_>,
    shapes: &mut v1::Shapes,
    labels: &mut Labels<'a>,
    visitor: &mut impl Visitor<'a>,
) -> Result<(), Malformed> {
    let mut reader = Reader::new(message);
    while let Some(field) = v1::next_field(&mut reader)? {
        match field {
            v1::Field::Series(raw) => {
                let place = place(message, &reader, raw);
                let mut series = Series::new(raw);
                if shapes.read(&mut series, message, place, demands, labels) {
                    let source = Source::V1(shapes.matched(message));
                    visitor.series(&series, labels, source)?;
                } else {
                    series = v1::series(raw, labels)?;
                    visitor.series(&series, labels, Source::V1(None))?;
                }
            }
            v1::Field::Metadata(raw) => visitor.metadata(raw)?,
            v1::Field::Foreign => visitor.foreign(),
        }
    }
    Ok(())
}

/// What a walk over V2 fills.
struct MemoryV2<'m, 'a> {
    shapes: &'m mut v2::Shapes,
    symbols: &'m mut v2::Symbols<'a>,
    labels: &'m mut Labels<'a>,
}

fn walk_v2<'a>(
    message: &'a [u8],
    demands: &Demands<'_>,
    memory: MemoryV2<'_, 'a>,
    visitor: &mut impl Visitor<'a>,
) -> Result<(), Malformed> {
    let MemoryV2 {
        shapes,
        symbols,
        labels,
    } = memory;
    symbols.collect(message, Some(demands))?;
    let symbols = &*symbols;
    visitor.symbols(symbols);
    let mut reader = Reader::new(message);
    while let Some(field) = v2::next_field(&mut reader)? {
        if let v2::Field::Series(raw) = field {
            let place = place(message, &reader, raw);
            let mut series = Series::new(raw);
            if shapes.read(&mut series, message, place, symbols, demands, labels) {
                let source = Source::V2(symbols, shapes.pairs());
                visitor.series(&series, labels, source)?;
            } else {
                series = v2::series(raw, symbols, labels)?;
                visitor.series(&series, labels, Source::V2(symbols, &[]))?;
            }
        }
    }
    Ok(())
}

/// Where the field lies that was read last.
#[inline]
fn place(message: &[u8], reader: &Reader<'_>, field: &[u8]) -> Range<usize> {
    let end = message.len() - reader.rest().len();
    end - field.len()..end
}
