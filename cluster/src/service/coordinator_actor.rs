//! The coordinator with a mailbox: who subscribes to what, one installed query per distinct plan,
//! and the clock that moves frontiers nobody holds.
//!
//! It supervises the *generations*: when an engine worker, a node or this actor itself has died, all
//! queries are installed anew over what nodes remember, and the views go on under the same
//! subscriptions: they publish the difference, and say `complete: false` until they are whole again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use serde::Serialize;
use tokio::sync::watch;
use tracing::{error, info, warn};
use weir_actors::{Address, Config, KillSwitch, Supervisor, WeakAddress};
use weir_engine::{Generations, RestartPace};
use weir_proto::message::{SourceStatus, TableStatus};
use weir_proto::{FromNode, NodeLink, QueryId, ToNode};
use weir_types::Clock;

use super::inbox::{Advance, Item, NewReader, ViewInbox};
use super::maintained::Maintained;
use super::message::Outgoing;
use super::outbox::Outbox;
use super::quarantine::{self, Quarantine};
use super::query_actor::{QueryActor, ViewParts, Wake};
use super::registry::{Installed, Registry, ViewId};
use super::router::{Moved, Router};
use crate::coordinator::{
    Coordinator, CutTotals, Identity, Outcome, PastLosses, QueryCompleteness,
};
use crate::planner::{Prepared, no_source_text};
use crate::view::SnapshotLimits;

/// Queries that may be installed at once.
const QUERIES_MAX: usize = 512;
/// Frontiers that are passed on in one go: well within a handler's time.
const FRONTIERS_PER_TURN: usize = 32;
/// `run` reads a view that is there already if it refreshes at least so often.
const SHARED_REFRESH_MS_MAX: u64 = 1_000;

/// A node's message.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct NodeMessage {
    pub(crate) name: String,
    pub(crate) link: NodeLink,
    pub(crate) message: FromNode,
}

/// The engine has said something: it waits in the router.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct EngineMoved;

/// A new engine has been started, or could not be.
#[derive(Message)]
#[rtype(result = "()")]
struct EngineStarted {
    started: bool,
}

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

/// What a reader wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The view from its last frontier on, at this refresh.
    Live,
    /// One answer, of any view of this plan, at a frontier from now on; `stale`: the last one.
    Once { stale: bool },
}

/// Follow a view; it is installed if nobody follows it yet.
#[derive(Message)]
#[rtype(result = "Result<Subscribed, Refusal>")]
pub struct Subscribe {
    pub prepared: Prepared,
    pub outbox: Arc<Outbox>,
    pub wanted: Wanted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribed {
    pub view: ViewId,
    pub number: u64,
}

/// Why there is no view to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: &'static str,
    pub message: String,
}

impl Refusal {
    fn new(code: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into() }
    }
}

/// Stop following; the last one out removes the query.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Unsubscribe {
    pub view: ViewId,
    pub number: u64,
}

/// Completeness at a frontier, and the time now.
#[derive(Message)]
#[rtype(result = "(QueryCompleteness, i64)")]
pub(crate) struct StatusOf {
    pub(crate) view: ViewId,
    pub(crate) frontier_ms: u64,
}

/// Tables that some node produces, and table functions that are answered.
#[derive(Message)]
#[rtype(result = "Vec<String>")]
pub struct AvailableTables;

#[derive(Clone, Debug, Serialize)]
pub struct NodeRow {
    pub name: String,
    pub hostname: String,
    pub version: String,
    pub asid: u32,
    pub lagging: bool,
    pub last_heard_ms_ago: u64,
    #[serde(skip)]
    pub sources: Vec<SourceStatus>,
    #[serde(skip)]
    pub tables: Vec<TableStatus>,
    /// What → how often a queue of the node refused it.
    #[serde(skip)]
    pub refused_total: Vec<(String, u64)>,
}

#[derive(Message)]
#[rtype(result = "Vec<NodeRow>")]
pub struct ListNodes;

