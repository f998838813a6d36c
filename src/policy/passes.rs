//! The two passes over a request: the first judges, the second encodes by what the first decided.

use crate::config::LimitSet;
use crate::reasons::{Limit, Reason};
use crate::wire::contents::family_metadata;
use crate::wire::encoder::Source;
use crate::wire::{
    Counts, Kind, Label, Labels, METRIC_NAME, Malformed, MetadataFault, SampleFault, Series, Sieve,
    v1, v2,
};

use super::census::Lookout;
use super::decisions::{Decision, Decisions};
use super::explain::describe_fault;
use super::labels::Judged;
use super::output::Output;
use super::walk::Visitor;
use super::{Moment, Rules, Verdict};

/// Judges each series and each metadata entry once, and takes them into the verdict.
pub(super) struct Judging<'j, 'a> {
    pub(super) rules: &'a Rules,
    /// The time of the request.
    now: Moment,
    /// Catches the samples that exceed a limit, whether it refuses them or not.
    watch: Sieve,
    pub(super) verdict: Verdict,
    symbols_overflow: bool,
    pub(super) decisions: &'j mut Decisions,
    lookout: Option<Lookout<'j, 'a>>,
    output: Output<'j, 'a>,
}

impl<'j, 'a> Judging<'j, 'a> {
    pub(super) fn new(
        rules: &'a Rules,
        now: Moment,
        decisions: &'j mut Decisions,
        lookout: Option<Lookout<'j, 'a>>,
        output: Output<'j, 'a>,
    ) -> Self {
        Self {
            rules,
            now,
            watch: rules.watch(now),
            verdict: Verdict::default(),
            symbols_overflow: false,
            decisions,
            lookout,
            output,
        }
    }

    /// The verdict, when everything was visited, and the output.
    pub(super) fn finish(mut self) -> (Verdict, Output<'j, 'a>) {
        self.verdict.finish(self.rules, self.symbols_overflow);
        if let Some(lookout) = &mut self.lookout {
            let too_many = lookout.ask_now();
            self.verdict.exceeded.add(Limit::ActiveSeries, too_many);
            let all = || lookout.census.describe();
            self.verdict.explain(Reason::ActiveSeries, all);
        }
        (self.verdict, self.output)
    }
}

impl<'a> Judging<'_, 'a> {
    /// Counts the samples of a series that exceed a limit. Returns whether some of them are refused.
    #[cold]
    fn watch_samples(
        &mut self,
        series: &Series<'a>,
        source: Source<'_, 'a>,
    ) -> Result<bool, Malformed> {
        let exceeded = &mut self.verdict.exceeded;
        self.watch.sift(series, source, |fault, _| match fault {
            SampleFault::Ahead(_) => exceeded.count(Limit::SamplesAhead),
            SampleFault::Behind(_) => exceeded.count(Limit::SamplesAge),
            SampleFault::Histogram(_) | SampleFault::Exemplar(_) | SampleFault::Metadata(_) => {}
        })?;
        Ok(self.decisions.sieve().catches(series))
    }

    /// Takes in a series of which samples, exemplars or metadata are refused singly. When neither a sample
    /// nor an exemplar is left, the series is refused with the last of them, or else with its metadata.
    #[cold]
    fn put_sifted(
        &mut self,
        series: &Series<'a>,
        labels: &mut Labels<'a>,
        mut decision: Decision,
        source: Source<'_, 'a>,
    ) -> Result<(), Malformed> {
        let Self { rules, verdict, .. } = self;
        if series.clean.is_some() {
            source.read_labels(series, labels);
        }
        let labels = &*labels;
        let mut last = None;
        let sieve = self.decisions.sieve();
        let sifted = sieve.sift(series, source, |fault, kind| {
            let reason = Reason::from(fault);
            let describe = || {
                let labels = rules.describe(labels.list());
                format!("{labels}: {}", describe_fault(fault, self.now))
            };
            verdict.reject_single(reason, kind, describe);
            last = match kind {
                Kind::Metadata => last.or(Some(reason)),
                _ => Some(reason),
            };
        })?;
        let left = sifted.counts.samples() + sifted.counts.of(Kind::Exemplar);
        match last {
            Some(reason) if left == 0 => {
                verdict.reject(reason, &sifted.counts, || rules.describe(labels.list()));
                decision = Decision::Refuse(reason);
                self.decisions.push_refusal(reason);
            }
            _ if self.is_one_too_many(&sifted, labels, decision, source) => {
                self.refuse_new(&sifted.counts, |rules| rules.describe(labels.list()));
                return Ok(());
            }
            _ => {
                self.decisions.push(decision);
                self.verdict.keep(&sifted);
            }
        }
        self.output.put(series, labels, decision, source)
    }

    /// True when a series that may travel on is new where there may be no more.
    #[inline]
    fn is_one_too_many(
        &mut self,
        series: &Series<'a>,
        labels: &Labels<'a>,
        decision: Decision,
        source: Source<'_, 'a>,
    ) -> bool {
        let Some(lookout) = &mut self.lookout else {
            return false;
        };
        let asks = match series.counts.samples() {
            // It counts with its samples, which came as another series. A hub has no series for its exemplars
            // if these were refused.
            0 => lookout.refuses && series.counts.of(Kind::Exemplar) > 0,
            _ => lookout.picks(),
        };
        if !asks {
            return false;
        }
        let identity = lookout.identity();
        let identified = self
            .output
            .identify(identity, series, labels, decision, source);
        let Some((identity, metric)) = identified else {
            return false;
        };
        let sampled = series.counts.samples() > 0;
        if sampled && lookout.census.is_patient() {
            let too_many = lookout.ask_later(identity, metric);
            self.verdict.exceeded.add(Limit::ActiveSeries, too_many);
            return false;
        }
        let census = &mut *lookout.census;
        // One without samples is never taken in.
        let fits = match sampled {
            true => census.knows(identity) || census.admit(identity, metric),
            false => census.has(identity),
        };
        if fits {
            return false;
        }
        lookout.refuses = true;
        self.verdict.exceeded.count(Limit::ActiveSeries);
        self.rules.refuses_new_series()
    }

    /// Refuses a series that is new. Its neighbours that are known may travel on.
    #[cold]
    fn refuse_new(&mut self, counts: &Counts, describe: impl FnOnce(&Rules) -> String) {
        let (rules, reason) = (self.rules, Reason::ActiveSeries);
        self.decisions.push_refusal(reason);
        self.verdict.reject(reason, counts, || describe(rules));
    }
}

