//! The values that were interned last, found without a hash of the whole text.
//!
//! A series has a dozen values, and few of them were not seen in the series just before. Where a value
//! belongs in this table depends on its length and on its first and last bytes alone. A value that is not
//! there is looked up in the hash table, which is the one that decides. So a spoke that chooses values
//! with the same place gains nothing: each of them costs what it would without this table.

use super::glance::Glance;

/// The entries, as bits of their number. They take 80 KiB.
const PLACE_BITS: u32 = 11;

/// An index as it is encoded: a varint of at most four bytes, and how many these are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in super::super) struct Encoded {
    pub(in super::super) bytes: u32,
    pub(in super::super) length: u8,
}

impl Encoded {
    /// `None` for an index of more than 28 bits.
    pub(in super::super) fn new(index: u32) -> Option<Self> {
        const GROUP: u32 = 0x7f;
        let length = match index {
            0..0x80 => 1,
            0x80..0x4000 => 2,
            0x4000..0x20_0000 => 3,
            0x20_0000..0x1000_0000 => 4,
            _ => return None,
        };
        let spread = index & GROUP
            | (index >> 7 & GROUP) << 8
            | (index >> 14 & GROUP) << 16
            | (index >> 21) << 24;
        // All bytes but the last one say that another follows.
        let more = 0x8080_8080 & ((1 << (8 * (length - 1))) - 1);
        Some(Self {
            bytes: spread | more,
            length,
        })
    }
}

/// A text and its index.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    text: Glance,
    /// The index.
    bytes: u32,
    length: u8,
    /// The message that it is of, among those since the table was emptied.
    message: u16,
}

/// The values that were interned last.
#[derive(Debug, Default)]
pub(super) struct Recent {
    entries: Vec<Entry>,
    /// The number of the message.
    message: u16,
}

impl Recent {
    /// Starts a message.
    pub(super) fn clear(&mut self) {
        self.message = self.message.wrapping_add(1);
        if self.message == 0 {
            self.entries.fill(Entry::default());
            self.message = 1;
        }
    }

    /// The memory that they hold, in bytes.
    pub(super) fn capacity(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }

    /// The index of a text of the message; `look_up` finds it if it is not among the last.
    #[inline(always)] // It has one caller.
    pub(super) fn index(
        &mut self,
        message: &[u8],
        text: Glance,
        look_up: impl FnOnce(&[u8]) -> Option<Encoded>,
    ) -> Option<Encoded> {
        let place = text.hash(PLACE_BITS);
        if let Some(entry) = self.entries.get(place)
            && entry.message == self.message
            && entry.text.same(&text, message)
        {
            let Entry { bytes, length, .. } = *entry;
            return Some(Encoded { bytes, length });
        }
        let index = look_up(text.of(message))?;
        self.entries.resize(1 << PLACE_BITS, Entry::default());
        let Encoded { bytes, length } = index;
        self.entries[place] = Entry {
            text,
            bytes,
            length,
            message: self.message,
        };
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::protobuf::put_varint;

    #[test]
    fn encodes_an_index_as_a_varint() {
        for bits in 0..32 {
            for index in [(1u32 << bits) - 1, 1 << bits] {
                let mut varint = Vec::new();
                put_varint(&mut varint, index.into());
                let encoded = Encoded::new(index)
                    .map(|it| it.bytes.to_le_bytes()[..usize::from(it.length)].to_vec());
                assert_eq!(encoded, (bits < 28 || index < 1 << 28).then_some(varint));
            }
        }
    }

    /// Every text of a message of two letters, each looked up as often as it likes.
    #[test]
    fn finds_the_index_of_the_very_text() {
        let mut recent = Recent::default();
        for seed in 0..4 {
            recent.clear();
            let letter = |at: usize| b"ab"[at * (at + seed) / 7 % 2];
            let message: Vec<u8> = (0..90).map(letter).collect();
            let mut known: Vec<&[u8]> = Vec::new();
            let mut found = 0;
            for _ in 0..2 {
                for start in 0..90 {
                    for end in start..=90 {
                        let text = &message[start..end];
                        let mut looked_up = false;
                        let Some(glance) = Glance::at(&message, start..end) else {
                            continue;
                        };
                        let index = recent.index(&message, glance, |asked| {
                            assert_eq!(asked, text);
                            looked_up = true;
                            let place = known.iter().position(|known| *known == text);
                            let place = place.unwrap_or_else(|| {
                                known.push(text);
                                known.len() - 1
                            });
                            Encoded::new(u32::try_from(place).unwrap())
                        });
                        let place = known.iter().position(|known| *known == text);
                        assert_eq!(index, Encoded::new(u32::try_from(place.unwrap()).unwrap()));
                        found += u32::from(!looked_up);
                    }
                }
            }
            assert!(found > 1000, "{found}");
        }
    }
}
