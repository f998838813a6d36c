//! The walks against prost, over random messages and over a table of malformed ones.

pub(super) mod blocks;
pub(crate) mod crowds;
pub(crate) mod draw;
pub(crate) mod faults;
pub(crate) mod generate;
pub(crate) mod layouts;
mod malformed;
pub(crate) mod mirror;
pub(crate) mod parts;
pub(crate) mod shapes;
pub(crate) mod translation;
pub(crate) mod tree;

use proptest::prelude::*;
use prost::Message;

use self::mirror::PlainMessage;
use super::encoder::{Encoder, Form, Metadata, NewLabels, Piece, Source};
use super::protobuf::Reader;
use super::{Counts, Kind, Label, Labels, Malformed, Protocol, Times, proto, v1, v2};

/// 256 cases unless `PROPTEST_CASES` says otherwise. Failures become named tests, not seed files.
pub(crate) fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Walks a whole message and counts what it carries.
fn walk(protocol: Protocol, bytes: &[u8]) -> Result<(Counts, Times), Malformed> {
    let (mut counts, mut times) = (Counts::default(), Times::default());
    let mut labels = Labels::new(Labels::default(), 1000);
    let mut symbols = v2::Symbols::new(v2::Symbols::default(), 1000);
    let mut count = |series: super::Series<'_>| {
        counts.add_all(&series.counts);
        times.add_all(&series.times);
    };
    let mut metadata_entries = 0;
    let mut reader = Reader::new(bytes);
    match protocol {
        Protocol::V1 => {
            while let Some(field) = v1::next_field(&mut reader)? {
                match field {
                    v1::Field::Series(raw) => count(v1::series(raw, &mut labels)?),
                    v1::Field::Metadata(raw) => {
                        v1::metadata(raw)?;
                        metadata_entries += 1;
                    }
                    v1::Field::Foreign => {}
                }
            }
        }
        Protocol::V2 => {
            symbols.collect(bytes, None)?;
            while let Some(field) = v2::next_field(&mut reader)? {
                if let v2::Field::Series(raw) = field {
                    count(v2::series(raw, &symbols, &mut labels)?);
                }
            }
        }
    }
    counts.add(Kind::Metadata, metadata_entries);
    Ok((counts, times))
}

