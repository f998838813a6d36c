//! What a encoder must make of series, said a second time, slowly and in other words.
//!
//! The fuzz targets include this file.

use super::mirror::{
    Payload, PlainExemplar, PlainHistogram, PlainLabels, PlainMessage, PlainMetadata, PlainSample,
    PlainSeries, V2Request,
};
use crate::wire::Protocol;
use crate::wire::encoder::{Encoded, Lost, Message, Metadata};
use crate::wire::protobuf::{Reader, WireType};
use prost::Message as _;

/// The schema of histograms with custom buckets.
const CUSTOM_BUCKETS: i32 = -53;

/// What is to be encoded, as plain messages.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Translation {
    pub(crate) message: PlainMessage,
    pub(crate) side: PlainMessage,
    pub(crate) lost: Lost,
    merged_metadata: u64,
}

impl Translation {
    /// What `kept`, series and metadata of the version `from`, must become.
    pub(crate) fn of(kept: PlainMessage, from: Protocol, to: Protocol, metadata: Metadata) -> Self {
        match (from, to) {
            (_, Protocol::V1) => Self::downgrade(kept),
            (_, Protocol::V2) => Self::upgrade(kept, from, metadata),
        }
    }

    fn downgrade(kept: PlainMessage) -> Self {
        let mut translation = Self::default();
        translation.message.metadata = kept.metadata;
        for series in kept.series {
            let nothing_before = series.payload == Payload::default();
            let payload = translation.lose(series.payload);
            if nothing_before || payload != Payload::default() {
                let series = PlainSeries::new(series.labels, payload);
                translation.message.series.push(series);
            }
        }
        translation
    }

    /// Takes from a series what V1 has no place for.
    fn lose(&mut self, mut payload: Payload) -> Payload {
        let lost = &mut self.lost;
        lost.metadata += u64::from(payload.metadata.take().is_some());
        let histograms = payload.histograms.len();
        payload.histograms.retain(|it| it.schema != CUSTOM_BUCKETS);
        lost.custom_buckets += (histograms - payload.histograms.len()) as u64;
        let samples = payload.samples.iter_mut().map(|it| &mut it.start_timestamp);
        let histograms = payload.histograms.iter_mut();
        for start_timestamp in samples.chain(histograms.map(|it| &mut it.start_timestamp)) {
            lost.start_timestamps += u64::from(std::mem::take(start_timestamp) != 0);
        }
        payload
    }

    fn upgrade(kept: PlainMessage, from: Protocol, metadata: Metadata) -> Self {
        let mut translation = Self::default();
        let mut alone = Vec::new();
        for PlainSeries {
            labels, payload, ..
        } in kept.series
        {
            let (floats, histograms) =
                (!payload.samples.is_empty(), !payload.histograms.is_empty());
            let series = &mut translation.message.series;
            if floats && histograms {
                let first = Payload {
                    histograms: Vec::new(),
                    ..payload.clone()
                };
                let second = Payload {
                    histograms: payload.histograms,
                    ..Payload::default()
                };
                series.push(PlainSeries::new(labels.clone(), first));
                series.push(PlainSeries::new(labels, second));
            } else if floats || histograms {
                series.push(PlainSeries::new(labels, payload));
            } else if !payload.exemplars.is_empty() {
                alone.push((labels, payload));
            } else if from == Protocol::V2 {
                series.push(PlainSeries::new(labels, payload));
            }
        }
        for (labels, payload) in alone {
            translation.fold(labels, payload);
        }
        match metadata {
            Metadata::Forward => translation.side.metadata = kept.metadata,
            Metadata::Drop => translation.lost.metadata += kept.metadata.len() as u64,
        }
        translation
    }

    /// Puts exemplars without a sample into the first series of the same labels that has one.
    fn fold(&mut self, labels: Option<PlainLabels>, mut payload: Payload) {
        let mut series = self.message.series.iter_mut();
        let sampled = |payload: &Payload| payload.samples.len() + payload.histograms.len() > 0;
        let home = series.find(|series| series.labels == labels && sampled(&series.payload));
        // The description of such a series is that of its home, if that has one.
        let described = home
            .as_ref()
            .is_some_and(|home| home.payload.metadata.is_some());
        let metadata = payload.metadata.take();
        let count = match described {
            true => &mut self.merged_metadata,
            false => &mut self.lost.metadata,
        };
        *count += u64::from(metadata.is_some());
        match home {
            Some(home) => {
                let mut whole = std::mem::take(&mut home.payload);
                whole.exemplars.extend(payload.exemplars);
                *home = PlainSeries::new(labels, whole);
            }
            None => self.side.series.push(PlainSeries::new(labels, payload)),
        }
    }
}

