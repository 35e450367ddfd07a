//! Back-fills: a query that was just installed is shown what history holds of its window, slice by slice
//! between the ticks, then goes live.

use weir_engine::history::Cursor;
use weir_types::batch::BATCH_ROWS_MAX;
use weir_types::clock::tick_unix_ns;
use weir_types::plan::StartBound;
use weir_types::split::NodePlan;

use super::NodeCore;

/// History rows that are replayed to new queries between two ticks, so that others keep theirs.
const REPLAY_ROWS_PER_SLICE: usize = 64 * BATCH_ROWS_MAX;
/// And their bytes for one query at a time: a fraction of what all may have (the engine's `replayed_bytes_max`), so
/// that they take turns.
const REPLAY_BYTES_PER_SLICE: u64 = 8 << 20;
/// What comes while a query is being replayed to is history as well. It goes on with that so many times, each
/// shorter than the last if it can keep up at all; then it goes live.
const REPLAY_EXTENSIONS_MAX: u32 = 8;

/// A back-fill under way.
pub(super) struct Replay {
    /// Of each table that the query reads.
    pub(super) cursors: Vec<(String, Cursor)>,
    pub(super) extensions: u32,
}

impl Replay {
    pub(super) fn is_done(&self) -> bool {
        self.cursors.iter().all(|(_, cursor)| cursor.is_done())
    }
}

impl NodeCore {
    /// Replays a slice of history to queries that are not yet live. True if some is left.
    pub fn replay_slice(&mut self) -> bool {
        let Some(history) = &self.history else { return false };
        let mut budget_rows = REPLAY_ROWS_PER_SLICE;
        let mut left = false;
        #[expect(clippy::iter_over_hash_type, reason = "the order of back-fills does not matter")]
        for (&id, query) in &mut self.queries {
            let Some(replay) = &mut query.replay else { continue };
            for (table, cursor) in &mut replay.cursors {
                while budget_rows > 0 && !cursor.is_done() && self.engine.takes_replay(id) {
                    let rows_max = budget_rows.min(BATCH_ROWS_MAX);
                    let slice = history.next_slice(cursor, rows_max, REPLAY_BYTES_PER_SLICE);
                    let rows: usize = slice.iter().map(|(_, batch)| batch.num_rows()).sum();
                    budget_rows = budget_rows.saturating_sub(rows);
                    self.engine.replay(id, table, slice);
                }
                if std::mem::take(&mut cursor.missed_batches) > 0 {
                    let covered = history.covers_from(table).unwrap_or(i64::MIN);
                    query.covers_from_unix_ns = query.covers_from_unix_ns.max(covered);
                }
            }
            if replay.is_done() && replay.extensions < REPLAY_EXTENSIONS_MAX {
                replay.extensions += 1;
                replay.cursors.iter_mut().for_each(|(_, cursor)| history.extend(cursor));
            }
            if replay.is_done() {
                query.replay = None;
                self.engine.go_live(id);
                self.engine.hold(id, false);
            } else {
                left = true;
            }
        }
        left
    }
}

/// The earliest event time that a scan of the table can still hold.
pub(super) fn replay_from(plan: &NodePlan, table: &str, now_ms: u64) -> i64 {
    let now_unix_ns = tick_unix_ns(now_ms);
    let scans =
        plan.scans().filter(|scan| scan.table == table).map(|scan| match scan.window.start {
            StartBound::Beginning => i64::MIN,
            StartBound::Absolute { start_unix_ns } => start_unix_ns,
            StartBound::Relative { .. } => {
                scan.window.sliding(None).map_or(i64::MIN, |sliding| sliding.start_at(now_unix_ns))
            }
        });
    scans.min().unwrap_or(i64::MIN)
}
