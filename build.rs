//! Finds out what `hubgate --version` says of the source: revision, branch and date.
//!
//! The date is that of the commit, so two builds of one revision are the same bytes.
//! `SOURCE_DATE_EPOCH` overrides it, as <https://reproducible-builds.org> describes. Without git, or
//! from an archive, the revision comes from `.git-archive`, which `git archive` fills in.
//!
//! A debug build says nothing: otherwise each commit would compile everything again.

use std::path::Path;
use std::process::Command;

/// `git archive` replaces the text between the dollars.
const ARCHIVE: &str = ".git-archive";

/// What decides about the content of a release build.
const SOURCES: [&str; 6] = [
    "src",
    "build.rs",
    "Cargo.toml",
    "Cargo.lock",
    ".cargo",
    "docs/responses.md",
];

#[derive(Default)]
struct Source {
    revision: Option<String>,
    branch: Option<String>,
    /// In seconds since the Unix epoch.
    date: Option<String>,
}

fn main() {
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let mut source = Source::default();
    if is_release {
        for path in SOURCES.iter().chain([&ARCHIVE]) {
            rerun_if_changed(path);
        }
        source = from_git().or_else(from_archive).unwrap_or_default();
    }
    if let Ok(date) = std::env::var("SOURCE_DATE_EPOCH") {
        source.date = Some(date);
    }
    let fields = [
        ("REVISION", source.revision),
        ("BRANCH", source.branch),
        ("DATE", source.date),
        ("RUSTC", rust_version()),
    ];
    for (name, value) in fields {
        let value = value.unwrap_or_default();
        println!("cargo:rustc-env=HUBGATE_{name}={value}");
    }
}

/// Cargo takes a file that does not exist for one that changes all the time.
fn rerun_if_changed(path: &str) {
    if Path::new(path).exists() {
        println!("cargo:rerun-if-changed={path}");
    }
}

fn from_git() -> Option<Source> {
    // Without this, the repository of whoever unpacked an archive in it would be found.
    if !Path::new(".git").exists() {
        return None;
    }
    // Every commit and every checkout adds a line to this file.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    rerun_if_changed(&log);
    let mut revision = git(&["rev-parse", "HEAD"])?;
    let changes = [
        &["status", "--porcelain", "--untracked-files=no", "--"][..],
        &SOURCES,
    ]
    .concat();
    if !git(&changes)?.is_empty() {
        revision += "-modified";
    }
    Some(Source {
        revision: Some(revision),
        branch: git(&["rev-parse", "--abbrev-ref", "HEAD"]),
        date: git(&["log", "-1", "--format=%ct"]),
    })
}

fn git(arguments: &[&str]) -> Option<String> {
    run("git", arguments)
}

fn from_archive() -> Option<Source> {
    let text = std::fs::read_to_string(ARCHIVE).ok()?;
    let (revision, date) = text.trim().split_once(' ')?;
    let is_filled = !revision.contains('$');
    is_filled.then(|| Source {
        revision: Some(revision.to_owned()),
        branch: None,
        date: Some(date.to_owned()),
    })
}

/// The version of the compiler, such as `1.95.0`.
fn rust_version() -> Option<String> {
    let rustc = std::env::var("RUSTC").ok()?;
    let version = run(&rustc, &["--version"])?;
    version.split(' ').nth(1).map(str::to_owned)
}

/// What a program prints, if it is there and succeeds.
fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    // A build changes nothing in the repository, not even the cache of `git status`.
    command.args(arguments).env("GIT_OPTIONAL_LOCKS", "0");
    let output = command.output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
