//! Snappy block format, with the declared size checked before a byte is allocated.
//!
//! Both remote-write specifications name the block format; the framed one must not be used.

mod decoder;
mod encoder;

use snap::raw::max_compress_len;

pub use self::encoder::Encoder;

/// No snappy element yields more than 64 bytes from three, so a body that declares more than this
/// many times its own size is a bomb or cut short.
pub const EXPANSION_MAX: usize = 22;

/// The identifier chunk that every framed stream begins with.
const FRAMED_MAGIC: &[u8] = b"\xff\x06\x00\x00sNaPpY";

/// Why a body is not decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnappyError {
    /// The bytes are not a snappy block.
    #[error("the body is not a valid snappy block")]
    Corrupt,
    /// No bytes at all; an empty message is the one byte 0.
    #[error("the body is empty; an empty message is the snappy block of one zero byte")]
    Empty,
    /// More is declared than the body can hold.
    #[error(
        "the body declares {declared} bytes, more than {EXPANSION_MAX} times its own {compressed}"
    )]
    Expansion {
        /// Size of the body, in bytes.
        compressed: usize,
        /// Declared size, in bytes.
        declared: usize,
    },
    /// The framed format.
    #[error("the body is framed snappy; remote write uses the block format")]
    Framed,
    /// More is declared than the limit allows.
    #[error("the body declares {declared} bytes decoded; the limit is {limit}")]
    TooLarge {
        /// Declared size, in bytes.
        declared: usize,
        /// The limit, in bytes.
        limit: usize,
    },
}

/// The decoded size that the first bytes of a body declare; `None` when more bytes are needed to
/// tell.
pub fn declared_len(prefix: &[u8]) -> Result<Option<usize>, SnappyError> {
    let head = &prefix[..prefix.len().min(FRAMED_MAGIC.len())];
    // Also for the two bytes that could declare 895: what is known must not change with more bytes.
    if FRAMED_MAGIC.starts_with(head) {
        return if head == FRAMED_MAGIC {
            Err(SnappyError::Framed)
        } else {
            Ok(None)
        };
    }
    // A varint of 32 bits takes at most five bytes.
    let preamble = &prefix[..prefix.len().min(5)];
    let ended = preamble.iter().any(|byte| *byte < 0x80);
    match snap::raw::decompress_len(preamble) {
        Ok(declared) if ended => Ok(Some(declared)),
        _ if !ended && preamble.len() < 5 => Ok(None),
        _ => Err(SnappyError::Corrupt),
    }
}

/// The decoded size of a whole body, if it is within `limit` and possible.
pub fn checked_len(body: &[u8], limit: usize) -> Result<usize, SnappyError> {
    if body.is_empty() {
        return Err(SnappyError::Empty);
    }
    let declared = declared_len(body)?.ok_or(SnappyError::Corrupt)?;
    if declared > limit {
        return Err(SnappyError::TooLarge { declared, limit });
    }
    if declared > EXPANSION_MAX.saturating_mul(body.len()) {
        return Err(SnappyError::Expansion {
            compressed: body.len(),
            declared,
        });
    }
    Ok(declared)
}

/// Decompresses `body` into the front of `buffer`, which only ever grows, and returns that part.
pub fn decompress<'b>(
    body: &[u8],
    limit: usize,
    buffer: &'b mut Vec<u8>,
) -> Result<&'b [u8], SnappyError> {
    let declared = checked_len(body, limit)?;
    let preamble = body.iter().position(|byte| *byte < 0x80);
    let block = preamble.and_then(|last| body.get(last + 1..));
    if buffer.len() < declared {
        buffer.resize(declared, 0);
    }
    let message = &mut buffer[..declared];
    decoder::decode(block.ok_or(SnappyError::Corrupt)?, message)?;
    Ok(message)
}

/// Compresses `bytes` into the front of `buffer`, which only ever grows, and returns that part.
pub fn compress<'b>(encoder: &mut Encoder, bytes: &[u8], buffer: &'b mut Vec<u8>) -> &'b [u8] {
    let length_max = max_compress_len(bytes.len());
    if buffer.len() < length_max {
        buffer.resize(length_max, 0);
    }
    let length = encoder.encode(bytes, buffer);
    &buffer[..length]
}

#[cfg(test)]
mod tests {
    use snap::raw::Encoder;

    use super::{SnappyError, checked_len, decompress};

    fn check(body: &[u8], expected: Result<usize, SnappyError>) {
        assert_eq!(checked_len(body, 1000), expected, "{body:02x?}");
    }

    #[test]
    fn checks_the_declared_size_before_allocating() {
        check(b"", Err(SnappyError::Empty));
        check(b"\x00", Ok(0));
        check(b"\xff\x06\x00\x00sNaPpY\x00", Err(SnappyError::Framed));
        check(b"\x80", Err(SnappyError::Corrupt));
        check(b"\xff\xff\xff\xff\xff\x01", Err(SnappyError::Corrupt));
        check(
            b"\xe9\x07\x00",
            Err(SnappyError::TooLarge {
                declared: 1001,
                limit: 1000,
            }),
        );
        check(
            b"\xe8\x07\x00",
            Err(SnappyError::Expansion {
                compressed: 3,
                declared: 1000,
            }),
        );
        let whole = Encoder::new().compress_vec(&[7; 900]).unwrap();
        check(&whole, Ok(900));
    }

    #[test]
    fn decompresses_into_a_reused_buffer() {
        let mut buffer = Vec::new();
        for text in [&b"a longer text first"[..], b"short", b""] {
            let body = Encoder::new().compress_vec(text).unwrap();
            assert_eq!(decompress(&body, 1000, &mut buffer), Ok(text));
        }
        let mut cut = Encoder::new().compress_vec(b"a text that is cut").unwrap();
        cut.pop();
        assert_eq!(
            decompress(&cut, 1000, &mut buffer),
            Err(SnappyError::Corrupt)
        );
    }
}
