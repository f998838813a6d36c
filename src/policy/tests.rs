//! The policy against a model and against prost, and each of its decisions by name.

mod census;
mod decisions;
mod exemplars;
mod expansion;
mod fixtures;
mod histograms;
mod hostile;
pub(crate) mod invariants;
pub(crate) mod judged;
mod leavings;
mod limits;
mod metadata;
mod model;
mod properties;
mod references;
mod refusals;
mod samples;
mod together;
mod translations;

use prost::Message;

use crate::wire::Protocol;
use crate::wire::proto::{v1, v2};
use crate::wire::tests::mirror::{self, V1Label, V1Request, V1Series, V2Request};
use crate::wire::tests::{crowds, draw, faults, layouts, translation};

/// A V1 series with these labels and one sample.
fn v1_series(labels: &[(&str, &str)]) -> V1Series {
    let label = |(name, value): &(&str, &str)| V1Label {
        name: (*name).into(),
        value: (*value).into(),
    };
    V1Series {
        labels: labels.iter().map(label).collect(),
        samples: vec![v1::Sample {
            value: 1.0,
            timestamp: 1_700_000_000_000,
        }],
        ..V1Series::default()
    }
}

/// A request with one series of these labels and one sample.
fn message(protocol: Protocol, labels: &[(&str, &str)]) -> Vec<u8> {
    let v1 = V1Request {
        timeseries: vec![v1_series(labels)],
        metadata: Vec::new(),
    };
    match protocol {
        Protocol::V1 => v1.encode_to_vec(),
        Protocol::V2 => {
            let texts = labels.iter().flat_map(|(name, value)| [*name, *value]);
            let symbols = std::iter::once("")
                .chain(texts)
                .map(|text| text.as_bytes().to_vec());
            let refs = 1..=u32::try_from(2 * labels.len()).unwrap();
            let samples = vec![v2::Sample {
                value: 1.0,
                timestamp: 1_700_000_000_000,
                start_timestamp: 0,
            }];
            let series = v2::TimeSeries {
                labels_refs: refs.collect(),
                samples,
                ..v2::TimeSeries::default()
            };
            V2Request {
                symbols: symbols.collect(),
                timeseries: vec![series],
            }
            .encode_to_vec()
        }
    }
}
