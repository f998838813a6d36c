//! Asks a hub what of a message it does not take, where it answers the whole with a fault.
//!
//! [`crate::suspects`] decides what is sent and what follows; here it is sent. What an attempt found is
//! kept for the next one, which is the spoke's.

use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::StatusCode;

use crate::rewrite::{Payload, RewriteError};
use crate::suspects::{
    Answer, Case, Control, Digest, Docket, Inquiry, Shot, Terms, compares_with_newest, digest,
};
use crate::wire::transcode::{Part, Unit};
use crate::wire::{Counts, Kind};

use super::delivery::{Pending, Run, failed_here};
use super::outcome::{Failed, said};
use super::reaction::{Reaction, react, written_of};
use super::response::HubResponse;

/// A control is kept for so long before another one takes its place. Afterwards the hub may have a later
/// sample of its series.
const CONTROL_AGE: Duration = Duration::from_secs(1);

/// Largest control, in bytes.
const CONTROL_BYTES_MAX: usize = 16 * 1024;

/// A hub without a window for samples out of order takes what is less than half of a block of two
/// hours older than its newest sample (Prometheus `tsdb/head.go`, `appendableMinValidTime`). If it
/// refuses a younger one as out of bounds, its newest sample is ahead of the clock.
const BOUNDS: Duration = Duration::from_secs(3600);

/// A sample that is further ahead of the clock is not of the present.
const AHEAD: Duration = Duration::from_secs(600);

