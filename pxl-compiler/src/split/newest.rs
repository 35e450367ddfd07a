//! How much of its rows is enough of each operator: of what limits alone read, the newest.
//!
//! A limit of n by event time needs the newest n of what it reads. What stands between it and a node's path
//! may not lose rows, or the n newest there are not n here: a map and a union lose none, a left join none of
//! its left side. A filter does. Of those rows that pass it whatever the cluster part knows (their condition
//! is a lower bound of the filter's) the newest n are enough still, with whatever is newer.

use weir_types::plan::{JoinKind, OpKind, Side};
use weir_types::{Expr, Op, OpId, Plan};

use super::paths::Paths;
use crate::limits::EXPR_NODES_MAX;
use crate::passes::bounds::{and, bounds, is_of_row_alone};
use crate::passes::walk::passed_from;
use crate::passes::{nodes, substitute_within};

/// What readers want of an operator's rows.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Wanted {
    All,
    Newest(Newest),
}

/// The newest `rows_max` of those rows that reach a limit, and those newer than them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Newest {
    pub(super) rows_max: u64,
    /// The column by which they are new.
    time: usize,
    /// Rows of which it is true reach the limit. `None`: all do.
    pub(super) certain: Option<Expr>,
}

impl Newest {
    /// Of an operator's one input, above which nothing but the operator stands.
    fn below(self, op: &Op) -> Option<Newest> {
        let time = passed_from(&op.kind, self.time)?;
        let certain = match (&op.kind, self.certain) {
            (OpKind::Filter { predicate }, None) => Some(predicate.clone()),
            (OpKind::Filter { predicate }, Some(certain)) => Some(and(certain, predicate.clone())),
            (OpKind::Map { exprs }, Some(certain)) => Some(substitute_within(&certain, exprs)?),
            (_, certain) => certain,
        };
        let is_small = certain.iter().all(|certain| nodes(certain) <= EXPR_NODES_MAX);
        is_small.then_some(Newest { rows_max: self.rows_max, time, certain })
    }

    /// Of the left side of a join that keeps each of its rows.
    fn left_of(self, columns: &[(Side, usize)]) -> Option<Newest> {
        let left = |idx: usize| match columns.get(idx) {
            Some((Side::Left, idx)) => Some(*idx),
            _ => None,
        };
        let is_left = |part: &Expr| match part {
            Expr::Column { idx, .. } => left(*idx).is_some(),
            _ => true,
        };
        let certain = match self.certain {
            None => None,
            Some(certain) => {
                let of_left = bounds(&certain, &is_left).lower?;
                Some(of_left.with_columns(&|idx| left(idx).unwrap_or(idx)))
            }
        };
        Some(Newest { rows_max: self.rows_max, time: left(self.time)?, certain })
    }

    /// What is enough for both.
    fn with(self, other: Newest) -> Option<Newest> {
        let certain = match (self.certain, other.certain) {
            (Some(a), Some(b)) if a == b => Some(a),
            (Some(a), Some(b)) => Some(and(a, b)),
            (a, b) => a.or(b),
        };
        let rows_max = self.rows_max.max(other.rows_max);
        (self.time == other.time).then_some(Newest { rows_max, time: self.time, certain })
    }
}

/// Per operator that nodes run: what the cluster part wants of it. `None`: nobody reads it as rows.
pub(super) fn wanted(plan: &Plan, paths: &Paths<'_>) -> Vec<Option<Wanted>> {
    let mut wanted: Vec<Option<Wanted>> = vec![None; plan.ops.len()];
    plan.outputs.iter().for_each(|output| wanted[output.op] = Some(Wanted::All));
    for (id, op) in plan.ops.iter().enumerate().rev() {
        if paths.get(id).is_some() {
            continue;
        }
        for (side, &input) in op.inputs.iter().enumerate() {
            let is_partial =
                matches!(op.kind, OpKind::Aggregate { .. }) && paths.get(input).is_some();
            if !is_partial {
                let new = of_input(plan, op, side, wanted[id].as_ref());
                wanted[input] = Some(both(wanted[input].take(), new));
            }
        }
    }
    for (id, wanted) in wanted.iter_mut().enumerate() {
        if paths.get(id).is_some()
            && let Some(Wanted::Newest(newest)) = wanted.take_if(|wanted| *wanted != Wanted::All)
        {
            *wanted = Some(on_node(paths, id, newest).map_or(Wanted::All, Wanted::Newest));
        }
    }
    wanted
}

/// What an operator wants of its input number `side`, when so much is wanted of itself.
fn of_input(plan: &Plan, op: &Op, side: usize, of_op: Option<&Wanted>) -> Wanted {
    let newest = match of_op {
        Some(Wanted::Newest(newest)) => Some(newest.clone()),
        Some(Wanted::All) | None => None,
    };
    let of_input = match &op.kind {
        OpKind::Limit { rows_max } => {
            let time = plan.ops[op.inputs[0]].relation.time_idx();
            time.map(|time| Newest { rows_max: *rows_max, time, certain: None })
        }
        OpKind::Filter { .. } | OpKind::Map { .. } => newest.and_then(|newest| newest.below(op)),
        OpKind::Union => newest,
        OpKind::Join { how: JoinKind::Left, columns, .. } if side == 0 => {
            newest.and_then(|newest| newest.left_of(columns))
        }
        _ => None,
    };
    of_input.map_or(Wanted::All, Wanted::Newest)
}

fn both(have: Option<Wanted>, new: Wanted) -> Wanted {
    match (have, new) {
        (None, new) => new,
        (Some(Wanted::Newest(a)), Wanted::Newest(b)) => {
            a.with(b).map_or(Wanted::All, Wanted::Newest)
        }
        _ => Wanted::All,
    }
}

/// As a node can tell it.
fn on_node(paths: &Paths<'_>, id: OpId, newest: Newest) -> Option<Newest> {
    if !paths.is_newest_first(id, newest.time) {
        return None;
    }
    let certain = match newest.certain {
        None => None,
        Some(certain) => Some(bounds(&certain, &is_of_row_alone).lower?),
    };
    Some(Newest { certain, ..newest })
}
