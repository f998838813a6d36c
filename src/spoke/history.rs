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

/// The steps between two lags that are compared.
const TREND_STEPS_MIN: usize = 4;

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

/// What became of the lag of a spoke in some minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LagTrend {
    /// It catches up.
    Falling,
    /// It falls behind.
    Rising,
    /// It keeps up with its samples, at the distance that it has.
    Steady,
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

impl LagTrend {
    /// The name that the API uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Falling => "falling",
            Self::Rising => "rising",
            Self::Steady => "steady",
        }
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

    /// Whether the lag fell or rose in this last time, as far as a minute of it is known. A spoke that sends once
    /// in a step has a lag of up to a step anyway.
    pub fn lag_trend(&self, time: Duration) -> Option<LagTrend> {
        let steps = usize::try_from(time.as_secs() / STEP.as_secs()).unwrap_or(usize::MAX);
        let kept = self.lock();
        let recent = kept.hour.newest_first().take(steps).enumerate();
        let mut known = recent.filter(|(_, step)| step.lag.is_finite());
        let (newest, now) = known.next()?;
        let (oldest, then) = known.last()?;
        if oldest - newest < TREND_STEPS_MIN {
            return None;
        }
        let rise = now.lag - then.lag;
        Some(if rise.abs() <= STEP.as_secs_f32() {
            LagTrend::Steady
        } else if rise > 0.0 {
            LagTrend::Rising
        } else {
            LagTrend::Falling
        })
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
mod tests;
