//! The building blocks of a family: labels, and types that write one series or several.
//!
//! The type of a field says which labels its series have: `Each<Kind, Counter>` is one counter for
//! each kind, in the label `kind`. So no caller can leave a label out or name a wrong one.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::marker::PhantomData;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::{
    EncodeLabel, EncodeLabelSet, EncodeMetric, LabelSetEncoder, MetricEncoder, NoLabelSet, text,
};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;

/// The labels of a series: those of its owner, and then those that types add.
#[derive(Debug, Clone, Copy)]
pub(super) enum Labels<'a> {
    /// The labels of a spoke, a credential or a hub.
    Owner(&'a [(&'static str, &'a str)]),
    /// Other labels and one more.
    With(&'a Labels<'a>, &'static str, &'a str),
}

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        match *self {
            Self::Owner(labels) => labels.encode(encoder),
            Self::With(labels, name, value) => {
                labels.encode(encoder)?;
                (name, value).encode(encoder.encode_label())
            }
        }
    }
}

/// One series or several of the same family.
pub(super) trait Series {
    /// The type of the family.
    const TYPE: MetricType;

    /// Encodes the series with these labels and its own.
    fn encode(&self, labels: &Labels<'_>, encoder: &mut MetricEncoder<'_>) -> fmt::Result;
}

impl<M: EncodeMetric + TypedMetric> Series for M {
    const TYPE: MetricType = <M as TypedMetric>::TYPE;

    fn encode(&self, labels: &Labels<'_>, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        EncodeMetric::encode(self, encoder.encode_family(labels)?)
    }
}

/// A closed set of values of one label.
pub(super) trait Label: Copy + Debug + 'static {
    /// The name of the label.
    const NAME: &'static str;

    /// All values; the value at place `n` has `n` as its [`place`](Self::place).
    const ALL: &'static [Self];

    fn value(self) -> &'static str;

    fn place(self) -> usize;
}

/// Series for each value of a label.
#[derive(Debug)]
pub(super) struct Each<L, M> {
    series: Box<[M]>,
    label: PhantomData<L>,
}

impl<L: Label, M> Each<L, M> {
    pub(super) fn of(&self, label: L) -> &M {
        &self.series[label.place()]
    }
}

impl<L: Label, M: Default> Default for Each<L, M> {
    fn default() -> Self {
        Self {
            series: L::ALL.iter().map(|_| M::default()).collect(),
            label: PhantomData,
        }
    }
}

impl<L: Label, M: Series> Series for Each<L, M> {
    const TYPE: MetricType = M::TYPE;

    fn encode(&self, labels: &Labels<'_>, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        for label in L::ALL {
            let labels = Labels::With(labels, L::NAME, label.value());
            self.of(*label).encode(&labels, encoder)?;
        }
        Ok(())
    }
}

/// A counter that has no series before it counts something or is started. From then on it has one.
///
/// It is for counters of which most stay at 0. A scraper does not see the first count of such a
/// counter as a rise, unless it was started.
#[derive(Debug, Default)]
pub(super) struct LateCounter {
    /// One more than the count; 0 while there is no series.
    count_and_one: AtomicU64,
}

impl LateCounter {
    /// Makes its series, at 0.
    pub(super) fn start(&self) {
        // Fails when there is one.
        let _ = self.count_and_one.compare_exchange(0, 1, Relaxed, Relaxed);
    }

    pub(super) fn inc_by(&self, count: u64) {
        if count > 0 {
            self.start();
            self.count_and_one.fetch_add(count, Relaxed);
        }
    }

    /// Counts up to `count`, which was counted elsewhere.
    pub(super) fn advance_to(&self, count: u64) {
        if count > 0 {
            self.count_and_one
                .fetch_max(count.saturating_add(1), Relaxed);
        }
    }

    /// What it has counted.
    pub(super) fn count(&self) -> u64 {
        self.count_and_one.load(Relaxed).saturating_sub(1)
    }
}

impl Series for LateCounter {
    const TYPE: MetricType = <Counter as Series>::TYPE;

    fn encode(&self, labels: &Labels<'_>, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        let Some(count) = self.count_and_one.load(Relaxed).checked_sub(1) else {
            return Ok(());
        };
        let mut encoder = encoder.encode_family(labels)?;
        encoder.encode_counter::<NoLabelSet, _, u64>(&count, None)
    }
}

/// A number that only some owners have. The others have no series.
#[derive(Debug, Default)]
pub(super) struct SetNumber {
    number: Gauge<f64, AtomicU64>,
    shown: AtomicBool,
}

impl SetNumber {
    pub(super) fn set(&self, number: Option<f64>) {
        self.number.set(number.unwrap_or_default());
        self.shown.store(number.is_some(), Relaxed);
    }
}

impl Series for SetNumber {
    const TYPE: MetricType = <Gauge as Series>::TYPE;

    fn encode(&self, labels: &Labels<'_>, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        match self.shown.load(Relaxed) {
            true => Series::encode(&self.number, labels, encoder),
            false => Ok(()),
        }
    }
}

/// Counters in the label `code`: an HTTP status, or the name of what happened instead.
///
/// A counter is made when its code is first counted, so that no code can be missing.
#[derive(Debug, Default)]
pub(super) struct Codes(RwLock<BTreeMap<Box<str>, Counter>>);

impl Codes {
    /// Makes the counters of these codes, so that they exist at 0.
    pub(super) fn start_at_zero(&self, codes: &[&str]) {
        // Nothing under the lock can leave it half done.
        let mut counters = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for code in codes {
            counters.entry((*code).into()).or_default();
        }
    }

