//! Each limit at its value and one above.

use prost::Message;

use crate::config::{Absent, LabelPolicy, LimitSet, Mismatch, SpokeLimits};
use crate::reasons::{Limit, Reason};
use crate::wire::tests::mirror::{V1Request, V2Request};
use crate::wire::{Counts, Protocol, Times};

use super::invariants::{Inspection, LIMITS, Memory, inspect, rules};
use super::{message, v1_series};

const POLICY: LabelPolicy = LabelPolicy {
    absent: Absent::Inject,
    mismatch: Mismatch::Rename,
};

fn inspected(protocol: Protocol, limits: SpokeLimits, message: &[u8]) -> Inspection {
    inspect(
        protocol,
        message,
        &rules(POLICY, limits),
        &mut Memory::default(),
    )
    .unwrap()
}

fn reasons(inspection: &Inspection) -> Vec<(Reason, u64)> {
    let rejections = &inspection.verdict.rejections;
    rejections
        .iter()
        .map(|rejection| (rejection.reason, rejection.series))
        .collect()
}

#[test]
fn limits_labels_of_a_series() {
    let limits = SpokeLimits {
        labels_per_series_max: 3,
        ..LIMITS
    };
    let labels = [("__name__", "up"), ("a", "1"), ("b", "2"), ("c", "3")];
    for protocol in [Protocol::V1, Protocol::V2] {
        let at = inspected(protocol, limits, &message(protocol, &labels[..3]));
        assert_eq!(reasons(&at), [], "the injected label does not count");
        assert!(at.rewritten.is_some());
        let over = inspected(protocol, limits, &message(protocol, &labels));
        assert_eq!(reasons(&over), [(Reason::LabelsPerSeries, 1)]);
        assert_eq!(over.verdict.rejections[0].example, r#"up{a="1",b="2"}"#);
    }
}

#[test]
fn limits_the_length_of_names_and_values() {
    let limits = SpokeLimits {
        label_value_bytes_max: 10,
        ..LIMITS
    };
    for protocol in [Protocol::V1, Protocol::V2] {
        for (label, expected) in [
            (("a", "0123456789"), None),
            (("a", "0123456789a"), Some(Reason::LabelLength)),
            (("a123456789", "b"), None),
            (("a123456789a", "b"), Some(Reason::LabelLength)),
        ] {
            let message = message(protocol, &[("__name__", "up"), label]);
            let found = reasons(&inspected(protocol, limits, &message));
            assert_eq!(
                found.first().map(|found| found.0),
                expected,
                "{protocol:?} {label:?}"
            );
        }
    }
}

/// `count` good series of one sample each, and for V1 one metadata entry.
fn good_series(protocol: Protocol, count: usize) -> Vec<u8> {
    let one = message(protocol, &[("__name__", "up"), ("cluster", "production")]);
    match protocol {
        Protocol::V1 => {
            let mut request = V1Request::decode(one.as_slice()).unwrap();
            request.timeseries = vec![request.timeseries[0].clone(); count];
            request.metadata = vec![Default::default()];
            request.encode_to_vec()
        }
        Protocol::V2 => {
            let mut request = V2Request::decode(one.as_slice()).unwrap();
            request.timeseries = vec![request.timeseries[0].clone(); count];
            request.encode_to_vec()
        }
    }
}

#[test]
fn limits_series_of_a_request() {
    let limits = SpokeLimits {
        series_per_request_max: 5,
        ..LIMITS
    };
    for protocol in [Protocol::V1, Protocol::V2] {
        let metadata_count = u64::from(protocol == Protocol::V1);
        let at = inspected(protocol, limits, &good_series(protocol, 5));
        assert_eq!((reasons(&at), at.verdict.changed()), (vec![], false));
        assert_eq!(
            at.verdict.kept_series + at.verdict.kept_metadata,
            5 + metadata_count
        );
        let over = inspected(protocol, limits, &good_series(protocol, 6));
        assert_eq!(reasons(&over), [(Reason::SeriesPerRequest, 6)]);
        assert_eq!(
            over.verdict.rejections[0].example,
            "6 series where 5 may be"
        );
        check_nothing_left(&over, [6, 0, 0, metadata_count]);
    }
}

#[test]
fn limits_metadata_of_a_request() {
    let limits = SpokeLimits {
        series_per_request_max: 5,
        ..LIMITS
    };
    let metadata = |count| {
        let metadata = vec![Default::default(); count];
        let timeseries = vec![];
        V1Request {
            timeseries,
            metadata,
        }
        .encode_to_vec()
    };
    let at = inspected(Protocol::V1, limits, &metadata(5));
    assert_eq!((reasons(&at), at.verdict.changed()), (vec![], false));
    let over = inspected(Protocol::V1, limits, &metadata(6));
    assert_eq!(reasons(&over), [(Reason::SeriesPerRequest, 6)]);
    let example = &over.verdict.rejections[0].example;
    assert_eq!(example, "6 metadata entries where 5 may be");
    check_nothing_left(&over, [0, 0, 0, 6]);
}

#[test]
fn limits_symbols_of_a_request() {
    let limits = SpokeLimits {
        series_per_request_max: 5,
        ..LIMITS
    };
    let symbols_max = 5 * 8 + 1024;
    let mut request = V2Request::decode(good_series(Protocol::V2, 2).as_slice()).unwrap();
    request
        .symbols
        .resize_with(symbols_max, || b"unused".to_vec());
    let at = inspected(Protocol::V2, limits, &request.encode_to_vec());
    assert_eq!((reasons(&at), at.verdict.changed()), (vec![], false));
    request.symbols.push(b"unused".to_vec());
    let over = inspected(Protocol::V2, limits, &request.encode_to_vec());
    assert_eq!(reasons(&over), [(Reason::SymbolsPerRequest, 2)]);
    assert_eq!(over.verdict.rejections[0].example, "more than 1064 symbols");
    check_nothing_left(&over, [2, 0, 0, 0]);
}

/// A limit of the whole request leaves nothing, and whatever was refused before is refused once.
#[test]
fn refuses_everything_beyond_a_limit_of_the_request() {
    let limits = SpokeLimits {
        series_per_request_max: 2,
        ..LIMITS
    };
    let good = v1_series(&[("__name__", "up"), ("cluster", "production")]);
    let nameless = v1_series(&[("cluster", "production")]);
    let request = V1Request {
        timeseries: vec![nameless, good.clone(), good],
        metadata: vec![],
    };
    let over = inspected(Protocol::V1, limits, &request.encode_to_vec());
    assert_eq!(reasons(&over), [(Reason::SeriesPerRequest, 3)]);
    check_nothing_left(&over, [3, 0, 0, 0]);
}

#[track_caller]
fn check_nothing_left(inspection: &Inspection, counts: [u64; 4]) {
    let Inspection {
        verdict,
        rewritten,
        side,
    } = inspection;
    assert!(rewritten.is_none() && side.is_empty() && verdict.changed());
    assert_eq!((verdict.keeps(), verdict.times), (false, Times::default()));
    assert_eq!(verdict.received, Counts::new(counts));
    assert_eq!(verdict.rejected(), verdict.received);
    assert!(verdict.kept().is_empty());
}

/// The limits of labels and of series, and how many exceed them. Nothing is refused, and nothing
/// changes but that the cluster label is added.
#[test]
fn an_observed_limit_counts_what_it_would_refuse() {
    let labels = [
        ("__name__", "up"),
        ("a", "1"),
        ("b", "2"),
        ("c", "long value"),
    ];
    let limits = SpokeLimits {
        series_per_request_max: 1,
        labels_per_series_max: 3,
        label_value_bytes_max: 9,
        observed: LimitSet::from_iter(Limit::ALL),
        ..LIMITS
    };
    let exceeded = [
        Limit::SeriesPerRequest,
        Limit::LabelsPerSeries,
        Limit::LabelValueBytes,
    ];
    for protocol in [Protocol::V1, Protocol::V2] {
        for (count, expected) in [(1, [0, 1, 1]), (3, [1, 3, 3])] {
            let one = message(protocol, &labels);
            let message = match protocol {
                Protocol::V1 => one.repeat(count),
                Protocol::V2 => {
                    let mut request = V2Request::decode(one.as_slice()).unwrap();
                    request.timeseries = vec![request.timeseries[0].clone(); count];
                    request.encode_to_vec()
                }
            };
            let inspection = inspected(protocol, limits, &message);
            assert_eq!(reasons(&inspection), []);
            let verdict = &inspection.verdict;
            assert_eq!(verdict.kept_series, count as u64);
            assert_eq!(exceeded.map(|limit| verdict.exceeded.of(limit)), expected);
            let enforced = SpokeLimits {
                observed: LimitSet::EMPTY,
                ..limits
            };
            let verdict = inspected(protocol, enforced, &message).verdict;
            assert!(!verdict.keeps());
            let first = match count {
                1 => Limit::LabelsPerSeries,
                _ => Limit::SeriesPerRequest,
            };
            assert_eq!(verdict.exceeded.of(first), 1);
        }
    }
}
