//! From one version to the other: what must arrive bit for bit, what must not come across, and the
//! parts of what was encoded.

use proptest::prelude::*;
use prost::Message;

use crate::config::{Absent, LabelPolicy, Mismatch};
use crate::policy::Rules;
use crate::wire::encoder::{Encoder, Form, Lost, Metadata};
use crate::wire::proto::v2;
use crate::wire::protobuf::put_bytes;
use crate::wire::tests::mirror::{Payload, PlainMessage, V1Exemplar, V1Request, V2Request};
use crate::wire::tests::{generate, parts, translation};
use crate::wire::{Counts, Protocol, transcode};

use super::fixtures::FIXTURES;
use super::invariants::{LIMITS, Memory, encode, rules};
use super::{message, v1_series};

const LENIENT: LabelPolicy = LabelPolicy {
    absent: Absent::Inject,
    mismatch: Mismatch::Rename,
};

const BOTH: [Protocol; 2] = [Protocol::V1, Protocol::V2];

/// A stale marker, and a NaN that must not become another one.
const NANS: [u64; 2] = [0x7ff0_0000_0000_0002, 0xfff8_dead_beef_0001];

/// What a message becomes in the version `to`: its main message, the one beside, and the losses.
fn encoded(from: Protocol, to: Protocol, message: &[u8]) -> (Vec<u8>, Vec<u8>, Lost) {
    let (rules, mut memory) = (rules(LENIENT, LIMITS), Memory::default());
    let encoded = encode(
        from,
        message,
        &rules,
        &mut memory,
        Form::new(to, Metadata::Forward),
    );
    let (verdict, encoded) = encoded.unwrap();
    assert_eq!(verdict.rejections, []);
    let (message, side) = (encoded.message.bytes, encoded.side.bytes);
    (message.to_vec(), side.to_vec(), encoded.lost)
}

/// The only series that a message becomes.
#[track_caller]
fn only_payload(from: Protocol, to: Protocol, message: &[u8]) -> Payload {
    let (message, side, _) = encoded(from, to, message);
    assert_eq!(side, b"");
    let output = PlainMessage::decode(to, &message).unwrap();
    let [series] = &output.series[..] else {
        panic!("{output:?}");
    };
    series.payload.clone()
}

/// A message of one series, with this field behind its labels.
fn with_field(protocol: Protocol, field: u32, bytes: &[u8]) -> Vec<u8> {
    let labels = [("__name__", "up"), ("cluster", "production")];
    match protocol {
        Protocol::V1 => {
            let mut series = v1_series(&labels);
            series.samples.clear();
            let mut series = series.encode_to_vec();
            put_bytes(&mut series, field, bytes);
            let mut message = Vec::new();
            put_bytes(&mut message, 1, &series);
            message
        }
        Protocol::V2 => {
            let mut request = V2Request::decode(message(protocol, &labels).as_slice()).unwrap();
            request.timeseries[0].samples.clear();
            let mut series = request.timeseries.remove(0).encode_to_vec();
            put_bytes(&mut series, field, bytes);
            let mut message = request.encode_to_vec();
            put_bytes(&mut message, 5, &series);
            message
        }
    }
}

#[test]
fn keeps_the_bits_of_values_in_either_version() {
    for (from, to) in BOTH.into_iter().flat_map(|from| BOTH.map(|to| (from, to))) {
        for bits in NANS.into_iter().chain([(-0.0f64).to_bits()]) {
            let sample = [&[0x09][..], &bits.to_le_bytes(), &[0x10, 5]].concat();
            let payload = only_payload(from, to, &with_field(from, 2, &sample));
            assert_eq!(payload.samples[0].value, bits, "{from:?} to {to:?}");
            let histograms = match from {
                Protocol::V1 => 4,
                Protocol::V2 => 3,
            };
            let histogram = [&[0x19][..], &bits.to_le_bytes(), &[0x78, 5]].concat();
            let message = with_field(from, histograms, &histogram);
            let input = PlainMessage::decode(from, &message).unwrap();
            let payload = only_payload(from, to, &message);
            assert_eq!(payload, input.series[0].payload, "{from:?} to {to:?}");
        }
    }
}

/// Field 3 of a sample and field 17 of a histogram are nothing in V1 and a start timestamp in V2.
#[test]
fn takes_no_start_timestamp_from_fields_foreign_to_v1() {
    let sample = b"\x09\0\0\0\0\0\0\xf0\x3f\x10\x05\x18\x07";
    let payload = only_payload(
        Protocol::V1,
        Protocol::V2,
        &with_field(Protocol::V1, 2, sample),
    );
    let [sample] = &payload.samples[..] else {
        panic!("{payload:?}");
    };
    assert_eq!((sample.timestamp, sample.start_timestamp), (5, 0));
    let histogram = b"\x78\x05\x88\x01\x07";
    let payload = only_payload(
        Protocol::V1,
        Protocol::V2,
        &with_field(Protocol::V1, 4, histogram),
    );
    let [histogram] = &payload.histograms[..] else {
        panic!("{payload:?}");
    };
    assert_eq!((histogram.timestamp, histogram.start_timestamp), (5, 0));
}

