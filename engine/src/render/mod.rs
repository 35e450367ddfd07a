//! From a prepared fragment to a timely dataflow. One module per operator; this one wires them up.
//!
//! Node operators work on Arrow batches, shared by reference counts; cluster operators on packed rows
//! with differences. Every timestamp is a multiple of the query's refresh. All operators of ours
//! hold one capability each, at their input's frontier, and let go of it when the query ends.

mod aggregate;
mod between;
mod join;
mod limit;
mod output;
mod pane_window;
mod partial;
pub(crate) mod publish;
mod row_window;
mod rowwise;
mod runs;
mod scan;
mod send;
mod sliced;
mod source;
mod tick;
mod top_panes;
mod union;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BinaryArray};
use timely::dataflow::operators::Concatenate;
use timely::dataflow::operators::Probe;
use timely::dataflow::operators::probe::Handle as ProbeHandle;
use timely::dataflow::{Scope, Stream};
use timely::worker::Worker as TimelyWorker;
use weir_types::PackedRow;
use weir_types::batch::{RecordBatch, StrColumn};
use weir_types::plan::OpId;
use weir_types::split::{Change, ExchangeId};

use crate::api::FeedExchange;
use crate::budget::Gauge;
use crate::prepare::{Kind, PreparedOp};
use crate::query::Env;
use crate::queue::TableBatch;
use crate::weigh;
use publish::Publisher;
use source::SourceHandle;

/// Rows of the node part, each there so many times.
#[derive(Clone)]
struct NodeBatch {
    rows: Rc<RecordBatch>,
    /// How often each row is there: the union of a table with itself copies nothing.
    copies: i64,
}

impl NodeBatch {
    fn new(rows: RecordBatch) -> NodeBatch {
        NodeBatch { rows: Rc::new(rows), copies: 1 }
    }
    fn slice(&self, from: usize, rows: usize) -> NodeBatch {
        if from == 0 && rows == self.rows.num_rows() {
            return self.clone();
        }
        NodeBatch { rows: Rc::new(self.rows.slice(from, rows)), copies: self.copies }
    }
    /// Bytes of its rows; of a slice, of the slice alone. Cheap: it is asked at every step.
    fn bytes(&self) -> usize {
        self.rows.columns().iter().map(column_bytes).sum()
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

/// Where a worker puts what arrives for one query, and what tells how far it got.
#[derive(Default)]
pub(crate) struct Sources {
    scans: Vec<(Arc<str>, SourceHandle<Arc<TableBatch>>)>,
    exchanges: Vec<(ExchangeId, SourceHandle<VecDeque<Change>>)>,
    table_functions: Vec<(OpId, SourceHandle<Arc<Vec<PackedRow>>>)>,
    /// Of a feed.
    publishers: Vec<(ExchangeId, Rc<Publisher>)>,
    probe: Option<ProbeHandle<u64>>,
}

impl Sources {
    /// `held`: what counts them, if they were counted before.
    pub(crate) fn push_rows(
        &self,
        table: &str,
        tick_ms: u64,
        batch: &Arc<TableBatch>,
        held: Option<&Arc<Gauge>>,
    ) {
        for (_, handle) in self.scans.iter().filter(|(name, _)| &**name == table) {
            let bytes = usize::try_from(batch.bytes).unwrap_or(usize::MAX);
            let held = held.map_or_else(|| handle.count(bytes), Arc::clone);
            handle.push(tick_ms, Arc::clone(batch), held);
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
        self.scans.iter().for_each(|(_, handle)| handle.open(tick_ms));
        self.exchanges.iter().for_each(|(_, handle)| handle.open(tick_ms));
        self.table_functions.iter().for_each(|(_, handle)| handle.open(tick_ms));
    }

    pub(crate) fn publisher(&self, exchange: ExchangeId) -> Option<&Rc<Publisher>> {
        self.publishers.iter().find(|(id, _)| *id == exchange).map(|(_, publisher)| publisher)
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

/// What an operator gave, by kind.
#[derive(Clone)]
enum Rendered<'s> {
    Batches(BatchStream<'s>),
    Rows(RowStream<'s>),
    Nothing,
}

impl<'s> Rendered<'s> {
    fn batches(&self) -> BatchStream<'s> {
        match self {
            Rendered::Batches(stream) => stream.clone(),
            _ => unreachable!("node operators read node operators: checked by Prepared"),
        }
    }
    fn rows(&self) -> RowStream<'s> {
        match self {
            Rendered::Rows(stream) => stream.clone(),
            _ => unreachable!("cluster operators read cluster operators: checked by Prepared"),
        }
    }
}

/// The feeds that run on this worker.
pub(crate) type Feeds<'a> = &'a dyn Fn(FeedExchange) -> Option<Rc<Publisher>>;

/// Builds the dataflow of a query on this worker. All workers do so in the same order.
pub(crate) fn render(timely: &mut TimelyWorker, env: &Rc<Env>, feeds: Feeds<'_>) -> Sources {
    let name = format!("query-{}", env.query.id);
    timely.dataflow_named::<u64, _, _>(&name, |scope| {
        let mut renderer = Renderer {
            scope,
            env,
            feeds,
            sources: Sources::default(),
            probe: ProbeHandle::new(),
            done: Vec::with_capacity(env.query.prepared.ops.len()),
        };
        for (pos, op) in env.query.prepared.ops.iter().enumerate() {
            let rendered = match op.same_as {
                Some(earlier) => renderer.done[earlier].clone(),
                None => renderer.operator(pos, op),
            };
            renderer.done.push(rendered);
        }
        renderer.sources.probe = Some(renderer.probe);
        renderer.sources
    })
}

struct Renderer<'s, 'e> {
    scope: Scope<'s, u64>,
    env: &'e Rc<Env>,
    feeds: Feeds<'e>,
    sources: Sources,
    probe: ProbeHandle<u64>,
    done: Vec<Rendered<'s>>,
}

impl<'s> Renderer<'s, '_> {
    fn batches(&self, op: &PreparedOp) -> BatchStream<'s> {
        self.done[op.inputs[0]].batches()
    }
    fn rows(&self, op: &PreparedOp, input: usize) -> RowStream<'s> {
        self.done[op.inputs[input]].rows()
    }

    fn operator(&mut self, pos: OpId, op: &PreparedOp) -> Rendered<'s> {
        let env = self.env;
        match &op.kind {
            Kind::Scan(_)
            | Kind::TableFunction
            | Kind::Import(_)
            | Kind::ReceiveRows { .. }
            | Kind::ReceivePartial { .. } => self.source(pos, op),
            Kind::Rows(spec) => match &self.done[op.inputs[0]] {
                Rendered::Batches(stream) => {
                    Rendered::Batches(rowwise::on_batches(env, stream.clone(), spec))
                }
                input => Rendered::Rows(rowwise::on_rows(env, input.rows(), spec)),
            },
            Kind::Union => self.union(op),
            Kind::Aggregate(spec) => {
                Rendered::Rows(aggregate::aggregate(env, self.rows(op, 0), spec))
            }
            Kind::Join(spec) => {
                let (left, right) = (self.rows(op, 0), self.rows(op, 1));
                Rendered::Rows(join::join(env, left, right, spec))
            }
            Kind::Limit(spec) => Rendered::Rows(limit::limit(env, self.rows(op, 0), spec, op.hash)),
            Kind::SendRows { exchange, rows_max, time, sliding, types } => {
                let packer = send::RowPacker {
                    types: types.clone(),
                    time: *time,
                    sliding: *sliding,
                    rows_max: *rows_max,
                };
                send::rows(env, self.batches(op), *exchange, packer).probe_with(&self.probe);
                Rendered::Nothing
            }
            Kind::SendPartial { exchange, spec, time, sliding } => {
                send::partials(env, self.batches(op), *exchange, spec, *time, *sliding)
                    .probe_with(&self.probe);
                Rendered::Nothing
            }
            Kind::Output { table } => {
                output::output(env, self.rows(op, 0), table).probe_with(&self.probe);
                Rendered::Nothing
            }
        }
    }

