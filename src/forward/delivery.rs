//! Brings what was inspected to one hub: in the version that it takes, in as many pieces as it
//! takes, until every sample is written or refused for good.
//!
//! A hub that turns out not to speak the version sent gets the other one. What it finds too large
//! is halved. A V1 hub that refuses a request stores nothing of it, for one bad sample; so the
//! request is halved as well, again and again, until the bad sample is alone. The pieces go out
//! one after the other, in the order of the request: samples of a series must stay in theirs. All
//! of it has the time of one request: what would take longer than is left is not cut any more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode};

use crate::spoke::Spoke;
use crate::wire::{Counts, Kind, Protocol};

use crate::budget::{Permit, Reservation};
use crate::rewrite::{Outgoing, Payload, RewriteError, Rewriter};

use super::hub::{Hub, HubRequest};
use super::outcome::{Failed, Outcome, Settled};
use super::response::HubAnswer;

/// One request on its way to one hub.
#[derive(Debug)]
pub(super) struct Delivery {
    /// The hub.
    pub hub: Arc<Hub>,
    /// Cuts and translates.
    pub rewriter: Arc<Rewriter>,
    /// Who sent it.
    pub spoke: Arc<Spoke>,
    /// What the hub shall get.
    pub outgoing: Outgoing,
    /// What the policy kept of the request.
    pub kept: Counts,
    /// The sender's count of attempts.
    pub retry_attempt: Option<HeaderValue>,
    /// What the request holds of the budget.
    pub reservation: Arc<Reservation>,
}

/// A part of the request that is still to be sent.
#[derive(Debug)]
struct Pending {
    payload: Payload,
    /// What it takes, where the request as it was inspected did not.
    _room: Option<Permit>,
    /// The hub may be sent it in the other version. It was not yet, and it has one.
    translatable: bool,
    /// It is what V2 has no form for.
    side: bool,
}

/// What to do after an answer.
enum Next {
    Done(Counts),
    Fail(Failed),
    Halve,
    Refuse,
    Translate,
}

impl Delivery {
    /// Sends everything, within the time and the number of requests that the hub is given.
    pub(super) async fn run(self) -> Outcome {
        let mut run = Run {
            deadline: self.hub.deadline(),
            salvage_requests: self.hub.salvage_requests_max(),
            slowest: Duration::ZERO,
            pending: Vec::with_capacity(1),
            settled: Settled::default(),
            delivery: &self,
        };
        let outcome = run.send().await;
        let settled = run.settled;
        self.hub.written(&settled.written);
        match outcome {
            Ok(()) => Outcome::Settled(settled),
            Err(failed) => Outcome::Failed(failed),
        }
    }
}

/// A delivery under way.
struct Run<'d> {
    delivery: &'d Delivery,
    deadline: Instant,
    /// How many more requests the hub may get for what it refuses.
    salvage_requests: usize,
    /// The longest that it took to answer.
    slowest: Duration,
    /// What comes next, last.
    pending: Vec<Pending>,
    settled: Settled,
}

