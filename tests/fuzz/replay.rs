//! Replays the committed corpora through the fuzz entry points, with a stable compiler.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod entry;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hubgate::*;

/// A smaller corpus was lost rather than cut.
const FILES_MIN: usize = 10;

/// Keeps the repository small and the replay quick.
const FILE_BYTES_MAX: u64 = 4096;

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

/// The files of a folder, in the order of their names.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The names of the files of a folder, without extension.
fn names(folder: &Path) -> BTreeSet<String> {
    let name = |file: &PathBuf| file.file_stem().unwrap().to_str().unwrap().to_owned();
    files(folder).iter().map(name).collect()
}

/// Runs an entry point over its corpus.
fn replay(target: &str, check: fn(&[u8])) {
    let files = files(&fuzz_folder().join("corpus").join(target));
    assert!(files.len() >= FILES_MIN, "{target}: {} files", files.len());
    for file in files {
        let length = fs::metadata(&file).unwrap().len();
        assert!(length <= FILE_BYTES_MAX, "{file:?} has {length} bytes");
        let bytes = fs::read(&file).unwrap();
        if std::panic::catch_unwind(|| check(&bytes)).is_err() {
            panic!("{target} fails on {}", file.display());
        }
    }
}

#[test]
fn config_holds_on_its_corpus() {
    replay("config", entry::config);
}

#[test]
fn jwt_holds_on_its_corpus() {
    replay("jwt", entry::jwt);
}

#[test]
fn forwarded_for_holds_on_its_corpus() {
    replay("forwarded_for", entry::forwarded_for);
}

#[test]
fn proxy_header_holds_on_its_corpus() {
    replay("proxy_header", entry::proxy_header);
}

#[test]
fn snappy_holds_on_its_corpus() {
    replay("snappy", entry::snappy);
}

#[test]
fn transcode_holds_on_its_corpus() {
    replay("transcode", entry::transcode);
}

#[test]
fn wire_v1_holds_on_its_corpus() {
    replay("wire_v1", entry::wire_v1);
}

#[test]
fn wire_v2_holds_on_its_corpus() {
    replay("wire_v2", entry::wire_v2);
}

#[test]
fn every_fuzz_target_has_a_corpus() {
    let targets = names(&fuzz_folder().join("targets"));
    assert_eq!(targets, names(&fuzz_folder().join("corpus")));
    assert_eq!(
        targets,
        [
            "config",
            "forwarded_for",
            "jwt",
            "proxy_header",
            "snappy",
            "transcode",
            "wire_v1",
            "wire_v2"
        ]
        .map(String::from)
        .into()
    );
}
