//! What somebody reads, selects or scrolls stays under them while the page goes on.

use super::{open, url};
use crate::api::start_with_all_conditions;
use crate::support::body::{Protocol, series};
use crate::support::config::{config, spoke};
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::sender::Request;

/// Over an update, and for whoever comes back from a spoke.
#[tokio::test]
async fn a_long_list_keeps_the_place_and_the_focus() {
    let hub = ScriptedHub::start().await;
    let spokes: Vec<_> = (0..200)
        .map(|number| spoke(&format!("spoke-{number:03}"), ""))
        .collect();
    let gate = Gate::start(&config(&hub.url(), &spokes)).await;
    let mut browser = open(&gate, "").await;
    browser
        .until("document.querySelectorAll('#rows tr').length === 200")
        .await;
    browser
        .value("document.querySelector('[data-name=spoke-150] a').focus()")
        .await;
    let place = browser.value("scrollY").await;
    assert!(place.as_f64().unwrap() > 1000.0, "{place}");
    gate.send(Request::up().spoke("spoke-010"))
        .await
        .expect(204);
    browser.until_text("1 of 200 spokes writes").await;
    assert_eq!(browser.value("scrollY").await, place);
    let focused = browser.value("document.activeElement.innerText").await;
    assert_eq!(focused, "spoke-150");
    browser.press("Enter").await;
    browser.until_text("remote_write:").await;
    assert_eq!(browser.value("scrollY").await, 0);
    browser.value("history.back()").await;
    browser
        .until("document.activeElement.innerText === 'spoke-150'")
        .await;
    assert_eq!(browser.value("scrollY").await, place);
    browser.value("document.activeElement.blur()").await;
    browser
        .until("document.querySelector('#rows tr:last-child').dataset.name === 'spoke-010'")
        .await;
    browser.expect_no_complaint().await;
}

#[tokio::test]
async fn a_new_spoke_is_shown_while_somebody_is_in_the_table() {
    let hub = ScriptedHub::start().await;
    let spokes = ["a", "c"].map(|name| spoke(name, ""));
    let gate = Gate::start(&config(&hub.url(), &spokes)).await;
    let mut browser = open(&gate, "").await;
    browser
        .value("document.querySelector('[data-name=a] a').focus()")
        .await;
    let spokes = ["a", "b", "c"].map(|name| spoke(name, ""));
    gate.reload_with(&config(&hub.url(), &spokes)).await;
    browser
        .until("document.querySelector('#rows tr:last-child').dataset.name === 'b'")
        .await;
    let focused = browser.value("document.activeElement.innerText").await;
    assert_eq!(focused, "a");
    browser.expect_no_complaint().await;
}

/// What is read, selected or scrolled stays under whoever does it.
#[tokio::test]
async fn a_spoke_s_view_goes_on_while_somebody_is_in_it() {
    let (_hub, gate) = start_with_all_conditions().await;
    let mut browser = open(&gate, "").await;
    browser.resize(360, 740).await;
    browser.go(&url(&gate, "#/spokes/refused")).await;
    browser.until_text("rejected: mismatched_label").await;
    let table = "document.querySelectorAll('#spoke .scroll')[0]";
    browser.value(&format!("{table}.focus()")).await;
    browser.value(&format!("{table}.scrollLeft = 100")).await;
    gate.send(Request::up().spoke("refused")).await.expect(204);
    let written = "[...document.querySelectorAll('#spoke tr')].find((it) => it.innerText.startsWith('written')).innerText";
    browser
        .until(&format!("{written}.split(/\\s+/)[1] === '3'"))
        .await;
    assert_eq!(browser.value(&format!("{table}.scrollLeft")).await, 100);
    let focused = format!("document.activeElement === {table}");
    assert_eq!(browser.value(&focused).await, true);
    browser.expect_no_complaint().await;
}

/// The paragraph about new series stands before what somebody may just copy.
#[tokio::test]
async fn a_selection_outlives_a_paragraph_that_appears_before_it() {
    let hub = ScriptedHub::start().await;
    let limited = spoke("production", "limits: {active_series_max: 1}");
    let gate = Gate::start(&config(&hub.url(), &[limited])).await;
    let mut browser = open(&gate, "").await;
    browser.go(&url(&gate, "#/spokes/production")).await;
    browser.until_text("remote_write:").await;
    browser
        .value("getSelection().selectAllChildren(document.querySelector('#spoke pre code'))")
        .await;
    let selected = "getSelection().toString()";
    let before = browser.value(selected).await;
    assert!(
        before.as_str().unwrap().contains("remote_write:"),
        "{before}"
    );
    let appears = "Most new series lately";
    assert!(!browser.text().await.contains(appears));
    let many = ["a", "b", "c"].map(|name| series(&format!("__name__={name}")));
    gate.write(Protocol::V2, &many).await.expect(400);
    browser.until_text(appears).await;
    assert_eq!(browser.value(selected).await, before);
    browser.expect_no_complaint().await;
}
