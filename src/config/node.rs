//! A YAML document as a tree in which every node has its position.
//!
//! Deserializing straight into structs stops at the first error and loses positions, so the checker
//! walks this tree instead. Scalars keep their text, because the key decides whether a value such
//! as `off` or `123` is a string. Anchors, aliases and tags are refused. Without them, a document
//! cannot grow while it is read, so the limits on size, depth and number of nodes bound its memory.

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, options};

use super::errors::Position;

/// Far more than the five levels of the configuration, and far fewer than would exhaust the stack.
const DEPTH_MAX: usize = 32;

/// Enough for some 10,000 spokes in one file. It bounds the tree to a few dozen megabytes.
const NODES_MAX: usize = 500_000;

const ALIASES: &str = "anchors and aliases are not supported; put what spokes share into \
                       spoke_defaults, and quote a text that begins with & or *";

/// A value of a document.
///
/// It does not implement `Debug`, because a scalar may be a secret.
pub(super) struct Node {
    /// Where it begins.
    pub(super) at: Position,
    /// Its kind, with its contents.
    pub(super) kind: Kind,
}

impl Node {
    /// What an empty text is.
    pub(super) fn nothing() -> Self {
        Self {
            at: Position::START,
            kind: Kind::Null,
        }
    }
}

/// The kinds of values.
pub(super) enum Kind {
    /// Pairs of key and value in order. A key may occur twice.
    Mapping(Vec<(Key, Node)>),
    /// No value, `~` or `null`.
    Null,
    /// The text of a string, number or boolean.
    Scalar(String),
    /// Values in order.
    Sequence(Vec<Node>),
}

/// A key of a mapping.
pub(super) struct Key {
    /// Where it begins.
    pub(super) at: Position,
    /// Its text.
    pub(super) text: String,
}

/// Why a text cannot be read as a document.
pub(super) struct ParseError {
    /// Where reading stopped.
    pub(super) at: Position,
    /// What is wrong there.
    pub(super) message: String,
    /// What stands before it, if anything; every collection ends there.
    pub(super) before: Option<Node>,
}

/// Reads a text as one YAML document.
pub(super) fn parse(text: &str) -> Result<Node, ParseError> {
    let options = options! {
        block_nesting_limit: DEPTH_MAX,
        flow_nesting_limit: DEPTH_MAX,
    };
    let mut tree = Tree::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let added = event
            .map_err(scan_error)
            .and_then(|(event, span)| tree.add_event(event, position(&span)));
        if let Err(error) = added {
            let before = tree.close_all();
            return Err(ParseError { before, ..error });
        }
    }
    Ok(tree.root.unwrap_or_else(Node::nothing))
}

/// A tree under construction.
#[derive(Default)]
struct Tree {
    /// Collections that are not closed yet, outermost first.
    open: Vec<Open>,
    root: Option<Node>,
    nodes: usize,
    documents: usize,
}

/// A collection that is not closed yet.
enum Open {
    Mapping(Position, Vec<(Key, Node)>, Option<Key>),
    Sequence(Position, Vec<Node>),
}

impl Tree {
    fn add_event(&mut self, event: Event<'_>, at: Position) -> Result<(), ParseError> {
        if event.tag().is_some() {
            return Err(parse_error(
                at,
                "tags are not supported; quote the value instead",
            ));
        }
        if event.anchor_id().is_some() || event.is_alias() {
            return Err(parse_error(at, ALIASES));
        }
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(parse_error(
                        at,
                        "a second document begins here; one is allowed",
                    ));
                }
            }
            Event::Scalar(text, style, ..) => {
                let kind = if style == ScalarStyle::Plain && is_null(&text) {
                    Kind::Null
                } else {
                    Kind::Scalar(text.into_owned())
                };
                self.attach(Node { at, kind })?;
            }
            Event::SequenceStart(..) => self.open.push(Open::Sequence(at, Vec::new())),
            Event::MappingStart(..) => self.open.push(Open::Mapping(at, Vec::new(), None)),
            Event::SequenceEnd | Event::MappingEnd => self.close()?,
            _ => {}
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), ParseError> {
        let node = match self.open.pop() {
            Some(Open::Mapping(at, entries, _)) => Node {
                at,
                kind: Kind::Mapping(entries),
            },
            Some(Open::Sequence(at, items)) => Node {
                at,
                kind: Kind::Sequence(items),
            },
            None => return Ok(()),
        };
        self.attach(node)
    }

    /// Closes what is open after an error, and returns the root. A key without a value is left out.
    fn close_all(mut self) -> Option<Node> {
        while !self.open.is_empty() {
            // The first error is the one that is reported.
            let _ = self.close();
        }
        self.root
    }

    fn attach(&mut self, node: Node) -> Result<(), ParseError> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            let message =
                format!("more than {NODES_MAX} values; split the spokes into spoke_files");
            return Err(parse_error(node.at, &message));
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::Sequence(_, items)) => items.push(node),
            Some(Open::Mapping(_, entries, key)) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => *key = Some(Key::from_node(node)?),
            },
        }
        Ok(())
    }
}

impl Key {
    fn from_node(node: Node) -> Result<Self, ParseError> {
        let text = match node.kind {
            Kind::Scalar(text) => text,
            Kind::Null => "null".to_owned(),
            Kind::Mapping(_) | Kind::Sequence(_) => {
                return Err(parse_error(node.at, "a key must be a text"));
            }
        };
        Ok(Self { at: node.at, text })
    }
}

/// The spellings of null in YAML's core schema.
fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

fn position(span: &Span) -> Position {
    Position {
        line: span.start.line(),
        column: span.start.col() + 1,
    }
}

fn scan_error(error: ScanError) -> ParseError {
    let at = Position {
        line: error.marker().line(),
        column: error.marker().col() + 1,
    };
    match error.kind() {
        ErrorKind::UnknownAnchor => parse_error(at, ALIASES),
        ErrorKind::RecursionLimitExceeded => {
            parse_error(at, &format!("nested deeper than {DEPTH_MAX} levels"))
        }
        kind => parse_error(at, &format!("not valid YAML: {kind}")),
    }
}

fn parse_error(at: Position, message: &str) -> ParseError {
    ParseError {
        at,
        message: message.to_owned(),
        before: None,
    }
}