#[test]
fn v1_histograms_of_custom_buckets_go_to_v2_hubs_alone() {
    // Schema -53, timestamp, two custom values.
    let histogram = v2::Histogram {
        schema: -53,
        timestamp: 5,
        custom_values: vec![1.0, 2.0],
        ..v2::Histogram::default()
    };
    let message = with_field(Protocol::V1, 4, &histogram.encode_to_vec());
    let input = PlainMessage::decode(Protocol::V1, &message).unwrap();
    let payload = only_payload(Protocol::V1, Protocol::V2, &message);
    assert_eq!(payload, input.series[0].payload);
    let (v1, side, lost) = encoded(Protocol::V1, Protocol::V1, &message);
    assert_eq!((v1, side), (Vec::new(), Vec::new()));
    assert_eq!(lost.custom_buckets, 1);
}

#[test]
fn counts_what_a_downgrade_loses() {
    let mut request = V2Request::decode(
        message(
            Protocol::V2,
            &[("__name__", "up"), ("cluster", "production")],
        )
        .as_slice(),
    )
    .unwrap();
    let series = &mut request.timeseries[0];
    series.samples[0].start_timestamp = 7;
    series.metadata = Some(v2::Metadata::default());
    let histogram = |schema, start_timestamp| v2::Histogram {
        schema,
        start_timestamp,
        ..v2::Histogram::default()
    };
    series.histograms = vec![histogram(-53, 7), histogram(3, 7), histogram(3, 0)];
    // Only what V1 has no place for: nothing is left of these.
    let custom = v2::TimeSeries {
        labels_refs: series.labels_refs.clone(),
        histograms: vec![histogram(-53, 0)],
        ..v2::TimeSeries::default()
    };
    let described = v2::TimeSeries {
        labels_refs: series.labels_refs.clone(),
        metadata: Some(v2::Metadata::default()),
        ..v2::TimeSeries::default()
    };
    request.timeseries.extend([custom, described]);
    let (message, side, lost) = encoded(Protocol::V2, Protocol::V1, &request.encode_to_vec());
    let expected = Lost {
        custom_buckets: 2,
        metadata: 2,
        start_timestamps: 2,
    };
    assert_eq!((lost, side.as_slice()), (expected, &b""[..]));
    let request = V1Request::decode(message.as_slice()).unwrap();
    let [series] = &request.timeseries[..] else {
        panic!("{request:?}");
    };
    assert_eq!((series.samples.len(), series.histograms.len()), (1, 2));
}

/// As Prometheus sends them: every series has its metadata, also those of exemplars alone.
#[test]
fn folds_exemplars_into_the_series_with_samples() {
    let mut request = V2Request::decode(
        message(
            Protocol::V2,
            &[("__name__", "up"), ("cluster", "production")],
        )
        .as_slice(),
    )
    .unwrap();
    let metadata = |metric_type| {
        Some(v2::Metadata {
            r#type: metric_type,
            ..v2::Metadata::default()
        })
    };
    request.timeseries[0].metadata = metadata(1);
    let mut alone = request.timeseries[0].clone();
    alone.samples.clear();
    alone.metadata = metadata(2);
    let mut empty = alone.clone();
    empty.metadata = None;
    alone.exemplars = vec![v2::Exemplar::default()];
    let mut orphan = alone.clone();
    orphan.labels_refs.extend([2, 2]);
    request.timeseries.splice(0..0, [empty, orphan, alone]);
    let (message, side, lost) = encoded(Protocol::V2, Protocol::V2, &request.encode_to_vec());
    let request = V2Request::decode(message.as_slice()).unwrap();
    let [empty, whole] = &request.timeseries[..] else {
        panic!("{request:?}");
    };
    assert_eq!((empty.samples.len(), empty.exemplars.len()), (0, 0));
    assert_eq!((whole.samples.len(), whole.exemplars.len()), (1, 1));
    assert_eq!(whole.metadata, metadata(1));
    let expected = Lost {
        metadata: 1,
        ..Lost::default()
    };
    assert_eq!(lost, expected, "the orphan's");
    let side = V1Request::decode(side.as_slice()).unwrap();
    assert_eq!(side.timeseries.len(), 1);
    assert_eq!(side.timeseries[0].exemplars.len(), 1);
}

/// A request of series with these labels, their symbols in tables one behind the other.
fn neighbours(protocol: Protocol, lists: &[Vec<(&str, &str)>]) -> Vec<u8> {
    let messages = lists.iter().map(|labels| message(protocol, labels));
    if protocol == Protocol::V1 {
        return messages.collect::<Vec<_>>().concat();
    }
    let mut whole = V2Request::default();
    for message in messages {
        let mut request = V2Request::decode(message.as_slice()).unwrap();
        let before = u32::try_from(whole.symbols.len()).unwrap();
        let refs = request.timeseries.iter_mut();
        refs.flat_map(|series| &mut series.labels_refs)
            .for_each(|reference| *reference += before);
        whole.symbols.append(&mut request.symbols);
        whole.timeseries.append(&mut request.timeseries);
    }
    whole.encode_to_vec()
}

