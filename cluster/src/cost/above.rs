//! What the operators of the cluster part cost, on top of the windows of sources: rows go from one to the next, each
//! keeps what it has to. It knows nothing of nodes.

use weir_engine::guess::{self, Values};
use weir_engine::{reads_names, sizes};
use weir_types::expr::Expr;
use weir_types::plan::{AggCall, JoinKind, Op, OpKind, Side};
use weir_types::split::{ClusterPlan, ExchangeId};

use super::{COUNT_MAX, Flow, Guess, columns, work_ns};

/// Rows of a table function: of nodes, processes, tables.
const FUNCTION_ROWS: f64 = 100.0;
/// A row of an answer beside its bytes.
const ANSWER_ROW_BYTES: f64 = 64.0;

/// An operator that keeps something, or costs time.
#[derive(Clone, Debug, PartialEq)]
pub struct OperatorCost {
    /// Its place in the cluster part's plan.
    pub op: usize,
    pub kind: &'static str,
    pub rows: f64,
    pub state_bytes: f64,
    pub cpu_ns_per_s: f64,
    pub fill_cpu_ns: f64,
}

#[derive(Default)]
pub(super) struct Above {
    pub(super) operators: Vec<OperatorCost>,
    pub(super) answer_rows: f64,
    pub(super) answer_bytes: f64,
}

/// `sources`: what the windows tell, by the numbers of their exchanges.
pub(super) fn cost(plan: &ClusterPlan, sources: &[Flow], guess: Guess) -> Above {
    let mut above = Above::default();
    let mut flows: Vec<Flow> = Vec::with_capacity(plan.ops.len());
    for (at, op) in plan.ops.iter().enumerate() {
        let inputs: Vec<&Flow> = op.inputs.iter().filter_map(|&input| flows.get(input)).collect();
        let (flow, cost) = one(op, &inputs, sources, guess);
        above.operators.extend(cost.filter(|cost| cost.rows > 0.0).map(|cost| cost.of(at, &flow)));
        flows.push(flow);
    }
    for flow in plan.outputs.iter().filter_map(|output| flows.get(output.op)) {
        above.answer_rows += flow.rows;
        above.answer_bytes += flow.rows * (flow.row_bytes() + ANSWER_ROW_BYTES);
    }
    above
}

/// What an operator does with its input.
struct Work {
    kind: &'static str,
    /// That come in, at first and per second.
    rows: f64,
    changes_per_s: f64,
    ns: f64,
    state_bytes: f64,
}

impl Work {
    fn of(self, op: usize, flow: &Flow) -> OperatorCost {
        OperatorCost {
            op,
            kind: self.kind,
            rows: flow.rows,
            state_bytes: self.state_bytes,
            cpu_ns_per_s: self.changes_per_s * self.ns,
            fill_cpu_ns: self.rows * self.ns,
        }
    }
}

fn one(
    op: &Op<ExchangeId>,
    inputs: &[&Flow],
    sources: &[Flow],
    guess: Guess,
) -> (Flow, Option<Work>) {
    let none = Flow::default();
    let first = inputs.first().copied().unwrap_or(&none);
    let work = |kind, ns, state_bytes| {
        let (rows, changes_per_s) = (first.rows, first.changes_per_s);
        Some(Work { kind, rows, changes_per_s, ns, state_bytes })
    };
    match &op.kind {
        OpKind::Scan(exchange) => (sources.get(*exchange as usize).cloned().unwrap_or(none), None),
        OpKind::TableFunction { .. } => (of_function(op), None),
        OpKind::Filter { predicate } => {
            let share = match guess {
                Guess::Expected => guess::passing(predicate, &first.columns),
                Guess::Most => 1.0,
            };
            let flow = Flow {
                rows: first.rows * share,
                changes_per_s: first.changes_per_s * share,
                columns: first.columns.clone(),
            };
            let kept = remembered(std::slice::from_ref(predicate), first, &flow);
            (flow, work("Filter", work_ns::ROWWISE, kept))
        }
        OpKind::Map { exprs } => {
            let columns = exprs.iter().map(|expr| guess::values(expr, &first.columns)).collect();
            let flow = Flow { columns, ..first.clone() };
            let kept = remembered(exprs, first, &flow);
            (flow, work("Map", work_ns::ROWWISE, kept))
        }
        OpKind::Aggregate { group, aggs } => {
            let (flow, kept) = grouped(first, group, aggs, guess);
            (flow, work("Aggregate", work_ns::GROUPED_AGAIN, kept))
        }
        OpKind::Join { how, left_on, right_on, columns } => {
            let Some(&right) = inputs.get(1) else { return (none, None) };
            joined((first, right), *how, (left_on, right_on), columns)
        }
        OpKind::Union => (united(inputs), None),
        OpKind::Limit { rows_max } => {
            let rows = first.rows.min(*rows_max as f64);
            let kept = first.rows * sizes::ordered_row(first.row_bytes());
            let flow = Flow { rows, ..first.clone() };
            (flow, work("Limit", work_ns::LIMITED, kept))
        }
    }
}

