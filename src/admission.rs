//! What a spoke may have under way and may send in a time, over all its requests.
//!
//! A request is admitted when its headers are known, before a byte of its body is read: so a spoke that
//! sends too much costs little. How many samples a request has is known only when it is inspected. So
//! samples are paid for afterwards, and a spoke in debt waits. Those of a request that has to be sent again
//! are given back, unless a hub took some of it: its copies would reach that hub beyond the limit.
//!
//! All of it is atomics, since every request passes here. A limit that refuses nothing is counted as
//! if it did: a request that it would have refused takes neither a place nor samples of those that it
//! would have admitted.

mod in_flight;
mod lately;
mod rate;
mod refusals;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{LimitMode, SpokeLimits};
use crate::reasons::Limit;

use in_flight::InFlight;
use lately::Lately;
use rate::{Bucket, Taken};
use refusals::Refusals;

/// As many bytes of a message that cannot be read count as a sample. In one that can, a sample takes
/// some 500 bytes with its labels, and in V2 some 100.
const UNREADABLE_SAMPLE_BYTES: usize = 128;

/// What is known of the requests of one spoke.
#[derive(Debug)]
pub struct Admission {
    started: Instant,
    bucket: Bucket,
    in_flight: InFlight,
    refusals: Refusals,
    samples: Lately,
    series_per_request: Lately,
    samples_age_seconds: Lately,
    samples_ahead_seconds: Lately,
}

/// A limit refuses a request that may pass later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// Too many requests are under way.
    #[error(
        "{limit} requests are under way, the most that limits.requests_in_flight_max allows; send \
         again later with fewer shards (max_shards), or raise it"
    )]
    RequestsInFlight {
        /// The limit.
        limit: usize,
    },
    /// Too many samples came.
    #[error(
        "{debt} samples came beyond the {limit} that limits.samples_per_second allows; send again in \
         {} s, send fewer series, or raise it",
        .wait.as_secs() + 1
    )]
    SamplesPerSecond {
        /// The limit.
        limit: usize,
        /// The samples that are not paid for.
        debt: u64,
        /// The time until they are.
        wait: Duration,
    },
}

impl Admission {
    /// Puts other limits in force. What is under way and what was not paid for stays so.
    pub fn set_limits(&self, limits: &SpokeLimits) {
        self.bucket
            .set_rate(limits.samples_per_second, self.elapsed());
    }

    /// Admits a request under these limits. Each limit that it exceeds is told to `exceeded`, whether it
    /// refuses the request or not.
    pub fn admit(
        self: &Arc<Self>,
        limits: &SpokeLimits,
        mut exceeded: impl FnMut(Limit),
    ) -> Result<Admitted, NotAdmitted> {
        let mut pays = true;
        if let Some(limit) = limits.samples_per_second
            && let Some(debt) = self.bucket.debt(self.elapsed())
        {
            exceeded(Limit::SamplesPerSecond);
            match limits.mode(Limit::SamplesPerSecond) {
                LimitMode::Enforce => {
                    return Err(NotAdmitted::SamplesPerSecond {
                        limit,
                        debt: debt.samples,
                        wait: debt.wait,
                    });
                }
                LimitMode::Observe => pays = false,
            }
        }
        let most = limits.requests_in_flight_max.unwrap_or(usize::MAX);
        let within = self.in_flight.take(most);
        if !within {
            exceeded(Limit::RequestsInFlight);
            match limits.mode(Limit::RequestsInFlight) {
                LimitMode::Enforce => return Err(NotAdmitted::RequestsInFlight { limit: most }),
                LimitMode::Observe => self.in_flight.take_beyond(),
            }
        }
        Ok(Admitted {
            admission: Arc::clone(self),
            pays,
            within,
        })
    }

    /// Takes notice of a request that is refused and that its sender will send again. Returns the time for
    /// which the response is held back, if it is.
    pub fn delay_refusal(&self) -> Option<Duration> {
        Some(self.refusals.add(self.elapsed())).filter(|delay| !delay.is_zero())
    }

    /// The requests that are under way.
    pub fn requests_in_flight(&self) -> usize {
        self.in_flight.count()
    }

    /// Takes notice of a request that ended: its samples, which are not sent again, its series, and
    /// how old and how far ahead its samples were.
    pub fn record(&self, samples: u64, series: u64, age: Duration, ahead: Duration) {
        let now = self.elapsed();
        self.samples.add(samples, now);
        self.series_per_request.raise(series, now);
        self.samples_age_seconds.raise(age.as_secs(), now);
        self.samples_ahead_seconds.raise(ahead.as_secs(), now);
    }

