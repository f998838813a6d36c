//! Encoded labels, kept in step with the series before, so that only what changed is encoded.

use crate::wire::Change;

/// The labels of a series as they are encoded.
#[derive(Debug, Default)]
pub(super) struct EncodedLabels {
    bytes: Vec<u8>,
    /// The bytes of each label.
    lengths: Vec<usize>,
    /// One label whose length is not known yet.
    label: Vec<u8>,
    /// How the labels changed since, by series that were passed over.
    passed: Change,
}

impl EncodedLabels {
    /// Forgets the series before.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.lengths.clear();
        self.passed = Change::ALL;
    }

    /// The encoded labels.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The memory that it holds, in bytes.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity() + self.label.capacity() + self.lengths.capacity() * size_of::<usize>()
    }

    /// Takes notice of a change without following it.
    #[inline]
    pub(super) fn pass(&mut self, change: Change) {
        self.passed = self.passed.then(change);
    }

    /// Follows a change to a list of `count` labels; `put` appends the label at a place. Where its
    /// value alone changed, it is handed what was appended for it before.
    #[inline]
    pub(super) fn follow(
        &mut self,
        count: usize,
        change: Change,
        mut put: impl FnMut(&mut Vec<u8>, usize, Option<&[u8]>),
    ) {
        let change = std::mem::replace(&mut self.passed, Change::NONE).then(change);
        let kept = change.kept.min(count).min(self.lengths.len());
        let (mut place, mut start) = (0, 0);
        for changed in change.values().take_while(|place| *place < kept) {
            start += self.lengths[place..changed].iter().sum::<usize>();
            let end = start + self.lengths[changed];
            self.label.clear();
            put(&mut self.label, changed, Some(&self.bytes[start..end]));
            if self.label.len() == end - start {
                self.bytes[start..end].copy_from_slice(&self.label);
            } else {
                self.bytes.splice(start..end, self.label.iter().copied());
                self.lengths[changed] = self.label.len();
            }
            start += self.label.len();
            place = changed + 1;
        }
        if kept < self.lengths.len() {
            let between: usize = self.lengths[place..kept].iter().sum();
            self.bytes.truncate(start + between);
            self.lengths.truncate(kept);
        }
        for place in kept..count {
            let before = self.bytes.len();
            put(&mut self.bytes, place, None);
            self.lengths.push(self.bytes.len() - before);
        }
    }
}
