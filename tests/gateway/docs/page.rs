//! A page of the documentation, read as Markdown: its examples, tables, headings and links.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The folder of the repository.
pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One Markdown file.
pub(super) struct Page {
    /// The path from the root of the repository.
    pub(super) path: PathBuf,
    /// The whole text.
    pub(super) text: String,
}

/// A fenced block of a page.
#[derive(Debug, Clone)]
pub(super) struct Block {
    /// Page and line, for failures.
    pub(super) place: String,
    /// The word behind the opening fence.
    pub(super) language: String,
    /// The lines between the fences, without the indentation of the fence.
    pub(super) text: String,
}

impl Page {
    /// `README.md` and every page below `docs/`.
    pub(super) fn all() -> Vec<Self> {
        let entries = std::fs::read_dir(root().join("docs")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.map(|name| format!("docs/{name}")).collect();
        // The picture in README.md.
        names.retain(|it| it != "docs/status-page.webp");
        names.sort();
        let strangers: Vec<_> = names.iter().filter(|it| !it.ends_with(".md")).collect();
        assert!(strangers.is_empty(), "{strangers:?} is not a page");
        let paths = ["README.md".to_owned()].into_iter().chain(names);
        paths.map(|path| Self::read(&path)).collect()
    }

    pub(super) fn read(path: &str) -> Self {
        let text = std::fs::read_to_string(root().join(path));
        Self {
            path: path.into(),
            text: text.unwrap_or_else(|error| panic!("{path}: {error}")),
        }
    }

    /// The fenced blocks, in order.
    pub(super) fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut lines = self.text.lines().zip(1..);
        while let Some((line, number)) = lines.next() {
            let Some(language) = line.trim_start().strip_prefix("```") else {
                continue;
            };
            let place = format!("{}:{number}", self.path.display());
            let indentation = line.len() - line.trim_start().len();
            let mut text = String::new();
            loop {
                let (line, _) = lines.next().unwrap_or_else(|| panic!("{place} has no end"));
                if line.trim_start() == "```" {
                    break;
                }
                text += line.get(indentation..).unwrap_or_default();
                text.push('\n');
            }
            blocks.push(Block {
                place,
                language: language.to_owned(),
                text,
            });
        }
        blocks
    }

    /// The lines outside of fenced blocks.
    pub(super) fn prose(&self) -> Vec<&str> {
        let mut fenced = false;
        let lines = self.text.lines().filter(|line| {
            let fence = line.trim_start().starts_with("```");
            fenced ^= fence;
            !fenced && !fence
        });
        lines.collect()
    }

    /// The texts between backticks.
    pub(super) fn code_spans(&self) -> Vec<String> {
        let prose = self.prose().join("\n");
        let spans = prose.split('`').skip(1).step_by(2);
        spans.map(|span| span.replace('\n', " ")).collect()
    }

    /// The lines below a heading, up to the next heading of any level.
    pub(super) fn section(&self, heading: &str) -> Vec<&str> {
        let is_heading = |line: &&str| line.starts_with('#');
        let lines = self.prose().into_iter();
        let mut below = lines.skip_while(|line| !is_heading(line) || title(line) != heading);
        assert!(
            below.next().is_some(),
            "no heading {heading:?} in {}",
            self.path.display()
        );
        below.take_while(|line| !is_heading(line)).collect()
    }

    /// What the links to this page's headings look like, as GitHub makes them.
    pub(super) fn anchors(&self) -> BTreeSet<String> {
        let headings = self.prose().into_iter().filter(|it| it.starts_with('#'));
        headings.map(|heading| anchor(title(heading))).collect()
    }

    /// The targets of all links.
    pub(super) fn links(&self) -> Vec<String> {
        let prose = self.prose().join("\n");
        let targets = prose.split("](").skip(1);
        let targets = targets.map(|rest| rest.split_once(')').expect("the end of a link").0);
        targets.map(str::to_owned).collect()
    }
}

/// The cells of the rows of all tables among some lines, without headings.
pub(super) fn rows(lines: &[&str]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut in_body = false;
    for line in lines {
        let Some(row) = line.strip_prefix('|').and_then(|it| it.strip_suffix('|')) else {
            in_body = false;
            continue;
        };
        if row.chars().all(|it| "|-: ".contains(it)) {
            in_body = true;
        } else if in_body {
            rows.push(row.split('|').map(|cell| cell.trim().to_owned()).collect());
        }
    }
    assert!(!rows.is_empty(), "no table in {lines:?}");
    rows
}

/// The text of a cell that is nothing but code.
pub(super) fn code(cell: &str) -> &str {
    let code = cell.strip_prefix('`').and_then(|it| it.strip_suffix('`'));
    code.unwrap_or_else(|| panic!("{cell:?} is not code"))
}

fn title(heading: &str) -> &str {
    heading.trim_start_matches('#').trim()
}

fn anchor(title: &str) -> String {
    let kept = title
        .chars()
        .filter(|it| it.is_alphanumeric() || " -_".contains(*it));
    let kept: String = kept.collect();
    kept.to_lowercase().replace(' ', "-")
}
