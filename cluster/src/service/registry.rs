//! Which views there are and who follows them: what outlives the coordinator actor, the engine and the
//! nodes, and from which all of them are set up again. Views are shared by value: equal plans, whatever
//! their readers call them and however they describe their outputs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use weir_actors::Address;
use weir_proto::QueryId;
use weir_types::canonical::PlanIdentity;

use super::coordinator_actor::{QueryRow, Wanted};
use super::inbox::ViewInbox;
use super::query_actor::QueryActor;
use crate::coordinator::ReadyPlan;
use crate::planner::Prepared;

/// Number of a view. The queries that feed it, one after another, have numbers of their own.
pub type ViewId = u64;

/// A view that somebody follows.
pub(crate) struct Installed {
    pub(crate) identity: Arc<PlanIdentity>,
    /// To be installed anew without compiling.
    pub(crate) ready: ReadyPlan,
    pub(crate) row: QueryRow,
    /// The query that feeds it now.
    pub(crate) run: QueryId,
    /// Keeps the actor alive.
    pub(crate) _actor: Address<QueryActor>,
    pub(crate) inbox: Arc<ViewInbox>,
    pub(crate) subscribers: Vec<u64>,
    /// Somebody followed it live, and may come back.
    pub(crate) lingers: bool,
    /// Nobody follows it; until then it goes on, monotonic.
    pub(crate) lingers_until_ms: Option<u64>,
}

#[derive(Default)]
pub(crate) struct Registry {
    views: BTreeMap<ViewId, Installed>,
    /// Plan → refresh → view. Compared by value; hashes only find.
    by_plan: HashMap<Arc<PlanIdentity>, BTreeMap<u64, ViewId>>,
    by_run: BTreeMap<QueryId, ViewId>,
    last_view: ViewId,
    last_subscriber: u64,
}

impl Registry {
    pub(crate) fn len(&self) -> usize {
        self.views.len()
    }

    pub(crate) fn new_view_id(&mut self) -> ViewId {
        self.last_view += 1;
        self.last_view
    }

    pub(crate) fn new_subscriber(&mut self) -> u64 {
        self.last_subscriber += 1;
        self.last_subscriber
    }

    /// The view of this plan and refresh.
    pub(crate) fn find(&self, plan: &Arc<PlanIdentity>, refresh_ms: u64) -> Option<ViewId> {
        self.by_plan.get(plan)?.get(&refresh_ms).copied()
    }

    /// The view of this plan that refreshes most often.
    pub(crate) fn find_quickest(&self, plan: &Arc<PlanIdentity>) -> Option<ViewId> {
        self.by_plan.get(plan)?.values().next().copied()
    }

    /// The view that gives a reader what it wants.
    pub(crate) fn find_for(&self, plan: &Prepared, wanted: Wanted, now_ms: u64) -> Option<ViewId> {
        let identity = &plan.identity;
        match wanted {
            Wanted::Live => self.find(identity, plan.refresh_ms),
            Wanted::Once { within_ms } => self.find_due(identity, now_ms, within_ms),
            Wanted::Stale { within_ms } => {
                self.find_answered(identity).or_else(|| self.find_due(identity, now_ms, within_ms))
            }
        }
    }

    /// The view of this plan whose next frontier comes first, if it is not further away than `within_ms`.
    fn find_due(&self, plan: &PlanIdentity, now_ms: u64, within_ms: u64) -> Option<ViewId> {
        let next = |(&refresh_ms, &view): (&u64, &ViewId)| {
            (now_ms.next_multiple_of(refresh_ms) - now_ms, view)
        };
        let (away_ms, view) = self.by_plan.get(plan)?.iter().map(next).min()?;
        (away_ms <= within_ms).then_some(view)
    }

    /// The view of this plan that has an answer, and refreshes most often of those.
    fn find_answered(&self, plan: &PlanIdentity) -> Option<ViewId> {
        let has_answer = |view: &&ViewId| self.get(**view).is_some_and(|v| v.inbox.has_answer());
        self.by_plan.get(plan)?.values().find(has_answer).copied()
    }

    pub(crate) fn insert(&mut self, view: ViewId, entry: Installed) {
        let of_plan = self.by_plan.entry(Arc::clone(&entry.identity)).or_default();
        of_plan.insert(entry.row.refresh_ms, view);
        self.by_run.insert(entry.run, view);
        self.views.insert(view, entry);
    }

    pub(crate) fn remove(&mut self, view: ViewId) -> Option<Installed> {
        let entry = self.views.remove(&view)?;
        self.by_run.remove(&entry.run);
        if let Some(of_plan) = self.by_plan.get_mut(&entry.identity) {
            of_plan.remove(&entry.row.refresh_ms);
            if of_plan.is_empty() {
                self.by_plan.remove(&entry.identity);
            }
        }
        Some(entry)
    }

    pub(crate) fn get(&self, view: ViewId) -> Option<&Installed> {
        self.views.get(&view)
    }

    pub(crate) fn get_mut(&mut self, view: ViewId) -> Option<&mut Installed> {
        self.views.get_mut(&view)
    }

    pub(crate) fn by_run(&self, run: QueryId) -> Option<ViewId> {
        self.by_run.get(&run).copied()
    }

    /// The view is fed by another query from now on.
    pub(crate) fn set_run(&mut self, view: ViewId, run: QueryId) {
        let Some(entry) = self.views.get_mut(&view) else { return };
        self.by_run.remove(&entry.run);
        entry.run = run;
        entry.row.query = run;
        self.by_run.insert(run, view);
    }

    /// Those whose time without readers is over.
    pub(crate) fn lingering(&self, now_ms: u64) -> Vec<ViewId> {
        let is_over =
            |entry: &Installed| entry.lingers_until_ms.is_some_and(|until| until <= now_ms);
        self.views.iter().filter(|(_, entry)| is_over(entry)).map(|(&view, _)| view).collect()
    }

    pub(crate) fn ids(&self) -> Vec<ViewId> {
        self.views.keys().copied().collect()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Installed> {
        self.views.values()
    }
}
