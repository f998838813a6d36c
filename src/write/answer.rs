//! What the spoke is told, and where the samples of its request went.
//!
//! Pure: the verdict and what became of the request at the hubs go in, the answer comes out. A 2xx
//! needs the hubs' 2xx; a 4xx is a fact about the request; every other failure is a hub's or ours,
//! and the spoke retries.

use http::StatusCode;

use crate::policy::{Rejection, Verdict};
use crate::reasons::{Reason, RequestReason};
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
    /// When the spoke is to send again.
    pub retry_after: RetryAfter,
    /// The text; empty on success.
    pub text: String,
    /// Where the samples of the request went.
    pub samples: SampleCounts,
    /// Why something of it was refused or failed, by the names of the reasons.
    pub reasons: Vec<&'static str>,
}

impl Answer {
    /// True when the spoke sends the whole request again.
    pub fn sent_again(&self) -> bool {
        self.status.is_server_error()
    }
}

/// Where the samples of a request went; with what was refused here they are what was received.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SampleCounts {
    /// The hub wrote them.
    pub written: Counts,
    /// The hub refused them for good. What was refused here is in the verdict.
    pub rejected_by_hub: Counts,
    /// The version that the hub speaks cannot hold them.
    pub unsupported: Counts,
    /// None of these; the spoke sends them again.
    pub failed: Counts,
}

