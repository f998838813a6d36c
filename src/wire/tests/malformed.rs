//! Malformed messages by name, at every level of both.

use crate::wire::Protocol::{self, V1, V2};
use crate::wire::protobuf::{Malformed, WireType, put_bytes, put_key};

use super::{check_against_prost, walk};

/// The type of a field, as the schema says it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Defined {
    Delimited,
    Double,
    Doubles,
    Varint,
    Varints,
}

use Defined::{Delimited, Double, Doubles, Varint, Varints};

/// A message: the field numbers that lead to it, and its own fields.
type Message = (Protocol, &'static [u32], &'static [(u32, Defined)]);

const LABEL: &[(u32, Defined)] = &[(1, Delimited), (2, Delimited)];
const SPAN: &[(u32, Defined)] = &[(1, Varint), (2, Varint)];
const HISTOGRAM: &[(u32, Defined)] = &[
    (1, Varint),
    (2, Double),
    (3, Double),
    (4, Varint),
    (5, Double),
    (6, Varint),
    (7, Double),
    (8, Delimited),
    (9, Varints),
    (10, Doubles),
    (11, Delimited),
    (12, Varints),
    (13, Doubles),
    (14, Varint),
    (15, Varint),
    (16, Doubles),
];

const MESSAGES: &[Message] = &[
    (V1, &[], &[(1, Delimited), (3, Delimited)]),
    (
        V1,
        &[1],
        &[
            (1, Delimited),
            (2, Delimited),
            (3, Delimited),
            (4, Delimited),
        ],
    ),
    (V1, &[1, 1], LABEL),
    (V1, &[1, 2], &[(1, Double), (2, Varint)]),
    (V1, &[1, 3], &[(1, Delimited), (2, Double), (3, Varint)]),
    (V1, &[1, 3, 1], LABEL),
    (V1, &[1, 4], HISTOGRAM),
    (V1, &[1, 4, 8], SPAN),
    (V1, &[1, 4, 11], SPAN),
    (
        V1,
        &[3],
        &[(1, Varint), (2, Delimited), (4, Delimited), (5, Delimited)],
    ),
    (V2, &[], &[(4, Delimited), (5, Delimited)]),
    (
        V2,
        &[5],
        &[
            (1, Varints),
            (2, Delimited),
            (3, Delimited),
            (4, Delimited),
            (5, Delimited),
        ],
    ),
    (V2, &[5, 2], &[(1, Double), (2, Varint), (3, Varint)]),
    (V2, &[5, 3], HISTOGRAM),
    (V2, &[5, 3], &[(17, Varint)]),
    (V2, &[5, 3, 8], SPAN),
    (V2, &[5, 3, 11], SPAN),
    (V2, &[5, 4], &[(1, Varints), (2, Double), (3, Varint)]),
    (V2, &[5, 5], &[(1, Varint), (3, Varint), (4, Varint)]),
];

/// Puts `fields` where `path` leads.
fn nested(path: &[u32], fields: &[u8]) -> Vec<u8> {
    path.iter().rev().fold(fields.to_vec(), |inner, field| {
        let mut outer = Vec::new();
        put_bytes(&mut outer, *field, &inner);
        outer
    })
}

fn check(protocol: Protocol, name: &str, message: &[u8], expected: Result<(), Malformed>) {
    let walked = walk(protocol, message).map(drop);
    assert_eq!(walked, expected, "{protocol:?}, {name}: {message:02x?}");
    check_against_prost(protocol, message);
}

