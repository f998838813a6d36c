//! Configuration changes at run time.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::config::{
    config, config_hubs, hub_named, spoke, spoke_with, token, token_sha256,
};
use crate::support::gate::{Gate, start_hub_and_gate};
use crate::support::hub::ScriptedHub;
use crate::support::sender::Request;
use crate::support::{DEADLINE, eventually_equal};

/// The status of a write with a spoke's token.
async fn status_of(gate: &Gate, spoke: &str) -> u16 {
    gate.send(Request::up().spoke(spoke)).await.status
}

/// Waits until a write of the spoke gets this status.
async fn wait_for_status(gate: &Gate, spoke: &str, status: u16) {
    eventually_equal(spoke, DEADLINE, status, async || {
        status_of(gate, spoke).await
    })
    .await;
}

/// Fails unless writes of these spokes get these statuses.
async fn expect_statuses<const N: usize>(gate: &Gate, expected: [(&str, u16); N]) {
    for (spoke, status) in expected {
        assert_eq!(status_of(gate, spoke).await, status, "{spoke}");
    }
}

/// Addresses for a file that is not written by [`Gate::write_config`].
const FREE_ADDRESSES: &str =
    "listen: {address: \"127.0.0.1:0\"}\nadmin: {address: \"127.0.0.1:0\"}\n";

const SUCCESSFUL: &str = "hubgate_config_last_reload_successful";

#[tokio::test]
async fn a_reload_adds_and_removes_spokes() {
    let hub = ScriptedHub::start().await;
    let gate = Gate::start(&config(
        &hub.url(),
        &[spoke("production", ""), spoke("old", "")],
    ))
    .await;
    expect_statuses(&gate, [("old", 204), ("new", 401)]).await;
    let before = gate.metrics().await;
    gate.reload_with(&config(
        &hub.url(),
        &[spoke("production", ""), spoke("new", "")],
    ))
    .await;
    expect_statuses(&gate, [("old", 401), ("new", 204)]).await;
    let after = gate.metrics().await;
    assert_eq!(after.sum(SUCCESSFUL, &[]), 1.0);
    let time = "hubgate_config_last_reload_success_timestamp_seconds";
    assert!(after.sum(time, &[]) >= before.sum(time, &[]));
    let spokes = after.label_values("hubgate_samples_received_total", "spoke");
    assert!(
        spokes.contains(&"new") && !spokes.contains(&"old"),
        "{spokes:?}"
    );
}

#[tokio::test]
async fn a_reload_keeps_the_counters_of_a_spoke_that_stays() {
    let (hub, gate) = start_hub_and_gate("").await;
    status_of(&gate, "production").await;
    gate.reload_with(&config(
        &hub.url(),
        &[spoke("production", ""), spoke("new", "")],
    ))
    .await;
    status_of(&gate, "production").await;
    assert_eq!(gate.samples("written", "float").await, 2.0);
}

