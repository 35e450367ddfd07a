//! The handle on an engine: thread-safe, never blocks for longer than a queue's short lock.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use timely::CommunicationConfig as Communication;
use timely::communication::WorkerGuards;
use timely::execute::execute_from;
use timely::worker::Worker as TimelyWorker;
use weir_functions::cuts::Cuts;
use weir_types::PackedRow;
use weir_types::batch::RecordBatch;
use weir_types::figures::QueryFigures;
use weir_types::metadata::{MetadataSnapshot, Wanted};
use weir_types::plan::OpId;
use weir_types::split::{Change, ExchangeId};

use crate::api::{
    EngineConfig, EngineError, EngineEvent, EngineStats, FeedExchange, Install, QueryId,
    TableStats, WorkerStats,
};
use crate::budget::{Gauge, Purpose};
use crate::mesh::wire::{self, Wires};
use crate::mesh::{Mesh, Met};
use crate::prepare::{ReadyProgram, ReceiveSpec};
use crate::query::QueryShared;
use crate::queue::{Command, EngineShared, PushedBatch, Rubbish};
use crate::worker;

/// What its workers share, the workers, and the queries that other processes died of.
type Started = (Arc<EngineShared>, WorkerGuards<()>, Vec<QueryId>);

/// Owns the worker threads. Dropping it stops them and waits (so do it off async threads).
pub struct Engine {
    shared: Arc<EngineShared>,
    /// The workers, and who drops what they throw away.
    threads: Mutex<Option<(WorkerGuards<()>, JoinHandle<()>)>>,
    /// Queries that other processes died of.
    blamed: Mutex<Vec<QueryId>>,
}

impl Engine {
    /// Starts the workers. `emit` is called on worker threads and must not block.
    ///
    /// # Errors
    /// If threads cannot be started.
    pub fn start(
        mut config: EngineConfig,
        emit: Arc<dyn Fn(EngineEvent) + Send + Sync>,
    ) -> Result<Engine, EngineError> {
        config.workers = config.workers.max(1);
        // Before anything is made of it: it may take long.
        let met = config.mesh.as_ref().map(Mesh::meet).transpose();
        let met = met.map_err(EngineError::Start)?;
        let (rubbish, thrown_away) = channel();
        let reaper = std::thread::Builder::new()
            .name(format!("{}-reaper", config.name))
            .spawn(move || thrown_away.iter().map_while(|rubbish: Rubbish| rubbish).for_each(drop))
            .map_err(|error| EngineError::Start(error.to_string()))?;
        let started = Engine::start_workers(config, met, emit, rubbish);
        let (shared, guards, blamed) = started.map_err(EngineError::Start)?;
        let threads = Mutex::new(Some((guards, reaper)));
        Ok(Engine { shared, threads, blamed: Mutex::new(blamed) })
    }

    fn start_workers(
        config: EngineConfig,
        met: Option<Met>,
        emit: Arc<dyn Fn(EngineEvent) + Send + Sync>,
        rubbish: Sender<Rubbish>,
    ) -> Result<Started, String> {
        let (workers, process) = (config.workers, config.process());
        let text = |error: std::io::Error| error.to_string();
        let wires = met.as_ref().map(|met| Wires::new(&met.sockets, workers));
        let wires = wires.transpose().map_err(text)?;
        let shared = Arc::new(EngineShared::new(config, emit, rubbish, wires.clone()));
        let (blamed, (builders, others)) = match met.zip(wires) {
            None if workers == 1 => (Vec::new(), Communication::Thread.try_build()?),
            None => (Vec::new(), Communication::Process(workers).try_build()?),
            Some((met, wires)) => {
                let engine = Arc::downgrade(&shared);
                wires.on_loss(Box::new(move |why| {
                    if let Some(engine) = engine.upgrade() {
                        engine.die(None, why);
                    }
                }));
                let built = wire::builders(met.sockets, process, workers, &wires).map_err(text)?;
                (met.blamed, built)
            }
        };
        let for_workers = Arc::clone(&shared);
        let run = move |timely: &mut TimelyWorker| worker::run(timely, &for_workers);
        let guards = execute_from(builders, others, timely::WorkerConfig::default(), run)?;
        Ok((shared, guards, blamed))
    }

    /// An engine of which the other processes have not come yet: as one that has died.
    pub(crate) fn absent(
        config: EngineConfig,
        emit: Arc<dyn Fn(EngineEvent) + Send + Sync>,
    ) -> Engine {
        let (rubbish, _) = channel();
        let shared = Arc::new(EngineShared::new(config, emit, rubbish, None));
        shared.die(None, "the processes of the cluster part have not all come yet");
        Engine { shared, threads: Mutex::default(), blamed: Mutex::default() }
    }

