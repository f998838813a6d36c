//! The last hour of a spoke: what became of its samples, how much of its limits it used, and why it was
//! refused.
//!
//! It takes at most [`BYTES_MAX`] bytes, whatever a spoke sends and however often it is refused. Only the
//! task that ends the steps writes to it; a request does not know it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::reasons::{Limit, Reason, RequestReason};

use super::hour::{self, Hour, STEP, STEPS, Steps};

/// Refusals that are kept: three reasons in each step of an hour. With more, those of the beginning
/// are not known.
const REFUSALS_MAX: usize = 3 * STEPS;

/// The reasons that there are.
const REASONS_MAX: usize = Reason::ALL.len() + RequestReason::ALL.len();

/// The most bytes that the history of a spoke takes.
pub const BYTES_MAX: usize = size_of::<History>()
    + STEPS * size_of::<Step>()
    + REFUSALS_MAX * size_of::<Refused>()
    + REASONS_MAX * size_of::<Counted>();

/// What is known of a spoke at a moment. Counts are since the start, in samples.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Those that were written.
    pub written: u64,
    /// Those that were refused for good.
    pub rejected: u64,
    /// Those of requests that the sender retries.
    pub failed: u64,
    /// How far the newest sample is behind.
    pub lag: Option<Duration>,
    /// Which part of a limit is used, from 0 to 1 or beyond.
    pub limits: Vec<(Limit, f64)>,
    /// What was refused: requests, series or samples.
    pub refusals: Vec<(&'static str, u64)>,
}

/// What happened to a spoke in one step. All are unknown where hubgate did not run.
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
    /// The parts of its limits that were used at the end of the step, in the order of [`Limit::ALL`].
    limits: [Part; Limit::ALL.len()],
}

/// A part of a limit, in ten-thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part(u16);

/// The last hour of a spoke.
#[derive(Debug, Default)]
pub struct History(Mutex<Kept>);

/// The whole of a history, for people.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The steps, the newest last.
    pub steps: Steps<Step>,
    /// What was refused a second in each of them, by reason. NaN where that is not known.
    pub refusals: Vec<(&'static str, Vec<f32>)>,
}

#[derive(Debug, Default)]
struct Kept {
    hour: Hour<Step>,
    before: Totals,
    /// The reasons that occurred, with their counts at the end of the newest step.
    reasons: Vec<Counted>,
    /// What was refused in the last hour, the newest last.
    refused: VecDeque<Refused>,
    /// The number of the newest step of which a refusal had to make room. Until then, what is not among
    /// [`Self::refused`] is not known.
    forgotten: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Counted {
    reason: &'static str,
    count: u64,
}

/// What was refused for one reason in one step.
#[derive(Debug, Clone, Copy)]
struct Refused {
    /// The last bits of the number of the step.
    step: u16,
    /// The place among the reasons that occurred.
    reason: u8,
    per_second: f32,
}

impl Step {
    const UNKNOWN: Self = Self {
        written: f32::NAN,
        rejected: f32::NAN,
        failed: f32::NAN,
        lag: f32::NAN,
        limits: [Part::UNKNOWN; Limit::ALL.len()],
    };

    /// The part of a limit that was used, from 0 to 1 or beyond; NaN where it is not known.
    pub fn limit(&self, limit: Limit) -> f32 {
        let known = Limit::ALL.into_iter().zip(self.limits);
        let mut known = known.filter(|(of, _)| *of == limit);
        known.next().map_or(f32::NAN, |(_, part)| part.get())
    }
}

impl Part {
    const UNKNOWN: Self = Self(u16::MAX);

    fn new(part: f64) -> Self {
        // Casts of floats saturate.
        #[expect(clippy::cast_possible_truncation, reason = "it is at most what fits")]
        let scaled = (part * 10_000.0).min(f64::from(u16::MAX - 1)) as u16;
        Self(scaled)
    }

    fn get(self) -> f32 {
        match self {
            Self::UNKNOWN => f32::NAN,
            Self(scaled) => f32::from(scaled) / 10_000.0,
        }
    }
}

impl History {
    /// Ends the step of this number, with what is known then. Steps in between were missed; what was counted
    /// in them is spread over them and this one.
    pub fn record(&self, number: u64, totals: Totals) {
        let mut kept = self.lock();
        let Some(missed) = kept.hour.missed(number) else {
            return;
        };
        let seconds = hour::seconds(missed);
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f32 / seconds;
        let part = |limit| {
            let mut known = totals.limits.iter();
            known.find(|(of, part)| *of == limit && part.is_finite())
        };
        let step = Step {
            written: rate(totals.written, kept.before.written),
            rejected: rate(totals.rejected, kept.before.rejected),
            failed: rate(totals.failed, kept.before.failed),
            lag: totals.lag.map_or(f32::NAN, |lag| lag.as_secs_f32()),
            limits: Limit::ALL
                .map(|limit| part(limit).map_or(Part::UNKNOWN, |(_, part)| Part::new(*part))),
        };
        kept.hour.push(number, missed, Step::UNKNOWN, step);
        kept.refuse(number, seconds, &totals.refusals);
        kept.before = Totals {
            limits: Vec::new(),
            refusals: Vec::new(),
            ..totals
        };
    }

