//! From a prepared part to a timely dataflow: one module per operator; `node` and `cluster` wire them up.
//!
//! Node operators work on Arrow batches, shared by reference counts; cluster operators on packed rows
//! with differences. Every timestamp is a multiple of the query's refresh. All operators of ours
//! hold one capability each, at their input's frontier, and let go of it when the query ends.

mod aggregate;
mod asked;
mod between;
mod bounded;
mod cluster;
mod join;
mod limit;
mod newest;
mod newest_window;
mod node;
mod output;
mod overflow;
mod pane_group;
mod pane_window;
mod partial;
pub(crate) mod publish;
mod recompute;
mod row_window;
mod rowwise;
mod runs;
mod scan;
mod send;
mod send_newest;
mod sliced;
mod slots;
mod source;
mod teams;
mod tick;
mod union;
mod window;

/// What things take, as operators count it.
pub(crate) mod sizes {
    pub(crate) use super::aggregate::GROUP_BYTES as LATER_GROUP_BYTES;
    pub(crate) use super::pane_group::{GROUP_BYTES, PART_BYTES};
    pub(crate) use super::recompute::SLOT_BYTES as LIVE_BYTES;
}

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BinaryArray, BooleanArray};
use arrow_select::filter::filter_record_batch;
use timely::dataflow::Stream;
use timely::dataflow::operators::probe::Handle as ProbeHandle;
use timely::worker::Worker as TimelyWorker;
use weir_types::PackedRow;
use weir_types::batch::{RecordBatch, StrColumn};
use weir_types::plan::OpId;
use weir_types::split::{Change, ExchangeId};

use crate::api::FeedExchange;
use crate::budget::Gauge;
use crate::operators::RowCount;
use crate::prepare::Program;
use crate::query::Env;
use crate::queue::PushedBatch;
use crate::weigh;
use publish::Publisher;
use scan::Arrived;
use source::SourceHandle;
use teams::Team;

/// Rows of the node part.
#[derive(Clone)]
struct NodeBatch {
    rows: Rc<RecordBatch>,
    /// The tick that admitted them, of rows from the history long ago.
    admitted_ms: u64,
}

impl NodeBatch {
    fn new(rows: RecordBatch, admitted_ms: u64) -> NodeBatch {
        NodeBatch { rows: Rc::new(rows), admitted_ms }
    }
    /// What became of these rows.
    fn with(&self, rows: RecordBatch) -> NodeBatch {
        NodeBatch::new(rows, self.admitted_ms)
    }
    /// Its rows of which this is true; `None`: none of them.
    fn kept(self, keep: &BooleanArray) -> Option<NodeBatch> {
        match keep.true_count() {
            0 => None,
            all if all == self.rows.num_rows() => Some(self),
            _ => {
                let rows = filter_record_batch(&self.rows, keep);
                Some(self.with(rows.expect("there is one mark for each row")))
            }
        }
    }
    fn slice(&self, from: usize, rows: usize) -> NodeBatch {
        if from == 0 && rows == self.rows.num_rows() {
            return self.clone();
        }
        self.with(self.rows.slice(from, rows))
    }
    /// Bytes of its rows; of a slice, of the slice alone. Cheap: it is asked at every step.
    fn bytes(&self) -> usize {
        self.rows.columns().iter().map(column_bytes).sum()
    }
}

impl RowCount for NodeBatch {
    fn rows(&self) -> usize {
        self.rows.num_rows()
    }
}

fn column_bytes(array: &ArrayRef) -> usize {
    let of_texts = |texts: &BinaryArray| {
        let offsets = texts.value_offsets();
        let texts_bytes = offsets.last().unwrap_or(&0) - offsets.first().unwrap_or(&0);
        usize::try_from(texts_bytes).unwrap_or(0) + size_of_val(offsets)
    };
    match StrColumn::of(array) {
        Some(StrColumn::Plain(texts)) => of_texts(texts),
        Some(StrColumn::Dictionary { keys, values }) => {
            size_of_val(&**keys.values()) + of_texts(values)
        }
        // Numbers, and at most identifiers.
        None => array.len() * size_of::<u128>(),
    }
}

type BatchStream<'s> = Stream<'s, u64, Vec<NodeBatch>>;
/// Rows of the cluster part, with time and difference: what differential takes.
type RowStream<'s> = Stream<'s, u64, Vec<(PackedRow, u64, i64)>>;

/// Where rows of a table come in.
struct ScanInput {
    table: Arc<str>,
    handle: SourceHandle<Arrived>,
    /// Some exchange that this worker folds is made of it.
    is_used: bool,
}

impl ScanInput {
    fn takes(&self, table: &str) -> bool {
        self.is_used && &*self.table == table
    }
}

