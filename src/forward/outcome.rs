//! What became of a request at the hubs: settled for good, or to be sent again by the spoke.
//!
//! A refusal of a hub is a fact about the request; every other failure is the hub's or ours.

use http::StatusCode;

use crate::config::Ack;
use crate::reasons::HubFailure;
use crate::wire::{Counts, Kind};

pub use super::failed::{Failed, RetryAfter};
use super::response::HubResponse;

/// What became of a request at one hub, or at all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every sample was written or refused for good.
    Settled(Settled),
    /// Some samples are neither, so the spoke sends everything again.
    Failed(Failed),
}

/// A request whose samples were all written or refused for good.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    /// What the hub wrote.
    pub written: Counts,
    /// What the version that the hub speaks cannot hold.
    pub unsupported: Counts,
    /// The first refusal: the status for the spoke, and what the spoke is told.
    pub refusal: Option<(StatusCode, String)>,
    /// The hub refused a V1 request and did not say what it wrote of it.
    pub uncounted: bool,
    /// Samples that were refused together with a bad one, since the requests or the time to tell them
    /// apart ran out.
    pub unhalved: u64,
}

impl Settled {
    /// The part of `unsupported` that the spoke is told of. Metadata that a version cannot hold is
    /// not worth an error, since no sample is lost with it.
    pub fn unsupported_samples(&self) -> Counts {
        let mut samples = self.unsupported;
        samples.clear(Kind::Metadata);
        samples
    }

    /// True when there is nothing to tell the spoke.
    fn is_success(&self) -> bool {
        self.refusal.is_none() && self.unsupported_samples().is_empty()
    }

    /// Records that the hub did not write all of a message that carried `sent`.
    pub(super) fn refuse(&mut self, response: &HubResponse, sent: &Counts) {
        let said = said(response, sent);
        self.refuse_for(match response.status {
            StatusCode::PAYLOAD_TOO_LARGE => (
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("{said}; lower max_samples_per_send at the spoke or raise the hub's limit"),
            ),
            _ => (StatusCode::BAD_REQUEST, said),
        });
    }

    /// Records that a message that carried `sent` was refused without being halved.
    pub(super) fn unhalved(&mut self, sent: &Counts) {
        if sent.samples() > 1 {
            self.unhalved += sent.samples();
        }
    }

    /// Records that a message that carries `counts` is too large in the version that the hub speaks. The
    /// hub was not asked.
    pub(super) fn refuse_too_large(&mut self, counts: &Counts) {
        self.unsupported.add_all(counts);
        let text = "encoded as remote write 1.0 for the hub, it is larger than 32 MiB; lower \
                    max_samples_per_send at the spoke";
        self.refuse_for((StatusCode::PAYLOAD_TOO_LARGE, text.to_owned()));
    }

    /// Records a refusal: its status for the spoke, and what the spoke is told.
    pub(super) fn refuse_for(&mut self, refusal: (StatusCode, String)) {
        match &mut self.refusal {
            None => self.refusal = Some(refusal),
            // Refusals with different statuses become a 400: all of them are about the request.
            Some((status, _)) if *status != refusal.0 => *status = StatusCode::BAD_REQUEST,
            Some(_) => {}
        }
    }

    /// What both hubs wrote, and what either refused.
    fn least(self, other: Self) -> Self {
        Self {
            written: self.written.min(&other.written),
            unsupported: self.unsupported.max(&other.unsupported),
            refusal: self.refusal.or(other.refusal),
            uncounted: self.uncounted || other.uncounted,
            unhalved: self.unhalved.max(other.unhalved),
        }
    }

    /// The result of the hub that did better: that wrote everything, or else wrote more, or else did
    /// not find the request too large.
    fn better(self, other: Self) -> Self {
        let rank = |it: &Self| (it.is_success(), it.written.total(), !it.says_too_large());
        if rank(&other) > rank(&self) {
            other
        } else {
            self
        }
    }

    /// True when the refusal is about the size of the request and not about its samples.
    fn says_too_large(&self) -> bool {
        let status = self.refusal.as_ref().map(|(status, _)| *status);
        status == Some(StatusCode::PAYLOAD_TOO_LARGE) && self.written.is_empty()
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

    /// True when a hub took the request or a part of it.
    pub fn reached_a_hub(&self) -> bool {
        match self {
            Self::Settled(_) => true,
            Self::Failed(failed) => failed.reached_a_hub,
        }
    }

    /// True when the hub wrote all that it was to get.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Settled(settled) if settled.is_success())
    }

