//! Bodies that real Prometheus servers sent; `tests/fixtures/README.md` has the numbers.

use crate::config::{Absent, LabelPolicy, Mismatch};
use crate::policy::Rules;
use crate::reasons::Reason;
use crate::wire::encoder::Metadata;
use crate::wire::tests::mirror::PlainMessage;
use crate::wire::tests::translation::Translation;
use crate::wire::{Counts, Protocol, snappy};

use super::invariants::{Inspection, LIMITS, Memory, check, inspect, leaving};

/// A body, what it carries, and the spoke that sent it.
pub(super) struct Fixture {
    pub(super) file: &'static str,
    pub(super) protocol: Protocol,
    pub(super) cluster: Option<&'static str>,
    pub(super) series: u64,
    /// Floats, histograms, exemplars, metadata.
    counts: [u64; 4],
}

const fn fixture(
    file: &'static str,
    protocol: Protocol,
    cluster: Option<&'static str>,
    series: u64,
    counts: [u64; 4],
) -> Fixture {
    Fixture {
        file,
        protocol,
        cluster,
        series,
        counts,
    }
}

const PRODUCTION: Option<&str> = Some("production");

pub(super) const FIXTURES: [Fixture; 8] = [
    fixture(
        "prometheus-3.12-v1-mixed",
        Protocol::V1,
        PRODUCTION,
        300,
        [281, 17, 2, 0],
    ),
    fixture(
        "prometheus-3.12-v1-metadata",
        Protocol::V1,
        None,
        0,
        [0, 0, 0, 267],
    ),
    fixture(
        "prometheus-3.12-v2-mixed",
        Protocol::V2,
        PRODUCTION,
        300,
        [281, 17, 2, 300],
    ),
    fixture(
        "prometheus-3.12-v2-floats",
        Protocol::V2,
        PRODUCTION,
        300,
        [300, 0, 0, 300],
    ),
    fixture(
        "prometheus-2.42-v1-mixed",
        Protocol::V1,
        Some("staging"),
        300,
        [298, 0, 2, 0],
    ),
    fixture(
        "prometheus-2.42-v1-metadata",
        Protocol::V1,
        None,
        0,
        [0, 0, 0, 206],
    ),
    fixture(
        "prometheus-3.12-v1-2000",
        Protocol::V1,
        PRODUCTION,
        2000,
        [2000, 0, 0, 0],
    ),
    fixture(
        "prometheus-3.12-v2-2000",
        Protocol::V2,
        PRODUCTION,
        2000,
        [2000, 0, 0, 2000],
    ),
];

impl Fixture {
    pub(super) fn message(&self) -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
        let body = std::fs::read(format!("{folder}/{}.snappy", self.file)).unwrap();
        snappy::decompress(&body, 32 << 20, &mut Vec::new())
            .unwrap()
            .to_vec()
    }

    fn inspected(&self, spoke: &str, cluster_label: &str, mismatch: Mismatch) -> Inspection {
        let policy = LabelPolicy {
            absent: Absent::Inject,
            mismatch,
        };
        let rules = Rules::new(cluster_label, spoke, policy, LIMITS);
        inspect(
            self.protocol,
            &self.message(),
            &rules,
            &mut Memory::default(),
        )
        .unwrap()
    }
}

#[test]
fn passes_captured_bodies_of_their_own_spoke_unchanged() {
    for fixture in FIXTURES {
        let spoke = fixture.cluster.unwrap_or("production");
        let Inspection {
            verdict, rewritten, ..
        } = fixture.inspected(spoke, "cluster", Mismatch::Reject);
        let counts = Counts::new(fixture.counts);
        assert_eq!(
            (verdict.series, verdict.received),
            (fixture.series, counts),
            "{}",
            fixture.file
        );
        assert_eq!(verdict.kept(), counts, "{}", fixture.file);
        assert!(
            !verdict.changed() && rewritten.is_none(),
            "{}: {verdict:?}",
            fixture.file
        );
        let oracle = PlainMessage::decode(fixture.protocol, &fixture.message()).unwrap();
        assert_eq!(verdict.times, oracle.times(), "{}", fixture.file);
    }
}

#[test]
fn refuses_captured_bodies_of_another_spoke() {
    for fixture in FIXTURES.iter().filter(|fixture| fixture.cluster.is_some()) {
        let Inspection {
            verdict, rewritten, ..
        } = fixture.inspected("development", "cluster", Mismatch::Reject);
        let [rejection] = verdict.rejections.as_slice() else {
            panic!("{}: {verdict:?}", fixture.file);
        };
        assert_eq!(rejection.reason, Reason::MismatchedLabel);
        assert_eq!(
            (rejection.series, rejection.counts),
            (fixture.series, verdict.received)
        );
        assert_eq!(
            (
                verdict.observed.series(Reason::MismatchedLabel),
                verdict.kept_series
            ),
            (fixture.series, 0)
        );
        assert!(rewritten.is_none());
    }
}

#[test]
fn renames_the_cluster_of_captured_bodies() {
    for fixture in FIXTURES.iter().filter(|fixture| fixture.cluster.is_some()) {
        let inspection = fixture.inspected("development", "cluster", Mismatch::Rename);
        let (cluster, exported) = (&b"cluster"[..], &b"exported_cluster"[..]);
        check_labels(fixture, &inspection, |labels| {
            labels.retain(|(name, _)| name != cluster);
            labels.push((cluster.to_vec(), b"development".to_vec()));
            labels.push((exported.to_vec(), fixture.cluster.unwrap().into()));
        });
    }
}

#[test]
fn injects_the_cluster_into_captured_bodies() {
    for fixture in FIXTURES.iter().filter(|fixture| fixture.cluster.is_some()) {
        let inspection = fixture.inspected("production", "region", Mismatch::Reject);
        check_labels(fixture, &inspection, |labels| {
            labels.push((b"region".to_vec(), b"production".to_vec()));
        });
    }
}

/// Everything leaves as it came, except for the labels, which leave as `change` makes them.
fn check_labels(
    fixture: &Fixture,
    inspection: &Inspection,
    change: impl Fn(&mut Vec<(Vec<u8>, Vec<u8>)>),
) {
    let message = fixture.message();
    let mut expected = PlainMessage::decode(fixture.protocol, &message).unwrap();
    for series in &mut expected.series {
        let labels = series.labels.as_mut().unwrap();
        change(labels);
        labels.sort();
    }
    let (protocol, forward) = (fixture.protocol, Metadata::Forward);
    let expected = Translation::of(expected, protocol, protocol, forward);
    let leaving = leaving(&message, inspection).unwrap();
    assert!(
        PlainMessage::decode(protocol, leaving).unwrap() == expected.message,
        "{}",
        fixture.file
    );
    let side = PlainMessage::decode(Protocol::V1, &inspection.side).unwrap();
    assert!(side == expected.side, "{}", fixture.file);
}

#[test]
fn holds_the_invariants_for_captured_bodies() {
    for fixture in FIXTURES.iter().filter(|fixture| fixture.series <= 300) {
        let message = fixture.message();
        check(Protocol::V1, &message);
        check(Protocol::V2, &message);
        for cut in (0..message.len()).step_by(message.len() / 10) {
            check(fixture.protocol, &message[..cut]);
        }
    }
}
