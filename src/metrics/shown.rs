//! What was counted, for those who show it in another form: each number is counted once, and `/metrics`
//! and the API agree.

use prometheus_client::metrics::counter::Counter;

use crate::reasons::Reason;
use crate::wire::{Counts, Kind, Protocol};

use super::families::CredentialFamilies;
use super::series::{Codes, Each};
use super::{HubMetrics, LostPart, Metrics, SpokeMetrics};

/// Requests with one outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requests {
    /// The version of their messages, if that was known.
    pub protocol: Option<Protocol>,
    /// The status code, or the name of what happened instead.
    pub code: String,
    /// How many since the start.
    pub count: u64,
}

/// A credential, and its times in seconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct CredentialTimes<'m> {
    /// Its name.
    pub name: &'m str,
    /// When it last identified its spoke; 0 means never.
    pub last_used: f64,
    /// When it expires; 0 means never.
    pub expiry: f64,
}

/// How long requests took, in seconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Durations {
    /// Up to which time each bucket has them, but the last one, which has all that took longer.
    pub bounds: &'static [f64],
    /// How many are in each bucket.
    pub counts: Vec<u64>,
    /// All of them together.
    pub sum: f64,
}

/// Something that is in use, and how much of it there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InUse {
    /// How much is in use.
    pub used: i64,
    /// The most that may be.
    pub limit: i64,
}

impl Durations {
    /// Those that were not there before.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let old = before.counts.iter().copied().chain(std::iter::repeat(0));
        let new = self.counts.iter().zip(old);
        Self {
            bounds: self.bounds,
            counts: new
                .map(|(now, before)| now.saturating_sub(before))
                .collect(),
            sum: self.sum - before.sum,
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The time in which this part of them ended, from 0 to 1, as `histogram_quantile` of Prometheus estimates
    /// it: within a bucket they are taken to lie evenly, and what took longer than the last bound took as long
    /// as that. NaN without any.
    pub fn quantile(&self, part: f64) -> f64 {
        let rank = part * self.count() as f64;
        let mut before = 0.0;
        let mut lower = 0.0;
        for (count, upper) in self.counts.iter().zip(self.bounds) {
            let count = *count as f64;
            if count > 0.0 && before + count >= rank {
                return lower + (upper - lower) * (rank - before) / count;
            }
            before += count;
            lower = *upper;
        }
        if self.count() == 0 { f64::NAN } else { lower }
    }
}

impl Metrics {
    /// The bytes of the budget.
    pub fn bytes_in_use(&self) -> InUse {
        InUse {
            used: self.gate.bytes_in_flight.get(),
            limit: self.gate.bytes_in_flight_limit.get(),
        }
    }

    /// The open connections of senders.
    pub fn connections_in_use(&self) -> InUse {
        InUse {
            used: self.gate.connections.get(),
            limit: self.gate.connections_limit.get(),
        }
    }
}

impl SpokeMetrics {
    /// What decoded requests carried.
    pub fn received(&self) -> Counts {
        counts(&self.families.samples_received)
    }

    /// What was written.
    pub fn written(&self) -> Counts {
        counts(&self.families.samples_written)
    }

    /// What the sender sends again.
    pub fn failed(&self) -> Counts {
        counts(&self.families.samples_failed)
    }

    /// What was refused for good, for each reason that refused something.
    pub fn rejected(&self) -> impl Iterator<Item = (Reason, Counts)> {
        let rejected = &self.families.samples_rejected;
        let each = Reason::ALL.into_iter().map(move |reason| {
            let of = |kind| rejected.of(kind).of(reason).count();
            (reason, Counts::new(Kind::ALL.map(of)))
        });
        each.filter(|(_, counts)| !counts.is_empty())
    }

    /// Its requests by their outcome.
    pub fn requests(&self) -> Vec<Requests> {
        let each = [None, Some(Protocol::V1), Some(Protocol::V2)];
        let requests = each.map(|protocol| requests(protocol, self.sender.requests.of(protocol)));
        requests.concat()
    }