/// Panics unless `encoded` is exactly what `kept` must become.
pub(crate) fn check(
    kept: PlainMessage,
    from: Protocol,
    to: Protocol,
    metadata: Metadata,
    encoded: &Encoded<'_>,
) {
    let expected = Translation::of(kept, from, to, metadata);
    let actual = Translation {
        message: plain(to, &encoded.message),
        side: plain(Protocol::V1, &encoded.side),
        lost: encoded.lost,
        merged_metadata: encoded.merged_metadata,
    };
    assert_eq!(actual, expected, "{from:?} to {to:?}, {metadata:?}");
    for (protocol, message) in [(to, &encoded.message), (Protocol::V1, &encoded.side)] {
        check_layout(protocol, message.bytes, from);
        if from != protocol {
            check_leaves(protocol, message.bytes);
        }
    }
    if to == Protocol::V2 {
        check_canonical(encoded.message.bytes, from);
    }
}

/// Decodes a message, whose counts must be true.
pub(crate) fn plain(protocol: Protocol, message: &Message<'_>) -> PlainMessage {
    let plain = PlainMessage::decode(protocol, message.bytes).expect("what is encoded decodes");
    assert_eq!(plain.counts(), message.counts, "{plain:?}");
    plain
}

/// The message and its series hold the fields of the schema and no other, those of a series in
/// the order of their numbers.
fn check_layout(protocol: Protocol, message: &[u8], from: Protocol) {
    let (series_field, defined, labels) = match protocol {
        Protocol::V1 => (1, 1..=4, 1),
        Protocol::V2 => (5, 1..=5, 1),
    };
    let top: Vec<u32> = fields(message).map(|(field, _)| field).collect();
    match protocol {
        Protocol::V1 => assert!(top.iter().all(|field| [1, 3].contains(field)), "{top:?}"),
        Protocol::V2 => assert!(
            top.is_sorted() && top.iter().all(|field| [4, 5].contains(field)),
            "{top:?}"
        ),
    }
    for (_, series) in fields(message).filter(|(field, _)| *field == series_field) {
        let numbers: Vec<u32> = fields(series).map(|(field, _)| field).collect();
        assert!(
            numbers.is_sorted(),
            "{numbers:?} of {protocol:?} from {from:?}"
        );
        assert!(numbers.iter().all(|field| defined.contains(field)));
        if protocol == Protocol::V1 {
            for (_, label) in fields(series).filter(|(field, _)| *field == labels) {
                let numbers: Vec<u32> = fields(label).map(|(field, _)| field).collect();
                assert_eq!(numbers, [1, 2], "a label");
            }
        }
    }
}

/// Nothing that the other version does not define came across.
fn check_leaves(protocol: Protocol, message: &[u8]) {
    let (series_field, exemplars, histograms) = match protocol {
        Protocol::V1 => (1, 3, 4),
        Protocol::V2 => (5, 4, 3),
    };
    for (_, series) in fields(message).filter(|(field, _)| *field == series_field) {
        for (field, leaf) in fields(series) {
            let defined = match field {
                2 => 1..=2,
                field if field == exemplars => 1..=3,
                field if field == histograms => 1..=16,
                _ => continue,
            };
            for (number, _) in fields(leaf) {
                assert!(
                    defined.contains(&number),
                    "{number} in {field}, {protocol:?}"
                );
            }
        }
    }
}

