//! Compresses a message so that chosen bytes of it can be overwritten in the compressed bytes.
//!
//! To compress a body takes more CPU time than hubgate needs to check it, and both share the
//! machine. So a body is compressed once, as a real sender does it, and what each request changes is
//! overwritten where it is a literal. Where it is a back-reference, it changes with what it refers to. A
//! back-reference that would change something else as well becomes a literal.

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

/// What overwrites a byte of the message: 0 for nothing, and otherwise a number for each kind of change
/// and place in it. Bytes of the same role may be copies of one another.
pub(super) type Role = u8;

impl Compressed {
    /// Compresses a message of which each byte has a role.
    pub(super) fn new(plain: &[u8], roles: &[Role]) -> Self {
        // As senders do it, and not as hubgate does.
        let bytes = snap::raw::Encoder::new().compress_vec(plain);
        let bytes = bytes.expect("a body is far below snappy's limit of 4 GiB");
        let bytes = without_leaks(&bytes, plain, roles);
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

/// An element of a block.
struct Element {
    /// Its bytes in the block: the tag with what belongs to it, and then those of a literal.
    head: Range<usize>,
    /// Its bytes of the message.
    plain: Range<usize>,
    /// How far back it copies from; `None` for a literal.
    offset: Option<usize>,
}

/// The elements of a block that a compressor made.
fn elements(block: &[u8]) -> impl Iterator<Item = Element> {
    let mut at = plain_length_bytes(block);
    let mut plain = 0;
    std::iter::from_fn(move || {
        let tag = *block.get(at)?;
        let high = usize::from(tag >> 2);
        let number = |bytes: Range<usize>| {
            let bytes = block[bytes].iter().rev();
            bytes.fold(0, |number, &byte| number << 8 | usize::from(byte))
        };
        let (head, length, offset) = match tag & 3 {
            0 if high < 60 => (1, high + 1, None),
            0 => (high - 58, number(at + 1..at + high - 58) + 1, None),
            1 => {
                let offset = usize::from(tag >> 5) << 8 | number(at + 1..at + 2);
                (2, 4 + high % 8, Some(offset))
            }
            2 => (3, high + 1, Some(number(at + 1..at + 3))),
            _ => (5, high + 1, Some(number(at + 1..at + 5))),
        };
        let element = Element {
            head: at..at + head,
            plain: plain..plain + length,
            offset,
        };
        at += head + if offset.is_none() { length } else { 0 };
        plain += length;
        Some(element)
    })
}

/// The block begins with its plain length, a varint.
fn plain_length_bytes(block: &[u8]) -> usize {
    1 + block.iter().take_while(|byte| **byte >= 0x80).count()
}

/// The block with literals in place of the copies whose bytes have another role than those that they copy.
fn without_leaks(block: &[u8], plain: &[u8], roles: &[Role]) -> Vec<u8> {
    let mut whole = block[..plain_length_bytes(block)].to_vec();
    for Element {
        head,
        plain: range,
        offset,
    } in elements(block)
    {
        let leaks = offset.is_some_and(|offset| {
            let copied = range.start - offset..range.end - offset;
            roles[copied] != roles[range.clone()]
        });
        if leaks {
            // A copy has at most 64 bytes.
            let length = u8::try_from(range.len() - 1).expect("a copy is short");
            match length {
                0..60 => whole.push(length << 2),
                _ => whole.extend([60 << 2, length]),
            }
        } else {
            whole.extend_from_slice(&block[head]);
        }
        if leaks || offset.is_none() {
            whole.extend_from_slice(&plain[range]);
        }
    }
    whole
}

/// Finds the literals in a block.
fn literals(block: &[u8]) -> Vec<Literal> {
    let literals = elements(block).filter(|it| it.offset.is_none());
    let literal = |it: Element| Literal {
        plain: it.plain,
        offset: it.head.end,
    };
    literals.map(literal).collect()
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
        let mut roles = vec![0; plain.len()];
        for start in &starts {
            roles[*start..start + 8].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
        }
        let mut compressed = Compressed::new(&plain, &roles);
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

    #[test]
    fn what_looks_like_a_change_stays_as_it_is() {
        // The compressor takes the second and third as copies of the first.
        let plain = b"0123abcdefgh4567abcdefgh89ABabcdefghCDEF the last bytes are literals";
        let mut roles = vec![0; plain.len()];
        roles[4..12].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
        roles[30..34].copy_from_slice(&[5, 6, 7, 8]);
        let unguarded = Compressed::new(plain, &vec![0; plain.len()]);
        let mut compressed = Compressed::new(plain, &roles);
        assert!(compressed.bytes.len() > unguarded.bytes.len());
        let places: Vec<Place> = compressed.places(4..12).collect();
        for place in places {
            place.overwrite(&mut compressed.bytes, b"ABCDEFGH");
        }
        let mut expected = plain.to_vec();
        expected[4..12].copy_from_slice(b"ABCDEFGH");
        let mut buffer = Vec::new();
        let message = snappy::decompress(&compressed.bytes, 1 << 20, &mut buffer).unwrap();
        assert!(message == expected);
    }
}
