//! Expressions, operators and plans as short text for people.

use std::fmt::Write;

use weir_types::plan::{EndBound, JoinKind, OpKind, Scan, Side, StartBound, Window};
use weir_types::split::{
    ExchangeId, NodeOp, NodePlanBuilder, Shape, Source, SplitPlan, Step, mapped, scanned,
};
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
        StartBound::Then { window_ns, at_unix_ns } => {
            format!("{}-{}", json::time_text(at_unix_ns), seconds(window_ns))
        }
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

pub(super) fn scan(scan: &Scan) -> String {
    format!("scan {} [{}] {}", scan.table, scan.columns.join(", "), window(&scan.window))
}

pub(super) fn filter(predicate: &Expr, input: &Relation) -> String {
    format!("filter {}", expr(predicate, input))
}

pub(super) fn map(exprs: &[Expr], input: &Relation, out: &Relation) -> String {
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

/// One operator, with columns by name; `scan`: what the plan scans.
fn op_kind<L>(
    kind: &OpKind<L>,
    inputs: &[&Relation],
    out: &Relation,
    scan: &dyn Fn(&L) -> String,
) -> String {
    let empty = Relation::default();
    let input = inputs.first().copied().unwrap_or(&empty);
    match kind {
        OpKind::Scan(scanned) => scan(scanned),
        OpKind::TableFunction { name, args } => {
            let args: Vec<String> =
                args.iter().map(|(name, literal)| format!("{name}={}", value(literal))).collect();
            format!("table function {name}({})", args.join(", "))
        }
        OpKind::Filter { predicate } => filter(predicate, input),
        OpKind::Map { exprs } => map(exprs, input, out),
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
    op_kind(&op.kind, &inputs, &op.relation, &scan)
}

/// What a node runs, source by source: what those before have not done, and the send.
pub(crate) fn node(split: &SplitPlan) -> String {
    let mut out = String::new();
    let mut builder = NodePlanBuilder::default();
    // Per operator of the node plan: its number here, and its rows.
    let mut shown: Vec<(usize, Relation)> = Vec::new();
    let mut number = 0;
    for (exchange, source) in split.sources.iter().enumerate() {
        builder.add(source);
        for op in &builder.plan().ops[shown.len()..] {
            if super::is_long(&mut out) {
                return out;
            }
            let (from, text, relation) = node_op(op, &shown);
            line(&mut out, number, &from, &text);
            shown.push((number, relation));
            number += 1;
        }
        if let Some(send) = builder.plan().sends.last() {
            let (from, rows) = &shown[send.from];
            let time = names(&[send.time], rows);
            let what = shape(&send.shape, rows, rows);
            line(&mut out, number, &[*from], &format!("send #{exchange} {what} (panes by {time})"));
            number += 1;
        }
    }
    out
}

fn node_op(op: &NodeOp, shown: &[(usize, Relation)]) -> (Vec<usize>, String, Relation) {
    match op {
        NodeOp::Scan(table) => (Vec::new(), scan(&table.scan), scanned(table)),
        NodeOp::Step { below, step } => {
            let (from, input) = &shown[*below];
            let (text, relation) = match &**step {
                Step::Filter(predicate) => (filter(predicate, input), input.clone()),
                Step::Map { exprs, labels } => {
                    let relation = mapped(exprs, labels);
                    (map(exprs, input, &relation), relation)
                }
            };
            (vec![*from], text, relation)
        }
    }
}

/// What the cluster part runs; outputs count on.
pub(crate) fn cluster(split: &SplitPlan) -> String {
    let plan = &split.cluster;
    let mut out = String::new();
    for (id, op) in plan.ops.iter().enumerate() {
        if super::is_long(&mut out) {
            return out;
        }
        line(&mut out, id, &op.inputs, &cluster_op(split, op));
    }
    for (at, output) in plan.outputs.iter().enumerate() {
        line(&mut out, plan.ops.len() + at, &[output.op], &format!("output {:?}", output.table));
    }
    out
}

/// One operator of the cluster part.
pub(super) fn cluster_op(split: &SplitPlan, op: &Op<ExchangeId>) -> String {
    let ops = &split.cluster.ops;
    let inputs: Vec<&Relation> = op.inputs.iter().map(|&input| &ops[input].relation).collect();
    let receive = |exchange: &ExchangeId| received_by(split, *exchange, &op.relation);
    op_kind(&op.kind, &inputs, &op.relation, &receive)
}

/// The receiving end of a source.
fn received_by(split: &SplitPlan, exchange: u32, out: &Relation) -> String {
    let source = split.sources.get(exchange as usize);
    source.map_or_else(String::new, |source| received(exchange, source, out))
}

fn received(exchange: u32, source: &Source, out: &Relation) -> String {
    let what = shape(&source.shape, &source.sent(), out);
    format!("receive #{exchange} {what} {}", window(&source.window()))
}

pub(super) fn shape(shape: &Shape, input: &Relation, out: &Relation) -> String {
    match shape {
        Shape::Rows { rows_max: None } => "rows".to_string(),
        Shape::Rows { rows_max: Some(n) } => format!("newest {n} rows"),
        Shape::Candidates { rows_max: n } => {
            format!("newest {n} rows that reach the limit, and newer ones")
        }
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
