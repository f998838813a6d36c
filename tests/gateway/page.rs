//! The status page in a real browser.

mod charts;
mod door;
mod figures;
mod hostile_texts;
mod news;
mod picture;
mod place;
mod questions;
mod wall;

use serde_json::json;

use crate::api::{HOSTILE, start_with_all_conditions, start_with_all_conditions_and_silence};
use crate::support::body::{Protocol, bare, series};
use crate::support::browser::Browser;
use crate::support::config::{config, spoke};
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::sender::Request;

fn url(gate: &Gate, fragment: &str) -> String {
    format!("http://{}/{fragment}", gate.admin_address())
}

/// The views, and a text that each has once it has its data.
const VIEWS: [(&str, &str); 5] = [
    ("#/spokes", "rate_limited"),
    ("#/spokes/refused", "remote_write:"),
    ("#/hubs", "Requests under way"),
    ("#/door", "Nothing was refused."),
    ("#/reasons", "mismatched_label"),
];

/// Shows the table of spokes, once it has its rows.
async fn open(gate: &Gate, fragment: &str) -> Browser {
    let mut browser = Browser::start(1280, 900).await;
    browser.go(&url(gate, fragment)).await;
    browser
        .until("document.querySelectorAll('#rows tr').length > 0")
        .await;
    browser
}

/// The names in the table, in their order.
const NAMES: &str =
    "[...document.querySelectorAll('#rows tr:not([hidden]) th')].map((it) => it.innerText)";

