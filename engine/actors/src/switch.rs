//! A tree of switches over the actors and the other parts: one call stops everything below, in a known
//! order, and one tells how everything below is.
//!
//! Order of a stop: a switch's children first, the youngest first, each with all below it; then
//! the switch's own leaves, the youngest first. So what was built on top goes before what it
//! stands on. Each one is waited for before the next one is told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::part::{Part, PartShared, Stop};
use crate::status::{Shared, State, Status};
use crate::tree::{GroupStatus, PartStatus, TreeStatus};

/// What failed or was refused is remembered per switch, for status pages; the oldest are forgotten.
const FAILED_KEPT_MAX: usize = 64;

/// A node of the tree. Cheap to clone; clones are the same node.
#[derive(Clone)]
pub struct KillSwitch(Arc<Node>);

struct Node {
    name: Arc<str>,
    /// Its leaves are counted, not named.
    is_group: bool,
    inner: Mutex<Inner>,
}

/// What hangs in the tree.
#[derive(Clone)]
enum Leaf {
    Actor(Arc<Shared>),
    Part(Arc<PartShared>),
}

impl Leaf {
    fn name(&self) -> &str {
        match self {
            Leaf::Actor(actor) => &actor.name,
            Leaf::Part(part) => &part.name,
        }
    }

    fn part_status(&self) -> PartStatus {
        match self {
            Leaf::Actor(actor) => actor.part_status(),
            Leaf::Part(part) => part.status(),
        }
    }

    /// Stops it and waits; what became of it, unless it is its owner's to stop.
    async fn end(&self) -> Option<(String, bool)> {
        match self {
            Leaf::Actor(actor) => {
                actor.request_stop();
                let ended = tokio::time::timeout(actor.stop_timeout, actor.ended()).await;
                Some((self.name().to_string(), ended.is_ok()))
            }
            Leaf::Part(part) => Some((self.name().to_string(), part.end().await?)),
        }
    }
}

/// One that ended otherwise than in order.
struct Gone {
    /// If it was an actor.
    actor: Option<Status>,
    part: PartStatus,
}

#[derive(Default)]
struct Inner {
    killed: bool,
    /// Oldest first.
    children: Vec<KillSwitch>,
    /// Oldest first; only those that have not ended.
    leaves: Vec<Leaf>,
    gone: VecDeque<Gone>,
    /// Of a group: all that ended.
    buried: GroupStatus,
}

/// What [`KillSwitch::kill`] did, by name in the order in which they were told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopReport {
    pub stopped: Vec<String>,
    /// Did not stop within their `Config::stop_timeout`: busy in a handler that does not return.
    pub overdue: Vec<String>,
}

impl KillSwitch {
    #[must_use]
    pub fn root(name: &str) -> KillSwitch {
        KillSwitch::new(name, false)
    }

    fn new(name: &str, is_group: bool) -> KillSwitch {
        KillSwitch(Arc::new(Node { name: name.into(), is_group, inner: Mutex::default() }))
    }

    /// A switch below this one. Below one that was used already it counts as used, too.
    #[must_use]
    pub fn child(&self, name: &str) -> KillSwitch {
        self.add_child(KillSwitch::new(name, false))
    }

    /// A switch below this one for many of a kind that come and go: [`KillSwitch::tree`] counts them.
    #[must_use]
    pub fn group(&self, name: &str) -> KillSwitch {
        self.add_child(KillSwitch::new(name, true))
    }

    /// Something below this switch that is no actor.
    #[must_use = "a part has ended when its last handle is gone"]
    pub fn part(&self, name: &str, stop: Stop) -> Part {
        Part::below(self, name, stop)
    }

    fn add_child(&self, child: KillSwitch) -> KillSwitch {
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
        for leaf in order {
            match leaf.end().await {
                Some((name, true)) => report.stopped.push(name),
                Some((name, false)) => report.overdue.push(name),
                None => {}
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
        statuses.extend(inner.gone.iter().filter_map(|gone| gone.actor.clone()));
        for leaf in &inner.leaves {
            if let Leaf::Actor(actor) = leaf {
                statuses.push(actor.status());
            }
        }
        for child in &inner.children {
            child.collect_statuses(statuses);
        }
    }

    /// How everything below is.
    #[must_use]
    pub fn tree(&self) -> TreeStatus {
        let mut tree = TreeStatus::default();
        self.collect_tree("", &mut tree);
        tree
    }

    fn collect_tree(&self, above: &str, tree: &mut TreeStatus) {
        let path = if above.is_empty() {
            self.name().to_string()
        } else {
            format!("{above}/{}", self.name())
        };
        let inner = self.lock();
        if self.0.is_group {
            let mut group = GroupStatus { path: path.clone(), ..inner.buried.clone() };
            inner.leaves.iter().for_each(|leaf| group.add(&leaf.part_status()));
            tree.groups.push(group);
        } else {
            inner.gone.iter().for_each(|gone| tree.push(&path, gone.part.clone()));
            inner.leaves.iter().for_each(|leaf| tree.push(&path, leaf.part_status()));
        }
        inner.children.iter().for_each(|child| child.collect_tree(&path, tree));
    }

    /// As deep as the tree of switches, which the program's structure sets, not its input.
    fn mark_killed(&self, order: &mut Vec<Leaf>) {
        let mut inner = self.lock();
        inner.killed = true;
        for child in inner.children.iter().rev() {
            child.mark_killed(order);
        }
        order.extend(inner.leaves.iter().rev().cloned());
    }

    /// False, and not added, if the switch was used already.
    pub(crate) fn add(&self, actor: &Arc<Shared>) -> bool {
        self.add_leaf(Leaf::Actor(Arc::clone(actor)))
    }

    pub(crate) fn add_part(&self, part: &Arc<PartShared>) -> bool {
        self.add_leaf(Leaf::Part(Arc::clone(part)))
    }

    fn add_leaf(&self, leaf: Leaf) -> bool {
        let mut inner = self.lock();
        if !inner.killed {
            // What has its name back has taken its place.
            inner.gone.retain(|gone| gone.part.path != leaf.name());
            inner.leaves.push(leaf);
        }
        !inner.killed
    }

    pub(crate) fn remove(&self, actor: &Arc<Shared>) {
        let is_it = |leaf: &Leaf| matches!(leaf, Leaf::Actor(other) if Arc::ptr_eq(other, actor));
        self.remove_leaf(is_it, Some(actor.status()), actor.part_status());
    }

    pub(crate) fn remove_part(&self, part: &Arc<PartShared>) {
        let is_it = |leaf: &Leaf| matches!(leaf, Leaf::Part(other) if Arc::ptr_eq(other, part));
        self.remove_leaf(is_it, None, part.status());
    }

    fn remove_leaf(&self, is_it: impl Fn(&Leaf) -> bool, actor: Option<Status>, part: PartStatus) {
        let mut inner = self.lock();
        inner.leaves.retain(|leaf| !is_it(leaf));
        inner.buried.bury(&part);
        if matches!(part.state, State::Failed | State::Refused) {
            inner.remember(Gone { actor, part });
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
            let gone = std::mem::take(&mut child.lock().gone);
            for mut gone in gone {
                gone.part.path = format!("{}/{}", child.name(), gone.part.path);
                self.remember(gone);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.leaves.is_empty() && self.children.is_empty()
    }

    fn remember(&mut self, gone: Gone) {
        if self.gone.len() >= FAILED_KEPT_MAX {
            self.gone.pop_front();
        }
        self.gone.push_back(gone);
    }
}
