//! From the operator graph to the plan, one pass per file, each named by what holds afterwards.
//!
//! `typed` makes a [`Plan`] from the graph; the others take a plan and give an equal one. "Equal"
//! is by the meaning that `weir_types::plan` defines, with one exception that is part of the
//! language: a filter on unmodified columns goes before a limit (`filters_pushed`).

pub(crate) mod bounds;
pub(crate) mod checked;
pub(crate) mod columns_pruned;
pub(crate) mod constants_folded;
pub(crate) mod contains_dropped;
pub(crate) mod copies_bounded;
pub(crate) mod exports_typed;
pub(crate) mod filters_pushed;
pub(crate) mod late_filters_bounded;
pub(crate) mod limits_pushed;
pub(crate) mod maps_fused;
pub(crate) mod metadata_keys;
pub(crate) mod node_functions_hoisted;
pub(crate) mod outputs_capped;
pub(crate) mod outputs_unique;
pub(crate) mod placement_checked;
pub(crate) mod row_process_bound;
pub(crate) mod streams_checked;
pub(crate) mod subplans_merged;
pub(crate) mod typed;
pub(crate) mod typed_expr;
mod typed_relation;
pub(crate) mod walk;

#[cfg(test)]
mod tests;

use weir_types::plan::OpKind;
use weir_types::{Expr, Op, OpId, Plan};

use self::checked::Checked;
use self::walk::replaced;
use crate::budget::{Budget, Over};
use crate::limits::{EXPR_DEPTH_MAX, EXPR_NODES_MAX, PASS_COLUMNS_MAX};

/// A pass over plans. The file of each begins with what it takes, what it gives and what it keeps.
pub(crate) struct Pass {
    pub(crate) name: &'static str,
    /// When the budget is over it gives any plan: the compile ends.
    run: fn(Plan, &Budget) -> Plan,
    /// What holds of its plan besides what holds of every plan.
    promise: fn(&Plan) -> Checked,
}

impl Pass {
    pub(crate) fn run(&self, plan: Plan, budget: &Budget) -> Plan {
        (self.run)(plan, budget)
    }

    /// Of the plan that it made of `before`.
    pub(crate) fn check(&self, before: &Plan, after: &Plan) -> Checked {
        checked::plan(after)
            .and_then(|()| checked::kept(before, after))
            .and_then(|()| (self.promise)(after))
            .map_err(|broken| format!("after {}: {broken}", self.name))
    }
}

macro_rules! passes {
    ($($module:ident),* $(,)?) => {
        &[$(Pass { name: stringify!($module), run: $module::run, promise: $module::promise }),*]
    };
}

/// In the order in which they run.
pub(crate) const PASSES: &[Pass] = passes![
    row_process_bound,
    subplans_merged,
    contains_dropped,
    filters_pushed,
    limits_pushed,
    columns_pruned,
    maps_fused,
    constants_folded,
    node_functions_hoisted,
    late_filters_bounded,
    columns_pruned,
    subplans_merged,
];

/// Those without which a plan would mean something else.
pub(crate) const LANGUAGE: &[Pass] = passes![row_process_bound, filters_pushed];

/// Operators that need all rows of a group, or more than one input, before they can answer.
pub(crate) fn is_blocking(kind: &OpKind) -> bool {
    !matches!(kind, OpKind::Scan(_) | OpKind::Filter { .. } | OpKind::Map { .. })
}

/// How many operators and outputs read each operator.
pub(crate) fn readers(plan: &Plan) -> Vec<usize> {
    let mut readers = vec![0; plan.ops.len()];
    for op in &plan.ops {
        for &input in &op.inputs {
            readers[input] += 1;
        }
    }
    for output in &plan.outputs {
        readers[output.op] += 1;
    }
    readers
}

/// Per operator: it stands in the branches of unions only, at whatever distance below them.
pub(crate) fn in_branch(plan: &Plan) -> Vec<bool> {
    let mut in_branch = vec![true; plan.ops.len()];
    plan.outputs.iter().for_each(|output| in_branch[output.op] = false);
    for (id, op) in plan.ops.iter().enumerate().rev() {
        let is_on_the_way = op.kind.arity() == Some(1) && in_branch[id];
        if !(matches!(op.kind, OpKind::Union) || is_on_the_way) {
            op.inputs.iter().for_each(|&input| in_branch[input] = false);
        }
    }
    in_branch
}

/// The same plan without the operators that no output reads.
pub(crate) fn reachable(mut plan: Plan) -> Plan {
    plan.drop_unread();
    plan
}

/// Work of copying an operator, and each of its columns.
const COPIED_OP_WORK: usize = 10;
const COPIED_COLUMN_WORK: usize = 5;

/// Builds a plan from another, operator by operator, keeping track of where each went.
pub(crate) struct Rebuild<'b> {
    pub(crate) ops: Vec<Op>,
    moved: Vec<OpId>,
    columns: usize,
    budget: &'b Budget,
}

