//! Shows what a body holds, and what hubgate would do with it: for `hubgate inspect`.
//!
//! The body comes from anybody, so all that is printed is escaped and bounded. It is opened, walked and
//! judged by the code that treats requests; here is only what people see of it. A walk shows the series
//! one by one, so that what stands before an error is seen, and little is in memory.

mod captured;
mod elsewhere;
mod histogram;
mod json;
mod open;
mod plain;
mod room;
mod shown;
mod summary;
#[cfg(test)]
mod tests;
mod view;

use std::io::{self, Write};

use crate::config::{Absent, Config, LabelPolicy, Limits, Mismatch, SpokeLimits};
use crate::policy::{self, Explanation, Rules};
use crate::wire::contents::family_metadata;
use crate::wire::protobuf::Reader;
use crate::wire::snappy::SnappyError;
use crate::wire::{
    Counts, Kind, Labels, Malformed, MetadataFault, Protocol, SampleFault, Series, Sieve, Times,
    v1, v2,
};
use crate::write::refusal::Refusal;

pub use captured::{Captured, LINE_START, LineError, read_line};
use elsewhere::elsewhere;
use json::Json;
pub use open::Encoding;
use open::{Closed, hint, open};
use plain::Plain;
use room::Room;
use summary::{End, RefusalView, VerdictView};
use view::{
    DecisionView, Head, Judged, Judgement, MetadataView, OpenedView, RefusedView, SeriesView,
};

/// Labels of a series that are shown.
const LABELS_MAX: usize = 4096;

/// What is asked about a body.
#[derive(Debug)]
pub struct Question<'q> {
    /// The limits of the process.
    pub limits: &'q Limits,
    /// How the body is compressed; `None` to find out.
    pub encoding: Option<Encoding>,
    /// Which message it holds; `None` to find out.
    pub protocol: Option<Protocol>,
    /// The spoke that would send it, if the policy is asked.
    pub spoke: Option<&'q Asked>,
    /// The time of the request, in milliseconds since the Unix epoch.
    pub now_millis: i64,
    /// How the body came here, if `hubgate capture` stored it.
    pub captured: Option<&'q Captured>,
    /// The form of the output.
    pub format: Format,
    /// About the longest output, in bytes. A short V2 body can name long strings again and again, in
    /// many series and within one.
    pub output_bytes_max: u64,
}

/// The form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object.
    Json,
    /// The notation of PromQL, with comments.
    Text,
}

/// A spoke whose policy is asked.
#[derive(Debug)]
pub struct Asked {
    name: String,
    rules: Rules,
    limits: SpokeLimits,
}

impl Asked {
    /// The name of the spoke.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The spoke of this name, if the configuration has it.
    pub fn of(config: &Config, name: &str) -> Option<Self> {
        let spoke = config.spokes.iter().find(|spoke| spoke.name == name)?;
        Some(Self {
            name: spoke.name.clone(),
            rules: Rules::new(
                &config.cluster_label,
                &spoke.name,
                spoke.labels,
                spoke.limits,
            ),
            limits: spoke.limits,
        })
    }

    /// Whoever it is, when no spoke is named.
    fn nobody() -> Self {
        let policy = LabelPolicy {
            absent: Absent::Inject,
            mismatch: Mismatch::Overwrite,
        };
        let limits = SpokeLimits::DEFAULT;
        Self {
            name: String::new(),
            rules: Rules::new("cluster", "", policy, limits),
            limits,
        }
    }
}

/// What came out, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// The body is well-formed, and the policy refuses nothing of it, if it was asked.
    Sound,
    /// The body is refused, or something of it.
    Refused,
    /// Only a part of the body was captured, which cannot be read.
    Cut,
}

