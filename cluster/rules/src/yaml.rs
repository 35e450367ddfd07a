//! YAML as a tree whose nodes know where they stand, read from a parser's events within bounds.
//!
//! A tree rather than serde: places of keys and values are needed for every message, a plain `1.10` has to stay
//! the text that it is, and what aliases unfold is counted before it is copied.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;

use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, ScanError, Tag};

/// A file of rules is far smaller: kube-prometheus' largest has 60 KiB.
pub const FILE_BYTES_MAX: usize = 4 << 20;
/// Nodes of all documents of a file, aliases unfolded.
const NODES_MAX: usize = 400_000;
/// Text of all nodes, aliases unfolded.
const TEXT_BYTES_MAX: usize = 8 << 20;
/// Rule files are six deep, a CRD list eight. Walks over a tree may recurse.
const DEPTH_MAX: usize = 32;

/// Where something stands; lines and columns count from 1, columns in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

/// Something that is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub place: Place,
    pub message: String,
}

impl Problem {
    pub(crate) fn new(place: Place, message: impl Into<String>) -> Problem {
        Problem { place, message: message.into() }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Scalar {
        text: String,
        /// Without quotes: may be a number, a boolean or nothing.
        plain: bool,
        /// A `|` block: its lines are the file's, from its place on.
        literal: bool,
    },
    Sequence(Vec<Node>),
    /// Keys are scalars, and each is there once.
    Mapping(Vec<(Node, Node)>),
}

impl Node {
    /// What yaml.v3 calls the type, for messages.
    pub(crate) fn tag(&self) -> &'static str {
        match &self.kind {
            Kind::Sequence(_) => "!!seq",
            Kind::Mapping(_) => "!!map",
            Kind::Scalar { plain: false, .. } => "!!str",
            Kind::Scalar { .. } if self.is_null() => "!!null",
            Kind::Scalar { text, .. } => match text.as_str() {
                "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => "!!bool",
                _ if text.parse::<i64>().is_ok() => "!!int",
                _ if text.parse::<f64>().is_ok() => "!!float",
                _ => "!!str",
            },
        }
    }
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true, .. }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }
    /// Nodes, bytes of text and depth of the tree below and with this node.
    fn size(&self) -> Size {
        let children: Box<dyn Iterator<Item = &Node>> = match &self.kind {
            Kind::Scalar { text, .. } => return Size { nodes: 1, bytes: text.len(), depth: 1 },
            Kind::Sequence(items) => Box::new(items.iter()),
            Kind::Mapping(pairs) => Box::new(pairs.iter().flat_map(|(key, value)| [key, value])),
        };
        let below = children.map(Node::size).fold(Size::default(), |sum, child| Size {
            nodes: sum.nodes + child.nodes,
            bytes: sum.bytes + child.bytes,
            depth: sum.depth.max(child.depth),
        });
        Size { nodes: below.nodes + 1, depth: below.depth + 1, ..below }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Size {
    nodes: usize,
    bytes: usize,
    depth: usize,
}

/// A collection that is being read.
struct Open {
    place: Place,
    anchor: usize,
    mapping: bool,
    /// Of a mapping: key, value, key, value.
    children: Vec<Node>,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, (Rc<Node>, Size)>,
    documents: Vec<Node>,
    nodes: usize,
    bytes: usize,
}

/// The documents of a text, without those that are empty.
pub(crate) fn read(text: &str) -> Result<Vec<Node>, Problem> {
    if text.len() > FILE_BYTES_MAX {
        let why = format!("the file is longer than {FILE_BYTES_MAX} bytes");
        return Err(Problem::new(Place { line: 1, column: 1 }, why));
    }
    let options = granit_parser::options! { emit_comments: false };
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| scan_problem(&error))?;
        let place = Place { line: span.start.line(), column: span.start.col() + 1 };
        builder.take(event, place)?;
    }
    builder.documents.retain(|document| !document.is_null());
    Ok(builder.documents)
}

fn scan_problem(error: &ScanError) -> Problem {
    let marker = error.marker();
    let place = Place { line: marker.line().max(1), column: marker.col() + 1 };
    Problem::new(place, format!("yaml: {}", error.info()))
}

