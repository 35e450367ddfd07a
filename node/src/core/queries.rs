//! Which queries run here: they are installed (filled from history, then live), removed, and ended when what
//! follows would be wrong. To its engine a query has a number of its own, another one for each installation.

use std::collections::VecDeque;
use std::sync::Arc;

use tracing::debug;
use weir_engine::{Cuts, Install, Part};
use weir_proto::{Epoch, FromNode, QueryId};
use weir_types::split::NodePlan;

use super::NodeCore;
use super::backfill::Replay;
use super::kept::Waiting;
use crate::store::Identity;

/// A query as the node sees it. To its engine it has a number of its own, another one for each
/// installation: so nothing that an engine says of a former one is taken for the present one's.
pub(super) struct Query {
    /// What the cluster part calls it.
    pub(super) name: QueryId,
    pub(super) epoch: Epoch,
    pub(super) tables: Vec<String>,
    /// Where the answer begins: what history covered when it was installed.
    pub(super) covers_from_unix_ns: i64,
    /// The sources of it that are kept.
    pub(super) kept: Vec<Identity>,
    /// Until the store has said what it has.
    pub(super) waiting: Option<Waiting>,
    /// How many sources are being read from the store.
    pub(super) loading: usize,
    /// The store has said that it has some: what history has of that is not shown.
    pub(super) relies_on_store: bool,
    /// When it can begin.
    pub(super) first_tick_ms: u64,
    /// What is still to be replayed; `None` once live.
    pub(super) replay: Option<Replay>,
    /// Of the next update or progress.
    pub(super) sequence: u64,
    pub(super) samples: VecDeque<(u64, i64)>,
    /// What was told of values that functions left out.
    pub(super) cuts_told: Cuts,
}

impl NodeCore {
    /// Ends what runs of a query up to an epoch; an order for it that is still on its way comes too late.
    pub(super) fn remove(&mut self, name: QueryId, epoch: Epoch) {
        self.ended_max = self.ended_max.max(epoch);
        let ends = |query: &Query| query.name == name && query.epoch <= epoch;
        let over = self.queries.iter().find(|(_, query)| ends(query)).map(|(&id, _)| id);
        if let Some(id) = over {
            self.queries.remove(&id);
            self.engine.remove(id);
            self.keeping.unload(id);
        }
    }

    pub(super) fn install(
        &mut self,
        (name, epoch): (QueryId, Epoch),
        plan: NodePlan,
        refresh_ms: u64,
        now_ms: u64,
    ) {
        self.epoch_max = self.epoch_max.max(epoch);
        let same = self.queries.iter().find(|(_, query)| query.name == name);
        let same = same.map(|(&id, query)| (id, query.epoch));
        // A repeat, or overtaken by its own end.
        if epoch <= self.ended_max || same.is_some_and(|(_, running)| epoch <= running) {
            return;
        }
        if let Some((_, former)) = same {
            self.remove(name, former);
        }
        let query = self.next_installation;
        self.next_installation += 1;
        let plan = Arc::new(plan);
        let keepable = self.keepable(&plan);
        let waiting = self.wait_for_store(query, &keepable, &plan, (refresh_ms, now_ms));
        let loading = waiting.as_ref().map_or(0, |waiting| waiting.unopened);
        let at_once =
            if waiting.is_none() { Some(Waiting::none(&plan, refresh_ms, now_ms)) } else { None };
        self.queries.insert(
            query,
            Query {
                name,
                epoch,
                tables: plan.scanned_tables(),
                covers_from_unix_ns: self.started_unix_ns,
                kept: keepable.iter().map(|(_, identity)| Arc::clone(identity)).collect(),
                waiting,
                loading,
                relies_on_store: false,
                first_tick_ms: now_ms / refresh_ms * refresh_ms,
                replay: None,
                sequence: 0,
                samples: VecDeque::new(),
                cuts_told: Cuts::default(),
            },
        );
        if let Some(waiting) = at_once {
            self.begin(query, &waiting);
        }
        self.keep(&keepable, now_ms);
    }

    /// Runs what was ordered, now that it is known what is had of it.
    pub(super) fn begin(&mut self, id: QueryId, waiting: &Waiting) {
        let Waiting { plan, refresh_ms, now_ms, had_to_ms, .. } = waiting;
        let now_ms = (*now_ms).max(self.last_tick_ms);
        let replay = self.replay(plan, had_to_ms, now_ms);
        let covers_from_unix_ns = self.covers(plan, had_to_ms, now_ms);
        let Some(query) = self.queries.get_mut(&id) else { return };
        query.covers_from_unix_ns = covers_from_unix_ns;
        let is_live = replay.is_done() && query.loading == 0;
        query.replay = (!is_live).then_some(replay);
        let part = Part::Node(Arc::clone(plan));
        let install = Install::new(id, part, *refresh_ms, query.first_tick_ms);
        let had_to_ms = had_to_ms.clone();
        self.engine.install(Install { is_live, had_to_ms, ..install });
        if !is_live {
            self.engine.hold(id, true);
        }
        debug!(id, is_live, "query installed");
    }

    /// Whoever reads a query that failed must hear of it, however full the bus was.
    pub(super) fn tell_failures(&mut self) {
        let untold = std::mem::take(&mut self.untold);
        for (query, message) in untold {
            self.tell_failure(query, message);
        }
    }

    fn tell_failure(&mut self, (query, epoch): (QueryId, Epoch), message: String) {
        if !self.send(FromNode::Failed { query, epoch, message: message.clone() }) {
            self.untold.insert((query, epoch), message);
        }
    }

    /// Ends queries that miss an event of the engine: what follows would be wrong.
    pub fn lost_events(&mut self, queries: impl IntoIterator<Item = QueryId>) {
        for id in queries {
            self.keeping_failed(id, "the node could not keep up with its changes");
            self.fail(id, "the node could not keep up with the query's changes");
        }
    }

    /// A view with a hole would be wrong without a word: rather end it.
    pub(super) fn fail(&mut self, id: QueryId, message: &str) {
        self.engine.remove(id);
        self.end_failed(id, message.to_string());
    }

    pub(super) fn end_failed(&mut self, id: QueryId, message: String) {
        self.keeping.unload(id);
        if let Some(entry) = self.queries.remove(&id) {
            self.ended_max = self.ended_max.max(entry.epoch);
            self.tell_failure((entry.name, entry.epoch), message);
        }
    }
}
