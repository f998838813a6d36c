//! What a thousand spokes cost the browser and the gate. The figures are printed, and decide nothing.
//!
//! With `HUBGATE_RELEASE`, a release build, they are those of an hour in which all spokes wrote.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{open, url};
use crate::api::ask;
use crate::support::body::{Protocol, bare};
use crate::support::browser::Browser;
use crate::support::config::{config, spoke};
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::sender::Request;
use crate::support::{DEADLINE, eventually};

/// The variable of the environment that names the release build, by its whole path.
const RELEASE_VARIABLE: &str = "HUBGATE_RELEASE";

const SPOKES: usize = 1000;

/// An hour is over in a minute.
const SPEED: u32 = 60;

/// The polls whose mean is shown.
const POLLS: u32 = 20;

fn name(number: usize) -> String {
    format!("spoke-{number:04}")
}

async fn write_as_all(gate: &Gate) {
    let status = ask(gate, "/api/v1/status").await;
    let now = status["timestamp_seconds"].as_f64().unwrap() * 1000.0;
    for number in 0..SPOKES {
        let up = [bare("__name__=up").sample(1.0, now as i64)];
        gate.write_as(&name(number), Protocol::V2, &up)
            .await
            .expect(204);
    }
}

#[tokio::test]
async fn a_thousand_spokes_are_shown() {
    let release = std::env::var_os(RELEASE_VARIABLE).map(PathBuf::from);
    let whole = release.is_some();
    let hub = ScriptedHub::start().await;
    let spokes: Vec<_> = (0..SPOKES).map(|it| spoke(&name(it), "")).collect();
    let yaml = config(&hub.url(), &spokes);
    let gate = match release {
        Some(program) => Gate::start_program(&program, &yaml, SPEED).await,
        None => Gate::start(&yaml).await,
    };
    if whole {
        write_as_all(&gate).await;
        let memory = gate.memory_bytes("VmRSS");
        let steps = async || {
            let kept = get(&gate, "/api/v1/history").await;
            let kept: Value = serde_json::from_str(&kept).unwrap();
            let steps = kept["spokes"][&name(0)].as_array().unwrap().len();
            if steps == 240 { Ok(()) } else { Err(steps) }
        };
        eventually("an hour is kept", Duration::from_mins(3), steps).await;
        let more = gate.memory_bytes("VmRSS").saturating_sub(memory);
        eprintln!("memory after an hour: {} KiB more", more / 1024);
    }
    polls(&gate).await;

    let mut browser = open(&gate, "").await;
    let first = shown(&mut browser).await;
    eprintln!("page, in a browser that has just started, ms: {first}");
    for _ in 0..5 {
        browser.go("about:blank").await;
        browser.go(&url(&gate, "")).await;
        let again = shown(&mut browser).await;
        eprintln!("page, opened again, ms: {again}");
    }
    let first = shown(&mut browser).await;
    if whole {
        write_as_all(&gate).await;
    }
    let later = format!(
        "performance.getEntriesByName('update')[0]?.startTime > {}",
        first["at"]
    );
    browser.until(&later).await;
    eprintln!("page, later, ms: {}", browser.value(FIGURES).await);
    browser.picture("thousand").await;
    browser.expect_no_complaint().await;
}

/// What the browser measured: until the first paint, until the sentence and the rows in sight were there, and for
/// an update.
const FIGURES: &str = "(() => {
    const paint = performance.getEntriesByName('first-contentful-paint')[0]?.startTime;
    const sentence = performance.getEntriesByName('sentence')[0]?.startTime;
    const update = performance.getEntriesByName('update')[0];
    return {paint, sentence, rows: update?.startTime + update?.duration, update: update?.duration, at: update?.startTime};
})()";

/// The figures, once all spokes are shown.
async fn shown(browser: &mut Browser) -> Value {
    browser
        .until("document.querySelectorAll('#rows tr').length === 1000")
        .await;
    browser.value(FIGURES).await
}

/// What the page asks every 5 s.
async fn polls(gate: &Gate) {
    let newest = ask(gate, "/api/v1/history").await["newest"].take();
    let version = ask(gate, "/api/v1/spokes").await["version"].take();
    let paths = [
        "/api/v1/status",
        "/api/v1/spokes",
        &format!("/api/v1/spokes?since={}", version.as_str().unwrap()),
        &format!("/api/v1/history?since={newest}"),
    ];
    for path in [&paths[..], &["/api/v1/history"]].concat() {
        let (cpu, start) = (cpu_seconds(gate).await, Instant::now());
        let mut bytes = 0;
        for _ in 0..POLLS {
            bytes = get(gate, path).await.len();
        }
        let time = start.elapsed() / POLLS;
        let cpu = (cpu_seconds(gate).await - cpu) / f64::from(POLLS);
        eprintln!(
            "{path}: {bytes} bytes, {time:?}, {:.1} ms of CPU",
            cpu * 1000.0
        );
    }
}

/// An answer of a gate whose timeouts may be so short that it closes a connection before it answers.
async fn get(gate: &Gate, path: &str) -> String {
    let response = eventually(path, DEADLINE, async || {
        Request::get(path).send(gate.admin_address()).await
    });
    response.await.expect(200).text
}

async fn cpu_seconds(gate: &Gate) -> f64 {
    gate.sum("process_cpu_seconds_total", &[]).await
}
