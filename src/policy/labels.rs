//! The rules for the labels of one series.

mod limits;

use crate::config::{Absent, LabelPolicy, LimitMode, LimitSet, Mismatch, SpokeLimits};
use crate::reasons::{Limit, Reason};
use crate::wire::{
    Clean, Demands, ExemplarFault, Label, Labels, METRIC_NAME, MetadataFault, SampleFault, Series,
    SeriesFault, limited,
};

use super::decisions::{Decision, Edit};
use super::names::Name;

/// How often `exported_` is put before the name of a label that has to make way, until the name
/// is free. A scrape does so without end (Prometheus `scrape/target.go`, `resolveConflictingExposedLabels`).
const EXPORTED_PREFIXES_MAX: usize = 8;

/// Keys and lengths of two labels, and the growth of the lengths around them.
const ADDED_FRAMING_BYTES_MAX: usize = 40;

/// Longest description of a series, in bytes.
const DESCRIPTION_BYTES_MAX: usize = 160;

/// The label rules of one spoke, made once when the configuration is loaded.
#[derive(Debug, Clone)]
pub struct Rules {
    cluster_label: Vec<u8>,
    spoke: Vec<u8>,
    policy: LabelPolicy,
    limits: SpokeLimits,
    /// The labels of a series beyond which it is refused.
    labels_max: usize,
    /// The series of a request beyond which it is refused.
    series_max: usize,
    /// `exported_<cluster_label>`, `exported_exported_<cluster_label>`, and so on.
    exported_labels: Vec<Vec<u8>>,
    /// Counts the series that are judged.
    #[cfg(test)]
    pub(crate) judged: super::tests::judged::Judged,
}

impl Rules {
    /// The rules of the spoke `name`.
    pub fn new(cluster_label: &str, name: &str, policy: LabelPolicy, limits: SpokeLimits) -> Self {
        let exported = |count| ["exported_".repeat(count).as_str(), cluster_label].concat();
        Self {
            cluster_label: cluster_label.into(),
            spoke: name.into(),
            policy,
            labels_max: limits::labels_max(&limits),
            series_max: limits::series_max(&limits),
            limits,
            exported_labels: (1..=EXPORTED_PREFIXES_MAX)
                .map(|n| exported(n).into())
                .collect(),
            #[cfg(test)]
            judged: Default::default(),
        }
    }

    /// Bytes that the rules add to a series at most: two labels and longer lengths.
    pub(super) fn added_bytes_max(&self) -> usize {
        let exported = self.exported_labels.last().map_or(0, Vec::len);
        self.cluster_label.len() + self.spoke.len() + exported + ADDED_FRAMING_BYTES_MAX
    }

