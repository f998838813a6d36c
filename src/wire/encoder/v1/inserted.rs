//! The label that is inserted into series of V1. It is the same in all series of a message, so it is
//! encoded once.

use crate::wire::Label;
use crate::wire::v1::LABELS;

use super::put_label;

/// The label that was inserted last.
#[derive(Debug, Default)]
pub(super) struct Inserted {
    /// Where its strings lie, and how long they are.
    strings: Option<[(usize, usize); 2]>,
    encoded: Vec<u8>,
}

impl Inserted {
    /// Forgets the message before, whose strings may lie elsewhere now.
    pub(super) fn clear(&mut self) {
        self.strings = None;
    }

    /// The memory that it holds, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.encoded.capacity()
    }

    /// The label, encoded.
    #[inline]
    pub(super) fn encoded(&mut self, label: &Label<'_>) -> &[u8] {
        let strings = [label.name, label.value].map(|text| (text.as_ptr().addr(), text.len()));
        if self.strings != Some(strings) {
            self.strings = Some(strings);
            self.encoded.clear();
            put_label(&mut self.encoded, LABELS, label);
        }
        &self.encoded
    }
}
