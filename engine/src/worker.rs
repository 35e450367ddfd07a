//! A worker thread: applies commands in queue order, steps timely, reports frontiers, and lets go of
//! what was removed. All workers run this same loop and build the same dataflows.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow_array::BooleanArray;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampNanosecondType;
use arrow_select::filter::filter_record_batch;
use timely::worker::Worker as TimelyWorker;
use weir_types::clock::{FUTURE_NS_MAX, tick_unix_ns};
use weir_types::metadata::MetadataSnapshot;

use crate::api::{FeedExchange, QueryId};
use crate::budget::Rounds;
use crate::order::Words;
use crate::query::{Env, QueryShared};
use crate::queue::{Command, EngineShared, PushedBatch};
use crate::render::{Sources, render};

/// An idle worker looks around at least this often.
const PARK_MAX: Duration = Duration::from_millis(500);

/// No batch has this number.
const NEVER_BATCH: u64 = u64::MAX;

/// A query as one worker has it.
struct Installed {
    env: Rc<Env>,
    sources: Sources,
    /// The least refresh that is not closed yet.
    open_tick_ms: u64,
    held: bool,
    /// Of the first batch that is for it: earlier ones it gets by replay.
    first_batch: u64,
    /// A query without operators has no dataflow; its frontier is what is closed.
    is_empty: bool,
}

impl Installed {
    fn query(&self) -> &QueryShared {
        &self.env.query
    }

    /// The earliest tick at which a query can start that reads this feed now: nothing that was told is
    /// of a later one.
    fn readable_from(&self) -> u64 {
        let query = self.query();
        self.open_tick_ms.saturating_sub(query.refresh_ms).max(query.start_tick_ms())
    }

    /// The refresh at which something that arrives at `tick_ms` is admitted.
    fn admission_tick(&self, tick_ms: u64) -> u64 {
        self.query().refresh_from(tick_ms).max(self.open_tick_ms)
    }

    fn close(&mut self, tick_ms: u64) {
        let closed = self.query().refresh_at(tick_ms);
        if !self.held && closed >= self.open_tick_ms {
            self.open_tick_ms = closed + self.query().refresh_ms;
            self.sources.open(self.open_tick_ms);
        }
    }
}

/// A dataflow that was told to end and has not drained yet.
struct Draining {
    dataflow: Option<usize>,
    env: Rc<Env>,
}

struct Worker<'w> {
    timely: &'w mut TimelyWorker,
    shared: &'w Arc<EngineShared>,
    index: usize,
    /// Among those of this process.
    local: usize,
    queries: BTreeMap<QueryId, (Installed, Option<usize>)>,
    draining: Vec<Draining>,
    /// Rows that wait for their tick to close, with the number of their batch.
    pending: Vec<(u64, Arc<str>, Arc<PushedBatch>)>,
    next_batch: u64,
    /// The number of the next batch of history: as of the others, the same on all workers of the process.
    next_replayed: u64,
    metadata: Rc<RefCell<Arc<MetadataSnapshot>>>,
    rounds: Rc<Rounds>,
}

/// Reports the death of a worker by anything that operators' own guards do not contain.
struct DeathWatch<'a> {
    shared: &'a EngineShared,
    worker: usize,
}

impl Drop for DeathWatch<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.die(Some(self.worker), "an engine worker died");
        }
        self.shared.wires.iter().for_each(|wires| wires.worker_ended());
    }
}

pub(crate) fn run(timely: &mut TimelyWorker, shared: &Arc<EngineShared>) {
    let index = timely.index();
    // Of this process.
    let local = index % shared.config.workers;
    let _watch = DeathWatch { shared, worker: local };
    shared.meter.register_thread(local);
    let mut words = Words::new(timely, shared);
    let mut worker = Worker {
        timely,
        shared,
        index,
        local,
        queries: BTreeMap::new(),
        draining: Vec::new(),
        pending: Vec::new(),
        next_batch: 0,
        next_replayed: 0,
        metadata: Rc::default(),
        rounds: Rc::default(),
    };
    let mut commands = Vec::new();
    loop {
        if local == 0 {
            shared.look_at_processes();
        }
        shared.take(local, &mut commands);
        if let Some(words) = words.as_mut().filter(|_| local == 0) {
            // After the commands: others hear of the end before this worker goes.
            words.say(shared, shared.take_words());
        }
        // After the commands are taken: what was set before a command is there when it is applied.
        *worker.metadata.borrow_mut() = shared.metadata();
        let has_news = !commands.is_empty();
        for command in commands.drain(..) {
            if !worker.apply(command) {
                drop(words.take());
                worker.finish();
                return;
            }
        }
        if shared.is_dead() {
            worker.abandon();
            return;
        }
        if has_news {
            // Queries without operators move and end without a step.
            worker.after_step();
        }
        worker.begin_round();
        worker.timely.step_or_park(Some(PARK_MAX));
        worker.after_step();
    }
}