impl Run<'_> {
    /// True when a message is not to be sent whole: parts of it are settled or suspected from the last
    /// attempt, or it has native histograms and the hub refuses those.
    pub(super) fn is_known(&self, pending: &Pending) -> bool {
        if self.delivery.hub.salvage_requests_max() == 0 {
            return false;
        }
        let now = Instant::now();
        let has_histograms = pending.payload.counts.of(Kind::Histogram) > 0;
        {
            let mut docket = self.docket();
            if has_histograms && docket.refuses_histograms(now) {
                return true;
            }
            if !docket.has_cases() {
                return false;
            }
        }
        // A digest takes its time, and other requests of the spoke would wait for the lock.
        let digest = digest(&pending.payload.body);
        let mut docket = self.docket();
        let Some(case) = docket.take(&digest, now) else {
            return false;
        };
        let begun = case.is_begun();
        docket.put(digest, case);
        begun
    }

    /// Finds out what of a message the hub takes, after its `fault` for the whole if that was sent.
    /// Afterwards all of it is settled, or the spoke sends the request again.
    pub(super) async fn inquire(
        &mut self,
        pending: &Pending,
        fault: Option<&HubResponse>,
    ) -> Result<(), Failed> {
        let delivery = self.delivery;
        let (rewriter, reservation) = (&delivery.rewriter, &delivery.reservation);
        let units = rewriter.units(&pending.payload, reservation).await;
        let (units, _permit) = units.map_err(|error| failed_here(&error))?;
        let count = units.len() as u64;
        let digest = digest(&pending.payload.body);
        let mut inquiry = self.open(&digest, units);
        if let Some(fault) = fault {
            let said = said(fault, &pending.payload.counts);
            inquiry.begin_with_fault(&fault.text, &said, Instant::now());
        }
        let mut last = fault.cloned();
        let asked = self.ask(&mut inquiry, pending, count, &mut last).await;
        let mut closed = inquiry.close();
        let (recorder, spoke) = (delivery.hub.recorder(), &delivery.spoke.name);
        if closed.cut {
            recorder.cut(spoke, last.as_ref().map_or("", |last| &last.text));
        }
        recorder.isolated(&closed.convicted);
        let complete = closed.case.complete;
        if complete {
            self.take_over(&closed.case);
        }
        if self.ahead.is_some() {
            // What was refused for its time is asked again, if the spoke has to send it again.
            closed.case.reopen();
        }
        self.docket().close(digest, closed, Instant::now());
        match (asked, last) {
            _ if complete => Ok(()),
            (Err(failed), _) => Err(failed),
            (Ok(()), Some(fault)) => Err(Failed::hub_fault(&fault)),
            (Ok(()), None) => Err(Failed::unfinished()),
        }
    }

    /// Takes over what became of a message whose case is complete.
    fn take_over(&mut self, case: &Case) {
        self.settled.written.add_all(&case.written);
        self.settled.unsupported.add_all(&case.unsupported);
        for (status, said) in &case.refusals {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_REQUEST);
            self.settled.refuse_for((status, said.clone()));
        }
    }

    /// Begins where the last attempt ended.
    fn open(&self, digest: &Digest, units: Vec<Unit>) -> Inquiry {
        let now = Instant::now();
        let mut docket = self.docket();
        let case = docket.take(digest, now).unwrap_or_else(|| {
            let mut case = Case::new(now);
            // The sender has tried before, so hubgate has forgotten it.
            case.arrivals = u32::from(self.delivery.retry_attempt.is_some());
            case
        });
        let terms = Terms {
            now,
            clock: clock(),
            requests_max: self.salvage_requests,
            learned: docket.learned(now),
            histograms_refused: docket.refuses_histograms(now),
            unreliable: docket.unreliable(),
            last_stored: docket.last_stored(),
            control: docket.control(),
            seed: fastrand::u64(..),
        };
        Inquiry::open(case, units, terms)
    }

    /// Sends what the inquiry asks for, as long as there is time. `last` is the last fault.
    async fn ask(
        &mut self,
        inquiry: &mut Inquiry,
        pending: &Pending,
        count: u64,
        last: &mut Option<HubResponse>,
    ) -> Result<(), Failed> {
        while Instant::now() + self.slowest.saturating_mul(2) < self.deadline
            && let Some(shot) = inquiry.next_shot()
        {
            self.salvage_requests = self.salvage_requests.saturating_sub(1);
            let (payload, _permit) = match shot {
                Shot::Control(control) => (payload_of(control), None),
                Shot::Parts(parts)
                    if parts
                        == [Part {
                            first: 0,
                            end: count,
                        }] =>
                {
                    (pending.payload.clone(), None)
                }
                Shot::Parts(parts) => {
                    let delivery = self.delivery;
                    let (spoke, reservation) = (&delivery.spoke, &delivery.reservation);
                    let cut = delivery
                        .rewriter
                        .cut(&pending.payload, parts, spoke, reservation);
                    match cut.await.map_err(|error| failed_here(&error))? {
                        Some((payload, permit)) => (payload, Some(permit)),
                        // Nothing to send, so nothing of it can be refused.
                        None => {
                            inquiry.answered(Answer::Stored(Counts::default()), Instant::now());
                            continue;
                        }
                    }
                }
            };
            let part = Pending {
                payload,
                _permit: None,
                too_large: false,
                translatable: false,
                side: pending.side,
            };
            let response = self.send(&part).await.map_err(|failure| {
                inquiry.broken();
                Failed::no_response(failure)
            })?;
            let answer = match self.answer(&part, &response).await {
                Ok(answer) => answer,
                Err(failed) => {
                    inquiry.broken();
                    return Err(failed);
                }
            };
            match &answer {
                Answer::Fault { .. } => *last = Some(response),
                Answer::Stored(counts) if counts.samples() > 0 => {
                    self.docket().stored(Instant::now());
                }
                _ => {}
            }
            inquiry.answered(answer, Instant::now());
        }
        Ok(())
    }

    /// What the hub's response says of a part.
    async fn answer(&mut self, part: &Pending, response: &HubResponse) -> Result<Answer, Failed> {
        let sent = part.sent();
        let said = said(response, &sent.counts);
        let status = match response.status {
            StatusCode::PAYLOAD_TOO_LARGE => 413,
            _ => 400,
        };
        Ok(match react(&sent, response, self.known(true)) {
            Reaction::Written(written) => Answer::Stored(written),
            Reaction::Inquire => Answer::Fault {
                text: response.text.clone(),
                said,
            },
            Reaction::Halve => {
                self.check_newest(part, response).await?;
                Answer::Halve { status, said }
            }
            Reaction::Drop => Answer::Unsupported,
            Reaction::Fail(failed) => return Err(failed),
            Reaction::Refuse | Reaction::Probe | Reaction::Translate => {
                self.check_newest(part, response).await?;
                Answer::Refused {
                    written: written_of(&sent, response),
                    status,
                    said,
                }
            }
        })
    }

    /// The hub stored a message as usual: nothing is open in it any more. While other messages of the
    /// spoke are, one of its samples is kept as a control for these.
    pub(super) async fn stored(&mut self, pending: &Pending) {
        let now = Instant::now();
        {
            let mut docket = self.docket();
            if pending.payload.counts.samples() > 0 {
                docket.stored(now);
            }
            if !docket.has_cases() {
                return;
            }
        }
        let digest = digest(&pending.payload.body);
        {
            let mut docket = self.docket();
            docket.take(&digest, now);
            let is_recent = |control: Control| now.duration_since(control.since) < CONTROL_AGE;
            if !docket.wants_control() || docket.control().is_some_and(is_recent) {
                return;
            }
        }
        // The message is stored, even if there is no room to make a control of it.
        if let Ok(Some(control)) = self.control(pending).await {
            self.docket().keep_control(control);
        }
    }

    /// A message that holds only the last sample of a message.
    async fn control(&self, pending: &Pending) -> Result<Option<Control>, RewriteError> {
        let delivery = self.delivery;
        let (rewriter, reservation) = (&delivery.rewriter, &delivery.reservation);
        let (units, _permit) = rewriter.units(&pending.payload, reservation).await?;
        let Some(place) = units.iter().rposition(|unit| unit.time.is_some()) else {
            return Ok(None);
        };
        let first = place as u64;
        let parts = vec![Part {
            first,
            end: first + 1,
        }];
        let cut = rewriter.cut(&pending.payload, parts, &delivery.spoke, reservation);
        let Some((payload, _permit)) = cut.await? else {
            return Ok(None);
        };
        Ok((payload.body.len() <= CONTROL_BYTES_MAX).then(|| Control {
            protocol: payload.protocol,
            body: payload.body,
            counts: payload.counts,
            time: units[place].time.unwrap_or_default(),
            since: Instant::now(),
        }))
    }

    /// Notes a refusal that may be due to the newest sample of the hub and not to those sent: a hub
    /// whose newest sample is ahead of the clock refuses everything of the present. See
    /// [`Self::check_present`].
    pub(super) async fn check_newest(
        &mut self,
        pending: &Pending,
        response: &HubResponse,
    ) -> Result<(), Failed> {
        let wrote = response
            .written
            .is_some_and(|written| written.samples() > 0);
        if self.ahead.is_some() || wrote || !compares_with_newest(&response.text) {
            return Ok(());
        }
        let delivery = self.delivery;
        let units = delivery
            .rewriter
            .units(&pending.payload, &delivery.reservation);
        let (units, _permit) = units.await.map_err(|error| failed_here(&error))?;
        let now = clock();
        let of_the_present = now - millis(BOUNDS)..now + millis(AHEAD);
        let mut times = units.iter().filter_map(|unit| unit.time);
        if times.any(|time| of_the_present.contains(&time)) {
            self.ahead = Some((digest(&pending.payload.body), response.clone()));
        }
        Ok(())
    }

    /// Fails if the hub refused samples of the present as out of bounds and is not known to store
    /// others: neither of this request, nor of the spoke since it refused these first.
    pub(super) fn check_present(&mut self) -> Result<(), Failed> {
        let Some((digest, response)) = self.ahead.take() else {
            return Ok(());
        };
        if self.settled.written.samples() > 0 {
            return Ok(());
        }
        let now = Instant::now();
        let mut docket = self.docket();
        let case = docket.take(&digest, now);
        let mut case = case.unwrap_or_else(|| Case::new(now));
        if docket.last_stored().is_some_and(|at| at > case.opened) {
            return Ok(());
        }
        case.used = now;
        docket.put(digest, case);
        self.delivery.hub.history().failed(&response, 0);
        Err(Failed::ahead(&response))
    }

    pub(super) fn docket(&self) -> MutexGuard<'_, Docket> {
        // Nothing under the lock can leave it half done.
        self.docket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn payload_of(control: Control) -> Payload {
    Payload {
        protocol: control.protocol,
        memory: control.body.len(),
        body: control.body,
        counts: control.counts,
    }
}

/// Milliseconds since the Unix epoch.
fn clock() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    millis(now.unwrap_or_default())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
