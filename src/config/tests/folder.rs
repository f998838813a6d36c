//! Tests of configurations that are a folder: several files that are one mapping.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use super::files::Folder;
use super::{DIGEST, names};
use crate::config::{Config, load};

const HUB: &str = "hub: {url: http://hub/}\n";

/// `spokes` with one spoke.
fn spokes(name: &str) -> String {
    format!("spokes: [{{name: {name}, credentials: [token_sha256: {DIGEST}]}}]\n")
}

fn loaded(folder: &Folder) -> Config {
    load(&folder.path("config"))
        .result
        .expect("a valid configuration")
}

/// The errors of the folder `config`, without the path of the folder that it is in.
fn errors(folder: &Folder) -> String {
    let errors = load(&folder.path("config")).result;
    let errors = errors.expect_err("no configuration").to_string();
    errors.replace(&folder.path("").display().to_string(), "")
}

#[test]
fn files_of_a_folder_are_one_configuration() {
    let folder = Folder::new();
    folder.write("config/10-hub.yaml", HUB);
    folder.write("config/20-listen.yml", "listen: {connections_max: 7}\n");
    folder.write("config/spokes.yaml", spokes("a"));
    folder.write("config/comment.yaml", "# nothing\n");
    let name = OsStr::from_bytes(b"\xff.yaml");
    fs::write(folder.path("config").join(name), "cluster_label: c\n").expect("a file");
    for ignored in [
        "config/.hidden.yaml",
        "config/.yaml",
        "config/hub.yaml~",
        "config/README",
        "config/folder/deeper.yaml",
        "config/..data/hub.yaml",
    ] {
        folder.write(ignored, "}");
    }
    let config = loaded(&folder);
    assert_eq!(config.hubs[0].url.authority(), "hub");
    assert_eq!(config.listen.connections_max, 7);
    assert_eq!(config.cluster_label, "c");
    assert_eq!(names(&config), ["a"]);
}

#[test]
fn a_relative_path_starts_at_the_folder() {
    let folder = Folder::new();
    folder.write("config/hub.yaml", HUB);
    folder.write("config/files.yaml", "spoke_files: [../s/*.yaml]\n");
    folder.write("config/token", "0123456789abcdefghij");
    folder.write(
        "config/spokes.yaml",
        "spokes: [{name: a, credentials: [token_file: token]}]\n",
    );
    folder.write(
        "s/b.yaml",
        format!("name: b\ncredentials: [token_sha256: {DIGEST}]\n"),
    );
    assert_eq!(names(&loaded(&folder)), ["a", "b"]);
}

#[test]
fn errors_have_the_file_and_the_position() {
    let folder = Folder::new();
    folder.write("config/a.yaml", "ack: both\nlimits: {}\n");
    folder.write("config/b.yaml", "hube: {}\nspoke_files: ['../s/*']\n");
    folder.write(
        "config/c.yaml",
        "# two\nlimits: {}\nack: all\nhubs: [{url: http://b/}]\n",
    );
    folder.write("config/d.yaml", HUB);
    folder.write("config/e.yaml", spokes("same"));
    folder.write("s/x.yaml", "name: same\ncredentials: []\n");
    let found = errors(&folder);
    let expected = [
        "config/a.yaml:1:6: ack: unknown value \"both\"; allowed: all, any",
        "config/b.yaml:1:1: unknown key \"hube\", did you mean hub? allowed: cluster_label, listen, admin, hub, hubs, ack, limits, spoke_defaults, spokes, spoke_files",
        "config/c.yaml:2:1: limits: this key is given twice; its first value is at config/a.yaml:2:9",
        "config/c.yaml:3:1: ack: this key is given twice; its first value is at config/a.yaml:1:6",
        "config/c.yaml:4:7: hubs: hub is given as well, at config/d.yaml:1:6; list all hubs in hubs, or give one in hub",
        "s/x.yaml:1:7: name: a spoke name may be used only once; this one is already used at config/e.yaml:1:17 (spokes[0].name)",
    ];
    let found: Vec<_> = found
        .lines()
        .map(|it| it.replace("config/../", ""))
        .collect();
    assert_eq!(found[..expected.len()], expected, "{found:#?}");
}

#[test]
fn what_is_missing_is_missing_in_the_folder() {
    let folder = Folder::new();
    folder.write("config/a.yaml", "# nothing");
    folder.write("config/b.yaml", "ack: all");
    assert_eq!(
        errors(&folder),
        "config: no hub is configured; give one in hub, or list several in hubs\n\
         config: no spoke is configured; list some in spokes, or files in spoke_files"
    );
}