/// Why nothing came out.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The body can be read in two ways; the text says how to choose.
    #[error("{0}")]
    Ambiguous(&'static str),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// Prints what a body holds, and what hubgate would do with it.
pub fn inspect(
    body: &[u8],
    question: &Question<'_>,
    out: impl Write,
) -> Result<Finding, InspectError> {
    let out = Counted { out, bytes: 0 };
    match question.format {
        Format::Json => print(body, question, Json::new(out)),
        Format::Text => print(body, question, Plain(out)),
    }
}

/// A form of the output. The calls come in this order.
trait Printer {
    fn head(&mut self, head: &Head<'_>) -> io::Result<()>;
    fn series(&mut self, series: &SeriesView<'_>) -> io::Result<()>;
    fn metadata(&mut self, metadata: &Judged<MetadataView<'_>>) -> io::Result<()>;
    fn end(&mut self, end: &End) -> io::Result<()>;
    /// The bytes that were written.
    fn bytes(&self) -> u64;
}

fn print(
    body: &[u8],
    question: &Question<'_>,
    mut printer: impl Printer,
) -> Result<Finding, InspectError> {
    let captured = question.captured;
    let look_elsewhere = |end: &mut End| {
        if let Some(captured) = captured {
            end.refused_elsewhere = elsewhere(captured, end);
        }
    };
    let mut head = Head {
        captured,
        body_bytes: body.len(),
        opened: None,
    };
    if captured.is_some_and(|it| it.is_cut(body)) {
        printer.head(&head)?;
        let mut end = End::new(0, &Counts::default(), &Times::default());
        end.cut = true;
        look_elsewhere(&mut end);
        printer.end(&end)?;
        return Ok(Finding::Cut);
    }
    let opened = match open(body, question.limits, question.encoding, question.protocol) {
        Ok(opened) => opened,
        Err(Closed::Ambiguous(text)) => return Err(InspectError::Ambiguous(text)),
        Err(Closed::Refused(refusal)) => {
            printer.head(&head)?;
            let mut end = End::new(0, &Counts::default(), &Times::default());
            let mut view = RefusalView::new(&refusal, question.spoke);
            if let (Refusal::Snappy(SnappyError::Corrupt), None) = (&refusal, question.encoding) {
                view.hint = Some(hint(body));
            }
            end.refusal = Some(view);
            look_elsewhere(&mut end);
            printer.end(&end)?;
            return Ok(Finding::Refused);
        }
    };
    head.opened = Some(OpenedView::new(&opened));
    printer.head(&head)?;
    let (protocol, message) = (opened.protocol, &*opened.message);
    // What is malformed, and what a message carries, does not depend on the rules.
    let nobody = Asked::nobody();
    let rules = &question.spoke.unwrap_or(&nobody).rules;
    let explained = policy::explain(protocol, message, rules, question.now_millis);
    let (explanation, refusal) = match explained {
        Ok(explanation) if explanation.verdict.is_of_another_message() => {
            (Some(explanation), Some(Refusal::WrongMessage(protocol)))
        }
        Ok(explanation) => (Some(explanation), None),
        Err(malformed) => {
            let refusal = Refusal::Malformed {
                protocol,
                malformed,
            };
            (None, Some(refusal))
        }
    };
    let mut showing = Showing {
        question,
        judged: question.spoke.zip(explanation.as_ref()),
        place: 0,
        counts: Counts::default(),
        times: Times::default(),
        foreign: false,
        printer: &mut printer,
    };
    let stop = showing.show(protocol, message);
    let Showing {
        place,
        counts,
        times,
        foreign,
        ..
    } = showing;
    let mut end = match &explanation {
        Some(Explanation { verdict, .. }) => End::new(verdict.series, &verdict.received, &times),
        None => End::new(place, &counts, &times),
    };
    end.foreign_fields = foreign;
    match stop {
        Ok(()) | Err(Stop::Malformed) => {}
        Err(Stop::Full) => end.truncated = true,
        Err(Stop::Output(error)) => return Err(error.into()),
    }
    end.refusal = refusal.map(|refusal| RefusalView::new(&refusal, question.spoke));
    if end.refusal.is_none()
        && let Some((asked, explanation)) = question.spoke.zip(explanation.as_ref())
    {
        end.verdict = Some(VerdictView::new(asked, protocol, explanation));
    }
    look_elsewhere(&mut end);
    printer.end(&end)?;
    let refuses = |verdict: &VerdictView| !verdict.refused.is_empty();
    if end.refusal.is_some() || end.verdict.as_ref().is_some_and(refuses) {
        Ok(Finding::Refused)
    } else {
        Ok(Finding::Sound)
    }
}

/// Why the walk over a message ends early.
enum Stop {
    /// The output is long enough.
    Full,
    /// The message is malformed from here on, as the policy found before.
    Malformed,
    /// The output cannot be written.
    Output(io::Error),
}

impl From<Malformed> for Stop {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// A walk that shows a message.
struct Showing<'s, P> {
    question: &'s Question<'s>,
    /// The spoke, and what its policy says.
    judged: Option<(&'s Asked, &'s Explanation)>,
    /// How many series were shown.
    place: u64,
    counts: Counts,
    times: Times,
    /// There are fields that the message does not define.
    foreign: bool,
    printer: &'s mut P,
}

impl<P: Printer> Showing<'_, P> {
    /// Shows the series and then the metadata of V1.
    fn show(&mut self, protocol: Protocol, message: &[u8]) -> Result<(), Stop> {
        let labels = &mut Labels::new(Labels::default(), LABELS_MAX);
        let mut reader = Reader::new(message);
        if protocol == Protocol::V2 {
            // Each takes two bytes at least.
            let mut symbols = v2::Symbols::new(v2::Symbols::default(), message.len() / 2);
            symbols.collect(message, None)?;
            self.foreign = symbols.foreign();
            while let Some(field) = v2::next_field(&mut reader)? {
                if let v2::Field::Series(raw) = field {
                    let series = v2::series(raw, &symbols, labels)?;
                    self.show_series(&series, labels, Some(&symbols))?;
                }
            }
            return Ok(());
        }
        while let Some(field) = v1::next_field(&mut reader)? {
            match field {
                v1::Field::Series(raw) => {
                    let series = v1::series(raw, labels)?;
                    self.show_series(&series, labels, None)?;
                }
                v1::Field::Metadata(_) => {}
                v1::Field::Foreign => self.foreign = true,
            }
        }
        let mut reader = Reader::new(message);
        while let Some(field) = v1::next_field(&mut reader)? {
            if let v1::Field::Metadata(raw) = field {
                let fault = match v1::metadata(raw)? {
                    true => None,
                    false => Some(SampleFault::Metadata(MetadataFault::InvalidUtf8)),
                };
                self.check_room()?;
                self.counts.add(Kind::Metadata, 1);
                let now_millis = self.question.now_millis;
                self.printer.metadata(&Judged {
                    item: MetadataView::new(&family_metadata(raw)?),
                    refused: fault.map(|fault| RefusedView::new(fault, now_millis)),
                })?;
            }
        }
        Ok(())
    }

    fn show_series(
        &mut self,
        series: &Series<'_>,
        labels: &Labels<'_>,
        symbols: Option<&v2::Symbols<'_>>,
    ) -> Result<(), Stop> {
        let room = &mut Room::new(self.check_room()?, self.question.format);
        let sieve = self.judged.map_or_else(Sieve::default, |it| it.1.sieve);
        let decision = self.judged.and_then(|(asked, explanation)| {
            if let Some(reason) = explanation.refusal() {
                return Some(DecisionView::refused(reason));
            }
            let place = usize::try_from(self.place).ok()?;
            let explained = explanation.series.get(place)?;
            Some(DecisionView::new(explained, &asked.rules, labels, room))
        });
        let judgement = Judgement {
            sieve,
            now_millis: self.question.now_millis,
            decision,
        };
        let view = SeriesView::new(series, labels, symbols, judgement, room)?;
        self.place += 1;
        self.counts.add_all(&series.counts);
        self.times.add_all(&series.times);
        self.foreign |= series.foreign;
        self.printer.series(&view)?;
        // The series says where it is cut.
        match room.is_full() {
            true => Err(Stop::Full),
            false => Ok(()),
        }
    }

    /// The room that is left for the output, in bytes.
    fn check_room(&self) -> Result<u64, Stop> {
        let left = self.question.output_bytes_max;
        let left = left.checked_sub(self.printer.bytes());
        left.ok_or(Stop::Full)
    }
}

/// Counts what is written.
struct Counted<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
