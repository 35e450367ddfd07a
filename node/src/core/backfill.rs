//! Back-fills: a query that was just installed is shown what history holds of its window, slice by slice
//! between the ticks, then goes live.

use weir_engine::Engine;
use weir_engine::history::{Cursor, History};
use weir_proto::QueryId;
use weir_types::batch::BATCH_ROWS_MAX;
use weir_types::clock::tick_unix_ns;
use weir_types::split::NodePlan;

use super::NodeCore;

/// History rows that are replayed to new queries between two ticks, so that others keep theirs.
const REPLAY_ROWS_PER_SLICE: usize = 64 * BATCH_ROWS_MAX;
/// And their bytes for one query at a time: a fraction of what all may have (the engine's `replayed_bytes_max`), so
/// that they take turns.
const REPLAY_BYTES_PER_SLICE: u64 = 8 << 20;
/// What comes while a query is being replayed to is history as well. It goes on with that so many times, each
/// shorter than the last if it can keep up at all; then it is shown the rest at once, and goes live.
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

    /// Shows a query the next slice. The event time from which on nothing is missing, if something turned out to be.
    fn slice(
        &mut self,
        id: QueryId,
        history: &History,
        engine: &Engine,
        budget_rows: &mut usize,
    ) -> i64 {
        let mut covers_from_unix_ns = i64::MIN;
        for (table, cursor) in &mut self.cursors {
            while *budget_rows > 0 && !cursor.is_done() && engine.takes_replay(id) {
                let rows_max = (*budget_rows).min(BATCH_ROWS_MAX);
                let slice = history.next_slice(cursor, rows_max, REPLAY_BYTES_PER_SLICE);
                let rows: usize = slice.iter().map(|(_, batch)| batch.num_rows()).sum();
                *budget_rows = budget_rows.saturating_sub(rows);
                engine.replay(id, table, slice);
            }
            if std::mem::take(&mut cursor.missed_batches) > 0 {
                let covered = history.covers_from(table).unwrap_or(i64::MIN);
                covers_from_unix_ns = covers_from_unix_ns.max(covered);
            }
        }
        covers_from_unix_ns
    }

    /// Lets the query go live, if nothing is left to be shown. True if it did.
    fn ends(&mut self, id: QueryId, history: &History, engine: &Engine) -> bool {
        if !self.is_done() {
            return false;
        }
        // Whatever came since is shown before it goes live, or nobody would show it.
        self.extensions += 1;
        self.cursors.iter_mut().for_each(|(_, cursor)| history.extend(cursor));
        if !self.is_done() && self.extensions < REPLAY_EXTENSIONS_MAX {
            return false;
        }
        for (table, cursor) in &mut self.cursors {
            while !cursor.is_done() {
                let slice = history.next_slice(cursor, usize::MAX, REPLAY_BYTES_PER_SLICE);
                engine.replay(id, table, slice);
            }
        }
        engine.go_live(id);
        engine.hold(id, false);
        true
    }
}

impl NodeCore {
    /// What history has of a plan's scans that is not had from elsewhere.
    pub(super) fn replay(&self, plan: &NodePlan, had_to_ms: &[u64], now_ms: u64) -> Replay {
        let mut cursors = Vec::new();
        for table in plan.scanned_tables() {
            let Some(history) = &self.history else { break };
            let cursor = history.cursor(&table, replay_from(plan, &table, now_ms));
            // One scan serves all sends: the one that lacks most says what it is shown.
            let of_table = |exchange: &usize| {
                plan.source(*exchange).is_none_or(|source| source.table() == table)
            };
            let exchanges = (0..plan.sends.len()).filter(of_table);
            let had_to_ms = exchanges.map(|exchange| had_to_ms[exchange]).min().unwrap_or(0);
            cursors.push((table, cursor.after(had_to_ms)));
        }
        Replay { cursors, extensions: 0 }
    }

