//! `GET /api/v1/history`: the last hour of all spokes, for their sparklines.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::spoke::Spoke;
use crate::spoke::history::{STEP, Step, Steps};
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
    pub(super) fn of(steps: &Steps) -> Self {
        Self {
            step_seconds: STEP.as_secs_f64(),
            end_timestamp_seconds: steps.ended.map(unix_seconds),
            written_per_second: column(steps, |step| step.written),
            rejected_per_second: column(steps, |step| step.rejected),
            failed_per_second: column(steps, |step| step.failed),
            lag_seconds: column(steps, |step| step.lag),
        }
    }
}

/// JSON has no NaN. Three digits are enough for a line of a chart, and keep the answer short.
fn column(steps: &Steps, of: impl Fn(&Step) -> f32) -> Vec<Option<f32>> {
    let rounded = |number: f32| (number * 1000.0).round() / 1000.0;
    let known = |step| {
        Some(of(step))
            .filter(|number| number.is_finite())
            .map(rounded)
    };
    steps.steps.iter().map(known).collect()
}
