//! Remote-write bodies for load: kube-like series, compressed once, moved forward at every use.
//!
//! A body's series never change (no churn); each use sets new values and one new timestamp in the
//! compressed bytes. Two bodies with different first series share none, so each keeps its own order
//! in time whoever sends the other. Benches and the demo use it too.

use std::collections::HashMap;

use bytes::Bytes;
use prost::Message;
use prost::encoding::encode_varint;

use super::kube::{self, Labels};
use super::snappy::Writer;
use crate::wire::Protocol;
use crate::wire::proto::{v1, v2};

pub use super::kube::LABELS_MIN;

/// What the bodies of one load have in common.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The message.
    pub protocol: Protocol,
    /// Series of a body; each has one sample.
    pub series_per_request: usize,
    /// Labels of a series, the metric name and `cluster` among them.
    pub labels: usize,
    /// Value of the `cluster` label; without it the series have none.
    pub cluster: Option<String>,
}

/// One body, sent again and again with newer samples.
pub struct Body {
    compressed: Vec<u8>,
    plain_bytes: usize,
    places: Places,
    values: Vec<f64>,
    timestamp_ms: i64,
}

/// What to overwrite in the compressed bytes, and how it gets there.
#[derive(Default)]
struct Places {
    values: Vec<usize>,
    /// The first sample's timestamp; the others refer to it.
    timestamp: Option<usize>,
}

// Field keys. `samples` has one number in both messages, and `labels` that of `labels_refs`.
const V1_TIMESERIES: u8 = 1 << 3 | 2;
const V2_SYMBOLS: u8 = 4 << 3 | 2;
const V2_TIMESERIES: u8 = 5 << 3 | 2;
const SERIES_LABELS: u8 = 1 << 3 | 2;
const SERIES_SAMPLES: u8 = 2 << 3 | 2;
const V2_SERIES_METADATA: u8 = 5 << 3 | 2;
const SAMPLE_VALUE: u8 = 1 << 3 | 1;
const SAMPLE_TIMESTAMP: u8 = 2 << 3;

/// Bytes of a varint between 2^35 and 2^42, which holds milliseconds from 1971 to 2109.
const TIMESTAMP_BYTES: usize = 6;

/// A sample with the key and size in front of it.
const SAMPLE_BYTES: usize = 3 + 8 + 1 + TIMESTAMP_BYTES;

impl Body {
    /// Makes the body whose series are numbered from `first_series`.
    pub fn new(shape: &Shape, first_series: usize) -> Self {
        let numbers = first_series..first_series + shape.series_per_request;
        let series: Vec<Labels> = numbers
            .map(|number| kube::series(number, shape.labels, shape.cluster.as_deref()))
            .collect();
        let mut writer = Writer::default();
        let mut places = match shape.protocol {
            Protocol::V1 => write_v1(&mut writer, &series),
            Protocol::V2 => write_v2(&mut writer, &series),
        };
        let compressed = writer.finish();
        places.shift(compressed.preamble_bytes);
        Self {
            compressed: compressed.bytes,
            plain_bytes: compressed.plain_bytes,
            values: (1_u32..).map(f64::from).take(series.len()).collect(),
            places,
            timestamp_ms: 0,
        }
    }

    /// Gives the next request: new values, and `now_ms` unless it is not later than the last one.
    pub fn next(&mut self, now_ms: i64) -> Bytes {
        self.timestamp_ms = now_ms.max(self.timestamp_ms + 1);
        if let Some(place) = self.places.timestamp {
            self.compressed[place..place + TIMESTAMP_BYTES]
                .copy_from_slice(&timestamp_varint(self.timestamp_ms));
        }
        for (place, value) in self.places.values.iter().zip(&mut self.values) {
            *value += 0.25;
            self.compressed[*place..*place + 8].copy_from_slice(&value.to_le_bytes());
        }
        Bytes::copy_from_slice(&self.compressed)
    }

