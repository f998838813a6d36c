//! The label policy: which series of a request may travel on, and with which labels.
//!
//! Pure and synchronous: bytes and rules in, a verdict out. No tokio, no HTTP, no metrics.
//!
//! Every series is judged once, and so are its samples: those that are too far ahead of the time of
//! the request or behind it, and histograms whose numbers cannot be, are refused one by one. The walk that judges
//! hands what may travel on to the encoders of all targets. An encoder may also be needed later: when
//! a walk without one finds that the original bytes may not travel on, or when a message turns out
//! longer than its room. Then a second walk replays the decisions of the first.
//!
//! The rejected alternative encodes the prefix at the first change and the rest while it is judged. It
//! saves the second walk in the first case alone, and must reserve memory in the middle of a walk.

mod census;
mod decisions;
mod explain;
mod labels;
mod moment;
mod names;
mod output;
mod passes;
#[cfg(test)]
pub(crate) mod tests;
mod verdict;
mod walk;

use crate::wire::encoder::{Encoder, SYMBOL_BYTES, V1_BYTES_MAX, symbol_bytes};
use crate::wire::protobuf::varint_len;
use crate::wire::{Label, Labels, Malformed, Protocol, labels::recycle, v1, v2};

pub use census::Census;
pub use decisions::Decisions;
pub use explain::{Explained, Explanation, describe_fault, explain};
pub use labels::Rules;
pub use moment::Moment;
pub use verdict::{Exceeded, Observed, Rejection, Verdict};

use census::Lookout;
use output::Output;
use passes::{Judging, Replaying};
use walk::walk;

/// The number of different strings of one or two bytes.
const SHORT_STRINGS: usize = 256 + 256 * 256;

/// References of two labels that are added to a series of V2, and the growth of the lengths around
/// them.
const ADDED_REFS_BYTES_MAX: usize = 24;

/// Memory that is reused from inspection to inspection.
#[derive(Debug, Default)]
pub struct Scratch {
    /// What is learnt of the shapes of series, for one message.
    shapes_v1: v1::Shapes,
    shapes_v2: v2::Shapes,
    labels: Labels<'static>,
    edited: Vec<Label<'static>>,
    symbols: v2::Symbols<'static>,
    /// Those of the last inspection.
    decisions: Decisions,
}

impl Scratch {
    /// The memory that it holds, in bytes.
    pub fn bytes(&self) -> usize {
        let shapes = self.shapes_v1.bytes() + self.shapes_v2.bytes();
        shapes + self.symbols.bytes() + self.labels.bytes() + self.decisions.bytes()
    }

    /// Takes the decisions of the last inspection out, to replay them on another thread.
    pub fn take_decisions(&mut self) -> Decisions {
        std::mem::take(&mut self.decisions)
    }

    /// Puts decisions in the place of those of the last inspection.
    pub fn set_decisions(&mut self, decisions: Decisions) {
        self.decisions = decisions;
    }

    /// Gives memory back if the last requests left more than about `bytes_max` somewhere.
    pub fn trim(&mut self, bytes_max: usize) {
        if self.symbols.bytes() > bytes_max {
            self.symbols = v2::Symbols::default();
        }
        if self.labels.bytes() > bytes_max {
            self.labels = Labels::default();
        }
        if self.decisions.bytes() > bytes_max {
            self.decisions = Decisions::default();
        }
    }
}

/// Inspects a decoded request: judges each series once, and puts what may travel on into each of
/// the `encoders`, which were started and are to be finished by the caller.
///
/// `now_millis` is the time of the request in milliseconds since the Unix epoch; here is no clock.
///
/// An error means that the bytes are not the message they are said to be; then nothing of them
/// may travel on. Where the verdict says that nothing changed, the bytes may travel on as they
/// are. Where it says that nothing may travel on, neither may what the encoders hold.
pub fn inspect(
    protocol: Protocol,
    message: &[u8],
    rules: &Rules,
    now_millis: i64,
    scratch: &mut Scratch,
    encoders: &mut [Encoder],
) -> Result<Verdict, Malformed> {
    let now = now_millis.into();
    inspect_counted(protocol, message, rules, now, None, scratch, encoders)
}