#[tokio::test]
async fn the_counters_of_a_spoke_that_comes_back_start_at_zero() {
    let hub = ScriptedHub::start().await;
    let both = config(&hub.url(), &[spoke("production", ""), spoke("back", "")]);
    let gate = Gate::start(&both).await;
    status_of(&gate, "back").await;
    gate.reload_with(&config(&hub.url(), &[spoke("production", "")]))
        .await;
    gate.reload_with(&both).await;
    let metrics = gate.metrics().await;
    let back = [("spoke", "back")];
    for name in [
        "samples_written_total",
        "requests_total",
        "credential_last_used_timestamp_seconds",
    ] {
        assert_eq!(
            metrics.sum(&format!("hubgate_{name}"), &back),
            0.0,
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_reload_keeps_the_counters_of_a_hub_that_changes() {
    let hub = ScriptedHub::start().await;
    let yaml = |further: &str| {
        let hubs = [hub_named("hub", &hub.url(), further)];
        config_hubs("all", &hubs, &[spoke("production", "")])
    };
    let gate = Gate::start(&yaml("protocol: v1")).await;
    status_of(&gate, "production").await;
    gate.reload_with(&yaml("protocol: v1, timeout: 7s")).await;
    status_of(&gate, "production").await;
    let metrics = gate.metrics().await;
    let float = [("hub", "hub"), ("kind", "float")];
    let written = metrics.sum("hubgate_hub_samples_written_total", &float);
    assert_eq!(written, 2.0);
    let requests = [("hub", "hub"), ("code", "204")];
    assert_eq!(metrics.sum("hubgate_hub_requests_total", &requests), 2.0);
}

#[tokio::test]
async fn sighup_reloads_the_configuration() {
    let (hub, gate) = start_hub_and_gate("").await;
    gate.write_config(&config(
        &hub.url(),
        &[spoke("production", ""), spoke("new", "")],
    ));
    assert_eq!(status_of(&gate, "new").await, 401);
    gate.signal("HUP");
    wait_for_status(&gate, "new", 204).await;
}

#[tokio::test]
async fn a_reload_replaces_the_hub() {
    let (old, new) = (ScriptedHub::start().await, ScriptedHub::start().await);
    let gate = Gate::start_for(&old.url(), "").await;
    assert_eq!(status_of(&gate, "production").await, 204);
    old.take_one();
    gate.reload_with(&config(&new.url(), &[spoke("production", "")]))
        .await;
    assert_eq!(status_of(&gate, "production").await, 204);
    new.take_one();
    old.expect_no_request();
}

#[tokio::test]
async fn a_broken_file_changes_nothing_and_is_reported() {
    let hub = ScriptedHub::start().await;
    let good = config(&hub.url(), &[spoke("production", "")]);
    let mut gate = Gate::start(&good).await;
    gate.allow_error("hubgate.yaml");
    for (case, broken) in [
        ("unknown key", good.clone() + "spooks: []\n"),
        ("not YAML", good.clone() + "}{"),
        ("empty", String::new()),
        (
            "invalid hash",
            good.replace("token_sha256: ", "token_sha256: zz"),
        ),
    ] {
        gate.write_config(&broken);
        let response = gate.reload().await;
        assert!(response.status >= 400, "{case}: {response:?}");
        assert!(
            response.text.contains("hubgate.yaml"),
            "{case}: {response:?}"
        );
        assert_eq!(gate.sum(SUCCESSFUL, &[]).await, 0.0, "{case}");
        assert_eq!(status_of(&gate, "production").await, 204, "{case}");
    }
    gate.wait_for_log(&["hubgate.yaml", "spooks"]).await;
    gate.reload_with(&good).await;
    assert_eq!(gate.sum(SUCCESSFUL, &[]).await, 1.0);
}

/// Two spokes of the same looks would be one in every list.
#[tokio::test]
async fn a_name_with_an_invisible_character_is_refused_with_its_code_point() {
    let hub = ScriptedHub::start().await;
    let good = config(&hub.url(), &[spoke("production", "")]);
    let mut gate = Gate::start(&good).await;
    gate.allow_error("hubgate.yaml");
    let named = |name: &str| good.replace("name: production", &format!("name: {name}"));
    for (name, code) in [
        ("prod\u{200b}uction", "U+200B as character 5"),
        ("\"prod\\u202Euction\"", "U+202E as character 5"),
        ("\"production\\x07\"", "U+0007 as character 11"),
        ("\u{a0}production", "U+00A0 as character 1"),
    ] {
        gate.write_config(&named(name));
        let response = gate.reload().await.expect(500);
        let error = format!("spokes[0].name: contains {code}");
        assert!(response.text.contains(&error), "{name}: {response:?}");
    }
    expect_statuses(&gate, [("production", 204)]).await;
}

#[tokio::test]
async fn a_reload_reads_token_files_again() {
    let hub = ScriptedHub::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, token("first")).unwrap();
    let credential = format!("{{token_file: \"{}\"}}", path.display());
    let spokes = [spoke_with("production", &credential, "")];
    let gate = Gate::start(&config(&hub.url(), &spokes)).await;
    expect_statuses(&gate, [("first", 204), ("second", 401)]).await;
    std::fs::write(&path, token("second")).unwrap();
    gate.reload().await.expect(200);
    expect_statuses(&gate, [("first", 401), ("second", 204)]).await;
}

/// In a mounted Kubernetes volume the files link to `..data/`, which is replaced by a rename.
#[tokio::test]
async fn a_swapped_symlink_is_noticed_within_the_interval() {
    let hub = ScriptedHub::start().await;
    let folder = tempfile::tempdir().unwrap();
    let yaml = |spokes: &[String]| format!("{FREE_ADDRESSES}{}", config(&hub.url(), spokes));
    let before = yaml(&[spoke("production", "")]);
    mount(folder.path(), "..1", &[("hubgate.yaml", &before)]);
    let gate = Gate::start_in(folder, "200ms").await;
    expect_statuses(&gate, [("production", 204), ("new", 401)]).await;
    let after = yaml(&[spoke("production", ""), spoke("new", "")]);
    mount(&gate.folder(), "..2", &[("hubgate.yaml", &after)]);
    wait_for_status(&gate, "new", 204).await;
    assert_eq!(status_of(&gate, "production").await, 204);
}

#[tokio::test]
async fn files_that_come_and_go_in_a_folder_are_noticed_within_the_interval() {
    let hub = ScriptedHub::start().await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config");
    std::fs::create_dir(&config).unwrap();
    let credential = |name: &str| format!("credentials: [{}]", token_sha256(&token(name)));
    let spokes = format!("spokes: [{{name: a, {}}}]\n", credential("a"));
    let defaults = "spoke_defaults: {source_ranges: [192.0.2.1]}\n";
    let hub = format!("hub: {{url: \"{}\", protocol: v1}}\n", hub.url());
    let few = [
        ("hub.yaml", &*hub),
        ("listen.yaml", FREE_ADDRESSES),
        ("spokes.yaml", &spokes),
    ];
    mount(&config, "..1", &few);
    let mut gate = Gate::start_with_folder(folder, "200ms").await;
    gate.allow_error("config");
    expect_statuses(&gate, [("a", 204)]).await;
    mount(
        &config,
        "..2",
        &[&few[..], &[("defaults.yaml", defaults)]].concat(),
    );
    wait_for_status(&gate, "a", 403).await;
    mount(&config, "..3", &few);
    wait_for_status(&gate, "a", 204).await;
    mount(
        &config,
        "..4",
        &[&few[..], &[("again.yaml", &spokes)]].concat(),
    );
    gate.wait_for_log(&[
        "spokes.yaml:1:1: spokes: this key is given twice",
        "again.yaml:1:9",
    ])
    .await;
    expect_statuses(&gate, [("a", 204)]).await;
}

#[tokio::test]
async fn a_requested_reload_does_not_wait_for_the_interval() {
    let hub = ScriptedHub::start().await;
    let folder = tempfile::tempdir().unwrap();
    let yaml = |spokes: &[String]| format!("{FREE_ADDRESSES}{}", config(&hub.url(), spokes));
    let path = folder.path().join("hubgate.yaml");
    std::fs::write(&path, yaml(&[spoke("production", "")])).unwrap();
    let gate = Gate::start_in(folder, "1h").await;
    std::fs::write(&path, yaml(&[spoke("production", ""), spoke("new", "")])).unwrap();
    gate.reload().await.expect(200);
    assert_eq!(status_of(&gate, "new").await, 204);
    std::fs::write(&path, yaml(&[spoke("production", "")])).unwrap();
    gate.signal("HUP");
    wait_for_status(&gate, "new", 401).await;
}

#[tokio::test]
async fn a_new_spoke_file_is_noticed_within_the_interval() {
    let hub = ScriptedHub::start().await;
    let folder = tempfile::tempdir().unwrap();
    let spokes = folder.path().join("spokes.d");
    std::fs::create_dir(&spokes).unwrap();
    let files = format!("spoke_files: [\"{}/*.yaml\"]\n", spokes.display());
    let yaml = format!(
        "{FREE_ADDRESSES}{files}{}",
        config(&hub.url(), &[spoke("production", "")])
    );
    std::fs::write(folder.path().join("hubgate.yaml"), yaml).unwrap();
    let gate = Gate::start_in(folder, "200ms").await;
    expect_statuses(&gate, [("production", 204), ("new", 401)]).await;
    let element = spoke("new", "");
    let mapping = element.trim_start_matches("- ");
    std::fs::write(spokes.join("new.yaml"), mapping).unwrap();
    wait_for_status(&gate, "new", 204).await;
}

/// Replaces the data of a Kubernetes volume as the kubelet does.
fn mount(folder: &Path, version: &str, files: &[(&str, &str)]) {
    let data = folder.join(version);
    std::fs::create_dir(&data).unwrap();
    for (name, yaml) in files {
        std::fs::write(data.join(name), yaml).unwrap();
    }
    let fresh = folder.join("..data_tmp");
    std::os::unix::fs::symlink(version, &fresh).unwrap();
    std::fs::rename(&fresh, folder.join("..data")).unwrap();
    for (name, _) in files {
        let link = folder.join(name);
        if !link.is_symlink() {
            std::os::unix::fs::symlink(Path::new("..data").join(name), link).unwrap();
        }
    }
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() && !path.exists() {
            std::fs::remove_file(path).unwrap();
        }
    }
}

#[tokio::test]
async fn requests_in_flight_survive_a_reload() {
    let (hub, gate) = start_hub_and_gate("").await;
    hub.hold_responses();
    let address = gate.write_address();
    let sender = tokio::spawn(Request::up().spoke("production").send(address));
    hub.wait_for_requests(1).await;
    gate.reload_with(&config(&hub.url(), &[spoke("new", "")]))
        .await;
    hub.release_responses();
    sender.await.unwrap().expect("a response").expect(204);
}

#[tokio::test]
async fn a_token_is_revoked_even_when_another_change_needs_a_restart() {
    let hub = ScriptedHub::start().await;
    let credentials = |names: &[&str]| {
        let hashes = names.iter().map(|name| token_sha256(&token(name)));
        hashes.collect::<Vec<_>>().join(", ")
    };
    let yaml = |names: &[&str]| {
        let spokes = [spoke_with("production", &credentials(names), "")];
        config(&hub.url(), &spokes)
    };
    let gate = Gate::start(&yaml(&["kept", "revoked"])).await;
    for name in ["kept", "revoked"] {
        gate.send(Request::up().spoke(name)).await.expect(204);
    }
    let listen = "listen: {address: \"127.0.0.1:0\", connections_max: 7}\n";
    gate.reload_with(&format!("{listen}{}", yaml(&["kept"])))
        .await;
    gate.send(Request::up().spoke("revoked")).await.expect(401);
    gate.send(Request::up().spoke("kept")).await.expect(204);
    gate.wait_for_log(&["listen.connections_max"]).await;
    let log = gate.log();
    let warnings = log.iter().filter(|line| line.contains(r#""level":"WARN""#));
    let warnings: Vec<_> = warnings.filter(|line| line.contains("restart")).collect();
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert_eq!(gate.sum(SUCCESSFUL, &[]).await, 1.0);
}

/// Its series would look like those of a silent hub. A late response must not bring them back.
#[tokio::test]
async fn a_removed_hub_disappears_from_the_metrics() {
    let (old, new) = (ScriptedHub::start().await, ScriptedHub::start().await);
    let gate = Gate::start_for(&old.url(), "").await;
    gate.send(Request::up().spoke("production"))
        .await
        .expect(204);
    old.hold_responses();
    let late = tokio::spawn(Request::up().spoke("production").send(gate.write_address()));
    old.wait_for_requests(2).await;
    gate.reload_with(&config(&new.url(), &[spoke("production", "")]))
        .await;
    gate.send(Request::up().spoke("production"))
        .await
        .expect(204);
    expect_one_hub(&gate, &new).await;
    old.release_responses();
    late.await.unwrap().expect("a response").expect(204);
    expect_one_hub(&gate, &new).await;
}

/// Fails unless the metrics have series of this hub only.
async fn expect_one_hub(gate: &Gate, hub: &ScriptedHub) {
    let url = hub.url();
    let metrics = gate.metrics().await;
    for name in [
        "hubgate_hub_requests_total",
        "hubgate_hub_request_duration_seconds_count",
        "hubgate_hub_protocol",
    ] {
        let hubs = metrics.label_values(name, "hub");
        assert!(!hubs.is_empty(), "{name}");
        assert!(hubs.iter().all(|hub| url.contains(hub)), "{name}: {hubs:?}");
    }
}

#[tokio::test]
async fn a_draining_gate_refuses_a_reload_at_once() {
    let (hub, mut gate) = start_hub_and_gate("").await;
    hub.hold_responses();
    let sender = tokio::spawn(Request::up().spoke("production").send(gate.write_address()));
    hub.wait_for_requests(1).await;
    gate.start_draining("TERM").await;
    let requested = Instant::now();
    let response = gate.reload().await;
    assert!(response.status >= 500, "{response:?}");
    assert!(response.text.contains("shutting down"), "{response:?}");
    assert!(requested.elapsed() < Duration::from_secs(3));
    hub.release_responses();
    sender.await.unwrap().expect("a response").expect(204);
    assert!(gate.wait_for_exit().await.success());
}

/// The configuration file may be a pipe. Without a writer it blocks the thread that reads it for
/// ever.
#[tokio::test]
async fn a_blocked_reload_does_not_delay_termination() {
    let (_hub, mut gate) = start_hub_and_gate("").await;
    let pipe = gate.folder().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success(), "mkfifo");
    std::fs::rename(&pipe, gate.config_file()).unwrap();
    let reload = Request::new("POST", "/-/reload").send(gate.admin_address());
    let reload = tokio::spawn(reload);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(
        !reload.is_finished(),
        "the reload did not wait for the pipe"
    );
    gate.send(Request::up().spoke("production"))
        .await
        .expect(204);
    let signalled = Instant::now();
    gate.signal("TERM");
    assert_eq!(gate.wait_for_exit().await.code(), Some(0));
    let elapsed = signalled.elapsed();
    assert!(elapsed < DEADLINE / 2, "{elapsed:?}");
    let response = reload.await.unwrap().expect("a response");
    assert!(response.status >= 500, "{response:?}");
    assert!(response.text.contains("shutting down"), "{response:?}");
}
