//! Rules over the rows of captures and recordings: each is judged at every refresh from the first row to the last
//! packet, as a server would have judged it.

use std::path::PathBuf;

use weir_cluster::planner::{self, Prepared};
use weir_cluster::service::RULE_REFRESH_MS;
use weir_rules::preview::Report;
use weir_rules::state::Answer;

use super::{Ruled, Rules};
use crate::cmd::replay;
use crate::failure::Failure;
use crate::offline::{self, Captured};

/// A server's tick, unless it is told otherwise.
const TICK_MS: u64 = 100;

pub(super) fn reports(rules: &Rules, files: &[PathBuf]) -> Result<Vec<Report>, Failure> {
    let prepared = |rule: &Ruled| -> Result<Prepared, Failure> {
        let request = rules.judge.request_of(&rule.written);
        let prepared = planner::prepare(&request, TICK_MS, None, &|_| true);
        let mut prepared = prepared.map_err(|error| Failure::No(error.to_string()))?;
        if !prepared.plan.reads_now() {
            prepared.refresh_ms = prepared.refresh_ms.min(RULE_REFRESH_MS);
        }
        Ok(prepared)
    };
    let prepared = rules.alerts.iter().map(prepared).collect::<Result<Vec<_>, _>>()?;
    let names = prepared.iter().flat_map(|each| each.plan.scans().map(|(table, _)| table));
    let mut captured = Captured::of(names);
    let last_unix_ns = replay::rows_of(files, &mut |table, batch| captured.take(table, batch))?;
    let tables = captured.in_order();
    let report = |(rule, prepared): (&Ruled, &Prepared)| {
        let mut preview = rule.preview();
        let types = prepared.outputs.first().map(|output| output.relation.types());
        let types = types.unwrap_or_default();
        let mut is_first = true;
        offline::follow(prepared, &tables, last_unix_ns, &mut |at_unix_ns, changed| {
            let rows = changed.iter().flat_map(|changes| &changes.rows);
            let rows = rows
                .filter_map(|(row, diff)| Some((*diff, rule.columns.row(&row.unpack(&types)?))));
            let rows: Vec<_> = rows.collect();
            let snapshot = std::mem::take(&mut is_first);
            let answer = Answer { at_unix_ns, snapshot, complete: true, young: false, why: "" };
            preview.look(&answer, &rows);
        })?;
        Ok(preview.report())
    };
    rules.alerts.iter().zip(&prepared).map(report).collect()
}