impl Run<'_> {
    async fn send(&mut self) -> Result<(), Failed> {
        let Delivery { hub, spoke, .. } = self.delivery;
        self.push(&self.delivery.outgoing, &self.delivery.kept, None);
        while let Some(pending) = self.pending.pop() {
            let started = Instant::now();
            let request = HubRequest {
                protocol: pending.payload.protocol,
                body: pending.payload.body.clone(),
                spoke: Some(&spoke.name),
                retry_attempt: self.delivery.retry_attempt.as_ref(),
                deadline: self.deadline,
            };
            let answer = hub.write(request).await.map_err(Failed::no_answer)?;
            self.slowest = self.slowest.max(started.elapsed());
            match self.next(&pending, &answer).await {
                Next::Done(written) => self.settled.written.add_all(&written),
                Next::Fail(failed) => return Err(failed),
                Next::Translate => self.translate(&pending).await?,
                Next::Halve if self.halve(&pending).await? => {}
                Next::Halve => {
                    self.settled.uncut(&pending.payload.counts);
                    self.refuse(&pending, &answer);
                }
                Next::Refuse => self.refuse(&pending, &answer),
            }
        }
        if self.salvage_requests < hub.salvage_requests_max() {
            spoke.throttles.record_salvage();
        }
        Ok(())
    }

    /// Takes in what is to be sent before everything else. It was written of what carried `counts`;
    /// in the other version before, if that took `room`.
    fn push(&mut self, outgoing: &Outgoing, counts: &Counts, mut room: Option<Permit>) {
        let hub = &self.delivery.hub;
        if outgoing.too_large {
            return self.settled.refuse_too_large();
        }
        let left_out = counts.minus(&outgoing.counts());
        self.settled.unsupported.add_all(&left_out);
        hub.lost(&outgoing.lost);
        let translatable = room.is_none() && hub.negotiates();
        let side = outgoing.side.iter().map(|payload| (payload, true));
        let message = outgoing.message.iter().map(|payload| (payload, false));
        for (payload, side) in side.chain(message) {
            self.pending.push(Pending {
                payload: payload.clone(),
                _room: room.as_mut().map(|room| room.split(payload.memory)),
                translatable: translatable && !side,
                side,
            });
        }
    }

    /// Goes on in the other version.
    async fn translate(&mut self, pending: &Pending) -> Result<(), Failed> {
        let Delivery {
            rewriter,
            spoke,
            reservation,
            ..
        } = self.delivery;
        let translated = rewriter
            .translate(&pending.payload, spoke, reservation)
            .await;
        let (translated, room) = translated.map_err(|error| failed_here(&error))?;
        // Its halves may fit.
        if !translated.too_large || !self.halve(pending).await? {
            self.push(&translated, &pending.payload.counts, Some(room));
        }
        Ok(())
    }

    /// Cuts what the hub does not take as it is, or returns false: it is one sample, or the hub may
    /// get no more requests for it.
    async fn halve(&mut self, pending: &Pending) -> Result<bool, Failed> {
        let Delivery {
            rewriter,
            spoke,
            reservation,
            ..
        } = self.delivery;
        if self.salvage_requests < 2 {
            return Ok(false);
        }
        let halves = rewriter.halve(&pending.payload, spoke, reservation).await;
        let Some([first, second]) = halves.map_err(|error| failed_here(&error))? else {
            return Ok(false);
        };
        let requests = u32::try_from(self.pending.len() + 3).unwrap_or(u32::MAX);
        if Instant::now() + self.slowest.saturating_mul(requests) > self.deadline {
            return match spoke.throttles.put_off_salvage() {
                true => Err(Failed::slow()),
                false => Ok(false),
            };
        }
        self.salvage_requests -= 2;
        for (payload, room) in [second, first] {
            self.pending.push(Pending {
                payload,
                _room: Some(room),
                ..*pending
            });
        }
        Ok(true)
    }

    /// Takes in that the hub does not want it.
    fn refuse(&mut self, pending: &Pending, answer: &HubAnswer) {
        let counts = &pending.payload.counts;
        if pending.side && answer.status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            return self.settled.unsupported.add_all(counts);
        }
        self.settled.uncounted |= self.is_uncounted(pending, answer);
        self.settled.refuse(answer, counts);
        self.settled.written.add_all(&written_of(pending, answer));
    }

    /// True when nobody knows what the hub wrote of a V1 request that it refused. Halved down to
    /// single samples it would be known, of a hub that stores all of a request or nothing. 409 is
    /// of Thanos, which stores what it can.
    fn is_uncounted(&self, pending: &Pending, answer: &HubAnswer) -> bool {
        let halved = self.delivery.hub.salvage_requests_max() > 0;
        let uncertain = match answer.status.as_u16() {
            400 => !halved,
            409 => true,
            _ => false,
        };
        uncertain && answer.written.is_none() && pending.payload.protocol == Protocol::V1
    }

    async fn next(&self, pending: &Pending, answer: &HubAnswer) -> Next {
        let Pending {
            ref payload,
            translatable,
            side,
            ..
        } = *pending;
        let written = answer.written.map(|counts| counts.samples());
        match (payload.protocol, answer.status.as_u16()) {
            // Some receivers send zeros with a V1 success, which says all by itself.
            (Protocol::V1, 200..=299) => Next::Done(payload.counts),
            // Mimir accepts so what it has from another replica.
            (Protocol::V2, 202) if written.is_some() => Next::Done(written_of(pending, answer)),
            (Protocol::V2, 200..=299) => match written {
                Some(written) if written >= payload.counts.samples() => {
                    Next::Done(written_of(pending, answer))
                }
                Some(1..) => Next::Refuse,
                // Nothing of it was understood (remote write 2.0, "Required Written Response
                // Headers"), though something on the way may have set the headers.
                Some(0) if translatable => Next::Translate,
                None if translatable && answer.took_nothing() => Next::Translate,
                Some(0) | None => Next::Fail(Failed::silent(answer)),
            },
            // A hub that stored something of V2 would say so. This one may decode V2 as V1, or
            // find the whole too large.
            (Protocol::V2, 400) if written.is_none() && translatable => Next::Translate,
            (Protocol::V2, 400) if written.is_none() => Next::Halve,
            // V2 saves what V1 cannot.
            (Protocol::V1, 400) if translatable && self.speaks_v2().await => Next::Translate,
            (Protocol::V1, 400) if written.unwrap_or(0) == 0 && !side => Next::Halve,
            (Protocol::V1, 500) if !side && self.is_too_old(answer) => Next::Halve,
            // 409 is Thanos for conflicting samples.
            (_, 400 | 409) => Next::Refuse,
            (_, 413) => Next::Halve,
            (_, 415) if translatable => Next::Translate,
            (_, 415) if side => Next::Refuse,
            _ => Next::Fail(Failed::hub_fault(answer)),
        }
    }

    /// Before prometheus#13335 (2.50) a hub with an out-of-order window said 500 for a sample that
    /// is older, and would for ever.
    fn is_too_old(&self, answer: &HubAnswer) -> bool {
        self.delivery.hub.salvage_requests_max() > 0 && answer.text == "too old sample"
    }

    /// Asks the hub, if nobody knows yet.
    async fn speaks_v2(&self) -> bool {
        let hub = &self.delivery.hub;
        if hub.speaks().is_none() {
            // What it is then is as unknown as before.
            let _ = hub.probe(self.deadline).await;
        }
        hub.speaks() == Some(Protocol::V2)
    }
}

/// What was inspected could not be written again.
fn failed_here(error: &RewriteError) -> Failed {
    if !matches!(error, RewriteError::Overloaded(_)) {
        tracing::error!(%error, "a message that was inspected cannot be written again");
    }
    Failed::here(error)
}

/// What the hub says it wrote, as far as it was sent. Metadata travels with the series, and no
/// header counts it.
fn written_of(pending: &Pending, answer: &HubAnswer) -> Counts {
    let sent = &pending.payload.counts;
    let mut written = sent.min(&answer.written.unwrap_or_default());
    if answer.status.is_success() || !written.is_empty() {
        written.add(Kind::Metadata, sent.of(Kind::Metadata));
    }
    written
}
