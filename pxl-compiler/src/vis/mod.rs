//! vis.json: a script's arguments, the calls of its functions, and the widgets that show their
//! outputs. Reads and checks it; the widgets' specs pass on as they are to who draws them.

mod calls;
mod parse;
mod places;
pub(crate) mod specs;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use weir_types::Diagnostic;

pub(crate) use calls::{CallOptions, plan_calls};
pub(crate) use parse::parse_into;
pub use specs::WIDGET_KINDS;

use crate::diag::{Findings, Span, Texts};
use crate::syntax::lines::LineIndex;

/// Type of a script argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum VariableType {
    #[serde(rename = "PX_BOOLEAN")]
    Boolean,
    #[serde(rename = "PX_INT64")]
    Int64,
    #[serde(rename = "PX_FLOAT64")]
    Float64,
    #[serde(rename = "PX_STRING")]
    String,
    #[serde(rename = "PX_SERVICE")]
    Service,
    #[serde(rename = "PX_POD")]
    Pod,
    #[serde(rename = "PX_CONTAINER")]
    Container,
    #[serde(rename = "PX_NAMESPACE")]
    Namespace,
    #[serde(rename = "PX_NODE")]
    Node,
    #[serde(rename = "PX_LIST")]
    List,
    #[serde(rename = "PX_STRING_LIST")]
    StringList,
}

impl VariableType {
    pub(crate) const ALL: [(VariableType, &'static str, u64); 11] = [
        (VariableType::Boolean, "PX_BOOLEAN", 1),
        (VariableType::Int64, "PX_INT64", 2),
        (VariableType::Float64, "PX_FLOAT64", 3),
        (VariableType::String, "PX_STRING", 4),
        (VariableType::Service, "PX_SERVICE", 1000),
        (VariableType::Pod, "PX_POD", 1001),
        (VariableType::Container, "PX_CONTAINER", 1002),
        (VariableType::Namespace, "PX_NAMESPACE", 1003),
        (VariableType::Node, "PX_NODE", 1004),
        (VariableType::List, "PX_LIST", 2000),
        (VariableType::StringList, "PX_STRING_LIST", 2001),
    ];

    fn by_name(name: &str) -> Option<VariableType> {
        VariableType::ALL.iter().find(|(_, have, _)| *have == name).map(|(kind, _, _)| *kind)
    }
    fn by_number(number: u64) -> Option<VariableType> {
        VariableType::ALL.iter().find(|(_, _, have)| *have == number).map(|(kind, _, _)| *kind)
    }
    fn names() -> impl Iterator<Item = &'static str> {
        VariableType::ALL.iter().map(|(_, name, _)| *name)
    }

    /// What stands in the text of such an argument.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            VariableType::Boolean => "true or false",
            VariableType::Int64 => "an integer",
            VariableType::Float64 => "a number",
            VariableType::String => "a text",
            VariableType::Service => "a service, `namespace/name`",
            VariableType::Pod => "a pod, `namespace/name`",
            VariableType::Container => "a container's name",
            VariableType::Namespace => "a namespace's name",
            VariableType::Node => "a node's name",
            VariableType::List => "a list, as PxL writes it",
            VariableType::StringList => "a list of texts, as PxL writes it",
        }
    }

    /// What `weir check` passes for a required argument.
    #[must_use]
    pub fn placeholder(self) -> &'static str {
        match self {
            VariableType::Boolean => "false",
            VariableType::Int64 | VariableType::Float64 => "0",
            VariableType::String => "x",
            VariableType::Service | VariableType::Pod => "ns/name",
            VariableType::Container | VariableType::Namespace | VariableType::Node => "name",
            VariableType::List | VariableType::StringList => "[]",
        }
    }
}

/// A script argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Variable {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: VariableType,
    pub description: String,
    /// Without one the argument is required; `""` is a value.
    #[serde(rename = "defaultValue", skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    #[serde(rename = "validValues", skip_serializing_if = "Vec::is_empty")]
    pub valid_values: Vec<String>,
}

/// Where an argument of a call comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArgValue {
    Variable(String),
    Value(String),
}

/// A call of one of the script's functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FuncCall {
    pub name: String,
    pub args: Vec<(String, ArgValue)>,
    /// Where the name and the arguments stand.
    pub(crate) span: Span,
    pub(crate) arg_spans: Vec<Span>,
}

/// A call whose result several widgets share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GlobalFunc {
    pub output: String,
    pub func: FuncCall,
}

/// Something to show.
#[derive(Clone, Debug, PartialEq)]
pub struct Widget {
    pub name: String,
    pub position: Json,
    pub func: Option<FuncCall>,
    pub global_output: Option<String>,
    pub display_spec: Json,
    /// Columns that the spec names, and where.
    pub(crate) columns: Vec<(String, Span)>,
}

impl Widget {
    /// What clients get: name, position and spec as they stand.
    #[must_use]
    pub fn to_json(&self) -> Json {
        serde_json::json!({
            "name": self.name,
            "position": self.position,
            "displaySpec": self.display_spec,
        })
    }

    /// The last part of the spec's `@type`.
    #[must_use]
    pub fn kind(&self) -> &str {
        let name = self.display_spec.get("@type").and_then(Json::as_str).unwrap_or("");
        name.rsplit('.').next().unwrap_or("")
    }
}

/// A vis.json.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vis {
    pub variables: Vec<Variable>,
    pub global_funcs: Vec<GlobalFunc>,
    pub widgets: Vec<Widget>,
}

impl Vis {
    /// True if it calls functions; otherwise the module's own `px.display` makes the outputs.
    #[must_use]
    pub fn has_calls(&self) -> bool {
        !self.global_funcs.is_empty() || self.widgets.iter().any(|widget| widget.func.is_some())
    }
}

/// Reads and checks a vis.json.
///
/// # Errors
/// What is wrong with it.
pub fn parse(json: &str) -> Result<Vis, Vec<Diagnostic>> {
    let findings = Findings::default();
    let vis = parse_into(json, &findings);
    let texts = Texts {
        file: "",
        script: LineIndex::new(""),
        vis: Some(LineIndex::new(json)),
        named: Vec::new(),
    };
    let errors = findings.has_errors();
    let found: Vec<Diagnostic> =
        findings.take().iter().map(|diag| texts.diagnostic(diag)).collect();
    match vis {
        Some(vis) if !errors => Ok(vis),
        _ => Err(found),
    }
}
