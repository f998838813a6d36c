//! Decompresses a body, puts it before the policy, and makes of it what the hubs shall get, off the
//! async workers when it is large.

mod buffers;
mod payload;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::policy::{self, Rules, Verdict};
use crate::spoke::Spoke;
pub(crate) use crate::wire::encoder::{Lost, Metadata};
use crate::wire::snappy::SnappyError;
use crate::wire::transcode::Part;
use crate::wire::{Malformed, Protocol, snappy};

use crate::budget::{Overloaded, Permit, Reservation};

use buffers::{Buffers, Tried, with_buffers};
pub(crate) use payload::{Outgoing, Payload};

/// Messages up to this size, as V1 where that is encoded, are worked off where they arrive: some
/// two milliseconds. The usual request of 2000 series is one megabyte.
const INLINE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// A V2 message is supposed to become this many times as long in V1, and this many times more
/// whenever it was more. The usual request grows by four.
const DOWNGRADE_GROWTH: usize = 8;

/// Why a message is not rewritten.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
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

/// What a hub wants to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    /// The version.
    pub protocol: Protocol,
    /// What becomes of V1 metadata, where the version is V2.
    pub metadata: Metadata,
}

/// A request that was inspected.
#[derive(Debug)]
pub(crate) struct Rewritten {
    /// What the policy decided.
    pub verdict: Verdict,
    /// What the hubs shall get, one for each target asked for.
    pub outgoing: Vec<Outgoing>,
    /// Size of the decoded message, in bytes.
    pub decoded_bytes: usize,
    /// What the request holds of the budget while the hubs are asked.
    pub reservation: Reservation,
}

/// Inspects requests, the large ones on blocking threads.
#[derive(Debug)]
pub(crate) struct Rewriter {
    /// One a core: more would only hold more memory at once.
    large: Arc<Semaphore>,
}

/// A request to be inspected.
#[derive(Debug)]
pub(crate) struct Request {
    /// Who sent it.
    pub spoke: Arc<Spoke>,
    /// The version it is said to be of.
    pub protocol: Protocol,
    /// Its body, compressed.
    pub body: Bytes,
    /// What it holds of the budget.
    pub reservation: Reservation,
    /// What the hubs want, each once.
    pub targets: Vec<Target>,
    /// Most bytes that it may have when it is decompressed.
    pub decoded_bytes_max: usize,
}

impl Rewriter {
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            large: Arc::new(Semaphore::new(cores)),
        }
    }

    /// Decompresses, inspects and, where rules or targets ask for it, writes a body anew.
    pub(crate) async fn rewrite(&self, mut request: Request) -> Result<Rewritten, RewriteError> {
        let decoded = snappy::checked_len(&request.body, request.decoded_bytes_max)?;
        let mut growth = DOWNGRADE_GROWTH;
        loop {
            let downgrades = request
                .targets
                .iter()
                .any(|target| (request.protocol, target.protocol) == (Protocol::V2, Protocol::V1));
            let size = if downgrades {
                decoded.saturating_mul(growth)
            } else {
                decoded
            };
            let tried = self.run(size, move |buffers| buffers.inspect(request, growth));
            match tried.await?? {
                Tried::Done(inspected) => return Ok(inspected),
                Tried::Narrow(again) => request = again,
            }
            growth = growth.saturating_mul(DOWNGRADE_GROWTH);
        }
    }

    /// Writes a message of a spoke that was inspected before in the other version. Its room comes
    /// from `reservation`.
    pub(crate) async fn translate(
        &self,
        payload: &Payload,
        spoke: &Spoke,
        reservation: &Arc<Reservation>,
    ) -> Result<(Outgoing, Permit), RewriteError> {
        let from = payload.protocol;
        let to = match from {
            Protocol::V1 => Protocol::V2,
            Protocol::V2 => Protocol::V1,
        };
        let decoded = decoded_len(payload)?;
        let mut growth = DOWNGRADE_GROWTH;
        loop {
            let room = Room::new(from, to, decoded, growth, &spoke.rules);
            let size = if to == Protocol::V1 {
                room.bytes
            } else {
                decoded
            };
            let mut held = reservation.permit(decoded + room.bytes)?;
            let payload = payload.clone();
            let encoded = self.run(size, move |buffers| {
                let encoded =
                    buffers.transcode(&payload, to, Part::WHOLE, room.bytes, &mut held)?;
                let kept = held.split(encoded.bytes());
                Ok::<_, RewriteError>((encoded, kept))
            });
            let (encoded, held) = encoded.await??;
            if !encoded.too_large || room.is_most {
                return Ok((encoded, held));
            }
            growth = growth.saturating_mul(DOWNGRADE_GROWTH);
        }
    }

    /// Cuts a message of a spoke that was inspected before into two; `None` when it holds one
    /// sample. Their room comes from `reservation`.
    pub(crate) async fn halve(
        &self,
        payload: &Payload,
        spoke: &Spoke,
        reservation: &Arc<Reservation>,
    ) -> Result<Option<[(Payload, Permit); 2]>, RewriteError> {
        let protocol = payload.protocol;
        let decoded = decoded_len(payload)?;
        let room = Room::new(protocol, protocol, decoded, 1, &spoke.rules);
        let mut held = reservation.permit(decoded + room.bytes)?;
        let payload = payload.clone();
        self.run(decoded, move |buffers| {
            let halves = buffers.halve(&payload, room.bytes, &mut held)?;
            let keep = |half: Payload| {
                let kept = held.split(half.memory);
                (half, kept)
            };
            Ok(halves.map(|halves| halves.map(keep)))
        })
        .await?
    }

    /// Runs `work` on a message of `size` bytes where that allows.
    async fn run<T: Send + 'static>(
        &self,
        size: usize,
        work: impl FnOnce(&mut Buffers) -> T + Send + 'static,
    ) -> Result<T, RewriteError> {
        if size <= INLINE_BYTES_MAX {
            return Ok(with_buffers(work));
        }
        let permit = Arc::clone(&self.large).acquire_owned().await;
        let permit = permit.map_err(|_| RewriteError::Internal)?;
        let work = move || {
            let _permit = permit;
            with_buffers(work)
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| {
            tracing::error!(%error, "an inspection panicked");
            RewriteError::Internal
        })
    }
}

fn decoded_len(payload: &Payload) -> Result<usize, RewriteError> {
    Ok(snappy::checked_len(&payload.body, usize::MAX)?)
}

/// Room for a message to be encoded.
#[derive(Debug, Clone, Copy)]
struct Room {
    bytes: usize,
    /// No message needs more, or none may.
    is_most: bool,
}

impl Room {
    /// What it takes beside a message of `decoded` bytes. Strings that V2 holds once stand in V1 as
    /// often as they are used; how much that makes is not known before, so it is tried with more
    /// and more `growth`.
    fn new(from: Protocol, to: Protocol, decoded: usize, growth: usize, rules: &Rules) -> Self {
        let most = policy::room(from, to, decoded, rules);
        let bytes = match (from, to) {
            (Protocol::V2, Protocol::V1) => most.min(decoded.saturating_mul(growth)),
            _ => most,
        };
        Self {
            bytes,
            is_most: bytes == most,
        }
    }
}
