//! What the spoke is told, and how the request goes into the accounts.
//!
//! Pure: the verdict and what the hub said in, the answer out. A 2xx needs the hub's 2xx; a 4xx
//! is a fact about the request; everything else is the hub's or ours and is retried.

use std::fmt::Write;

use http::StatusCode;

use crate::forward::{HubAnswer, HubFailure};
use crate::policy::Verdict;
use crate::wire::{Counts, Kind, Protocol};

use super::refusal::Refusal;

/// Prometheus reads 1 KiB of a refusal (`maxErrMsgLen` in `storage/remote/client.go`), of which
/// one byte is the end of the line.
const TEXT_BYTES_MAX: usize = 1023;

/// What became of a request after its inspection.
#[derive(Debug)]
pub enum Outcome {
    /// The hub answered.
    Answered(HubAnswer),
    /// The hub did not answer.
    Failed(HubFailure),
    /// There was nothing to send.
    NothingToSend,
}

impl Outcome {
    /// What the hub said, for the log.
    pub fn text(&self) -> &str {
        match self {
            Self::Answered(hub) => &hub.text,
            Self::Failed(HubFailure::Connect) => "cannot be reached",
            Self::Failed(HubFailure::Reset) => "the connection broke",
            Self::Failed(HubFailure::Timeout) => "no answer in time",
            Self::NothingToSend => "",
        }
    }
}

/// The answer to a spoke.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The Written headers, when they are sent.
    pub written: Option<Counts>,
    /// When to come again.
    pub retry_after: RetryAfter,
    /// The text; empty on success.
    pub text: String,
    /// Where the samples of the request went.
    pub accounts: Accounts,
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

/// Where the samples of a request went; together they are what was received.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    /// The hub took them.
    pub written: Counts,
    /// Refused for good by the hub; what was refused here is in the verdict.
    pub rejected_by_hub: Counts,
    /// Neither; the spoke sends them again.
    pub failed: Counts,
}

/// Answers by the table of the design.
pub fn answer(spoke: &str, protocol: Protocol, verdict: &Verdict, outcome: &Outcome) -> Answer {
    let kept = verdict.kept();
    let case = Case {
        spoke,
        protocol,
        verdict,
        kept,
    };
    match outcome {
        Outcome::NothingToSend => case.settled(kept, StatusCode::NO_CONTENT, ""),
        Outcome::Failed(failure) => {
            let status = match failure {
                HubFailure::Connect | HubFailure::Reset => StatusCode::BAD_GATEWAY,
                HubFailure::Timeout => StatusCode::GATEWAY_TIMEOUT,
            };
            case.retryable(status, &failure.to_string(), RetryAfter::Soon)
        }
        Outcome::Answered(hub) => case.answered(hub),
    }
}

struct Case<'c> {
    spoke: &'c str,
    protocol: Protocol,
    verdict: &'c Verdict,
    /// What the hub was sent.
    kept: Counts,
}

