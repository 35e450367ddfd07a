//! The coordinator with a mailbox: who subscribes to what, one installed query per distinct plan,
//! and the clock that moves frontiers nobody holds.
//!
//! It supervises the *generations*: when an engine worker, a node or this actor itself has died, all
//! queries are installed anew over what nodes remember, and the views go on under the same
//! subscriptions: they publish the difference, and say `complete: false` until they are whole again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use serde::Serialize;
use tracing::{error, info, warn};
use weir_actors::{Address, Config, KillSwitch, Part, Supervisor, WeakAddress};
use weir_engine::{Generations, RestartPace};
use weir_proto::message::{SourceStatus, TableStatus};
use weir_proto::{FromNode, NodeLink, QueryId, Report};
use weir_types::Clock;

use super::inbox::{Item, NewReader, ViewInbox};
use super::maintained::Maintained;
use super::message::Outgoing;
use super::outbox::Outbox;
use super::quarantine::{self, Quarantine};
use super::query_actor::{Around, QueryActor, ViewParts, Wake};
use super::registry::{Installed, Registry, ViewId};
use super::router::Router;
use super::settled::TellSettled;
use crate::coordinator::{Book, BusCounters, Coordinator, Identity, Outcome};
use crate::planner::{Prepared, no_source_text};
use crate::view::SnapshotLimits;

/// Queries that may be installed at once.
const QUERIES_MAX: usize = 512;
/// A view without readers goes on for so long: who comes back finds it as it was.
const LINGER_MS: u64 = 5_000;
/// Views are installed anew for so long in one go, then others have their turn.
const INSTALL_SLICE_NS: u64 = 200_000;
/// `run` reads a view that is there already if it refreshes at least so often.
const SHARED_REFRESH_MS_MAX: u64 = 1_000;

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
    /// Of a view it was subscribed to before, and the frontier up to which it has everything.
    pub since: Option<Since>,
}

/// How far a reader had got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    pub view: ViewId,
    pub tick_ms: u64,
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
type Registered = Arc<Mutex<BTreeMap<String, (NodeLink, Report)>>>;

/// Everything that outlives one life of the actor.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) generations: Arc<Generations>,
    /// The engine in the tree of parts.
    pub(crate) engine_part: Part,
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
    pub(crate) book: Arc<Book>,
    pub(crate) bus: Arc<BusCounters>,
    /// Plans that brought engines down.
    pub(crate) quarantine: Arc<Mutex<Quarantine>>,
    /// Whether every source of the nodes runs or was refused.
    pub(crate) settled: TellSettled,
}

