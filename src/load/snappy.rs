//! An encoder of snappy's block format that keeps chosen bytes at known offsets, so that they can
//! be overwritten in the compressed body.
//!
//! To compress a body takes more CPU time than hubgate needs to check it, and both share the
//! machine. So a body is compressed once. Bytes that repeat become back-references to their last
//! occurrence, as in a real compressor. Samples become literals at known offsets; overwriting them
//! makes the body of the next request.

use std::collections::HashMap;

use prost::encoding::encode_varint;

/// How far a back-reference reaches, given by the format's copies with two bytes of distance.
const DISTANCE_MAX: usize = 0xffff;

/// A shorter repetition is cheaper as a literal.
const COPY_BYTES_MIN: usize = 4;

/// Encodes one body, piece by piece.
#[derive(Default)]
pub(super) struct Encoder {
    plain: Vec<u8>,
    compressed: Vec<u8>,
    last_offsets: HashMap<Vec<u8>, usize>,
    /// Where the plain bytes begin that are not compressed yet. Up to the run they are literals.
    literal_start: usize,
    /// Where the current run begins: bytes with one distance to their earlier occurrence.
    run_start: usize,
    /// The distance of the run; `None` if its bytes are new.
    run_distance: Option<usize>,
}

/// A finished body.
pub(super) struct Compressed {
    /// The compressed bytes.
    pub(super) bytes: Vec<u8>,
    /// What to add to the offsets that [`Encoder::patchable`] returned.
    pub(super) preamble_bytes: usize,
    /// The size of the decompressed body.
    pub(super) plain_bytes: usize,
}

impl Encoder {
    /// Adds bytes that may repeat earlier ones.
    pub(super) fn repeatable(&mut self, bytes: &[u8]) {
        let offset = self.plain.len();
        let distance = match self.last_offsets.get_mut(bytes) {
            Some(last) => Some(offset - std::mem::replace(last, offset)),
            None => {
                self.last_offsets.insert(bytes.to_vec(), offset);
                None
            }
        };
        let distance = distance.filter(|distance| *distance <= DISTANCE_MAX);
        if distance != self.run_distance {
            self.end_run(distance);
        }
        self.plain.extend_from_slice(bytes);
    }

    /// Adds bytes that will be overwritten, and returns their offset in the compressed bytes. Later
    /// repetitions refer to them, so they change as well.
    pub(super) fn patchable(&mut self, bytes: &[u8]) -> usize {
        self.flush();
        self.last_offsets.insert(bytes.to_vec(), self.plain.len());
        self.plain.extend_from_slice(bytes);
        self.flush();
        self.compressed.len() - bytes.len()
    }

    /// Ends the body and puts the preamble before it, which is the size of the plain bytes.
    pub(super) fn finish(mut self) -> Compressed {
        self.flush();
        let mut bytes = Vec::with_capacity(self.compressed.len() + 10);
        encode_varint(self.plain.len() as u64, &mut bytes);
        let preamble_bytes = bytes.len();
        bytes.append(&mut self.compressed);
        Compressed {
            bytes,
            preamble_bytes,
            plain_bytes: self.plain.len(),
        }
    }

    fn end_run(&mut self, next_distance: Option<usize>) {
        let run_bytes = self.plain.len() - self.run_start;
        if let Some(distance) = self.run_distance
            && run_bytes >= COPY_BYTES_MIN
        {
            let literals = &self.plain[self.literal_start..self.run_start];
            push_literals(&mut self.compressed, literals);
            push_copies(&mut self.compressed, distance, run_bytes);
            self.literal_start = self.plain.len();
        }
        self.run_start = self.plain.len();
        self.run_distance = next_distance;
    }

    fn flush(&mut self) {
        self.end_run(None);
        push_literals(&mut self.compressed, &self.plain[self.literal_start..]);
        self.literal_start = self.plain.len();
    }
}

fn push_literals(compressed: &mut Vec<u8>, bytes: &[u8]) {
    for piece in bytes.chunks(1 << 16) {
        let [low, high, ..] = (piece.len() - 1).to_le_bytes();
        match (high, low) {
            (0, 0..60) => compressed.push(low << 2),
            (0, _) => compressed.extend([60 << 2, low]),
            _ => compressed.extend([61 << 2, low, high]),
        }
        compressed.extend_from_slice(piece);
    }
}

fn push_copies(compressed: &mut Vec<u8>, distance: usize, bytes: usize) {
    let [low, high, ..] = distance.to_le_bytes();
    for start in (0..bytes).step_by(64) {
        let [length, ..] = (bytes - start).min(64).to_le_bytes();
        compressed.extend([(length - 1) << 2 | 0b10, low, high]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decompresses_to_the_pieces_and_the_overwritten_bytes() {
        let long = vec![b'x'; 70_000];
        let mut encoder = Encoder::default();
        for piece in [
            &b"cluster=production,"[..],
            b"pod=cart,",
            b"ab",
            &long,
            b"ab",
            b"ab",
        ] {
            encoder.repeatable(piece);
        }
        encoder.repeatable(b"cluster=production,");
        let offset = encoder.patchable(b"12345678");
        for piece in [
            &b"cluster=production,"[..],
            b"pod=cart,",
            b"cluster=production,",
        ] {
            encoder.repeatable(piece);
        }
        let mut body = encoder.finish();
        let offset = offset + body.preamble_bytes;
        body.bytes[offset..offset + 8].copy_from_slice(b"87654321");

        let mut plain = vec![0; body.plain_bytes];
        snap::raw::Decoder::new()
            .decompress(&body.bytes, &mut plain)
            .unwrap();
        let tail = b"cluster=production,pod=cart,cluster=production,";
        let expected = [
            b"cluster=production,pod=cart,ab",
            &long[..],
            b"ababcluster=production,87654321",
            tail,
        ];
        assert_eq!(plain, expected.concat());
    }
}
