//! A source on a thread of its own, owned by an actor under a supervisor.
//!
//! The thread polls the source, flushes it at every tick's edge and hands the rows to the node,
//! followed by a mark that says "all up to this tick". If the source panics, the thread ends, the
//! actor goes down with the same panic, and its supervisor starts both anew after a back-off; the
//! node goes on meanwhile. A source that cannot run says why and is not tried again.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use actix::prelude::*;
use crossbeam_channel::Sender;
use tracing::{error, info, warn};
use weir_actors::{Config, Handle, KillSwitch, Supervisor, WeakAddress};
use weir_types::Clock;
use weir_types::source::{
    BlindProcess, CaptureFilters, OrderId, OrderOutcome, Source, TableBatch, TableCounters,
};

use crate::orders::OrderQueue;

/// Builds a source on its thread; the error says why it cannot run here.
pub type SourceFactory = Arc<dyn Fn() -> Result<Box<dyn Source>, String> + Send + Sync>;

/// A source as the node knows it before it runs.
#[derive(Clone)]
pub struct SourceSpec {
    pub name: &'static str,
    pub tables: &'static [&'static str],
    pub factory: SourceFactory,
}

/// From a source's thread to the node.
pub enum FromSource {
    Batch(TableBatch),
    /// All rows up to this tick have been sent.
    Flushed {
        source: &'static str,
        tick_ms: u64,
    },
    /// Whenever they change, before the rows and the `Flushed` of the tick.
    Counters {
        source: &'static str,
        at_unix_ns: i64,
        counters: BTreeMap<String, TableCounters>,
        missing: String,
        blind: Vec<BlindProcess>,
    },
    /// It runs from now on.
    Running {
        source: &'static str,
        missing: String,
        filters: CaptureFilters,
    },
    /// What became of an order.
    Ordered {
        source: &'static str,
        id: OrderId,
        outcome: OrderOutcome,
    },
    /// What it looks at from now on; what was kept out until now is there from then on only.
    Filters {
        source: &'static str,
        filters: CaptureFilters,
        since_unix_ns: Option<i64>,
    },
    /// It cannot run, or it just went down; the node waits for it no longer.
    Down {
        source: &'static str,
        reason: String,
        again: bool,
    },
}

/// Ended its thread by a panic.
#[derive(Message)]
#[rtype(result = "()")]
struct ThreadPanicked;

pub struct SourceActor {
    spec: SourceSpec,
    feed: SourceFeed,
    address: WeakAddress<SourceActor>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<std::thread::Result<()>>>,
}

/// What every source thread shares.
#[derive(Clone)]
pub struct SourceFeed {
    pub clock: Arc<dyn Clock>,
    pub tick_ms: u64,
    pub rows: Sender<FromSource>,
    /// By source.
    pub orders: Arc<BTreeMap<String, Arc<OrderQueue>>>,
}

impl SourceFeed {
    /// The orders of a source; nobody gives any to one that the node does not know.
    fn queue(&self, source: &str) -> Arc<OrderQueue> {
        self.orders.get(source).cloned().unwrap_or_default()
    }
}

impl Actor for SourceActor {
    type Context = Context<Self>;

    fn started(&mut self, _ctx: &mut Self::Context) {
        let (spec, feed, stop) = (self.spec.clone(), self.feed.clone(), self.stop.clone());
        let address = self.address.clone();
        let run = move || {
            let name = spec.name;
            let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
                run_source(spec, feed.clone(), stop);
            }));
            if outcome.is_err() {
                if let Some(id) = feed.queue(name).take_at_hand() {
                    let outcome = OrderOutcome::refused("the source panicked over it");
                    drop(feed.rows.send(FromSource::Ordered { source: name, id, outcome }));
                }
                let reason = "panicked; it starts again after a back-off".to_string();
                drop(feed.rows.send(FromSource::Down { source: name, reason, again: true }));
                if let Some(address) = address.upgrade() {
                    drop(address.try_send(ThreadPanicked));
                }
            }
            outcome
        };
        let spawned =
            std::thread::Builder::new().name(format!("source-{}", self.spec.name)).spawn(run);
        match spawned {
            Ok(thread) => self.thread = Some(thread),
            Err(error) => error!(source = self.spec.name, %error, "could not start a thread"),
        }
    }

    fn stopping(&mut self, _ctx: &mut Self::Context) -> Running {
        self.stop.store(true, Ordering::SeqCst);
        Running::Stop
    }
}

impl Handler<ThreadPanicked> for SourceActor {
    type Result = ();
    /// The thread's panic becomes the actor's: its supervisor knows what to do.
    fn handle(&mut self, _message: ThreadPanicked, _ctx: &mut Self::Context) {
        if let Some(Ok(Err(payload))) = self.thread.take().map(JoinHandle::join) {
            std::panic::resume_unwind(payload);
        }
    }
}

