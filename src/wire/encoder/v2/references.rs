//! The references of labels.
//!
//! Where labels of V1 fit a template, those of one pattern have one name, so a name is looked up once
//! for each pattern, and a value only if it is another one than that of the last label of the pattern.
//! Labels of V2 are [renumbered](Renumbering).

use std::ops::Range;

use crate::wire::Label;
use crate::wire::v1::Matched;
use crate::wire::v2::{Pair, PairList, Symbols};

use super::super::interner::{Encoded, Glance, Interner};
use super::super::{NewLabels, Put, Source};
use super::from_v2::Renumbering;
use super::put_label;

/// Bytes in which the references of a label lie.
const PAIR: usize = 8;

/// The last label of a pattern.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// Its value.
    value: Glance,
    /// Both references, one behind the other.
    pair: u64,
    pair_len: u8,
    /// The bytes of the reference to the name; 0 when there was no label.
    name_len: u8,
}

/// The references of labels of one message.
#[derive(Debug, Default)]
pub(super) struct References {
    /// The last label of each pattern.
    slots: Vec<Slot>,
    /// The references of labels that come from V2.
    renumbering: Renumbering,
    pairs: PairList,
    /// The label that was added last, by the addresses of its strings: they stay where they are.
    added: Option<((usize, usize), [Encoded; 2])>,
    /// The references of the last series, and space behind them.
    refs: Vec<u8>,
    /// How many bytes they have.
    length: usize,
}