    /// Samples of one request.
    pub fn samples(&self) -> usize {
        self.values.len()
    }

    /// Size of a request once decompressed.
    pub fn plain_bytes(&self) -> usize {
        self.plain_bytes
    }
}

impl Places {
    /// Writes a series' sample, whose bytes are set before each request.
    fn write_sample(&mut self, writer: &mut Writer) {
        let mut head = field(SERIES_SAMPLES, SAMPLE_BYTES - 2);
        head.push(SAMPLE_VALUE);
        writer.repeatable(&head);
        self.values.push(writer.patchable(&0_f64.to_le_bytes()));
        writer.repeatable(&[SAMPLE_TIMESTAMP]);
        if self.timestamp.is_some() {
            writer.repeatable(&[0; TIMESTAMP_BYTES]);
        } else {
            self.timestamp = Some(writer.patchable(&[0; TIMESTAMP_BYTES]));
        }
    }

    fn shift(&mut self, bytes: usize) {
        for place in self.values.iter_mut().chain(&mut self.timestamp) {
            *place += bytes;
        }
    }
}

fn write_v1(writer: &mut Writer, series: &[Labels]) -> Places {
    let mut places = Places::default();
    for labels in series {
        let labels: Vec<Vec<u8>> = labels.iter().map(v1_label).collect();
        let bytes = labels.iter().map(Vec::len).sum::<usize>() + SAMPLE_BYTES;
        writer.repeatable(&field(V1_TIMESERIES, bytes));
        for label in &labels {
            writer.repeatable(label);
        }
        places.write_sample(writer);
    }
    places
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

fn write_v2(writer: &mut Writer, series: &[Labels]) -> Places {
    let mut symbols = Symbols::default();
    symbols.reference("");
    let series: Vec<V2Series> = series
        .iter()
        .map(|labels| V2Series::new(labels, &mut symbols))
        .collect();
    for symbol in &symbols.in_order {
        writer.repeatable(&field(V2_SYMBOLS, symbol.len()));
        writer.repeatable(symbol.as_bytes());
    }
    let mut places = Places::default();
    for series in series {
        series.write(writer, &mut places);
    }
    places
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

/// The parts of a V2 series, encoded.
struct V2Series {
    /// One element a label: its name and value.
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

    fn write(&self, writer: &mut Writer, places: &mut Places) {
        let references_bytes = self.references.iter().map(Vec::len).sum();
        let references = field(SERIES_LABELS, references_bytes);
        let metadata = [
            field(V2_SERIES_METADATA, self.metadata.len()),
            self.metadata.clone(),
        ]
        .concat();
        let bytes = references.len() + references_bytes + SAMPLE_BYTES + metadata.len();
        writer.repeatable(&field(V2_TIMESERIES, bytes));
        writer.repeatable(&references);
        for pair in &self.references {
            writer.repeatable(pair);
        }
        places.write_sample(writer);
        writer.repeatable(&metadata);
    }
}

/// A field's key and the size of what follows.
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

    const NOW_MS: i64 = 1_764_000_000_000;

    fn shape(protocol: Protocol, cluster: Option<&str>) -> Shape {
        Shape {
            protocol,
            series_per_request: 500,
            labels: 14,
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
    fn v1_decodes_to_the_series_and_encodes_back_to_the_same_bytes() {
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
    fn v2_decodes_to_the_series_and_encodes_back_to_the_same_bytes() {
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
    fn moves_forward_even_when_the_clock_does_not() {
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
    fn compresses_to_less_than_twice_of_what_a_compressor_gives() {
        for protocol in [Protocol::V1, Protocol::V2] {
            let ours = Body::new(&shape(protocol, None), 0).next(NOW_MS);
            let theirs = snap::raw::Encoder::new()
                .compress_vec(&decompress(&ours))
                .unwrap();
            let bytes = (ours.len(), theirs.len());
            assert!(bytes.0 < 2 * bytes.1, "{protocol:?}: {bytes:?}");
        }
    }
}
