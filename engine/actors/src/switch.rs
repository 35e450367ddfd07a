//! A tree of switches over the actors: one call stops everything below, in a known order.
//!
//! Order of a stop: a switch's children first, the youngest first, each with all below it; then
//! the switch's own actors, the youngest first. So what was built on top goes before what it
//! stands on. Each actor is waited for before the next one is told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::status::{Shared, State, Status};

/// Failed actors remembered per switch, for status pages; the oldest are forgotten.
const FAILED_KEPT_MAX: usize = 64;

/// A node of the tree. Cheap to clone; clones are the same node.
#[derive(Clone)]
pub struct KillSwitch(Arc<Node>);

struct Node {
    name: Arc<str>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    killed: bool,
    /// Oldest first.
    children: Vec<KillSwitch>,
    /// Oldest first; only those that have not ended.
    actors: Vec<Arc<Shared>>,
    failed: VecDeque<Status>,
}

/// What [`KillSwitch::kill`] did, actors by name in the order in which they were told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopReport {
    pub stopped: Vec<String>,
    /// Did not stop within their `Config::stop_timeout`: busy in a handler that does not return.
    pub overdue: Vec<String>,
}

impl KillSwitch {
    #[must_use]
    pub fn root(name: &str) -> KillSwitch {
        KillSwitch(Arc::new(Node { name: name.into(), inner: Mutex::default() }))
    }

    /// A switch below this one. Below one that was used already it counts as used, too.
    #[must_use]
    pub fn child(&self, name: &str) -> KillSwitch {
        let child = KillSwitch::root(name);
        let mut inner = self.lock();
        inner.prune();
        child.lock().killed = inner.killed;
        inner.children.push(child.clone());
        child
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    #[must_use]
    pub fn is_killed(&self) -> bool {
        self.lock().killed
    }

    /// Stops everything below in order. Nothing can be started below any more.
    pub async fn kill(&self) -> StopReport {
        let mut order = Vec::new();
        self.mark_killed(&mut order);
        let mut report = StopReport::default();
        for actor in order {
            actor.request_stop();
            let name = actor.name.to_string();
            match tokio::time::timeout(actor.stop_timeout, actor.ended()).await {
                Ok(_) => report.stopped.push(name),
                Err(_) => report.overdue.push(name),
            }
        }
        report
    }

    /// Everything below that has not ended, and what failed for good, in the order of starting.
    #[must_use]
    pub fn statuses(&self) -> Vec<Status> {
        let mut statuses = Vec::new();
        self.collect_statuses(&mut statuses);
        statuses
    }

    fn collect_statuses(&self, statuses: &mut Vec<Status>) {
        let inner = self.lock();
        statuses.extend(inner.failed.iter().cloned());
        statuses.extend(inner.actors.iter().map(|actor| actor.status()));
        for child in &inner.children {
            child.collect_statuses(statuses);
        }
    }

    /// As deep as the tree of switches, which the program's structure sets, not its input.
    fn mark_killed(&self, order: &mut Vec<Arc<Shared>>) {
        let mut inner = self.lock();
        inner.killed = true;
        for child in inner.children.iter().rev() {
            child.mark_killed(order);
        }
        order.extend(inner.actors.iter().rev().map(Arc::clone));
    }

    /// False, and not added, if the switch was used already.
    pub(crate) fn add(&self, actor: &Arc<Shared>) -> bool {
        let mut inner = self.lock();
        if !inner.killed {
            inner.actors.push(Arc::clone(actor));
        }
        !inner.killed
    }

    pub(crate) fn remove(&self, actor: &Arc<Shared>) {
        let mut inner = self.lock();
        inner.actors.retain(|other| !Arc::ptr_eq(other, actor));
        if actor.state() == State::Failed {
            inner.remember_failed(actor.status());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Lets go of switches of things that came and went; they would pile up otherwise.
    fn prune(&mut self) {
        let children = std::mem::take(&mut self.children);
        for child in children {
            // A running actor's supervisor holds a clone, too.
            let unused = Arc::strong_count(&child.0) == 1 && child.lock().is_empty();
            if !unused {
                self.children.push(child);
                continue;
            }
            let failed = std::mem::take(&mut child.lock().failed);
            failed.into_iter().for_each(|status| self.remember_failed(status));
        }
    }

    fn is_empty(&self) -> bool {
        self.actors.is_empty() && self.children.is_empty()
    }

    fn remember_failed(&mut self, status: Status) {
        if self.failed.len() >= FAILED_KEPT_MAX {
            self.failed.pop_front();
        }
        self.failed.push_back(status);
    }
}
