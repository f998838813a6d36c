//! Tests of configurations as files: relative paths, globs, symlinks, fingerprints, unreadable
//! files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{DIGEST, names};
use crate::config::{Fingerprint, Secret, load};

/// A token that is long enough, and the first bytes of its digest.
const TOKEN: &str = "0123456789abcdefghij";
const TOKEN_DIGEST: [u8; 4] = [0x6b, 0xc1, 0x4b, 0xdc];

/// A folder of configuration files.
pub(super) struct Folder(TempDir);

impl Folder {
    pub(super) fn new() -> Self {
        Self(TempDir::new().expect("a folder"))
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, content).expect("a file");
    }

    pub(super) fn main(&self) -> PathBuf {
        self.path("hubgate.yaml")
    }

    /// The errors of the main file, without the path of the folder.
    pub(super) fn errors(&self) -> String {
        let errors = load(&self.main()).result.expect_err("no configuration");
        errors
            .to_string()
            .replace(&format!("{}/", self.0.path().display()), "")
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        load(&self.main()).fingerprint
    }
}

fn spoke(name: &str, credential: &str) -> String {
    format!("name: {name}\ncredentials: [{credential}]\n")
}

fn with_files(patterns: &str) -> String {
    format!("hub: {{url: http://hub/}}\nspoke_files: [{patterns}]\n")
}

#[test]
fn paths_are_relative_to_their_own_file() {
    let folder = Folder::new();
    folder.write("hubgate.yaml", with_files("spokes.d/*.yaml"));
    folder.write(
        "spokes.d/b.yaml",
        spoke("b", &format!("token_sha256: {DIGEST}")),
    );
    folder.write("spokes.d/a.yaml", spoke("a", "token_file: tokens/a"));
    folder.write("spokes.d/tokens/a", format!(" {TOKEN}\r\n"));
    let config = load(&folder.main()).result.expect("a valid configuration");
    assert_eq!(names(&config), ["a", "b"]);
    let credential = &config.spokes[0].credentials[0];
    assert_eq!(credential.name, "token_file:tokens/a");
    assert!(matches!(credential.secret, Secret::Token(digest) if digest[..4] == TOKEN_DIGEST));
}

/// In a mounted ConfigMap or Secret, the files are links into `..data`. That is a link to a folder,
/// which is replaced as a whole.
#[test]
fn a_mounted_volume_is_read_once_and_a_swap_changes_the_fingerprint() {
    let folder = Folder::new();
    folder.write(
        "hubgate.yaml",
        with_files("'spokes.d/**/*.yaml', 'spokes.d/*'"),
    );
    folder.write(
        "spokes.d/..1/a.yaml",
        spoke("a", &format!("token_sha256: {DIGEST}")),
    );
    folder.write(
        "spokes.d/..2/a.yaml",
        spoke("b", &format!("token_sha256: {DIGEST}")),
    );
    let link =
        |target: &str, name: &str| symlink(Path::new(target), folder.path(name)).expect(name);
    link("..1", "spokes.d/..data");
    link("..data/a.yaml", "spokes.d/a.yaml");
    let before = folder.fingerprint();
    assert_eq!(folder.fingerprint(), before);
    assert!(before.is_current());

    fs::remove_file(folder.path("spokes.d/..data")).expect("a link");
    link("..2", "spokes.d/..data");
    assert!(!before.is_current());
    let after = load(&folder.main());
    assert_ne!(after.fingerprint, before);
    assert_eq!(names(&after.result.expect("a valid configuration")), ["b"]);
}

