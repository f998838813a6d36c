//! The charts of the last hour, at a gate whose clock runs faster.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::time::interval;

use super::{open, url};
use crate::api::ask;
use crate::support::body::{Protocol, bare};
use crate::support::browser::Browser;
use crate::support::config::{config, spoke};
use crate::support::eventually;
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::reply::Reply;
use crate::support::sender::Request;

/// A step of 15 s is over in 0.75 s.
const SPEED: u32 = 20;

const BETWEEN_WRITES: Duration = Duration::from_millis(250);

/// The writes that a hub fails, which are those of at least one whole step.
const FAILED: std::ops::Range<u32> = 12..20;

/// The steps with which the charts are looked at.
const STEPS: usize = 20;

/// Writes a sample that is taken and one that is refused, again and again. Does not return.
async fn write(hub: &ScriptedHub, gate: &Gate) {
    let mut ticks = interval(BETWEEN_WRITES);
    for tick in 0_u32.. {
        ticks.tick().await;
        match FAILED.contains(&tick) {
            true => hub.reply_always(Reply::status(503)),
            false => hub.reply_as_usual(),
        }
        let now = ask(gate, "/api/v1/status").await["timestamp_seconds"].as_f64();
        let now = (now.unwrap() * 1000.0) as i64;
        let series = [
            bare("__name__=up").sample(1.0, now),
            bare("__name__=up,cluster=another").sample(1.0, now),
        ];
        let request = Request::series(Protocol::V2, &series).spoke("production");
        // What becomes of it is on the page.
        let _ = gate.try_send(request).await;
    }
}

/// The titles of the charts in a section, with how many points their first lines connect.
async fn lines(browser: &mut Browser, section: &str) -> BTreeMap<String, u64> {
    let lines = format!(
        "Object.fromEntries([...document.querySelectorAll('{section} figure')].map((it) => [
            it.querySelector('strong').innerText,
            (it.querySelector('path.line:not(.second)')?.getAttribute('d').match(/[ML]/g) ?? []).length,
        ]))"
    );
    let lines = browser.value(&lines).await;
    serde_json::from_value(lines).unwrap()
}

async fn look(gate: &Gate) {
    eventually("steps", Duration::from_mins(1), async || {
        let hubs = ask(gate, "/api/v1/hubs").await;
        let steps = hubs["hubs"][0]["history"]["state"].as_array().unwrap();
        let many = steps.len() >= STEPS;
        if many { Ok(()) } else { Err(steps.clone()) }
    })
    .await;
    let mut browser = open(gate, "").await;
    browser
        .until("document.querySelector('#rows .line[d*=L]')")
        .await;
    for (view, text, expected) in [
        (
            "#/spokes/production",
            "remote_write:",
            &[
                "Written, samples a second",
                "Refused, samples a second",
                "Failed, samples a second",
                "Lag",
                "Used of active_series_max",
                "mismatched_label, series a second",
                "hub_failed, samples a second",
            ][..],
        ),
        (
            "#/hubs",
            "Requests under way",
            &[
                "Requests a second",
                "Failed, requests a second",
                "Time of a request",
                "Requests under way",
                "Requests waiting",
            ],
        ),
    ] {
        browser.resize(1280, 900).await;
        browser.go(&url(gate, view)).await;
        browser.until_text(text).await;
        let section = "main > section:not([hidden])";
        let lines = lines(&mut browser, section).await;
        for title in expected {
            let points = lines.get(*title).copied().unwrap_or_default();
            assert!(points >= STEPS as u64 / 2, "{title} in {lines:?}");
        }
        for width in [1280, 360] {
            browser.resize(width, 900).await;
            let shown = browser.value("document.documentElement.scrollWidth").await;
            assert!(shown.as_u64().unwrap() <= width.into(), "{view}: {shown}");
            let findings = browser.accessibility_findings(view).await;
            assert!(findings.is_empty(), "{findings:#?}");
            browser
                .picture(&format!("charts-{width}{}", view.replace(['#', '/'], "-")))
                .await;
        }
    }
    for state in ["up", "down"] {
        let bars = format!("document.querySelectorAll('#hubs .band .bar.{state}').length");
        assert!(browser.value(&bars).await.as_u64().unwrap() > 0, "{state}");
        let said =
            format!("/{state} \\d+ (s|min)/.test(document.querySelector('#hubs').innerText)");
        assert_eq!(browser.value(&said).await, true, "{state}");
    }
    browser.expect_no_complaint().await;
}

#[tokio::test]
async fn the_charts_show_what_happened_step_by_step() {
    let hub = ScriptedHub::start().await;
    let keys = "labels: {mismatch: reject}, limits: {active_series_max: 10}";
    let yaml = config(&hub.url(), &[spoke("production", keys)]);
    let gate = Gate::start_with_fast_clock(&yaml, SPEED).await;
    tokio::select! {
        () = write(&hub, &gate) => unreachable!("it does not return"),
        () = look(&gate) => {}
    }
}

/// A line has gaps where nothing is known.
#[tokio::test]
async fn a_value_between_two_gaps_is_a_dot_and_nothing_has_no_maximum() {
    let hub = ScriptedHub::start().await;
    let gate = Gate::start(&config(&hub.url(), &[spoke("production", "")])).await;
    let mut browser = open(&gate, "").await;
    let chart = async |browser: &mut Browser, values: &str, part: &str| -> Value {
        let script = format!(
            "import('/ui/charts.js').then(({{chart}}) =>
                chart('', [['', {values}]], (it) => it == null ? '–' : String(it)){part})"
        );
        browser.value(&script).await
    };
    let line = ".querySelector('path').getAttribute('d')";
    let drawn = chart(&mut browser, "[1, 1, null, 2, null]", line).await;
    let drawn = drawn.as_str().unwrap();
    let shape: String = drawn.chars().filter(char::is_ascii_alphabetic).collect();
    assert_eq!(shape, "MLMh", "{drawn}");
    let caption = ".querySelector('figcaption').textContent";
    for (values, said) in [
        ("[null, null]", "now –, at most –"),
        ("[]", "now –, at most –"),
        ("[null, 0]", "now 0, at most 0"),
    ] {
        assert_eq!(chart(&mut browser, values, caption).await, said, "{values}");
    }
    browser.expect_no_complaint().await;
}
