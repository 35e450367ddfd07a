//! Afterwards no row stands in a frame, because frames were appended to themselves or joined with such,
//! more often than counts can hold. A union of one frame with itself is no copy but a count: the
//! engine adds it up, and doubling forty times is forty additions; only what is shown is written out.

use crate::codes::Code;
use crate::diag::{Diag, Findings, Span};
use crate::ir::{Graph, IrKind};
use crate::limits::{COPIES_MAX, COPIES_SHOWN_MAX};

pub(crate) fn run(graph: &Graph, findings: &Findings) {
    let mut copies: Vec<u64> = Vec::with_capacity(graph.ops.len());
    for op in &graph.ops {
        let found = match &op.kind {
            IrKind::Append | IrKind::Unite => {
                op.inputs.iter().fold(0, |sum: u64, &id| sum.saturating_add(copies[id]))
            }
            IrKind::Merge(_) => {
                op.inputs.iter().fold(1, |product: u64, &id| product.saturating_mul(copies[id]))
            }
            // A row a group.
            IrKind::Aggregate { .. } => 1,
            // Only so many rows at all.
            IrKind::Limit(rows_max) => copies[op.inputs[0]].min((*rows_max).max(1)),
            _ => op.inputs.first().map_or(1, |&id| copies[id]),
        };
        if found > COPIES_MAX {
            let message = format!(
                "one row would stand in this frame more than {COPIES_MAX} times: it is appended to \
                 itself too often"
            );
            findings.push(Diag::error(Code::CopiesMax, op.span, message).hint(HINT));
            return;
        }
        copies.push(found);
    }
    let shown = graph.sinks.iter().map(|sink| sink.op).chain(graph.exports.iter().map(|e| e.op));
    for id in shown {
        if copies[id] > COPIES_SHOWN_MAX {
            let span = last_append(graph, id);
            let message = format!(
                "what is shown would hold one row {} times; the limit is {COPIES_SHOWN_MAX}",
                copies[id]
            );
            findings.push(Diag::error(Code::CopiesMax, span, message).hint(HINT));
        }
    }
}

const HINT: &str = "append different frames, or multiply a count: `df.n = df.n * 2`";

/// The append that is nearest above an output.
fn last_append(graph: &Graph, id: usize) -> Span {
    let mut at = id;
    loop {
        let op = &graph.ops[at];
        match (&op.kind, op.inputs.first()) {
            (IrKind::Append | IrKind::Unite, _) | (_, None) => return op.span,
            (_, Some(&input)) => at = input,
        }
    }
}
