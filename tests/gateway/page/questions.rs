//! The page answers who is silent or late, who is refused and why, and what will break next.
//!
//! The clock of the gate runs faster, since a spoke is silent after five minutes.

use std::time::{Duration, SystemTime};

use serde_json::json;
use tokio::time::interval;

use super::{open, url};
use crate::api::ask;
use crate::support::body::{Protocol, bare};
use crate::support::config::{config, not_after, spoke, spoke_with, token, token_sha256};
use crate::support::eventually;
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::sender::Request;

const SPEED: u32 = 20;

const BETWEEN_WRITES: Duration = Duration::from_millis(250);

const MINUTE: i64 = 60_000;

/// Has each spoke write what it is named for. Does not return.
async fn write(gate: &Gate) {
    let mut ticks = interval(BETWEEN_WRITES);
    for tick in 0_u32.. {
        ticks.tick().await;
        let now = ask(gate, "/api/v1/status").await["timestamp_seconds"].as_f64();
        let now = (now.unwrap() * 1000.0) as i64;
        let samples = |count: usize, time: i64, labels: &str| -> Vec<_> {
            let name = |number| format!("__name__=up,instance=i{number}{labels}");
            let names = (0..count).map(name);
            names.map(|it| bare(&it).sample(1.0, time)).collect()
        };
        let writes = [
            ("ending", samples(9, now, "")),
            ("forged", samples(1, now, ",cluster=ending")),
            ("late", samples(1, now - 14 * MINUTE, "")),
            ("limited", samples(40, now, "")),
            ("silent", samples(1, now, "")),
        ];
        for (name, series) in writes {
            if name != "silent" || tick == 0 {
                let request = Request::series(Protocol::V1, &series).spoke(name);
                // What becomes of it is on the page.
                let _ = gate.try_send(request).await;
            }
        }
    }
}

async fn look(gate: &Gate) {
    eventually("all is wrong", Duration::from_mins(1), async || {
        let status = ask(gate, "/api/v1/status").await;
        let are = ["late", "limited", "never_came", "refused", "silent"]
            .iter()
            .all(|it| status["spokes"][it] == json!(1));
        let told = status["ahead"].as_array().unwrap().len() >= 3;
        if are && told { Ok(()) } else { Err(status) }
    })
    .await;
    let mut browser = open(gate, "").await;
    browser
        .until("document.querySelectorAll('#ahead li').length >= 3")
        .await;
    let text = browser.text().await;
    for part in [
        // Who is silent or late, and who is refused and why.
        "never came never came; silent has been silent for ",
        "of forged is refused (mismatched_label); ",
        "rate_limited",
        // What will break next.
        "of spoke ending ends in 12 d.",
        "90 % of active_series_max of ending is in use.",
        "% of samples_per_second of limited is in use.",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let late = "/late\\s[^]*1[4-9] min/.test(document.querySelector('[data-name=late]').innerText)";
    assert_eq!(browser.value(late).await, true, "{text}");
    let findings = browser.accessibility_findings("what is ahead").await;
    assert!(findings.is_empty(), "{findings:#?}");
    browser.picture("questions").await;
    browser.go(&url(gate, "#/spokes/forged")).await;
    browser
        .until_text("The cluster label names another spoke.")
        .await;
    browser.expect_no_complaint().await;
}

#[tokio::test]
async fn the_three_questions_of_an_operator_are_answered() {
    let hub = ScriptedHub::start().await;
    // The clock of the gate is an hour behind.
    let end = SystemTime::now() + Duration::from_hours(12 * 24 + 10);
    let ends = not_after(&token_sha256(&token("ending")), end);
    let spokes = [
        spoke_with("ending", &ends, "limits: {active_series_max: 10}"),
        spoke("forged", "labels: {mismatch: reject}"),
        spoke("late", ""),
        spoke("limited", "limits: {samples_per_second: 1}"),
        spoke("never came", ""),
        spoke("silent", ""),
    ];
    let gate = Gate::start_with_fast_clock(&config(&hub.url(), &spokes), SPEED).await;
    tokio::select! {
        () = write(&gate) => unreachable!("it does not return"),
        () = look(&gate) => {}
    }
}
