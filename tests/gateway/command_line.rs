//! The commands of hubgate beside `serve`, and how the commands take the configuration.

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::config::{config, spoke};

const HUB: &str = "http://127.0.0.1:9/api/v1/write";

/// A folder with files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// A configuration with the spoke `production` and few connections.
fn valid() -> String {
    let listen = "listen: {connections_max: 10}";
    format!("{listen}\n{}", config(HUB, &[spoke("production", "")]))
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hubgate"));
    command.args(arguments).current_dir(folder);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_warning_is_marked_and_fails_only_if_strict() {
    let text_of_config = valid().replace("/api/v1/write", "");
    let folder = folder(&[("hubgate.yaml", &text_of_config)]);
    let doubt = "hub.url: has no path, so every write would be answered 502; for a Prometheus, \
                 write http://127.0.0.1:9/api/v1/write\n";
    let lenient = run(folder.path(), &["check-config"]);
    assert_eq!(lenient.status.code(), Some(0));
    let warning = text(&lenient.stderr);
    assert!(warning.starts_with("warning: hubgate.yaml:") && warning.ends_with(doubt));
    assert!(text(&lenient.stdout).ends_with("the configuration is valid\n"));
    let strict = run(folder.path(), &["check-config", "--strict"]);
    assert_eq!(strict.status.code(), Some(1));
    let error = text(&strict.stderr);
    assert!(error.starts_with("error: hubgate.yaml:") && error.ends_with(doubt));
    assert_eq!(text(&strict.stdout), "");
}

#[test]
fn a_valid_configuration_passes_a_strict_check() {
    let folder = folder(&[("hubgate.yaml", &valid())]);
    let strict = run(folder.path(), &["check-config", "--strict"]);
    assert_eq!(text(&strict.stderr), "");
    assert_eq!(strict.status.code(), Some(0));
}

#[test]
fn a_low_limit_of_open_files_is_a_warning() {
    let folder = folder(&[("hubgate.yaml", &valid())]);
    let check = format!("exec {} check-config", env!("CARGO_BIN_EXE_hubgate"));
    // 10 connections of spokes, 256 to the hub, 256 to the admin port, and 64 others are 586.
    for (limit, wanted) in [
        (
            585,
            "warning: the limit of open files is 585, and up to 586 are needed; ",
        ),
        (586, ""),
    ] {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {limit} && {check}")]);
        let output = shell.current_dir(folder.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{limit}");
        let said = text(&output.stderr);
        assert!(said.starts_with(wanted), "{limit}: {said}");
        assert_eq!(said.is_empty(), wanted.is_empty(), "{limit}: {said}");
    }
}

#[test]
fn every_command_takes_the_file_as_a_flag_or_as_an_argument() {
    // The file has an error, so `serve` ends too.
    let folder = folder(&[("hubgate.yaml", "ack: default"), ("a.yaml", "ack: given")]);
    for command in ["check-config", "serve"] {
        let ways: [(&[&str], &str); 4] = [
            (&[], "default"),
            (&["a.yaml"], "given"),
            (&["--config.file", "a.yaml"], "given"),
            (&["--config.file=a.yaml"], "given"),
        ];
        for (way, value) in ways {
            let arguments = [&[command], way].concat();
            let output = run(folder.path(), &arguments);
            assert_eq!(output.status.code(), Some(1), "{arguments:?}");
            let said = text(&output.stderr);
            assert!(said.contains(value), "{arguments:?}: {said}");
        }
        let both = run(folder.path(), &[command, "a.yaml", "--config.file=a.yaml"]);
        assert_eq!(both.status.code(), Some(2), "{command}");
        let said = text(&both.stderr);
        assert!(said.contains("cannot be used with"), "{command}: {said}");
    }
}