/// Like [`inspect`], by several clocks, with a census that counts the series and may have new ones refused.
pub fn inspect_counted(
    protocol: Protocol,
    message: &[u8],
    rules: &Rules,
    now: Moment,
    census: Option<&mut dyn Census>,
    scratch: &mut Scratch,
    encoders: &mut [Encoder],
) -> Result<Verdict, Malformed> {
    let mut decisions = std::mem::take(&mut scratch.decisions);
    let edited = recycle(std::mem::take(&mut scratch.edited));
    decisions.start(rules.sieve(now));
    let output = Output::new(rules, encoders, edited, decisions.sieve());
    let lookout = census.map(Lookout::new);
    let mut judging = Judging::new(rules, now, &mut decisions, lookout, output);
    let walked = walk(protocol, message, rules, scratch, &mut judging);
    let (verdict, output) = judging.finish();
    scratch.edited = recycle(output.into_edited());
    scratch.decisions = decisions;
    walked.map(|()| verdict)
}

/// Puts what may travel on of the request that was inspected last into each of the `encoders`, by
/// the decisions that `scratch` holds. Nothing is judged. The request must be one of which
/// something may travel on.
pub fn replay(
    protocol: Protocol,
    message: &[u8],
    rules: &Rules,
    scratch: &mut Scratch,
    encoders: &mut [Encoder],
) -> Result<(), Malformed> {
    let decisions = std::mem::take(&mut scratch.decisions);
    let edited = recycle(std::mem::take(&mut scratch.edited));
    let output = Output::new(rules, encoders, edited, decisions.sieve());
    let mut replaying = Replaying::new(decisions.iter(), output);
    let walked = walk(protocol, message, rules, scratch, &mut replaying);
    let output = replaying.finish();
    scratch.edited = recycle(output.into_edited());
    scratch.decisions = decisions;
    walked
}

/// Bytes that an encoder takes at most beside the message that it is made of, not counting
/// reused buffers.
///
/// A V2 message is assembled from two buffers and a table of its symbols. A label of V1 takes six
/// bytes beside its strings; a label of V2 takes two references and the framing of two symbols. The
/// references of V2 are renumbered in the order of their use, so a reference of one byte may take
/// three. V1 repeats the strings of V2, so only [`V1_BYTES_MAX`] bounds a downgrade; it is seldom ten
/// times as long as its source.
pub fn room(from: Protocol, to: Protocol, message_len: usize, rules: &Rules) -> usize {
    let series = rules.series_max().min(message_len / series_len_min(from));
    let (grown, symbols) = match (from, to) {
        (Protocol::V2, Protocol::V1) => return message_len.max(V1_BYTES_MAX),
        (Protocol::V1, Protocol::V1) => {
            let added = series.saturating_mul(rules.added_bytes_max());
            return message_len.saturating_add(added);
        }
        (Protocol::V1, Protocol::V2) => {
            // A label of two strings takes eight bytes, and twelve if these have more than two bytes.
            let symbols = (message_len / 4).min(SHORT_STRINGS + message_len / 6);
            (message_len.saturating_mul(3) / 2, symbols)
        }
        (Protocol::V2, Protocol::V2) => {
            let symbols = symbols_max(message_len, rules);
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

/// Bytes that the symbols of a message take at most while it is walked and encoded.
pub fn symbols_room(from: Protocol, to: Protocol, message_len: usize, rules: &Rules) -> usize {
    symbols_max(message_len, rules).saturating_mul(symbol_bytes(from, to))
}

/// Most symbols of a V2 message. One takes two bytes at least.
fn symbols_max(message_len: usize, rules: &Rules) -> usize {
    rules.symbols_max().min(message_len / 2)
}

/// The least bytes of a series that is kept, with its key and length: it has a metric name.
fn series_len_min(protocol: Protocol) -> usize {
    match protocol {
        Protocol::V1 => 17,
        Protocol::V2 => 6,
    }
}