#[derive(Clone, Debug, Serialize)]
pub struct QueryRow {
    pub query: QueryId,
    pub name: String,
    pub refresh_ms: u64,
    pub subscribers: usize,
    pub outputs: Vec<String>,
    pub installed_unix_ns: i64,
    /// The feeds that it reads, shared with every other query that names them.
    pub feeds: Vec<QueryId>,
}

#[derive(Message)]
#[rtype(result = "Vec<QueryRow>")]
pub struct ListQueries;

/// What nodes and the cluster engine maintain for one or more queries.
#[derive(Clone, Debug, Serialize)]
pub struct FeedRow {
    pub feed: QueryId,
    pub tables: Vec<String>,
    pub exchanges: usize,
    pub refresh_ms: u64,
    pub readers: Vec<QueryId>,
    /// Of its windows, in the cluster part.
    pub state_bytes: u64,
    /// Changes that came from nodes.
    pub rows_in: u64,
}

#[derive(Message)]
#[rtype(result = "Vec<FeedRow>")]
pub struct ListFeeds;

/// A node that registered, kept outside the actor so that its next life knows it.
type Registered = Arc<Mutex<BTreeMap<String, (NodeLink, FromNode)>>>;

/// Everything that outlives one life of the actor.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) generations: Arc<Generations>,
    pub(crate) router: Arc<Router>,
    pub(crate) registry: Arc<Mutex<Registry>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tick_ms: u64,
    pub(crate) snapshots: SnapshotLimits,
    pub(crate) test_faults: bool,
    pub(crate) identity: Identity,
    pub(crate) switch: KillSwitch,
    /// The thread of the views.
    pub(crate) views: ArbiterHandle,
    pub(crate) registered: Registered,
    pub(crate) past_losses: PastLosses,
    pub(crate) cut_totals: CutTotals,
    /// Plans that brought engines down.
    pub(crate) quarantine: Arc<Mutex<Quarantine>>,
    /// Whether every source of the nodes runs or was refused.
    pub(crate) settled: watch::Sender<bool>,
}

pub struct CoordinatorActor {
    core: Coordinator,
    shared: Shared,
    own: WeakAddress<CoordinatorActor>,
    pace: RestartPace,
    /// A new engine is on its way.
    restarting: bool,
}

impl Actor for CoordinatorActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(Duration::from_millis(self.shared.tick_ms), |actor, ctx| {
            actor.heal(ctx);
            let (now_ms, mono_ms) = (actor.now_ms(), actor.shared.clock.monotonic_ns() / 1_000_000);
            actor.core.on_clock(now_ms, mono_ms);
        });
    }
}

/// Lives.
impl CoordinatorActor {
    /// A new life. After a panic the nodes of the last one are known again, and its views go on.
    pub(crate) fn new(shared: Shared, own: WeakAddress<CoordinatorActor>) -> CoordinatorActor {
        let engine = shared.generations.engine();
        let mut actor = CoordinatorActor {
            core: Coordinator::new(engine)
                .with_identity(shared.identity.clone())
                .with_past_losses(shared.past_losses.clone())
                .with_cut_totals(shared.cut_totals.clone()),
            own,
            pace: RestartPace::default(),
            restarting: false,
            shared,
        };
        actor.take_over();
        actor
    }

    fn take_over(&mut self) {
        let now_ms = self.now_ms();
        // All that runs in the engine is of the last life.
        let running = self.shared.generations.engine().stats().queries;
        let mut orphans: BTreeSet<QueryId> = running.iter().map(|query| query.query).collect();
        orphans.extend(self.registry().values().map(|entry| entry.run));
        let registered = match self.shared.registered.lock() {
            Ok(registered) => registered.clone(),
            Err(_) => BTreeMap::new(),
        };
        for (name, (link, register)) in registered {
            for &query in &orphans {
                drop(link.send(&ToNode::Remove { query }));
            }
            self.core.on_message(&name, &link, register, now_ms);
        }
        for query in orphans {
            self.core.skip_query_id(query);
            self.shared.generations.engine().remove(query);
        }
        self.install_views("the coordinator panicked");
    }

