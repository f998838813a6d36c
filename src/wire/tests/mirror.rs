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
    /// What the series carries.
    pub(crate) payload: Payload,
    pub(crate) counts: Counts,
    pub(crate) times: Times,
}

/// Samples, histograms, exemplars and metadata; of floats the bits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Payload {
    pub(crate) samples: Vec<PlainSample>,
    pub(crate) histograms: Vec<PlainHistogram>,
    pub(crate) exemplars: Vec<PlainExemplar>,
    pub(crate) metadata: Option<PlainMetadata>,
}

/// A sample; V1 has no start timestamp, and 0 is that of V2 when it has none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PlainSample {
    pub(crate) value: u64,
    pub(crate) timestamp: i64,
    pub(crate) start_timestamp: i64,
}

/// A histogram.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PlainHistogram {
    pub(crate) schema: i32,
    pub(crate) timestamp: i64,
    pub(crate) start_timestamp: i64,
    /// Count and zero count, and whether each is a float.
    pub(crate) counts: [Option<(bool, u64)>; 2],
    reset_hint: i32,
    /// Offsets and lengths, negative and positive.
    pub(crate) spans: [Vec<(i32, u32)>; 2],
    pub(crate) deltas: [Vec<i64>; 2],
    /// Sum and zero threshold, negative counts, positive counts, custom values.
    pub(crate) doubles: [Vec<u64>; 4],
}

/// Labels, bits of the value, timestamp; the labels are `None` as in [`PlainSeries`].
pub(crate) type PlainExemplar = (Option<PlainLabels>, u64, i64);

/// Type, help and unit; the strings are `None` when a reference leads nowhere.
pub(crate) type PlainMetadata = (i32, Option<[Vec<u8>; 2]>);

/// Both versions have histograms of the same fields, but as types of their own.
macro_rules! plain_histogram {
    ($version:ident, $histogram:expr, $start_timestamp:expr) => {{
        use proto::$version::histogram::{Count, ZeroCount};
        let histogram = $histogram;
        let bits = |values: &[f64]| values.iter().copied().map(f64::to_bits).collect();
        let spans = |spans: &[proto::$version::BucketSpan]| {
            let span = |span: &proto::$version::BucketSpan| (span.offset, span.length);
            spans.iter().map(span).collect()
        };
        PlainHistogram {
            schema: histogram.schema,
            timestamp: histogram.timestamp,
            start_timestamp: $start_timestamp,
            counts: [
                histogram.count.map(|count| match count {
                    Count::CountInt(count) => (false, count),
                    Count::CountFloat(count) => (true, count.to_bits()),
                }),
                histogram.zero_count.map(|count| match count {
                    ZeroCount::ZeroCountInt(count) => (false, count),
                    ZeroCount::ZeroCountFloat(count) => (true, count.to_bits()),
                }),
            ],
            reset_hint: histogram.reset_hint,
            spans: [
                spans(&histogram.negative_spans),
                spans(&histogram.positive_spans),
            ],
            deltas: [
                histogram.negative_deltas.clone(),
                histogram.positive_deltas.clone(),
            ],
            doubles: [
                bits(&[histogram.sum, histogram.zero_threshold]),
                bits(&histogram.negative_counts),
                bits(&histogram.positive_counts),
                bits(&histogram.custom_values),
            ],
        }
    }};
}

impl PlainSeries {
    pub(crate) fn new(labels: Option<PlainLabels>, payload: Payload) -> Self {
        let lengths = [
            payload.samples.len(),
            payload.histograms.len(),
            payload.exemplars.len(),
            usize::from(payload.metadata.is_some()),
        ];
        let mut times = Times::default();
        let samples = payload.samples.iter().map(|sample| sample.timestamp);
        let histograms = payload.histograms.iter().map(|it| it.timestamp);
        samples
            .chain(histograms)
            .for_each(|timestamp| times.add(timestamp));
        Self {
            labels,
            payload,
            counts: Counts::new(lengths.map(|length| length as u64)),
            times,
        }
    }
}

/// A message without the differences of the versions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
        let samples = self.samples.iter().map(|sample| PlainSample {
            value: sample.value.to_bits(),
            timestamp: sample.timestamp,
            start_timestamp: 0,
        });
        let histograms = self.histograms.iter();
        let payload = Payload {
            samples: samples.collect(),
            histograms: histograms.map(|it| plain_histogram!(v1, it, 0)).collect(),
            exemplars: exemplars.collect(),
            metadata: None,
        };
        PlainSeries::new(Some(v1_labels(&self.labels)), payload)
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
        let samples = series.samples.iter().map(|sample| PlainSample {
            value: sample.value.to_bits(),
            timestamp: sample.timestamp,
            start_timestamp: sample.start_timestamp,
        });
        let histograms = series.histograms.iter();
        let payload = Payload {
            samples: samples.collect(),
            histograms: histograms
                .map(|it| plain_histogram!(v2, it, it.start_timestamp))
                .collect(),
            exemplars: exemplars.collect(),
            metadata,
        };
        PlainSeries::new(self.labels(&series.labels_refs), payload)
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
