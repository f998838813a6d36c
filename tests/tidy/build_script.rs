//! What `build.rs` finds out of a source without a repository.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// The build script, compiled, in a folder without anything else.
fn script() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("build.rs");
    let mut rustc = Command::new("rustc");
    rustc
        .args(["--edition", "2024", "-o", "script"])
        .arg(source);
    assert!(rustc.current_dir(folder.path()).status().unwrap().success());
    folder
}

/// Revision, branch and date as a build of this profile gets them.
fn found(folder: &TempDir, profile: &str, epoch: Option<&str>) -> [String; 3] {
    let mut script = Command::new(folder.path().join("script"));
    script.current_dir(folder.path()).env("PROFILE", profile);
    script.env_remove("SOURCE_DATE_EPOCH");
    script.envs(epoch.map(|seconds| ("SOURCE_DATE_EPOCH", seconds)));
    let output = script.output().unwrap();
    assert!(output.status.success());
    let lines = String::from_utf8(output.stdout).unwrap();
    ["REVISION", "BRANCH", "DATE"].map(|name| {
        let start = format!("cargo:rustc-env=HUBGATE_{name}=");
        let value = lines.lines().find_map(|line| line.strip_prefix(&start));
        value.unwrap().to_owned()
    })
}

#[test]
fn a_source_without_git_is_built_from_what_its_archive_says() {
    let folder = script();
    let archive = folder.path().join(".git-archive");
    assert_eq!(found(&folder, "release", None), ["", "", ""]);
    std::fs::write(&archive, crate::read(".git-archive")).unwrap();
    assert_eq!(found(&folder, "release", None), ["", "", ""]);
    std::fs::write(&archive, "0123abcd 1795710000\n").unwrap();
    assert_eq!(
        found(&folder, "release", None),
        ["0123abcd", "", "1795710000"]
    );
    assert_eq!(found(&folder, "release", Some("7")), ["0123abcd", "", "7"]);
    assert_eq!(found(&folder, "debug", None), ["", "", ""]);
}
