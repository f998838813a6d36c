//! The label policy: which series of a request may travel on, and with which labels.
//!
//! Pure and synchronous: bytes and rules in, a verdict out. No tokio, no HTTP, no metrics. One
//! walk serves both purposes: without a sink it only inspects, which is all that an unchanged
//! request costs; with a sink it hands over what may travel on, judged by the same code.

mod labels;
#[cfg(test)]
mod tests;
mod verdict;

use crate::wire::protobuf::{Reader, varint_len};
use crate::wire::{Counts, Kind, Label, Labels, Malformed, Protocol, Series, v1, v2};

pub use labels::Rules;
pub use verdict::{Reason, Rejection, Verdict};

use labels::Judgement;

/// Memory that inspections on one thread use again and again.
#[derive(Debug, Default)]
pub struct Scratch {
    labels: Labels<'static>,
    symbols: v2::Symbols<'static>,
}

impl Scratch {
    /// Gives memory back if the last requests left more than about `bytes_max`.
    pub fn trim(&mut self, bytes_max: usize) {
        if self.symbols.bytes() > bytes_max {
            self.symbols = v2::Symbols::default();
        }
        if self.labels.bytes() > bytes_max {
            self.labels = Labels::default();
        }
    }
}

/// Inspects a decoded request.
///
/// An error means that the bytes are not the message they are said to be; then nothing of them
/// may travel on. Where the verdict says that nothing changed, the bytes may travel on as they
/// are; else what [`rewrite`] makes of them may.
pub fn inspect(
    protocol: Protocol,
    message: &[u8],
    rules: &Rules,
    scratch: &mut Scratch,
) -> Result<Verdict, Malformed> {
    match protocol {
        Protocol::V1 => with_labels(rules, scratch, |labels| {
            walk_v1(message, rules, labels, &mut Nowhere)
        }),
        Protocol::V2 => with_symbols(message, rules, scratch, |symbols, labels| {
            walk_v2(message, rules, symbols, labels, &mut Nowhere)
        }),
    }
}

/// Writes a request anew with what may travel on, judged like [`inspect`] does.
pub fn rewrite(
    protocol: Protocol,
    message: &[u8],
    rules: &Rules,
    scratch: &mut Scratch,
    room: Room,
) -> Result<Vec<u8>, Malformed> {
    match protocol {
        Protocol::V1 => with_labels(rules, scratch, |labels| {
            let out = Vec::with_capacity(room.message);
            let mut writer = V1Writer { out };
            walk_v1(message, rules, labels, &mut writer)?;
            Ok(writer.out)
        }),
        Protocol::V2 => with_symbols(message, rules, scratch, |symbols, labels| {
            let out = v2::Writer::new();
            let mut writer = V2Writer { symbols, out };
            walk_v2(message, rules, symbols, labels, &mut writer)?;
            Ok(writer.out.finish())
        }),
    }
}

/// Memory that [`rewrite`] takes at most, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// For the message it returns.
    pub message: usize,
    /// For all that it holds until then, the message included.
    pub working: usize,
}

impl Room {
    /// The room for a message of `message_len` bytes and its verdict.
    ///
    /// A V2 message is put together from two buffers and a table of its symbols, and its
    /// references are renumbered in the order of their use: a spoke can lay out its symbols so
    /// that references of one byte take three.
    pub fn new(protocol: Protocol, message_len: usize, verdict: &Verdict, rules: &Rules) -> Self {
        let series = usize::try_from(verdict.kept_series).unwrap_or(usize::MAX);
        let added = series.saturating_mul(rules.added_bytes_max());
        match protocol {
            Protocol::V1 => {
                let message = message_len.saturating_add(added);
                Self {
                    message,
                    working: message,
                }
            }
            Protocol::V2 => {
                let grown = message_len.saturating_mul(varint_len(verdict.symbols as u64));
                let message = grown.saturating_add(added);
                let table = verdict.symbols.saturating_mul(v2::INTERNED_BYTES);
                Self {
                    message,
                    working: message.saturating_mul(2).saturating_add(table),
                }
            }
        }
    }
}

/// Takes what the rules let through.
trait Sink<'a> {
    /// A series, with its labels as they shall be.
    fn series(&mut self, series: &Series<'a>, labels: &[Label<'a>]) -> Result<(), Malformed>;

    /// The bytes of a V1 `MetricMetadata`.
    fn metadata(&mut self, raw: &'a [u8]);
}

/// Inspects only.
struct Nowhere;

impl<'a> Sink<'a> for Nowhere {
    fn series(&mut self, _: &Series<'a>, _: &[Label<'a>]) -> Result<(), Malformed> {
        Ok(())
    }

    fn metadata(&mut self, _: &'a [u8]) {}
}

