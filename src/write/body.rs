//! Reads a body under its limits and a deadline, and discards what a refusal leaves unread.

use std::error::Error;
use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::header::EXPECT;
use http::request::Parts;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use snap::raw::max_compress_len;
use tokio::time::{Instant, timeout, timeout_at};

use crate::budget::{Full, Overloaded, Reservation};
use crate::capture::Captured;
use crate::config::Limits;
use crate::rewrite::Seat;
use crate::wire::snappy::{self, SnappyError};

use super::refusal::Refusal;

/// The time for a whole body. Prometheus gives a request up after 30 s (`remote_timeout`), so no
/// sender waits for longer.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A body that stalls is given up: [`STEP_BYTES`] must arrive in this time. That is far below the
/// pace of a body that arrives within [`BODY_TIMEOUT`], so only stalled ones are met.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// See [`STEP_TIMEOUT`].
const STEP_BYTES: usize = 4 * 1024;

/// The first sizes of the buffer of a body, in bytes. They are near what has arrived, because
/// thousands of bodies that only began would otherwise fill the budget. A body that outgrows them
/// gets a buffer for all that is to come, since the buffers that it outgrew stay in the allocator for
/// a while, and the budget does not count them. Pages of that buffer take memory only when they are
/// touched.
const BUFFER_STEPS: [usize; 4] = [4 * 1024, 16 * 1024, 64 * 1024, 256 * 1024];

/// The system may give memory in pages of this size (transparent huge pages).
const HUGE_PAGE_BYTES: usize = 2 * 1024 * 1024;

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

/// Reads a whole body. Bytes are reserved as they arrive, whatever the headers announce and the first
/// bytes declare: what was only said to come must not take room from others. What the decoded form
/// will hold is reserved at the end. A body that has no room even at its first bytes is refused
/// then, so that nobody sends 32 MiB to be refused. A body is read in the turn of its spoke, and what has
/// not come waits at the sender until then.
pub(super) async fn read(
    body: &mut Incoming,
    announced: Option<usize>,
    limits: &Limits,
    reservation: &Reservation,
    seat: &mut Seat,
) -> Result<Bytes, Unread> {
    let mut reading = Reading {
        announced,
        limits,
        reservation,
        seat,
        declared: None,
        whole: Vec::new(),
        last: Bytes::new(),
    };
    let read = reading.read(body).await;
    read.map_err(|refusal| Unread {
        refusal,
        arrived: [reading.whole.into(), reading.last],
    })
}

/// A body that is refused before it was read, or when it was.
#[derive(Debug)]
pub(super) struct Unread {
    pub(super) refusal: Refusal,
    /// What arrived of it.
    pub(super) arrived: [Bytes; 2],
}

/// How fast a body must arrive.
struct Pace {
    /// When the whole body must have arrived.
    deadline: Instant,
    /// When the next bytes must have arrived.
    step: Instant,
    /// How many of them have arrived.
    arrived: usize,
}

impl Pace {
    fn new() -> Self {
        let begun = Instant::now();
        Self {
            deadline: begun + BODY_TIMEOUT,
            step: begun + STEP_TIMEOUT,
            arrived: 0,
        }
    }

    /// The next part of the body, `None` at its end.
    async fn next(
        &self,
        body: &mut Incoming,
    ) -> Result<Option<Result<Frame<Bytes>, hyper::Error>>, Refusal> {
        let limit = self.step.min(self.deadline);
        let next = timeout_at(limit, body.frame()).await;
        next.map_err(|_| {
            if limit == self.deadline {
                let seconds = BODY_TIMEOUT.as_secs();
                Refusal::BodyTimeout { seconds }
            } else {
                Refusal::BodyStalled
            }
        })
    }

