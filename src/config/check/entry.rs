//! Walking the tree: a value with its file and key path, and the fields of a mapping.
//!
//! Everything every part of the checker needs the same is here: wrong kinds, unknown, repeated and
//! missing keys. What a value means is decided elsewhere.

use crate::config::errors::{File, Position, Report, Reported};
use crate::config::node::{Key, Kind, Node};

/// Texts longer than this are cut in messages.
const QUOTED_CHARS_MAX: usize = 48;

/// Most edits between a misspelt key and the one it stands for.
const TYPOS_MAX: usize = 2;

/// A value with where it stands.
#[derive(Clone)]
pub(super) struct Entry<'a> {
    /// The file it stands in.
    pub(super) file: &'a File,
    /// Its key as a path, such as `hub.url`.
    pub(super) key: String,
    node: &'a Node,
}

/// Whether the keys of a mapping may be shown when they are unknown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// They may hold what belongs into a value.
    Secret,
    /// They are names.
    Shown,
}

impl<'a> Entry<'a> {
    /// The whole document of a file.
    pub(super) fn root(file: &'a File, node: &'a Node) -> Self {
        Self {
            file,
            key: String::new(),
            node,
        }
    }

    /// Where the value begins.
    pub(super) fn at(&self) -> Position {
        self.node.at
    }

    /// Reports what is wrong with the value.
    pub(super) fn fail(&self, report: &mut Report, message: impl Into<String>) -> Reported {
        report.add(self.file, Some(self.node.at), &self.key, message)
    }

    /// Takes the value as a text.
    pub(super) fn text(&self, report: &mut Report) -> Result<&'a str, Reported> {
        match &self.node.kind {
            Kind::Scalar(text) => Ok(text),
            Kind::Null => Err(self.fail(report, "has no value; give one or leave the key out")),
            Kind::Mapping(_) => Err(self.fail(report, "wanted a single value, found a mapping")),
            Kind::Sequence(_) => Err(self.fail(report, "wanted a single value, found a list")),
        }
    }

    /// Takes the value as a text that `read` makes something of.
    pub(super) fn read<T>(
        &self,
        report: &mut Report,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, Reported> {
        read(self.text(report)?).map_err(|message| self.fail(report, message))
    }

    /// Takes the value as a list; no value is an empty one.
    pub(super) fn items(&self, report: &mut Report) -> Result<Vec<Self>, Reported> {
        let nodes = match &self.node.kind {
            Kind::Sequence(nodes) => nodes.as_slice(),
            Kind::Null => &[],
            Kind::Mapping(_) => return Err(self.fail(report, "wanted a list, found a mapping")),
            Kind::Scalar(_) => return Err(self.fail(report, "wanted a list, found a single value")),
        };
        let items = nodes.iter().enumerate().map(|(index, node)| Self {
            file: self.file,
            key: format!("{}[{index}]", self.key),
            node,
        });
        Ok(items.collect())
    }

    /// Takes the value as a mapping of known keys; no value is an empty one.
    pub(super) fn fields(
        &self,
        report: &mut Report,
        keys: Keys,
        allowed: &[&'static str],
    ) -> Fields<'a> {
        let mut fields = Fields {
            of: self.clone(),
            found: Vec::new(),
            faulty: None,
        };
        match self.mapping(report) {
            Ok(entries) => {
                for (key, node) in entries {
                    fields.add(report, keys, allowed, (key.at, &key.text), node);
                }
            }
            Err(reported) => fields.faulty = Some(Faulty::Kind(reported)),
        }
        fields
    }

    /// Takes the value as a mapping whose keys are the caller's to judge, each with its place; no
    /// value is an empty one. A key can stand twice, and is not in the path of its value: it may
    /// hold what belongs there.
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

    fn mapping(&self, report: &mut Report) -> Result<&'a [(Key, Node)], Reported> {
        let wrong = match &self.node.kind {
            Kind::Mapping(entries) => return Ok(entries),
            Kind::Null => return Ok(&[]),
            Kind::Scalar(_) => "wanted a mapping, found a single value",
            Kind::Sequence(_) => "wanted a mapping, found a list",
        };
        Err(self.fail(report, wrong))
    }
}

/// The known fields of a mapping.
pub(super) struct Fields<'a> {
    of: Entry<'a>,
    found: Vec<(&'static str, Entry<'a>)>,
    faulty: Option<Faulty>,
}

/// What was wrong with a mapping as such.
#[derive(Clone, Copy)]
enum Faulty {
    /// Some keys are unknown; the others stand.
    Keys(Reported),
    /// It is no mapping, so nothing more can be said of its fields.
    Kind(Reported),
}