#[test]
fn fingerprint_changes_with_everything_that_is_read() {
    let folder = Folder::new();
    let mut earlier = vec![folder.fingerprint()];
    let mut changed = |what: &str| {
        assert!(earlier.iter().all(|it| !it.is_current()), "{what}");
        let now = folder.fingerprint();
        assert!(now.is_current(), "{what}");
        assert_eq!(now, folder.fingerprint(), "{what}");
        assert!(!earlier.contains(&now), "{what}");
        earlier.push(now);
    };
    folder.write("hubgate.yaml", "{");
    changed("a broken main file appears");
    folder.write("hubgate.yaml", with_files("'s/*.yaml'"));
    changed("the main file becomes valid");
    folder.write("s/a.yaml", spoke("a", "token_file: token"));
    changed("a spoke appears whose token is missing");
    folder.write("s/token", "short");
    changed("the token appears");
    folder.write("s/token", TOKEN);
    changed("the token changes");
    folder.write("s/a.yaml", "}");
    changed("the file of the spoke becomes invalid");
    folder.write("s/b.yaml", "}");
    changed("another invalid file appears");
    fs::rename(folder.path("s/b.yaml"), folder.path("s/c.yaml")).expect("a file");
    changed("that file is renamed");
    let shown = format!("{:?}", folder.fingerprint());
    assert_eq!(shown.len(), "Fingerprint(01234567)".len(), "{shown}");
}

#[test]
fn errors_of_all_files_are_reported() {
    let folder = Folder::new();
    folder.write(
        "hubgate.yaml",
        with_files("'s/*', missing.yaml") + "hube: {}\n",
    );
    folder.write(
        "s/a.yaml",
        spoke("same", &format!("token_sha256: {DIGEST}")),
    );
    folder.write("s/b.yaml", spoke("same", "token_file: ../short"));
    folder.write(
        "s/c.yaml",
        "name: c\ncredentials: [token_file: ../empty]\nhub: {}\n",
    );
    folder.write("s/d.yaml", "name: [");
    folder.write("s/e.yaml", b"name: e\n# \xc3\xa9\xff");
    folder.write("s/f.yaml", vec![b' '; (4 << 20) + 1]);
    folder.write("s/g.yaml", spoke("g", "token_file: ../words"));
    folder.write("short", "0123456789abcdefghi\n");
    folder.write("empty", "\n");
    folder.write("words", "two words that are long\n");
    let expected = [
        "hubgate.yaml:3:1: unknown key \"hube\", did you mean hub? allowed: cluster_label, listen, admin, hub, hubs, ack, limits, spoke_defaults, spokes, spoke_files",
        "s/b.yaml:1:7: name: a spoke name may be used only once; this one is already used at s/a.yaml:1:7 (name)",
        "s/b.yaml:2:27: credentials[0].token_file: the file s/../short has a token of fewer than 20 characters, which can be guessed; make one with `hubgate token`",
        "s/c.yaml:2:27: credentials[0].token_file: the file s/../empty is empty; put a token into it (`hubgate token` makes one)",
        "s/c.yaml:3:1: unknown key \"hub\"; allowed: name, credentials, source_ranges, labels, limits, weight",
        "s/d.yaml:1:7: not valid YAML: unclosed bracket '['",
        "s/e.yaml:2:4: is not UTF-8 from here on",
        "s/f.yaml: cannot be read: larger than 4194304 bytes",
        "s/g.yaml:2:27: credentials[0].token_file: the file s/../words is not one word of ASCII; put only the token into it",
        "missing.yaml: cannot be read: No such file or directory (os error 2)",
    ];
    let found = folder.errors();
    assert_eq!(found.lines().collect::<Vec<_>>(), expected);
    for token in ["0123456789abcdefghi", "two words"] {
        assert!(!found.contains(token), "{found}");
    }
}

