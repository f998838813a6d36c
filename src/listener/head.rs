//! Follows the heads of HTTP/1.1 requests in the bytes of a connection, and finds in them what could
//! make two servers see different requests.
//!
//! hyper is lenient here: it takes LF for CRLF, Transfer-Encoding beside Content-Length, a repeated
//! Content-Length, and encodings before `chunked`, and does not show them to the service. Behind a
//! proxy that reads these differently, a sender could hide a second request in the first (RFC 9112,
//! section 11.2). This file parses nothing else: what hyper refuses never gets to the service.
//!
//! The reader records what it found in [`Heads`], in the order of the heads. The service asks there
//! once for each request. A reader that lost the thread finds no head sound, so a difference to
//! hyper refuses requests and lets none through.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Why the head of a request is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeadFault {
    /// A line ends in LF alone.
    #[error("a line ends in LF without CR; end each line of the head with CRLF")]
    BareLineFeed,
    /// Two headers tell where the body ends.
    #[error("Content-Length and Transfer-Encoding stand together; send one of them")]
    LengthAndEncoding,
    /// Transfer-Encoding says more than `chunked`.
    #[error("Transfer-Encoding is not chunked alone; send chunked, once")]
    Encoding,
    /// There is more than one Content-Length.
    #[error("Content-Length stands twice; send it once")]
    SecondLength,
    /// There is no Host.
    #[error("there is no Host header; send one")]
    MissingHost,
    /// There is more than one Host.
    #[error("Host stands twice; send it once")]
    SecondHost,
    /// The end of the head, or of the request before it, is not where it was expected.
    #[error("it is not clear where the head begins or ends")]
    Unclear,
}

/// What the reader of a connection and its service tell each other.
#[derive(Debug, Default)]
pub(super) struct Heads(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Heads without a fault that the service has not asked for.
    sound: usize,
    /// The fault of the head behind these. The connection ends with it.
    fault: Option<HeadFault>,
    /// Responses that the reader has not asked for.
    responses: u32,
}

impl Heads {
    /// Records the next head that was read.
    fn add(&self, fault: Option<HeadFault>) {
        let mut state = self.lock();
        match fault {
            None => state.sound += 1,
            Some(_) => state.fault = fault,
        }
    }

    /// Tells what was found in the next head that hyper has parsed.
    pub(super) fn next(&self) -> Result<(), HeadFault> {
        let mut state = self.lock();
        if state.sound > 0 {
            state.sound -= 1;
            return Ok(());
        }
        Err(state.fault.unwrap_or(HeadFault::Unclear))
    }

    /// Records a response.
    pub(super) fn responded(&self) {
        let mut state = self.lock();
        state.responses = state.responses.saturating_add(1);
    }

    /// The number of responses since the last call.
    pub(super) fn take_responses(&self) -> u32 {
        std::mem::take(&mut self.lock().responses)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can leave it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the reader is in the requests of a connection of HTTP/1.1.
#[derive(Debug, Default)]
pub(super) struct Requests {
    place: Place,
    /// The start of a line whose end has not arrived.
    line: Vec<u8>,
    head: Head,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In a head, or before its first byte.
    #[default]
    Head,
    /// In this many bytes of a body.
    Body { left: u64, chunked: bool },
    /// In the line with the size of a chunk.
    ChunkSize,
    /// In the lines behind the last chunk.
    Trailers,
    /// Behind a fault, or lost.
    Nowhere,
}

/// What the lines of a head have told so far.
#[derive(Debug, Default)]
struct Head {
    begun: bool,
    bare_line_feed: bool,
    lengths: u32,
    length: u64,
    chunked: bool,
    more_than_chunked: bool,
}

/// What ended with a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The whole piece was read.
    Read,
    /// The first line asks for HTTP/2. This many bytes of the piece were read.
    Http2(usize),
}

impl Requests {
    /// Reads a piece of what the connection received. `line_bytes_max` bounds what is kept of it.
    pub(super) fn read(&mut self, bytes: &[u8], line_bytes_max: usize, heads: &Heads) -> Step {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.place == Place::Nowhere {
                return Step::Read;
            }
            if let Place::Body { left, chunked } = self.place {
                let length = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                rest = &rest[length..];
                self.place = match left - length as u64 {
                    0 if chunked => Place::ChunkSize,
                    0 => Place::Head,
                    left => Place::Body { left, chunked },
                };
                continue;
            }
            let Some(end) = memchr::memchr(b'\n', rest) else {
                if self.line.len() + rest.len() > line_bytes_max {
                    self.place = Place::Nowhere;
                    self.line = Vec::new();
                } else {
                    self.line.extend_from_slice(rest);
                }
                return Step::Read;
            };
            let mut line = std::mem::take(&mut self.line);
            let http2 = if line.is_empty() {
                self.line_ended(&rest[..end], heads)
            } else {
                line.extend_from_slice(&rest[..end]);
                self.line_ended(&line, heads)
            };
            rest = &rest[end + 1..];
            if http2 {
                return Step::Http2(bytes.len() - rest.len());
            }
        }
        Step::Read
    }

