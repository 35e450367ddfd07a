//! Threads that keep the metadata, so that nobody waits for `/proc`.
//!
//! ```text
//!  capture ── observations ──▶ metadata ── snapshots ──▶ this node's engine
//!  (never waits)  bounded        │  ▲    └── changes ──▶ [`crate::entities`]
//!                         orders ▼  │ answers
//!                          proc-reader, proc-sockets
//! ```
//!
//! * `metadata` owns the [`Model`], alone and without a lock, and does no IO.
//! * `proc-reader` and `proc-sockets` read `/proc` on data of their own; they may take seconds.
//! * Whoever captures holds an [`Observer`]: it can append to a bounded queue and look at the last
//!   snapshot, and nothing else. What finds the queue full is dropped and counted.
//!
//! What found no room, or was forgotten for newer things, goes into the ledger as losses of
//! [`METADATA`]: it makes those answers incomplete that ask for names.
//!
//! A tick closes once what was observed before its rows has been published ([`Observer::mark`],
//! [`Settled`]), or its grace is over. The threads end when [`Metadata`] is dropped.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select_biased};
use tracing::warn;
use weir_actors::{KillSwitch, Stop};
use weir_engine::Generations;
use weir_sources::metadata::reader::{Answer, Order, ProcessReader};
use weir_sources::metadata::scan::SocketScanner;
use weir_sources::metadata::{
    ENDED_MAX, Forgotten, Found, Machine, Model, ModelCounters, Observation, PROCESSES_MAX,
};
use weir_types::ledger::{METADATA, Meter, NodeLedger, Reach, Span};
use weir_types::metadata::{MetadataSnapshot, SharedMap};
use weir_types::{Clock, Upid, WallClock};

use crate::entities::NodeEntities;

/// Observations that wait: a second of 16,000 connections or processes.
const OBSERVATIONS_MAX: usize = 16_384;
/// And their bytes: command lines have up to a kilobyte.
const OBSERVATION_BYTES_MAX: usize = 8 << 20;
/// Answers of the readers that wait; then the readers do.
const FOUND_MAX: usize = 64;
/// Orders that the reader has not begun; the others wait in the model.
const ORDERS_AHEAD: usize = 64;
/// What is taken in between two looks at everything else.
const OBSERVATIONS_AT_ONCE: usize = 1_024;
const SECOND: Duration = Duration::from_secs(1);
/// A snapshot comes at latest so long after a change; a mark makes it come at once.
const PUBLISH_AFTER: Duration = Duration::from_millis(20);
/// Linking what Kubernetes has takes the work of all of it: so often at most.
const LINK_AFTER: Duration = Duration::from_millis(100);
/// How long the start waits for the names of what runs already.
const FIRST_LOOK_MAX: Duration = Duration::from_secs(2);

enum Queued {
    Observation(Observation),
    /// All that was observed before is to be published.
    Mark(u64),
}

/// The last snapshot, as those who stamp rows need it.
#[derive(Default)]
pub struct Published {
    pub snapshot: Arc<MetadataSnapshot>,
    kernel_threads: SharedMap<u32, u64>,
}

impl Published {
    /// Whether more may soon be known of this process: nothing is, and it is one of this machine.
    #[must_use]
    pub fn awaits(&self, upid: Upid) -> bool {
        let known = &self.snapshot.processes;
        upid.asid() == self.snapshot.asid
            && upid.pid() > 0
            && known.len() < PROCESSES_MAX + ENDED_MAX
            && !known.contains_key(&upid)
            && !self.kernel_threads.contains_key(&upid.pid())
    }
}

#[derive(Default)]
struct Shared {
    /// Held for a copy or an assignment of the pointer only.
    published: Mutex<Arc<Published>>,
    queued_bytes: AtomicUsize,
    dropped_total: AtomicU64,
    /// What of it, and of the model's losses, is not in the ledger yet.
    lost: Mutex<Lost>,
    marks_sent: AtomicU64,
    marks_published: AtomicU64,
    counters: Mutex<ModelCounters>,
}

