//! What the project promises of its own files: no test here runs hubgate.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod dependencies;
mod toolchain;

use std::path::Path;

/// Reads a file by its path from the root of the project.
fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Panics with all findings, one a line.
fn assert_none(findings: &[impl ToString]) {
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
}
