//! Tests of what is allowed and yet doubtful.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::values::with_line;
use super::{DIGEST, with_spoke};
use crate::config::check;
use crate::config::sources::Sources;

/// The warnings of a valid text, one on each line.
pub(super) fn warnings(text: &str) -> String {
    let (result, warnings) = check::text(Path::new("config"), text, &mut Sources::default());
    result.expect("a valid configuration");
    let lines: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[test]
fn a_path_that_takes_no_remote_write_is_doubtful() {
    let none = "has no path, so every write would be answered 502";
    let other = "has a path that takes no remote write, so every write would be answered 502";
    let cases = [
        ("http://a", none),
        ("http://a/", none),
        ("http://a?key=b", none),
        ("http://a/?key=b", none),
        ("http://a/metrics", other),
        ("http://a/api/v1", other),
        ("http://a/api/v1/", other),
        ("http://a/api/v1/read", other),
        ("http://a/api/v1/query", other),
        ("http://a/api/v1/write/", other),
        ("http://a/write", other),
    ];
    for (url, doubt) in cases {
        let found = warnings(&with_line(&format!("hub: {{url: {url}}}")));
        let wanted =
            format!("config:1:12: hub.url: {doubt}; for a Prometheus, write http://a/api/v1/write");
        assert_eq!(found, wanted, "{url}");
    }
    let second = "hubs: [{url: http://a/api/v1/write}, {url: http://b:1}]";
    let found = warnings(&with_line(second));
    assert!(
        found.starts_with("config:1:44: hubs[1].url: has no path"),
        "{found}"
    );
}

#[test]
fn endpoints_of_remote_write_are_not_doubtful() {
    let paths = [
        "/api/v1/write",
        "/api/v1/write?key=b",
        "/api/v1/push",
        "/api/v1/receive",
        "/prometheus/api/v1/write",
        "/insert/0/prometheus/",
        "/insert/0/prometheus/api/v1/write",
        "/api/prom/push",
        "/something/else",
    ];
    for path in paths {
        let text = with_line(&format!("hub: {{url: http://a{path}}}"));
        assert_eq!(warnings(&text), "", "{path}");
    }
}

#[test]
fn a_pattern_that_matches_nothing_is_doubtful() {
    let folder = std::env::current_dir().expect("a folder");
    let hub = "hub: {url: http://a/api/v1/write}";
    let first = format!(
        "config:2:15: spoke_files[0]: no file matches {}/no/such/*.yaml",
        folder.display()
    );
    let none = "config:2:14: spoke_files: there is no spoke, so every write would be answered 401";
    let only = format!("{hub}\nspoke_files: ['no/such/*.yaml']");
    assert_eq!(warnings(&only), format!("{none}\n{first}"));
    let absolute = format!("{hub}\nspoke_files: ['/no/such/*.yaml']");
    let found = warnings(&absolute);
    assert!(
        found.ends_with(": no file matches /no/such/*.yaml"),
        "{found}"
    );
    let spoke = with_spoke(&format!("  credentials: [token_sha256: {DIGEST}]"));
    let beside = spoke.replace("hub: {url: http://hub/}", hub);
    let beside = beside.replacen('\n', "\nspoke_files: ['no/such/*.yaml']\n", 1);
    assert_eq!(warnings(&beside), first);
}

#[test]
fn a_credential_that_expires_soon_or_has_expired_is_doubtful() {
    let days = |days: u64| SystemTime::now() + Duration::from_secs(days * 24 * 3600);
    let past = "is in the past, so whoever sends this credential gets the response 401; replace the \
                credential, or remove it";
    let soon =
        "is less than 14 days away; add another credential, and move the sender to it before";
    for (not_after, doubt) in [
        ("2020-01-31T00:00:00Z".to_owned(), Some(past)),
        (
            humantime::format_rfc3339_seconds(days(13)).to_string(),
            Some(soon),
        ),
        (humantime::format_rfc3339(days(15)).to_string(), None),
        ("2100-01-31T00:00:00.5Z".to_owned(), None),
    ] {
        let credential = format!("{{token_sha256: {DIGEST}, not_after: {not_after}}}");
        let spoke = with_spoke(&format!("  credentials: [{credential}]"));
        let found = warnings(&spoke.replace("http://hub/", "http://hub/api/v1/write"));
        let wanted =
            doubt.map(|doubt| format!("config:4:109: spokes[0].credentials[0].not_after: {doubt}"));
        assert_eq!(found, wanted.unwrap_or_default(), "{not_after}");
    }
}

#[test]
fn spokes_that_cannot_be_read_are_not_missing_as_well() {
    for spokes in ["spokes: {a: b}", "spoke_files: a.yaml"] {
        let text = format!("hub: {{url: http://a/api/v1/write}}\n{spokes}");
        let (result, warnings) = check::text(Path::new("config"), &text, &mut Sources::default());
        let errors = result.expect_err("a list is wanted");
        assert_eq!(errors.iter().count(), 1, "{spokes}");
        assert!(warnings.is_empty(), "{spokes}");
    }
}
