//! Labels of V2 in V1.
//!
//! Most labels of a message were in it before. So where a label lies in the new message is kept for
//! the symbol of its value, and the label is copied from there when the value comes with the same name
//! again. Other labels are made of the symbols.
//!
//! A few bytes of V2 may stand for megabytes, so the labels of a series are measured before any of them
//! is written.

use crate::wire::Label;
use crate::wire::protobuf::field_len;
use crate::wire::templates::LABELS_MAX;
use crate::wire::v2::{Pair, PairList, Place, Symbols};

use super::super::NewLabels;
use super::super::buffer::{SLACK, put, put_length};
use super::{LABEL_KEY, NAME_KEY, VALUE_KEY, label_len};

/// Most labels of a series that are written this way. One may have been inserted.
const MEASURED_MAX: usize = LABELS_MAX + 1;

/// Strings up to this length are copied as one chunk.
const CHUNK: usize = 32;

/// Where a label lies in the message, in one word: the name's symbol plus one, the label's length and
/// its place.
///
/// In the labels of a series that were measured, [`Self::MADE`] marks those that lie nowhere yet. Such
/// a word holds the symbols of the name and the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Written(u64);

impl Written {
    const NOWHERE: Self = Self(0);
    const NAME_AT: u32 = 40;
    const LENGTH_AT: u32 = 32;
    const MADE: u64 = 1 << 63;
    /// The bits of the place, or of the value's symbol.
    const AT: u64 = 0xffff_ffff;
    /// The inserted label, which has no symbols.
    const INSERTED: Self = Self(u64::MAX);

    /// `None` when a number is too large.
    fn new(name: u32, length: usize, at: usize) -> Option<Self> {
        let fits = name < (1 << 23) - 1 && length < 1 << 8;
        let at = u64::from(u32::try_from(at).ok()?);
        let name = (u64::from(name) + 1) << Self::NAME_AT;
        fits.then_some(Self(name | (length as u64) << Self::LENGTH_AT | at))
    }

    /// `None` when a number is too large.
    fn to_be_made(pair: Pair) -> Option<Self> {
        let Pair { name, value } = pair;
        let made = Self::MADE | u64::from(name) << 32 | u64::from(value);
        (name < 1 << 30).then_some(Self(made))
    }

    #[inline(always)]
    fn is_of(self, name: u32) -> bool {
        self.0 >> Self::NAME_AT == u64::from(name) + 1
    }

    #[inline(always)]
    fn length(self) -> usize {
        (self.0 >> Self::LENGTH_AT & 0xff) as usize
    }

    #[inline(always)]
    fn at(self) -> usize {
        (self.0 & Self::AT) as usize
    }

    /// The label that is to be made, if it is one.
    #[inline(always)]
    fn made(self) -> Option<Pair> {
        (self.0 & Self::MADE != 0).then_some(Pair {
            name: (self.0 >> 32 & 0x7fff_ffff) as u32,
            value: (self.0 & Self::AT) as u32,
        })
    }
}

/// Memory that [`Labels`] take for a symbol of the V2 message, in bytes.
pub(in crate::wire::encoder) const LABEL_BYTES: usize = size_of::<Written>();

/// The labels of a message that lie in it.
#[derive(Debug)]
pub(super) struct Labels {
    /// The last label with each symbol as its value.
    by_value: Vec<Written>,
    /// The label that is inserted into series.
    inserted: Option<Written>,
    /// The labels of the series that was measured last.
    measured: [Written; MEASURED_MAX],
    count: usize,
    pairs: PairList,
}

impl Default for Labels {
    fn default() -> Self {
        Self {
            by_value: Vec::new(),
            inserted: None,
            measured: [Written::NOWHERE; MEASURED_MAX],
            count: 0,
            pairs: PairList::default(),
        }
    }
}

impl Labels {
    /// Forgets the message before.
    pub(super) fn clear(&mut self) {
        self.by_value.clear();
        self.inserted = None;
    }

