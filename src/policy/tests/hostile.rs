//! Bodies built to cost more than they weigh, in time or in memory.

use std::time::{Duration, Instant};

use prost::Message;

use crate::config::{Absent, LabelPolicy, Mismatch, SpokeLimits};
use crate::policy;
use crate::reasons::Reason;
use crate::wire::encoder::{Form, Metadata};
use crate::wire::proto::v2;
use crate::wire::protobuf::put_bytes;
use crate::wire::tests::mirror::V2Request;
use crate::wire::{Kind, Protocol};

use super::invariants::{AHEAD_MAX, Inspection, Memory, NOW, encode, inspect, rules};
use super::message;

/// The limits that a spoke has by default.
const LIMITS: SpokeLimits = SpokeLimits {
    series_per_request_max: 50_000,
    labels_per_series_max: 128,
    label_value_bytes_max: 65_536,
    samples_ahead_max: Some(AHEAD_MAX),
    ..SpokeLimits::DEFAULT
};

const POLICY: LabelPolicy = LabelPolicy {
    absent: Absent::Inject,
    mismatch: Mismatch::Rename,
};

/// How often a small thing is repeated.
const MANY: usize = 1 << 20;

/// Inspects in a time that only a cost which is not linear can exceed, by minutes.
fn inspect_soon(protocol: Protocol, message: &[u8]) -> Inspection {
    let start = Instant::now();
    let rules = rules(POLICY, LIMITS);
    let inspection = inspect(protocol, message, &rules, &mut Memory::default()).unwrap();
    let elapsed = start.elapsed();
    assert!(
        elapsed < Duration::from_secs(20),
        "{elapsed:?} for {} bytes",
        message.len()
    );
    inspection
}

fn only_reason(inspection: &Inspection) -> (Reason, u64) {
    let [rejection] = inspection.verdict.rejections.as_slice() else {
        panic!("{:?}", inspection.verdict);
    };
    (rejection.reason, rejection.series)
}

/// Names of one length that differ in their last bytes alone, in falling order.
fn long_names(count: usize) -> Vec<Vec<u8>> {
    let name = |n: usize| [vec![b'n'; 60_000], format!("{n:03}").into_bytes()].concat();
    (0..count).rev().map(name).collect()
}

/// `count` times one series with a metric name and these labels.
fn repeated_series(labels: &[(Vec<u8>, Vec<u8>)], count: usize) -> Vec<u8> {
    let mut symbols: Vec<Vec<u8>> = vec![vec![], b"__name__".into(), b"up".into()];
    symbols.extend(
        labels
            .iter()
            .flat_map(|(name, value)| [name.clone(), value.clone()]),
    );
    let labels_refs = (1..u32::try_from(symbols.len()).unwrap()).collect();
    let series = v2::TimeSeries {
        labels_refs,
        ..v2::TimeSeries::default()
    };
    V2Request {
        symbols,
        timeseries: vec![series; count],
    }
    .encode_to_vec()
}

/// Names are compared again for each series, in whichever order they are.
#[test]
fn bounds_what_comparing_long_names_costs() {
    let falling = long_names(110);
    let rising = falling.iter().rev().cloned();
    for (names, last) in [(falling.clone(), "x"), (rising.collect(), "")] {
        let names = names.into_iter().chain([b"o".to_vec()]);
        let mut labels: Vec<_> = names.map(|name| (name, b"x".to_vec())).collect();
        labels.last_mut().unwrap().1 = last.into();
        let inspection = inspect_soon(Protocol::V2, &repeated_series(&labels, 2000));
        let budget = LIMITS.series_per_request_max * 4096 + (96 << 20);
        // The names of the metric and of "o" are compared as well.
        let kept = (budget / (110 * 60_003 + 9)) as u64;
        let refused = (Reason::LabelLength, 2000 - kept);
        assert_eq!(only_reason(&inspection), refused, "last value {last:?}");
        assert_eq!(inspection.verdict.kept_series, kept);
        assert!(
            inspection.rewritten.is_some(),
            "what is kept is the same in both walks"
        );
    }
}

#[test]
fn hashes_each_long_value_once() {
    let labels: Vec<_> = long_names(110)
        .into_iter()
        .enumerate()
        .map(|(n, text)| (format!("n{n:03}").into_bytes(), text))
        .collect();
    // As many as may refer to so long ones.
    let inspection = inspect_soon(Protocol::V2, &repeated_series(&labels, 75));
    assert_eq!(inspection.verdict.kept_series, 75);
    assert!(inspection.rewritten.is_some());
}

