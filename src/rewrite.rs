//! Turns a request into payloads for the hubs: decompresses the body, has the policy judge it, and
//! compresses the messages for the targets. Large requests are worked on off the async workers.

mod buffers;
mod payload;
mod request;
mod seat;
#[cfg(test)]
mod tests;
mod way_back;

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::yield_now;
use tokio::time::Instant;

use crate::budget::{Budget, Overloaded, Permit, Reservation};
use crate::policy::{self, Moment, Rules, Verdict};
use crate::shares::{Crowded, Share, Shares};
use crate::spoke::Spoke;
pub(crate) use crate::wire::encoder::{Lost, Metadata};
use crate::wire::snappy::SnappyError;
use crate::wire::transcode::{Part, Unit};
use crate::wire::{Malformed, Protocol, snappy};

use buffers::{Buffers, Lender, with_buffers};
pub(crate) use payload::{Outgoing, Payload};
pub(crate) use seat::Seat;
use way_back::Translated;

/// Work on messages of up to this size is done on the async worker, where it takes some two
/// milliseconds. The usual request of 2000 series has one megabyte. For a downgrade the size of the
/// V1 message counts.
const INLINE_BYTES_MAX: usize = 3 * 1024 * 1024;

/// A downgrade is encoded in the walk that judges, as long as its V1 message has at most this many
/// times the length of the V2 message. The usual one has four times the length.
const DOWNGRADE_FACTOR: usize = 8;

/// The same for one whose V1 message is worked on inline: with long labels that many series have, it has ten times
/// the length and more.
const INLINE_DOWNGRADE_FACTOR: usize = 16;

/// How long a message waits for its turns, all together. Prometheus gives a request up after 30 s
/// (`remote_timeout`), and a hub has to take it as well.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most usual messages of one spoke in its line. A small one takes 50 µs, so as many wait for some seconds.
const USUAL_WAITING_MAX: usize = 1 << 16;

