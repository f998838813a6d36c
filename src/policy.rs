//! The label policy: which series of a request may travel on, and with which labels.
//!
//! Pure and synchronous: bytes and rules in, a verdict out. No tokio, no HTTP, no metrics. One
//! walk serves both purposes: without a sink it only inspects, which is all that an unchanged
//! request costs; with a sink it hands over what may travel on, judged by the same code.

mod labels;
#[cfg(test)]
mod tests;
mod verdict;

use crate::reasons::Reason;
use crate::wire::encoder::{Encoded, Encoder, Form, Piece, SYMBOL_BYTES, Source, V1_BYTES_MAX};
use crate::wire::protobuf::{Reader, varint_len};
use crate::wire::{
    Change, Counts, Kind, Label, Labels, Malformed, Protocol, Series, labels::recycle, v1, v2,
};

pub use labels::Rules;
pub use verdict::{Rejection, Verdict};

use labels::{Decision, PreviousLabels};

/// So many strings have one or two bytes.
const SHORT_STRINGS: usize = 256 + 256 * 256;

/// References of two labels that are added to a series of V2, and the growth of the lengths around
/// them.
const ADDED_REFS_BYTES_MAX: usize = 24;

/// Memory that inspections on one thread use again and again.
#[derive(Debug, Default)]
pub struct Scratch {
    labels: Labels<'static>,
    edited: Vec<Label<'static>>,
    symbols: v2::Symbols<'static>,
    encoder: Encoder,
}

impl Scratch {
    /// The memory that it holds, in bytes.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.symbols.bytes() + self.labels.bytes() + self.encoder.bytes()
    }

    /// Gives memory back if the last requests left more than about `bytes_max` somewhere.
    pub fn trim(&mut self, bytes_max: usize) {
        if self.symbols.bytes() > bytes_max {
            self.symbols = v2::Symbols::default();
        }
        if self.labels.bytes() > bytes_max {
            self.labels = Labels::default();
        }
        self.encoder.trim(bytes_max);
    }
}

/// Inspects a decoded request.
///
/// An error means that the bytes are not the message they are said to be; then nothing of them
/// may travel on. Where the verdict says that nothing changed, the bytes may travel on as they
/// are; else what [`encode()`] makes of them may.
pub fn inspect(
    protocol: Protocol,
    message: &[u8],
    rules: &Rules,
    scratch: &mut Scratch,
) -> Result<Verdict, Malformed> {
    walk(protocol, message, rules, scratch, &mut Nowhere)
}

/// Inspects a decoded request and writes what may travel on, as `form` says.
pub fn encode<'s>(
    protocol: Protocol,
    message: &[u8],
    rules: &Rules,
    scratch: &'s mut Scratch,
    form: Form,
) -> Result<(Verdict, Encoded<'s>), Malformed> {
    let mut encoder = std::mem::take(&mut scratch.encoder);
    encoder.start(form, message.len());
    let walked = walk(protocol, message, rules, scratch, &mut encoder);
    scratch.encoder = encoder;
    let verdict = walked?;
    if !verdict.keeps() {
        return Ok((verdict, Encoded::default()));
    }
    Ok((verdict, scratch.encoder.finish()?))
}