#[test]
fn refuses_a_flood_of_empty_series() {
    for (protocol, empty) in [(Protocol::V1, b"\x0a\0"), (Protocol::V2, b"\x2a\0")] {
        let inspection = inspect_soon(protocol, &empty.repeat(MANY));
        assert_eq!(
            only_reason(&inspection),
            (Reason::SeriesPerRequest, MANY as u64)
        );
    }
}

#[test]
fn refuses_a_flood_of_symbols() {
    let mut body = message(Protocol::V2, &[("__name__", "up")]);
    body.extend(b"\x22\0".repeat(MANY));
    assert_eq!(
        only_reason(&inspect_soon(Protocol::V2, &body)),
        (Reason::SymbolsPerRequest, 1)
    );
}

/// Short symbols take many times their length in tables.
#[test]
fn a_flood_of_symbols_stays_within_its_room() {
    // As many as a table has places that doubles.
    let symbols_max = 1 << 17;
    let limits = SpokeLimits {
        series_per_request_max: (symbols_max - 1024) / 8,
        ..LIMITS
    };
    let rules = rules(POLICY, limits);
    let mut body = b"\x22\x00\x22\x08__name__\x22\x02up\x2a\x06\x0a\x02\x01\x02\x12\x00".to_vec();
    body.extend(b"\x22\x01a".repeat(symbols_max - 3));
    for to in [Protocol::V1, Protocol::V2] {
        let mut memory = Memory::default();
        let form = Form {
            v1_room: 0,
            ..Form::new(to, Metadata::Drop)
        };
        let (verdict, _) = encode(Protocol::V2, &body, &rules, &mut memory, form).unwrap();
        assert_eq!(verdict.kept_series, 1);
        let mut held = memory.scratch.bytes();
        let mut room = policy::symbols_room(Protocol::V2, to, body.len(), &rules);
        if to == Protocol::V1 {
            held += memory.encoder.bytes();
            room += body.len();
        }
        assert!(held <= room + (64 << 10), "{to:?}: {held} in {room}");
        assert!(room <= held, "{to:?}: {held} in {room}");
    }
}

/// Series that are kept and refused in turn make a run of decisions each.
#[test]
fn a_flood_of_decisions_stays_within_its_room() {
    let limits = SpokeLimits {
        series_per_request_max: 10_000_000,
        ..LIMITS
    };
    let kept_v1 = b"\x0a\x0f\x0a\x0d\x0a\x08__name__\x12\x01a";
    let symbols = b"\x22\x00\x22\x08__name__\x22\x01a";
    let (kept_v2, refused_v2) = (b"\x2a\x04\x0a\x02\x01\x02", b"\x2a\x00");
    let pairs_v1 = [kept_v1.as_slice(), b"\x0a\x00"].concat().repeat(100_000);
    let pairs_v2 = [kept_v2.as_slice(), refused_v2].concat().repeat(100_000);
    for (protocol, body, times_its_length) in [
        (Protocol::V1, pairs_v1, 1.3),
        (Protocol::V2, [symbols.as_slice(), &pairs_v2].concat(), 3.1),
    ] {
        let (rules, mut memory) = (rules(POLICY, limits), Memory::default());
        let scratch = &mut memory.scratch;
        let verdict = policy::inspect(protocol, &body, &rules, NOW, scratch, &mut []).unwrap();
        assert_eq!((verdict.series, verdict.kept_series), (200_000, 100_000));
        let room = policy::Decisions::room(protocol, body.len(), &rules);
        let decisions = scratch.take_decisions();
        assert_eq!(decisions.runs(), 200_000);
        assert!(decisions.runs() * 12 <= room, "{protocol:?}: {room}");
        assert!(decisions.bytes() < 2 * room, "{protocol:?}: {room}");
        let bound = times_its_length * body.len() as f64;
        assert!((room as f64) < bound, "{protocol:?}: {room}");
    }
}

/// The series is refused, its neighbour is not.
#[test]
fn refuses_a_series_of_a_flood_of_labels() {
    for (protocol, field, labels) in [
        (Protocol::V1, 1, b"\x0a\0".repeat(MANY)),
        (Protocol::V2, 5, b"\x08\0".repeat(MANY)),
        (Protocol::V2, 5, b"\x0a\x02\0\0".repeat(MANY)),
    ] {
        let mut body = message(protocol, &[("__name__", "up")]);
        put_bytes(&mut body, field, &labels);
        let inspection = inspect_soon(protocol, &body);
        assert_eq!(only_reason(&inspection), (Reason::LabelsPerSeries, 1));
        assert_eq!(inspection.verdict.kept_series, 1);
    }
}

