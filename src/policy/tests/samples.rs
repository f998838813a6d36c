//! Single samples that are refused, and what is left of their series.

use std::time::Duration;

use prost::Message;

use crate::config::{LimitSet, SpokeLimits};
use crate::policy::{Rejection, Verdict};
use crate::reasons::{Limit, Reason};
use crate::wire::encoder::{Form, Metadata};
use crate::wire::proto::v2;
use crate::wire::tests::generate::recoded;
use crate::wire::tests::mirror::{PlainMessage, V1Exemplar, V1Request, V2Request};
use crate::wire::{Counts, Kind, Protocol};

use super::invariants::{LIMITS, Memory, NEWEST_MAX, NOW, encode, inspect, leaving, rules};
use super::refusals::LENIENT;
use super::{message, v1_series};

pub(super) const BOTH: [Protocol; 2] = [Protocol::V1, Protocol::V2];

/// A message of one series that carries this beside its labels.
pub(super) fn with(protocol: Protocol, payload: v2::TimeSeries) -> Vec<u8> {
    let labels = [("__name__", "up"), ("cluster", "production")];
    let mut request = V2Request::decode(message(Protocol::V2, &labels).as_slice()).unwrap();
    match protocol {
        Protocol::V1 => {
            let mut series = v1_series(&labels);
            series.samples = payload.samples.iter().map(recoded).collect();
            series.histograms = payload.histograms.iter().map(recoded).collect();
            let exemplars = payload.exemplars.iter();
            series.exemplars = exemplars
                .map(|exemplar| V1Exemplar {
                    timestamp: exemplar.timestamp,
                    ..Default::default()
                })
                .collect();
            let request = V1Request {
                timeseries: vec![series],
                metadata: Vec::new(),
            };
            request.encode_to_vec()
        }
        Protocol::V2 => {
            request.timeseries[0] = v2::TimeSeries {
                labels_refs: request.timeseries[0].labels_refs.clone(),
                ..payload
            };
            request.encode_to_vec()
        }
    }
}

fn samples(timestamps: &[i64]) -> Vec<v2::Sample> {
    let sample = |timestamp: &i64| v2::Sample {
        value: 1.0,
        timestamp: *timestamp,
        start_timestamp: 0,
    };
    timestamps.iter().map(sample).collect()
}

fn exemplar(timestamp: i64) -> v2::Exemplar {
    v2::Exemplar {
        timestamp,
        ..v2::Exemplar::default()
    }
}

/// What is refused, by reason: series, samples and exemplars.
pub(super) fn refused(verdict: &Verdict) -> Vec<(Reason, u64, [u64; 3])> {
    let row = |rejection: &Rejection| {
        let kinds = [Kind::Float, Kind::Histogram, Kind::Exemplar];
        let counts = kinds.map(|kind| rejection.counts.of(kind));
        (rejection.reason, rejection.series, counts)
    };
    verdict.rejections.iter().map(row).collect()
}

#[test]
fn a_sample_too_far_ahead_is_refused_and_its_neighbours_are_not() {
    for protocol in BOTH {
        let payload = v2::TimeSeries {
            samples: samples(&[NOW, NEWEST_MAX, NEWEST_MAX + 1, NOW + 1, i64::MAX]),
            exemplars: vec![exemplar(NEWEST_MAX), exemplar(NEWEST_MAX + 1)],
            ..v2::TimeSeries::default()
        };
        let message = with(protocol, payload);
        let rules = rules(LENIENT, LIMITS);
        let inspection = inspect(protocol, &message, &rules, &mut Memory::default()).unwrap();
        let verdict = &inspection.verdict;
        assert_eq!(refused(verdict), [(Reason::TooFarInFuture, 0, [2, 0, 1])]);
        assert_eq!((verdict.kept_series, verdict.times.newest), (1, NEWEST_MAX));
        let example = r#"up{cluster="production"}: 600 s ahead"#;
        assert_eq!(verdict.rejections[0].example, example);
        assert_eq!(verdict.rejections[0].refused(), 3);
        let left = PlainMessage::decode(protocol, leaving(&message, &inspection).unwrap());
        let payload = &left.unwrap().series[0].payload;
        let times: Vec<_> = payload.samples.iter().map(|it| it.timestamp).collect();
        assert_eq!(times, [NOW, NEWEST_MAX, NOW + 1], "{protocol:?}");
        let times: Vec<_> = payload.exemplars.iter().map(|it| it.2).collect();
        assert_eq!(times, [NEWEST_MAX], "{protocol:?}");
    }
}