    /// What labels must be so that nothing is left to judge but the place of the cluster label.
    pub(super) fn demands(&self) -> Demands<'_> {
        Demands {
            own: self.own_label(),
            labels_max: self.limits.labels_per_series_max,
            length_max: self.limits.label_value_bytes_max,
        }
    }

    /// Judges a walked series. Sorts the labels if they are not.
    #[inline]
    pub(super) fn judge(&self, series: &Series<'_>, labels: &mut Labels<'_>) -> Judged {
        match series.clean {
            Some(Clean::Own) => Decision::Keep.into(),
            Some(Clean::Without(place)) => self.judge_absent(place).into(),
            None => {
                let mut exceeded = LimitSet::EMPTY;
                let (decision, observed) = self.judge_all(series, labels, &mut exceeded);
                Judged {
                    decision,
                    observed,
                    exceeded,
                }
            }
        }
    }

    fn judge_absent(&self, place: usize) -> Decision {
        match self.policy.absent {
            Absent::Inject => insert(place),
            Absent::Reject => Decision::Refuse(Reason::AbsentLabel),
        }
    }

    /// Judges a series of which nothing is known, and finds the first of all that is wrong with it.
    /// Limits that it exceeds are added to `exceeded`.
    fn judge_all(
        &self,
        series: &Series<'_>,
        labels: &mut Labels<'_>,
        exceeded: &mut LimitSet,
    ) -> (Decision, Option<Reason>) {
        if let Some(fault) = series.fault {
            return (Decision::Refuse(fault.into()), None);
        }
        if labels.overflow() || labels.list().len() > self.limits.labels_per_series_max {
            *exceeded = exceeded.with(Limit::LabelsPerSeries);
        }
        if labels.overflow() {
            return (Decision::Refuse(Reason::LabelsPerSeries), None);
        }
        labels.compare_names();
        let too_long = labels.compared_name_bytes() > self.name_bytes_max();
        if too_long || labels.exceeds_text() {
            return (Decision::Refuse(Reason::LabelLength), None);
        }
        let (found, sorted) = match self.scan(labels.list(), self.limits.label_value_bytes_max) {
            Some(found) => (found, true),
            None => {
                let sorted = labels.list().is_sorted_by(|a, b| a.name < b.name);
                if !sorted {
                    labels.sort();
                }
                match self.scan_all(labels.list(), exceeded) {
                    Ok(found) => (found, sorted),
                    Err(reason) => return (Decision::Refuse(reason), None),
                }
            }
        };
        let changed = !sorted || found.empty_value || series.foreign;
        self.judge_cluster(found.cluster, labels.list(), !sorted, changed)
    }

    /// Scans labels that are sorted and break no rule but that of the cluster label; `None` for others.
    #[inline]
    fn scan<'a>(&self, labels: &[Label<'a>], length_max: usize) -> Option<Found<'a>> {
        let mut found = Found {
            cluster: b"",
            empty_value: false,
        };
        let own = Name::new(&self.cluster_label);
        let metric_name = Name::new(METRIC_NAME);
        let (mut named, mut longest) = (false, 0);
        let mut previous = Name::EMPTY;
        for label in labels {
            let name = Name::new(label.name);
            if !name.is_behind(previous) {
                return None;
            }
            longest = longest.max(label.name.len()).max(label.value.len());
            found.empty_value |= label.value.is_empty();
            if name.is(own) {
                found.cluster = label.value;
            } else if name.is(metric_name) {
                named = !label.value.is_empty();
            }
            previous = name;
        }
        (named && longest <= length_max).then_some(found)
    }

    /// Checks everything about sorted labels but the cluster label's value.
    fn scan_all<'a>(
        &self,
        labels: &[Label<'a>],
        exceeded: &mut LimitSet,
    ) -> Result<Found<'a>, Reason> {
        let check = |length_max| {
            let found = self.scan(labels, length_max);
            found.ok_or_else(|| fault(labels, length_max))
        };
        let found = check(self.limits.label_value_bytes_max);
        let Err(Reason::LabelLength) = found else {
            return found;
        };
        *exceeded = exceeded.with(Limit::LabelValueBytes);
        match self.limits.mode(Limit::LabelValueBytes) {
            LimitMode::Enforce => found,
            LimitMode::Observe => check(usize::MAX),
        }
    }

    /// Judges the cluster label's value in a series with nothing else wrong. `sort` says that its
    /// labels were out of order, `changed` that it may not travel on as it lies.
    #[inline]
    fn judge_cluster(
        &self,
        cluster: &[u8],
        labels: &[Label<'_>],
        sort: bool,
        changed: bool,
    ) -> (Decision, Option<Reason>) {
        let edit = |exported| Decision::Edit(Edit { sort, exported });
        if cluster == self.spoke {
            let decision = if changed { edit(None) } else { Decision::Keep };
            return (decision, None);
        }
        if cluster.is_empty() {
            let decision = match self.policy.absent {
                Absent::Inject if changed => edit(None),
                _ => {
                    let place = place(labels, &self.cluster_label);
                    self.judge_absent(place.unwrap_or_else(|place| place))
                }
            };
            return (decision, None);
        }
        let refused = Decision::Refuse(Reason::MismatchedLabel);
        let decision = match self.policy.mismatch {
            Mismatch::Overwrite => edit(None),
            Mismatch::Rename => match self.free_exported_label(labels) {
                None => refused,
                exported => edit(exported),
            },
            Mismatch::Reject => refused,
        };
        (decision, Some(Reason::MismatchedLabel))
    }

    /// Fills `edited` with the labels of a series as was decided that they become.
    pub(super) fn carry_out<'a>(
        &'a self,
        decision: Decision,
        labels: &[Label<'a>],
        edited: &mut Vec<Label<'a>>,
    ) {
        edited.clear();
        edited.extend_from_slice(labels);
        match decision {
            Decision::Insert(place) => edited.insert(place as usize, self.own_label()),
            Decision::Edit(edit) => self.apply(edit, edited),
            Decision::Keep | Decision::Refuse(_) => {}
        }
    }

    /// Makes the labels of a series what was decided that they become.
    fn apply<'a>(&'a self, edit: Edit, labels: &mut Vec<Label<'a>>) {
        labels.retain(|label| !label.value.is_empty());
        if edit.sort {
            labels.sort_unstable_by_key(|label| label.name);
        }
        let own = self.own_label();
        let index = match place(labels, own.name) {
            Ok(index) => index,
            Err(index) => return labels.insert(index, own),
        };
        let value = std::mem::replace(&mut labels[index], own).value;
        let exported = edit.exported.map(usize::from);
        if let Some(name) = exported.and_then(|index| self.exported_labels.get(index))
            && let Err(index) = place(labels, name)
        {
            labels.insert(index, Label { name, value });
        }
    }

    /// The spoke's own cluster label.
    pub(super) fn own_label(&self) -> Label<'_> {
        Label {
            name: &self.cluster_label,
            value: &self.spoke,
        }
    }

    /// The first exported name that no label with a value has.
    fn free_exported_label(&self, labels: &[Label<'_>]) -> Option<u8> {
        let taken = |name: &[u8]| {
            labels
                .iter()
                .any(|label| label.name == name && !label.value.is_empty())
        };
        (0u8..)
            .zip(&self.exported_labels)
            .find(|(_, name)| !taken(name))
            .map(|(index, _)| index)
    }

    /// A series as a person would write it, the cluster label first, cut to some 160 bytes.
    pub(super) fn describe(&self, labels: &[Label<'_>]) -> String {
        let text = |bytes: &[u8]| {
            let cut = &bytes[..bytes.len().min(DESCRIPTION_BYTES_MAX)];
            String::from_utf8_lossy(cut).escape_debug().to_string()
        };
        let name = labels.iter().find(|label| label.name == METRIC_NAME);
        let (own, others): (Vec<&Label<'_>>, Vec<&Label<'_>>) = labels
            .iter()
            .filter(|label| label.name != METRIC_NAME)
            .partition(|label| label.name == self.cluster_label);
        let mut out = name.map(|label| text(label.value)).unwrap_or_default();
        out.push('{');
        for (index, label) in own.into_iter().chain(others).enumerate() {
            if out.len() > DESCRIPTION_BYTES_MAX {
                break;
            }
            let comma = if index == 0 { "" } else { "," };
            out.push_str(&format!(
                "{comma}{}=\"{}\"",
                text(label.name),
                text(label.value)
            ));
        }
        if out.len() > DESCRIPTION_BYTES_MAX {
            out.truncate(out.floor_char_boundary(DESCRIPTION_BYTES_MAX));
            out.push_str("...");
        } else {
            out.push('}');
        }
        out
    }
}

/// What is wrong with sorted labels that a scan does not take.
#[cold]
fn fault(labels: &[Label<'_>], length_max: usize) -> Reason {
    let mut previous: &[u8] = b"";
    for label in labels {
        // Empty names sort first, so the second of two is a repetition of the first.
        if label.name.is_empty() {
            return Reason::EmptyLabelName;
        }
        if label.name == previous {
            return Reason::DuplicateLabelName;
        }
        if label.name.len().max(label.value.len()) > length_max {
            return Reason::LabelLength;
        }
        previous = label.name;
    }
    Reason::MissingMetricName
}

/// Where a name stands among sorted labels, or would have to.
fn place(labels: &[Label<'_>], name: &[u8]) -> Result<usize, usize> {
    labels.binary_search_by(|label| label.name.cmp(name))
}

fn insert(place: usize) -> Decision {
    Decision::Insert(limited(place))
}

/// What the rules say of a series.
pub(super) struct Judged {
    /// What becomes of it.
    pub(super) decision: Decision,
    /// A rule that it breaks, whatever becomes of it.
    pub(super) observed: Option<Reason>,
    /// The limits that it exceeds, whatever becomes of it.
    pub(super) exceeded: LimitSet,
}

impl From<Decision> for Judged {
    #[inline]
    fn from(decision: Decision) -> Self {
        Self {
            decision,
            observed: None,
            exceeded: LimitSet::EMPTY,
        }
    }
}

/// What a scan over the labels of a series found.
struct Found<'a> {
    /// The cluster label's value; empty when it is absent.
    cluster: &'a [u8],
    /// A value is empty, which means that the label is absent.
    empty_value: bool,
}

impl From<SeriesFault> for Reason {
    fn from(fault: SeriesFault) -> Self {
        match fault {
            SeriesFault::RepeatedLabelField => Self::RepeatedLabelField,
            SeriesFault::InvalidUtf8 => Self::InvalidUtf8,
            SeriesFault::SymbolReference => Self::SymbolReference,
        }
    }
}

impl From<SampleFault> for Reason {
    fn from(fault: SampleFault) -> Self {
        match fault {
            SampleFault::Ahead(_) => Self::TooFarInFuture,
            SampleFault::Behind(_) => Self::TooOld,
            SampleFault::Histogram(_) => Self::InvalidHistogram,
            SampleFault::Exemplar(fault) => match fault {
                ExemplarFault::InvalidUtf8 => Self::InvalidUtf8,
                ExemplarFault::Length => Self::LabelLength,
                ExemplarFault::SymbolReference => Self::SymbolReference,
            },
            SampleFault::Metadata(fault) => match fault {
                MetadataFault::InvalidUtf8 => Self::InvalidUtf8,
                MetadataFault::SymbolReference => Self::SymbolReference,
            },
        }
    }
}
