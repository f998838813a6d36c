//! The page on a screen on the wall, which is read from three metres.

use super::open;
use crate::api::start_with_all_conditions;

/// The least height of a line of text, as a part of the height of the screen. On one of 55 inches, that
/// is a letter of five millimetres, which somebody with good eyes reads from three metres.
const TEXT: f64 = 0.014;

#[tokio::test]
async fn a_wall_screen_is_read_from_three_metres() {
    let (_hub, gate) = start_with_all_conditions().await;
    let mut browser = open(&gate, "").await;
    for (width, height) in [(1920, 1080), (3840, 2160)] {
        browser.resize(width, height).await;
        let smallest = browser
            .value(
                "Math.min(...[...document.querySelectorAll('#summary, #gate dd, #rows td, #rows th, #states button')]
                    .map((it) => parseFloat(getComputedStyle(it).fontSize)))",
            )
            .await;
        let part = smallest.as_f64().unwrap() / f64::from(height);
        assert!(part >= TEXT, "{smallest} px of {height}");
        let wide = browser.value("document.documentElement.scrollWidth").await;
        assert!(wide.as_u64().unwrap() <= width.into(), "{wide} of {width}");
        // Nobody scrolls there: the sentence and the spokes are on the first screen.
        let last = "document.querySelector('#rows tr:last-child').getBoundingClientRect().bottom";
        let last = browser.value(last).await;
        assert!(
            last.as_f64().unwrap() <= height.into(),
            "{last} of {height}"
        );
        let clipped = "[...document.querySelectorAll('#summary, #gate dd')].some((it) => it.scrollWidth > it.clientWidth + 1)";
        assert_eq!(browser.value(clipped).await, false);
        for scheme in ["light", "dark"] {
            browser.prefer(scheme).await;
            let shown = format!("wall-{width}-{scheme}");
            let findings = browser.accessibility_findings(&shown).await;
            assert!(findings.is_empty(), "{findings:#?}");
            browser.picture(&shown).await;
        }
    }
    browser.expect_no_complaint().await;
}