#[derive(Default)]
struct Lost {
    meter: Meter,
    /// Since the start.
    full_total: u64,
    /// Since it was taken last.
    forgotten: Forgotten,
}

impl Shared {
    /// Writes down what was lost since the last call; `span`: the time since then.
    fn note_lost(&self, ledger: &NodeLedger, span: Span) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let full_total = lost.full_total;
        let dropped_total = self.dropped_total.load(Ordering::Relaxed);
        for (reason, total) in [("observations_full", dropped_total), ("names_full", full_total)] {
            let count = lost.meter.added(METADATA, reason, total);
            ledger.note(METADATA, reason, Reach::Everybody, span, count);
        }
        let forgotten = std::mem::take(&mut lost.forgotten);
        if let Some(span) = forgotten.span {
            ledger.note(METADATA, "names_forgotten", Reach::Later, span, forgotten.count);
        }
    }

    fn published(&self) -> Arc<Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The capturing side. It has no way to wait for anybody: no lock that is held across IO or work is
/// within its reach.
#[derive(Clone)]
pub struct Observer {
    queue: Sender<Queued>,
    shared: Arc<Shared>,
}

impl Observer {
    /// Hands an observation on; drops and counts it if there is no room.
    pub fn observe(&self, observation: Observation) {
        let bytes = observation.bytes();
        let queued = self.shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = queued + bytes <= OBSERVATION_BYTES_MAX;
        if !fits || self.queue.try_send(Queued::Observation(observation)).is_err() {
            self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.shared.dropped_total.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All that was observed up to now is to be published before the next tick closes.
    pub fn mark(&self) {
        let number = self.shared.marks_sent.load(Ordering::Acquire) + 1;
        // A full queue is looked at soon enough.
        if self.queue.try_send(Queued::Mark(number)).is_ok() {
            self.shared.marks_sent.fetch_max(number, Ordering::Release);
        }
    }

    /// What is known by now.
    #[must_use]
    pub fn published(&self) -> Arc<Published> {
        self.shared.published()
    }

    /// Observations that found the queue full.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.shared.dropped_total.load(Ordering::Relaxed)
    }
}

/// Writes into a ledger what was lost within a span.
type NoteLost = dyn Fn(&NodeLedger, Span) + Send + Sync;

/// What the node's thread asks of whoever keeps the names.
#[derive(Clone)]
pub struct Names {
    /// Whether all that was observed before the last mark has been published.
    pub settled: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Writes down what was lost since the last call; the span is the time since then.
    pub note_lost: Arc<NoteLost>,
}

/// For a node that keeps none: all are known, and none is lost.
impl Default for Names {
    fn default() -> Names {
        Names { settled: Arc::new(|| true), note_lost: Arc::new(|_, _| ()) }
    }
}

/// The metadata of this node.
pub struct Metadata {
    asid: u32,
    root: PathBuf,
    shared: Arc<Shared>,
    entities: NodeEntities,
    queue: Sender<Queued>,
    found: Sender<Found>,
    /// What the threads take, until they are started.
    begin: Mutex<Option<Begin>>,
    /// Dropped, it ends the threads.
    alive: Mutex<Option<Sender<()>>>,
}

struct Begin {
    model: Model,
    queue: Receiver<Queued>,
    found: Receiver<Found>,
    stop: Receiver<()>,
}

impl Metadata {
    /// Of a directory that looks like a machine's root. Nothing is read before the start.
    #[must_use]
    pub fn new(asid: u32, hostname: &str, root: PathBuf, keep: Duration) -> Metadata {
        let (queue, queue_out) = bounded(OBSERVATIONS_MAX);
        let (found, found_out) = bounded(FOUND_MAX);
        let (alive, stop) = bounded(0);
        let model = Model::new(Machine::read(asid, hostname, &root), Some(keep));
        let begin = Begin { model, queue: queue_out, found: found_out, stop };
        Metadata {
            asid,
            root,
            shared: Arc::default(),
            entities: NodeEntities::default(),
            queue,
            found,
            begin: Mutex::new(Some(begin)),
            alive: Mutex::new(Some(alive)),
        }
    }