/// What is known of the series before tells 64 places apart, and the label that is added shifts
/// them.
#[test]
fn encodes_a_changed_value_at_each_place_of_a_long_list() {
    let added = (b"cluster".to_vec(), b"production".to_vec());
    for (stem, width) in ["A", "x"]
        .map(|stem| [62, 63, 64].map(|n| (stem, n)))
        .concat()
    {
        let mut names: Vec<String> = (0..width).map(|n| format!("{stem}{n:03}")).collect();
        names.push("__name__".into());
        names.sort();
        for place in 58..names.len() {
            let lists = ["one", "two", "another", "one"].map(|changed| {
                let value = |at| if at == place { changed } else { "same" };
                let names = names.iter().enumerate();
                names.map(|(at, name)| (name.as_str(), value(at))).collect()
            });
            for (from, to) in BOTH.map(|from| BOTH.map(|to| (from, to))).concat() {
                let message = neighbours(from, &lists);
                let mut expected = PlainMessage::decode(from, &message).unwrap();
                for labels in expected.series.iter_mut().flat_map(|it| &mut it.labels) {
                    labels.push(added.clone());
                    labels.sort();
                }
                let (rules, mut memory) = (rules(LENIENT, LIMITS), Memory::default());
                let drop = Metadata::Drop;
                let encoded = encode(from, &message, &rules, &mut memory, Form::new(to, drop));
                translation::check(expected, from, to, drop, &encoded.unwrap().1);
            }
        }
    }
}

#[test]
fn translates_captured_bodies_exactly() {
    let targets = BOTH.into_iter().flat_map(|to| {
        let metadata = [Metadata::Drop, Metadata::Forward];
        metadata.map(|metadata| (to, metadata))
    });
    for (to, metadata) in targets {
        for fixture in FIXTURES {
            let (from, message) = (fixture.protocol, fixture.message());
            let spoke = fixture.cluster.unwrap_or("production");
            let rules = Rules::new("cluster", spoke, LENIENT, LIMITS);
            let kept = PlainMessage::decode(from, &message).unwrap();
            let mut memory = Memory::default();
            let encoded = encode(from, &message, &rules, &mut memory, Form::new(to, metadata));
            let (verdict, encoded) = encoded.unwrap();
            assert!(!verdict.changed(), "{}", fixture.file);
            translation::check(kept, from, to, metadata, &encoded);
        }
    }
}

/// All that the policy makes of a message, cut into parts.
fn check_parts(from: Protocol, message: &[u8]) {
    let (rules, mut memory) = (rules(LENIENT, LIMITS), Memory::default());
    for to in BOTH {
        let encoded = encode(
            from,
            message,
            &rules,
            &mut memory,
            Form::new(to, Metadata::Forward),
        );
        let (_, encoded) = encoded.unwrap();
        parts::check(to, encoded.message.bytes);
        parts::check(Protocol::V1, encoded.side.bytes);
    }
}

/// A hub that takes the exemplar has the samples before it.
#[test]
fn leaves_exemplars_with_the_last_sample_of_their_series() {
    let mut series = v1_series(&[("__name__", "up"), ("cluster", "production")]);
    series.samples = vec![series.samples[0]; 3];
    series.exemplars = vec![V1Exemplar::default()];
    let request = V1Request {
        timeseries: vec![series],
        metadata: Vec::new(),
    };
    let message = request.encode_to_vec();
    let (mut scratch, mut encoder) = (transcode::Scratch::default(), Encoder::default());
    let extent = transcode::extent(&message, Protocol::V1, &mut scratch).unwrap();
    let counts = extent.halves().unwrap().map(|half| {
        let (v1, scratch) = (Protocol::V1, &mut scratch);
        let cut = transcode::transcode(
            &message,
            v1,
            Form::new(v1, Metadata::Forward),
            &[half],
            scratch,
            &mut encoder,
        );
        cut.unwrap().message.counts
    });
    assert_eq!(counts, [[1, 0, 0, 0], [2, 0, 1, 0]].map(Counts::new));
}

#[test]
fn cuts_captured_bodies_into_parts() {
    for fixture in FIXTURES.iter().filter(|fixture| fixture.series <= 300) {
        check_parts(fixture.protocol, &fixture.message());
    }
}

proptest! {
    #![proptest_config(crate::wire::tests::config())]

    #[test]
    fn cuts_v1_into_parts(message in generate::valid(Protocol::V1)) {
        check_parts(Protocol::V1, &message);
    }

    #[test]
    fn cuts_v2_into_parts(message in generate::valid(Protocol::V2)) {
        check_parts(Protocol::V2, &message);
    }
}
