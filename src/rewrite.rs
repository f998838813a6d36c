//! Decompresses a body, puts it before the policy, and makes of it what the hubs shall get, off the
//! async workers when it is large.

mod buffers;
mod payload;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::policy::{self, Rules, Verdict};
use crate::spoke::Spoke;
use crate::wire::transcode::Part;
use crate::wire::writer::Metadata;
use crate::wire::{Protocol, snappy};

use crate::budget::{Passing, Share};
use crate::write::refusal::Refusal;

use buffers::{Buffers, Tried, with_buffers};
pub(crate) use payload::{Outgoing, Packed};

/// Messages up to this size, as V1 where that is written, are worked off where they arrive: some
/// two milliseconds. The usual request of 2000 series is one megabyte.
const INLINE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// A V2 message is supposed to become this many times as long in V1, and this many times more
/// whenever it was more. The usual request grows by four.
const DOWNGRADE_GROWTH: usize = 8;

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
pub(crate) struct Inspected {
    /// What the policy decided.
    pub verdict: Verdict,
    /// What the hubs shall get, one for each target asked for.
    pub outgoing: Vec<Outgoing>,
    /// Size of the decoded message, in bytes.
    pub decoded_bytes: usize,
    /// What the request holds of the budget while the hubs are asked.
    pub share: Share,
}

/// Inspects requests, the large ones on blocking threads.
#[derive(Debug)]
pub(crate) struct Inspector {
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
    pub share: Share,
    /// What the hubs want, each once.
    pub targets: Vec<Target>,
    /// Most bytes that it may have when it is decompressed.
    pub decoded_bytes_max: usize,
}

impl Inspector {
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            large: Arc::new(Semaphore::new(cores)),
        }
    }

    /// Decompresses, inspects and, where rules or targets ask for it, writes a body anew.
    pub(crate) async fn inspect(&self, mut request: Request) -> Result<Inspected, Refusal> {
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
    /// from `share`.
    pub(crate) async fn translate(
        &self,
        packed: &Packed,
        spoke: &Spoke,
        share: &Arc<Share>,
    ) -> Result<(Outgoing, Passing), Refusal> {
        let from = packed.protocol;
        let to = match from {
            Protocol::V1 => Protocol::V2,
            Protocol::V2 => Protocol::V1,
        };
        let decoded = decoded_len(packed)?;
        let mut growth = DOWNGRADE_GROWTH;
        loop {
            let room = Room::new(from, to, decoded, growth, &spoke.rules);
            let size = if to == Protocol::V1 {
                room.bytes
            } else {
                decoded
            };
            let mut held = share.grow_for_now(decoded + room.bytes)?;
            let packed = packed.clone();
            let written = self.run(size, move |buffers| {
                let written = buffers.transcode(&packed, to, Part::WHOLE, room.bytes, &mut held)?;
                let kept = held.split(written.bytes());
                Ok::<_, Refusal>((written, kept))
            });
            let (written, held) = written.await??;
            if !written.too_large || room.is_most {
                return Ok((written, held));
            }
            growth = growth.saturating_mul(DOWNGRADE_GROWTH);
        }
    }

    /// Cuts a message of a spoke that was inspected before into two; `None` when it holds one
    /// sample. Their room comes from `share`.
    pub(crate) async fn halve(
        &self,
        packed: &Packed,
        spoke: &Spoke,
        share: &Arc<Share>,
    ) -> Result<Option<[(Packed, Passing); 2]>, Refusal> {
        let protocol = packed.protocol;
        let decoded = decoded_len(packed)?;
        let room = Room::new(protocol, protocol, decoded, 1, &spoke.rules);
        let mut held = share.grow_for_now(decoded + room.bytes)?;
        let packed = packed.clone();
        self.run(decoded, move |buffers| {
            let halves = buffers.halve(&packed, room.bytes, &mut held)?;
            let keep = |half: Packed| {
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
    ) -> Result<T, Refusal> {
        if size <= INLINE_BYTES_MAX {
            return Ok(with_buffers(work));
        }
        let permit = Arc::clone(&self.large).acquire_owned().await;
        let permit = permit.map_err(|_| Refusal::Internal)?;
        let work = move || {
            let _permit = permit;
            with_buffers(work)
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| {
            tracing::error!(%error, "an inspection panicked");
            Refusal::Internal
        })
    }
}

fn decoded_len(packed: &Packed) -> Result<usize, Refusal> {
    Ok(snappy::checked_len(&packed.body, usize::MAX)?)
}

/// Room for a message to be written.
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
