//! Decompresses a body and puts it before the policy, off the async workers when it is large.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use snap::raw::{Encoder, max_compress_len};
use tokio::sync::Semaphore;

use crate::policy::{self, Verdict};
use crate::spoke::Spoke;
use crate::wire::{Protocol, snappy};

use super::admission::Share;
use super::refusal::Refusal;

/// Decoded sizes up to this are worked off where they arrive: some two milliseconds. The usual
/// request of 2000 series is one megabyte.
const INLINE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Memory that a thread keeps for its next request; more is given back.
const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;

thread_local! {
    /// Buffers of the thread. They hold nothing between two requests, and a pool would only add
    /// a lock to what a thread can keep to itself.
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers::new());
}

/// A request that was inspected.
#[derive(Debug)]
pub(super) struct Inspected {
    /// What the policy decided.
    pub verdict: Verdict,
    /// What the hub shall get, compressed; `None` when nothing is left to send.
    pub outgoing: Option<Bytes>,
    /// Size of the decoded message, in bytes.
    pub decoded_bytes: usize,
    /// What the request holds of the budget while the hub is asked.
    pub share: Share,
}

/// Inspects requests, the large ones on blocking threads.
#[derive(Debug)]
pub(super) struct Inspector {
    /// One a core: more would only hold more memory at once.
    large: Arc<Semaphore>,
}

impl Inspector {
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            large: Arc::new(Semaphore::new(cores)),
        }
    }

    /// Decompresses, inspects and, where the rules ask for it, writes a body anew.
    pub(super) async fn inspect(
        &self,
        spoke: &Arc<Spoke>,
        protocol: Protocol,
        body: Bytes,
        share: Share,
        decoded_bytes_max: usize,
    ) -> Result<Inspected, Refusal> {
        if snappy::checked_len(&body, decoded_bytes_max)? <= INLINE_BYTES_MAX {
            return inspect(spoke, protocol, body, share, decoded_bytes_max);
        }
        let permit = Arc::clone(&self.large).acquire_owned().await;
        let permit = permit.map_err(|_| Refusal::Internal)?;
        let spoke = Arc::clone(spoke);
        let inspect = move || {
            let _permit = permit;
            inspect(&spoke, protocol, body, share, decoded_bytes_max)
        };
        tokio::task::spawn_blocking(inspect)
            .await
            .map_err(|error| {
                tracing::error!(%error, "an inspection panicked");
                Refusal::Internal
            })?
    }
}

struct Buffers {
    decoded: Vec<u8>,
    encoder: Encoder,
    policy: policy::Scratch,
}

fn inspect(
    spoke: &Spoke,
    protocol: Protocol,
    body: Bytes,
    share: Share,
    decoded_bytes_max: usize,
) -> Result<Inspected, Refusal> {
    BUFFERS.with_borrow_mut(|buffers| {
        let inspected = buffers.inspect(spoke, protocol, body, share, decoded_bytes_max);
        buffers.trim();
        inspected
    })
}

impl Buffers {
    fn new() -> Self {
        Self {
            decoded: Vec::new(),
            encoder: Encoder::new(),
            policy: policy::Scratch::default(),
        }
    }

    fn inspect(
        &mut self,
        spoke: &Spoke,
        protocol: Protocol,
        body: Bytes,
        mut share: Share,
        decoded_bytes_max: usize,
    ) -> Result<Inspected, Refusal> {
        let malformed = |malformed| Refusal::Malformed {
            protocol,
            malformed,
        };
        let rules = &spoke.rules;
        let message = snappy::decompress(&body, decoded_bytes_max, &mut self.decoded)?;
        let decoded_bytes = message.len();
        let verdict =
            policy::inspect(protocol, message, rules, &mut self.policy).map_err(malformed)?;
        if verdict.foreign && verdict.series == 0 && verdict.received.is_empty() {
            return Err(Refusal::WrongMessage(protocol));
        }
        let (outgoing, held) = if !verdict.keeps() {
            (None, 0)
        } else if verdict.changed() {
            drop(body);
            let room = policy::Room::new(protocol, decoded_bytes, &verdict, rules);
            // The decoded message goes before the compressed one comes.
            let writing = decoded_bytes.saturating_add(room.working);
            let compressing = room.message.saturating_add(max_compress_len(room.message));
            share.resize(writing.max(compressing))?;
            let message = policy::rewrite(protocol, message, rules, &mut self.policy, room)
                .map_err(malformed)?;
            self.trim();
            let compressed = snappy::compress(&mut self.encoder, &message);
            let held = compressed.capacity();
            (Some(Bytes::from(compressed)), held)
        } else {
            let held = body.len();
            (Some(body), held)
        };
        share.resize(held)?;
        Ok(Inspected {
            verdict,
            outgoing,
            decoded_bytes,
            share,
        })
    }

    fn trim(&mut self) {
        if self.decoded.capacity() > KEPT_BYTES_MAX {
            self.decoded = Vec::new();
        }
        self.policy.trim(KEPT_BYTES_MAX);
    }
}