    /// How much of a limit was used lately, as far as it is known: the samples a second of the last
    /// minute, or the most that a request had in the last one to two minutes.
    pub fn used_lately(&self, limit: Limit) -> Option<f64> {
        let now = self.elapsed();
        match limit {
            Limit::SamplesPerSecond => Some(self.samples.per_second(now)),
            Limit::SeriesPerRequest => Some(self.series_per_request.largest(now) as f64),
            Limit::SamplesAge => Some(self.samples_age_seconds.largest(now) as f64),
            Limit::SamplesAhead => Some(self.samples_ahead_seconds.largest(now) as f64),
            Limit::RequestsInFlight => Some(self.requests_in_flight() as f64),
            // Most labels are never taken apart.
            Limit::LabelValueBytes | Limit::LabelsPerSeries => None,
            // The budget and the table of series know.
            Limit::BytesInFlight | Limit::ActiveSeries => None,
        }
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            bucket: Bucket::default(),
            in_flight: InFlight::default(),
            refusals: Refusals::default(),
            samples: Lately::default(),
            series_per_request: Lately::default(),
            samples_age_seconds: Lately::default(),
            samples_ahead_seconds: Lately::default(),
        }
    }
}

/// A request that was admitted. Its place is free again when this is dropped.
#[derive(Debug)]
pub struct Admitted {
    admission: Arc<Admission>,
    /// Its samples are paid for.
    pays: bool,
    /// It has a place within the limit.
    within: bool,
}

/// The samples that a request was charged.
#[derive(Debug, Clone, Copy)]
pub struct Charge(Taken);

impl Admitted {
    /// Takes the samples of the request, now that their number is known.
    pub fn charge(&self, samples: u64) -> Charge {
        let admission = &self.admission;
        Charge(match self.pays {
            true => admission.bucket.charge(samples, admission.elapsed()),
            false => Taken::default(),
        })
    }

    /// Takes what a message counts that cannot be read, so that nobody knows its samples. It was worked
    /// on like any other.
    pub fn charge_unreadable(&self, decoded_bytes: usize) {
        self.charge((decoded_bytes / UNREADABLE_SAMPLE_BYTES).max(1) as u64);
    }

    /// Gives back samples that cost nobody anything and will be sent again.
    pub fn give_back(&self, charge: Charge) {
        let admission = &self.admission;
        admission.bucket.give_back(charge.0, admission.elapsed());
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.in_flight.free(self.within);
    }
}

#[cfg(test)]
mod tests {
    use crate::config::LimitSet;

    use super::*;

    /// Admits a request, and tells which limits it exceeds.
    fn admit(
        admission: &Arc<Admission>,
        limits: &SpokeLimits,
    ) -> (Result<Admitted, NotAdmitted>, Vec<Limit>) {
        let mut exceeded = Vec::new();
        let admitted = admission.admit(limits, |limit| exceeded.push(limit));
        (admitted, exceeded)
    }

    #[test]
    fn a_request_has_its_place_until_it_ends() {
        let limits = SpokeLimits {
            requests_in_flight_max: Some(2),
            ..SpokeLimits::DEFAULT
        };
        let admission = Arc::new(Admission::default());
        let first = admit(&admission, &limits).0.unwrap();
        let _second = admit(&admission, &limits).0.unwrap();
        let (refused, exceeded) = admit(&admission, &limits);
        let expected = NotAdmitted::RequestsInFlight { limit: 2 };
        assert_eq!(refused.unwrap_err(), expected);
        assert_eq!(exceeded, [Limit::RequestsInFlight]);
        assert_eq!(admission.requests_in_flight(), 2);
        drop(first);
        let (third, exceeded) = admit(&admission, &limits);
        assert!(third.is_ok() && exceeded.is_empty());
    }

    #[test]
    fn an_observed_limit_counts_what_it_would_refuse_and_refuses_nothing() {
        let limits = SpokeLimits {
            requests_in_flight_max: Some(1),
            samples_per_second: Some(1),
            observed: LimitSet::from_iter(Limit::ALL),
            ..SpokeLimits::DEFAULT
        };
        let admission = Arc::new(Admission::default());
        admission.set_limits(&limits);
        let (first, exceeded) = admit(&admission, &limits);
        let first = first.unwrap();
        assert_eq!(exceeded, []);
        let (second, exceeded) = admit(&admission, &limits);
        assert_eq!(exceeded, [Limit::RequestsInFlight]);
        assert_eq!(admission.requests_in_flight(), 2);
        drop(first);
        // The second would have been refused, so there would be a place.
        let (third, exceeded) = admit(&admission, &limits);
        assert_eq!(exceeded, []);
        third.unwrap().charge(1000);
        let (fourth, exceeded) = admit(&admission, &limits);
        assert_eq!(exceeded, [Limit::SamplesPerSecond]);
        // It would have been refused, so it makes no debt.
        let debt = || admission.bucket.debt(admission.elapsed()).unwrap().samples;
        let before = debt();
        fourth.unwrap().charge(1_000_000);
        assert!(debt() <= before);
        drop(second);
        assert_eq!(admission.requests_in_flight(), 0);
    }

    #[test]
    fn without_limits_everything_is_admitted() {
        let admission = Arc::new(Admission::default());
        let limits = SpokeLimits::DEFAULT;
        admission.set_limits(&limits);
        let admitted: Vec<_> = (0..1000)
            .map(|_| {
                let (admitted, exceeded) = admit(&admission, &limits);
                assert_eq!(exceeded, []);
                let admitted = admitted.unwrap();
                admitted.charge(u64::MAX);
                admitted
            })
            .collect();
        assert_eq!(admission.requests_in_flight(), admitted.len());
    }
}
