//! Follows the frames of an HTTP/2 connection, and ends one that sends frames for nothing.
//!
//! A PING, an empty SETTINGS or a reset costs its sender a few bytes and hubgate an answer, and no
//! limit of h2 covers them all. Here each frame that carries no part of a body takes one from an
//! allowance. Responses and time give it back. A sender of remote writes needs two or three such
//! frames for each response, and hardly any without one.

use tokio::time::Instant;

use super::head::Heads;

/// The most frames without a part of a body that may come at once. 64 requests at once, all reset,
/// are half of it.
const ALLOWANCE_MAX: u32 = 256;

/// The frames that each response allows.
const FRAMES_PER_RESPONSE: u32 = 8;

/// The frames that each second allows.
const FRAMES_PER_SECOND: u32 = 100;

/// What is left of the preface behind its first line.
const PREFACE_REST: usize = b"\r\nSM\r\n\r\n".len();

/// The bytes of a frame's header (RFC 9113, section 4.1).
const HEADER_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 0x1;
const PADDED: u8 = 0x8;

/// The most bytes that padding adds to a frame, with its length.
const PADDING_MAX: usize = 256;

/// There were too many frames without a part of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many HTTP/2 frames without progress")]
pub(super) struct Flood;

/// Where the reader is in the frames of a connection.
#[derive(Debug)]
pub(super) struct Frames {
    /// The bytes of a payload that are still to come.
    payload: usize,
    /// The start of a frame's header.
    header: Vec<u8>,
    allowance: u32,
    /// When time last gave something back.
    refilled: Instant,
    /// The last frame of a request was not the last of its stream.
    within_request: bool,
}

impl Frames {
    /// Begins behind the first line of the preface.
    pub(super) fn new() -> Self {
        Self {
            payload: PREFACE_REST,
            header: Vec::with_capacity(HEADER_BYTES),
            allowance: ALLOWANCE_MAX,
            refilled: Instant::now(),
            within_request: false,
        }
    }

    /// Reads a piece of what the connection received.
    pub(super) fn read(&mut self, mut bytes: &[u8], heads: &Heads) -> Result<(), Flood> {
        loop {
            let skipped = self.payload.min(bytes.len());
            self.payload -= skipped;
            bytes = &bytes[skipped..];
            let missing = HEADER_BYTES - self.header.len();
            let (header, rest) = bytes.split_at(missing.min(bytes.len()));
            self.header.extend_from_slice(header);
            bytes = rest;
            let &[high, middle, low, kind, flags, _, _, _, _] = self.header.as_slice() else {
                return Ok(());
            };
            self.header.clear();
            self.payload = u32::from_be_bytes([0, high, middle, low]) as usize;
            self.frame(kind, flags, heads)?;
        }
    }

    /// Tells whether the request that last sent something has not ended.
    pub(super) fn within_request(&self) -> bool {
        self.within_request || self.payload > 0
    }

    /// Takes the header of a frame.
    fn frame(&mut self, kind: u8, flags: u8, heads: &Heads) -> Result<(), Flood> {
        let ends = flags & END_STREAM != 0;
        if matches!(kind, DATA | HEADERS) {
            self.within_request = !ends;
        }
        if kind == DATA {
            let padding = if flags & PADDED == 0 { 0 } else { PADDING_MAX };
            if ends || self.payload > padding {
                return Ok(());
            }
        }
        if self.allowance == 0 {
            self.refill(heads);
        }
        self.allowance = self.allowance.checked_sub(1).ok_or(Flood)?;
        Ok(())
    }

    /// Adds what responses and time have given back since the last time.
    fn refill(&mut self, heads: &Heads) {
        let responses = heads.take_responses().saturating_mul(FRAMES_PER_RESPONSE);
        let milliseconds = self.refilled.elapsed().as_millis();
        let by_time = milliseconds * u128::from(FRAMES_PER_SECOND) / 1000;
        let by_time = u32::try_from(by_time).unwrap_or(u32::MAX);
        if by_time > 0 {
            self.refilled = Instant::now();
        }
        let gained = responses.saturating_add(by_time);
        self.allowance = self.allowance.saturating_add(gained).min(ALLOWANCE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        frame.resize(HEADER_BYTES + payload, 0);
        frame
    }

    /// A connection that has sent its preface, with the frames that it takes until it is a flood.
    fn frames_until_flood(frames: &mut Frames, heads: &Heads, kind: u8, payload: usize) -> u32 {
        let frame = frame(kind, 0, payload);
        let taken = (0..10_000).take_while(|_| frames.read(&frame, heads).is_ok());
        let taken = taken.count();
        // A connection ends at this point. The test goes on with the next frame.
        frames.payload = 0;
        u32::try_from(taken).unwrap()
    }

    fn opened() -> (Frames, Heads) {
        let (mut frames, heads) = (Frames::new(), Heads::default());
        frames.read(b"\r\nSM\r\n\r\n", &heads).unwrap();
        (frames, heads)
    }

    #[tokio::test(start_paused = true)]
    async fn frames_without_a_part_of_a_body_use_up_an_allowance() {
        // PRIORITY, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION, an unknown kind.
        for (kind, payload) in [
            (2, 5),
            (3, 4),
            (4, 0),
            (PING, 8),
            (8, 4),
            (9, 0),
            (99, 1),
            (DATA, 0),
        ] {
            let (mut frames, heads) = opened();
            let taken = frames_until_flood(&mut frames, &heads, kind, payload);
            assert_eq!(taken, ALLOWANCE_MAX, "{kind}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn responses_and_time_give_frames_back() {
        let (mut frames, heads) = opened();
        frames_until_flood(&mut frames, &heads, PING, 8);
        for _ in 0..10 {
            heads.responded();
        }
        let taken = frames_until_flood(&mut frames, &heads, PING, 8);
        assert_eq!(taken, 10 * FRAMES_PER_RESPONSE);
        tokio::time::advance(Duration::from_secs(2)).await;
        let taken = frames_until_flood(&mut frames, &heads, PING, 8);
        assert_eq!(taken, 2 * FRAMES_PER_SECOND);
        tokio::time::advance(Duration::from_secs(3600)).await;
        let taken = frames_until_flood(&mut frames, &heads, PING, 8);
        assert_eq!(taken, ALLOWANCE_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_are_free_in_pieces_of_any_size() {
        let (mut frames, heads) = opened();
        assert_eq!(
            frames_until_flood(&mut frames, &heads, DATA, 16 * 1024),
            10_000
        );
        let padded = frame(DATA, PADDED, PADDING_MAX + 1);
        for byte in padded.repeat(2000).chunks(1) {
            frames.read(byte, &heads).unwrap();
        }
        let empty = frame(DATA, PADDED, PADDING_MAX);
        let read = (0..=ALLOWANCE_MAX).try_for_each(|_| frames.read(&empty, &heads));
        assert_eq!(read, Err(Flood));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_lasts_until_the_end_of_its_stream() {
        let (mut frames, heads) = opened();
        assert!(!frames.within_request());
        for (sent, expected) in [
            (frame(HEADERS, 0, 7), true),
            (frame(PING, 0, 8), true),
            (frame(DATA, END_STREAM, 0), false),
            (frame(HEADERS, END_STREAM, 7), false),
        ] {
            frames.read(&sent, &heads).unwrap();
            assert_eq!(frames.within_request(), expected, "{sent:?}");
        }
        frames.read(&frame(PING, 0, 8)[..10], &heads).unwrap();
        assert!(frames.within_request());
    }
}
