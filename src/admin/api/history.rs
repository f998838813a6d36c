//! `GET /api/v1/history`: the last hour of all spokes, for their sparklines.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::forward::history as hub;
use crate::reasons::Limit;
use crate::spoke::Spoke;
use crate::spoke::history::Shown;
use crate::spoke::hour::{STEP, Steps};
use crate::state::State;

use super::unix_seconds;

/// The body of the response.
#[derive(Debug, Serialize)]
pub(super) struct Histories {
    /// The time of a step.
    step_seconds: f64,
    /// The number of the newest step: `since` of the next question.
    newest: u64,
    /// When the newest step ended.
    end_timestamp_seconds: Option<f64>,
    /// Samples a second that were written in each step, the newest last, by the name of the spoke. A
    /// spoke that was added later has fewer.
    spokes: BTreeMap<String, Vec<Option<f32>>>,
}

/// The last hour of one spoke. All lists have one element for each step, the newest last; null where
/// hubgate did not run.
#[derive(Debug, Serialize)]
pub(super) struct History {
    /// The time of a step.
    step_seconds: f64,
    /// When the newest step ended.
    end_timestamp_seconds: Option<f64>,
    /// Samples a second that were written.
    written_per_second: Vec<Option<f32>>,
    /// Samples a second that were refused for good.
    rejected_per_second: Vec<Option<f32>>,
    /// Samples a second of requests that the sender retries.
    failed_per_second: Vec<Option<f32>>,
    /// How far the newest sample was behind.
    lag_seconds: Vec<Option<f32>>,
    /// The part of each limit that was used, from 0 to 1 or beyond; those of which it was known.
    limits_used_ratio: BTreeMap<&'static str, Vec<Option<f32>>>,
    /// Requests, series or samples a second that were refused, by reason; those that occurred.
    refusals_per_second: BTreeMap<&'static str, Vec<Option<f32>>>,
}

/// The last hour of a hub. All lists have one element for each step, the newest last; null where hubgate
/// did not run.
#[derive(Debug, Serialize)]
pub(super) struct HubHistory {
    /// The time of a step.
    step_seconds: f64,
    /// When the newest step ended.
    end_timestamp_seconds: Option<f64>,
    /// How it did.
    state: Vec<Option<&'static str>>,
    /// Requests a second that ended.
    requests_per_second: Vec<Option<f32>>,
    /// Those of them that failed.
    failed_per_second: Vec<Option<f32>>,
    /// The mean time of a request.
    duration_seconds: Vec<Option<f32>>,
    /// The time in which half of the requests ended.
    duration_p50_seconds: Vec<Option<f32>>,
    /// The time in which 99 of 100 requests ended.
    duration_p99_seconds: Vec<Option<f32>>,
    /// The most requests under way.
    requests_in_flight: Vec<Option<f32>>,
    /// The most that it was sent at once.
    requests_in_flight_limit: Vec<Option<f32>>,
    /// The most that waited.
    requests_waiting: Vec<Option<f32>>,
}

impl Histories {
    /// The steps after the one of this number, or all. A step that ends at this moment is left out, as
    /// some spokes do not have it yet.
    pub(super) fn of(state: &State, since: Option<u64>) -> Self {
        let of_spoke = |spoke: &Arc<Spoke>| (spoke.name.clone(), spoke.history.since(since));
        let each: Vec<_> = state.spokes.iter().map(of_spoke).collect();
        let begun = each.iter().filter(|(_, steps)| steps.ended.is_some());
        let oldest = begun.min_by_key(|(_, steps)| steps.newest);
        let (newest, ended) = oldest.map_or((0, None), |(_, steps)| (steps.newest, steps.ended));
        let spokes = each.iter().map(|(name, steps)| {
            let mut written = column(steps, |step| step.written);
            let early = usize::try_from(steps.newest.saturating_sub(newest));
            written.truncate(written.len().saturating_sub(early.unwrap_or(usize::MAX)));
            (name.clone(), written)
        });
        Self {
            step_seconds: STEP.as_secs_f64(),
            newest,
            end_timestamp_seconds: ended.map(unix_seconds),
            spokes: spokes.collect(),
        }
    }
}

impl History {
    pub(super) fn of(shown: &Shown) -> Self {
        let Shown { steps, refusals } = shown;
        let limits = Limit::ALL.into_iter().map(|limit| {
            let used = column(steps, |step| step.limit(limit));
            (limit.name(), used)
        });
        let known = |used: &[Option<f32>]| used.iter().any(Option::is_some);
        let refusals = refusals.iter().map(|(reason, rates)| {
            let rates: Vec<_> = rates.iter().copied().map(rounded).collect();
            (*reason, rates)
        });
        Self {
            limits_used_ratio: limits.filter(|(_, used)| known(used)).collect(),
            refusals_per_second: refusals.collect(),
            step_seconds: STEP.as_secs_f64(),
            end_timestamp_seconds: steps.ended.map(unix_seconds),
            written_per_second: column(steps, |step| step.written),
            rejected_per_second: column(steps, |step| step.rejected),
            failed_per_second: column(steps, |step| step.failed),
            lag_seconds: column(steps, |step| step.lag),
        }
    }
}

impl HubHistory {
    pub(super) fn of(steps: &Steps<hub::Step>) -> Self {
        let state = |step: &hub::Step| step.state().map(hub::HubState::name);
        Self {
            step_seconds: STEP.as_secs_f64(),
            end_timestamp_seconds: steps.ended.map(unix_seconds),
            state: steps.steps.iter().map(state).collect(),
            requests_per_second: column(steps, |step| step.requests),
            failed_per_second: column(steps, |step| step.failed),
            duration_seconds: column(steps, |step| step.duration),
            duration_p50_seconds: column(steps, |step| step.median),
            duration_p99_seconds: column(steps, |step| step.p99),
            requests_in_flight: column(steps, |step| step.in_flight),
            requests_in_flight_limit: column(steps, |step| step.limit),
            requests_waiting: column(steps, |step| step.waiting),
        }
    }
}

fn column<T>(steps: &Steps<T>, of: impl Fn(&T) -> f32) -> Vec<Option<f32>> {
    steps.steps.iter().map(|step| rounded(of(step))).collect()
}

/// JSON has no NaN. Four digits are enough for a line of a chart, and keep the answer short.
fn rounded(number: f32) -> Option<f32> {
    number
        .is_finite()
        .then(|| (number * 10_000.0).round() / 10_000.0)
}
