//! Wrong passwords without end, beside spokes whose passwords the gate has not checked yet.
//!
//! The checks of wrong passwords are slow, and the gate makes one at a time. Each attack asks for far
//! more checks than may wait.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::support::config::{bcrypt, config, spoke_with};
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::sender::Request;
use crate::support::{DEADLINE, eventually};

const SPOKES: usize = 8;

/// More senders than checks that may wait.
const ATTACKERS: usize = 96;

fn name(spoke: usize) -> String {
    format!("spoke-{spoke}")
}

async fn start() -> (ScriptedHub, Gate) {
    let hub = ScriptedHub::start().await;
    // The last one is not among those that must be identified.
    let spokes: Vec<_> = (0..=SPOKES)
        .map(|spoke| spoke_with(&name(spoke), &bcrypt(&name(spoke), "right"), ""))
        .collect();
    let gate = Gate::start(&config(&hub.url(), &spokes)).await;
    (hub, gate)
}

/// The time after which an attacker sends its next password although the last one is not answered.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sends wrong passwords until it is dropped. Each attacker has an address. It always sends its next
/// password when the last one is answered, or the response seems to be held back.
fn attack(
    gate: &Gate,
    address: fn(usize) -> Ipv4Addr,
    user: fn(usize, usize) -> String,
) -> JoinSet<()> {
    let to = gate.write_address();
    let mut attackers = JoinSet::new();
    for attacker in 0..ATTACKERS {
        attackers.spawn(guess(to, attacker, address(attacker), user));
    }
    attackers
}

async fn guess(to: SocketAddr, attacker: usize, from: Ipv4Addr, user: fn(usize, usize) -> String) {
    for attempt in 0.. {
        let password = format!("wrong-{attacker}-{attempt}");
        let request = Request::up().basic(&user(attacker, attempt), &password);
        let response = request.from(&from.to_string()).send(to);
        let Ok(response) = tokio::time::timeout(PATIENCE, response).await else {
            continue;
        };
        let response = response.expect("a response");
        match response.status {
            401 => {}
            503 => {
                response.expect_retryable(503);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            _ => panic!("{response:?}"),
        }
    }
}

/// Waits until the attack has had this many checks, and more are asked for than may wait.
async fn wait_for_attack(gate: &Gate, checks: usize) {
    eventually("the attack", 3 * DEADLINE, async || {
        let metrics = gate.metrics().await;
        let failures = metrics.sum("hubgate_auth_failures_total", &[("reason", "unknown")]);
        let busy = metrics.sum("hubgate_auth_busy_total", &[]);
        if failures >= checks as f64 && busy > 0.0 {
            Ok(())
        } else {
            Err((failures, busy))
        }
    })
    .await;
}

/// Each spoke writes once, so its password is checked for the first time. The attack goes on until
/// the last one is done.
async fn expect_all_identified(gate: &Gate, from: &str, mut attackers: JoinSet<()>) {
    for spoke in 0..SPOKES {
        let request = Request::up().basic(&name(spoke), "right");
        gate.send(request.from(from)).await.expect(204);
    }
    assert!(attackers.try_join_next().is_none(), "an attacker ended");
}

#[tokio::test]
async fn many_user_names_from_one_address_do_not_lock_out_other_addresses() {
    let (_hub, gate) = start().await;
    let attackers = attack(
        &gate,
        |_| Ipv4Addr::new(127, 0, 0, 66),
        |attacker, attempt| format!("user-{attacker}-{attempt}"),
    );
    wait_for_attack(&gate, 1).await;
    expect_all_identified(&gate, "127.0.0.1", attackers).await;

    let line = gate.wait_for_log(&["a password is not checked"]).await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    for (field, value) in [
        ("level", "WARN".into()),
        ("address", "127.0.0.66".into()),
        ("reason", "auth_busy".into()),
        ("code", serde_json::Value::from(503)),
    ] {
        assert_eq!(line[field], value, "{field} of {line}");
    }
    let log = gate.log();
    let lines = log.iter().filter(|line| line.contains("not checked"));
    assert!(lines.count() <= 3, "one line every ten seconds: {log:#?}");
    let metrics = gate.metrics().await;
    let unknown = [("spoke", "unknown"), ("code", "503")];
    let busy = metrics.sum("hubgate_auth_busy_total", &[]);
    assert!(busy <= metrics.sum("hubgate_requests_total", &unknown));
}

#[tokio::test]
async fn the_user_name_of_a_spoke_with_wrong_passwords_does_not_lock_it_out() {
    let (_hub, gate) = start().await;
    let attackers = attack(
        &gate,
        |_| Ipv4Addr::new(127, 0, 0, 66),
        |attacker, attempt| name((attacker + attempt) % SPOKES),
    );
    wait_for_attack(&gate, 1).await;
    expect_all_identified(&gate, "127.0.0.1", attackers).await;
}

#[tokio::test]
async fn the_user_names_of_spokes_from_many_addresses_do_not_lock_them_out() {
    let (_hub, gate) = start().await;
    let attackers = attack(
        &gate,
        |attacker| Ipv4Addr::new(127, 0, 66, u8::try_from(attacker).unwrap()),
        |attacker, attempt| name((attacker + attempt) % SPOKES),
    );
    // Each address was wrong once.
    wait_for_attack(&gate, ATTACKERS).await;
    expect_all_identified(&gate, "127.0.0.1", attackers).await;
}

#[tokio::test]
async fn one_user_name_does_not_lock_out_another_one_at_the_same_address() {
    let (_hub, gate) = start().await;
    let attackers = attack(&gate, |_| Ipv4Addr::LOCALHOST, |_, _| "somebody".to_owned());
    wait_for_attack(&gate, 1).await;
    expect_all_identified(&gate, "127.0.0.1", attackers).await;
}

/// One spoke whose password is wrong everywhere, also at the address that the other spokes share.
#[tokio::test]
async fn wrong_passwords_of_one_spoke_do_not_keep_other_spokes_waiting() {
    let (_hub, gate) = start().await;
    let attackers = attack(
        &gate,
        |attacker| Ipv4Addr::new(127, 0, 0, 1 + u8::try_from(attacker).unwrap() / 2),
        |_, _| name(SPOKES),
    );
    wait_for_attack(&gate, ATTACKERS).await;
    expect_all_identified(&gate, "127.0.0.1", attackers).await;
}

/// As the shards of a Prometheus do after its start.
#[tokio::test]
async fn a_spoke_that_opens_many_connections_at_once_is_identified_on_all_of_them() {
    let (_hub, gate) = start().await;
    let request = || Request::up().basic(&name(0), "right");
    let mut senders = JoinSet::new();
    for _ in 0..ATTACKERS {
        senders.spawn(request().send(gate.write_address()));
    }
    for response in senders.join_all().await {
        response.expect("a response").expect(204);
    }
}
