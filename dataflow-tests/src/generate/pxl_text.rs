//! A plan written as PxL: one assignment an operator. What the compiler makes of the text must mean
//! what the plan means, so every optimisation, every rule about column order and every hidden
//! column of the compiler is held against the plan itself.

use std::fmt::Write as _;

use weir_types::plan::{AggCall, EndBound, JoinKind, OpKind, Scan, Side, StartBound, Window};
use weir_types::{Column, Expr, Op, Plan, Relation, Value};

/// The script of the plan. Plans of [`super::Style::Script`] have no literal without a text.
#[must_use]
pub fn text_of(plan: &Plan) -> String {
    let mut out = String::from("import px\n");
    for id in 0..plan.ops.len() {
        op_text(&mut out, plan, id);
    }
    for output in &plan.outputs {
        let _ = writeln!(out, "px.display(f{}, '{}')", output.op, output.table);
    }
    out
}

fn op_text(out: &mut String, plan: &Plan, id: usize) {
    let op = &plan.ops[id];
    let input = op.inputs.first().copied().unwrap_or(0);
    let relation = op.inputs.first().map(|&input| &plan.ops[input].relation);
    let columns = relation.map_or(&[][..], |relation| &relation.columns);
    let _ = match &op.kind {
        OpKind::Scan(Scan { table, columns, window }) => {
            let bounds = bounds_text(window);
            let names = list(columns.iter().map(String::as_str));
            writeln!(out, "f{id} = px.DataFrame('{table}', select={names}{bounds})")
        }
        OpKind::TableFunction { name, .. } => writeln!(out, "f{id} = px.{name}()"),
        OpKind::Filter { predicate } => {
            let frame = format!("f{input}");
            writeln!(out, "f{id} = f{input}[{}]", expr_text(predicate, &frame, columns))
        }
        OpKind::Map { exprs } => return map_text(out, op, id, input, columns, exprs),
        OpKind::Aggregate { group, aggs } => {
            let results = &op.relation.columns[group.len()..];
            let calls: Vec<String> = aggs
                .iter()
                .zip(results)
                .map(|(call, result)| call_text(call, result, columns))
                .collect();
            let group = if group.is_empty() {
                String::new()
            } else {
                let names = group.iter().map(|&idx| columns[idx].name.as_str());
                format!(".groupby({})", list(names))
            };
            writeln!(out, "f{id} = f{input}{group}.agg({})", calls.join(", "))
        }
        OpKind::Join { how, left_on, right_on, columns } => {
            let join = Join { how: *how, on: [left_on, right_on], columns };
            return join_text(out, plan, id, &join);
        }
        OpKind::Union => {
            let others: Vec<String> = op.inputs[1..].iter().map(|i| format!("f{i}")).collect();
            writeln!(out, "f{id} = f{input}.append([{}])", others.join(", "))
        }
        OpKind::Limit { rows_max } => writeln!(out, "f{id} = f{input}.head({rows_max})"),
    };
}

fn bounds_text(window: &Window) -> String {
    let mut out = match window.start {
        StartBound::Beginning => String::new(),
        StartBound::Relative { window_ns } if window_ns % 1_000_000_000 == 0 => {
            format!(", start_time='-{}s'", window_ns / 1_000_000_000)
        }
        StartBound::Relative { window_ns } => format!(", start_time=px.now() - {window_ns}"),
        StartBound::Absolute { start_unix_ns } => format!(", start_time={start_unix_ns}"),
        StartBound::Then { .. } => unreachable!("no script names a window of then"),
    };
    let _ = match window.end {
        EndBound::Now => Ok(()),
        EndBound::Relative { before_ns } => write!(out, ", end_time=px.now() - {before_ns}"),
        EndBound::Absolute { end_unix_ns } => write!(out, ", end_time={end_unix_ns}"),
    };
    out
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.map(|name| format!("'{name}'")).collect();
    format!("[{}]", quoted.join(", "))
}

fn names_of(relation: &Relation) -> String {
    list(relation.columns.iter().map(|column| column.name.as_str()))
}

/// New columns are assigned one by one, then all are put in order. An overwritten `time_` comes
/// last, since the others read the former one.
fn map_text(
    out: &mut String,
    op: &Op,
    id: usize,
    input: usize,
    columns: &[Column],
    exprs: &[Expr],
) {
    let frame = format!("f{id}");
    let _ = writeln!(out, "{frame} = f{input}");
    let assignments = op.relation.columns.iter().zip(exprs).filter(|(column, expr)| {
        !matches!(expr, Expr::Column { idx, .. } if columns[*idx].name == column.name)
    });
    let (time, others): (Vec<_>, Vec<_>) =
        assignments.partition(|(column, _)| column.name == "time_");
    for (column, expr) in others.into_iter().chain(time) {
        let text = expr_text(expr, &frame, columns);
        let _ = writeln!(out, "{frame}['{}'] = {text}", column.name);
    }
    let _ = writeln!(out, "{frame} = {frame}[{}]", names_of(&op.relation));
}

