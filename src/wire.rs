//! The remote-write wire format: bytes in, values out. No tokio, no HTTP, no metrics.
//!
//! Messages are walked in place. A walk checks the structure of everything, down to the buckets of
//! histograms, and hands out slices. The table of a V2 message's symbols is all that grows with the
//! message. A walked message can be encoded in either version.

pub mod contents;
pub mod encoder;
mod histogram;
pub mod identity;
mod item;
pub(crate) mod labels;
mod leaf;
pub mod proto;
pub mod protobuf;
mod sieve;
pub mod snappy;
mod templates;
#[cfg(test)]
pub(crate) mod tests;
pub mod transcode;
mod utf8;
pub mod v1;
pub mod v2;

pub use histogram::HistogramFault;
pub use labels::{Label, Labels, text_bytes_max};
pub use leaf::ExemplarFault;
pub use protobuf::Malformed;
pub use sieve::{SampleFault, Sieve};
pub(crate) use templates::METRIC_NAME;
pub use templates::{Clean, Demands};
pub use v2::MetadataFault;

/// A version of remote write, and of its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// `prometheus.WriteRequest`.
    V1,
    /// `io.prometheus.write.v2.Request`.
    V2,
}

impl Protocol {
    /// The name that configuration, metrics and logs use.
    pub fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }

    /// The full name of the message.
    pub fn message(self) -> &'static str {
        match self {
            Self::V1 => "prometheus.WriteRequest",
            Self::V2 => "io.prometheus.write.v2.Request",
        }
    }
}

/// What a request carries, counted apart as the Written headers count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A float sample.
    Float,
    /// A native histogram sample.
    Histogram,
    /// An exemplar.
    Exemplar,
    /// The metadata of a metric family (V1) or of a series (V2).
    Metadata,
}

impl Kind {
    /// All kinds, in the order of [`Counts`].
    pub const ALL: [Self; 4] = [Self::Float, Self::Histogram, Self::Exemplar, Self::Metadata];

    /// The value of the metrics' label `kind`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Histogram => "histogram",
            Self::Exemplar => "exemplar",
            Self::Metadata => "metadata",
        }
    }
}

/// A count of each [`Kind`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts([u64; 4]);

impl Counts {
    /// Counts in the order of [`Kind::ALL`].
    pub fn new(counts: [u64; 4]) -> Self {
        Self(counts)
    }

    /// One of a kind.
    pub fn one(kind: Kind) -> Self {
        let mut counts = Self::default();
        counts.add(kind, 1);
        counts
    }

    /// Each count that many times.
    pub fn times(&self, factor: u64) -> Self {
        Self(self.0.map(|count| count * factor))
    }

    /// The count of one kind.
    pub fn of(&self, kind: Kind) -> u64 {
        self.0[kind as usize]
    }

    /// Adds to the count of one kind.
    #[inline]
    pub fn add(&mut self, kind: Kind, count: u64) {
        self.0[kind as usize] += count;
    }

    /// Adds each count of `other`.
    #[inline]
    pub fn add_all(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count += more;
        }
    }

    /// What is left of each count after `other` is taken away, at least 0.
    pub fn minus(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|kind| {
            self.0[kind].saturating_sub(other.0[kind])
        }))
    }

    /// The smaller of each count.
    pub fn min(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|kind| self.0[kind].min(other.0[kind])))
    }

    /// The larger of each count.
    pub fn max(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|kind| self.0[kind].max(other.0[kind])))
    }

    /// Forgets the count of one kind.
    pub fn clear(&mut self, kind: Kind) {
        self.0[kind as usize] = 0;
    }

    /// The samples, float and histogram.
    #[inline]
    pub fn samples(&self) -> u64 {
        self.of(Kind::Float) + self.of(Kind::Histogram)
    }

    /// The sum over the kinds.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// True when nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.total() == 0
    }
}

/// The oldest and newest timestamp seen, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// The smallest; above `newest` when none was seen.
    pub oldest: i64,
    /// The largest.
    pub newest: i64,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            oldest: i64::MAX,
            newest: i64::MIN,
        }
    }
}

