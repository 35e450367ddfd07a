//! What holds of every plan between two passes, and what a pass promised on top of it. In tests and debug
//! builds each pass's plan is checked, and one that does not hold ends the compile with `internal`; a plan
//! is refused here, not mended. It does not judge whether two plans mean the same: the model does.

use std::collections::HashSet;

use weir_types::plan::{AggCall, Op, OpKind, Output, PLAN_VERSION, Scan, Side};
use weir_types::{DataType, Expr, OpId, Plan, Relation};

use crate::registry;

/// What does not hold, in words.
pub(crate) type Broken = String;
pub(crate) type Checked = Result<(), Broken>;

/// True where plans are checked.
pub(crate) const IS_ON: bool = cfg!(any(test, debug_assertions));

/// A plan that scans tables.
pub(crate) fn plan(plan: &Plan) -> Checked {
    structure(plan, &|scan, relation| scanned(scan, relation))
}

/// Whatever a plan scans: `scan` says whether its scans hold.
pub(crate) fn structure<L>(plan: &Plan<L>, scan: &dyn Fn(&L, &Relation) -> Checked) -> Checked {
    holds(plan.version == PLAN_VERSION, || format!("version {}", plan.version))?;
    let mut is_read = vec![false; plan.ops.len()];
    for (id, op) in plan.ops.iter().enumerate() {
        operator(plan, id, op, scan).map_err(|broken| format!("operator %{id}: {broken}"))?;
        op.inputs.iter().for_each(|&input| is_read[input] = true);
    }
    let mut names = HashSet::new();
    for Output { table, op } in &plan.outputs {
        let is_there = *op < plan.ops.len();
        holds(is_there, || format!("output {table:?} shows %{op}, which is not there"))?;
        holds(names.insert(table), || format!("two outputs {table:?}"))?;
        is_read[*op] = true;
    }
    let unread = is_read.iter().position(|is_read| !is_read);
    unread.map_or(Ok(()), |id| Err(format!("nobody reads %{id}")))
}

/// What every pass keeps of its input: the outputs with their columns, and the windows that are read.
pub(crate) fn kept(before: &Plan, after: &Plan) -> Checked {
    let shown = |plan: &Plan, output: &Output| plan.ops[output.op].relation.clone();
    holds(before.outputs.len() == after.outputs.len(), || "an output came or went".to_string())?;
    for (old, new) in before.outputs.iter().zip(&after.outputs) {
        let is_same = old.table == new.table && shown(before, old) == shown(after, new);
        holds(is_same, || format!("output {:?} is not what {:?} was", new.table, old.table))?;
    }
    let windows: HashSet<_> = before.scans().collect();
    for (table, window) in after.scans() {
        let is_known = windows.contains(&(table, window));
        holds(is_known, || format!("a window of {table} that nobody asked for"))?;
    }
    Ok(())
}

pub(crate) fn holds(it: bool, broken: impl FnOnce() -> Broken) -> Checked {
    if it { Ok(()) } else { Err(broken()) }
}

fn operator<L>(
    plan: &Plan<L>,
    id: OpId,
    op: &Op<L>,
    scan: &dyn Fn(&L, &Relation) -> Checked,
) -> Checked {
    holds(op.inputs_fit(id), || {
        format!("inputs {:?} are not as many, or not below it", op.inputs)
    })?;
    let mut names = HashSet::new();
    for column in &op.relation.columns {
        holds(names.insert(&column.name), || format!("two columns {:?}", column.name))?;
    }
    let input = |at: usize| &plan.ops[op.inputs[at]].relation;
    match &op.kind {
        OpKind::Scan(what) => scan(what, &op.relation),
        OpKind::TableFunction { name, .. } => {
            let declared = registry::table_function_relation(name).unwrap_or_default();
            holds(declared == op.relation, || format!("not the columns of {name}()"))
        }
        OpKind::Filter { predicate } => {
            expression(predicate, &input(0).types())?;
            let is_bool = predicate.data_type() == DataType::Boolean;
            holds(is_bool, || format!("a condition of type {}", predicate.data_type()))?;
            same_relation(&op.relation, input(0))
        }
        OpKind::Map { exprs } => {
            let types = input(0).types();
            exprs.iter().try_for_each(|expr| expression(expr, &types))?;
            types_are(&op.relation, exprs.iter().map(Expr::data_type))
        }
        OpKind::Aggregate { group, aggs } => {
            let types = aggregated(group, aggs, &input(0).types())?;
            types_are(&op.relation, types)
        }
        OpKind::Join { left_on, right_on, columns, .. } => {
            joined(input(0), input(1), left_on, right_on)?;
            let types = columns.iter().map(|(side, idx)| {
                let side = input(usize::from(*side == Side::Right));
                column_type(&side.types(), *idx)
            });
            types_are(&op.relation, types.collect::<Result<Vec<_>, _>>()?)
        }
        OpKind::Union => (0..op.inputs.len()).try_for_each(|at| {
            let names = |relation: &Relation| -> Vec<_> {
                let columns = relation.columns.iter();
                columns.map(|column| (column.name.clone(), column.data_type)).collect()
            };
            let is_alike = names(input(at)) == names(&op.relation);
            holds(is_alike, || format!("input {at} has other columns"))
        }),
        OpKind::Limit { .. } => same_relation(&op.relation, input(0)),
    }
}

