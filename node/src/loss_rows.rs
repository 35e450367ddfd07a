//! The ledger as rows: `data_loss` for those who count, `stirling_error` for those who look for what
//! went wrong. Rows tell what was added since the last row of their table and reason; they come at
//! most every second and every ten seconds each, and none comes while nothing is lost.

use std::collections::BTreeMap;

use weir_types::ledger::{self, NodeLedger, Unit};
use weir_types::tables::{
    DataLoss, DataLossRow, StirlingError, StirlingErrorRow, Table, TableBuilder,
};
use weir_types::{RecordBatch, Upid};

/// Tables that this module fills.
pub const TABLES: &[&str] = &[DataLoss::DEF.name, StirlingError::DEF.name];
/// `stirling_error.status`: a resource was not available.
const STATUS_RESOURCE_UNAVAILABLE: i64 = 11;
const DATA_LOSS_EVERY_NS: i64 = 1_000_000_000;
const ERROR_EVERY_NS: i64 = 10_000_000_000;

/// What one of the tables said last.
#[derive(Clone, Copy, Default)]
struct Said {
    total: u64,
    at_unix_ns: i64,
}

pub(crate) struct LossRows {
    upid: Upid,
    since_unix_ns: i64,
    /// Of the ledger, when rows were made last.
    version: u64,
    /// Something was left for later.
    owes: bool,
    said: BTreeMap<(String, String), [Said; 2]>,
    losses: TableBuilder<DataLoss>,
    errors: TableBuilder<StirlingError>,
}

impl LossRows {
    pub(crate) fn new(upid: Upid, since_unix_ns: i64) -> LossRows {
        LossRows {
            upid,
            since_unix_ns,
            version: 0,
            owes: false,
            said: BTreeMap::new(),
            losses: TableBuilder::new(),
            errors: TableBuilder::new(),
        }
    }

    /// What there is to say at `now_unix_ns`.
    pub(crate) fn rows(
        &mut self,
        ledger: &NodeLedger,
        now_unix_ns: i64,
    ) -> Vec<(&'static str, RecordBatch)> {
        let version = ledger.version();
        if version == self.version && !self.owes {
            return Vec::new();
        }
        self.version = version;
        self.owes = false;
        for (table, reasons) in ledger.totals() {
            for (reason, total) in reasons {
                let never = [Said { total: 0, at_unix_ns: i64::MIN }; 2];
                let said = self.said.entry((table.clone(), reason.clone())).or_insert(never);
                let every = [DATA_LOSS_EVERY_NS, ERROR_EVERY_NS];
                for (idx, (said, every_ns)) in said.iter_mut().zip(every).enumerate() {
                    let count = total.saturating_sub(said.total);
                    if count == 0 {
                        continue;
                    }
                    if now_unix_ns.saturating_sub(said.at_unix_ns) < every_ns {
                        self.owes = true;
                        continue;
                    }
                    let since_unix_ns = said.at_unix_ns.max(self.since_unix_ns);
                    *said = Said { total, at_unix_ns: now_unix_ns };
                    let row = Row {
                        table: &table,
                        reason: &reason,
                        since_unix_ns,
                        count,
                        upid: self.upid,
                        now_unix_ns,
                    };
                    match idx {
                        0 => row.data_loss(&mut self.losses),
                        _ => row.stirling_error(&mut self.errors),
                    }
                }
            }
        }
        let mut batches = Vec::new();
        if self.losses.rows() > 0 {
            batches.push((DataLoss::DEF.name, self.losses.finish()));
        }
        if self.errors.rows() > 0 {
            batches.push((StirlingError::DEF.name, self.errors.finish()));
        }
        batches
    }
}

struct Row<'a> {
    table: &'a str,
    reason: &'a str,
    since_unix_ns: i64,
    count: u64,
    upid: Upid,
    now_unix_ns: i64,
}

impl Row<'_> {
    fn unit(&self) -> &'static str {
        ledger::reason(self.reason).map_or(Unit::Events, |reason| reason.unit).name()
    }

    fn data_loss(&self, to: &mut TableBuilder<DataLoss>) {
        to.push(&DataLossRow {
            time_: self.now_unix_ns,
            upid: self.upid.0,
            table_name: self.table.as_bytes(),
            reason: self.reason.as_bytes(),
            unit: self.unit().as_bytes(),
            since: self.since_unix_ns,
            count: i64::try_from(self.count).unwrap_or(i64::MAX),
        });
    }

    fn stirling_error(&self, to: &mut TableBuilder<StirlingError>) {
        let Row { table, reason, since_unix_ns, count, .. } = self;
        let unit = self.unit();
        let error = format!("lost {count} {unit} of {table}: {reason}");
        let context = format!(
            "{{\"table\":\"{table}\",\"reason\":\"{reason}\",\"unit\":\"{unit}\",\
             \"count\":{count},\"since_unix_ns\":{since_unix_ns}}}"
        );
        to.push(&StirlingErrorRow {
            time_: self.now_unix_ns,
            upid: self.upid.0,
            source_connector: b"ledger",
            status: STATUS_RESOURCE_UNAVAILABLE,
            error: error.as_bytes(),
            context: context.as_bytes(),
        });
    }
}

#[cfg(test)]
mod tests {
    use weir_types::batch::value_at;
    use weir_types::ledger::{Reach, Span};
    use weir_types::{DataType, Value};

    use super::*;

    /// Every loss is in a row, however often it happens, and rows do not flood: catches a count that
    /// the rate limit swallows.
    #[test]
    fn every_loss_is_in_a_row_at_last() {
        let ledger = NodeLedger::default();
        let mut rows = LossRows::new(Upid::new(1, 2, 3), 0);
        let mut counted = BTreeMap::from([("data_loss", 0), ("stirling_error", 0)]);
        let mut batches = BTreeMap::from([("data_loss", 0), ("stirling_error", 0)]);
        for tick in 1..=400_i64 {
            let now = tick * 100_000_000;
            if tick <= 200 {
                let span = Span::new(now - 1, now);
                ledger.note("http_events", "ring_full", Reach::Everybody, span, 3);
            }
            for (table, batch) in rows.rows(&ledger, now) {
                *batches.get_mut(table).unwrap() += batch.num_rows();
                if table == "data_loss" {
                    let count = value_at(batch.column(6), DataType::Int64, 0);
                    let Some(Value::Int64(count)) = count else { panic!() };
                    *counted.get_mut(table).unwrap() += count;
                }
            }
        }
        assert_eq!(counted["data_loss"], 600);
        assert_eq!(batches, BTreeMap::from([("data_loss", 21), ("stirling_error", 3)]));
    }
}
