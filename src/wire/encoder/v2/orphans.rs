//! Orphan exemplars: series that hold exemplars and no sample.
//!
//! Prometheus sends exemplars in a series of their own, without samples, and its V2 receiver
//! refuses such a series (`storage/remote/write_handler.go`, `appendV2`). So they are held back
//! and put into the series of the same labels. Those without such a series go into the V1 message
//! beside.

use std::collections::HashMap;

use crate::wire::item::Item;
use crate::wire::protobuf::{Malformed, Reader, put_varint};
use crate::wire::v2::{HISTOGRAMS, METADATA, SAMPLES};
use crate::wire::{Counts, Kind, Label};

use super::super::interner::Interner;
use super::super::{Lost, Put, v1};
use super::{ExemplarParts, put_label, put_series};

/// The series that are held back.
#[derive(Debug, Default)]
pub(super) struct OrphanExemplars {
    /// They are encoded as in the message, but refer to `symbols`: the message may not need their
    /// strings.
    series: Vec<u8>,
    symbols: Interner,
    /// Which of them had metadata.
    described: Vec<bool>,
    /// The references of the series at hand.
    refs: Vec<u8>,
    exemplars: Vec<u8>,
    exemplar: ExemplarParts,
}

/// What [`OrphanExemplars::fold`] did.
#[derive(Debug, Default)]
pub(in super::super) struct Folded {
    /// Exemplars that went into the V1 message beside.
    pub(in super::super) exemplars_aside: u64,
    /// Metadata of orphans that went into a series with its own.
    pub(in super::super) merged_metadata: u64,
}

/// An orphan and what became of it.
struct Orphan<'h> {
    refs: &'h [u8],
    exemplars: &'h [u8],
    described: bool,
    matched: Match,
}

/// The series of the same labels and with samples, which takes the exemplars.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Match {
    None,
    Found { described: bool },
}

impl OrphanExemplars {
    pub(super) fn clear(&mut self) {
        self.series.clear();
        self.symbols.clear();
        self.described.clear();
    }

    /// The memory that it holds, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let buffers = [&self.series, &self.refs, &self.exemplars];
        let buffers: usize = buffers.iter().map(|buffer| buffer.capacity()).sum();
        buffers + self.symbols.capacity() + self.described.capacity() + self.exemplar.bytes()
    }

    /// Keeps a series for [`Self::fold`], and counts its exemplars.
    pub(super) fn hold(&mut self, put: &Put<'_, '_>, counts: &mut Counts) -> Result<(), Malformed> {
        let (symbols, refs) = (&mut self.symbols, &mut self.refs);
        refs.clear();
        put.each_label(|label| put_label(refs, symbols, &label));
        self.exemplars.clear();
        let mut described = false;
        for item in put.items() {
            match item? {
                Item::Exemplar(bytes) => {
                    let out = &mut self.exemplars;
                    self.exemplar.put(out, symbols, bytes, put.source)?;
                    counts.add(Kind::Exemplar, 1);
                }
                Item::Metadata(_) => described = true,
                Item::Sample(_) | Item::Histogram(_) | Item::Other => {}
            }
        }
        put_series(&mut self.series, refs, [&self.exemplars]);
        self.described.push(described);
        Ok(())
    }

    /// Puts each orphan into the first of `series` of the same labels that has samples, and those
    /// without a match into `side`. The metadata of an orphan is lost, unless the series that takes it
    /// has its own.
    pub(super) fn fold(
        &mut self,
        series: &mut Vec<u8>,
        symbols: &mut Interner,
        side: &mut v1::Encoder,
        lost: &mut Lost,
    ) -> Result<Folded, Malformed> {
        let mut folded = Folded::default();
        if self.series.is_empty() {
            return Ok(folded);
        }
        let Self {
            series: held,
            symbols: held_symbols,
            described,
            exemplars: collected,
            exemplar,
            ..
        } = self;
        let text = |index| held_symbols.text(index);
        let mut orphans = Vec::with_capacity(described.len());
        for (series, described) in entries(held).zip(described) {
            let (refs, exemplars) = series?;
            orphans.push(Orphan {
                refs,
                exemplars,
                described: *described,
                matched: Match::None,
            });
        }
        let mut waiting = waiting(&orphans, held_symbols, symbols)?;
        let mut out = Vec::with_capacity(series.len() + held.len());
        for series in entries(series) {
            let (refs, items) = series?;
            let waiting = if has_samples(items) {
                waiting.remove(refs).unwrap_or_default()
            } else {
                Vec::new()
            };
            if waiting.is_empty() {
                put_series(&mut out, refs, [items]);
                continue;
            }
            let (items, metadata) = split_metadata(items)?;
            collected.clear();
            for index in waiting {
                let orphan = &mut orphans[index];
                orphan.matched = Match::Found {
                    described: !metadata.is_empty(),
                };
                for bytes in exemplars(orphan.exemplars) {
                    exemplar.put_again(collected, symbols, bytes?, text)?;
                }
            }
            put_series(&mut out, refs, [items, collected, metadata]);
        }
        for orphan in &orphans {
            let metadata = match orphan.matched {
                Match::Found { described: true } => &mut folded.merged_metadata,
                Match::Found { described: false } | Match::None => &mut lost.metadata,
            };
            *metadata += u64::from(orphan.described);
            if orphan.matched == Match::None {
                let labels = labels(orphan.refs, held_symbols)?;
                let exemplars = exemplars(orphan.exemplars);
                folded.exemplars_aside += side.put_exemplars(&labels, exemplars, text)?;
            }
        }
        *series = out;
        Ok(folded)
    }
}

