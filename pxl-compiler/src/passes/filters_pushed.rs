//! Afterwards each filter stands as near to its source as it can: below other filters, below maps
//! that only pass or rename its columns, below aggregates if it reads group columns only, into the
//! branches of unions.
//!
//! It also goes below limits, which changes what they hold: `df.head(5)` and then a filter on
//! unmodified columns means filter, then head. That is the language (reference, A.2). A union on the
//! way ends this: a filter behind it does not reach into the limits of its branches.
//!
//! * **Input:** any plan; equal operators are one (`subplans_merged`), so that readers are counted right.
//! * **Output:** no filter right above a limit, but in the branches of unions.
//! * **Keeps:** outputs and their relations; rows as the language means them.

use weir_functions::Placement;
use weir_types::plan::OpKind;
use weir_types::{Expr, Op, OpId, Plan};

use super::checked::{Checked, holds};
use super::{Rebuild, in_branch, is_late, nodes, op_has_placement, readers, walk};
use crate::budget::Budget;

pub(crate) fn run(plan: Plan, budget: &Budget) -> Plan {
    let readers = readers(&plan);
    let mut rebuild = Rebuild::new(plan.ops.len(), budget);
    // Readers of the rebuilt operators, as far as they stand for old ones.
    let mut shared: Vec<bool> = Vec::new();
    for (old, op) in plan.ops.iter().enumerate() {
        if rebuild.is_over() {
            return plan;
        }
        let op = rebuild.renumbered(op);
        let id = match &op.kind {
            OpKind::Filter { predicate } => {
                let mut push = Push { rebuild: &mut rebuild, shared: &shared };
                let input = op.inputs[0];
                let depth = push.depth(input, predicate);
                push.filter(input, predicate.clone(), depth)
            }
            _ => rebuild.push(op),
        };
        shared.resize(rebuild.ops.len(), false);
        shared[id] |= readers[old] > 1;
        rebuild.became(id);
    }
    rebuild.finish(&plan)
}

struct Push<'a, 'b> {
    rebuild: &'a mut Rebuild<'b>,
    shared: &'a [bool],
}

/// What lies below an operator for a filter above it.
enum Below {
    /// The filter may go there, in these terms.
    Filter(Expr),
    Stop,
}

impl Push<'_, '_> {
    fn below(&self, op: &Op, predicate: &Expr) -> Below {
        let cluster = is_late(predicate);
        match &op.kind {
            OpKind::Map { .. } if cluster && op_has_placement(op, Placement::Node) => Below::Stop,
            // Without groups there is a row even where no row passes the filter. What is computed in
            // the cluster part stays there: below, it would keep the node from aggregating.
            OpKind::Aggregate { group, .. } if group.is_empty() || cluster => Below::Stop,
            kind => walk::below(kind, predicate).map_or(Below::Stop, Below::Filter),
        }
    }

    /// How many operators the filter passes, from `op` down. An operator that others read, too, is
    /// not worth computing twice, unless a limit lies at or below it.
    fn depth(&self, op: OpId, predicate: &Expr) -> usize {
        let (mut at, mut predicate) = (op, predicate.clone());
        let (mut depth, mut wanted) = (0, 0);
        let mut free = true;
        let nodes = nodes(&predicate);
        loop {
            let op = &self.rebuild.ops[at];
            if !self.rebuild.spend(nodes) {
                break;
            }
            let Below::Filter(below) = self.below(op, &predicate) else { break };
            free &= !self.shared.get(at).copied().unwrap_or(false);
            depth += 1;
            if free || matches!(op.kind, OpKind::Limit { .. }) {
                wanted = depth;
            }
            at = op.inputs[0];
            predicate = below;
        }
        wanted
    }

    /// `op` filtered: the filter `depth` operators further down, copies of these above it.
    fn filter(&mut self, op: OpId, predicate: Expr, depth: usize) -> OpId {
        let (mut at, mut predicate) = (op, predicate);
        let mut above: Vec<Op> = Vec::new();
        let nodes = nodes(&predicate);
        for _ in 0..depth {
            let op = self.rebuild.ops[at].clone();
            if !self.rebuild.spend(nodes + op.relation.len()) {
                break;
            }
            let Below::Filter(below) = self.below(&op, &predicate) else { break };
            at = op.inputs[0];
            above.push(op);
            predicate = below;
        }
        let mut id = self.placed(at, predicate);
        while let Some(mut op) = above.pop() {
            op.inputs = vec![id];
            id = self.rebuild.push(op);
        }
        id
    }

    /// A filter right above `op`, or in each branch of it if it is a union that only this filter
    /// reads.
    fn placed(&mut self, op: OpId, predicate: Expr) -> OpId {
        let below = self.rebuild.ops[op].clone();
        let free = !self.shared.get(op).copied().unwrap_or(false);
        if matches!(below.kind, OpKind::Union) && free {
            let inputs = below.inputs.iter().map(|&input| self.branch(input, &predicate)).collect();
            return self.rebuild.push(Op { inputs, ..below });
        }
        let relation = below.relation;
        let kind = OpKind::Filter { predicate };
        self.rebuild.push(Op { kind, inputs: vec![op], relation })
    }

    /// A filter above a union's branch: down to its first limit at most.
    fn branch(&mut self, op: OpId, predicate: &Expr) -> OpId {
        let (mut at, mut below) = (op, predicate.clone());
        let mut depth = 0;
        let nodes = nodes(predicate);
        loop {
            let op = &self.rebuild.ops[at];
            if !self.rebuild.spend(nodes) {
                break;
            }
            let stop = matches!(op.kind, OpKind::Limit { .. })
                || self.shared.get(at).copied().unwrap_or(false);
            let Below::Filter(next) = self.below(op, &below) else { break };
            if stop {
                break;
            }
            depth += 1;
            at = op.inputs[0];
            below = next;
        }
        if depth == 0 {
            let relation = self.rebuild.ops[op].relation.clone();
            let kind = OpKind::Filter { predicate: predicate.clone() };
            return self.rebuild.push(Op { kind, inputs: vec![op], relation });
        }
        self.filter(op, predicate.clone(), depth)
    }
}

pub(crate) fn promise(plan: &Plan) -> Checked {
    let in_branch = in_branch(plan);
    for (id, op) in plan.ops.iter().enumerate() {
        let OpKind::Filter { .. } = &op.kind else { continue };
        let is_above = matches!(plan.ops[op.inputs[0]].kind, OpKind::Limit { .. });
        holds(!is_above || in_branch[id], || format!("%{id} filters what was limited"))?;
    }
    Ok(())
}
