//! What the spoke is told, and where the samples of its request went.
//!
//! Pure: the verdict and what became of the request at the hubs in, the answer out. A 2xx needs
//! the hubs' 2xx; a 4xx is a fact about the request; everything else is a hub's or ours and is
//! retried.

use http::StatusCode;

use crate::policy::Verdict;
use crate::reasons::Reason;
use crate::wire::{Counts, Kind, Protocol};

use crate::forward::outcome::{Failed, Outcome, RetryAfter, Settled};

/// Prometheus reads 1 KiB of a refusal (`maxErrMsgLen` in `storage/remote/client.go`), of which
/// one byte is the end of the line.
const TEXT_BYTES_MAX: usize = 1023;

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
    pub samples: SampleCounts,
}

/// Where the samples of a request went; together they are what was received.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SampleCounts {
    /// The hub took them.
    pub written: Counts,
    /// Refused for good by the hub; what was refused here is in the verdict.
    pub rejected_by_hub: Counts,
    /// What the version that the hub speaks cannot hold.
    pub unsupported: Counts,
    /// Neither; the spoke sends them again.
    pub failed: Counts,
}

/// Answers by the table of the design.
pub fn answer(spoke: &str, protocol: Protocol, verdict: &Verdict, outcome: &Outcome) -> Answer {
    let case = Case {
        spoke,
        protocol,
        verdict,
        kept: verdict.kept(),
    };
    match outcome {
        Outcome::Settled(settled) => case.settled(settled),
        Outcome::Failed(failed) => case.retryable(failed),
    }
}

struct Case<'c> {
    spoke: &'c str,
    protocol: Protocol,
    verdict: &'c Verdict,
    /// What the hub was to get.
    kept: Counts,
}

impl Case<'_> {
    /// An answer after which nothing is left to send again.
    fn settled(&self, settled: &Settled) -> Answer {
        let refused_here = !self.verdict.rejections.is_empty();
        let unsupported = settled.unsupported_samples();
        let status = match &settled.refusal {
            Some((status, _)) => *status,
            None if refused_here || !unsupported.is_empty() => StatusCode::BAD_REQUEST,
            None => StatusCode::NO_CONTENT,
        };
        let written = self.kept.min(&settled.written);
        let told = self.protocol == Protocol::V2 || !status.is_success();
        // Where the hub did not say what it wrote, neither do we.
        let withheld = self.protocol == Protocol::V1 && settled.uncounted;
        Answer {
            status,
            written: (told && !withheld).then_some(written),
            retry_after: RetryAfter::Unsaid,
            text: if status.is_success() {
                String::new()
            } else {
                self.text(&unsupported, settled)
            },
            samples: SampleCounts {
                written,
                rejected_by_hub: self.kept.minus(&written).minus(&settled.unsupported),
                unsupported: self.kept.minus(&written).min(&settled.unsupported),
                failed: Counts::default(),
            },
        }
    }

    /// An answer after which the spoke sends everything again. Without Written headers:
    /// Prometheus adds up those of every attempt.
    fn retryable(&self, failed: &Failed) -> Answer {
        let (spoke, reason) = (self.spoke, &failed.reason);
        Answer {
            status: failed.status,
            written: None,
            retry_after: failed.retry_after,
            text: cut(format!(
                "spoke {spoke}: {reason}; nothing is lost, try again"
            )),
            samples: SampleCounts {
                failed: self.kept,
                ..SampleCounts::default()
            },
        }
    }

    /// Spoke, reason, count, advice and an example in the first 200 bytes, which is what a log
    /// line shows. The example comes last, since it may be long.
    fn text(&self, unsupported: &Counts, settled: &Settled) -> String {
        let mut parts = Vec::new();
        for rejection in &self.verdict.rejections {
            parts.push(format!(
                "{}: {} of {} refused: {}; e.g. {}",
                rejection.reason.name(),
                rejection.series,
                self.verdict.series.max(rejection.series),
                rejection.reason.advice(),
                rejection.example,
            ));
        }
        for kind in Kind::ALL
            .into_iter()
            .filter(|kind| unsupported.of(*kind) > 0)
        {
            parts.push(format!(
                "{}: {} of {} {}s refused: {}",
                Reason::HubProtocol.name(),
                unsupported.of(kind),
                self.kept.of(kind),
                kind.name(),
                Reason::HubProtocol.advice(),
            ));
        }
        if settled.unhalved > 0 {
            parts.push(format!(
                "{} samples refused with a bad one, since requests or time to find it ran out: \
                 raise salvage_requests_max",
                settled.unhalved
            ));
        }
        if let Some((_, text)) = &settled.refusal {
            parts.push(text.clone());
        }
        cut(format!("spoke {}: {}", self.spoke, parts.join("; ")))
    }
}

/// Cuts a text to what senders read.
pub(super) fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}

#[cfg(test)]
mod tests {
    use crate::policy::Rejection;

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
                &Outcome::Settled(Settled::default()),
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