impl References {
    /// Forgets the labels of the message before.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.renumbering.clear();
        self.added = None;
    }

    /// The memory that they hold, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>() + self.renumbering.bytes() + self.refs.capacity()
    }

    /// Writes the packed references of a series, which are the last ones then.
    #[inline]
    pub(super) fn put(&mut self, put: &Put<'_, '_>, symbols: &mut Interner) {
        let added = match put.labels {
            NewLabels::Same(_) => Some(None),
            NewLabels::Inserted { place, label, .. } => Some(Some((place, label))),
            NewLabels::List(_) => None,
        };
        let length = match (&put.source, added) {
            (Source::V1(Some(labels)), Some(added)) => self.put_matched(labels, added, symbols),
            (Source::V2(from, pairs), Some(added)) => {
                self.put_renumbered(put.series.raw, from, pairs, added, symbols)
            }
            _ => None,
        };
        self.length = length.unwrap_or_else(|| {
            self.refs.clear();
            put.each_label(|label| put_label(&mut self.refs, symbols, &label));
            self.refs.len()
        });
    }

    /// Those of the last series.
    pub(super) fn last(&self) -> &[u8] {
        &self.refs[..self.length]
    }

    /// Writes the references of labels of V2, with one added at a place, and returns how long they are.
    /// `recorded` are the old references if the walk recorded them. `None` when a new one takes more than
    /// three bytes.
    #[inline(never)] // So that its loop has the registers.
    fn put_renumbered(
        &mut self,
        series: &[u8],
        from: &Symbols<'_>,
        recorded: &[Pair],
        added: Option<(usize, Label<'_>)>,
        symbols: &mut Interner,
    ) -> Option<usize> {
        let pairs = self.pairs.of(series, recorded)?;
        let space = (pairs.len() + 2) * PAIR;
        if self.refs.len() < space {
            self.refs.resize(space, 0);
        }
        let (refs, renumbering) = (self.refs.as_mut_slice(), &mut self.renumbering);
        let Some((place, label)) = added else {
            return renumbering.put(refs, 0, pairs, from, symbols);
        };
        let (before, after) = pairs.split_at(place.min(pairs.len()));
        let length = renumbering.put(refs, 0, before, from, symbols)?;
        let [name, value] = added_label(&mut self.added, label, symbols)?;
        let pair = u64::from(name.bytes) | u64::from(value.bytes) << (8 * name.length);
        let length = put_pair(refs, length, pair, name.length + value.length);
        renumbering.put(refs, length, after, from, symbols)
    }

    /// Writes the references of labels that fit a template, with one added at a place, and returns how
    /// long they are. `None` when one of them takes more than four bytes, or at the ends of the message.
    #[inline(never)] // So that its loop has the registers.
    fn put_matched(
        &mut self,
        labels: &Matched<'_, '_>,
        added: Option<(usize, Label<'_>)>,
        symbols: &mut Interner,
    ) -> Option<usize> {
        let count = labels.values().len();
        // One more label, and a write that goes beyond the last one.
        let space = (count + 2) * PAIR;
        if self.refs.len() < space {
            self.refs.resize(space, 0);
        }
        let Some((place, label)) = added else {
            return self.put_some(0, labels, 0..count, symbols);
        };
        let place = place.min(count);
        let length = self.put_some(0, labels, 0..place, symbols)?;
        let [name, value] = added_label(&mut self.added, label, symbols)?;
        let pair = u64::from(name.bytes) | u64::from(value.bytes) << (8 * name.length);
        let length = put_pair(&mut self.refs, length, pair, name.length + value.length);
        self.put_some(length, labels, place..count, symbols)
    }

    /// Writes the references of some labels behind those that are there, and returns how long they all
    /// are.
    #[inline(always)] // Where no label is added, it is all that a series needs.
    fn put_some(
        &mut self,
        mut length: usize,
        labels: &Matched<'_, '_>,
        places: Range<usize>,
        symbols: &mut Interner,
    ) -> Option<usize> {
        let first = labels.first_pattern();
        let patterns = first + places.start..first + places.end;
        if self.slots.len() < patterns.end {
            self.slots.resize(patterns.end, Slot::default());
        }
        let slots = self.slots[patterns].iter_mut();
        let (message, values) = (labels.message(), &labels.values()[places.clone()]);
        for (place, (slot, value)) in places.zip(slots.zip(values)) {
            let value = Glance::at(message, value.clone())?;
            if !value.same(&slot.value, message) || slot.name_len == 0 {
                slot.renew(labels, place, value, symbols)?;
            }
            length = put_pair(&mut self.refs, length, slot.pair, slot.pair_len);
        }
        Some(length)
    }
}

impl Slot {
    /// Looks up the value of a label, and the name of the first one.
    #[inline(never)] // So that the loop over labels has the registers.
    fn renew(
        &mut self,
        labels: &Matched<'_, '_>,
        place: usize,
        value: Glance,
        symbols: &mut Interner,
    ) -> Option<()> {
        if self.name_len == 0 {
            let name = symbols.encoded(labels.name(place))?;
            self.pair = name.bytes.into();
            self.name_len = name.length;
        }
        let index = symbols.index_at(labels.message(), value)?;
        let name_bits = 8 * self.name_len;
        let name = self.pair & ((1 << name_bits) - 1);
        self.pair = name | u64::from(index.bytes) << name_bits;
        self.pair_len = self.name_len + index.length;
        self.value = value;
        Some(())
    }
}

/// The references of a label that is added to series of the message. `last` is the one before.
#[inline]
fn added_label(
    last: &mut Option<((usize, usize), [Encoded; 2])>,
    label: Label<'_>,
    symbols: &mut Interner,
) -> Option<[Encoded; 2]> {
    let place = (label.name.as_ptr().addr(), label.value.as_ptr().addr());
    if let Some((added, pair)) = last
        && *added == place
    {
        return Some(*pair);
    }
    let name = symbols.encoded(label.name)?;
    let value = symbols.encoded(label.value)?;
    *last = Some((place, [name, value]));
    Some([name, value])
}

/// Writes the references of a label, and returns where they end. Further bytes are written, which the
/// next label overwrites.
#[inline(always)] // Once for each label.
pub(super) fn put_pair(out: &mut [u8], at: usize, pair: u64, length: u8) -> usize {
    if let Some(out) = out.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<PAIR>) {
        *out = pair.to_le_bytes();
    }
    at + usize::from(length)
}
