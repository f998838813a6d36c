//! From the tree of a document to a [`Config`], or to everything that is wrong with it.
//!
//! Checking goes on after an error: a part that is wrong yields [`Reported`] or its default, and
//! [`Report::finish`] withholds the result. The parts of hubs and spokes are in the modules
//! below.

mod credential;
mod entry;
mod header;
mod hub;
mod spoke;
mod unique;
mod value;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use entry::{Entry, Fields, Keys};
use spoke::Settings;
use unique::Seen;

use super::errors::{Errors, File, Position, Report, Reported};
use super::node::{self, Node};
use super::sources::{DOCUMENT_BYTES_MAX, Sources};
use super::{Admin, Config, Limits, Listen, SourceRanges, Spoke, defaults};

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
const LISTEN_KEYS: &[&str] = &["address", "source_ranges", "connections_max"];
const ADMIN_KEYS: &[&str] = &["address"];
const LIMITS_KEYS: &[&str] = &["bytes_in_flight_max", "body_bytes_max", "decoded_bytes_max"];

/// Reads and checks a file and the files it names.
pub(super) fn file(path: &Path, sources: &mut Sources) -> Result<Config, Errors> {
    let main = File::new(0, path);
    let content = sources.read_main(path);
    let mut check = Check::new(sources);
    let config = check
        .document(&main, content)
        .and_then(|node| check.config(&main, &node));
    check.report.finish(config)
}

/// Checks a text; `name` stands for its file in errors.
pub(super) fn text(name: &Path, text: &str, sources: &mut Sources) -> Result<Config, Errors> {
    let main = File::new(0, name);
    let mut check = Check::new(sources);
    let config = check
        .tree(&main, text)
        .and_then(|node| check.config(&main, &node));
    check.report.finish(config)
}

/// What checking needs all along.
struct Check<'s> {
    sources: &'s mut Sources,
    report: Report,
    seen: Seen,
    /// The files of spokes read so far; two globs may match the same one.
    files: HashSet<PathBuf>,
}

impl<'s> Check<'s> {
    fn new(sources: &'s mut Sources) -> Self {
        Self {
            sources,
            report: Report::default(),
            seen: Seen::default(),
            files: HashSet::new(),
        }
    }

    fn document(
        &mut self,
        file: &File,
        content: Result<Vec<u8>, String>,
    ) -> Result<Node, Reported> {
        let content = content.map_err(|reason| {
            let message = format!("cannot be read: {reason}");
            self.report.add(file, None, "", message)
        })?;
        let text = str::from_utf8(&content).map_err(|error| {
            let (before, _) = content.split_at(error.valid_up_to());
            let message = "is not UTF-8 from here on";
            self.report.add(file, Some(end_of(before)), "", message)
        })?;
        self.tree(file, text)
    }

    fn tree(&mut self, file: &File, text: &str) -> Result<Node, Reported> {
        node::parse(text).map_err(|fault| {
            let at = Some(fault.at);
            self.report.add(file, at, "", fault.message)
        })
    }

