//! Exemplars whose labels may not travel on.

use prost::Message;

use crate::reasons::Reason;
use crate::wire::Protocol;
use crate::wire::proto::v2;
use crate::wire::protobuf::{put_bytes, put_varint};
use crate::wire::tests::mirror::{PlainMessage, V2Request};

use super::invariants::{LIMITS, Memory, NOW, inspect, leaving, rules};
use super::message;
use super::refusals::{self, LENIENT};
use super::samples::refused;

const OWN: [(&str, &str); 2] = [("__name__", "up"), ("cluster", "production")];

/// The timestamp of a sample or an exemplar, as field 2 or 3.
fn put_time(out: &mut Vec<u8>, field: u64) {
    put_varint(out, field << 3);
    put_varint(out, NOW.cast_unsigned());
}

/// An exemplar of V1 with one label.
fn v1_exemplar(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut label = Vec::new();
    put_bytes(&mut label, 1, name);
    put_bytes(&mut label, 2, value);
    let mut exemplar = Vec::new();
    put_bytes(&mut exemplar, 1, &label);
    put_time(&mut exemplar, 3);
    exemplar
}

/// An exemplar of V2 with these references.
fn v2_exemplar(refs: &[u64]) -> Vec<u8> {
    let mut packed = Vec::new();
    refs.iter()
        .for_each(|reference| put_varint(&mut packed, *reference));
    let mut exemplar = Vec::new();
    put_bytes(&mut exemplar, 1, &packed);
    put_time(&mut exemplar, 3);
    exemplar
}

/// A message with one series that carries a sample, an exemplar that nothing is wrong with, and another.
fn with_exemplar(protocol: Protocol, symbol: &[u8], exemplar: &[u8]) -> Vec<u8> {
    let mut sample = Vec::new();
    put_time(&mut sample, 2);
    let (series_field, exemplar_field) = match protocol {
        Protocol::V1 => (1, 3),
        Protocol::V2 => (5, 4),
    };
    let good = match protocol {
        Protocol::V1 => v1_exemplar(b"trace_id", &[b'1'; 4_088]),
        Protocol::V2 => v2_exemplar(&[1, 2]),
    };
    let mut series = match protocol {
        Protocol::V1 => {
            let mut series = super::v1_series(&OWN);
            series.samples.clear();
            series.encode_to_vec()
        }
        Protocol::V2 => b"\x0a\x04\x01\x02\x03\x04".to_vec(),
    };
    put_bytes(&mut series, 2, &sample);
    put_bytes(&mut series, exemplar_field, &good);
    put_bytes(&mut series, exemplar_field, exemplar);
    let mut message = Vec::new();
    if protocol == Protocol::V2 {
        let symbols = [
            &b""[..],
            b"__name__",
            b"up",
            b"cluster",
            b"production",
            symbol,
        ];
        symbols
            .iter()
            .for_each(|symbol| put_bytes(&mut message, 4, symbol));
    }
    put_bytes(&mut message, series_field, &series);
    message
}

/// The exemplar is refused, and everything else of the series travels on.
fn check(name: &str, protocol: Protocol, message: &[u8], reason: Reason) {
    let rules = rules(LENIENT, LIMITS);
    let inspection = inspect(protocol, message, &rules, &mut Memory::default()).unwrap();
    let verdict = &inspection.verdict;
    assert_eq!(refused(verdict), [(reason, 0, [0, 0, 1])], "{name}");
    assert_eq!(verdict.kept_series, 1, "{name}");
    assert_eq!(verdict.rejections[0].refused(), 1, "{name}");
    let left = leaving(message, &inspection).unwrap();
    assert!(left.len() < 5_000, "{name}: {}", left.len());
    let left = PlainMessage::decode(protocol, left).unwrap();
    let payload = &left.series[0].payload;
    assert_eq!(
        (payload.samples.len(), payload.exemplars.len()),
        (1, 1),
        "{name}"
    );
}

#[test]
fn a_faulty_exemplar_costs_itself_alone() {
    let v1: [(&str, &[u8], &[u8], Reason); 4] = [
        ("name no UTF-8", b"\xc3", b"1", Reason::InvalidUtf8),
        ("value no UTF-8", b"trace_id", b"\xff", Reason::InvalidUtf8),
        (
            "one byte too long",
            b"trace_id",
            &[b'1'; 4_089],
            Reason::LabelLength,
        ),
        (
            "far too long",
            b"trace_id",
            &[b'1'; 17 << 20],
            Reason::LabelLength,
        ),
    ];
    for (name, label, value, reason) in v1 {
        let message = with_exemplar(Protocol::V1, b"", &v1_exemplar(label, value));
        check(name, Protocol::V1, &message, reason);
    }
    let v2: [(&str, &[u8], Vec<u64>, Reason); 5] = [
        ("out of range", b"", vec![1, 6], Reason::SymbolReference),
        ("odd", b"", vec![1, 2, 3], Reason::SymbolReference),
        ("no UTF-8", b"\xff", vec![1, 5], Reason::InvalidUtf8),
        (
            "one byte too long",
            &[b'1'; 4_089],
            vec![1, 5],
            Reason::LabelLength,
        ),
        // A hub that writes them out would need a terabyte.
        (
            "far too long",
            &[b'1'; 1 << 20],
            vec![5; 1_000_000],
            Reason::LabelLength,
        ),
    ];
    for (name, symbol, refs, reason) in v2 {
        let message = with_exemplar(Protocol::V2, symbol, &v2_exemplar(&refs));
        check(name, Protocol::V2, &message, reason);
    }
}

/// Some decoders keep the low 32 bits of a reference, and others all.
#[test]
fn a_series_is_refused_whose_exemplar_means_different_things() {
    let exemplar = v2_exemplar(&[1, 2 + (1 << 32)]);
    let message = with_exemplar(Protocol::V2, b"", &exemplar);
    let found = refusals::verdict(Protocol::V2, LENIENT, &message);
    let example = r#"up{cluster="production"}"#;
    refusals::check("33 bits", &found, Reason::SymbolReference, example);
}

#[test]
fn a_series_of_nothing_but_a_faulty_exemplar_is_refused() {
    let mut request = V2Request::decode(message(Protocol::V2, &OWN).as_slice()).unwrap();
    request.timeseries[0].samples.clear();
    request.timeseries[0].exemplars = vec![v2::Exemplar {
        labels_refs: vec![1],
        ..v2::Exemplar::default()
    }];
    let rules = rules(LENIENT, LIMITS);
    let message = request.encode_to_vec();
    let inspection = inspect(Protocol::V2, &message, &rules, &mut Memory::default()).unwrap();
    let verdict = &inspection.verdict;
    assert_eq!(refused(verdict), [(Reason::SymbolReference, 1, [0, 0, 1])]);
    assert_eq!(verdict.kept_series, 0);
}
