//! Afterwards no two operators have the same kind, inputs and relation: functions of a view that
//! read one table scan it once.

use std::collections::HashMap;

use weir_types::{Op, OpId, Plan};

use super::Rebuild;
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
