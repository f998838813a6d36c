//! What becomes of each series of a request, for people who ask why.
//!
//! The walk that judges is that of [`inspect`](super::inspect). After each series, this compares what the
//! verdict counts with what it counted before, so nothing is decided here.

use std::iter::repeat;

use crate::config::LimitSet;
use crate::reasons::{Limit, Reason};
use crate::wire::encoder::Source;
use crate::wire::{Label, Labels, Malformed, Protocol, SampleFault, Series, Sieve, v2};

use super::decisions::{Decision, Decisions};
use super::output::Output;
use super::passes::Judging;
use super::verdict::{Exceeded, Observed};
use super::walk::{Visitor, walk};
use super::{Moment, Rules, Scratch, Verdict};

/// What the rules say of a request and of each of its series.
#[derive(Debug)]
pub struct Explanation {
    /// What they say of the whole.
    pub verdict: Verdict,
    /// What becomes of the series, in their order. Those beyond the limit of a request have no entry.
    pub series: Vec<Explained>,
    /// What decided on the samples of series that may travel on.
    pub sieve: Sieve,
}

impl Explanation {
    /// Why all of the request is refused, whatever its series are.
    pub fn refusal(&self) -> Option<Reason> {
        let reasons = self.verdict.rejections.iter().map(|it| it.reason);
        let of_all = [Reason::SeriesPerRequest, Reason::SymbolsPerRequest];
        reasons.into_iter().find(|reason| of_all.contains(reason))
    }
}

/// What becomes of a series.
#[derive(Debug, Clone, Copy)]
pub struct Explained {
    decision: Decision,
    /// A rule that it breaks, whatever becomes of it.
    pub observed: Option<Reason>,
    /// The limits that it exceeds, whatever becomes of it.
    pub exceeded: LimitSet,
}

impl Explained {
    /// Why it may not travel on, if it may not.
    pub fn refused(&self) -> Option<Reason> {
        match self.decision {
            Decision::Refuse(reason) => Some(reason),
            Decision::Keep | Decision::Insert(_) | Decision::Edit(_) => None,
        }
    }

    /// True when it travels on with other labels than it came with, or in another order of them.
    pub fn changes_labels(&self) -> bool {
        matches!(self.decision, Decision::Insert(_) | Decision::Edit(_))
    }

    /// The labels with which it travels on, if it came with these and does.
    pub fn new_labels<'l>(&self, rules: &'l Rules, labels: &[Label<'l>]) -> Vec<Label<'l>> {
        let mut edited = Vec::new();
        rules.carry_out(self.decision, labels, &mut edited);
        edited
    }
}

/// Says what is wrong with a sample of a request of this time.
pub fn describe_fault(fault: SampleFault, now: Moment) -> String {
    match fault {
        SampleFault::Ahead(timestamp) => {
            let seconds = timestamp.saturating_sub(now.latest) / 1000;
            format!("{seconds} s ahead")
        }
        SampleFault::Behind(timestamp) => {
            let seconds = now.earliest.saturating_sub(timestamp) / 1000;
            format!("{seconds} s old")
        }
        SampleFault::Histogram(fault) => fault.to_string(),
        SampleFault::Exemplar(fault) => fault.to_string(),
        SampleFault::Metadata(fault) => fault.to_string(),
    }
}

/// Inspects a decoded request as [`inspect`](super::inspect) does, and says what becomes of each series.
pub fn explain(
    protocol: Protocol,
    message: &[u8],
    rules: &Rules,
    now_millis: i64,
) -> Result<Explanation, Malformed> {
    let now = now_millis.into();
    let mut decisions = Decisions::default();
    decisions.start(rules.sieve(now));
    let sieve = decisions.sieve();
    let output = Output::new(rules, &mut [], Vec::new(), sieve);
    let mut explaining = Explaining {
        judging: Judging::new(rules, now, &mut decisions, None, output),
        series: Vec::new(),
        before: Tally::default(),
    };
    let walked = walk(
        protocol,
        message,
        rules,
        &mut Scratch::default(),
        &mut explaining,
    );
    let Explaining {
        judging, series, ..
    } = explaining;
    let (verdict, _) = judging.finish();
    walked.map(|()| Explanation {
        verdict,
        series,
        sieve,
    })
}

/// Judges, and notes what came of each series.
struct Explaining<'j, 'a> {
    judging: Judging<'j, 'a>,
    series: Vec<Explained>,
    before: Tally,
}

/// What a verdict counts of series.
#[derive(Default)]
struct Tally {
    kept: u64,
    /// Those of each rejection, in their order, which no series changes.
    rejected: Vec<u64>,
    observed: Observed,
    exceeded: Exceeded,
}

impl Tally {
    /// Takes the counts of a verdict, without its texts.
    fn take(&mut self, verdict: &Verdict) {
        self.kept = verdict.kept_series;
        self.rejected.clear();
        let rejections = verdict.rejections.iter();
        self.rejected.extend(rejections.map(|it| it.series));
        self.observed.clone_from(&verdict.observed);
        self.exceeded.clone_from(&verdict.exceeded);
    }
}

impl Explaining<'_, '_> {
    /// What came of the last series. `None` if it was not judged.
    fn last(&self) -> Option<Explained> {
        let before = &self.before;
        let Judging {
            verdict,
            decisions,
            rules,
            ..
        } = &self.judging;
        if verdict.overfull(rules) {
            return None;
        }
        let decision = if verdict.kept_series > before.kept {
            decisions.last()?
        } else {
            let then = before.rejected.iter().chain(repeat(&0));
            let mut both = verdict.rejections.iter().zip(then);
            let (grown, _) = both.find(|(now, then)| now.series > **then)?;
            Decision::Refuse(grown.reason)
        };
        let observes =
            |reason: &Reason| verdict.observed.series(*reason) > before.observed.series(*reason);
        let exceeds = |limit: &Limit| verdict.exceeded.of(*limit) > before.exceeded.of(*limit);
        Some(Explained {
            decision,
            observed: Reason::ALL.into_iter().find(observes),
            exceeded: Limit::ALL.into_iter().filter(exceeds).collect(),
        })
    }
}

impl<'a> Visitor<'a> for Explaining<'_, 'a> {
    fn series(
        &mut self,
        series: &Series<'a>,
        labels: &mut Labels<'a>,
        source: Source<'_, 'a>,
    ) -> Result<(), Malformed> {
        self.before.take(&self.judging.verdict);
        self.judging.series(series, labels, source)?;
        self.series.extend(self.last());
        Ok(())
    }

    fn takes_apart(&self) -> bool {
        self.judging.takes_apart()
    }

    fn metadata(&mut self, raw: &'a [u8]) -> Result<(), Malformed> {
        self.judging.metadata(raw)
    }

    fn foreign(&mut self) {
        self.judging.foreign();
    }

    fn symbols(&mut self, symbols: &v2::Symbols<'a>) {
        self.judging.symbols(symbols);
    }
}
