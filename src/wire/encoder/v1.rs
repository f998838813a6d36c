//! Encodes `prometheus.WriteRequest`.

mod from_v2;
mod inserted;

use crate::wire::histogram::histogram;
use crate::wire::item::Item;
use crate::wire::leaf::{self, EXEMPLAR_LABELS};
use crate::wire::protobuf::{
    Malformed, WireType, field_len, put_bytes, put_key, put_varint, varints,
};
use crate::wire::v1::{
    self as walk, EXEMPLARS, HISTOGRAMS, LABEL_NAME, LABEL_VALUE, LABELS, SAMPLES,
};
use crate::wire::v2::Symbols;
use crate::wire::{Counts, Kind, Label, Protocol};

use super::buffer::{self, Buffer, put_length};
use super::{Lost, Message, NewLabels, Put, Source, V1_BYTES_MAX};

pub(super) use from_v2::LABEL_BYTES;

use inserted::Inserted;

/// The keys of fields of the message.
const TIMESERIES_KEY: u8 = 1 << 3 | 2;
const METADATA_KEY: u8 = 3 << 3 | 2;

/// The keys of a label, its name and its value.
pub(super) const LABEL_KEY: u8 = 1 << 3 | 2;
pub(super) const NAME_KEY: u8 = 1 << 3 | 2;
pub(super) const VALUE_KEY: u8 = 2 << 3 | 2;

/// A message being encoded.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    /// Encoded labels of the series at hand.
    labels: Vec<u8>,
    inserted: Inserted,
    /// What the series at hand carries, with a buffer for each field.
    samples: Vec<u8>,
    exemplars: Vec<u8>,
    histograms: Vec<u8>,
    /// The labels of the exemplar at hand, and the rest of it.
    exemplar: Vec<u8>,
    exemplar_rest: Vec<u8>,
    /// The bytes of exemplars of the series at hand for which the message has no room.
    left_out: usize,
    out: Buffer,
    /// Where labels of V2 lie in the message.
    labels_of_v2: from_v2::Labels,
    metadata: u64,
    /// Most bytes that the message may have.
    room: usize,
    /// The bytes that the message would have, once these are more than its room. Nothing is put
    /// into it any more.
    overflow: Option<usize>,
}

impl Encoder {
    /// Starts a message of at most `room` bytes, which is mostly not much longer than `ahead`.
    pub(super) fn clear(&mut self, room: usize, ahead: usize) {
        self.out.clear(room, ahead);
        self.labels_of_v2.clear();
        self.inserted.clear();
        self.metadata = 0;
        self.room = room;
        self.overflow = None;
    }

    /// The bytes that the message would have, if these are more than its room; at least so many
    /// if they are more than [`V1_BYTES_MAX`] as well.
    pub(super) fn overflow(&self) -> Option<usize> {
        self.overflow
    }

