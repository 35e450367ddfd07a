//! What a query may hold, and how long it may work at a stretch.
//!
//! Memory: a query's operators, the rows that wait for them and what was handed out but not taken yet are
//! counted in bytes while they grow, a slice at a time, so that a query ends before its memory is taken.
//! Time: a worker goes in rounds. In a round every query has an allowance; an operator that has more to do
//! when it is used up comes round again, after everybody else. One slice of work is always done, so that
//! every operator moves however short the allowance.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;

use crate::api::Limits;
use crate::operators::Frame;
use crate::query::QueryShared;
use crate::queue::EngineShared;

/// What memory is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// What operators keep from tick to tick.
    State,
    /// Rows on their way: in queues, or until their tick is closed.
    Waiting,
    /// Rows that came from a node's sources and that no operator has looked at. They wait, too.
    Arrived,
    /// Rows of a history that are seen again. The history holds them anyway, and they have a bound of their
    /// own: they are no reason to end a query.
    Replayed,
}

/// Bytes that a query holds, over all workers.
#[derive(Default)]
pub(crate) struct Holdings {
    state: AtomicI64,
    waiting: AtomicI64,
    /// Of what waits, what no operator has looked at.
    arrived: AtomicI64,
    replayed: AtomicI64,
    /// Handed out, and not let go by the receiver.
    unread: AtomicI64,
    /// An operator waits for the receiver.
    is_blocked: AtomicBool,
}

fn bytes_of(counter: &AtomicI64) -> u64 {
    // Adding and taking away may cross between threads.
    u64::try_from(counter.load(Ordering::Relaxed)).unwrap_or(0)
}

impl Holdings {
    pub(crate) fn state(&self) -> u64 {
        bytes_of(&self.state)
    }
    pub(crate) fn waiting(&self) -> u64 {
        bytes_of(&self.waiting)
    }
    /// Of what waits, what operators have made of it or hold.
    pub(crate) fn under_way(&self) -> u64 {
        self.waiting().saturating_sub(bytes_of(&self.arrived))
    }
    pub(crate) fn replayed(&self) -> u64 {
        bytes_of(&self.replayed)
    }
    pub(crate) fn unread(&self) -> u64 {
        bytes_of(&self.unread)
    }
    pub(crate) fn all(&self) -> u64 {
        self.state() + self.waiting() + self.unread()
    }
    /// True if no more may be handed out before some is let go; then the worker is woken.
    pub(crate) fn is_full(&self, limits: &Limits) -> bool {
        if self.unread() <= limits.unread_bytes_max {
            return false;
        }
        self.is_blocked.store(true, Ordering::Release);
        // What was let go between the two looks did not see the mark.
        self.unread() > limits.unread_bytes_max
    }
}

/// What all queries of an engine hold, and whom to wake when some of it is let go.
#[derive(Default)]
pub(crate) struct Meter {
    held_bytes: AtomicI64,
    replayed_bytes: AtomicI64,
    threads: Vec<OnceLock<Thread>>,
}

impl Meter {
    pub(crate) fn new(workers: usize) -> Meter {
        let threads = (0..workers).map(|_| OnceLock::new()).collect();
        Meter { held_bytes: AtomicI64::new(0), replayed_bytes: AtomicI64::new(0), threads }
    }
    pub(crate) fn held_bytes(&self) -> u64 {
        bytes_of(&self.held_bytes)
    }
    pub(crate) fn replayed_bytes(&self) -> u64 {
        bytes_of(&self.replayed_bytes)
    }
    /// Called once by each worker thread before it takes commands.
    pub(crate) fn register_thread(&self, worker: usize) {
        let _ = self.threads[worker].set(std::thread::current());
    }
    pub(crate) fn wake(&self, worker: usize) {
        if let Some(thread) = self.threads[worker].get() {
            thread.unpark();
        }
    }
    pub(crate) fn wake_all(&self) {
        (0..self.threads.len()).for_each(|worker| self.wake(worker));
    }
}

/// Counts what an event carries against its query until it is dropped: who takes an event apart keeps this
/// for as long as its rows wait to be passed on. Without it an engine could fill a slow receiver's memory.
#[derive(Clone, Default)]
pub struct Unread(Option<Arc<UnreadBytes>>);

struct UnreadBytes {
    holdings: Arc<Holdings>,
    meter: Arc<Meter>,
    bytes: i64,
}

impl Unread {
    pub(crate) fn new(query: &QueryShared, meter: &Arc<Meter>, bytes: usize) -> Unread {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        query.holdings.unread.fetch_add(bytes, Ordering::Relaxed);
        meter.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        let (holdings, meter) = (Arc::clone(&query.holdings), Arc::clone(meter));
        Unread(Some(Arc::new(UnreadBytes { holdings, meter, bytes })))
    }
}

impl std::fmt::Debug for Unread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Unread({})", self.0.as_ref().map_or(0, |held| held.bytes))
    }
}

