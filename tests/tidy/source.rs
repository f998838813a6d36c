//! The files of `src/`, and what their code names: paths, strings and calls.
//!
//! Documentation and test code name nothing here. Paths are followed by their tokens, so a path in
//! the arguments of a macro counts, and what a macro expands to does not.

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, Ident, Literal, TokenStream, TokenTree};

/// A file of `src/`.
pub(crate) struct Source {
    /// From the root of the project: `src/wire/labels.rs`.
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) facts: Facts,
}

/// What the code of a file names, without its tests.
#[derive(Default)]
pub(crate) struct Facts {
    /// Full paths. Those of this crate start with `crate`.
    pub(crate) paths: Vec<(usize, Vec<String>)>,
    /// String literals as the code spells them.
    pub(crate) strings: Vec<(usize, String)>,
    /// The names of called functions and methods.
    pub(crate) calls: Vec<(usize, String)>,
}

impl Source {
    /// Reads every file of `src/`.
    pub(crate) fn read_all() -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut paths = Vec::new();
        collect(&root.join("src"), &mut paths);
        paths.sort();
        let read = |path: &PathBuf| {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            Self::new(name, &fs::read_to_string(path).unwrap())
        };
        paths.iter().map(read).collect()
    }

    /// Takes the text of a file.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let mut facts = Facts::default();
        if !is_test(path) {
            let tokens = text
                .parse()
                .unwrap_or_else(|error| panic!("{path}: {error}"));
            let module = module(path);
            let facts = &mut facts;
            Walker { module, facts }.walk(tokens);
        }
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            facts,
        }
    }

    /// The top-level module that the file belongs to; `lib` and `main` are their own.
    pub(crate) fn room(&self) -> &str {
        let path = self.path.strip_prefix("src/").unwrap();
        path.split(['/', '.']).next().unwrap()
    }

    /// Whether a program wrote it.
    pub(crate) fn is_generated(&self) -> bool {
        self.text.starts_with("// This file is @generated")
    }
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|it| it == "rs") {
            paths.push(path);
        }
    }
}

/// Tests that are files of their own.
fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// `src/wire/labels.rs` is the module `wire::labels`.
fn module(path: &str) -> Vec<String> {
    let path = path.strip_prefix("src/").unwrap();
    match path.strip_suffix(".rs").unwrap() {
        "lib" | "main" => Vec::new(),
        path => path.split('/').map(String::from).collect(),
    }
}

struct Walker<'f> {
    /// Where the walk is.
    module: Vec<String>,
    facts: &'f mut Facts,
}

impl Walker<'_> {
    fn walk(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            at = self.step(&tokens, at);
        }
    }

    /// Takes what starts at a token, and returns where the rest starts.
    fn step(&mut self, tokens: &[TokenTree], at: usize) -> usize {
        if let Some((attribute, end)) = attribute(tokens, at) {
            let text = attribute.stream().to_string().replace(' ', "");
            if text == "cfg(test)" {
                return end_of_item(tokens, end);
            }
            if !text.starts_with("doc=") {
                self.walk(attribute.stream());
            }
            return end;
        }
        match &tokens[at] {
            TokenTree::Ident(word) if word == "mod" => {
                if let [TokenTree::Ident(name), TokenTree::Group(body), ..] = &tokens[at + 1..] {
                    self.module.push(name.to_string());
                    self.walk(body.stream());
                    self.module.pop();
                    return at + 3;
                }
                at + 1
            }
            TokenTree::Ident(_) => self.path(tokens, at, Vec::new()),
            TokenTree::Group(group) => {
                self.walk(group.stream());
                at + 1
            }
            TokenTree::Literal(literal) => {
                self.literal(literal);
                at + 1
            }
            // A lifetime is no name.
            TokenTree::Punct(it) if it.as_char() == '\'' => at + 2,
            TokenTree::Punct(_) => at + 1,
        }
    }

    /// Takes a path, or the paths of a tree of imports.
    fn path(&mut self, tokens: &[TokenTree], mut at: usize, mut path: Vec<String>) -> usize {
        let start = at;
        loop {
            match tokens.get(at) {
                Some(TokenTree::Ident(name)) => path.push(name.to_string()),
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
                    for branch in tokens.split(|it| is_punct(it, ',')) {
                        if !branch.is_empty() {
                            self.path(branch, 0, path.clone());
                        }
                    }
                    return at + 1;
                }
                _ => break,
            }
            at += 1;
            if !is_separator(tokens, at) {
                break;
            }
            at += 2;
        }
        let line = tokens[start].span().start().line;
        let before = start.checked_sub(1).and_then(|it| tokens.get(it));
        let is_call = matches!(tokens.get(at), Some(TokenTree::Group(group))
            if group.delimiter() == Delimiter::Parenthesis);
        if is_call && !before.is_some_and(|it| is_word(it, "fn")) {
            self.facts.calls.push((line, path[path.len() - 1].clone()));
        }
        if path.len() > 1 || before.is_some_and(|it| is_word(it, "use")) {
            self.facts.paths.push((line, self.resolve(path)));
        }
        at
    }

    /// Makes a path of this crate start with `crate`.
    fn resolve(&self, path: Vec<String>) -> Vec<String> {
        let up = path.iter().take_while(|it| *it == "super").count();
        let (above, rest) = match path[0].as_str() {
            "crate" | "hubgate" => (0, &path[1..]),
            "self" => (self.module.len(), &path[1..]),
            "super" => (self.module.len().saturating_sub(up), &path[up..]),
            _ => return path,
        };
        let mut resolved = vec!["crate".to_owned()];
        resolved.extend_from_slice(&self.module[..above]);
        resolved.extend_from_slice(rest);
        resolved
    }

    fn literal(&mut self, literal: &Literal) {
        let text = literal.to_string();
        if text.ends_with(['"', '#']) {
            self.facts.strings.push((literal.span().start().line, text));
        }
    }
}