    /// Combines the outcomes at several hubs. With [`Ack::All`] the spoke sends again until each hub
    /// has settled the request, and only what each has written counts. With [`Ack::Any`] the hub that
    /// wrote most decides, unless it found the request too large and another hub may still take it.
    pub fn combine(ack: Ack, outcomes: Vec<Self>) -> Self {
        let mut settled = Vec::with_capacity(outcomes.len());
        let mut failed = None;
        let reached_a_hub = outcomes.iter().any(Self::reached_a_hub);
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
            (_, Some(failed)) => Self::Failed(Failed {
                reached_a_hub,
                ..failed
            }),
            (None, None) => Self::Failed(Failed::no_response(HubFailure::Skipped)),
        }
    }
}

/// What the hub said of a message that carried `sent`, for the spoke to read.
pub(super) fn said(response: &HubResponse, sent: &Counts) -> String {
    let code = response.status.as_u16();
    if response.status.is_success() {
        let written = response.written.map_or(0, |written| written.samples());
        let sent = sent.samples();
        format!("the hub says ({code}) that it wrote {written} of {sent} samples, and not why")
    } else if response.text.is_empty() {
        format!("the hub refused it with {code} and gave no reason")
    } else {
        format!("the hub says ({code}): {}", response.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request of 10 samples of which the hub wrote some, and its refusal of the others.
    fn settled(written: u64, status: Option<u16>) -> Outcome {
        let refusal = status.map(|status| {
            let status = StatusCode::from_u16(status).unwrap();
            (status, format!("refused {written}"))
        });
        Outcome::Settled(Settled {
            written: Counts::new([written, 0, 0, 0]),
            refusal,
            ..Settled::default()
        })
    }

    fn failed() -> Outcome {
        Outcome::Failed(Failed::no_response(HubFailure::Connect))
    }

    /// The number of samples written and the status of the refusal; `None` when the spoke sends again.
    fn told(outcome: &Outcome) -> Option<(u64, Option<u16>)> {
        match outcome {
            Outcome::Settled(settled) => {
                let status = settled.refusal.as_ref().map(|(status, _)| status.as_u16());
                Some((settled.written.samples(), status))
            }
            Outcome::Failed(_) => None,
        }
    }

    #[test]
    fn several_hubs_make_one_outcome() {
        let rows = [
            (
                "both wrote all",
                settled(10, None),
                settled(10, None),
                Some((10, None)),
                Some((10, None)),
            ),
            (
                "one failed",
                settled(10, None),
                failed(),
                None,
                Some((10, None)),
            ),
            ("both failed", failed(), failed(), None, None),
            (
                "one refused some",
                settled(10, None),
                settled(9, Some(400)),
                Some((9, Some(400))),
                Some((10, None)),
            ),
            (
                "each refused some",
                settled(4, Some(400)),
                settled(9, Some(400)),
                Some((4, Some(400))),
                Some((9, Some(400))),
            ),
            (
                "one refused some, one failed",
                settled(9, Some(400)),
                failed(),
                None,
                Some((9, Some(400))),
            ),
            (
                "one found it too large",
                settled(10, None),
                settled(0, Some(413)),
                Some((0, Some(413))),
                Some((10, None)),
            ),
            (
                "one found it too large, one failed",
                settled(0, Some(413)),
                failed(),
                None,
                None,
            ),
            (
                "one refused all, one found it too large",
                settled(0, Some(400)),
                settled(0, Some(413)),
                Some((0, Some(400))),
                Some((0, Some(400))),
            ),
        ];
        for (row, first, second, all, any) in rows {
            for (one, other) in [(&first, &second), (&second, &first)] {
                let outcomes = || vec![one.clone(), other.clone()];
                let with_any = Outcome::combine(Ack::Any, outcomes());
                assert_eq!(told(&with_any), any, "{row}, any");
                let with_all = told(&Outcome::combine(Ack::All, outcomes()));
                let written = |told: Option<(u64, Option<u16>)>| told.map(|(written, _)| written);
                assert_eq!(written(with_all), written(all), "{row}, all");
            }
            let with_all = Outcome::combine(Ack::All, vec![first, second]);
            assert_eq!(told(&with_all), all, "{row}, all");
        }
        assert_eq!(told(&Outcome::combine(Ack::All, Vec::new())), None);
    }
}
