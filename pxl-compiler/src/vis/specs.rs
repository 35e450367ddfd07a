//! The kinds of widgets and the fields of their specs: which there are, of what shape, and which of
//! them name columns.

use serde_json::Value as Json;

use super::places::{At, snake_case};
use crate::codes::Code;
use crate::diag::{Diag, Findings, Span};
use crate::hint;

/// What a field holds.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// The name of a column of the output.
    Column,
    Columns,
    Text,
    Flag,
    Number,
    Choice(&'static [&'static str]),
    Object(&'static [Field]),
    List(&'static [Field]),
}

impl Shape {
    /// What must stand there.
    pub(crate) fn words(self) -> String {
        match self {
            Shape::Column => "the name of a column".to_string(),
            Shape::Columns => "a list of column names".to_string(),
            Shape::Text => "a text".to_string(),
            Shape::Flag => "true or false".to_string(),
            Shape::Number => "a number".to_string(),
            Shape::Choice(names) => format!("one of {}", names.join(", ")),
            Shape::Object(_) => "an object".to_string(),
            Shape::List(_) => "a list of objects".to_string(),
        }
    }
}

/// One field, as scripts write it and as `docs/pxl/vis.md` explains it.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) shape: Shape,
    pub(crate) required: bool,
}

const fn field(name: &'static str, doc: &'static str, shape: Shape) -> Field {
    Field { name, doc, shape, required: false }
}

const fn required(name: &'static str, doc: &'static str, shape: Shape) -> Field {
    Field { name, doc, shape, required: true }
}

const AXIS: Shape = Shape::Object(&[field("label", "Text beside the axis.", Shape::Text)]);
const TITLE: Field =
    field("title", "Heading above the widget; without one the widget's name.", Shape::Text);
const X_AXIS: Field = field("xAxis", "The horizontal axis.", AXIS);
const Y_AXIS: Field = field("yAxis", "The vertical axis.", AXIS);