    /// A dead engine is replaced.
    fn heal(&mut self, ctx: &mut Context<Self>) {
        if self.restarting || !self.shared.generations.is_dead() {
            return;
        }
        self.restarting = true;
        self.blame(self.shared.generations.engine().died_of());
        let (deaths, wait) = self.pace.died(self.shared.clock.monotonic_ns());
        error!(deaths, ?wait, "an engine worker died: a new engine is started");
        let generations = self.shared.generations.clone();
        let start = async move {
            actix::clock::sleep(wait).await;
            let started = actix_web::web::block(move || generations.restart().is_ok()).await;
            EngineStarted { started: started.unwrap_or(false) }
        };
        let own = self.own.clone();
        ctx.spawn(start.into_actor(self).map(move |started, _actor, _ctx| {
            if let Some(own) = own.upgrade()
                && let Err(error) = own.try_send(started)
            {
                warn!(%error, "could not announce a new engine");
            }
        }));
    }

    /// An engine, here or of a node, died while it worked on this query or feed. Views of which engines
    /// have died before are ended, all others go on.
    fn blame(&mut self, killer: Option<QueryId>) {
        let Some(killer) = killer else { return };
        let now_ns = self.shared.clock.monotonic_ns();
        for run in self.core.failed(killer) {
            let over = {
                let registry = lock(&self.shared.registry);
                let mut quarantine =
                    self.shared.quarantine.lock().unwrap_or_else(PoisonError::into_inner);
                let view = registry.by_run(run);
                let entry = view.and_then(|view| registry.get(view));
                let is_over = entry.is_some_and(|entry| quarantine.blame(&entry.identity, now_ns));
                view.filter(|_| is_over)
            };
            if let Some(view) = over {
                self.finish(view, quarantine::CODE, quarantine::message());
            }
        }
    }

    /// All views are fed anew: by new queries, over the engine and nodes as they are now.
    fn install_views(&mut self, why: &str) {
        let now_ms = self.now_ms();
        let registry = Arc::clone(&self.shared.registry);
        let mut registry = lock(&registry);
        for view in registry.ids() {
            let run = self.core.new_query_id();
            if let Some(entry) = registry.get(view) {
                self.shared.router.forget(entry.run);
            }
            registry.set_run(view, run);
            let Some(entry) = registry.get_mut(view) else { continue };
            entry.inbox.push(Item::Rebase { run });
            self.shared.router.set(run, Arc::clone(&entry.inbox));
            let (split, refresh_ms) = (Arc::clone(&entry.split), entry.row.refresh_ms);
            if let Err(error) = self.core.install(run, split, refresh_ms, now_ms) {
                warn!(view, %error, "a node did not take the query");
            }
            entry.row.feeds = self.core.feeds_of(run);
            info!(view, query = run, why, "query installed anew");
        }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.shared.registry)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.shared.clock.now_unix_ns() / 1_000_000).unwrap_or(0)
    }
}

/// A panic in between leaves whole entries.
fn lock(registry: &Mutex<Registry>) -> MutexGuard<'_, Registry> {
    registry.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Views.
