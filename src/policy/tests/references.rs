//! What the references of V2 may lead to, and how repeated and merged fields are read.

use prost::Message;

use crate::reasons::Reason;
use crate::wire::Protocol;
use crate::wire::encoder::Metadata;
use crate::wire::proto::v2;
use crate::wire::protobuf::{put_bytes, put_varint};
use crate::wire::tests::mirror::{PlainMessage, V2Request};
use crate::wire::tests::translation::Translation;

use super::invariants::{LIMITS, Memory, inspect, rules};
use super::refusals::{LENIENT, check, verdict};

/// A request with one series, whose references are those of `up{cluster="production"}` and then
/// some. Symbol 5 is not UTF-8, and 6 is no symbol.
fn v2_message(change: impl FnOnce(&mut v2::TimeSeries)) -> Vec<u8> {
    let symbols = [
        &b""[..],
        b"__name__",
        b"up",
        b"cluster",
        b"production",
        b"\xff",
    ];
    let mut series = v2::TimeSeries {
        labels_refs: vec![1, 2, 3, 4],
        samples: vec![v2::Sample::default()],
        ..v2::TimeSeries::default()
    };
    change(&mut series);
    let symbols = symbols.map(<[u8]>::to_vec).to_vec();
    V2Request {
        symbols,
        timeseries: vec![series],
    }
    .encode_to_vec()
}

#[test]
fn refuses_invalid_v2_references() {
    type Change<'c> = Box<dyn FnOnce(&mut v2::TimeSeries) + 'c>;
    let own = r#"up{cluster="production"}"#;
    let unreadable = "up{cluster=\"production\",\u{fffd}=\"up\"}";
    let cases: Vec<(&str, Change<'_>, Reason, &str)> = vec![
        (
            "name out of range, others still in pairs",
            Box::new(|series| series.labels_refs = vec![6, 2, 1, 2, 3, 4]),
            Reason::SymbolReference,
            unreadable,
        ),
        (
            "largest reference",
            Box::new(|series| series.labels_refs.extend([4, u32::MAX])),
            Reason::SymbolReference,
            "up{cluster=\"production\",production=\"\u{fffd}\"}",
        ),
        (
            "odd",
            Box::new(|series| series.labels_refs.push(1)),
            Reason::SymbolReference,
            own,
        ),
        (
            "no UTF-8",
            Box::new(|series| series.labels_refs.extend([5, 2])),
            Reason::InvalidUtf8,
            unreadable,
        ),
    ];
    for (name, change, reason, example) in cases {
        let found = verdict(Protocol::V2, LENIENT, &v2_message(change));
        check(name, &found, reason, example);
    }
}

/// Decoders keep the low 32 bits of such a reference: it names one symbol for them, and none for
/// decoders that keep all bits. prost keeps the low ones, so the oracle does not know this rule.
#[test]
fn refuses_references_above_32_bits() {
    let refs = [1u64, 2, 3, 4 + (1 << 32)];
    let mut packed = Vec::new();
    refs.iter()
        .for_each(|reference| put_varint(&mut packed, *reference));
    let mut series = Vec::new();
    put_bytes(&mut series, 1, &packed);
    let mut message = V2Request::decode(v2_message(|_| {}).as_slice()).unwrap();
    message.timeseries.clear();
    let mut message = message.encode_to_vec();
    put_bytes(&mut message, 5, &series);
    let found = verdict(Protocol::V2, LENIENT, &message);
    check(
        "33 bits",
        &found,
        Reason::SymbolReference,
        "up{cluster=\"\u{fffd}\"}",
    );
}

/// `message` with one series more, whose bytes are these.
fn with_series(mut message: Vec<u8>, series: &[u8]) -> Vec<u8> {
    put_bytes(&mut message, 5, series);
    message
}

/// Encoded again, decoders must read the same from it.
#[track_caller]
fn check_rewritten(message: &[u8]) -> PlainMessage {
    let rules = rules(LENIENT, LIMITS);
    let inspection = inspect(Protocol::V2, message, &rules, &mut Memory::default()).unwrap();
    assert_eq!(inspection.verdict.rejections, []);
    let rewritten = inspection.rewritten.expect("the rules change it");
    let output = PlainMessage::decode(Protocol::V2, &rewritten).unwrap();
    let input = PlainMessage::decode(Protocol::V2, message).unwrap();
    let forward = Metadata::Forward;
    let expected = Translation::of(input, Protocol::V2, Protocol::V2, forward).message;
    assert_eq!(expected.series.len(), output.series.len());
    for (expected, output) in expected.series.iter().zip(&output.series) {
        assert_eq!(expected.payload, output.payload);
    }
    assert_eq!(inspection.verdict.times, output.times());
    output
}

#[test]
fn merges_repeated_metadata_as_decoders_do() {
    // up, without a cluster label; type 1 and help 2, then unit 3 and help 4.
    let series = b"\x0a\x02\x01\x02\x2a\x04\x08\x01\x18\x02\x2a\x04\x20\x03\x18\x04";
    let output = check_rewritten(&with_series(v2_message(|_| {}), series));
    let strings = [b"production".to_vec(), b"cluster".to_vec()];
    assert_eq!(output.series[1].payload.metadata, Some((1, Some(strings))));
}

#[test]
fn takes_the_last_of_repeated_timestamps() {
    let series = b"\x0a\x02\x01\x02\x12\x04\x10\x09\x10\x05\x1a\x04\x78\x09\x78\x06";
    let mut message = V2Request::decode(v2_message(|_| {}).as_slice()).unwrap();
    message.timeseries.clear();
    let output = check_rewritten(&with_series(message.encode_to_vec(), series));
    assert_eq!((output.times().oldest, output.times().newest), (5, 6));
}

#[test]
fn puts_the_empty_symbol_first() {
    let mut message = V2Request::decode(v2_message(|_| {}).as_slice()).unwrap();
    message.symbols[0] = b"help".to_vec();
    message.timeseries[0].metadata = Some(v2::Metadata::default());
    check_rewritten(&message.encode_to_vec());
}

#[test]
fn compares_symbols_by_text_and_not_by_index() {
    let mut message = V2Request::decode(v2_message(|_| {}).as_slice()).unwrap();
    message.symbols[5] = b"cluster".to_vec();
    message.timeseries[0].labels_refs.extend([5, 2]);
    let found = verdict(Protocol::V2, LENIENT, &message.encode_to_vec());
    let example = r#"up{cluster="production",cluster="up"}"#;
    check(
        "cluster at two indexes",
        &found,
        Reason::DuplicateLabelName,
        example,
    );
}
