//! Access to the tree of a document: a value with its file and key, and the fields of a mapping.
//!
//! This module reports values of the wrong kind, and keys that are unknown, repeated or missing, so
//! that all parts of the checker report them alike. The callers decide what a value means.

use super::advice;
use crate::config::errors::{File, Position, Report, Reported};
use crate::config::node::{Key, Kind, Node};

/// Texts longer than this are cut in messages.
const QUOTED_CHARS_MAX: usize = 48;

/// A value with its file and key.
#[derive(Clone)]
pub(super) struct Entry<'a> {
    /// The file that contains it.
    pub(super) file: &'a File,
    /// Its key as a path, such as `hub.url`.
    pub(super) key: String,
    node: &'a Node,
}

/// Whether messages may show the unknown keys of a mapping.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum UnknownKeys {
    /// They may not: a secret may have been pasted in the place of a key.
    Hidden,
    /// They may.
    Shown,
}

impl<'a> Entry<'a> {
    /// Creates the entry for the whole document of a file.
    pub(super) fn root(file: &'a File, node: &'a Node) -> Self {
        Self {
            file,
            key: String::new(),
            node,
        }
    }

    /// Returns where the value begins.
    pub(super) fn at(&self) -> Position {
        self.node.at
    }

    /// Returns where the value begins, as a message about this file shows it.
    pub(super) fn place(&self, file: &File) -> String {
        if std::ptr::eq(self.file, file) {
            self.at().to_string()
        } else {
            format!("{}:{}", self.file.path.display(), self.at())
        }
    }

    /// Reports what is wrong with the value.
    pub(super) fn fail(&self, report: &mut Report, message: impl Into<String>) -> Reported {
        report.add(self.file, Some(self.node.at), &self.key, message)
    }

    /// Reports what is doubtful about the value.
    pub(super) fn warn(&self, report: &mut Report, message: impl Into<String>) {
        report.warn(self.file, Some(self.node.at), &self.key, message);
    }