#[test]
fn a_document_that_is_no_mapping_is_the_only_error() {
    let folder = Folder::new();
    folder.write("config/a.yaml", "- hub\n");
    folder.write("config/b.yaml", "hube: {}\n");
    let found = errors(&folder);
    let wanted =
        "config/a.yaml:1:1: wanted a mapping, found a list\nconfig/b.yaml:1:1: unknown key";
    assert!(found.starts_with(wanted), "{found}");
    assert_eq!(found.lines().count(), 2, "{found}");
}

/// A fault of YAML in one file hides no fault of YAML in another, and none of a spoke.
#[test]
fn all_files_that_are_no_yaml_are_reported() {
    let folder = Folder::new();
    folder.write("config/a.yaml", "hub: [");
    folder.write("config/b.yaml", "spoke_files: ['../s/*.yaml']\n");
    folder.write("config/c.yaml", b"# \xff");
    folder.write("config/d.yaml", vec![b' '; (4 << 20) + 1]);
    folder.write("config/e.yaml/file", "");
    symlink("missing", folder.path("config/f.yaml")).expect("a link");
    folder.write("s/a.yaml", "}");
    let found = errors(&folder);
    let found: Vec<_> = found.lines().collect();
    let expected = [
        "config/a.yaml:1:6: not valid YAML: ",
        "config/c.yaml:1:3: is not UTF-8 from here on",
        "config/d.yaml: cannot be read: larger than 4194304 bytes",
        "config/e.yaml: cannot be read: not a regular file",
        "config/f.yaml: cannot be read: No such file or directory (os error 2)",
        "config/../s/a.yaml:1:1: not valid YAML: ",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}");
    }
}

#[test]
fn a_folder_without_files_or_with_too_many_is_an_error() {
    let folder = Folder::new();
    folder.write("config/hub.json", "{}");
    let empty = "config: contains no configuration file; one ends in .yaml or .yml";
    assert_eq!(errors(&folder), empty);
    for index in 0..100 {
        folder.write(&format!("config/{index}.yaml"), "");
    }
    assert!(errors(&folder).starts_with("config: no hub"));
    folder.write("config/100.yml", "");
    assert_eq!(
        errors(&folder),
        "config: contains more than 100 configuration files; name a folder that has nothing else \
         in it"
    );
}

#[test]
fn a_document_is_no_file_of_a_spoke() {
    let folder = Folder::new();
    folder.write(
        "config/a.yaml",
        HUB.to_owned() + "spoke_files: ['*.yaml']\n",
    );
    folder.write("config/b.yaml", "ack: all\n");
    assert_eq!(
        errors(&folder),
        "config/a.yaml:2:15: spoke_files[0]: matches config/a.yaml, which is part of the \
         configuration itself; each file of spoke_files contains one spoke\n\
         config/a.yaml:2:15: spoke_files[0]: matches config/b.yaml, which is part of the \
         configuration itself; each file of spoke_files contains one spoke"
    );
    let folder = Folder::new();
    folder.write(
        "hubgate.yaml",
        HUB.to_owned() + "spoke_files: [hubgate.yaml]\n",
    );
    let found = folder.errors();
    assert!(found.contains("matches hubgate.yaml, which is"), "{found}");
}

/// In a mounted ConfigMap, the files are links into `..data`. That is a link to a folder, which is
/// replaced as a whole.
#[test]
fn a_swap_that_adds_or_removes_a_file_changes_the_fingerprint() {
    let folder = Folder::new();
    folder.write("config/..1/hub.yaml", HUB);
    folder.write("config/..1/spokes.yaml", spokes("a"));
    folder.write("config/..2/hub.yaml", HUB);
    folder.write("config/..2/spokes.yaml", spokes("a"));
    folder.write("config/..2/ack.yaml", "ack: any\n");
    let link = |target: &str, name: &str| symlink(target, folder.path(name)).expect(name);
    link("..1", "config/..data");
    link("..data/hub.yaml", "config/hub.yaml");
    link("..data/spokes.yaml", "config/spokes.yaml");
    let fingerprint = || load(&folder.path("config")).fingerprint;
    let before = fingerprint();
    assert_eq!(fingerprint(), before);

    fs::remove_file(folder.path("config/..data")).expect("a link");
    link("..2", "config/..data");
    assert_eq!(
        fingerprint(),
        before,
        "the same files with the same contents"
    );
    assert!(before.is_current());
    link("..data/ack.yaml", "config/ack.yaml");
    assert!(!before.is_current());
    let added = load(&folder.path("config"));
    assert_ne!(added.fingerprint, before);
    assert_eq!(names(&added.result.expect("a valid configuration")), ["a"]);
    fs::remove_file(folder.path("config/ack.yaml")).expect("a link");
    assert_eq!(fingerprint(), before);
    fs::write(folder.path("config/empty.yaml"), "").expect("a file");
    assert_ne!(fingerprint(), before);
    assert!(!before.is_current());
}
