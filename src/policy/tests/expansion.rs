//! Labels that are long only where a hub writes them out: a reference of a byte or two stands for each.

use prost::Message;

use crate::config::SpokeLimits;
use crate::reasons::Reason;
use crate::wire::proto::v2;
use crate::wire::tests::mirror::{PlainMessage, V2Request};
use crate::wire::{Protocol, text_bytes_max};

use super::invariants::{LIMITS, Memory, inspect, leaving, rules};
use super::refusals::LENIENT;

/// A message of series that share a long value. Each has a name that is not in order if `sorted` is false,
/// so that no template fits it.
fn sharing(long: usize, labels: u32, series: u32, sorted: bool) -> Vec<u8> {
    let mut symbols = ["", "__name__", "up", "cluster", "production"]
        .map(|text| text.as_bytes().to_vec())
        .to_vec();
    symbols.push(vec![b'v'; long]);
    symbols.extend((0..labels).map(|n| format!("n{n:03}").into_bytes()));
    symbols.push(b"number".to_vec());
    let number = 6 + labels;
    symbols.extend((0..series).map(|n| n.to_string().into_bytes()));
    let one = |n: u32| {
        let mut pairs = vec![[1, 2], [3, 4]];
        pairs.extend((0..labels).map(|label| [6 + label, 5]));
        pairs.push([number, number + 1 + n]);
        if !sorted {
            pairs.rotate_left(1);
        }
        v2::TimeSeries {
            labels_refs: pairs.concat(),
            samples: vec![v2::Sample::default()],
            ..v2::TimeSeries::default()
        }
    };
    V2Request {
        symbols,
        timeseries: (0..series).map(one).collect(),
    }
    .encode_to_vec()
}

/// The bytes of all names and values of a message.
fn text(message: &PlainMessage) -> usize {
    let labels = message
        .series
        .iter()
        .flat_map(|it| it.labels.iter().flatten());
    labels.map(|(name, value)| name.len() + value.len()).sum()
}

#[test]
fn bounds_the_labels_that_a_hub_writes_out() {
    let wide = SpokeLimits {
        label_value_bytes_max: 65_536,
        ..LIMITS
    };
    let rules = rules(LENIENT, wide);
    for sorted in [true, false] {
        // Two gigabytes.
        let message = sharing(65_536, 60, 500, sorted);
        let memory = &mut Memory::default();
        let inspection = inspect(Protocol::V2, &message, &rules, memory).unwrap();
        let [rejection] = &inspection.verdict.rejections[..] else {
            panic!("{:?}", inspection.verdict);
        };
        assert_eq!(rejection.reason, Reason::LabelLength, "sorted: {sorted}");
        let left = leaving(&message, &inspection).unwrap();
        let left = PlainMessage::decode(Protocol::V2, left).unwrap();
        assert!(!left.series.is_empty());
        let (text, max) = (text(&left) as u64, text_bytes_max(message.len()));
        assert!(text <= 2 * max, "sorted: {sorted}: {text} of {max}");
    }
}

#[test]
fn lets_labels_of_a_kilobyte_pass() {
    let message = sharing(1_024, 10, 9_000, true);
    let rules = rules(LENIENT, LIMITS);
    let inspection = inspect(Protocol::V2, &message, &rules, &mut Memory::default()).unwrap();
    assert_eq!(inspection.verdict.kept_series, 9_000);
    assert_eq!(leaving(&message, &inspection), Some(&message[..]));
}
