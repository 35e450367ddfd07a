//! The way from handles to workers: one queue per worker, all behind one short lock.
//!
//! A command that concerns every worker is put into all queues at once, so that all workers see
//! installs, removals and closed ticks in the same order. Data goes to one worker each. The lock is
//! held only to append or to take a whole queue, never over a step of a worker.

mod elsewhere;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampNanosecondType;
use weir_functions::Wants;
use weir_functions::cuts::Cuts;
use weir_types::batch::RecordBatch;
use weir_types::metadata::MetadataSnapshot;
use weir_types::plan::OpId;
use weir_types::split::{Change, ExchangeId};
use weir_types::{Clock, PackedRow, WallClock};

use crate::api::{EngineConfig, EngineEvent, Install, ProcessFigures, QueryId, TableStats};
use crate::budget::{Gauge, Meter, Purpose};
use crate::mesh::wire::Wires;
use crate::order::{Order, Word};
use crate::prepare::{Program, Settings};
use crate::query::QueryShared;
use crate::weigh;

/// A table's batch with what every scan of it wants to know first.
pub(crate) struct PushedBatch {
    pub(crate) rows: RecordBatch,
    pub(crate) time_idx: usize,
    pub(crate) time_min_unix_ns: i64,
    pub(crate) time_max_unix_ns: i64,
    pub(crate) bytes: u64,
}

impl PushedBatch {
    /// `None` for a batch without an event time.
    pub(crate) fn new(rows: RecordBatch) -> Option<PushedBatch> {
        let time_idx = rows.schema_ref().index_of("time_").ok()?;
        let times = rows.column(time_idx).as_primitive_opt::<TimestampNanosecondType>()?.values();
        let (mut min, mut max) = (i64::MAX, i64::MIN);
        for &time in times {
            min = min.min(time);
            max = max.max(time);
        }
        let bytes = rows.get_array_memory_size() as u64;
        Some(PushedBatch { time_idx, time_min_unix_ns: min, time_max_unix_ns: max, bytes, rows })
    }
}

#[derive(Clone)]
pub(crate) enum Command {
    Install(Arc<QueryShared>),
    Remove(QueryId),
    Rows {
        table: Arc<str>,
        batch: Arc<PushedBatch>,
    },
    Replay {
        query: QueryId,
        table: Arc<str>,
        /// With the ticks that admitted them.
        batches: Vec<(u64, Arc<PushedBatch>)>,
        held: Arc<Gauge>,
    },
    GoLive(QueryId),
    Hold {
        query: QueryId,
        held: bool,
    },
    CloseTick(u64),
    Changes {
        query: QueryId,
        exchange: ExchangeId,
        tick_ms: u64,
        changes: Vec<Change>,
        held: Arc<Gauge>,
    },
    CloseQueryTick {
        query: QueryId,
        tick_ms: u64,
    },
    TableFunction {
        query: QueryId,
        op: OpId,
        rows: Arc<Vec<PackedRow>>,
    },
    /// A test fault: the worker panics outside every operator.
    Die,
    Shutdown,
}

/// What a query is told that is installed on a dead engine.
const DEAD: &str = "the engine has died; a new one must take its place";

#[derive(Default)]
struct Queues {
    of_workers: Vec<Vec<Command>>,
    /// Where the next batch goes.
    turn: usize,
    /// What is to be said to other processes.
    words: Vec<Word>,
    /// Orders that were said on, in the first process; that were heard, in another.
    orders: u64,
}

/// Something large whose parts take long to free. `None`: no more comes.
pub(crate) type Rubbish = Option<Box<dyn Send>>;

/// Figures of one worker thread, written by it.
#[derive(Default)]
pub(crate) struct WorkerGauges {
    pub(crate) cpu_ns: AtomicU64,
    pub(crate) dataflows: AtomicU64,
}

/// What the handle and all workers share.
pub(crate) struct EngineShared {
    pub(crate) config: EngineConfig,
    pub(crate) clock: WallClock,
    emit: Arc<dyn Fn(EngineEvent) + Send + Sync>,
    queues: Mutex<Queues>,
    pub(crate) meter: Arc<Meter>,
    /// Takes what is dropped in bulk, so that no worker spends its time on that.
    rubbish: Mutex<Sender<Rubbish>>,
    pub(crate) gauges: Vec<WorkerGauges>,
    queries: Mutex<BTreeMap<QueryId, Arc<QueryShared>>>,
    tables: Mutex<BTreeMap<Arc<str>, TableStats>>,
    pub(crate) pending_bytes: AtomicU64,
    /// What functions of all queries left out, those included that have ended.
    cuts: Mutex<Cuts>,
    /// Rows that found no group of their own, of all queries there have been.
    pub(crate) overflow_rows_total: AtomicU64,
    /// What metadata functions read. A slot, not a command: a worker that is behind finds the newest and
    /// none of those before it.
    metadata: Mutex<Arc<MetadataSnapshot>>,
    /// What they were asked and did not know.
    pub(crate) wants: Arc<Wants>,
    /// Set when a worker thread died: nothing is answered any more.
    dead: AtomicBool,
    /// Of each worker: the query that it works on, one more than its id; 0 between two.
    running: Vec<AtomicU64>,
    /// The query that a worker died of, as `running`.
    died_of: AtomicU64,
    /// To the other processes.
    pub(crate) wires: Option<Arc<Wires>>,
    /// Of each process: when it was heard last, monotonic, and what it said of itself.
    heard: Mutex<Vec<(u64, ProcessFigures)>>,
    /// When a sign of life was given last, monotonic, and when a query was ended for rows between processes.
    alive_ms: AtomicU64,
    ended_ms: AtomicU64,
}

