//! The coordinator with a mailbox: who subscribes to what, one installed query per distinct plan,
//! and the clock that moves frontiers nobody holds.
//!
//! It supervises the *generations*: when an engine worker, a node or this actor itself has died, all
//! queries are installed anew over what nodes remember, and the views go on under the same
//! subscriptions: they publish the difference, and say `complete: false` until they are whole again.

mod costs;
mod lists;
mod lives;
mod views;
mod wide;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use weir_actors::{KillSwitch, Part, WeakAddress};
use weir_engine::{Generations, RestartPace};
use weir_proto::{FromNode, NodeLink, Report};
use weir_types::Clock;

use super::figures::Figures;
use super::quarantine::Quarantine;
use super::registry::{Registry, ViewId};
use super::router::Router;
use super::settled::TellSettled;
use crate::coordinator::{Book, BusCounters, Coordinator, Identity, Outcome};
use crate::cost::{Arrivals, CostLimits};
use crate::view::SnapshotLimits;

pub use costs::{EstimateCost, QUERY_COST};
pub use lists::{
    AvailableTables, FeedRow, ListFeeds, ListNodes, ListQueries, Locate, Located, NodeRow,
    QueryRow, Sought,
};
pub use views::{RUN_JOINS_WITHIN_MS, Refusal, Since, Subscribe, Subscribed, Unsubscribe, Wanted};
pub use wide::TakeWide;

/// A node's message.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct NodeMessage {
    pub(crate) name: String,
    pub(crate) link: NodeLink,
    pub(crate) report: Report,
}

/// A query failed or the engine died: it waits in the router.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct EngineFailed;

/// Some views are still to be installed anew.
#[derive(Message)]
#[rtype(result = "()")]
struct InstallNext;

/// Time has passed.
#[derive(Message)]
#[rtype(result = "()")]
struct ClockTick;

/// A new engine has been started, or could not be.
#[derive(Message)]
#[rtype(result = "()")]
struct EngineStarted;

/// A view could not go on; its readers know why.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ViewFailed {
    pub(crate) view: ViewId,
    pub(crate) code: &'static str,
}

/// With `--test-faults`: this actor panics.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TestPanic;

/// A node that registered, kept outside the actor so that its next life knows it.
type Registered = Arc<Mutex<BTreeMap<String, (NodeLink, Report)>>>;

/// Everything that outlives one life of the actor.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) generations: Arc<Generations>,
    /// The engine in the tree of parts.
    pub(crate) engine_part: Part,
    pub(crate) router: Arc<Router>,
    pub(crate) registry: Arc<Mutex<Registry>>,
    pub(crate) figures: Arc<Figures>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tick_ms: u64,
    pub(crate) snapshots: SnapshotLimits,
    pub(crate) test_faults: bool,
    pub(crate) identity: Identity,
    pub(crate) switch: KillSwitch,
    /// The thread of the views.
    pub(crate) views: ArbiterHandle,
    pub(crate) registered: Registered,
    pub(crate) book: Arc<Book>,
    pub(crate) bus: Arc<BusCounters>,
    /// Plans that brought engines down.
    pub(crate) quarantine: Arc<Mutex<Quarantine>>,
    /// Whether every source of the nodes runs or was refused.
    pub(crate) settled: TellSettled,
    pub(crate) node_forget: Duration,
    /// How many alert rules there are.
    pub(crate) rules: Arc<AtomicUsize>,
    /// What readers may ask for.
    pub(crate) cost_limits: CostLimits,
}

pub struct CoordinatorActor {
    pub(super) core: Coordinator,
    shared: Shared,
    /// How fast rows of tables come.
    arrivals: Arrivals,
    own: WeakAddress<CoordinatorActor>,
    pace: RestartPace,
    /// A new engine is on its way.
    restarting: bool,
    /// When it was last told which feeds there are, monotonic.
    feeds_told_ms: Option<u64>,
    /// Whether it could be started, until the actor goes on with it.
    restarted: Option<bool>,
    /// Views that are to be installed anew, each once, and why.
    to_install: VecDeque<(ViewId, &'static str)>,
}

impl Actor for CoordinatorActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        // As a message, so that it is measured as others are. One that is refused follows soon again.
        ctx.run_interval(Duration::from_millis(self.shared.tick_ms), |actor, _ctx| {
            if let Some(own) = actor.own.upgrade() {
                drop(own.try_send(ClockTick));
            }
        });
    }
}

