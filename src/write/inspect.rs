//! Decompresses a body, puts it before the policy, and makes of it what the hubs shall get, off the
//! async workers when it is large.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use snap::raw::{Encoder, max_compress_len};
use tokio::sync::Semaphore;

use crate::policy::{self, Rules, Verdict};
use crate::spoke::Spoke;
use crate::wire::transcode::{self, Part};
use crate::wire::writer::{Form, Lost, Message, Metadata, Writer, Written};
use crate::wire::{Counts, Kind, Protocol, snappy};

use super::admission::{Passing, Share};
use super::refusal::Refusal;

/// Messages up to this size, as V1 where that is written, are worked off where they arrive: some
/// two milliseconds. The usual request of 2000 series is one megabyte.
const INLINE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// A V2 message is supposed to become this many times as long in V1, and this many times more
/// whenever it was more. The usual request grows by four.
const DOWNGRADE_GROWTH: usize = 8;

/// Memory that a thread keeps for its next request; more is given back.
const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;

thread_local! {
    /// Buffers of the thread. They hold nothing between two requests, and a pool would only add
    /// a lock to what a thread can keep to itself.
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers::new());
}

/// What a hub wants to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    /// The version.
    pub protocol: Protocol,
    /// What becomes of V1 metadata, where the version is V2.
    pub metadata: Metadata,
}

/// A message for a hub, compressed.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    /// Its version.
    pub protocol: Protocol,
    /// Its bytes, compressed.
    pub body: Bytes,
    /// The memory that they take.
    pub memory: usize,
    /// What it carries.
    pub counts: Counts,
}

/// What a hub shall get of one request.
#[derive(Debug, Clone, Default)]
pub(super) struct Outgoing {
    /// The message; `None` when there is nothing to put into it.
    pub message: Option<Packed>,
    /// What V2 has no form for, to be sent in V1 after the message.
    pub side: Option<Packed>,
    /// What is in neither.
    pub lost: Lost,
    /// It would be larger than a V1 message may be, so there is no message.
    pub too_large: bool,
}

impl Outgoing {
    fn too_large() -> Self {
        Self {
            too_large: true,
            ..Self::default()
        }
    }

    /// The memory that it holds, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let packed = self.message.iter().chain(&self.side);
        packed.map(|packed| packed.memory).sum()
    }

    /// What it carries.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for packed in self.message.iter().chain(&self.side) {
            counts.add_all(&packed.counts);
        }
        counts
    }
}