    /// The memory that they hold, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.by_value.capacity() * size_of::<Written>()
    }

    /// Measures the labels of a series. `recorded` are their references if the walk recorded them. `None`
    /// when they have to be encoded another way.
    #[inline]
    pub(super) fn measure(
        &mut self,
        series: &[u8],
        labels: NewLabels<'_, '_>,
        symbols: &Symbols<'_>,
        recorded: &[Pair],
    ) -> Option<usize> {
        let Self {
            by_value,
            measured,
            pairs,
            ..
        } = self;
        if by_value.len() != symbols.count() {
            by_value.resize(symbols.count(), Written::NOWHERE);
        }
        let pairs = pairs.of(series, recorded)?;
        let (length, count) = match labels {
            NewLabels::Same(_) => (measure(by_value, measured, pairs, symbols)?, pairs.len()),
            NewLabels::Inserted { place, label, .. } => {
                let place = place.min(pairs.len());
                let (before, after) = pairs.split_at(place);
                let (measured, rest) = measured.split_at_mut(place);
                let mut length = measure(by_value, measured, before, symbols)?;
                let (inserted, rest) = rest.split_first_mut()?;
                *inserted = Written::INSERTED;
                length += field_len(label_len(&label));
                length += measure(by_value, rest, after, symbols)?;
                (length, pairs.len() + 1)
            }
            NewLabels::List(_) => return None,
        };
        self.count = count;
        Some(length)
    }

    /// Writes the labels that were measured at a place, and returns where they end. `inserted` is the
    /// label that is inserted, if there is one.
    #[inline]
    pub(super) fn put(
        &mut self,
        room: &mut [u8],
        mut at: usize,
        inserted: Option<Label<'_>>,
        symbols: &Symbols<'_>,
    ) -> usize {
        for place in 0..self.count.min(MEASURED_MAX) {
            let written = self.measured[place];
            if let Some(pair) = written.made() {
                at = self.make(room, at, written, pair, inserted, symbols);
                continue;
            }
            let (from, length) = (written.at(), written.length());
            if length <= SLACK {
                room.copy_within(from..from + SLACK, at);
            } else {
                room.copy_within(from..from + length, at);
            }
            at += length;
        }
        at
    }

    /// Writes a label that does not lie in the message yet, or only under another name.
    #[inline(never)]
    fn make(
        &mut self,
        room: &mut [u8],
        at: usize,
        written: Written,
        pair: Pair,
        inserted: Option<Label<'_>>,
        symbols: &Symbols<'_>,
    ) -> usize {
        if written == Written::INSERTED {
            return self.put_inserted(room, at, inserted);
        }
        let (Some(name), Some(value)) = (symbols.place(pair.name), symbols.place(pair.value))
        else {
            return at;
        };
        let message = symbols.message();
        let length = inner_len(name, value);
        room[at] = LABEL_KEY;
        let mut end = put_length(room, at + 1, length);
        for (key, text) in [(NAME_KEY, name), (VALUE_KEY, value)] {
            room[end] = key;
            end = put_length(room, end + 1, text.length as usize);
            end = put_text(room, end, message, text);
        }
        let written = Written::new(pair.name, end - at, at);
        let slot = self.by_value.get_mut(pair.value as usize);
        if let (Some(slot), Some(written)) = (slot, written) {
            *slot = written;
        }
        end
    }

    /// Writes the inserted label.
    fn put_inserted(&mut self, room: &mut [u8], at: usize, label: Option<Label<'_>>) -> usize {
        if let Some(written) = self.inserted {
            let (from, length) = (written.at(), written.length());
            room.copy_within(from..from + length, at);
            return at + length;
        }
        let Some(label) = label else {
            return at;
        };
        room[at] = LABEL_KEY;
        let mut end = put_length(room, at + 1, label_len(&label));
        for (key, text) in [(NAME_KEY, label.name), (VALUE_KEY, label.value)] {
            room[end] = key;
            end = put_length(room, end + 1, text.len());
            end = put(room, end, text);
        }
        self.inserted = Written::new(0, end - at, at);
        end
    }
}

/// Measures some labels of a series.
#[inline]
fn measure(
    by_value: &[Written],
    measured: &mut [Written],
    pairs: &[Pair],
    symbols: &Symbols<'_>,
) -> Option<usize> {
    let mut length = 0;
    for (measured, pair) in measured.iter_mut().zip(pairs) {
        let written = *by_value.get(pair.value as usize)?;
        if written.is_of(pair.name) {
            *measured = written;
            length += written.length();
        } else {
            *measured = Written::to_be_made(*pair)?;
            length += made_len(symbols, *pair)?;
        }
    }
    Some(length)
}

/// The bytes that a label of two symbols takes in a series.
#[inline]
fn made_len(symbols: &Symbols<'_>, pair: Pair) -> Option<usize> {
    let (name, value) = (symbols.place(pair.name)?, symbols.place(pair.value)?);
    Some(field_len(inner_len(name, value)))
}

/// The bytes of a label of two symbols.
#[inline]
fn inner_len(name: Place, value: Place) -> usize {
    field_len(name.length as usize) + field_len(value.length as usize)
}

/// Writes a text of the message at a place, and returns where it ends.
#[inline]
fn put_text(room: &mut [u8], at: usize, message: &[u8], text: Place) -> usize {
    let (start, length) = (text.start as usize, text.length as usize);
    let chunk = message.get(start..).and_then(<[u8]>::first_chunk::<CHUNK>);
    match (chunk, room.get_mut(at..)) {
        (Some(chunk), Some(room)) if length <= CHUNK && room.len() >= CHUNK => {
            room[..CHUNK].copy_from_slice(chunk);
        }
        _ => room[at..at + length].copy_from_slice(&message[start..start + length]),
    }
    at + length
}
