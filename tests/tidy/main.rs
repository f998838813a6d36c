//! What the project promises of its own files: no test here runs hubgate.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod build_script;
mod dependencies;
mod files;
mod pages;
mod rooms;
mod source;
mod toolchain;

use std::fmt;
use std::path::Path;

use source::Source;

/// A place that breaks a rule.
struct Finding {
    path: String,
    line: usize,
    /// The rule, and what to do.
    text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.path, self.line, self.text)
    }
}

impl Source {
    fn finding(&self, line: usize, text: String) -> Finding {
        let path = self.path.clone();
        Finding { path, line, text }
    }
}

/// Reads a file by its path from the root of the project.
fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Panics with all findings, one a line, and each of them once.
fn assert_none(findings: &[impl ToString]) {
    let mut lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    lines.dedup();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
}