fn scanned(scan: &Scan, relation: &Relation) -> Checked {
    let names = relation.columns.iter().map(|column| &column.name);
    holds(names.eq(&scan.columns), || format!("not the columns that it reads of {}", scan.table))?;
    holds(relation.time_idx().is_some(), || format!("no time_ of {}", scan.table))
}

fn same_relation(one: &Relation, other: &Relation) -> Checked {
    holds(one == other, || "it passes rows on that have other columns".to_string())
}

fn types_are(relation: &Relation, types: impl IntoIterator<Item = DataType>) -> Checked {
    holds(relation.types().into_iter().eq(types), || "columns of other types".to_string())
}

fn column_type(types: &[DataType], idx: usize) -> Result<DataType, Broken> {
    types.get(idx).copied().ok_or_else(|| format!("no column {idx}"))
}

/// Columns that are there, overloads that exist, constants where they must be.
pub(crate) fn expression(expr: &Expr, input: &[DataType]) -> Checked {
    match expr {
        Expr::Column { idx, data_type } => {
            let found = column_type(input, *idx)?;
            holds(found == *data_type, || format!("column {idx} is {found}, not {data_type}"))
        }
        Expr::Literal(_) | Expr::Now { .. } => Ok(()),
        Expr::Call { func, args, data_type } => {
            args.iter().try_for_each(|arg| expression(arg, input))?;
            let types: Vec<DataType> = args.iter().map(Expr::data_type).collect();
            let is_it = registry::scalar_result(func, &types) == Some(*data_type);
            holds(is_it, || format!("no {func}{types:?} that gives {data_type}"))?;
            let is_literal =
                |&at: &usize| args.get(at).is_none_or(|arg| matches!(arg, Expr::Literal(_)));
            let are_literals = registry::const_args(func).iter().all(is_literal);
            holds(are_literals, || format!("{func}() is given what changes"))
        }
    }
}

/// Types of an aggregate's rows.
pub(crate) fn aggregated(
    group: &[usize],
    aggs: &[AggCall],
    input: &[DataType],
) -> Result<Vec<DataType>, Broken> {
    let mut types = Vec::with_capacity(group.len() + aggs.len());
    for &idx in group {
        types.push(column_type(input, idx)?);
    }
    for agg in aggs {
        let args = agg.args.iter().map(|&idx| column_type(input, idx));
        let args: Vec<DataType> = args.collect::<Result<_, _>>()?;
        holds(args == agg.arg_types, || format!("{} is not given {:?}", agg.func, args))?;
        let is_it = registry::aggregate_result(&agg.func, &args) == Some(agg.data_type);
        holds(is_it, || format!("no {}{args:?} that gives {}", agg.func, agg.data_type))?;
        if let Some(time) = agg.time {
            is_time(input, time)?;
        }
        types.push(agg.data_type);
    }
    Ok(types)
}

pub(crate) fn is_time(input: &[DataType], idx: usize) -> Checked {
    let found = column_type(input, idx)?;
    holds(found == DataType::Time64Ns, || format!("column {idx} is no time but {found}"))
}

fn joined(left: &Relation, right: &Relation, left_on: &[usize], right_on: &[usize]) -> Checked {
    let types = |relation: &Relation, on: &[usize]| -> Result<Vec<DataType>, Broken> {
        let all = relation.types();
        on.iter().map(|&idx| column_type(&all, idx)).collect()
    };
    let is_alike = types(left, left_on)? == types(right, right_on)?;
    holds(is_alike, || "keys of other types on either side".to_string())
}
