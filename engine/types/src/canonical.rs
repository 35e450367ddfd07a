//! What a plan *is*: an identity by which views are shared. Two plans have the same one if they compute the
//! same outputs, by the same operators, under the same names; in which order they were built, how their
//! operators are numbered, what nobody reads, what intermediate columns are called and how columns are
//! described is no part of it. Compared by value: hashes only find and order.
//!
//! It does not reason about operators: `a + b` and `b + a` are two plans.

use std::collections::HashMap;
use std::hash::BuildHasher;

use crate::plan::{Op, OpId, OpKind, Plan};
use crate::schema::{Column, Relation};
use crate::value::SemanticType;

/// The identity of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlanIdentity {
    /// In one order, whatever that of the plan: by their height above the scans, then by what they are.
    ops: Vec<Op>,
    /// By name.
    outputs: Vec<Shown>,
}

/// An output as readers see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Shown {
    table: String,
    op: OpId,
    relation: Relation,
}

impl Plan {
    #[must_use]
    pub fn identity(&self) -> PlanIdentity {
        let mut numbering = Numbering { renumbered: vec![None; self.ops.len()], ops: Vec::new() };
        for level in levels(self) {
            numbering.add(self, level);
        }
        let shown = |output: &crate::plan::Output| {
            let columns = self.ops[output.op].relation.columns.iter();
            let column = |column: &Column| {
                Column::new(column.name.clone(), column.data_type, column.semantic)
            };
            Shown {
                table: output.table.clone(),
                op: numbering.renumbered[output.op].unwrap_or(output.op),
                relation: Relation::new(columns.map(column).collect()),
            }
        };
        let mut outputs: Vec<Shown> = self.outputs.iter().map(shown).collect();
        outputs.sort_by(|a, b| a.table.cmp(&b.table));
        PlanIdentity { ops: numbering.ops, outputs }
    }
}

/// The operators that outputs read, by height: each reads only lower ones.
fn levels(plan: &Plan) -> Vec<Vec<OpId>> {
    let used = plan.read();
    let mut heights: Vec<usize> = Vec::with_capacity(plan.ops.len());
    let mut levels: Vec<Vec<OpId>> = Vec::new();
    for (id, op) in plan.ops.iter().enumerate() {
        let height = op.inputs.iter().map(|&input| heights[input] + 1).max().unwrap_or(0);
        heights.push(height);
        if used[id] {
            levels.resize_with(levels.len().max(height + 1), Vec::new);
            levels[height].push(id);
        }
    }
    levels
}

struct Numbering {
    renumbered: Vec<Option<OpId>>,
    ops: Vec<Op>,
}

impl Numbering {
    /// Numbers the operators of a level, equal ones alike.
    fn add(&mut self, plan: &Plan, level: Vec<OpId>) {
        let build = foldhash::fast::FixedState::with_seed(0x5765_6972);
        let mut ops: Vec<(u64, Op, OpId)> = level
            .into_iter()
            .map(|id| {
                let op = self.bare(&plan.ops[id]);
                (build.hash_one(&op), op, id)
            })
            .collect();
        ops.sort_by_key(|(hash, ..)| *hash);
        let mut seen: HashMap<Op, OpId> = HashMap::new();
        for (_, op, id) in ops {
            let next = self.ops.len();
            let number = *seen.entry(op.clone()).or_insert(next);
            if number == next {
                self.ops.push(op);
            }
            self.renumbered[id] = Some(number);
        }
    }

    /// The operator without what does not count.
    fn bare(&self, op: &Op) -> Op {
        let number = |&input: &OpId| self.renumbered[input].unwrap_or(input);
        let mut inputs: Vec<OpId> = op.inputs.iter().map(number).collect();
        if matches!(op.kind, OpKind::Union) {
            inputs.sort_unstable();
        }
        let time = op.relation.time_idx();
        let bare = |(idx, column): (usize, &Column)| {
            // Limits order by the column of this name; no other name is looked at.
            let name = if time == Some(idx) { "time_" } else { "" };
            Column::new(name, column.data_type, SemanticType::None)
        };
        let columns = op.relation.columns.iter().enumerate().map(bare).collect();
        Op { kind: op.kind.clone(), inputs, relation: Relation::new(columns) }
    }
}
