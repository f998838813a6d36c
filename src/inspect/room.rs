//! The room that is left for the output while a series is made ready for it.
//!
//! A short series can name one long string again and again, and hold very many things. So what is shown
//! is counted before it is kept in memory, by the most that it can take: then neither the memory nor the
//! output is more than the bound. A usual series needs a millionth of it.

use super::Format;
use super::shown::{JSON_BYTES_MAX, LINE_BYTES_MAX};

/// The most bytes of output for a byte of a text, such as `\u001b`.
const ESCAPE_BYTES: u64 = 6;

/// What stands around a text, and says that it was cut.
const FRAME_BYTES: u64 = 64;

/// The most bytes for a sample, a bucket, or what stands around them. A reason with its advice is
/// shorter.
const ITEM_BYTES: u64 = 512;

/// The room that is left, in bytes.
#[derive(Debug)]
pub(super) struct Room {
    left: u64,
    /// Something found no room.
    full: bool,
    /// The longest part of a text that is shown.
    text_bytes_max: usize,
}

impl Room {
    pub(super) fn new(left: u64, format: Format) -> Self {
        Self {
            left,
            full: false,
            text_bytes_max: match format {
                Format::Json => JSON_BYTES_MAX,
                Format::Text => LINE_BYTES_MAX,
            },
        }
    }

    /// Takes the room of these texts together. False if there is not enough; then there is none for
    /// anything that follows.
    pub(super) fn take_texts(&mut self, texts: &[&[u8]]) -> bool {
        let bytes = texts.iter().map(|text| {
            let shown = text.len().min(self.text_bytes_max) as u64;
            shown * ESCAPE_BYTES + FRAME_BYTES
        });
        self.take(bytes.sum())
    }

    /// Takes the room of a few numbers, times so many.
    pub(super) fn take_items(&mut self, count: usize) -> bool {
        self.take(ITEM_BYTES.saturating_mul(count as u64))
    }

    fn take(&mut self, bytes: u64) -> bool {
        match self.left.checked_sub(bytes) {
            Some(left) if !self.full => self.left = left,
            _ => self.full = true,
        }
        !self.full
    }

    /// True once something found no room.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }
}
