//! Which room of `src/` may use which other room, and which crate.
//!
//! A room is a top-level module with everything below it. Tests are free.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::Finding;
use crate::source::Source;

/// A room and the rooms that it may use. All of them stand above it in this table, so there is no
/// circle.
const ROOMS: &[(&str, &[&str])] = &[
    ("reasons", &[]),
    ("wire", &[]),
    ("telemetry", &[]),
    ("printable", &[]),
    ("remote_write", &["wire"]),
    ("jwt", &[]),
    ("tls", &[]),
    ("config", &["jwt", "reasons", "tls"]),
    ("policy", &["config", "reasons", "wire"]),
    ("shares", &[]),
    ("metrics", &["config", "reasons", "shares", "wire"]),
    ("admission", &["config", "reasons"]),
    ("budget", &["config", "metrics", "shares"]),
    ("capture", &["reasons", "wire"]),
    ("suspects", &["wire"]),
    ("series", &["policy", "wire"]),
    (
        "spoke",
        &[
            "admission",
            "budget",
            "config",
            "metrics",
            "policy",
            "reasons",
            "series",
            "shares",
            "suspects",
            "telemetry",
            "wire",
        ],
    ),
    ("rewrite", &["budget", "policy", "shares", "spoke", "wire"]),
    (
        "forward",
        &[
            "budget",
            "config",
            "metrics",
            "policy",
            "reasons",
            "remote_write",
            "rewrite",
            "shares",
            "spoke",
            "suspects",
            "telemetry",
            "tls",
            "wire",
        ],
    ),
    (
        "listener",
        &["config", "metrics", "reasons", "telemetry", "tls"],
    ),
    ("jwks", &["config", "jwt", "metrics", "reasons"]),
    (
        "identify",
        &["config", "jwks", "jwt", "reasons", "spoke", "tls"],
    ),
    (
        "state",
        &["config", "forward", "identify", "jwks", "metrics", "spoke"],
    ),
    (
        "write",
        &[
            "admission",
            "budget",
            "capture",
            "config",
            "forward",
            "identify",
            "listener",
            "metrics",
            "policy",
            "reasons",
            "remote_write",
            "rewrite",
            "series",
            "shares",
            "spoke",
            "state",
            "telemetry",
            "wire",
        ],
    ),
    (
        "admin",
        &[
            "capture",
            "config",
            "forward",
            "identify",
            "listener",
            "metrics",
            "printable",
            "reasons",
            "series",
            "spoke",
            "state",
            "telemetry",
            "wire",
        ],
    ),
    (
        "gateway",
        &[
            "admin", "budget", "capture", "config", "forward", "identify", "jwks", "listener",
            "metrics", "state", "write",
        ],
    ),
    (
        "inspect",
        &[
            "config",
            "forward",
            "policy",
            "printable",
            "reasons",
            "telemetry",
            "wire",
            "write",
        ],
    ),
    ("load", &["remote_write", "tls", "wire"]),
    (
        "demo",
        &["config", "gateway", "load", "remote_write", "wire"],
    ),
    (
        "cli",
        &[
            "admin",
            "capture",
            "config",
            "demo",
            "gateway",
            "inspect",
            "load",
            "printable",
            "spoke",
            "telemetry",
            "tls",
            "wire",
        ],
    ),
];

/// Rooms that take values and return values, and the crates that they may use. They use no
/// network, no clock and nothing else of the system.
const PURE: &[(&str, &[&str])] = &[
    ("reasons", &["thiserror"]),
    (
        "wire",
        &["foldhash", "hashbrown", "prost", "snap", "thiserror"],
    ),
    ("policy", &["foldhash", "hashbrown", "thiserror"]),
];

/// The parts of `std` that pure rooms do without.
const SYSTEM: &[&str] = &["env", "fs", "net", "os", "process", "thread", "time"];

