//! The bodies of a load: messages with series like those of Kubernetes, compressed once and changed in place for
//! each request.
//!
//! The series of a body never change, so a load has no churn. A request gets new values and one new
//! timestamp, which are written into the compressed bytes. No two bodies of a load share a series,
//! so a connection keeps the samples of its series in time order without knowing of the others.

use std::collections::HashMap;

use bytes::Bytes;
use prost::Message;
use prost::encoding::encode_varint;

use super::kube::{self, Labels};
use super::shape::Shape;
use super::snappy::Encoder;
use crate::wire::Protocol;
use crate::wire::proto::{v1, v2};

/// A body that is sent again and again, each time with newer samples.
pub struct Body {
    compressed: Vec<u8>,
    plain_bytes: usize,
    offsets: Offsets,
    values: Vec<f64>,
    timestamp_ms: i64,
}

/// Where the bytes are that each request overwrites.
#[derive(Default)]
struct Offsets {
    values: Vec<usize>,
    /// The timestamp of the first sample. The others are back-references to it.
    timestamp: Option<usize>,
}

// Keys of fields. `samples` has one number in V1 and V2; so have `labels` and `labels_refs`.
const V1_TIMESERIES: u8 = 1 << 3 | 2;
const V2_SYMBOLS: u8 = 4 << 3 | 2;
const V2_TIMESERIES: u8 = 5 << 3 | 2;
const SERIES_LABELS: u8 = 1 << 3 | 2;
const SERIES_SAMPLES: u8 = 2 << 3 | 2;
const V2_SERIES_METADATA: u8 = 5 << 3 | 2;
const SAMPLE_VALUE: u8 = 1 << 3 | 1;
const SAMPLE_TIMESTAMP: u8 = 2 << 3;

/// Bytes of a varint from 2^35 to 2^42, which are the milliseconds of the years 1971 to 2109.
const TIMESTAMP_BYTES: usize = 6;

/// Bytes of a sample, with the key and the length before it.
const SAMPLE_BYTES: usize = 3 + 8 + 1 + TIMESTAMP_BYTES;

/// Shorter strings repeat whole or not at all.
const LONG_BYTES: usize = 96;

impl Body {
    /// Makes the body whose series have the numbers from `first_series` on.
    pub fn new(shape: &Shape, first_series: usize) -> Self {
        let numbers = first_series..first_series + shape.series_per_request;
        let series: Vec<Labels> = numbers.map(|number| shape.series(number)).collect();
        let mut encoder = Encoder::default();
        let mut offsets = match shape.protocol {
            Protocol::V1 => encode_v1(&mut encoder, &series),
            Protocol::V2 => encode_v2(&mut encoder, &series),
        };
        let compressed = encoder.finish();
        offsets.shift(compressed.preamble_bytes);
        Self {
            compressed: compressed.bytes,
            plain_bytes: compressed.plain_bytes,
            values: (1_u32..).map(f64::from).take(series.len()).collect(),
            offsets,
            timestamp_ms: 0,
        }
    }

    /// Returns the body of the next request, with new values and a new timestamp: `now_ms`, or one
    /// millisecond after the last timestamp if the clock has not moved on.
    pub fn next(&mut self, now_ms: i64) -> Bytes {
        self.timestamp_ms = now_ms.max(self.timestamp_ms + 1);
        if let Some(offset) = self.offsets.timestamp {
            self.compressed[offset..offset + TIMESTAMP_BYTES]
                .copy_from_slice(&timestamp_varint(self.timestamp_ms));
        }
        for (&offset, value) in self.offsets.values.iter().zip(&mut self.values) {
            *value += 0.25;
            self.compressed[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
        }
        Bytes::copy_from_slice(&self.compressed)
    }

    /// The number of samples of a request.
    pub fn samples(&self) -> usize {
        self.values.len()
    }

    /// The size of a decompressed request.
    pub fn plain_bytes(&self) -> usize {
        self.plain_bytes
    }
}

impl Offsets {
    /// Encodes the sample of a series and keeps where the bytes are that a request overwrites.
    fn encode_sample(&mut self, encoder: &mut Encoder) {
        let mut head = field(SERIES_SAMPLES, SAMPLE_BYTES - 2);
        head.push(SAMPLE_VALUE);
        encoder.repeatable(&head);
        self.values.push(encoder.patchable(&0_f64.to_le_bytes()));
        encoder.repeatable(&[SAMPLE_TIMESTAMP]);
        if self.timestamp.is_some() {
            encoder.repeatable(&[0; TIMESTAMP_BYTES]);
        } else {
            self.timestamp = Some(encoder.patchable(&[0; TIMESTAMP_BYTES]));
        }
    }

