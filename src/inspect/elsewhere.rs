//! Why a captured request was refused, as far as its body does not say it.

use serde::Serialize;

use crate::reasons::{Reason, RequestReason};

use super::captured::Captured;
use super::summary::End;

/// A reason of a captured request that does not follow from its body.
#[derive(Serialize)]
pub(super) struct ElsewhereView {
    pub(super) reason: &'static str,
    /// What decided it; `None` where the rules of now do not refuse it any more.
    pub(super) decided_by: Option<&'static str>,
}

/// The reasons that are not found again, once all else is known. What the policy refused is looked for only
/// where it was asked.
pub(super) fn elsewhere(captured: &Captured, end: &End) -> Vec<ElsewhereView> {
    let refused = end.verdict.iter().flat_map(|it| &it.refused);
    let mut found = refused.map(|it| it.reason).collect::<Vec<_>>();
    found.extend(end.refusal.as_ref().map(|it| it.reason));
    let views = captured.reasons().iter().filter_map(|name| {
        let (reason, decided_by) = look_up(name)?;
        let seen = decided_by.is_some() || end.verdict.is_some();
        (seen && !found.contains(&reason)).then_some(ElsewhereView { reason, decided_by })
    });
    views.collect()
}

/// The reason of this name, and what decides it if the body does not.
fn look_up(name: &str) -> Option<(&'static str, Option<&'static str>)> {
    let of_request = RequestReason::ALL.into_iter().find(|it| it.name() == name);
    let of_request = of_request.map(|it| (it.name(), of_request_decided_by(it)));
    let of_series = || Reason::ALL.into_iter().find(|it| it.name() == name);
    of_request.or_else(|| of_series().map(|it| (it.name(), of_series_decided_by(it))))
}

fn of_request_decided_by(reason: RequestReason) -> Option<&'static str> {
    Some(match reason {
        RequestReason::RateLimited => "the rate of the spoke",
        RequestReason::RequestsInFlight => "the number of its requests under way",
        RequestReason::BytesInFlight | RequestReason::Overloaded => "the room that there was",
        RequestReason::SourceRange => "the address that it came from",
        RequestReason::ContentEncoding | RequestReason::ContentType => "its headers",
        RequestReason::BodyFraming
        | RequestReason::BodyTimeout
        | RequestReason::BodyTruncated
        | RequestReason::Draining => "the way in which it came",
        RequestReason::HubFailed => "the hub",
        RequestReason::ClockInDoubt => "the clocks of hubgate and its hubs",
        RequestReason::Internal => "a fault of hubgate",
        RequestReason::AuthBusy
        | RequestReason::BodyTooLarge
        | RequestReason::DecodedTooLarge
        | RequestReason::ForwardedFor
        | RequestReason::KeysUnavailable
        | RequestReason::Malformed
        | RequestReason::MethodNotAllowed
        | RequestReason::NotFound
        | RequestReason::Snappy
        | RequestReason::TokenNotYetValid
        | RequestReason::Unauthenticated
        | RequestReason::WrongMessage => return None,
    })
}

fn of_series_decided_by(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::ActiveSeries => Some("the series that were active"),
        Reason::Hub | Reason::HubProtocol => Some("the hub"),
        Reason::AbsentLabel
        | Reason::DuplicateLabelName
        | Reason::EmptyLabelName
        | Reason::InvalidHistogram
        | Reason::InvalidUtf8
        | Reason::LabelLength
        | Reason::LabelsPerSeries
        | Reason::MismatchedLabel
        | Reason::MissingMetricName
        | Reason::RepeatedLabelField
        | Reason::SeriesPerRequest
        | Reason::SymbolReference
        | Reason::SymbolsPerRequest
        | Reason::TooFarInFuture
        | Reason::TooOld => None,
    }
}
