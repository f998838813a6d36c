//! Remote-write bodies: encoded from a short notation, and decoded from what a hub received.
//!
//! `Series` stands for a series of either message, so that one table of cases runs as V1 and V2.
//! The notation of labels is `__name__=up,job=x`, in wire order. Labels are encoded as they stand:
//! unsorted, empty and repeated ones are cases of their own.

use std::time::{SystemTime, UNIX_EPOCH};

use hubgate::wire::proto::{v1, v2};
use prost::Message;

/// The two remote-write messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    V1,
    V2,
}

impl Protocol {
    pub(crate) const BOTH: [Self; 2] = [Self::V1, Self::V2];

    /// The Content-Type as the specification writes it.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::V1 => "application/x-protobuf",
            Self::V2 => "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        }
    }

    /// The value of the configuration key `protocol` and of the metric label `protocol`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }

    /// The key of a hub that is always sent this version.
    pub(crate) fn hub_key(self) -> String {
        format!("protocol: {}", self.name())
    }

    /// The value of `X-Prometheus-Remote-Write-Version`.
    pub(crate) fn version(self) -> &'static str {
        match self {
            Self::V1 => "0.1.0",
            Self::V2 => "2.0.0",
        }
    }
}

pub(crate) type Labels = Vec<(String, String)>;

/// A sample. The value is kept as its bits, because the payloads of NaNs matter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    pub(crate) bits: u64,
    pub(crate) timestamp: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Exemplar {
    pub(crate) labels: Labels,
    pub(crate) value: f64,
    pub(crate) timestamp: i64,
}

/// A series of either message.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Series {
    pub(crate) labels: Labels,
    pub(crate) samples: Vec<Sample>,
    pub(crate) histograms: Vec<v2::Histogram>,
    pub(crate) exemplars: Vec<Exemplar>,
    /// Type and help. Only V2 has them in a series.
    pub(crate) metadata: Option<(i32, String)>,
}

/// The present time in milliseconds since the Unix epoch.
pub(crate) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

