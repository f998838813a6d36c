//! Encodes `io.prometheus.write.v2.Request`, with a new symbol table. It holds each string once, and
//! only strings that a series refers to.

mod from_v2;
mod orphans;
mod references;

use crate::wire::item::Item;
use crate::wire::leaf::{self, EXEMPLAR_LABELS};
use crate::wire::protobuf::{
    Malformed, Reader, WireType, field_len, put_bytes, put_key, put_varint, varints,
};
use crate::wire::v2::{
    self as walk, EXEMPLARS, HISTOGRAMS, LABELS_REFS, METADATA, METADATA_HELP_REF, METADATA_TYPE,
    METADATA_UNIT_REF, SAMPLES, Symbols, TIMESERIES,
};
use crate::wire::{Counts, Kind, Label, Protocol, v1 as walk_v1};

use super::interner::Interner;
use super::{Lost, Message, Put, Source, v1};

pub(super) use orphans::Folded;
use orphans::OrphanExemplars;
use references::References;

/// A message being encoded.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    symbols: Interner,
    refs: References,
    /// Encoded `timeseries` fields.
    series: Vec<u8>,
    /// What the series at hand carries, with a buffer for each field.
    samples: Vec<u8>,
    histograms: Vec<u8>,
    exemplars: Vec<u8>,
    metadata: Vec<u8>,
    /// What [`Self::metadata`] was made of, when it is known.
    metadata_source: Vec<u8>,
    /// Parts of what it carries.
    metadata_fields: Vec<u8>,
    exemplar: ExemplarParts,
    orphans: OrphanExemplars,
    out: Vec<u8>,
}

/// Parts of the exemplar at hand.
#[derive(Debug, Default)]
struct ExemplarParts {
    refs: Vec<u8>,
    rest: Vec<u8>,
}

impl Encoder {
    pub(super) fn clear(&mut self) {
        self.symbols.clear();
        self.refs.clear();
        self.metadata_source.clear();
        self.series.clear();
        self.orphans.clear();
    }

    /// The memory that it holds, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let buffers = [
            &self.series,
            &self.samples,
            &self.histograms,
            &self.exemplars,
            &self.metadata,
            &self.metadata_source,
            &self.out,
        ];
        let buffers: usize = buffers.iter().map(|buffer| buffer.capacity()).sum();
        let parts = self.refs.bytes() + self.exemplar.bytes() + self.orphans.bytes();
        buffers + parts + self.symbols.capacity()
    }

    /// Appends a series and counts what of it was encoded.
    pub(super) fn put(&mut self, put: &Put<'_, '_>, counts: &mut Counts) -> Result<(), Malformed> {
        let received = &put.series.counts;
        if received.samples() == 0 {
            let orphan = received.of(Kind::Exemplar) > 0;
            // An empty series means nothing in V1, so it is left out. An empty series of V2 is for the
            // hub to judge.
            if orphan || put.source.protocol() == Protocol::V1 {
                return match orphan {
                    true => self.orphans.hold(put, counts),
                    false => Ok(()),
                };
            }
        }
        self.refs.put(put, &mut self.symbols);
        if let Some(samples) = put.samples() {
            let metadata: &[u8] = match self.describe(put)? {
                true => &self.metadata,
                false => &[],
            };
            put_series(&mut self.series, self.refs.last(), [samples, metadata]);
            for kind in [Kind::Float, Kind::Metadata] {
                counts.add(kind, received.of(kind));
            }
            return Ok(());
        }
        self.samples.clear();
        self.histograms.clear();
        self.exemplars.clear();
        self.metadata.clear();
        self.metadata_source.clear();
        let mut metadata: Option<walk::Metadata> = None;
        for item in put.items() {
            let kind = match item? {
                Item::Sample(bytes) => {
                    self.put_sample(bytes, put.source)?;
                    Kind::Float
                }
                Item::Histogram(bytes) => {
                    self.put_histogram(bytes, put.source)?;
                    Kind::Histogram
                }
                Item::Exemplar(bytes) => {
                    let (symbols, out) = (&mut self.symbols, &mut self.exemplars);
                    self.exemplar.put(out, symbols, bytes, put.source)?;
                    Kind::Exemplar
                }
                Item::Metadata(bytes) => {
                    metadata = Some(metadata.unwrap_or_default().merge(bytes)?);
                    continue;
                }
                Item::Other => continue,
            };
            counts.add(kind, 1);
        }
        if let (Some(metadata), Source::V2(symbols, _)) = (metadata, put.source) {
            self.put_metadata(metadata, symbols);
            counts.add(Kind::Metadata, 1);
        }
        self.put_message();
        Ok(())
    }

    /// Puts orphan exemplars into the series of the same labels, or into `side`.
    pub(super) fn fold(
        &mut self,
        side: &mut v1::Encoder,
        lost: &mut Lost,
    ) -> Result<Folded, Malformed> {
        self.orphans
            .fold(&mut self.series, &mut self.symbols, side, lost)
    }

    /// The finished message; without series it is empty.
    pub(super) fn finish(&mut self, counts: Counts) -> Message<'_> {
        self.out.clear();
        if !self.series.is_empty() {
            self.symbols.hand_over(&mut self.out);
            self.out.extend_from_slice(&self.series);
        }
        Message {
            bytes: &self.out,
            counts,
        }
    }

    /// Appends what was collected of a series. V2 allows no series with both samples and histograms
    /// (remote write 2.0, "TimeSeries"), so these become two series.
    fn put_message(&mut self) {
        let refs = self.refs.last();
        let (histograms, exemplars) = (self.histograms.as_slice(), self.exemplars.as_slice());
        let out = &mut self.series;
        if self.samples.is_empty() {
            put_series(out, refs, [histograms, exemplars, &self.metadata]);
            return;
        }
        put_series(out, refs, [&self.samples, exemplars, &self.metadata]);
        if !histograms.is_empty() {
            put_series(out, refs, [histograms]);
        }
    }

    fn put_sample(&mut self, bytes: &[u8], source: Source<'_, '_>) -> Result<(), Malformed> {
        match source {
            Source::V1(_) => {
                leaf::put_sample(&mut self.samples, SAMPLES, bytes, Protocol::V1)?;
            }
            Source::V2(..) => put_bytes(&mut self.samples, SAMPLES, bytes),
        }
        Ok(())
    }

    fn put_histogram(&mut self, bytes: &[u8], source: Source<'_, '_>) -> Result<(), Malformed> {
        match source {
            Source::V1(_) => {
                leaf::put_histogram(&mut self.histograms, HISTOGRAMS, bytes, Protocol::V1)?;
            }
            Source::V2(..) => put_bytes(&mut self.histograms, HISTOGRAMS, bytes),
        }
        Ok(())
    }

    /// Encodes the metadata of a series that carries samples beside it and nothing else, unless that of
    /// the series before was the same. False when there is none.
    #[inline]
    fn describe(&mut self, put: &Put<'_, '_>) -> Result<bool, Malformed> {
        let (raw, Source::V2(symbols, _)) = (put.series.metadata, put.source) else {
            return Ok(false);
        };
        if !raw.is_empty() && raw != self.metadata_source {
            let mut reader = Reader::new(raw);
            reader.key()?;
            let metadata = walk::Metadata::default().merge(reader.bytes()?)?;
            self.metadata.clear();
            self.put_metadata(metadata, symbols);
            self.metadata_source.clear();
            self.metadata_source.extend_from_slice(raw);
        }
        Ok(!raw.is_empty())
    }

    fn put_metadata(&mut self, metadata: walk::Metadata, symbols: &Symbols<'_>) {
        let [help, unit] = metadata.strings(symbols).map(Result::unwrap_or_default);
        let fields = &mut self.metadata_fields;
        fields.clear();
        for (field, value) in [
            (METADATA_TYPE, metadata.metric_type),
            (METADATA_HELP_REF, self.symbols.index(help).into()),
            (METADATA_UNIT_REF, self.symbols.index(unit).into()),
        ] {
            if value != 0 {
                put_key(fields, field, WireType::Varint);
                put_varint(fields, value);
            }
        }
        put_bytes(&mut self.metadata, METADATA, fields);
    }
}

