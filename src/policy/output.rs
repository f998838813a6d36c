//! Hands series that may travel on to encoders, with the labels and the samples that were decided.

use crate::wire::encoder::{Encoder, Piece, Source};
use crate::wire::{Change, Label, Labels, Malformed, Series, Sieve};

use super::Rules;
use super::decisions::Decision;

/// The encoders of a walk; there are none when the walk only inspects.
pub(super) struct Output<'e, 'a> {
    rules: &'a Rules,
    encoders: &'e mut [Encoder],
    /// The labels of the series at hand after an edit.
    edited: Vec<Label<'a>>,
    sieve: Sieve,
    /// How the labels of the message changed since the last series that was handed on.
    since: Change,
    /// What was decided of that series.
    last: Decision,
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
            since: Change::ALL,
            last: Decision::Keep,
        }
    }

    /// The memory for edited labels.
    pub(super) fn into_edited(self) -> Vec<Label<'a>> {
        self.edited
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
            since,
            last,
        } = self;
        let followed = since.then(labels.change());
        let (list, change) = match decision {
            Decision::Keep => (labels.list(), followed),
            Decision::Insert(place) => {
                let place = place as usize;
                insert(edited, labels.list(), place, rules);
                (edited.as_slice(), followed.with_inserted(place))
            }
            Decision::Edit(edit) => {
                edited.clear();
                edited.extend_from_slice(labels.list());
                rules.apply(edit, edited);
                (edited.as_slice(), Change::ALL)
            }
            Decision::Refuse(_) => {
                *since = followed;
                return Ok(());
            }
        };
        let same = std::mem::replace(last, decision) == decision;
        let change = if same { change } else { Change::ALL };
        *since = Change::NONE;
        let (mut series, mut piece) = (series, Piece::WHOLE);
        let left;
        if sieve.catches(series) {
            left = sieve.sift(series, source.protocol(), |_, _| {})?;
            (series, piece) = (&left, Piece::sifted(*sieve));
        }
        for encoder in &mut **encoders {
            encoder.put_series(series, list, change, source, piece)?;
        }
        Ok(())
    }

    /// Hands the bytes of a V1 `MetricMetadata` on.
    pub(super) fn put_metadata(&mut self, raw: &[u8]) {
        for encoder in &mut *self.encoders {
            encoder.put_metadata(raw);
        }
    }
}

/// Makes `edited` the labels with the spoke's own added at `place`.
fn insert<'a>(edited: &mut Vec<Label<'a>>, labels: &[Label<'a>], place: usize, rules: &'a Rules) {
    let (before, after) = labels.split_at(place);
    edited.clear();
    edited.extend_from_slice(before);
    edited.push(rules.own_label());
    edited.extend_from_slice(after);
}
