//! An exchange as a row of `http_events`.

use weir_types::BatchBuilder;

use super::body::ContentKind;
use super::types::{Exchange, Message};
use crate::columns::{ENDPOINT_COLUMNS, Endpoints};
use crate::redact::Redactor;

/// The columns behind the endpoints', in the registry's order.
#[cfg(test)]
pub(super) const COLUMNS: [&str; 14] = [
    "major_version",
    "minor_version",
    "content_type",
    "req_headers",
    "req_method",
    "req_path",
    "req_body",
    "req_body_size",
    "resp_headers",
    "resp_status",
    "resp_message",
    "resp_body",
    "resp_body_size",
    "latency",
];

/// Appends the row. `scratch` is storage for bodies, used again from row to row.
pub fn append_row(
    builder: &mut BatchBuilder,
    endpoints: &Endpoints<'_>,
    exchange: &Exchange<'_>,
    redactor: &Redactor,
    scratch: &mut Vec<u8>,
) {
    endpoints.append(builder);
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
    let first = ENDPOINT_COLUMNS;
    builder.int64(first, 1);
    builder.int64(first + 1, i64::from(request.minor_version));
    builder.int64(first + 2, i64::from(response.body.kind() == ContentKind::Json));
    builder.string(first + 3, &request.headers);
    builder.string(first + 4, &request.method);
    builder.string(first + 5, &request.path);
    builder.string(first + 6, shown(request, redactor, scratch));
    builder.int64(first + 7, size(request));
    builder.string(first + 8, &response.headers);
    builder.int64(first + 9, i64::from(response.status));
    builder.string(first + 10, &response.reason);
    builder.string(first + 11, shown(response, redactor, scratch));
    builder.int64(first + 12, size(response));
    builder.int64(first + 13, exchange.latency_ns());
}

fn shown<'a>(message: &Message, redactor: &Redactor, scratch: &'a mut Vec<u8>) -> &'a [u8] {
    scratch.clear();
    message.body.show(redactor, scratch);
    scratch
}

fn size(message: &Message) -> i64 {
    i64::try_from(message.body.size_bytes()).unwrap_or(i64::MAX)
}
