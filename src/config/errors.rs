//! What is wrong with a configuration, or doubtful: every finding with its file, position and key.
//!
//! The checker collects findings in a [`Report`] instead of stopping at the first one. An error
//! withholds the configuration. A warning does not: what it is about is allowed, but is hardly what
//! was meant. A check that
//! yields no value returns [`Reported`], which only an error in the report creates, so no value is
//! dropped in silence. Messages name keys and what is allowed. They never quote a value that may be
//! a secret.

use std::fmt;
use std::path::{Path, PathBuf};

/// Everything that is wrong with a configuration: at least one error, sorted by file and then by
/// position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors(Vec<Finding>);

impl Errors {
    /// Returns the errors in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Finding> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Errors {
    type Item = &'a Finding;
    type IntoIter = std::slice::Iter<'a, Finding>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// One thing that is wrong or doubtful, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The path of the file, or of the folder that the configuration is.
    pub file: PathBuf,
    /// The position in the file; absent for a folder, and when the file could not be read.
    pub position: Option<Position>,
    /// The key as a path, such as `spokes[1].labels.absent`; empty for a whole document.
    pub key: String,
    /// What is wrong or doubtful, and what to write instead.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(position) = self.position {
            write!(f, "{position}:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.message)
    }
}

/// A position in a file. Line and column are counted from 1, and a column is one character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Position {
    /// The beginning of a file.
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A file of the configuration, as errors refer to it.
pub(super) struct File {
    /// Number of files that were read before this one. Errors are sorted by it.
    order: usize,
    /// Its path, which messages show.
    pub(super) path: PathBuf,
    /// Whether it is a folder, which has no positions.
    is_folder: bool,
}

impl File {
    /// Creates the file at `path`, before which `order` files were read.
    pub(super) fn new(order: usize, path: &Path) -> Self {
        Self {
            order,
            path: path.to_owned(),
            is_folder: false,
        }
    }

    /// Creates the folder at `path`. Findings about all of its files refer to it.
    pub(super) fn of_folder(order: usize, path: &Path) -> Self {
        Self {
            is_folder: true,
            ..Self::new(order, path)
        }
    }

    /// Resolves a path that this file names. A relative path starts at the folder of the file.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.folder().join(path)
    }

    /// The folder of the file; empty for the current folder.
    pub(super) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or_else(|| Path::new(""))
    }
}

/// Proof that an error was reported, which takes the place of a missing value.
#[derive(Clone, Copy)]
pub(super) struct Reported(());

/// Collects what a check finds.
#[derive(Default)]
pub(super) struct Report {
    errors: Found,
    warnings: Found,
}

impl Report {
    /// Adds an error.
    pub(super) fn add(
        &mut self,
        file: &File,
        position: Option<Position>,
        key: &str,
        message: impl Into<String>,
    ) -> Reported {
        self.errors.add(file, position, key, message.into());
        Reported(())
    }

    /// Adds a warning.
    pub(super) fn warn(
        &mut self,
        file: &File,
        position: Option<Position>,
        key: &str,
        message: impl Into<String>,
    ) {
        self.warnings.add(file, position, key, message.into());
    }

    /// Returns the value if no error was reported, otherwise all errors in order. The warnings come
    /// with either.
    pub(super) fn finish<T>(
        self,
        checked: Result<T, Reported>,
    ) -> (Result<T, Errors>, Vec<Finding>) {
        let errors = self.errors.in_order();
        let result = match checked {
            Ok(value) if errors.is_empty() => Ok(value),
            Ok(_) | Err(Reported(())) => Err(Errors(errors)),
        };
        (result, self.warnings.in_order())
    }
}

/// Findings, each with the order of its file.
#[derive(Default)]
struct Found(Vec<(usize, Finding)>);

impl Found {
    fn add(&mut self, file: &File, position: Option<Position>, key: &str, message: String) {
        let finding = Finding {
            file: file.path.clone(),
            position: position.filter(|_| !file.is_folder),
            key: one_line(key),
            message: one_line(&message),
        };
        self.0.push((file.order, finding));
    }

    fn in_order(mut self) -> Vec<Finding> {
        self.0
            .sort_by_key(|(order, finding)| (*order, finding.position));
        self.0.into_iter().map(|(_, finding)| finding).collect()
    }
}

/// Escapes control characters. A key or a path that a message shows may hold any, and a finding is one
/// line of a log or a terminal.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}