    /// Tells whether a head has begun and not ended.
    pub(super) fn within_head(&self) -> bool {
        self.place == Place::Head && !self.is_between()
    }

    /// Tells whether the last request that began has ended.
    pub(super) fn is_between(&self) -> bool {
        self.place == Place::Head && !self.head.begun && self.line.is_empty()
    }

    /// Takes a line without its LF. Returns true if it asks for HTTP/2.
    fn line_ended(&mut self, line: &[u8], heads: &Heads) -> bool {
        let (line, bare) = match line.strip_suffix(b"\r") {
            Some(line) => (line, false),
            None => (line, true),
        };
        match self.place {
            Place::Head => {
                self.head.bare_line_feed |= bare;
                if !line.is_empty() {
                    if !self.head.begun && line == b"PRI * HTTP/2.0" {
                        return true;
                    }
                    self.head.header(line);
                    self.head.begun = true;
                } else if self.head.begun {
                    self.head_ended(heads);
                }
            }
            Place::ChunkSize => {
                self.place = match chunk_size(line) {
                    0 => Place::Trailers,
                    // CRLF follows the chunk.
                    size => Place::Body {
                        left: size.saturating_add(2),
                        chunked: true,
                    },
                };
            }
            Place::Trailers if line.is_empty() => self.place = Place::Head,
            Place::Trailers | Place::Body { .. } | Place::Nowhere => {}
        }
        false
    }

    fn head_ended(&mut self, heads: &Heads) {
        let head = std::mem::take(&mut self.head);
        let fault = head.fault();
        heads.add(fault);
        self.place = match head {
            _ if fault.is_some() => Place::Nowhere,
            Head { chunked: true, .. } => Place::ChunkSize,
            Head { length: 0, .. } => Place::Head,
            Head { length, .. } => Place::Body {
                left: length,
                chunked: false,
            },
        };
    }
}

impl Head {
    /// Takes a header. The line with the method has no such name.
    fn header(&mut self, line: &[u8]) {
        let Some(colon) = memchr::memchr(b':', line) else {
            return;
        };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.eq_ignore_ascii_case(b"content-length") {
            self.lengths += 1;
            self.length = number(value.trim_ascii(), 10);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let chunked = value.trim_ascii().eq_ignore_ascii_case(b"chunked");
            self.more_than_chunked |= self.chunked || !chunked;
            self.chunked = true;
        }
    }

    fn fault(&self) -> Option<HeadFault> {
        if self.bare_line_feed {
            Some(HeadFault::BareLineFeed)
        } else if self.chunked && self.lengths > 0 {
            Some(HeadFault::LengthAndEncoding)
        } else if self.more_than_chunked {
            Some(HeadFault::Encoding)
        } else if self.lengths > 1 {
            Some(HeadFault::SecondLength)
        } else {
            None
        }
    }
}

