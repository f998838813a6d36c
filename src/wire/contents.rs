//! What a series carries, decoded for people. The request path checks and copies these bytes, and never
//! decodes them.

use prost::Message;

use super::encoder::Source;
use super::item::Item;
use super::leaf::{EXEMPLAR_LABELS, EXEMPLAR_TIMESTAMP, EXEMPLAR_VALUE};
use super::protobuf::{Malformed, Reader, varints};
use super::{Labels, Protocol, SampleFault, Sieve, proto, v1, v2};

/// Labels of an exemplar that are decoded. The specification of OpenMetrics allows 128 characters in all
/// of them together.
const EXEMPLAR_LABELS_MAX: usize = 256;

/// The longest histogram that is decoded, in bytes. A byte becomes up to sixteen in memory, and no sender
/// has a thousandth of this.
const HISTOGRAM_BYTES_MAX: usize = 1 << 20;

/// The types of metrics by their numbers, which both versions share.
const METRIC_TYPES: [&str; 8] = [
    "unknown",
    "counter",
    "gauge",
    "histogram",
    "gaugehistogram",
    "summary",
    "info",
    "stateset",
];

/// Something that a series carries. V1 has no start timestamps, so they are 0 there.
#[derive(Debug)]
pub enum Content<'a> {
    /// A float sample.
    Sample(proto::v2::Sample),
    /// A native histogram.
    Histogram(Box<proto::v2::Histogram>),
    /// A native histogram that is too long to be decoded.
    LongHistogram,
    /// An exemplar.
    Exemplar(Exemplar<'a>),
    /// What V2 says of the metric.
    Metadata(Metadata<'a>),
}

/// An exemplar.
#[derive(Debug)]
pub struct Exemplar<'a> {
    /// Its labels, or the first of them.
    pub labels: Labels<'a>,
    /// Its value.
    pub value: f64,
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
}

/// What is said of a metric.
#[derive(Debug, Clone, Copy, Default)]
pub struct Metadata<'a> {
    /// The metric family; empty in V2, where the series says it.
    pub family: &'a [u8],
    /// The number of its type.
    pub metric_type: u64,
    /// What it measures.
    pub help: &'a [u8],
    /// Its unit.
    pub unit: &'a [u8],
}

impl Metadata<'_> {
    /// The name of its type, if there is one.
    pub fn type_name(&self) -> Option<&'static str> {
        let index = usize::try_from(self.metric_type).ok()?;
        METRIC_TYPES.get(index).copied()
    }
}

/// What a series carries, in the order of the message, each with the fault for which it may not travel
/// on. The metadata of V2 comes last, merged.
pub struct Contents<'s, 'a> {
    reader: Reader<'a>,
    /// Those of a V2 message.
    symbols: Option<&'s v2::Symbols<'a>>,
    sieve: Sieve,
    metadata: Option<v2::Metadata>,
}

impl<'s, 'a> Contents<'s, 'a> {
    /// The contents of a series that was walked before. It is of V2 if there are symbols.
    pub fn new(raw: &'a [u8], symbols: Option<&'s v2::Symbols<'a>>, sieve: Sieve) -> Self {
        Self {
            reader: Reader::new(raw),
            symbols,
            sieve,
            metadata: None,
        }
    }

