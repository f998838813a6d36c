//! A buffer for a message, into which short strings are copied in chunks of one size.
//!
//! To copy a chunk takes a few instructions, where a copy of any length is a call. What a chunk holds
//! beyond the string is overwritten by the next one. So there must be room behind the message, which
//! is filled with zeros once and then kept from message to message.

/// The bytes that may be written beyond those that were asked for.
pub(super) const SLACK: usize = 64;

/// The bytes that are filled with zeros at once.
const STEP: usize = 64 * 1024;

/// Half of the longest string that is copied in chunks without a look at its length.
const HALF: usize = 16;

/// A message that grows.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    /// The message, and room behind it.
    bytes: Vec<u8>,
    length: usize,
    /// Most bytes that are held for a message that needs no more.
    most: usize,
}

impl Buffer {
    /// Starts a message that mostly has `room` bytes or less, and takes memory for `ahead` bytes at once:
    /// what a growth leaves behind is not free at the same moment.
    pub(super) fn clear(&mut self, room: usize, ahead: usize) {
        self.length = 0;
        self.most = room.saturating_add(SLACK);
        let ahead = ahead.saturating_add(ahead / 4).saturating_add(SLACK);
        let ahead = ahead.min(self.most);
        if self.bytes.capacity() < ahead {
            self.bytes = Vec::new();
            self.bytes.reserve_exact(ahead);
        }
    }

    /// The length of the message.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// The memory that it holds, in bytes.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// The message.
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Room for so many bytes and for [`SLACK`] behind them: the whole buffer, and where the message
    /// ends in it.
    #[inline]
    pub(super) fn room(&mut self, count: usize) -> (&mut [u8], usize) {
        let needed = self.length + count + SLACK;
        if needed > self.bytes.len() {
            self.grow(needed);
        }
        (&mut self.bytes, self.length)
    }

    /// Makes the message end at a place up to which its room was written.
    #[inline]
    pub(super) fn end_at(&mut self, end: usize) {
        self.length = end.min(self.bytes.len());
    }

    /// Memory is taken ahead, but filled with zeros step by step: what was not written to takes none.
    #[cold]
    fn grow(&mut self, needed: usize) {
        if needed > self.bytes.capacity() {
            let mut capacity = 2 * needed;
            if needed <= self.most {
                capacity = capacity.min(self.most);
            }
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        let length = (needed + STEP).min(self.bytes.capacity());
        self.bytes.resize(length, 0);
    }
}

/// Writes bytes at a place, and returns where they end.
#[inline]
pub(super) fn put(room: &mut [u8], at: usize, bytes: &[u8]) -> usize {
    let end = at + bytes.len();
    match (bytes.first_chunk::<HALF>(), bytes.last_chunk::<HALF>()) {
        // Both halves overlap.
        (Some(first), Some(last)) if bytes.len() <= 2 * HALF => {
            room[at..at + HALF].copy_from_slice(first);
            room[end - HALF..end].copy_from_slice(last);
        }
        _ => room[at..end].copy_from_slice(bytes),
    }
    end
}

/// Writes the varint of a length at a place, and returns where it ends.
#[inline]
pub(super) fn put_length(room: &mut [u8], mut at: usize, length: usize) -> usize {
    let mut length = length as u64;
    while length >= 0x80 {
        room[at] = (length & 0x7f) as u8 | 0x80;
        length >>= 7;
        at += 1;
    }
    room[at] = (length & 0x7f) as u8;
    at + 1
}
