//! The files of a configuration: bounded reads, and a fingerprint of everything that was read.
//!
//! Only this module touches the file system for the configuration. Each content and each failure
//! goes into the fingerprint, so a poller that reads again sees every change, including a file that
//! became unreadable. The fingerprint covers contents and not modification times, because a
//! mounted Secret or ConfigMap changes when a symlink is swapped.
//!
//! What a load asks of the file system depends on nothing but the answers before. So a poller asks the
//! same again, and loads only when an answer differs: with 1,000 spokes that takes a twentieth of the
//! time.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use glob::{MatchOptions, Pattern};
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use crate::tls::Authorities;

/// A few thousand spokes take one megabyte.
pub(super) const DOCUMENT_BYTES_MAX: usize = 4 << 20;

/// The files of a folder are in memory together, and each has at least one key of the dozen there are.
const FOLDER_FILES_MAX: usize = 100;

/// The ends of the names of configuration files.
const EXTENSIONS: [&str; 2] = ["yaml", "yml"];

/// Bounds the number of files that one careless glob reads.
const MATCHES_MAX: usize = 10_000;

/// Wildcards do not match hidden entries, as in a shell. Kubernetes keeps the real files of a
/// mounted volume in folders such as `..data`, where they would match a second time.
const MATCH_OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// Everything that a load asked of the file system, and a digest of the answers, including failures.
/// Two loads with equal fingerprints read the same files with the same contents.
#[derive(Clone, PartialEq, Eq)]
pub struct Fingerprint {
    digest: [u8; 32],
    asked: Arc<[Question]>,
}

impl Fingerprint {
    /// Whether a load would read now what it did read. It asks for all of that again.
    pub fn is_current(&self) -> bool {
        let mut sources = Sources::default();
        for question in &*self.asked {
            sources.ask(question);
        }
        sources.fingerprint().digest == self.digest
    }
}

impl fmt::Debug for Fingerprint {
    /// Shows only the first bytes, because the digest covers tokens too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.digest;
        write!(f, "Fingerprint({a:02x}{b:02x}{c:02x}{d:02x})")
    }
}

/// What is asked of the file system.
#[derive(Clone, PartialEq, Eq)]
enum Question {
    /// The content of a file of at most so many bytes.
    File(PathBuf, usize),
    /// That of the file that the command line names.
    Main(PathBuf),
    /// The configuration files in a folder.
    Folder(PathBuf),
    /// The files in a folder that a glob matches.
    Matches(PathBuf, String),
    /// The certificates of the authorities that the system trusts.
    System,
}

/// Reads files and keeps a digest of what it read.
#[derive(Default)]
pub(super) struct Sources {
    digest: Sha256,
    /// What was asked, in order.
    asked: Vec<Question>,
    /// The file system is not asked, and each file is missing.
    without_files: bool,
    /// The authorities that the system trusts, once they were read.
    system: Option<Option<Authorities>>,
}

impl Sources {
    /// Creates sources that ask nothing of the file system. Each file is missing.
    pub(super) fn without_files() -> Self {
        Self {
            without_files: true,
            ..Self::default()
        }
    }

    /// Reads a file of at most `bytes_max` bytes. The error says why it cannot be read.
    pub(super) fn read(&mut self, path: &Path, bytes_max: usize) -> Result<Vec<u8>, String> {
        if self.without_files {
            return Err("there are no files".to_owned());
        }
        self.asked.push(Question::File(path.to_owned(), bytes_max));
        // A pipe that is named by mistake would block the reload for ever.
        let content = require_regular(path).and_then(|()| read_bounded(path, bytes_max));
        self.digest_content(path, content)
    }

    /// Reads the file that the command line names, which may be a pipe such as `/dev/stdin`.
    pub(super) fn read_main(&mut self, path: &Path) -> Result<Vec<u8>, String> {
        self.asked.push(Question::Main(path.to_owned()));
        let content = read_bounded(path, DOCUMENT_BYTES_MAX);
        self.digest_content(path, content)
    }

    /// Lists the configuration files in a folder, sorted. `None` if it is not a folder.
    pub(super) fn folder(&mut self, path: &Path) -> Option<Result<Vec<PathBuf>, String>> {
        if self.without_files {
            return None;
        }
        self.asked.push(Question::Folder(path.to_owned()));
        if !path.is_dir() {
            return None;
        }
        Some(self.digest_list(list_folder(path)))
    }

    /// The authorities that the system trusts; `None` when there are none. They are read once.
    pub(super) fn system_authorities(&mut self) -> Option<Authorities> {
        if let Some(known) = &self.system {
            return known.clone();
        }
        let authorities = Authorities::of_system(&self.system_certificates());
        self.system.insert(authorities).clone()
    }