    fn read(&mut self) -> Result<Option<(Content<'a>, Option<SampleFault>)>, Malformed> {
        let source = match self.symbols {
            None => Source::V1(None),
            Some(symbols) => Source::V2(symbols, &[]),
        };
        let protocol = source.protocol();
        while let Some(item) = Item::next(&mut self.reader, protocol)? {
            let content = match item {
                Item::Sample(bytes) => Content::Sample(sample(bytes, protocol)?),
                Item::Histogram(bytes) if bytes.len() > HISTOGRAM_BYTES_MAX => {
                    Content::LongHistogram
                }
                Item::Histogram(bytes) => Content::Histogram(Box::new(histogram(bytes, protocol)?)),
                Item::Exemplar(bytes) => Content::Exemplar(exemplar(bytes, self.symbols)?),
                Item::Metadata(bytes) => {
                    let before = self.metadata.unwrap_or_default();
                    self.metadata = Some(before.merge(bytes)?);
                    continue;
                }
                Item::Other => continue,
            };
            return Ok(Some((content, self.sieve.fault(item, source)?)));
        }
        let Some((metadata, symbols)) = self.metadata.take().zip(self.symbols) else {
            return Ok(None);
        };
        let fault = metadata.fault(symbols).map(SampleFault::Metadata);
        let strings = metadata.strings(symbols);
        let [help, unit] = strings.map(|text| text.unwrap_or(v2::UNREADABLE));
        let metadata = Metadata {
            family: b"",
            metric_type: metadata.metric_type,
            help,
            unit,
        };
        Ok(Some((Content::Metadata(metadata), fault)))
    }
}

impl<'a> Iterator for Contents<'_, 'a> {
    type Item = Result<(Content<'a>, Option<SampleFault>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// Decodes a `MetricMetadata` of V1.
pub fn family_metadata(bytes: &[u8]) -> Result<Metadata<'_>, Malformed> {
    let mut metadata = Metadata::default();
    let mut reader = Reader::new(bytes);
    while let Some((field, wire_type)) = reader.key()? {
        let slot = match field {
            1 => {
                metadata.metric_type = reader.varint()?;
                continue;
            }
            2 => &mut metadata.family,
            4 => &mut metadata.help,
            5 => &mut metadata.unit,
            _ => {
                reader.skip(wire_type)?;
                continue;
            }
        };
        *slot = reader.bytes()?;
    }
    Ok(metadata)
}

fn sample(bytes: &[u8], protocol: Protocol) -> Result<proto::v2::Sample, Malformed> {
    match protocol {
        Protocol::V1 => {
            let proto::v1::Sample { value, timestamp } = decode(bytes)?;
            Ok(proto::v2::Sample {
                value,
                timestamp,
                start_timestamp: 0,
            })
        }
        Protocol::V2 => decode(bytes),
    }
}

/// The fields of V1 have the same numbers and types in V2.
fn histogram(bytes: &[u8], protocol: Protocol) -> Result<proto::v2::Histogram, Malformed> {
    match protocol {
        Protocol::V1 => decode(&decode::<proto::v1::Histogram>(bytes)?.encode_to_vec()),
        Protocol::V2 => decode(bytes),
    }
}

/// Decodes a message that was walked before, and so is well-formed.
fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, Malformed> {
    M::decode(bytes).map_err(|_| Malformed::WireType)
}

fn exemplar<'a>(
    bytes: &'a [u8],
    symbols: Option<&v2::Symbols<'a>>,
) -> Result<Exemplar<'a>, Malformed> {
    let mut exemplar = Exemplar {
        labels: Labels::new(Labels::default(), EXEMPLAR_LABELS_MAX),
        value: 0.0,
        timestamp: 0,
    };
    let mut name = None;
    let mut reader = Reader::new(bytes);
    while let Some((field, wire_type)) = reader.key()? {
        let labels = &mut exemplar.labels;
        match (field, symbols) {
            (EXEMPLAR_LABELS, None) => {
                let label = v1::label(reader.bytes()?)?.label;
                labels.push(label.name, label.value);
            }
            (EXEMPLAR_LABELS, Some(symbols)) => varints(&mut reader, wire_type, |reference| {
                let text = symbols.get(reference).unwrap_or(v2::UNREADABLE);
                match name.take() {
                    Some(name) => labels.push(name, text),
                    None => name = Some(text),
                }
            })?,
            (EXEMPLAR_VALUE, _) => exemplar.value = reader.double()?,
            (EXEMPLAR_TIMESTAMP, _) => exemplar.timestamp = reader.varint()?.cast_signed(),
            _ => reader.skip(wire_type)?,
        }
    }
    Ok(exemplar)
}
