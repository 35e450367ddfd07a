//! Afterwards no two operators have the same kind, inputs and relation: functions of a view that
//! read one table scan it once.
//!
//! * **Input:** any plan.
//! * **Output:** each operator once.
//! * **Keeps:** outputs and their relations; every row.

use std::collections::{HashMap, HashSet};

use weir_types::{Op, OpId, Plan};

use super::Rebuild;
use super::checked::{Checked, holds};
use crate::budget::Budget;

pub(crate) fn run(plan: Plan, budget: &Budget) -> Plan {
    let mut seen: HashMap<Op, OpId> = HashMap::new();
    let mut rebuild = Rebuild::new(plan.ops.len(), budget);
    for op in &plan.ops {
        if rebuild.is_over() {
            return plan;
        }
        let op = rebuild.renumbered(op);
        let id = match seen.get(&op) {
            Some(&id) => id,
            None => {
                let id = rebuild.push(op.clone());
                seen.insert(op, id);
                id
            }
        };
        rebuild.became(id);
    }
    rebuild.finish(&plan)
}

pub(crate) fn promise(plan: &Plan) -> Checked {
    let mut seen = HashSet::new();
    let twice = plan.ops.iter().position(|op| !seen.insert(op));
    holds(twice.is_none(), || format!("{twice:?} is there twice"))
}
