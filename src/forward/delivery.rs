//! Brings a request to one hub: in the version that the hub takes and in as many pieces as it
//! takes, until every sample is written or refused for good.
//!
//! A hub that turns out not to speak the version sent gets the other one. A message that it finds
//! too large is halved. A V1 hub that refuses a message for one bad sample stores nothing of it; so
//! the message is halved as well, again and again, until the bad sample is alone. The pieces are
//! sent one after the other, in the order of the request, so that the samples of a series stay in
//! order. All of them have the time of one request. When the time does not suffice for more halves,
//! the spoke retries, for ten minutes and more; then what is left is refused. A message that a hub
//! answers with a fault is looked into apart, see `inquire`.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::HeaderValue;

use crate::budget::{Permit, Reservation};
use crate::reasons::HubFailure;
use crate::rewrite::{Outgoing, Payload, RewriteError, Rewriter};
use crate::spoke::Spoke;
use crate::suspects::{Digest, Docket, PutOff, digest};
use crate::wire::Counts;

use super::hub::{Hub, HubRequest, Writer};
use super::outcome::{Failed, Outcome, Settled};
use super::reaction::{self, Known, Reaction, Sent, react};
use super::response::HubResponse;
use super::time;

/// One request on its way to one hub.
#[derive(Debug)]
pub(super) struct Delivery {
    /// The hub.
    pub hub: Arc<Hub>,
    /// Halves and translates.
    pub rewriter: Arc<Rewriter>,
    /// Who sent the request.
    pub spoke: Arc<Spoke>,
    /// What the hub is to get.
    pub outgoing: Outgoing,
    /// What the policy kept of the request.
    pub kept: Counts,
    /// The sender's number of attempts.
    pub retry_attempt: Option<HeaderValue>,
    /// Since when the sender has waited.
    pub started: Instant,
    /// What the request holds of the budget.
    pub reservation: Arc<Reservation>,
}

/// A message that is still to be sent.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) payload: Payload,
    /// The memory of the payload, where it was made here.
    pub(super) _permit: Option<Permit>,
    /// It is V2, too large as V1 for a hub that speaks V1. It is cut before anything is sent.
    pub(super) too_large: bool,
    /// See [`Sent::translatable`].
    pub(super) translatable: bool,
    /// See [`Sent::side`].
    pub(super) side: bool,
}

impl Delivery {
    /// Sends everything, within the time and the number of requests that the hub is given.
    pub(super) async fn run(self) -> Outcome {
        let deadline = time::deadline(self.hub.timeout(), self.started, Instant::now());
        let Some(deadline) = deadline else {
            return Outcome::Failed(Failed::late());
        };
        let mut run = Run {
            deadline,
            salvage_requests: self.hub.salvage_requests_max(),
            slowest: Duration::ZERO,
            waited: Duration::ZERO,
            gave_up: false,
            not_understood: 0,
            pending: Vec::with_capacity(1),
            settled: Settled::default(),
            ahead: None,
            docket: self.spoke.throttles.docket(self.hub.name(), self.hub.url()),
            delivery: &self,
        };
        let sent = run.send_all().await;
        let sent = sent.and_then(|()| run.check_present());
        let settled = run.settled;
        self.hub.recorder().written(&settled.written);
        match sent {
            Ok(()) => Outcome::Settled(settled),
            Err(failed) => Outcome::Failed(Failed {
                reached_a_hub: !settled.written.is_empty(),
                ..failed
            }),
        }
    }
}

/// A delivery under way.
pub(super) struct Run<'d> {
    pub(super) delivery: &'d Delivery,
    pub(super) deadline: Instant,
    /// How many more requests the hub may get for what it refuses.
    pub(super) salvage_requests: usize,
    /// The longest time that the hub took to respond.
    pub(super) slowest: Duration,
    /// The time that its requests waited while others had the places at the hub.
    waited: Duration,
    /// The time did not suffice for more halves, and the spoke is not to retry any more.
    gave_up: bool,
    /// How many messages went on in the other version, since the hub did not understand them.
    not_understood: u64,
    /// The messages to send; the last one is next.
    pending: Vec<Pending>,
    pub(super) settled: Settled,
    /// The first message of the present that was refused for its time, and what the hub said.
    pub(super) ahead: Option<(Digest, HubResponse)>,
    /// What is remembered of the spoke at the hub.
    pub(super) docket: Arc<Mutex<Docket>>,
}

