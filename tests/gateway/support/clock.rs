//! A clock that a test sets: Debian's libfaketime, loaded into a process.
//!
//! It moves the time of day. What measures how long something takes goes on as it is, so all timers do, unless
//! the clock is a fast one.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::haproxy::libraries;
use super::prometheus::find_on_path;

/// The file in a gate's folder that says by how many seconds its clock differs from that of the machine.
/// Without it, the gate has the clock of the machine.
pub(super) const FILE: &str = "clock";

/// The content of the file for a clock that differs by so many seconds.
pub(super) fn offset(seconds: i64) -> String {
    format!("{seconds:+}")
}

/// The content of the file for a clock that is so many times as fast and an hour behind at first.
pub(super) fn fast(speed: u32) -> String {
    format!("-3600 x{speed}")
}

/// Has a process read its clock by this file.
pub(super) fn apply(command: &mut Command, file: &Path) {
    command
        .env("LD_PRELOAD", library())
        .env("FAKETIME_TIMESTAMP_FILE", file);
    if std::fs::read_to_string(file).is_ok_and(|it| !it.contains('x')) {
        command
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }
}

/// Removes what the library keeps for a process that was killed.
pub(super) fn forget(process: u32) {
    for name in ["faketime_shm", "sem.faketime_sem"] {
        let _ = std::fs::remove_file(format!("/dev/shm/{name}_{process}"));
    }
}

fn library() -> PathBuf {
    let program = find_on_path("faketime").expect("faketime on PATH; run tests/run.sh");
    Path::new(&libraries(&program)).join("faketime/libfaketime.so.1")
}