/// Kinds of widgets, what they show, and their fields.
pub(crate) const KINDS: [(&str, &str, &[Field]); 12] = [
    (
        "Table",
        "All columns of the output, newest changes marked.",
        &[field(
            "gutterColumn",
            "Column whose value marks each row at its left edge.",
            Shape::Column,
        )],
    ),
    (
        "TimeseriesChart",
        "Lines over `time_`.",
        &[
            required(
                "timeseries",
                "The lines; more than one entry draws several columns into one chart.",
                Shape::List(&[
                    required(
                        "value",
                        "Column on the vertical axis; the output needs `time_` for the horizontal one.",
                        Shape::Column,
                    ),
                    field(
                        "series",
                        "Column that tells lines apart: one for each of its values.",
                        Shape::Column,
                    ),
                    field("stackBySeries", "Put the lines upon each other.", Shape::Flag),
                    field(
                        "mode",
                        "How a line is drawn.",
                        Shape::Choice(&["MODE_UNKNOWN", "MODE_LINE", "MODE_POINT", "MODE_AREA"]),
                    ),
                ]),
            ),
            TITLE,
            X_AXIS,
            Y_AXIS,
        ],
    ),
    (
        "Graph",
        "Nodes and edges, one row an edge.",
        &[
            field(
                "adjacencyList",
                "Which two columns are an edge's ends.",
                Shape::Object(&[
                    required(
                        "fromColumn",
                        "Column of the node that an edge leaves.",
                        Shape::Column,
                    ),
                    required("toColumn", "Column of the node that an edge enters.", Shape::Column),
                ]),
            ),
            field(
                "dotColumn",
                "Column with a graph in the DOT language, instead of `adjacencyList`.",
                Shape::Column,
            ),
            field("edgeWeightColumn", "Column that makes edges wider.", Shape::Column),
            field("nodeWeightColumn", "Column that makes nodes larger.", Shape::Column),
            field(
                "edgeColorColumn",
                "Column that colours edges by `edgeThresholds`.",
                Shape::Column,
            ),
            field(
                "edgeThresholds",
                "Where the colours of edges change.",
                Shape::Object(&[
                    field("mediumThreshold", "From here on an edge is of concern.", Shape::Number),
                    field("highThreshold", "From here on it is bad.", Shape::Number),
                ]),
            ),
            field("edgeHoverInfo", "Columns that an edge shows under the pointer.", Shape::Columns),
            field("edgeLength", "Wanted distance of neighbours.", Shape::Number),
            field("enableDefaultHierarchy", "Lay the graph out in ranks.", Shape::Flag),
        ],
    ),
    (
        "HistogramChart",
        "How often values lie where.",
        &[
            required(
                "histogram",
                "What is counted.",
                Shape::Object(&[
                    required("value", "Column whose values are put into bins.", Shape::Column),
                    field(
                        "prebinCount",
                        "Column with a count, where rows are bins already.",
                        Shape::Column,
                    ),
                    field("maxbins", "At most so many bins.", Shape::Number),
                    field("minstep", "Bins are at least so wide.", Shape::Number),
                    field("horizontal", "Lay the bars down.", Shape::Flag),
                ]),
            ),
            TITLE,
            X_AXIS,
            Y_AXIS,
        ],
    ),
    (
        "StackTraceFlameGraph",
        "Where time is spent, from folded stacks.",
        &[
            required(
                "stacktraceColumn",
                "Column with folded stacks: frames from the root on, joined by `;`.",
                Shape::Column,
            ),
            field("countColumn", "Column with how often a stack was seen.", Shape::Column),
            field("percentageColumn", "Column with a stack's share.", Shape::Column),
            field("namespaceColumn", "Column of the namespace, to group by.", Shape::Column),
            field("podColumn", "Column of the pod, to group by.", Shape::Column),
            field("containerColumn", "Column of the container, to group by.", Shape::Column),
            field("pidColumn", "Column of the process, to group by.", Shape::Column),
            field("nodeColumn", "Column of the node, to group by.", Shape::Column),
            field("percentageLabel", "What the shares are shares of.", Shape::Text),
            field(
                "differenceColumn",
                "Column with a difference, for comparing two profiles.",
                Shape::Column,
            ),
        ],
    ),
    (
        "RequestGraph",
        "Who asks whom: a map of services or pods, one row a pair.",
        &[
            field("requestorPodColumn", "Column of the asking pod.", Shape::Column),
            field("responderPodColumn", "Column of the answering pod.", Shape::Column),
            field("requestorServiceColumn", "Column of the asking service.", Shape::Column),
            field("responderServiceColumn", "Column of the answering service.", Shape::Column),
            field("requestorIPColumn", "Column of the asking address.", Shape::Column),
            field("responderIPColumn", "Column of the answering address.", Shape::Column),
            field("p50Column", "Column of the median latency.", Shape::Column),
            field("p90Column", "Column of the latency's 90th percentile.", Shape::Column),
            field("p99Column", "Column of the latency's 99th percentile.", Shape::Column),
            field("errorRateColumn", "Column of the share of errors.", Shape::Column),
            field("requestsPerSecondColumn", "Column of the request rate.", Shape::Column),
            field(
                "inboundBytesPerSecondColumn",
                "Column of the rate of bytes received.",
                Shape::Column,
            ),
            field(
                "outboundBytesPerSecondColumn",
                "Column of the rate of bytes sent.",
                Shape::Column,
            ),
            field("totalRequestCountColumn", "Column of the number of requests.", Shape::Column),
        ],
    ),
    (
        "BarChart",
        "One bar a row.",
        &[
            required(
                "bar",
                "What the bars are.",
                Shape::Object(&[
                    required("value", "Column with a bar's length.", Shape::Column),
                    required("label", "Column with a bar's name.", Shape::Column),
                    field("stackBy", "Column that divides a bar.", Shape::Column),
                    field("groupBy", "Column that puts bars side by side.", Shape::Column),
                    field("horizontal", "Lay the bars down.", Shape::Flag),
                ]),
            ),
            TITLE,
            X_AXIS,
            Y_AXIS,
        ],
    ),
    (
        "PieChart",
        "Shares of a whole.",
        &[
            required("label", "Column with a part's name.", Shape::Column),
            required("value", "Column with a part's size.", Shape::Column),
            TITLE,
        ],
    ),
    (
        "GaugeChart",
        "One value on a scale.",
        &[required("value", "Column with the value.", Shape::Column), TITLE],
    ),
    (
        "StatChart",
        "One large value.",
        &[
            required(
                "stat",
                "What is shown.",
                Shape::Object(&[required(
                    "value",
                    "Column with the value; of several rows the first is shown.",
                    Shape::Column,
                )]),
            ),
            TITLE,
        ],
    ),
    ("TextChart", "A text; needs no output.", &[field("body", "The text.", Shape::Text)]),
    (
        "VegaChart",
        "Whatever a Vega specification draws; the table is found by its name.",
        &[required("spec", "A Vega specification as JSON text.", Shape::Text)],
    ),
];