/// A series with a sample, `exemplars` as they stand, and no cluster label, so that it is encoded
/// anew.
fn with_exemplars(exemplars: &[u8]) -> Vec<u8> {
    let mut series = vec![0x0a, 2, 1, 2, 0x12, 0];
    series.extend_from_slice(exemplars);
    let mut body = Vec::new();
    [&b""[..], b"__name__", b"up"]
        .iter()
        .for_each(|symbol| put_bytes(&mut body, 4, symbol));
    put_bytes(&mut body, 5, &series);
    body
}

#[test]
fn encodes_a_flood_of_exemplars_no_larger() {
    let mut refs = Vec::new();
    put_bytes(&mut refs, 1, &vec![1; MANY]);
    let mut one_large = Vec::new();
    put_bytes(&mut one_large, 4, &refs);
    for (name, exemplars) in [
        ("empty", b"\x22\0".repeat(MANY)),
        ("one of many labels", one_large),
    ] {
        let body = with_exemplars(&exemplars);
        let rewritten = inspect_soon(Protocol::V2, &body).rewritten.unwrap();
        assert!(
            rewritten.len() < body.len() + 100,
            "{name}: {}",
            rewritten.len()
        );
    }
}

/// An empty sample takes two bytes; one with its zeros spelled out takes thirteen.
#[test]
fn encodes_a_flood_of_empty_samples_no_larger() {
    for (from, to) in [(Protocol::V1, Protocol::V2), (Protocol::V2, Protocol::V1)] {
        let (field, labels) = match from {
            Protocol::V1 => (1, &b"\x0a\x0e\x0a\x08__name__\x12\x02up"[..]),
            Protocol::V2 => (5, &b"\x0a\x02\x01\x02"[..]),
        };
        let mut body = Vec::new();
        if from == Protocol::V2 {
            let symbols = [&b""[..], b"__name__", b"up"];
            symbols.iter().for_each(|it| put_bytes(&mut body, 4, it));
        }
        put_bytes(
            &mut body,
            field,
            &[labels, &b"\x12\0".repeat(MANY)].concat(),
        );
        let rules = rules(POLICY, LIMITS);
        let (mut memory, drop) = (Memory::default(), Metadata::Drop);
        let encoded = encode(from, &body, &rules, &mut memory, Form::new(to, drop));
        let (_, encoded) = encoded.unwrap();
        assert_eq!(encoded.message.counts.of(Kind::Float), MANY as u64);
        let length = encoded.message.bytes.len();
        assert!(length < body.len() + 100, "{from:?}: {length}");
    }
}

/// Encodes a message that must be found too large, within the room that was computed.
fn overflow_soon(to: Protocol, body: &[u8], what: &str) {
    let start = Instant::now();
    let rules = rules(POLICY, LIMITS);
    let room = policy::room(Protocol::V2, to, body.len(), &rules);
    let mut memory = Memory::default();
    let form = Form {
        v1_room: room,
        ..Form::new(to, Metadata::Drop)
    };
    let (_, encoded) = encode(Protocol::V2, body, &rules, &mut memory, form).unwrap();
    let length = encoded.message.bytes.len() + encoded.side.bytes.len();
    assert!(encoded.overflow.is_some(), "{what}");
    assert!(length <= room, "{what}: {length} bytes in {room}");
    let held = memory.scratch.bytes() + memory.encoder.bytes();
    assert!(
        held < 2 * room + (16 << 20),
        "{what}: {held} bytes in {room}"
    );
    let elapsed = start.elapsed();
    assert!(elapsed < Duration::from_secs(20), "{what}: {elapsed:?}");
}

/// A V2 series names a string in a byte or two, and a V1 series holds it.
#[test]
fn downgrades_stay_within_the_computed_room() {
    let labels: Vec<_> = long_names(110)
        .into_iter()
        .enumerate()
        .map(|(n, text)| (format!("n{n:03}").into_bytes(), text))
        .collect();
    let body = repeated_series(&labels, 40_000);
    overflow_soon(Protocol::V1, &body, "labels");
}

/// An exemplar names a string as shortly, for a V1 hub as well as for a message beside one of V2.
#[test]
fn exemplars_stay_within_the_computed_room() {
    let exemplar = v2::Exemplar {
        labels_refs: vec![3, 3],
        ..v2::Exemplar::default()
    };
    let body = V2Request {
        symbols: [&b""[..], b"__name__", b"up", &[b'x'; 2_000]]
            .map(<[u8]>::to_vec)
            .to_vec(),
        timeseries: vec![v2::TimeSeries {
            labels_refs: vec![1, 2],
            exemplars: vec![exemplar; 20_000],
            ..v2::TimeSeries::default()
        }],
    };
    let body = body.encode_to_vec();
    for to in [Protocol::V1, Protocol::V2] {
        overflow_soon(to, &body, "exemplars");
    }
}