fn call_text(call: &AggCall, result: &Column, columns: &[Column]) -> String {
    let args: Vec<String> =
        call.args.iter().map(|&arg| format!("'{}'", columns[arg].name)).collect();
    format!("{}=({}, px.{})", result.name, args.join(", "), call.func)
}

struct Join<'a> {
    how: JoinKind,
    on: [&'a [usize]; 2],
    columns: &'a [(Side, usize)],
}

/// Both sides are renamed first, so that no suffix is needed, and the result is renamed again.
fn join_text(out: &mut String, plan: &Plan, id: usize, join: &Join<'_>) {
    let op = &plan.ops[id];
    let mut keys = [Vec::new(), Vec::new()];
    for (side, prefix) in ["l", "r"].into_iter().enumerate() {
        let input = op.inputs[side];
        let columns = &plan.ops[input].relation.columns;
        let frame = format!("f{id}{prefix}");
        let _ = writeln!(out, "{frame} = f{input}");
        let mut names = Vec::new();
        for (idx, column) in columns.iter().enumerate() {
            // The frame's own `time_` stays what it is where it comes from the left.
            let keeps = side == 0 && column.name == "time_";
            let name = if keeps { "time_".to_string() } else { format!("{prefix}_{idx}") };
            if !keeps {
                let _ = writeln!(out, "{frame}['{name}'] = {frame}['{}']", column.name);
            }
            names.push(name);
        }
        let all = list(names.iter().map(String::as_str));
        let _ = writeln!(out, "{frame} = {frame}[{all}]");
        keys[side] = join.on[side].iter().map(|&idx| names[idx].clone()).collect();
    }
    let how = match join.how {
        JoinKind::Inner => "inner",
        JoinKind::Left => "left",
        JoinKind::Outer => "outer",
    };
    let [left_on, right_on] = keys.map(|keys| list(keys.iter().map(String::as_str)));
    let _ = writeln!(
        out,
        "f{id} = f{id}l.merge(f{id}r, how='{how}', left_on={left_on}, right_on={right_on})"
    );
    for (column, &(side, idx)) in op.relation.columns.iter().zip(join.columns) {
        let prefix = if side == Side::Left { "l" } else { "r" };
        let left = &plan.ops[op.inputs[0]].relation;
        let is_left_time = side == Side::Left && left.columns[idx].name == "time_";
        let from = if is_left_time { "time_".to_string() } else { format!("{prefix}_{idx}") };
        if from != column.name {
            let _ = writeln!(out, "f{id}['{}'] = f{id}['{from}']", column.name);
        }
    }
    let _ = writeln!(out, "f{id} = f{id}[{}]", names_of(&op.relation));
}

fn expr_text(expr: &Expr, frame: &str, columns: &[Column]) -> String {
    match expr {
        Expr::Column { idx, .. } => format!("{frame}['{}']", columns[*idx].name),
        Expr::Literal(value) => literal_text(value),
        Expr::Now { factor: 1, offset_ns } => format!("(px.now() + ({offset_ns}))"),
        Expr::Now { factor, offset_ns } => format!("(px.now() * {factor} + ({offset_ns}))"),
        Expr::Call { func, args, .. } => {
            let texts: Vec<String> =
                args.iter().map(|arg| expr_text(arg, frame, columns)).collect();
            match (operator(func), texts.as_slice()) {
                (Some(sign), [a, b]) => format!("({a} {sign} {b})"),
                (Some(sign), [a]) => format!("({sign} {a})"),
                _ => format!("px.{func}({})", texts.join(", ")),
            }
        }
    }
}

fn operator(func: &str) -> Option<&'static str> {
    Some(match func {
        "add" => "+",
        "subtract" => "-",
        "multiply" => "*",
        "divide" => "/",
        "modulo" => "%",
        "negate" => "-",
        "equal" => "==",
        "notEqual" => "!=",
        "lessThan" => "<",
        "lessThanEqual" => "<=",
        "greaterThan" => ">",
        "greaterThanEqual" => ">=",
        "logicalAnd" => "and",
        "logicalOr" => "or",
        "logicalNot" => "not",
        _ => return None,
    })
}

fn literal_text(value: &Value) -> String {
    match value {
        Value::Boolean(true) => "True".to_string(),
        Value::Boolean(false) => "False".to_string(),
        Value::Int64(v) => format!("({v})"),
        Value::Float64(v) => format!("({v:?})"),
        Value::String(v) => format!("'{}'", String::from_utf8_lossy(v)),
        Value::Time64Ns(v) => format!("px.int64_to_time({v})"),
        Value::Uint128(v) => format!("px.uint128('{}')", weir_types::json::uuid_text(*v)),
    }
}