async fn names(browser: &mut Browser) -> Vec<String> {
    let names = browser.value(NAMES).await;
    let names = names.as_array().unwrap().iter();
    names.map(|it| it.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn every_condition_is_seen_and_the_worst_come_first() {
    let (_hub, gate) = start_with_all_conditions_and_silence().await;
    let mut browser = open(&gate, "").await;
    let expected = [
        "never came",
        "silent",
        "refused",
        "failing",
        "limited",
        "late",
        "writing",
    ];
    assert_eq!(names(&mut browser).await, expected);
    for name in expected {
        let state = format!("document.querySelector('[data-name=\"{name}\"] .state').innerText");
        assert_eq!(browser.value(&state).await, name);
    }
    let text = browser.text().await;
    for part in [
        "4 of 7 spokes write; never came never came; silent ",
        "mismatched_label",
        "samples_per_second",
        concat!("Version\n", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    // The test may take a while.
    for (part, element) in [
        ("silent has been silent for \\d+ min; ", "#summary"),
        ("\\d+ min", "[data-name=late] td:nth-child(5)"),
    ] {
        let found = format!("/{part}/.test(document.querySelector('{element}').innerText)");
        assert_eq!(browser.value(&found).await, true, "{part} in\n{text}");
    }
    browser.picture("spokes-light").await;
    browser.prefer("dark").await;
    browser.picture("spokes-dark").await;
    browser.expect_no_complaint().await;
}

#[tokio::test]
async fn search_order_and_filter_are_in_the_url_and_come_back_from_it() {
    let (_hub, gate) = start_with_all_conditions().await;
    let mut browser = open(&gate, "").await;
    browser
        .value("document.querySelector('#query').focus()")
        .await;
    browser.insert("mismatched").await;
    browser
        .until("location.hash.includes('q=mismatched')")
        .await;
    assert_eq!(names(&mut browser).await, ["refused"]);
    browser
        .value("[...document.querySelectorAll('#columns button')][0].click()")
        .await;
    let hash = browser.value("location.hash").await;
    let mut another = open(&gate, hash.as_str().unwrap()).await;
    assert_eq!(names(&mut another).await, ["refused"]);
    let come_back = "[document.querySelector('#query').value,
        document.querySelector('[aria-sort=ascending]').innerText]";
    let come_back = another.value(come_back).await;
    assert_eq!(come_back, json!(["mismatched", "Spoke"]));
    another.go(&url(&gate, "#/spokes?sort=name&dir=desc")).await;
    another
        .until("document.querySelector('[aria-sort=descending]')")
        .await;
    let expected = [
        "writing",
        "refused",
        "never came",
        "limited",
        "late",
        "failing",
    ];
    assert_eq!(names(&mut another).await, expected);
    another.go(&url(&gate, "#/spokes?state=late")).await;
    another
        .until("document.querySelectorAll('#rows tr:not([hidden])').length === 1")
        .await;
    assert_eq!(names(&mut another).await, ["late"]);
    let pressed = another
        .value("document.querySelector('[aria-pressed=true]').innerText")
        .await;
    assert_eq!(pressed, "late 1");
    for browser in [&mut browser, &mut another] {
        browser.expect_no_complaint().await;
    }
}

#[tokio::test]
async fn a_spoke_is_shown_whole_and_what_it_wrote_is_only_text() {
    let (_hub, gate) = start_with_all_conditions().await;
    let mut browser = open(&gate, "").await;
    browser.go(&url(&gate, "#/spokes/refused")).await;
    browser.until_text("remote_write:").await;
    let text = browser.text().await;
    for part in [
        "The cluster label names another spoke.",
        "labels.mismatch: rename",
        "<img src=x onerror=alert(1)>\\u{202e}\\u{1b}[31m",
        "credentials_file",
        "rejected: mismatched_label",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let hostile: Vec<char> = HOSTILE
        .chars()
        .filter(|it| !it.is_ascii_graphic())
        .collect();
    assert!(!text.contains(['\u{202e}', '\u{1b}']), "{hostile:?}");
    assert_eq!(
        browser
            .value("document.querySelectorAll('main img').length")
            .await,
        0
    );
    browser.picture("spoke").await;
    browser.go(&url(&gate, "#/spokes/nobody")).await;
    browser
        .until_text("No spoke of this name is configured.")
        .await;
    // In another view, no further question is refused.
    browser.go(&url(&gate, "#/hubs")).await;
    browser.until_text("Requests under way").await;
    browser.expect_complaint("404").await;
    for (fragment, text) in [
        ("#/hubs", "Requests under way"),
        ("#/reasons", "mismatched_label"),
    ] {
        browser.go(&url(&gate, fragment)).await;
        browser.until_text(text).await;
        browser.picture(&fragment[2..]).await;
    }
    browser.expect_no_complaint().await;
}

#[tokio::test]
async fn the_page_follows_what_happens_and_says_when_it_cannot() {
    let hub = ScriptedHub::start().await;
    let yaml = config(&hub.url(), &[spoke("production", ""), spoke("staging", "")]);
    let mut gate = Gate::start(&yaml).await;
    let mut browser = open(&gate, "").await;
    browser.until_text("0 of 2 spokes write").await;
    gate.send(Request::up().spoke("staging")).await.expect(204);
    browser
        .until_text("1 of 2 spokes writes; production has not come in the ")
        .await;
    gate.write(Protocol::V2, &[series("__name__=up")])
        .await
        .expect(204);
    browser.until_text("All 2 spokes write.").await;
    browser.expect_no_complaint().await;
    gate.signal("INT");
    gate.wait_for_exit().await;
    browser
        .until_text("hubgate cannot be reached. What is shown is of ")
        .await;
    let findings = browser.accessibility_findings("no hubgate").await;
    assert!(findings.is_empty(), "{findings:#?}");
    browser.expect_complaint("ERR_CONNECTION_REFUSED").await;
}

/// A fault of the page is none of hubgate.
#[tokio::test]
async fn a_fault_of_the_page_is_not_taken_for_a_gate_that_is_gone() {
    let (_hub, gate) = start_with_all_conditions().await;
    let mut browser = open(&gate, "").await;
    browser.expect_no_complaint().await;
    browser
        .value("document.querySelector('#summary').remove()")
        .await;
    browser
        .until_text("This page has a fault, of which the console of the browser says more.")
        .await;
    browser.expect_complaint("TypeError").await;
}

#[tokio::test]
async fn a_sample_of_a_time_that_no_calendar_has_breaks_nothing() {
    let hub = ScriptedHub::start().await;
    let gate = Gate::start(&config(&hub.url(), &[spoke("production", "")])).await;
    let old = [bare("__name__=up").sample(1.0, -9_000_000_000_000_000)];
    gate.write(Protocol::V2, &old).await.expect(204);
    let mut browser = open(&gate, "").await;
    browser.go(&url(&gate, "#/spokes/production")).await;
    browser.until_text("remote_write:").await;
    let text = browser.text().await;
    assert!(text.contains("newest sample of –"), "{text}");
    browser.expect_no_complaint().await;
}

#[tokio::test]
async fn a_limit_is_shown_in_its_unit() {
    let hub = ScriptedHub::start().await;
    let limits =
        "limits: {bytes_in_flight_max: 128MiB, samples_age_max: 7d, samples_per_second: 50000}";
    let gate = Gate::start(&config(&hub.url(), &[spoke("production", limits)])).await;
    let mut browser = open(&gate, "").await;
    browser.go(&url(&gate, "#/spokes/production")).await;
    browser.until_text("samples_age_max").await;
    let text = browser.text().await;
    for (limit, shown) in [
        ("bytes_in_flight_max", "128 MiB"),
        ("samples_age_max", "7 d"),
        ("samples_per_second", "50 k"),
    ] {
        let mut lines = text.lines();
        let found = lines.any(|it| it.starts_with(limit) && it.contains(shown));
        assert!(found, "{limit} of {shown} in\n{text}");
    }
    browser.expect_no_complaint().await;
}

#[tokio::test]
async fn nothing_is_cut_off_on_a_telephone() {
    let (_hub, gate) = start_with_all_conditions().await;
    let mut browser = open(&gate, "").await;
    browser.resize(360, 740).await;
    for (view, text) in VIEWS {
        browser.go(&url(&gate, view)).await;
        browser.until_text(text).await;
        let width = browser.value("document.documentElement.scrollWidth").await;
        assert!(width.as_u64().unwrap() <= 360, "{view}: {width}");
        browser
            .picture(&format!("narrow{}", view.replace(['#', '/'], "-")))
            .await;
    }
    browser.expect_no_complaint().await;
}

/// Each view, in both schemes of colours and on a telephone, while a configuration is not valid as well.
#[tokio::test]
async fn axe_finds_nothing_that_keeps_people_from_using_it() {
    let (_hub, mut gate) = start_with_all_conditions().await;
    gate.allow_error("the configuration is not valid");
    gate.write_config("hub: nowhere\n");
    gate.reload().await.expect(500);
    let mut browser = open(&gate, "").await;
    let mut findings = Vec::new();
    for (view, text) in VIEWS {
        browser.go(&url(&gate, view)).await;
        browser.until_text(text).await;
        for (scheme, width) in [("light", 1280), ("dark", 1280), ("light", 360)] {
            browser.prefer(scheme).await;
            browser.resize(width, 900).await;
            let shown = format!("{view} {scheme} {width}");
            findings.extend(browser.accessibility_findings(&shown).await);
        }
    }
    assert!(findings.is_empty(), "{findings:#?}");
    // It finds what there is.
    browser
        .value("document.querySelector('.name img').removeAttribute('alt')")
        .await;
    let findings = browser.accessibility_findings("planted").await;
    assert!(
        findings.iter().any(|it| it.contains("image-alt")),
        "{findings:#?}"
    );
    browser.expect_no_complaint().await;
}

/// Everything can be reached and used without a pointer, and the focus is seen.
#[tokio::test]
async fn the_keyboard_is_enough() {
    let (_hub, gate) = start_with_all_conditions().await;
    let mut browser = open(&gate, "").await;
    let focused = "(document.activeElement.innerText || document.activeElement.id)";
    browser.press("Tab").await;
    assert_eq!(browser.value(focused).await, "Skip to the content");
    let before = browser.value("location.href").await;
    browser.press("Enter").await;
    browser.until("document.activeElement.id === 'main'").await;
    assert_eq!(browser.value("location.href").await, before);
    browser.value("document.activeElement.blur()").await;
    browser
        .value("document.querySelector('#skip').focus()")
        .await;
    let mut seen = Vec::new();
    for _ in 0..60 {
        browser.press("Tab").await;
        let name = browser.value(focused).await.as_str().unwrap().to_owned();
        let outline = browser
            .value("getComputedStyle(document.activeElement).outlineStyle")
            .await;
        assert_ne!(outline, "none", "{name} shows no focus");
        if name == "Spoke" {
            browser.press("Enter").await;
            browser
                .until("document.querySelector('[aria-sort=ascending]').innerText === 'Spoke'")
                .await;
        }
        let last = name == "late";
        seen.push(name);
        if last {
            break;
        }
    }
    for name in ["Hubs", "Reasons", "query", "all 6", "Samples/s", "failing"] {
        assert!(seen.iter().any(|it| it == name), "{name} in {seen:?}");
    }
    browser.press("Enter").await;
    browser.until("location.hash === '#/spokes/late'").await;
    browser.until("document.activeElement.id === 'main'").await;
    browser.expect_no_complaint().await;
}

/// What the other tests rely on: the policy of the page keeps out what is not of hubgate, and says so.
#[tokio::test]
async fn a_file_from_elsewhere_and_a_script_in_the_page_are_kept_out() {
    let (_hub, gate) = start_with_all_conditions().await;
    let mut browser = open(&gate, "").await;
    browser.expect_no_complaint().await;
    browser
        .value(
            "new Promise((done) => {
                addEventListener('securitypolicyviolation', () => done(true), {once: true});
                document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/x.png'}));
            })",
        )
        .await;
    browser.expect_complaint("Content Security Policy").await;
    let markup = "(() => { try { document.body.innerHTML = '<p>'; return 'taken'; } catch { return 'refused'; } })()";
    assert_eq!(browser.value(markup).await, "refused");
}