impl Handler<NodeMessage> for CoordinatorActor {
    type Result = ();
    fn handle(&mut self, message: NodeMessage, _ctx: &mut Self::Context) {
        let now_ms = self.now_ms();
        let NodeMessage { name, link, mut report } = message;
        self.take_figures(&name, &mut report);
        if let Ok(mut registered) = self.shared.registered.lock() {
            match &report.message {
                FromNode::Register { .. } => {
                    registered.insert(name.clone(), (link.clone(), report.clone()));
                }
                FromNode::Leave => {
                    registered.remove(&name);
                }
                _ => {}
            }
        }
        let changes_sources = matches!(
            report.message,
            FromNode::Register { .. } | FromNode::Leave | FromNode::Status { .. }
        );
        let outcome = self.core.on_message(&name, &link, report, now_ms);
        match outcome {
            Outcome::Nothing => {}
            Outcome::QueryFailed { queries, message } => self.finish_failed(queries, &message),
            Outcome::EngineDied { feed } => self.blame(feed),
        }
        if changes_sources {
            self.note_tables(&name);
            self.shared.settled.tell(self.core.sources_are_settled());
            self.resync();
        }
    }
}

impl Handler<InstallNext> for CoordinatorActor {
    type Result = ();
    fn handle(&mut self, _message: InstallNext, _ctx: &mut Self::Context) {
        self.install_next();
    }
}

impl Handler<EngineFailed> for CoordinatorActor {
    type Result = ();
    fn handle(&mut self, _message: EngineFailed, ctx: &mut Self::Context) {
        let failed = self.shared.router.take_failed();
        if self.restarting || self.shared.generations.is_dead() {
            // All of it is of queries that will be installed anew.
            self.heal(ctx);
            return;
        }
        for (query, message) in failed {
            let queries = self.core.failed(query);
            self.finish_failed(queries, &message);
        }
    }
}

impl Handler<ClockTick> for CoordinatorActor {
    type Result = ();
    fn handle(&mut self, _message: ClockTick, ctx: &mut Self::Context) {
        // The messages by which it goes on may have been refused.
        self.go_on_with_new_engine();
        self.heal(ctx);
        let (now_ms, mono_ms) = (self.now_ms(), self.shared.clock.monotonic_ns() / 1_000_000);
        self.core.on_clock(now_ms, mono_ms);
        self.forget_given_up();
        self.tell_feeds(mono_ms);
        if !self.restarting {
            self.install_next();
            self.resync();
            self.end_lingering(mono_ms);
        }
    }
}

impl Handler<EngineStarted> for CoordinatorActor {
    type Result = ();
    fn handle(&mut self, _message: EngineStarted, _ctx: &mut Self::Context) {
        self.go_on_with_new_engine();
    }
}

impl Handler<ViewFailed> for CoordinatorActor {
    type Result = ();
    fn handle(&mut self, message: ViewFailed, _ctx: &mut Self::Context) {
        self.finish(message.view, message.code, "the view could not go on".to_string());
    }
}

impl Handler<TestPanic> for CoordinatorActor {
    type Result = ();
    fn handle(&mut self, _message: TestPanic, _ctx: &mut Self::Context) {
        assert!(!self.shared.test_faults, "a test asked for it");
    }
}

impl Handler<Subscribe> for CoordinatorActor {
    type Result = Result<Subscribed, Refusal>;
    fn handle(&mut self, message: Subscribe, _ctx: &mut Self::Context) -> Self::Result {
        self.subscribe(message)
    }
}

impl Handler<Unsubscribe> for CoordinatorActor {
    type Result = ();
    fn handle(&mut self, message: Unsubscribe, _ctx: &mut Self::Context) {
        self.unsubscribe(message);
    }
}

/// A panic in between leaves whole entries.
fn lock(registry: &Mutex<Registry>) -> MutexGuard<'_, Registry> {
    registry.lock().unwrap_or_else(PoisonError::into_inner)
}
