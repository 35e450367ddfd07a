//! Columns of a row.

use weir_types::BatchBuilder;
use weir_types::tables::CqlEventsRow;

use super::types::Said;
use crate::protocol::{Context, RowOf};

/// The row of a request and its response, which began then.
pub(super) fn write_row(
    asked: &Said,
    answer: &Said,
    (request_ns, response_ns): (i64, i64),
    ctx: &mut Context<'_>,
) {
    let latency = response_ns.saturating_sub(request_ns).max(0);
    let (body, resp) = (ctx.config.shown(&asked.text), ctx.config.shown(&answer.text));
    ctx.rows.row(&RowOf::at(response_ns), &mut |builder: &mut BatchBuilder| {
        let row = CqlEventsRow {
            req_op: i64::from(asked.opcode),
            req_body: &body,
            resp_op: i64::from(answer.opcode),
            resp_body: &resp,
            latency,
        };
        row.write(builder);
    });
}
