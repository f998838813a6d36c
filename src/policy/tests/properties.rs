//! Random requests: the invariants of any bytes, and the model for those that are well-formed.

use proptest::prelude::*;
use prost::Message;

use crate::config::LabelPolicy;
use crate::policy::Verdict;
use crate::reasons::Reason;
use crate::wire::encoder::{Form, Metadata};
use crate::wire::proto::v2;
use crate::wire::protobuf::{Reader, put_bytes};
use crate::wire::tests::mirror::{PlainMessage, PlainSeries, V2Request};
use crate::wire::tests::{faults, generate, translation};
use crate::wire::{Counts, Kind, Protocol};

use super::invariants::{
    LIMITS, Memory, NEWEST_MAX, check, encode, inspect, leaving, policies, rules,
};
use super::model;

/// Each series of a message as a message of its own, its bytes as they lie: which of two faults is
/// found first depends on where they lie.
fn singles(protocol: Protocol, message: &[u8]) -> Vec<Vec<u8>> {
    let (series_field, symbols_field) = match protocol {
        Protocol::V1 => (1, None),
        Protocol::V2 => (5, Some(4)),
    };
    let (mut singles, mut symbols) = (Vec::new(), Vec::new());
    let mut reader = Reader::new(message);
    while let Some((field, wire_type)) = reader.key().unwrap() {
        if field == series_field {
            let mut single = Vec::new();
            put_bytes(&mut single, field, reader.bytes().unwrap());
            singles.push(single);
        } else if Some(field) == symbols_field {
            put_bytes(&mut symbols, field, reader.bytes().unwrap());
        } else {
            reader.skip(wire_type).unwrap();
        }
    }
    for single in &mut singles {
        single.extend_from_slice(&symbols);
    }
    singles
}

fn alone(protocol: Protocol, message: &[u8], policy: LabelPolicy) -> Verdict {
    let rules = rules(policy, LIMITS);
    let inspection = inspect(protocol, message, &rules, &mut Memory::default());
    inspection.unwrap().verdict
}

fn reason(verdict: &Verdict) -> Option<Reason> {
    let first = verdict.rejections.first();
    first.map(|rejection| rejection.reason)
}

/// The samples that are refused of a single series are those with a fault.
fn check_faults(verdict: &Verdict, faults: &[(Kind, Reason)]) {
    let mut reasons: Vec<_> = faults.iter().map(|(_, reason)| *reason).collect();
    reasons.dedup();
    assert_eq!(verdict.rejections.is_empty(), reasons.is_empty());
    for reason in reasons {
        let mut rejections = verdict.rejections.iter();
        let rejection = rejections.find(|rejection| rejection.reason == reason);
        let mut counts = rejection.expect("it is refused").counts;
        counts.clear(Kind::Metadata);
        assert_eq!(counts, faults::counts(faults, reason), "{verdict:?}");
    }
}

/// Each series fares as the model says, alone and among its neighbours.
fn check_against_model(protocol: Protocol, message: &[u8], policy: LabelPolicy) {
    let input = PlainMessage::decode(protocol, message).unwrap();
    let mut kept = PlainMessage::default();
    let mut refused = Vec::new();
    for (series, single) in input.series.iter().zip(singles(protocol, message)) {
        let alone = alone(protocol, &single, policy);
        match (model::judge(series, policy), reason(&alone)) {
            (Ok(labels), _) => {
                let (payload, faults) = faults::sift(series.payload.clone(), NEWEST_MAX);
                check_faults(&alone, &faults);
                let keeps = faults.is_empty() || !faults::is_void(&payload);
                assert_eq!(alone.keeps(), keeps, "{alone:?}");
                refused.extend(alone.rejections);
                if keeps {
                    kept.series.push(PlainSeries::new(Some(labels), payload));
                }
            }
            (Err(reasons), Some(reason)) if reasons.contains(&reason) => {
                assert!(!alone.keeps());
                refused.extend(alone.rejections);
            }
            (expected, reason) => panic!("expected {expected:?}, not {reason:?}: {series:?}"),
        }
    }
    let entries = input.metadata.into_iter();
    kept.metadata = entries
        .filter(|entry| model::keeps_metadata(entry))
        .collect();
    let rules = rules(policy, LIMITS);
    let mut memory = Memory::default();
    let inspection = inspect(protocol, message, &rules, &mut memory).unwrap();
    for rejection in &inspection.verdict.rejections {
        let (mut series, mut counts) = (0, Counts::default());
        for alone in refused.iter().filter(|it| it.reason == rejection.reason) {
            series += alone.series;
            counts.add_all(&alone.counts);
        }
        // What is left are metadata entries of V1.
        let mut entries = rejection.counts.minus(&counts);
        assert_eq!(rejection.series, series + entries.total(), "{rejection:?}");
        entries.clear(Kind::Metadata);
        assert!(entries.is_empty(), "{rejection:?}");
    }
    if let Some(leaving) = leaving(message, &inspection)
        && inspection.rewritten.is_none()
    {
        assert_eq!(PlainMessage::decode(protocol, leaving).unwrap(), kept);
    }
    for to in [Protocol::V1, Protocol::V2] {
        for metadata in [Metadata::Drop, Metadata::Forward] {
            let encoded = encode(
                protocol,
                message,
                &rules,
                &mut memory,
                Form::new(to, metadata),
            );
            let (verdict, encoded) = encoded.unwrap();
            assert_eq!(verdict, inspection.verdict);
            translation::check(kept.clone(), protocol, to, metadata, &encoded);
        }
    }
}