/// Chooses the answer to a spoke whose request was decoded.
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
        // Metadata alone makes no refusal: the spoke would count samples as lost that are written.
        let mut rejections = self.verdict.rejections.iter();
        let refused_here = rejections.any(|it| !it.is_of_metadata());
        let unsupported = settled.unsupported_samples();
        let status = match &settled.refusal {
            Some((status, _)) => *status,
            None if refused_here || !unsupported.is_empty() => StatusCode::BAD_REQUEST,
            None => StatusCode::NO_CONTENT,
        };
        let written = self.kept.min(&settled.written);
        let told = self.protocol == Protocol::V2 || !status.is_success();
        // Where the hub did not say what it wrote, the spoke is not told either.
        let withheld = self.protocol == Protocol::V1 && settled.uncounted;
        let samples = SampleCounts {
            written,
            rejected_by_hub: self.kept.minus(&written).minus(&settled.unsupported),
            unsupported: self.kept.minus(&written).min(&settled.unsupported),
            failed: Counts::default(),
        };
        let mut reasons = self.refused_here();
        reasons.extend((!samples.rejected_by_hub.is_empty()).then_some(Reason::Hub.name()));
        reasons.extend((!unsupported.is_empty()).then_some(Reason::HubProtocol.name()));
        Answer {
            status,
            written: (told && !withheld).then_some(written),
            retry_after: RetryAfter::Unsaid,
            text: if status.is_success() {
                String::new()
            } else {
                self.text(&unsupported, settled)
            },
            samples,
            reasons,
        }
    }

    /// Why hubgate itself refused something.
    fn refused_here(&self) -> Vec<&'static str> {
        let rejections = self.verdict.rejections.iter();
        rejections.map(|it| it.reason.name()).collect()
    }

    /// An answer after which the spoke sends everything again. It has no Written headers, since
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
            reasons: {
                let mut reasons = self.refused_here();
                reasons.push(RequestReason::HubFailed.name());
                reasons
            },
        }
    }

    /// Of how many something was refused, and of what if it was single samples.
    fn out_of(&self, rejection: &Rejection) -> String {
        let received = &self.verdict.received;
        if !rejection.reason.is_of_samples() {
            let series = self.verdict.series.max(rejection.series);
            return match rejection.single {
                0 => series.to_string(),
                _ => format!(
                    "{} series, exemplars and metadata",
                    series + received.of(Kind::Exemplar) + received.of(Kind::Metadata)
                ),
            };
        }
        if rejection.counts.of(Kind::Exemplar) > 0 {
            let exemplars = received.of(Kind::Exemplar);
            format!("{} samples and exemplars", received.samples() + exemplars)
        } else {
            format!("{} samples", received.samples())
        }
    }

    /// The text of a refusal. The first 200 bytes, which a log line shows, hold spoke, reason, count,
    /// advice and the start of an example. The example comes last, since it may be long.
    fn text(&self, unsupported: &Counts, settled: &Settled) -> String {
        let mut parts = Vec::new();
        for rejection in &self.verdict.rejections {
            let reason = rejection.reason;
            parts.push(format!(
                "{}: {} of {} refused: {}; e.g. {}",
                reason.name(),
                rejection.refused(),
                self.out_of(rejection),
                reason.advice(),
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
                "{} samples refused without being tried one by one, since salvage_requests_max or \
                 the time ran out",
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
    use crate::reasons::HubFailure;

    use super::*;

    fn floats(count: u64) -> Counts {
        Counts::new([count, 0, 0, 0])
    }

    /// A verdict over 10 samples that refuses some of them.
    fn verdict(rejected: u64) -> Verdict {
        let mut verdict = Verdict::default();
        verdict.received = floats(10);
        verdict.series = 10;
        if rejected > 0 {
            verdict.rejections.push(Rejection {
                reason: Reason::MismatchedLabel,
                series: rejected,
                single: 0,
                counts: floats(rejected),
                example: "up{cluster=\"staging\"}".to_owned(),
            });
        }
        verdict
    }

    /// What a hub wrote of a request, and its refusal of the others.
    fn settled(written: u64, refusal: Option<StatusCode>) -> Settled {
        Settled {
            written: floats(written),
            refusal: refusal.map(|status| (status, "out of order".to_owned())),
            ..Settled::default()
        }
    }

    /// Status, samples in the Written headers, and samples written, refused by the hub, and failed.
    type Row = (u16, Option<u64>, [u64; 3]);

    fn row(answer: &Answer) -> Row {
        let Answer {
            status,
            written,
            samples,
            ..
        } = answer;
        let numbers = [samples.written, samples.rejected_by_hub, samples.failed];
        let written = written.map(|written| written.samples());
        (status.as_u16(), written, numbers.map(|it| it.samples()))
    }

    #[test]
    fn a_spoke_is_told_what_was_written() {
        const BAD: StatusCode = StatusCode::BAD_REQUEST;
        const LARGE: StatusCode = StatusCode::PAYLOAD_TOO_LARGE;
        let failed = || Outcome::Failed(Failed::no_response(HubFailure::Timeout));
        let uncounted = Settled {
            uncounted: true,
            ..settled(0, Some(BAD))
        };
        let unsupported = Settled {
            unsupported: floats(3),
            ..settled(7, None)
        };
        let rows: [(&str, u64, Outcome, Row, Row); 8] = [
            (
                "all written",
                0,
                Outcome::Settled(settled(10, None)),
                (204, None, [10, 0, 0]),
                (204, Some(10), [10, 0, 0]),
            ),
            (
                "some refused here",
                4,
                Outcome::Settled(settled(6, None)),
                (400, Some(6), [6, 0, 0]),
                (400, Some(6), [6, 0, 0]),
            ),
            (
                "all refused here",
                10,
                Outcome::default(),
                (400, Some(0), [0, 0, 0]),
                (400, Some(0), [0, 0, 0]),
            ),
            (
                "some refused by the hub",
                0,
                Outcome::Settled(settled(9, Some(BAD))),
                (400, Some(9), [9, 1, 0]),
                (400, Some(9), [9, 1, 0]),
            ),
            (
                "too large for the hub",
                0,
                Outcome::Settled(settled(0, Some(LARGE))),
                (413, Some(0), [0, 10, 0]),
                (413, Some(0), [0, 10, 0]),
            ),
            (
                "refused by a hub that does not count",
                0,
                Outcome::Settled(uncounted),
                (400, None, [0, 10, 0]),
                (400, Some(0), [0, 10, 0]),
            ),
            (
                "some not supported by the hub",
                0,
                Outcome::Settled(unsupported),
                (400, Some(7), [7, 0, 0]),
                (400, Some(7), [7, 0, 0]),
            ),
            (
                "no response of the hub, some refused here",
                4,
                failed(),
                (504, None, [0, 0, 6]),
                (504, None, [0, 0, 6]),
            ),
        ];
        for (name, rejected, outcome, v1, v2) in rows {
            for (protocol, expected) in [(Protocol::V1, v1), (Protocol::V2, v2)] {
                let verdict = verdict(rejected);
                let answer = answer("production", protocol, &verdict, &outcome);
                assert_eq!(row(&answer), expected, "{name}, {protocol:?}");
                let samples = &answer.samples;
                let mut together = verdict.rejected();
                together.add_all(&samples.written);
                together.add_all(&samples.rejected_by_hub);
                together.add_all(&samples.unsupported);
                together.add_all(&samples.failed);
                assert_eq!(together, verdict.received, "{name}, {protocol:?}");
                let text = &answer.text;
                assert_eq!(
                    text.is_empty(),
                    answer.status.is_success(),
                    "{name}: {text}"
                );
            }
        }
    }

    #[test]
    fn metadata_that_a_hub_cannot_hold_is_no_refusal() {
        let mut verdict = verdict(0);
        verdict.received = Counts::new([10, 0, 0, 5]);
        let settled = Settled {
            unsupported: Counts::new([0, 0, 0, 5]),
            ..settled(10, None)
        };
        let outcome = Outcome::Settled(settled);
        let answer = answer("production", Protocol::V2, &verdict, &outcome);
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
        assert_eq!(answer.samples.unsupported.of(Kind::Metadata), 5);
    }

    #[test]
    fn metadata_that_is_refused_here_is_a_refusal_only_beside_others() {
        let of_metadata = Rejection {
            reason: Reason::InvalidUtf8,
            series: 0,
            single: 2,
            counts: Counts::new([0, 0, 0, 2]),
            example: "up{}: its metadata must be UTF-8".to_owned(),
        };
        for (rejected, status) in [(0, StatusCode::NO_CONTENT), (1, StatusCode::BAD_REQUEST)] {
            let mut verdict = verdict(rejected);
            verdict.received.add(Kind::Metadata, 5);
            verdict.rejections.push(of_metadata.clone());
            let outcome = Outcome::Settled(Settled {
                written: Counts::new([10 - rejected, 0, 0, 3]),
                ..Settled::default()
            });
            let answer = answer("production", Protocol::V2, &verdict, &outcome);
            assert_eq!(answer.status, status);
            assert_eq!(answer.samples.written.of(Kind::Metadata), 3);
            assert_eq!(answer.written.map(|it| it.samples()), Some(10 - rejected));
            assert!(answer.reasons.contains(&"invalid_utf8"));
            let said = "invalid_utf8: 2 of 15 series, exemplars and metadata refused";
            assert_eq!(answer.text.contains(said), rejected > 0, "{}", answer.text);
        }
    }

    #[test]
    fn a_refusal_says_what_matters_in_its_first_200_bytes() {
        for reason in Reason::ALL {
            let mut verdict = Verdict::default();
            verdict.series = 2000;
            verdict.rejections = vec![Rejection {
                reason,
                series: 1999,
                single: 0,
                counts: floats(1999),
                example: format!("up{{cluster=\"staging\",{}", "x".repeat(200)),
            }];
            let outcome = Outcome::default();
            let answer = answer("production", Protocol::V1, &verdict, &outcome);
            let start = &answer.text[..200];
            let facts = [
                "production",
                reason.name(),
                "1999",
                reason.advice(),
                "up{cluster=\"stag",
            ];
            for fact in facts {
                assert!(start.contains(fact), "{fact} in {start}");
            }
            assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        }
    }
}
