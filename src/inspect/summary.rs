//! What is said of a body as a whole, after its series.

use serde::Serialize;

use crate::config::{LimitMode, SpokeLimits};
use crate::forward::outcome::{Outcome, Settled};
use crate::policy::{Explanation, Rejection};
use crate::reasons::Limit;
use crate::wire::{Counts, Kind, Protocol, Times};
use crate::write::answer;
use crate::write::refusal::Refusal;

use super::Asked;
use super::elsewhere::ElsewhereView;
use super::shown::Time;
use super::view::is_false;

/// Why all of a body is refused.
#[derive(Serialize)]
pub(super) struct RefusalView {
    pub(super) status: u16,
    pub(super) reason: &'static str,
    pub(super) text: String,
    /// What the body may be instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hint: Option<&'static str>,
}

/// What is known after the series.
#[derive(Serialize)]
pub(super) struct End {
    pub(super) series: u64,
    pub(super) samples: u64,
    pub(super) histograms: u64,
    pub(super) exemplars: u64,
    pub(super) metadata: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) oldest: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) newest: Option<Time>,
    /// Fields that the message does not define. They never travel on.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) foreign_fields: bool,
    /// The capture has a part of the body alone, which cannot be read.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) cut: bool,
    /// The output became too long, and ends before the body does.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refusal: Option<RefusalView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) verdict: Option<VerdictView>,
    /// Why it was refused when it was captured, beside what is here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) refused_elsewhere: Vec<ElsewhereView>,
}

/// What the policy of a spoke says of the request.
#[derive(Serialize)]
pub(super) struct VerdictView {
    pub(super) spoke: String,
    pub(super) passing_series: u64,
    pub(super) passing_metadata: u64,
    pub(super) refused: Vec<RejectionView>,
    /// What exceeded limits that only count it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) exceeded: Vec<ExceededView>,
    /// What the spoke is told if the hubs take all that passes.
    pub(super) response: ResponseView,
}

#[derive(Serialize)]
pub(super) struct RejectionView {
    pub(super) reason: &'static str,
    /// Series, or samples and exemplars, as the reason refuses them.
    pub(super) count: u64,
    pub(super) advice: &'static str,
    pub(super) example: String,
}

#[derive(Serialize)]
pub(super) struct ExceededView {
    pub(super) limit: &'static str,
    pub(super) count: u64,
}

#[derive(Serialize)]
pub(super) struct ResponseView {
    pub(super) status: u16,
    pub(super) text: String,
}

impl RefusalView {
    pub(super) fn new(refusal: &Refusal, asked: Option<&Asked>) -> Self {
        let answer = asked.map_or(SpokeLimits::DEFAULT.answer, |asked| asked.limits.answer);
        Self {
            status: refusal.status(answer).as_u16(),
            reason: refusal.reason().name(),
            text: refusal.to_string(),
            hint: None,
        }
    }
}

impl VerdictView {
    /// What the policy of a spoke says, and what the spoke would be told.
    pub(super) fn new(asked: &Asked, protocol: Protocol, explanation: &Explanation) -> Self {
        let verdict = &explanation.verdict;
        let settled = Settled {
            written: verdict.kept(),
            ..Settled::default()
        };
        let outcome = Outcome::Settled(settled);
        let answer = answer::answer(&asked.name, protocol, verdict, &outcome);
        let exceeded = Limit::ALL.into_iter().filter_map(|limit| {
            let count = verdict.exceeded.of(limit);
            let observed = asked.limits.mode(limit) == LimitMode::Observe && count > 0;
            observed.then(|| ExceededView {
                limit: limit.name(),
                count,
            })
        });
        Self {
            spoke: asked.name.clone(),
            passing_series: verdict.kept_series,
            passing_metadata: verdict.kept_metadata,
            refused: verdict.rejections.iter().map(RejectionView::new).collect(),
            exceeded: exceeded.collect(),
            response: ResponseView {
                status: answer.status.as_u16(),
                text: answer.text,
            },
        }
    }
}

impl RejectionView {
    pub(super) fn new(rejection: &Rejection) -> Self {
        Self {
            reason: rejection.reason.name(),
            count: rejection.refused(),
            advice: rejection.reason.advice(),
            example: rejection.example.clone(),
        }
    }
}

impl End {
    /// Whether the policy was asked, and refuses nothing.
    pub(super) fn is_accepted(&self) -> bool {
        self.verdict
            .as_ref()
            .is_some_and(|it| it.refused.is_empty())
    }

    /// What was counted.
    pub(super) fn new(series: u64, counts: &Counts, times: &Times) -> Self {
        Self {
            series,
            samples: counts.of(Kind::Float),
            histograms: counts.of(Kind::Histogram),
            exemplars: counts.of(Kind::Exemplar),
            metadata: counts.of(Kind::Metadata),
            oldest: times.oldest().map(Time),
            newest: times.newest().map(Time),
            foreign_fields: false,
            cut: false,
            truncated: false,
            refusal: None,
            verdict: None,
            refused_elsewhere: Vec::new(),
        }
    }
}