impl<'a> Visitor<'a> for Judging<'_, 'a> {
    #[inline]
    fn series(
        &mut self,
        series: &Series<'a>,
        labels: &mut Labels<'a>,
        source: Source<'_, 'a>,
    ) -> Result<(), Malformed> {
        let Self { rules, verdict, .. } = self;
        verdict.receive(series);
        if verdict.overfull(rules) {
            return Ok(());
        }
        #[cfg(test)]
        rules.judged.count(|| {
            if series.clean.is_some() {
                source.read_labels(series, labels);
            }
            rules.describe(labels.list())
        });
        let Judged {
            decision,
            observed,
            exceeded,
        } = rules.judge(series, labels);
        if let Some(reason) = observed {
            verdict.observed.count(reason);
        }
        if exceeded != LimitSet::EMPTY {
            verdict.exceeded.count_all(exceeded);
        }
        let refused = matches!(decision, Decision::Refuse(_));
        if !refused && self.watch.catches(series) {
            let sifts = self.watch_samples(series, source)?;
            if sifts {
                return self.put_sifted(series, labels, decision, source);
            }
        }
        if !refused && self.is_one_too_many(series, labels, decision, source) {
            self.refuse_new(&series.counts, |rules| {
                if series.clean.is_some() {
                    source.read_labels(series, labels);
                }
                rules.describe(labels.list())
            });
            return Ok(());
        }
        let Self { rules, verdict, .. } = self;
        match decision {
            Decision::Keep => {
                self.decisions.push(decision);
                verdict.keep(series);
            }
            Decision::Insert(_) | Decision::Edit(_) => {
                self.decisions.push(decision);
                verdict.change();
                verdict.keep(series);
            }
            Decision::Refuse(reason) => {
                self.decisions.push_refusal(reason);
                verdict.reject(reason, &series.counts, || {
                    if series.clean.is_some() {
                        source.read_labels(series, labels);
                    }
                    rules.describe(labels.list())
                });
            }
        }
        self.output.put(series, labels, decision, source)
    }

    fn takes_apart(&self) -> bool {
        self.output.takes_apart()
    }

    fn metadata(&mut self, raw: &'a [u8]) -> Result<(), Malformed> {
        let Self { rules, verdict, .. } = self;
        verdict.metadata += 1;
        verdict.received.add(Kind::Metadata, 1);
        let valid = v1::metadata(raw)?;
        if verdict.overfull(rules) {
            return Ok(());
        }
        if valid {
            verdict.kept_metadata += 1;
            self.output.put_metadata(raw);
        } else {
            let metadata = family_metadata(raw)?;
            verdict.reject_single(Reason::InvalidUtf8, Kind::Metadata, || {
                let family = Label {
                    name: METRIC_NAME,
                    value: metadata.family,
                };
                let fault = MetadataFault::InvalidUtf8;
                format!("{}: {fault}", rules.describe(&[family]))
            });
        }
        Ok(())
    }

    fn foreign(&mut self) {
        self.verdict.foreign = true;
    }

    fn symbols(&mut self, symbols: &v2::Symbols<'a>) {
        self.verdict.foreign = symbols.foreign();
        if symbols.displaced() || symbols.invalid() {
            self.verdict.change();
        }
        self.symbols_overflow = symbols.overflow();
    }
}

/// Encodes by the decisions on a request. A series without a decision is not encoded.
pub(super) struct Replaying<'r, 'a, D> {
    /// The decisions that are left.
    decisions: D,
    output: Output<'r, 'a>,
}

impl<'r, 'a, D> Replaying<'r, 'a, D> {
    pub(super) fn new(decisions: D, output: Output<'r, 'a>) -> Self {
        Self { decisions, output }
    }

    /// The output, when everything was visited.
    pub(super) fn finish(self) -> Output<'r, 'a> {
        self.output
    }
}

impl<'a, D: Iterator<Item = Decision>> Visitor<'a> for Replaying<'_, 'a, D> {
    fn series(
        &mut self,
        series: &Series<'a>,
        labels: &mut Labels<'a>,
        source: Source<'_, 'a>,
    ) -> Result<(), Malformed> {
        match self.decisions.next() {
            Some(decision) => self.output.put(series, labels, decision, source),
            None => Ok(()),
        }
    }

    fn takes_apart(&self) -> bool {
        self.output.takes_apart()
    }

    fn metadata(&mut self, raw: &'a [u8]) -> Result<(), Malformed> {
        // No rule decides on metadata: an entry that is well-formed is kept.
        if v1::metadata(raw)? {
            self.output.put_metadata(raw);
        }
        Ok(())
    }
}
