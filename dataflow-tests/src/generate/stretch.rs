//! The same case over hours and days: every time and every window so many times longer, so that panes of
//! seconds, minutes and an hour meet rows on, beside and between their edges as those of 100 ms do.

use weir_types::plan::{EndBound, OpKind, StartBound, Window};
use weir_types::{Plan, Value};

use super::rows::{BASE_UNIX_NS, SEC_NS};
use crate::drive::Feeding;
use crate::model::{Table, World};

/// Factors: panes of 100 ms become those of 1 s, 10 s, 1 min, 5 min and 1 h.
pub const FACTORS: [i64; 8] = [1, 1, 1, 10, 100, 600, 3_000, 36_000];

/// What is scaled lies on this grid; what is beside it stays beside it.
const GRID_NS: i64 = SEC_NS / 10;
/// No two ticks of a case are further apart.
const GAP_MS_MAX: u64 = 40 * 86_400_000;
/// Nor is a window longer, or a row older.
const WINDOW_NS_MAX: i64 = 120 * 86_400 * SEC_NS;

fn length(ns: i64, factor: i64) -> i64 {
    let (whole, rest) = (ns.div_euclid(GRID_NS), ns.rem_euclid(GRID_NS));
    (whole * GRID_NS).saturating_mul(factor).clamp(-WINDOW_NS_MAX, WINDOW_NS_MAX) + rest
}

fn time(unix_ns: i64, factor: i64) -> i64 {
    BASE_UNIX_NS + length(unix_ns - BASE_UNIX_NS, factor)
}

fn window(window: &mut Window, factor: i64) {
    match &mut window.start {
        StartBound::Beginning => {}
        StartBound::Relative { window_ns } => *window_ns = length(*window_ns, factor),
        StartBound::Absolute { start_unix_ns } => *start_unix_ns = time(*start_unix_ns, factor),
        StartBound::Then { window_ns, at_unix_ns } => {
            (*window_ns, *at_unix_ns) = (length(*window_ns, factor), time(*at_unix_ns, factor));
        }
    }
    match &mut window.end {
        EndBound::Now => {}
        EndBound::Relative { before_ns } => *before_ns = length(*before_ns, factor).max(1),
        EndBound::Absolute { end_unix_ns } => *end_unix_ns = time(*end_unix_ns, factor),
    }
}

fn table(table: &mut Table, factor: i64) {
    let Some(at) = table.relation.time_idx() else { return };
    for arrived in &mut table.rows {
        let Value::Time64Ns(event_ns) = &mut arrived.row[at] else { continue };
        let late_ns = arrived.arrival_unix_ns - *event_ns;
        *event_ns = time(*event_ns, factor);
        arrived.arrival_unix_ns = *event_ns + late_ns;
    }
}

/// Windows, event times, retention and the distance of ticks, `factor` times as long. How late a row is stays.
pub fn stretch(plan: &mut Plan, world: &mut World, feed: &mut Feeding, factor: i64) {
    for op in &mut plan.ops {
        if let OpKind::Scan(scan) = &mut op.kind {
            window(&mut scan.window, factor);
        }
    }
    world.tables.values_mut().for_each(|rows| table(rows, factor));
    world.retention_ns = world.retention_ns.map(|retention_ns| length(retention_ns, factor));
    let mut last = (feed.ticks_ms[0], feed.ticks_ms[0]);
    for tick_ms in &mut feed.ticks_ms {
        let gap_ms = (*tick_ms - last.0) * factor.unsigned_abs();
        last = (*tick_ms, last.1 + gap_ms.min(GAP_MS_MAX));
        *tick_ms = last.1;
    }
}