    /// The steps after the one of this number, or all; see [`Hour::since`].
    pub fn since(&self, number: Option<u64>) -> Steps<Step> {
        self.lock().hour.since(number)
    }

    /// The newest step.
    pub fn newest(&self) -> Option<Step> {
        self.lock().hour.newest_first().next().copied()
    }

    /// All that is kept.
    pub fn shown(&self) -> Shown {
        let kept = self.lock();
        let steps = kept.hour.since(None);
        let numbers = (0..=steps.newest).rev();
        let nothing = |(step, number): (&Step, u64)| {
            let is_known = kept.forgotten.is_none_or(|it| number > it) && !step.written.is_nan();
            if is_known { 0.0 } else { f32::NAN }
        };
        let mut nothing: Vec<f32> = steps.steps.iter().rev().zip(numbers).map(nothing).collect();
        nothing.reverse();
        let each = kept.reasons.iter().enumerate();
        let refusals = each.map(|(place, counted)| {
            let mut rates = nothing.clone();
            for refused in kept.refused.iter().filter(|it| it.reason as usize == place) {
                let age = usize::from(refused.age(steps.newest));
                if let Some(rate) = rates.iter_mut().rev().nth(age) {
                    *rate = refused.per_second;
                }
            }
            (counted.reason, rates)
        });
        Shown {
            refusals: refusals.collect(),
            steps,
        }
    }