#[test]
fn a_series_without_a_sample_that_may_travel_on_is_refused_with_its_metadata() {
    for protocol in BOTH {
        let payload = v2::TimeSeries {
            samples: samples(&[NEWEST_MAX + 1]),
            metadata: Some(v2::Metadata::default()),
            ..v2::TimeSeries::default()
        };
        let message = with(protocol, payload);
        let rules = rules(LENIENT, LIMITS);
        let inspection = inspect(protocol, &message, &rules, &mut Memory::default()).unwrap();
        let verdict = &inspection.verdict;
        assert_eq!(refused(verdict), [(Reason::TooFarInFuture, 1, [1, 0, 0])]);
        assert_eq!(verdict.rejected(), verdict.received, "{protocol:?}");
        assert!(!verdict.keeps());
    }
}

/// A V2 hub refuses a series that has exemplars and no sample.
#[test]
fn exemplars_of_a_refused_sample_travel_on_as_those_without_a_sample() {
    for protocol in BOTH {
        let payload = v2::TimeSeries {
            samples: samples(&[NEWEST_MAX + 1]),
            exemplars: vec![exemplar(NOW)],
            ..v2::TimeSeries::default()
        };
        let message = with(protocol, payload);
        let (rules, mut memory) = (rules(LENIENT, LIMITS), Memory::default());
        let form = Form::new(Protocol::V2, Metadata::Forward);
        let (verdict, encoded) = encode(protocol, &message, &rules, &mut memory, form).unwrap();
        assert_eq!((verdict.kept_series, verdict.orphan_series), (1, 1));
        assert_eq!(encoded.message.bytes, b"");
        assert_eq!(encoded.side.counts, Counts::one(Kind::Exemplar));
    }
}

#[test]
fn a_sample_too_old_is_refused_and_its_neighbours_are_not() {
    const OLDEST_MIN: i64 = NOW - 3_600_000;
    let limits = SpokeLimits {
        samples_age_max: Some(Duration::from_secs(3600)),
        ..LIMITS
    };
    for protocol in BOTH {
        let histogram = |timestamp| v2::Histogram {
            timestamp,
            ..v2::Histogram::default()
        };
        let payload = v2::TimeSeries {
            samples: samples(&[OLDEST_MIN - 1, OLDEST_MIN, NOW, 0, i64::MIN]),
            histograms: vec![histogram(OLDEST_MIN - 1), histogram(OLDEST_MIN)],
            exemplars: vec![exemplar(OLDEST_MIN - 1), exemplar(OLDEST_MIN)],
            ..v2::TimeSeries::default()
        };
        let message = with(protocol, payload);
        let rules = rules(LENIENT, limits);
        let inspection = inspect(protocol, &message, &rules, &mut Memory::default()).unwrap();
        let verdict = &inspection.verdict;
        assert_eq!(refused(verdict), [(Reason::TooOld, 0, [3, 1, 1])]);
        assert_eq!((verdict.kept_series, verdict.times.oldest), (1, OLDEST_MIN));
        assert_eq!(verdict.exceeded.of(Limit::SamplesAge), 5);
        let example = r#"up{cluster="production"}: 3600 s old"#;
        assert_eq!(verdict.rejections[0].example, example);
        let observing = SpokeLimits {
            observed: LimitSet::EMPTY.with(Limit::SamplesAge),
            ..limits
        };
        let rules = self::rules(LENIENT, observing);
        let inspection = inspect(protocol, &message, &rules, &mut Memory::default()).unwrap();
        let verdict = &inspection.verdict;
        assert!(!verdict.changed(), "{verdict:?}");
        assert_eq!(verdict.exceeded.of(Limit::SamplesAge), 5);
    }
}

#[test]
fn without_a_limit_no_sample_is_too_far_ahead() {
    let payload = v2::TimeSeries {
        samples: samples(&[i64::MAX]),
        exemplars: vec![exemplar(i64::MAX)],
        ..v2::TimeSeries::default()
    };
    let message = with(Protocol::V2, payload);
    for (limit, kept) in [
        (None, 1),
        (Some(Duration::MAX), 1),
        (Some(Duration::from_millis(1)), 0),
    ] {
        let limits = SpokeLimits {
            samples_ahead_max: limit,
            ..LIMITS
        };
        let rules = rules(LENIENT, limits);
        let inspection = inspect(Protocol::V2, &message, &rules, &mut Memory::default());
        assert_eq!(inspection.unwrap().verdict.kept_series, kept, "{limit:?}");
    }
}