impl Builder {
    fn take(&mut self, event: Event<'_>, place: Place) -> Result<(), Problem> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && plain_by_tag(tag.as_deref(), place)?;
                let literal = style == ScalarStyle::Literal;
                let kind = Kind::Scalar { text: text.into_owned(), plain, literal };
                self.add(Node { place, kind }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.enter(place, anchor, false, tag.as_deref())
            }
            Event::MappingStart(_, anchor, tag) => self.enter(place, anchor, true, tag.as_deref()),
            Event::SequenceEnd | Event::MappingEnd => self.leave(),
            Event::Alias(anchor) => {
                let Some((node, size)) = self.anchors.get(&anchor) else {
                    return Err(Problem::new(place, "yaml: an anchor contains itself"));
                };
                // Charged before it is copied.
                let (node, size) = (Rc::clone(node), *size);
                self.charge(size, place)?;
                self.attach(Node { place, ..(*node).clone() });
                Ok(())
            }
            Event::DocumentStart(..) => {
                self.anchors.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn enter(
        &mut self,
        place: Place,
        anchor: usize,
        mapping: bool,
        tag: Option<&Tag>,
    ) -> Result<(), Problem> {
        plain_by_tag(tag, place)?;
        if self.open.len() >= DEPTH_MAX {
            return Err(Problem::new(place, format!("nested deeper than {DEPTH_MAX}")));
        }
        self.open.push(Open { place, anchor, mapping, children: Vec::new() });
        Ok(())
    }

    fn leave(&mut self) -> Result<(), Problem> {
        let Some(Open { place, anchor, mapping, children }) = self.open.pop() else {
            return Ok(());
        };
        let kind = if mapping { Kind::Mapping(pairs(children)?) } else { Kind::Sequence(children) };
        self.add(Node { place, kind }, anchor)
    }

    /// A node that was read. Its children have been counted.
    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Problem> {
        let bytes = node.text().map_or(0, str::len);
        self.charge(Size { nodes: 1, bytes, depth: 1 }, node.place)?;
        if anchor != 0 {
            // The anchor's own copy counts as well.
            let size = node.size();
            self.charge(size, node.place)?;
            self.anchors.insert(anchor, (Rc::new(node.clone()), size));
        }
        self.attach(node);
        Ok(())
    }

    fn charge(&mut self, size: Size, place: Place) -> Result<(), Problem> {
        self.nodes += size.nodes;
        self.bytes += size.bytes;
        if self.nodes > NODES_MAX || self.bytes > TEXT_BYTES_MAX {
            let why = format!(
                "with its aliases unfolded the file has more than {NODES_MAX} nodes or {TEXT_BYTES_MAX} bytes"
            );
            return Err(Problem::new(place, why));
        }
        if self.open.len() + size.depth > DEPTH_MAX + 1 {
            return Err(Problem::new(place, format!("nested deeper than {DEPTH_MAX}")));
        }
        Ok(())
    }

    fn attach(&mut self, node: Node) {
        match self.open.last_mut() {
            Some(open) => open.children.push(node),
            None => self.documents.push(node),
        }
    }
}

/// False if the tag says that a plain scalar is a text; other tags than YAML's own are refused.
fn plain_by_tag(tag: Option<&Tag>, place: Place) -> Result<bool, Problem> {
    match tag {
        None => Ok(true),
        Some(tag) => match tag.core_suffix() {
            Some("str") => Ok(false),
            Some(_) => Ok(true),
            None => Err(Problem::new(
                place,
                format!("yaml: the tag {} is not supported", tag.original()),
            )),
        },
    }
}

/// Keys with their values; `<<` takes what other mappings have and this one has not.
fn pairs(children: Vec<Node>) -> Result<Vec<(Node, Node)>, Problem> {
    let mut found: Vec<(Node, Node)> = Vec::with_capacity(children.len() / 2);
    let mut lines: HashMap<String, usize> = HashMap::new();
    let mut merged = Vec::new();
    let mut children = children.into_iter();
    while let (Some(key), Some(value)) = (children.next(), children.next()) {
        let Some(name) = key.text() else {
            let why = format!("cannot unmarshal {} into string", key.tag());
            return Err(Problem::new(key.place, why));
        };
        if name == "<<" && matches!(key.kind, Kind::Scalar { plain: true, .. }) {
            merged.push(value);
            continue;
        }
        if let Some(line) = lines.insert(name.to_string(), key.place.line) {
            let why = format!("mapping key {name:?} already defined at line {line}");
            return Err(Problem::new(key.place, why));
        }
        found.push((key, value));
    }
    for value in merged {
        let sources = match value.kind {
            Kind::Mapping(pairs) => vec![pairs],
            Kind::Sequence(items) => items.into_iter().map(mapping_of).collect::<Result<_, _>>()?,
            Kind::Scalar { .. } => return Err(no_merge(value.place)),
        };
        for (key, value) in sources.into_iter().flatten() {
            let name = key.text().unwrap_or_default().to_string();
            if let Entry::Vacant(free) = lines.entry(name) {
                free.insert(key.place.line);
                found.push((key, value));
            }
        }
    }
    Ok(found)
}

fn mapping_of(node: Node) -> Result<Vec<(Node, Node)>, Problem> {
    match node.kind {
        Kind::Mapping(pairs) => Ok(pairs),
        _ => Err(no_merge(node.place)),
    }
}

fn no_merge(place: Place) -> Problem {
    Problem::new(place, "map merge requires map or sequence of maps as the value")
}