/// Labels from the notation `__name__=up,job=x`.
pub(crate) fn labels(notation: &str) -> Labels {
    notation
        .split(',')
        .map(|label| label.split_once('=').expect("name=value"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// A series with one float sample of the present time.
pub(crate) fn series(notation: &str) -> Series {
    bare(notation).sample(1.0, now())
}

/// A series that has labels only.
pub(crate) fn bare(notation: &str) -> Series {
    Series {
        labels: labels(notation),
        ..Series::default()
    }
}

impl Series {
    pub(crate) fn sample(mut self, value: f64, timestamp: i64) -> Self {
        self.samples.push(Sample {
            bits: value.to_bits(),
            timestamp,
        });
        self
    }

    /// Adds a native histogram with one positive bucket.
    pub(crate) fn histogram(mut self, timestamp: i64) -> Self {
        self.histograms.push(v2::Histogram {
            count: Some(v2::histogram::Count::CountInt(3)),
            zero_count: Some(v2::histogram::ZeroCount::ZeroCountInt(1)),
            sum: 4.5,
            schema: 3,
            zero_threshold: 0.001,
            positive_spans: vec![v2::BucketSpan {
                offset: 1,
                length: 1,
            }],
            positive_deltas: vec![2],
            timestamp,
            ..v2::Histogram::default()
        });
        self
    }

    /// Adds a native histogram with two custom buckets, which V1 cannot hold.
    pub(crate) fn custom_buckets(mut self, timestamp: i64) -> Self {
        self.histograms.push(v2::Histogram {
            count: Some(v2::histogram::Count::CountInt(3)),
            sum: 4.5,
            schema: -53,
            positive_spans: vec![v2::BucketSpan {
                offset: 0,
                length: 2,
            }],
            positive_deltas: vec![1, 1],
            custom_values: vec![1.0, 2.0],
            timestamp,
            ..v2::Histogram::default()
        });
        self
    }

    pub(crate) fn exemplar(mut self, notation: &str, timestamp: i64) -> Self {
        self.exemplars.push(Exemplar {
            labels: labels(notation),
            value: 0.5,
            timestamp,
        });
        self
    }

    pub(crate) fn help(mut self, help: &str) -> Self {
        self.metadata = Some((v2::metadata::MetricType::Gauge.into(), help.to_owned()));
        self
    }

    /// Each sample, histogram and exemplar as a series that holds nothing else.
    pub(crate) fn units(&self) -> Vec<Self> {
        let bare = Self {
            labels: self.labels.clone(),
            ..Self::default()
        };
        let samples = self.samples.iter().map(|sample| Self {
            samples: vec![*sample],
            ..bare.clone()
        });
        let histograms = self.histograms.iter().map(|histogram| Self {
            histograms: vec![histogram.clone()],
            ..bare.clone()
        });
        let exemplars = self.exemplars.iter().map(|exemplar| Self {
            exemplars: vec![exemplar.clone()],
            ..bare.clone()
        });
        samples.chain(histograms).chain(exemplars).collect()
    }

    /// The labels in wire order, in the notation of [`series`].
    pub(crate) fn notation(&self) -> String {
        let labels = self.labels.iter();
        let labels: Vec<_> = labels.map(|(n, v)| format!("{n}={v}")).collect();
        labels.join(",")
    }
}

/// The number of float samples, histograms and exemplars in some series.
pub(crate) fn counts(series: &[Series]) -> (usize, usize, usize) {
    (
        series.iter().map(|s| s.samples.len()).sum(),
        series.iter().map(|s| s.histograms.len()).sum(),
        series.iter().map(|s| s.exemplars.len()).sum(),
    )
}

/// One series without the label that tells its spoke.
pub(crate) fn up() -> [Series; 1] {
    [series("__name__=up")]
}

/// So many series of the spoke `production`, which hardly compress.
pub(crate) fn many_series(count: u64) -> Vec<Series> {
    let ids = (0..count).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let series = |id: u64| {
        series(&format!(
            "__name__=up,cluster=production,id={id:x}{:x}",
            !id
        ))
    };
    ids.map(series).collect()
}

/// The samples, histograms and exemplars of some series, each as a series that holds nothing else,
/// in an order that depends on nothing but their content.
pub(crate) fn sorted_units(series: &[Series]) -> Vec<Series> {
    let mut units: Vec<_> = series.iter().flat_map(Series::units).collect();
    units.sort_by_key(|unit| format!("{unit:?}"));
    units
}

/// Random letters and digits, which snappy hardly compresses.
pub(crate) fn noise(length: usize) -> String {
    std::iter::repeat_with(fastrand::alphanumeric)
        .take(length)
        .collect()
}

/// Two texts of at most 64 KiB that do not compress when they take turns, since a match of snappy begins
/// at most 64 KiB before.
pub(crate) fn noises(length: usize) -> [String; 2] {
    [length; 2].map(noise)
}

/// The body in a file of `tests/fixtures`.
pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    std::fs::read(format!("{folder}/{name}.snappy")).unwrap()
}

/// The Written headers that a sender of this version gets with a success: a V1 sender gets none.
pub(crate) fn success_headers(
    protocol: Protocol,
    written: (usize, usize, usize),
) -> Option<(usize, usize, usize)> {
    (protocol == Protocol::V2).then_some(written)
}

/// A whole body: the message as a snappy block.
pub(crate) fn encode(protocol: Protocol, series: &[Series]) -> Vec<u8> {
    snappy(&message(protocol, series))
}

/// The message before compression.
pub(crate) fn message(protocol: Protocol, series: &[Series]) -> Vec<u8> {
    match protocol {
        Protocol::V1 => message_v1(series).encode_to_vec(),
        Protocol::V2 => message_v2(series).encode_to_vec(),
    }
}

/// A V2 body of generated series, for fields that `Series` does not have.
pub(crate) fn encode_v2(symbols: &[&str], timeseries: Vec<v2::TimeSeries>) -> Vec<u8> {
    let symbols = symbols.iter().map(|&symbol| symbol.to_owned()).collect();
    let message = v2::Request {
        symbols,
        timeseries,
    };
    snappy(&message.encode_to_vec())
}

/// A V1 body that holds nothing but the metadata of one family. V2 has no such message.
pub(crate) fn metadata_v1(family: &str) -> Vec<u8> {
    let message = v1::WriteRequest {
        metadata: vec![v1::MetricMetadata {
            r#type: 1,
            metric_family_name: family.to_owned(),
            help: "help".to_owned(),
            unit: String::new(),
        }],
        ..v1::WriteRequest::default()
    };
    snappy(&message.encode_to_vec())
}

/// A length-delimited protobuf field, for messages that no encoder produces.
pub(crate) fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encoding::encode_varint(content.len() as u64, &mut field);
    field.extend_from_slice(content);
    field
}

pub(crate) fn snappy(message: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(message).unwrap()
}

pub(crate) fn unsnappy(body: &[u8]) -> Result<Vec<u8>, snap::Error> {
    snap::raw::Decoder::new().decompress_vec(body)
}

/// Decodes the series of a message.
pub(crate) fn decode(protocol: Protocol, message: &[u8]) -> Result<Vec<Series>, String> {
    match protocol {
        Protocol::V1 => {
            let message = v1::WriteRequest::decode(message).map_err(|e| e.to_string())?;
            Ok(message.timeseries.into_iter().map(from_v1).collect())
        }
        Protocol::V2 => {
            let message = v2::Request::decode(message).map_err(|e| e.to_string())?;
            let v2::Request {
                symbols,
                timeseries,
            } = message;
            timeseries
                .into_iter()
                .map(|series| from_v2(&symbols, series))
                .collect()
        }
    }
}

fn message_v1(series: &[Series]) -> v1::WriteRequest {
    let pairs = |labels: &Labels| {
        let labels = labels.iter().cloned();
        labels
            .map(|(name, value)| v1::Label { name, value })
            .collect()
    };
    let timeseries = series.iter().map(|series| v1::TimeSeries {
        labels: pairs(&series.labels),
        samples: (series.samples.iter())
            .map(|sample| v1::Sample {
                value: f64::from_bits(sample.bits),
                timestamp: sample.timestamp,
            })
            .collect(),
        exemplars: (series.exemplars.iter())
            .map(|exemplar| v1::Exemplar {
                labels: pairs(&exemplar.labels),
                value: exemplar.value,
                timestamp: exemplar.timestamp,
            })
            .collect(),
        // The histograms of the two messages have the same fields.
        histograms: (series.histograms.iter())
            .map(|histogram| v1::Histogram::decode(&histogram.encode_to_vec()[..]).unwrap())
            .collect(),
    });
    v1::WriteRequest {
        timeseries: timeseries.collect(),
        metadata: Vec::new(),
    }
}

fn message_v2(series: &[Series]) -> v2::Request {
    let mut symbols = vec![String::new()];
    let mut intern = |text: &str| {
        let known = symbols.iter().position(|symbol| symbol == text);
        let index = known.unwrap_or_else(|| {
            symbols.push(text.to_owned());
            symbols.len() - 1
        });
        u32::try_from(index).unwrap()
    };
    let mut refs = |labels: &Labels| {
        let texts = labels.iter().flat_map(|(name, value)| [name, value]);
        texts.map(|text| intern(text)).collect::<Vec<_>>()
    };
    let mut timeseries = Vec::new();
    for series in series {
        timeseries.push(v2::TimeSeries {
            labels_refs: refs(&series.labels),
            samples: (series.samples.iter())
                .map(|sample| v2::Sample {
                    value: f64::from_bits(sample.bits),
                    timestamp: sample.timestamp,
                    start_timestamp: 0,
                })
                .collect(),
            histograms: series.histograms.clone(),
            exemplars: (series.exemplars.iter())
                .map(|exemplar| v2::Exemplar {
                    labels_refs: refs(&exemplar.labels),
                    value: exemplar.value,
                    timestamp: exemplar.timestamp,
                })
                .collect(),
            metadata: series.metadata.as_ref().map(|(kind, help)| v2::Metadata {
                r#type: *kind,
                help_ref: refs(&vec![(help.clone(), String::new())])[0],
                unit_ref: 0,
            }),
        });
    }
    v2::Request {
        symbols,
        timeseries,
    }
}

fn from_v1(series: v1::TimeSeries) -> Series {
    let pairs = |labels: Vec<v1::Label>| labels.into_iter().map(|l| (l.name, l.value)).collect();
    let samples = series.samples.iter().map(|sample| Sample {
        bits: sample.value.to_bits(),
        timestamp: sample.timestamp,
    });
    let exemplars = series.exemplars.into_iter().map(|exemplar| Exemplar {
        labels: pairs(exemplar.labels),
        value: exemplar.value,
        timestamp: exemplar.timestamp,
    });
    let histograms = series.histograms.iter();
    Series {
        labels: pairs(series.labels),
        samples: samples.collect(),
        histograms: histograms
            .map(|histogram| v2::Histogram::decode(&histogram.encode_to_vec()[..]).unwrap())
            .collect(),
        exemplars: exemplars.collect(),
        metadata: None,
    }
}

fn from_v2(symbols: &[String], series: v2::TimeSeries) -> Result<Series, String> {
    let symbol = |index: u32| {
        let symbol = symbols.get(index as usize);
        symbol.cloned().ok_or(format!("no symbol {index}"))
    };
    let pairs = |refs: &[u32]| -> Result<Labels, String> {
        let pairs = refs.chunks(2).map(|pair| match *pair {
            [name, value] => Ok((symbol(name)?, symbol(value)?)),
            _ => Err("odd number of references".to_owned()),
        });
        pairs.collect()
    };
    let exemplars = series.exemplars.iter().map(|exemplar| {
        Ok(Exemplar {
            labels: pairs(&exemplar.labels_refs)?,
            value: exemplar.value,
            timestamp: exemplar.timestamp,
        })
    });
    let samples = series.samples.iter().map(|sample| Sample {
        bits: sample.value.to_bits(),
        timestamp: sample.timestamp,
    });
    let metadata = series.metadata.map(|metadata| {
        let help = symbol(metadata.help_ref)?;
        Ok::<_, String>((metadata.r#type, help))
    });
    Ok(Series {
        labels: pairs(&series.labels_refs)?,
        samples: samples.collect(),
        exemplars: exemplars.collect::<Result<_, String>>()?,
        histograms: series.histograms,
        metadata: metadata.transpose()?,
    })
}
