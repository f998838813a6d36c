//! What must hold of every inspection of any bytes, with prost as the witness.
//!
//! The property tests and the fuzz targets share this file, so that both look for the same.

use prost::Message;

use super::mirror::{PlainMessage, PlainSeries, V2Request};
use crate::config::{Absent, LabelPolicy, Mismatch, SpokeLimits};
use crate::policy::{self, Room, Rules, Scratch, Verdict, rewrite};
use crate::wire::protobuf::{Reader, WireType};
use crate::wire::{Kind, Malformed, Protocol, proto};

/// What a request of one spoke becomes.
#[derive(Debug)]
pub(crate) struct Inspection {
    pub(crate) verdict: Verdict,
    /// The message written anew, when something may travel on but not the original bytes.
    pub(crate) rewritten: Option<Vec<u8>>,
}

/// Inspects and, where the verdict asks for it, writes anew within the room foretold.
pub(crate) fn inspect(
    protocol: Protocol,
    message: &[u8],
    rules: &Rules,
    scratch: &mut Scratch,
) -> Result<Inspection, Malformed> {
    let verdict = policy::inspect(protocol, message, rules, scratch)?;
    let rewritten = if verdict.changed() && verdict.keeps() {
        let room = Room::new(protocol, message.len(), &verdict, rules);
        let rewritten = rewrite(protocol, message, rules, scratch, room)?;
        assert!(
            rewritten.len() <= room.message,
            "{} bytes in {room:?}",
            rewritten.len()
        );
        Some(rewritten)
    } else {
        None
    };
    Ok(Inspection { verdict, rewritten })
}

/// The spoke that all requests are said to come from.
pub(crate) const SPOKE: &str = "production";

/// Limits that only tests of limits reach.
pub(crate) const LIMITS: SpokeLimits = SpokeLimits {
    series_per_request_max: 10_000,
    labels_per_series_max: 100,
    label_value_bytes_max: 100_000,
};

/// Every label policy there is.
pub(crate) fn policies() -> impl Iterator<Item = LabelPolicy> {
    [Absent::Inject, Absent::Reject]
        .into_iter()
        .flat_map(|absent| {
            [Mismatch::Overwrite, Mismatch::Reject, Mismatch::Rename]
                .map(|mismatch| LabelPolicy { absent, mismatch })
        })
}

/// The rules of [`SPOKE`].
pub(crate) fn rules(policy: LabelPolicy, limits: SpokeLimits) -> Rules {
    Rules::new("cluster", SPOKE, policy, limits)
}

/// What of a message travels on after its inspection.
pub(crate) fn leaving<'m>(message: &'m [u8], inspection: &'m Inspection) -> Option<&'m [u8]> {
    let verdict = &inspection.verdict;
    let must_rewrite = verdict.changed() && verdict.keeps();
    assert_eq!(inspection.rewritten.is_some(), must_rewrite, "{verdict:?}");
    match &inspection.rewritten {
        Some(rewritten) => Some(rewritten),
        None if verdict.changed() => None,
        None => Some(message),
    }
}

/// Panics unless all that must hold of any message holds of `message` under every policy.
pub(crate) fn check(protocol: Protocol, message: &[u8]) {
    let mut scratch = Scratch::default();
    for policy in policies() {
        let inspected = inspect(protocol, message, &rules(policy, LIMITS), &mut scratch);
        match (inspected, PlainMessage::decode(protocol, message)) {
            // The one rule of structure that is stricter than prost's.
            (Err(Malformed::Group), _) | (Err(_), Err(_)) => {}
            (Ok(inspection), Ok(input)) => {
                check_accounts(&inspection.verdict, &input);
                let Some(leaving) = leaving(message, &inspection) else {
                    assert_eq!(inspection.verdict.kept().total(), 0);
                    continue;
                };
                check_leaving(protocol, leaving, &inspection, &input);
                check_inspected_again(protocol, leaving, policy, &inspection, &mut scratch);
            }
            (ours, prost) => panic!("ours: {ours:?}, prost: {prost:?}"),
        }
    }
}

/// received = kept + rejected, and received is what prost counts.
fn check_accounts(verdict: &Verdict, input: &PlainMessage) {
    assert_eq!(verdict.received, input.counts());
    assert_eq!(verdict.series, input.series.len() as u64);
    for kind in Kind::ALL {
        let sum = verdict.kept().of(kind) + verdict.rejected().of(kind);
        assert_eq!(verdict.received.of(kind), sum, "{kind:?}: {verdict:?}");
    }
    let rejected_entries: u64 = verdict
        .rejections
        .iter()
        .map(|rejection| rejection.series)
        .sum();
    let entries = input.series.len() + input.metadata.len();
    assert_eq!(
        (verdict.kept_series + verdict.kept_metadata) + rejected_entries,
        entries as u64,
        "{verdict:?}"
    );
    for rejection in &verdict.rejections {
        assert!(rejection.example.len() <= 180, "{rejection:?}");
    }
    assert!(!verdict.rejections.is_empty() || verdict.rejected().is_empty());
}

