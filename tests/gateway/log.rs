//! What the log says of a start, of a doubtful configuration, of a hub that is not there, and of a spoke
//! that begins to write.

use serde_json::{Value, json};

use crate::support::body::{Protocol, up};
use crate::support::config::{config, config_hubs, hub_named, spoke};
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::sender::Request;
use crate::support::{DEADLINE, eventually};

const HUB: &str = "http://127.0.0.1:9/api/v1/write";

/// The lines with this message.
fn lines(gate: &Gate, message: &str) -> Vec<Value> {
    let log = gate.log().into_iter();
    let lines = log.map(|line| serde_json::from_str::<Value>(&line).unwrap());
    lines.filter(|line| line["message"] == message).collect()
}

#[tokio::test]
async fn a_start_says_what_runs_and_with_which_limits() {
    let spokes = [spoke("production", ""), spoke("staging", "")];
    let hubs = [
        hub_named("a", "http://127.0.0.1:9/api/v1/write?key=hidden", ""),
        hub_named("b", "http://127.0.0.1:10/api/v1/push", ""),
    ];
    let two = "http://127.0.0.1:9/api/v1/write, http://127.0.0.1:10/api/v1/push";
    let limits = "limits: {body_bytes_max: 1MiB, bytes_in_flight_max: 40MiB}\n";
    let cases = [
        (config(HUB, &spokes[..1]), HUB, 1, 256 << 20, 32 << 20),
        (
            format!("{limits}{}", config_hubs("all", &hubs, &spokes)),
            two,
            2,
            40 << 20,
            1 << 20,
        ),
    ];
    for (yaml, hubs, spokes, bytes_in_flight_max, body_bytes_max) in cases {
        let gate = Gate::start(&yaml).await;
        let starts = lines(&gate, "starting hubgate");
        let [line] = &starts[..] else {
            panic!("one line: {starts:?}");
        };
        let wanted = json!({
            "level": "INFO",
            "message": "starting hubgate",
            "timestamp": line["timestamp"],
            "version": env!("CARGO_PKG_VERSION"),
            "revision": line["revision"],
            "file": gate.config_file(),
            "hubs": hubs,
            "spokes": spokes,
            "threads": std::thread::available_parallelism().unwrap(),
            "connections_max": 4096,
            "bytes_in_flight_max": bytes_in_flight_max,
            "body_bytes_max": body_bytes_max,
            "decoded_bytes_max": 32 << 20,
        });
        assert_eq!(*line, wanted);
    }
}

#[tokio::test]
async fn a_start_has_as_many_threads_as_it_is_told() {
    for threads in [1, 17] {
        let yaml = config(HUB, &[spoke("production", "")]);
        let gate = Gate::start_with_threads(&yaml, threads).await;
        let starts = lines(&gate, "starting hubgate");
        assert_eq!(starts[0]["threads"], threads, "{starts:?}");
        // One more thread waits for signals, and a few look up names and read files.
        let running = gate.threads() - 1;
        assert!(
            (threads..threads + 8).contains(&running),
            "{running} threads"
        );
    }
}

#[tokio::test]
async fn a_doubtful_configuration_is_logged_at_the_start_and_at_each_reload() {
    let valid = config(HUB, &[spoke("production", "")]);
    let doubtful = |path: &str| valid.replace("/api/v1/write", path);
    let gate = Gate::start(&doubtful("")).await;
    gate.reload_with(&doubtful("/metrics")).await;
    gate.reload_with(&valid).await;
    gate.wait_for_log(&["takes no remote write"]).await;
    let found = lines(&gate, "the configuration is doubtful");
    let warnings: Vec<_> = found
        .iter()
        .map(|it| it["warning"].as_str().unwrap())
        .collect();
    let [start, reload] = warnings[..] else {
        panic!("two lines: {found:?}");
    };
    assert!(start.contains("hub.url: has no path"), "{start}");
    assert!(
        reload.contains("hub.url: has a path that takes no"),
        "{reload}"
    );
    assert!(found.iter().all(|it| it["level"] == "WARN"), "{found:?}");
}

#[tokio::test]
async fn why_a_hub_cannot_be_reached_is_logged_now_and_then() {
    let gate = Gate::start_for(HUB, "").await;
    gate.wait_for_log(&["cannot connect to the hub", "Connection refused"])
        .await;
    eventually("a second probe", DEADLINE, async || {
        let probes = lines(&gate, "cannot probe the hub").len();
        if probes < 2 { Err(probes) } else { Ok(()) }
    })
    .await;
    let found = lines(&gate, "cannot connect to the hub");
    assert_eq!(found.len(), 1, "{found:?}");
}

#[tokio::test]
async fn the_first_write_of_a_spoke_is_logged_once() {
    let hub = ScriptedHub::start().await;
    let spokes = [spoke("production", ""), spoke("staging", "")];
    let yaml = config(&hub.url(), &spokes);
    let gate = Gate::start(&yaml).await;
    let message = "first write of a spoke";
    // Nothing is written: no credential, and a message without samples.
    gate.send(Request::up()).await.expect(401);
    gate.write(Protocol::V1, &[]).await.expect(204);
    for _ in 0..3 {
        gate.write(Protocol::V1, &up()).await.expect(204);
    }
    gate.reload_with(&format!("{yaml}\n")).await;
    gate.write(Protocol::V1, &up()).await.expect(204);
    gate.write_as("staging", Protocol::V2, &up())
        .await
        .expect(204);
    gate.wait_for_log(&[message, "staging"]).await;
    let found = lines(&gate, message);
    let seen = found.iter().map(|it| {
        assert_eq!(it["level"], "INFO");
        let text = |key: &str| it[key].as_str().unwrap().to_owned();
        [text("spoke"), text("address"), text("protocol")].join(" ")
    });
    let seen: Vec<_> = seen.collect();
    assert_eq!(seen, ["production 127.0.0.1 v1", "staging 127.0.0.1 v2"]);
}
