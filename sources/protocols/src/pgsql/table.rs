//! Columns of a row.

use weir_types::BatchBuilder;
use weir_types::tables::PgsqlEventsRow;

use super::types::Request;
use crate::Config;
use crate::protocol::{RowOf, Rows};

/// The row of a request with its response.
pub(super) fn write_row(
    rows: &mut dyn Rows,
    config: &Config,
    request: &Request,
    response: &[u8],
    time_unix_ns: i64,
) {
    config.check_fault(&request.text);
    let latency = time_unix_ns.saturating_sub(request.begin_ns).max(0);
    let (req, resp) = (config.shown(&request.text), config.shown(response));
    let req_cmd = request.kind.name().as_bytes();
    rows.row(&RowOf::at(time_unix_ns), &mut |builder: &mut BatchBuilder| {
        PgsqlEventsRow { req_cmd, req: &req, resp: &resp, latency }.write(builder);
    });
}

/// The row of a notification.
pub(super) fn write_notification(
    rows: &mut dyn Rows,
    config: &Config,
    text: &[u8],
    time_unix_ns: i64,
) {
    let resp = config.shown(text);
    rows.push_row(&RowOf::at(time_unix_ns), &mut |builder: &mut BatchBuilder| {
        let req_cmd = b"NotificationResponse";
        PgsqlEventsRow { req_cmd, req: b"", resp: &resp, latency: 0 }.write(builder);
    });
}
