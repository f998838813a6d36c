//! The pattern of a label of V1.
//!
//! A label is `0a L 0a n name 12 v value`, where `L`, `n` and `v` are lengths. A pattern demands all of
//! it but `L`, `v` and the value, and that `L` is what `n` and `v` make of it. So the label has one name
//! and one value and nothing else, for every decoder, and the next field begins where it ends. Of the
//! spoke's own label the pattern demands every byte.

use crate::wire::Label;

use super::super::{LABELS_KEY, NAME_KEY, VALUE_KEY};

/// The bytes of a label that are compared at once.
pub(super) const WINDOW: usize = 32;

/// Where the length of a label lies that takes one byte.
const LENGTH_AT: usize = 1;

/// Lengths from here on take more than one byte. A value below is not compared with the limit.
pub(super) const LONG: usize = 0x80;

/// What one label is compared with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pattern {
    /// The label from its key on, as far as it is demanded and the window reaches.
    window: [u64; WINDOW / 8],
    /// The bits of the window that are demanded.
    mask: [u64; WINDOW / 8],
    /// Where the length of the value stands, in a label with a length of one byte.
    pub(super) value_len_at: usize,
    /// What is demanded beyond the window: from where among the bytes that the patterns
    /// of a message demand there, and how much.
    beyond: (usize, usize),
    /// Every byte is demanded.
    whole: bool,
}

impl Pattern {
    /// The length of the name, in bytes: before the length of the value lie two keys and two lengths
    /// and the name.
    pub(super) fn name_len(&self) -> usize {
        self.value_len_at - 5
    }

    /// Fits a label with a length of two bytes, such as the `id` that cAdvisor gives every series. All
    /// behind the length lies one byte further on. Returns where the value begins and ends.
    #[inline(never)] // So that the loop over labels stays small.
    pub(super) fn fits_long(
        &self,
        message: &[u8],
        at: usize,
        beyond: &[u8],
        length_max: usize,
    ) -> Option<(usize, usize)> {
        // The bytes of the window where the key and the length were.
        const LENGTH: u64 = 0xffff;
        let [key, window @ ..] = message.get(at..)?.first_chunk::<{ WINDOW + 1 }>()?;
        let length = two_bytes(*window.first_chunk()?)?;
        if self.whole || *key != LABELS_KEY || self.differs(window, !LENGTH) {
            return None;
        }
        let value_len_at = at + 1 + self.value_len_at;
        let (value, value_len) = match *message.get(value_len_at..)?.first_chunk::<2>()? {
            [length, _] if usize::from(length) < LONG => (value_len_at + 1, length.into()),
            length => (value_len_at + 2, two_bytes(length)?),
        };
        let end = at + 3 + length;
        let whole = value_len != 0 && value_len <= length_max && value + value_len == end;
        let fits = whole && self.fits_beyond(message, at + 1, beyond);
        fits.then_some((value, end))
    }

    /// True when one of the demanded bits differs; `first` takes bits of the first word away.
    #[inline(always)] // The result of the comparison stays in registers.
    pub(super) fn differs(&self, window: &[u8; WINDOW], first: u64) -> bool {
        let (words, _) = window.as_chunks::<8>();
        let differs = |place: usize| {
            let word = u64::from_le_bytes(words[place]);
            (word ^ self.window[place]) & self.mask[place]
        };
        differs(0) & first | differs(1) | differs(2) | differs(3) != 0
    }

    /// True when the bytes behind the window that begins at `at` are those demanded.
    #[inline(always)]
    pub(super) fn fits_beyond(&self, message: &[u8], at: usize, beyond: &[u8]) -> bool {
        self.beyond.1 == 0 || {
            let behind = message.get(at + WINDOW..).unwrap_or_default();
            behind.starts_with(self.beyond(beyond))
        }
    }

    /// What is demanded beyond the window.
    fn beyond<'b>(&self, beyond: &'b [u8]) -> &'b [u8] {
        let (start, length) = self.beyond;
        &beyond[start..][..length]
    }

    /// The pattern of a label with a name that a template may have. One of which the whole is demanded
    /// must be shorter than [`LONG`].
    pub(super) fn new(label: Label<'_>, whole: bool, beyond: &mut Vec<u8>) -> Option<Self> {
        let Label { name, value } = label;
        let value = if whole { value } else { b"" };
        let lengths = [name.len(), value.len()].map(|length| u8::try_from(length).ok());
        let (name_len, value_len) = (lengths[0]?, lengths[1]?);
        let length = name_len.checked_add(value_len)?.checked_add(4)?;
        let front = [LABELS_KEY, length, NAME_KEY, name_len];
        let behind_name = &[VALUE_KEY, value_len][..if whole { 2 } else { 1 }];
        // As much of it as the window takes, and the rest of it.
        let (mut window, mut end) = ([0; WINDOW], 0);
        let start = beyond.len();
        for part in [&front, name, behind_name, value] {
            let (within, rest) = part.split_at(part.len().min(WINDOW - end));
            window[end..end + within.len()].copy_from_slice(within);
            end += within.len();
            beyond.extend_from_slice(rest);
        }
        let value_len_at = front.len() + name.len() + 1;
        let mut mask = [0; WINDOW];
        mask[..end].fill(0xff);
        if !whole {
            mask[LENGTH_AT] = 0;
        }
        let words = |bytes: [u8; WINDOW]| {
            let (words, _) = bytes.as_chunks::<8>();
            std::array::from_fn(|place| u64::from_le_bytes(words[place]))
        };
        Some(Self {
            window: words(window),
            mask: words(mask),
            value_len_at,
            beyond: (start, beyond.len() - start),
            whole,
        })
    }
}

/// A canonical varint of two bytes.
#[inline]
fn two_bytes([low, high]: [u8; 2]) -> Option<usize> {
    let canonical = low >= 0x80 && (1..0x80).contains(&high);
    canonical.then_some(usize::from(low & 0x7f) | usize::from(high) << 7)
}