/// Accounting is no part of what an event says.
impl PartialEq for Unread {
    fn eq(&self, _other: &Unread) -> bool {
        true
    }
}

impl Drop for UnreadBytes {
    fn drop(&mut self) {
        self.meter.held_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.holdings.unread.fetch_sub(self.bytes, Ordering::AcqRel);
        if self.holdings.is_blocked.swap(false, Ordering::AcqRel) {
            self.meter.wake_all();
        }
    }
}

impl QueryShared {
    /// Counts memory that the query takes or gives back; above a budget a query fails.
    pub(crate) fn hold(&self, engine: &EngineShared, purpose: Purpose, change: i64) {
        let counter = match purpose {
            Purpose::State => &self.holdings.state,
            Purpose::Waiting => &self.holdings.waiting,
            Purpose::Arrived => {
                self.holdings.arrived.fetch_add(change, Ordering::Relaxed);
                &self.holdings.waiting
            }
            Purpose::Replayed => {
                self.holdings.replayed.fetch_add(change, Ordering::Relaxed);
                engine.meter.replayed_bytes.fetch_add(change, Ordering::Relaxed);
                return;
            }
        };
        counter.fetch_add(change, Ordering::Relaxed);
        let held = &engine.meter.held_bytes;
        let total = held.fetch_add(change, Ordering::Relaxed).saturating_add(change);
        if change <= 0 || !self.is_live() {
            return;
        }
        let limits = &engine.config.limits;
        if self.holdings.all() > limits.query_state_bytes_max {
            self.fail(engine, &over_budget(&self.holdings, limits.query_state_bytes_max));
        } else if u64::try_from(total).is_ok_and(|total| total > limits.state_bytes_max) {
            end_the_largest(engine);
        }
    }
}

fn over_budget(holdings: &Holdings, max: u64) -> String {
    let (state, waiting, unread) = (holdings.state(), holdings.waiting(), holdings.unread());
    if waiting > state {
        return format!(
            "backlog: {waiting} bytes of rows wait for the query's operators, {state} bytes are state, \
             {unread} bytes not taken yet; {max} are allowed: it cannot keep up, or an intermediate \
             result is too large; filter earlier, or join on a more selective key"
        );
    }
    format!(
        "state_budget: the query holds {state} bytes of state, {waiting} bytes of rows that wait and \
         {unread} bytes not taken yet, {max} are allowed; narrow its window, its groups or its columns"
    )
}

/// All queries together hold too much: the one with the most of it goes, so that no small one pays for it.
fn end_the_largest(engine: &EngineShared) {
    let max = engine.config.limits.state_bytes_max;
    let queries = engine.queries();
    // Those that have ended give their memory back soon.
    let total: u64 = queries.iter().map(|query| query.holdings.all()).sum();
    if total <= max {
        return;
    }
    if let Some(largest) = largest(&queries) {
        let held = largest.holdings.all();
        let message = format!(
            "engine_budget: all queries together hold {total} bytes, {max} are allowed, and this one \
             holds the most of them, {held}"
        );
        largest.fail(engine, &message);
    }
}

fn largest(queries: &[Arc<QueryShared>]) -> Option<&Arc<QueryShared>> {
    queries.iter().max_by_key(|query| query.holdings.all())
}

/// A process is behind: whose the rows are that wait is not known, most likely the largest query's.
pub(crate) fn end_for_processes(engine: &EngineShared, between: u64, max: u64) {
    if let Some(largest) = largest(&engine.queries()) {
        let message = format!(
            "backlog: {between} bytes of rows wait between the processes of the cluster part, {max} are \
             allowed, and this query holds the most: one of the processes cannot keep up"
        );
        largest.fail(engine, &message);
    }
}

/// An operator's share of what its query holds; gives it back when dropped.
pub(crate) struct Gauge {
    query: Arc<QueryShared>,
    engine: Arc<EngineShared>,
    purpose: Purpose,
    /// Whose state it is, if it is an operator's.
    frame: Option<Arc<Frame>>,
    bytes: i64,
}

impl Gauge {
    pub(crate) fn new(
        query: Arc<QueryShared>,
        engine: Arc<EngineShared>,
        purpose: Purpose,
    ) -> Gauge {
        Gauge { query, engine, purpose, frame: None, bytes: 0 }
    }

    /// Counts for an operator's frame as well.
    pub(crate) fn of(mut self, frame: Arc<Frame>) -> Gauge {
        self.frame = Some(frame);
        self
    }

    pub(crate) fn set(&mut self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.add(bytes - self.bytes);
    }

    fn add(&mut self, change: i64) {
        if change != 0 {
            self.bytes += change;
            self.query.hold(&self.engine, self.purpose, change);
            if let Some(frame) = &self.frame {
                frame.hold(change);
            }
        }
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        self.query.hold(&self.engine, self.purpose, -self.bytes);
        if let Some(frame) = &self.frame {
            frame.hold(-self.bytes);
        }
    }
}

