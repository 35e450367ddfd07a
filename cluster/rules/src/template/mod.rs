//! Templates in labels and annotations: the part of Go's text/template that alert rules use, with Prometheus'
//! variables and functions.
//!
//! What is left out is refused when the template is read: `define`, `template`, `block`, `break`, `continue`.
//! Functions that ask a PromQL engine (`query`, `first`, …) are read, and fail when they are called: there is none. In
//! two points it takes more than Go: an integer may be compared with a float, and labels are texts whatever they were.
//!
//! A template is bounded in length and depth when it is read, and in work and output when it is expanded.

mod eval;
mod format;
mod functions;
mod lex;
mod parse;
mod printf;
#[cfg(test)]
mod tests;
mod value;

use std::collections::BTreeMap;

use parse::{Found, Node};

/// The longest template. Texts of alerts are a few lines.
pub const TEMPLATE_BYTES_MAX: usize = 64 << 10;
/// The longest text that comes out of one, or is a value inside of it.
pub const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// Steps of an expansion; a step also counts the bytes that it makes.
const STEPS_MAX: usize = 1 << 20;
/// Nesting of blocks and of parentheses.
const DEPTH_MAX: usize = 50;

/// Why a template is refused, and in which of its lines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    /// Counts from 1.
    pub line: usize,
    pub message: String,
}

/// What a template may speak of.
#[derive(Clone, Copy, Debug)]
pub struct Data<'a> {
    pub labels: &'a BTreeMap<String, String>,
    pub value: f64,
    pub external_labels: &'a BTreeMap<String, String>,
    pub external_url: &'a str,
}

/// A template that was read.
#[derive(Clone, Debug)]
pub struct Template {
    name: String,
    nodes: Vec<Node>,
    /// It is this text, whatever the data.
    constant: Option<String>,
    found: Found,
}

impl Template {
    /// This text as it is, whatever stands in it.
    pub(crate) fn constant(text: &str) -> Template {
        let constant = Some(text.to_string());
        Template { name: String::new(), nodes: Vec::new(), constant, found: Found::default() }
    }

    /// Reads a template; the name stands in messages of failed expansions.
    pub fn parse(name: &str, text: &str) -> Result<Template, TemplateError> {
        if text.len() > TEMPLATE_BYTES_MAX {
            let message = format!("the template is longer than {TEMPLATE_BYTES_MAX} bytes");
            return Err(TemplateError { line: 1, message });
        }
        let constant = (!text.contains("{{")).then(|| text.to_string());
        let (nodes, found) = match constant {
            Some(_) => (Vec::new(), Found::default()),
            None => parse::parse(text)?,
        };
        Ok(Template { name: name.to_string(), nodes, constant, found })
    }

    /// True if what comes out may change with the value alone.
    #[must_use]
    pub fn speaks_of_value(&self) -> bool {
        self.found.speaks_of_value
    }

    /// A function in it that asks what nobody here answers.
    #[must_use]
    pub fn asks_promql(&self) -> Option<&'static str> {
        self.found.asks_promql
    }

    /// The text, or why there is none.
    pub fn expand(&self, data: &Data<'_>) -> Result<String, String> {
        match &self.constant {
            Some(text) => Ok(text.clone()),
            None => eval::run(&self.nodes, data).map_err(|error| {
                let name = &self.name;
                let TemplateError { line, message } = error;
                format!("error executing template {name}: template: {name}:{line}: {message}")
            }),
        }
    }

    /// The text, or what stands in its place if it failed: an alert with a broken text is still an alert.
    #[must_use]
    pub fn text(&self, data: &Data<'_>) -> String {
        self.expand(data).unwrap_or_else(|why| format!("<error expanding template: {why}>"))
    }
}