impl Run<'_> {
    async fn send_all(&mut self) -> Result<(), Failed> {
        let hub = &self.delivery.hub;
        self.push(&self.delivery.outgoing, &self.delivery.kept, None);
        // Rare steps are in boxes, or each request would keep room for the largest of them.
        while let Some(pending) = self.pending.pop() {
            if pending.too_large {
                Box::pin(self.translate(&pending)).await?;
                continue;
            }
            if self.is_known(&pending) {
                Box::pin(self.inquire(&pending, None)).await?;
                continue;
            }
            let response = self.send(&pending).await.map_err(Failed::no_response)?;
            match self.react(&pending, &response).await {
                Reaction::Written(written) => {
                    self.settled.written.add_all(&written);
                    self.stored(&pending).await;
                }
                Reaction::Inquire => Box::pin(self.inquire(&pending, Some(&response))).await?,
                Reaction::Fail(failed) => {
                    hub.history().failed(&response, self.not_understood);
                    return Err(failed);
                }
                Reaction::Translate => {
                    self.not_understood += 1;
                    Box::pin(self.translate(&pending)).await?;
                }
                Reaction::Halve if Box::pin(self.halve(&pending)).await? => {}
                Reaction::Halve => {
                    Box::pin(self.check_newest(&pending, &response)).await?;
                    self.settled.unhalved(&pending.payload.counts);
                    self.refuse(&pending, &response);
                }
                Reaction::Drop => self.settled.unsupported.add_all(&pending.payload.counts),
                // `Self::react` has probed already, so `Probe` cannot come back from it.
                Reaction::Refuse | Reaction::Probe => {
                    Box::pin(self.check_newest(&pending, &response)).await?;
                    self.refuse(&pending, &response);
                }
            }
        }
        if self.salvage_requests < hub.salvage_requests_max() {
            let mut docket = self.docket();
            if docket.has_put_off() {
                docket.record_salvage(&self.digest());
            }
        }
        Ok(())
    }

    pub(super) async fn send(&mut self, pending: &Pending) -> Result<HubResponse, HubFailure> {
        let Delivery { hub, spoke, .. } = self.delivery;
        let started = Instant::now();
        let request = HubRequest {
            protocol: pending.payload.protocol,
            body: pending.payload.body.clone(),
            spoke: Some(Writer {
                name: &spoke.name,
                share: spoke.share,
            }),
            retry_attempt: self.delivery.retry_attempt.as_ref(),
            deadline: self.deadline,
        };
        let (response, took) = hub.send(request).await?;
        self.slowest = self.slowest.max(took);
        self.waited += started.elapsed().saturating_sub(took);
        Ok(response)
    }

    /// Decides on the next step, and probes the hub first if the step depends on what it speaks.
    async fn react(&self, pending: &Pending, response: &HubResponse) -> Reaction {
        let sent = pending.sent();
        let reaction = react(&sent, response, self.known(false));
        let Reaction::Probe = reaction else {
            return reaction;
        };
        // Whatever comes of it is known to the hub afterwards.
        let _ = Box::pin(self.delivery.hub.probe(self.deadline)).await;
        react(&sent, response, self.known(true))
    }

    pub(super) fn known(&self, probed: bool) -> Known {
        let hub = &self.delivery.hub;
        Known {
            speaks: hub.speaks(),
            probed,
            salvages: hub.salvage_requests_max() > 0,
        }
    }

    /// Queues `outgoing` to be sent next, before all pending messages: the side message after the
    /// main one, so it goes onto the stack first. It was made from a message that carried `counts`,
    /// and `permit` covers it if it was translated here.
    fn push(&mut self, outgoing: &Outgoing, counts: &Counts, mut permit: Option<Permit>) {
        let hub = &self.delivery.hub;
        let too_large = outgoing.too_large;
        if too_large && outgoing.message.is_none() {
            return self.settled.refuse_too_large(counts);
        }
        let left_out = counts.minus(&outgoing.counts());
        self.settled.unsupported.add_all(&left_out);
        hub.recorder().lost(&outgoing.lost, hub.speaks());
        let translatable = permit.is_none() && hub.negotiates();
        let side = outgoing.side.iter().map(|payload| (payload, true));
        let message = outgoing.message.iter().map(|payload| (payload, false));
        for (payload, side) in side.chain(message) {
            self.pending.push(Pending {
                payload: payload.clone(),
                _permit: permit.as_mut().map(|permit| permit.split(payload.memory)),
                too_large,
                translatable: translatable && !side && !too_large,
                side,
            });
        }
    }

    /// Goes on in the other version.
    async fn translate(&mut self, pending: &Pending) -> Result<(), Failed> {
        let Delivery {
            hub,
            rewriter,
            spoke,
            reservation,
            ..
        } = self.delivery;
        let payload = &pending.payload;
        let translated = rewriter.translate(payload, hub.metadata(), spoke, reservation);
        let (translated, permit) = translated.await.map_err(|error| failed_here(&error))?;
        // Its halves may fit.
        if !translated.too_large || !self.halve(pending).await? {
            self.push(&translated, &payload.counts, Some(permit));
        }
        Ok(())
    }

    /// Halves a message that the hub does not take as it is. Returns false when the message holds
    /// one sample, or when neither requests nor time are left for its halves.
    async fn halve(&mut self, pending: &Pending) -> Result<bool, Failed> {
        let Delivery {
            rewriter,
            spoke,
            reservation,
            ..
        } = self.delivery;
        // What is open in a message keeps a share, or it would never be settled.
        let share = if self.docket().is_idle() {
            0
        } else {
            self.delivery.hub.salvage_requests_max() / 4
        };
        if self.salvage_requests < 2 + share {
            return Ok(false);
        }
        let halves = rewriter.halve(&pending.payload, spoke, reservation).await;
        let Some([first, second]) = halves.map_err(|error| failed_here(&error))? else {
            return Ok(false);
        };
        // The halves, what is pending, and one request to spare.
        let requests = u32::try_from(self.pending.len() + 3).unwrap_or(u32::MAX);
        let needed = self.slowest.saturating_mul(requests);
        if Instant::now() + needed > self.deadline {
            // The time was lost while other requests had the places, so it does not show that these
            // samples cannot be found.
            let crowded = Instant::now() + needed <= self.deadline + self.waited;
            let (cause, failed) = match crowded {
                true => (PutOff::Crowded, Failed::crowded()),
                false => (PutOff::Slow, Failed::slow()),
            };
            // Asked once for each request: every answer counts as one.
            self.gave_up = self.gave_up || !self.put_off(cause);
            return if self.gave_up { Ok(false) } else { Err(failed) };
        }
        self.salvage_requests -= 2;
        for (payload, permit) in [second, first] {
            self.pending.push(Pending {
                payload,
                _permit: Some(permit),
                ..*pending
            });
        }
        Ok(true)
    }

    /// Records that there is no time for the salvage. Returns true when the spoke is to retry.
    fn put_off(&self, cause: PutOff) -> bool {
        let digest = self.digest();
        let now = Instant::now();
        self.docket().put_off_salvage(&digest, cause, now)
    }

    /// What tells the request from others of the spoke.
    fn digest(&self) -> Digest {
        let Outgoing { message, side, .. } = &self.delivery.outgoing;
        let payload = message.as_ref().or(side.as_ref());
        digest(payload.map_or(&[], |payload| &payload.body))
    }

    fn refuse(&mut self, pending: &Pending, response: &HubResponse) {
        let sent = pending.sent();
        self.settled.uncounted |= reaction::is_uncounted(&sent, response, self.known(false));
        self.settled.refuse(response, &sent.counts);
        let written = reaction::written_of(&sent, response);
        self.settled.written.add_all(&written);
    }
}

impl Pending {
    pub(super) fn sent(&self) -> Sent {
        Sent {
            protocol: self.payload.protocol,
            counts: self.payload.counts,
            translatable: self.translatable,
            side: self.side,
        }
    }
}

/// A message that was checked could not be rewritten.
pub(super) fn failed_here(error: &RewriteError) -> Failed {
    let has_no_room = matches!(
        error,
        RewriteError::Crowded(_) | RewriteError::Overloaded(_)
    );
    if !has_no_room {
        tracing::error!(%error, "a message that was checked cannot be rewritten");
    }
    Failed::here(error)
}