/// How much may be done until the clock is looked at.
pub(crate) struct Fuel {
    rows: usize,
    bytes: usize,
}

impl Fuel {
    pub(crate) fn new(limits: &Limits) -> Fuel {
        Fuel { rows: limits.slice_rows_max.max(1), bytes: limits.slice_bytes_max.max(1) }
    }
    /// A row was worked on that has, or made, so many bytes.
    pub(crate) fn burn(&mut self, bytes: usize) {
        self.rows = self.rows.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.rows == 0 || self.bytes == 0
    }
}

/// The rounds of one worker.
#[derive(Default)]
pub(crate) struct Rounds {
    number: Cell<u64>,
    allowance_ns: Cell<u64>,
    /// Queries that had more to do than their allowance, in this round.
    hungry: Cell<u64>,
}

impl Rounds {
    /// Begins a round. Those that had more to do share it.
    pub(crate) fn next(&self, limits: &Limits) {
        let sharers = self.hungry.replace(0).max(1);
        let allowance_ns = limits.round_ns / sharers;
        self.allowance_ns.set(allowance_ns.max(limits.slice_ns_min));
        self.number.set(self.number.get() + 1);
    }
}

/// One query's part in the rounds of a worker.
pub(crate) struct Turns {
    rounds: Rc<Rounds>,
    round: Cell<u64>,
    spent_ns: Cell<u64>,
    is_hungry: Cell<bool>,
}

impl Turns {
    pub(crate) fn new(rounds: Rc<Rounds>) -> Turns {
        Turns { rounds, round: Cell::new(0), spent_ns: Cell::new(0), is_hungry: Cell::new(false) }
    }

    fn look_up(&self) {
        if self.round.replace(self.rounds.number.get()) != self.rounds.number.get() {
            self.spent_ns.set(0);
            self.is_hungry.set(false);
        }
    }
    pub(crate) fn spend(&self, ns: u64) {
        self.look_up();
        self.spent_ns.set(self.spent_ns.get() + ns);
    }
    /// True if the allowance is used up when `running_ns` are added.
    pub(crate) fn is_over(&self, running_ns: u64) -> bool {
        self.look_up();
        self.spent_ns.get() + running_ns >= self.rounds.allowance_ns.get()
    }
    /// It has more to do.
    pub(crate) fn is_hungry(&self) {
        self.look_up();
        if !self.is_hungry.replace(true) {
            self.rounds.hungry.set(self.rounds.hungry.get() + 1);
        }
    }
}

/// How many rows to evaluate at once, learnt from what the last ones took. Starts small, because a row
/// may cost nanoseconds or milliseconds and that is not known before.
pub(crate) struct Pace {
    rows: usize,
}

/// A slice should take about so long …
const SLICE_NS: u64 = 1_000_000;
const ROWS_FIRST: usize = 256;
/// What was too much is tried again with so many times fewer rows: from the most to one in four trials.
const TOO_MANY_BY: usize = 8;

impl Pace {
    pub(crate) fn new(limits: &Limits) -> Pace {
        Pace { rows: ROWS_FIRST.min(limits.slice_rows_max).max(1) }
    }

    /// Rows of the next slice, of rows of so many bytes each.
    pub(crate) fn rows(&self, row_bytes: usize, limits: &Limits) -> usize {
        self.rows.min(limits.slice_bytes_max / row_bytes.max(1)).max(1)
    }

    /// Rows of the next slice, of rows with these bytes; at least one if there is one.
    pub(crate) fn count(&self, bytes: impl Iterator<Item = usize>, limits: &Limits) -> usize {
        let mut left = limits.slice_bytes_max;
        let fits = |bytes: &usize| {
            let fits = left > 0;
            left = left.saturating_sub(*bytes);
            fits
        };
        bytes.take(self.rows).take_while(fits).count().max(1)
    }

    /// `rows` cannot be evaluated at once. By how much is not known: they were given up on the way.
    pub(crate) fn was_too_much(&mut self, rows: usize) {
        self.rows = (rows / TOO_MANY_BY).max(1);
    }

    /// `rows` took so long and made so many bytes. `is_half`: with twice as many it may be too much.
    pub(crate) fn learn(
        &mut self,
        rows: usize,
        ns: u64,
        bytes: usize,
        is_half: bool,
        limits: &Limits,
    ) {
        // … and make so much.
        let bytes_max = limits.slice_bytes_max.max(1);
        let by_time = usize::try_from(ns / SLICE_NS).unwrap_or(usize::MAX);
        let over = by_time.max(bytes / bytes_max);
        if over > 0 {
            self.rows = (rows / (over + 1)).max(1);
        } else if !is_half && rows >= self.rows && ns < SLICE_NS / 2 && bytes < bytes_max / 2 {
            self.rows = (self.rows * 2).min(limits.slice_rows_max.max(1));
        }
    }
}
