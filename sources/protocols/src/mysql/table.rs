//! Columns of a row.

use weir_types::BatchBuilder;
use weir_types::tables::MysqlEventsRow;

use super::types::Command;
use crate::Config;
use crate::protocol::{RowOf, Rows};

/// The row of a command, with what became of it.
pub(super) fn write_row(
    rows: &mut dyn Rows,
    config: &Config,
    command: &Command,
    (resp_status, resp_body): (i64, &[u8]),
    time_unix_ns: i64,
) {
    config.check_fault(&command.body);
    let latency = time_unix_ns.saturating_sub(command.begin_ns).max(0);
    let (body, resp) = (config.shown(&command.body), config.shown(resp_body));
    rows.row(&RowOf::at(time_unix_ns), &mut |builder: &mut BatchBuilder| {
        let row = MysqlEventsRow {
            req_cmd: i64::from(command.code),
            req_body: &body,
            resp_status,
            resp_body: &resp,
            latency,
        };
        row.write(builder);
    });
}
