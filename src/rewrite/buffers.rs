//! The work on one request, in memory that a thread uses again and again.

use std::cell::RefCell;
use std::sync::atomic::Ordering;

use snap::raw::Encoder as SnappyEncoder;

use crate::budget::Permit;
use crate::policy::{self, Verdict};
use crate::wire::encoder::{Encoder, Form, Metadata};
use crate::wire::transcode::{self, Part};
use crate::wire::{Protocol, snappy};

use super::payload::{Compressor, KEPT_BYTES_MAX, Outgoing, Payload, compression_room};
use super::{Request, RewriteError, Rewritten, Room, Target};

thread_local! {
    /// Buffers of the thread. They hold nothing between two requests, and a pool would only add
    /// a lock to what a thread can keep to itself.
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers::new());
}

/// How an inspection ended.
pub(super) enum Tried {
    Done(Rewritten),
    /// It needs more room.
    Narrow(Request),
}

/// What a thread works with.
pub(super) struct Buffers {
    decoded: Vec<u8>,
    compressed: Vec<u8>,
    snappy: SnappyEncoder,
    policy: policy::Scratch,
    transcode: transcode::Scratch,
    encoder: Encoder,
}

/// Lends the thread's buffers to `work`.
pub(super) fn with_buffers<T>(work: impl FnOnce(&mut Buffers) -> T) -> T {
    BUFFERS.with_borrow_mut(|buffers| {
        let done = work(buffers);
        buffers.trim();
        done
    })
}

impl Buffers {
    fn new() -> Self {
        Self {
            decoded: Vec::new(),
            compressed: Vec::new(),
            snappy: SnappyEncoder::new(),
            policy: policy::Scratch::default(),
            transcode: transcode::Scratch::default(),
            encoder: Encoder::default(),
        }
    }

    /// Decompresses, inspects and, where rules or targets ask for it, writes a body anew.
    pub(super) fn inspect(
        &mut self,
        mut request: Request,
        growth: usize,
    ) -> Result<Tried, RewriteError> {
        let Request {
            spoke,
            protocol,
            body,
            reservation,
            targets,
            decoded_bytes_max,
        } = &mut request;
        let (protocol, rules) = (*protocol, &spoke.rules);
        let malformed = |malformed| RewriteError::Malformed {
            protocol,
            malformed,
        };
        let message = snappy::decompress(body, *decoded_bytes_max, &mut self.decoded)?;
        let decoded_bytes = message.len();
        let mut compressor = Compressor {
            snappy: &mut self.snappy,
            compressed: &mut self.compressed,
        };
        let mut verdict = None;
        // To look first pays where nothing will be changed, as it was with the last request.
        if targets.iter().any(|target| target.protocol == protocol)
            && !spoke.throttles.changes.load(Ordering::Relaxed)
        {
            let found = policy::inspect(protocol, message, rules, &mut self.policy);
            verdict = Some(found.map_err(malformed)?);
        }
        let mut outgoing = Vec::with_capacity(targets.len());
        for Target {
            protocol: to,
            metadata,
        } in targets.iter().copied()
        {
            if let Some(verdict) = &verdict
                && to == protocol
                && unchanged(verdict, protocol)
            {
                let message = Payload {
                    protocol,
                    body: body.clone(),
                    memory: body.len(),
                    counts: verdict.kept(),
                };
                outgoing.push(Outgoing {
                    message: Some(message),
                    ..Outgoing::default()
                });
                continue;
            }
            let room = Room::new(protocol, to, decoded_bytes, growth, rules);
            let needed = decoded_bytes + body.len() + room.bytes;
            reservation.resize(reservation.bytes().max(needed))?;
            let form = Form {
                protocol: to,
                metadata,
                v1_room: room.bytes,
            };
            let encoded = policy::encode(protocol, message, rules, &mut self.policy, form);
            let (found, encoded) = encoded.map_err(malformed)?;
            if to == Protocol::V2 || encoded.overflow.is_none() {
                reservation.resize(reservation.bytes().max(needed + compression_room(&encoded)))?;
                outgoing.push(compressor.outgoing(to, &encoded));
            } else if room.is_most {
                outgoing.push(Outgoing::too_large());
            } else {
                return Ok(Tried::Narrow(request));
            }
            verdict = Some(found);
        }
        let verdict = verdict.ok_or(RewriteError::Internal)?;
        if verdict.foreign && verdict.series == 0 && verdict.received.is_empty() {
            return Err(RewriteError::WrongMessage(protocol));
        }
        spoke
            .throttles
            .changes
            .store(verdict.changed(), Ordering::Relaxed);
        let held = outgoing.iter().map(Outgoing::bytes).sum();
        let mut reservation = request.reservation;
        reservation.resize(held)?;
        Ok(Tried::Done(Rewritten {
            verdict,
            outgoing,
            decoded_bytes,
            reservation,
        }))
    }

    /// Writes a part of a message in the version `to`, and takes for `held` what it takes to
    /// compress it.
    pub(super) fn transcode(
        &mut self,
        payload: &Payload,
        to: Protocol,
        part: Part,
        v1_room: usize,
        held: &mut Permit,
    ) -> Result<Outgoing, RewriteError> {
        let malformed = |malformed| RewriteError::Malformed {
            protocol: payload.protocol,
            malformed,
        };
        let message = snappy::decompress(&payload.body, usize::MAX, &mut self.decoded)?;
        let form = Form {
            protocol: to,
            metadata: Metadata::Forward,
            v1_room,
        };
        let (scratch, encoder) = (&mut self.transcode, &mut self.encoder);
        let encoded = transcode::transcode(message, payload.protocol, form, part, scratch, encoder);
        let encoded = encoded.map_err(malformed)?;
        if to == Protocol::V1 && encoded.overflow.is_some() {
            return Ok(Outgoing::too_large());
        }
        held.grow(compression_room(&encoded))?;
        let mut compressor = Compressor {
            snappy: &mut self.snappy,
            compressed: &mut self.compressed,
        };
        Ok(compressor.outgoing(to, &encoded))
    }

    /// Cuts a message into two; `None` when it holds one sample.
    pub(super) fn halve(
        &mut self,
        payload: &Payload,
        v1_room: usize,
        held: &mut Permit,
    ) -> Result<Option<[Payload; 2]>, RewriteError> {
        let protocol = payload.protocol;
        let message = snappy::decompress(&payload.body, usize::MAX, &mut self.decoded)?;
        let extent = transcode::extent(message, protocol, &mut self.transcode);
        let extent = extent.map_err(|malformed| RewriteError::Malformed {
            protocol,
            malformed,
        })?;
        let Some(halves) = extent.halves() else {
            return Ok(None);
        };
        let mut half = |part| self.transcode(payload, protocol, part, v1_room, held);
        let [first, second] = halves;
        let halves = half(first)?.message.zip(half(second)?.message);
        Ok(halves.map(|(first, second)| [first, second]))
    }

    fn trim(&mut self) {
        for buffer in [&mut self.decoded, &mut self.compressed] {
            if buffer.capacity() > KEPT_BYTES_MAX {
                *buffer = Vec::new();
            }
        }
        self.policy.trim(KEPT_BYTES_MAX);
        self.transcode.trim(KEPT_BYTES_MAX);
        self.encoder.trim(KEPT_BYTES_MAX);
    }
}

/// True when the original body may travel on.
fn unchanged(verdict: &Verdict, protocol: Protocol) -> bool {
    let takes_all = protocol == Protocol::V1 || verdict.orphan_series == 0;
    !verdict.changed() && verdict.keeps() && takes_all
}
