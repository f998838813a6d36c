//! What every file of `src/` keeps to.

use crate::Finding;
use crate::source::Source;

/// A longer file says at its head why.
const LINES_MAX: usize = 450;

/// Rooms that may do what only one room does otherwise, with the reason.
type Exceptions = &'static [(&'static str, &'static str)];

/// Who may name metrics beside `metrics`.
const NAMES_METRICS: Exceptions = &[("demo", "reads the gateway's metrics page from outside")];

/// Who may use the file system beside `config`.
const USES_FILES: Exceptions = &[
    (
        "demo",
        "sets up Prometheus servers in a folder and reads its own CPU time",
    ),
    ("cli", "reads the files that `load` and `inspect` name"),
];

/// Who may spawn tasks, threads and processes beside `gateway`.
const SPAWNS: Exceptions = &[
    ("demo", "runs all the parts of a set-up in one process"),
    (
        "forward",
        "sends to several hubs at once, and dials several addresses, within a tracked request",
    ),
    (
        "listener",
        "runs each connection as a task that the drain waits for",
    ),
    ("load", "drives each of its connections"),
    ("write", "finishes a request whose sender has left"),
];

fn allows(exceptions: Exceptions, source: &Source, owner: &str) -> bool {
    source.room() == owner || exceptions.iter().any(|(room, _)| source.room() == *room)
}

fn check_length(source: &Source, findings: &mut Vec<Finding>) {
    let lines = source.text.lines().count();
    let mut head = source.text.lines().take_while(|it| it.starts_with("//!"));
    if lines > LINES_MAX && !head.any(|it| it.starts_with("//! Long because ")) {
        findings.push(source.finding(
            lines,
            format!(
                "{lines} lines are more than {LINES_MAX}: split the file, or give the reason in a \
                 line of its head, \"//! Long because ...\""
            ),
        ));
    }
}

fn check_head(source: &Source, findings: &mut Vec<Finding>) {
    if !source.is_generated() && !source.text.starts_with("//! ") {
        findings.push(source.finding(
            1,
            "say what the file owns in //! lines at its head".to_owned(),
        ));
    }
}

fn check_name(source: &Source, findings: &mut Vec<Finding>) {
    if source.path.ends_with("/mod.rs") {
        findings.push(source.finding(1, "name it as its folder, beside the folder".to_owned()));
    }
}

fn check_metric_names(source: &Source, findings: &mut Vec<Finding>) {
    if allows(NAMES_METRICS, source, "metrics") {
        return;
    }
    for (line, text) in &source.facts.strings {
        if let Some(start) = text.find("hubgate_") {
            let is_end = |letter: char| letter != '_' && !letter.is_ascii_alphanumeric();
            let name = text[start..].split(is_end).next().unwrap();
            findings.push(source.finding(
                *line,
                format!(
                    "only metrics names metrics: take {name} from there \
                     (NAMES_METRICS in tests/tidy/files.rs)"
                ),
            ));
        }
    }
}

fn check_file_access(source: &Source, findings: &mut Vec<Finding>) {
    if allows(USES_FILES, source, "config") {
        return;
    }
    for (line, path) in &source.facts.paths {
        if let [root, module, ..] = path.as_slice()
            && ["std", "tokio"].contains(&root.as_str())
            && module == "fs"
        {
            findings.push(
                source.finding(
                    *line,
                    "only config uses the file system: pass in the content \
                 (USES_FILES in tests/tidy/files.rs)"
                        .to_owned(),
                ),
            );
        }
    }
}

fn check_spawns(source: &Source, findings: &mut Vec<Finding>) {
    if allows(SPAWNS, source, "gateway") {
        return;
    }
    for (line, name) in &source.facts.calls {
        if name == "spawn" {
            findings.push(
                source.finding(
                    *line,
                    "only gateway starts tasks: start it there, or await it here \
                 (SPAWNS in tests/tidy/files.rs)"
                        .to_owned(),
                ),
            );
        }
    }
}

