//! The labels that a series is encoded with.

use crate::wire::Label;

use super::Source;
use super::source::metric;

/// The labels that a series is encoded with.
#[derive(Debug, Clone, Copy)]
pub enum NewLabels<'p, 'a> {
    /// Its own, which are its `block`.
    Same(&'a [u8]),
    /// Its own, with one more at a place of their list.
    Inserted {
        /// Its `block`.
        block: &'a [u8],
        /// The place.
        place: usize,
        /// The label.
        label: Label<'a>,
    },
    /// Any others.
    List(&'p [Label<'a>]),
}

impl<'a> NewLabels<'_, 'a> {
    /// The name of the metric; empty when there is none. The labels must be sorted by name.
    #[inline]
    pub fn metric(self, source: Source<'_, 'a>) -> &'a [u8] {
        match self {
            Self::Same(block) | Self::Inserted { block, .. } => source.metric(block),
            Self::List(labels) => metric(labels.iter().copied()),
        }
    }

    /// Tells all labels to `each`, in their order.
    #[inline]
    pub(super) fn each(self, source: Source<'_, 'a>, mut each: impl FnMut(Label<'a>)) {
        match self {
            Self::Same(block) => source.each_label(block, each),
            Self::Inserted {
                block,
                place,
                label: inserted,
            } => {
                let mut count = 0;
                source.each_label(block, |label| {
                    if count == place {
                        each(inserted);
                    }
                    count += 1;
                    each(label);
                });
                if count <= place {
                    each(inserted);
                }
            }
            Self::List(labels) => labels.iter().copied().for_each(each),
        }
    }
}
