//! What the limits of a spoke allow: in numbers of labels and series, in lengths, in times.
//!
//! A limit that refuses nothing still bounds what a walk holds in memory, far above itself.

use crate::config::{LimitMode, SpokeLimits};
use crate::policy::Moment;
use crate::reasons::Limit;
use crate::wire::Sieve;

use super::Rules;

/// Series of a request that are looked at where the limit of them refuses nothing, unless the limit
/// itself is higher. Ten times the default limit; the memory of a walk depends on it.
const OBSERVED_SERIES_MAX: usize = 500_000;

/// Labels of a series that are looked at where the limit of them refuses nothing. The memory of a walk
/// depends on it.
const OBSERVED_LABELS_MAX: usize = 4096;

/// Symbols are bounded by the series limit. A series may have eight strings of its own.
const SYMBOLS_PER_SERIES: usize = 8;

/// Symbols beyond those, for strings that series share.
const SYMBOLS_SHARED: usize = 1024;

/// Label names are compared up to three times for each series, and a short V2 body can give every
/// series the same long names. So the bytes that are compared are bounded by the series limit. This
/// suffices for 85 names of 16 bytes.
const NAME_BYTES_PER_SERIES: u64 = 4096;

/// Further bytes of names that may be compared: three times what a V1 body of the default size can
/// hold.
const NAME_BYTES_SHARED: u64 = 96 << 20;

/// The labels of a series beyond which it is refused.
pub(super) fn labels_max(limits: &SpokeLimits) -> usize {
    let max = limits.labels_per_series_max;
    match limits.mode(Limit::LabelsPerSeries) {
        LimitMode::Enforce => max,
        LimitMode::Observe => max.max(OBSERVED_LABELS_MAX),
    }
}

/// The series of a request beyond which it is refused.
pub(super) fn series_max(limits: &SpokeLimits) -> usize {
    let max = limits.series_per_request_max;
    match limits.mode(Limit::SeriesPerRequest) {
        LimitMode::Enforce => max,
        LimitMode::Observe => max.max(OBSERVED_SERIES_MAX),
    }
}

impl Rules {
    pub(in crate::policy) fn labels_max(&self) -> usize {
        self.labels_max
    }

    pub(in crate::policy) fn series_max(&self) -> usize {
        self.series_max
    }

    /// True when a request has more series, or metadata entries, than the limit of them.
    pub(in crate::policy) fn exceeds_series(&self, entries: u64) -> bool {
        entries > self.limits.series_per_request_max as u64
    }

    /// True when series that are new beyond the limit of active ones are refused.
    pub(in crate::policy) fn refuses_new_series(&self) -> bool {
        self.limits.mode(Limit::ActiveSeries) == LimitMode::Enforce
    }

    pub(in crate::policy) fn symbols_max(&self) -> usize {
        self.series_max()
            .saturating_mul(SYMBOLS_PER_SERIES)
            .saturating_add(SYMBOLS_SHARED)
    }

    /// What decides on the samples of a request of this time.
    pub(in crate::policy) fn sieve(&self, now: Moment) -> Sieve {
        let mut sieve = self.watch(now);
        let any = Sieve::default();
        if self.limits.mode(Limit::SamplesAhead) == LimitMode::Observe {
            sieve.newest_max = any.newest_max;
        }
        if self.limits.mode(Limit::SamplesAge) == LimitMode::Observe {
            sieve.oldest_min = any.oldest_min;
        }
        sieve
    }

    /// What would decide on the samples of a request of this time if every limit refused what exceeds
    /// it.
    pub(in crate::policy) fn watch(&self, now: Moment) -> Sieve {
        let newest_max = self.limits.samples_ahead_millis();
        let newest_max = newest_max.map(|ahead| now.latest.saturating_add(ahead));
        let oldest_min = self.limits.samples_age_millis();
        let oldest_min = oldest_min.map(|age| now.earliest.saturating_sub(age));
        let any = Sieve::default();
        Sieve {
            newest_max: newest_max.unwrap_or(any.newest_max),
            oldest_min: oldest_min.unwrap_or(any.oldest_min),
        }
    }

    pub(in crate::policy) fn name_bytes_max(&self) -> u64 {
        let series = self.limits.series_per_request_max;
        let series = match self.limits.mode(Limit::SeriesPerRequest) {
            LimitMode::Enforce => series,
            LimitMode::Observe => series.max(SpokeLimits::DEFAULT.series_per_request_max),
        };
        NAME_BYTES_SHARED.saturating_add((series as u64).saturating_mul(NAME_BYTES_PER_SERIES))
    }
}
