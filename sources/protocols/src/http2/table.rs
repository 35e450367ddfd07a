//! An exchange as a row of `http_events`.

use weir_types::BatchBuilder;
use weir_types::tables::HttpEventsRow;

use super::exchange::Message;
use crate::Config;
use crate::http1::{ContentKind, write_headers};

const GRPC: i64 = 2;

fn headers(message: &Message, config: &Config) -> Vec<u8> {
    let mut text = Vec::new();
    write_headers(&message.fields.text, &message.fields.lines, &config.redactor, &mut text);
    config.redactor.redact_pii(&mut text, 0);
    text
}

fn size(message: &Message) -> i64 {
    i64::try_from(message.body.size_bytes()).unwrap_or(i64::MAX)
}

/// Writes the columns behind the endpoints'.
pub(super) fn write_columns(
    builder: &mut BatchBuilder,
    request: &Message,
    response: &Message,
    config: &Config,
) {
    let (mut path, mut req_body, mut resp_body) = (Vec::new(), Vec::new(), Vec::new());
    config.redactor.push_url(&mut path, request.path());
    request.body.show(&config.redactor, &mut req_body);
    response.body.show(&config.redactor, &mut resp_body);
    let row = HttpEventsRow {
        major_version: 2,
        minor_version: 0,
        content_type: match request.is_grpc() || response.is_grpc() {
            true => GRPC,
            false => i64::from(response.body.kind() == ContentKind::Json),
        },
        req_headers: &headers(request, config),
        req_method: request.method(),
        req_path: &path,
        req_body: &req_body,
        req_body_size: size(request),
        resp_headers: &headers(response, config),
        resp_status: i64::from(response.fields.status()),
        resp_message: b"",
        resp_body: &resp_body,
        resp_body_size: size(response),
        latency: response.begin_ns.saturating_sub(request.begin_ns).max(0),
    };
    row.write(builder);
}
