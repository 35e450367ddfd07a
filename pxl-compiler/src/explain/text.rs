//! Expressions, operators and plans as short text for people.

use std::fmt::Write;

use weir_types::plan::{EndBound, JoinKind, OpKind, Side, StartBound, Window};
use weir_types::split::{Fragment, FragmentKind, Shape};
use weir_types::{Expr, Op, Plan, Relation, Value, json};

/// Long literals are cut.
const LITERAL_CHARS_MAX: usize = 60;

pub(crate) fn value(value: &Value) -> String {
    match value {
        Value::String(bytes) => {
            let text = String::from_utf8_lossy(bytes);
            let cut: String = text.chars().take(LITERAL_CHARS_MAX).collect();
            let dots = if cut.len() < text.len() { "…" } else { "" };
            format!("{cut:?}{dots}")
        }
        Value::Boolean(v) => v.to_string(),
        Value::Int64(v) => v.to_string(),
        Value::Float64(v) => format!("{v:?}"),
        Value::Time64Ns(v) => json::time_text(*v),
        Value::Uint128(v) => json::uuid_text(*v),
    }
}

pub(crate) fn now(factor: i64, offset_ns: i64) -> String {
    let now = if factor == 1 { "now".to_string() } else { format!("{factor}·now") };
    match offset_ns {
        0 => now,
        ns if ns < 0 => format!("{now} - {}", ns.unsigned_abs()),
        ns => format!("{now} + {ns}"),
    }
}

pub(crate) fn expr(expr_: &Expr, input: &Relation) -> String {
    match expr_ {
        Expr::Column { idx, .. } => {
            input.columns.get(*idx).map_or_else(|| format!("#{idx}"), |column| column.name.clone())
        }
        Expr::Literal(literal) => value(literal),
        Expr::Call { func, args, .. } => {
            let args: Vec<String> = args.iter().map(|arg| expr(arg, input)).collect();
            format!("{func}({})", args.join(", "))
        }
        Expr::Now { factor, offset_ns } => now(*factor, *offset_ns),
    }
}

fn window(window: &Window) -> String {
    let seconds = |ns: i64| match ns % 1_000_000_000 {
        0 => format!("{}s", ns / 1_000_000_000),
        _ => format!("{ns}ns"),
    };
    let start = match window.start {
        StartBound::Beginning => "beginning".to_string(),
        StartBound::Relative { window_ns } => format!("now-{}", seconds(window_ns)),
        StartBound::Absolute { start_unix_ns } => json::time_text(start_unix_ns),
    };
    let end = match window.end {
        EndBound::Now => "now".to_string(),
        EndBound::Relative { before_ns } => format!("now-{}", seconds(before_ns)),
        EndBound::Absolute { end_unix_ns } => json::time_text(end_unix_ns),
    };
    format!("{start} … {end}")
}

fn names(indices: &[usize], relation: &Relation) -> String {
    let names: Vec<&str> = indices
        .iter()
        .map(|&idx| relation.columns.get(idx).map_or("?", |column| column.name.as_str()))
        .collect();
    names.join(", ")
}

fn aggregates(
    group: &[usize],
    aggs: &[weir_types::plan::AggCall],
    input: &Relation,
    out: &Relation,
) -> String {
    let aggs: Vec<String> = aggs
        .iter()
        .enumerate()
        .map(|(at, agg)| {
            let name = out.columns.get(group.len() + at).map_or("?", |column| column.name.as_str());
            format!("{name}={}({})", agg.func, names(&agg.args, input))
        })
        .collect();
    format!("by [{}]: {}", names(group, input), aggs.join(", "))
}

