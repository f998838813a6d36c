//! The documents that the configuration consists of: one file, or all those of a folder.
//!
//! They are one mapping for the rest of the checker, which asks for a key and gets it with its file.

use std::path::Path;

use super::Check;
use super::entry::{Entry, Fields, UnknownKeys};
use crate::config::errors::{File, Report, Reported};
use crate::config::node::Node;
use crate::config::sources::DOCUMENT_BYTES_MAX;

/// All documents, in the order of their names.
pub(super) struct Documents {
    /// What findings about the whole refer to: the only file, or the folder, which has no keys itself.
    whole: (File, Node),
    /// The files of the folder.
    parts: Vec<(File, Node)>,
    /// That one of them cannot be read to its end. Its keys are those that stand before the error.
    unreadable: Option<Reported>,
}

impl Documents {
    /// Reads what the command line names. Fails if there is nothing to read in it.
    pub(super) fn read(check: &mut Check<'_>, path: &Path) -> Result<Self, Reported> {
        let Some(listed) = check.sources.folder(path) else {
            let content = check.sources.read_main(path);
            return Ok(Self::of(check, path, content));
        };
        let folder = File::of_folder(check.next_order(), path);
        let paths = listed.map_err(|reason| check.report.add(&folder, None, "", reason))?;
        let mut documents = Self {
            whole: (folder, Node::nothing()),
            parts: Vec::new(),
            unreadable: None,
        };
        for path in paths {
            let content = check.sources.read(&path, DOCUMENT_BYTES_MAX);
            let Self {
                whole, unreadable, ..
            } = Self::of(check, &path, content);
            documents.parts.push(whole);
            documents.unreadable = documents.unreadable.or(unreadable);
        }
        Ok(documents)
    }

    /// Parses the only document.
    pub(super) fn of(check: &mut Check<'_>, path: &Path, content: Result<Vec<u8>, String>) -> Self {
        let file = File::new(check.next_order(), path);
        let (node, unreadable) = match check.parse_content(&file, content) {
            Ok(node) => (node, None),
            Err(error) => (
                error.before.unwrap_or_else(Node::nothing),
                Some(error.reported),
            ),
        };
        Self {
            whole: (file, node),
            parts: Vec::new(),
            unreadable,
        }
    }

    /// Returns a proof if a document cannot be read to its end.
    pub(super) fn unreadable(&self) -> Option<Reported> {
        self.unreadable
    }

    /// Returns the keys of all documents. A key is in one of them only.
    pub(super) fn root(&self, report: &mut Report, allowed: &[&'static str]) -> Fields<'_> {
        let (file, node) = &self.whole;
        let mut root = Entry::root(file, node).fields(report, UnknownKeys::Shown, allowed);
        for (file, node) in &self.parts {
            let part = Entry::root(file, node);
            root.join(report, UnknownKeys::Shown, allowed, &part);
        }
        root
    }

    /// Whether a path is that of a document.
    pub(super) fn contain(&self, path: &Path) -> bool {
        let mut all = self.parts.iter().chain([&self.whole]);
        all.any(|(file, _)| file.path == path)
    }
}