    fn system_certificates(&mut self) -> Vec<CertificateDer<'static>> {
        self.asked.push(Question::System);
        // A file that cannot be read is one of hundreds, and what is left may be enough.
        let certificates = rustls_native_certs::load_native_certs().certs;
        for certificate in &certificates {
            self.digest_piece(certificate);
        }
        certificates
    }

    fn digest_content(
        &mut self,
        path: &Path,
        content: Result<Vec<u8>, String>,
    ) -> Result<Vec<u8>, String> {
        self.digest_piece(path.as_os_str().as_encoded_bytes());
        match &content {
            Ok(bytes) => self.digest_piece(bytes),
            Err(reason) => {
                self.digest_piece(b"unreadable");
                self.digest_piece(reason.as_bytes());
            }
        }
        content
    }

    /// Lists the files that a glob matches, sorted. A pattern without wildcards yields its path
    /// whether or not the file exists.
    pub(super) fn matches(&mut self, folder: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
        if self.without_files {
            return Ok(Vec::new());
        }
        let question = Question::Matches(folder.to_owned(), pattern.to_owned());
        self.asked.push(question);
        self.digest_list(list_matches(folder, pattern))
    }

    fn digest_list(&mut self, found: Result<Vec<PathBuf>, String>) -> Result<Vec<PathBuf>, String> {
        match &found {
            Ok(paths) => {
                for path in paths {
                    self.digest_piece(path.as_os_str().as_encoded_bytes());
                }
            }
            Err(reason) => self.digest_piece(reason.as_bytes()),
        }
        found
    }

    /// Asks what was asked before; only the digest is wanted of the answer.
    fn ask(&mut self, question: &Question) {
        match question {
            Question::File(path, bytes_max) => drop(self.read(path, *bytes_max)),
            Question::Main(path) => drop(self.read_main(path)),
            Question::Folder(path) => drop(self.folder(path)),
            Question::Matches(folder, pattern) => drop(self.matches(folder, pattern)),
            Question::System => drop(self.system_certificates()),
        }
    }

    /// Returns what was asked, and the digest of everything that was read.
    pub(super) fn fingerprint(self) -> Fingerprint {
        Fingerprint {
            digest: self.digest.finalize().into(),
            asked: self.asked.into(),
        }
    }

    /// Digests one piece with its length, so that the border between two pieces counts too.
    fn digest_piece(&mut self, piece: &[u8]) {
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
        let file = fs::File::open(path)?;
        let limit = bytes_max as u64 + 1;
        // In one piece: a buffer that grows leaves memory behind, and a poller reads again and again.
        let length = file.metadata()?.len().min(limit);
        let mut content = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        file.take(limit).read_to_end(&mut content)?;
        Ok(content)
    };
    match read() {
        Ok(content) if content.len() > bytes_max => Err(format!("larger than {bytes_max} bytes")),
        Ok(content) => Ok(content),
        Err(error) => Err(error.to_string()),
    }
}

fn list_folder(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let cannot = |error: io::Error| format!("cannot be listed: {error}");
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(cannot)? {
        let name = PathBuf::from(entry.map_err(cannot)?.file_name());
        // Hidden files are those of editors, and `..data` of Kubernetes.
        let hidden = name.as_os_str().as_encoded_bytes().starts_with(b".");
        let extension = name.extension();
        if !hidden && EXTENSIONS.iter().any(|it| extension == Some(it.as_ref())) {
            found.push(folder.join(name));
        }
        if found.len() > FOLDER_FILES_MAX {
            return Err(format!(
                "contains more than {FOLDER_FILES_MAX} configuration files; name a folder that has \
                 nothing else in it"
            ));
        }
    }
    if found.is_empty() {
        return Err("contains no configuration file; one ends in .yaml or .yml".to_owned());
    }
    found.sort();
    Ok(found)
}

fn list_matches(folder: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    Pattern::new(pattern).map_err(|error| format!("is not a glob: {error}"))?;
    if !pattern.contains(['*', '?', '[']) {
        return Ok(vec![folder.join(pattern)]);
    }
    let folder = folder
        .to_str()
        .ok_or("is in a folder whose name is not UTF-8")?;
    let joined = Path::new(&Pattern::escape(folder)).join(pattern);
    let joined = joined.to_str().ok_or("is not UTF-8")?;
    let paths = glob::glob_with(joined, MATCH_OPTIONS)
        .map_err(|error| format!("is not a glob: {error}"))?;
    let mut found = Vec::new();
    for path in paths {
        found.push(path.map_err(|error| format!("cannot be listed: {error}"))?);
        if found.len() > MATCHES_MAX {
            return Err(format!("matches more than {MATCHES_MAX} files"));
        }
    }
    Ok(found)
}
