//! Reloads that are asked for again and again.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::support::config::spoke;
use crate::support::gate::{Gate, start_hub_and_gate};
use crate::support::sender::Request;
use crate::support::{DEADLINE, eventually_equal};

const RELOADED: &str = "the configuration is reloaded";

/// The number of reloads so far.
fn reloads(gate: &Gate) -> usize {
    let log = gate.log();
    log.iter().filter(|line| line.contains(RELOADED)).count()
}

fn reload() -> Request {
    Request::new("POST", "/-/reload")
}

#[tokio::test]
async fn a_storm_of_reloads_becomes_one_a_second_that_answers_everyone() {
    let (_hub, gate) = start_hub_and_gate("").await;
    let admin = gate.admin_address();
    let started = Instant::now();
    let mut storm = JoinSet::new();
    for _ in 0..20 {
        storm.spawn(async move {
            while started.elapsed() < Duration::from_secs(3) {
                let response = reload().send(admin).await.expect("a response");
                response.expect(200);
            }
        });
    }
    let yaml = std::fs::read_to_string(gate.config_file()).unwrap();
    let next = gate.folder().join("next.yaml");
    let mut new = 0;
    while !storm.is_empty() {
        gate.signal("HUP");
        let name = format!("new-{new}");
        new += 1;
        std::fs::write(&next, yaml.clone() + &spoke(&name, "")).unwrap();
        std::fs::rename(&next, gate.config_file()).unwrap();
        // Whatever load answers this began after the file was written.
        gate.reload().await.expect(200);
        for name in ["production", &name] {
            gate.send(Request::up().spoke(name)).await.expect(204);
        }
        while storm.try_join_next().is_some() {}
    }
    let (reloads, seconds) = (reloads(&gate), started.elapsed().as_secs_f64());
    assert!(reloads as f64 <= seconds + 2.0, "{reloads} in {seconds} s");
    gate.wait_for_log(&["the next reload waits"]).await;
}

/// The configuration file is a pipe here, so that a load takes as long as the test wants.
#[tokio::test]
async fn what_is_asked_for_during_a_reload_becomes_exactly_one_more() {
    let (hub, mut gate) = start_hub_and_gate("").await;
    gate.allow_error("hubgate.yaml");
    let yaml = std::fs::read_to_string(gate.config_file()).unwrap();
    let pipe = gate.folder().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success(), "mkfifo");
    std::fs::rename(&pipe, gate.config_file()).unwrap();
    let pipe = gate.config_file();

    let admin = gate.admin_address();
    let first = tokio::spawn(reload().send(admin));
    let mut content = open_for_writing(&pipe).await;
    let open_fds = gate.sum("process_open_fds", &[]).await;
    let mut during = JoinSet::new();
    for _ in 0..5 {
        during.spawn(reload().send(admin));
        gate.signal("HUP");
    }
    eventually_equal("they have connections", DEADLINE, true, async || {
        gate.sum("process_open_fds", &[]).await >= open_fds + 5.0
    })
    .await;
    content.write_all(yaml.as_bytes()).unwrap();
    drop(content);
    first.await.unwrap().expect("a response").expect(200);
    assert!(
        during.try_join_next().is_none(),
        "the file may have changed"
    );

    let mut content = open_for_writing(&pipe).await;
    content
        .write_all((yaml + "unknown: key\n").as_bytes())
        .unwrap();
    drop(content);
    for response in during.join_all().await {
        let response = response.expect("a response").expect(500);
        assert!(response.text.contains("unknown"), "{response:?}");
    }
    let third = tokio::time::timeout(Duration::from_secs(2), open_for_writing(&pipe)).await;
    assert!(third.is_err(), "one more load");
    // The test would wait for the thread that opens the pipe.
    drop(File::open(&pipe).unwrap());
    gate.send(Request::up().spoke("production"))
        .await
        .expect(204);
    hub.take_one();
}

/// Opens a pipe, which waits until a load reads it. That load ends when the file is dropped.
async fn open_for_writing(pipe: &Path) -> File {
    let pipe = pipe.to_owned();
    let open = move || File::options().write(true).open(pipe).unwrap();
    tokio::task::spawn_blocking(open).await.unwrap()
}