    fn shift(&mut self, bytes: usize) {
        for offset in self.values.iter_mut().chain(&mut self.timestamp) {
            *offset += bytes;
        }
    }
}

fn encode_v1(encoder: &mut Encoder, series: &[Labels]) -> Offsets {
    let mut offsets = Offsets::default();
    for labels in series {
        let labels: Vec<Vec<u8>> = labels.iter().map(v1_label).collect();
        let bytes = labels.iter().map(Vec::len).sum::<usize>() + SAMPLE_BYTES;
        encoder.repeatable(&field(V1_TIMESERIES, bytes));
        for label in &labels {
            encode_text(encoder, label);
        }
        offsets.encode_sample(encoder);
    }
    offsets
}

/// Encodes a string, or bytes with one. Long ones repeat in parts, as the slices of an `id` do.
fn encode_text(encoder: &mut Encoder, text: &[u8]) {
    if text.len() < LONG_BYTES {
        return encoder.repeatable(text);
    }
    for part in text.split_inclusive(|byte| *byte == b'/') {
        encoder.repeatable(part);
    }
}

fn v1_label((name, value): &(String, String)) -> Vec<u8> {
    let label = v1::Label {
        name: name.clone(),
        value: value.clone(),
    };
    let mut bytes = field(SERIES_LABELS, label.encoded_len());
    label.encode_raw(&mut bytes);
    bytes
}

fn encode_v2(encoder: &mut Encoder, series: &[Labels]) -> Offsets {
    let mut symbols = Symbols::default();
    symbols.reference("");
    let series: Vec<V2Series> = series
        .iter()
        .map(|labels| V2Series::new(labels, &mut symbols))
        .collect();
    for symbol in &symbols.in_order {
        encoder.repeatable(&field(V2_SYMBOLS, symbol.len()));
        encode_text(encoder, symbol.as_bytes());
    }
    let mut offsets = Offsets::default();
    for series in series {
        series.encode(encoder, &mut offsets);
    }
    offsets
}

#[derive(Default)]
struct Symbols {
    in_order: Vec<String>,
    references: HashMap<String, u32>,
}

impl Symbols {
    fn reference(&mut self, symbol: &str) -> u32 {
        if let Some(reference) = self.references.get(symbol) {
            return *reference;
        }
        let reference = u32::try_from(self.in_order.len()).expect("a body has few symbols");
        self.in_order.push(symbol.to_owned());
        self.references.insert(symbol.to_owned(), reference);
        reference
    }
}

/// The encoded parts of a V2 series.
struct V2Series {
    /// One element for each label: the references of its name and value.
    references: Vec<Vec<u8>>,
    metadata: Vec<u8>,
}

impl V2Series {
    fn new(labels: &Labels, symbols: &mut Symbols) -> Self {
        let mut references = Vec::with_capacity(labels.len());
        for (name, value) in labels {
            let mut pair = Vec::new();
            encode_varint(symbols.reference(name).into(), &mut pair);
            encode_varint(symbols.reference(value).into(), &mut pair);
            references.push(pair);
        }
        let metric = labels.iter().find(|(name, _)| name == "__name__");
        let (kind, help) = kube::metadata(metric.map_or("", |(_, value)| value));
        let help_ref = symbols.reference(&help);
        let metadata = v2::Metadata {
            r#type: kind.into(),
            help_ref,
            unit_ref: 0,
        };
        Self {
            references,
            metadata: metadata.encode_to_vec(),
        }
    }