/// Histograms of custom buckets have no place in V1, so their labels must not be encoded at all.
#[test]
fn labels_of_series_that_v1_cannot_hold_are_not_encoded() {
    let mut body = Vec::new();
    let first = ["a", "b"].map(str::as_bytes);
    let values = (0..100).map(|n| [vec![b'v'; 60_000], format!("{n:03}").into_bytes()].concat());
    let names = (0..100).map(|n| format!("n{n:03}").into_bytes());
    let symbols = [&b""[..], b"__name__", b"up"].into_iter().chain(first);
    let symbols: Vec<Vec<u8>> = symbols
        .map(<[u8]>::to_vec)
        .chain(names)
        .chain(values)
        .collect();
    symbols.iter().for_each(|it| put_bytes(&mut body, 4, it));
    let histogram = v2::Histogram {
        schema: -53,
        ..v2::Histogram::default()
    };
    for n in 0..40_000 {
        let labels = (0..100).flat_map(|label| [5 + label, 105 + label]);
        let series = v2::TimeSeries {
            labels_refs: [1, 2, 3 + n % 2, 2].into_iter().chain(labels).collect(),
            histograms: vec![histogram.clone()],
            ..v2::TimeSeries::default()
        };
        put_bytes(&mut body, 5, &series.encode_to_vec());
    }
    let start = Instant::now();
    let rules = rules(POLICY, LIMITS);
    let (mut memory, to, drop) = (Memory::default(), Protocol::V1, Metadata::Drop);
    let (verdict, encoded) = encode(
        Protocol::V2,
        &body,
        &rules,
        &mut memory,
        Form::new(to, drop),
    )
    .unwrap();
    assert!(verdict.kept_series > 0);
    assert_eq!(encoded.lost.custom_buckets, verdict.kept_series);
    assert!(encoded.overflow.is_none() && encoded.message.bytes.is_empty());
    let elapsed = start.elapsed();
    assert!(elapsed < Duration::from_secs(20), "{elapsed:?}");
}

/// A request whose exemplars refer to each symbol once, and then to the fourth very often, which
/// takes one byte each.
fn with_refs(first: impl Iterator<Item = u32>) -> Vec<u8> {
    let names = (3..20_003).map(|n| n.to_string().into_bytes());
    let symbols = [&b""[..], b"__name__", b"up"].map(<[u8]>::to_vec);
    let refs: Vec<u32> = first.chain(std::iter::repeat_n(3, MANY)).collect();
    // As many as an exemplar may have of the longest of them, and more.
    let exemplar = |refs: &[u32]| v2::Exemplar {
        labels_refs: refs.to_vec(),
        ..v2::Exemplar::default()
    };
    let series = v2::TimeSeries {
        labels_refs: vec![1, 2],
        samples: vec![v2::Sample::default()],
        exemplars: refs.chunks(600).map(exemplar).collect(),
        ..v2::TimeSeries::default()
    };
    let symbols = symbols.into_iter().chain(names).collect();
    V2Request {
        symbols,
        timeseries: vec![series],
    }
    .encode_to_vec()
}

/// In the other order each reference takes three bytes instead of one; `inspect` asserts that the
/// computed room suffices.
#[test]
fn computes_the_room_of_references_that_grow() {
    let body = with_refs(3..20_003);
    let rewritten = inspect_soon(Protocol::V2, &body).rewritten.unwrap();
    assert!(rewritten.len() < body.len() + 100);
    let body = with_refs((3..20_003).rev());
    assert!(inspect_soon(Protocol::V2, &body).rewritten.is_some());
}

#[test]
fn describes_one_series_a_reason() {
    let mut body = Vec::new();
    for n in 0..20_000 {
        let cluster = ["staging", "x"][n % 2];
        body.extend(message(
            Protocol::V1,
            &[("__name__", "up"), ("cluster", cluster)],
        ));
        body.extend(message(Protocol::V1, &[("cluster", cluster)]));
    }
    let rules = rules(
        LabelPolicy {
            mismatch: Mismatch::Reject,
            ..POLICY
        },
        LIMITS,
    );
    let inspection = inspect(Protocol::V1, &body, &rules, &mut Memory::default()).unwrap();
    let rejections = inspection.verdict.rejections;
    let series: Vec<_> = rejections.iter().map(|r| (r.reason, r.series)).collect();
    assert_eq!(
        series,
        [
            (Reason::MismatchedLabel, 20_000),
            (Reason::MissingMetricName, 20_000)
        ]
    );
    assert_eq!(rejections[0].example, r#"up{cluster="staging"}"#);
}
