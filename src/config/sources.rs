//! The files a configuration consists of: bounded reads, and a fingerprint of all that was read.
//!
//! Only this file touches the file system for the configuration. Each read and each failure goes
//! into the fingerprint, so a poller can load again and see whether anything changed, a file that
//! became unreadable included. Contents are compared, not times: a mounted Secret or ConfigMap
//! changes by the swap of a symlink.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};
use sha2::{Digest, Sha256};

/// A few thousand spokes are one megabyte.
pub(super) const DOCUMENT_BYTES_MAX: usize = 4 << 20;

/// Bounds what one careless glob reads.
const MATCHES_MAX: usize = 10_000;

/// Hidden entries stay hidden, as in a shell: Kubernetes keeps the real files of a mounted volume
/// in folders like `..data`, and they would match a second time.
const MATCHING: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// A digest of everything a load consulted, failures included; two loads with equal fingerprints
/// saw the same files.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl fmt::Debug for Fingerprint {
    /// Shows the first bytes only: token files are digested too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "Fingerprint({a:02x}{b:02x}{c:02x}{d:02x})")
    }
}

/// Reads files and remembers a digest of what it saw.
#[derive(Default)]
pub(super) struct Sources {
    digest: Sha256,
}

impl Sources {
    /// Reads a file of at most `bytes_max` bytes, or says why it cannot be read.
    pub(super) fn read(&mut self, path: &Path, bytes_max: usize) -> Result<Vec<u8>, String> {
        // A pipe named by mistake would block the reload for ever.
        let content = require_regular(path).and_then(|()| read_bounded(path, bytes_max));
        self.note_content(path, content)
    }

    /// Reads the file named on the command line, which may be a pipe such as `/dev/stdin`.
    pub(super) fn read_main(&mut self, path: &Path) -> Result<Vec<u8>, String> {
        let content = read_bounded(path, DOCUMENT_BYTES_MAX);
        self.note_content(path, content)
    }

    fn note_content(
        &mut self,
        path: &Path,
        content: Result<Vec<u8>, String>,
    ) -> Result<Vec<u8>, String> {
        self.note(path.as_os_str().as_encoded_bytes());
        match &content {
            Ok(bytes) => self.note(bytes),
            Err(reason) => {
                self.note(b"unreadable");
                self.note(reason.as_bytes());
            }
        }
        content
    }

    /// Lists the files a glob matches, sorted; a pattern without wildcards names its file whether
    /// it exists or not.
    pub(super) fn matches(&mut self, folder: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
        let found = list_matches(folder, pattern);
        match &found {
            Ok(paths) => {
                for path in paths {
                    self.note(path.as_os_str().as_encoded_bytes());
                }
            }
            Err(reason) => self.note(reason.as_bytes()),
        }
        found
    }

    /// Returns the digest of all that was read.
    pub(super) fn fingerprint(self) -> Fingerprint {
        Fingerprint(self.digest.finalize().into())
    }

    /// Digests one piece with its length, so that pieces cannot run into each other.
    fn note(&mut self, piece: &[u8]) {
        self.digest.update((piece.len() as u64).to_be_bytes());
        self.digest.update(piece);
    }
}

fn require_regular(path: &Path) -> Result<(), String> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(()),
        Ok(_) => Err("not a regular file".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn read_bounded(path: &Path, bytes_max: usize) -> Result<Vec<u8>, String> {
    let read = || -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        let limit = bytes_max as u64 + 1;
        fs::File::open(path)?
            .take(limit)
            .read_to_end(&mut content)?;
        Ok(content)
    };
    match read() {
        Ok(content) if content.len() > bytes_max => Err(format!("larger than {bytes_max} bytes")),
        Ok(content) => Ok(content),
        Err(error) => Err(error.to_string()),
    }
}

fn list_matches(folder: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    Pattern::new(pattern).map_err(|error| format!("is not a glob: {error}"))?;
    if !pattern.contains(['*', '?', '[']) {
        return Ok(vec![folder.join(pattern)]);
    }
    let folder = folder
        .to_str()
        .ok_or("stands in a folder whose name is not UTF-8")?;
    let joined = Path::new(&Pattern::escape(folder)).join(pattern);
    let joined = joined.to_str().ok_or("is not UTF-8")?;
    let paths =
        glob::glob_with(joined, MATCHING).map_err(|error| format!("is not a glob: {error}"))?;
    let mut found = Vec::new();
    for path in paths {
        found.push(path.map_err(|error| format!("cannot be listed: {error}"))?);
        if found.len() > MATCHES_MAX {
            return Err(format!("matches more than {MATCHES_MAX} files"));
        }
    }
    Ok(found)
}