impl ExemplarParts {
    /// The memory that it holds, in bytes.
    fn bytes(&self) -> usize {
        self.refs.capacity() + self.rest.capacity()
    }

    /// Appends an exemplar with its strings as references to `symbols`.
    fn put(
        &mut self,
        out: &mut Vec<u8>,
        symbols: &mut Interner,
        bytes: &[u8],
        source: Source<'_, '_>,
    ) -> Result<(), Malformed> {
        match source {
            Source::V1(_) => self.put_with(out, bytes, |refs, reader, _| {
                let label = walk_v1::label(reader.bytes()?)?.label;
                put_label(refs, symbols, &label);
                Ok(())
            }),
            // A series with a reference that leads nowhere was refused.
            Source::V2(table, _) => self.put_again(out, symbols, bytes, |reference| {
                table.get(reference).unwrap_or_default()
            }),
        }
    }

    /// Appends a V2 exemplar whose references `text` knows.
    fn put_again<'t>(
        &mut self,
        out: &mut Vec<u8>,
        symbols: &mut Interner,
        bytes: &[u8],
        text: impl Fn(u64) -> &'t [u8],
    ) -> Result<(), Malformed> {
        self.put_with(out, bytes, |refs, reader, wire_type| {
            varints(reader, wire_type, |reference| {
                put_varint(refs, symbols.index(text(reference)).into());
            })
        })
    }

    /// Appends an exemplar; `labels` reads its labels, field 1 in both versions, and appends their
    /// references.
    fn put_with<'b>(
        &mut self,
        out: &mut Vec<u8>,
        bytes: &'b [u8],
        mut labels: impl FnMut(&mut Vec<u8>, &mut Reader<'b>, WireType) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        self.refs.clear();
        self.rest.clear();
        let refs = &mut self.refs;
        leaf::exemplar(bytes, &mut self.rest, |reader, wire_type| {
            labels(refs, reader, wire_type)
        })?;
        let refs_len = match self.refs.len() {
            0 => 0,
            length => field_len(length),
        };
        put_key(out, EXEMPLARS, WireType::Len);
        put_varint(out, (refs_len + self.rest.len()) as u64);
        if refs_len > 0 {
            put_bytes(out, EXEMPLAR_LABELS, &self.refs);
        }
        out.extend_from_slice(&self.rest);
        Ok(())
    }
}

fn put_label(refs: &mut Vec<u8>, symbols: &mut Interner, label: &Label<'_>) {
    put_varint(refs, symbols.index(label.name).into());
    put_varint(refs, symbols.index(label.value).into());
}

/// Appends a series of its packed references and what it carries.
#[inline]
fn put_series<const N: usize>(out: &mut Vec<u8>, refs: &[u8], items: [&[u8]; N]) {
    const FRAMING_BYTES_MAX: usize = 22;
    let items_len: usize = items.iter().map(|items| items.len()).sum();
    let length = field_len(refs.len()) + items_len;
    out.reserve(FRAMING_BYTES_MAX + refs.len() + items_len);
    put_key(out, TIMESERIES, WireType::Len);
    put_varint(out, length as u64);
    put_bytes(out, LABELS_REFS, refs);
    items.iter().for_each(|items| out.extend_from_slice(items));
}
