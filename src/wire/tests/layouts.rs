//! Messages of [crowds](super::crowds), laid out byte by byte: as every encoder does it, and in each way
//! that a decoder takes as well.
//!
//! The fuzz targets include this file.

use std::ops::Range;

use prost::Message as _;

use super::crowds::{Crowd, Own, bodies};
use super::draw::Draw;
use super::mirror::PlainLabels;
use super::translation::fields;
use crate::wire::protobuf::{put_bytes, put_varint};
use crate::wire::{Protocol, proto};

/// A time before that of all requests.
const TIMESTAMP: i64 = 1_700_000_000_000;

/// One after the time of all requests.
const AHEAD: i64 = 1_999_000_000_000;

/// A message of so many series.
pub(crate) fn message(
    protocol: Protocol,
    own: &Own,
    crowd: &mut Crowd,
    size: usize,
    draw: &mut Draw<'_>,
) -> Vec<u8> {
    let oddity = *draw.pick(&[0, 0, 20, 100, 400, 2000]);
    let mut layout = Layout { oddity, draw };
    let mut message = match protocol {
        _ if layout.draw.once_in(24) => layout.captured(protocol, size),
        Protocol::V1 => layout.v1(own, crowd, size),
        Protocol::V2 => layout.v2(own, crowd, size),
    };
    if layout.draw.once_in(2) {
        // Series in front of the last bytes of a message are read as the others are.
        match protocol {
            _ if layout.odd() => put_bytes(&mut message, 15, &[0; 40]),
            Protocol::V1 => put_bytes(&mut message, 3, &[0x22, 38, b'h'].repeat(14)[..40]),
            Protocol::V2 => put_bytes(&mut message, 4, &[b'h'; 40]),
        }
    }
    if draw.once_in(3) {
        damage(&mut message, draw);
    }
    message
}

/// Changes some bytes, whatever they mean.
fn damage(message: &mut Vec<u8>, draw: &mut Draw<'_>) {
    for _ in 0..draw.between(1, 4) {
        let at = draw.below(message.len());
        match (draw.below(8), message.get(at).copied()) {
            (_, None) => {}
            (0..4, Some(byte)) => message[at] = byte ^ 1 << draw.below(8),
            (4, _) => message[at] = draw.byte(),
            (5, _) => message.insert(at, draw.byte()),
            (6, _) => drop(message.remove(at)),
            _ => {
                let from = draw.below(message.len());
                let length = draw.below(40).min(message.len() - at.max(from));
                message.copy_within(from..from + length, at);
            }
        }
    }
}

struct Layout<'d, 'b> {
    /// One of so many choices is odd; 0 for none.
    oddity: usize,
    draw: &'d mut Draw<'b>,
}

impl Layout<'_, '_> {
    fn odd(&mut self) -> bool {
        self.oddity != 0 && self.draw.once_in(self.oddity)
    }

    /// A length or a reference, now and then in more bytes than it needs.
    fn varint(&mut self, out: &mut Vec<u8>, value: usize) {
        put_varint(out, value as u64);
        if self.odd() && self.draw.once_in(4) {
            let more = self.draw.between(1, 3);
            if let Some(last) = out.last_mut() {
                *last |= 0x80;
            }
            out.extend(std::iter::repeat_n(0x80, more - 1));
            out.push(0);
        }
    }

    /// A length-delimited field of a number below 16.
    fn field(&mut self, out: &mut Vec<u8>, field: usize, bytes: &[u8]) {
        self.varint(out, field << 3 | 2);
        self.varint(out, bytes.len());
        out.extend_from_slice(bytes);
    }

