//! The coordinator with a mailbox: who subscribes to what, one installed query per distinct plan,
//! and the clock that moves frontiers nobody holds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::prelude::*;
use serde::Serialize;
use tokio::sync::mpsc;
use tracing::{info, warn};
use weir_actors::{Address, Config, KillSwitch, Supervisor, WeakAddress};
use weir_engine::Engine;
use weir_proto::message::{SourceStatus, TableStatus};
use weir_proto::{FromNode, NodeLink, QueryId, ToNode};
use weir_types::Clock;

use super::Routes;
use super::query_actor::{AddSubscriber, Advance, Finish, Outgoing, QueryActor, RemoveSubscriber};
use crate::coordinator::{Coordinator, Identity, Outcome, PastLosses, QueryCompleteness};
use crate::planner::{Prepared, no_source_text};

/// Queries that may be installed at once.
const QUERIES_MAX: usize = 512;

/// A node's message.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct NodeMessage {
    pub(crate) name: String,
    pub(crate) link: NodeLink,
    pub(crate) message: FromNode,
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct FrontierMoved {
    pub(crate) query: QueryId,
    pub(crate) tick_ms: u64,
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct EngineFailed {
    pub(crate) query: QueryId,
    pub(crate) message: String,
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct FailAll;

/// Follow a view; it is installed if nobody follows it yet.
#[derive(Message)]
#[rtype(result = "Result<Subscribed, String>")]
pub struct Subscribe {
    pub prepared: Prepared,
    pub sender: mpsc::Sender<Outgoing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribed {
    pub query: QueryId,
    pub number: u64,
}

/// Stop following; the last one out removes the query.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Unsubscribe {
    pub query: QueryId,
    pub number: u64,
}

/// Completeness at a frontier, and the time now.
#[derive(Message)]
#[rtype(result = "(QueryCompleteness, i64)")]
pub(crate) struct StatusOf {
    pub(crate) query: QueryId,
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

struct Installed {
    key: (u64, u64),
    row: QueryRow,
    actor: Address<QueryActor>,
    subscribers: Vec<u64>,
}

/// A node that registered, kept outside the actor so that its next life knows it.
type Registered = Arc<Mutex<BTreeMap<String, (NodeLink, FromNode)>>>;

/// Everything that outlives one life of the actor.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    pub(crate) routes: Routes,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tick_ms: u64,
    pub(crate) snapshot_rows_max: usize,
    pub(crate) test_faults: bool,
    pub(crate) identity: Identity,
    pub(crate) switch: KillSwitch,
    pub(crate) registered: Registered,
    pub(crate) past_losses: PastLosses,
}

pub struct CoordinatorActor {
    core: Coordinator,
    shared: Shared,
    own: WeakAddress<CoordinatorActor>,
    queries: HashMap<QueryId, Installed>,
    by_key: HashMap<(u64, u64), QueryId>,
    next_subscriber: u64,
}

impl Actor for CoordinatorActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(Duration::from_millis(self.shared.tick_ms), |actor, _ctx| {
            let (now_ms, mono_ms) = (actor.now_ms(), actor.shared.clock.monotonic_ns() / 1_000_000);
            actor.core.on_clock(now_ms, mono_ms);
        });
    }
}

impl CoordinatorActor {
    /// A new life. After a panic the nodes of the last one are known again, and its queries are
    /// taken down: their readers are told and may come back.
    pub(crate) fn new(shared: Shared, own: WeakAddress<CoordinatorActor>) -> CoordinatorActor {
        let mut actor = CoordinatorActor {
            core: Coordinator::new(shared.engine.clone())
                .with_identity(shared.identity.clone())
                .with_past_losses(shared.past_losses.clone()),
            own,
            queries: HashMap::new(),
            by_key: HashMap::new(),
            next_subscriber: 1,
            shared,
        };
        actor.take_over();
        actor
    }

    fn take_over(&mut self) {
        let now_ms = self.now_ms();
        // Feeds have no route, but all that runs in the engine is of the last life.
        let running = self.shared.engine.stats().queries.into_iter().map(|query| query.query);
        let mut orphans: BTreeSet<QueryId> = running.collect();
        if let Ok(mut routes) = self.shared.routes.lock() {
            orphans.extend(routes.drain().map(|(query, _)| query));
        }
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
            self.shared.engine.remove(query);
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.shared.clock.now_unix_ns() / 1_000_000).unwrap_or(0)
    }

    fn set_route(&self, query: QueryId, actor: Option<Address<QueryActor>>) {
        if let Ok(mut routes) = self.shared.routes.lock() {
            match actor {
                Some(actor) => routes.insert(query, actor),
                None => routes.remove(&query),
            };
        }
    }

    fn install(
        &mut self,
        prepared: Prepared,
        own: Address<CoordinatorActor>,
    ) -> Result<QueryId, String> {
        if self.queries.len() >= QUERIES_MAX {
            return Err(format!("{QUERIES_MAX} queries are installed already"));
        }
        let query = self.core.new_query_id();
        let outputs = prepared.outputs.clone();
        let row = QueryRow {
            query,
            name: prepared.name.clone(),
            refresh_ms: prepared.refresh_ms,
            subscribers: 0,
            outputs: prepared.outputs.iter().map(|output| output.table.clone()).collect(),
            installed_unix_ns: self.shared.clock.now_unix_ns(),
            feeds: Vec::new(),
        };
        let (rows_max, faults) = (self.shared.snapshot_rows_max, self.shared.test_faults);
        // A view that lost its rows to a panic would be wrong: it ends, and its readers come back.
        let config = Config { restarts_max: 0, mailbox_capacity: 1_024, ..Config::default() };
        let supervised =
            Supervisor::start(&self.shared.switch, &format!("query-{query}"), config, move |_| {
                Ok(QueryActor::new(query, outputs.clone(), own.clone(), rows_max, faults))
            });
        let actor = supervised.addr().clone();
        self.set_route(query, Some(actor.clone()));
        let now_ms = self.now_ms();
        let installed = self.core.install(query, prepared.split, prepared.refresh_ms, now_ms);
        if let Err(error) = installed {
            warn!(query, %error, "a node did not take the query");
        }
        let row = QueryRow { feeds: self.core.feeds_of(query), ..row };
        info!(
            query,
            name = prepared.name,
            refresh_ms = prepared.refresh_ms,
            feeds = ?row.feeds,
            "query installed"
        );
        self.by_key.insert(prepared.key, query);
        let entry = Installed { key: prepared.key, row, actor, subscribers: Vec::new() };
        self.queries.insert(query, entry);
        Ok(query)
    }

    /// Ends the query for all that follow it.
    fn finish(&mut self, query: QueryId, code: &'static str, message: String) {
        let Some(entry) = self.queries.remove(&query) else { return };
        if code != "removed" {
            warn!(query, code, message, "query ended");
        }
        self.by_key.remove(&entry.key);
        self.set_route(query, None);
        self.core.remove(query);
        // A full mailbox is a busy view: let it come round.
        actix::spawn(async move {
            let _ = entry.actor.send(Finish { code, message }).await;
        });
    }
}

