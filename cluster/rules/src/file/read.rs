//! Reads nodes as what a field has to be, and notes what they are not in the words of promtool's YAML reader.

use std::collections::BTreeMap;

use crate::duration::{self, Millis};
use crate::yaml::{Kind, Node, Place, Problem};

/// A file with more is wrong in one way many times.
const PROBLEMS_MAX: usize = 1_000;

#[derive(Default)]
pub(crate) struct Reader {
    pub(crate) problems: Vec<Problem>,
}

pub(crate) type Fields<'n> = BTreeMap<&'n str, &'n Node>;

impl Reader {
    pub(crate) fn problem(&mut self, place: Place, message: impl Into<String>) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem::new(place, message));
        }
    }

    fn misfit(&mut self, node: &Node, wanted: &str) {
        let text = match node.text() {
            Some(text) => format!(" `{}`", crate::labels::cut(text, 40)),
            None => String::new(),
        };
        self.problem(node.place, format!("cannot unmarshal {}{text} into {wanted}", node.tag()));
    }

    /// The fields of a mapping; those that are not known are problems, and those that are null are not there.
    pub(crate) fn fields<'n>(
        &mut self,
        node: &'n Node,
        of: &str,
        known: &[&str],
    ) -> Option<Fields<'n>> {
        let Kind::Mapping(pairs) = &node.kind else {
            if !node.is_null() {
                self.misfit(node, of);
            }
            return None;
        };
        let mut fields = Fields::new();
        for (key, value) in pairs {
            let name = key.text().unwrap_or_default();
            if !known.contains(&name) {
                self.problem(key.place, format!("field {name} not found in type {of}"));
            } else if !value.is_null() {
                fields.insert(name, value);
            }
        }
        Some(fields)
    }

    /// A scalar's text as it is written, numbers included.
    pub(crate) fn text(&mut self, node: &Node) -> Option<String> {
        match node.text() {
            Some(_) if node.is_null() => None,
            Some(text) => Some(text.to_string()),
            None => {
                self.misfit(node, "string");
                None
            }
        }
    }

    pub(crate) fn texts(&mut self, node: &Node) -> BTreeMap<String, String> {
        let Kind::Mapping(pairs) = &node.kind else {
            self.misfit(node, "map[string]string");
            return BTreeMap::new();
        };
        let mut texts = BTreeMap::new();
        for (key, value) in pairs {
            let text = self.text(value).unwrap_or_default();
            texts.insert(key.text().unwrap_or_default().to_string(), text);
        }
        texts
    }

    pub(crate) fn list<'n>(&mut self, node: &'n Node) -> &'n [Node] {
        match &node.kind {
            Kind::Sequence(items) => items,
            _ => {
                self.misfit(node, "a list");
                &[]
            }
        }
    }

    pub(crate) fn integer(&mut self, node: &Node) -> Option<i64> {
        let number = match &node.kind {
            Kind::Scalar { text, plain: true, .. } => text.parse().ok(),
            _ => None,
        };
        if number.is_none() {
            self.misfit(node, "int");
        }
        number
    }

    pub(crate) fn float(&mut self, node: &Node) -> Option<f64> {
        let number = node.text().and_then(|text| text.trim_end_matches('%').parse::<f64>().ok());
        let number = number.filter(|number| number.is_finite());
        if number.is_none() {
            self.misfit(node, "float64");
        }
        number
    }

    /// Any number that YAML has, `.nan` and `.inf` among them.
    pub(crate) fn number(&mut self, node: &Node) -> Option<f64> {
        let number = match &node.kind {
            Kind::Scalar { text, plain: true, .. } => match text.to_ascii_lowercase().as_str() {
                ".nan" => Some(f64::NAN),
                ".inf" | "+.inf" => Some(f64::INFINITY),
                "-.inf" => Some(f64::NEG_INFINITY),
                text => text.parse().ok().filter(|number: &f64| number.is_finite()),
            },
            _ => None,
        };
        if number.is_none() {
            self.misfit(node, "float64");
        }
        number
    }

    pub(crate) fn boolean(&mut self, node: &Node) -> bool {
        if node.tag() != "!!bool" {
            self.misfit(node, "bool");
        }
        node.text().is_some_and(|text| text.eq_ignore_ascii_case("true"))
    }

    pub(crate) fn duration(&mut self, node: &Node) -> Option<Millis> {
        let text = self.text(node)?;
        duration::parse(&text).map_err(|why| self.problem(node.place, why)).ok()
    }
}

/// Where a pair of the first mapping that has it stands: its key, and its value.
pub(crate) fn pair<'n>(nodes: &[Option<&'n Node>], name: &str) -> (Place, Option<&'n Node>) {
    for node in nodes.iter().flatten() {
        if let Kind::Mapping(pairs) = &node.kind
            && let Some((key, value)) = pairs.iter().find(|(key, _)| key.text() == Some(name))
        {
            return (key.place, Some(value));
        }
    }
    (Place::default(), None)
}

impl Node {
    /// Where a line of this scalar stands, as far as that can be told.
    pub(crate) fn line_of(&self, line: usize) -> Place {
        match &self.kind {
            // Its place is that of its first line of text.
            Kind::Scalar { literal: true, .. } => {
                Place { line: self.place.line + line.saturating_sub(1), ..self.place }
            }
            _ => self.place,
        }
    }
}
