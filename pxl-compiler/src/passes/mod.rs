//! From the operator graph to the plan, one pass per file, each named by what holds afterwards.
//!
//! `typed` makes a [`Plan`] from the graph; the others take a plan and give an equal one. "Equal"
//! is by the meaning that `weir_types::plan` defines, with one exception that is part of the
//! language: a filter on unmodified columns goes before a limit (`filters_pushed`).

pub(crate) mod columns_pruned;
pub(crate) mod constants_folded;
pub(crate) mod contains_dropped;
pub(crate) mod copies_bounded;
pub(crate) mod exports_typed;
pub(crate) mod filters_pushed;
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

use weir_types::plan::OpKind;
use weir_types::{Expr, Op, OpId, Plan};

use crate::budget::{Budget, Over};
use crate::limits::{EXPR_DEPTH_MAX, EXPR_NODES_MAX, PASS_COLUMNS_MAX};

/// A pass over plans. When the budget is over it gives any plan: the compile ends.
type Pass = fn(Plan, &Budget) -> Plan;

/// In the order in which they run.
pub(crate) const PASSES: &[(&str, Pass)] = &[
    ("row_process_bound", row_process_bound::run),
    ("subplans_merged", subplans_merged::run),
    ("contains_dropped", contains_dropped::run),
    ("filters_pushed", filters_pushed::run),
    ("limits_pushed", limits_pushed::run),
    ("columns_pruned", columns_pruned::run),
    ("maps_fused", maps_fused::run),
    ("constants_folded", constants_folded::run),
    ("node_functions_hoisted", node_functions_hoisted::run),
    ("columns_pruned", columns_pruned::run),
    ("subplans_merged", subplans_merged::run),
];

/// Those without which a plan would mean something else.
pub(crate) const LANGUAGE: &[(&str, Pass)] =
    &[("row_process_bound", row_process_bound::run), ("filters_pushed", filters_pushed::run)];

/// Operators that need all rows of a group, or more than one input, before they can answer.
pub(crate) fn is_blocking(kind: &OpKind) -> bool {
    !matches!(kind, OpKind::Scan { .. } | OpKind::Filter { .. } | OpKind::Map { .. })
}

/// The row expressions of an operator.
pub(crate) fn expressions(kind: &OpKind) -> &[Expr] {
    match kind {
        OpKind::Filter { predicate } => std::slice::from_ref(predicate),
        OpKind::Map { exprs } => exprs,
        _ => &[],
    }
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

/// The same plan without the operators that no output reads.
pub(crate) fn reachable(plan: Plan) -> Plan {
    let mut used = vec![false; plan.ops.len()];
    for output in &plan.outputs {
        used[output.op] = true;
    }
    for id in (0..plan.ops.len()).rev() {
        if used[id] {
            for &input in &plan.ops[id].inputs {
                used[input] = true;
            }
        }
    }
    let mut renumbered: Vec<OpId> = vec![0; plan.ops.len()];
    let mut ops: Vec<Op> = Vec::new();
    for (id, mut op) in plan.ops.into_iter().enumerate() {
        if used[id] {
            for input in &mut op.inputs {
                *input = renumbered[*input];
            }
            renumbered[id] = ops.len();
            ops.push(op);
        }
    }
    let mut outputs = plan.outputs;
    for output in &mut outputs {
        output.op = renumbered[output.op];
    }
    Plan { version: plan.version, ops, outputs }
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
    match expr {
        Expr::Column { idx, .. } => with(*idx),
        Expr::Call { func, args, data_type } => Expr::Call {
            func: func.clone(),
            args: args.iter().map(|arg| substitute(arg, with)).collect(),
            data_type: *data_type,
        },
        Expr::Literal(_) | Expr::Now { .. } => expr.clone(),
    }
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
    let mut reads_clock = false;
    expr.walk(&mut |part| reads_clock |= matches!(part, Expr::Now { .. }));
    reads_clock || has_placement(expr, weir_functions::Placement::Cluster)
}

pub(crate) fn op_is_late(op: &Op) -> bool {
    expressions(&op.kind).iter().any(is_late)
}

pub(crate) fn op_has_placement(op: &Op, wanted: weir_functions::Placement) -> bool {
    expressions(&op.kind).iter().any(|expr| has_placement(expr, wanted))
}

/// All columns of a relation, unchanged: the beginning of a map that adds or drops some.
pub(crate) fn passed(relation: &weir_types::Relation) -> Vec<Expr> {
    let columns = relation.columns.iter().enumerate();
    columns.map(|(idx, column)| Expr::Column { idx, data_type: column.data_type }).collect()
}