/// A request that was inspected.
#[derive(Debug)]
pub(super) struct Inspected {
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
pub(super) struct Inspector {
    /// One a core: more would only hold more memory at once.
    large: Arc<Semaphore>,
}

/// A request to be inspected.
#[derive(Debug)]
pub(super) struct Request {
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
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            large: Arc::new(Semaphore::new(cores)),
        }
    }

    /// Decompresses, inspects and, where rules or targets ask for it, writes a body anew.
    pub(super) async fn inspect(&self, mut request: Request) -> Result<Inspected, Refusal> {
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
    pub(super) async fn translate(
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
    pub(super) async fn halve(
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

    /// Runs `work` where its size allows.
    async fn run<T: Send + 'static>(
        &self,
        decoded_bytes: usize,
        work: impl FnOnce(&mut Buffers) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        if decoded_bytes <= INLINE_BYTES_MAX {
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

/// How an inspection ended.
enum Tried {
    Done(Inspected),
    /// It needs more room.
    Narrow(Request),
}

struct Buffers {
    decoded: Vec<u8>,
    compressed: Vec<u8>,
    encoder: Encoder,
    policy: policy::Scratch,
    transcode: transcode::Scratch,
    writer: Writer,
}

fn with_buffers<T>(work: impl FnOnce(&mut Buffers) -> T) -> T {
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
            encoder: Encoder::new(),
            policy: policy::Scratch::default(),
            transcode: transcode::Scratch::default(),
            writer: Writer::default(),
        }
    }

    fn inspect(&mut self, mut request: Request, growth: usize) -> Result<Tried, Refusal> {
        let Request {
            spoke,
            protocol,
            body,
            share,
            targets,
            decoded_bytes_max,
        } = &mut request;
        let (protocol, rules) = (*protocol, &spoke.rules);
        let malformed = |malformed| Refusal::Malformed {
            protocol,
            malformed,
        };
        let message = snappy::decompress(body, *decoded_bytes_max, &mut self.decoded)?;
        let decoded_bytes = message.len();
        let mut packing = Packing {
            encoder: &mut self.encoder,
            compressed: &mut self.compressed,
        };
        let mut verdict = None;
        // To look first pays where nothing will be changed, as it was with the last request.
        if targets.iter().any(|target| target.protocol == protocol)
            && !spoke.changes.load(Ordering::Relaxed)
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
                let message = Packed {
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
            share.resize(share.bytes().max(needed))?;
            let form = Form {
                protocol: to,
                metadata,
                v1_bytes_max: room.bytes,
            };
            let written = policy::write(protocol, message, rules, &mut self.policy, form);
            let (found, written) = written.map_err(malformed)?;
            if to == Protocol::V2 || !written.overflow {
                share.resize(share.bytes().max(needed + packing_room(&written)))?;
                outgoing.push(packing.outgoing(to, &written));
            } else if room.is_most {
                outgoing.push(Outgoing::too_large());
            } else {
                return Ok(Tried::Narrow(request));
            }
            verdict = Some(found);
        }
        let verdict = verdict.ok_or(Refusal::Internal)?;
        if verdict.foreign && verdict.series == 0 && verdict.received.is_empty() {
            return Err(Refusal::WrongMessage(protocol));
        }
        spoke.changes.store(verdict.changed(), Ordering::Relaxed);
        let held = outgoing.iter().map(Outgoing::bytes).sum();
        let mut share = request.share;
        share.resize(held)?;
        Ok(Tried::Done(Inspected {
            verdict,
            outgoing,
            decoded_bytes,
            share,
        }))
    }

    /// Writes a part of a message in the version `to`, and takes for `held` what it takes to
    /// compress it.
    fn transcode(
        &mut self,
        packed: &Packed,
        to: Protocol,
        part: Part,
        v1_bytes_max: usize,
        held: &mut Passing,
    ) -> Result<Outgoing, Refusal> {
        let malformed = |malformed| Refusal::Malformed {
            protocol: packed.protocol,
            malformed,
        };
        let message = snappy::decompress(&packed.body, usize::MAX, &mut self.decoded)?;
        let form = Form {
            protocol: to,
            metadata: Metadata::Forward,
            v1_bytes_max,
        };
        let (scratch, writer) = (&mut self.transcode, &mut self.writer);
        let written = transcode::transcode(message, packed.protocol, form, part, scratch, writer);
        let written = written.map_err(malformed)?;
        if to == Protocol::V1 && written.overflow {
            return Ok(Outgoing::too_large());
        }
        held.grow(packing_room(&written))?;
        let mut packing = Packing {
            encoder: &mut self.encoder,
            compressed: &mut self.compressed,
        };
        Ok(packing.outgoing(to, &written))
    }

    fn halve(
        &mut self,
        packed: &Packed,
        v1_bytes_max: usize,
        held: &mut Passing,
    ) -> Result<Option<[Packed; 2]>, Refusal> {
        let protocol = packed.protocol;
        let message = snappy::decompress(&packed.body, usize::MAX, &mut self.decoded)?;
        let extent = transcode::extent(message, protocol, &mut self.transcode);
        let extent = extent.map_err(|malformed| Refusal::Malformed {
            protocol,
            malformed,
        })?;
        let Some(halves) = extent.halves() else {
            return Ok(None);
        };
        let mut half = |part| self.transcode(packed, protocol, part, v1_bytes_max, held);
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
        self.writer.trim(KEPT_BYTES_MAX);
    }
}

/// True when the original body may travel on.
fn unchanged(verdict: &Verdict, protocol: Protocol) -> bool {
    let takes_all = protocol == Protocol::V1 || verdict.exemplars_alone == 0;
    !verdict.changed() && verdict.keeps() && takes_all
}

/// What it takes to compress what was written, in bytes: buffers, and copies of at most half of
/// them.
fn packing_room(written: &Written<'_>) -> usize {
    let messages = [&written.message, &written.side];
    let buffers = messages.map(|message| max_compress_len(message.bytes.len()));
    buffers.iter().sum::<usize>() / 2 * 3
}

/// Compresses what was written.
struct Packing<'b> {
    encoder: &'b mut Encoder,
    compressed: &'b mut Vec<u8>,
}

impl Packing<'_> {
    fn outgoing(&mut self, protocol: Protocol, written: &Written<'_>) -> Outgoing {
        let mut message = self.pack(protocol, &written.message);
        if let Some(message) = &mut message {
            message.counts.add(Kind::Metadata, written.merged_metadata);
        }
        Outgoing {
            message,
            side: self.pack(Protocol::V1, &written.side),
            lost: written.lost,
            too_large: false,
        }
    }

    fn pack(&mut self, protocol: Protocol, message: &Message<'_>) -> Option<Packed> {
        if message.bytes.is_empty() {
            return None;
        }
        let body = snappy::compress(self.encoder, message.bytes, self.compressed);
        let (length, capacity) = (body.len(), self.compressed.capacity());
        let (body, memory) = if length > KEPT_BYTES_MAX && length > capacity / 2 {
            // The buffer would not be kept anyway.
            let mut buffer = std::mem::take(self.compressed);
            buffer.truncate(length);
            (Bytes::from(buffer), capacity)
        } else {
            (Bytes::copy_from_slice(&self.compressed[..length]), length)
        };
        Some(Packed {
            protocol,
            body,
            memory,
            counts: message.counts,
        })
    }
}