/// Where a worker puts what arrives for one query, and what tells how far it got.
#[derive(Default)]
pub(crate) struct Sources {
    scans: Vec<ScanInput>,
    /// Of the workers that share a node part, the ones it shares exchanges with.
    pub(crate) team: Team,
    exchanges: Vec<(ExchangeId, SourceHandle<VecDeque<Change>>)>,
    table_functions: Vec<(OpId, SourceHandle<Arc<Vec<PackedRow>>>)>,
    /// Of a feed.
    publishers: Vec<(ExchangeId, Rc<Publisher>)>,
    probe: Option<ProbeHandle<u64>>,
}

impl Sources {
    /// A batch of a table, by its number, is for this worker.
    pub(crate) fn takes(&self, table: &str, number: u64) -> bool {
        self.team.takes(number) && self.scans.iter().any(|scan| scan.takes(table))
    }

    /// Rows that are seen from `tick_ms` on and were admitted then or before. `held`: what counts them, if they
    /// were counted before.
    pub(crate) fn push_rows(
        &self,
        table: &str,
        [tick_ms, admitted_ms]: [u64; 2],
        batch: &Arc<PushedBatch>,
        held: Option<&Arc<Gauge>>,
    ) {
        for ScanInput { handle, .. } in self.scans.iter().filter(|scan| scan.takes(table)) {
            let bytes = usize::try_from(batch.bytes).unwrap_or(usize::MAX);
            let held = held.map_or_else(|| handle.count_arrived(bytes), Arc::clone);
            let arrived = Arrived { batch: Arc::clone(batch), admitted_ms, from: 0 };
            handle.push(tick_ms, arrived, held);
        }
    }

    pub(crate) fn push_changes(
        &self,
        exchange: ExchangeId,
        tick_ms: u64,
        changes: Vec<Change>,
        held: &Arc<Gauge>,
    ) {
        let mut readers = self.exchanges.iter().filter(|(id, _)| *id == exchange).peekable();
        while let Some((_, handle)) = readers.next() {
            if readers.peek().is_none() {
                handle.push(tick_ms, changes.into(), Arc::clone(held));
                return;
            }
            let copy = handle.count(weigh::changes(&changes));
            handle.push(tick_ms, changes.clone().into(), copy);
        }
    }

    pub(crate) fn push_table_function(&self, op: OpId, tick_ms: u64, rows: Arc<Vec<PackedRow>>) {
        if let Some((_, handle)) = self.table_functions.iter().find(|(id, _)| *id == op) {
            let held = handle.count(rows.iter().map(weigh::item).sum());
            handle.push(tick_ms, rows, held);
        }
    }

    /// From now on `tick_ms` is the least tick at which something may arrive.
    pub(crate) fn open(&self, tick_ms: u64) {
        self.scans.iter().for_each(|scan| scan.handle.open(tick_ms));
        self.exchanges.iter().for_each(|(_, handle)| handle.open(tick_ms));
        self.table_functions.iter().for_each(|(_, handle)| handle.open(tick_ms));
    }

    /// All of an exchange: its groups and its overflow have a window each.
    pub(crate) fn publishers_of(&self, exchange: ExchangeId) -> Vec<Rc<Publisher>> {
        let of_it = self.publishers.iter().filter(|(id, _)| *id == exchange);
        of_it.map(|(_, publisher)| Rc::clone(publisher)).collect()
    }
    pub(crate) fn publishers(&self) -> impl Iterator<Item = &Publisher> {
        self.publishers.iter().map(|(_, publisher)| &**publisher)
    }

    /// The least tick at which something may still come out. `None`: it has ended.
    pub(crate) fn frontier_tick_ms(&self) -> Option<u64> {
        let probe = self.probe.as_ref()?;
        probe.with_frontier(|frontier| frontier.first().copied())
    }
}

/// The feeds that run on this worker.
pub(crate) type Feeds<'a> = &'a dyn Fn(FeedExchange) -> Vec<Rc<Publisher>>;

/// Builds the dataflow of a part on this worker. All workers do so in the same order.
pub(crate) fn render(timely: &mut TimelyWorker, env: &Rc<Env>, feeds: Feeds<'_>) -> Sources {
    let name = format!("query-{}", env.query.id);
    timely.dataflow_named::<u64, _, _>(&name, |scope| {
        let probe = ProbeHandle::new();
        let mut sources = Sources::default();
        match &env.query.program {
            Program::Node(program) => node::render(scope, env, program, &probe, &mut sources),
            Program::Feed(program) => cluster::feed(scope, env, program, &probe, &mut sources),
            Program::Query(program) => {
                cluster::query(scope, env, program, feeds, &probe, &mut sources);
            }
        }
        sources.probe = Some(probe);
        sources
    })
}

/// The same on all workers: which of them has a key.
fn route(bytes: &[u8]) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = foldhash::fast::FixedState::with_seed(0x7765_6972).build_hasher();
    hasher.write(bytes);
    hasher.finish()
}
