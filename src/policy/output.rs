//! Hands series that may travel on to encoders, with the labels and the samples that were decided.

use crate::wire::encoder::{Assembly, Encoder, NewLabels, Piece, Source};
use crate::wire::identity::Key;
use crate::wire::{Label, Labels, Malformed, Series, Sieve};

use super::Rules;
use super::decisions::Decision;

/// The encoders of a walk; there are none when the walk only inspects.
pub(super) struct Output<'e, 'a> {
    rules: &'a Rules,
    encoders: &'e mut [Encoder],
    /// The labels of the series at hand after an edit.
    edited: Vec<Label<'a>>,
    sieve: Sieve,
}

impl<'e, 'a> Output<'e, 'a> {
    /// An output that edits labels in the memory of `edited`.
    pub(super) fn new(
        rules: &'a Rules,
        encoders: &'e mut [Encoder],
        edited: Vec<Label<'a>>,
        sieve: Sieve,
    ) -> Self {
        Self {
            rules,
            encoders,
            edited,
            sieve,
        }
    }

    /// The memory for edited labels.
    pub(super) fn into_edited(self) -> Vec<Label<'a>> {
        self.edited
    }

    /// True when there is an encoder, which takes apart the labels of series that fit a template.
    pub(super) fn takes_apart(&self) -> bool {
        !self.encoders.is_empty()
    }

    /// Carries out a decision on a series.
    #[inline]
    pub(super) fn put(
        &mut self,
        series: &Series<'a>,
        labels: &Labels<'a>,
        decision: Decision,
        source: Source<'_, 'a>,
    ) -> Result<(), Malformed> {
        if self.encoders.is_empty() {
            return Ok(());
        }
        self.encode(series, labels, decision, source)
    }

    /// Not inlined, since a walk that only inspects would pay for it.
    #[inline(never)]
    fn encode(
        &mut self,
        series: &Series<'a>,
        labels: &Labels<'a>,
        decision: Decision,
        source: Source<'_, 'a>,
    ) -> Result<(), Malformed> {
        let Self {
            rules,
            encoders,
            edited,
            sieve,
        } = self;
        let Some(labels) = new_labels(rules, edited, series, labels, decision) else {
            return Ok(());
        };
        let (mut series, mut piece) = (series, Piece::WHOLE);
        let left;
        if sieve.catches(series) {
            left = sieve.sift(series, source, |_, _| {})?;
            (series, piece) = (&left, Piece::sifted(*sieve));
        }
        for encoder in &mut **encoders {
            encoder.put_series(series, labels, source, piece)?;
        }
        Ok(())
    }

    /// What a census is told of a series that may travel on, with the labels that were decided.
    #[inline(never)] // So that the series that it is not asked about pay nothing for it.
    pub(super) fn identify(
        &mut self,
        (key, assembly): (&Key, &mut Assembly),
        series: &Series<'a>,
        labels: &Labels<'a>,
        decision: Decision,
        source: Source<'_, 'a>,
    ) -> Option<(u64, &'a [u8])> {
        let edited = &mut self.edited;
        let labels = new_labels(self.rules, edited, series, labels, decision)?;
        let identity = assembly.identify(key, series, labels, source);
        Some((identity, labels.metric(source)))
    }

    /// Hands the bytes of a V1 `MetricMetadata` on.
    pub(super) fn put_metadata(&mut self, raw: &[u8]) {
        for encoder in &mut *self.encoders {
            encoder.put_metadata(raw);
        }
    }
}

/// The labels of a series after a decision, in the memory of `edited` where they are new; `None` when it
/// may not travel on.
#[inline]
fn new_labels<'o, 'a>(
    rules: &'a Rules,
    edited: &'o mut Vec<Label<'a>>,
    series: &Series<'a>,
    labels: &'o Labels<'a>,
    decision: Decision,
) -> Option<NewLabels<'o, 'a>> {
    Some(match (decision, series.block) {
        (Decision::Refuse(_), _) => return None,
        (Decision::Keep, Some(block)) => NewLabels::Same(block),
        (Decision::Insert(place), Some(block)) => NewLabels::Inserted {
            block,
            place: place as usize,
            label: rules.own_label(),
        },
        (Decision::Keep, None) => NewLabels::List(labels.list()),
        (Decision::Insert(_), None) | (Decision::Edit(_), _) => {
            rules.carry_out(decision, labels.list(), edited);
            NewLabels::List(edited)
        }
    })
}