impl CoordinatorActor {
    fn install(&mut self, prepared: &Prepared) -> Result<ViewId, Refusal> {
        if self.registry().len() >= QUERIES_MAX {
            let message = format!("{QUERIES_MAX} queries are installed already");
            return Err(Refusal::new("queries_max", message));
        }
        let now_ns = self.shared.clock.monotonic_ns();
        let quarantine = self.shared.quarantine.lock().unwrap_or_else(PoisonError::into_inner);
        if quarantine.refuses(&prepared.identity, now_ns) {
            return Err(Refusal::new(quarantine::CODE, quarantine::message()));
        }
        drop(quarantine);
        let run = self.core.new_query_id();
        let view = self.registry().new_view_id();
        let inbox = Arc::new(ViewInbox::default());
        let actor = self.start_view(view, run, prepared, &inbox);
        self.shared.router.set(run, Arc::clone(&inbox));
        let now_ms = self.now_ms();
        let split = Arc::clone(&prepared.split);
        if let Err(error) = self.core.install(run, split, prepared.refresh_ms, now_ms) {
            warn!(view, %error, "a node did not take the query");
        }
        let row = QueryRow {
            query: run,
            name: prepared.name.clone(),
            refresh_ms: prepared.refresh_ms,
            subscribers: 0,
            outputs: prepared.outputs.iter().map(|output| output.table.clone()).collect(),
            installed_unix_ns: self.shared.clock.now_unix_ns(),
            feeds: self.core.feeds_of(run),
        };
        let (name, refresh_ms, feeds) = (&row.name, row.refresh_ms, &row.feeds);
        info!(view, query = run, name, refresh_ms, ?feeds, "query installed");
        let entry = Installed {
            identity: Arc::clone(&prepared.identity),
            split: Arc::clone(&prepared.split),
            row,
            run,
            _actor: actor,
            inbox,
            subscribers: Vec::new(),
        };
        self.registry().insert(view, entry);
        Ok(view)
    }

    fn start_view(
        &self,
        view: ViewId,
        run: QueryId,
        prepared: &Prepared,
        inbox: &Arc<ViewInbox>,
    ) -> Address<QueryActor> {
        let outputs = prepared.outputs.clone();
        let (coordinator, own_inbox) = (self.own.clone(), Arc::clone(inbox));
        let clock = Arc::clone(&self.shared.clock);
        let (limits, test_faults) = (self.shared.snapshots, self.shared.test_faults);
        // A view that lost its rows to a panic would be wrong: it ends, and its readers come back.
        let config = Config { restarts_max: 0, ..Config::default() };
        let (views, switch) = (&self.shared.views, &self.shared.switch);
        let factory = move |_: &_| {
            Ok(QueryActor::new(ViewParts {
                view,
                maintained: Maintained::new(run, outputs.clone(), limits),
                inbox: Arc::clone(&own_inbox),
                coordinator: coordinator.clone(),
                clock: Arc::clone(&clock),
                test_faults,
            }))
        };
        let started =
            Supervisor::start_in(views, switch, &format!("query-{view}"), config, factory);
        let actor = started.addr().clone();
        let woken = actor.downgrade();
        inbox.attach(Box::new(move || {
            if let Some(actor) = woken.upgrade() {
                // Refused, it is found by the view's own look-out.
                drop(actor.try_send(Wake));
            }
        }));
        actor
    }

    /// Ends the view for all that follow it.
    fn finish(&mut self, view: ViewId, code: &'static str, message: String) {
        let Some(entry) = self.registry().remove(view) else { return };
        if code != "removed" {
            warn!(view, query = entry.run, code, message, "query ended");
        }
        self.shared.router.forget(entry.run);
        self.core.remove(entry.run);
        entry.inbox.finish(code, message);
    }

    fn finish_failed(&mut self, queries: Vec<QueryId>, message: &str) {
        for query in queries {
            let view = self.registry().by_run(query);
            if let Some(view) = view {
                let code = weir_engine::failure_code(message);
                self.finish(view, code, message.to_string());
            }
        }
    }

