//! Where a series comes from, and what its walk knows of its labels.

use crate::wire::v2::{Pair, Symbols};
use crate::wire::{Label, Labels, METRIC_NAME, Protocol, Series, v1};

/// The version of the message that a series comes from.
#[derive(Debug, Clone, Copy)]
pub enum Source<'s, 'a> {
    /// V1, with what is known of the labels where they fit a template.
    V1(Option<v1::Matched<'s, 'a>>),
    /// V2, with its symbols, and with the references of the labels where they fit a template.
    V2(&'s Symbols<'a>, &'s [Pair]),
}

impl Source<'_, '_> {
    /// That version.
    pub fn protocol(self) -> Protocol {
        match self {
            Self::V1(_) => Protocol::V1,
            Self::V2(..) => Protocol::V2,
        }
    }
}

impl<'a> Source<'_, 'a> {
    /// Takes the labels of a series apart that [fit a template](Series::clean).
    #[cold]
    pub fn read_labels(self, series: &Series<'a>, labels: &mut Labels<'a>) {
        labels.clear();
        self.each_label(series.block.unwrap_or_default(), |label| {
            labels.push(label.name, label.value)
        });
    }

    /// The name of the metric in the labels of a `block`, which are sorted; empty when there is none.
    #[inline]
    pub(super) fn metric(self, block: &'a [u8]) -> &'a [u8] {
        match self {
            Self::V1(_) => metric(v1::usual_labels(block)),
            Self::V2(symbols, _) => metric(symbols.usual_labels(block)),
        }
    }

    /// Tells the labels of a `block` to `each`.
    #[inline]
    pub(super) fn each_label(self, block: &'a [u8], each: impl FnMut(Label<'a>)) {
        match self {
            Self::V1(_) => v1::usual_labels(block).for_each(each),
            Self::V2(symbols, _) => symbols.usual_labels(block).for_each(each),
        }
    }
}

/// The name of the metric in labels that are sorted by name; empty when there is none.
#[inline]
pub(super) fn metric<'a>(labels: impl Iterator<Item = Label<'a>>) -> &'a [u8] {
    let mut labels = labels.skip_while(|label| label.name < METRIC_NAME);
    let found = labels.next().filter(|label| label.name == METRIC_NAME);
    found.map_or(b"", |label| label.value)
}
