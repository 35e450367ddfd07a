//! Sources that are kept over restarts. Each has a *feeder*: a query of its own that tells nobody but the store, so
//! that what is kept does not depend on who reads, how often or how long. A query that reads such a source gets what
//! the store has, all rows up to one tick, and of the history what came after: each row once.

mod past;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::{debug, warn};
use weir_engine::{Install, Part};
use weir_proto::QueryId;
use weir_types::clock::tick_unix_ns;
use weir_types::split::{Change, NodePlan};

use self::past::{PAST_NS, Reads};
use super::NodeCore;
use super::backfill::Replay;
use crate::store::keeper::{FromKeeper, Gone, LoadId, Wanted};
use crate::store::{Addition, Identity, KEPT_SOURCES_MAX, Keeper, KeptSource, Stored};

/// What is admitted goes to the store so often: as much as a crash takes along.
pub const KEEP_EVERY_MS: u64 = 2_000;
/// Pages of a reading that are handed on at once, between two looks at everything else: no faster than a window
/// takes them in. One that nobody wants any more counts, too, as dropping it takes its time; there are no more of
/// these than were on their way.
const PAGES_AT_ONCE: usize = 1;

/// Sources that engines died of and that are remembered.
const DEADLY_SOURCES_MAX: usize = 256;

/// A source that is kept.
struct Kept {
    source: KeptSource,
    feeder: QueryId,
    /// The event time from which on nothing is missing; `None`: since the table's source runs.
    covers_from_unix_ns: Option<i64>,
    /// All rows up to this tick were handed to the store; 0: none yet.
    sealed_ms: u64,
    /// What the store may have of it is of another time.
    afresh: bool,
    used_ms: u64,
    /// What the feeder is still to be shown.
    replay: Option<Replay>,
}

/// What a feeder is still to be shown, and since when it has everything.
pub(super) struct FeederReplay<'a> {
    pub(super) feeder: QueryId,
    pub(super) replay: &'a mut Option<Replay>,
    pub(super) covers_from_unix_ns: &'a mut Option<i64>,
}

/// All sources that are kept.
#[derive(Default)]
pub(super) struct Keeping {
    keeper: Option<Keeper>,
    kept: BTreeMap<Identity, Kept>,
    feeders: HashMap<QueryId, Identity>,
    loads: HashMap<LoadId, Loading>,
    /// Sources that engines died of: they are not kept again.
    deadly: BTreeSet<Identity>,
}

/// Who waits for what is read, and on which exchange it goes on.
struct Loading {
    query: QueryId,
    exchange: usize,
    /// Panes from this one on are not wanted.
    until_pane: Option<i64>,
    /// The store has said whether it has something.
    is_opened: bool,
    _wanted: Wanted,
}

/// A query that waits to hear up to which tick the store has its sources.
pub(super) struct Waiting {
    pub(super) plan: Arc<NodePlan>,
    pub(super) refresh_ms: u64,
    pub(super) now_ms: u64,
    /// By exchange.
    pub(super) had_to_ms: Vec<u64>,
    pub(super) unopened: usize,
}

impl Waiting {
    /// The store has nothing of it.
    pub(super) fn none(plan: &Arc<NodePlan>, refresh_ms: u64, now_ms: u64) -> Waiting {
        let (plan, had_to_ms) = (Arc::clone(plan), vec![0; plan.sends.len()]);
        Waiting { plan, refresh_ms, now_ms, had_to_ms, unopened: 0 }
    }
}

impl Keeping {
    pub(super) fn is_feeder(&self, id: QueryId) -> bool {
        self.feeders.contains_key(&id)
    }