/// What leaves is what was kept, under labels that the spoke may write, and nothing more.
fn check_leaving(
    protocol: Protocol,
    leaving: &[u8],
    inspection: &Inspection,
    input: &PlainMessage,
) {
    decode_strictly(protocol, leaving);
    let output = PlainMessage::decode(protocol, leaving).expect("what leaves is well-formed");
    output.series.iter().for_each(check_labels);
    let verdict = &inspection.verdict;
    assert_eq!(output.counts(), verdict.kept(), "{verdict:?}");
    assert_eq!(output.times(), verdict.times, "{verdict:?}");
    assert_eq!(
        (output.series.len() + output.metadata.len()) as u64,
        (verdict.kept_series + verdict.kept_metadata)
    );
    let mut candidates = input.series.iter();
    for series in &output.series {
        let same = |candidate: &PlainSeries| candidate.payload == series.payload;
        assert!(candidates.any(same), "not as it came: {series:?}");
    }
    let mut candidates = input.metadata.iter();
    assert!(
        output
            .metadata
            .iter()
            .all(|entry| candidates.any(|candidate| candidate == entry))
    );
    if protocol == Protocol::V2 && (inspection.rewritten.is_some() || !output.series.is_empty()) {
        check_symbols(leaving, inspection.rewritten.is_some());
    }
    check_hides_nothing(protocol, leaving);
    check_defined_fields(protocol, leaving);
}

/// A hub that is strict about UTF-8 must be able to read it as well.
fn decode_strictly(protocol: Protocol, leaving: &[u8]) {
    let decoded = match protocol {
        Protocol::V1 => proto::v1::WriteRequest::decode(leaving).map(drop),
        Protocol::V2 => proto::v2::Request::decode(leaving).map(drop),
    };
    decoded.expect("what leaves is what the schema says");
}

fn check_labels(series: &PlainSeries) {
    let labels = series.labels.as_ref().expect("references hold");
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

/// The first symbol is empty; a table of ours holds each string once.
fn check_symbols(leaving: &[u8], rewritten: bool) {
    let symbols = V2Request::decode(leaving)
        .expect("it was decoded before")
        .symbols;
    assert_eq!(symbols.first().map(Vec::as_slice), Some(&b""[..]));
    if rewritten {
        let distinct: std::collections::HashSet<_> = symbols.iter().collect();
        assert_eq!(distinct.len(), symbols.len(), "{symbols:?}");
    }
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
fn check_defined_fields(protocol: Protocol, leaving: &[u8]) {
    let (fields, series_field, series_fields) = match protocol {
        Protocol::V1 => (&[1, 3][..], 1, 1..=4),
        Protocol::V2 => (&[4, 5][..], 5, 1..=5),
    };
    for (field, message) in fields_of(leaving) {
        assert!(fields.contains(&field), "field {field} of the message");
        if field != series_field {
            continue;
        }
        for (field, label) in fields_of(message) {
            assert!(series_fields.contains(&field), "field {field} of a series");
            if protocol == Protocol::V1 && field == 1 {
                let mut fields: Vec<u32> = fields_of(label).map(|(field, _)| field).collect();
                fields.sort_unstable();
                assert_eq!(fields, [1, 2], "a label");
            }
        }
    }
}

/// The fields of a message, with the bytes of those that are length-delimited.
fn fields_of(bytes: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    let mut reader = Reader::new(bytes);
    std::iter::from_fn(move || {
        let (field, wire_type) = reader.key().expect("it was walked before")?;
        let bytes = match wire_type {
            WireType::Len => reader.bytes().expect("it was walked before"),
            _ => {
                reader.skip(wire_type).expect("it was walked before");
                &[]
            }
        };
        Some((field, bytes))
    })
}

/// Inspected again, what leaves is left alone. The label that the gate adds does not count against
/// the spoke's limit, so that one has to be one higher here.
fn check_inspected_again(
    protocol: Protocol,
    leaving: &[u8],
    policy: LabelPolicy,
    first: &Inspection,
    scratch: &mut Scratch,
) {
    let limits = SpokeLimits {
        labels_per_series_max: LIMITS.labels_per_series_max + 1,
        ..LIMITS
    };
    let second = inspect(protocol, leaving, &rules(policy, limits), scratch)
        .expect("what leaves is well-formed");
    assert!(
        !second.verdict.changed(),
        "{:?} after {:?}",
        second.verdict,
        first.verdict
    );
    assert_eq!(second.verdict.received, first.verdict.kept());
    assert_eq!(second.verdict.mismatched_series, 0);
}
