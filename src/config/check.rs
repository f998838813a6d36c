//! Turns the tree of a document into a [`Config`], or finds everything that is wrong with it.
//!
//! A check continues after an error: a part that is wrong yields [`Reported`] or its default, and
//! [`Report::finish`] withholds the result. The submodules read the documents, and check listeners,
//! hubs and spokes.

mod advice;
mod certificate;
mod credential;
mod documents;
mod entry;
mod header;
mod hub;
mod hub_credentials;
mod hub_tls;
mod jwt;
mod listeners;
mod pem;
mod spoke;
mod spoke_limits;
mod tls;
mod unique;
mod value;
mod visible;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use documents::Documents;
use entry::{Entry, Fields};
use spoke::Settings;
use unique::UniqueValues;

pub(super) use value::spoke_name;

use super::errors::{Errors, File, Finding, Position, Report, Reported};
use super::node::{self, Node};
use super::sources::{DOCUMENT_BYTES_MAX, Sources};
use super::{Config, Limits, Spoke, defaults};

const KEYS: &[&str] = &[
    "cluster_label",
    "listen",
    "admin",
    "hub",
    "hubs",
    "ack",
    "limits",
    "spoke_defaults",
    "spokes",
    "spoke_files",
];
const LIMITS_KEYS: &[&str] = &["bytes_in_flight_max", "body_bytes_max", "decoded_bytes_max"];

/// The configuration or its errors, and its warnings.
type Checked = (Result<Config, Errors>, Vec<Finding>);

/// Reads and checks a file, or those of a folder, and the files that they name.
pub(super) fn path(path: &Path, sources: &mut Sources) -> Checked {
    let mut check = Check::new(sources);
    let config = Documents::read(&mut check, path).and_then(|it| check.config(&it));
    check.report.finish(config)
}

/// Checks a text. Findings show `name` as its file.
pub(super) fn text(name: &Path, text: &str, sources: &mut Sources) -> Checked {
    let mut check = Check::new(sources);
    let content = Ok(text.as_bytes().to_vec());
    let documents = Documents::of(&mut check, name, content);
    let config = check.config(&documents);
    check.report.finish(config)
}

/// A document that cannot be read to its end.
struct Unreadable {
    reported: Reported,
    /// What stands before the error.
    before: Option<Node>,
}

impl From<Reported> for Unreadable {
    fn from(reported: Reported) -> Self {
        Self {
            reported,
            before: None,
        }
    }
}

/// What all parts of a check share.
struct Check<'s> {
    sources: &'s mut Sources,
    report: Report,
    unique: UniqueValues,
    /// Whether the listener for remote writes asks for client certificates, if that is known.
    asks_for_certificates: Option<bool>,
    /// The number of files that were read, and of folders.
    files: usize,
    /// The files of spokes that were read. Two globs may match the same file.
    spoke_files: HashSet<PathBuf>,
}

impl<'s> Check<'s> {
    fn new(sources: &'s mut Sources) -> Self {
        Self {
            sources,
            report: Report::default(),
            unique: UniqueValues::default(),
            asks_for_certificates: None,
            files: 0,
            spoke_files: HashSet::new(),
        }
    }

    /// Returns the order of the next file.
    fn next_order(&mut self) -> usize {
        self.files += 1;
        self.files - 1
    }

    fn parse_content(
        &mut self,
        file: &File,
        content: Result<Vec<u8>, String>,
    ) -> Result<Node, Unreadable> {
        let content = content.map_err(|reason| {
            let message = format!("cannot be read: {reason}");
            self.report.add(file, None, "", message)
        })?;
        let text = str::from_utf8(&content).map_err(|error| {
            let (before, _) = content.split_at(error.valid_up_to());
            let message = "is not UTF-8 from here on";
            self.report.add(file, Some(end_of(before)), "", message)
        })?;
        self.parse_text(file, text)
    }

    fn parse_text(&mut self, file: &File, text: &str) -> Result<Node, Unreadable> {
        node::parse(text).map_err(|error| {
            let mut message = error.message;
            // A hash may have any special character of YAML.
            let line = text.lines().nth(error.at.line.saturating_sub(1));
            if line.is_some_and(|line| line.contains("password_hash:")) {
                message += "; put the hash into quotes";
            }
            Unreadable {
                reported: self.report.add(file, Some(error.at), "", message),
                before: error.before,
            }
        })
    }

    /// Checks the spoke files that the documents name, of which one ends with an error of YAML, so
    /// that their errors are reported together with it. Nothing can be said of the rest.
    fn files_named_before(&mut self, documents: &Documents) {
        // A key that the error cut off is no error of its own.
        let mut cut_off = Report::default();
        let root = documents.root(&mut cut_off, KEYS);
        let patterns = list(&mut cut_off, &root, "spoke_files");
        for pattern in patterns.iter().flatten() {
            self.check_spoke_files(documents, pattern, &Settings::default(), &mut Vec::new());
        }
    }

    fn config(&mut self, documents: &Documents) -> Result<Config, Reported> {
        if let Some(reported) = documents.unreadable() {
            self.files_named_before(documents);
            return Err(reported);
        }
        let root = documents.root(&mut self.report, KEYS);
        root.ensure_mapping()?;
        let label = defaults::CLUSTER_LABEL.to_owned();
        let cluster_label =
            root.parse_or(&mut self.report, "cluster_label", value::label_name, label);
        let listeners = listeners::listeners(self, &root);
        let hubs = hub::hubs(self, &root);
        let ack = root.parse_or(&mut self.report, "ack", value::ack, defaults::ACK);
        let limits = self.limits(&root);
        let spokes = self.spokes(documents, &root);
        let (listen, admin) = listeners?;
        Ok(Config {
            cluster_label: cluster_label?,
            listen,
            admin,
            hubs: hubs?,
            ack: ack?,
            limits: limits?,
            spokes: spokes?,
        })
    }

