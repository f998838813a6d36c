//! The label policy of a spoke: the labels that the hub gets under each setting.

use crate::support::body::{Protocol, bare, now, series};
use crate::support::config::{config, spoke};
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;

/// `default`, then a value of `labels.absent` and the values of `labels.mismatch`.
const POLICIES: [&str; 5] = ["default", "absent-reject", "reject", "rename", "overwrite"];

/// A gate with one spoke for each policy, named after it.
async fn start(hub: &ScriptedHub) -> Gate {
    let spokes = POLICIES.map(|policy| {
        let labels = match policy {
            "default" => String::new(),
            "absent-reject" => "labels: {absent: reject}".to_owned(),
            mismatch => format!("labels: {{mismatch: {mismatch}}}"),
        };
        spoke(policy, &labels)
    });
    Gate::start(&config(&hub.url(), &spokes)).await
}

/// A policy, the labels of a series, and its labels at the hub; `None` when it is refused.
const LABELS: [(&str, &str, Option<&str>); 20] = [
    (
        "default",
        "__name__=up",
        Some("__name__=up,cluster=default"),
    ),
    (
        "default",
        "__name__=up,cluster=default",
        Some("__name__=up,cluster=default"),
    ),
    (
        "default",
        "__name__=up,cluster=",
        Some("__name__=up,cluster=default"),
    ),
    (
        "default",
        "__name__=up,a=1,z=2",
        Some("__name__=up,a=1,cluster=default,z=2"),
    ),
    (
        "default",
        "z=2,cluster=default,a=1,__name__=up",
        Some("__name__=up,a=1,cluster=default,z=2"),
    ),
    (
        "default",
        "Z=1,__name__=up",
        Some("Z=1,__name__=up,cluster=default"),
    ),
    (
        "default",
        "__name__=up,a=,cluster=default,z=2",
        Some("__name__=up,cluster=default,z=2"),
    ),
    ("default", "__name__=up,cluster=DEFAULT", None),
    ("default", "__name__=up,cluster=default ", None),
    ("default", "__name__=up,cluster=other", None),
    ("reject", "__name__=up,cluster=other", None),
    ("reject", "__name__=up", Some("__name__=up,cluster=reject")),
    ("absent-reject", "__name__=up", None),
    ("absent-reject", "__name__=up,cluster=", None),
    (
        "absent-reject",
        "__name__=up,cluster=absent-reject",
        Some("__name__=up,cluster=absent-reject"),
    ),
    (
        "overwrite",
        "__name__=up,cluster=other,z=1",
        Some("__name__=up,cluster=overwrite,z=1"),
    ),
    (
        "rename",
        "__name__=up,cluster=other,z=1",
        Some("__name__=up,cluster=rename,exported_cluster=other,z=1"),
    ),
    (
        "rename",
        "__name__=up,cluster=rename",
        Some("__name__=up,cluster=rename"),
    ),
    ("rename", "__name__=up,cluster=a,cluster=b", None),
    ("overwrite", "__name__=up,cluster=a,cluster=overwrite", None),
];

#[tokio::test]
async fn each_policy_changes_or_refuses_labels_as_configured() {
    let hub = ScriptedHub::start().await;
    let gate = start(&hub).await;
    for (policy, sent, expected) in LABELS {
        for protocol in Protocol::BOTH {
            let neighbour = match policy {
                "absent-reject" => series("__name__=zz,cluster=absent-reject"),
                _ => series("__name__=zz"),
            };
            let batch = [series(sent), neighbour];
            let status = if expected.is_some() { 204 } else { 400 };
            let response = gate.write_as(policy, protocol, &batch).await;
            let case = format!("{protocol:?} {policy}: {sent}");
            assert_eq!(response.status, status, "{case}: {response:?}");
            let mut labels = hub.take_one().labels();
            assert_eq!(
                labels.pop().unwrap(),
                format!("__name__=zz,cluster={policy}")
            );
            assert_eq!(labels.pop().as_deref(), expected, "{case}");
        }
    }
    for policy in POLICIES {
        gate.expect_balanced_counts(policy).await;
    }
}

/// A scrape also adds `exported_` as often as needed, and never replaces another label.
#[tokio::test]
async fn renaming_never_repeats_a_label() {
    let hub = ScriptedHub::start().await;
    let gate = start(&hub).await;
    for protocol in Protocol::BOTH {
        let batch = [
            series("__name__=up,cluster=a,exported_cluster=b"),
            series("__name__=zz"),
        ];
        gate.write_as("rename", protocol, &batch).await.expect(204);
        for series in hub.take_one().series {
            let mut names: Vec<_> = series.labels.iter().map(|(name, _)| name).collect();
            names.dedup();
            assert_eq!(names.len(), series.labels.len(), "{}", series.notation());
            assert!(
                series
                    .labels
                    .contains(&("cluster".to_owned(), "rename".to_owned()))
            );
        }
    }
}

#[tokio::test]
async fn the_name_of_the_cluster_label_is_configurable() {
    let hub = ScriptedHub::start().await;
    let spokes = [spoke("production", "labels: {mismatch: rename}")];
    let yaml = format!("cluster_label: site\n{}", config(&hub.url(), &spokes));
    let gate = Gate::start(&yaml).await;
    for protocol in Protocol::BOTH {
        let batch = [
            series("__name__=up,cluster=x"),
            series("__name__=up,site=y"),
        ];
        gate.write(protocol, &batch).await.expect(204);
        assert_eq!(
            hub.take_one().labels(),
            [
                "__name__=up,cluster=x,site=production",
                "__name__=up,exported_site=y,site=production",
            ]
        );
    }
}

#[tokio::test]
async fn values_stay_the_same_bits_when_labels_change() {
    let hub = ScriptedHub::start().await;
    let gate = start(&hub).await;
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    for protocol in Protocol::BOTH {
        let mut batch = vec![
            bare("__name__=up,z=1")
                .sample(stale, 1)
                .sample(f64::from_bits(1), now())
                .sample(f64::INFINITY, i64::MIN)
                .exemplar("trace_id=abc,cluster=elsewhere", 5),
            bare("__name__=h").histogram(1_700_000_000_000),
        ];
        if protocol == Protocol::V2 {
            batch[0] = batch[0].clone().help("whether it is up");
        }
        gate.write_as("default", protocol, &batch).await.expect(204);
        let received = hub.take_one().series;
        assert_eq!(received[0].notation(), "__name__=up,cluster=default,z=1");
        for (sent, received) in batch.iter().zip(&received) {
            assert_eq!(received.samples, sent.samples);
            assert_eq!(received.histograms, sent.histograms);
            // The policy does not apply to the labels of an exemplar.
            assert_eq!(received.exemplars, sent.exemplars);
            assert_eq!(received.metadata, sent.metadata);
        }
    }
}
