//! The decoder of the block format.
//!
//! A block is a list of elements: literals, and copies of bytes before them. A series of a real body
//! takes 4 to 16, and neither their kinds nor their lengths can be foreseen, so a decoder that
//! branches on them spends most of its time on branches that the processor guessed wrong. Here all
//! usual elements take the same way without such a branch: 64 bytes are stored for each, and the next
//! element stores over what was too much. This takes more instructions than the crate `snap`, and
//! half to two thirds of its time on captured bodies. `snap` is the oracle of the tests.

use std::hint::select_unpredictable;

use super::SnappyError;

/// Bytes that are stored for a usual element. No copy is longer.
const STORED: usize = 64;

/// Bytes that are read for a usual element: its tag, its literal, and the next tag.
const READ: usize = 1 + STORED + 1;

/// Decodes `block`, which is a body without its preamble. It must fill `message`.
pub(super) fn decode(block: &[u8], message: &mut [u8]) -> Result<(), SnappyError> {
    let (mut rest, mut done) = decode_usual(block, message)?;
    while !rest.is_empty() {
        (rest, done) = decode_any(rest, message, done).ok_or(SnappyError::Corrupt)?;
    }
    if done == message.len() {
        Ok(())
    } else {
        Err(SnappyError::Corrupt)
    }
}

/// Decodes elements until the end of the block or of the message is near. Returns the rest of the
/// block, and how much of the message is done.
fn decode_usual<'b>(
    mut rest: &'b [u8],
    message: &mut [u8],
) -> Result<(&'b [u8], usize), SnappyError> {
    let mut done = 0;
    let Some(mut tag) = rest.first().copied() else {
        return Ok((rest, done));
    };
    while let Some(input) = rest.first_chunk::<READ>() {
        let (kind, value) = (usize::from(tag) & 3, usize::from(tag) >> 2);
        let is_literal = kind == 0;
        let taken = select_unpredictable(is_literal, value + 2, kind + 1);
        let element = USUAL[usize::from(tag)];
        // Each element waits for the tag before it, so the tag is read first.
        tag = input[taken];
        let (offset, length) = (element.offset([input[1], input[2]]), element.length());
        if length <= offset
            && offset <= done
            && let Some(window) = message.get_mut(done - offset..)
            && window.len() >= offset + STORED
        {
            store::<0>(is_literal, input, window, offset);
            // A short copy does not wait for bytes before it that are still being stored.
            store::<32>(is_literal | (length <= 32), input, window, offset);
            rest = &rest[taken..];
            done += length;
        } else if message.len() - done < STORED {
            break;
        } else {
            (rest, done) = decode_any(rest, message, done).ok_or(SnappyError::Corrupt)?;
            let Some(next) = rest.first() else { break };
            tag = *next;
        }
    }
    Ok((rest, done))
}

/// Stores 32 bytes from `AT` on of a literal in `input`, or of a copy of the beginning of `window`,
/// `offset` bytes after that.
#[inline(always)]
fn store<const AT: usize>(from_input: bool, input: &[u8; READ], window: &mut [u8], offset: usize) {
    let literal = input[1 + AT..].first_chunk::<32>();
    let copied = window[AT..].first_chunk::<32>();
    let bytes = *select_unpredictable(from_input, literal, copied).expect("the window is longer");
    *window[offset + AT..]
        .first_chunk_mut()
        .expect("the window is longer") = bytes;
}

/// Decodes the first element of `block`, of any form, after the bytes of the message that are done.
/// Returns what is left of the block, and how much is done then.
#[inline(never)]
fn decode_any<'b>(block: &'b [u8], message: &mut [u8], done: usize) -> Option<(&'b [u8], usize)> {
    let (&tag, rest) = block.split_first()?;
    let value = usize::from(tag >> 2);
    if tag & 3 == 0 {
        let (last, rest) = match value {
            60.. => little_endian(rest, value - 59)?,
            _ => (value, rest),
        };
        let (literal, rest) = rest.split_at_checked(last.checked_add(1)?)?;
        let end = done.checked_add(literal.len())?;
        message.get_mut(done..end)?.copy_from_slice(literal);
        return Some((rest, end));
    }
    let (offset, length, rest) = match tag & 3 {
        1 => {
            let (low, rest) = little_endian(rest, 1)?;
            ((value >> 3) << 8 | low, (value & 7) + 4, rest)
        }
        kind => {
            let (offset, rest) = little_endian(rest, if kind == 2 { 2 } else { 4 })?;
            (offset, value + 1, rest)
        }
    };
    let end = done + length;
    if offset == 0 || end > message.len() {
        return None;
    }
    let start = done.checked_sub(offset)?;
    // A copy that reaches into itself repeats its beginning. Each round doubles what can be copied.
    let mut next = done;
    while next < end {
        let bytes = (next - start).min(end - next);
        message.copy_within(start..start + bytes, next);
        next += bytes;
    }
    Some((rest, end))
}

/// Reads a number of so many bytes, at most 4.
fn little_endian(rest: &[u8], bytes: usize) -> Option<(usize, &[u8])> {
    let (bytes, rest) = rest.split_at_checked(bytes)?;
    let number = bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | usize::from(*byte));
    Some((number, rest))
}

/// What a tag says of a usual element, in one number, so that it is read at once: the mask of the two
/// bytes after the tag that belong to the offset, what is added to them, and the length; 16 bits each.
#[derive(Clone, Copy)]
struct Usual(u64);

impl Usual {
    const fn new(tag: u8) -> Self {
        let value = (tag >> 2) as u64;
        let (mask, base, length) = match tag & 3 {
            // An offset that lets a literal pass as a copy.
            0 if value < 60 => (0, STORED as u64, value + 1),
            1 => (0xff, (value >> 3) << 8, (value & 7) + 4),
            2 => (0xffff, 0, value + 1),
            // A length that no offset allows: longer literals, and offsets of four bytes.
            _ => (0, 0, STORED as u64),
        };
        Self(mask | base << 16 | length << 32)
    }

    /// How far back the copy begins, given the two bytes after the tag.
    #[inline(always)]
    fn offset(self, next: [u8; 2]) -> usize {
        let [mask_low, mask_high, base_low, base_high, ..] = self.0.to_le_bytes();
        let mask = u16::from_le_bytes([mask_low, mask_high]);
        let base = u16::from_le_bytes([base_low, base_high]);
        usize::from(base) + usize::from(u16::from_le_bytes(next) & mask)
    }

    /// The length of the literal or copy.
    #[inline(always)]
    fn length(self) -> usize {
        let [.., a, b, c, d] = self.0.to_le_bytes();
        u32::from_le_bytes([a, b, c, d]) as usize
    }
}

/// What each tag says.
const USUAL: [Usual; 256] = {
    let mut table = [Usual::new(0); 256];
    let mut tag = u8::MAX;
    while tag > 0 {
        table[tag as usize] = Usual::new(tag);
        tag -= 1;
    }
    table
};

#[cfg(test)]
mod tests;
