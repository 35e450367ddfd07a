//! The obvious way to cut a plan in two: nodes ship every scanned row, the cluster part does all
//! the rest. It is what the compiler's split is compared with, and what the engine's general
//! operators are tested through without the compiler.

use weir_types::plan::OpKind;
use weir_types::split::{ExchangeId, Fragment, FragmentKind, FragmentOp, Shape, SplitPlan};
use weir_types::{OpId, Plan};

/// Both fragments; each scan is an exchange of whole rows.
#[must_use]
pub fn plain_split(plan: &Plan) -> SplitPlan {
    let hashes = plan.op_hashes();
    let mut split = SplitPlan::default();
    let mut renumbered: Vec<OpId> = Vec::new();
    for (id, op) in plan.ops.iter().enumerate() {
        let fragment_op = |kind, inputs| FragmentOp {
            kind,
            inputs,
            relation: op.relation.clone(),
            hash: hashes[id],
        };
        let cluster_op = match &op.kind {
            OpKind::Scan { window, .. } => {
                let exchange = id as ExchangeId;
                let shape = Shape::Rows { rows_max: None };
                let time = op.relation.time_idx().unwrap_or(usize::MAX);
                let window = *window;
                let scan = split.node.ops.len();
                split.node.ops.push(fragment_op(FragmentKind::Plan(op.kind.clone()), Vec::new()));
                let send = FragmentKind::Send { exchange, shape: shape.clone(), window, time };
                split.node.ops.push(fragment_op(send, vec![scan]));
                let input = op.relation.clone();
                fragment_op(FragmentKind::Receive { exchange, shape, window, input }, Vec::new())
            }
            kind => {
                let inputs = op.inputs.iter().map(|&input| renumbered[input]).collect();
                fragment_op(FragmentKind::Plan(kind.clone()), inputs)
            }
        };
        renumbered.push(split.cluster.ops.len());
        split.cluster.ops.push(cluster_op);
    }
    for output in &plan.outputs {
        push_output(&mut split.cluster, plan, output.op, renumbered[output.op], &output.table);
    }
    split
}

fn push_output(cluster: &mut Fragment, plan: &Plan, op: OpId, input: OpId, table: &str) {
    cluster.ops.push(FragmentOp {
        kind: FragmentKind::Output { table: table.to_string() },
        inputs: vec![input],
        relation: plan.ops[op].relation.clone(),
        hash: 0,
    });
}