    /// Hands on a slice of the store and of history to queries that are not yet live. True if some is left.
    pub fn replay_slice(&mut self) -> bool {
        self.hear_store();
        let Some(history) = &self.history else { return false };
        let mut budget_rows = REPLAY_ROWS_PER_SLICE;
        let mut left = self.keeping.loads();
        #[expect(clippy::iter_over_hash_type, reason = "the order of back-fills does not matter")]
        for (&id, query) in &mut self.queries {
            let Some(replay) = &mut query.replay else { continue };
            let covered = replay.slice(id, history, &self.engine, &mut budget_rows);
            query.covers_from_unix_ns = query.covers_from_unix_ns.max(covered);
            // What comes of the store has to be here first.
            if query.loading == 0 && replay.ends(id, history, &self.engine) {
                query.replay = None;
            } else {
                left = true;
            }
        }
        // What is kept can wait for those that somebody waits for.
        for there in self.keeping.replays() {
            let Some(replay) = there.replay else { continue };
            if left {
                return true;
            }
            let covered = replay.slice(there.feeder, history, &self.engine, &mut budget_rows);
            if covered > i64::MIN {
                *there.covers_from_unix_ns = (*there.covers_from_unix_ns).max(Some(covered));
            }
            if replay.ends(there.feeder, history, &self.engine) {
                *there.replay = None;
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
    let scans = plan.scans().filter(|scan| scan.table == table).map(|scan| {
        let slides = || scan.window.sliding(None).map(|sliding| sliding.start_at(now_unix_ns));
        scan.window.first_unix_ns().or_else(slides).unwrap_or(i64::MIN)
    });
    scans.min().unwrap_or(i64::MIN)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use weir_engine::{EngineConfig, EngineEvent};
    use weir_proto::bus::in_process;
    use weir_proto::{NodeInfo, ToNode};
    use weir_types::plan::{AggCall, EndBound, Scan, StartBound, Window};
    use weir_types::shared::Shared;
    use weir_types::split::{Change, Shape, Source, TableScan};
    use weir_types::value::{DataType, SemanticType};
    use weir_types::{BatchBuilder, Column, Relation};

    use super::*;
    use crate::core::CoreConfig;

    /// How many rows there are within a minute.
    fn counting() -> NodePlan {
        let start = StartBound::Relative { window_ns: 60_000_000_000 };
        let window = Window { start, end: EndBound::Now };
        let scan = Scan { table: "t".to_string(), columns: vec!["time_".to_string()], window };
        let types = vec![DataType::Time64Ns];
        let count = AggCall {
            func: "count".to_string(),
            args: vec![0],
            arg_types: types.clone(),
            data_type: DataType::Int64,
            time: Some(0),
        };
        let shape = Shape::Partial { group: Vec::new(), aggs: vec![count] };
        let scan = Shared::new(TableScan { scan, types });
        NodePlan::of([&Source { scan, steps: Vec::new(), time: 0, shape }])
    }

    fn row(tick_ms: u64) -> weir_types::RecordBatch {
        let column = Column::new("time_", DataType::Time64Ns, SemanticType::None);
        let mut builder = BatchBuilder::new(&Relation::new(vec![column]));
        builder.int64(0, tick_unix_ns(tick_ms));
        builder.end_row();
        builder.finish()
    }

    /// Rows that come between any two slices of a back-fill, more often than it waits for, are each told once. Catches
    /// a query that goes live while something has come that neither history nor the engine will show it.
    #[test]
    fn rows_that_come_meanwhile_are_told_once() {
        let (says, said) = mpsc::channel();
        let says = std::sync::Mutex::new(says);
        let emit = Arc::new(move |event| drop(says.lock().expect("whole").send(event)));
        let engine = Arc::new(Engine::start(EngineConfig::new("node"), emit).expect("an engine"));
        let (port, _cluster) = in_process();
        let config = CoreConfig {
            history_bytes: Some(1 << 20),
            ..CoreConfig::new(NodeInfo::named("here", 1, 0))
        };
        let mut core = NodeCore::new(config, engine, port.sender.clone());
        let mut tick_ms = 1_000;
        let mut tick = |core: &mut NodeCore| {
            tick_ms += 100;
            core.admit("t", row(tick_ms));
            core.close_tick(tick_ms);
            tick_ms
        };
        tick(&mut core);
        let install = ToNode::Install { query: 1, epoch: 1, plan: counting(), refresh_ms: 100 };
        core.handle(install, 1_100);
        let mut ticks = 1;
        loop {
            tick(&mut core);
            ticks += 1;
            if !core.replay_slice() {
                break;
            }
            assert!(ticks < 100, "it never goes live");
        }
        assert!(ticks > REPLAY_EXTENSIONS_MAX, "it was over before anything came: {ticks}");
        let last_ms = tick(&mut core);
        let mut told = 0;
        loop {
            match said.recv_timeout(std::time::Duration::from_secs(60)).expect("a frontier") {
                EngineEvent::Changes { changes, .. } => {
                    let rows = changes.iter().map(|change| match change {
                        Change::Partial { rows, .. } => *rows,
                        Change::Row { .. } => 0,
                    });
                    told += rows.sum::<i64>();
                }
                EngineEvent::Frontier { tick_ms, .. } if tick_ms >= last_ms => break,
                _ => {}
            }
        }
        assert_eq!(told, i64::from(ticks) + 1);
    }
}
