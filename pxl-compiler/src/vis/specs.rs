//! The kinds of widgets and the fields of their specs: which there are, of what shape, and which of
//! them name columns.

use serde_json::Value as Json;

use super::places::{At, snake_case};
use crate::codes::Code;
use crate::diag::{Diag, Findings, Span};
use crate::hint;

/// What a field holds.
#[derive(Clone, Copy)]
enum Shape {
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

struct Field {
    name: &'static str,
    shape: Shape,
    required: bool,
}

const fn field(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, required: false }
}

const fn required(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, required: true }
}

const AXIS: Shape = Shape::Object(&[field("label", Shape::Text)]);
const TITLE: Field = field("title", Shape::Text);
const X_AXIS: Field = field("xAxis", AXIS);
const Y_AXIS: Field = field("yAxis", AXIS);

/// Kinds of widgets and their fields.
const KINDS: [(&str, &[Field]); 12] = [
    ("Table", &[field("gutterColumn", Shape::Column)]),
    (
        "TimeseriesChart",
        &[
            required(
                "timeseries",
                Shape::List(&[
                    required("value", Shape::Column),
                    field("series", Shape::Column),
                    field("stackBySeries", Shape::Flag),
                    field(
                        "mode",
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
        &[
            field(
                "adjacencyList",
                Shape::Object(&[
                    required("fromColumn", Shape::Column),
                    required("toColumn", Shape::Column),
                ]),
            ),
            field("dotColumn", Shape::Column),
            field("edgeWeightColumn", Shape::Column),
            field("nodeWeightColumn", Shape::Column),
            field("edgeColorColumn", Shape::Column),
            field(
                "edgeThresholds",
                Shape::Object(&[
                    field("mediumThreshold", Shape::Number),
                    field("highThreshold", Shape::Number),
                ]),
            ),
            field("edgeHoverInfo", Shape::Columns),
            field("edgeLength", Shape::Number),
            field("enableDefaultHierarchy", Shape::Flag),
        ],
    ),
    (
        "HistogramChart",
        &[
            required(
                "histogram",
                Shape::Object(&[
                    required("value", Shape::Column),
                    field("prebinCount", Shape::Column),
                    field("maxbins", Shape::Number),
                    field("minstep", Shape::Number),
                    field("horizontal", Shape::Flag),
                ]),
            ),
            TITLE,
            X_AXIS,
            Y_AXIS,
        ],
    ),
    (
        "StackTraceFlameGraph",
        &[
            required("stacktraceColumn", Shape::Column),
            field("countColumn", Shape::Column),
            field("percentageColumn", Shape::Column),
            field("namespaceColumn", Shape::Column),
            field("podColumn", Shape::Column),
            field("containerColumn", Shape::Column),
            field("pidColumn", Shape::Column),
            field("nodeColumn", Shape::Column),
            field("percentageLabel", Shape::Text),
            field("differenceColumn", Shape::Column),
        ],
    ),
    (
        "RequestGraph",
        &[
            field("requestorPodColumn", Shape::Column),
            field("responderPodColumn", Shape::Column),
            field("requestorServiceColumn", Shape::Column),
            field("responderServiceColumn", Shape::Column),
            field("requestorIPColumn", Shape::Column),
            field("responderIPColumn", Shape::Column),
            field("p50Column", Shape::Column),
            field("p90Column", Shape::Column),
            field("p99Column", Shape::Column),
            field("errorRateColumn", Shape::Column),
            field("requestsPerSecondColumn", Shape::Column),
            field("inboundBytesPerSecondColumn", Shape::Column),
            field("outboundBytesPerSecondColumn", Shape::Column),
            field("totalRequestCountColumn", Shape::Column),
        ],
    ),
    (
        "BarChart",
        &[
            required(
                "bar",
                Shape::Object(&[
                    required("value", Shape::Column),
                    required("label", Shape::Column),
                    field("stackBy", Shape::Column),
                    field("groupBy", Shape::Column),
                    field("horizontal", Shape::Flag),
                ]),
            ),
            TITLE,
            X_AXIS,
            Y_AXIS,
        ],
    ),
    ("PieChart", &[required("label", Shape::Column), required("value", Shape::Column), TITLE]),
    ("GaugeChart", &[required("value", Shape::Column), TITLE]),
    ("StatChart", &[required("stat", Shape::Object(&[required("value", Shape::Column)])), TITLE]),
    ("TextChart", &[field("body", Shape::Text)]),
    ("VegaChart", &[required("spec", Shape::Text)]),
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

/// Checks a displaySpec; the columns that it names.
pub(super) fn check(spec: At<'_>, kind: &str, findings: &Findings) -> Vec<(String, Span)> {
    let mut checker = Checker { findings, kind, columns: Vec::new() };
    if let Some((_, fields)) = KINDS.iter().find(|(name, _)| *name == kind) {
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
            let wanted = match field.shape {
                Shape::Column => "the name of a column".to_string(),
                Shape::Columns => "a list of column names".to_string(),
                Shape::Text => "a text".to_string(),
                Shape::Flag => "true or false".to_string(),
                Shape::Number => "a number".to_string(),
                Shape::Choice(names) => format!("one of {}", names.join(", ")),
                Shape::Object(_) => "an object".to_string(),
                Shape::List(_) => "a list of objects".to_string(),
            };
            let message = format!("'{}' of {} must be {wanted}", field.name, self.kind);
            self.findings.push(Diag::error(Code::VisInvalid, at.span(), message));
        }
    }
}
