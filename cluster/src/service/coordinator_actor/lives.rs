//! Generations: a new life of the coordinator takes the last one's nodes and views over, a dead engine is
//! replaced, and views are installed anew, a few at a time, so that nobody waits for all of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use tracing::{error, info, warn};
use weir_actors::WeakAddress;
use weir_engine::RestartPace;
use weir_proto::QueryId;

use super::{CoordinatorActor, EngineStarted, InstallNext, Shared, lock};
use crate::coordinator::Coordinator;
use crate::cost::Arrivals;
use crate::service::inbox::Item;
use crate::service::quarantine;
use crate::service::registry::{Registry, ViewId};

/// After another process died: all others need as long to notice.
const MEET_AFTER: Duration = Duration::from_millis(50);
/// Views are installed anew for so long in one go, then others have their turn.
const INSTALL_SLICE_NS: u64 = 200_000;

impl CoordinatorActor {
    /// A new life. After a panic the nodes of the last one are known again, and its views go on.
    pub(crate) fn new(shared: Shared, own: WeakAddress<CoordinatorActor>) -> CoordinatorActor {
        let engine = shared.generations.engine();
        let mut actor = CoordinatorActor {
            core: Coordinator::new(engine)
                .with_identity(shared.identity.clone())
                .with_book(Arc::clone(&shared.book))
                .with_counters(Arc::clone(&shared.bus))
                .with_forget(shared.node_forget)
                .with_epochs_from(u64::try_from(shared.clock.now_unix_ns()).unwrap_or(1)),
            arrivals: Arrivals::default(),
            own,
            pace: RestartPace::default(),
            restarting: false,
            feeds_told_ms: None,
            restarted: None,
            to_install: VecDeque::new(),
            shared,
        };
        actor.take_over();
        actor
    }

    pub(super) fn take_over(&mut self) {
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
        // The last life may have gone down before it heard that the engine was started anew.
        if !self.shared.generations.is_dead() {
            self.shared.engine_part.running();
        }
    }

    /// Nodes that were given up are not known to the next life either.
    pub(super) fn forget_given_up(&self) {
        if let Ok(mut registered) = self.shared.registered.lock()
            && registered.len() > self.core.nodes().len()
        {
            registered.retain(|name, _| self.core.nodes().contains_key(name));
        }
    }

    /// A dead engine is replaced.
    pub(super) fn heal(&mut self, ctx: &mut Context<Self>) {
        if self.restarting || !self.shared.generations.is_dead() {
            return;
        }
        self.restarting = true;
        let killer = self.shared.generations.engine().died_of();
        self.blame(killer);
        let (deaths, mut wait) = self.pace.died(self.shared.clock.monotonic_ns());
        let is_elsewhere = killer.is_none() && self.shared.generations.mesh().is_some();
        let reason = match killer {
            Some(query) => format!("a worker died while it worked on query {query}"),
            None if is_elsewhere => {
                // They have to come back first, and that takes its time.
                wait = wait.min(MEET_AFTER);
                "other processes of the cluster part are missing, or have died".to_string()
            }
            None => "a worker died".to_string(),
        };
        self.shared.engine_part.died(&reason, wait);
        if is_elsewhere {
            info!(reason, "the cluster part waits for all of its processes");
        } else {
            error!(deaths, ?wait, reason, "an engine worker died: a new engine is started");
        }
        let generations = self.shared.generations.clone();
        let start = async move {
            actix::clock::sleep(wait).await;
            let started = actix_web::web::block(move || generations.restart().is_ok()).await;
            started.unwrap_or(false)
        };
        let own = self.own.clone();
        ctx.spawn(start.into_actor(self).map(move |started, actor, _ctx| {
            actor.restarted = Some(started);
            // Refused, it follows with the clock.
            if let Some(own) = own.upgrade() {
                drop(own.try_send(EngineStarted));
            }
        }));
    }

    /// Once a new engine was started, or could not be.
    pub(super) fn go_on_with_new_engine(&mut self) {
        let Some(started) = self.restarted.take() else { return };
        self.restarting = false;
        if !started {
            error!("could not start a new engine; it is tried again");
            return;
        }
        self.shared.engine_part.running();
        // Other processes tell what they died of when they come again.
        for killer in self.shared.generations.engine().take_blamed() {
            self.blame(Some(killer));
        }
        self.core.start_over(self.shared.generations.engine());
        self.install_views("an engine worker died");
    }

    /// An engine, here or of a node, died while it worked on this query or feed. Views of which engines
    /// have died before are ended, all others go on.
    pub(super) fn blame(&mut self, killer: Option<QueryId>) {
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
    pub(super) fn install_views(&mut self, why: &'static str) {
        let views = self.registry().ids();
        self.install_anew(views, why);
    }

    /// These views are, one after another, so that nobody waits for all of them.
    pub(super) fn install_anew(&mut self, views: Vec<ViewId>, why: &'static str) {
        for view in views {
            if !self.to_install.iter().any(|(waiting, _)| *waiting == view) {
                self.to_install.push_back((view, why));
            }
        }
        self.install_next();
    }

    pub(super) fn install_next(&mut self) {
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

    pub(super) fn install_again(&mut self, view: ViewId, why: &str) {
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
        let (ready, refresh_ms) = (entry.ready.clone(), entry.row.refresh_ms);
        if let Err(error) = self.core.install_ready(run, &ready, refresh_ms, now_ms) {
            warn!(view, %error, "a node did not take the query");
        }
        entry.row.feeds = self.core.feeds_of(run);
        info!(view, query = run, why, "query installed anew");
    }

    /// What misses something that was lost on the way is fed anew.
    pub(super) fn resync(&mut self) {
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
    pub(super) fn end_lingering(&mut self, now_ms: u64) {
        let over = self.registry().lingering(now_ms);
        for view in over {
            self.finish(view, "removed", "the last reader left".to_string());
        }
    }

    pub(super) fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.shared.registry)
    }

    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.shared.clock.now_unix_ns() / 1_000_000).unwrap_or(0)
    }
}