/// Bytes that [`encode()`] takes at most beside the message that it reads, buffers kept from before
/// not counted.
///
/// A V2 message is put together from two buffers and a table of its symbols. A label of V1 takes
/// six bytes beside its strings, and one of V2 two references and the framing of two symbols; the
/// references of V2 are renumbered in the order of their use, so one of one byte may take three.
/// What V1 needs for the strings of V2 is bounded by [`V1_BYTES_MAX`] alone, and seldom ten times
/// the message.
pub fn room(from: Protocol, to: Protocol, message_len: usize, rules: &Rules) -> usize {
    // A series has the label for the metric's name at least.
    let series_len_min = match from {
        Protocol::V1 => 17,
        Protocol::V2 => 6,
    };
    let series = rules.series_max().min(message_len / series_len_min);
    let (grown, symbols) = match (from, to) {
        (Protocol::V2, Protocol::V1) => return message_len.max(V1_BYTES_MAX),
        (Protocol::V1, Protocol::V1) => {
            let added = series.saturating_mul(rules.added_bytes_max());
            return message_len.saturating_add(added);
        }
        (Protocol::V1, Protocol::V2) => {
            // A label of two strings takes eight bytes, and twelve when they are longer than two.
            let symbols = (message_len / 4).min(SHORT_STRINGS + message_len / 6);
            (message_len.saturating_mul(3) / 2, symbols)
        }
        (Protocol::V2, Protocol::V2) => {
            let symbols = rules.symbols_max().min(message_len / 2);
            let grown = message_len.saturating_mul(varint_len(symbols as u64));
            (grown, symbols)
        }
    };
    let added = series
        .saturating_mul(ADDED_REFS_BYTES_MAX)
        .saturating_add(rules.added_bytes_max());
    let message = grown.saturating_add(added);
    let table = symbols.saturating_mul(SYMBOL_BYTES);
    message.saturating_mul(2).saturating_add(table)
}