impl Times {
    /// Takes one more timestamp in.
    #[inline]
    pub fn add(&mut self, timestamp: i64) {
        self.oldest = self.oldest.min(timestamp);
        self.newest = self.newest.max(timestamp);
    }

    /// Takes all of `other` in.
    #[inline]
    pub fn add_all(&mut self, other: &Self) {
        self.oldest = self.oldest.min(other.oldest);
        self.newest = self.newest.max(other.newest);
    }

    /// The oldest timestamp, if any was seen.
    pub fn oldest(&self) -> Option<i64> {
        (self.oldest <= self.newest).then_some(self.oldest)
    }

    /// The newest timestamp, if any was seen.
    pub fn newest(&self) -> Option<i64> {
        (self.oldest <= self.newest).then_some(self.newest)
    }
}

/// What is wrong with a series whose bytes are well-formed protobuf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeriesFault {
    /// A label gives its name or its value twice: decoders would keep the last, scanners might
    /// check the first.
    RepeatedLabelField,
    /// A string that is not UTF-8.
    InvalidUtf8,
    /// A symbol reference out of range, or an odd number of them.
    SymbolReference,
}

/// One time series after its walk; its labels are in the [`Labels`] that the walk filled.
#[derive(Debug, Clone, Copy)]
pub struct Series<'a> {
    /// The bytes of its message.
    pub raw: &'a [u8],
    /// What it carries.
    pub counts: Counts,
    /// The timestamps of its samples and histograms.
    pub times: Times,
    /// The timestamps of its exemplars.
    pub exemplar_times: Times,
    /// How many of its histograms and exemplars are faulty, and 1 more where its metadata is.
    pub faulty: u64,
    /// How many of its histograms have custom buckets.
    pub custom_buckets: u64,
    /// True when it holds fields that the message does not define, here or in its labels.
    pub foreign: bool,
    /// The first fault found.
    pub fault: Option<SeriesFault>,
    /// Its labels as they lie, where it begins with them, they are encoded as every encoder does it,
    /// and there are no others: `labels` fields in V1, packed references in V2.
    pub(crate) block: Option<&'a [u8]>,
    /// Set where its labels fit a template. Then it has no fault and no foreign fields, and its labels
    /// were not taken apart.
    pub clean: Option<Clean>,
    /// Its samples as they lie, keys included, where it carries nothing else but `metadata` and they
    /// hold what both versions define and no more.
    pub(crate) samples: Option<&'a [u8]>,
    /// Its V2 metadata as it lies, key included, where it carries nothing else but `samples`.
    pub(crate) metadata: &'a [u8],
}

impl<'a> Series<'a> {
    /// A series of which nothing is known yet.
    #[inline]
    pub(crate) fn new(raw: &'a [u8]) -> Self {
        Self {
            raw,
            counts: Counts::default(),
            times: Times::default(),
            exemplar_times: Times::default(),
            faulty: 0,
            custom_buckets: 0,
            foreign: false,
            fault: None,
            block: None,
            clean: None,
            samples: None,
            metadata: &[],
        }
    }

    /// How many [pieces](encoder::Piece) it can be cut into: one a sample or histogram, at least 1.
    pub fn units(&self) -> u64 {
        self.counts.samples().max(1)
    }

    fn add_histogram(&mut self, histogram: histogram::Histogram) {
        self.times.add(histogram.timestamp);
        self.counts.add(Kind::Histogram, 1);
        self.custom_buckets += u64::from(histogram.custom_buckets);
        self.faulty += u64::from(histogram.fault.is_some());
    }

    fn add_exemplar(&mut self, exemplar: &leaf::Exemplar) {
        self.exemplar_times.add(exemplar.timestamp);
        self.counts.add(Kind::Exemplar, 1);
        self.faulty += u64::from(exemplar.fault.is_some());
        if let Some(fault) = exemplar.ambiguity {
            self.fail(fault);
        }
    }

    fn fail(&mut self, fault: SeriesFault) {
        self.fault.get_or_insert(fault);
    }
}

/// A place in a message, or a length, in half of the memory.
pub(crate) fn limited(number: usize) -> u32 {
    u32::try_from(number).expect("a message of 4 GiB is never decoded")
}