    /// Returns the value as a text.
    pub(super) fn text(&self, report: &mut Report) -> Result<&'a str, Reported> {
        match &self.node.kind {
            Kind::Scalar(text) => Ok(text),
            Kind::Null => Err(self.fail(report, "has no value; give one or leave the key out")),
            Kind::Mapping(_) => Err(self.fail(report, "wanted a single value, found a mapping")),
            Kind::Sequence(_) => Err(self.fail(report, "wanted a single value, found a list")),
        }
    }

    /// Returns the value if it is a text.
    pub(super) fn peek_text(&self) -> Option<&'a str> {
        match &self.node.kind {
            Kind::Scalar(text) => Some(text),
            _ => None,
        }
    }

    /// Returns true if the value is a mapping.
    pub(super) fn is_mapping(&self) -> bool {
        matches!(self.node.kind, Kind::Mapping(_))
    }

    /// Parses the text of the value, and reports an error of the parser.
    pub(super) fn parse<T>(
        &self,
        report: &mut Report,
        parser: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, Reported> {
        parser(self.text(report)?).map_err(|message| self.fail(report, message))
    }

    /// Returns the items of the value, which must be a list. A missing value is an empty list.
    pub(super) fn items(&self, report: &mut Report) -> Result<Vec<Self>, Reported> {
        let nodes = match &self.node.kind {
            Kind::Sequence(nodes) => nodes.as_slice(),
            Kind::Null => &[],
            Kind::Mapping(_) => {
                let message = "wanted a list, found a mapping; begin each item with a hyphen";
                return Err(self.fail(report, message));
            }
            Kind::Scalar(_) => {
                let message = "wanted a list, found a single value; put it into brackets";
                return Err(self.fail(report, message));
            }
        };
        let items = nodes.iter().enumerate().map(|(index, node)| Self {
            file: self.file,
            key: format!("{}[{index}]", self.key),
            node,
        });
        Ok(items.collect())
    }

    /// Returns the fields of the value, which must be a mapping with the `allowed` keys. A missing
    /// value is an empty mapping.
    pub(super) fn fields(
        &self,
        report: &mut Report,
        unknown_keys: UnknownKeys,
        allowed: &[&'static str],
    ) -> Fields<'a> {
        let mut fields = Fields {
            mapping: self.clone(),
            found: Vec::new(),
            error: None,
        };
        fields.join(report, unknown_keys, allowed, self);
        fields
    }

    /// Returns each key of the value, which must be a mapping, with its position and its own value.
    /// The caller checks the keys, of which one may occur twice. The key path of a value leaves
    /// them out, because a secret may have been pasted in the place of a key. A missing value is an
    /// empty mapping.
    pub(super) fn pairs(
        &self,
        report: &mut Report,
    ) -> Result<Vec<(Position, &'a str, Self)>, Reported> {
        let pairs = self.mapping(report)?.iter().map(|(key, node)| {
            let value = Self {
                file: self.file,
                key: self.key.clone(),
                node,
            };
            (key.at, key.text.as_str(), value)
        });
        Ok(pairs.collect())
    }

    /// Returns the keys of the value, none if it is not a mapping. They may be secrets.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.entries().iter().map(|(key, _)| key.text.as_str())
    }

    /// Returns the first value of a key without checking the others.
    pub(super) fn peek(&self, name: &str) -> Option<Self> {
        let (_, node) = self.entries().iter().find(|(key, _)| key.text == name)?;
        Some(Self {
            file: self.file,
            key: key_path(&self.key, name),
            node,
        })
    }

    fn entries(&self) -> &'a [(Key, Node)] {
        match &self.node.kind {
            Kind::Mapping(entries) => entries,
            _ => &[],
        }
    }

    fn mapping(&self, report: &mut Report) -> Result<&'a [(Key, Node)], Reported> {
        let message = match &self.node.kind {
            Kind::Mapping(entries) => return Ok(entries),
            Kind::Null => return Ok(&[]),
            Kind::Scalar(text) if text.starts_with("http://") || text.starts_with("https://") => {
                "wanted a mapping, found a URL; write {url: URL}"
            }
            Kind::Scalar(text) if begins_with_key(text) => {
                "wanted a mapping, found a single value; put a space after the colon of each key"
            }
            Kind::Scalar(_) => "wanted a mapping, found a single value",
            Kind::Sequence(_) => "wanted a mapping, found a list",
        };
        Err(self.fail(report, message))
    }
}

/// Whether a text looks like a key that no space separates from its value.
fn begins_with_key(text: &str) -> bool {
    let key = text.split_once(':').map_or("", |(key, _)| key);
    key.starts_with(|it: char| it.is_ascii_lowercase())
        && key
            .chars()
            .all(|it| it.is_ascii_alphanumeric() || it == '_')
}

/// The known fields of a mapping.
pub(super) struct Fields<'a> {
    mapping: Entry<'a>,
    found: Vec<(&'static str, Entry<'a>)>,
    error: Option<MappingError>,
}

/// What is wrong with a mapping as a whole. It is reported.
#[derive(Clone, Copy)]
enum MappingError {
    /// It has unknown keys beside its fields.
    UnknownKeys(Reported),
    /// It is not a mapping, so no error about its fields makes sense.
    NotAMapping(Reported),
}