/// An exemplar that is not UTF-8 lies before labels that refer to no symbol.
#[test]
fn judges_faults_in_an_unusual_order_as_the_model_does() {
    let symbols = b"\x22\x00\x22\x08__name__\x22\x02up\x22\x01\xff".as_slice();
    let series = b"\x2a\x0a\x22\x04\x0a\x02\x01\x03\x0a\x02\x01\x09".as_slice();
    let message = [symbols, series].concat();
    policies().for_each(|policy| check_against_model(Protocol::V2, &message, policy));
}

/// Values of all lengths come with one name, with another, and with the first one again, so each label
/// is made of symbols, and later copied or not. Some references take three bytes.
#[test]
fn judges_labels_that_come_again_as_the_model_does() {
    const UNUSED: usize = 1 << 14;
    let short = [1, 2, 15, 16, 17, 31, 32, 33, 55, 56, 57, 58, 59, 60, 64];
    let long = (118..128).chain(243..252);
    let lengths = short.into_iter().chain(long).chain([20_000]);
    let values: Vec<Vec<u8>> = lengths.map(|length| vec![b'v'; length]).collect();
    let metric = |series: usize| format!("metric_{}", series % 3).into_bytes();
    let mut symbols = [&b""[..], b"__name__", b"a", b"b", b"cluster", b"production"]
        .map(<[u8]>::to_vec)
        .to_vec();
    symbols.extend((0..3).map(metric));
    let first = symbols.len();
    // Half of the values stand behind those that nothing refers to.
    let (near, far) = values.split_at(values.len() / 2);
    symbols.extend_from_slice(near);
    symbols.extend((0..UNUSED).map(|n| format!("unused {n}").into_bytes()));
    symbols.extend_from_slice(far);
    let value = |n: usize| {
        let skipped = if n < near.len() { 0 } else { UNUSED };
        u32::try_from(first + skipped + n).unwrap()
    };
    let name = |n: usize| u32::try_from(first - 3 + n).unwrap();
    let labels = |n: usize, turn: usize| match turn {
        0 | 3 => vec![2, value(n)],
        1 => vec![3, value(n), 4, 5],
        _ => vec![2, value(n), 3, value(values.len() - 1 - n)],
    };
    let places = (0..4).flat_map(|turn| (0..values.len()).map(move |n| (n, turn)));
    let series = places.map(|(n, turn)| v2::TimeSeries {
        labels_refs: [vec![1, name(n % 3)], labels(n, turn)].concat(),
        samples: vec![v2::Sample {
            value: 1.0,
            timestamp: 1_700_000_000_000,
            start_timestamp: 0,
        }],
        metadata: (turn > 0).then(|| v2::Metadata {
            r#type: 1,
            help_ref: value(n),
            unit_ref: name(turn % 2),
        }),
        ..v2::TimeSeries::default()
    });
    let timeseries = series.collect();
    let message = V2Request {
        symbols,
        timeseries,
    };
    let message = message.encode_to_vec();
    policies().for_each(|policy| check_against_model(Protocol::V2, &message, policy));
}

proptest! {
    #![proptest_config(crate::wire::tests::config())]

    #[test]
    fn judges_v1_as_the_model_does(message in generate::valid(Protocol::V1)) {
        policies().for_each(|policy| check_against_model(Protocol::V1, &message, policy));
    }

    #[test]
    fn judges_v2_as_the_model_does(message in generate::valid(Protocol::V2)) {
        policies().for_each(|policy| check_against_model(Protocol::V2, &message, policy));
    }

    #[test]
    fn holds_the_invariants_for_valid_v1(message in generate::valid(Protocol::V1)) {
        check(Protocol::V1, &message);
    }

    #[test]
    fn holds_the_invariants_for_valid_v2(message in generate::valid(Protocol::V2)) {
        check(Protocol::V2, &message);
    }

    #[test]
    fn holds_the_invariants_for_mutated_v1(message in generate::mutated(Protocol::V1)) {
        check(Protocol::V1, &message);
    }

    #[test]
    fn holds_the_invariants_for_mutated_v2(message in generate::mutated(Protocol::V2)) {
        check(Protocol::V2, &message);
    }

    /// Concatenated messages are one message to protobuf, so one body can speak both versions.
    #[test]
    fn holds_the_invariants_for_bodies_of_both_versions(
        (v1, v2) in (generate::mutated(Protocol::V1), generate::mutated(Protocol::V2)),
    ) {
        for both in [[v1.as_slice(), &v2].concat(), [v2.as_slice(), &v1].concat()] {
            check(Protocol::V1, &both);
            check(Protocol::V2, &both);
        }
    }
}