/// A fault of YAML in one file hides no error of another one.
#[test]
fn errors_of_all_files_are_reported_beside_a_file_that_is_no_yaml() {
    let folder = Folder::new();
    let digest = format!("token_sha256: {DIGEST}");
    folder.write("a.yaml", spoke("a", "colour: red"));
    folder.write("b.yaml", "name: [b\n");
    folder.write("c.yaml", spoke("c", &digest) + "colour: red\n");
    for broken in [
        "hub: {url: http://hub/}\nspoke_files: ['*a.yaml', b.yaml, c.yaml]\nspokes: [\n",
        "spoke_files: ['*a.yaml', b.yaml, c.yaml]\nhub: &anchor {url: http://hub/}\n",
        "spoke_files: [b.yaml, c.yaml, a.yaml, \"d\n",
        "spoke_files:\n- b.yaml\n- c.yaml\n- a.yaml\nhub:\n\t- x\n",
    ] {
        folder.write("hubgate.yaml", broken);
        let errors = folder.errors();
        let files = ["hubgate.yaml:", "a.yaml:2:", "b.yaml:", "c.yaml:3:"];
        for file in files {
            let lines = errors.lines().filter(|line| line.starts_with(file));
            assert_eq!(lines.count(), 1, "{file} of {broken}: {errors}");
        }
        assert_eq!(errors.lines().count(), files.len(), "{broken}: {errors}");
    }
}

#[test]
fn the_same_token_in_two_files_is_refused() {
    let folder = Folder::new();
    let digest: &str = "6bc14bdc";
    folder.write("token", TOKEN);
    folder.write("again", format!("{TOKEN}\n"));
    folder.write(
        "hubgate.yaml",
        "hub: {url: http://hub/}\nspokes:\n- name: a\n  credentials: [token_file: token, token_file: again]\n",
    );
    let found = folder.errors();
    assert_eq!(
        found,
        "hubgate.yaml:4:48: spokes[0].credentials[1].token_file: a token may be used only once; \
         this one is already used at hubgate.yaml:4:29 (spokes[0].credentials[0].token_file)"
    );
    assert!(!found.contains(digest));
}

#[test]
fn the_error_about_a_missing_token_file_has_the_path_that_was_tried() {
    let folder = Folder::new();
    folder.write("hubgate.yaml", with_files("'s/*.yaml'"));
    folder.write("s/a.yaml", spoke("a", "token_file: tokens/a"));
    let errors = load(&folder.main()).result.expect_err("no configuration");
    let place = folder.path("s");
    let expected = format!(
        "{0}/a.yaml:2:27: credentials[0].token_file: cannot read {0}/tokens/a: No such file or \
         directory (os error 2); a relative path starts at the folder of the file that contains it",
        place.display()
    );
    assert_eq!(errors.to_string(), expected);
}

#[test]
fn paths_of_token_files_are_shown_and_tokens_are_not() {
    let shown = [
        "/var/run/secrets/kubernetes.io/serviceaccount/token",
        "/etc/hubgate/tokens/production-europe-west-1-cluster",
        "tokens/a",
        "../Token1",
        "token",
    ];
    let hidden = [
        "C793mcNdun4y6JxFNos3RWgG2PdZlyxmGf8jnfftMVg",
        "aGVsbG8+d29y/GQhIQ0K4Zm9v/YmFy",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    ];
    for (paths, is_shown) in [(&shown[..], true), (&hidden[..], false)] {
        for path in paths {
            let folder = Folder::new();
            folder.write("hubgate.yaml", with_files("a.yaml"));
            folder.write("a.yaml", spoke("a", &format!("token_file: {path}")));
            let found = folder.errors();
            assert!(found.contains("cannot read "), "{found}");
            assert_eq!(found.contains(path), is_shown, "{found}");
        }
    }
}

#[test]
fn a_missing_main_file_is_an_error() {
    let found = Folder::new().errors();
    assert_eq!(
        found,
        "hubgate.yaml: cannot be read: No such file or directory (os error 2)"
    );
}

#[test]
fn a_folder_with_wildcards_in_its_name_is_taken_literally() {
    let folder = Folder::new();
    folder.write(
        "a[1]/s/x.yaml",
        spoke("x", &format!("token_sha256: {DIGEST}")),
    );
    folder.write("a[1]/hubgate.yaml", with_files("'s/*.yaml'"));
    let config = load(&folder.path("a[1]/hubgate.yaml")).result;
    assert_eq!(names(&config.expect("a valid configuration")), ["x"]);
}