impl<'b> Rebuild<'b> {
    pub(crate) fn new(capacity: usize, budget: &'b Budget) -> Rebuild<'b> {
        let (ops, moved) = (Vec::with_capacity(capacity), Vec::with_capacity(capacity));
        Rebuild { ops, moved, columns: 0, budget }
    }

    /// True if the pass has to end, whatever its plan is then.
    pub(crate) fn is_over(&self) -> bool {
        self.budget.is_over()
    }

    /// Counts work that makes no operator.
    pub(crate) fn spend(&self, work: usize) -> bool {
        self.budget.spend(work)
    }

    pub(crate) fn push(&mut self, op: Op) -> OpId {
        self.columns += op.relation.len();
        if self.columns > PASS_COLUMNS_MAX {
            self.budget.exceed(Over::Work);
        }
        // A name, an expression and a type are copied for each column.
        self.budget.spend(COPIED_OP_WORK + COPIED_COLUMN_WORK * op.relation.len());
        self.ops.push(op);
        self.ops.len() - 1
    }

    /// Says that the next operator of the old plan became `id`.
    pub(crate) fn became(&mut self, id: OpId) {
        self.moved.push(id);
    }

    /// Where an operator of the old plan went.
    pub(crate) fn moved(&self, old: OpId) -> OpId {
        self.moved[old]
    }

    /// The operator with its inputs renumbered.
    pub(crate) fn renumbered(&self, op: &Op) -> Op {
        let inputs = op.inputs.iter().map(|&input| self.moved[input]).collect();
        Op { kind: op.kind.clone(), inputs, relation: op.relation.clone() }
    }

    pub(crate) fn finish(self, old: &Plan) -> Plan {
        let mut outputs = old.outputs.clone();
        for output in &mut outputs {
            output.op = self.moved[output.op];
        }
        reachable(Plan { version: old.version, ops: self.ops, outputs })
    }
}

/// Calls, columns and constants of an expression.
pub(crate) fn nodes(expr: &Expr) -> usize {
    let mut nodes = 0;
    expr.walk(&mut |_| nodes += 1);
    nodes
}

/// `expr` with each column replaced by an expression.
pub(crate) fn substitute(expr: &Expr, with: &dyn Fn(usize) -> Expr) -> Expr {
    replaced(expr, &|part| match part {
        Expr::Column { idx, .. } => Some(with(*idx)),
        _ => None,
    })
}

/// The same, unless the result has too many nodes or levels.
pub(crate) fn substitute_within(expr: &Expr, exprs: &[Expr]) -> Option<Expr> {
    let mut sizes: Vec<Option<Size>> = vec![None; exprs.len()];
    let size = size_with(expr, &mut |idx| {
        let size = sizes.get(idx).copied().flatten();
        size.unwrap_or_else(|| {
            let size = size_with(&exprs[idx], &mut |_| Size::ONE);
            sizes[idx] = Some(size);
            size
        })
    });
    let fits = size.nodes <= EXPR_NODES_MAX && size.depth <= EXPR_DEPTH_MAX;
    fits.then(|| substitute(expr, &|idx| exprs[idx].clone()))
}

#[derive(Clone, Copy)]
struct Size {
    nodes: usize,
    depth: usize,
}

impl Size {
    const ONE: Size = Size { nodes: 1, depth: 1 };
}

/// The size of an expression in which each column has a size of its own.
fn size_with(expr: &Expr, column: &mut dyn FnMut(usize) -> Size) -> Size {
    match expr {
        Expr::Column { idx, .. } => column(*idx),
        Expr::Literal(_) | Expr::Now { .. } => Size::ONE,
        Expr::Call { args, .. } => {
            let mut size = Size::ONE;
            for arg in args {
                let arg = size_with(arg, column);
                size.nodes = size.nodes.saturating_add(arg.nodes);
                size.depth = size.depth.max(arg.depth + 1);
            }
            size
        }
    }
}

/// True if a call of a function with this placement stands somewhere in it.
pub(crate) fn has_placement(expr: &Expr, wanted: weir_functions::Placement) -> bool {
    let mut found = false;
    expr.walk(&mut |part| {
        if let Expr::Call { func, .. } = part {
            found |= crate::registry::placement(func) == wanted;
        }
    });
    found
}

/// True if the expression must be computed in the cluster part: it calls a function of the cluster
/// part, or reads the clock, whose value changes for rows that a node has long shipped.
pub(crate) fn is_late(expr: &Expr) -> bool {
    let mut found = false;
    expr.walk(&mut |part| found |= is_late_itself(part));
    found
}

/// The same of one part of an expression, whatever its arguments are.
pub(crate) fn is_late_itself(part: &Expr) -> bool {
    match part {
        Expr::Now { .. } => true,
        Expr::Call { func, .. } => {
            crate::registry::placement(func) == weir_functions::Placement::Cluster
        }
        Expr::Column { .. } | Expr::Literal(_) => false,
    }
}

pub(crate) fn op_is_late(op: &Op) -> bool {
    op.kind.expressions().iter().any(is_late)
}

pub(crate) fn op_has_placement(op: &Op, wanted: weir_functions::Placement) -> bool {
    op.kind.expressions().iter().any(|expr| has_placement(expr, wanted))
}
