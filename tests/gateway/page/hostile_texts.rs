//! Texts of 64 KiB that a spoke or a hub chose: cut before they reach the page, and only text there.

use serde_json::Value;

use super::{open, url};
use crate::api::{HOSTILE, ask};
use crate::support::body::{Protocol, bare, now, series};
use crate::support::config::{config, spoke};
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::reply::Reply;
use crate::support::sender::Request;

/// The longest label value that hubgate takes unless told otherwise.
const LONG: usize = 64 * 1024;

/// What a head of 32 KiB has room for beside the other headers.
const LONG_HEADER: usize = 30_000;

/// A text of this length in bytes, full of what would do harm where it is not taken for text.
fn hostile(bytes: usize) -> String {
    let text = format!("{HOSTILE}</code></bdi><script>alert(1)</script>\u{2066}\u{200f}");
    let mut text = text.repeat(bytes / text.len() + 1);
    text.truncate(text.floor_char_boundary(bytes));
    text
}

/// Puts a long text into everything that the page shows of a spoke.
async fn send_long_texts(hub: &ScriptedHub, gate: &Gate) {
    let text = hostile(LONG);
    // Headers hold visible ASCII.
    let header: String = hostile(LONG_HEADER)
        .chars()
        .map(|it| if it.is_ascii_graphic() { it } else { '>' })
        .collect();
    gate.write(Protocol::V1, &[series("__name__=up")])
        .await
        .expect(204);
    for labels in [
        format!("__name__=up,cluster=another,long={text}"),
        format!("__name__={text}"),
        format!("__name__=up,long={text}{text}"),
    ] {
        let refused = [bare(&labels).sample(1.0, now())];
        gate.write(Protocol::V1, &refused).await.expect(400);
    }
    hub.reply_always(Reply::status(400).text(&text).written(0, 0, 0));
    gate.write(Protocol::V2, &[series("__name__=up")])
        .await
        .expect(400);
    hub.reply_as_usual();
    let request = || Request::up().spoke("production");
    let encoded = request().header("content-encoding", &header);
    gate.send(encoded).await.expect(415);
    gate.send(request().header("user-agent", &header))
        .await
        .expect(204);
}

#[tokio::test]
async fn texts_of_64_kib_are_cut_and_do_nothing() {
    let hub = ScriptedHub::start().await;
    let limited = spoke("production", "limits: {active_series_max: 1}");
    let gate = Gate::start(&config(&hub.url(), &[limited])).await;
    send_long_texts(&hub, &gate).await;

    let shown = ask(&gate, "/api/v1/spokes/production").await;
    let length = |text: &Value| text.as_str().unwrap().len();
    assert_eq!(length(&shown["user_agent"]), 128);
    let mut examples = Vec::new();
    for refusal in shown["refusals"].as_array().unwrap() {
        examples.push((
            refusal["reason"].as_str().unwrap(),
            length(&refusal["example"]),
        ));
    }
    examples.sort_unstable();
    let expected = [
        // Beside the series, how many are too many, and a metric of 64 bytes, escaped.
        ("active_series", 276),
        ("content_encoding", 130),
        ("hub", 1044),
        ("label_length", 163),
        ("mismatched_label", 163),
    ];
    assert_eq!(examples, expected);

    let mut browser = open(&gate, "").await;
    for view in ["#/spokes/production", "#/spokes"] {
        browser.resize(1280, 900).await;
        browser.go(&url(&gate, view)).await;
        browser.until_text("<img").await;
        let text = browser.text().await;
        let invisible = ['\u{1b}', '\u{200f}', '\u{202e}', '\u{2066}'];
        assert!(!text.contains(invisible), "{text:?}");
        let elements = "document.querySelectorAll('main img, main script').length";
        assert_eq!(browser.value(elements).await, 0);
        for width in [1280, 360] {
            browser.resize(width, 900).await;
            let shown = browser.value("document.documentElement.scrollWidth").await;
            assert!(shown.as_u64().unwrap() <= width.into(), "{view}: {shown}");
            let name = format!("hostile-{width}{}", view.replace(['#', '/'], "-"));
            browser.picture(&name).await;
        }
    }
    browser.expect_no_complaint().await;
}
