//! Afterwards `df.stream()` marks only what Pixie could stream: row-wise work on a table that goes
//! straight to an output. For us it changes nothing (every view is live); scripts that use it must
//! mean the same in both.

use crate::codes::Code;
use crate::diag::{Diag, Findings};
use crate::ir::{Graph, IrId, IrKind};

pub(crate) fn run(graph: &Graph, findings: &Findings) {
    for (id, op) in graph.ops.iter().enumerate() {
        if !matches!(op.kind, IrKind::Stream) {
            continue;
        }
        let hint = "leave `.stream()` out: every view is live";
        if let Some(name) = blocking_above(graph, id) {
            let message = format!("df.stream() not yet supported with the operator {name}");
            findings.push(Diag::error(Code::StreamUse, op.span, message).hint(hint));
        } else if graph.ops.iter().any(|reader| reader.inputs.contains(&id)) {
            let message = "df.stream() in the middle of a query is not yet implemented";
            findings.push(Diag::error(Code::StreamUse, op.span, message).hint(hint));
        }
    }
}

/// The first operator on the way from the sources that waits for all its rows.
fn blocking_above(graph: &Graph, stream: IrId) -> Option<&'static str> {
    graph.below(stream).skip(1).find_map(|op| match &op.kind {
        IrKind::Aggregate { .. } => Some("Agg"),
        IrKind::Merge(_) => Some("Join"),
        IrKind::Append | IrKind::Unite => Some("Union"),
        IrKind::Limit(_) => Some("Limit"),
        IrKind::TableFunction { .. } => Some("UDTFSource"),
        _ => None,
    })
}
