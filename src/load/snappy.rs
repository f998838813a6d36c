//! A writer of snappy's block format that leaves chosen bytes where they can be overwritten.
//!
//! Compressing a body costs the load generator more than the gate needs to check it, and both share
//! the machine. So a body is compressed once: what repeats becomes back-references to the last time
//! it was written, as a real compressor does, and samples become literals of their own, whose place
//! in the compressed bytes is known. Overwriting them gives the body of the next request.

use std::collections::HashMap;

use prost::encoding::encode_varint;

/// Farthest a back-reference reaches, as in the block format's two-byte copies.
const OFFSET_MAX: usize = 0xffff;

/// Shorter repetitions are cheaper as literals.
const COPY_BYTES_MIN: usize = 4;

/// Writes one compressed body, piece by piece.
#[derive(Default)]
pub(super) struct Writer {
    plain: Vec<u8>,
    compressed: Vec<u8>,
    last_places: HashMap<Vec<u8>, usize>,
    /// Where the plain bytes begin that are not compressed yet; up to the run they are literals.
    literal_start: usize,
    /// Where the last bytes with one distance to their earlier self begin.
    run_start: usize,
    /// That distance; `None` when they are new.
    run_offset: Option<usize>,
}

/// A finished body.
pub(super) struct Compressed {
    /// The body, as it goes on the wire.
    pub(super) bytes: Vec<u8>,
    /// What to add to the places that [`Writer::patchable`] gave.
    pub(super) preamble_bytes: usize,
    /// Size once decompressed.
    pub(super) plain_bytes: usize,
}

impl Writer {
    /// Adds bytes that may have been written before.
    pub(super) fn repeatable(&mut self, bytes: &[u8]) {
        let place = self.plain.len();
        let offset = match self.last_places.get_mut(bytes) {
            Some(last) => Some(place - std::mem::replace(last, place)),
            None => {
                self.last_places.insert(bytes.to_vec(), place);
                None
            }
        };
        let offset = offset.filter(|offset| *offset <= OFFSET_MAX);
        if offset != self.run_offset {
            self.end_run(offset);
        }
        self.plain.extend_from_slice(bytes);
    }

    /// Adds bytes that will be overwritten; returns their place among the compressed bytes. Later
    /// repetitions refer to them and change with them.
    pub(super) fn patchable(&mut self, bytes: &[u8]) -> usize {
        self.flush();
        self.last_places.insert(bytes.to_vec(), self.plain.len());
        self.plain.extend_from_slice(bytes);
        self.flush();
        self.compressed.len() - bytes.len()
    }

    /// Ends the body and puts the preamble, the plain size, in front.
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

    fn end_run(&mut self, next_offset: Option<usize>) {
        let run_bytes = self.plain.len() - self.run_start;
        if let Some(offset) = self.run_offset
            && run_bytes >= COPY_BYTES_MIN
        {
            let literals = &self.plain[self.literal_start..self.run_start];
            write_literals(&mut self.compressed, literals);
            write_copies(&mut self.compressed, offset, run_bytes);
            self.literal_start = self.plain.len();
        }
        self.run_start = self.plain.len();
        self.run_offset = next_offset;
    }

    fn flush(&mut self) {
        self.end_run(None);
        write_literals(&mut self.compressed, &self.plain[self.literal_start..]);
        self.literal_start = self.plain.len();
    }
}

fn write_literals(compressed: &mut Vec<u8>, bytes: &[u8]) {
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

fn write_copies(compressed: &mut Vec<u8>, offset: usize, bytes: usize) {
    let [low, high, ..] = offset.to_le_bytes();
    for start in (0..bytes).step_by(64) {
        let [length, ..] = (bytes - start).min(64).to_le_bytes();
        compressed.extend([(length - 1) << 2 | 0b10, low, high]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decompresses_to_what_was_written_and_then_overwritten() {
        let long = vec![b'x'; 70_000];
        let mut writer = Writer::default();
        for piece in [
            &b"cluster=production,"[..],
            b"pod=cart,",
            b"ab",
            &long,
            b"ab",
            b"ab",
        ] {
            writer.repeatable(piece);
        }
        writer.repeatable(b"cluster=production,");
        let place = writer.patchable(b"12345678");
        for piece in [
            &b"cluster=production,"[..],
            b"pod=cart,",
            b"cluster=production,",
        ] {
            writer.repeatable(piece);
        }
        let mut body = writer.finish();
        let place = place + body.preamble_bytes;
        body.bytes[place..place + 8].copy_from_slice(b"87654321");

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