    fn encode(&self, encoder: &mut Encoder, offsets: &mut Offsets) {
        let references_bytes = self.references.iter().map(Vec::len).sum();
        let references = field(SERIES_LABELS, references_bytes);
        let metadata = [
            field(V2_SERIES_METADATA, self.metadata.len()),
            self.metadata.clone(),
        ]
        .concat();
        let bytes = references.len() + references_bytes + SAMPLE_BYTES + metadata.len();
        encoder.repeatable(&field(V2_TIMESERIES, bytes));
        encoder.repeatable(&references);
        for pair in &self.references {
            encoder.repeatable(pair);
        }
        offsets.encode_sample(encoder);
        encoder.repeatable(&metadata);
    }
}

/// The key of a field and the length of its value.
fn field(key: u8, bytes: usize) -> Vec<u8> {
    let mut field = vec![key];
    encode_varint(bytes as u64, &mut field);
    field
}

fn timestamp_varint(timestamp_ms: i64) -> [u8; TIMESTAMP_BYTES] {
    std::array::from_fn(|byte| {
        let [bits, ..] = (timestamp_ms >> (7 * byte)).to_le_bytes();
        if byte + 1 < TIMESTAMP_BYTES {
            bits | 0x80
        } else {
            bits & 0x7f
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::shape::Mix;

    const NOW_MS: i64 = 1_764_000_000_000;

    fn shape(protocol: Protocol, cluster: Option<&str>) -> Shape {
        Shape {
            protocol,
            series_per_request: 500,
            mix: Mix::Uniform { labels: 14 },
            long_label_bytes: None,
            cluster: cluster.map(str::to_owned),
        }
    }

    fn decompress(body: &[u8]) -> Vec<u8> {
        let mut plain = vec![0; snap::raw::decompress_len(body).unwrap()];
        snap::raw::Decoder::new()
            .decompress(body, &mut plain)
            .unwrap();
        plain
    }

    fn decode_v1(body: &[u8]) -> v1::WriteRequest {
        v1::WriteRequest::decode(&*decompress(body)).unwrap()
    }

    #[test]
    fn v1_body_decodes_to_its_series_and_encodes_to_the_same_bytes() {
        let mut body = Body::new(&shape(Protocol::V1, Some("production")), 1_000);
        let bytes = body.next(NOW_MS);
        let request = decode_v1(&bytes);
        assert_eq!(request.encode_to_vec(), decompress(&bytes));
        assert_eq!(request.timeseries.len(), 500);
        for (number, series) in (1_000..).zip(&request.timeseries) {
            let expected = kube::series(number, 14, Some("production"));
            let labels = series
                .labels
                .iter()
                .map(|label| (label.name.clone(), label.value.clone()));
            assert_eq!(labels.collect::<Labels>(), expected);
            assert_eq!(series.samples.len(), 1);
            assert_eq!(series.samples[0].timestamp, NOW_MS);
        }
    }

    #[test]
    fn v2_body_decodes_to_its_series_and_encodes_to_the_same_bytes() {
        let mut body = Body::new(&shape(Protocol::V2, None), 0);
        let plain = decompress(&body.next(NOW_MS));
        let request = v2::Request::decode(&*plain).unwrap();
        assert_eq!(request.encode_to_vec(), plain);
        assert_eq!(request.symbols[0], "");
        let symbol = |reference: u32| request.symbols[reference as usize].clone();
        for (number, series) in (0..).zip(&request.timeseries) {
            let pairs = series.labels_refs.chunks(2);
            let labels: Labels = pairs
                .map(|pair| (symbol(pair[0]), symbol(pair[1])))
                .collect();
            assert_eq!(labels, kube::series(number, 14, None));
            assert_eq!(series.samples[0].timestamp, NOW_MS);
            assert!(series.metadata.is_some());
        }
    }

    #[test]
    fn timestamps_increase_even_if_the_clock_does_not() {
        let mut body = Body::new(&shape(Protocol::V1, None), 0);
        let requests =
            [NOW_MS, NOW_MS, NOW_MS - 5, NOW_MS + 60_000].map(|now| decode_v1(&body.next(now)));
        let timestamps = requests
            .each_ref()
            .map(|request| request.timeseries[7].samples[0].timestamp);
        assert_eq!(
            timestamps,
            [NOW_MS, NOW_MS + 1, NOW_MS + 2, NOW_MS + 60_000]
        );
        let values = requests
            .each_ref()
            .map(|request| request.timeseries[7].samples[0].value);
        assert!(
            values.is_sorted_by(|left, right| left < right),
            "{values:?}"
        );
    }

    #[test]
    fn compresses_to_less_than_twice_the_bytes_of_a_real_compressor() {
        for (protocol, mix) in [
            (Protocol::V1, Mix::Uniform { labels: 14 }),
            (Protocol::V2, Mix::Uniform { labels: 14 }),
            (Protocol::V1, Mix::Cluster),
            (Protocol::V2, Mix::Cluster),
        ] {
            let shape = Shape {
                mix,
                series_per_request: 2_000,
                ..shape(protocol, None)
            };
            let ours = Body::new(&shape, 0).next(NOW_MS);
            let theirs = snap::raw::Encoder::new()
                .compress_vec(&decompress(&ours))
                .unwrap();
            let bytes = (ours.len(), theirs.len());
            assert!(bytes.0 < 2 * bytes.1, "{protocol:?}, {mix:?}: {bytes:?}");
        }
    }
}