impl CoordinatorActor {
    fn finish_failed(&mut self, queries: Vec<QueryId>, message: &str) {
        for query in queries {
            self.finish(query, "query_failed", message.to_string());
        }
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
        if let Outcome::QueryFailed { queries, message } =
            self.core.on_message(&name, &link, message, now_ms)
        {
            self.finish_failed(queries, &message);
        }
    }
}

impl Handler<FrontierMoved> for CoordinatorActor {
    type Result = ResponseFuture<()>;
    fn handle(&mut self, message: FrontierMoved, _ctx: &mut Self::Context) -> Self::Result {
        let FrontierMoved { query, tick_ms } = message;
        let actor = self.queries.get(&query).map(|entry| entry.actor.clone());
        let advance = Advance {
            tick_ms,
            completeness: self.core.completeness(query, tick_ms),
            events_unix_ns: self.core.take_samples(query, tick_ms),
            now_unix_ns: self.shared.clock.now_unix_ns(),
        };
        Box::pin(async move {
            if let Some(actor) = actor {
                let _ = actor.send(advance).await;
            }
        })
    }
}

impl Handler<EngineFailed> for CoordinatorActor {
    type Result = ();
    fn handle(&mut self, message: EngineFailed, _ctx: &mut Self::Context) {
        let queries = self.core.failed(message.query);
        self.finish_failed(queries, &message.message);
    }
}

impl Handler<FailAll> for CoordinatorActor {
    type Result = ();
    fn handle(&mut self, _message: FailAll, _ctx: &mut Self::Context) {
        let queries: Vec<QueryId> = self.queries.keys().copied().collect();
        for query in queries {
            self.finish(query, "overflow", "the server could not keep up with the view".into());
        }
    }
}

impl Handler<Subscribe> for CoordinatorActor {
    type Result = Result<Subscribed, String>;
    fn handle(&mut self, message: Subscribe, _ctx: &mut Self::Context) -> Self::Result {
        let Subscribe { prepared, sender } = message;
        let notices = prepared.without_source.iter().map(|(output, table)| {
            let member = format!("\"table\":{}", serde_json::json!(output));
            Outgoing::error("no_source", &no_source_text(table), &member)
        });
        let notices = notices.collect();
        let query = match self.by_key.get(&prepared.key) {
            Some(&query) => query,
            None => {
                let own = self.own.upgrade().ok_or("the server is stopping")?;
                self.install(prepared, own)?
            }
        };
        let number = self.next_subscriber;
        self.next_subscriber += 1;
        let Some(entry) = self.queries.get_mut(&query) else {
            return Err("the query ended while it was installed".to_string());
        };
        entry.subscribers.push(number);
        let actor = entry.actor.clone();
        let own = self.own.clone();
        actix::spawn(async move {
            let added = actor.send(AddSubscriber { number, sender, notices }).await;
            // A view that went down is taken out, so that the next reader gets a new one.
            if added.is_err()
                && let Some(own) = own.upgrade()
            {
                let message = "the view panicked".to_string();
                let _ = own.send(EngineFailed { query, message }).await;
            }
        });
        Ok(Subscribed { query, number })
    }
}

impl Handler<Unsubscribe> for CoordinatorActor {
    type Result = ();
    fn handle(&mut self, message: Unsubscribe, _ctx: &mut Self::Context) {
        let Unsubscribe { query, number } = message;
        let Some(entry) = self.queries.get_mut(&query) else { return };
        entry.subscribers.retain(|have| *have != number);
        let actor = entry.actor.clone();
        if entry.subscribers.is_empty() {
            self.finish(query, "removed", "the last reader left".to_string());
        } else {
            actix::spawn(async move {
                let _ = actor.send(RemoveSubscriber(number)).await;
            });
        }
    }
}

impl Handler<StatusOf> for CoordinatorActor {
    type Result = MessageResult<StatusOf>;
    fn handle(&mut self, message: StatusOf, _ctx: &mut Self::Context) -> Self::Result {
        let completeness = self.core.completeness(message.query, message.frontier_ms);
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
        let mut rows: Vec<QueryRow> = self
            .queries
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
        let running = self.shared.engine.stats().queries;
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
