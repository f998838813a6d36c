//! The last hour in steps of 15 seconds: a ring of a fixed size, of a spoke or of a hub.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

/// The time of a step. Prometheus sends about as often.
pub const STEP: Duration = Duration::from_secs(15);

/// The steps of an hour.
pub const STEPS: usize = 240;

/// Steps, one after the other.
#[derive(Debug, Clone)]
pub struct Steps<T> {
    /// The steps, the newest last.
    pub steps: Vec<T>,
    /// The number of the newest.
    pub newest: u64,
    /// When the newest ended; `None` before the first.
    pub ended: Option<SystemTime>,
}

/// The last hour.
#[derive(Debug)]
pub struct Hour<T> {
    /// At most [`STEPS`], the newest last.
    steps: VecDeque<T>,
    /// The number of the newest.
    newest: u64,
    ended: Option<SystemTime>,
}

/// The time of a step and of those that were missed before it, in seconds.
pub fn seconds(missed: u64) -> f32 {
    STEP.as_secs_f32() * (missed + 1) as f32
}

impl<T> Default for Hour<T> {
    fn default() -> Self {
        Self {
            steps: VecDeque::new(),
            newest: 0,
            ended: None,
        }
    }
}

impl<T: Copy> Hour<T> {
    /// How many steps were missed before the one of this number. `None` where it is not a new one: the
    /// clock cannot go back, and a step cannot be changed.
    pub fn missed(&self, number: u64) -> Option<u64> {
        if self.steps.is_empty() {
            return Some(0);
        }
        number.checked_sub(self.newest.checked_add(1)?)
    }

    /// Ends the step of this number. Those that were missed are `unknown`.
    pub fn push(&mut self, number: u64, missed: u64, unknown: T, step: T) {
        let unknown = (0..missed.min(STEPS as u64)).map(|_| unknown);
        for step in unknown.chain([step]) {
            if self.steps.capacity() == 0 {
                self.steps.reserve_exact(STEPS);
            }
            if self.steps.len() == STEPS {
                self.steps.pop_front();
            }
            self.steps.push_back(step);
        }
        self.newest = number;
        self.ended = Some(SystemTime::now());
    }

    /// The steps, the newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &T> {
        self.steps.iter().rev()
    }

    /// The steps after the one of this number, the newest last, or all that are kept, as also when there is
    /// no such step: it is of a process before.
    pub fn since(&self, number: Option<u64>) -> Steps<T> {
        let kept = self.steps.len();
        let after = |number| self.newest.checked_sub(number)?.try_into().ok();
        let new = number
            .and_then(after)
            .map_or(kept, |new: usize| new.min(kept));
        Steps {
            steps: self.steps.range(kept - new..).copied().collect(),
            newest: self.newest,
            ended: self.ended,
        }
    }

    /// The bytes that it takes.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.steps.capacity() * size_of::<T>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(numbers: impl IntoIterator<Item = u64>) -> Hour<Option<u64>> {
        let mut hour = Hour::default();
        for number in numbers {
            if let Some(missed) = hour.missed(number) {
                hour.push(number, missed, None, Some(number));
            }
        }
        hour
    }

    #[test]
    fn a_reader_gets_what_it_does_not_have_yet() {
        assert!(hour([]).since(None).steps.is_empty());
        let hour = hour(0..4);
        assert_eq!(hour.since(Some(1)).steps, [Some(2), Some(3)]);
        assert!(hour.since(Some(3)).steps.is_empty());
        assert_eq!(hour.since(Some(4)).steps.len(), 4);
        assert_eq!(hour.since(None).newest, 3);
    }

    #[test]
    fn a_step_that_was_missed_is_unknown_and_one_twice_counts_once() {
        let hour = hour([0, 3, 3, 2]);
        assert_eq!(hour.since(None).steps, [Some(0), None, None, Some(3)]);
    }

    #[test]
    fn an_hour_is_kept() {
        let hour = hour((0..1000).chain([u64::MAX - 1, u64::MAX, 0]));
        let steps = hour.since(None).steps;
        assert_eq!((steps.len(), steps[239]), (STEPS, Some(u64::MAX)));
        assert_eq!(hour.bytes(), STEPS * size_of::<Option<u64>>());
    }
}
