//! The last hour of a spoke, in steps of 15 seconds.
//!
//! A ring of a fixed size: an hour takes [`BYTES`] bytes, whatever a spoke sends and however often it is
//! refused.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// The time of a step. Prometheus sends about as often.
pub const STEP: Duration = Duration::from_secs(15);

/// The steps of an hour.
pub const STEPS: usize = 240;

/// The bytes that the history of a spoke takes.
pub const BYTES: usize = STEPS * size_of::<Step>();

/// What was counted of a spoke up to a moment, in samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Those that were written.
    pub written: u64,
    /// Those that were refused for good.
    pub rejected: u64,
    /// Those of requests that the sender retries.
    pub failed: u64,
}

/// What happened to a spoke in one step. All are NaN where hubgate did not run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Samples a second that were written.
    pub written: f32,
    /// Samples a second that were refused for good.
    pub rejected: f32,
    /// Samples a second of requests that the sender retries.
    pub failed: f32,
    /// How far the newest sample was behind at the end of the step, in seconds; NaN without one.
    pub lag: f32,
}

/// Steps of a spoke, one after the other.
#[derive(Debug, Clone, Default)]
pub struct Steps {
    /// The steps, the newest last.
    pub steps: Vec<Step>,
    /// The number of the newest.
    pub newest: u64,
    /// When the newest ended; `None` before the first.
    pub ended: Option<SystemTime>,
}

/// The last hour of a spoke.
#[derive(Debug, Default)]
pub struct History(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    /// At most [`STEPS`], the newest last.
    steps: VecDeque<Step>,
    /// The number of the newest.
    newest: u64,
    ended: Option<SystemTime>,
    before: Totals,
}

impl Step {
    const UNKNOWN: Self = Self {
        written: f32::NAN,
        rejected: f32::NAN,
        failed: f32::NAN,
        lag: f32::NAN,
    };
}

impl History {
    /// Ends the step of this number, with what was counted until then and how far the newest sample is
    /// behind. Steps in between were missed; what was counted in them is spread over them and this one.
    pub fn record(&self, number: u64, totals: Totals, lag: Option<Duration>) {
        let mut ring = self.lock();
        let missed = match ring.steps.is_empty() {
            true => 0,
            false => match number.checked_sub(ring.newest + 1) {
                Some(missed) => missed,
                // The clock cannot go back, and a step cannot be changed.
                None => return,
            },
        };
        let seconds = STEP.as_secs_f32() * (missed + 1) as f32;
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f32 / seconds;
        let step = Step {
            written: rate(totals.written, ring.before.written),
            rejected: rate(totals.rejected, ring.before.rejected),
            failed: rate(totals.failed, ring.before.failed),
            lag: lag.map_or(f32::NAN, |lag| lag.as_secs_f32()),
        };
        for _ in 0..missed.min(STEPS as u64) {
            ring.push(Step::UNKNOWN);
        }
        ring.push(step);
        ring.newest = number;
        ring.ended = Some(SystemTime::now());
        ring.before = totals;
    }

    /// The steps after the one of this number, the newest last, or all that are kept, as also when there is
    /// no such step: it is of a process before.
    pub fn since(&self, number: Option<u64>) -> Steps {
        let ring = self.lock();
        let kept = ring.steps.len();
        let after = |number| ring.newest.checked_sub(number)?.try_into().ok();
        let new = number
            .and_then(after)
            .map_or(kept, |new: usize| new.min(kept));
        Steps {
            steps: ring.steps.range(kept - new..).copied().collect(),
            newest: ring.newest,
            ended: ring.ended,
        }
    }

    /// The part of the samples that were written or refused in this last time that was refused.
    pub fn rejected_ratio(&self, time: Duration) -> f64 {
        let steps = usize::try_from(time.as_secs() / STEP.as_secs()).unwrap_or(usize::MAX);
        let ring = self.lock();
        let recent = ring.steps.iter().rev().take(steps);
        let recent = recent.filter(|step| step.rejected.is_finite());
        let (rejected, all) = recent.fold((0.0, 0.0), |(rejected, all), step| {
            (rejected + step.rejected, all + step.rejected + step.written)
        });
        if all > 0.0 {
            f64::from(rejected / all)
        } else {
            0.0
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        // Nothing under the lock can leave it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn push(&mut self, step: Step) {
        if self.steps.capacity() == 0 {
            self.steps.reserve_exact(STEPS);
        }
        if self.steps.len() == STEPS {
            self.steps.pop_front();
        }
        self.steps.push_back(step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(total: u64) -> Totals {
        Totals {
            written: total,
            ..Totals::default()
        }
    }

    fn rates(history: &History, since: Option<u64>) -> Vec<f32> {
        let steps = history.since(since).steps;
        steps.iter().map(|step| step.written).collect()
    }

    #[test]
    fn a_step_has_what_was_counted_since_the_one_before() {
        let history = History::default();
        let totals = Totals {
            written: 150,
            rejected: 15,
            failed: 30,
        };
        history.record(7, totals, Some(Duration::from_millis(2500)));
        history.record(8, totals, None);
        let [first, second] = history.since(None).steps[..] else {
            panic!("two steps");
        };
        let expected = Step {
            written: 10.0,
            rejected: 1.0,
            failed: 2.0,
            lag: 2.5,
        };
        assert_eq!(first, expected);
        assert_eq!(
            (second.written, second.rejected, second.failed),
            (0.0, 0.0, 0.0)
        );
        assert!(second.lag.is_nan());
    }

    #[test]
    fn a_reader_gets_what_it_does_not_have_yet() {
        let history = History::default();
        assert!(history.since(None).steps.is_empty());
        for number in 0..3 {
            history.record(number, written(15 * (number + 1)), None);
        }
        history.record(3, written(90), None);
        assert_eq!(rates(&history, None), [1.0, 1.0, 1.0, 3.0]);
        assert_eq!(rates(&history, Some(1)), [1.0, 3.0]);
        assert!(rates(&history, Some(3)).is_empty());
        assert_eq!(rates(&history, Some(4)).len(), 4);
    }

    #[test]
    fn a_step_that_was_missed_is_unknown_and_one_twice_counts_once() {
        let history = History::default();
        history.record(0, written(15), None);
        history.record(3, written(60), None);
        history.record(3, written(600), None);
        history.record(2, written(600), None);
        let rates = rates(&history, None);
        assert_eq!((rates[0], rates[3], rates.len()), (1.0, 1.0, 4));
        assert!(rates[1..3].iter().all(|rate| rate.is_nan()));
    }

    #[test]
    fn the_ratio_is_of_the_last_steps() {
        let history = History::default();
        assert_eq!(history.rejected_ratio(2 * STEP), 0.0);
        let totals = |rejected, written| Totals {
            written,
            rejected,
            failed: 1000,
        };
        history.record(0, totals(1000, 0), None);
        history.record(1, totals(1000, 300), None);
        history.record(2, totals(1100, 300), None);
        assert_eq!(history.rejected_ratio(2 * STEP), 0.25);
    }

    #[test]
    fn an_hour_is_kept_in_the_bytes_that_are_promised() {
        let history = History::default();
        for number in 0..1000 {
            history.record(number, written(number), None);
        }
        history.record(u64::MAX - 1, written(1000), None);
        let ring = history.lock();
        assert_eq!(ring.steps.len(), STEPS);
        assert!(ring.steps.capacity() * size_of::<Step>() <= BYTES);
    }
}