/// One operator, with columns by name.
pub(crate) fn op_kind(kind: &OpKind, inputs: &[&Relation], out: &Relation) -> String {
    let empty = Relation::default();
    let input = inputs.first().copied().unwrap_or(&empty);
    match kind {
        OpKind::Scan { table, columns, window: bounds } => {
            format!("scan {table} [{}] {}", columns.join(", "), window(bounds))
        }
        OpKind::TableFunction { name, args } => {
            let args: Vec<String> =
                args.iter().map(|(name, literal)| format!("{name}={}", value(literal))).collect();
            format!("table function {name}({})", args.join(", "))
        }
        OpKind::Filter { predicate } => format!("filter {}", expr(predicate, input)),
        OpKind::Map { exprs } => {
            let exprs: Vec<String> = exprs
                .iter()
                .zip(&out.columns)
                .map(|(each, column)| {
                    let text = expr(each, input);
                    if text == column.name { text } else { format!("{}={text}", column.name) }
                })
                .collect();
            format!("map [{}]", exprs.join(", "))
        }
        OpKind::Aggregate { group, aggs } => {
            format!("aggregate {}", aggregates(group, aggs, input, out))
        }
        OpKind::Join { how, left_on, right_on, columns } => {
            let right = inputs.get(1).copied().unwrap_or(&empty);
            let how = match how {
                JoinKind::Inner => "inner",
                JoinKind::Left => "left",
                JoinKind::Outer => "outer",
            };
            let columns: Vec<String> = columns
                .iter()
                .zip(&out.columns)
                .map(|((side, idx), column)| {
                    let (mark, relation) = match side {
                        Side::Left => ("left", input),
                        Side::Right => ("right", right),
                    };
                    format!("{}={mark}.{}", column.name, names(&[*idx], relation))
                })
                .collect();
            format!(
                "{how} join on [{}] = [{}] → [{}]",
                names(left_on, input),
                names(right_on, right),
                columns.join(", ")
            )
        }
        OpKind::Union => "union".to_string(),
        OpKind::Limit { rows_max } => format!("limit {rows_max}"),
    }
}

fn line(out: &mut String, number: usize, inputs: &[usize], text: &str) {
    let inputs: Vec<String> = inputs.iter().map(|input| format!("%{input}")).collect();
    let from =
        if inputs.is_empty() { String::new() } else { format!(" ← {}", inputs.join(", ")) };
    // Writing to a String cannot fail.
    let _ = writeln!(out, "%{number} {text}{from}");
}

pub(crate) fn plan(plan: &Plan) -> String {
    let mut out = String::new();
    for (id, op) in plan.ops.iter().enumerate() {
        if super::is_long(&mut out) {
            return out;
        }
        line(&mut out, id, &op.inputs, &plan_op(plan, op));
    }
    for output in &plan.outputs {
        let _ = writeln!(out, "output {:?} ← %{}", output.table, output.op);
    }
    out
}

fn plan_op(plan: &Plan, op: &Op) -> String {
    let inputs: Vec<&Relation> = op.inputs.iter().map(|&input| &plan.ops[input].relation).collect();
    op_kind(&op.kind, &inputs, &op.relation)
}

pub(crate) fn fragment(fragment: &Fragment) -> String {
    let mut out = String::new();
    for (id, op) in fragment.ops.iter().enumerate() {
        if super::is_long(&mut out) {
            return out;
        }
        let inputs: Vec<&Relation> =
            op.inputs.iter().map(|&input| &fragment.ops[input].relation).collect();
        let text = match &op.kind {
            FragmentKind::Plan(kind) => op_kind(kind, &inputs, &op.relation),
            FragmentKind::Send { exchange, shape: what, time, .. } => {
                let input = inputs.first().copied().cloned().unwrap_or_default();
                let time = names(&[*time], &input);
                format!("send #{exchange} {} (panes by {time})", shape(what, &input, &input))
            }
            FragmentKind::Receive { exchange, shape: what, input, window: bounds } => {
                format!(
                    "receive #{exchange} {} {}",
                    shape(what, input, &op.relation),
                    window(bounds)
                )
            }
            FragmentKind::Output { table } => format!("output {table:?}"),
        };
        line(&mut out, id, &op.inputs, &text);
    }
    out
}

fn shape(shape: &Shape, input: &Relation, out: &Relation) -> String {
    match shape {
        Shape::Rows { rows_max: None } => "rows".to_string(),
        Shape::Rows { rows_max: Some(n) } => format!("newest {n} rows per pane"),
        Shape::Partial { group, aggs } => {
            let named = if std::ptr::eq(input, out) {
                partial_names(group, aggs, input)
            } else {
                out.clone()
            };
            format!("partial {}", aggregates(group, aggs, input, &named))
        }
    }
}

/// On the node the outputs have no names yet.
fn partial_names(
    group: &[usize],
    aggs: &[weir_types::plan::AggCall],
    input: &Relation,
) -> Relation {
    let mut columns: Vec<_> =
        group.iter().filter_map(|&idx| input.columns.get(idx).cloned()).collect();
    for (at, agg) in aggs.iter().enumerate() {
        let name = format!("acc{at}");
        columns.push(weir_types::Column::new(name, agg.data_type, weir_types::SemanticType::None));
    }
    Relation::new(columns)
}
