//! The end of a node fragment: what a refresh brought is handed out as changes when it is closed.

use std::collections::BTreeMap;
use std::rc::Rc;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampNanosecondType;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Operator;
use weir_types::PackedRow;
use weir_types::batch::{RecordBatch, pack_rows};
use weir_types::plan::SlidingWindow;
use weir_types::split::{Change, ExchangeId};
use weir_types::value::DataType;

use super::BatchStream;
use super::partial::{ONLY_PANE, PartialTable, Scratch};
use super::top_panes::TopPanes;
use crate::api::EngineEvent;
use crate::prepare::AggSpec;
use crate::query::Env;

/// What stands behind a `Send`.
trait Collect: 'static {
    fn add(&mut self, tick_ms: u64, batch: &RecordBatch);
    /// The earliest tick that holds something.
    fn first(&self) -> Option<u64>;
    /// Takes a tick's changes.
    fn take(&mut self, tick_ms: u64) -> Vec<Change>;
    fn state_bytes(&self) -> usize;
}

/// A stream that carries nothing: it is there to be probed.
type Silent<'s> = Stream<'s, u64, Vec<()>>;

fn send<'s>(
    env: &Rc<Env>,
    stream: BatchStream<'s>,
    exchange: ExchangeId,
    collect: impl Collect,
) -> Silent<'s> {
    let scope = stream.scope();
    let env = Rc::clone(env);
    stream.unary_frontier::<CapacityContainerBuilder<Vec<()>>, _, _, _>(
        Pipeline,
        "Send",
        move |mut capability, info| {
            env.register(scope.activator_for(info.address));
            capability.downgrade(&env.query.start_tick_ms());
            let due_slot = env.due_slot();
            let mut parts = Some((capability, env.state_gauge(), collect));
            move |(input, frontier), _output| {
                if !env.is_live() {
                    parts = None;
                    due_slot.set(None);
                }
                let Some((capability, gauge, collect)) = parts.as_mut() else {
                    input.for_each(|_, data| data.clear());
                    return;
                };
                let frontier_ms = frontier.frontier().first().copied();
                env.guard("Send", || {
                    input.for_each(|stamp, data| {
                        let Some(&tick_ms) = stamp.least() else { return };
                        data.drain(..).for_each(|batch| collect.add(tick_ms, &batch));
                    });
                    let is_closed = |tick_ms: &u64| {
                        frontier_ms.is_none_or(|frontier_ms| *tick_ms < frontier_ms)
                    };
                    while let Some(tick_ms) = collect.first().filter(is_closed) {
                        let changes = collect.take(tick_ms);
                        if !changes.is_empty() {
                            let query = env.query.id;
                            env.emit(EngineEvent::Changes { query, exchange, tick_ms, changes });
                        }
                    }
                    Ok(())
                });
                gauge.set(collect.state_bytes());
                due_slot.set(collect.first());
                match frontier_ms.filter(|_| env.is_live()) {
                    Some(frontier_ms) => capability.downgrade(&frontier_ms.max(*capability.time())),
                    None => parts = None,
                }
            }
        },
    )
}

pub(super) fn partials<'s>(
    env: &Rc<Env>,
    stream: BatchStream<'s>,
    exchange: ExchangeId,
    spec: &AggSpec,
    time: usize,
    sliding: Option<SlidingWindow>,
) -> Silent<'s> {
    let collect = Partials {
        spec: spec.clone(),
        time,
        sliding,
        tables: BTreeMap::new(),
        scratch: Scratch::default(),
    };
    send(env, stream, exchange, collect)
}

struct Partials {
    spec: AggSpec,
    time: usize,
    sliding: Option<SlidingWindow>,
    tables: BTreeMap<u64, PartialTable>,
    scratch: Scratch,
}

impl Collect for Partials {
    fn add(&mut self, tick_ms: u64, batch: &RecordBatch) {
        let table = self.tables.entry(tick_ms).or_insert_with(|| PartialTable::new(&self.spec));
        table.add(&self.spec, self.time, self.sliding, batch, &mut self.scratch);
    }
    fn first(&self) -> Option<u64> {
        self.tables.first_key_value().map(|(&tick_ms, _)| tick_ms)
    }
    fn take(&mut self, tick_ms: u64) -> Vec<Change> {
        self.tables.remove(&tick_ms).map(PartialTable::into_changes).unwrap_or_default()
    }
    fn state_bytes(&self) -> usize {
        self.tables.values().map(PartialTable::state_bytes).sum()
    }
}

/// How rows become changes.
pub(super) struct RowPacker {
    pub(super) types: Vec<DataType>,
    pub(super) time: usize,
    pub(super) sliding: Option<SlidingWindow>,
    pub(super) rows_max: Option<u64>,
}

pub(super) fn rows<'s>(
    env: &Rc<Env>,
    stream: BatchStream<'s>,
    exchange: ExchangeId,
    packer: RowPacker,
) -> Silent<'s> {
    let top = packer.rows_max.map(|rows_max| TopPanes::new(rows_max, packer.sliding));
    send(env, stream, exchange, Rows { packer, top, ticks: BTreeMap::new(), bytes: 0 })
}

struct Rows {
    packer: RowPacker,
    top: Option<TopPanes>,
    /// Per refresh: (pane, event time, row).
    ticks: BTreeMap<u64, Vec<(i64, i64, PackedRow)>>,
    bytes: usize,
}

const ROW_BYTES: usize = 48;

impl Collect for Rows {
    fn add(&mut self, tick_ms: u64, batch: &RecordBatch) {
        let packed = pack_rows(batch, &self.packer.types);
        let times = batch.column(self.packer.time).as_primitive::<TimestampNanosecondType>();
        let sliding = self.packer.sliding;
        let pane_of = |time| sliding.map_or(ONLY_PANE, |sliding| sliding.pane_of(time));
        let rows = self.ticks.entry(tick_ms).or_default();
        for (row, &time) in packed.into_iter().zip(times.values()) {
            self.bytes += ROW_BYTES + row.0.len();
            rows.push((pane_of(time), time, row));
        }
    }
    fn first(&self) -> Option<u64> {
        self.ticks.first_key_value().map(|(&tick_ms, _)| tick_ms)
    }
    fn take(&mut self, tick_ms: u64) -> Vec<Change> {
        let mut rows = self.ticks.remove(&tick_ms).unwrap_or_default();
        self.bytes -= rows.iter().map(|(_, _, row)| ROW_BYTES + row.0.len()).sum::<usize>();
        let mut changes: Vec<((i64, PackedRow), i64)> = match &mut self.top {
            Some(top) => top.add(tick_ms, rows),
            None => rows.drain(..).map(|(pane, _, row)| ((pane, row), 1)).collect(),
        };
        differential_dataflow::consolidation::consolidate(&mut changes);
        let change = |((pane, row), diff)| Change::Row { row, pane, diff };
        changes.into_iter().map(change).collect()
    }
    fn state_bytes(&self) -> usize {
        self.bytes + self.top.as_ref().map_or(0, TopPanes::state_bytes)
    }
}