/// The brackets of an attribute that starts at a token, and where what follows starts.
fn attribute(tokens: &[TokenTree], at: usize) -> Option<(&Group, usize)> {
    if !is_punct(tokens.get(at)?, '#') {
        return None;
    }
    let at = at + 1 + usize::from(is_punct(tokens.get(at + 1)?, '!'));
    match tokens.get(at)? {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket => Some((group, at + 1)),
        _ => None,
    }
}

/// Where the item ends that starts at a token.
fn end_of_item(tokens: &[TokenTree], mut at: usize) -> usize {
    while let Some((_, end)) = attribute(tokens, at) {
        at = end;
    }
    let is_any = |token: &TokenTree, words: &[&str]| words.iter().any(|it| is_word(token, it));
    let mut ends_in_braces = true;
    while let Some(token) = tokens.get(at) {
        at += 1;
        let is_function = tokens
            .get(at)
            .is_some_and(|it| is_any(it, &["fn", "unsafe", "async"]));
        if is_any(token, &["use", "static", "type"]) || (is_word(token, "const") && !is_function) {
            ends_in_braces = false;
        }
        let braces = matches!(token, TokenTree::Group(it) if it.delimiter() == Delimiter::Brace);
        if is_punct(token, ';') || (braces && ends_in_braces) {
            break;
        }
    }
    at
}

fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    let is_colon = |at: usize| tokens.get(at).is_some_and(|it| is_punct(it, ':'));
    is_colon(at) && is_colon(at + 1)
}

fn is_punct(token: &TokenTree, sign: char) -> bool {
    matches!(token, TokenTree::Punct(it) if it.as_char() == sign)
}

fn is_word(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(it) if Ident::eq(it, word))
}

mod controls {
    use super::Source;

    const TEXT: &str = r##"
//! Documentation names nothing: [`crate::gateway`].

use crate::wire::{self, Labels, labels::{Change, Label as L}};
use super::super::policy;
use tokio;

#[cfg(test)]
#[path = "x.rs"]
mod tests;

#[cfg(test)]
use crate::hidden::{One, Two};

#[cfg(test)]
const fn hidden() { crate::hidden::call() }

#[derive(serde::Deserialize)]
struct Field<'a>(&'a ::prost::Message);

mod inner {
    /// Nor does this: "a string".
    fn spawn() -> super::Outer {
        log::info!("{}", crate::metrics::NAME);
        tasks.spawn(r#"raw"#, b"bytes", 'c', super::super::outside());
    }
}

#[cfg(test)]
mod more_tests { use crate::hidden; }
"##;

    #[test]
    fn every_path_string_and_call_is_found() {
        let facts = Source::new("src/write/auth.rs", TEXT).facts;
        let paths = facts
            .paths
            .iter()
            .map(|(line, path)| (*line, path.join("::")));
        let expected = [
            (4, "crate::wire::self"),
            (4, "crate::wire::Labels"),
            (4, "crate::wire::labels::Change"),
            (4, "crate::wire::labels::Label"),
            (5, "crate::policy"),
            (6, "tokio"),
            (18, "serde::Deserialize"),
            (19, "prost::Message"),
            (23, "crate::write::auth::Outer"),
            (24, "log::info"),
            (24, "crate::metrics::NAME"),
            (25, "crate::write::outside"),
        ];
        let expected = expected.map(|(line, path)| (line, path.to_owned()));
        assert_eq!(paths.collect::<Vec<_>>(), expected);
        let strings = ["\"{}\"", "r#\"raw\"#", "b\"bytes\""];
        assert!(facts.strings.iter().map(|it| &it.1).eq(strings));
        let calls = [(25, "spawn".to_owned()), (25, "outside".to_owned())];
        assert_eq!(facts.calls[facts.calls.len() - 2..], calls);
    }

    #[test]
    fn files_of_tests_name_nothing() {
        for path in ["src/write/tests.rs", "src/write/tests/more.rs"] {
            assert!(Source::new(path, TEXT).facts.paths.is_empty());
        }
    }
}
