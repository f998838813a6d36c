//! A body and its series as they are shown: what both forms of the output have in common.

use serde::Serialize;

use crate::policy::{Explained, Rules, describe_fault};
use crate::reasons::{Limit, Reason};
use crate::wire::contents::{self, Content, Contents};
use crate::wire::{Label, Labels, Malformed, SampleFault, Series, Sieve, v2};

use super::captured::Captured;
use super::histogram::HistogramView;
use super::open::Opened;
use super::room::Room;
use super::shown::{Number, Text, Time};

/// Samples, histograms and exemplars of a series that are shown.
const ITEMS_MAX: u64 = 100_000;

/// What is known before the series.
#[derive(Serialize)]
pub(super) struct Head<'h> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) captured: Option<&'h Captured>,
    pub(super) body_bytes: usize,
    #[serde(flatten)]
    pub(super) opened: Option<OpenedView>,
}

/// A body that was opened.
#[derive(Serialize)]
pub(super) struct OpenedView {
    pub(super) encoding: &'static str,
    pub(super) decoded_bytes: usize,
    pub(super) protocol: &'static str,
    /// The name of the message.
    pub(super) message: &'static str,
}

#[derive(Serialize)]
pub(super) struct LabelView<'v> {
    pub(super) name: Text<'v>,
    pub(super) value: Text<'v>,
}

/// A series with all that it carries.
#[derive(Serialize)]
pub(super) struct SeriesView<'v> {
    pub(super) labels: Vec<LabelView<'v>>,
    /// There are more labels.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) more_labels: bool,
    /// The reason for which it is refused whatever the configuration says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fault: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) samples: Vec<SampleView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) histograms: Vec<Judged<HistogramView>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) exemplars: Vec<Judged<ExemplarView<'v>>>,
    /// Histograms that are too long to be shown.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) long_histograms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) metadata: Option<Judged<MetadataView<'v>>>,
    /// Samples, histograms and exemplars beyond those that are shown.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) more_items: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) decision: Option<DecisionView<'v>>,
}

/// How a series and its samples are judged.
pub(super) struct Judgement<'v> {
    pub(super) sieve: Sieve,
    pub(super) now_millis: i64,
    pub(super) decision: Option<DecisionView<'v>>,
}

/// Something that a series carries, and why it is refused, if it is.
#[derive(Serialize)]
pub(super) struct Judged<T> {
    #[serde(flatten)]
    pub(super) item: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refused: Option<RefusedView>,
}

pub(super) type SampleView = Judged<FloatView>;

#[derive(Serialize)]
pub(super) struct FloatView {
    pub(super) timestamp: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) start_timestamp: Option<Time>,
    pub(super) value: Number,
}

#[derive(Serialize)]
pub(super) struct ExemplarView<'v> {
    pub(super) timestamp: Time,
    pub(super) labels: Vec<LabelView<'v>>,
    /// There are more labels.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) more_labels: bool,
    pub(super) value: Number,
}

/// What is said of a metric. In V1 it has its family, and stands beside the series.
#[derive(Serialize)]
pub(super) struct MetadataView<'v> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) family: Option<Text<'v>>,
    /// The number of a type without a name.
    #[serde(rename = "type")]
    pub(super) metric_type: String,
    pub(super) unit: Text<'v>,
    pub(super) help: Text<'v>,
}

/// Why a single sample, histogram, exemplar or metadata is refused.
#[derive(Serialize)]
pub(super) struct RefusedView {
    pub(super) reason: &'static str,
    pub(super) details: String,
    pub(super) advice: &'static str,
}

/// What becomes of a series.
#[derive(Serialize)]
pub(super) struct DecisionView<'v> {
    pub(super) action: Action,
    /// Why it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) advice: Option<&'static str>,
    /// The labels that are added or have another value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) set_labels: Vec<LabelView<'v>>,
    /// The labels that are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) removed_labels: Vec<LabelView<'v>>,
    /// There are more labels of either kind.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) more_labels: bool,
    /// A rule that it breaks and that does not refuse it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) observed: Option<&'static str>,
    /// Limits that it exceeds and that do not refuse it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) exceeded: Vec<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Action {
    /// It travels on as it came.
    Pass,
    /// It travels on with other labels, or in another order of them.
    Change,
    /// It does not travel on.
    Refuse,
}