    /// The replays of feeders.
    pub(super) fn replays(&mut self) -> impl Iterator<Item = FeederReplay<'_>> {
        self.kept.values_mut().map(|Kept { feeder, replay, covers_from_unix_ns, .. }| {
            FeederReplay { feeder: *feeder, replay, covers_from_unix_ns }
        })
    }

    /// True if something is to be heard of the store.
    pub(super) fn loads(&self) -> bool {
        !self.loads.is_empty()
    }

    /// Nobody waits any more for what is read for a query.
    pub(super) fn unload(&mut self, id: QueryId) {
        self.loads.retain(|_, loading| loading.query != id);
    }

    fn of_feeder(&mut self, id: QueryId) -> Option<(&Identity, &mut Kept)> {
        let identity = self.feeders.get(&id)?;
        Some((identity, self.kept.get_mut(identity)?))
    }
}

/// What is kept.
impl NodeCore {
    /// Goes on keeping what this store has, and keeps in it what is read from now on.
    #[must_use]
    pub fn with_store(mut self, mut keeper: Keeper, now_ms: u64) -> NodeCore {
        let stored = keeper.take_stored();
        self.keeping.keeper = Some(keeper);
        for Stored { identity, source, to_ms, used_ms } in stored {
            let kept = Kept {
                source,
                feeder: 0,
                covers_from_unix_ns: None,
                sealed_ms: to_ms,
                afresh: false,
                used_ms,
                replay: None,
            };
            self.start_feeder(identity, kept, now_ms);
        }
        self
    }

    /// The store, for whoever stops it or looks at it.
    #[must_use]
    pub fn keeper(&self) -> Option<&Keeper> {
        self.keeping.keeper.as_ref()
    }

    /// Waits until all that was sealed is written, and keeps nothing any more.
    pub fn close_store(&mut self) {
        self.keeping.keeper = None;
    }

    /// Which of a plan's exchanges can be kept, and as what.
    pub(super) fn keepable(&self, plan: &NodePlan) -> Vec<(usize, Identity)> {
        if self.keeping.keeper.as_ref().is_none_or(Keeper::is_dead) {
            return Vec::new();
        }
        let known = |(at, source): (usize, KeptSource)| Some((at, source.identity()?.into()));
        KeptSource::of_plan(plan).filter_map(known).collect()
    }

    /// Keeps the sources from now on.
    pub(super) fn keep(&mut self, identities: &[(usize, Identity)], now_ms: u64) {
        for (_, identity) in identities {
            if let Some(kept) = self.keeping.kept.get_mut(identity) {
                kept.used_ms = kept.used_ms.max(now_ms);
                continue;
            }
            if self.keeping.deadly.contains(identity) {
                continue;
            }
            let Some(source) = KeptSource::known_by(identity) else { continue };
            if !self.make_room() {
                if let Some(keeper) = &self.keeping.keeper {
                    keeper.stats().refused_total.fetch_add(1, Ordering::Relaxed);
                }
                continue;
            }
            let covers_from_unix_ns = Some(self.covers_from(source.table()));
            let kept = Kept {
                source,
                feeder: 0,
                covers_from_unix_ns,
                sealed_ms: 0,
                afresh: true,
                used_ms: now_ms,
                replay: None,
            };
            self.start_feeder(Arc::clone(identity), kept, now_ms);
        }
    }

    /// Lets the source go that was not read for longest, if there are too many. False: all are read.
    fn make_room(&mut self) -> bool {
        if self.keeping.kept.len() < KEPT_SOURCES_MAX {
            return true;
        }
        let unused = self.keeping.kept.iter().filter(|(identity, _)| !self.is_read(identity));
        let least = unused.min_by_key(|(_, kept)| kept.used_ms).map(|(identity, _)| identity);
        let Some(identity) = least.cloned() else { return false };
        self.let_go(&identity);
        true
    }

    fn is_read(&self, identity: &Identity) -> bool {
        self.queries.values().any(|query| query.kept.contains(identity))
    }