    /// The memory that it holds, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let buffers = [
            &self.labels,
            &self.samples,
            &self.exemplars,
            &self.histograms,
            &self.exemplar,
            &self.exemplar_rest,
        ];
        let buffers: usize = buffers.iter().map(|buffer| buffer.capacity()).sum();
        buffers + self.inserted.bytes() + self.out.capacity() + self.labels_of_v2.bytes()
    }

    /// How many metadata entries were put.
    pub(super) fn metadata(&self) -> u64 {
        self.metadata
    }

    pub(super) fn put_metadata(&mut self, raw: &[u8]) {
        self.metadata += 1;
        let (room, at) = self.out.room(field_len(raw.len()));
        room[at] = METADATA_KEY;
        let at = put_length(room, at + 1, raw.len());
        let end = buffer::put(room, at, raw);
        self.out.end_at(end);
    }

    /// Appends a series, as long as the message has room, and counts what of it V1 can hold. A series of
    /// which V1 can hold nothing is left out.
    pub(super) fn put(
        &mut self,
        put: &Put<'_, '_>,
        counts: &mut Counts,
        lost: &mut Lost,
    ) -> Result<(), Malformed> {
        if self.is_hopeless() {
            return Ok(());
        }
        if let Some(samples) = put.samples() {
            let received = &put.series.counts;
            counts.add(Kind::Float, received.of(Kind::Float));
            lost.metadata += received.of(Kind::Metadata);
            self.put_series(put, [samples], 0);
            return Ok(());
        }
        let buffers = [&mut self.samples, &mut self.exemplars, &mut self.histograms];
        buffers.into_iter().for_each(Vec::clear);
        self.left_out = 0;
        let mut series_counts = Counts::default();
        let mut series_lost = Lost::default();
        for item in put.items() {
            self.put_item(item?, put.source, &mut series_counts, &mut series_lost)?;
        }
        // Decoders merge repeated metadata.
        series_lost.metadata = series_lost.metadata.min(1);
        lost.add_all(&series_lost);
        if series_counts.is_empty() && series_lost != Lost::default() {
            return Ok(());
        }
        counts.add_all(&series_counts);
        let buffers = [&mut self.samples, &mut self.exemplars, &mut self.histograms];
        let buffers = buffers.map(std::mem::take);
        self.put_series(put, buffers.each_ref().map(Vec::as_slice), self.left_out);
        [self.samples, self.exemplars, self.histograms] = buffers;
        Ok(())
    }

    /// Appends a series that carries `items`, and exemplars of so many bytes that were left out,
    /// if the message has room for it.
    #[inline]
    fn put_series<const N: usize>(
        &mut self,
        put: &Put<'_, '_>,
        items: [&[u8]; N],
        left_out: usize,
    ) {
        match (put.source, put.labels) {
            (Source::V1(_), NewLabels::Same(block)) => put_message(&mut self.out, [block], items),
            (
                Source::V1(matched),
                NewLabels::Inserted {
                    block,
                    place,
                    label,
                },
            ) => {
                let behind = matched.and_then(|labels| labels.bytes_from(place));
                let (before, after) = match behind.and_then(|it| block.len().checked_sub(it)) {
                    Some(at) => block.split_at(at),
                    None => walk::split_block(block, place),
                };
                let inserted = self.inserted.encoded(&label);
                put_message(&mut self.out, [before, inserted, after], items);
            }
            // A series of V1 does not grow beyond the labels that the rules add.
            (Source::V1(_), NewLabels::List(_)) => self.put_encoded(put, items),
            (Source::V2(symbols, pairs), labels) => {
                let items_len: usize = items.iter().map(|items| items.len()).sum();
                let raw = put.series.raw;
                if let Some(labels_len) = self.labels_of_v2.measure(raw, labels, symbols, pairs) {
                    if self.has_room(labels_len + items_len + left_out) {
                        self.put_measured(put, symbols, labels_len + items_len, items);
                    }
                    return;
                }
                let mut labels_len = 0;
                put.each_label(|label| labels_len += field_len(label_len(&label)));
                if self.has_room(labels_len + items_len + left_out) {
                    self.put_encoded(put, items);
                }
            }
        }
    }

    /// Appends a series of V2 whose labels were measured. It has `length` bytes.
    #[inline]
    fn put_measured<const N: usize>(
        &mut self,
        put: &Put<'_, '_>,
        symbols: &Symbols<'_>,
        length: usize,
        items: [&[u8]; N],
    ) {
        let inserted = match put.labels {
            NewLabels::Inserted { label, .. } => Some(label),
            NewLabels::Same(_) | NewLabels::List(_) => None,
        };
        let (room, at) = self.out.room(field_len(length));
        room[at] = TIMESERIES_KEY;
        let at = put_length(room, at + 1, length);
        let at = self.labels_of_v2.put(room, at, inserted, symbols);
        let end = items
            .iter()
            .fold(at, |at, items| buffer::put(room, at, items));
        self.out.end_at(end);
    }

    /// Appends a series whose labels are encoded one by one.
    fn put_encoded<const N: usize>(&mut self, put: &Put<'_, '_>, items: [&[u8]; N]) {
        let labels = &mut self.labels;
        labels.clear();
        put.each_label(|label| put_label(labels, LABELS, &label));
        put_message(&mut self.out, [labels], items);
    }

    /// Appends exemplars without a sample and returns how many. `exemplars` are of V2; `text`
    /// knows their references.
    pub(super) fn put_exemplars<'t>(
        &mut self,
        labels: &[Label<'_>],
        exemplars: impl Iterator<Item = Result<&'t [u8], Malformed>>,
        text: impl Fn(u64) -> &'t [u8],
    ) -> Result<u64, Malformed> {
        self.exemplars.clear();
        self.left_out = 0;
        let mut count = 0;
        for exemplar in exemplars {
            self.put_exemplar(exemplar?, &text)?;
            count += 1;
        }
        if self.has_room(labels_len(labels) + self.exemplars.len() + self.left_out) {
            self.samples.clear();
            for label in labels {
                put_label(&mut self.samples, LABELS, label);
            }
            put_message(&mut self.out, [&self.samples], [&self.exemplars]);
        }
        Ok(count)
    }

    /// The finished message.
    pub(super) fn finish(&self, counts: Counts) -> Message<'_> {
        Message {
            bytes: self.out.as_slice(),
            counts,
        }
    }

    /// True when a series of so many bytes has room in the message. Otherwise the series counts
    /// towards the length that the message would have.
    fn has_room(&mut self, bytes: usize) -> bool {
        let length = match self.overflow {
            None => self.out.len() + field_len(bytes),
            Some(before) => before.saturating_add(field_len(bytes)),
        };
        if length <= self.room {
            return true;
        }
        self.overflow = Some(length);
        false
    }

    /// True when the message would have more bytes than any may have, so that its length does not
    /// matter any more.
    fn is_hopeless(&self) -> bool {
        let most = V1_BYTES_MAX.max(self.room);
        self.overflow.is_some_and(|length| length > most)
    }

    /// Appends an item to the buffer of its field, if V1 has a place for it.
    fn put_item(
        &mut self,
        item: Item<'_>,
        source: Source<'_, '_>,
        counts: &mut Counts,
        lost: &mut Lost,
    ) -> Result<(), Malformed> {
        let kind = match (item, source) {
            (Item::Sample(bytes), Source::V1(_)) => {
                put_bytes(&mut self.samples, SAMPLES, bytes);
                Kind::Float
            }
            (Item::Sample(bytes), Source::V2(..)) => {
                let left = leaf::put_sample(&mut self.samples, SAMPLES, bytes, Protocol::V2)?;
                lost.start_timestamps += u64::from(left.start_timestamp);
                Kind::Float
            }
            (Item::Histogram(bytes), Source::V1(_)) => {
                if histogram(bytes, Protocol::V1)?.custom_buckets {
                    lost.custom_buckets += 1;
                    return Ok(());
                }
                put_bytes(&mut self.histograms, HISTOGRAMS, bytes);
                Kind::Histogram
            }
            (Item::Histogram(bytes), Source::V2(..)) => {
                let left =
                    leaf::put_histogram(&mut self.histograms, HISTOGRAMS, bytes, Protocol::V2)?;
                if left.custom_buckets {
                    lost.custom_buckets += 1;
                    return Ok(());
                }
                lost.start_timestamps += u64::from(left.start_timestamp);
                Kind::Histogram
            }
            (Item::Exemplar(bytes), Source::V1(_)) => {
                put_bytes(&mut self.exemplars, EXEMPLARS, bytes);
                Kind::Exemplar
            }
            (Item::Exemplar(bytes), Source::V2(symbols, _)) => {
                // A series with a reference that leads nowhere was refused.
                self.put_exemplar(bytes, |reference| {
                    symbols.get(reference).unwrap_or_default()
                })?;
                Kind::Exemplar
            }
            (Item::Metadata(_), _) => {
                lost.metadata += 1;
                return Ok(());
            }
            (Item::Other, _) => return Ok(()),
        };
        counts.add(kind, 1);
        Ok(())
    }

    /// Appends a V2 exemplar, or only counts its bytes where the message has no room for it: a few
    /// bytes may stand for a string of megabytes, and may do so many times.
    fn put_exemplar<'t>(
        &mut self,
        bytes: &[u8],
        text: impl Fn(u64) -> &'t [u8],
    ) -> Result<(), Malformed> {
        let Self {
            exemplar,
            exemplar_rest: rest,
            ..
        } = self;
        let taken = self.out.len() + self.exemplars.len();
        let room = match self.overflow {
            Some(_) => 0,
            None => self.room.saturating_sub(taken),
        };
        exemplar.clear();
        rest.clear();
        let mut length = 0;
        let mut name: Option<&[u8]> = None;
        leaf::exemplar(bytes, rest, |reader, wire_type| {
            varints(reader, wire_type, |reference| {
                let Some(name) = name.take() else {
                    name = Some(text(reference));
                    return;
                };
                let value = text(reference);
                let label = Label { name, value };
                length += field_len(label_len(&label));
                if length <= room {
                    put_label(exemplar, EXEMPLAR_LABELS, &label);
                }
            })
        })?;
        length += rest.len();
        if field_len(length) <= room {
            exemplar.extend_from_slice(rest);
            put_bytes(&mut self.exemplars, EXEMPLARS, exemplar);
        } else {
            self.left_out += field_len(length);
        }
        Ok(())
    }
}