pub(super) fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl<'v> LabelView<'v> {
    /// The labels that there is room for, and whether there are more.
    fn of(labels: &[Label<'v>], room: &mut Room) -> (Vec<Self>, bool) {
        let fits = |label: &&Label<'v>| room.take_texts(&[label.name, label.value]);
        let shown = labels.iter().take_while(fits);
        let views: Vec<_> = shown
            .map(|label| Self {
                name: Text(label.name),
                value: Text(label.value),
            })
            .collect();
        let more = views.len() < labels.len();
        (views, more)
    }
}

impl<'v> SeriesView<'v> {
    /// A series with its labels and what becomes of it, as far as there is room. Its samples are judged
    /// unless it is refused itself.
    pub(super) fn new(
        series: &Series<'v>,
        labels: &Labels<'v>,
        symbols: Option<&v2::Symbols<'v>>,
        judgement: Judgement<'v>,
        room: &mut Room,
    ) -> Result<Self, Malformed> {
        let Judgement {
            sieve,
            now_millis,
            decision,
        } = judgement;
        let is_refused = |it: &DecisionView<'_>| it.action == Action::Refuse;
        let judged = !decision.as_ref().is_some_and(is_refused);
        let (views, more) = LabelView::of(labels.list(), room);
        let mut view = Self {
            labels: views,
            more_labels: more || labels.overflow(),
            fault: series.fault.map(|fault| Reason::from(fault).name()),
            samples: Vec::new(),
            histograms: Vec::new(),
            exemplars: Vec::new(),
            long_histograms: 0,
            metadata: None,
            more_items: 0,
            decision,
        };
        let mut items = 0;
        for content in Contents::new(series.raw, symbols, sieve) {
            let (content, fault) = content?;
            let fault = fault.filter(|_| judged);
            let refused = fault.map(|fault| RefusedView::new(fault, now_millis));
            if let Content::Metadata(metadata) = content {
                let item = MetadataView::new(&metadata);
                view.metadata = Some(Judged { item, refused });
                continue;
            }
            items += 1;
            if items > ITEMS_MAX || !room.take_items(1) {
                view.more_items += 1;
                continue;
            }
            view.add(&content, refused, room);
        }
        Ok(view)
    }

    fn add(&mut self, content: &Content<'v>, refused: Option<RefusedView>, room: &mut Room) {
        match content {
            Content::Sample(sample) => {
                let start = sample.start_timestamp;
                let item = FloatView {
                    timestamp: Time(sample.timestamp),
                    start_timestamp: (start != 0).then_some(Time(start)),
                    value: Number(sample.value),
                };
                self.samples.push(Judged { item, refused });
            }
            Content::Histogram(histogram) => {
                let item = HistogramView::new(histogram);
                if !room.take_items(item.buckets.len()) {
                    self.more_items += 1;
                    return;
                }
                self.histograms.push(Judged { item, refused });
            }
            Content::LongHistogram => self.long_histograms += 1,
            Content::Exemplar(exemplar) => {
                let (labels, more) = LabelView::of(exemplar.labels.list(), room);
                let item = ExemplarView {
                    timestamp: Time(exemplar.timestamp),
                    labels,
                    more_labels: more || exemplar.labels.overflow(),
                    value: Number(exemplar.value),
                };
                self.exemplars.push(Judged { item, refused });
            }
            Content::Metadata(_) => {}
        }
    }
}

impl RefusedView {
    pub(super) fn new(fault: SampleFault, now_millis: i64) -> Self {
        let reason = Reason::from(fault);
        Self {
            reason: reason.name(),
            details: describe_fault(fault, now_millis.into()),
            advice: reason.advice(),
        }
    }
}

impl<'v> MetadataView<'v> {
    /// True when it says nothing, as when a V2 sender does not know the metric.
    pub(super) fn is_empty(&self) -> bool {
        let texts = [self.unit, self.help];
        self.family.is_none()
            && self.metric_type == "unknown"
            && texts.iter().all(|text| text.0.is_empty())
    }

    pub(super) fn new(metadata: &contents::Metadata<'v>) -> Self {
        let family = metadata.family;
        Self {
            family: (!family.is_empty()).then_some(Text(family)),
            metric_type: match metadata.type_name() {
                Some(name) => name.to_owned(),
                None => metadata.metric_type.to_string(),
            },
            unit: Text(metadata.unit),
            help: Text(metadata.help),
        }
    }
}

impl<'v> DecisionView<'v> {
    /// What becomes of a series with these labels.
    pub(super) fn new(
        explained: &Explained,
        rules: &'v Rules,
        labels: &Labels<'v>,
        room: &mut Room,
    ) -> Self {
        let refused = explained.refused();
        let action = match refused {
            Some(_) => Action::Refuse,
            None if explained.changes_labels() => Action::Change,
            None => Action::Pass,
        };
        let (whole, labels) = (!labels.overflow(), labels.list());
        let edited = match action {
            Action::Change if whole => explained.new_labels(rules, labels),
            _ => labels.to_vec(),
        };
        let without = |some: &[Label<'v>], others: &[Label<'v>]| {
            let left = some.iter().filter(|it| !others.contains(it)).copied();
            left.collect::<Vec<_>>()
        };
        let (set_labels, more_set) = LabelView::of(&without(&edited, labels), room);
        let (removed_labels, more_removed) = LabelView::of(&without(labels, &edited), room);
        let other = |reason: &Reason| Some(*reason) != refused;
        let exceeded = Limit::ALL.into_iter();
        let exceeded = exceeded.filter(|limit| explained.exceeded.contains(*limit));
        Self {
            action,
            reason: refused.map(Reason::name),
            advice: refused.map(Reason::advice),
            set_labels,
            removed_labels,
            more_labels: more_set || more_removed,
            observed: explained.observed.filter(other).map(Reason::name),
            exceeded: match action {
                Action::Refuse => Vec::new(),
                _ => exceeded.map(Limit::name).collect(),
            },
        }
    }

    /// The decision on each series of a request that is refused whole.
    pub(super) fn refused(reason: Reason) -> Self {
        Self {
            action: Action::Refuse,
            reason: Some(reason.name()),
            advice: Some(reason.advice()),
            set_labels: Vec::new(),
            removed_labels: Vec::new(),
            more_labels: false,
            observed: None,
            exceeded: Vec::new(),
        }
    }
}

impl OpenedView {
    pub(super) fn new(opened: &Opened<'_>) -> Self {
        Self {
            encoding: opened.encoding.name(),
            decoded_bytes: opened.message.len(),
            protocol: opened.protocol.name(),
            message: opened.protocol.message(),
        }
    }
}
