//! Metadata that may not travel on. It costs no sample.

use prost::Message;

use crate::policy::Verdict;
use crate::reasons::Reason;
use crate::wire::encoder::{Form, Lost, Metadata};
use crate::wire::proto::v2;
use crate::wire::protobuf::{put_bytes, put_varint};
use crate::wire::tests::mirror::{PlainMessage, V1Metadata, V1Request, V2Request};
use crate::wire::{Counts, Kind, Protocol};

use super::invariants::{LIMITS, Memory, NOW, encode, inspect, leaving, rules};
use super::refusals::{self, LENIENT};
use super::{message, v1_series};

const OWN: [(&str, &str); 2] = [("__name__", "up"), ("cluster", "production")];

/// A symbol that is not UTF-8, and the first reference that leads nowhere.
const BAD: u32 = 5;
const BEYOND: u32 = 6;

const EXAMPLE: &str = r#"up{cluster="production"}: its metadata must be UTF-8"#;

/// A series with a sample and this metadata, changed by `change`, and one with a sample alone.
fn described(help_ref: u32, unit_ref: u32, change: impl FnOnce(&mut v2::TimeSeries)) -> V2Request {
    let mut request = V2Request::decode(message(Protocol::V2, &OWN).as_slice()).unwrap();
    assert_eq!(request.symbols.len(), 5);
    request.symbols.push(b"\xff".to_vec());
    request.timeseries.push(request.timeseries[0].clone());
    let series = &mut request.timeseries[0];
    series.metadata = Some(v2::Metadata {
        r#type: 1,
        help_ref,
        unit_ref,
    });
    change(series);
    request
}

/// What is refused: reason, series, single ones, and counts.
fn refused(verdict: &Verdict) -> Vec<(Reason, u64, u64, Counts)> {
    let rejections = verdict.rejections.iter();
    rejections
        .map(|it| (it.reason, it.series, it.single, it.counts))
        .collect()
}

fn metadata(count: u64) -> Counts {
    Counts::one(Kind::Metadata).times(count)
}

#[test]
fn faulty_metadata_costs_itself_alone() {
    for (name, help, unit, reason) in [
        ("help no UTF-8", BAD, 0, Reason::InvalidUtf8),
        ("unit no UTF-8", 1, BAD, Reason::InvalidUtf8),
        ("help out of range", BEYOND, 0, Reason::SymbolReference),
        ("unit out of range", 0, u32::MAX, Reason::SymbolReference),
        ("both, help first", BEYOND, BAD, Reason::SymbolReference),
        ("both, unit first", BAD, BEYOND, Reason::SymbolReference),
    ] {
        let message = described(help, unit, |_| {}).encode_to_vec();
        let rules = rules(LENIENT, LIMITS);
        let mut memory = Memory::default();
        let inspection = inspect(Protocol::V2, &message, &rules, &mut memory).unwrap();
        let verdict = &inspection.verdict;
        assert_eq!(refused(verdict), [(reason, 0, 1, metadata(1))], "{name}");
        let rejection = &verdict.rejections[0];
        assert_eq!((rejection.refused(), rejection.is_of_metadata()), (1, true));
        assert_eq!(verdict.kept_series, 2, "{name}");
        assert_eq!(verdict.kept(), Counts::new([2, 0, 0, 0]), "{name}");
        let left = leaving(&message, &inspection).unwrap();
        let left = PlainMessage::decode(Protocol::V2, left).unwrap();
        let payloads = left.series.iter().map(|it| &it.payload);
        for payload in payloads {
            assert_eq!(payload.samples.len(), 1, "{name}");
            assert_eq!(payload.metadata, None, "{name}");
        }
        // V1 does not lose what was refused before.
        let form = Form::new(Protocol::V1, Metadata::Forward);
        let encoded = encode(Protocol::V2, &message, &rules, &mut memory, form).unwrap();
        assert_eq!(encoded.1.lost, Lost::default(), "{name}");
    }
}

#[test]
fn the_example_names_the_series() {
    let message = described(BAD, 0, |_| {}).encode_to_vec();
    let verdict = refusals::verdict(Protocol::V2, LENIENT, &message);
    assert_eq!(verdict.rejections[0].example, EXAMPLE);
}

/// The metadata of a series is what a decoder merges, so a later string may replace a faulty one, and a
/// faulty one a good one.
#[test]
fn repeated_metadata_is_judged_as_decoders_merge_it() {
    for (first, second, rejected) in [(BAD, 2, 0), (2, BAD, 1)] {
        let mut message = described(first, 0, |_| {});
        let mut series = message.timeseries.remove(0).encode_to_vec();
        let help = v2::Metadata {
            help_ref: second,
            ..v2::Metadata::default()
        };
        put_bytes(&mut series, 5, &help.encode_to_vec());
        let mut message = message.encode_to_vec();
        put_bytes(&mut message, 5, &series);
        let rules = rules(LENIENT, LIMITS);
        let inspection = inspect(Protocol::V2, &message, &rules, &mut Memory::default()).unwrap();
        assert_eq!(inspection.verdict.rejected(), metadata(rejected));
        assert_eq!(inspection.verdict.received.of(Kind::Metadata), 1);
        let left = leaving(&message, &inspection).unwrap();
        let left = PlainMessage::decode(Protocol::V2, left).unwrap();
        let described = left
            .series
            .iter()
            .filter(|it| it.payload.metadata.is_some());
        assert_eq!(described.count() as u64, 1 - rejected);
    }
}

