//! Reads a test file; what promtool has and Weir has not is refused with what to write instead.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value as Json};

use super::samples::series;
use super::{AlertCase, Expected, ExprCase, Input, Sample, Test, TestFile, named};
use crate::duration::{self, Millis};
use crate::file::Problem;
use crate::file::read::{Fields, Reader};
use crate::labels::Labels;
use crate::yaml::{self, Kind, Node};

const FILE: [&str; 5] =
    ["rule_files", "evaluation_interval", "group_eval_order", "fuzzy_compare", "tests"];
const TEST: [&str; 8] = [
    "name",
    "interval",
    "input_rows",
    "input_series",
    "alert_rule_test",
    "promql_expr_test",
    "external_labels",
    "external_url",
];

/// promtool's default.
const EVALUATION_INTERVAL_MS: u64 = 60_000;

pub fn parse(text: &str) -> Result<TestFile, Vec<Problem>> {
    let documents = yaml::read(text).map_err(|problem| vec![problem])?;
    let mut reader = Reader::default();
    let mut file = TestFile {
        evaluation_interval: Millis::new(EVALUATION_INTERVAL_MS),
        ..TestFile::default()
    };
    for document in &documents {
        let Some(fields) = reader.fields(document, "unitTestFile", &FILE) else { continue };
        for node in list(&fields, "rule_files", &mut reader) {
            file.rule_files.extend(reader.text(node));
        }
        let interval = fields.get("evaluation_interval").and_then(|node| reader.duration(node));
        file.evaluation_interval =
            interval.filter(|i| !i.is_zero()).unwrap_or(file.evaluation_interval);
        file.fuzzy = fields.get("fuzzy_compare").is_some_and(|node| reader.boolean(node));
        for node in list(&fields, "tests", &mut reader) {
            file.tests.extend(test(node, &mut reader));
        }
    }
    match reader.problems.is_empty() {
        true => Ok(file),
        false => Err(reader.problems),
    }
}

fn list<'n>(fields: &Fields<'n>, name: &str, reader: &mut Reader) -> &'n [Node] {
    fields.get(name).map_or(&[][..], |node| reader.list(node))
}

fn text(fields: &Fields<'_>, name: &str, reader: &mut Reader) -> String {
    fields.get(name).and_then(|node| reader.text(node)).unwrap_or_default()
}

fn test(node: &Node, reader: &mut Reader) -> Option<Test> {
    let fields = reader.fields(node, "testGroup", &TEST)?;
    if let Some(node) = fields.get("input_series") {
        let instead = "Weir's rules read rows: write them as 'input_rows', a list a table";
        reader.problem(node.place, format!("'input_series' is not supported: {instead}"));
    }
    // Series have an interval; rows have times of their own.
    fields.get("interval").and_then(|node| reader.duration(node));
    let external_labels =
        fields.get("external_labels").map_or_else(BTreeMap::new, |node| reader.texts(node));
    let alerts = list(&fields, "alert_rule_test", reader).iter();
    let alerts = alerts.filter_map(|node| alert_case(node, reader)).collect();
    let exprs = list(&fields, "promql_expr_test", reader).iter();
    let exprs = exprs.filter_map(|node| expr_case(node, reader)).collect();
    Some(Test {
        name: text(&fields, "name", reader),
        external_labels: Labels::new(external_labels),
        external_url: text(&fields, "external_url", reader),
        input: fields.get("input_rows").map_or_else(Input::new, |node| input(node, reader)),
        alerts,
        exprs,
    })
}

fn alert_case(node: &Node, reader: &mut Reader) -> Option<AlertCase> {
    let fields = reader.fields(node, "alertTestCase", &["eval_time", "alertname", "exp_alerts"])?;
    let name = text(&fields, "alertname", reader);
    if name.is_empty() {
        reader.problem(node.place, "an item of 'alert_rule_test' needs an 'alertname'");
    }
    let at = fields.get("eval_time").and_then(|node| reader.duration(node)).unwrap_or_default();
    let mut wanted = Vec::new();
    for node in list(&fields, "exp_alerts", reader) {
        let Some(fields) = reader.fields(node, "alert", &["exp_labels", "exp_annotations"]) else {
            continue;
        };
        let mut pairs =
            |name: &str| fields.get(name).map_or_else(BTreeMap::new, |node| reader.texts(node));
        let labels = named(pairs("exp_labels"), &name);
        wanted.push(Expected { labels, annotations: pairs("exp_annotations") });
    }
    Some(AlertCase { at, name, wanted })
}

