//! What becomes of the labels of a series that may travel on.

use crate::config::Absent::{self, Inject, Reject};
use crate::config::LabelPolicy;
use crate::config::Mismatch::{self, Overwrite, Rename};
use crate::reasons::Reason;
use crate::wire::Protocol;
use crate::wire::tests::mirror::PlainMessage;

use super::invariants::{LIMITS, Memory, inspect, leaving, rules};
use super::message;

type Labels<'l> = &'l [(&'l str, &'l str)];

#[track_caller]
fn check(name: &str, (absent, mismatch): (Absent, Mismatch), labels: Labels<'_>, left: Labels<'_>) {
    for protocol in [Protocol::V1, Protocol::V2] {
        let rules = rules(LabelPolicy { absent, mismatch }, LIMITS);
        let message = message(protocol, labels);
        let inspection = inspect(protocol, &message, &rules, &mut Memory::default()).unwrap();
        assert_eq!(
            inspection.rewritten.is_none(),
            labels == left,
            "{name}, {protocol:?}"
        );
        let output = PlainMessage::decode(protocol, leaving(&message, &inspection).unwrap());
        let [series] = &output.unwrap().series[..] else {
            panic!("{name}, {protocol:?}: {inspection:?}");
        };
        let expected = left
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        assert_eq!(
            series.labels,
            Some(expected.collect()),
            "{name}, {protocol:?}"
        );
        let foreign = labels.contains(&("cluster", "staging"));
        assert_eq!(
            inspection.verdict.observed.series(Reason::MismatchedLabel),
            u64::from(foreign),
            "{name}"
        );
    }
}

#[test]
fn leaves_good_series_unchanged() {
    let good = &[
        ("__name__", "up"),
        ("a", "b"),
        ("cluster", "production"),
        ("job", "node"),
    ];
    check("own cluster", (Reject, Mismatch::Reject), good, good);
    check(
        "own cluster, everything allowed",
        (Inject, Rename),
        good,
        good,
    );
}

#[test]
fn sorts_labels_and_drops_empty_ones() {
    check(
        "unsorted",
        (Reject, Mismatch::Reject),
        &[
            ("job", "node"),
            ("cluster", "production"),
            ("__name__", "up"),
        ],
        &[
            ("__name__", "up"),
            ("cluster", "production"),
            ("job", "node"),
        ],
    );
    check(
        "empty value",
        (Reject, Mismatch::Reject),
        &[("__name__", "up"), ("cluster", "production"), ("job", "")],
        &[("__name__", "up"), ("cluster", "production")],
    );
    check(
        "sorted by bytes",
        (Reject, Mismatch::Reject),
        &[
            ("__name__", "up"),
            ("b", "1"),
            ("Z", "2"),
            ("cluster", "production"),
            ("é", "3"),
        ],
        &[
            ("Z", "2"),
            ("__name__", "up"),
            ("b", "1"),
            ("cluster", "production"),
            ("é", "3"),
        ],
    );
}

#[test]
fn injects_the_cluster_label() {
    let left = &[
        ("__name__", "up"),
        ("a", "b"),
        ("cluster", "production"),
        ("job", "node"),
    ];
    let absent = &[("__name__", "up"), ("a", "b"), ("job", "node")];
    check("absent", (Inject, Mismatch::Reject), absent, left);
    let empty = &[
        ("__name__", "up"),
        ("a", "b"),
        ("cluster", ""),
        ("job", "node"),
    ];
    check("empty", (Inject, Mismatch::Reject), empty, left);
}

#[test]
fn overwrites_a_foreign_cluster_label() {
    check(
        "overwrite",
        (Reject, Overwrite),
        &[("__name__", "up"), ("cluster", "staging"), ("job", "node")],
        &[
            ("__name__", "up"),
            ("cluster", "production"),
            ("job", "node"),
        ],
    );
}

#[test]
fn renames_a_foreign_cluster_label() {
    check(
        "free",
        (Reject, Rename),
        &[("__name__", "up"), ("cluster", "staging"), ("job", "node")],
        &[
            ("__name__", "up"),
            ("cluster", "production"),
            ("exported_cluster", "staging"),
            ("job", "node"),
        ],
    );
    check(
        "taken",
        (Reject, Rename),
        &[
            ("__name__", "up"),
            ("cluster", "staging"),
            ("exported_cluster", "old"),
        ],
        &[
            ("__name__", "up"),
            ("cluster", "production"),
            ("exported_cluster", "old"),
            ("exported_exported_cluster", "staging"),
        ],
    );
    check(
        "taken by an empty value, which is no label",
        (Reject, Rename),
        &[
            ("__name__", "up"),
            ("cluster", "staging"),
            ("exported_cluster", ""),
        ],
        &[
            ("__name__", "up"),
            ("cluster", "production"),
            ("exported_cluster", "staging"),
        ],
    );
}
