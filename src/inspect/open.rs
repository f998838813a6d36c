//! From the bytes of a body to its message: how it is compressed, and which message it is.
//!
//! Neither is written in a body; the headers of a request say it. The messages of the two versions have
//! no field number in common, so the fields tell which one it is. A snappy block begins with the length
//! of what it holds, and an uncompressed message with the key of a field. Only a block of 10, 26, 34 or
//! 42 bytes could begin alike, so both readings are tried, and a body that has two is not guessed at.

use std::borrow::Cow;

use crate::config::Limits;
use crate::wire::protobuf::{Reader, WireType};
use crate::wire::snappy::{self, SnappyError};
use crate::wire::{Protocol, v1, v2};
use crate::write::refusal::Refusal;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As a snappy block, as remote write has it.
    Snappy,
    /// Not at all.
    Uncompressed,
}

impl Encoding {
    /// The name that flags and output use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Snappy => "snappy",
            Self::Uncompressed => "none",
        }
    }
}

/// A message out of its body.
pub(super) struct Opened<'b> {
    pub(super) encoding: Encoding,
    pub(super) protocol: Protocol,
    pub(super) message: Cow<'b, [u8]>,
}

/// Why a body is not opened.
pub(super) enum Closed {
    /// hubgate would refuse it.
    Refused(Refusal),
    /// It can be read in two ways; the text says how to choose.
    Ambiguous(&'static str),
}

impl From<Refusal> for Closed {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Opens a body under the limits of the process. What is given of `encoding` and `protocol` is not
/// looked for.
pub(super) fn open<'b>(
    body: &'b [u8],
    limits: &Limits,
    encoding: Option<Encoding>,
    protocol: Option<Protocol>,
) -> Result<Opened<'b>, Closed> {
    let (encoding, message) = decompress(body, limits, encoding)?;
    let protocol = match protocol {
        Some(protocol) => protocol,
        None => fields(&message).protocol()?,
    };
    Ok(Opened {
        encoding,
        protocol,
        message,
    })
}

fn decompress<'b>(
    body: &'b [u8],
    limits: &Limits,
    encoding: Option<Encoding>,
) -> Result<(Encoding, Cow<'b, [u8]>), Closed> {
    let (block, plain) = match encoding {
        Some(Encoding::Snappy) => (Some(block(body, limits)), None),
        Some(Encoding::Uncompressed) => (None, Some(plain(body, limits))),
        None => {
            let is_message = fields(body).is_message();
            let plain = is_message.then(|| plain(body, limits));
            (Some(block(body, limits)), plain)
        }
    };
    match (block, plain) {
        (Some(Ok(message)), Some(_)) if fields(&message).is_message() => Err(Closed::Ambiguous(
            "the body is a message as it lies and as a snappy block; choose with --encoding none or \
             --encoding snappy",
        )),
        (Some(Ok(message)), None) => Ok((Encoding::Snappy, message.into())),
        (_, Some(message)) => Ok((Encoding::Uncompressed, message?.into())),
        (Some(Err(error)), None) => Err(error.into()),
        (None, None) => Err(Refusal::from(SnappyError::Corrupt).into()),
    }
}

/// What a body may be that is neither a snappy block nor a message.
pub(super) fn hint(body: &[u8]) -> &'static str {
    let is_text = body
        .iter()
        .all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    match body {
        [b'P', b'O', b'S', b'T', b' ', ..] | [b'H', b'T', b'T', b'P', b'/', ..] => {
            "it begins with the head of an HTTP message; give the body alone"
        }
        [0x1f, 0x8b, ..] => "it is compressed by gzip; decompress it first",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "it is compressed by zstd; decompress it first",
        _ if is_text => "it is text; decode it first if it is base64 or hex",
        _ => "if it is a message that is not compressed, say --encoding none",
    }
}

fn block(body: &[u8], limits: &Limits) -> Result<Vec<u8>, Refusal> {
    let limit = limits.body_bytes_max;
    if body.len() > limit {
        return Err(Refusal::BodyTooLarge { limit });
    }
    let mut message = Vec::new();
    snappy::decompress(body, limits.decoded_bytes_max, &mut message)?;
    Ok(message)
}

/// A message that is not compressed. One that is too long is so after decompression as well.
fn plain<'b>(body: &'b [u8], limits: &Limits) -> Result<&'b [u8], Refusal> {
    let (declared, limit) = (body.len(), limits.decoded_bytes_max);
    if declared > limit {
        return Err(SnappyError::TooLarge { declared, limit }.into());
    }
    Ok(body)
}

/// The top-level fields of what may be a message.
#[derive(Default)]
struct Fields {
    v1: bool,
    v2: bool,
    /// The bytes are fields to their end, and no field is of neither message.
    whole: bool,
}

impl Fields {
    fn is_message(&self) -> bool {
        self.whole && (self.v1 || self.v2)
    }

    /// The version, as far as the fields tell. An empty message is one of both.
    fn protocol(&self) -> Result<Protocol, Closed> {
        match (self.v1, self.v2) {
            (true, true) => Err(Closed::Ambiguous(
                "the body holds fields of both versions; choose the one that its Content-Type names with \
                 --protocol v1 or --protocol v2",
            )),
            (false, true) => Ok(Protocol::V2),
            (_, false) => Ok(Protocol::V1),
        }
    }
}

/// Reads the top-level fields, as far as the bytes are fields.
fn fields(bytes: &[u8]) -> Fields {
    let mut fields = Fields {
        whole: true,
        ..Fields::default()
    };
    let mut reader = Reader::new(bytes);
    while let Some(key) = reader.key().transpose() {
        let Ok((field, wire_type)) = key else {
            fields.whole = false;
            break;
        };
        let known_v1 = v1::is_field(field) && wire_type == WireType::Len;
        let known_v2 = v2::is_field(field) && wire_type == WireType::Len;
        fields.whole &= known_v1 || known_v2;
        if reader.skip(wire_type).is_err() {
            fields.whole = false;
            break;
        }
        fields.v1 |= known_v1;
        fields.v2 |= known_v2;
    }
    fields
}
