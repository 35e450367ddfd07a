//! Afterwards no two operators have the same kind, inputs and relation: functions of a view that
//! read one table scan it once.

use std::collections::HashMap;

use weir_types::{Op, OpId, Plan};

use super::Rebuild;

pub(crate) fn run(plan: Plan) -> Plan {
    let mut seen: HashMap<Op, OpId> = HashMap::new();
    let mut rebuild = Rebuild::new(plan.ops.len());
    for op in &plan.ops {
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