    fn start_feeder(&mut self, identity: Identity, mut kept: Kept, now_ms: u64) {
        let feeder = self.next_installation;
        self.next_installation += 1;
        let plan = Arc::new(kept.source.plan());
        let had_to_ms = vec![kept.sealed_ms];
        let replay = self.replay(&plan, &had_to_ms, now_ms);
        kept.feeder = feeder;
        kept.replay = (!replay.is_done()).then_some(replay);
        let is_live = kept.replay.is_none();
        let start_tick_ms = now_ms / KEEP_EVERY_MS * KEEP_EVERY_MS;
        let install = Install::new(feeder, Part::Node(plan), KEEP_EVERY_MS, start_tick_ms);
        self.engine.install(Install { is_live, had_to_ms, ..install });
        if !is_live {
            self.engine.hold(feeder, true);
        }
        debug!(feeder, table = kept.source.table(), "a source is kept");
        self.keeping.feeders.insert(feeder, Arc::clone(&identity));
        self.keeping.kept.insert(identity, kept);
    }

    /// Keeps a source no longer. The store may have dropped it: what is still on its way there must not bring a part
    /// of it back.
    fn let_go(&mut self, identity: &Identity) {
        let Some(kept) = self.keeping.kept.remove(identity) else { return };
        self.keeping.feeders.remove(&kept.feeder);
        self.engine.remove(kept.feeder);
        if let Some(keeper) = &self.keeping.keeper {
            keeper.forget(identity);
        }
    }

    /// With a new engine: what the store has stays, what came after is in the history.
    pub(super) fn keep_on(&mut self) {
        self.keeping.loads.clear();
        self.keeping.feeders.clear();
        for (identity, mut kept) in std::mem::take(&mut self.keeping.kept) {
            if let Some(keeper) = &self.keeping.keeper {
                keeper.restart(&identity);
            }
            self.note_history_gap(&mut kept);
            self.start_feeder(identity, kept, self.last_tick_ms);
        }
    }

    /// What history has dropped that the store does not have is missing.
    fn note_history_gap(&self, kept: &mut Kept) {
        let Some(history) = &self.history else { return };
        if !history.has_all_after(kept.source.table(), kept.sealed_ms) {
            let covered = self.covers_from(kept.source.table());
            kept.covers_from_unix_ns = kept.covers_from_unix_ns.max(Some(covered));
        }
    }

    /// From now on more of the tables is seen than before.
    pub(super) fn keep_seeing_more(&mut self, tables: &[String], since_unix_ns: i64) {
        for kept in self.keeping.kept.values_mut() {
            if tables.iter().any(|table| table == kept.source.table()) {
                kept.covers_from_unix_ns = kept.covers_from_unix_ns.max(Some(since_unix_ns));
            }
        }
    }
}

/// What feeders say.
impl NodeCore {
    pub(super) fn keep_changes(&mut self, feeder: QueryId, tick_ms: u64, changes: Vec<Change>) {
        let Some(identity) = self.keeping.feeders.get(&feeder).cloned() else { return };
        let Some(keeper) = &self.keeping.keeper else { return };
        if !keeper.changes(&identity, tick_ms, changes) {
            self.overrun(&identity);
        }
    }

    /// More waits for the disk than may.
    fn overrun(&mut self, identity: &Identity) {
        warn!("the disk does not keep up: a source is kept no longer");
        if let Some(keeper) = &self.keeping.keeper {
            keeper.stats().overrun_total.fetch_add(1, Ordering::Relaxed);
        }
        self.let_go(identity);
    }

