//! Who may capture, and what the log says of them.

use super::*;

#[tokio::test]
async fn the_log_says_who_captures_and_for_how_long() {
    let (_hub, gate) = start().await;
    let mut capturing =
        Capturing::start(&gate, &["--requests=1", "--reason=mismatched_label"]).await;
    gate.send(write(Protocol::V2, mismatched()))
        .await
        .expect(400);
    assert_eq!(capturing.end().await.0, Some(0));
    let json = |line: String| serde_json::from_str::<Value>(&line).unwrap();
    let begins = json(
        gate.wait_for_log(&["a capture of refused requests begins"])
            .await,
    );
    let ended = json(
        gate.wait_for_log(&["a capture of refused requests ended"])
            .await,
    );
    for line in [&begins, &ended] {
        assert_eq!(
            (&line["level"], &line["spoke"]),
            (&"INFO".into(), &"production".into())
        );
        assert_eq!(line["address"], "127.0.0.1");
        let credential = line["credential"].as_str().unwrap();
        assert!(credential.starts_with("token"), "{line}");
    }
    assert_eq!(begins["reasons"], "mismatched_label");
    assert_eq!(
        (&begins["requests"], &begins["seconds"]),
        (&1.into(), &300.into())
    );
    assert_eq!(
        (&ended["requests"], &ended["why"]),
        (&1.into(), &"requests".into())
    );
}

#[tokio::test]
async fn a_capture_needs_a_credential_and_known_words() {
    let hub = ScriptedHub::start().await;
    let open = Gate::start(&config(&hub.url(), &[spoke("production", "")])).await;
    let path = "/api/v1/spokes/production/capture";
    let refused = open.admin(Request::new("POST", path)).await.expect(403);
    assert!(refused.text.contains("admin.credentials"), "{refused:?}");
    let (hub, gate) = start().await;
    gate.admin(Request::new("POST", path)).await.expect(401);
    for (path, status, text) in [
        ("/api/v1/spokes/nobody/capture".to_owned(), 404, "no spoke"),
        (format!("{path}?requests=0"), 400, "from 1 to 1000"),
        (
            format!("{path}?reason=unauthenticated"),
            400,
            "whose spoke is not known",
        ),
        (format!("{path}?reason=none"), 400, "reason: must be one of"),
    ] {
        let request = Request::new("POST", &path).token(&token("operator"));
        let response = gate.admin(request).await.expect(status);
        assert!(response.text.contains(text), "{response:?}");
    }
    // What scrapes has a credential as well.
    let scraper = [
        token_sha256(&token("scraper")),
        may_capture(&token("operator")),
    ];
    let yaml = guarded(&hub, &[spoke("production", "")]);
    gate.write_config(&yaml.replace(&scraper[1], &scraper.join(", ")));
    let reload = Request::new("POST", "/-/reload").token(&token("operator"));
    gate.admin(reload).await.expect(200);
    let scraper = Request::new("POST", path).token(&token("scraper"));
    let refused = gate.admin(scraper).await.expect(403);
    assert!(refused.text.contains("captures: allow"), "{refused:?}");
    let get = Request::get(path).token(&token("operator"));
    gate.admin(get).await.expect(405);
    let foreign = Request::new("POST", path).token(&token("operator"));
    let foreign = foreign.header("origin", "http://example.com");
    gate.admin(foreign).await.expect(403);
    // Nothing of this has begun one.
    let log = gate.log().concat();
    assert!(!log.contains("a capture of refused requests"), "{log}");
}

#[test]
fn flags_that_cannot_be_met_are_named() {
    for (flag, value, text) in [
        ("--requests", "0", "from 1 to 1000"),
        ("--duration", "500ms", "from 1s to 1h"),
        ("--duration", "61m", "from 1s to 1h"),
        ("--body-bytes", "33MiB", "1 B to 32.0 MiB"),
        ("--bytes", "many", "many"),
        ("--reason", "unauthenticated", "whose spoke is not known"),
    ] {
        let mut command = Blocking::new(env!("CARGO_BIN_EXE_hubgate"));
        command.args(["capture", "--spoke=production", flag, value]);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{flag} {value}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(flag) && said.contains(text), "{said}");
    }
}
