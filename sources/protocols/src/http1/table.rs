//! An exchange as a row of `http_events`.

use weir_types::BatchBuilder;
use weir_types::tables::HttpEventsRow;

use super::body::ContentKind;
use super::types::{Exchange, Message};
use crate::columns::Endpoints;
use crate::redact::Redactor;

/// Appends the row. `scratch` is storage for bodies, used again from row to row.
pub fn append_row(
    builder: &mut BatchBuilder,
    endpoints: &Endpoints<'_>,
    exchange: &Exchange<'_>,
    redactor: &Redactor,
    scratch: &mut Vec<u8>,
) {
    endpoints.write(builder);
    write_columns(builder, exchange, redactor, scratch);
    builder.end_row();
}

/// Writes the columns behind the endpoints'.
pub(super) fn write_columns(
    builder: &mut BatchBuilder,
    exchange: &Exchange<'_>,
    redactor: &Redactor,
    scratch: &mut Vec<u8>,
) {
    let Exchange { request, response } = exchange;
    scratch.clear();
    request.body.show(redactor, scratch);
    let request_bytes = scratch.len();
    response.body.show(redactor, scratch);
    let (req_body, resp_body) = scratch.split_at(request_bytes);
    let row = HttpEventsRow {
        major_version: 1,
        minor_version: i64::from(request.minor_version),
        content_type: i64::from(response.body.kind() == ContentKind::Json),
        req_headers: &request.headers,
        req_method: &request.method,
        req_path: &request.path,
        req_body,
        req_body_size: size(request),
        resp_headers: &response.headers,
        resp_status: i64::from(response.status),
        resp_message: &response.reason,
        resp_body,
        resp_body_size: size(response),
        latency: exchange.latency_ns(),
    };
    row.write(builder);
}

fn size(message: &Message) -> i64 {
    i64::try_from(message.body.size_bytes()).unwrap_or(i64::MAX)
}
