//! The labels that a series is encoded with.

use crate::wire::identity::Key;
use crate::wire::{Label, METRIC_NAME};

use super::Source;

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
    /// The identity of the series, as it will be encoded, and the name of its metric; empty when there is
    /// none.
    pub fn identify(self, source: Source<'_, 'a>, key: &Key) -> (u64, &'a [u8]) {
        let mut sum: u64 = 0;
        let mut metric: &[u8] = b"";
        self.each(source, |label| {
            sum = sum.wrapping_add(key.label(label));
            if label.name == METRIC_NAME {
                metric = label.value;
            }
        });
        (key.series(sum), metric)
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
