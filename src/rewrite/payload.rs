//! Payloads: compressed messages for hubs.

use bytes::Bytes;
use snap::raw::max_compress_len;

use crate::wire::encoder::{Encoded, Lost, Message};
use crate::wire::{Counts, Kind, Protocol, snappy};

/// Most bytes that an async worker keeps in one buffer for its next message.
pub(super) const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A message for a hub, compressed.
#[derive(Debug, Clone)]
pub(crate) struct Payload {
    /// Its version.
    pub protocol: Protocol,
    /// Its bytes, compressed.
    pub body: Bytes,
    /// The memory that they take.
    pub memory: usize,
    /// What it carries.
    pub counts: Counts,
}

/// What a hub is sent of one request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outgoing {
    /// The message; `None` when there is nothing to put into it.
    pub message: Option<Payload>,
    /// The side message: V1, with what V2 has no form for. It is sent after the main message.
    pub side: Option<Payload>,
    /// What neither message holds.
    pub lost: Lost,
    /// As V1 it would be larger than it may be. A message that is there is V2; it is cut before it is
    /// sent as V1.
    pub too_large: bool,
}

impl Outgoing {
    /// No message, since a V1 message would be larger than it may be.
    pub(crate) fn too_large() -> Self {
        Self {
            too_large: true,
            ..Self::default()
        }
    }

    /// The memory that it holds, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let payload = self.message.iter().chain(&self.side);
        payload.map(|payload| payload.memory).sum()
    }

    /// What it carries.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for payload in self.message.iter().chain(&self.side) {
            counts.add_all(&payload.counts);
        }
        counts
    }
}

/// Bytes that it takes to compress encoded messages: buffers, and copies that are at most half as
/// long.
pub(super) fn compression_room(encoded: &Encoded<'_>) -> usize {
    let messages = [&encoded.message, &encoded.side];
    let buffers = messages.map(|message| max_compress_len(message.bytes.len()));
    buffers.iter().sum::<usize>() / 2 * 3
}

/// Compresses encoded messages.
#[derive(Default)]
pub(super) struct Compressor {
    snappy: snappy::Encoder,
    /// The compressed message, before it is copied.
    compressed: Vec<u8>,
}

impl Compressor {
    /// The memory that it holds, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.compressed.capacity()
    }

    /// Gives memory back if the last messages left more than `bytes_max`.
    pub(super) fn trim(&mut self, bytes_max: usize) {
        if self.compressed.capacity() > bytes_max {
            self.compressed = Vec::new();
        }
    }

    /// Compresses the encoded messages for a hub.
    pub(super) fn outgoing(&mut self, protocol: Protocol, encoded: &Encoded<'_>) -> Outgoing {
        let mut message = self.compress(protocol, &encoded.message);
        if let Some(message) = &mut message {
            message.counts.add(Kind::Metadata, encoded.merged_metadata);
        }
        Outgoing {
            message,
            side: self.compress(Protocol::V1, &encoded.side),
            lost: encoded.lost,
            too_large: false,
        }
    }

    fn compress(&mut self, protocol: Protocol, message: &Message<'_>) -> Option<Payload> {
        if message.bytes.is_empty() {
            return None;
        }
        let body = snappy::compress(&mut self.snappy, message.bytes, &mut self.compressed);
        let (length, capacity) = (body.len(), self.compressed.capacity());
        let (body, memory) = if length > KEPT_BYTES_MAX && length > capacity / 2 {
            // The buffer would not be kept anyway.
            let mut buffer = std::mem::take(&mut self.compressed);
            buffer.truncate(length);
            (Bytes::from(buffer), capacity)
        } else {
            (Bytes::copy_from_slice(&self.compressed[..length]), length)
        };
        Some(Payload {
            protocol,
            body,
            memory,
            counts: message.counts,
        })
    }
}
