//! Messages of V1, with one sample in a series, as a Prometheus sends what it reads from its write-ahead
//! log. The series and the time of each sample can be read back.

use anyhow::{Context, bail};
use bytes::Bytes;
use hubgate::load::shape::{Mix, Shape};
use hubgate::wire::Protocol;
use hubgate::wire::protobuf::{Reader, WireType, put_bytes, put_key, put_varint};

use crate::plan::Sample;
use crate::spokes::Spoke;

/// Labels of a series, the number among them.
const LABELS: usize = 14;

/// The label with the number of a series.
const NUMBER: &str = "series";

/// How the label of the number and that of the spoke begin: their names, and the key of their values.
const NUMBER_BEGINS: &[u8] = b"\n\x06series\x12";
const CLUSTER_BEGINS: &[u8] = b"\n\x07cluster\x12";

/// The name of a spoke without its number.
const SPOKE: &str = "spoke-";

/// The fields of a message, a series, and a sample.
const TIMESERIES: u32 = 1;
const LABEL: u32 = 1;
const SAMPLE: u32 = 2;
const VALUE: u32 = 1;
const TIMESTAMP: u32 = 2;

/// The labels of a series, encoded.
pub(crate) type Labels = Vec<u8>;

/// Makes the labels of the first `count` series of a spoke.
pub(crate) fn labels(spoke: &Spoke, count: usize) -> Vec<Labels> {
    let shape = Shape {
        protocol: Protocol::V1,
        series_per_request: count,
        mix: Mix::Uniform { labels: LABELS - 1 },
        extra: None,
        cluster: Some(spoke.name.clone()),
    };
    let encode = |number| {
        let mut labels = shape.series(number);
        labels.push((NUMBER.to_owned(), number.to_string()));
        labels.sort();
        let mut encoded = Vec::new();
        for (name, value) in labels {
            let mut label = Vec::new();
            put_bytes(&mut label, 1, name.as_bytes());
            put_bytes(&mut label, 2, value.as_bytes());
            put_bytes(&mut encoded, LABEL, &label);
        }
        encoded
    };
    (0..count).map(encode).collect()
}

/// Makes the body of a request with some samples, each of which is the labels of its series and a time.
pub(crate) fn body<'l>(samples: impl Iterator<Item = (&'l Labels, i64)>) -> anyhow::Result<Bytes> {
    let mut message = Vec::new();
    let (mut series, mut sample) = (Vec::new(), Vec::new());
    for (labels, time_ms) in samples {
        sample.clear();
        put_key(&mut sample, VALUE, WireType::Fixed64);
        sample.extend_from_slice(&(time_ms as f64).to_le_bytes());
        put_key(&mut sample, TIMESTAMP, WireType::Varint);
        put_varint(&mut sample, time_ms.cast_unsigned());
        series.clear();
        series.extend_from_slice(labels);
        put_bytes(&mut series, SAMPLE, &sample);
        put_bytes(&mut message, TIMESERIES, &series);
    }
    let compressed = snap::raw::Encoder::new().compress_vec(&message)?;
    Ok(compressed.into())
}

/// Reads the samples of a message.
pub(crate) fn samples(message: &[u8]) -> anyhow::Result<Vec<Sample>> {
    let mut samples = Vec::new();
    let mut message = Reader::new(message);
    while let Some((field, _)) = message.key()? {
        if field != TIMESERIES {
            bail!("field {field} in a message");
        }
        let mut series = Reader::new(message.bytes()?);
        let (mut spoke, mut number) = (None, None);
        while let Some((field, _)) = series.key()? {
            let bytes = series.bytes()?;
            match field {
                LABEL => {
                    if let Some(value) = bytes.strip_prefix(NUMBER_BEGINS) {
                        number = Some(text(value)?.parse()?);
                    } else if let Some(value) = bytes.strip_prefix(CLUSTER_BEGINS) {
                        let name = text(value)?.strip_prefix(SPOKE);
                        spoke = Some(name.context("the name of a spoke")?.parse()?);
                    }
                }
                SAMPLE => samples.push(Sample {
                    spoke: spoke.context("a cluster label")?,
                    series: number.context("the number of a series")?,
                    time_ms: time_ms(bytes)?,
                }),
                _ => bail!("field {field} in a series"),
            }
        }
    }
    Ok(samples)
}

/// The text of a value after its key.
fn text(value: &[u8]) -> anyhow::Result<&str> {
    Ok(std::str::from_utf8(Reader::new(value).bytes()?)?)
}

/// The time of a sample, whose value says the same.
fn time_ms(sample: &[u8]) -> anyhow::Result<i64> {
    let mut sample = Reader::new(sample);
    let (mut value, mut time_ms) = (None, 0);
    while let Some((field, _)) = sample.key()? {
        match field {
            VALUE => value = Some(sample.double()?),
            _ => time_ms = sample.varint()?.cast_signed(),
        }
    }
    if value != Some(time_ms as f64) {
        bail!("a sample of {time_ms} has the value {value:?}");
    }
    Ok(time_ms)
}
