//! Compresses a message so that chosen bytes of it can be overwritten in the compressed bytes.
//!
//! To compress a body takes more CPU time than hubgate needs to check it, and both share the
//! machine. So a body is compressed once, as a real sender does it, and what each request changes is
//! overwritten where it is a literal. Where it is a back-reference, it changes with what it refers to.

use std::ops::Range;

/// A compressed message.
pub(super) struct Compressed {
    pub(super) bytes: Vec<u8>,
    literals: Vec<Literal>,
}

/// Bytes of the message that are in the compressed bytes as they are.
struct Literal {
    plain: Range<usize>,
    /// Where they begin in the compressed bytes.
    offset: usize,
}

/// Where a part of a range of the message is in the compressed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Its first byte in the compressed bytes.
    pub(super) offset: usize,
    /// Its first byte in the range.
    pub(super) first: usize,
    /// Its number of bytes.
    pub(super) bytes: usize,
}

impl Compressed {
    pub(super) fn new(plain: &[u8]) -> Self {
        // As senders do it, and not as hubgate does.
        let bytes = snap::raw::Encoder::new().compress_vec(plain);
        let bytes = bytes.expect("a body is far below snappy's limit of 4 GiB");
        Self {
            literals: literals(&bytes),
            bytes,
        }
    }

    /// The parts of a range of the message that are literals.
    pub(super) fn places(&self, range: Range<usize>) -> impl Iterator<Item = Place> {
        let start = range.start;
        let next = |literal: &Literal| literal.plain.end <= start;
        let literals = &self.literals[self.literals.partition_point(next)..];
        let literals = literals
            .iter()
            .take_while(move |it| it.plain.start < range.end);
        literals.map(move |literal| {
            let from = literal.plain.start.max(start);
            let to = literal.plain.end.min(range.end);
            Place {
                offset: literal.offset + from - literal.plain.start,
                first: from - start,
                bytes: to - from,
            }
        })
    }
}

impl Place {
    /// Overwrites the part with its part of `value`.
    pub(super) fn overwrite(&self, compressed: &mut [u8], value: &[u8]) {
        let part = &value[self.first..self.first + self.bytes];
        compressed[self.offset..self.offset + self.bytes].copy_from_slice(part);
    }
}

/// Finds the literals in a block that a compressor made.
fn literals(block: &[u8]) -> Vec<Literal> {
    let mut literals = Vec::new();
    // The block begins with its plain length, a varint.
    let mut at = 1 + block.iter().take_while(|byte| **byte >= 0x80).count();
    let mut plain = 0;
    while let Some(&tag) = block.get(at) {
        let high = usize::from(tag >> 2);
        let (head, length) = match tag & 3 {
            0 if high < 60 => (1, high + 1),
            0 => {
                let more = &block[at + 1..at + high - 58];
                let length = more.iter().rev();
                let length = length.fold(0, |length, &byte| length << 8 | usize::from(byte));
                (1 + more.len(), length + 1)
            }
            1 => (2, 4 + high % 8),
            2 => (3, high + 1),
            _ => (5, high + 1),
        };
        at += head;
        if tag & 3 == 0 {
            literals.push(Literal {
                plain: plain..plain + length,
                offset: at,
            });
            at += length;
        }
        plain += length;
    }
    literals
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::snappy;

    #[test]
    fn overwritten_literals_show_in_the_message_and_in_what_refers_to_them() {
        // Longer than a block of the compressor, which refers to nothing in another one.
        let noise =
            (0..70_000_u64).map(|it| it.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes()[7]);
        let noise: Vec<u8> = noise.collect();
        let pods = b"pod=12345678,pod=12345678,";
        let plain = [
            b"pod=12345678,",
            &noise[..],
            pods,
            b"the last bytes are literals",
        ]
        .concat();
        let starts = (0..plain.len()).filter(|&start| plain[start..].starts_with(b"12345678"));
        let starts: Vec<usize> = starts.collect();
        let mut compressed = Compressed::new(&plain);
        let literal_bytes = starts.iter().map(|&start| {
            let places: Vec<Place> = compressed.places(start..start + 8).collect();
            for place in &places {
                place.overwrite(&mut compressed.bytes, b"87654321");
            }
            places.iter().map(|place| place.bytes).sum::<usize>()
        });
        assert_eq!(literal_bytes.collect::<Vec<_>>(), [8, 8, 0]);
        let mut expected = plain.clone();
        for start in starts {
            expected[start..start + 8].copy_from_slice(b"87654321");
        }
        let mut buffer = Vec::new();
        let message = snappy::decompress(&compressed.bytes, 1 << 20, &mut buffer).unwrap();
        assert!(message == expected);
    }
}
