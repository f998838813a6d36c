//! What must hold of the bytes that travel on.
//!
//! The property tests and the fuzz targets share this file.

use prost::Message;

use super::invariants::SPOKE;
use super::mirror::{PlainLabels, PlainMessage};
use super::translation::fields;
use crate::wire::{Protocol, proto};

/// Series under labels that the spoke may write, and nothing that another decoder would see
/// beside.
pub(super) fn check_leaving(protocol: Protocol, leaving: &[u8]) {
    decode_strictly(protocol, leaving);
    let output = PlainMessage::decode(protocol, leaving).expect("what leaves is well-formed");
    let labels = output.series.iter().map(|series| &series.labels);
    labels.for_each(|labels| check_labels(labels.as_ref().expect("references hold")));
    check_hides_nothing(protocol, leaving);
}

/// A hub that is strict about UTF-8 must be able to read it as well.
fn decode_strictly(protocol: Protocol, leaving: &[u8]) {
    let decoded = match protocol {
        Protocol::V1 => proto::v1::WriteRequest::decode(leaving).map(drop),
        Protocol::V2 => proto::v2::Request::decode(leaving).map(drop),
    };
    decoded.expect("what leaves is what the schema says");
}

fn check_labels(labels: &PlainLabels) {
    assert!(labels.is_sorted_by(|a, b| a.0 < b.0), "{labels:?}");
    assert!(
        labels
            .iter()
            .all(|(name, value)| !name.is_empty() && !value.is_empty())
    );
    assert!(labels.iter().any(|(name, _)| name == b"__name__"));
    let cluster = labels.iter().find(|(name, _)| name == b"cluster");
    assert_eq!(
        cluster.map(|(_, value)| value.as_slice()),
        Some(SPOKE.as_bytes())
    );
}

/// Read as the other version, what leaves is empty.
fn check_hides_nothing(protocol: Protocol, leaving: &[u8]) {
    let other = match protocol {
        Protocol::V1 => PlainMessage::decode(Protocol::V2, leaving),
        Protocol::V2 => PlainMessage::decode(Protocol::V1, leaving),
    };
    let other = other.expect("fields of the other version are unknown ones");
    assert!(
        other.series.is_empty() && other.metadata.is_empty(),
        "{other:?}"
    );
}

/// The message, its series and the labels of these hold no field that the schema does not define.
pub(super) fn check_defined_fields(protocol: Protocol, leaving: &[u8]) {
    let (defined, series_field, series_fields) = match protocol {
        Protocol::V1 => (&[1, 3][..], 1, 1..=4),
        Protocol::V2 => (&[4, 5][..], 5, 1..=5),
    };
    for (field, message) in fields(leaving) {
        assert!(defined.contains(&field), "field {field} of the message");
        if field != series_field {
            continue;
        }
        for (field, label) in fields(message) {
            assert!(series_fields.contains(&field), "field {field} of a series");
            if protocol == Protocol::V1 && field == 1 {
                let mut numbers: Vec<u32> = fields(label).map(|(field, _)| field).collect();
                numbers.sort_unstable();
                assert_eq!(numbers, [1, 2], "a label");
            }
        }
    }
}
