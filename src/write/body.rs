//! Reads a body under its limits and a deadline, and drains what a refusal leaves unread.

use std::error::Error;
use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use snap::raw::max_compress_len;
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::Limits;
use crate::wire::snappy::{self, SnappyError};

use super::refusal::Refusal;
use crate::budget::Share;

/// For a whole body. Prometheus gives up a request after 30 s (`remote_timeout`), so nobody waits
/// for what comes later.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// For what a refusal leaves unread.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that suffice to tell what a body declares: the identifier of framed snappy is ten.
const PREAMBLE_BYTES_MAX: usize = 10;

/// Reads a whole body. Takes from the budget what the body and its decoded form will hold as soon
/// as headers and first bytes tell, so that nobody sends 32 MiB to be told no.
pub(super) async fn read(
    body: &mut Incoming,
    limits: &Limits,
    share: &mut Share,
) -> Result<Bytes, Refusal> {
    let announced = body.size_hint().exact();
    let announced = announced.map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    let mut reading = Reading {
        announced,
        limits,
        share,
        declared: None,
        charged: 0,
    };
    if let Some(length) = announced {
        if length > limits.body_bytes_max {
            let limit = limits.body_bytes_max;
            return Err(Refusal::BodyTooLarge { limit });
        }
        reading.charge(length)?;
    }
    let deadline = Instant::now() + BODY_TIMEOUT;
    let late = |_| Refusal::BodyTimeout {
        seconds: BODY_TIMEOUT.as_secs(),
    };
    let mut whole = Vec::new();
    while let Some(frame) = timeout_at(deadline, body.frame()).await.map_err(late)? {
        let Ok(data) = frame.map_err(broken)?.into_data() else {
            continue;
        };
        // A body in one piece is not copied.
        if announced == Some(data.len()) && whole.is_empty() {
            reading.check(&data)?;
            return Ok(data);
        }
        reading.append(&data, &mut whole)?;
    }
    Ok(whole.into())
}

/// A connection that broke may come again whole; a chunk that is none will not.
fn broken(error: hyper::Error) -> Refusal {
    let mut source = error.source();
    while let Some(error) = source {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(
            kind,
            Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
        ) {
            return Refusal::BodyFraming;
        }
        source = error.source();
    }
    Refusal::BodyTruncated
}

/// Reads on to the end, within bounds, while the answer is on its way: to close with bytes unread
/// resets the connection, the answer may be lost with it, and senders retry a reset for ever.
pub(super) async fn drain(body: &mut Incoming, bytes_max: usize) {
    let mut left = bytes_max;
    let drained = timeout(DRAIN_TIMEOUT, async {
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Buf::remaining);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    });
    // What is not drained by now is cut off.
    let _ = drained.await;
}

struct Reading<'r> {
    announced: Option<usize>,
    limits: &'r Limits,
    share: &'r mut Share,
    declared: Option<usize>,
    /// What is taken from the budget for the body as sent, in bytes.
    charged: usize,
}

impl Reading<'_> {
    /// Appends what came, after making room for all that is to come. Buffers that a body outgrew
    /// would lie about in the allocator, counted by nobody.
    fn append(&mut self, data: &[u8], whole: &mut Vec<u8>) -> Result<(), Refusal> {
        let length = whole.len().saturating_add(data.len());
        let limit = self.limits.body_bytes_max;
        if length > limit {
            return Err(Refusal::BodyTooLarge { limit });
        }
        if self.declared.is_none() && whole.len() < PREAMBLE_BYTES_MAX {
            let mut start = whole.clone();
            start.extend(data.iter().take(PREAMBLE_BYTES_MAX));
            self.check(&start)?;
        }
        if length > self.charged {
            // Without Content-Length, what the body declares bounds its size.
            let bound = self.declared.map_or(0, max_compress_len);
            self.charge(bound.max(length).max(2 * self.charged).min(limit))?;
        }
        whole.reserve_exact(self.charged - whole.len());
        whole.extend_from_slice(data);
        Ok(())
    }

    /// Takes from the budget until `bytes` are taken for the body as sent.
    fn charge(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.share.grow(bytes - self.charged)?;
        self.charged = bytes;
        Ok(())
    }

    /// Checks the decoded size and takes it from the budget, once `start` declares it.
    fn check(&mut self, start: &[u8]) -> Result<(), Refusal> {
        let Some(declared) = snappy::declared_len(start)? else {
            return Ok(());
        };
        let limit = self.limits.decoded_bytes_max;
        if declared > limit {
            return Err(SnappyError::TooLarge { declared, limit }.into());
        }
        if let Some(compressed) = self.announced
            && declared > snappy::EXPANSION_MAX.saturating_mul(compressed)
        {
            return Err(SnappyError::Expansion {
                compressed,
                declared,
            }
            .into());
        }
        self.share.grow(declared)?;
        self.declared = Some(declared);
        Ok(())
    }
}