/// The kinds of widgets that a displaySpec can ask for.
pub const WIDGET_KINDS: [&str; 12] = {
    let mut names = [""; 12];
    let mut at = 0;
    while at < names.len() {
        names[at] = KINDS[at].0;
        at += 1;
    }
    names
};

/// Kinds that draw no table of the script.
pub(super) fn needs_no_rows(kind: &str) -> bool {
    matches!(kind, "TextChart" | "VegaChart")
}

/// Kinds that draw over `time_`.
pub(crate) fn needs_time(kind: &str) -> bool {
    kind == "TimeseriesChart"
}

/// Checks a displaySpec; the columns that it names.
pub(super) fn check(spec: At<'_>, kind: &str, findings: &Findings) -> Vec<(String, Span)> {
    let mut checker = Checker { findings, kind, columns: Vec::new() };
    if let Some((_, _, fields)) = KINDS.iter().find(|(name, ..)| *name == kind) {
        checker.object(spec, fields);
    }
    checker.columns
}

struct Checker<'a> {
    findings: &'a Findings,
    kind: &'a str,
    columns: Vec<(String, Span)>,
}

impl Checker<'_> {
    fn object(&mut self, at: At<'_>, fields: &'static [Field]) {
        for (name, name_span, value) in at.fields() {
            let known = |field: &&Field| field.name == name || snake_case(field.name) == name;
            match fields.iter().find(known) {
                Some(_) if value.json.is_null() => {}
                Some(field) => self.value(value, field),
                None if name == "@type" => {}
                None => {
                    let known = fields.iter().map(|field| field.name);
                    let hint = hint::did_you_mean(name, known, "it is ignored");
                    let message = format!("{} has no field '{name}'", self.kind);
                    let warning = Diag::warning(Code::VisField, name_span, message);
                    self.findings.push(warning.hint(hint));
                }
            }
        }
        for field in fields.iter().filter(|field| field.required) {
            if at.get(field.name).is_none() {
                let message = format!("{} needs '{}' here", self.kind, field.name);
                let hint = "without it the widget shows nothing";
                self.findings.push(Diag::warning(Code::VisField, at.span(), message).hint(hint));
            }
        }
    }

    fn value(&mut self, at: At<'_>, field: &'static Field) {
        let fits = match (field.shape, at.json) {
            (Shape::Column, Json::String(name)) => {
                // proto3 writes a column that is not set as an empty text.
                if !name.is_empty() {
                    self.columns.push((name.clone(), at.span()));
                }
                true
            }
            (Shape::Columns, Json::Array(_)) => {
                let names = at.items().map(|item| (item.text().to_string(), item.span()));
                self.columns.extend(names);
                at.items().all(|item| item.json.is_string())
            }
            (Shape::Text, Json::String(_)) | (Shape::Flag, Json::Bool(_)) => true,
            // proto3 writes 64-bit integers as text.
            (Shape::Number, Json::Number(_)) => true,
            (Shape::Number, Json::String(text)) => text.parse::<f64>().is_ok(),
            (Shape::Choice(names), Json::String(text)) => names.contains(&text.as_str()),
            (Shape::Choice(names), Json::Number(number)) => {
                number.as_u64().is_some_and(|number| number < names.len() as u64)
            }
            (Shape::Object(fields), Json::Object(_)) => {
                self.object(at, fields);
                true
            }
            (Shape::List(fields), Json::Array(_)) => {
                at.items().for_each(|item| self.object(item, fields));
                at.items().all(|item| item.json.is_object())
            }
            _ => false,
        };
        if !fits {
            let wanted = field.shape.words();
            let message = format!("'{}' of {} must be {wanted}", field.name, self.kind);
            self.findings.push(Diag::error(Code::VisInvalid, at.span(), message));
        }
    }
}
