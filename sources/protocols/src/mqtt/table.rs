//! Columns of a row.

use weir_types::BatchBuilder;
use weir_types::tables::MqttEventsRow;

use super::types::Kept;
use crate::Config;
use crate::protocol::{RowOf, Rows};

/// The row of a packet with its answer; nothing answers a one-way packet.
pub(super) fn write_row(
    rows: &mut dyn Rows,
    config: &Config,
    request: &Kept,
    begin_ns: i64,
    answer: Option<(&Kept, i64)>,
) {
    config.check_fault(&request.body);
    let time_unix_ns = answer.map_or(begin_ns, |(_, answer_ns)| answer_ns);
    let latency = time_unix_ns.saturating_sub(begin_ns).max(0);
    let (resp_type, resp_body) =
        answer.map_or((0, &b"{}"[..]), |(answer, _)| (i64::from(answer.kind), &answer.body));
    let of = RowOf { table: 0, time_unix_ns, requests: None, peer: None };
    rows.row(&of, &mut |builder: &mut BatchBuilder| {
        let (req_type, req_body) = (i64::from(request.kind), &request.body);
        MqttEventsRow { req_type, req_body, resp_type, resp_body, latency }.write(builder);
    });
}
