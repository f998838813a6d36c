//! What became of a request at the hubs: settled for good, or to be sent again.
//!
//! Here is what a hub's answer means: a refusal is a fact about the request, and everything else
//! is the hub's fault or ours.

use http::StatusCode;

use crate::config::Ack;
use crate::reasons::HubFailure;
use crate::wire::{Counts, Kind};

use crate::rewrite::RewriteError;

use super::response::HubAnswer;

/// What became of a request at a hub, or at all of them.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Every sample was written or refused for good.
    Settled(Settled),
    /// Something was neither, so the spoke sends everything again.
    Failed(Failed),
}

/// A request of which every sample was written or refused for good.
#[derive(Debug, Clone, Default)]
pub struct Settled {
    /// What was written.
    pub written: Counts,
    /// What the version that the hub speaks cannot hold.
    pub unsupported: Counts,
    /// The first refusal: the status for the spoke, and what the hub said.
    pub refusal: Option<(StatusCode, String)>,
    /// The hub refused a V1 request and did not say what it wrote of it.
    pub uncounted: bool,
    /// Samples that were refused together, since requests or time to tell them apart ran out.
    pub uncut: u64,
}

impl Settled {
    /// What of `unsupported` the spoke is told of: metadata that a version cannot hold is no sample
    /// lost, and is not worth an error.
    pub(crate) fn unheld(&self) -> Counts {
        let mut unheld = self.unsupported;
        unheld.clear(Kind::Metadata);
        unheld
    }

    /// True when there is nothing to tell the spoke.
    fn is_success(&self) -> bool {
        self.refusal.is_none() && self.unheld().is_empty()
    }

    /// Takes in that the hub did not write all of a part that carried `sent`.
    pub(crate) fn refuse(&mut self, hub: &HubAnswer, sent: &Counts) {
        let said = said(hub, sent);
        self.refuse_for(match hub.status {
            StatusCode::PAYLOAD_TOO_LARGE => (
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("{said}; lower max_samples_per_send at the spoke or raise the hub's limit"),
            ),
            _ => (StatusCode::BAD_REQUEST, said),
        });
    }

    /// Takes in that a part that carried `sent` was not cut any more.
    pub(crate) fn uncut(&mut self, sent: &Counts) {
        if sent.samples() > 1 {
            self.uncut += sent.samples();
        }
    }

    /// Takes in that a part is too large in the version that the hub speaks.
    pub(crate) fn refuse_too_large(&mut self) {
        let text = "it is larger than 32 MiB in the remote write that the hub speaks; lower \
                    max_samples_per_send at the spoke";
        self.refuse_for((StatusCode::PAYLOAD_TOO_LARGE, text.to_owned()));
    }

    fn refuse_for(&mut self, refusal: (StatusCode, String)) {
        match &mut self.refusal {
            None => self.refusal = Some(refusal),
            // Parts that were refused for two reasons have one in common: they are bad.
            Some((status, _)) if *status != refusal.0 => *status = StatusCode::BAD_REQUEST,
            Some(_) => {}
        }
    }

    /// What two hubs settled together.
    fn least(self, other: Self) -> Self {
        Self {
            written: self.written.min(&other.written),
            unsupported: self.unsupported.max(&other.unsupported),
            refusal: self.refusal.or(other.refusal),
            uncounted: self.uncounted || other.uncounted,
            uncut: self.uncut.max(other.uncut),
        }
    }

    /// What the better of two hubs settled.
    fn better(self, other: Self) -> Self {
        let rank = |it: &Self| (it.is_success(), it.written.total(), !it.says_too_large());
        if rank(&other) > rank(&self) {
            other
        } else {
            self
        }
    }

    /// True when this says nothing of any sample, but of what the hub takes at once.
    fn says_too_large(&self) -> bool {
        let status = self.refusal.as_ref().map(|(status, _)| *status);
        status == Some(StatusCode::PAYLOAD_TOO_LARGE) && self.written.is_empty()
    }
}

/// A request that the spoke has to send again.
#[derive(Debug, Clone)]
pub struct Failed {
    /// The status for the spoke.
    pub status: StatusCode,
    /// What the spoke is told.
    pub reason: String,
    /// What only the log is told: it may speak of what is none of the spoke's business.
    detail: String,
    /// When the spoke shall come again.
    pub retry_after: RetryAfter,
}

impl Failed {
    /// The hub did not answer.
    pub(crate) fn no_answer(failure: HubFailure) -> Self {
        let status = match failure {
            HubFailure::Connect | HubFailure::Reset => StatusCode::BAD_GATEWAY,
            HubFailure::Skipped => StatusCode::SERVICE_UNAVAILABLE,
            HubFailure::Timeout => StatusCode::GATEWAY_TIMEOUT,
        };
        Self {
            status,
            reason: failure.to_string(),
            detail: failure.to_string(),
            retry_after: RetryAfter::Soon,
        }
    }

