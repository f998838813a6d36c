//! Small remote-write messages, encoded and decoded with prost: those that the senders and checks
//! send, and those that the hub of the demo receives.

use anyhow::Context;
use bytes::Bytes;
use prost::Message;

use crate::wire::proto::v1::{self, Label};
use crate::wire::proto::v2;
use crate::wire::{Protocol, snappy};

/// The limit of Prometheus for a decompressed message.
const PLAIN_BYTES_MAX: usize = 32 << 20;

/// A series with its samples as (value, timestamp in milliseconds).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    /// Sorted by name.
    pub(super) labels: Vec<Label>,
    pub(super) samples: Vec<(f64, i64)>,
}

impl Series {
    /// Makes a series of one sample.
    pub(super) fn new(metric: &str, labels: &[(&str, &str)], sample: (f64, i64)) -> Self {
        let name = [("__name__", metric)];
        let label = |(name, value): &(&str, &str)| Label {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
        };
        let mut labels: Vec<Label> = name.iter().chain(labels).map(label).collect();
        labels.sort_by(|left, right| left.name.cmp(&right.name));
        Self {
            labels,
            samples: vec![sample],
        }
    }
}

/// Encodes a compressed message.
pub(super) fn encode(protocol: Protocol, series: &[Series]) -> anyhow::Result<Bytes> {
    let plain = match protocol {
        Protocol::V1 => encode_v1(series),
        Protocol::V2 => encode_v2(series),
    };
    let compressed = snap::raw::Encoder::new()
        .compress_vec(&plain)
        .context("compress")?;
    Ok(compressed.into())
}

/// Decodes a compressed message.
pub(super) fn decode(protocol: Protocol, body: &[u8]) -> anyhow::Result<Vec<Series>> {
    let mut buffer = Vec::new();
    let plain = snappy::decompress(body, PLAIN_BYTES_MAX, &mut buffer)?;
    match protocol {
        Protocol::V1 => decode_v1(plain),
        Protocol::V2 => decode_v2(plain),
    }
}

fn encode_v1(series: &[Series]) -> Vec<u8> {
    let timeseries = |series: &Series| v1::TimeSeries {
        labels: series.labels.clone(),
        samples: series
            .samples
            .iter()
            .map(|&(value, timestamp)| v1::Sample { value, timestamp })
            .collect(),
        ..v1::TimeSeries::default()
    };
    let timeseries = series.iter().map(timeseries).collect();
    v1::WriteRequest {
        timeseries,
        ..v1::WriteRequest::default()
    }
    .encode_to_vec()
}

fn encode_v2(series: &[Series]) -> Vec<u8> {
    let mut request = v2::Request {
        symbols: vec![String::new()],
        timeseries: Vec::new(),
    };
    for series in series {
        let mut refs = Vec::with_capacity(2 * series.labels.len());
        for text in series
            .labels
            .iter()
            .flat_map(|label| [&label.name, &label.value])
        {
            refs.push(symbol(&mut request.symbols, text));
        }
        let sample = |&(value, timestamp): &(f64, i64)| v2::Sample {
            value,
            timestamp,
            start_timestamp: 0,
        };
        request.timeseries.push(v2::TimeSeries {
            labels_refs: refs,
            samples: series.samples.iter().map(sample).collect(),
            ..v2::TimeSeries::default()
        });
    }
    request.encode_to_vec()
}

/// Returns the reference of a symbol. The search is linear, as these messages have few symbols.
fn symbol(symbols: &mut Vec<String>, text: &str) -> u32 {
    let place = symbols
        .iter()
        .position(|symbol| symbol == text)
        .unwrap_or_else(|| {
            symbols.push(text.to_owned());
            symbols.len() - 1
        });
    u32::try_from(place).expect("these messages have few symbols")
}

fn decode_v1(plain: &[u8]) -> anyhow::Result<Vec<Series>> {
    let request = v1::WriteRequest::decode(plain)?;
    let series = |series: v1::TimeSeries| Series {
        labels: series.labels,
        samples: series
            .samples
            .iter()
            .map(|sample| (sample.value, sample.timestamp))
            .collect(),
    };
    Ok(request.timeseries.into_iter().map(series).collect())
}

fn decode_v2(plain: &[u8]) -> anyhow::Result<Vec<Series>> {
    let request = v2::Request::decode(plain)?;
    let symbol = |reference: u32| {
        let symbol = request.symbols.get(reference as usize).cloned();
        symbol.context("a symbol reference is out of range")
    };
    let series = |series: &v2::TimeSeries| {
        let label = |pair: &[u32]| {
            let &[name, value] = pair else {
                anyhow::bail!("labels_refs is of odd length")
            };
            Ok(Label {
                name: symbol(name)?,
                value: symbol(value)?,
            })
        };
        Ok(Series {
            labels: series
                .labels_refs
                .chunks(2)
                .map(label)
                .collect::<anyhow::Result<_>>()?,
            samples: series
                .samples
                .iter()
                .map(|sample| (sample.value, sample.timestamp))
                .collect(),
        })
    };
    request.timeseries.iter().map(series).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_decode_to_the_encoded_series() {
        let series = [
            Series::new(
                "up",
                &[("job", "demo"), ("cluster", "production")],
                (1.0, 1_764_000_000_000),
            ),
            Series::new(
                "up",
                &[("job", "demo"), ("cluster", "staging")],
                (0.0, 1_764_000_000_001),
            ),
        ];
        for protocol in [Protocol::V1, Protocol::V2] {
            let body = encode(protocol, &series).unwrap();
            assert_eq!(decode(protocol, &body).unwrap(), series);
        }
    }

    #[test]
    fn empty_message_decodes_to_no_series() {
        assert_eq!(decode(Protocol::V2, &[0]).unwrap(), []);
    }
}
