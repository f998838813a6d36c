//! What an inspection found and decided.

use crate::config::LimitSet;
use crate::reasons::{Limit, Reason};
use crate::wire::{Counts, Kind, Series, Times};

use super::Rules;

/// Everything that was refused for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The reason.
    pub reason: Reason,
    /// The number of series that were refused whole. Of a reason that refuses single samples, these are
    /// the series that have nothing else. Where the whole request has too many, the number of its series or
    /// of its metadata entries.
    pub series: u64,
    /// The number of samples, histograms, exemplars and metadata that were refused singly.
    pub single: u64,
    /// What was refused.
    pub counts: Counts,
    /// The first of them, cut to some 160 bytes, and what else there is to say. The sender chose the text,
    /// so it is not trusted.
    pub example: String,
}

impl Rejection {
    /// How many were refused, of what the reason refuses.
    pub fn refused(&self) -> u64 {
        if self.reason.is_of_samples() {
            self.counts.samples() + self.counts.of(Kind::Exemplar)
        } else {
            self.series + self.single
        }
    }

    /// True when no series, sample or exemplar was refused.
    pub fn is_of_metadata(&self) -> bool {
        let mut others = self.counts;
        others.clear(Kind::Metadata);
        self.series == 0 && others.is_empty()
    }
}

/// Series that broke a rule, counted by its reason. A rule that refuses nothing, or that changes a
/// series instead, shows here what it met; [`Verdict::rejections`] has only what was refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed([u64; Reason::ALL.len()]);

impl Observed {
    /// How many series broke the rule with this reason.
    pub fn series(&self, reason: Reason) -> u64 {
        self.0[reason as usize]
    }

    pub(super) fn count(&mut self, reason: Reason) {
        self.0[reason as usize] += 1;
    }
}

/// What exceeded a limit, whether the limit refuses it or not: the request, its series, or its samples
/// and exemplars, as the limit says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exceeded([u64; Limit::ALL.len()]);

impl Exceeded {
    /// How many exceeded this limit.
    pub fn of(&self, limit: Limit) -> u64 {
        self.0[limit as usize]
    }

    pub(super) fn count(&mut self, limit: Limit) {
        self.add(limit, 1);
    }

    pub(super) fn add(&mut self, limit: Limit, count: u64) {
        self.0[limit as usize] += count;
    }

    /// Counts a series that exceeds these limits.
    #[cold]
    pub(super) fn count_all(&mut self, limits: LimitSet) {
        for limit in Limit::ALL {
            if limits.contains(limit) {
                self.count(limit);
            }
        }
    }
}

/// What an inspection found and decided. For each kind, received = kept + rejected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What the request carried.
    pub received: Counts,
    /// How many series it held.
    pub series: u64,
    /// How many series broke a rule, whatever became of them.
    pub observed: Observed,
    /// What exceeded a limit, whatever became of it.
    pub exceeded: Exceeded,
    /// The timestamps of what may travel on.
    pub times: Times,
    /// What was refused, an entry a reason.
    pub rejections: Vec<Rejection>,
    /// How many series may travel on, including empty ones.
    pub kept_series: u64,
    /// How many of these hold exemplars and no sample. A V2 hub refuses such a series.
    pub orphan_series: u64,
    /// How many histograms of custom buckets may travel on. V1 has no place for them.
    pub custom_buckets: u64,
    /// How many V1 metadata entries may travel on.
    pub kept_metadata: u64,
    /// How many V1 metadata entries it held.
    pub metadata: u64,
    /// The message holds fields that its version does not define. They never travel on.
    pub foreign: bool,
    changed: bool,
}

impl Verdict {
    /// True when the original bytes may not travel on as they are.
    pub fn changed(&self) -> bool {
        self.changed || self.foreign
    }

    /// True when something may travel on.
    pub fn keeps(&self) -> bool {
        self.kept_series > 0 || self.kept_metadata > 0
    }

    /// True when the message holds fields, and none that it defines: it is another message.
    pub fn is_of_another_message(&self) -> bool {
        self.foreign && self.series == 0 && self.received.is_empty()
    }

