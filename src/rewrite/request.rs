//! The work on a request: a walk that judges it, and a second one for what the first did not
//! encode.
//!
//! The walk that judges also encodes for each target that cannot get the original bytes. For a target
//! of the same version it encodes nothing, as long as the spoke's last request could be forwarded
//! unchanged. The second walk replays the decisions of the first: for targets that need a new message
//! after all, and for a downgrade that turned out longer than its room.

use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::budget::{Overloaded, Reservation};
use crate::policy::{self, Census, Decisions, Moment, Verdict};
use crate::spoke::Spoke;
use crate::wire::encoder::{Form, Metadata, V1_BYTES_MAX};
use crate::wire::{Malformed, Protocol, snappy};

use super::buffers::{Buffers, Encoders};
use super::payload::{Compressor, Outgoing, Payload, compression_room};
use super::{Request, RewriteError, Rewritten, Target, first_room};

/// A downgrade of a judged request that is longer than the room it had.
pub(super) struct LongDowngrade {
    /// The length of its V1 message, in bytes.
    pub(super) v1_bytes: usize,
    /// The place of its target.
    place: usize,
    decisions: Decisions,
}

impl Buffers {
    /// Decompresses and judges a request, and makes the payloads of its targets. A long downgrade is
    /// left to [`Self::rewrite_long`].
    pub(super) fn rewrite(
        &mut self,
        request: &Request,
    ) -> Result<(Rewritten, Option<LongDowngrade>), RewriteError> {
        let Request {
            spoke,
            protocol,
            body,
            reservation,
            targets,
            decoded_bytes_max,
            moment,
            watched,
        } = request;
        let protocol = *protocol;
        let message = snappy::decompress(body, *decoded_bytes_max, &mut self.decoded)?;
        let decoded_bytes = message.len();
        let decisions_bytes = Decisions::room(protocol, decoded_bytes, &spoke.rules);
        let symbols_bytes = targets.iter().map(|target| {
            policy::symbols_room(protocol, target.protocol, decoded_bytes, &spoke.rules)
        });
        let walk_bytes = decisions_bytes + symbols_bytes.max().unwrap_or_default();
        let source_bytes = body.len() + decoded_bytes + walk_bytes;
        reservation.resize(reservation.bytes().max(source_bytes))?;
        let mut payloads = Payloads {
            protocol,
            message,
            targets,
            source_bytes: reservation.bytes(),
            reservation,
            encoders: &mut self.encoders,
            compressor: &mut self.compressor,
            outgoing: vec![Outgoing::default(); targets.len()],
            long: None,
        };
        let verdict = payloads.judge(body, spoke, *moment, watched, &mut self.policy)?;
        let Payloads { outgoing, long, .. } = payloads;
        let long = long.map(|(place, v1_bytes)| LongDowngrade {
            v1_bytes,
            place,
            decisions: self.policy.take_decisions(),
        });
        let outgoing_bytes: usize = outgoing.iter().map(Outgoing::bytes).sum();
        reservation.resize(match long {
            None => outgoing_bytes,
            Some(_) => outgoing_bytes + source_bytes,
        })?;
        let rewritten = Rewritten {
            verdict,
            outgoing,
            decoded_bytes,
        };
        Ok((rewritten, long))
    }

    /// Makes a long downgrade by the decisions on its request. If it would be too large, its parts may
    /// not be: then the message stays V2, to be cut before it is sent.
    pub(super) fn rewrite_long(
        &mut self,
        request: &Request,
        rewritten: &mut Rewritten,
        long: LongDowngrade,
    ) -> Result<(), RewriteError> {
        let protocol = Protocol::V2;
        let rules = &request.spoke.rules;
        let message = snappy::decompress(&request.body, usize::MAX, &mut self.decoded)?;
        let too_large = long.v1_bytes > V1_BYTES_MAX.max(message.len());
        let (to, room) = if too_large {
            let room = first_room(protocol, protocol, message.len(), rules);
            (protocol, room)
        } else {
            (Protocol::V1, long.v1_bytes)
        };
        let mut payloads = Payloads {
            protocol,
            message,
            targets: &[Target {
                protocol: to,
                metadata: Metadata::Forward,
            }],
            source_bytes: request.reservation.bytes(),
            reservation: &request.reservation,
            encoders: &mut self.encoders,
            compressor: &mut self.compressor,
            outgoing: vec![Outgoing::default()],
            long: None,
        };
        payloads.start(&[0], |_| room)?;
        self.policy.set_decisions(long.decisions);
        let encoders = payloads.encoders.first(1);
        policy::replay(protocol, message, rules, &mut self.policy, encoders)
            .map_err(malformed(protocol))?;
        payloads.finish(&[0])?;
        let (outgoing, None) = (payloads.outgoing.pop(), payloads.long) else {
            tracing::error!("a replayed message is longer than the one that was judged");
            return Err(RewriteError::Internal);
        };
        rewritten.outgoing[long.place] = Outgoing {
            too_large,
            ..outgoing.ok_or(RewriteError::Internal)?
        };
        let outgoing_bytes = rewritten.outgoing.iter().map(Outgoing::bytes).sum();
        request.reservation.resize(outgoing_bytes)?;
        Ok(())
    }
}

/// The payloads of a request while they are made.
struct Payloads<'p> {
    /// The version that the request came in.
    protocol: Protocol,
    /// Its message.
    message: &'p [u8],
    targets: &'p [Target],
    /// What the reservation held before the first encoder was started, in bytes.
    source_bytes: usize,
    reservation: &'p Reservation,
    encoders: &'p mut Encoders,
    compressor: &'p mut Compressor,
    /// One for each target.
    outgoing: Vec<Outgoing>,
    /// The place of the target of a downgrade that has not enough room, and the length of its V1
    /// message. There is one at most, since V1 has one form.
    long: Option<(usize, usize)>,
}