/// A hub has nothing to store of it.
#[test]
fn a_series_of_nothing_but_faulty_metadata_is_refused() {
    let message = described(BAD, 0, |series| series.samples.clear()).encode_to_vec();
    let verdict = refusals::verdict(Protocol::V2, LENIENT, &message);
    let expected = [(Reason::InvalidUtf8, 1, 1, metadata(1))];
    assert_eq!(refused(&verdict), expected);
    assert!(!verdict.rejections[0].is_of_metadata());
    assert_eq!(verdict.kept_series, 1);
}

/// Each is refused for its own reason, and the series for that of its sample.
#[test]
fn faulty_metadata_beside_a_refused_sample_is_counted_once() {
    let late = |series: &mut v2::TimeSeries| series.samples[0].timestamp = NOW + 3_600_000;
    let message = described(BAD, 0, late).encode_to_vec();
    let verdict = refusals::verdict(Protocol::V2, LENIENT, &message);
    let expected = [
        (Reason::TooFarInFuture, 1, 1, Counts::one(Kind::Float)),
        (Reason::InvalidUtf8, 0, 1, metadata(1)),
    ];
    assert_eq!(refused(&verdict), expected);
}

/// Exemplars alone keep no faulty metadata for the series that they join.
#[test]
fn faulty_metadata_of_exemplars_alone_is_refused_and_not_lost() {
    let message = described(BAD, 0, |series| {
        series.samples.clear();
        series.exemplars = vec![v2::Exemplar::default()];
    });
    let (rules, message) = (rules(LENIENT, LIMITS), message.encode_to_vec());
    let (mut memory, form) = (Memory::default(), Form::new(Protocol::V2, Metadata::Drop));
    let (verdict, encoded) = encode(Protocol::V2, &message, &rules, &mut memory, form).unwrap();
    assert_eq!(verdict.rejected(), metadata(1));
    assert_eq!(encoded.lost, Lost::default());
    assert_eq!(encoded.merged_metadata, 0);
    assert_eq!(encoded.message.counts, Counts::new([1, 0, 1, 0]));
}

/// Some decoders keep the low 32 bits of a reference, and others all.
#[test]
fn a_series_is_refused_whose_metadata_means_different_things() {
    let mut message = described(0, 0, |_| {});
    message.timeseries.truncate(1);
    let mut series = message.timeseries.remove(0).encode_to_vec();
    let mut metadata = vec![3 << 3];
    put_varint(&mut metadata, 2 + (1 << 32));
    put_bytes(&mut series, 5, &metadata);
    message.symbols.pop();
    let mut message = message.encode_to_vec();
    put_bytes(&mut message, 5, &series);
    let found = refusals::verdict(Protocol::V2, LENIENT, &message);
    let example = r#"up{cluster="production"}"#;
    refusals::check("33 bits", &found, Reason::SymbolReference, example);
}

#[test]
fn a_faulty_entry_of_v1_costs_itself_alone() {
    let good = V1Metadata {
        metric_family_name: b"up".to_vec(),
        ..V1Metadata::default()
    };
    let bad = b"\xff".to_vec();
    let changes: [fn(&mut V1Metadata, Vec<u8>); 3] = [
        |it, bad| it.metric_family_name.extend(bad),
        |it, bad| it.help = bad,
        |it, bad| it.unit = bad,
    ];
    for (place, change) in changes.iter().enumerate() {
        let mut entry = good.clone();
        change(&mut entry, bad.clone());
        let message = V1Request {
            timeseries: vec![v1_series(&OWN)],
            metadata: vec![entry, good.clone()],
        };
        let message = message.encode_to_vec();
        let rules = rules(LENIENT, LIMITS);
        let inspection = inspect(Protocol::V1, &message, &rules, &mut Memory::default()).unwrap();
        let verdict = &inspection.verdict;
        let expected = [(Reason::InvalidUtf8, 0, 1, metadata(1))];
        assert_eq!(refused(verdict), expected);
        assert_eq!((verdict.kept_metadata, verdict.metadata), (1, 2));
        let family = ["up\u{fffd}", "up", "up"][place];
        let example = format!("{family}{{}}: its metadata must be UTF-8");
        assert_eq!(verdict.rejections[0].example, example);
        let left = leaving(&message, &inspection).unwrap();
        let left = PlainMessage::decode(Protocol::V1, left).unwrap();
        assert_eq!(left.metadata, [good.encode_to_vec()]);
        assert_eq!(left.series.len(), 1);
    }
}
