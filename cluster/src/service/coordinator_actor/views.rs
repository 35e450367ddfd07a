//! Who follows which view: subscribing finds or installs one, the last reader takes it along, or it lingers.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use actix::prelude::*;
use tracing::{info, warn};
use weir_actors::{Address, Config, Supervisor};
use weir_proto::QueryId;

use super::{CoordinatorActor, QueryRow};
use crate::planner::{Prepared, no_source_text};
use crate::service::Installable;
use crate::service::inbox::{Item, NewReader, ViewInbox};
use crate::service::maintained::Maintained;
use crate::service::message::Outgoing;
use crate::service::outbox::Outbox;
use crate::service::quarantine;
use crate::service::query_actor::{Around, QueryActor, ViewParts, Wake};
use crate::service::registry::{Installed, ViewId};

/// Queries that may be installed at once.
const QUERIES_MAX: usize = 512;
/// A view without readers goes on for so long: who comes back finds it as it was.
const LINGER_MS: u64 = 5_000;
/// `run` waits so long for the next frontier of a view that is there already; one that is further away costs a
/// query of its own. Views that refresh every second or more often, as they do unless told otherwise, are all
/// waited for.
pub const RUN_JOINS_WITHIN_MS: u64 = 1_000;

/// What a reader wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The view from its last frontier on, at this refresh.
    Live,
    /// One answer, at a frontier from now on, of any view of this plan whose next one is not further away.
    Once { within_ms: u64 },
    /// The last answer of any view of this plan, however old; if there is none yet, as with `Once`.
    Stale { within_ms: u64 },
}

/// Follow a view; it is installed if nobody follows it yet.
#[derive(Message)]
#[rtype(result = "Result<Subscribed, Refusal>")]
pub struct Subscribe {
    pub installable: Installable,
    pub outbox: Arc<Outbox>,
    pub wanted: Wanted,
    /// Of a view it was subscribed to before, and the frontier up to which it has everything.
    pub since: Option<Since>,
    /// It is installed whatever it is expected to cost.
    pub accepts_cost: bool,
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
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Refusal {
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

impl CoordinatorActor {
    fn install(&mut self, installable: &Installable) -> Result<ViewId, Refusal> {
        // The rules that are configured are bounded by themselves: they take no room from readers.
        let queries_max = QUERIES_MAX + self.shared.rules.load(Ordering::Relaxed);
        if self.registry().len() >= queries_max {
            self.end_lingering(u64::MAX);
        }
        if self.registry().len() >= queries_max {
            let message = format!("{queries_max} queries are installed already");
            return Err(Refusal::new("queries_max", message));
        }
        let Installable { prepared, ready } = installable;
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
        if let Err(error) = self.core.install_ready(run, ready, prepared.refresh_ms, now_ms) {
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
            ready: ready.clone(),
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
    pub(super) fn finish(&mut self, view: ViewId, code: &'static str, message: String) {
        let Some(entry) = self.registry().remove(view) else { return };
        if code != "removed" {
            warn!(view, query = entry.run, code, message, "query ended");
        }
        self.shared.router.forget(entry.run);
        self.core.remove(entry.run);
        entry.inbox.finish(code, message);
    }

    pub(super) fn finish_failed(&mut self, queries: Vec<QueryId>, message: &str) {
        for query in queries {
            let view = self.registry().by_run(query);
            if let Some(view) = view {
                let code = weir_engine::failure_code(message);
                self.finish(view, code, message.to_string());
            }
        }
    }

    pub(super) fn subscribe(&mut self, message: Subscribe) -> Result<Subscribed, Refusal> {
        let Subscribe { installable, outbox, wanted, since, accepts_cost } = message;
        let prepared = &installable.prepared;
        let notices = prepared.without_source.iter().map(|(output, table)| {
            let member = format!("\"table\":{}", serde_json::json!(output));
            Outgoing::error("no_source", &no_source_text(table), &member)
        });
        let now_ms = self.now_ms();
        let found = self.registry().find_for(prepared, wanted, now_ms);
        let view = match found {
            Some(view) => view,
            None => {
                if !accepts_cost {
                    self.refuse_cost(&installable)?;
                }
                self.install(&installable)?
            }
        };
        let reader = NewReader {
            number: self.registry().new_subscriber(),
            notices: notices.collect(),
            outputs: prepared.outputs.clone(),
            from_ms: if matches!(wanted, Wanted::Once { .. }) { now_ms } else { 0 },
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

    pub(super) fn unsubscribe(&mut self, message: Unsubscribe) {
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