/// Why a message is not rewritten.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// So many messages of the spoke wait to be worked on that this one would wait for too long.
    #[error("too many requests at once; try again")]
    Crowded(#[from] Crowded),
    /// hubgate has a fault; the log says more.
    #[error("internal error")]
    Internal,
    /// The bytes are not the message that they are said to be.
    #[error("not a valid {}: {malformed}", .protocol.message())]
    Malformed {
        /// The message that they are said to be.
        protocol: Protocol,
        /// What is wrong.
        malformed: Malformed,
    },
    /// The budget has no room for the work.
    #[error("{0}")]
    Overloaded(#[from] Overloaded),
    /// The body does not decompress.
    #[error("{0}")]
    Snappy(#[from] SnappyError),
    /// The message holds only fields of another message.
    #[error("no field of {}", .0.message())]
    WrongMessage(Protocol),
}

impl RewriteError {
    /// True for a fact about the body, which no room and no time can change.
    pub fn is_of_the_body(&self) -> bool {
        match self {
            Self::Malformed { .. } | Self::Snappy(_) | Self::WrongMessage(_) => true,
            Self::Crowded(_) | Self::Internal | Self::Overloaded(_) => false,
        }
    }
}

/// What a hub wants to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    /// The version.
    pub protocol: Protocol,
    /// What becomes of V1 metadata, where the version is V2.
    pub metadata: Metadata,
}

/// A judged request and its payloads.
#[derive(Debug)]
pub(crate) struct Rewritten {
    /// What the policy decided.
    pub verdict: Verdict,
    /// What the hubs are sent, one for each target of the request.
    pub outgoing: Vec<Outgoing>,
    /// Size of the decoded message, in bytes.
    pub decoded_bytes: usize,
}

/// Rewrites requests, the large ones on blocking threads.
#[derive(Debug)]
pub(crate) struct Rewriter {
    lender: Arc<Lender>,
    /// A place for each thread but one, which is left to all else. More would also hold more memory at once.
    /// Spokes have them in turn, or one with large messages would hold up those of the others.
    large: Arc<Shares>,
    /// A place for each thread, for requests that are read, and for those that are worked on where they are read
    /// and sent. Steps of a delivery take none.
    usual: Arc<Shares>,
}

/// A request to be rewritten.
#[derive(Debug)]
pub(crate) struct Request {
    /// Who sent it.
    pub spoke: Arc<Spoke>,
    /// The version it is said to be of.
    pub protocol: Protocol,
    /// Its body, compressed.
    pub body: Bytes,
    /// What it holds of the budget. While its payloads are sent, it is what they hold.
    pub reservation: Arc<Reservation>,
    /// What the hubs want, each once.
    pub targets: Vec<Target>,
    /// Most bytes that it may have when it is decompressed.
    pub decoded_bytes_max: usize,
    /// When it came.
    pub moment: Moment,
    /// Which of its series were watched, once they were.
    pub watched: OnceLock<u64>,
}

impl Rewriter {
    /// A rewriter that keeps buffers for large messages within `budget`, of a process with so many `threads`.
    pub(crate) fn new(budget: &Arc<Budget>, threads: usize) -> Self {
        Self {
            lender: Lender::new(budget),
            large: Shares::new(threads.saturating_sub(1).max(1)),
            usual: Shares::with_lines(threads, USUAL_WAITING_MAX),
        }
    }

    /// Gives back buffers for large messages that are unused for long. Does not return.
    pub(crate) async fn expire_buffers(&self) -> Infallible {
        self.lender.expire().await
    }

    /// A request of a spoke begins, which is to be read and worked on.
    pub(crate) fn seat(&self, share: Share) -> Seat {
        Seat::new(&self.usual, share, PATIENCE)
    }

    /// Decompresses a request, judges it, and makes the payloads of its targets. When the budget has
    /// no room in between, the work waits and begins again.
    pub(crate) async fn rewrite(
        &self,
        request: Request,
        mut seat: Seat,
    ) -> Result<Rewritten, RewriteError> {
        let request = Arc::new(request);
        let reservation = &request.reservation;
        let held = reservation.bytes();
        let rewritten = loop {
            match self.attempt(Arc::clone(&request), &mut seat).await {
                Err(RewriteError::Overloaded(overloaded)) => {
                    reservation.resize(held)?;
                    seat.leave();
                    reservation.wait_for_room(overloaded).await?;
                }
                rewritten => break rewritten,
            }
        };
        reservation.end_turn();
        rewritten
    }

    async fn attempt(
        &self,
        request: Arc<Request>,
        seat: &mut Seat,
    ) -> Result<Rewritten, RewriteError> {
        let from = request.protocol;
        let decoded = snappy::checked_len(&request.body, request.decoded_bytes_max)?;
        let targets = request.targets.iter();
        let sizes = targets.map(|target| first_size(from, target.protocol, decoded));
        let size = sizes.max().unwrap_or(decoded);
        let judged = Arc::clone(&request);
        let work = self.run(seat, size, move |buffers| buffers.rewrite(&judged));
        let (mut rewritten, long) = work.await??;
        let Some(long) = long else {
            return Ok(rewritten);
        };
        let work = self.run(seat, long.v1_bytes, move |buffers| {
            buffers.rewrite_long(&request, &mut rewritten, long)?;
            Ok(rewritten)
        });
        work.await?
    }

    /// Encodes a message that was made for a spoke in the other version, for a hub that wants V1
    /// `metadata` in this way. Its room comes from `reservation`.
    pub(crate) async fn translate(
        &self,
        payload: &Payload,
        metadata: Metadata,
        spoke: &Spoke,
        reservation: &Arc<Reservation>,
    ) -> Result<(Outgoing, Permit), RewriteError> {
        let from = payload.protocol;
        let to = match from {
            Protocol::V1 => Protocol::V2,
            Protocol::V2 => Protocol::V1,
        };
        let decoded = decoded_len(payload)?;
        let size = first_size(from, to, decoded);
        let room = first_room(from, to, decoded, &spoke.rules);
        let target = Target {
            protocol: to,
            metadata,
        };
        let (first, held) = self
            .translate_within(payload, target, size, room, reservation)
            .await?;
        let v1_bytes = match first {
            Translated::Done(outgoing) => return Ok((outgoing, held)),
            Translated::Longer(v1_bytes) => v1_bytes,
        };
        drop(held);
        match self
            .translate_within(payload, target, v1_bytes, v1_bytes, reservation)
            .await?
        {
            (Translated::Done(outgoing), held) => Ok((outgoing, held)),
            (Translated::Longer(_), _) => {
                tracing::error!("a message became longer in its second translation");
                Err(RewriteError::Internal)
            }
        }
    }

    /// Encodes a message for `target` within `room` bytes; `size` is that of the work.
    async fn translate_within(
        &self,
        payload: &Payload,
        target: Target,
        size: usize,
        room: usize,
        reservation: &Arc<Reservation>,
    ) -> Result<(Translated, Permit), RewriteError> {
        let mut held = reservation.permit(decoded_len(payload)? + room)?;
        let payload = payload.clone();
        let work = self.step(reservation.share(), size, move |buffers| {
            let translated = buffers.translate(&payload, target, room, &mut held)?;
            let kept = match &translated {
                Translated::Done(outgoing) => outgoing.bytes(),
                Translated::Longer(_) => 0,
            };
            Ok((translated, held.split(kept)))
        });
        work.await?
    }

    /// Cuts a message that was made for a spoke into two; `None` when it holds one sample. Their
    /// room comes from `reservation`.
    pub(crate) async fn halve(
        &self,
        payload: &Payload,
        spoke: &Spoke,
        reservation: &Arc<Reservation>,
    ) -> Result<Option<[(Payload, Permit); 2]>, RewriteError> {
        let protocol = payload.protocol;
        let decoded = decoded_len(payload)?;
        let room = first_room(protocol, protocol, decoded, &spoke.rules);
        let mut held = reservation.permit(decoded + room)?;
        let payload = payload.clone();
        self.step(reservation.share(), decoded, move |buffers| {
            let halves = buffers.halve(&payload, room, &mut held)?;
            let keep = |half: Payload| {
                let kept = held.split(half.memory);
                (half, kept)
            };
            Ok(halves.map(|halves| halves.map(keep)))
        })
        .await?
    }

    /// Lists the units of a message that was made for a spoke. The room of the list comes from
    /// `reservation`.
    pub(crate) async fn units(
        &self,
        payload: &Payload,
        reservation: &Arc<Reservation>,
    ) -> Result<(Vec<Unit>, Permit), RewriteError> {
        let decoded = decoded_len(payload)?;
        let mut held = reservation.permit(decoded)?;
        let payload = payload.clone();
        self.step(reservation.share(), decoded, move |buffers| {
            let units = buffers.units(&payload, &mut held)?;
            let kept = held.split(size_of_val(units.as_slice()));
            Ok((units, kept))
        })
        .await?
    }

    /// Makes a message of parts of one that was made for a spoke; `None` when they hold nothing. Its
    /// room comes from `reservation`.
    pub(crate) async fn cut(
        &self,
        payload: &Payload,
        parts: Vec<Part>,
        spoke: &Spoke,
        reservation: &Arc<Reservation>,
    ) -> Result<Option<(Payload, Permit)>, RewriteError> {
        let protocol = payload.protocol;
        let decoded = decoded_len(payload)?;
        let room = first_room(protocol, protocol, decoded, &spoke.rules);
        let mut held = reservation.permit(decoded + room)?;
        let payload = payload.clone();
        self.step(reservation.share(), decoded, move |buffers| {
            let cut = buffers.cut(&payload, &parts, room, &mut held)?;
            Ok(cut.map(|cut| {
                let kept = held.split(cut.memory);
                (cut, kept)
            }))
        })
        .await?
    }

    /// Runs `work` on a message of `size` bytes where that allows, in the turn of its spoke, unless that comes
    /// too late.
    async fn run<T: Send + 'static>(
        &self,
        seat: &mut Seat,
        size: usize,
        work: impl FnOnce(&mut Buffers) -> T + Send + 'static,
    ) -> Result<T, RewriteError> {
        if size <= INLINE_BYTES_MAX {
            seat.take().await?;
            // What takes less time goes first. It is in the queue of the worker, or the system has it.
            yield_now().await;
            let done = with_buffers(work);
            seat.leave();
            return Ok(done);
        }
        seat.leave();
        let began = Instant::now();
        let done = self
            .run_large(seat.share(), size, seat.patience(), work)
            .await;
        seat.waited(began.elapsed());
        done
    }

    /// Like [`run`](Self::run), for a step of a delivery. A hub may have stored a part already, so what takes
    /// little time is finished before anything begins.
    async fn step<T: Send + 'static>(
        &self,
        share: Share,
        size: usize,
        work: impl FnOnce(&mut Buffers) -> T + Send + 'static,
    ) -> Result<T, RewriteError> {
        if size <= INLINE_BYTES_MAX {
            return Ok(with_buffers(work));
        }
        self.run_large(share, size, PATIENCE, work).await
    }

    async fn run_large<T: Send + 'static>(
        &self,
        share: Share,
        size: usize,
        patience: Duration,
        work: impl FnOnce(&mut Buffers) -> T + Send + 'static,
    ) -> Result<T, RewriteError> {
        let place = self.large.enter(share, patience).await?;
        let lender = Arc::clone(&self.lender);
        let work = move || {
            let _place = place;
            lender.lend(size, work)
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| {
            tracing::error!(%error, "the work on a message panicked");
            RewriteError::Internal
        })
    }
}

fn decoded_len(payload: &Payload) -> Result<usize, RewriteError> {
    Ok(snappy::checked_len(&payload.body, usize::MAX)?)
}

/// Bytes that decide where the first work on a message of `decoded` bytes is done.
fn first_size(from: Protocol, to: Protocol, decoded: usize) -> usize {
    match (from, to) {
        (Protocol::V2, Protocol::V1) => decoded.saturating_mul(DOWNGRADE_FACTOR),
        _ => decoded,
    }
}

/// Room for what is made of a message of `decoded` bytes, before more is known of it. Strings that
/// V2 holds once stand in V1 as often as they are used, so a downgrade may need more; then its
/// length is known.
fn first_room(from: Protocol, to: Protocol, decoded: usize, rules: &Rules) -> usize {
    let most = policy::room(from, to, decoded, rules);
    match (from, to) {
        (Protocol::V2, Protocol::V1) => {
            let inline = decoded.saturating_mul(INLINE_DOWNGRADE_FACTOR);
            most.min(first_size(from, to, decoded).max(inline.min(INLINE_BYTES_MAX)))
        }
        _ => most,
    }
}
