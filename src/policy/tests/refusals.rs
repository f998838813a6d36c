//! Each reason by name, with the example that the spoke is shown.

use prost::Message;

use crate::config::{Absent, LabelPolicy, Mismatch};
use crate::policy::Verdict;
use crate::reasons::Reason;
use crate::wire::Protocol;
use crate::wire::protobuf::put_bytes;
use crate::wire::tests::mirror::V1Request;

use super::invariants::{LIMITS, Memory, inspect, rules};
use super::{message, v1_series};

pub(super) const LENIENT: LabelPolicy = LabelPolicy {
    absent: Absent::Inject,
    mismatch: Mismatch::Overwrite,
};
const RENAMING: LabelPolicy = LabelPolicy {
    absent: Absent::Reject,
    mismatch: Mismatch::Rename,
};
const STRICT: LabelPolicy = LabelPolicy {
    absent: Absent::Reject,
    mismatch: Mismatch::Reject,
};

pub(super) fn verdict(protocol: Protocol, policy: LabelPolicy, message: &[u8]) -> Verdict {
    inspect(
        protocol,
        message,
        &rules(policy, LIMITS),
        &mut Memory::default(),
    )
    .unwrap()
    .verdict
}

/// One series was refused, and nothing else is in the request.
#[track_caller]
pub(super) fn check(name: &str, verdict: &Verdict, reason: Reason, example: &str) {
    let [rejection] = verdict.rejections.as_slice() else {
        panic!("{name}: {verdict:?}");
    };
    assert_eq!(
        (rejection.reason, rejection.example.as_str()),
        (reason, example),
        "{name}"
    );
    assert_eq!(
        (rejection.series, rejection.counts),
        (1, verdict.received),
        "{name}"
    );
    assert!(!verdict.keeps(), "{name}");
    assert!(verdict.changed(), "{name}");
}

#[test]
fn refuses_series_for_their_labels() {
    let all_exported: Vec<String> = (1..=8)
        .map(|count| "exported_".repeat(count) + "cluster")
        .collect();
    let mut no_name_free = vec![("__name__", "up"), ("cluster", "staging")];
    no_name_free.extend(all_exported.iter().map(|name| (name.as_str(), "x")));
    type Case<'c> = (
        &'c str,
        LabelPolicy,
        &'c [(&'c str, &'c str)],
        Reason,
        &'c str,
    );
    let cases: &[Case<'_>] = &[
        (
            "no cluster label",
            STRICT,
            &[("__name__", "up"), ("job", "node")],
            Reason::AbsentLabel,
            r#"up{job="node"}"#,
        ),
        (
            "an empty cluster label",
            STRICT,
            &[("__name__", "up"), ("cluster", "")],
            Reason::AbsentLabel,
            r#"up{cluster=""}"#,
        ),
        (
            "another spoke's cluster label",
            STRICT,
            &[("__name__", "up"), ("a", "b"), ("cluster", "staging")],
            Reason::MismatchedLabel,
            r#"up{cluster="staging",a="b"}"#,
        ),
        (
            "no metric name",
            LENIENT,
            &[("cluster", "production"), ("job", "node")],
            Reason::MissingMetricName,
            r#"{cluster="production",job="node"}"#,
        ),
        (
            "an empty metric name",
            LENIENT,
            &[("__name__", ""), ("job", "node")],
            Reason::MissingMetricName,
            r#"{job="node"}"#,
        ),
        ("no labels", LENIENT, &[], Reason::MissingMetricName, "{}"),
        (
            "an empty label name",
            LENIENT,
            &[("__name__", "up"), ("", "x")],
            Reason::EmptyLabelName,
            r#"up{="x"}"#,
        ),
        (
            "a label name twice",
            LENIENT,
            &[("job", "a"), ("__name__", "up"), ("job", "a")],
            Reason::DuplicateLabelName,
            r#"up{job="a",job="a"}"#,
        ),
        (
            "the cluster label twice, the first our own",
            LENIENT,
            &[
                ("__name__", "up"),
                ("cluster", "production"),
                ("cluster", "staging"),
            ],
            Reason::DuplicateLabelName,
            r#"up{cluster="production",cluster="staging"}"#,
        ),
        (
            "the cluster label twice, one empty",
            LENIENT,
            &[("__name__", "up"), ("cluster", ""), ("cluster", "staging")],
            Reason::DuplicateLabelName,
            r#"up{cluster="",cluster="staging"}"#,
        ),
        (
            "quotes and line ends in a value",
            STRICT,
            &[("__name__", "up"), ("cluster", "a\"\n\u{1b}[31m")],
            Reason::MismatchedLabel,
            r#"up{cluster="a\"\n\u{1b}[31m"}"#,
        ),
    ];
    for protocol in [Protocol::V1, Protocol::V2] {
        for (name, policy, labels, reason, example) in cases {
            check(
                name,
                &verdict(protocol, *policy, &message(protocol, labels)),
                *reason,
                example,
            );
        }
        let all_taken = verdict(protocol, RENAMING, &message(protocol, &no_name_free));
        assert_eq!(all_taken.rejections[0].reason, Reason::MismatchedLabel);
        assert!(
            all_taken.rejections[0]
                .example
                .starts_with(r#"up{cluster="staging",exported_"#)
        );
    }
}