    fn limits(&mut self, root: &Fields<'_>) -> Result<Limits, Reported> {
        let report = &mut self.report;
        let fields = root.section(report, "limits", LIMITS_KEYS);
        let mut size =
            |name, ceiling, default| fields.parse_or(report, name, value::size(ceiling), default);
        let in_flight = size(
            "bytes_in_flight_max",
            defaults::BYTES_IN_FLIGHT_CEILING,
            defaults::BYTES_IN_FLIGHT_MAX,
        );
        let ceiling = defaults::BODY_BYTES_CEILING;
        let body = size("body_bytes_max", ceiling, defaults::BODY_BYTES_MAX);
        let decoded = size("decoded_bytes_max", ceiling, defaults::DECODED_BYTES_MAX);
        let limits = Limits {
            bytes_in_flight_max: in_flight?,
            body_bytes_max: body?,
            decoded_bytes_max: decoded?,
        };
        // A request that never fits into the budget would be answered 503 for ever.
        let request = limits.body_bytes_max + limits.decoded_bytes_max;
        if request > limits.bytes_in_flight_max {
            let entry = LIMITS_KEYS.iter().find_map(|key| fields.get(key));
            let message = format!(
                "bytes_in_flight_max ({}) must hold one request of the largest size: \
                 body_bytes_max ({}) and decoded_bytes_max ({}) make {request}",
                limits.bytes_in_flight_max, limits.body_bytes_max, limits.decoded_bytes_max
            );
            return Err(entry.unwrap_or(fields.entry()).fail(report, message));
        }
        Ok(limits)
    }

    fn spokes(&mut self, documents: &Documents, root: &Fields<'_>) -> Result<Vec<Spoke>, Reported> {
        let report = &mut self.report;
        let shared = root.section(report, "spoke_defaults", spoke::DEFAULTS_KEYS);
        let shared = Settings::check(report, &shared);
        let listed = list(report, root, "spokes");
        let patterns = list(report, root, "spoke_files");
        if matches!((&listed, &patterns), (Ok(a), Ok(b)) if a.is_empty() && b.is_empty()) {
            let entry = root.get("spokes").unwrap_or(root.entry());
            let message = "no spoke is configured; list some in spokes, or files in spoke_files";
            return Err(entry.fail(report, message));
        }
        let mut spokes = Vec::new();
        for entry in listed.iter().flatten() {
            spokes.push(spoke::spoke(self, entry, &shared));
        }
        for pattern in patterns.iter().flatten() {
            self.check_spoke_files(documents, pattern, &shared, &mut spokes);
        }
        if spokes.is_empty() && listed.is_ok() && patterns.is_ok() {
            let entry = root.get("spoke_files").unwrap_or(root.entry());
            let message = "there is no spoke, so every write would be answered 401";
            entry.warn(&mut self.report, message);
        }
        spokes.into_iter().collect()
    }

    /// Checks the files that one glob matches. No match is no error: an operator removes the last
    /// spoke by removing its file, and a reload that failed then would keep that spoke in force.
    fn check_spoke_files(
        &mut self,
        documents: &Documents,
        pattern: &Entry<'_>,
        shared: &Settings,
        spokes: &mut Vec<Result<Spoke, Reported>>,
    ) {
        let found = pattern.text(&mut self.report).and_then(|text| {
            let folder = pattern.file.folder();
            let found = self.sources.matches(folder, text);
            let found = found.map_err(|message| pattern.fail(&mut self.report, message))?;
            if found.is_empty() {
                let tried = absolute(&folder.join(text));
                let message = format!("no file matches {}", tried.display());
                pattern.warn(&mut self.report, message);
            }
            Ok(found)
        });
        for path in found.unwrap_or_default() {
            if documents.contain(&path) {
                let path = path.display();
                let message = format!(
                    "matches {path}, which is part of the configuration itself; each file of \
                     spoke_files contains one spoke"
                );
                spokes.push(Err(pattern.fail(&mut self.report, message)));
            } else if self.spoke_files.insert(path.clone()) {
                let file = File::new(self.next_order(), &path);
                spokes.push(self.check_spoke_file(&file, shared));
            }
        }
    }

    fn check_spoke_file(&mut self, file: &File, shared: &Settings) -> Result<Spoke, Reported> {
        let content = self.sources.read(&file.path, DOCUMENT_BYTES_MAX);
        let node = self.parse_content(file, content);
        let node = node.map_err(|unreadable| unreadable.reported)?;
        spoke::spoke(self, &Entry::root(file, &node), shared)
    }
}

/// Returns the items of a list, or none if the key was left out.
fn list<'a>(
    report: &mut Report,
    root: &Fields<'a>,
    name: &str,
) -> Result<Vec<Entry<'a>>, Reported> {
    root.get(name)
        .map_or(Ok(Vec::new()), |entry| entry.items(report))
}

/// Returns a path as seen from any folder, for messages. It is the same path if there is no current
/// folder.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Returns the position after the last character of a text.
fn end_of(text: &[u8]) -> Position {
    let text = String::from_utf8_lossy(text);
    let line = text.rsplit('\n').next().unwrap_or_default();
    Position {
        line: text.matches('\n').count() + 1,
        column: line.chars().count() + 1,
    }
}