/// The size at the start of a line; extensions may follow it.
fn chunk_size(line: &[u8]) -> u64 {
    number(line, 16)
}

/// The number at the start of a text. hyper refuses a text that has none, or too large a one.
fn number(text: &[u8], radix: u32) -> u64 {
    let digits = text
        .iter()
        .map_while(|byte| char::from(*byte).to_digit(radix));
    digits.fold(0, |number: u64, digit| {
        number
            .saturating_mul(radix.into())
            .saturating_add(digit.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE_BYTES_MAX: usize = 64;

    /// Reads these bytes in pieces of every size, and returns what was found in `heads` heads.
    #[track_caller]
    fn found(bytes: &[u8], heads: usize) -> (Vec<Result<(), HeadFault>>, Requests) {
        let read = |piece: usize| {
            let (mut requests, found) = (Requests::default(), Heads::default());
            for piece in bytes.chunks(piece) {
                assert_eq!(requests.read(piece, LINE_BYTES_MAX, &found), Step::Read);
            }
            let results: Vec<_> = (0..heads).map(|_| found.next()).collect();
            (results, requests)
        };
        let whole = read(bytes.len());
        for piece in 1..bytes.len() {
            assert_eq!(read(piece).0, whole.0, "in pieces of {piece} bytes");
        }
        whole
    }

    #[test]
    fn sound_heads_are_found_behind_bodies_of_every_framing() {
        let bytes = b"\r\nPOST / HTTP/1.1\r\nHost: a\r\ncontent-LENGTH:  5 \r\n\r\nab\n\r\n\
            POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
            3;x=\"y\"\r\n\n\n\n\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n\
            GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\n\r\n";
        let (heads, requests) = found(bytes, 5);
        let lost = Err(HeadFault::Unclear);
        assert_eq!(heads, [Ok(()), Ok(()), Ok(()), Ok(()), lost]);
        assert!(requests.is_between());
    }

    #[test]
    fn every_fault_is_found() {
        for (head, fault) in [
            ("GET / HTTP/1.1\n\n", HeadFault::BareLineFeed),
            ("GET / HTTP/1.1\r\n\n", HeadFault::BareLineFeed),
            (
                "GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
                HeadFault::BareLineFeed,
            ),
            ("\nGET / HTTP/1.1\r\n\r\n", HeadFault::BareLineFeed),
            (
                "POST / HTTP/1.1\r\nContent-Length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
                HeadFault::LengthAndEncoding,
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
                HeadFault::LengthAndEncoding,
            ),
            (
                "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
                HeadFault::SecondLength,
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                HeadFault::Encoding,
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\
                 Transfer-Encoding: chunked\r\n\r\n",
                HeadFault::Encoding,
            ),
        ] {
            let sound = "GET / HTTP/1.1\r\n\r\n";
            let bytes = format!("{sound}{head}{sound}");
            let (heads, requests) = found(bytes.as_bytes(), 3);
            assert_eq!(heads, [Ok(()), Err(fault), Err(fault)], "{head:?}");
            assert!(!requests.is_between());
        }
    }

    #[test]
    fn a_line_is_kept_up_to_its_limit_only() {
        let line = vec![b'x'; LINE_BYTES_MAX + 1];
        let (heads, requests) = found(&line, 1);
        assert_eq!(heads, [Err(HeadFault::Unclear)]);
        assert!(requests.line.is_empty());
    }

    #[test]
    fn the_first_line_may_ask_for_http2() {
        let (mut requests, heads) = (Requests::default(), Heads::default());
        let opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let step = requests.read(opening, LINE_BYTES_MAX, &heads);
        assert_eq!(step, Step::Http2(16));
    }

    #[test]
    fn numbers_do_not_overflow() {
        assert_eq!(number(b"00012x", 10), 12);
        assert_eq!(number(&[b'f'; 40], 16), u64::MAX);
        assert_eq!(number(b"", 10), 0);
    }
}