impl<'a> Fields<'a> {
    /// Returns the mapping itself.
    pub(super) fn entry(&self) -> &Entry<'a> {
        &self.mapping
    }

    /// Returns the known fields that were given, in the order of the file.
    pub(super) fn found(&self) -> &[(&'static str, Entry<'a>)] {
        &self.found
    }

    /// Returns a proof if an error about the mapping as a whole was reported.
    pub(super) fn reported(&self) -> Option<Reported> {
        self.error.map(
            |(MappingError::UnknownKeys(reported) | MappingError::NotAMapping(reported))| reported,
        )
    }

    /// Fails if the value is not a mapping, which was reported.
    pub(super) fn ensure_mapping(&self) -> Result<(), Reported> {
        match self.error {
            Some(MappingError::NotAMapping(reported)) => Err(reported),
            Some(MappingError::UnknownKeys(_)) | None => Ok(()),
        }
    }

    /// Returns a field if it was given.
    pub(super) fn get(&self, name: &str) -> Option<&Entry<'a>> {
        let field = self.found.iter().find(|(found, _)| *found == name);
        field.map(|(_, entry)| entry)
    }

    /// Returns a field, or reports that it is missing.
    pub(super) fn require(&self, report: &mut Report, name: &str) -> Result<&Entry<'a>, Reported> {
        self.ensure_mapping()?;
        self.get(name)
            .ok_or_else(|| self.report_missing(report, name))
    }

    /// Parses a field. Returns nothing if it was left out or is invalid.
    pub(super) fn parse_optional<T>(
        &self,
        report: &mut Report,
        name: &str,
        parser: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.get(name)?.parse(report, parser).ok()
    }

    /// Parses a field, or returns the default if it was left out.
    pub(super) fn parse_or<T>(
        &self,
        report: &mut Report,
        name: &str,
        parser: impl FnOnce(&str) -> Result<T, String>,
        default: T,
    ) -> Result<T, Reported> {
        self.get(name)
            .map_or(Ok(default), |entry| entry.parse(report, parser))
    }

    /// Parses a field, or reports that it is missing.
    pub(super) fn parse_required<T>(
        &self,
        report: &mut Report,
        name: &str,
        parser: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, Reported> {
        self.require(report, name)?.parse(report, parser)
    }

    /// Returns the fields of a mapping in this one. It has none if it was left out.
    pub(super) fn section(
        &self,
        report: &mut Report,
        name: &str,
        allowed: &[&'static str],
    ) -> Fields<'a> {
        match self.get(name) {
            Some(entry) => entry.fields(report, UnknownKeys::Shown, allowed),
            None => {
                let key = self.key_path(name);
                let mapping = Entry {
                    key,
                    ..self.mapping.clone()
                };
                Fields {
                    mapping,
                    found: Vec::new(),
                    error: self
                        .error
                        .filter(|error| matches!(error, MappingError::NotAMapping(_))),
                }
            }
        }
    }

    /// Adds the fields of another mapping, as if both were one.
    pub(super) fn join(
        &mut self,
        report: &mut Report,
        unknown_keys: UnknownKeys,
        allowed: &[&'static str],
        mapping: &Entry<'a>,
    ) {
        match mapping.mapping(report) {
            Ok(entries) => {
                for (key, node) in entries {
                    let file = mapping.file;
                    self.add(report, unknown_keys, allowed, (file, key), node);
                }
            }
            Err(reported) => self.error = Some(MappingError::NotAMapping(reported)),
        }
    }

    fn add(
        &mut self,
        report: &mut Report,
        unknown_keys: UnknownKeys,
        allowed: &[&'static str],
        (file, key): (&'a File, &Key),
        node: &'a Node,
    ) {
        let Key { at, text } = key;
        let Some(name) = allowed.iter().copied().find(|name| *name == text) else {
            let shown = unknown_keys == UnknownKeys::Shown;
            let message = advice::unknown_key(allowed, text, shown);
            let reported = report.add(file, Some(*at), &self.mapping.key, message);
            self.error
                .get_or_insert(MappingError::UnknownKeys(reported));
            return;
        };
        if let Some(first) = self.get(name) {
            let message = format!(
                "this key is given twice; its first value is at {}",
                first.place(file)
            );
            report.add(file, Some(*at), &self.key_path(name), message);
            return;
        }
        let entry = Entry {
            file,
            key: self.key_path(name),
            node,
        };
        self.found.push((name, entry));
    }

    fn report_missing(&self, report: &mut Report, name: &str) -> Reported {
        let key = self.key_path(name);
        report.add(
            self.mapping.file,
            Some(self.mapping.at()),
            &key,
            "required key is missing",
        )
    }

    fn key_path(&self, name: &str) -> String {
        key_path(&self.mapping.key, name)
    }
}

fn key_path(mapping: &str, name: &str) -> String {
    if mapping.is_empty() {
        name.to_owned()
    } else {
        format!("{mapping}.{name}")
    }
}

/// Quotes a text that is no secret, cut to a readable length.
pub(super) fn quote(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}
