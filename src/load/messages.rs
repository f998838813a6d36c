//! Encodes the message of a body, and finds what each request overwrites in it.

use std::collections::HashMap;

use prost::Message;
use prost::encoding::encode_varint;

use super::kube;
use super::shape::{Extra, Labels, Shape, TURN};
use super::snappy::Role;
use crate::wire::Protocol;
use crate::wire::proto::{v1, v2};

/// A message whose values, timestamps and [`TURN`]s are to be overwritten.
#[derive(Default)]
pub(super) struct Plain {
    pub(super) bytes: Vec<u8>,
    /// Where in the message, and what, in the order of the message.
    pub(super) changes: Vec<(usize, Change)>,
    /// How many of them are values.
    pub(super) values: usize,
}

/// What a request overwrites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// A float; they are counted from 0.
    Value(usize),
    /// The timestamp of a sample with this place in its series.
    Timestamp(u8),
    /// The number of the request.
    Turn,
}

impl Change {
    /// The bytes that are overwritten.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Value(_) => 8,
            Self::Timestamp(_) => TIMESTAMP_BYTES,
            Self::Turn => TURN.len(),
        }
    }

    /// The role of the first byte. The others follow.
    fn first_role(self) -> Role {
        match self {
            Self::Value(_) => 0x10,
            Self::Timestamp(_) => 0x20,
            Self::Turn => 0x30,
        }
    }
}

/// Bytes of a varint from 2^35 to 2^42, which are the milliseconds of the years 1971 to 2109.
pub(super) const TIMESTAMP_BYTES: usize = 6;

impl Plain {
    /// What overwrites each byte.
    pub(super) fn roles(&self) -> Vec<Role> {
        let mut roles = vec![0; self.bytes.len()];
        for &(start, change) in &self.changes {
            let roles = &mut roles[start..start + change.bytes()];
            for (role, number) in roles.iter_mut().zip(change.first_role()..) {
                *role = number;
            }
        }
        roles
    }
}

/// Stands for timestamps until they are overwritten. Its bytes occur nowhere else in this order.
const TIMESTAMP_MS: i64 = 1_764_215_937_483;

/// The value that says that a series has ended (`value.StaleNaN` of Prometheus).
const STALE: u64 = 0x7ff0_0000_0000_0002;

const TRACE_ID: &str = "trace_id";

/// Encodes the message with the series from number `first` on.
pub(super) fn encode(shape: &Shape, first: usize) -> Plain {
    let series = (first..first + shape.series_per_request).map(|number| {
        let labels = shape.series(number);
        (number, labels)
    });
    let mut message = Plain::default();
    match shape.protocol {
        Protocol::V1 => message.put_v1(shape, series),
        Protocol::V2 => message.put_v2(shape, series),
    }
    message
}

/// The first value at a place: half of them are whole numbers, as counts are, and half are not, as
/// seconds.
pub(super) fn first_value(number: usize) -> f64 {
    let whole = number as f64 + 1.0;
    if number.is_multiple_of(2) {
        whole
    } else {
        100.0 * whole.ln()
    }
}

/// A part of a message.
enum Piece {
    Bytes(Vec<u8>),
    Value,
    Timestamp(u8),
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Value => 8,
            Self::Timestamp(_) => TIMESTAMP_BYTES,
        }
    }
}

/// Puts the key of a field and its length before its value.
fn field(key: u8, mut value: Vec<Piece>) -> Vec<Piece> {
    let bytes = value.iter().map(Piece::len).sum();
    value.insert(0, Piece::Bytes(head(key, bytes)));
    value
}

/// The key of a field and the length of its value.
fn head(key: u8, bytes: usize) -> Vec<u8> {
    let mut head = vec![key];
    encode_varint(bytes as u64, &mut head);
    head
}

/// The key of a field of which the value has a length of its own.
const fn nested(number: u8) -> u8 {
    number << 3 | 2
}

const fn double(number: u8) -> u8 {
    number << 3 | 1
}

const fn varint(number: u8) -> u8 {
    number << 3
}

impl Plain {
    fn put(&mut self, pieces: Vec<Piece>) {
        for piece in pieces {
            let offset = self.bytes.len();
            match piece {
                Piece::Bytes(bytes) => {
                    self.bytes.extend_from_slice(&bytes);
                    if bytes.ends_with(TURN.as_bytes()) {
                        let turn = self.bytes.len() - TURN.len();
                        self.changes.push((turn, Change::Turn));
                    }
                }
                Piece::Value => {
                    let number = self.values;
                    self.values += 1;
                    let first = first_value(number).to_le_bytes();
                    self.bytes.extend_from_slice(&first);
                    self.changes.push((offset, Change::Value(number)));
                }
                Piece::Timestamp(place) => {
                    let first = timestamp_varint(TIMESTAMP_MS + i64::from(place));
                    self.bytes.extend_from_slice(&first);
                    self.changes.push((offset, Change::Timestamp(place)));
                }
            }
        }
    }

    fn put_v1(&mut self, shape: &Shape, all: impl Iterator<Item = (usize, Labels)>) {
        for (number, labels) in all {
            let labels = labels.iter().map(|label| v1_label(nested(1), label));
            let mut series: Vec<Piece> = labels.map(Piece::Bytes).collect();
            series.extend(samples(shape, number, nested(4)));
            if shape.extra == Some(Extra::Exemplars) && Shape::is_of_the_share(number) {
                let label = (TRACE_ID.to_owned(), trace_id(number));
                let labels = vec![Piece::Bytes(v1_label(nested(1), &label))];
                series.extend(exemplar(nested(3), labels));
            }
            self.put(field(nested(1), series));
        }
    }

