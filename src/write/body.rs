//! Reads a body under its limits and a deadline, and discards what a refusal leaves unread.

use std::error::Error;
use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::header::EXPECT;
use http::request::Parts;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use snap::raw::max_compress_len;
use tokio::time::{Instant, timeout, timeout_at};

use crate::budget::Reservation;
use crate::config::Limits;
use crate::wire::snappy::{self, SnappyError};

use super::refusal::Refusal;

/// The time for a whole body. Prometheus gives a request up after 30 s (`remote_timeout`), so no
/// sender waits for longer.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The time for what a refusal leaves unread.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(10);

/// As many leading bytes suffice to read the decoded size that a body declares, and to recognise
/// framed snappy, whose identifier has ten.
const PREAMBLE_BYTES_MAX: usize = 10;

/// The length that the headers announce, in bytes, when it is within the limit.
pub(super) fn announced(body: &Incoming, limits: &Limits) -> Result<Option<usize>, Refusal> {
    let Some(length) = body.size_hint().exact() else {
        return Ok(None);
    };
    let limit = limits.body_bytes_max;
    match usize::try_from(length) {
        Ok(length) if length <= limit => Ok(Some(length)),
        _ => Err(Refusal::BodyTooLarge { limit }),
    }
}

/// Reads a whole body, whose announced length is reserved already. Reserves what the decoded form
/// will hold as soon as the first bytes declare it, so that nobody sends 32 MiB to be refused.
pub(super) async fn read(
    body: &mut Incoming,
    announced: Option<usize>,
    limits: &Limits,
    reservation: &mut Reservation,
) -> Result<Bytes, Refusal> {
    let mut reading = Reading {
        announced,
        limits,
        reservation,
        declared: None,
        charged: announced.unwrap_or_default(),
    };
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

/// A body that was cut off may arrive whole the next time; an invalid chunk stays invalid.
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

/// Reads what a refusal leaves unread, beside the response that is on its way. To close with bytes
/// unread resets the connection, the response may be lost with it, and senders retry a reset for
/// ever.
pub(super) fn discard_in_background(head: &Parts, mut body: Incoming, limits: &Limits) {
    // Polling the body would send `100 Continue` to a sender that waits for it.
    if expects_continue(head) {
        return;
    }
    let bytes_max = 2 * limits.body_bytes_max;
    tokio::spawn(async move { discard(&mut body, bytes_max).await });
}

async fn discard(body: &mut Incoming, bytes_max: usize) {
    let mut left = bytes_max;
    let discarded = timeout(DISCARD_TIMEOUT, async {
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Buf::remaining);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    });
    // What is not read by now is cut off.
    let _ = discarded.await;
}

fn expects_continue(head: &Parts) -> bool {
    let expected = head.headers.get(EXPECT);
    let expected = expected.and_then(|expected| expected.to_str().ok());
    expected.is_some_and(|expected| expected.eq_ignore_ascii_case("100-continue"))
}

/// A body that is being read.
struct Reading<'r> {
    announced: Option<usize>,
    limits: &'r Limits,
    reservation: &'r mut Reservation,
    /// The decoded size that the body declares, in bytes.
    declared: Option<usize>,
    /// The bytes reserved for the body as sent.
    charged: usize,
}

impl Reading<'_> {
    /// Appends what arrived, after making room for all that is to come. Otherwise the buffers that a
    /// body outgrew would stay in the allocator, and the budget would not count them.
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

    /// Reserves bytes until `bytes` are reserved for the body as sent.
    fn charge(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.reservation.grow(bytes - self.charged)?;
        self.charged = bytes;
        Ok(())
    }

    /// Checks and reserves the decoded size, once `start` declares it.
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
        self.reservation.grow(declared)?;
        self.declared = Some(declared);
        Ok(())
    }
}
