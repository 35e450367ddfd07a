//! Columns of a row.

use weir_types::BatchBuilder;
use weir_types::tables::MqttEventsRow;

use super::stitch::Done;
use crate::protocol::{RowOf, Rows};

/// The row of a packet with its answer; nothing answers a one-way packet.
pub(super) fn write_row(row: &Done, rows: &mut dyn Rows) {
    let Done { request, begin_ns, answer } = row;
    let time_unix_ns = answer.as_ref().map_or(*begin_ns, |(_, answer_ns)| *answer_ns);
    let latency = time_unix_ns.saturating_sub(*begin_ns).max(0);
    let (resp_type, resp_body) = match answer {
        Some((answer, _)) => (i64::from(answer.kind), answer.body.as_slice()),
        None => (0, &[][..]),
    };
    rows.row(&RowOf::at(time_unix_ns), &mut |builder: &mut BatchBuilder| {
        let (req_type, req_body) = (i64::from(request.kind), &request.body);
        MqttEventsRow { req_type, req_body, resp_type, resp_body, latency }.write(builder);
    });
}