    pub(super) fn keep_to(&mut self, feeder: QueryId, to_ms: u64) {
        let Some((identity, kept)) = self.keeping.of_feeder(feeder) else { return };
        let (identity, is_new) = (Arc::clone(identity), to_ms > kept.sealed_ms);
        let is_read = self.is_read(&identity);
        let Some((_, kept)) = self.keeping.of_feeder(feeder) else { return };
        if is_read {
            kept.used_ms = kept.used_ms.max(to_ms);
        }
        let (is_over, used_ms) =
            (crate::store::file::is_over(&kept.source, kept.used_ms, to_ms), kept.used_ms);
        let sliding = kept.source.sliding;
        let first_pane = sliding.first_pane_at(tick_unix_ns(to_ms));
        let past_panes = PAST_NS / sliding.pane_ns;
        let afresh = std::mem::take(&mut kept.afresh);
        kept.sealed_ms = kept.sealed_ms.max(to_ms);
        let Some(keeper) = &self.keeping.keeper else { return };
        if is_over {
            keeper.stats().unused_total.fetch_add(1, Ordering::Relaxed);
            self.let_go(&identity);
        } else if is_new || afresh {
            let changes = Vec::new();
            let sealed = Arc::clone(&identity);
            let addition =
                Addition { identity, afresh, changes, to_ms, used_ms, first_pane, past_panes };
            if !keeper.seal(addition) {
                self.overrun(&sealed);
            }
        }
    }

    /// A feeder cannot go on: what it was to keep is void.
    pub(super) fn keeping_failed(&mut self, feeder: QueryId, why: &str) {
        if let Some(identity) = self.keeping.feeders.get(&feeder).cloned() {
            warn!(why, "a source is kept no longer");
            if let Some(keeper) = &self.keeping.keeper {
                keeper.stats().failed_total.fetch_add(1, Ordering::Relaxed);
            }
            self.let_go(&identity);
        }
    }

    /// An engine died of a feeder, or of a query that read what is kept: a feeder would bring down the next
    /// one with nobody to ask for it.
    pub(super) fn keeping_killed(&mut self, id: QueryId) {
        let read = self.queries.get(&id).map(|query| query.kept.clone()).unwrap_or_default();
        let fed = self.keeping.feeders.get(&id).cloned();
        for identity in read.into_iter().chain(fed) {
            if let Some(feeder) = self.keeping.kept.get(&identity).map(|kept| kept.feeder) {
                self.keeping_failed(feeder, "an engine died of it");
            }
            while self.keeping.deadly.len() >= DEADLY_SOURCES_MAX {
                self.keeping.deadly.pop_first();
            }
            self.keeping.deadly.insert(identity);
        }
    }
}

/// Readers of what is kept.
impl NodeCore {
    /// Asks the store for what it has of the sources. `None`: it has nothing.
    pub(super) fn wait_for_store(
        &mut self,
        id: QueryId,
        identities: &[(usize, Identity)],
        plan: &Arc<NodePlan>,
        (refresh_ms, now_ms): (u64, u64),
    ) -> Option<Waiting> {
        let past: Vec<Reads> = self.keeping.past_of(plan).collect();
        let keeper = self.keeping.keeper.as_mut()?;
        let mut unopened = 0;
        for reads in identities.iter().map(Reads::now).chain(past) {
            let kept = self.keeping.kept.get(&reads.identity).filter(|kept| kept.sealed_ms > 0);
            let Some(kept) = kept else { continue };
            let (first_pane, until_pane) = reads.panes(kept, now_ms);
            let (load, wanted) = keeper.load(&reads.identity, first_pane);
            let loading = Loading {
                query: id,
                exchange: reads.exchange,
                until_pane,
                is_opened: false,
                _wanted: wanted,
            };
            self.keeping.loads.insert(load, loading);
            unopened += 1;
        }
        let waiting = Waiting::none(plan, refresh_ms, now_ms);
        (unopened > 0).then_some(Waiting { unopened, ..waiting })
    }

