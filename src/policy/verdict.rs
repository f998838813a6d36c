//! What an inspection found and decided.

use crate::wire::{Counts, Kind, Series, Times};

use super::Rules;

/// Why something of a request was refused; also the value of the metrics' label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The cluster label is absent and the policy says `absent: reject`.
    AbsentLabel,
    /// A label name stands twice.
    DuplicateLabelName,
    /// A label without a name.
    EmptyLabelName,
    /// The hub refused it.
    Hub,
    /// The version that the hub speaks cannot hold it.
    HubProtocol,
    /// A string that is not UTF-8.
    InvalidUtf8,
    /// A label name or value is longer than `label_value_bytes_max`, or the names of the request
    /// are longer together than its series limit allows for.
    LabelLength,
    /// The series has more labels than `labels_per_series_max`.
    LabelsPerSeries,
    /// The cluster label names another spoke.
    MismatchedLabel,
    /// No `__name__`, or an empty one.
    MissingMetricName,
    /// A label gives its name or its value twice.
    RepeatedLabelField,
    /// The request has more series, or metadata entries, than `series_per_request_max`.
    SeriesPerRequest,
    /// A V2 symbol reference out of range, or an odd number of them.
    SymbolReference,
    /// The request has more symbols than its series limit allows for.
    SymbolsPerRequest,
}

impl Reason {
    /// All reasons, in the order of their names.
    pub const ALL: [Self; 14] = [
        Self::AbsentLabel,
        Self::DuplicateLabelName,
        Self::EmptyLabelName,
        Self::Hub,
        Self::HubProtocol,
        Self::InvalidUtf8,
        Self::LabelLength,
        Self::LabelsPerSeries,
        Self::MismatchedLabel,
        Self::MissingMetricName,
        Self::RepeatedLabelField,
        Self::SeriesPerRequest,
        Self::SymbolReference,
        Self::SymbolsPerRequest,
    ];

    /// The value of the metrics' label `reason`.
    pub fn name(self) -> &'static str {
        match self {
            Self::AbsentLabel => "absent_label",
            Self::DuplicateLabelName => "duplicate_label_name",
            Self::EmptyLabelName => "empty_label_name",
            Self::Hub => "hub",
            Self::HubProtocol => "hub_protocol",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::LabelLength => "label_length",
            Self::LabelsPerSeries => "labels_per_series",
            Self::MismatchedLabel => "mismatched_label",
            Self::MissingMetricName => "missing_metric_name",
            Self::RepeatedLabelField => "repeated_label_field",
            Self::SeriesPerRequest => "series_per_request",
            Self::SymbolReference => "symbol_reference",
            Self::SymbolsPerRequest => "symbols_per_request",
        }
    }

    /// What the people behind the spoke can do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::AbsentLabel => "set external_labels at the spoke, or labels.absent: inject",
            Self::DuplicateLabelName => "a label name may stand once in a series",
            Self::EmptyLabelName => "every label needs a name",
            Self::Hub => "the hub says why",
            Self::HubProtocol => "the remote write that the hub speaks has no place for it",
            Self::InvalidUtf8 => "strings must be UTF-8",
            Self::LabelLength => {
                "shorten label names and values or raise limits.label_value_bytes_max"
            }
            Self::LabelsPerSeries => "drop labels or raise limits.labels_per_series_max",
            Self::MismatchedLabel => {
                "drop or rename that label at the spoke, or set labels.mismatch: rename"
            }
            Self::MissingMetricName => "every series needs the label __name__",
            Self::RepeatedLabelField => "a label may give its name and its value once",
            Self::SeriesPerRequest => {
                "lower max_samples_per_send at the spoke or raise limits.series_per_request_max"
            }
            Self::SymbolReference => "references must be pairs within the symbol table",
            Self::SymbolsPerRequest => {
                "lower max_samples_per_send at the spoke or raise limits.series_per_request_max"
            }
        }
    }
}

/// All that was refused for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The reason.
    pub reason: Reason,
    /// How many series, or metadata entries.
    pub series: u64,
    /// What they carried.
    pub counts: Counts,
    /// One of them, cut to some 160 bytes. Comes from the sender: never to be trusted.
    pub example: String,
}

/// What an inspection found and decided; received = kept + rejected, for each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What the request carried.
    pub received: Counts,
    /// How many series it held.
    pub series: u64,
    /// How many series named another spoke, whatever the policy made of them.
    pub mismatched_series: u64,
    /// The timestamps of what may travel on.
    pub times: Times,
    /// What was refused, an entry a reason.
    pub rejections: Vec<Rejection>,
    /// How many series may travel on, with something in them or not.
    pub kept_series: u64,
    /// Of these, how many hold exemplars and no sample, which a V2 hub does not take.
    pub exemplars_alone: u64,
    /// How many V1 metadata entries may travel on.
    pub kept_metadata: u64,
    /// How many V1 metadata entries it held.
    pub metadata: u64,
    /// How many symbols a V2 request held.
    pub symbols: usize,
    /// The message holds fields that it does not define; they never travel on.
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
        self.exemplars_alone += u64::from(samples == 0 && counts.of(Kind::Exemplar) > 0);
        self.times.add_all(&series.times);
    }

    pub(super) fn reject(
        &mut self,
        reason: Reason,
        counts: &Counts,
        example: impl FnOnce() -> String,
    ) {
        self.changed = true;
        match self
            .rejections
            .iter_mut()
            .find(|rejection| rejection.reason == reason)
        {
            Some(rejection) => {
                rejection.series += 1;
                rejection.counts.add_all(counts);
            }
            None => self.rejections.push(Rejection {
                reason,
                series: 1,
                counts: *counts,
                example: example(),
            }),
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
            counts: self.received,
            example,
        }];
    }
}
