//! Columns of a row.

use weir_types::BatchBuilder;
use weir_types::tables::MysqlEventsRow;

use super::types::Command;
use crate::Config;
use crate::protocol::{RowOf, Rows};
use crate::redact::REDACTED;

/// Appends a statement as rows show it, without passwords.
pub(super) fn push_statement(config: &Config, out: &mut Vec<u8>, statement: &[u8]) {
    let shown = crate::json_text::cut(statement, config.body_bytes_max);
    let redacted = match config.redactor.hides_nothing() {
        true => None,
        false => crate::sql_secrets::redacted(shown),
    };
    out.extend_from_slice(redacted.as_deref().unwrap_or(shown));
}

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
    let (body, resp) = (shown(config, &command.body), shown(config, resp_body));
    let of = RowOf { table: 0, time_unix_ns, requests: None, peer: None };
    rows.row(&of, &mut |builder: &mut BatchBuilder| {
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

fn shown(config: &Config, text: &[u8]) -> Vec<u8> {
    if config.redactor.hides_bodies() && !text.is_empty() {
        return REDACTED.as_bytes().to_vec();
    }
    let mut shown = crate::json_text::cut(text, 4 * config.body_bytes_max).to_vec();
    config.redactor.redact_pii(&mut shown, 0);
    shown
}