    pub(super) fn count(&self, code: &str) {
        let counters = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(counter) = counters.get(code) {
            counter.inc();
            return;
        }
        drop(counters);
        self.start_at_zero(&[code]);
        self.count(code);
    }

    /// Each code with its count.
    pub(super) fn counts(&self) -> Vec<(String, u64)> {
        let counters = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let counts = counters.iter();
        counts
            .map(|(code, counter)| (code.to_string(), counter.get()))
            .collect()
    }
}

impl Series for Codes {
    const TYPE: MetricType = <Counter as Series>::TYPE;

    fn encode(&self, labels: &Labels<'_>, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        // A request takes the lock for reading as well, so only the first one with a new code waits.
        let counters = self.0.read().unwrap_or_else(PoisonError::into_inner);
        for (code, counter) in &*counters {
            Series::encode(counter, &Labels::With(labels, "code", code), encoder)?;
        }
        Ok(())
    }
}

/// A time, in seconds since the Unix epoch; 0 means never.
#[derive(Debug, Clone, Default)]
pub(super) struct Timestamp(Gauge<f64, AtomicU64>);

impl Timestamp {
    pub(super) fn set_to_now(&self) {
        self.set_to(Some(SystemTime::now()));
    }

    /// Sets it to a time, or to 0 for none.
    pub(super) fn set_to(&self, time: Option<SystemTime>) {
        let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        self.0.set(since.map_or(0.0, |since| since.as_secs_f64()));
    }

    pub(super) fn seconds(&self) -> f64 {
        self.0.get()
    }

    /// Sets it to a later time; an earlier one changes nothing.
    pub(super) fn advance_to(&self, seconds: f64) {
        let later = |bits: u64| (f64::from_bits(bits) < seconds).then(|| seconds.to_bits());
        // Fails when the time is not later.
        let _ = self.0.inner().fetch_update(Relaxed, Relaxed, later);
    }
}

impl Series for Timestamp {
    const TYPE: MetricType = <Gauge as Series>::TYPE;

    fn encode(&self, labels: &Labels<'_>, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        Series::encode(&self.0, labels, encoder)
    }
}

/// A time in seconds since the Unix epoch, which only some owners have. The others have no series.
#[derive(Debug, Default)]
pub(super) struct SetTimestamp(Timestamp);

impl SetTimestamp {
    pub(super) fn set(&self, time: Option<SystemTime>) {
        let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        self.0.0.set(since.map_or(0.0, |since| since.as_secs_f64()));
    }

    /// The time, or 0 for none.
    pub(super) fn seconds(&self) -> f64 {
        self.0.seconds()
    }
}

impl Series for SetTimestamp {
    const TYPE: MetricType = Timestamp::TYPE;

    fn encode(&self, labels: &Labels<'_>, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        if self.0.0.get() == 0.0 {
            return Ok(());
        }
        self.0.encode(labels, encoder)
    }
}

/// The bounds of the buckets of a histogram.
pub(super) trait Bounds: Debug {
    const BOUNDS: &'static [f64];
}

/// Seconds: from a cached response of a local hub to the timeout of a spoke, 30 s.
#[derive(Debug)]
pub(super) struct Seconds;

impl Bounds for Seconds {
    const BOUNDS: &'static [f64] = &[
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0,
    ];
}

/// Seconds in few bounds, for what there may be thousands of: as usual, slow, too slow, and close to
/// the timeout of a spoke, 30 s. Each bound is a series of each owner.
#[derive(Debug)]
pub(super) struct FewSeconds;

impl Bounds for FewSeconds {
    const BOUNDS: &'static [f64] = &[0.1, 1.0, 10.0, 25.0];
}

/// Bytes: from a lone series to the default limit of 32 MiB.
#[derive(Debug)]
pub(super) struct Bytes;

impl Bounds for Bytes {
    const BOUNDS: &'static [f64] = &[
        1024.0,
        4096.0,
        16384.0,
        65536.0,
        262_144.0,
        1_048_576.0,
        4_194_304.0,
        16_777_216.0,
        33_554_432.0,
    ];
}

/// A histogram with the buckets that `B` says.
#[derive(Debug)]
pub(super) struct Distribution<B> {
    histogram: Histogram,
    bounds: PhantomData<B>,
}

impl<B: Bounds> Distribution<B> {
    pub(super) fn record(&self, value: f64) {
        self.histogram.observe(value);
    }

    /// The bounds of its buckets but the last one, which has none, the values in each, and the sum of all. The
    /// crate tells them to nobody but an encoder; this is asked seldom.
    pub(super) fn counted(&self) -> (&'static [f64], Vec<u64>, f64) {
        let mut registry = Registry::default();
        registry.register("it", "", self.histogram.clone());
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = text::encode(&mut text, &registry);
        let values = |name| text.lines().filter_map(move |line| line.strip_prefix(name));
        let number = |line: &str| line.rsplit(' ').next()?.parse::<u64>().ok();
        // They are in the order of their bounds, and each has those before it in it.
        let upto = values("it_bucket{").filter_map(number);
        let each = upto.scan(0, |before, upto| {
            Some(upto.saturating_sub(std::mem::replace(before, upto)))
        });
        let sum = values("it_sum ").next().and_then(|sum| sum.parse().ok());
        (B::BOUNDS, each.collect(), sum.unwrap_or_default())
    }
}

impl<B: Bounds> Default for Distribution<B> {
    fn default() -> Self {
        Self {
            histogram: Histogram::new(B::BOUNDS.iter().copied()),
            bounds: PhantomData,
        }
    }
}

impl<B: Bounds> Series for Distribution<B> {
    const TYPE: MetricType = <Histogram as Series>::TYPE;

    fn encode(&self, labels: &Labels<'_>, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        Series::encode(&self.histogram, labels, encoder)
    }
}