    /// Series that a real server sent, beside each other.
    fn captured(&mut self, protocol: Protocol, size: usize) -> Vec<u8> {
        let body = match protocol {
            Protocol::V1 => &bodies()[self.draw.below(2)],
            // The other has ten times the symbols.
            Protocol::V2 if self.draw.once_in(8) => &bodies()[3],
            Protocol::V2 => &bodies()[2],
        };
        let series_field = match protocol {
            Protocol::V1 => 1,
            Protocol::V2 => 5,
        };
        let mut out = Vec::new();
        for (field, symbol) in fields(body).filter(|(field, _)| *field == 4) {
            put_bytes(&mut out, field, symbol);
        }
        let series = fields(body).filter(|(field, _)| *field == series_field);
        let start = self.draw.below(250);
        for (field, series) in series.skip(start).take(size) {
            put_bytes(&mut out, field, series);
        }
        out
    }

    fn v1(&mut self, own: &Own, crowd: &mut Crowd, size: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for _ in 0..size {
            let labels = crowd.series(own, self.draw);
            let mut series = Vec::new();
            let mut label_at = 0;
            for (name, value) in &labels {
                label_at = series.len();
                self.label(&mut series, name, value, own);
            }
            let labels_end = series.len();
            self.items(&mut series, |layout, out| {
                layout.further_v1(out, &labels, own)
            });
            if self.odd() {
                let end = self.cut(&mut series, label_at..labels_end);
                let (series, behind) = series.split_at(end);
                self.field(&mut out, 1, series);
                out.extend_from_slice(behind);
                continue;
            }
            self.field(&mut out, 1, &series);
            if self.odd() {
                match self.draw.below(3) {
                    0 => self.field(&mut out, 3, b"\x12\x02up\x22\x01h"),
                    1 => self.field(&mut out, 3, b"\x12\x02up\x22\x01\xff"),
                    _ => self.field(&mut out, 9, b"x"),
                }
            }
        }
        out
    }

    /// Where a series is cut in its last label or before it, such that what lies behind may be fields of
    /// the message.
    fn cut(&mut self, series: &mut [u8], last: Range<usize>) -> usize {
        /// A field that no message knows, as text.
        const FIELD: &[u8; 2] = b"x0";
        let mut end = last.end;
        for _ in 0..self.draw.between(1, 4) {
            if end >= last.start + 8 {
                end -= FIELD.len();
                series[end..end + FIELD.len()].copy_from_slice(FIELD);
            }
        }
        if self.draw.once_in(2) {
            last.start
        } else {
            end
        }
    }

    fn label(&mut self, out: &mut Vec<u8>, name: &[u8], value: &[u8], own: &Own) {
        let mut label = Vec::new();
        let way = if self.odd() { self.draw.below(10) } else { 9 };
        match way {
            0 => {
                self.field(&mut label, 2, value);
                self.field(&mut label, 1, name);
            }
            1 => {
                self.field(&mut label, 1, name);
                self.field(&mut label, 2, value);
                // The last one counts, for most decoders.
                let again = *self.draw.pick(&[value, b"x", own.value.as_bytes()]);
                self.field(&mut label, 2, again);
            }
            2 => {
                let first = *self.draw.pick(&[name, b"x", own.name.as_bytes()]);
                self.field(&mut label, 1, first);
                self.field(&mut label, 1, name);
                self.field(&mut label, 2, value);
            }
            3 => {
                self.field(&mut label, 1, name);
                self.field(&mut label, 2, value);
                self.field(&mut label, 3, b"x");
            }
            4 => {
                self.field(&mut label, 1, name);
                self.field(&mut label, 2, own.value.as_bytes());
                self.field(&mut label, 1, own.name.as_bytes());
            }
            5 if self.draw.once_in(2) => self.field(&mut label, 1, name),
            5 => self.field(&mut label, 2, value),
            6 => {
                put_bytes(&mut label, 1, name);
                put_bytes(&mut label, 2, value);
                let wrong = match self.draw.once_in(2) {
                    true => label.len() + self.draw.between(1, 30),
                    false => self.draw.below(label.len()),
                };
                self.varint(out, 10);
                self.varint(out, wrong);
                return out.extend_from_slice(&label);
            }
            _ => {
                self.field(&mut label, 1, name);
                self.field(&mut label, 2, value);
            }
        }
        self.field(out, 1, &label);
    }