/// Crates that belong to some rooms, and those rooms. The others are for any room that is not pure.
const CRATES: &[(&str, &[&str])] = &[
    ("argon2", &["cli", "config", "identify"]),
    ("axum", &["admin", "demo"]),
    ("bcrypt", &["config", "identify"]),
    ("clap", &["cli", "demo", "load", "telemetry"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("granit_parser", &["config"]),
    (
        "hyper_util",
        &["demo", "forward", "jwks", "listener", "load"],
    ),
    ("jsonwebtoken", &["jwt"]),
    ("mimalloc", &["main"]),
    ("procfs", &["demo", "metrics"]),
    ("prometheus_client", &["metrics"]),
    ("prost", &["demo", "load", "wire"]),
    ("snap", &["demo", "load", "rewrite", "wire", "write"]),
    ("proxy_header", &["listener"]),
    ("rustls_native_certs", &["cli", "config"]),
    ("socket2", &["forward"]),
    ("tracing_logfmt", &["telemetry"]),
    ("tracing_subscriber", &["telemetry"]),
    ("x509_parser", &["tls"]),
];

/// The rooms that a room may use.
fn may_use(room: &str) -> Option<&'static [&'static str]> {
    // The binary is a call of the command line.
    if room == "main" {
        return Some(&["cli"]);
    }
    let row = ROOMS.iter().find(|(name, _)| *name == room);
    row.map(|(_, uses)| *uses)
}

/// Uses of rooms that the table does not allow.
fn check_rooms(source: &Source, findings: &mut Vec<Finding>) {
    let room = source.room();
    let uses = may_use(room).unwrap_or_default();
    for (line, path) in &source.facts.paths {
        let [root, used, ..] = path.as_slice() else {
            continue;
        };
        if root == "crate" && used != room && may_use(used).is_some() && !uses.contains(&&**used) {
            findings.push(source.finding(
                *line,
                format!(
                    "{room} may not use {used}: move the code, or pass in what it needs \
                     (ROOMS in tests/tidy/rooms.rs)"
                ),
            ));
        }
    }
}

/// Uses of crates and of the system that the tables do not allow.
fn check_crates(source: &Source, dependencies: &BTreeSet<String>, findings: &mut Vec<Finding>) {
    let room = source.room();
    let pure = PURE.iter().find(|(name, _)| *name == room);
    for (line, path) in &source.facts.paths {
        let name = path[0].as_str();
        if let Some((_, crates)) = pure {
            let system = name == "std" && path.get(1).is_some_and(|it| SYSTEM.contains(&&**it));
            if system || (dependencies.contains(name) && !crates.contains(&name)) {
                let used = path.join("::");
                findings.push(source.finding(
                    *line,
                    format!(
                        "{room} may not use {used}: it takes and returns values \
                         (PURE in tests/tidy/rooms.rs)"
                    ),
                ));
            }
        }
        let owners = CRATES.iter().find(|(owned, _)| *owned == name);
        if let Some((_, rooms)) = owners
            && dependencies.contains(name)
            && !rooms.contains(&room)
        {
            let rooms = rooms.join(", ");
            findings.push(source.finding(
                *line,
                format!("only {rooms} may use {name} (CRATES in tests/tidy/rooms.rs)"),
            ));
        }
    }
}

/// The crates that hubgate depends on, as code spells them.
fn dependencies() -> BTreeSet<String> {
    #[derive(Deserialize)]
    struct Manifest {
        dependencies: toml::Table,
    }
    let manifest: Manifest = toml::from_str(&crate::read("Cargo.toml")).unwrap();
    let names = manifest.dependencies.keys();
    names.map(|name| name.replace('-', "_")).collect()
}

#[test]
fn rooms_use_only_the_rooms_that_the_table_allows() {
    let mut findings = Vec::new();
    for source in Source::read_all() {
        check_rooms(&source, &mut findings);
    }
    crate::assert_none(&findings);
}

#[test]
fn rooms_use_only_the_crates_that_the_tables_allow() {
    let (dependencies, mut findings) = (dependencies(), Vec::new());
    for source in Source::read_all() {
        check_crates(&source, &dependencies, &mut findings);
    }
    crate::assert_none(&findings);
}

#[test]
fn the_table_has_every_room_and_no_circle() {
    let sources = Source::read_all();
    let rooms = sources.iter().map(Source::room);
    let rooms: BTreeSet<&str> = rooms.filter(|it| !["lib", "main"].contains(it)).collect();
    assert_eq!(rooms, ROOMS.iter().map(|(name, _)| *name).collect());
    for (index, (room, uses)) in ROOMS.iter().enumerate() {
        for used in *uses {
            let above = ROOMS[..index].iter().any(|(name, _)| name == used);
            assert!(
                above,
                "{used} does not stand above {room}, which may use it"
            );
        }
    }
}

#[test]
fn the_tables_name_crates_that_hubgate_depends_on() {
    let dependencies = dependencies();
    let pure = PURE.iter().flat_map(|(_, crates)| *crates);
    let named: BTreeSet<&str> = CRATES
        .iter()
        .map(|(name, _)| name)
        .chain(pure)
        .copied()
        .collect();
    let unknown: Vec<&str> = named
        .into_iter()
        .filter(|it| !dependencies.contains(*it))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

mod controls {
    use super::{check_crates, check_rooms, dependencies};
    use crate::source::Source;

    fn rooms(path: &str, text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        check_rooms(&Source::new(path, text), &mut findings);
        findings.iter().map(ToString::to_string).collect()
    }

    fn crates(path: &str, text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        check_crates(&Source::new(path, text), &dependencies(), &mut findings);
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn uses_of_higher_rooms_are_found() {
        let cases = [
            (
                "src/wire/labels.rs",
                "use crate::policy::Rules;",
                "wire may not use policy",
            ),
            (
                "src/wire/labels.rs",
                "use super::super::policy;",
                "wire may not use policy",
            ),
            (
                "src/policy.rs",
                "use crate::{config, gateway::Gateway};",
                "policy may not use gateway",
            ),
            (
                "src/admin.rs",
                "fn f() { log!(crate::gateway::NAME) }",
                "admin may not use gateway",
            ),
            (
                "src/main.rs",
                "fn main() { hubgate::gateway::run() }",
                "main may not use gateway",
            ),
            (
                "src/cellar.rs",
                "use crate::wire;",
                "cellar may not use wire",
            ),
        ];
        for (path, text, expected) in cases {
            let findings = rooms(path, text);
            let [finding] = &findings[..] else {
                panic!("{text}: {findings:?}");
            };
            assert!(
                finding.starts_with(&format!("{path}:1: {expected}: ")),
                "{finding}"
            );
        }
    }

    #[test]
    fn uses_of_lower_rooms_and_of_tests_pass() {
        let text = "use crate::{USER_AGENT, policy::labels, wire};
            #[cfg(test)] mod tests { use crate::gateway; }";
        assert_eq!(rooms("src/policy/labels.rs", text), [""; 0]);
        assert_eq!(rooms("src/wire/tests.rs", "use crate::policy;"), [""; 0]);
    }

    #[test]
    fn crates_out_of_place_are_found() {
        let cases = [
            (
                "src/wire/v1.rs",
                "use tokio::sync::Mutex;",
                "wire may not use tokio::sync::Mutex",
            ),
            (
                "src/policy.rs",
                "use http::StatusCode;",
                "policy may not use http::StatusCode",
            ),
            (
                "src/policy.rs",
                "use std::{fmt, time::Instant};",
                "policy may not use std::time::Instant",
            ),
            (
                "src/write.rs",
                "fn f(_: clap::Error) {}",
                "only cli, demo, load, telemetry may use clap",
            ),
        ];
        for (path, text, expected) in cases {
            let findings = crates(path, text);
            let [finding] = &findings[..] else {
                panic!("{text}: {findings:?}");
            };
            assert!(
                finding.starts_with(&format!("{path}:1: {expected}")),
                "{finding}"
            );
        }
    }

    #[test]
    fn crates_in_their_place_pass() {
        assert_eq!(
            crates("src/wire/v1.rs", "use hashbrown::HashTable; use std::fmt;"),
            [""; 0]
        );
        assert_eq!(
            crates("src/cli.rs", "use clap::Parser; use tokio::time;"),
            [""; 0]
        );
    }
}