    fn config(&mut self, main: &File, node: &Node) -> Result<Config, Reported> {
        let root = Entry::root(main, node).fields(&mut self.report, Keys::Shown, KEYS);
        root.ensure_mapping()?;
        let label = defaults::CLUSTER_LABEL.to_owned();
        let cluster_label = root.value(&mut self.report, "cluster_label", value::label_name, label);
        let listeners = self.listeners(&root);
        let hubs = hub::hubs(self, &root);
        let ack = root.value(&mut self.report, "ack", value::ack, defaults::ACK);
        let limits = self.limits(&root);
        let spokes = self.spokes(&root);
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

    fn listeners(&mut self, root: &Fields<'_>) -> Result<(Listen, Admin), Reported> {
        let report = &mut self.report;
        let listen = root.section(report, "listen", LISTEN_KEYS);
        let admin = root.section(report, "admin", ADMIN_KEYS);
        let (most, anywhere) = (defaults::CONNECTIONS_MAX, defaults::LISTEN_ADDRESS);
        let listen_address = listen.value(report, "address", value::address, anywhere);
        let source_ranges = spoke::source_ranges(report, &listen);
        let connections_max = listen.value(report, "connections_max", value::count, most);
        let local = defaults::ADMIN_ADDRESS;
        let admin_address = admin.value(report, "address", value::address, local);
        let (listen_address, admin_address) = (listen_address?, admin_address?);
        if listen_address == admin_address && listen_address.port() != 0 {
            let entry = admin.get("address").or(listen.get("address"));
            let message = "listen.address and admin.address are the same; they need two ports";
            return Err(entry.unwrap_or(root.entry()).fail(report, message));
        }
        let listen = Listen {
            address: listen_address,
            source_ranges: source_ranges.unwrap_or_else(SourceRanges::everywhere),
            connections_max: connections_max?,
        };
        let admin = Admin {
            address: admin_address,
        };
        Ok((listen, admin))
    }

    fn limits(&mut self, root: &Fields<'_>) -> Result<Limits, Reported> {
        let report = &mut self.report;
        let fields = root.section(report, "limits", LIMITS_KEYS);
        let mut size =
            |name, ceiling, default| fields.value(report, name, value::size(ceiling), default);
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
        // Such a request would be told for ever to come again.
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

    fn spokes(&mut self, root: &Fields<'_>) -> Result<Vec<Spoke>, Reported> {
        let report = &mut self.report;
        let shared = root.section(report, "spoke_defaults", spoke::DEFAULTS_KEYS);
        let shared = Settings::check(report, &shared);
        let written = list(report, root, "spokes");
        let patterns = list(report, root, "spoke_files");
        if matches!((&written, &patterns), (Ok(a), Ok(b)) if a.is_empty() && b.is_empty()) {
            let entry = root.get("spokes").unwrap_or(root.entry());
            let message = "no spoke is configured; list some in spokes, or files in spoke_files";
            return Err(entry.fail(report, message));
        }
        let mut spokes = Vec::new();
        for entry in written.iter().flatten() {
            spokes.push(spoke::spoke(self, entry, &shared));
        }
        for pattern in patterns.iter().flatten() {
            self.spoke_files(pattern, &shared, &mut spokes);
        }
        spokes.into_iter().collect()
    }

    /// Checks the files one glob matches. None is no error: the last spoke is taken away by
    /// removing its file, and a reload that fails then would keep it alive.
    fn spoke_files(
        &mut self,
        pattern: &Entry<'_>,
        shared: &Settings,
        spokes: &mut Vec<Result<Spoke, Reported>>,
    ) {
        let found = pattern.text(&mut self.report).and_then(|text| {
            let found = self.sources.matches(pattern.file.folder(), text);
            found.map_err(|message| pattern.fail(&mut self.report, message))
        });
        for path in found.unwrap_or_default() {
            if self.files.insert(path.clone()) {
                let file = File::new(self.files.len(), &path);
                spokes.push(self.spoke_file(&file, shared));
            }
        }
    }

    fn spoke_file(&mut self, file: &File, shared: &Settings) -> Result<Spoke, Reported> {
        let content = self.sources.read(&file.path, DOCUMENT_BYTES_MAX);
        let node = self.document(file, content)?;
        spoke::spoke(self, &Entry::root(file, &node), shared)
    }
}

fn list<'a>(
    report: &mut Report,
    root: &Fields<'a>,
    name: &str,
) -> Result<Vec<Entry<'a>>, Reported> {
    root.get(name)
        .map_or(Ok(Vec::new()), |entry| entry.items(report))
}

/// The place behind the last character of a text.
fn end_of(text: &[u8]) -> Position {
    let text = String::from_utf8_lossy(text);
    let line = text.rsplit('\n').next().unwrap_or_default();
    Position {
        line: text.matches('\n').count() + 1,
        column: line.chars().count() + 1,
    }
}