    /// The part of the samples that were written or refused in this last time that was refused.
    pub fn rejected_ratio(&self, time: Duration) -> f64 {
        let steps = usize::try_from(time.as_secs() / STEP.as_secs()).unwrap_or(usize::MAX);
        let kept = self.lock();
        let recent = kept.hour.newest_first().take(steps);
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

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing under the lock can leave it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refused {
    /// How many steps before the newest it was, of which only the last bits are known.
    fn age(&self, newest: u64) -> u16 {
        low_bits(newest).wrapping_sub(self.step)
    }
}

impl Kept {
    /// Takes in the refusals of a step, and forgets those of more than an hour ago.
    fn refuse(&mut self, number: u64, seconds: f32, refusals: &[(&'static str, u64)]) {
        while let Some(oldest) = self.refused.front()
            && usize::from(oldest.age(number)) >= STEPS
        {
            self.refused.pop_front();
        }
        for (reason, count) in refusals {
            let known = self.reasons.iter().position(|it| it.reason == *reason);
            let place = known.unwrap_or_else(|| {
                self.reasons.reserve_exact(1);
                self.reasons.push(Counted { reason, count: 0 });
                self.reasons.len() - 1
            });
            let before = std::mem::replace(&mut self.reasons[place].count, *count);
            let new = count.saturating_sub(before);
            let Ok(place) = u8::try_from(place) else {
                continue;
            };
            if new == 0 {
                continue;
            }
            if self.refused.capacity() == 0 {
                self.refused.reserve_exact(REFUSALS_MAX);
            }
            if self.refused.len() == REFUSALS_MAX
                && let Some(oldest) = self.refused.pop_front()
            {
                self.forgotten = number.checked_sub(oldest.age(number).into());
            }
            self.refused.push_back(Refused {
                step: low_bits(number),
                reason: place,
                per_second: new as f32 / seconds,
            });
        }
    }
}

fn low_bits(number: u64) -> u16 {
    let [.., high, low] = number.to_be_bytes();
    u16::from_be_bytes([high, low])
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

    fn refused(refusals: &[(&'static str, u64)]) -> Totals {
        Totals {
            refusals: refusals.to_vec(),
            ..Totals::default()
        }
    }

    #[test]
    fn a_step_has_what_was_counted_since_the_one_before() {
        let history = History::default();
        let totals = Totals {
            written: 150,
            rejected: 15,
            failed: 30,
            lag: Some(Duration::from_millis(2500)),
            limits: vec![(Limit::SamplesPerSecond, 0.25)],
            refusals: Vec::new(),
        };
        history.record(7, totals.clone());
        let without = Totals {
            lag: None,
            limits: Vec::new(),
            ..totals
        };
        history.record(8, without);
        let [first, second] = history.since(None).steps[..] else {
            panic!("two steps");
        };
        assert_eq!(
            (first.written, first.rejected, first.failed, first.lag),
            (10.0, 1.0, 2.0, 2.5)
        );
        assert_eq!(first.limit(Limit::SamplesPerSecond), 0.25);
        assert!(first.limit(Limit::ActiveSeries).is_nan());
        assert_eq!(
            (second.written, second.rejected, second.failed),
            (0.0, 0.0, 0.0)
        );
        assert!(second.lag.is_nan() && second.limit(Limit::SamplesPerSecond).is_nan());
    }

    #[test]
    fn what_was_counted_in_missed_steps_is_spread_over_them() {
        let history = History::default();
        history.record(0, written(15));
        history.record(3, written(60));
        let steps = history.since(None).steps;
        assert_eq!((steps[0].written, steps[3].written), (1.0, 1.0));
        assert!(steps[1].written.is_nan() && steps[2].written.is_nan());
    }

    #[test]
    fn a_limit_that_is_exceeded_is_more_than_used_and_never_unknown() {
        assert_eq!(Part::new(1.5).get(), 1.5);
        assert_eq!(Part::new(1e9).get(), 6.5534);
    }

    #[test]
    fn refusals_are_known_by_step_and_reason_for_an_hour() {
        let history = History::default();
        history.record(65_535, refused(&[("a", 15)]));
        history.record(65_536, refused(&[("a", 15), ("b", 30)]));
        history.record(65_538, refused(&[("a", 45), ("b", 30)]));
        let shown = history.shown().refusals;
        let [("a", a), ("b", b)] = &shown[..] else {
            panic!("{shown:?}");
        };
        assert_eq!((a[0], a[1], a[3]), (1.0, 0.0, 1.0));
        assert_eq!((b[0], b[1], b[3]), (0.0, 2.0, 0.0));
        assert!(a[2].is_nan() && b[2].is_nan());
        for number in 65_539..65_538 + STEPS as u64 {
            history.record(number, refused(&[("a", 45), ("b", 30)]));
        }
        let shown = history.shown().refusals;
        assert_eq!((shown[0].1[0], shown[0].1.len()), (1.0, STEPS));
        history.record(65_538 + STEPS as u64, refused(&[("a", 45), ("b", 30)]));
        let shown = history.shown().refusals;
        assert!(
            shown
                .iter()
                .all(|(_, rates)| rates.iter().all(|it| *it == 0.0))
        );
        assert!(history.lock().refused.is_empty());
    }

    #[test]
    fn what_had_to_make_room_is_not_known() {
        let history = History::default();
        let names = ["a", "b", "c", "d"];
        for number in 0..STEPS as u64 {
            let all = names.map(|name| (name, 15 * (number + 1)));
            // One reason in each of the first steps, and four in the others.
            history.record(number, refused(if number < 60 { &all[..1] } else { &all }));
        }
        // 60 refusals of 60 steps, and 720 of 180 steps, are 60 too many.
        let shown = history.shown().refusals;
        let [("a", a), .., ("d", d)] = &shown[..] else {
            panic!("{shown:?}");
        };
        assert!(a[..60].iter().chain(&d[..60]).all(|it| it.is_nan()));
        assert!(a[60..].iter().all(|it| *it == 1.0));
        history.record(STEPS as u64, refused(&[("a", 15 * 241)]));
        let shown = history.shown().refusals;
        // The oldest of the four that were refused in a step made room; the others of it are known.
        let first = shown.iter().map(|(_, rates)| rates[59]);
        let known: Vec<_> = first.map(|it| !it.is_nan()).collect();
        assert_eq!(known, [false, true, true, true]);
        assert!(shown.iter().all(|(_, rates)| rates[58].is_nan()));
        assert_eq!((shown[1].1[239], shown[1].1[60]), (0.0, 1.0));
    }

    #[test]
    fn the_ratio_is_of_the_last_steps() {
        let history = History::default();
        assert_eq!(history.rejected_ratio(2 * STEP), 0.0);
        let totals = |rejected, written| Totals {
            written,
            rejected,
            failed: 1000,
            ..Totals::default()
        };
        history.record(0, totals(1000, 0));
        history.record(1, totals(1000, 300));
        history.record(2, totals(1100, 300));
        assert_eq!(history.rejected_ratio(2 * STEP), 0.25);
    }

    /// A thousand spokes, each refused for all reasons in each step.
    #[test]
    fn a_thousand_spokes_take_at_most_16_mib() {
        let series = Reason::ALL.map(Reason::name);
        let reasons: Vec<_> = series
            .into_iter()
            .chain(RequestReason::ALL.map(RequestReason::name))
            .collect();
        let history = History::default();
        for number in 0..1000 {
            let each: Vec<_> = reasons.iter().map(|it| (*it, number + 1)).collect();
            history.record(number, refused(&each));
        }
        let kept = history.lock();
        let bytes = size_of::<History>()
            + kept.hour.bytes()
            + kept.refused.capacity() * size_of::<Refused>()
            + kept.reasons.capacity() * size_of::<Counted>();
        assert_eq!(kept.refused.len(), REFUSALS_MAX);
        assert!(bytes <= BYTES_MAX, "{bytes} of {BYTES_MAX}");
        const { assert!(BYTES_MAX * 1000 <= 16 << 20) };
    }
}