impl<'a> Fields<'a> {
    /// The mapping itself.
    pub(super) fn entry(&self) -> &Entry<'a> {
        &self.of
    }

    /// The fields that were found, in the order of the file.
    pub(super) fn found(&self) -> &[(&'static str, Entry<'a>)] {
        &self.found
    }

    /// Whether an error about the mapping as such was reported.
    pub(super) fn reported(&self) -> Option<Reported> {
        self.faulty
            .map(|(Faulty::Keys(reported) | Faulty::Kind(reported))| reported)
    }

    /// Fails if the value was no mapping, which was reported.
    pub(super) fn ensure_mapping(&self) -> Result<(), Reported> {
        match self.faulty {
            Some(Faulty::Kind(reported)) => Err(reported),
            Some(Faulty::Keys(_)) | None => Ok(()),
        }
    }

    /// Returns a field if it was given.
    pub(super) fn get(&self, name: &str) -> Option<&Entry<'a>> {
        let field = self.found.iter().find(|(found, _)| *found == name);
        field.map(|(_, entry)| entry)
    }

    /// Returns a field that must be given.
    pub(super) fn require(&self, report: &mut Report, name: &str) -> Result<&Entry<'a>, Reported> {
        self.ensure_mapping()?;
        self.get(name).ok_or_else(|| self.miss(report, name))
    }

    /// Reads a field if it was given and is right.
    pub(super) fn optional<T>(
        &self,
        report: &mut Report,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.get(name)?.read(report, read).ok()
    }

    /// Reads a field; left out, it has the default.
    pub(super) fn value<T>(
        &self,
        report: &mut Report,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
        default: T,
    ) -> Result<T, Reported> {
        self.get(name)
            .map_or(Ok(default), |entry| entry.read(report, read))
    }

    /// Reads a field that must be given.
    pub(super) fn required<T>(
        &self,
        report: &mut Report,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, Reported> {
        self.require(report, name)?.read(report, read)
    }

    /// Returns the fields of a mapping in this one; left out, it has none.
    pub(super) fn section(
        &self,
        report: &mut Report,
        name: &str,
        allowed: &[&'static str],
    ) -> Fields<'a> {
        match self.get(name) {
            Some(entry) => entry.fields(report, Keys::Shown, allowed),
            None => {
                let key = self.key_of(name);
                let of = Entry {
                    key,
                    ..self.of.clone()
                };
                Fields {
                    of,
                    found: Vec::new(),
                    faulty: self
                        .faulty
                        .filter(|faulty| matches!(faulty, Faulty::Kind(_))),
                }
            }
        }
    }

    fn add(
        &mut self,
        report: &mut Report,
        keys: Keys,
        allowed: &[&'static str],
        (at, text): (Position, &str),
        node: &'a Node,
    ) {
        let Some(name) = allowed.iter().copied().find(|name| *name == text) else {
            let message = unknown_key(keys, allowed, text);
            let reported = report.add(self.of.file, Some(at), &self.of.key, message);
            self.faulty = Some(Faulty::Keys(reported));
            return;
        };
        if let Some(first) = self.get(name) {
            let message = format!("key given twice; first with its value at {}", first.at());
            report.add(self.of.file, Some(at), &self.key_of(name), message);
            return;
        }
        let entry = Entry {
            file: self.of.file,
            key: self.key_of(name),
            node,
        };
        self.found.push((name, entry));
    }

    fn miss(&self, report: &mut Report, name: &str) -> Reported {
        let key = self.key_of(name);
        report.add(
            self.of.file,
            Some(self.of.at()),
            &key,
            "required key is missing",
        )
    }

    fn key_of(&self, name: &str) -> String {
        if self.of.key.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.of.key)
        }
    }
}

fn unknown_key(keys: Keys, allowed: &[&str], text: &str) -> String {
    let shown = match keys {
        Keys::Secret => String::new(),
        Keys::Shown => format!(" {}", quote(text)),
    };
    let close = allowed
        .iter()
        .filter(|name| name.len().abs_diff(text.len()) <= TYPOS_MAX)
        .map(|name| (strsim::levenshtein(name, text), name))
        .min()
        .filter(|(typos, _)| *typos <= TYPOS_MAX);
    let guess = close.map_or_else(String::new, |(_, name)| format!(", did you mean {name}?"));
    let separator = if guess.is_empty() { ";" } else { "" };
    format!(
        "unknown key{shown}{guess}{separator} allowed: {}",
        allowed.join(", ")
    )
}

/// Quotes a text that is no secret, cut to a readable length.
pub(super) fn quote(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}
