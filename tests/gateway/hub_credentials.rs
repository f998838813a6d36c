//! What hubgate shows a hub to be let in, and how that changes.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::task::JoinHandle;

use crate::support::body::{Protocol, up};
use crate::support::config::{config_with_hub_keys, spoke};
use crate::support::flow::Flow;
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::sender::{Failure, Request, Response};

const SECRET: &str = "0123456789-secret-of-the-hub";

/// A configuration of the hub with the token in a file of this folder.
fn with_token(hub: &ScriptedHub, folder: &Path) -> String {
    let keys = format!(
        "credentials: {{token_file: \"{}\"}}",
        folder.join("token").display()
    );
    config_with_hub_keys(&hub.url(), &keys, &[spoke("production", "")])
}

fn start_write(gate: &Gate) -> JoinHandle<Result<Response, Failure>> {
    tokio::spawn(Request::up().spoke("production").send(gate.write_address()))
}

#[tokio::test]
async fn a_hub_gets_its_credential_with_each_request() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), format!("{SECRET}\n")).unwrap();
    let hub = ScriptedHub::start().await;
    hub.require_authorization(&[&format!("Bearer {SECRET}")]);
    let gate = Gate::start(&with_token(&hub, folder.path())).await;
    // Found by a probe.
    gate.wait_for_protocol(None, Protocol::V2).await;
    for protocol in Protocol::BOTH {
        gate.write(protocol, &up()).await.expect(204);
    }
    let shown = gate.spokes().await.to_string() + &gate.metrics().await.text;
    assert!(!shown.contains(SECRET), "{shown}");
}

#[tokio::test]
async fn a_hub_that_refuses_the_credential_is_a_502_and_the_log_says_why() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), SECRET).unwrap();
    let hub = ScriptedHub::start().await;
    hub.require_authorization(&["Bearer another"]);
    let gate = Gate::start(&with_token(&hub, folder.path())).await;
    gate.write(Protocol::V1, &up()).await.expect(502);
    let advice = "check the credentials of the hub";
    gate.wait_for_log(&["the hub answered 401", "production", advice])
        .await;
    gate.wait_for_log(&["a hub refuses hubgate", advice]).await;
    assert!(!gate.log().concat().contains(SECRET));
}

/// The hub takes both for a while, as a rotation needs it.
#[tokio::test]
async fn the_token_of_a_hub_changes_without_a_refused_write() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "old").unwrap();
    let hub = ScriptedHub::start().await;
    hub.require_authorization(&["Bearer old"]);
    let gate = Gate::start(&with_token(&hub, folder.path())).await;
    gate.wait_for_protocol(None, Protocol::V2).await;
    hub.hold_responses();
    let held = start_write(&gate);
    hub.wait_for_requests(1).await;
    std::fs::write(&file, "new").unwrap();
    gate.reload().await.expect(200);
    hub.require_authorization(&["Bearer new"]);
    // What was found of the hub is not lost meanwhile.
    let spoken = [("protocol", "v2")];
    assert_eq!(gate.sum("hubgate_hub_protocol", &spoken).await, 1.0);
    let after = start_write(&gate);
    hub.wait_for_requests(2).await;
    hub.release_responses();
    for write in [held, after] {
        write.await.unwrap().unwrap().expect(204);
    }
    let sent: Vec<_> = hub.take_received();
    let sent: Vec<_> = sent.iter().map(|it| it.header("authorization")).collect();
    assert_eq!(sent, [Some("Bearer old"), Some("Bearer new")]);
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn the_password_of_a_hub_changes_under_flow_without_a_refused_write() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "old").unwrap();
    let [old, new] = ["gate:old", "gate:new"].map(|it| format!("Basic {}", STANDARD.encode(it)));
    let hub = ScriptedHub::start().await;
    hub.keep_nothing();
    hub.require_authorization(&[&old]);
    let keys = format!(
        "credentials: {{basic: {{username: gate, password_file: \"{}\"}}}}",
        file.display()
    );
    let gate = Gate::start_for(&hub.url(), &keys).await;
    gate.wait_for_protocol(None, Protocol::V2).await;
    let mut flow = Flow::start(&gate);
    hub.require_authorization(&[&old, &new]);
    std::fs::write(&file, "new").unwrap();
    gate.reload().await.expect(200);
    // Those that were under way with the old password have ended.
    flow.pass().await;
    hub.require_authorization(&[&new]);
    flow.pass().await;
    flow.end().await;
    assert_eq!(hub.probes(), 1);
    gate.expect_balanced_counts("production").await;
}