fn expr_case(node: &Node, reader: &mut Reader) -> Option<ExprCase> {
    let fields = reader.fields(node, "promqlTestCase", &["expr", "eval_time", "exp_samples"])?;
    let expr = text(&fields, "expr", reader);
    if expr.trim().is_empty() {
        reader.problem(node.place, "an item of 'promql_expr_test' needs an 'expr'");
    }
    let at = fields.get("eval_time").and_then(|node| reader.duration(node)).unwrap_or_default();
    let samples = list(&fields, "exp_samples", reader).iter();
    let wanted = samples.filter_map(|node| sample(node, reader)).collect();
    let place = fields.get("expr").map_or(node.place, |node| node.place);
    Some(ExprCase { at, expr, place, wanted })
}

fn sample(node: &Node, reader: &mut Reader) -> Option<Sample> {
    let fields = reader.fields(node, "sample", &["labels", "value", "histogram"])?;
    if let Some(node) = fields.get("histogram") {
        reader.problem(node.place, "'histogram' is not supported: a row has one 'value'");
    }
    let (name, labels) = match fields.get("labels") {
        None => (None, Labels::default()),
        // As rows are written, beside promtool's notation.
        Some(node) if matches!(node.kind, Kind::Mapping(_)) => {
            (None, Labels::new(reader.texts(node)))
        }
        Some(node) => match series(&reader.text(node)?) {
            Ok(series) => series,
            Err(why) => {
                reader.problem(node.place, format!("'labels': {why}"));
                return None;
            }
        },
    };
    let Some(value) = fields.get("value") else {
        reader.problem(node.place, "an item of 'exp_samples' needs a 'value'");
        return None;
    };
    let value = reader.number(value)?;
    Some(Sample { place: node.place, name, labels, value })
}

fn input(node: &Node, reader: &mut Reader) -> Input {
    let Kind::Mapping(tables) = &node.kind else {
        reader.problem(node.place, "'input_rows' is a mapping of tables to lists of rows");
        return Input::new();
    };
    let mut input = Input::new();
    for (table, rows) in tables {
        let rows = reader.list(rows).iter().filter_map(|row| match json(row) {
            Json::Object(fields) => Some(timed(fields)),
            _ => {
                reader.problem(row.place, "a row is a mapping of columns to values");
                None
            }
        });
        input.insert(table.text().unwrap_or_default().to_string(), rows.collect());
    }
    input
}

/// `time_: 30s` is thirty seconds after the beginning.
fn timed(mut fields: Map<String, Json>) -> Map<String, Json> {
    for name in ["time_", "_arrival_"] {
        let since =
            fields.get(name).and_then(Json::as_str).and_then(|text| duration::parse(text).ok());
        if let Some(since) = since {
            fields.insert(name.to_string(), since.ns().into());
        }
    }
    fields
}

/// As deep as the tree is, which is bounded.
fn json(node: &Node) -> Json {
    match &node.kind {
        Kind::Sequence(items) => Json::Array(items.iter().map(json).collect()),
        Kind::Mapping(pairs) => {
            let pairs = pairs
                .iter()
                .map(|(key, value)| (key.text().unwrap_or_default().to_string(), json(value)));
            Json::Object(pairs.collect())
        }
        Kind::Scalar { text, .. } => match node.tag() {
            "!!null" => Json::Null,
            "!!bool" => Json::Bool(text.eq_ignore_ascii_case("true")),
            "!!int" => text.parse::<i64>().map_or_else(|_| text.as_str().into(), Json::from),
            "!!float" => {
                let number = text.parse().ok().and_then(Number::from_f64);
                number.map_or_else(|| text.as_str().into(), Json::Number)
            }
            _ => Json::String(text.clone()),
        },
    }
}