/// Takes what the rules let through.
trait Sink<'a> {
    /// A series, with its labels as they shall be, and how they differ from those of the series
    /// handed over before.
    fn series(
        &mut self,
        series: &Series<'a>,
        labels: &[Label<'a>],
        change: Change,
        source: Source<'_, 'a>,
    ) -> Result<(), Malformed>;

    /// The bytes of a V1 `MetricMetadata`.
    fn metadata(&mut self, raw: &'a [u8]);
}

/// Inspects only.
struct Nowhere;

impl<'a> Sink<'a> for Nowhere {
    fn series(
        &mut self,
        _: &Series<'a>,
        _: &[Label<'a>],
        _: Change,
        _: Source<'_, 'a>,
    ) -> Result<(), Malformed> {
        Ok(())
    }

    fn metadata(&mut self, _: &'a [u8]) {}
}

impl<'a> Sink<'a> for Encoder {
    fn series(
        &mut self,
        series: &Series<'a>,
        labels: &[Label<'a>],
        change: Change,
        source: Source<'_, 'a>,
    ) -> Result<(), Malformed> {
        self.put_series(series, labels, change, source, Piece::WHOLE)
    }

    fn metadata(&mut self, raw: &'a [u8]) {
        self.put_metadata(raw);
    }
}

/// Walks a message under the rules, in the memory of `scratch`.
fn walk<'a>(
    protocol: Protocol,
    message: &'a [u8],
    rules: &'a Rules,
    scratch: &mut Scratch,
    sink: &mut impl Sink<'a>,
) -> Result<Verdict, Malformed> {
    let spare = std::mem::take(&mut scratch.labels);
    let mut inspection = Inspection {
        rules,
        labels: Labels::new(spare, rules.labels_max()),
        edited: recycle(std::mem::take(&mut scratch.edited)),
        previous: PreviousLabels::default(),
        handed: Handed::default(),
        verdict: Verdict::default(),
        sink,
    };
    let walked = match protocol {
        Protocol::V1 => inspection.v1(message),
        Protocol::V2 => {
            let spare = std::mem::take(&mut scratch.symbols);
            let mut symbols = v2::Symbols::new(spare, rules.symbols_max());
            let walked = inspection.v2(message, &mut symbols);
            scratch.symbols = v2::Symbols::new(symbols, 0);
            walked
        }
    };
    scratch.labels = Labels::new(inspection.labels, 0);
    scratch.edited = recycle(inspection.edited);
    walked.map(|()| inspection.verdict)
}

/// An inspection under way.
struct Inspection<'i, 'a, S> {
    rules: &'a Rules,
    labels: Labels<'a>,
    /// The labels of the series at hand after a change.
    edited: Vec<Label<'a>>,
    previous: PreviousLabels,
    handed: Handed,
    verdict: Verdict,
    sink: &'i mut S,
}

impl<'a, S: Sink<'a>> Inspection<'_, 'a, S> {
    fn v1(&mut self, message: &'a [u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(message);
        while let Some(field) = v1::next_field(&mut reader)? {
            match field {
                v1::Field::Series(raw) => {
                    let series = v1::series(raw, &mut self.labels)?;
                    self.judge(&series, Source::V1)?;
                }
                v1::Field::Metadata(raw) => self.metadata(raw)?,
                v1::Field::Foreign => self.verdict.foreign = true,
            }
        }
        self.verdict.finish(self.rules, false);
        Ok(())
    }

    fn v2(&mut self, message: &'a [u8], symbols: &mut v2::Symbols<'a>) -> Result<(), Malformed> {
        symbols.collect(message)?;
        let symbols = &*symbols;
        let mut reader = Reader::new(message);
        while let Some(field) = v2::next_field(&mut reader)? {
            if let v2::Field::Series(raw) = field {
                let series = v2::series(raw, symbols, &mut self.labels)?;
                self.judge(&series, Source::V2(symbols))?;
            }
        }
        self.verdict.symbols = symbols.count();
        self.verdict.foreign = symbols.foreign();
        if symbols.displaced() || symbols.invalid() {
            self.verdict.change();
        }
        self.verdict.finish(self.rules, symbols.overflow());
        Ok(())
    }

    fn metadata(&mut self, raw: &'a [u8]) -> Result<(), Malformed> {
        let counts = Counts::one(Kind::Metadata);
        self.verdict.metadata += 1;
        self.verdict.received.add_all(&counts);
        if v1::metadata(raw)? {
            self.verdict.kept_metadata += 1;
            self.sink.metadata(raw);
        } else {
            let example = || "a metadata entry".to_owned();
            self.verdict.reject(Reason::InvalidUtf8, &counts, example);
        }
        Ok(())
    }

    /// Judges one walked series, takes it into the accounts, and hands it over if it may travel
    /// on.
    #[inline]
    fn judge(&mut self, series: &Series<'a>, source: Source<'_, 'a>) -> Result<(), Malformed> {
        let Self {
            rules,
            labels,
            edited,
            previous,
            handed,
            verdict,
            sink,
        } = self;
        verdict.receive(series);
        if verdict.overfull(rules) {
            return Ok(());
        }
        let (decision, mismatched) = rules.judge(series, labels, previous);
        verdict.mismatched_series += u64::from(mismatched);
        let list = match decision {
            Decision::Keep => labels.list(),
            Decision::Insert(place) => {
                verdict.change();
                let (before, after) = labels.list().split_at(place);
                edited.clear();
                edited.extend_from_slice(before);
                edited.push(rules.own_label());
                edited.extend_from_slice(after);
                edited
            }
            Decision::Change => {
                verdict.change();
                edited.clear();
                edited.extend_from_slice(labels.list());
                rules.apply(edited);
                edited
            }
            Decision::Refuse(reason) => {
                verdict.reject(reason, &series.counts, || rules.describe(labels.list()));
                handed.pass(labels.change());
                return Ok(());
            }
        };
        verdict.keep(series);
        let change = handed.hand_over(labels.change(), decision);
        sink.series(series, list, change, source)
    }
}

/// How the labels handed over follow from each other, whatever was refused in between.
struct Handed {
    /// All changes since the last series handed over.
    change: Change,
    last: Edit,
}

/// What was done to labels before they were handed over.
#[derive(PartialEq, Eq)]
enum Edit {
    None,
    Insert(usize),
    Other,
}

impl Default for Handed {
    fn default() -> Self {
        Self {
            change: Change::ALL,
            last: Edit::None,
        }
    }
}

impl Handed {
    fn pass(&mut self, change: Change) {
        self.change = self.change.then(change);
    }

    fn hand_over(&mut self, change: Change, decision: Decision) -> Change {
        let since = std::mem::replace(&mut self.change, Change::NONE).then(change);
        let edit = match decision {
            Decision::Insert(place) => Edit::Insert(place),
            Decision::Keep => Edit::None,
            Decision::Change | Decision::Refuse(_) => Edit::Other,
        };
        let same = self.last == edit;
        self.last = edit;
        match self.last {
            Edit::None if same => since,
            Edit::Insert(place) if same => since.with_inserted(place),
            _ => Change::ALL,
        }
    }
}
