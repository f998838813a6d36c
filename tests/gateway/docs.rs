//! The examples of the README: the gate takes them, and the defaults they show are the defaults.

use std::fs;
use std::path::Path;
use std::process::Command;

use hubgate::config;

const README: &str = include_str!("../../README.md");

/// Says nothing but what must be said, so everything else is a default.
const SPARSE: &str = "hub: {url: 'http://127.0.0.1:9090/api/v1/write'}
spokes: [{name: production, credentials: [{token_file: tokens/production}]}]
";

/// The YAML block of the README whose first line names it `file`.
fn example(file: &str) -> &'static str {
    let start = format!("```yaml\n# {file}\n");
    let (_, rest) = README.split_once(&start).expect(file);
    let (example, _) = rest.split_once("```").expect("an end of the block");
    example
}

/// Writes the examples where the README says they stand, beside the token they name.
fn write_examples(folder: &Path) {
    for subfolder in ["tokens", "spokes.d"] {
        fs::create_dir(folder.join(subfolder)).unwrap();
    }
    fs::write(
        folder.join("tokens/production"),
        "a-token-of-enough-length\n",
    )
    .unwrap();
    for file in ["hubgate.yaml", "spokes.d/staging.yaml"] {
        fs::write(folder.join(file), example(file)).unwrap();
    }
}

#[test]
fn check_config_takes_the_examples() {
    let folder = tempfile::tempdir().unwrap();
    write_examples(folder.path());
    let output = Command::new(env!("CARGO_BIN_EXE_hubgate"))
        .args(["check-config", "hubgate.yaml"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let summary = String::from_utf8_lossy(&output.stdout);
    for line in ["spokes: 2", "  production: ", "  staging: "] {
        assert!(summary.contains(line), "no {line:?} in {summary}");
    }
}

#[test]
fn the_example_shows_the_defaults() {
    let folder = tempfile::tempdir().unwrap();
    write_examples(folder.path());
    let load = |file: &str| config::load(&folder.path().join(file)).result.unwrap();
    let shown = load("hubgate.yaml");
    fs::write(folder.path().join("sparse.yaml"), SPARSE).unwrap();
    let default = load("sparse.yaml");
    assert_eq!(shown.cluster_label, default.cluster_label);
    assert_eq!(shown.listen, default.listen);
    assert_eq!(shown.admin, default.admin);
    assert_eq!(shown.hubs, default.hubs);
    assert_eq!(shown.ack, default.ack);
    assert_eq!(shown.limits, default.limits);
    assert_eq!(shown.spokes[0].labels, default.spokes[0].labels);
    assert_eq!(shown.spokes[0].limits, default.spokes[0].limits);
    // It says nothing of its source ranges and limits, so `spoke_defaults` speaks for it.
    let staging = &shown.spokes[1];
    assert_eq!(staging.source_ranges, default.spokes[0].source_ranges);
    assert_eq!(staging.limits, default.spokes[0].limits);
}