    /// What is told of it to the cluster part.
    #[must_use]
    pub fn entities(&self) -> NodeEntities {
        self.entities.clone()
    }

    /// Starts the threads below `switch`; `engine` gets every new snapshot. Waits a moment for the first names.
    pub fn start(&self, engine: Weak<Generations>, switch: &KillSwitch) {
        let mut begin = self.begin.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Begin { model, queue, found, stop }) = begin.take() else { return };
        let (orders, orders_out) = bounded(ORDERS_AHEAD);
        let (looked, first_look) = bounded(1);
        let keeper = Keeper {
            model,
            shared: self.shared.clone(),
            engine,
            entities: self.entities.clone(),
            orders,
            outstanding: 0,
            mark: 0,
            published: now(),
            linked: now(),
            looked: Some(looked),
            warned: false,
        };
        let scanner_stop = stop.clone();
        spawn(switch, "metadata", move || keeper.run(&queue, &found, &stop));
        let (reader, found) = (ProcessReader::new(self.asid, &self.root), self.found.clone());
        spawn(switch, "proc-reader", move || read(reader, &orders_out, &found));
        let (scanner, found) = (SocketScanner::new(self.asid, &self.root), self.found.clone());
        let shared = self.shared.clone();
        spawn(switch, "proc-sockets", move || scan(scanner, &shared, &scanner_stop, &found));
        // Without them names only come later.
        let _ = first_look.recv_timeout(FIRST_LOOK_MAX);
    }

    #[must_use]
    pub fn observer(&self) -> Observer {
        Observer { queue: self.queue.clone(), shared: self.shared.clone() }
    }

    #[must_use]
    pub fn names(&self) -> Names {
        let (asked, lost) = (self.shared.clone(), self.shared.clone());
        let settled = move || {
            let sent = asked.marks_sent.load(Ordering::Acquire);
            asked.marks_published.load(Ordering::Acquire) >= sent
        };
        let note_lost = move |ledger: &NodeLedger, span| lost.note_lost(ledger, span);
        Names { settled: Arc::new(settled), note_lost: Arc::new(note_lost) }
    }

    /// Hands in what was found out elsewhere; may wait for the metadata's thread.
    pub fn found(&self, found: Found) {
        // Only after the end nobody takes it.
        drop(self.found.send(found));
    }

    #[must_use]
    pub fn published(&self) -> Arc<Published> {
        self.shared.published()
    }