    fn source(&mut self, pos: OpId, op: &PreparedOp) -> Rendered<'s> {
        let (scope, env) = (self.scope, self.env);
        match &op.kind {
            Kind::Scan(spec) => {
                let (stream, handle) = scan::scan(scope, env, spec);
                self.sources.scans.push((Arc::clone(&spec.table), handle));
                Rendered::Batches(stream)
            }
            Kind::ReceiveRows { exchange, sliding } => {
                let (stream, handle) = source::changes(scope, env);
                self.sources.exchanges.push((*exchange, handle));
                let publisher = self.publisher(*exchange);
                self.received(row_window::row_window(env, stream, *sliding, publisher))
            }
            Kind::ReceivePartial { exchange, spec, sliding } => {
                let (stream, handle) = source::changes(scope, env);
                self.sources.exchanges.push((*exchange, handle));
                let publisher = self.publisher(*exchange);
                self.received(pane_window::pane_window(env, stream, spec, *sliding, publisher))
            }
            Kind::Import(at) => {
                let (stream, handle) = source::import(scope, env);
                // Without a feed the query has failed already, yet all workers build the same.
                if let Some(publisher) = (self.feeds)(*at) {
                    publisher.add_reader(&env.query, handle);
                }
                Rendered::Rows(stream)
            }
            _ => {
                let (stream, handle) = source::table_function(scope, env);
                self.sources.table_functions.push((pos, handle));
                Rendered::Rows(stream)
            }
        }
    }

    /// Where a feed's window tells its changes.
    fn publisher(&mut self, exchange: ExchangeId) -> Option<Rc<Publisher>> {
        if !self.env.query.prepared.is_feed {
            return None;
        }
        let publisher = Rc::<Publisher>::default();
        self.sources.publishers.push((exchange, Rc::clone(&publisher)));
        Some(publisher)
    }

    /// A window's rows go on, or, of a feed, end here.
    fn received(&self, stream: RowStream<'s>) -> Rendered<'s> {
        if self.env.query.prepared.is_feed {
            stream.probe_with(&self.probe);
            return Rendered::Nothing;
        }
        Rendered::Rows(stream)
    }

    /// An input that is read several times is read once, with a weight: frames that were appended to
    /// themselves thirty times are a count of a billion, not a billion rows.
    fn union(&self, op: &PreparedOp) -> Rendered<'s> {
        // What is the same operator is the same rows: these are counted, not copied.
        let ops = &self.env.query.prepared.ops;
        let mut copies: BTreeMap<OpId, i64> = BTreeMap::new();
        for &input in &op.inputs {
            *copies.entry(ops[input].same_as.unwrap_or(input)).or_default() += 1;
        }
        let (mut batches, mut rows) = (Vec::new(), Vec::new());
        for (input, copies) in copies {
            match &self.done[input] {
                Rendered::Batches(stream) => {
                    batches.push(union::batches(self.env, stream.clone(), copies));
                }
                input => rows.push(union::rows(self.env, input.rows(), copies)),
            }
        }
        if rows.is_empty() {
            return Rendered::Batches(self.scope.concatenate(batches));
        }
        Rendered::Rows(self.scope.concatenate(rows))
    }
}

/// The same on all workers: which of them has a key.
fn route(bytes: &[u8]) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = foldhash::fast::FixedState::with_seed(0x7765_6972).build_hasher();
    hasher.write(bytes);
    hasher.finish()
}
