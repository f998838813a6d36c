//! `hubgate status`.

use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::fleet::row;
use super::{HOSTILE, start_with_all_conditions};
use crate::support::config::{config, not_after, spoke, spoke_with, token, token_sha256};
use crate::support::gate::Gate;
use crate::support::hub::{ScriptedHub, vacant};
use crate::support::sender::Request;

/// Runs the command away from the threads that serve.
pub(super) async fn status(admin: String, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hubgate"));
    command.args(["status", "--admin", &admin]).args(arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

pub(super) fn url(gate: &Gate) -> String {
    format!("http://{}", gate.admin_address())
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn all_spokes_are_a_table_the_worst_first() {
    let (_hub, gate) = start_with_all_conditions().await;
    let output = status(url(&gate), &[]).await;
    // The gate has not run for long.
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let printed = text(&output.stdout);
    let lines: Vec<_> = printed.lines().collect();
    assert!(
        lines[0].starts_with("4 of 6 spokes write; never came has not come in the "),
        "{printed}"
    );
    assert!(
        lines[2].starts_with("NAME         STATE        SAMPLES/S"),
        "{printed}"
    );
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operation.md"));
    let page = page.unwrap();
    let shown = page.lines().find(|line| line.starts_with("NAME ")).unwrap();
    let titles = |line: &str| line.split("  ").map(str::trim).collect::<String>();
    assert_eq!(titles(shown), titles(lines[2]));
    let names = lines[3..]
        .iter()
        .map(|line| line.split("  ").next().unwrap());
    let names: Vec<_> = names.collect();
    assert_eq!(
        names,
        [
            "never came",
            "refused",
            "failing",
            "limited",
            "late",
            "writing"
        ]
    );
    assert!(printed.contains("mismatched_label"), "{printed}");
    assert!(
        !printed.contains('\u{1b}'),
        "colour without a terminal: {printed:?}"
    );
    assert!(!printed.contains("<img"), "{printed}");
    let wide = text(&status(url(&gate), &["-o", "wide"]).await.stdout);
    assert!(
        wide.contains("SENDER") && wide.contains("<img src=x"),
        "{wide}"
    );
}

#[tokio::test]
async fn one_spoke_is_shown_with_what_was_refused_and_what_to_do() {
    let (_hub, gate) = start_with_all_conditions().await;
    let output = status(url(&gate), &["refused"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let printed = text(&output.stdout);
    for part in [
        "State:       refused\n",
        "  mismatched_label: 1, the last 0 s ago\n",
        "    What to do: In the Prometheus of the spoke, set external_labels: {cluster: NAME} with the ",
        "labels.mismatch: rename",
        "Last example: ",
        "<img src=x onerror=alert(1)>\\u{202e}\\u{1b}[31m",
    ] {
        assert!(printed.contains(part), "{part} in\n{printed}");
    }
    assert!(
        !HOSTILE
            .chars()
            .any(|it| it.is_control() && printed.contains(it))
    );
    let late = text(&status(url(&gate), &["late"]).await.stdout);
    let advice = "State:       late\n             What it writes is old: ";
    assert!(late.contains(advice), "{late}");
    let limited = text(&status(url(&gate), &["limited"]).await.stdout);
    assert!(limited.contains("  samples_per_second   "), "{limited}");
    let came = text(&status(url(&gate), &["never came"]).await.stdout);
    let advice = "State:       never_came\n             hubgate has run for ";
    assert!(came.contains(advice), "{came}");
    let unknown = status(url(&gate), &["nobody"]).await;
    assert_eq!(unknown.status.code(), Some(2));
    assert!(
        text(&unknown.stderr).contains("no spoke has this name"),
        "{unknown:?}"
    );
}

#[tokio::test]
async fn credentials_that_expired_or_will_soon_are_told() {
    let hub = ScriptedHub::start().await;
    let ends_in = |name: &str, end: SystemTime| {
        spoke_with(name, &not_after(&token_sha256(&token(name)), end), "")
    };
    let now = SystemTime::now();
    let spokes = [
        ends_in("expired", now - Duration::from_mins(150)),
        ends_in("ending", now + Duration::from_mins(36 * 60 + 30)),
        spoke("lasting", ""),
    ];
    let gate = Gate::start(&config(&hub.url(), &spokes)).await;
    for name in ["ending", "lasting"] {
        gate.send(Request::up().spoke(name)).await.expect(204);
    }
    let table = text(&status(url(&gate), &[]).await.stdout);
    assert_eq!(row(&table, "expired")[1], "never_came (credential expired)");
    let ahead = table.lines().nth(1).unwrap();
    assert!(
        ahead.starts_with("The credential token_sha256:")
            && ahead.ends_with(" of spoke ending ends in 36 h."),
        "{table}"
    );
    let stranger = Request::up().spoke("expired");
    gate.send(stranger).await.expect(401);
    let door = text(&status(url(&gate), &[]).await.stdout);
    let refused = "\n\nRefused in the last hour, before it was known which spoke sends:\n  \
                   expired: 1 request, the last 0 s ago from 127.0.0.1\n    \
                   the credential has expired; ";
    assert!(door.contains(refused), "{door}");
    // The most usual mistake in a url.
    gate.send(Request::new("POST", "/write")).await.expect(404);
    let door = text(&status(url(&gate), &[]).await.stdout);
    let refused =
        "\n  not_found: 1 request, the last 0 s ago from 127.0.0.1\n    the path is wrong; ";
    assert!(door.contains(refused), "{door}");
    let wide = text(&status(url(&gate), &["-o", "wide"]).await.stdout);
    for (name, expires) in [
        ("expired", "2 h ago"),
        ("ending", "in 36 h"),
        ("lasting", "never"),
    ] {
        assert_eq!(row(&wide, name)[7], expires, "{wide}");
    }
    let one = text(&status(url(&gate), &["expired"]).await.stdout);
    let advice = "State:       never_came (credential expired)\n             \
                  Its credential has expired (2 h ago), so ";
    assert!(one.contains(advice), "{one}");
}

#[tokio::test]
async fn a_script_gets_json_and_an_exit_code() {
    let hub = ScriptedHub::start().await;
    let gate = Gate::start(&config(&hub.url(), &[spoke("production", "")])).await;
    let before = status(url(&gate), &["-o", "json"]).await;
    assert_eq!(before.status.code(), Some(0));
    gate.send(Request::up().spoke("production"))
        .await
        .expect(204);
    let after = status(url(&gate), &["--output", "json"]).await;
    assert_eq!(after.status.code(), Some(0), "{after:?}");
    let json: Value = serde_json::from_slice(&after.stdout).unwrap();
    assert_eq!(json["spokes"][0]["conditions"][0], "writing");
}

#[tokio::test]
async fn a_hubgate_that_cannot_be_asked_is_neither_silent_nor_fine() {
    let hub = ScriptedHub::start().await;
    let operator = token_sha256("operator");
    let admin = format!("admin: {{address: \"127.0.0.1:0\", credentials: [{operator}]}}\n");
    let gate = Gate::start(&(admin + &config(&hub.url(), &[spoke("production", "")]))).await;
    for (arguments, said) in [
        (&[][..], "give its token with --token-file, or "),
        (
            &["--token", &token("production")],
            "the credential of --token is not good: admin.credentials has no such credential",
        ),
    ] {
        let refused = status(url(&gate), arguments).await;
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(text(&refused.stderr).contains(said), "{refused:?}");
    }
    let known = status(url(&gate), &["--token", "operator"]).await;
    assert_eq!(known.status.code(), Some(0), "{known:?}");
    let (nobody, _) = vacant();
    let away = status(format!("http://{nobody}"), &[]).await;
    assert_eq!(away.status.code(), Some(2));
    assert!(text(&away.stderr).contains("cannot be asked"), "{away:?}");
}
