//! One installed query: what all workers share of it, and each worker's environment for its
//! operators (panics and errors contained, time and state counted, metadata at hand).

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use timely::scheduling::Activator;
use weir_functions::cuts::{self, Cuts};
use weir_functions::{EvalCtx, FunctionError};
use weir_types::Clock;
use weir_types::clock::tick_unix_ns;
use weir_types::figures::{OperatorFigures, OperatorPlace, RefreshFigures};
use weir_types::metadata::MetadataSnapshot;
use weir_types::split::ExchangeId;
use weir_types::text::panic_text;

use crate::api::{EngineEvent, Install, Limits, QueryId, QueryStats};
use crate::budget::{Gauge, Holdings, Purpose, Rounds, Turns, Unread};
use crate::operators::{self, Frame};
use crate::order::Word;
use crate::prepare::Program;
use crate::queue::{Command, EngineShared};

/// Why an operator cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpError {
    #[error(transparent)]
    Function(#[from] FunctionError),
    #[error(transparent)]
    Arrow(#[from] arrow_schema::ArrowError),
    #[error("table {table} has no column {column}")]
    Column { table: String, column: String },
    #[error("a row does not fit the plan's relation in {0}")]
    Row(&'static str),
    #[error("rows occur more often than 2^63 times in {0}")]
    Copies(&'static str),
}

/// The panic that no guard contains: a test fault.
pub(crate) struct TestDeath;

/// No frontier reported yet.
const NO_FRONTIER: u64 = u64::MAX;
/// Nothing due.
const NEVER: u64 = u64::MAX;

pub(crate) struct QueryShared {
    pub(crate) id: QueryId,
    /// As it was asked for.
    pub(crate) install: Install,
    pub(crate) program: Program,
    pub(crate) refresh_ms: u64,
    /// A multiple of the refresh.
    start_tick_ms: AtomicU64,
    live: AtomicBool,
    /// Say `Removed` once the workers have let go.
    announce_removal: AtomicBool,
    workers_left: AtomicUsize,
    pub(crate) holdings: Arc<Holdings>,
    cpu_ns: AtomicU64,
    yields: AtomicU64,
    operators: AtomicU64,
    pub(crate) rows_in: AtomicU64,
    pub(crate) late_rows: AtomicU64,
    frontier_tick_ms: AtomicU64,
    /// Of the refreshes that were closed: how many, how late the last one was, and all of them together.
    refreshes: AtomicU64,
    late_ns: AtomicU64,
    late_ns_total: AtomicU64,
    /// Of all workers.
    frames: Mutex<Vec<Arc<Frame>>>,
    /// What its functions left out.
    cuts: Mutex<Cuts>,
    /// By exchange: how many rows have no group of their own.
    overflow: Mutex<BTreeMap<ExchangeId, Levels>>,
    dues: Mutex<Vec<Arc<AtomicU64>>>,
    /// Of every other process: up to which tick all was said there.
    passed_ms: Vec<AtomicU64>,
}

/// A number of rows, with the ticks at which it changed last.
#[derive(Default)]
struct Levels(VecDeque<(u64, u64)>);

/// Views that lag by more changes are told of the earliest one that is known.
const LEVELS_MAX: usize = 256;

impl Levels {
    fn set(&mut self, tick_ms: u64, rows: u64) {
        if self.0.back().map_or(0, |(_, rows)| *rows) == rows {
            return;
        }
        if self.0.len() == LEVELS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((tick_ms, rows));
    }

    /// Before all changes it was nothing.
    fn at(&self, tick_ms: u64) -> u64 {
        let until = self.0.iter().rev().find(|(changed_ms, _)| *changed_ms <= tick_ms);
        let first = self.0.front().filter(|_| self.0.len() == LEVELS_MAX);
        until.or(first).map_or(0, |(_, rows)| *rows)
    }

    fn last(&self) -> u64 {
        self.0.back().map_or(0, |(_, rows)| *rows)
    }
}

impl QueryShared {
    pub(crate) fn new(
        install: Install,
        program: Program,
        (workers, processes): (usize, usize),
    ) -> QueryShared {
        let (refresh_ms, start_tick_ms) = (install.refresh_ms.max(1), install.start_tick_ms);
        QueryShared {
            id: install.query,
            install,
            program,
            refresh_ms,
            start_tick_ms: AtomicU64::new(start_tick_ms.div_ceil(refresh_ms) * refresh_ms),
            live: AtomicBool::new(true),
            announce_removal: AtomicBool::new(false),
            workers_left: AtomicUsize::new(workers),
            holdings: Arc::default(),
            cpu_ns: AtomicU64::new(0),
            yields: AtomicU64::new(0),
            operators: AtomicU64::new(0),
            rows_in: AtomicU64::new(0),
            late_rows: AtomicU64::new(0),
            frontier_tick_ms: AtomicU64::new(NO_FRONTIER),
            refreshes: AtomicU64::new(0),
            late_ns: AtomicU64::new(0),
            late_ns_total: AtomicU64::new(0),
            frames: Mutex::default(),
            cuts: Mutex::default(),
            overflow: Mutex::default(),
            dues: Mutex::default(),
            passed_ms: (1..processes).map(|_| AtomicU64::new(NO_FRONTIER)).collect(),
        }
    }

    /// The first tick at which results may appear.
    pub(crate) fn start_tick_ms(&self) -> u64 {
        self.start_tick_ms.load(Ordering::Relaxed)
    }
    /// It does not start before `tick_ms`. Every worker says the same, before it builds the dataflow.
    pub(crate) fn start_from(&self, tick_ms: u64) {
        self.start_tick_ms.fetch_max(self.refresh_from(tick_ms), Ordering::Relaxed);
    }

    /// False once it is removed or has failed: operators then let go of everything.
    pub(crate) fn is_live(&self) -> bool {
        self.live.load(Ordering::Acquire)
    }
    /// Ends it; true for the first who does.
    pub(crate) fn end(&self) -> bool {
        self.live.swap(false, Ordering::AcqRel)
    }
    pub(crate) fn announce_removal(&self) {
        self.announce_removal.store(true, Ordering::Release);
    }

    /// Ends the query with a message. Only the first failure is told.
    pub(crate) fn fail(&self, engine: &EngineShared, message: &str) {
        if !self.end() {
            return;
        }
        if engine.take_this_query(self).is_some() {
            engine.broadcast(Command::Remove(self.id));
            let (query, message) = (self.id, message.to_string());
            engine.report(|| Word::Failed { query, message });
        }
        tracing::warn!(query = self.id, message, "query failed");
        engine.emit(EngineEvent::Failed { query: self.id, message: message.to_string() });
        engine.fail_readers(self.id, message);
    }

    /// A worker has let go of its dataflow.
    pub(crate) fn worker_done(&self, engine: &EngineShared) {
        let last = self.workers_left.fetch_sub(1, Ordering::AcqRel) == 1;
        if last && self.announce_removal.load(Ordering::Acquire) {
            engine.emit(EngineEvent::Removed { query: self.id });
        }
    }

    /// The last refresh at or before `tick_ms`.
    pub(crate) fn refresh_at(&self, tick_ms: u64) -> u64 {
        tick_ms / self.refresh_ms * self.refresh_ms
    }
    /// The first refresh at or after `tick_ms`.
    pub(crate) fn refresh_from(&self, tick_ms: u64) -> u64 {
        tick_ms.div_ceil(self.refresh_ms).saturating_mul(self.refresh_ms)
    }
    /// The first refresh whose time is at or after `time_unix_ns`.
    pub(crate) fn refresh_from_ns(&self, time_unix_ns: i64) -> u64 {
        self.refresh_from(u64::try_from(time_unix_ns).unwrap_or(0).div_ceil(1_000_000))
    }

    /// Another process has come so far.
    pub(crate) fn passed(&self, process: usize, tick_ms: u64) {
        let at = process.checked_sub(1).and_then(|at| self.passed_ms.get(at));
        at.into_iter().for_each(|at| at.store(tick_ms, Ordering::Relaxed));
    }

    /// Up to which of these ticks all processes have said what there was; `None`: some have said nothing yet.
    fn passed_by_all(&self, tick_ms: u64) -> Option<u64> {
        let mut elsewhere = self.passed_ms.iter().map(|passed| passed.load(Ordering::Relaxed));
        elsewhere
            .try_fold(tick_ms, |least, passed| (passed != NO_FRONTIER).then(|| least.min(passed)))
    }

    /// In a process that follows: what was said of a tick was said before.
    pub(crate) fn report_passed(&self, engine: &EngineShared, tick_ms: u64) {
        let old = self.frontier_tick_ms.load(Ordering::Relaxed);
        if self.is_live() && (old == NO_FRONTIER || tick_ms > old) {
            self.frontier_tick_ms.store(tick_ms, Ordering::Relaxed);
            let (process, query) = (engine.config.process(), self.id);
            engine.report(|| Word::Passed { process, query, tick_ms });
        }
    }

    pub(crate) fn report_frontier(&self, engine: &EngineShared, tick_ms: u64) {
        let Some(tick_ms) = self.passed_by_all(tick_ms) else { return };
        let old = self.frontier_tick_ms.load(Ordering::Relaxed);
        if self.is_live() && (old == NO_FRONTIER || tick_ms > old) {
            self.frontier_tick_ms.store(tick_ms, Ordering::Relaxed);
            self.count_refreshes(old, tick_ms, engine.clock.now_unix_ns());
            if !self.program.is_feed() {
                engine.emit(EngineEvent::Frontier { query: self.id, tick_ms });
            }
        }
    }

    /// All refreshes up to `tick_ms` are done now. Several at once are as late as the last one: those before
    /// it were passed over, or said at the same time.
    fn count_refreshes(&self, old_ms: u64, tick_ms: u64, now_unix_ns: i64) {
        let from_ms =
            if old_ms == NO_FRONTIER { tick_ms - self.refresh_ms.min(tick_ms) } else { old_ms };
        let count = (tick_ms - from_ms) / self.refresh_ms;
        let late_ns = now_unix_ns.saturating_sub(tick_unix_ns(tick_ms));
        let late_ns = u64::try_from(late_ns).unwrap_or(0);
        self.refreshes.fetch_add(count, Ordering::Relaxed);
        self.late_ns.store(late_ns, Ordering::Relaxed);
        self.late_ns_total.fetch_add(late_ns.saturating_mul(count), Ordering::Relaxed);
    }

    /// How its refreshes are kept.
    pub(crate) fn refresh_figures(&self) -> RefreshFigures {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let frontier = load(&self.frontier_tick_ms);
        RefreshFigures {
            refreshes: load(&self.refreshes),
            late_ns: load(&self.late_ns),
            late_ns_total: load(&self.late_ns_total),
            frontier_tick_ms: (frontier != NO_FRONTIER).then_some(frontier),
        }
    }

    /// What each of its operators has done.
    pub(crate) fn operator_figures(&self) -> Vec<OperatorFigures> {
        operators::figures(&self.frames.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The earliest tick at which it changes without new input.
    pub(crate) fn next_due(&self) -> Option<u64> {
        let dues = self.dues.lock().unwrap_or_else(PoisonError::into_inner);
        dues.iter().map(|due| due.load(Ordering::Acquire)).min().filter(|&due| due != NEVER)
    }

    pub(crate) fn cut(&self, engine: &EngineShared, cuts: &Cuts) {
        let (query, said) = (self.id, *cuts);
        engine.report(|| Word::Cuts { query, cuts: said });
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner).add(cuts);
        engine.count_cuts(cuts);
    }
    pub(crate) fn cuts(&self) -> Cuts {
        *self.cuts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many rows of an exchange's window are counted as overflow from a tick on.
    pub(crate) fn note_overflow(&self, exchange: ExchangeId, tick_ms: u64, rows: u64) {
        let mut overflow = self.overflow.lock().unwrap_or_else(PoisonError::into_inner);
        overflow.entry(exchange).or_default().set(tick_ms, rows);
    }
    pub(crate) fn overflow_at(&self, exchange: ExchangeId, tick_ms: u64) -> u64 {
        let overflow = self.overflow.lock().unwrap_or_else(PoisonError::into_inner);
        overflow.get(&exchange).map_or(0, |levels| levels.at(tick_ms))
    }
    fn overflow_now(&self) -> u64 {
        let overflow = self.overflow.lock().unwrap_or_else(PoisonError::into_inner);
        overflow.values().map(Levels::last).sum()
    }

    pub(crate) fn stats(&self) -> QueryStats {
        let frontier = self.frontier_tick_ms.load(Ordering::Relaxed);
        QueryStats {
            query: self.id,
            state_bytes: self.holdings.state(),
            waiting_bytes: self.holdings.waiting(),
            replayed_bytes: self.holdings.replayed(),
            unread_bytes: self.holdings.unread(),
            rows_in: self.rows_in.load(Ordering::Relaxed),
            late_rows: self.late_rows.load(Ordering::Relaxed),
            overflow_rows: self.overflow_now(),
            cpu_ns: self.cpu_ns.load(Ordering::Relaxed),
            yields: self.yields.load(Ordering::Relaxed),
            operators: self.operators.load(Ordering::Relaxed),
            frontier_tick_ms: (frontier != NO_FRONTIER).then_some(frontier),
        }
    }
}

/// An operator's next due tick, seen by all.
pub(crate) struct DueSlot(Arc<AtomicU64>);

impl DueSlot {
    pub(crate) fn set(&self, due: Option<u64>) {
        self.0.store(due.unwrap_or(NEVER), Ordering::Release);
    }
}

/// One worker's environment for the operators of one query.
pub(crate) struct Env {
    pub(crate) query: Arc<QueryShared>,
    pub(crate) engine: Arc<EngineShared>,
    /// Among the workers of this process, and of all.
    pub(crate) local: usize,
    pub(crate) worker: usize,
    pub(crate) peers: usize,
    metadata: Rc<RefCell<Arc<MetadataSnapshot>>>,
    activators: RefCell<Vec<Activator>>,
    /// An operator waits until the receiver has let go of what was handed out.
    is_blocked: Cell<bool>,
    turns: Turns,
    /// When the operator began that runs now.
    began_ns: Cell<u64>,
    /// Of the plan's operator that is being built, and whether this worker counts its rows.
    place: Cell<(OperatorPlace, bool)>,
}

impl Env {
    pub(crate) fn new(
        query: Arc<QueryShared>,
        engine: Arc<EngineShared>,
        (worker, peers): (usize, usize),
        metadata: Rc<RefCell<Arc<MetadataSnapshot>>>,
        rounds: Rc<Rounds>,
    ) -> Env {
        Env {
            local: worker % engine.config.workers,
            query,
            engine,
            worker,
            peers,
            metadata,
            activators: RefCell::default(),
            is_blocked: Cell::new(false),
            turns: Turns::new(rounds),
            began_ns: Cell::new(0),
            place: Cell::new((OperatorPlace::default(), true)),
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.engine.config.limits
    }

    /// True if the operator that runs now should let others go on. It has done a slice of work then.
    pub(crate) fn turn_is_over(&self) -> bool {
        let running_ns = self.engine.clock.monotonic_ns().saturating_sub(self.began_ns.get());
        self.turns.is_over(running_ns)
    }
    /// The operator has more to do, in the next round.
    pub(crate) fn come_round(&self, activator: &Activator) {
        self.query.yields.fetch_add(1, Ordering::Relaxed);
        self.turns.is_hungry();
        activator.activate();
    }
    /// The operator goes on when the receiver of what it hands out has let go of some.
    pub(crate) fn wait_for_receiver(&self) {
        self.is_blocked.set(true);
    }
    pub(crate) fn unblock(&self) {
        if self.is_blocked.get() && !self.query.holdings.is_full(self.limits()) {
            self.is_blocked.set(false);
            self.activate_all();
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.query.is_live()
    }

    /// What is built from now on is of this operator.
    pub(crate) fn build(&self, place: OperatorPlace) {
        self.place.set((place, true));
    }
    /// The same of one that others may build for the same rows: one of them counts these.
    pub(crate) fn build_alike(&self, place: OperatorPlace, counts: bool) {
        self.place.set((place, counts));
    }
    /// Counters of a frame that is being built.
    pub(crate) fn frame(&self, name: &'static str) -> Arc<Frame> {
        let (place, counts) = self.place.get();
        let frame = Arc::new(Frame::new(name, place, counts));
        let mut frames = self.query.frames.lock().unwrap_or_else(PoisonError::into_inner);
        frames.push(Arc::clone(&frame));
        frame
    }

    /// Every operator that holds capabilities registers, so that it runs once more to let go.
    pub(crate) fn register(&self, activator: Activator) {
        self.query.operators.fetch_add(1, Ordering::Relaxed);
        self.activators.borrow_mut().push(activator);
    }
    pub(crate) fn activate_all(&self) {
        for activator in self.activators.borrow().iter() {
            activator.activate();
        }
    }

    pub(crate) fn metadata(&self) -> Arc<MetadataSnapshot> {
        Arc::clone(&self.metadata.borrow())
    }
    pub(crate) fn ctx(&self, tick_ms: u64) -> EvalCtx {
        EvalCtx {
            now_unix_ns: tick_unix_ns(tick_ms),
            metadata: self.metadata(),
            wants: Arc::clone(&self.engine.wants),
        }
    }

    pub(crate) fn due_slot(&self) -> DueSlot {
        let slot = Arc::new(AtomicU64::new(NEVER));
        let mut dues = self.query.dues.lock().unwrap_or_else(PoisonError::into_inner);
        dues.push(Arc::clone(&slot));
        DueSlot(slot)
    }
    pub(crate) fn gauge(&self, purpose: Purpose) -> Gauge {
        Gauge::new(Arc::clone(&self.query), Arc::clone(&self.engine), purpose)
    }
    /// What a frame holds.
    pub(crate) fn gauge_of(&self, frame: &Arc<Frame>, purpose: Purpose) -> Gauge {
        self.gauge(purpose).of(Arc::clone(frame))
    }

    pub(crate) fn emit(&self, event: EngineEvent) {
        if self.is_live() {
            self.engine.emit(event);
        }
    }
    /// Counts what an event carries.
    pub(crate) fn unread(&self, bytes: usize) -> Unread {
        Unread::new(&self.query, &self.engine.meter, bytes)
    }

    /// Runs operator logic: a panic or an error ends this query, and nothing else.
    pub(crate) fn guard(&self, frame: &Frame, logic: impl FnOnce() -> Result<(), OpError>) {
        let name = frame.name;
        let start_ns = self.engine.clock.monotonic_ns();
        self.began_ns.set(start_ns);
        self.engine.runs(self.local, Some(self.query.id));
        match std::panic::catch_unwind(AssertUnwindSafe(logic)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.query.fail(&self.engine, &format!("{name}: {error}")),
            Err(panic) if panic.is::<TestDeath>() => std::panic::resume_unwind(panic),
            Err(panic) => {
                let text = panic_text(&*panic);
                self.query.fail(&self.engine, &format!("{name}: panicked: {text}"));
            }
        }
        self.engine.runs(self.local, None);
        let cuts = cuts::take();
        if frame.counts && !cuts.is_empty() {
            self.query.cut(&self.engine, &cuts);
        }
        let spent_ns = self.engine.clock.monotonic_ns().saturating_sub(start_ns);
        self.turns.spend(spent_ns);
        self.query.cpu_ns.fetch_add(spent_ns, Ordering::Relaxed);
        frame.spent(spent_ns);
    }
}
