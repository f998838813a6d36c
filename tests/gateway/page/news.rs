//! What a screen reader says of its own accord: that the condition of a spoke changed, and nothing else.

use super::open;
use crate::support::config::{config, spoke};
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::sender::Request;

#[tokio::test]
async fn who_listens_is_told_when_a_spoke_changes_and_not_at_each_update() {
    let hub = ScriptedHub::start().await;
    let spokes = ["production", "staging"].map(|name| spoke(name, ""));
    let gate = Gate::start(&config(&hub.url(), &spokes)).await;
    let mut browser = open(&gate, "").await;
    let watch = "(() => {
        const region = document.querySelector('#news');
        window.said = [];
        window.updates = [];
        new MutationObserver(() => said.push(region.textContent)).observe(region, {childList: true, characterData: true, subtree: true});
        new PerformanceObserver((list) => updates.push(...list.getEntries())).observe({entryTypes: ['measure']});
        return [region.getAttribute('role'), getComputedStyle(region).display, region.textContent];
    })()";
    let region = browser.value(watch).await;
    assert_eq!(region, serde_json::json!(["status", "block", ""]));
    // How long hubgate runs is in the sentence, and changes.
    browser.until("updates.length >= 2").await;
    assert_eq!(browser.value("said").await, serde_json::json!([]));
    gate.send(Request::up().spoke("staging")).await.expect(204);
    browser.until("said.length > 0").await;
    let said = browser.value("said").await;
    let [sentence] = said.as_array().unwrap().as_slice() else {
        panic!("once: {said}");
    };
    let sentence = sentence.as_str().unwrap();
    assert!(
        sentence.starts_with("1 of 2 spokes writes; production has not come"),
        "{sentence}"
    );
    let visible = browser
        .value("document.querySelector('#summary').textContent")
        .await;
    assert!(
        visible
            .as_str()
            .unwrap()
            .starts_with("1 of 2 spokes writes")
    );
    browser.until("updates.length >= 4").await;
    let said = browser.value("said.length").await;
    assert_eq!(said, 1, "nothing else changed");
    browser.expect_no_complaint().await;
}