    fn subscribe(&mut self, message: Subscribe) -> Result<Subscribed, Refusal> {
        let Subscribe { prepared, outbox, wanted } = message;
        let notices = prepared.without_source.iter().map(|(output, table)| {
            let member = format!("\"table\":{}", serde_json::json!(output));
            Outgoing::error("no_source", &no_source_text(table), &member)
        });
        let found = match wanted {
            Wanted::Live => self.registry().find(&prepared.identity, prepared.refresh_ms),
            Wanted::Once { .. } => {
                let at_most = SHARED_REFRESH_MS_MAX.max(prepared.refresh_ms);
                self.registry().find_any(&prepared.identity, at_most)
            }
        };
        let view = match found {
            Some(view) => view,
            None => self.install(&prepared)?,
        };
        let reader = NewReader {
            number: self.registry().new_subscriber(),
            notices: notices.collect(),
            outputs: prepared.outputs.clone(),
            from_ms: if wanted == (Wanted::Once { stale: false }) { self.now_ms() } else { 0 },
            outbox: Arc::clone(&outbox),
        };
        let number = reader.number;
        let joined = {
            let mut registry = self.registry();
            let ended = || Refusal::new("view_lost", "the query ended while it was installed");
            let entry = registry.get_mut(view).ok_or_else(ended)?;
            entry.subscribers.push(number);
            let inbox = Arc::clone(&entry.inbox);
            outbox.attach(Arc::new(move || inbox.wake()));
            entry.inbox.push(Item::Join(reader))
        };
        if !joined {
            // The view went down and nobody has noticed yet: the next reader gets a new one.
            self.finish(view, "query_failed", "the view panicked".to_string());
            return Err(Refusal::new("view_lost", "the view went down: subscribe again"));
        }
        Ok(Subscribed { view, number })
    }
}

impl Handler<NodeMessage> for CoordinatorActor {
    type Result = ();
    fn handle(&mut self, message: NodeMessage, _ctx: &mut Self::Context) {
        let now_ms = self.now_ms();
        let NodeMessage { name, link, message } = message;
        if let Ok(mut registered) = self.shared.registered.lock() {
            match &message {
                FromNode::Register { .. } => {
                    registered.insert(name.clone(), (link.clone(), message.clone()));
                }
                FromNode::Leave => {
                    registered.remove(&name);
                }
                _ => {}
            }
        }
        if let FromNode::EngineDied { query } = &message {
            self.blame(*query);
        }
        let changes_sources = matches!(
            message,
            FromNode::Register { .. } | FromNode::Leave | FromNode::Status { .. }
        );
        // What it has sent before it will send again: windows must not hold it twice.
        let again = matches!(message, FromNode::Register { .. })
            && self.core.nodes().contains_key(&name)
            && self.registry().len() > 0;
        if again {
            self.core.start_over(self.shared.generations.engine());
        }
        let outcome = self.core.on_message(&name, &link, message, now_ms);
        if again {
            self.install_views("a node started anew");
        }
        if let Outcome::QueryFailed { queries, message } = outcome {
            self.finish_failed(queries, &message);
        }
        if changes_sources {
            let settled = self.core.sources_are_settled();
            self.shared
                .settled
                .send_if_modified(|known| std::mem::replace(known, settled) != settled);
        }
    }
}

impl Handler<EngineMoved> for CoordinatorActor {
    type Result = ();
    fn handle(&mut self, _message: EngineMoved, ctx: &mut Self::Context) {
        let Moved { frontiers, failed } = self.shared.router.take(FRONTIERS_PER_TURN);
        if self.restarting || self.shared.generations.is_dead() {
            // All of it is of queries that will be installed anew.
            self.heal(ctx);
            return;
        }
        let now_unix_ns = self.shared.clock.now_unix_ns();
        for (run, tick_ms) in frontiers {
            let inbox = {
                let registry = self.registry();
                let view = registry.by_run(run).and_then(|view| registry.get(view));
                view.map(|entry| Arc::clone(&entry.inbox))
            };
            let Some(inbox) = inbox else { continue };
            self.core.note_cuts(run, tick_ms);
            let advance = Advance {
                tick_ms,
                completeness: self.core.completeness(run, tick_ms),
                events_unix_ns: self.core.take_samples(run, tick_ms),
                now_unix_ns,
            };
            if !inbox.push(Item::Advance { run, advance }) {
                self.finish_failed(vec![run], "the view went down");
            }
        }
        for (query, message) in failed {
            let queries = self.core.failed(query);
            self.finish_failed(queries, &message);
        }
    }
}