/// The series of a buffer that [`put_series`] filled: references and items.
fn entries(series: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), Malformed>> {
    let mut reader = Reader::new(series);
    std::iter::from_fn(move || {
        if reader.rest().is_empty() {
            return None;
        }
        let mut next = || {
            reader.key()?;
            let mut series = Reader::new(reader.bytes()?);
            series.key()?;
            Ok((series.bytes()?, series.rest()))
        };
        Some(next())
    })
}

/// True for items that begin with a sample or a histogram.
fn has_samples(items: &[u8]) -> bool {
    let first = Reader::new(items).key();
    matches!(first, Ok(Some((SAMPLES | HISTOGRAMS, _))))
}

/// Items up to the metadata, and these.
fn split_metadata(items: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let mut reader = Reader::new(items);
    loop {
        let place = items.len() - reader.rest().len();
        match reader.key()? {
            Some((METADATA, _)) | None => return Ok(items.split_at(place)),
            Some((_, wire_type)) => reader.skip(wire_type)?,
        }
    }
}

/// The exemplars that items alone consist of.
fn exemplars(items: &[u8]) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    let mut reader = Reader::new(items);
    std::iter::from_fn(move || match reader.key() {
        Ok(None) => None,
        Ok(Some(_)) => Some(reader.bytes()),
        Err(malformed) => Some(Err(malformed)),
    })
}

/// The labels of packed references.
fn labels<'s>(refs: &[u8], symbols: &'s Interner) -> Result<Vec<Label<'s>>, Malformed> {
    let mut labels = Vec::new();
    let mut reader = Reader::new(refs);
    while !reader.rest().is_empty() {
        let name = symbols.text(reader.varint()?);
        let value = symbols.text(reader.varint()?);
        labels.push(Label { name, value });
    }
    Ok(labels)
}

/// The places of orphans by the references that a series of their labels has in `table`. Those whose
/// strings are not all in it have none.
fn waiting(
    orphans: &[Orphan<'_>],
    symbols: &Interner,
    table: &Interner,
) -> Result<HashMap<Vec<u8>, Vec<usize>>, Malformed> {
    let known: Vec<Option<u32>> = symbols.texts().map(|text| table.find(text)).collect();
    let mut waiting: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
    'orphans: for (index, orphan) in orphans.iter().enumerate() {
        let mut refs = Vec::with_capacity(orphan.refs.len());
        let mut reader = Reader::new(orphan.refs);
        while !reader.rest().is_empty() {
            let place = usize::try_from(reader.varint()?).ok();
            let Some(reference) = place.and_then(|place| known.get(place).copied().flatten())
            else {
                continue 'orphans;
            };
            put_varint(&mut refs, reference.into());
        }
        waiting.entry(refs).or_default().push(index);
    }
    Ok(waiting)
}