#[test]
fn refuses_broken_fields_at_every_level() {
    // Field 19 is unknown everywhere: its keys are 0x98 + wire type, 0x01.
    let cases: &[(&str, &[u8], Result<(), Malformed>)] = &[
        ("unknown varint", b"\x98\x01\x05", Ok(())),
        ("unknown fixed64", b"\x99\x01\0\0\0\0\0\0\0\0", Ok(())),
        ("unknown bytes", b"\x9a\x01\x02hi", Ok(())),
        ("unknown fixed32", b"\x9d\x01\0\0\0\0", Ok(())),
        ("padded key", b"\x98\x81\x80\x00\x05", Ok(())),
        ("padded varint", b"\x98\x01\x85\x80\x80\x00", Ok(())),
        (
            "10-byte varint",
            b"\x98\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            Ok(()),
        ),
        ("truncated key", b"\x98", Err(Malformed::Truncated)),
        ("key without value", b"\x98\x01", Err(Malformed::Truncated)),
        (
            "truncated varint",
            b"\x98\x01\x80",
            Err(Malformed::Truncated),
        ),
        (
            "10th byte above 1",
            b"\x98\x01\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02",
            Err(Malformed::Varint),
        ),
        (
            "11-byte varint",
            b"\x98\x01\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
            Err(Malformed::Varint),
        ),
        (
            "truncated fixed64",
            b"\x99\x01\0\0\0\0\0\0\0",
            Err(Malformed::Truncated),
        ),
        (
            "truncated fixed32",
            b"\x9d\x01\0\0\0",
            Err(Malformed::Truncated),
        ),
        (
            "length beyond the end",
            b"\x9a\x01\x03hi",
            Err(Malformed::Truncated),
        ),
        (
            "length of 64 bits",
            b"\x9a\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01hi",
            Err(Malformed::Truncated),
        ),
        ("field number 0", b"\x00\x05", Err(Malformed::Key)),
        (
            "padded field number 0",
            b"\x80\x00\x05",
            Err(Malformed::Key),
        ),
        (
            "key of 33 bits",
            b"\x8a\x80\x80\x80\x10\x00",
            Err(Malformed::Key),
        ),
        (
            "key of 64 bits",
            b"\x8a\x80\x80\x80\x80\x80\x80\x80\x80\x01\x00",
            Err(Malformed::Key),
        ),
        ("group", b"\x9b\x01\x9c\x01", Err(Malformed::Group)),
        ("end of group", b"\x9c\x01", Err(Malformed::Group)),
        ("wire type 6", b"\x9e\x01\x00", Err(Malformed::Key)),
        ("wire type 7", b"\x9f\x01\x00", Err(Malformed::Key)),
    ];
    for (protocol, path, _) in MESSAGES {
        for (name, fields, expected) in cases {
            check(*protocol, name, &nested(path, fields), *expected);
        }
    }
}

#[test]
fn refuses_another_wire_type_for_each_known_field() {
    let values: [(WireType, &[u8]); 4] = [
        (WireType::Varint, b"\0"),
        (WireType::Fixed64, b"\0\0\0\0\0\0\0\0"),
        (WireType::Len, b"\0"),
        (WireType::Fixed32, b"\0\0\0\0"),
    ];
    for (protocol, path, fields) in MESSAGES {
        for (field, defined) in *fields {
            for (wire_type, value) in values {
                let right = match wire_type {
                    WireType::Varint => matches!(defined, Varint | Varints),
                    WireType::Fixed64 => matches!(defined, Double | Doubles),
                    WireType::Len => matches!(defined, Delimited | Doubles | Varints),
                    WireType::Fixed32 => false,
                };
                let mut bytes = Vec::new();
                put_key(&mut bytes, *field, wire_type);
                bytes.extend_from_slice(value);
                let name = format!("{path:?} {field} as {wire_type:?}");
                let expected = if right {
                    Ok(())
                } else {
                    Err(Malformed::WireType)
                };
                check(*protocol, &name, &nested(path, &bytes), expected);
            }
        }
    }
}

#[test]
fn refuses_packed_fields_that_end_within_a_number() {
    for (protocol, path, fields) in MESSAGES {
        for (field, defined) in *fields {
            let (cut, whole, wrong): (&[u8], &[u8], _) = match defined {
                Doubles => (&[0; 15], &[0; 16], Malformed::Truncated),
                // Go reads on behind the packed field here; what follows would be two things.
                Varints => (b"\x01\x80", b"\x01\x80\x01", Malformed::Truncated),
                _ => continue,
            };
            let packed = |bytes: &[u8]| {
                let mut out = Vec::new();
                put_bytes(&mut out, *field, bytes);
                out.extend_from_slice(b"\x98\x01\x05");
                nested(path, &out)
            };
            check(*protocol, "whole", &packed(whole), Ok(()));
            check(*protocol, "cut", &packed(cut), Err(wrong));
        }
    }
}