/// Starts a source below `switch` on the current arbiter. `stopped` is set once the node stops.
pub fn start(
    switch: &KillSwitch,
    spec: SourceSpec,
    feed: SourceFeed,
    stop: Arc<AtomicBool>,
) -> Handle<SourceActor> {
    let name = format!("source-{}", spec.name);
    Supervisor::start(switch, &name, Config::default(), move |birth| {
        Ok(SourceActor {
            spec: spec.clone(),
            feed: feed.clone(),
            address: birth.address.clone(),
            stop: stop.clone(),
            thread: None,
        })
    })
}

/// What a source's thread does until it is stopped.
pub(crate) fn run_source(spec: SourceSpec, feed: SourceFeed, stop: Arc<AtomicBool>) {
    SourceThread { spec, feed, stop }.run();
}

struct SourceThread {
    spec: SourceSpec,
    feed: SourceFeed,
    stop: Arc<AtomicBool>,
}

/// How often counters are sent that did not change, and what is missing is looked at.
const COUNTERS_EVERY_NS: i64 = 500_000_000;

/// What was said of the counters last.
#[derive(Default)]
struct Said {
    at_unix_ns: i64,
    counters: BTreeMap<String, TableCounters>,
    missing: String,
    blind: Vec<BlindProcess>,
}

impl SourceThread {
    fn send(&self, message: FromSource) -> bool {
        self.feed.rows.send(message).is_ok()
    }

    fn run(self) {
        let source = self.spec.name;
        let mut running = match (self.spec.factory)() {
            Ok(running) => running,
            Err(reason) => {
                warn!(source, reason, "source cannot run");
                self.send(FromSource::Down { source, reason, again: false });
                return;
            }
        };
        info!(source, missing = running.missing(), "source runs");
        let (missing, filters) = (running.missing(), running.filters());
        self.send(FromSource::Running { source, missing, filters });
        let tick_ns = i64::try_from(self.feed.tick_ms).unwrap_or(i64::MAX) * 1_000_000;
        let mut edge_ns = self.feed.clock.now_unix_ns() / tick_ns * tick_ns + tick_ns;
        let mut said = Said::default();
        let orders = self.feed.queue(source);
        orders.wake_by(running.waker());
        while !self.stop.load(Ordering::SeqCst) {
            let now_ns = self.feed.clock.now_unix_ns();
            self.take_orders(running.as_mut(), &orders, now_ns);
            let wait_ns = u64::try_from(edge_ns - now_ns).unwrap_or(0);
            if wait_ns > 0 {
                running.wait(Duration::from_nanos(wait_ns));
            }
            let now_ns = self.feed.clock.now_unix_ns();
            running.poll(now_ns);
            if now_ns < edge_ns {
                continue;
            }
            // After a pause the clock may be several edges on: all rows belong to the latest one.
            edge_ns = now_ns / tick_ns * tick_ns;
            if !self.flush(running.as_mut(), now_ns, edge_ns, &mut said) {
                return;
            }
            edge_ns += tick_ns;
        }
    }

    /// Does what it was told since the last turn.
    fn take_orders(&self, running: &mut dyn Source, orders: &OrderQueue, now_ns: i64) {
        let source = self.spec.name;
        while let Some((id, order)) = orders.take() {
            let former = running.filters();
            let outcome = running.order(&order);
            orders.take_at_hand();
            let filters = running.filters();
            if filters != former {
                info!(source, filters = ?filters.texts(), "looks at something else");
                let since_unix_ns = filters.passes_more_than(&former).then_some(now_ns);
                self.send(FromSource::Filters { source, filters, since_unix_ns });
            }
            if let Some(id) = id {
                self.send(FromSource::Ordered { source, id, outcome });
            }
        }
    }

    /// False once the node is gone.
    fn flush(&self, running: &mut dyn Source, now_ns: i64, edge_ns: i64, said: &mut Said) -> bool {
        let source = self.spec.name;
        let mut batches = Vec::new();
        running.flush(now_ns, &mut batches);
        let counters = running.counters();
        let due = now_ns - said.at_unix_ns >= COUNTERS_EVERY_NS;
        // A loss is told with the tick in which it happened, not with one of the next.
        if due || counters != said.counters {
            if due {
                said.at_unix_ns = now_ns;
                said.missing = running.missing();
                said.blind = running.blind();
            }
            said.counters = counters.clone();
            let (missing, blind) = (said.missing.clone(), said.blind.clone());
            let at_unix_ns = now_ns;
            self.send(FromSource::Counters { source, at_unix_ns, counters, missing, blind });
        }
        for batch in batches {
            if !self.send(FromSource::Batch(batch)) {
                return false;
            }
        }
        let tick_ms = u64::try_from(edge_ns / 1_000_000).unwrap_or(0);
        self.send(FromSource::Flushed { source, tick_ms })
    }
}
