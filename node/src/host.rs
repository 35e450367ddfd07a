//! A source on a thread of its own, owned by an actor under a supervisor.
//!
//! If the source panics, its thread ends, the actor goes down with the same panic, and its supervisor starts
//! both anew after a back-off; the node goes on meanwhile. A source that cannot run says why and is not tried
//! again.

mod outlet;
mod thread;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use actix::prelude::*;
use crossbeam_channel::{Sender, TrySendError};
use tracing::error;
use weir_actors::{Config, Handle, KillSwitch, Says, State, Supervisor, WeakAddress};
use weir_sources::source::Source;
use weir_types::Clock;
use weir_types::source::{
    BlindProcess, CaptureFilters, OrderId, OrderOutcome, TableBatch, TableCounters,
};

use crate::metadata::Metadata;
use crate::orders::OrderQueue;

/// The node takes what waits for it within milliseconds.
const TELL_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// From a source's thread to the node.
pub enum FromSource {
    Batch(TableBatch),
    /// All rows up to this tick have been sent.
    Flushed {
        source: Arc<str>,
        tick_ms: u64,
    },
    /// Whenever they change, before the rows and the `Flushed` of the tick.
    Counters {
        source: Arc<str>,
        at_unix_ns: i64,
        counters: BTreeMap<String, TableCounters>,
        missing: String,
        blind: Vec<BlindProcess>,
        counts: BTreeMap<String, u64>,
    },
    /// It runs from now on.
    Running {
        source: Arc<str>,
        missing: String,
        filters: CaptureFilters,
    },
    /// What became of an order.
    Ordered {
        source: Arc<str>,
        id: OrderId,
        outcome: OrderOutcome,
    },
    /// What it looks at from now on; what was kept out until now is there from then on only.
    Filters {
        source: Arc<str>,
        filters: CaptureFilters,
        since_unix_ns: Option<i64>,
    },
    /// It does not run; the node waits for it no longer.
    Down {
        source: Arc<str>,
        reason: String,
        how: Down,
    },
}

/// Why a source does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    /// It cannot run here.
    Refused,
    /// It went down and is started again.
    Restarts,
    /// It went down too often and stays down.
    Failed,
}

/// Ended its thread by a panic.
#[derive(Message)]
#[rtype(result = "()")]
struct ThreadPanicked;

pub struct SourceActor {
    source: Arc<dyn Source>,
    feed: SourceFeed,
    address: WeakAddress<SourceActor>,
    says: Says,
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
    /// Where observations go; without, no row waits for names.
    pub metadata: Option<Arc<Metadata>>,
}

impl SourceFeed {
    /// The orders of a source; nobody gives any to one that the node does not know.
    fn queue(&self, source: &str) -> Arc<OrderQueue> {
        self.orders.get(source).cloned().unwrap_or_default()
    }

    /// A thread went down over a panic, with the order that it was at.
    fn tell_panic(&self, source: &Arc<str>) {
        if let Some(id) = self.queue(source).take_at_hand() {
            let outcome = OrderOutcome::refused("the source panicked over it");
            drop(self.rows.send(FromSource::Ordered { source: source.clone(), id, outcome }));
        }
        let reason = "panicked; it starts again after a back-off".to_string();
        let (source, how) = (source.clone(), Down::Restarts);
        drop(self.rows.send(FromSource::Down { source, reason, how }));
    }

    /// A source will not run any more; told from a thread that must not wait.
    async fn tell_end(&self, source: Arc<str>, reason: String, how: Down) {
        let mut message = FromSource::Down { source, reason, how };
        while let Err(TrySendError::Full(again)) = self.rows.try_send(message) {
            message = again;
            actix::clock::sleep(TELL_AGAIN_AFTER).await;
        }
    }
}

impl Actor for SourceActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (source, feed, stop) = (self.source.clone(), self.feed.clone(), self.stop.clone());
        let (address, says, name) = (self.address.clone(), self.says.clone(), source.name());
        let thread = std::thread::Builder::new().name(format!("source-{name}"));
        let run = move || {
            let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
                thread::run_source(&*source, &feed, &says, &stop);
            }));
            if outcome.is_err() {
                feed.tell_panic(&name);
                if let Some(address) = address.upgrade() {
                    drop(address.try_send(ThreadPanicked));
                }
            }
            outcome
        };
        match thread.spawn(run) {
            Ok(thread) => self.thread = Some(thread),
            Err(error) => {
                let reason = format!("could not start a thread: {error}");
                error!(source = &*self.source.name(), reason);
                self.says.refused(&reason);
                let (feed, source) = (self.feed.clone(), self.source.name());
                let told = async move { feed.tell_end(source, reason, Down::Refused).await };
                ctx.spawn(told.into_actor(self));
            }
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
    source: Arc<dyn Source>,
    feed: SourceFeed,
    stop: Arc<AtomicBool>,
) -> Arc<Handle<SourceActor>> {
    let name = source.name();
    let told = feed.clone();
    let handle = Arc::new(supervise(switch, source, feed, stop));
    let watched = handle.clone();
    actix::spawn(async move {
        if watched.wait_for(|_| false).await == State::Failed {
            let reason = "panicked too often, and stays down".to_string();
            told.tell_end(name, reason, Down::Failed).await;
        }
    });
    handle
}

fn supervise(
    switch: &KillSwitch,
    source: Arc<dyn Source>,
    feed: SourceFeed,
    stop: Arc<AtomicBool>,
) -> Handle<SourceActor> {
    let name = source.name();
    Supervisor::start(switch, &name, Config::default(), move |birth| {
        Ok(SourceActor {
            source: source.clone(),
            feed: feed.clone(),
            address: birth.address.clone(),
            says: birth.says.clone(),
            stop: stop.clone(),
            thread: None,
        })
    })
}
