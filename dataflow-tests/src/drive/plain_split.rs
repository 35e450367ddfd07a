//! The obvious way to cut a plan in two: nodes ship every scanned row, the cluster part does all
//! the rest. It is what the compiler's split is compared with, and what the engine's general
//! operators are tested through without the compiler.

use weir_types::plan::OpKind;
use weir_types::shared::Shared;
use weir_types::split::{ClusterPlan, ExchangeId, Shape, Source, SplitPlan, TableScan};
use weir_types::{Op, Plan};

/// Both parts; each scan is a source of whole rows.
#[must_use]
pub fn plain_split(plan: &Plan) -> SplitPlan {
    let mut sources = Vec::new();
    let above = |op: &Op| {
        let kind = op.kind.above_scans().unwrap_or_else(|| {
            sources.push(whole_rows(op));
            OpKind::Scan(sources.len() as ExchangeId - 1)
        });
        Op { kind, inputs: op.inputs.clone(), relation: op.relation.clone() }
    };
    let ops = plan.ops.iter().map(above).collect();
    let cluster = ClusterPlan { version: plan.version, ops, outputs: plan.outputs.clone() };
    SplitPlan { sources, cluster }
}

fn whole_rows(op: &Op) -> Source {
    let OpKind::Scan(scan) = &op.kind else { panic!("all but scans stand above them") };
    Source {
        scan: Shared::new(TableScan { scan: scan.clone(), types: op.relation.types() }),
        steps: Vec::new(),
        time: op.relation.time_idx().unwrap_or(usize::MAX),
        shape: Shape::Rows { rows_max: None },
    }
}
