//! The oracle: both messages as prost decodes them, with `bytes` where the schema says `string`.
//!
//! prost refuses a whole message for one string that is not UTF-8, where the policy refuses one
//! series; but for that, what prost accepts is what a walk must accept. Samples and histograms
//! hold no strings and are the generated types. The fuzz targets include this file.

use prost::{DecodeError, Message};

use crate::wire::{Counts, Protocol, Times, proto};

/// `prometheus.WriteRequest`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct V1Request {
    #[prost(message, repeated, tag = "1")]
    pub(crate) timeseries: Vec<V1Series>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) metadata: Vec<V1Metadata>,
}

/// `prometheus.TimeSeries`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct V1Series {
    #[prost(message, repeated, tag = "1")]
    pub(crate) labels: Vec<V1Label>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) samples: Vec<proto::v1::Sample>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) exemplars: Vec<V1Exemplar>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) histograms: Vec<proto::v1::Histogram>,
}

/// `prometheus.Label`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct V1Label {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) name: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
}

/// `prometheus.Exemplar`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct V1Exemplar {
    #[prost(message, repeated, tag = "1")]
    pub(crate) labels: Vec<V1Label>,
    #[prost(double, tag = "2")]
    pub(crate) value: f64,
    #[prost(int64, tag = "3")]
    pub(crate) timestamp: i64,
}

/// `prometheus.MetricMetadata`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct V1Metadata {
    #[prost(int32, tag = "1")]
    pub(crate) metric_type: i32,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) metric_family_name: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) help: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) unit: Vec<u8>,
}

/// `io.prometheus.write.v2.Request`; its series hold no strings.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct V2Request {
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub(crate) symbols: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) timeseries: Vec<proto::v2::TimeSeries>,
}

/// Names and values.
pub(crate) type PlainLabels = Vec<(Vec<u8>, Vec<u8>)>;

/// A series without the differences of the versions, comparable bit for bit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlainSeries {
    /// `None` when a reference leads nowhere or has no partner.
    pub(crate) labels: Option<PlainLabels>,
    /// What the series carries; its form is one number or string list an item, encoded.
    pub(crate) payload: Payload,
    pub(crate) counts: Counts,
    pub(crate) times: Times,
}

/// Samples, histograms and exemplars as prost encodes them, and the metadata's strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Payload {
    pub(crate) samples: Vec<Vec<u8>>,
    pub(crate) histograms: Vec<Vec<u8>>,
    /// Labels, bits of the value, timestamp; the labels are `None` as in [`PlainSeries`].
    pub(crate) exemplars: Vec<(Option<PlainLabels>, u64, i64)>,
    /// Type, help and unit; the strings are `None` when a reference leads nowhere.
    pub(crate) metadata: Option<(i32, Option<[Vec<u8>; 2]>)>,
}

/// A message without the differences of the versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlainMessage {
    pub(crate) series: Vec<PlainSeries>,
    /// V1 metadata entries, encoded.
    pub(crate) metadata: Vec<Vec<u8>>,
}

impl PlainMessage {
    pub(crate) fn decode(protocol: Protocol, bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(match protocol {
            Protocol::V1 => V1Request::decode(bytes)?.plain(),
            Protocol::V2 => V2Request::decode(bytes)?.plain(),
        })
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::new([0, 0, 0, self.metadata.len() as u64]);
        self.series
            .iter()
            .for_each(|series| counts.add_all(&series.counts));
        counts
    }

    pub(crate) fn times(&self) -> Times {
        let mut times = Times::default();
        self.series
            .iter()
            .for_each(|series| times.add_all(&series.times));
        times
    }
}

impl V1Request {
    pub(crate) fn plain(&self) -> PlainMessage {
        PlainMessage {
            series: self.timeseries.iter().map(V1Series::plain).collect(),
            metadata: self.metadata.iter().map(Message::encode_to_vec).collect(),
        }
    }
}

impl V1Series {
    fn plain(&self) -> PlainSeries {
        let exemplars = self.exemplars.iter().map(|exemplar| {
            (
                Some(v1_labels(&exemplar.labels)),
                exemplar.value.to_bits(),
                exemplar.timestamp,
            )
        });
        let timestamps = self.samples.iter().map(|sample| sample.timestamp);
        let histograms = self.histograms.iter().map(|histogram| histogram.timestamp);
        PlainSeries {
            labels: Some(v1_labels(&self.labels)),
            payload: Payload {
                samples: self.samples.iter().map(Message::encode_to_vec).collect(),
                histograms: self.histograms.iter().map(Message::encode_to_vec).collect(),
                exemplars: exemplars.collect(),
                metadata: None,
            },
            counts: counts([
                self.samples.len(),
                self.histograms.len(),
                self.exemplars.len(),
                0,
            ]),
            times: times(timestamps.chain(histograms)),
        }
    }
}

impl V2Request {
    pub(crate) fn plain(&self) -> PlainMessage {
        let series = self
            .timeseries
            .iter()
            .map(|series| self.plain_series(series))
            .collect();
        PlainMessage {
            series,
            metadata: Vec::new(),
        }
    }

    fn plain_series(&self, series: &proto::v2::TimeSeries) -> PlainSeries {
        let exemplars = series.exemplars.iter().map(|exemplar| {
            let labels = self.labels(&exemplar.labels_refs);
            (labels, exemplar.value.to_bits(), exemplar.timestamp)
        });
        let metadata = series.metadata.map(|metadata| {
            let strings = self
                .optional(metadata.help_ref)
                .zip(self.optional(metadata.unit_ref));
            (metadata.r#type, strings.map(|(help, unit)| [help, unit]))
        });
        let timestamps = series.samples.iter().map(|sample| sample.timestamp);
        let histograms = series
            .histograms
            .iter()
            .map(|histogram| histogram.timestamp);
        let metadata_count = usize::from(metadata.is_some());
        PlainSeries {
            labels: self.labels(&series.labels_refs),
            payload: Payload {
                samples: series.samples.iter().map(Message::encode_to_vec).collect(),
                histograms: series
                    .histograms
                    .iter()
                    .map(Message::encode_to_vec)
                    .collect(),
                exemplars: exemplars.collect(),
                metadata,
            },
            counts: counts([
                series.samples.len(),
                series.histograms.len(),
                series.exemplars.len(),
                metadata_count,
            ]),
            times: times(timestamps.chain(histograms)),
        }
    }

    fn labels(&self, refs: &[u32]) -> Option<PlainLabels> {
        let (pairs, rest) = refs.as_chunks::<2>();
        let pairs = pairs
            .iter()
            .map(|[name, value]| self.symbol(*name).zip(self.symbol(*value)));
        pairs.collect::<Option<_>>().filter(|_| rest.is_empty())
    }

    fn symbol(&self, reference: u32) -> Option<Vec<u8>> {
        self.symbols.get(usize::try_from(reference).ok()?).cloned()
    }

    /// Reference 0 is also the absence of one, which needs no table.
    fn optional(&self, reference: u32) -> Option<Vec<u8>> {
        match reference {
            0 if self.symbols.is_empty() => Some(Vec::new()),
            _ => self.symbol(reference),
        }
    }
}

fn v1_labels(labels: &[V1Label]) -> PlainLabels {
    labels
        .iter()
        .map(|label| (label.name.clone(), label.value.clone()))
        .collect()
}

fn counts(lengths: [usize; 4]) -> Counts {
    Counts::new(lengths.map(|length| length as u64))
}

fn times(timestamps: impl Iterator<Item = i64>) -> Times {
    let mut times = Times::default();
    timestamps.for_each(|timestamp| times.add(timestamp));
    times
}
