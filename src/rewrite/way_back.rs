//! The way back, when a hub turns out not to take what it was sent: the message that was made for
//! it is encoded once more, in the other version or in parts. Nothing is judged.

use crate::budget::Permit;
use crate::wire::encoder::{Encoded, Form, Metadata, V1_BYTES_MAX};
use crate::wire::transcode::{self, Part, Unit};
use crate::wire::{Malformed, Protocol, snappy};

use super::buffers::Buffers;
use super::payload::{Compressor, Outgoing, Payload, compression_room};
use super::request::malformed;
use super::{RewriteError, Target};

/// What became of a message in the other version.
pub(super) enum Translated {
    /// What the hub is sent.
    Done(Outgoing),
    /// The V1 message needs this many bytes of room.
    Longer(usize),
}

impl Buffers {
    /// Encodes a message for a target of the other version, in at most `v1_room` bytes if that is V1.
    /// `held` grows by what that takes beside.
    pub(super) fn translate(
        &mut self,
        payload: &Payload,
        target: Target,
        v1_room: usize,
        held: &mut Permit,
    ) -> Result<Translated, RewriteError> {
        let from = payload.protocol;
        let to = target.protocol;
        let message = open(payload, to, &mut self.decoded, held)?;
        let form = Form {
            protocol: to,
            metadata: target.metadata,
            v1_room,
        };
        let (scratch, encoder) = (&mut self.transcode, &mut self.encoders.first(1)[0]);
        let encoded = transcode::transcode(message, from, form, &[Part::WHOLE], scratch, encoder);
        let encoded = encoded.map_err(malformed(from))?;
        Ok(match encoded.overflow {
            Some(v1_bytes) if to == Protocol::V1 => {
                if v1_bytes > V1_BYTES_MAX.max(message.len()) {
                    Translated::Done(Outgoing::too_large())
                } else {
                    Translated::Longer(v1_bytes)
                }
            }
            _ => {
                held.grow(compression_room(&encoded))?;
                Translated::Done(self.compressor.outgoing(to, &encoded))
            }
        })
    }

    /// Cuts a message into two; `None` when it holds one sample. `held` grows by what it takes to
    /// compress them.
    pub(super) fn halve(
        &mut self,
        payload: &Payload,
        v1_room: usize,
        held: &mut Permit,
    ) -> Result<Option<[Payload; 2]>, RewriteError> {
        let protocol = payload.protocol;
        let message = open(payload, protocol, &mut self.decoded, held)?;
        let extent = transcode::extent(message, protocol, &mut self.transcode);
        let Some([first, second]) = extent.map_err(malformed(protocol))?.halves() else {
            return Ok(None);
        };
        let form = Form {
            protocol,
            metadata: Metadata::Forward,
            v1_room,
        };
        let mut half = |part| {
            let (scratch, encoder) = (&mut self.transcode, &mut self.encoders.first(1)[0]);
            let cut = transcode::transcode(message, protocol, form, &[part], scratch, encoder);
            compress_part(protocol, cut, &mut self.compressor, held)
        };
        let halves = half(first)?.zip(half(second)?);
        Ok(halves.map(|(first, second)| [first, second]))
    }

    /// Makes a message of parts of another; `None` when they hold nothing. `held` grows by what it
    /// takes to compress it.
    pub(super) fn cut(
        &mut self,
        payload: &Payload,
        parts: &[Part],
        v1_room: usize,
        held: &mut Permit,
    ) -> Result<Option<Payload>, RewriteError> {
        let protocol = payload.protocol;
        let message = open(payload, protocol, &mut self.decoded, held)?;
        let form = Form {
            protocol,
            metadata: Metadata::Forward,
            v1_room,
        };
        let (scratch, encoder) = (&mut self.transcode, &mut self.encoders.first(1)[0]);
        let cut = transcode::transcode(message, protocol, form, parts, scratch, encoder);
        compress_part(protocol, cut, &mut self.compressor, held)
    }

    /// Lists the units of a message. `held` grows by what the list takes.
    pub(super) fn units(
        &mut self,
        payload: &Payload,
        held: &mut Permit,
    ) -> Result<Vec<Unit>, RewriteError> {
        let protocol = payload.protocol;
        let message = open(payload, protocol, &mut self.decoded, held)?;
        let extent = transcode::extent(message, protocol, &mut self.transcode);
        let extent = extent.map_err(malformed(protocol))?;
        let units = usize::try_from(extent.end).map_err(|_| RewriteError::Internal)?;
        held.grow(units.saturating_mul(size_of::<Unit>()))?;
        let units = transcode::units(message, protocol, &mut self.transcode);
        units.map_err(malformed(protocol))
    }
}

/// Decompresses a message. `held` grows by what its symbols take while it is encoded in the version
/// `to`.
fn open<'m>(
    payload: &Payload,
    to: Protocol,
    decoded: &'m mut Vec<u8>,
    held: &mut Permit,
) -> Result<&'m [u8], RewriteError> {
    let from = payload.protocol;
    let message = snappy::decompress(&payload.body, usize::MAX, decoded)?;
    let symbols_bytes = transcode::symbols_bytes(message, from, to);
    held.grow(symbols_bytes.map_err(malformed(from))?)?;
    Ok(message)
}

/// Compresses a part of a message of this version. `held` grows by what it takes.
fn compress_part(
    protocol: Protocol,
    encoded: Result<Encoded<'_>, Malformed>,
    compressor: &mut Compressor,
    held: &mut Permit,
) -> Result<Option<Payload>, RewriteError> {
    let encoded = encoded.map_err(malformed(protocol))?;
    if encoded.overflow.is_some() && protocol == Protocol::V1 {
        tracing::error!("a part outgrew its whole");
        return Err(RewriteError::Internal);
    }
    held.grow(compression_room(&encoded))?;
    Ok(compressor.outgoing(protocol, &encoded).message)
}