/// Our walk and prost accept or refuse alike and count the same; groups alone we refuse always.
fn check_against_prost(protocol: Protocol, bytes: &[u8]) {
    match (walk(protocol, bytes), PlainMessage::decode(protocol, bytes)) {
        (Err(Malformed::Group), _) | (Err(_), Err(_)) => {}
        (Ok((counts, times)), Ok(oracle)) => {
            assert_eq!((counts, times), (oracle.counts(), oracle.times()));
        }
        (ours, prost) => panic!("ours: {ours:?}, prost: {prost:?}, bytes: {bytes:02x?}"),
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn walks_valid_v1_as_prost_does(bytes in generate::valid(Protocol::V1)) {
        prop_assert!(walk(Protocol::V1, &bytes).is_ok());
        check_against_prost(Protocol::V1, &bytes);
    }

    #[test]
    fn walks_valid_v2_as_prost_does(bytes in generate::valid(Protocol::V2)) {
        prop_assert!(walk(Protocol::V2, &bytes).is_ok());
        check_against_prost(Protocol::V2, &bytes);
    }

    #[test]
    fn walks_mutated_v1_as_prost_does(bytes in generate::mutated(Protocol::V1)) {
        check_against_prost(Protocol::V1, &bytes);
    }

    #[test]
    fn walks_mutated_v2_as_prost_does(bytes in generate::mutated(Protocol::V2)) {
        check_against_prost(Protocol::V2, &bytes);
    }

    #[test]
    fn agrees_on_the_size_of_blocks(
        plain in prop::collection::vec(0u8..3, 0..3000),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut body = super::snappy::compress(&mut super::snappy::Encoder::default(), &plain, &mut Vec::new()).to_vec();
        blocks::check(&body);
        for (index, byte) in damage {
            let at = index.index(body.len());
            body[at] = byte;
            blocks::check(&body);
        }
    }

    #[test]
    fn walks_any_bytes_as_prost_does(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        check_against_prost(Protocol::V1, &bytes);
        check_against_prost(Protocol::V2, &bytes);
    }
}

#[test]
fn reuses_the_memory_of_labels() {
    let name = String::from("job");
    let mut labels = Labels::new(Labels::default(), 100);
    (0..100).for_each(|_| labels.push(name.as_bytes(), b"node"));
    let place = labels.list().as_ptr().addr();
    let spare: Labels<'static> = Labels::new(labels, 0);
    drop(name);
    let labels = Labels::new(spare, 100);
    assert_eq!(
        (labels.list().as_ptr().addr(), labels.list().len()),
        (place, 0)
    );
    assert!(labels.bytes() >= 100 * size_of::<Label<'_>>());
}

/// `0x85 0x00` is 5 to every decoder.
#[test]
fn padded_lengths_are_read_as_others_are() {
    for length in [1, 5, 100, 127, 128, 200, 16_383, 16_384] {
        let value = "v".repeat(length);
        for [label_padding, name_padding, value_padding] in
            [[1, 0, 0], [0, 1, 0], [0, 0, 2], [3, 2, 1]]
        {
            let field = |field, padding, bytes| tree::Node {
                field,
                value: bytes,
                padding: [0, padding],
            };
            let fields = vec![
                field(1, name_padding, tree::Value::Bytes(b"job".to_vec())),
                field(
                    2,
                    value_padding,
                    tree::Value::Bytes(value.clone().into_bytes()),
                ),
            ];
            let raw = tree::write(&[field(1, label_padding, tree::Value::Message(fields))]);
            let mut labels = Labels::new(Labels::default(), 10);
            for _ in 0..2 {
                let series = v1::series(&raw, &mut labels).unwrap();
                assert!(!series.foreign && series.fault.is_none());
                assert_eq!(labels.list(), [label("job", &value)]);
            }
        }
    }
}

#[test]
fn agrees_on_the_size_of_hostile_blocks() {
    let cases: &[&[u8]] = &[
        b"\xff\x06\x00\x00sNaPpY and more than the magic",
        b"\xff\x06\x00\x00sNaPp",
        b"\xff\x06\x00",
        b"\xff\xff\xff\xff\x0f\xff\xff\xff\xff\xff",
        b"\xff\xff\xff\xff\x10",
        b"\x80\x80\x80\x80\x80\x00",
        b"\x80\x80\x80\x80\x00",
    ];
    cases.iter().for_each(|body| blocks::check(body));
}

fn label<'a>(name: &'a str, value: &'a str) -> Label<'a> {
    let (name, value) = (name.as_bytes(), value.as_bytes());
    Label { name, value }
}

/// An edit may make strings that stand in no message, as relabelling does.
#[test]
fn series_are_encoded_with_labels_from_memory_of_their_own() {
    let sample = proto::v1::Sample {
        value: 1.0,
        timestamp: 7,
    };
    let series = proto::v1::TimeSeries {
        samples: vec![sample],
        ..Default::default()
    };
    let raw = series.encode_to_vec();
    let arena = ["up", "made", "short", "made_too"].map(str::to_owned);
    // Long enough to be recognized by their addresses.
    let long = ["x".repeat(1000), "y".repeat(1000)];
    for protocol in [Protocol::V1, Protocol::V2] {
        let mut encoder = Encoder::default();
        encoder.start(Form::new(protocol, Metadata::Drop), raw.len());
        let mut walked = Labels::new(Labels::default(), 10);
        let series = v1::series(&raw, &mut walked).unwrap();
        for value in &long {
            let labels = [
                label("__name__", &arena[0]),
                label(&arena[1], &arena[2]),
                label(&arena[3], value),
            ];
            encoder
                .put_series(
                    &series,
                    NewLabels::List(&labels),
                    Source::V1(None),
                    Piece::WHOLE,
                )
                .unwrap();
        }
        let encoded = encoder.finish().unwrap();
        let message = PlainMessage::decode(protocol, encoded.message.bytes).unwrap();
        assert_eq!(message.series.len(), 2);
        for (series, value) in message.series.iter().zip(&long) {
            let expected = [
                ("__name__", "up"),
                ("made", "short"),
                ("made_too", value.as_str()),
            ]
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
            assert_eq!(series.labels, Some(expected.to_vec()), "{protocol:?}");
            assert_eq!(series.counts, Counts::one(Kind::Float), "{protocol:?}");
        }
    }
}