impl Worker<'_> {
    /// False: stop.
    fn apply(&mut self, command: Command) -> bool {
        match command {
            Command::Install(query) => self.install(query),
            Command::Remove(query) => self.remove(query),
            Command::Rows { table, batch } => {
                self.pending.push((self.next_batch, table, batch));
                self.next_batch += 1;
            }
            Command::Replay { query, table, batches, held } => {
                let first = self.next_replayed;
                self.next_replayed += batches.len() as u64;
                if let Some((installed, _)) = self.queries.get(&query) {
                    for (number, (admitted_ms, batch)) in (first..).zip(&batches) {
                        if !installed.sources.team.takes(number) {
                            continue;
                        }
                        let ticks_ms = [installed.admission_tick(*admitted_ms), *admitted_ms];
                        installed.sources.push_rows(&table, ticks_ms, batch, Some(&held));
                    }
                }
            }
            Command::GoLive(query) => {
                if let Some((installed, _)) = self.queries.get_mut(&query) {
                    installed.first_batch = self.next_batch;
                }
            }
            Command::Hold { query, held } => {
                if let Some((installed, _)) = self.queries.get_mut(&query) {
                    installed.held = held;
                }
            }
            Command::CloseTick(tick_ms) => self.close_tick(tick_ms),
            Command::Changes { query, exchange, tick_ms, changes, held } => {
                if let Some((installed, _)) = self.queries.get(&query) {
                    let tick_ms = installed.admission_tick(tick_ms);
                    installed.sources.push_changes(exchange, tick_ms, changes, &held);
                }
            }
            Command::CloseQueryTick { query, tick_ms } => {
                if let Some((installed, _)) = self.queries.get_mut(&query) {
                    installed.close(tick_ms);
                }
            }
            Command::TableFunction { query, op, rows } => {
                if let Some((installed, _)) = self.queries.get(&query) {
                    installed.sources.push_table_function(op, installed.open_tick_ms, rows);
                }
            }
            Command::Die => panic!("test fault: this worker was told to die"),
            Command::Shutdown => return false,
        }
        true
    }

    fn install(&mut self, query: Arc<QueryShared>) {
        let id = query.id;
        let env = Rc::new(Env::new(
            query,
            Arc::clone(self.shared),
            (self.index, self.timely.peers()),
            Rc::clone(&self.metadata),
            Rc::clone(&self.rounds),
        ));
        self.start_after_feeds(&env.query);
        let is_empty = env.query.program.is_empty();
        let (sources, dataflow) = if is_empty {
            (Sources::default(), None)
        } else {
            let dataflow = self.timely.next_dataflow_index();
            let queries = &self.queries;
            let feeds = |at: FeedExchange| {
                let feed = queries.get(&at.feed);
                feed.map_or_else(Vec::new, |(feed, _)| feed.sources.publishers_of(at.exchange))
            };
            self.shared.runs(self.local, Some(id));
            let sources = render(self.timely, &env, &feeds);
            self.shared.runs(self.local, None);
            (sources, Some(dataflow))
        };
        for (feed, _) in env.query.program.feeds().iter().filter_map(|id| self.queries.get(id)) {
            // Gives the new reader its first rows.
            feed.env.activate_all();
        }
        let open_tick_ms = env.query.start_tick_ms();
        let first_batch = if env.query.install.is_live { self.next_batch } else { NEVER_BATCH };
        let installed =
            Installed { env, sources, open_tick_ms, held: false, first_batch, is_empty };
        self.queries.insert(id, (installed, dataflow));
    }

    /// Readers of feeds start where these are. The same on all workers: what is installed and closed
    /// when a command comes is.
    fn start_after_feeds(&self, query: &QueryShared) {
        for id in query.program.feeds() {
            match self.queries.get(id) {
                Some((feed, _)) => query.start_from(feed.readable_from()),
                None => query.fail(self.shared, &format!("feed {id} has ended")),
            }
        }
        for FeedExchange { feed, exchange } in query.program.imports() {
            let Some((feed, _)) = self.queries.get(&feed) else { continue };
            let is_new = feed.open_tick_ms == feed.query().start_tick_ms();
            if !is_new && !feed.query().program.holds(exchange) {
                query.fail(self.shared, "rows that never expire are not kept for late readers");
            }
        }
    }

    fn remove(&mut self, query: QueryId) {
        if let Some((installed, dataflow)) = self.queries.remove(&query) {
            let feeds = installed.query().program.feeds();
            for (feed, _) in feeds.iter().filter_map(|id| self.queries.get(id)) {
                feed.sources.publishers().for_each(|publisher| publisher.forget(query));
            }
            // Operators see that the query is over and drop their state and capabilities.
            installed.env.activate_all();
            self.draining.push(Draining { dataflow, env: Rc::clone(&installed.env) });
        }
    }

    fn close_tick(&mut self, tick_ms: u64) {
        let latest_ns = tick_unix_ns(tick_ms).saturating_add(FUTURE_NS_MAX);
        for (number, table, batch) in std::mem::take(&mut self.pending) {
            if self.local == 0 {
                self.shared.pending_bytes.fetch_sub(batch.bytes, Ordering::Relaxed);
            }
            let is_whole = batch.time_max_unix_ns <= latest_ns;
            let takes = |installed: &&Installed| {
                number >= installed.first_batch && installed.sources.takes(&table, number)
            };
            let takers: Vec<&Installed> =
                self.queries.values().map(|(installed, _)| installed).filter(takes).collect();
            // One of the workers counts what is left out, whoever takes the rest.
            if takers.is_empty() && (is_whole || self.local != 0) {
                continue;
            }
            let batch = match is_whole {
                true => Some(batch),
                false => self.without_future(&table, &batch, latest_ns),
            };
            let Some(batch) = batch else { continue };
            for installed in takers {
                let ticks_ms = [installed.admission_tick(tick_ms), tick_ms];
                installed.sources.push_rows(&table, ticks_ms, &batch, None);
            }
        }
        for (installed, _) in self.queries.values_mut() {
            if installed.query().program.is_of_node() {
                installed.close(tick_ms);
            }
        }
    }

    /// Drops the rows that are too far ahead of their arrival, and counts them.
    fn without_future(
        &self,
        table: &Arc<str>,
        batch: &PushedBatch,
        latest_ns: i64,
    ) -> Option<Arc<PushedBatch>> {
        let times = batch.rows.column(batch.time_idx).as_primitive::<TimestampNanosecondType>();
        let keep: BooleanArray =
            times.values().iter().map(|&time| Some(time <= latest_ns)).collect();
        let dropped = (batch.rows.num_rows() - keep.true_count()) as u64;
        if self.local == 0 {
            self.shared.count_table(table, |stats| stats.future_rows += dropped);
        }
        let kept = filter_record_batch(&batch.rows, &keep).ok()?;
        if kept.num_rows() == 0 { None } else { PushedBatch::new(kept).map(Arc::new) }
    }

    fn begin_round(&self) {
        self.rounds.next(&self.shared.config.limits);
        self.queries.values().for_each(|(installed, _)| installed.env.unblock());
    }

    fn after_step(&mut self) {
        if self.local == 0 {
            // Probes are about all workers, so one of them may speak for all; one of each process does, about what
            // was said there.
            for (installed, _) in self.queries.values() {
                let open = if installed.is_empty {
                    Some(installed.open_tick_ms)
                } else {
                    installed.sources.frontier_tick_ms()
                };
                let query = installed.query();
                let closed = open.and_then(|open| open.checked_sub(query.refresh_ms));
                if let Some(closed) = closed.filter(|&closed| closed >= query.start_tick_ms()) {
                    match self.index {
                        0 => query.report_frontier(self.shared, closed),
                        _ => query.report_passed(self.shared, closed),
                    }
                }
            }
        }
        if !self.draining.is_empty() {
            let alive = self.timely.installed_dataflows();
            self.draining.retain(|draining| {
                let drains = draining.dataflow.is_some_and(|dataflow| alive.contains(&dataflow));
                if !drains {
                    draining.env.query.worker_done(self.shared);
                }
                drains
            });
        }
        let gauges = &self.shared.gauges[self.local];
        gauges.cpu_ns.store(thread_cpu_ns(), Ordering::Relaxed);
        let dataflows = self.timely.installed_dataflows().len() as u64;
        gauges.dataflows.store(dataflows, Ordering::Relaxed);
    }

    /// Lets everything drain; timely itself steps on until no dataflow is left.
    fn finish(&mut self) {
        let queries = std::mem::take(&mut self.queries);
        for (installed, _) in queries.into_values() {
            installed.query().end();
            installed.env.activate_all();
        }
        // Of one process timely does this by itself. Another one may die meanwhile, or hang: its sockets are cut then.
        while self.shared.wires.is_some() && self.timely.has_dataflows() && !self.shared.is_dead() {
            self.timely.step_or_park(Some(PARK_MAX));
        }
        if self.shared.is_dead() {
            self.abandon();
        }
    }

    /// Another worker died: nothing will ever drain, so dataflows are dropped as they stand.
    fn abandon(&mut self) {
        self.queries.clear();
        self.draining.clear();
        for dataflow in self.timely.installed_dataflows() {
            self.timely.drop_dataflow(dataflow);
        }
    }
}

fn thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    seconds.unwrap_or(0) * 1_000_000_000 + nanos.unwrap_or(0)
}
