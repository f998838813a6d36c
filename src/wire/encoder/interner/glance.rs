//! What is compared of a text at first: its length, its first bytes and its last ones. Nearly all texts
//! that are not the same differ in these, and short ones have no others.

use std::ops::Range;

/// The bytes that are looked at, at the front of a text and at its end.
const WINDOW: usize = 8;

/// The bytes of a word that belong to a text of so many bytes.
const LOW_BYTES: [u64; WINDOW + 1] = {
    let mut masks = [u64::MAX; WINDOW + 1];
    let mut length = 0;
    while length < WINDOW {
        masks[length] = (1 << (8 * length)) - 1;
        length += 1;
    }
    masks
};

/// A text of a message.
#[derive(Debug, Clone, Copy, Default)]
pub(in super::super) struct Glance {
    /// The first bytes, as many as there are.
    first: u64,
    /// The last bytes; 0 where there are fewer.
    last: u64,
    /// Where it begins in the message.
    start: usize,
    length: usize,
}

impl Glance {
    /// `None` at the ends of a message, where there are not enough bytes around the text.
    #[inline(always)] // Once for each label.
    pub(in super::super) fn at(message: &[u8], text: Range<usize>) -> Option<Self> {
        let Range { start, end } = text;
        let length = end.wrapping_sub(start);
        let first = u64::from_le_bytes(*message.get(start..)?.first_chunk()?);
        let last = u64::from_le_bytes(*message.get(..end)?.last_chunk()?);
        Some(Self {
            first: first & LOW_BYTES[length.min(WINDOW)],
            last: if length >= WINDOW { last } else { 0 },
            start,
            length,
        })
    }

    /// True when two texts of a message are the same.
    #[inline(always)] // Once for each label.
    pub(in super::super) fn same(&self, other: &Self, message: &[u8]) -> bool {
        let ends = (self.first ^ other.first) | (self.last ^ other.last);
        let differing = ends | (self.length ^ other.length) as u64;
        differing == 0 && (self.length <= 2 * WINDOW || self.same_middle(other, message))
    }

    /// Compares what lies between the first and the last bytes. Most texts have no more than four windows.
    #[inline(always)] // Once for most labels.
    fn same_middle(&self, other: &Self, message: &[u8]) -> bool {
        let (one, other) = (self.of(message), other.of(message));
        if one.len() > 4 * WINDOW {
            return one == other;
        }
        let inner = |text: &[u8]| {
            let (_, behind) = text.split_first_chunk::<WINDOW>()?;
            let (before, _) = text.split_last_chunk::<WINDOW>()?;
            let words = [*behind.first_chunk()?, *before.last_chunk()?];
            Some(words.map(u64::from_le_bytes))
        };
        inner(one) == inner(other)
    }

    /// The text.
    #[inline]
    pub(in super::super) fn of<'m>(&self, message: &'m [u8]) -> &'m [u8] {
        let end = self.start.saturating_add(self.length);
        message.get(self.start..end).unwrap_or_default()
    }

    /// A number of so many bits that depends on what is compared first.
    #[inline(always)] // Once for most labels of which the value is not that of the last one.
    pub(super) fn hash(&self, bits: u32) -> usize {
        // An odd number with bits all over it, from the digits of the golden ratio.
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let mixed = self.first ^ self.last.rotate_left(29) ^ self.length as u64;
        let hash = mixed.wrapping_mul(FACTOR) >> (u64::BITS - bits);
        usize::try_from(hash).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_texts_apart_that_differ_in_one_byte() {
        for length in 0..80 {
            let frame = b"........";
            let text = vec![b'x'; length];
            for place in 0..length {
                let mut other = text.clone();
                other[place] = b'y';
                let message = [frame, &text[..], frame, &other, frame, &text, frame].concat();
                let at = |number: usize| {
                    let start = 8 + number * (length + 8);
                    Glance::at(&message, start..start + length).unwrap()
                };
                assert!(at(0).same(&at(2), &message), "{length}");
                assert!(!at(0).same(&at(1), &message), "{length} {place}");
                assert_eq!(at(1).of(&message), other);
            }
            let message = [frame, &text[..], frame].concat();
            let longer = Glance::at(&message, 8..8 + length).unwrap();
            let shorter = Glance::at(&message, 8..8 + length.saturating_sub(1)).unwrap();
            assert_eq!(longer.same(&shorter, &message), length == 0);
        }
    }
}
