//! Random requests: the invariants of any bytes, and the model for those that are well-formed.

use proptest::prelude::*;
use prost::Message;

use crate::config::LabelPolicy;
use crate::policy::{self, Scratch};
use crate::reasons::Reason;
use crate::wire::proto::{v1, v2};
use crate::wire::tests::mirror::{
    PlainLabels, PlainMessage, V1Label, V1Request, V1Series, V2Request,
};
use crate::wire::tests::{generate, shapes};
use crate::wire::{Clean, Protocol, limited};

use super::invariants::{LIMITS, NOW, SPOKE, check, policies};
use super::model::Setting;
use super::together;

/// Each series fares as the model says, alone and among its neighbours.
fn check_against_model(protocol: Protocol, message: &[u8], policy: LabelPolicy) {
    let setting = Setting {
        cluster_label: "cluster".into(),
        spoke: SPOKE.into(),
        policy,
        limits: LIMITS,
    };
    let memory = &mut together::Memory::default();
    together::check(protocol, message, &setting, &[], memory);
}

/// What is drawn reaches what it is drawn for: most series fit a template, of each kind, and some come
/// with a foreign label between these.
#[test]
fn most_drawn_series_fit_a_template() {
    for wanted in [Protocol::V1, Protocol::V2] {
        let (mut series, mut own, mut without, mut foreign) = (0, 0, 0, 0);
        for seed in 0..400u64 {
            together::for_drawn(&seed.to_le_bytes(), |protocol, message, settings, _| {
                if protocol != wanted || PlainMessage::decode(protocol, message).is_err() {
                    return;
                }
                let rules = settings[0].rules();
                let found = shapes::walk(protocol, message, &rules.demands());
                let count = |wanted: fn(&Clean) -> bool| {
                    found.iter().flatten().filter(|it| wanted(it)).count()
                };
                series += found.len();
                let fits = count(|it| *it == Clean::Own);
                own += fits;
                without += count(|it| *it != Clean::Own);
                let verdict = policy::inspect(
                    protocol,
                    message,
                    &rules,
                    NOW,
                    &mut Scratch::default(),
                    &mut [],
                );
                let observed = verdict.unwrap().observed;
                if fits > 0 {
                    foreign += observed.series(Reason::MismatchedLabel);
                }
            });
        }
        let enough = own > series / 5 && without > series / 20 && foreign > 50;
        assert!(enough, "{wanted:?}: {own} {without} {foreign} of {series}");
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

    /// Messages of many series, of which most fit a template.
    #[test]
    fn judges_series_together_as_alone(seed: [u8; 16]) {
        together::check_drawn(&seed);
    }
}

/// A message of series with a sample and these labels.
fn message_of(protocol: Protocol, series: &[PlainLabels]) -> Vec<u8> {
    let v1_label = |(name, value): &(Vec<u8>, Vec<u8>)| V1Label {
        name: name.clone(),
        value: value.clone(),
    };
    let v1_series = |labels: &PlainLabels| V1Series {
        labels: labels.iter().map(v1_label).collect(),
        samples: vec![v1::Sample::default()],
        ..V1Series::default()
    };
    let mut symbols = vec![Vec::new()];
    let mut v2_series = |labels: &PlainLabels| {
        let first = symbols.len();
        symbols.extend(
            labels
                .iter()
                .flat_map(|(name, value)| [name.clone(), value.clone()]),
        );
        v2::TimeSeries {
            labels_refs: (first..symbols.len()).map(limited).collect(),
            samples: vec![v2::Sample::default()],
            ..v2::TimeSeries::default()
        }
    };
    match protocol {
        Protocol::V1 => V1Request {
            timeseries: series.iter().map(v1_series).collect(),
            metadata: Vec::new(),
        }
        .encode_to_vec(),
        Protocol::V2 => V2Request {
            timeseries: series.iter().map(&mut v2_series).collect(),
            symbols,
        }
        .encode_to_vec(),
    }
}

/// A census knows a series by its labels, however long they are, and whether or not they come in order and with the
/// spoke's own among them.
#[test]
fn labels_of_any_length_identify_their_series() {
    let lengths = [
        1, 15, 16, 31, 32, 33, 63, 127, 128, 500, 511, 512, 513, 1_000, 3_000,
    ];
    let mut all: Vec<PlainLabels> = Vec::new();
    for turn in [0, 4, 9] {
        let values = lengths.iter().cycle().skip(turn);
        for (name, value) in lengths.iter().zip(values) {
            let label = |byte: u8| (vec![byte; *name], vec![byte; *value]);
            all.push((b'h'..=b'i').map(label).collect());
        }
    }
    // As long as what is assembled at once, a byte more, and so on.
    all.extend((880..960).map(|length| {
        vec![
            (b"a".to_vec(), vec![b'a'; 64]),
            (b"b".to_vec(), vec![b'b'; length]),
        ]
    }));
    for labels in &mut all {
        labels.push((b"__name__".to_vec(), b"up".to_vec()));
    }
    for cluster in [None, Some(SPOKE), Some("elsewhere")] {
        let mut all = all.clone();
        for labels in &mut all {
            labels.extend(cluster.map(|value| (b"cluster".to_vec(), value.into())));
            labels.sort();
        }
        let backwards = all
            .iter()
            .map(|labels| labels.iter().rev().cloned().collect());
        for series in [all.clone(), backwards.collect()] {
            for protocol in [Protocol::V1, Protocol::V2] {
                let message = message_of(protocol, &series);
                for policy in policies() {
                    check_against_model(protocol, &message, policy);
                }
            }
        }
    }
}