pub struct CoordinatorActor {
    pub(super) core: Coordinator,
    shared: Shared,
    own: WeakAddress<CoordinatorActor>,
    pace: RestartPace,
    /// A new engine is on its way.
    restarting: bool,
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

/// Lives.
impl CoordinatorActor {
    /// A new life. After a panic the nodes of the last one are known again, and its views go on.
    pub(crate) fn new(shared: Shared, own: WeakAddress<CoordinatorActor>) -> CoordinatorActor {
        let engine = shared.generations.engine();
        let mut actor = CoordinatorActor {
            core: Coordinator::new(engine)
                .with_identity(shared.identity.clone())
                .with_book(Arc::clone(&shared.book))
                .with_counters(Arc::clone(&shared.bus))
                .with_epochs_from(u64::try_from(shared.clock.now_unix_ns()).unwrap_or(1)),
            own,
            pace: RestartPace::default(),
            restarting: false,
            to_install: VecDeque::new(),
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
        // What runs on them of the last life is found out by their status.
        for (name, (link, register)) in registered {
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
        let killer = self.shared.generations.engine().died_of();
        self.blame(killer);
        let (deaths, wait) = self.pace.died(self.shared.clock.monotonic_ns());
        let reason = match killer {
            Some(query) => format!("a worker died while it worked on query {query}"),
            None => "a worker died".to_string(),
        };
        self.shared.engine_part.died(&reason, wait);
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
    fn install_views(&mut self, why: &'static str) {
        let views = self.registry().ids();
        self.install_anew(views, why);
    }

    /// These views are, one after another, so that nobody waits for all of them.
    fn install_anew(&mut self, views: Vec<ViewId>, why: &'static str) {
        for view in views {
            if !self.to_install.iter().any(|(waiting, _)| *waiting == view) {
                self.to_install.push_back((view, why));
            }
        }
        self.install_next();
    }

    fn install_next(&mut self) {
        let until_ns = self.shared.clock.monotonic_ns() + INSTALL_SLICE_NS;
        while let Some((view, why)) = self.to_install.pop_front() {
            self.install_again(view, why);
            if self.shared.clock.monotonic_ns() >= until_ns {
                break;
            }
        }
        // Refused, it goes on with the clock.
        if !self.to_install.is_empty()
            && let Some(own) = self.own.upgrade()
        {
            drop(own.try_send(InstallNext));
        }
    }

    fn install_again(&mut self, view: ViewId, why: &str) {
        let now_ms = self.now_ms();
        let registry = Arc::clone(&self.shared.registry);
        let mut registry = lock(&registry);
        let Some(former) = registry.get(view).map(|entry| entry.run) else { return };
        self.shared.router.forget(former);
        self.core.remove(former);
        let run = self.core.new_query_id();
        registry.set_run(view, run);
        let Some(entry) = registry.get_mut(view) else { return };
        entry.inbox.push(Item::Rebase { run });
        self.shared.router.set(run, Arc::clone(&entry.inbox));
        let (split, refresh_ms) = (Arc::clone(&entry.split), entry.row.refresh_ms);
        if let Err(error) = self.core.install(run, split, refresh_ms, now_ms) {
            warn!(view, %error, "a node did not take the query");
        }
        entry.row.feeds = self.core.feeds_of(run);
        info!(view, query = run, why, "query installed anew");
    }

    /// What misses something that was lost on the way is fed anew.
    fn resync(&mut self) {
        // Before that is over, they would be told again.
        if self.restarting || !self.to_install.is_empty() {
            return;
        }
        let runs = self.core.take_resyncs();
        let views: Vec<ViewId> = {
            let registry = self.registry();
            runs.iter().filter_map(|&run| registry.by_run(run)).collect()
        };
        self.install_anew(views, "messages of a node were lost, or it began anew");
    }

    /// Views that nobody came back to.
    fn end_lingering(&mut self, now_ms: u64) {
        let over = self.registry().lingering(now_ms);
        for view in over {
            self.finish(view, "removed", "the last reader left".to_string());
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
            self.end_lingering(u64::MAX);
        }
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
            lingers: false,
            lingers_until_ms: None,
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
        let (clock, book) = (Arc::clone(&self.shared.clock), Arc::clone(&self.shared.book));
        let around = Around { clock, book, generations: Arc::clone(&self.shared.generations) };
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
                around: around.clone(),
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
        let Subscribe { prepared, outbox, wanted, since } = message;
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
            // Another view knows nothing of what it has.
            since_ms: since.map(|since| if since.view == view { since.tick_ms } else { 0 }),
            outbox: Arc::clone(&outbox),
        };
        let number = reader.number;
        let joined = {
            let mut registry = self.registry();
            let ended = || Refusal::new("view_lost", "the query ended while it was installed");
            let entry = registry.get_mut(view).ok_or_else(ended)?;
            entry.subscribers.push(number);
            entry.lingers |= wanted == Wanted::Live;
            entry.lingers_until_ms = None;
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
        let NodeMessage { name, link, report } = message;
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
        self.heal(ctx);
        let (now_ms, mono_ms) = (self.now_ms(), self.shared.clock.monotonic_ns() / 1_000_000);
        self.core.on_clock(now_ms, mono_ms);
        self.resync();
        if !self.restarting {
            self.end_lingering(mono_ms);
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
        self.shared.engine_part.running();
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
        let mono_ms = self.shared.clock.monotonic_ns() / 1_000_000;
        let is_over = {
            let mut registry = self.registry();
            let Some(entry) = registry.get_mut(view) else { return };
            entry.subscribers.retain(|have| *have != number);
            entry.inbox.push(Item::Leave(number));
            let is_last = entry.subscribers.is_empty();
            if is_last && entry.lingers && entry.lingers_until_ms.is_none() {
                entry.lingers_until_ms = Some(mono_ms + LINGER_MS);
            }
            is_last && !entry.lingers
        };
        if is_over {
            self.finish(view, "removed", "the last reader left".to_string());
        }
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