/// A poisoned lock here only means that some thread panicked between two plain assignments.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EngineShared {
    pub(crate) fn new(
        config: EngineConfig,
        emit: Arc<dyn Fn(EngineEvent) + Send + Sync>,
        rubbish: Sender<Rubbish>,
        wires: Option<Arc<Wires>>,
    ) -> EngineShared {
        let workers = config.workers;
        let now_ms = WallClock.monotonic_ns() / 1_000_000;
        let heard = vec![(now_ms, ProcessFigures::default()); config.processes()];
        EngineShared {
            config,
            clock: WallClock,
            emit,
            queues: Mutex::new(Queues {
                of_workers: vec![Vec::new(); workers],
                ..Queues::default()
            }),
            meter: Arc::new(Meter::new(workers)),
            rubbish: Mutex::new(rubbish),
            gauges: (0..workers).map(|_| WorkerGauges::default()).collect(),
            queries: Mutex::default(),
            tables: Mutex::default(),
            pending_bytes: AtomicU64::new(0),
            cuts: Mutex::default(),
            overflow_rows_total: AtomicU64::new(0),
            metadata: Mutex::default(),
            wants: Arc::default(),
            dead: AtomicBool::new(false),
            running: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            died_of: AtomicU64::new(0),
            wires,
            heard: Mutex::new(heard),
            alive_ms: AtomicU64::new(0),
            ended_ms: AtomicU64::new(0),
        }
    }

    pub(crate) fn emit(&self, event: EngineEvent) {
        (self.emit)(event);
    }

    /// To every worker, in the same order for all.
    pub(crate) fn broadcast(&self, command: Command) {
        {
            let Some(mut queues) = self.put_all(&command) else { return };
            if self.config.processes() > 1
                && self.config.leads()
                && let Some(order) = Order::of(&command)
            {
                let number = queues.orders;
                queues.orders += 1;
                queues.words.push(Word::Order { number, order });
            }
        }
        self.meter.wake_all();
    }

    /// Puts a command into the queue of each worker of this process. `None`: they are dead.
    fn put_all(&self, command: &Command) -> Option<MutexGuard<'_, Queues>> {
        let mut queues = lock(&self.queues);
        if self.is_dead() && !matches!(command, Command::Shutdown) {
            return None;
        }
        queues.of_workers.iter_mut().for_each(|queue| queue.push(command.clone()));
        Some(queues)
    }

    /// What this process runs for a part.
    pub(crate) fn program(&self, install: &Install) -> Result<Program, String> {
        Program::new(&install.part, &Settings::of(&self.config))
    }

    /// Has the workers of this process build a query.
    pub(crate) fn enter(&self, install: &Install, program: Program) -> Result<(), String> {
        let (workers, processes) = (self.config.workers, self.config.processes());
        let query = Arc::new(QueryShared::new(install.clone(), program, (workers, processes)));
        if !self.insert_query(Arc::clone(&query)) {
            return Err(DEAD.to_string());
        }
        self.broadcast(Command::Install(query));
        Ok(())
    }

    /// To every worker of this process, in the same order for all. It is no order: other processes do not hear
    /// of it.
    pub(crate) fn tell(&self, command: &Command, wake: bool) {
        let is_put = self.put_all(command).is_some();
        if is_put && wake {
            self.meter.wake_all();
        }
    }

    /// Changes from one node, for one worker.
    pub(crate) fn push_changes(
        self: &Arc<Self>,
        query: QueryId,
        exchange: ExchangeId,
        tick_ms: u64,
        changes: Vec<Change>,
    ) {
        let Some(shared) = self.query(query) else { return };
        let mut held = Gauge::new(shared, Arc::clone(self), Purpose::Waiting);
        held.set(weigh::changes(&changes));
        let held = Arc::new(held);
        self.send(None, Command::Changes { query, exchange, tick_ms, changes, held }, false);
    }

    /// To one worker; in turn without a choice. `wake`: it should look now rather than with the next
    /// command.
    pub(crate) fn send(&self, worker: Option<usize>, command: Command, wake: bool) {
        let mut queues = lock(&self.queues);
        // Under the lock under which `die` empties the queues: nothing is left behind in them.
        if self.is_dead() {
            return;
        }
        let worker = worker.unwrap_or_else(|| {
            queues.turn = (queues.turn + 1) % queues.of_workers.len();
            queues.turn
        });
        queues.of_workers[worker].push(command);
        drop(queues);
        if wake {
            self.meter.wake(worker);
        }
    }

    /// Everything that waits for a worker. `into` must be empty; its room is used for the queue.
    pub(crate) fn take(&self, worker: usize, into: &mut Vec<Command>) {
        std::mem::swap(&mut lock(&self.queues).of_workers[worker], into);
    }

    pub(crate) fn set_metadata(&self, metadata: Arc<MetadataSnapshot>) {
        let former = std::mem::replace(&mut *lock(&self.metadata), metadata);
        // Outside the lock: it may be large, and this its last owner.
        drop(former);
        self.meter.wake_all();
    }
    pub(crate) fn metadata(&self) -> Arc<MetadataSnapshot> {
        Arc::clone(&lock(&self.metadata))
    }

    /// Adds a query. False if the engine is dead: then nobody would ever answer for it.
    pub(crate) fn insert_query(&self, query: Arc<QueryShared>) -> bool {
        let mut queries = lock(&self.queries);
        // Under the lock under which `die` takes them all: a query is either taken there or refused here.
        if self.is_dead() {
            return false;
        }
        queries.insert(query.id, query);
        true
    }
    pub(crate) fn query(&self, id: QueryId) -> Option<Arc<QueryShared>> {
        lock(&self.queries).get(&id).cloned()
    }
    pub(crate) fn queries(&self) -> Vec<Arc<QueryShared>> {
        lock(&self.queries).values().cloned().collect()
    }
    pub(crate) fn query_count(&self) -> usize {
        lock(&self.queries).len()
    }
    /// Takes a query out of the list; whoever gets it drops it from the workers.
    pub(crate) fn take_query(&self, id: QueryId) -> Option<Arc<QueryShared>> {
        lock(&self.queries).remove(&id)
    }
    /// As `take_query`, but only if the id still stands for this very query.
    pub(crate) fn take_this_query(&self, query: &QueryShared) -> Option<Arc<QueryShared>> {
        let mut queries = lock(&self.queries);
        let same = queries.get(&query.id).is_some_and(|have| std::ptr::eq(&**have, query));
        if same { queries.remove(&query.id) } else { None }
    }

    /// Ends the queries that read a feed. Called after the feed's removal was put into the queues: who is
    /// not yet listed here is installed after it, and finds no feed.
    pub(crate) fn fail_readers(&self, feed: QueryId, message: &str) {
        for query in self.queries() {
            if query.program.feeds().contains(&feed) {
                query.fail(self, message);
            }
        }
    }

    pub(crate) fn count_table(&self, table: &Arc<str>, count: impl FnOnce(&mut TableStats)) {
        let mut tables = lock(&self.tables);
        let stats = tables
            .entry(Arc::clone(table))
            .or_insert_with(|| TableStats { table: table.to_string(), ..TableStats::default() });
        count(stats);
    }
    pub(crate) fn tables(&self) -> Vec<TableStats> {
        lock(&self.tables).values().cloned().collect()
    }

    pub(crate) fn count_cuts(&self, cuts: &Cuts) {
        lock(&self.cuts).add(cuts);
    }
    pub(crate) fn cuts(&self) -> Cuts {
        *lock(&self.cuts)
    }

    /// Has something large dropped by a thread that nobody waits for.
    pub(crate) fn throw_away(&self, rubbish: Rubbish) {
        // Without a receiver it is dropped here.
        drop(lock(&self.rubbish).send(rubbish));
    }

    /// The worker works on a query from now on, or on none. What it was when it died, it died of.
    pub(crate) fn runs(&self, worker: usize, query: Option<QueryId>) {
        self.running[worker].store(query.map_or(0, |id| id.wrapping_add(1)), Ordering::Relaxed);
    }
    /// The query that ran on the worker that died.
    pub(crate) fn died_of(&self) -> Option<QueryId> {
        self.died_of.load(Ordering::Acquire).checked_sub(1)
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }
    /// A worker thread died, or another process: every query fails, once, and then the engine says so, once.
    pub(crate) fn die(&self, worker: Option<usize>, message: &str) {
        let queries = {
            let mut queries = lock(&self.queries);
            if self.is_dead() {
                return;
            }
            // Before the engine counts as dead: whoever finds it so may ask at once.
            let running = worker.map_or(0, |worker| self.running[worker].load(Ordering::Relaxed));
            self.died_of.store(running, Ordering::Release);
            self.dead.store(true, Ordering::Release);
            std::mem::take(&mut *queries)
        };
        if let Some(mesh) = &self.config.mesh {
            mesh.note_death(self.died_of());
            mesh.deposits().close();
            tracing::warn!(message, "a generation of the cluster part is over");
        }
        // The others hear of it.
        self.wires.iter().for_each(|wires| wires.cut());
        for query in queries.into_values() {
            if query.end() {
                self.emit(EngineEvent::Failed { query: query.id, message: message.to_string() });
            }
        }
        // Nobody takes what waits any more.
        lock(&self.queues).of_workers.iter_mut().for_each(|queue| *queue = Vec::new());
        self.emit(EngineEvent::Died { query: self.died_of(), message: message.to_string() });
        self.meter.wake_all();
    }
}