    fn put_v2(&mut self, shape: &Shape, all: impl Iterator<Item = (usize, Labels)>) {
        let mut symbols = Symbols::default();
        symbols.reference("");
        let all: Vec<_> = all
            .map(|(number, labels)| v2_series(shape, number, &labels, &mut symbols))
            .collect();
        for symbol in symbols.in_order {
            self.put(field(nested(4), vec![Piece::Bytes(symbol.into_bytes())]));
        }
        for series in all {
            self.put(field(nested(5), series));
        }
    }
}

fn v1_label(key: u8, (name, value): &(String, String)) -> Vec<u8> {
    let label = v1::Label {
        name: name.clone(),
        value: value.clone(),
    };
    let mut bytes = head(key, label.encoded_len());
    label.encode_raw(&mut bytes);
    bytes
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

    /// The references of a label.
    fn pair(&mut self, name: &str, value: &str) -> Piece {
        let mut pair = Vec::new();
        encode_varint(self.reference(name).into(), &mut pair);
        encode_varint(self.reference(value).into(), &mut pair);
        Piece::Bytes(pair)
    }
}

fn v2_series(shape: &Shape, number: usize, labels: &Labels, symbols: &mut Symbols) -> Vec<Piece> {
    let pairs = labels.iter().map(|(name, value)| symbols.pair(name, value));
    let mut series = field(nested(1), pairs.collect());
    series.extend(samples(shape, number, nested(3)));
    if shape.extra == Some(Extra::Exemplars) && Shape::is_of_the_share(number) {
        let label = symbols.pair(TRACE_ID, &trace_id(number));
        series.extend(exemplar(nested(4), field(nested(1), vec![label])));
    }
    let metric = labels.iter().find(|(name, _)| name == "__name__");
    let (kind, help) = kube::metadata(metric.map_or("", |(_, value)| value));
    let metadata = v2::Metadata {
        r#type: kind.into(),
        help_ref: symbols.reference(&help),
        unit_ref: 0,
    };
    let metadata = vec![Piece::Bytes(metadata.encode_to_vec())];
    series.extend(field(nested(5), metadata));
    series
}

/// The samples of a series, or its native histogram, which is a field with the key `histograms`.
fn samples(shape: &Shape, number: usize, histograms: u8) -> Vec<Piece> {
    let is_of_the_share = Shape::is_of_the_share(number);
    match shape.extra {
        Some(Extra::Histograms) if is_of_the_share => histogram(histograms, number),
        Some(Extra::StaleMarkers) if is_of_the_share => {
            sample(Piece::Bytes(STALE.to_le_bytes().to_vec()), 0)
        }
        _ => {
            let count = shape.samples_per_request() / shape.series_per_request;
            let places = (0_u8..).take(count);
            places
                .flat_map(|place| sample(Piece::Value, place))
                .collect()
        }
    }
}

fn sample(value: Piece, place: u8) -> Vec<Piece> {
    field(
        nested(2),
        vec![
            Piece::Bytes(vec![double(1)]),
            value,
            Piece::Bytes(vec![varint(2)]),
            Piece::Timestamp(place),
        ],
    )
}

fn exemplar(key: u8, mut exemplar: Vec<Piece>) -> Vec<Piece> {
    exemplar.extend([
        Piece::Bytes(vec![double(2)]),
        Piece::Value,
        Piece::Bytes(vec![varint(3)]),
        Piece::Timestamp(0),
    ]);
    field(key, exemplar)
}

/// Differs from series to series in all of its digits.
fn trace_id(number: usize) -> String {
    let half = (number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    format!("{half:016x}{:016x}", half.wrapping_mul(half | 1))
}

/// A native histogram as of a latency: two dozen buckets in two spans. Its fields have the same numbers
/// in V1 and V2.
fn histogram(key: u8, number: usize) -> Vec<Piece> {
    let (number, zeros) = (number as u64, number as u64 % 3);
    let buckets: Vec<u64> = (0..24).map(|it| 1 + (number + it * it) % 23).collect();
    let deltas = (0..buckets.len()).map(|it| {
        let before = if it == 0 { 0 } else { buckets[it - 1] };
        buckets[it].cast_signed() - before.cast_signed()
    });
    let span = |offset, length| v1::BucketSpan { offset, length };
    let rest = v1::Histogram {
        schema: 3,
        zero_threshold: f64::powi(2.0, -128),
        zero_count: Some(v1::histogram::ZeroCount::ZeroCountInt(zeros)),
        positive_spans: vec![span(-20, 16), span(4, 8)],
        positive_deltas: deltas.collect(),
        ..v1::Histogram::default()
    };
    let mut count = vec![varint(1)];
    encode_varint(zeros + buckets.iter().sum::<u64>(), &mut count);
    count.push(double(3));
    field(
        key,
        vec![
            Piece::Bytes(count),
            Piece::Value,
            Piece::Bytes(rest.encode_to_vec()),
            Piece::Bytes(vec![varint(15)]),
            Piece::Timestamp(0),
        ],
    )
}

/// Encodes a timestamp with the same number of bytes as all others.
pub(super) fn timestamp_varint(timestamp_ms: i64) -> [u8; TIMESTAMP_BYTES] {
    std::array::from_fn(|byte| {
        let [bits, ..] = (timestamp_ms >> (7 * byte)).to_le_bytes();
        if byte + 1 < TIMESTAMP_BYTES {
            bits | 0x80
        } else {
            bits & 0x7f
        }
    })
}