impl Case<'_> {
    fn answered(&self, hub: &HubAnswer) -> Answer {
        match hub.status.as_u16() {
            200..=299 => match (self.protocol, &hub.written) {
                // Some receivers send zeros with a V1 success, which says all by itself.
                (Protocol::V1, _) => self.settled(self.kept, StatusCode::NO_CONTENT, ""),
                (Protocol::V2, Some(claimed)) => {
                    let mut written = self.written(claimed);
                    written.add(Kind::Metadata, self.kept.of(Kind::Metadata));
                    self.settled(written, StatusCode::NO_CONTENT, &hub.text)
                }
                (Protocol::V2, None) => self.retryable(
                    StatusCode::BAD_GATEWAY,
                    "the hub did not say what it wrote, so it may not speak remote write 2.0",
                    RetryAfter::Soon,
                ),
            },
            // The request's own fault, at the hub; 409 is Thanos for conflicting samples.
            400 | 409 => {
                let mut written = self.written(&hub.written.unwrap_or_default());
                if !written.is_empty() {
                    // Metadata travels with the series, and no header counts it.
                    written.add(Kind::Metadata, self.kept.of(Kind::Metadata));
                }
                let mut answer = self.settled(written, StatusCode::BAD_REQUEST, &self.said(hub));
                if self.protocol == Protocol::V1 && hub.written.is_none() {
                    // The hub did not say what it wrote, so neither do we.
                    answer.written = None;
                }
                answer
            }
            413 => {
                let text = format!(
                    "{}; lower max_samples_per_send at the spoke or raise the hub's limit",
                    self.said(hub)
                );
                self.settled(Counts::default(), StatusCode::PAYLOAD_TOO_LARGE, &text)
            }
            415 if self.protocol == Protocol::V2 => {
                let text = Refusal::HubSpeaksV1.to_string();
                self.settled(Counts::default(), StatusCode::UNSUPPORTED_MEDIA_TYPE, &text)
            }
            // To most senders a 429 means to drop.
            429 => self.hub_fault(hub, StatusCode::SERVICE_UNAVAILABLE, RetryAfter::Soon),
            500 | 502 | 504 => self.hub_fault(hub, hub.status, RetryAfter::Unsaid),
            503 => self.hub_fault(hub, hub.status, RetryAfter::Soon),
            // A hub that refuses hubgate itself is a fault of the set-up, not of the request.
            _ => self.hub_fault(hub, StatusCode::BAD_GATEWAY, RetryAfter::Unsaid),
        }
    }

    /// What the hub says it wrote, as far as it was sent.
    fn written(&self, claimed: &Counts) -> Counts {
        self.kept.min(claimed)
    }

    /// What the hub said of the request, for the spoke to read.
    fn said(&self, hub: &HubAnswer) -> String {
        let code = hub.status.as_u16();
        if hub.text.is_empty() {
            format!("the hub refused it with {code} and no reason")
        } else {
            format!("the hub says ({code}): {}", hub.text)
        }
    }

    /// An answer after which nothing is left to send again.
    fn settled(&self, written: Counts, status: StatusCode, hub_text: &str) -> Answer {
        let refused_here = !self.verdict.rejections.is_empty();
        let status = if status.is_success() && refused_here {
            StatusCode::BAD_REQUEST
        } else {
            status
        };
        let wanted = self.protocol == Protocol::V2 || refused_here || !status.is_success();
        Answer {
            status,
            written: wanted.then_some(written),
            retry_after: RetryAfter::Unsaid,
            text: if status.is_success() {
                String::new()
            } else {
                self.text(hub_text)
            },
            accounts: Accounts {
                written,
                rejected_by_hub: self.kept.minus(&written),
                failed: Counts::default(),
            },
        }
    }

    /// An answer after which the spoke sends everything again. Without Written headers:
    /// Prometheus adds up those of every attempt.
    fn retryable(&self, status: StatusCode, reason: &str, retry_after: RetryAfter) -> Answer {
        Answer {
            status,
            written: None,
            retry_after,
            text: cut(format!(
                "spoke {}: {reason}; nothing is lost, try again",
                self.spoke
            )),
            accounts: Accounts {
                failed: self.kept,
                ..Accounts::default()
            },
        }
    }

    /// The hub's text stays in the log: it may speak of what is none of the spoke's business.
    fn hub_fault(&self, hub: &HubAnswer, status: StatusCode, otherwise: RetryAfter) -> Answer {
        let reason = format!("the hub answered {}", hub.status.as_u16());
        let retry_after = match hub.retry_after {
            Some(seconds @ 1..) => RetryAfter::Seconds(seconds),
            _ => otherwise,
        };
        self.retryable(status, &reason, retry_after)
    }

    /// Spoke, reason, count, advice and an example in the first 200 bytes, which is what a log
    /// line shows. The example comes last, since it may be long.
    fn text(&self, hub_text: &str) -> String {
        let mut text = format!("spoke {}: ", self.spoke);
        for (index, rejection) in self.verdict.rejections.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "{separator}{}: {} of {} refused: {}; e.g. {}",
                rejection.reason.name(),
                rejection.series,
                self.verdict.series.max(rejection.series),
                rejection.reason.advice(),
                rejection.example,
            );
        }
        if !hub_text.is_empty() {
            let separator = if self.verdict.rejections.is_empty() {
                ""
            } else {
                "; "
            };
            let _ = write!(text, "{separator}{hub_text}");
        }
        cut(text)
    }
}

/// Cuts a text to what senders read.
pub(super) fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}

#[cfg(test)]
mod tests {
    use crate::policy::{Reason, Rejection};

    use super::*;

    #[test]
    fn says_the_main_things_in_the_first_200_bytes() {
        for reason in Reason::ALL {
            let mut verdict = Verdict::default();
            verdict.series = 2000;
            verdict.rejections = vec![Rejection {
                reason,
                series: 1999,
                counts: Counts::default(),
                example: format!("up{{cluster=\"staging\",{}", "x".repeat(200)),
            }];
            let told = answer(
                "production",
                Protocol::V1,
                &verdict,
                &Outcome::NothingToSend,
            );
            let start = &told.text[..200];
            let wanted = [
                "production",
                reason.name(),
                "1999",
                reason.advice(),
                "up{cluster=\"stag",
            ];
            for wanted in wanted {
                assert!(start.contains(wanted), "{wanted} in {start}");
            }
            assert_eq!(told.status, StatusCode::BAD_REQUEST);
        }
    }
}