    /// The times of its credentials, each name once.
    pub fn credential_times(&self) -> impl Iterator<Item = CredentialTimes<'_>> {
        self.credentials().map(|([_, (_, name)], families)| {
            let CredentialFamilies {
                credential_expiry_timestamp_seconds: expiry,
                credential_last_used_timestamp_seconds: last_used,
            } = families;
            CredentialTimes {
                name,
                last_used: last_used.seconds(),
                expiry: expiry.seconds(),
            }
        })
    }
}

impl HubMetrics {
    /// What it wrote.
    pub fn written(&self) -> Counts {
        counts(&self.families.hub_samples_written)
    }

    /// What its protocol had no place for.
    pub fn lost(&self) -> impl Iterator<Item = (LostPart, u64)> {
        let lost = |part| (part, self.families.hub_lost.of(part).get());
        LostPart::ALL.into_iter().map(lost)
    }

    /// What was refused because it answered it alone with a fault.
    pub fn isolated(&self) -> Counts {
        counts(&self.families.hub_samples_isolated)
    }

    /// The requests to it by their outcome.
    pub fn requests(&self) -> Vec<Requests> {
        let each = [Protocol::V1, Protocol::V2];
        let sent = &self.families.hub_requests;
        each.map(|protocol| requests(Some(protocol), sent.of(protocol)))
            .concat()
    }

    /// How long the requests took that were sent to it and ended.
    pub fn durations(&self) -> Durations {
        let durations = &self.families.hub_request_duration_seconds;
        let (bounds, counts, sum) = durations.counted();
        Durations {
            bounds,
            counts,
            sum,
        }
    }

    /// The requests that are under way, and the most that may be at present.
    pub fn places(&self) -> InUse {
        InUse {
            used: self.families.hub_requests_in_flight.get(),
            limit: self.families.hub_requests_in_flight_limit.get(),
        }
    }

    /// The requests that wait for a place.
    pub fn waiting(&self) -> i64 {
        self.families.hub_requests_waiting.get()
    }
}

fn counts(counters: &Each<Kind, Counter>) -> Counts {
    Counts::new(Kind::ALL.map(|kind| counters.of(kind).get()))
}

fn requests(protocol: Option<Protocol>, codes: &Codes) -> Vec<Requests> {
    let each = codes.counts().into_iter().filter(|(_, count)| *count > 0);
    each.map(|(code, count)| Requests {
        protocol,
        code,
        count,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_in_its_bucket() {
        let durations = |counts: [u64; 3]| Durations {
            bounds: &[0.1, 0.5],
            counts: counts.to_vec(),
            sum: 0.0,
        };
        assert!(durations([0; 3]).quantile(0.5).is_nan());
        assert_eq!(durations([10, 0, 0]).quantile(0.5), 0.05);
        assert_eq!(durations([50, 50, 0]).quantile(0.5), 0.1);
        assert_eq!(durations([0, 4, 0]).quantile(0.75), 0.4);
        assert_eq!(durations([0, 0, 1]).quantile(0.99), 0.5);
    }

    #[test]
    fn what_took_how_long_is_known_since_a_moment() {
        let metrics = HubMetrics::new("hub", None);
        let count = |milliseconds| {
            let duration = Some(std::time::Duration::from_millis(milliseconds));
            metrics.count_request(Protocol::V2, "204", duration);
        };
        assert_eq!(metrics.durations().count(), 0);
        count(4000);
        let before = metrics.durations();
        count(2);
        count(60_000);
        let since = metrics.durations().since(&before);
        assert_eq!(since.count(), 2);
        assert!((since.sum - 60.002).abs() < 1e-9);
        assert_eq!((since.counts[1], since.counts.last()), (1, Some(&1)));
        assert_eq!(since.bounds.len() + 1, since.counts.len());
    }
}