/// A table without a string too many, and series as the specification of V2 wants them.
fn check_canonical(message: &[u8], from: Protocol) {
    let request = V2Request::decode(message).expect("it was decoded before");
    assert_eq!(request.symbols.is_empty(), request.timeseries.is_empty());
    if let Some(first) = request.symbols.first() {
        assert_eq!(first.as_slice(), b"");
    }
    let distinct: std::collections::HashSet<_> = request.symbols.iter().collect();
    assert_eq!(distinct.len(), request.symbols.len(), "each string once");
    let mut referenced = vec![false; request.symbols.len()];
    // The first is always wanted.
    referenced
        .iter_mut()
        .take(1)
        .for_each(|first| *first = true);
    let mut refer = |reference: &u32| referenced[*reference as usize] = true;
    for series in &request.timeseries {
        assert!(series.labels_refs.len().is_multiple_of(2));
        series.labels_refs.iter().for_each(&mut refer);
        for exemplar in &series.exemplars {
            assert!(exemplar.labels_refs.len().is_multiple_of(2));
            exemplar.labels_refs.iter().for_each(&mut refer);
        }
        if let Some(metadata) = &series.metadata {
            [metadata.help_ref, metadata.unit_ref]
                .iter()
                .for_each(&mut refer);
        }
        let (floats, histograms) = (!series.samples.is_empty(), !series.histograms.is_empty());
        assert!(!(floats && histograms), "{series:?}");
        let empty = from == Protocol::V2 && series.exemplars.is_empty();
        assert!(floats || histograms || empty, "{series:?}");
    }
    let unused: Vec<_> = referenced.iter().zip(&request.symbols).collect();
    assert!(referenced.iter().all(|used| *used), "{unused:?}");
}

/// The fields of a message that is well-formed, with the bytes of those that are length-delimited.
pub(crate) fn fields(bytes: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    let mut reader = Reader::new(bytes);
    std::iter::from_fn(move || {
        let (field, wire_type) = reader.key().expect("it is well-formed")?;
        let bytes = match wire_type {
            WireType::Len => reader.bytes().expect("it is well-formed"),
            _ => {
                reader.skip(wire_type).expect("it is well-formed");
                &[]
            }
        };
        Some((field, bytes))
    })
}

/// All that messages carry, a list a kind, in the order of the messages.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Items {
    pub(crate) samples: Vec<(Option<PlainLabels>, PlainSample)>,
    pub(crate) histograms: Vec<(Option<PlainLabels>, PlainHistogram)>,
    pub(crate) exemplars: Vec<(Option<PlainLabels>, PlainExemplar)>,
    pub(crate) metadata: Vec<(Option<PlainLabels>, PlainMetadata)>,
    /// V1 metadata entries, encoded.
    pub(crate) families: Vec<Vec<u8>>,
    /// The labels of series with nothing in them.
    pub(crate) empty: Vec<Option<PlainLabels>>,
}

impl Items {
    /// Takes what a message carries in.
    pub(crate) fn add(&mut self, message: &PlainMessage) {
        for series in &message.series {
            let (labels, payload) = (&series.labels, &series.payload);
            extend(&mut self.samples, labels, &payload.samples);
            extend(&mut self.histograms, labels, &payload.histograms);
            extend(&mut self.exemplars, labels, &payload.exemplars);
            extend(&mut self.metadata, labels, payload.metadata.as_slice());
            if *payload == Payload::default() {
                self.empty.push(labels.clone());
            }
        }
        self.families.extend(message.metadata.iter().cloned());
    }

    /// What of it either version has a place for.
    pub(crate) fn held_by_both(mut self) -> Self {
        self.samples
            .iter_mut()
            .for_each(|(_, sample)| sample.start_timestamp = 0);
        self.histograms
            .retain(|(_, histogram)| histogram.schema != CUSTOM_BUCKETS);
        self.histograms
            .iter_mut()
            .for_each(|(_, histogram)| histogram.start_timestamp = 0);
        self.metadata.clear();
        self.empty.clear();
        self
    }

    /// The same in an order that does not depend on that of the series.
    pub(crate) fn sorted(mut self) -> Self {
        self.samples.sort();
        self.histograms.sort();
        self.exemplars.sort();
        self.metadata.sort();
        self.families.sort();
        self.empty.sort();
        self
    }
}

impl<'m> FromIterator<&'m PlainMessage> for Items {
    fn from_iter<I: IntoIterator<Item = &'m PlainMessage>>(messages: I) -> Self {
        let mut items = Self::default();
        messages.into_iter().for_each(|message| items.add(message));
        items
    }
}

fn extend<T: Clone>(
    list: &mut Vec<(Option<PlainLabels>, T)>,
    labels: &Option<PlainLabels>,
    items: &[T],
) {
    list.extend(items.iter().map(|item| (labels.clone(), item.clone())));
}