impl Handler<EngineStarted> for CoordinatorActor {
    type Result = ();
    fn handle(&mut self, message: EngineStarted, _ctx: &mut Self::Context) {
        self.restarting = false;
        if !message.started {
            error!("could not start a new engine; it is tried again");
            return;
        }
        self.core.start_over(self.shared.generations.engine());
        self.install_views("an engine worker died");
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
        let Unsubscribe { view, number } = message;
        let is_last = {
            let mut registry = self.registry();
            let Some(entry) = registry.get_mut(view) else { return };
            entry.subscribers.retain(|have| *have != number);
            entry.inbox.push(Item::Leave(number));
            entry.subscribers.is_empty()
        };
        if is_last {
            self.finish(view, "removed", "the last reader left".to_string());
        }
    }
}

impl Handler<StatusOf> for CoordinatorActor {
    type Result = MessageResult<StatusOf>;
    fn handle(&mut self, message: StatusOf, _ctx: &mut Self::Context) -> Self::Result {
        let run = self.registry().get(message.view).map_or(0, |entry| entry.run);
        let completeness = self.core.completeness(run, message.frontier_ms);
        MessageResult((completeness, self.shared.clock.now_unix_ns()))
    }
}

impl Handler<AvailableTables> for CoordinatorActor {
    type Result = MessageResult<AvailableTables>;
    fn handle(&mut self, _message: AvailableTables, _ctx: &mut Self::Context) -> Self::Result {
        let tables = weir_types::tables::TABLES.iter().map(|table| table.name);
        let functions = weir_pxl::table_functions::all().map(|function| function.name);
        let names = tables.chain(functions);
        MessageResult(names.filter(|name| self.core.has_table(name)).map(str::to_string).collect())
    }
}

impl Handler<ListNodes> for CoordinatorActor {
    type Result = MessageResult<ListNodes>;
    fn handle(&mut self, _message: ListNodes, _ctx: &mut Self::Context) -> Self::Result {
        let now_ms = self.now_ms();
        let rows = self.core.nodes().iter().map(|(name, node)| NodeRow {
            name: name.clone(),
            hostname: node.info.hostname.clone(),
            version: node.info.version.clone(),
            asid: node.info.asid,
            lagging: node.lagging,
            last_heard_ms_ago: now_ms.saturating_sub(node.last_heard_ms),
            sources: node.sources.clone(),
            tables: node.tables.clone(),
            refused_total: node.refused_total.clone(),
        });
        MessageResult(rows.collect())
    }
}

impl Handler<ListQueries> for CoordinatorActor {
    type Result = MessageResult<ListQueries>;
    fn handle(&mut self, _message: ListQueries, _ctx: &mut Self::Context) -> Self::Result {
        let registry = self.registry();
        let mut rows: Vec<QueryRow> = registry
            .values()
            .map(|entry| QueryRow { subscribers: entry.subscribers.len(), ..entry.row.clone() })
            .collect();
        rows.sort_by_key(|row| row.query);
        MessageResult(rows)
    }
}

impl Handler<ListFeeds> for CoordinatorActor {
    type Result = MessageResult<ListFeeds>;
    fn handle(&mut self, _message: ListFeeds, _ctx: &mut Self::Context) -> Self::Result {
        let running = self.shared.generations.engine().stats().queries;
        let running: BTreeMap<QueryId, _> = running.into_iter().map(|q| (q.query, q)).collect();
        let rows = self.core.feeds().map(|info| FeedRow {
            state_bytes: running.get(&info.feed).map_or(0, |stats| stats.state_bytes),
            rows_in: running.get(&info.feed).map_or(0, |stats| stats.rows_in),
            feed: info.feed,
            tables: info.tables,
            exchanges: info.exchanges,
            refresh_ms: info.refresh_ms,
            readers: info.readers,
        });
        MessageResult(rows.collect())
    }
}