    /// Queries of the last generation that other processes worked on when they died, once.
    #[must_use]
    pub fn take_blamed(&self) -> Vec<QueryId> {
        std::mem::take(&mut *self.blamed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the generation, here and so in all of its processes.
    pub fn give_up(&self, why: &str) {
        self.shared.die(None, why);
    }

    /// Installs a query; one of the same id goes first, silently. A part that cannot be run, or an engine
    /// that is dead, is answered by `Failed`.
    pub fn install(&self, install: Install) {
        let program = ReadyProgram(self.shared.program(&install));
        self.install_ready(install, program);
    }

    /// As [`Engine::install`], with a program that was made ahead: fit for threads that must not compile.
    pub fn install_ready(&self, install: Install, program: ReadyProgram) {
        if !self.leads("install") {
            return;
        }
        self.drop_query(install.query, false);
        if let Err(message) = self.enter(&install, program) {
            self.shared.emit(EngineEvent::Failed { query: install.query, message });
        }
    }

    /// What it was started with: all of it that programs made ahead have to know.
    #[must_use]
    pub fn config(&self) -> &EngineConfig {
        &self.shared.config
    }

    fn enter(&self, install: &Install, program: ReadyProgram) -> Result<(), String> {
        let program = program.0?;
        for FeedExchange { feed, exchange } in program.imports() {
            let found = self.shared.query(feed);
            if !found.is_some_and(|feed| feed.program.publishes(exchange)) {
                return Err(format!("there is no feed {feed} with an exchange {exchange}"));
            }
        }
        self.shared.enter(install, program)
    }

    fn order(&self, what: &str, command: Command) {
        if self.leads(what) {
            self.shared.broadcast(command);
        }
    }

    /// True in the process where orders are given.
    fn leads(&self, what: &str) -> bool {
        let leads = self.shared.config.leads();
        if !leads {
            tracing::error!(
                what,
                "orders are given in process 0 of an engine: this one is ignored"
            );
        }
        leads
    }

    /// True if a query that is installed now can import the exchange whatever has passed through it.
    /// False for rows that never expire: a feed tells them once and does not keep them.
    #[must_use]
    pub fn holds(&self, at: FeedExchange) -> bool {
        self.shared.query(at.feed).is_some_and(|feed| feed.program.holds(at.exchange))
    }

    /// Drops a query; `Removed` follows when its state is released. Unknown ids are ignored.
    pub fn remove(&self, query: QueryId) {
        if !self.leads("remove") {
            return;
        }
        self.drop_query(query, true);
    }

    fn drop_query(&self, query: QueryId, announce: bool) {
        if let Some(shared) = self.shared.take_query(query) {
            if announce {
                shared.announce_removal();
            }
            shared.end();
            self.shared.broadcast(Command::Remove(query));
            self.shared.fail_readers(query, "the feed that it reads was removed");
        }
    }

    /// Rows of a table, with the table's whole schema, for all queries that scan it now. They are
    /// admitted by the next [`Engine::close_tick`].
    pub fn push_rows(&self, table: &str, batch: RecordBatch) {
        let rows = batch.num_rows() as u64;
        if rows == 0 {
            return;
        }
        let table: Arc<str> = table.into();
        let Some(batch) = PushedBatch::new(batch) else {
            self.shared.count_table(&table, |stats| stats.no_time_rows += rows);
            return;
        };
        let waiting = self.shared.pending_bytes.fetch_add(batch.bytes, Ordering::Relaxed);
        let full = waiting + batch.bytes > self.shared.config.limits.pending_bytes_max;
        self.shared.count_table(&table, |stats| {
            stats.rows += rows;
            if full {
                stats.queue_full_rows += rows;
            }
        });
        if full {
            self.shared.pending_bytes.fetch_sub(batch.bytes, Ordering::Relaxed);
            return;
        }
        self.shared.tell(&Command::Rows { table, batch: Arc::new(batch) }, false);
    }

    /// Back-fill: rows of a table for one query, each batch with the tick that admitted it; what is of a tick
    /// before the query's next one is admitted at that. Call [`Engine::hold`] right after `install` and
    /// release it when all is replayed: until then its frontier stands still, while other queries go on.
    pub fn replay(&self, query: QueryId, table: &str, batches: Vec<(u64, RecordBatch)>) {
        let batches: Vec<_> = batches
            .into_iter()
            .filter(|(_, batch)| batch.num_rows() > 0)
            .filter_map(|(tick_ms, batch)| Some((tick_ms, Arc::new(PushedBatch::new(batch)?))))
            .collect();
        let Some(shared) = self.shared.query(query) else { return };
        let bytes: u64 = batches.iter().map(|(_, batch)| batch.bytes).sum();
        let mut held = Gauge::new(shared, Arc::clone(&self.shared), Purpose::Replayed);
        held.set(usize::try_from(bytes).unwrap_or(usize::MAX));
        let held = Arc::new(held);
        let command = Command::Replay { query, table: table.into(), batches, held };
        self.shared.tell(&command, true);
    }

    /// True if there is room for another slice of history for the query: [`crate::Limits::replayed_bytes_max`].
    /// One for which none waits has room whatever the others do.
    #[must_use]
    pub fn takes_replay(&self, query: QueryId) -> bool {
        let is_empty = self.shared.query(query).is_none_or(|query| query.holdings.replayed() == 0);
        is_empty
            || self.shared.meter.replayed_bytes() < self.shared.config.limits.replayed_bytes_max
    }

    /// Rows that are pushed from now on are for the query, which was installed without.
    pub fn go_live(&self, query: QueryId) {
        self.order("go_live", Command::GoLive(query));
    }

    /// Bytes of pushed rows that wait for a tick to close.
    #[must_use]
    pub fn backlog_bytes(&self) -> u64 {
        if self.is_dead() {
            return 0;
        }
        self.shared.pending_bytes.load(Ordering::Relaxed)
    }

    /// `held`: closing ticks does not move this query's frontier until it is released. Rows go on
    /// being taken in.
    pub fn hold(&self, query: QueryId, held: bool) {
        self.order("hold", Command::Hold { query, held });
    }

    /// Everything pushed so far is admitted at `tick_ms`. Ticks ascend. Concerns node parts.
    pub fn close_tick(&self, tick_ms: u64) {
        self.order("close_tick", Command::CloseTick(tick_ms));
    }

    /// Changes from one node for one exchange of a feed, or of a query. A tick that is closed already
    /// stands for the next one that is not.
    pub fn push_changes(
        &self,
        query: QueryId,
        exchange: ExchangeId,
        tick_ms: u64,
        changes: Vec<Change>,
    ) {
        self.shared.push_changes(query, exchange, tick_ms, changes);
    }

    /// The same of changes that another process has read and keeps under a number ([`crate::Deposits`]).
    pub fn take_deposit(
        &self,
        query: QueryId,
        exchange: ExchangeId,
        tick_ms: u64,
        at: (usize, u64),
    ) {
        self.shared.say_of_deposit(at, Some((query, exchange, tick_ms)));
    }

    /// Nobody wants these.
    pub fn drop_deposit(&self, at: (usize, u64)) {
        self.shared.say_of_deposit(at, None);
    }

    /// All live nodes have reported `tick_ms` for this query. Concerns feeds and queries.
    pub fn close_query_tick(&self, query: QueryId, tick_ms: u64) {
        self.order("close_query_tick", Command::CloseQueryTick { query, tick_ms });
    }

    /// The contents of a table-function source of a query, in place of the former ones, from the next
    /// refresh on. `op` is its position in the plan.
    pub fn push_table_function(&self, query: QueryId, op: OpId, rows: Vec<PackedRow>) {
        let command = Command::TableFunction { query, op, rows: Arc::new(rows) };
        self.shared.send(Some(0), command, true);
    }

    /// What metadata functions read from now on.
    pub fn set_metadata(&self, metadata: Arc<MetadataSnapshot>) {
        self.shared.set_metadata(metadata);
    }

    /// What functions were asked since the last time and did not know.
    #[must_use]
    pub fn take_wanted(&self) -> Wanted {
        self.shared.wants.take()
    }

    /// How much of what they were asked found no room to be noted, since the start.
    #[must_use]
    pub fn wanted_left_out(&self) -> u64 {
        self.shared.wants.left_out()
    }

    /// The earliest tick after the query's reported frontier at which its results can change without
    /// new input: a pane expires, a row's time comes, an expression reads the clock. `None`: never.
    /// Of a query over feeds, theirs count. Holds when the `Frontier` of the last closed tick has been
    /// received.
    #[must_use]
    pub fn next_due(&self, query: QueryId) -> Option<u64> {
        let query = self.shared.query(query)?;
        let feeds = query.program.feeds().iter().filter_map(|&feed| self.shared.query(feed));
        feeds.chain([Arc::clone(&query)]).filter_map(|query| query.next_due()).min()
    }

    /// What functions of a query left out since it was installed.
    #[must_use]
    pub fn cuts(&self, query: QueryId) -> Cuts {
        self.shared.query(query).map(|query| query.cuts()).unwrap_or_default()
    }

    /// By table: rows in the windows that a query reads, at a tick that it has come to, which have no group of
    /// their own and are counted as `__overflow__`.
    #[must_use]
    pub fn overflow(&self, query: QueryId, tick_ms: u64) -> BTreeMap<String, u64> {
        let mut rows = BTreeMap::new();
        let Some(query) = self.shared.query(query) else { return rows };
        let mut note = |holder: &QueryShared, exchange, spec: &ReceiveSpec| {
            let count = holder.overflow_at(exchange, tick_ms);
            if count > 0 {
                *rows.entry(spec.table.to_string()).or_default() += count;
            }
        };
        for (exchange, spec) in query.program.receives() {
            note(&query, exchange, spec);
        }
        for FeedExchange { feed, exchange } in query.program.imports() {
            let Some(feed) = self.shared.query(feed) else { continue };
            if let Some(spec) = feed.program.receive(exchange) {
                note(&feed, exchange, spec);
            }
        }
        rows
    }

    /// Rows that found no group of their own, of all queries since the engine began.
    #[must_use]
    pub fn overflow_rows_total(&self) -> u64 {
        self.shared.overflow_rows_total.load(Ordering::Relaxed)
    }

    /// What bounds scans without a start.
    #[must_use]
    pub fn retention_ns(&self) -> Option<i64> {
        self.shared.config.retention_ns
    }

    /// Of each table, the rows that did not make it.
    #[must_use]
    pub fn table_stats(&self) -> Vec<TableStats> {
        self.shared.tables()
    }

    #[must_use]
    pub fn stats(&self) -> EngineStats {
        let workers = self.shared.gauges.iter().map(|gauges| WorkerStats {
            cpu_ns: gauges.cpu_ns.load(Ordering::Relaxed),
            dataflows: gauges.dataflows.load(Ordering::Relaxed),
        });
        EngineStats {
            held_bytes: self.shared.meter.held_bytes(),
            pending_bytes: self.backlog_bytes(),
            queries: self.shared.queries().iter().map(|query| query.stats()).collect(),
            workers: workers.collect(),
            tables: self.shared.tables(),
            cuts: self.shared.cuts(),
            overflow_rows_total: self.overflow_rows_total(),
            processes: self.shared.elsewhere(),
        }
    }

    /// What every query does, operator by operator.
    #[must_use]
    pub fn figures(&self) -> Vec<QueryFigures> {
        let queries = self.shared.queries();
        let figures = queries.iter().map(|query| QueryFigures {
            query: query.id,
            refresh_ms: query.refresh_ms,
            refreshes: query.refresh_figures(),
            operators: query.operator_figures(),
        });
        figures.collect()
    }

    /// True if a worker thread died. Every query has then failed and `Died` been said; a new engine is
    /// needed, and this one may be dropped at any time.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.shared.is_dead()
    }

    /// Of a dead engine: the query that its worker was working on.
    #[must_use]
    pub fn died_of(&self) -> Option<QueryId> {
        self.shared.died_of()
    }

    /// With [`EngineConfig::test_faults`]: a worker thread panics outside every operator, so the engine dies.
    pub fn kill_worker(&self) {
        if self.shared.config.test_faults {
            self.shared.send(None, Command::Die, true);
        }
    }

    /// In a process that follows: waits until the first one has stopped.
    pub fn wait(&self) {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((guards, reaper)) = threads else { return };
        self.join(guards, reaper);
    }

    /// Stops the workers and waits for them. An engine of several processes is stopped in the first one.
    pub fn shutdown(self) {
        self.stop();
    }

    pub(crate) fn stop(&self) {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((guards, reaper)) = threads else { return };
        if !self.shared.config.leads() {
            self.shared.die(None, "this process stops");
        }
        for query in self.shared.queries() {
            query.end();
        }
        self.shared.closes();
        self.shared.broadcast(Command::Shutdown);
        self.join(guards, reaper);
    }

    fn join(&self, guards: WorkerGuards<()>, reaper: JoinHandle<()>) {
        // Threads that speak to other processes panic if a worker did.
        let joined = std::panic::catch_unwind(AssertUnwindSafe(|| guards.join()));
        for result in joined.unwrap_or_default() {
            if let Err(message) = result {
                tracing::error!(engine = self.shared.config.name, message, "worker died");
            }
        }
        self.shared.config.mesh.iter().for_each(|mesh| mesh.deposits().close());
        self.shared.throw_away(None);
        drop(reaper.join());
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}