    /// What follows the labels of a series.
    fn items(&mut self, out: &mut Vec<u8>, mut further: impl FnMut(&mut Self, &mut Vec<u8>)) {
        if !self.odd() {
            return self.sample(out);
        }
        for _ in 0..self.draw.below(4) {
            match self.draw.below(4) {
                0 => self.sample(out),
                1 => self.field(out, 6, b"x"),
                _ => further(self, out),
            }
        }
    }

    fn sample(&mut self, out: &mut Vec<u8>) {
        let mut timestamp = TIMESTAMP + self.draw.byte() as i64;
        let mut sample = Vec::new();
        if self.odd() {
            timestamp = *self.draw.pick(&[AHEAD, 0, -1, 1, 128, i64::MAX]);
        }
        if !self.draw.once_in(4) {
            sample.push(0x09);
            sample.extend_from_slice(&f64::from(self.draw.byte()).to_le_bytes());
        }
        if timestamp != 0 {
            sample.push(0x10);
            put_varint(&mut sample, timestamp.cast_unsigned());
        }
        if self.odd() {
            match self.draw.below(3) {
                0 => sample.extend_from_slice(&[0x18, 7]),
                1 => sample.extend_from_slice(&[0x10, 7]),
                _ => sample.extend_from_slice(&[0x22, 1, b'x']),
            }
        }
        self.field(out, 2, &sample);
    }

    fn further_v1(&mut self, out: &mut Vec<u8>, labels: &PlainLabels, own: &Own) {
        let (name, value) = match labels.get(self.draw.below(labels.len())) {
            Some((name, value)) => (name.as_slice(), value.as_slice()),
            None => (own.name.as_bytes(), own.value.as_bytes()),
        };
        match self.draw.below(6) {
            0 => self.label(out, name, value, own),
            1 => self.label(out, own.name.as_bytes(), b"staging", own),
            2 => out.extend_from_slice(&[0x0a, 0]),
            3 => {
                let histogram = proto::v1::Histogram {
                    schema: *self.draw.pick(&[-53, 0, 8, 9]),
                    timestamp: TIMESTAMP,
                    ..Default::default()
                };
                self.field(out, 4, &histogram.encode_to_vec());
            }
            _ => {
                let mut exemplar = Vec::new();
                self.label(&mut exemplar, b"trace_id", value, own);
                exemplar.push(0x18);
                put_varint(&mut exemplar, TIMESTAMP.cast_unsigned());
                self.field(out, 3, &exemplar);
            }
        }
    }

    fn v2(&mut self, own: &Own, crowd: &mut Crowd, size: usize) -> Vec<u8> {
        let mut table = Table::draw(self.draw);
        let mut all = Vec::new();
        for _ in 0..size {
            let labels = crowd.series(own, self.draw);
            let pairs = labels.iter().flat_map(|(name, value)| [name, value]);
            let refs = pairs.map(|text| table.index(text, self.draw)).collect();
            let mut series = Vec::new();
            self.refs(&mut series, refs);
            self.items(&mut series, |layout, out| layout.further_v2(out, &table));
            if table.described && self.draw.below(4) > 0 {
                let mut metadata = vec![0x08, 1, 0x18];
                let help = table.index(b"help", self.draw);
                self.varint(&mut metadata, help);
                self.field(&mut series, 5, &metadata);
            }
            self.field(&mut all, 5, &series);
        }
        let mut out = Vec::new();
        // Symbols may follow the series that refer to them.
        let late = match self.odd() {
            true => self.draw.below(table.symbols.len()),
            false => table.symbols.len(),
        };
        let (early, late) = table.symbols.split_at(late);
        early
            .iter()
            .for_each(|symbol| put_bytes(&mut out, 4, symbol));
        out.extend_from_slice(&all);
        late.iter()
            .for_each(|symbol| put_bytes(&mut out, 4, symbol));
        if self.odd() {
            self.field(&mut out, 9, b"x");
        }
        out
    }