    /// Takes in what the store has said: what it has goes to who waits for it.
    pub(super) fn hear_store(&mut self) {
        while let Some(Gone { identity, damaged }) =
            self.keeping.keeper.as_ref().and_then(Keeper::heard_gone)
        {
            self.let_go(&identity);
            if damaged && self.is_read(&identity) {
                self.keep(&[(0, identity)], self.last_tick_ms);
            }
        }
        let mut pages = 0;
        while pages < PAGES_AT_ONCE
            && let Some(said) = self.keeping.keeper.as_ref().and_then(Keeper::heard)
        {
            match said {
                FromKeeper::Opened { load, .. } if self.is_void(load) => self.ended(load, true),
                FromKeeper::Opened { load, to_ms } => self.opened(load, to_ms),
                FromKeeper::Page { load, changes } => {
                    pages += 1;
                    let Some(loading) = self.keeping.loads.get(&load) else { continue };
                    let (id, exchange) = (loading.query, loading.exchange as u32);
                    let Some(query) = self.queries.get(&id) else { continue };
                    let changes = match loading.until_pane {
                        Some(until_pane) => past::until(changes, until_pane),
                        None => changes,
                    };
                    self.send_changes(id, exchange, query.first_tick_ms, changes);
                }
                FromKeeper::End { load, whole } => self.ended(load, whole),
            }
        }
        if self.keeping.keeper.as_ref().is_some_and(Keeper::is_dead) {
            self.store_died();
        }
    }

    /// Nothing is kept any more, and nothing that was is read: who waits goes on without, or fails if it cannot.
    fn store_died(&mut self) {
        if let Some(keeper) = &self.keeping.keeper {
            keeper.note_death();
        }
        let kept: Vec<Identity> = self.keeping.kept.keys().cloned().collect();
        kept.iter().for_each(|identity| self.let_go(identity));
        let loads: BTreeSet<LoadId> = self.keeping.loads.keys().copied().collect();
        for load in loads {
            self.ended(load, false);
        }
    }

    /// `None`: the store has nothing of it, or says nothing more of what it had.
    fn opened(&mut self, load: LoadId, to_ms: Option<u64>) {
        let loading = self.keeping.loads.get_mut(&load);
        let Some(loading) = loading.filter(|loading| !loading.is_opened) else { return };
        loading.is_opened = true;
        let (id, exchange) = (loading.query, loading.exchange);
        let Some(query) = self.queries.get_mut(&id) else { return };
        let Some(waiting) = &mut query.waiting else { return };
        waiting.had_to_ms[exchange] = to_ms.unwrap_or(0);
        query.relies_on_store |= to_ms.is_some();
        waiting.unopened -= 1;
        if waiting.unopened == 0
            && let Some(waiting) = query.waiting.take()
        {
            self.begin(id, &waiting);
        }
    }

    fn ended(&mut self, load: LoadId, whole: bool) {
        // Of what never said that it has something nobody waits for that.
        self.opened(load, None);
        let Some(Loading { query: id, .. }) = self.keeping.loads.remove(&load) else { return };
        let Some(query) = self.queries.get_mut(&id) else { return };
        query.loading -= 1;
        // Of what was found damaged before it was opened history shows what it has.
        if !whole && query.relies_on_store {
            self.fail(id, "what was kept of its window could not be read");
        }
    }

    /// The event time from which on a plan's answers have everything.
    pub(super) fn covers(&self, plan: &NodePlan, had_to_ms: &[u64], now_ms: u64) -> i64 {
        let all = plan.scanned_tables();
        let by_table = all.iter().map(|table| self.covers_from(table)).max();
        let by_table = by_table.unwrap_or(i64::MIN).max(self.started_unix_ns);
        if had_to_ms.iter().all(|had_to_ms| *had_to_ms == 0) {
            return by_table;
        }
        let now_unix_ns = tick_unix_ns(now_ms);
        let mut covers = i64::MIN;
        let mut least = i64::MAX;
        for (exchange, &had_to_ms) in had_to_ms.iter().enumerate() {
            let Some(source) = plan.source(exchange) else { return by_table };
            let from = source.window().sliding(None).map(|window| window.start_at(now_unix_ns));
            let covered = self.covers_exchange(source.table(), had_to_ms, &source);
            least = least.min(covered);
            // A shorter window that is covered as a whole says nothing of the longer ones.
            if from.is_none_or(|from| covered > from.saturating_add(1)) {
                covers = covers.max(covered);
            }
        }
        if covers == i64::MIN { least } else { covers }
    }
}

#[cfg(test)]
mod tests;