fn of_function(op: &Op<ExchangeId>) -> Flow {
    let column = |data_type| {
        let bytes = guess::packed_bytes(data_type);
        Values { distinct: FUNCTION_ROWS, bytes, span_ns: None }
    };
    let columns = op.relation.types().into_iter().map(column).collect();
    Flow { rows: FUNCTION_ROWS, changes_per_s: 0.0, columns }
}

/// What reads names or the clock is looked at again, so its rows are kept.
fn remembered(exprs: &[Expr], input: &Flow, output: &Flow) -> f64 {
    let mut depends = false;
    for expr in exprs {
        expr.walk(&mut |expr| {
            depends |= match expr {
                Expr::Now { .. } => true,
                Expr::Call { func, .. } => reads_names(func),
                Expr::Column { .. } | Expr::Literal(_) => false,
            };
        });
    }
    match depends {
        true => input.rows * sizes::remembered_row(input.row_bytes(), output.row_bytes()),
        false => 0.0,
    }
}

fn grouped(input: &Flow, group: &[usize], aggs: &[AggCall], guess: Guess) -> (Flow, f64) {
    let of_group = || group.iter().filter_map(|&idx| input.columns.get(idx).copied());
    let (kinds, span_ns) = columns::kinds(&input.columns, group, guess);
    let times = span_ns.map_or(1.0, |_| {
        let times = of_group().filter(|column| column.span_ns.is_some());
        times.map(|column| column.distinct).fold(1.0, f64::max)
    });
    let rows = guess::seen((kinds * times).min(COUNT_MAX), input.rows).min(input.rows.max(1.0));
    let key_bytes: f64 = of_group().map(|column| column.bytes).sum();
    let told: f64 = aggs.iter().map(|agg| guess::packed_bytes(agg.data_type)).sum();
    let each = if rows > 0.0 { input.rows / rows } else { 0.0 };
    let accs: f64 =
        aggs.iter().map(|agg| guess::accumulator_bytes(agg, true, each, &input.columns)).sum();
    let results = aggs.iter().map(|agg| Values {
        distinct: rows,
        bytes: guess::packed_bytes(agg.data_type),
        span_ns: None,
    });
    let columns = of_group().chain(results).collect();
    let changes_per_s = input.changes_per_s;
    (Flow { rows, changes_per_s, columns }, rows * sizes::later_group(key_bytes, told + accs))
}

/// How many different keys the rows of a side have.
fn keys(flow: &Flow, on: &[usize]) -> f64 {
    let product = on
        .iter()
        .filter_map(|&idx| flow.columns.get(idx))
        .fold(1.0, |all: f64, column| (all * column.distinct.max(1.0)).min(COUNT_MAX));
    product.min(flow.rows.max(1.0))
}

fn joined(
    (left, right): (&Flow, &Flow),
    how: JoinKind,
    (left_on, right_on): (&[usize], &[usize]),
    picked: &[(Side, usize)],
) -> (Flow, Option<Work>) {
    let kinds = keys(left, left_on).max(keys(right, right_on)).max(1.0);
    let matched = (left.rows * right.rows / kinds).min(COUNT_MAX);
    let rows = match how {
        JoinKind::Inner => matched,
        JoinKind::Left => matched.max(left.rows),
        JoinKind::Outer => matched.max(left.rows).max(right.rows),
    };
    let made = left.changes_per_s * (right.rows / kinds).max(1.0)
        + right.changes_per_s * (left.rows / kinds).max(1.0);
    let column = |&(side, idx): &(Side, usize)| {
        let of = if side == Side::Left { left } else { right };
        let one = Values { distinct: 1.0, bytes: 8.0, span_ns: None };
        of.columns.get(idx).copied().unwrap_or(one)
    };
    let columns = picked.iter().map(column).collect();
    let side = |flow: &Flow, on: &[usize]| {
        let key = on.iter().filter_map(|&idx| flow.columns.get(idx));
        let key_bytes: f64 = key.map(|column| column.bytes).sum();
        flow.rows * sizes::join_row(key_bytes, flow.row_bytes())
    };
    let work = Work {
        kind: "Join",
        rows: left.rows + right.rows,
        changes_per_s: (left.changes_per_s + right.changes_per_s).max(made),
        ns: work_ns::JOINED,
        state_bytes: side(left, left_on) + side(right, right_on),
    };
    (Flow { rows, changes_per_s: made, columns }, Some(work))
}

fn united(inputs: &[&Flow]) -> Flow {
    let columns = inputs.first().map(|flow| flow.columns.clone()).unwrap_or_default();
    Flow {
        rows: inputs.iter().map(|flow| flow.rows).sum(),
        changes_per_s: inputs.iter().map(|flow| flow.changes_per_s).sum(),
        columns,
    }
}