    /// True when the time of the request had something refused.
    pub fn refuses_for_time(&self) -> bool {
        self.rejections.iter().any(|it| it.reason.is_of_time())
    }

    /// What was refused, of each kind.
    pub fn rejected(&self) -> Counts {
        let mut rejected = Counts::default();
        for rejection in &self.rejections {
            rejected.add_all(&rejection.counts);
        }
        rejected
    }

    /// What may travel on, of each kind.
    pub fn kept(&self) -> Counts {
        self.received.minus(&self.rejected())
    }

    #[inline]
    pub(super) fn receive(&mut self, series: &Series<'_>) {
        self.series += 1;
        self.received.add_all(&series.counts);
    }

    pub(super) fn change(&mut self) {
        self.changed = true;
    }

    #[inline]
    pub(super) fn keep(&mut self, series: &Series<'_>) {
        let counts = &series.counts;
        let samples = counts.samples();
        self.kept_series += 1;
        self.orphan_series += u64::from(samples == 0 && counts.of(Kind::Exemplar) > 0);
        self.custom_buckets += series.custom_buckets;
        self.times.add_all(&series.times);
    }

    /// Refuses a series.
    pub(super) fn reject(
        &mut self,
        reason: Reason,
        counts: &Counts,
        example: impl FnOnce() -> String,
    ) {
        let rejection = self.rejection(reason, example);
        rejection.series += 1;
        rejection.counts.add_all(counts);
    }

    /// Refuses a single sample, histogram, exemplar or metadata.
    pub(super) fn reject_single(
        &mut self,
        reason: Reason,
        kind: Kind,
        example: impl FnOnce() -> String,
    ) {
        let rejection = self.rejection(reason, example);
        rejection.single += 1;
        rejection.counts.add(kind, 1);
    }

    /// What was refused for a reason so far.
    fn rejection(&mut self, reason: Reason, example: impl FnOnce() -> String) -> &mut Rejection {
        self.changed = true;
        let rejections = &mut self.rejections;
        let known = rejections.iter().position(|known| known.reason == reason);
        let place = known.unwrap_or_else(|| {
            rejections.push(Rejection {
                reason,
                series: 0,
                single: 0,
                counts: Counts::default(),
                example: example(),
            });
            rejections.len() - 1
        });
        &mut rejections[place]
    }

    /// Adds to the example of a reason, if something was refused for it, what is known in the end.
    pub(super) fn explain(&mut self, reason: Reason, text: impl FnOnce() -> String) {
        let mut rejections = self.rejections.iter_mut();
        if let Some(rejection) = rejections.find(|known| known.reason == reason) {
            rejection.example.push(' ');
            rejection.example.push_str(&text());
        }
    }

    /// True when the request holds more than its limit, and all of it will be refused.
    #[inline]
    pub(super) fn overfull(&self, rules: &Rules) -> bool {
        self.series.max(self.metadata) > rules.series_max() as u64
    }

    /// Refuses everything when a bound of the whole request was passed.
    pub(super) fn finish(&mut self, rules: &Rules, symbols_overflow: bool) {
        let entries = self.series.max(self.metadata);
        if rules.exceeds_series(entries) {
            self.exceeded.count(Limit::SeriesPerRequest);
        }
        let (reason, example) = if self.overfull(rules) {
            let what = if self.series == entries {
                "series"
            } else {
                "metadata entries"
            };
            let example = format!("{entries} {what} where {} may be", rules.series_max());
            (Reason::SeriesPerRequest, example)
        } else if symbols_overflow {
            let example = format!("more than {} symbols", rules.symbols_max());
            (Reason::SymbolsPerRequest, example)
        } else {
            return;
        };
        self.changed = true;
        self.kept_series = 0;
        self.kept_metadata = 0;
        self.times = Times::default();
        self.rejections = vec![Rejection {
            reason,
            series: entries,
            single: 0,
            counts: self.received,
            example,
        }];
    }
}