/// Lends the labels' memory of `scratch` to one walk.
fn with_labels<'a, T>(
    rules: &'a Rules,
    scratch: &mut Scratch,
    walk: impl FnOnce(&mut Labels<'a>) -> Result<T, Malformed>,
) -> Result<T, Malformed> {
    let mut labels = Labels::new(std::mem::take(&mut scratch.labels), rules.labels_max());
    let walked = walk(&mut labels);
    scratch.labels = Labels::new(labels, 0);
    walked
}

/// Collects the symbols of a V2 message in the memory of `scratch` for one walk.
fn with_symbols<'a, T>(
    message: &'a [u8],
    rules: &'a Rules,
    scratch: &mut Scratch,
    walk: impl FnOnce(&v2::Symbols<'a>, &mut Labels<'a>) -> Result<T, Malformed>,
) -> Result<T, Malformed> {
    let mut symbols = v2::Symbols::new(std::mem::take(&mut scratch.symbols), rules.symbols_max());
    let walked = symbols
        .collect(message)
        .and_then(|()| with_labels(rules, scratch, |labels| walk(&symbols, labels)));
    scratch.symbols = v2::Symbols::new(symbols, 0);
    walked
}

fn walk_v1<'a>(
    message: &'a [u8],
    rules: &'a Rules,
    labels: &mut Labels<'a>,
    sink: &mut impl Sink<'a>,
) -> Result<Verdict, Malformed> {
    labels.start();
    let mut verdict = Verdict::default();
    let mut reader = Reader::new(message);
    while let Some(field) = v1::next_field(&mut reader)? {
        match field {
            v1::Field::Series(raw) => {
                let series = v1::series(raw, labels)?;
                judge(&series, labels, rules, &mut verdict, sink)?;
            }
            v1::Field::Metadata(raw) => {
                let counts = Counts::one(Kind::Metadata);
                verdict.metadata += 1;
                verdict.received.add_all(&counts);
                if v1::metadata(raw)? {
                    verdict.kept_metadata += 1;
                    sink.metadata(raw);
                } else {
                    verdict.reject(Reason::InvalidUtf8, &counts, || {
                        "a metadata entry".to_owned()
                    });
                }
            }
            v1::Field::Foreign => verdict.foreign = true,
        }
    }
    verdict.finish(rules, false);
    Ok(verdict)
}

fn walk_v2<'a>(
    message: &'a [u8],
    rules: &'a Rules,
    symbols: &v2::Symbols<'a>,
    labels: &mut Labels<'a>,
    sink: &mut impl Sink<'a>,
) -> Result<Verdict, Malformed> {
    labels.start();
    let mut verdict = Verdict::default();
    let mut reader = Reader::new(message);
    while let Some(field) = v2::next_field(&mut reader)? {
        if let v2::Field::Series(raw) = field {
            let series = v2::series(raw, symbols, labels)?;
            judge(&series, labels, rules, &mut verdict, sink)?;
        }
    }
    verdict.symbols = symbols.count();
    verdict.foreign = symbols.foreign();
    if symbols.displaced() || symbols.invalid() {
        verdict.change();
    }
    verdict.finish(rules, symbols.overflow());
    Ok(verdict)
}

/// Judges one walked series, takes it into the accounts, and hands it over if it may travel on.
#[inline]
fn judge<'a>(
    series: &Series<'a>,
    labels: &mut Labels<'a>,
    rules: &'a Rules,
    verdict: &mut Verdict,
    sink: &mut impl Sink<'a>,
) -> Result<(), Malformed> {
    verdict.receive(series);
    if verdict.overfull(rules) {
        return Ok(());
    }
    let (judgement, mismatched) = rules.judge(series, labels);
    verdict.mismatched_series += u64::from(mismatched);
    match judgement {
        Judgement::Keep => {}
        Judgement::Change => {
            verdict.change();
            rules.apply(labels.list_mut());
        }
        Judgement::Refuse(reason) => {
            verdict.reject(reason, &series.counts, || rules.describe(labels.list()));
            return Ok(());
        }
    }
    verdict.kept_series += 1;
    verdict.times.add_all(&series.times);
    sink.series(series, labels.list())
}

struct V1Writer {
    out: Vec<u8>,
}

impl<'a> Sink<'a> for V1Writer {
    fn series(&mut self, series: &Series<'a>, labels: &[Label<'a>]) -> Result<(), Malformed> {
        v1::put_series(&mut self.out, series, labels)
    }

    fn metadata(&mut self, raw: &'a [u8]) {
        v1::put_metadata(&mut self.out, raw);
    }
}

struct V2Writer<'s, 'a> {
    symbols: &'s v2::Symbols<'a>,
    out: v2::Writer<'a>,
}

impl<'a> Sink<'a> for V2Writer<'_, 'a> {
    fn series(&mut self, series: &Series<'a>, labels: &[Label<'a>]) -> Result<(), Malformed> {
        self.out.put_series(series, labels, self.symbols)
    }

    fn metadata(&mut self, _: &'a [u8]) {}
}