    /// What was dropped, refused and forgotten.
    #[must_use]
    pub fn counters(&self) -> ModelCounters {
        *self.shared.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Metadata {
    fn drop(&mut self) {
        drop(self.alive.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

fn now() -> Duration {
    Duration::from_nanos(WallClock.monotonic_ns())
}

fn since(before: Duration) -> Duration {
    now().saturating_sub(before)
}

fn spawn(switch: &KillSwitch, name: &str, run: impl FnOnce() + Send + 'static) {
    let part = switch.part(name, Stop::ByOwner);
    let told = part.clone();
    let run = move || {
        // Held until the thread ends, however it does.
        let part = part;
        part.running();
        run();
    };
    if let Err(error) = std::thread::Builder::new().name(name.to_string()).spawn(run) {
        told.failed(&error.to_string());
        warn!(name, %error, "could not start a thread: names will be missing");
    }
}

fn read(mut reader: ProcessReader, orders: &Receiver<Order>, found: &Sender<Found>) {
    for order in orders {
        if found.send(Found::Answer(reader.read(&order))).is_err() {
            return;
        }
    }
}

fn scan(mut scanner: SocketScanner, shared: &Shared, stop: &Receiver<()>, found: &Sender<Found>) {
    while let Err(crossbeam_channel::RecvTimeoutError::Timeout) = stop.recv_timeout(SECOND) {
        let known = shared.published();
        scanner.step(&known.snapshot, &now, WallClock.now_unix_ns(), &mut |one| {
            drop(found.send(one));
        });
    }
}

/// The thread that owns the model.
struct Keeper {
    model: Model,
    shared: Arc<Shared>,
    /// Of this node.
    engine: Weak<Generations>,
    entities: NodeEntities,
    orders: Sender<Order>,
    /// Orders that the reader has not answered.
    outstanding: usize,
    /// The last mark that was taken.
    mark: u64,
    /// When that was, since the start of the clock.
    published: Duration,
    /// When what Kubernetes has was linked last.
    linked: Duration,
    /// Told once all that runs at the start has been read.
    looked: Option<Sender<()>>,
    warned: bool,
}

impl Keeper {
    fn run(mut self, queue: &Receiver<Queued>, found: &Receiver<Found>, stop: &Receiver<()>) {
        let mut second = now();
        self.model.second(WallClock.now_unix_ns());
        loop {
            self.give_orders();
            self.publish_if_due();
            let wait = SECOND.saturating_sub(since(second)).min(PUBLISH_AFTER);
            select_biased! {
                recv(stop) -> _ => return,
                recv(queue) -> one => if let Ok(one) = one { self.take(one) },
                recv(found) -> one => if let Ok(one) = one { self.find(one) },
                default(wait) => {}
            }
            queue.try_iter().take(OBSERVATIONS_AT_ONCE).for_each(|one| self.take(one));
            found.try_iter().take(FOUND_MAX).for_each(|one| self.find(one));
            if since(second) >= SECOND {
                second = now();
                self.model.second(WallClock.now_unix_ns());
                self.warn_once();
            }
        }
    }

    fn take(&mut self, queued: Queued) {
        match queued {
            Queued::Observation(observation) => {
                self.shared.queued_bytes.fetch_sub(observation.bytes(), Ordering::Relaxed);
                self.model.observe(observation);
            }
            Queued::Mark(number) => self.mark = self.mark.max(number),
        }
    }

    fn find(&mut self, found: Found) {
        if let Found::Answer(answer) = &found {
            self.outstanding = self.outstanding.saturating_sub(1);
            // The first listing orders what it names.
            let listed = matches!(answer, Answer::Pids { .. });
            self.model.found(found);
            self.give_orders();
            if !listed && self.outstanding == 0 {
                self.publish();
                self.looked.take();
            }
            return;
        }
        self.model.found(found);
    }

    fn give_orders(&mut self) {
        while !self.orders.is_full() {
            let Some(order) = self.model.take_order() else { return };
            match self.orders.try_send(order) {
                Ok(()) => self.outstanding += 1,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => return,
            }
        }
    }

    fn publish_if_due(&mut self) {
        let marked = self.mark > self.shared.marks_published.load(Ordering::Acquire);
        if marked || since(self.published) >= PUBLISH_AFTER {
            self.publish();
        }
    }

    /// The engine has it, and the cluster part is told, before anybody hears that they do.
    fn publish(&mut self) {
        if since(self.linked) >= LINK_AFTER {
            self.model.link_kubernetes();
            self.linked = now();
        }
        if let Some((snapshot, touched)) = self.model.take_changed() {
            if let Some(engine) = self.engine.upgrade() {
                engine.set_metadata(snapshot.clone());
            }
            self.entities.publish(snapshot.clone(), touched);
            let kernel_threads = self.model.kernel_threads();
            let published = Arc::new(Published { snapshot, kernel_threads });
            *self.shared.published.lock().unwrap_or_else(PoisonError::into_inner) = published;
        }
        self.tell_counters();
        self.published = now();
        self.shared.marks_published.fetch_max(self.mark, Ordering::Release);
    }

    fn tell_counters(&mut self) {
        let counters = self.model.counters();
        *self.shared.counters.lock().unwrap_or_else(PoisonError::into_inner) = counters;
        let mut lost = self.shared.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.full_total = counters.full_total();
        lost.forgotten.add(self.model.take_forgotten());
    }

    fn warn_once(&mut self) {
        let counters = self.model.counters();
        let dropped = self.shared.dropped_total.load(Ordering::Relaxed);
        let lost = dropped + counters.full_total() + counters.forgotten_total();
        if !self.warned && lost > 0 {
            self.warned = true;
            warn!(?counters, dropped, "there is more than is remembered: names will be missing");
        }
    }
}

#[cfg(test)]
#[path = "metadata_tests.rs"]
mod tests;
