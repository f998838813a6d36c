//! Which samples of a series may travel on, where not all of them may.

use super::encoder::Source;
use super::histogram::{HistogramFault, histogram};
use super::item::Item;
use super::leaf::ExemplarFault;
use super::protobuf::{Malformed, Reader};
use super::{Counts, Kind, MetadataFault, Series, Times, leaf, v1, v2};

/// Why a sample, a histogram, an exemplar or metadata may not travel on, where its series may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SampleFault {
    /// Its timestamp, in milliseconds since the Unix epoch, is too far ahead.
    Ahead(i64),
    /// Its timestamp, in milliseconds since the Unix epoch, is too far behind.
    Behind(i64),
    /// It is a histogram that cannot be.
    Histogram(HistogramFault),
    /// It is an exemplar whose labels cannot be.
    Exemplar(ExemplarFault),
    /// It is metadata whose strings cannot be.
    Metadata(MetadataFault),
}

/// Leaves out what is too far ahead or behind, and histograms, exemplars and metadata that are faulty. A start
/// timestamp is not looked at: hubs use none that is not before its sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sieve {
    /// The latest timestamp of a sample, a histogram or an exemplar, in milliseconds since the Unix
    /// epoch.
    pub newest_max: i64,
    /// The earliest one.
    pub oldest_min: i64,
}

impl Default for Sieve {
    /// One that minds no timestamp.
    fn default() -> Self {
        Self {
            newest_max: i64::MAX,
            oldest_min: i64::MIN,
        }
    }
}

impl Sieve {
    /// True when it leaves something of a series out.
    #[inline]
    pub fn catches(self, series: &Series<'_>) -> bool {
        self.stops_some(&series.times)
            || self.stops_some(&series.exemplar_times)
            || series.faulty > 0
    }

    #[inline]
    fn stops_some(self, times: &Times) -> bool {
        times.newest > self.newest_max || times.oldest < self.oldest_min
    }

    /// What is left of a series that comes from `source`. What is left out is told to `each`.
    pub fn sift<'a>(
        self,
        series: &Series<'a>,
        source: Source<'_, 'a>,
        mut each: impl FnMut(SampleFault, Kind),
    ) -> Result<Series<'a>, Malformed> {
        let mut sifted = Series {
            counts: Counts::default(),
            times: Times::default(),
            exemplar_times: Times::default(),
            faulty: 0,
            custom_buckets: 0,
            samples: None,
            metadata: &[],
            ..*series
        };
        let mut metadata: Option<v2::Metadata> = None;
        let mut reader = Reader::new(series.raw);
        while let Some(item) = Item::next(&mut reader, source.protocol())? {
            if let Item::Metadata(bytes) = item {
                metadata = Some(metadata.unwrap_or_default().merge(bytes)?);
            }
            let Some(looked) = self.look(item, source)? else {
                continue;
            };
            match looked.fault {
                Some(fault) => each(fault, looked.kind),
                None => sifted.take(&looked),
            }
        }
        if let (Some(metadata), Source::V2(symbols, _)) = (metadata, source) {
            match metadata.fault(symbols) {
                Some(fault) => each(SampleFault::Metadata(fault), Kind::Metadata),
                None => sifted.counts.add(Kind::Metadata, 1),
            }
        }
        Ok(sifted)
    }

    /// True when it leaves an item out.
    pub(super) fn stops(self, item: Item<'_>, source: Source<'_, '_>) -> Result<bool, Malformed> {
        Ok(self.fault(item, source)?.is_some())
    }

    /// Why it leaves an item out, if it does.
    pub(super) fn fault(
        self,
        item: Item<'_>,
        source: Source<'_, '_>,
    ) -> Result<Option<SampleFault>, Malformed> {
        let looked = self.look(item, source)?;
        Ok(looked.and_then(|looked| looked.fault))
    }

    /// Looks at an item that has a timestamp.
    fn look(self, item: Item<'_>, source: Source<'_, '_>) -> Result<Option<Looked>, Malformed> {
        let protocol = source.protocol();
        let (mut fault, mut custom_buckets) = (None, false);
        let (kind, timestamp) = match item {
            Item::Sample(bytes) => (Kind::Float, leaf::sample(bytes, protocol)?.timestamp),
            Item::Histogram(bytes) => {
                let histogram = histogram(bytes, protocol)?;
                fault = histogram.fault.map(SampleFault::Histogram);
                custom_buckets = histogram.custom_buckets;
                (Kind::Histogram, histogram.timestamp)
            }
            Item::Exemplar(bytes) => {
                let exemplar = match source {
                    Source::V1(_) => v1::exemplar(bytes)?,
                    Source::V2(symbols, _) => v2::exemplar(bytes, symbols)?,
                };
                fault = exemplar.fault.map(SampleFault::Exemplar);
                (Kind::Exemplar, exemplar.timestamp)
            }
            Item::Metadata(_) | Item::Other => return Ok(None),
        };
        if timestamp > self.newest_max {
            fault = Some(SampleFault::Ahead(timestamp));
        } else if timestamp < self.oldest_min {
            fault = Some(SampleFault::Behind(timestamp));
        }
        Ok(Some(Looked {
            kind,
            timestamp,
            custom_buckets,
            fault,
        }))
    }
}

/// An item that was looked at.
struct Looked {
    kind: Kind,
    timestamp: i64,
    custom_buckets: bool,
    fault: Option<SampleFault>,
}

impl Series<'_> {
    fn take(&mut self, looked: &Looked) {
        self.counts.add(looked.kind, 1);
        self.custom_buckets += u64::from(looked.custom_buckets);
        match looked.kind {
            Kind::Exemplar => self.exemplar_times.add(looked.timestamp),
            _ => self.times.add(looked.timestamp),
        }
    }
}
