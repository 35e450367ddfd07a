//! Afterwards a filter of the cluster part that stands on a node's path has a filter below it, on the node,
//! with what can be told of its condition from the row alone: rows that it would leave out whatever the
//! cluster part knows are not sent. `role == SERVER or the peer is unknown here` sends no client's row
//! whose peer is known. Between the two may stand maps and filters of the cluster part, whose columns the
//! condition reads: what they compute is put in their place.
//!
//! * **Input:** any plan; functions of nodes stand below the cluster part's (`node_functions_hoisted`).
//! * **Output:** the same filters, some with another one below.
//! * **Keeps:** outputs and their relations; every row behind the filters.

use weir_types::plan::OpKind;
use weir_types::{Expr, Op, OpId, Plan};

use super::bounds::{bounds, is_constant, is_of_row_alone};
use super::checked::Checked;
use super::walk::is_row_wise;
use super::{Rebuild, is_late, nodes, op_is_late, readers, substitute_within};
use crate::budget::Budget;

pub(crate) fn run(plan: Plan, budget: &Budget) -> Plan {
    let readers = readers(&plan);
    let mut bounded = Bounded {
        rebuild: Rebuild::new(plan.ops.len(), budget),
        on_nodes: Vec::new(),
        shared: Vec::new(),
    };
    for (old, op) in plan.ops.iter().enumerate() {
        if bounded.rebuild.is_over() {
            return plan;
        }
        let op = bounded.rebuild.renumbered(op);
        let id = match &op.kind {
            OpKind::Filter { predicate } => {
                let input = bounded.filtered(op.inputs[0], predicate);
                bounded.push(Op { inputs: vec![input], ..op })
            }
            _ => bounded.push(op),
        };
        bounded.shared[id] |= readers[old] > 1;
        bounded.rebuild.became(id);
    }
    bounded.rebuild.finish(&plan)
}

struct Bounded<'b> {
    rebuild: Rebuild<'b>,
    /// Per rebuilt operator: nodes run it.
    on_nodes: Vec<bool>,
    /// It has several readers: it is not worth computing twice.
    shared: Vec<bool>,
}

impl Bounded<'_> {
    fn push(&mut self, op: Op) -> OpId {
        let on_node = match op.inputs.as_slice() {
            [] => matches!(op.kind, OpKind::Scan(_)),
            &[input] => self.on_nodes[input] && is_row_wise(&op.kind) && !op_is_late(&op),
            _ => false,
        };
        self.on_nodes.push(on_node);
        self.shared.push(false);
        self.rebuild.push(op)
    }

    /// What a filter is to stand on in place of `input`.
    fn filtered(&mut self, input: OpId, predicate: &Expr) -> OpId {
        let is_on_node = self.on_nodes[input] && !is_late(predicate);
        if is_on_node || !self.rebuild.spend(nodes(predicate)) {
            return input;
        }
        let Some((between, at, known)) = self.on_node_below(input, predicate) else { return input };
        let Some(predicate) = bounds(&known, &is_of_row_alone).upper else { return input };
        let below = self.rebuild.ops[at].clone();
        let kind = OpKind::Filter { predicate };
        // A filter that is there twice is of no use.
        if is_of_constant(&kind) || below.kind == kind {
            return input;
        }
        let mut id = self.push(Op { kind, inputs: vec![at], relation: below.relation });
        for op in between.into_iter().rev() {
            let op = self.rebuild.ops[op].clone();
            id = self.push(Op { inputs: vec![id], ..op });
        }
        id
    }

    /// The first operator from `from` down that nodes run, those of the cluster part above it, and the condition in
    /// terms of its columns.
    fn on_node_below(&self, from: OpId, predicate: &Expr) -> Option<(Vec<OpId>, OpId, Expr)> {
        let (mut between, mut at, mut known) = (Vec::new(), from, predicate.clone());
        while !self.on_nodes[at] {
            let op = &self.rebuild.ops[at];
            if self.shared[at] || !self.rebuild.spend(nodes(&known) + op.relation.len()) {
                return None;
            }
            known = match &op.kind {
                OpKind::Map { exprs } => substitute_within(&known, exprs)?,
                OpKind::Filter { .. } => known,
                _ => return None,
            };
            between.push(at);
            at = op.inputs[0];
        }
        Some((between, at, known))
    }
}

fn is_of_constant(kind: &OpKind) -> bool {
    matches!(kind, OpKind::Filter { predicate } if is_constant(predicate))
}

/// Nothing besides: how much can be told of a condition is not for a check to say.
pub(crate) fn promise(_plan: &Plan) -> Checked {
    Ok(())
}