impl Payloads<'_> {
    /// Judges the request, and makes all payloads but that of a long downgrade.
    fn judge(
        &mut self,
        body: &Bytes,
        spoke: &Spoke,
        moment: Moment,
        watched: &OnceLock<u64>,
        scratch: &mut policy::Scratch,
    ) -> Result<Verdict, RewriteError> {
        let (protocol, message, targets) = (self.protocol, self.message, self.targets);
        let (rules, changes) = (&spoke.rules, &spoke.throttles.changes);
        let room = |to| first_room(protocol, to, message.len(), rules);
        let same_version = |place: &usize| targets[*place].protocol == protocol;
        // Looking first pays off where the rules change nothing, as with the last request.
        let looks = !changes.load(Ordering::Relaxed);
        let (looked_at, mut encoded): (Vec<_>, Vec<_>) =
            (0..targets.len()).partition(|place| looks && same_version(place));
        let mut left = encoded.split_off(self.start(&encoded, room)?);
        left.extend(looked_at);
        let encoders = self.encoders.first(encoded.len());
        let mut watching = spoke.watch_series(watched);
        let census = watching.as_mut().map(|it| it as &mut dyn Census);
        let verdict =
            policy::inspect_counted(protocol, message, rules, moment, census, scratch, encoders);
        let verdict = verdict.map_err(malformed(protocol))?;
        if verdict.is_of_another_message() {
            return Err(RewriteError::WrongMessage(protocol));
        }
        changes.store(verdict.changed(), Ordering::Relaxed);
        if !verdict.keeps() {
            return Ok(verdict);
        }
        if let Some(original) = original(protocol, body, &verdict) {
            for place in (0..targets.len()).filter(same_version) {
                self.outgoing[place].message = Some(original.clone());
            }
            left.retain(|place| !same_version(place));
        }
        self.finish(&encoded)?;
        while !left.is_empty() {
            encoded = left;
            left = encoded.split_off(self.start(&encoded, room)?);
            let encoders = self.encoders.first(encoded.len());
            let replayed = policy::replay(protocol, message, rules, scratch, encoders);
            replayed.map_err(malformed(protocol))?;
            self.finish(&encoded)?;
        }
        Ok(verdict)
    }

    /// Starts an encoder for each of the targets at `places`, after reserving its `room`. Returns how
    /// many were started: the budget may have room for the first ones only, and the others are left
    /// to a replay. Fails when there is no room for the first.
    fn start(
        &mut self,
        places: &[usize],
        room: impl Fn(Protocol) -> usize,
    ) -> Result<usize, Overloaded> {
        let encoders = self.encoders.first(places.len());
        for (started, (encoder, place)) in encoders.iter_mut().zip(places).enumerate() {
            let Target { protocol, metadata } = self.targets[*place];
            let v1_room = room(protocol);
            match self.reservation.grow(v1_room) {
                Err(_) if started > 0 => return Ok(started),
                grown => grown?,
            }
            let form = Form {
                protocol,
                metadata,
                v1_room,
            };
            encoder.start(form, self.message.len());
        }
        Ok(places.len())
    }

    /// Ends the messages of the targets at `places`, and compresses those that are sent. A target
    /// that has a message already gets the original. Afterwards only the payloads are reserved beside
    /// the source.
    fn finish(&mut self, places: &[usize]) -> Result<(), RewriteError> {
        let encoders = self.encoders.first(places.len()).iter_mut();
        for (encoder, place) in encoders.zip(places) {
            if self.outgoing[*place].message.is_some() {
                continue;
            }
            let encoded = encoder.finish().map_err(malformed(self.protocol))?;
            let to = self.targets[*place].protocol;
            self.outgoing[*place] = match encoded.overflow {
                Some(v1_bytes) if to == Protocol::V1 => {
                    if self.protocol == Protocol::V2 {
                        self.long = Some((*place, v1_bytes));
                        continue;
                    } else {
                        tracing::error!("a V1 message outgrew its room");
                        return Err(RewriteError::Internal);
                    }
                }
                _ => {
                    let before = self.reservation.bytes();
                    self.reservation.grow(compression_room(&encoded))?;
                    let outgoing = self.compressor.outgoing(to, &encoded);
                    self.reservation.resize(before + outgoing.bytes())?;
                    outgoing
                }
            };
        }
        let outgoing_bytes: usize = self.outgoing.iter().map(Outgoing::bytes).sum();
        self.reservation
            .resize(self.source_bytes + outgoing_bytes)?;
        Ok(())
    }
}

/// The original body as a payload, if it may travel on.
fn original(protocol: Protocol, body: &Bytes, verdict: &Verdict) -> Option<Payload> {
    let takes_all = match protocol {
        Protocol::V1 => verdict.custom_buckets == 0,
        Protocol::V2 => verdict.orphan_series == 0,
    };
    let unchanged = !verdict.changed() && verdict.keeps() && takes_all;
    unchanged.then(|| Payload {
        protocol,
        body: body.clone(),
        memory: body.len(),
        counts: verdict.kept(),
    })
}

/// Makes an error of what is wrong with a message.
pub(super) fn malformed(protocol: Protocol) -> impl Fn(Malformed) -> RewriteError {
    move |malformed| RewriteError::Malformed {
        protocol,
        malformed,
    }
}