/// Appends a series of encoded labels and what it carries.
#[inline]
fn put_message<const N: usize, const M: usize>(
    out: &mut Buffer,
    labels: [&[u8]; M],
    items: [&[u8]; N],
) {
    let length = |parts: &[&[u8]]| parts.iter().map(|part| part.len()).sum::<usize>();
    let length = length(&labels) + length(&items);
    let (room, at) = out.room(field_len(length));
    room[at] = TIMESERIES_KEY;
    let mut end = put_length(room, at + 1, length);
    for part in labels {
        end = buffer::put(room, end, part);
    }
    for part in items {
        end = buffer::put(room, end, part);
    }
    out.end_at(end);
}

fn put_label(out: &mut Vec<u8>, field: u32, label: &Label<'_>) {
    put_key(out, field, WireType::Len);
    put_varint(out, label_len(label) as u64);
    put_bytes(out, LABEL_NAME, label.name);
    put_bytes(out, LABEL_VALUE, label.value);
}

/// The bytes of a `Label`.
#[inline]
fn label_len(label: &Label<'_>) -> usize {
    field_len(label.name.len()) + field_len(label.value.len())
}

/// The bytes that labels take in a series.
fn labels_len(labels: &[Label<'_>]) -> usize {
    labels.iter().map(|label| field_len(label_len(label))).sum()
}