    /// The hub answered a V2 message with a success that says nothing.
    pub(crate) fn silent(hub: &HubAnswer) -> Self {
        Self {
            status: StatusCode::BAD_GATEWAY,
            reason: "the hub did not say what it wrote, so it may not speak remote write 2.0"
                .to_owned(),
            detail: hub.text.clone(),
            retry_after: RetryAfter::Soon,
        }
    }

    /// The hub has a fault, or refuses hubgate itself, which is a fault of the set-up.
    pub(crate) fn hub_fault(hub: &HubAnswer) -> Self {
        let (status, otherwise) = match hub.status.as_u16() {
            // To most senders a 429 means to drop.
            429 => (StatusCode::SERVICE_UNAVAILABLE, RetryAfter::Soon),
            500 | 502 | 504 => (hub.status, RetryAfter::Unsaid),
            503 => (hub.status, RetryAfter::Soon),
            _ => (StatusCode::BAD_GATEWAY, RetryAfter::Unsaid),
        };
        let reason = match hub.status.as_u16() {
            415 => {
                "the hub answered 415: it takes no remote write that its protocol allows".to_owned()
            }
            code => format!("the hub answered {code}"),
        };
        Self {
            status,
            reason,
            detail: hub.text.clone(),
            retry_after: match hub.retry_after {
                Some(seconds @ 1..) => RetryAfter::Seconds(seconds),
                _ => otherwise,
            },
        }
    }

    /// The hub is too slow to be asked for the good samples of a request that it refused.
    pub(crate) fn slow() -> Self {
        let reason = "the hub refused a part and is too slow to find out which";
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            reason: reason.to_owned(),
            detail: reason.to_owned(),
            retry_after: RetryAfter::Soon,
        }
    }

    /// It did not fail at the hub, but here.
    pub(crate) fn here(error: &RewriteError) -> Self {
        let detail = error.to_string();
        match error {
            RewriteError::Overloaded(overloaded) => Self {
                status: StatusCode::SERVICE_UNAVAILABLE,
                reason: overloaded.to_string(),
                detail,
                retry_after: RetryAfter::Soon,
            },
            _ => Self {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                reason: "internal error; the log of hubgate says more".to_owned(),
                detail,
                retry_after: RetryAfter::Unsaid,
            },
        }
    }
}

impl Default for Outcome {
    /// The outcome of a request of which nothing is sent.
    fn default() -> Self {
        Self::Settled(Settled::default())
    }
}

impl Outcome {
    /// What the hub said, for the log.
    pub fn text(&self) -> &str {
        match self {
            Self::Settled(settled) => settled.refusal.as_ref().map_or("", |(_, text)| text),
            Self::Failed(failed) => &failed.detail,
        }
    }

    /// True when the hub took all that the spoke sent.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Settled(settled) if settled.is_success())
    }

    /// What to tell of several hubs. Under [`Ack::All`] the spoke sends again until each has
    /// settled it, and only what each has written counts; under [`Ack::Any`] the hub that wrote
    /// most speaks for all, unless it found the request too large and another may yet take it.
    pub fn combine(ack: Ack, outcomes: Vec<Self>) -> Self {
        let mut settled = Vec::with_capacity(outcomes.len());
        let mut failed = None;
        for outcome in outcomes {
            match outcome {
                Self::Settled(one) => settled.push(one),
                Self::Failed(one) => failed = failed.or(Some(one)),
            }
        }
        let settled = settled.into_iter().reduce(match ack {
            Ack::All => Settled::least,
            Ack::Any => Settled::better,
        });
        match (settled, failed) {
            (Some(settled), None) => Self::Settled(settled),
            (Some(settled), Some(_)) if ack == Ack::Any && !settled.says_too_large() => {
                Self::Settled(settled)
            }
            (_, Some(failed)) => Self::Failed(failed),
            (None, None) => Self::Failed(Failed::no_answer(HubFailure::Skipped)),
        }
    }
}

/// What the hub said of a part that carried `sent`, for the spoke to read.
fn said(hub: &HubAnswer, sent: &Counts) -> String {
    let code = hub.status.as_u16();
    if hub.status.is_success() {
        let written = hub.written.map_or(0, |written| written.samples());
        let sent = sent.samples();
        format!("the hub says ({code}) that it wrote {written} of {sent} samples, and not why")
    } else if hub.text.is_empty() {
        format!("the hub refused it with {code} and no reason")
    } else {
        format!("the hub says ({code}): {}", hub.text)
    }
}

/// What an answer says of when to come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAfter {
    /// Nothing: the sender's own backoff suits, or there is nothing to send again.
    Unsaid,
    /// In a few seconds.
    Soon,
    /// In the seconds that the hub named.
    Seconds(u64),
}
