//! Random choices, made by any bytes: those of a fuzzer, or a seed alone.
//!
//! The fuzz targets include this file.

/// The bytes of the seed.
const SEED_BYTES: usize = 8;

/// Makes choices by bytes and, when there are none left, by the numbers that follow from the first
/// eight of them. So eight bytes give a whole message, and a fuzzer may change a choice by its byte.
#[derive(Debug)]
pub(crate) struct Draw<'b> {
    bytes: &'b [u8],
    state: u64,
}

impl<'b> Draw<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        let (seed, bytes) = bytes.split_at(bytes.len().min(SEED_BYTES));
        let mut padded = [0; SEED_BYTES];
        padded[..seed.len()].copy_from_slice(seed);
        let state = u64::from_le_bytes(padded);
        Self { bytes, state }
    }

    /// A number of the sequence that the seed starts (SplitMix64).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ self.state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `end`, which is at most 65,536.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let number = match self.bytes {
            [low, rest @ ..] if end <= 1 << 8 => {
                self.bytes = rest;
                usize::from(*low)
            }
            [low, high, rest @ ..] => {
                self.bytes = rest;
                usize::from(*low) | usize::from(*high) << 8
            }
            _ => (self.next() >> 32) as usize,
        };
        number % end.max(1)
    }

    /// A number from `start` to below `end`.
    pub(crate) fn between(&mut self, start: usize, end: usize) -> usize {
        start + self.below(end - start)
    }

    /// True once in `times`.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 1 % times
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.below(256).to_le_bytes()[0]
    }

    /// One of some values.
    pub(crate) fn pick<'p, T>(&mut self, values: &'p [T]) -> &'p T {
        &values[self.below(values.len())]
    }
}
