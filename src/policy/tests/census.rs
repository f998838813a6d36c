//! What must hold where somebody keeps count of the series: they are asked about as they leave, and those
//! that are one too many are refused alone.
//!
//! The property tests and the fuzz targets share this file.

use prost::encoding;

use super::invariants::NOW;
use super::mirror::{PlainMessage, PlainSeries};
use super::model::Setting;
use super::translation;
use crate::policy::{self, Census, Rules, Scratch, Verdict};
use crate::reasons::{Limit, Reason};
use crate::wire::encoder::{Encoder, Form, Metadata};
use crate::wire::identity::Key;
use crate::wire::{Counts, Kind, Protocol};

/// Is asked about each series, and refuses some of them or none.
struct Counter {
    key: Key,
    refuses: bool,
    is_patient: bool,
    asked: Vec<u64>,
}

impl Counter {
    fn new(refuses: bool) -> Self {
        let key = Key::new(std::array::from_fn(|place| {
            let word = place as u64 + 1;
            word.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) ^ word << 40
        }));
        let asked = Vec::new();
        Self {
            key,
            refuses,
            is_patient: false,
            asked,
        }
    }

    fn is_refused(&self, series: u64) -> bool {
        self.refuses && series.is_multiple_of(3)
    }

    fn identity(&self, series: &PlainSeries) -> u64 {
        self.key.identity(&encoded(series))
    }
}

/// The labels of a series as prost encodes them.
fn encoded(series: &PlainSeries) -> Vec<u8> {
    let mut encoded = Vec::new();
    for (name, value) in series.labels.iter().flatten() {
        let mut label = Vec::new();
        encoding::bytes::encode(1, name, &mut label);
        encoding::bytes::encode(2, value, &mut label);
        encoding::bytes::encode(1, &label, &mut encoded);
    }
    encoded
}

impl Census for Counter {
    fn key(&self) -> &Key {
        &self.key
    }

    fn pass(&mut self) -> u32 {
        0
    }

    fn is_patient(&self) -> bool {
        self.is_patient
    }

    fn fetch(&mut self, series: &[u64]) {
        assert!(series.len() <= 16, "{series:?}");
    }

    fn knows(&mut self, series: u64) -> bool {
        self.asked.push(series);
        !self.is_refused(series)
    }

    fn has(&mut self, series: u64) -> bool {
        !self.is_refused(series)
    }

    fn admit(&mut self, _: u64, metric: &[u8]) -> bool {
        assert!(!metric.is_empty(), "each series has a name");
        false
    }

    fn describe(&mut self) -> String {
        "in all".to_owned()
    }
}

/// Panics unless the series of a message are asked about with the labels that they leave with, and those
/// that are refused are left out. `kept` and `verdict` are what is found without a census.
pub(crate) fn check(
    from: Protocol,
    message: &[u8],
    setting: &Setting,
    kept: &PlainMessage,
    verdict: &Verdict,
) {
    let rules = setting.rules();
    let inspect = |rules: &Rules, counter: &mut Counter, scratch: &mut Scratch| {
        let census: Option<&mut dyn Census> = Some(counter);
        policy::inspect_counted(from, message, rules, NOW.into(), census, scratch, &mut [])
    };
    let (mut all, mut scratch) = (Counter::new(false), Scratch::default());
    let found = inspect(&rules, &mut all, &mut scratch);
    assert_eq!(found.as_ref(), Ok(verdict), "to ask changes no verdict");
    let with_samples = kept.series.iter().filter(|it| it.counts.samples() > 0);
    let expected: Vec<u64> = with_samples.map(|it| all.identity(it)).collect();
    assert_eq!(all.asked, expected, "{kept:?}");

    let mut patient = Counter {
        is_patient: true,
        ..Counter::new(true)
    };
    let found = inspect(&rules, &mut patient, &mut scratch).expect("it was inspected");
    assert_eq!(patient.asked, expected, "{kept:?}");
    let beyond = expected.iter().filter(|it| patient.is_refused(**it));
    assert_eq!(
        found.exceeded.of(Limit::ActiveSeries),
        beyond.count() as u64
    );
    assert_eq!(found.rejections, verdict.rejections);
    assert_eq!(found.kept(), verdict.kept());

    let mut some = Counter::new(true);
    let mut refuses = false;
    let is_refused = |series: &PlainSeries| {
        // Exemplars alone are refused after samples were, as they may be of the same series.
        let has_samples = series.counts.samples() > 0;
        let is_asked = has_samples || refuses && series.counts.of(Kind::Exemplar) > 0;
        let is_refused = is_asked && some.is_refused(some.identity(series));
        refuses |= is_refused;
        is_refused
    };
    let (refused, left): (Vec<_>, Vec<_>) = kept.series.iter().cloned().partition(is_refused);
    let refused_series = refused.len() as u64;
    let found = inspect(&rules, &mut some, &mut scratch).expect("it was inspected");
    assert_eq!(found.exceeded.of(Limit::ActiveSeries), refused_series);
    assert_eq!(found.kept_series + refused_series, verdict.kept_series);
    let mut rejections = found.rejections.iter();
    let rejection = rejections.find(|it| it.reason == Reason::ActiveSeries);
    let rejected = rejection.map_or((0, Counts::default()), |it| (it.series, it.counts));
    assert_eq!(rejected.0, refused_series);
    for kind in [Kind::Float, Kind::Histogram, Kind::Exemplar] {
        let expected: u64 = refused.iter().map(|series| series.counts.of(kind)).sum();
        assert_eq!(rejected.1.of(kind), expected, "{kind:?}");
    }
    assert!(rejection.is_none_or(|it| it.example.ends_with("} in all") || it.example.ends_with("... in all")));
    if found.keeps() {
        let left = PlainMessage {
            series: left,
            metadata: kept.metadata.clone(),
        };
        for to in [Protocol::V1, Protocol::V2] {
            let mut encoder = Encoder::default();
            encoder.start(Form::new(to, Metadata::Forward), message.len());
            let encoders = std::slice::from_mut(&mut encoder);
            policy::replay(from, message, &rules, &mut scratch, encoders).expect("it was walked");
            let encoded = encoder.finish().expect("it was walked");
            translation::check(left.clone(), from, to, Metadata::Forward, &encoded);
        }
    }

    let mut observing = setting.clone();
    let observed = &mut observing.limits.observed;
    *observed = observed.with(Limit::ActiveSeries);
    let rules = observing.rules();
    let counted = inspect(&rules, &mut Counter::new(true), &mut scratch);
    let counted = counted.expect("it was inspected");
    assert_eq!(counted.exceeded.of(Limit::ActiveSeries), refused_series);
    assert_eq!(counted.rejections, verdict.rejections);
    assert_eq!(counted.kept(), verdict.kept());
    assert_eq!(counted.changed(), verdict.changed());
}
