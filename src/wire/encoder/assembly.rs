//! The labels of a series as V1 encodes them, for its [identity](crate::wire::identity).

use crate::wire::identity::{Hashed, Key};
use crate::wire::protobuf::field_len;
use crate::wire::v1::split_block;
use crate::wire::v2::{Place, Symbols};
use crate::wire::{Label, Series};

use super::buffer::{put, put_length};
use super::v1::{LABEL_KEY, NAME_KEY, VALUE_KEY};
use super::{NewLabels, Source};

/// The bytes that are assembled before some of them are hashed. Most series have fewer.
const ROOM: usize = 1024;

/// Most bytes that are written at once.
const PIECE: usize = ROOM / 2;

/// Most bytes of a key and a length.
const FRAMING: usize = 11;

/// Strings up to this length are copied as one chunk, and most bytes of a label of two such.
const SHORT: usize = 32;
const SHORT_LABEL: usize = 6 + 2 * SHORT;

/// Memory in which labels are encoded.
#[derive(Debug)]
pub struct Assembly([u8; ROOM]);

impl Default for Assembly {
    fn default() -> Self {
        Self([0; ROOM])
    }
}

impl Assembly {
    /// The identity of a series with new labels, which must be sorted by name and have values.
    pub fn identify<'a>(
        &mut self,
        key: &Key,
        series: &Series<'a>,
        labels: NewLabels<'_, 'a>,
        source: Source<'_, 'a>,
    ) -> u64 {
        let encoded = series.clean.is_some();
        let mut series = Assembled {
            key,
            hashed: key.begin(),
            room: &mut self.0,
            end: 0,
        };
        match (labels, source) {
            (NewLabels::Same(block), Source::V1(_)) if encoded => return key.identity(block),
            (
                NewLabels::Inserted {
                    block,
                    place,
                    label,
                },
                Source::V1(_),
            ) if encoded => {
                let (before, after) = split_block(block, place);
                series.put(before);
                series.put_label(label);
                series.put(after);
            }
            (NewLabels::Same(block), Source::V2(symbols, _)) => {
                symbols.each_place(block, |name, value| series.put_places(symbols, name, value));
            }
            _ => labels.each(source, |label| series.put_label(label)),
        }
        series.identity()
    }
}

/// The labels of a series, of which the first ones may be hashed already.
struct Assembled<'s> {
    key: &'s Key,
    hashed: Hashed,
    room: &'s mut [u8; ROOM],
    end: usize,
}

impl Assembled<'_> {
    /// Appends a label of two symbols. Short ones are copied with what lies behind them in the message, which the
    /// next label overwrites.
    #[inline(always)] // It is the body of the loop over labels.
    fn put_places(&mut self, symbols: &Symbols<'_>, name: Place, value: Place) {
        let message = symbols.message();
        let chunk = |text: Place| message.get(text.start as usize..)?.first_chunk::<SHORT>();
        let [name_len, value_len] = [name, value].map(|text| text.length as usize);
        if name_len <= SHORT
            && value_len <= SHORT
            && let (Some(name), Some(value)) = (chunk(name), chunk(value))
            && let Some(room) = self.room_for_short()
        {
            // They take one byte.
            let short = |length: usize| (length as u64 & 0x7f) as u8;
            room[0] = LABEL_KEY;
            room[1] = short(name_len + value_len + 4);
            room[2] = NAME_KEY;
            room[3] = short(name_len);
            room[4..4 + SHORT].copy_from_slice(name);
            room[4 + name_len] = VALUE_KEY;
            room[5 + name_len] = short(value_len);
            room[6 + name_len..][..SHORT].copy_from_slice(value);
            self.end += 6 + name_len + value_len;
        } else {
            let [name, value] = [name, value].map(|it| symbols.text(it));
            self.put_label(Label { name, value });
        }
    }

    #[inline(always)]
    fn room_for_short(&mut self) -> Option<&mut [u8; SHORT_LABEL]> {
        self.make_room(SHORT_LABEL);
        self.room.get_mut(self.end..)?.first_chunk_mut()
    }

    /// Appends a label.
    fn put_label(&mut self, label: Label<'_>) {
        let Label { name, value } = label;
        self.put_framing(LABEL_KEY, field_len(name.len()) + field_len(value.len()));
        for (key, text) in [(NAME_KEY, name), (VALUE_KEY, value)] {
            self.put_framing(key, text.len());
            self.put(text);
        }
    }

    fn put_framing(&mut self, key: u8, length: usize) {
        self.make_room(FRAMING);
        self.room[self.end] = key;
        self.end = put_length(self.room, self.end + 1, length);
    }

    /// Appends bytes.
    fn put(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(PIECE) {
            self.make_room(piece.len());
            self.end = put(self.room, self.end, piece);
        }
    }

    /// Makes room for so many bytes.
    #[inline]
    fn make_room(&mut self, count: usize) {
        if self.end + count > ROOM {
            let rest = self.key.hash(&mut self.hashed, &self.room[..self.end]);
            let start = self.end - rest.len();
            self.room.copy_within(start..self.end, 0);
            self.end -= start;
        }
    }

    fn identity(mut self) -> u64 {
        let rest = self.key.hash(&mut self.hashed, &self.room[..self.end]);
        self.key.end(self.hashed, rest)
    }
}
