//! Exchanges as rows: numbers only.

use weir_types::BatchBuilder;
use weir_types::tables::MuxEventsRow;

use super::types::Done;
use crate::protocol::{RowOf, Rows};

pub(super) fn write_row(done: &Done, rows: &mut dyn Rows) {
    rows.row(&RowOf::at(done.time_unix_ns), &mut |builder: &mut BatchBuilder| {
        let row = MuxEventsRow {
            req_type: i64::from(done.asked),
            latency: done.latency_ns,
            resp_type: i64::from(done.answer),
            tag: i64::from(done.tag),
        };
        row.write(builder);
    });
}
