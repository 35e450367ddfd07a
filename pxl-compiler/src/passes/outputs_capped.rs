//! Afterwards no output holds more rows than `#px:set max_output_rows_per_table` allows: each ends in
//! a limit, which keeps the rows that `head` keeps. Without the pragma there is no such bound.

use weir_types::plan::OpKind;
use weir_types::{Op, Plan};

pub(crate) fn run(mut plan: Plan, rows_max: u64) -> Plan {
    for output in &mut plan.outputs {
        let relation = plan.ops[output.op].relation.clone();
        let kind = OpKind::Limit { rows_max };
        plan.ops.push(Op { kind, inputs: vec![output.op], relation });
        output.op = plan.ops.len() - 1;
    }
    plan
}