fn check_re_exports(source: &Source, findings: &mut Vec<Finding>) {
    if source.path != "src/lib.rs" {
        return;
    }
    for (line, path) in &source.facts.paths {
        findings.push(source.finding(
            *line,
            format!(
                "lib.rs re-exports nothing: let users name the room of {}",
                path.join("::")
            ),
        ));
    }
}

/// Checks every file.
fn check_all(check: fn(&Source, &mut Vec<Finding>)) {
    let mut findings = Vec::new();
    for source in Source::read_all() {
        check(&source, &mut findings);
    }
    crate::assert_none(&findings);
}

#[test]
fn long_files_give_a_reason() {
    check_all(check_length);
}

#[test]
fn every_file_starts_with_documentation() {
    check_all(check_head);
}

#[test]
fn no_file_is_named_mod_rs() {
    check_all(check_name);
}

#[test]
fn only_metrics_names_metrics() {
    check_all(check_metric_names);
}

#[test]
fn only_config_uses_files() {
    check_all(check_file_access);
}

#[test]
fn only_gateway_starts_tasks() {
    check_all(check_spawns);
}

#[test]
fn lib_re_exports_nothing() {
    check_all(check_re_exports);
}

/// Each rule finds what breaks it, and passes what keeps to it.
#[test]
fn each_rule_finds_what_breaks_it() {
    let long = format!("//! A file.\n{}", "\n".repeat(LINES_MAX));
    let reasoned = format!(
        "//! Long because it is a table.\n{}",
        "\n".repeat(LINES_MAX)
    );
    let long_line = LINES_MAX + 1;
    type Check = fn(&Source, &mut Vec<Finding>);
    type Text<'t> = (&'t str, &'t str);
    let cases: [(Check, Text<'_>, usize, Text<'_>); 9] = [
        (
            check_length,
            ("src/a.rs", &long),
            long_line,
            ("src/a.rs", &reasoned),
        ),
        (
            check_head,
            ("src/a.rs", "use std::fmt;\n"),
            1,
            ("src/a.rs", "//! A.\n"),
        ),
        (check_name, ("src/a/mod.rs", ""), 1, ("src/a.rs", "")),
        (
            check_metric_names,
            ("src/write.rs", "fn f() {\ng(\"hubgate_up\")}"),
            2,
            ("src/metrics/a.rs", "fn f() { g(\"hubgate_up\") }"),
        ),
        (
            check_metric_names,
            ("src/write.rs", "fn f() { g!(\"sum({hubgate_up})\") }"),
            1,
            ("src/write.rs", "/// Counted in hubgate_up.\nfn f() {}"),
        ),
        (
            check_file_access,
            ("src/write.rs", "use std::{fmt, fs::File};"),
            1,
            ("src/config/a.rs", "use std::fs;"),
        ),
        (
            check_file_access,
            ("src/write.rs", "fn f() { tokio::fs::read(p) }"),
            1,
            ("src/write.rs", "#[cfg(test)]\nuse std::fs;"),
        ),
        (
            check_spawns,
            ("src/policy.rs", "fn f() { tokio::spawn(g()) }"),
            1,
            ("src/gateway.rs", "fn f() { tokio::spawn(g()) }"),
        ),
        (
            check_re_exports,
            ("src/lib.rs", "pub mod wire;\npub use wire::Labels;"),
            2,
            ("src/lib.rs", "pub mod wire;"),
        ),
    ];
    for (check, (bad_path, bad), line, (good_path, good)) in cases {
        let (mut found, mut not_found) = (Vec::new(), Vec::new());
        check(&Source::new(bad_path, bad), &mut found);
        check(&Source::new(good_path, good), &mut not_found);
        let lines: Vec<usize> = found.iter().map(|it| it.line).collect();
        assert_eq!(lines, [line], "{bad}");
        crate::assert_none(&not_found);
    }
}