#[test]
fn refuses_labels_that_give_a_field_twice() {
    let cases: &[(&str, &[u8], &str)] = &[
        (
            "two values",
            b"\x0a\x07cluster\x12\x0aproduction\x12\x07staging",
            r#"up{cluster="staging"}"#,
        ),
        (
            "two names",
            b"\x0a\x07cluster\x0a\x01a\x12\x07staging",
            r#"up{a="staging"}"#,
        ),
        (
            "the same name",
            b"\x0a\x01a\x0a\x01a\x12\x01b",
            r#"up{a="b"}"#,
        ),
    ];
    for (name, label, example) in cases {
        let mut series = v1_series(&[("__name__", "up")]).encode_to_vec();
        put_bytes(&mut series, 1, label);
        let mut message = Vec::new();
        put_bytes(&mut message, 1, &series);
        let verdict = verdict(Protocol::V1, LENIENT, &message);
        check(name, &verdict, Reason::RepeatedLabelField, example);
    }
}

#[test]
fn refuses_v1_strings_that_are_not_utf8() {
    let own = [("__name__", "up"), ("cluster", "production")];
    let request = |series| V1Request {
        timeseries: vec![series],
        metadata: vec![],
    };

    let mut label = v1_series(&own);
    label.labels[1].value = b"\xffx".to_vec();
    let found = verdict(Protocol::V1, LENIENT, &request(label).encode_to_vec());
    check(
        "label value",
        &found,
        Reason::InvalidUtf8,
        "up{cluster=\"\u{fffd}x\"}",
    );

    // The wrong string of an exemplar is hidden by a right one behind it.
    let mut series = v1_series(&own).encode_to_vec();
    put_bytes(&mut series, 3, b"\x0a\x06\x0a\x01\xff\x0a\x01a");
    let mut message = Vec::new();
    put_bytes(&mut message, 1, &series);
    let found = verdict(Protocol::V1, LENIENT, &message);
    check(
        "hidden",
        &found,
        Reason::RepeatedLabelField,
        r#"up{cluster="production"}"#,
    );
}

#[test]
fn cuts_examples() {
    let long = "é".repeat(500);
    for labels in [
        [("__name__", long.as_str()), ("cluster", "staging")],
        [("__name__", "up"), ("cluster", long.as_str())],
    ] {
        let verdict = verdict(Protocol::V1, STRICT, &message(Protocol::V1, &labels));
        let example = &verdict.rejections[0].example;
        assert!(
            example.ends_with("...") && (150..=163).contains(&example.len()),
            "{example}"
        );
    }
}