    /// The references of the labels of a series.
    fn refs(&mut self, out: &mut Vec<u8>, mut refs: Vec<usize>) {
        if refs.is_empty() {
            return;
        }
        if self.odd() {
            let at = self.draw.below(refs.len());
            match self.draw.below(4) {
                0 => refs[at] = *self.draw.pick(&[0, 1, 3, 200, 20_000, 3_000_000]),
                1 => refs.truncate(at),
                2 => refs.insert(at, refs[at]),
                _ => refs[at] += 1,
            }
        }
        let mut packed = Vec::new();
        match if self.odd() { self.draw.below(3) } else { 2 } {
            0 => {
                for reference in refs {
                    out.push(0x08);
                    self.varint(out, reference);
                }
            }
            1 => {
                let (one, other) = refs.split_at(self.draw.below(refs.len()));
                one.iter().for_each(|it| self.varint(&mut packed, *it));
                self.field(out, 1, &packed);
                if self.odd() {
                    self.sample(out);
                }
                packed.clear();
                other.iter().for_each(|it| self.varint(&mut packed, *it));
                self.field(out, 1, &packed);
            }
            _ => {
                refs.iter().for_each(|it| self.varint(&mut packed, *it));
                self.field(out, 1, &packed);
            }
        }
    }

    fn further_v2(&mut self, out: &mut Vec<u8>, table: &Table) {
        let reference = self.draw.below(table.symbols.len() + 1);
        let mut refs = Vec::new();
        for _ in 0..self.draw.between(1, 4) {
            self.varint(&mut refs, reference);
        }
        match self.draw.below(4) {
            0 => self.field(out, 1, &refs),
            1 => {
                let histogram = proto::v2::Histogram {
                    schema: *self.draw.pick(&[3, 9, -53]),
                    timestamp: TIMESTAMP,
                    ..Default::default()
                };
                self.field(out, 3, &histogram.encode_to_vec());
            }
            2 => {
                let mut exemplar = Vec::new();
                self.field(&mut exemplar, 1, &refs);
                exemplar.push(0x18);
                put_varint(&mut exemplar, TIMESTAMP.cast_unsigned());
                self.field(out, 4, &exemplar);
            }
            _ => {
                let mut metadata = vec![0x08, 1, 0x20];
                self.varint(&mut metadata, reference);
                self.field(out, 5, &metadata);
            }
        }
    }
}

/// The symbols of a message.
struct Table {
    symbols: Vec<Vec<u8>>,
    /// One of so many uses of a string adds it again; 0 for none.
    doubles: usize,
    /// Series have metadata.
    described: bool,
}

impl Table {
    fn draw(draw: &mut Draw<'_>) -> Self {
        let mut symbols = Vec::new();
        if !draw.once_in(20) {
            symbols.push(Vec::new());
        }
        // Then references take more bytes.
        let unused = match draw.below(96) {
            0 => 16_384 - draw.below(30),
            1..16 => 128 - draw.below(30),
            _ => 0,
        };
        symbols.extend((0..unused).map(|number| format!("#{number}").into_bytes()));
        Self {
            symbols,
            doubles: *draw.pick(&[0, 0, 0, 4, 16]),
            described: draw.once_in(2),
        }
    }

    fn index(&mut self, text: &[u8], draw: &mut Draw<'_>) -> usize {
        let again = self.doubles != 0 && draw.once_in(self.doubles);
        // The last ones are those that are wanted most.
        let known = self.symbols.iter().rposition(|symbol| symbol == text);
        known.filter(|_| !again).unwrap_or_else(|| {
            self.symbols.push(text.to_vec());
            self.symbols.len() - 1
        })
    }
}