    /// Some bytes have arrived, and the sender had to wait for `waited` until they were taken.
    fn arrived(&mut self, bytes: usize, waited: Duration) {
        self.step += waited;
        self.arrived += bytes;
        if self.arrived >= STEP_BYTES {
            self.arrived = 0;
            self.step = Instant::now() + STEP_TIMEOUT;
        }
    }
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

/// Reads what the refusal of a spoke's request leaves unread, beside the response that is on its
/// way. A sender that writes the whole body before it reads must see the response, or it sends the
/// body again for ever. The connection stays open. What is captured is stored when it is complete.
pub(super) fn discard_in_background(
    head: &Parts,
    mut body: Incoming,
    limits: &Limits,
    mut captured: Option<Captured>,
) {
    // Polling the body would send `100 Continue` to a sender that waits for it.
    if expects_continue(head) {
        return super::store(captured);
    }
    let bytes_max = 2 * limits.body_bytes_max;
    tokio::spawn(async move {
        discard(&mut body, bytes_max, captured.as_mut()).await;
        super::store(captured);
    });
}

async fn discard(body: &mut Incoming, bytes_max: usize, mut captured: Option<&mut Captured>) {
    let mut left = bytes_max;
    let discarded = timeout(DISCARD_TIMEOUT, async {
        // Where the length is known, nothing has to say that the end has come.
        while !body.is_end_stream() {
            let frame = match body.frame().await {
                Some(Ok(frame)) => frame,
                Some(Err(_)) => return,
                None => break,
            };
            if let (Some(captured), Some(data)) = (&mut captured, frame.data_ref()) {
                captured.body.add(data);
            }
            let length = frame.data_ref().map_or(0, Buf::remaining);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return,
            }
        }
        if let Some(captured) = captured {
            captured.body.end();
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
    reservation: &'r Reservation,
    seat: &'r mut Seat,
    /// The decoded size that the body declares, in bytes.
    declared: Option<usize>,
    /// What has arrived.
    whole: Vec<u8>,
    /// What arrived last, if it was refused.
    last: Bytes,
}

impl Reading<'_> {
    async fn read(&mut self, body: &mut Incoming) -> Result<Bytes, Refusal> {
        self.seat.take().await?;
        let mut pace = Pace::new();
        while let Some(frame) = self.seat.wait_for(pace.next(body)).await? {
            self.seat.arrived();
            let Ok(data) = frame.map_err(broken)?.into_data() else {
                continue;
            };
            // A body in one piece is not copied.
            if self.announced == Some(data.len()) && self.whole.is_empty() {
                return match self.take(&data).await {
                    Ok(()) => Ok(data),
                    Err(refusal) => self.refuse(data, refusal),
                };
            }
            let began = Instant::now();
            if let Err(refusal) = self.append(&data).await {
                return self.refuse(data, refusal);
            }
            pace.arrived(data.len(), began.elapsed());
        }
        self.end().await?;
        Ok(std::mem::take(&mut self.whole).into())
    }

    /// Refuses the body at what arrived last.
    fn refuse(&mut self, data: Bytes, refusal: Refusal) -> Result<Bytes, Refusal> {
        self.last = data;
        Err(refusal)
    }

    /// Takes a body in one piece.
    async fn take(&mut self, data: &[u8]) -> Result<(), Refusal> {
        self.check(data).await?;
        self.charge(data.len()).await?;
        self.end().await
    }

    /// Appends what arrived.
    async fn append(&mut self, data: &[u8]) -> Result<(), Refusal> {
        let length = self.whole.len().saturating_add(data.len());
        let limit = self.limits.body_bytes_max;
        if length > limit {
            return Err(Refusal::BodyTooLarge { limit });
        }
        self.seat.take().await?;
        if self.declared.is_none() && self.whole.len() < PREAMBLE_BYTES_MAX {
            let mut start = self.whole.clone();
            start.extend(data.iter().take(PREAMBLE_BYTES_MAX));
            self.check(&start).await?;
        }
        self.make_room(length).await?;
        self.whole.extend_from_slice(data);
        Ok(())
    }

    /// Makes the buffer large enough for `length` bytes, and reserves what it then takes.
    async fn make_room(&mut self, length: usize) -> Result<(), Refusal> {
        let capacity = self.whole.capacity();
        // Without Content-Length, what the body declares bounds its size.
        let bound = self
            .announced
            .or_else(|| self.declared.map(max_compress_len))
            .unwrap_or_default();
        let bound = bound
            .max(2 * capacity)
            .min(self.limits.body_bytes_max)
            .max(length);
        let step = BUFFER_STEPS.into_iter().find(|step| length <= *step);
        let (room, taken) = match step {
            Some(step) => (step.min(bound), step.min(bound)),
            None => (bound, length.next_multiple_of(HUGE_PAGE_BYTES).min(bound)),
        };
        self.charge(taken).await?;
        if length > capacity {
            let reserved = self.whole.try_reserve_exact(room - self.whole.len());
            let needed = self.reservation.bytes().saturating_add(room);
            reserved.map_err(|_| Overloaded::new(needed, Full::Budget))?;
        }
        Ok(())
    }

    /// Reserves `bytes` for the body as sent.
    async fn charge(&mut self, bytes: usize) -> Result<(), Refusal> {
        let missing = bytes.saturating_sub(self.reservation.bytes());
        if missing > 0 {
            let grown = self.reservation.grow_in_turn(missing);
            self.seat.wait_for(grown).await?;
        }
        Ok(())
    }

    /// Checks the decoded size, once `start` declares it.
    async fn check(&mut self, start: &[u8]) -> Result<(), Refusal> {
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
        let expected = self.announced.unwrap_or_default().saturating_add(declared);
        let begun = self.reservation.wait_to_begin(expected);
        self.seat.wait_for(begun).await?;
        self.declared = Some(declared);
        Ok(())
    }

    /// Reserves what the decoded form of a whole body will hold.
    async fn end(&mut self) -> Result<(), Refusal> {
        let declared = self.declared.unwrap_or_default();
        let grown = self.reservation.grow_in_turn(declared);
        Ok(self.seat.wait_for(grown).await?)
    }
}
