//! Replays the committed corpora through the fuzz entry points, with a stable compiler.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod entry;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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
fn walk_holds_on_its_corpus() {
    replay("walk", entry::walk);
}

/// Draws seeds for `WALK_SECONDS`, from the time on or from `WALK_SEED`. An input of eight bytes chooses
/// whole messages, so nothing has to be searched for.
#[test]
#[ignore = "tests/fuzz/walk.sh runs it for as long as you say"]
#[allow(clippy::print_stdout, reason = "it says how long it ran")]
fn walk_holds_on_random_seeds() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let limit = Duration::from_secs(number("WALK_SECONDS").unwrap_or(10));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let first = number("WALK_SEED").unwrap_or(now.as_secs() << 32);
    let start = Instant::now();
    for seed in first.. {
        let (seconds, inputs) = (start.elapsed().as_secs_f32(), seed - first);
        if start.elapsed() >= limit {
            println!("no finding in {inputs} inputs, {seconds:.1} s, from seed {first}");
            return;
        }
        if std::panic::catch_unwind(|| entry::walk(&seed.to_le_bytes())).is_err() {
            panic!("a finding after {inputs} inputs, {seconds:.1} s: WALK_SEED={seed}");
        }
    }
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
            "walk",
            "wire_v1",
            "wire_v2"
        ]
        .map(String::from)
        .into()
    );
}

/// `tests/fuzz/planted.sh` says whether they are found.
#[test]
fn every_planted_fault_applies() {
    let patches = files(&fuzz_folder().join("planted"));
    assert!(patches.len() >= 6, "{} faults", patches.len());
    for patch in patches {
        let text = fs::read_to_string(&patch).unwrap();
        let (mut source, mut before) = (String::new(), String::new());
        let mut hunks = 0;
        // After the last line as well, a hunk ends.
        for line in text.lines().chain(["@@"]) {
            if let Some(path) = line.strip_prefix("+++ b/") {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
                source = fs::read_to_string(path).unwrap();
            } else if line.starts_with("@@") {
                let found = source.matches(&before).count();
                assert!(hunks == 0 || found == 1, "{patch:?}: {before:?}");
                hunks += 1;
                before.clear();
            } else if let Some(kept) = line.strip_prefix([' ', '-']).filter(|_| hunks > 0) {
                before.extend([kept, "\n"]);
            }
        }
        assert!(hunks > 1, "{patch:?} changes nothing");
    }
}
