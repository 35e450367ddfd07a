//! How complete is this answer? The one place that knows: what windows cover, which nodes lag, what was
//! lost within.
//!
//! The coordinator writes down what it hears; a view asks when it has reached a frontier, from its own
//! thread. What a node said before a tick's progress is in the book before that tick can close, so no
//! answer is out before what it lacks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use weir_engine::Cuts;
use weir_proto::QueryId;
use weir_sinks::delivery::Completeness;
use weir_types::clock::tick_unix_ns;
use weir_types::ledger::{Ledger, Loss, METADATA, Span};

use super::cuts::{CutLedger, CutTotals, FUNCTIONS};
use super::membership::Departures;
use super::windows::{Seen, Windows};

/// Freshness samples that wait for their frontier, per query.
const EVENT_SAMPLES_MAX: usize = 4_096;

/// What a node told of its losses in its present life.
#[derive(Default)]
pub(super) struct NodeLosses {
    pub(super) ledger: Ledger,
    next_sequence: u64,
    /// How many times it has told, as far as is known.
    told: u64,
}

impl NodeLosses {
    /// It told something that did not arrive.
    fn lacks_some(&self) -> bool {
        self.told > self.next_sequence
    }
}

#[derive(Default)]
struct Node {
    lagging: bool,
    losses: NodeLosses,
    /// Something of its entities did not arrive, or not yet.
    names_behind: bool,
    /// Frontiers up to this tick were closed without all names of it.
    names_owed_to_ms: u64,
}

/// What a node said with its last progress in a feed.
#[derive(Clone, Copy, Default)]
pub(crate) struct Covered {
    /// All that it admitted up to this tick is here.
    pub(crate) tick_ms: u64,
    pub(crate) complete_to_unix_ns: i64,
    pub(crate) covers_from_unix_ns: i64,
}

struct Feed {
    tables: Vec<String>,
    /// What happened before it has from history.
    installed_unix_ns: i64,
    /// Something of it was lost on the way; it is about to be set up anew.
    broken: bool,
    /// Up to this tick it was closed without all that its nodes owe; that comes with a later one.
    owed_to_ms: u64,
    nodes: BTreeMap<String, Covered>,
    /// What functions left out on nodes.
    cuts: CutLedger,
}

struct Query {
    feeds: BTreeSet<QueryId>,
    windows: Windows,
    /// (tick, event time) of rows on their way to the view. A set: two feeds may tell of the same row.
    samples: BTreeSet<(u64, i64)>,
    /// It asks what processes, connections or addresses are called.
    reads_names: bool,
    /// What functions left out in the engine here.
    cuts: CutLedger,
    /// By table: rows in its windows without a group of their own, when it was asked last.
    overflow: BTreeMap<String, u64>,
}

#[derive(Default)]
struct Inner {
    nodes: BTreeMap<String, Node>,
    /// Nodes that are no more, in the order in which they went.
    departed: Departures,
    /// Nodes that a former coordinator knew, and that have not come to the present one.
    awaited: BTreeSet<String>,
    feeds: BTreeMap<QueryId, Feed>,
    queries: BTreeMap<QueryId, Query>,
    /// What former lives of nodes lost. It outlives coordinators.
    past: Ledger,
}

/// What is known of how complete answers are. It outlives the coordinator that writes it.
#[derive(Default)]
pub struct Book {
    inner: Mutex<Inner>,
    /// What bounds scans without a start.
    retention_ns: Option<i64>,
    /// Offline, a window never reaches before what is covered.
    covers_everything: bool,
    cut_totals: CutTotals,
}

impl Book {
    #[must_use]
    pub fn new(retention_ns: Option<i64>) -> Book {
        Book { retention_ns, ..Book::default() }
    }

    /// For offline rows: nothing was ever dropped.
    #[must_use]
    pub fn offline() -> Book {
        Book { covers_everything: true, ..Book::default() }
    }

    /// What functions left out since the start.
    #[must_use]
    pub fn cut_totals(&self) -> CutTotals {
        self.cut_totals.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nodes that a former process knew: they are waited for as if they were silent.
    #[must_use]
    pub fn awaiting(self, names: impl IntoIterator<Item = String>) -> Book {
        self.lock().awaited.extend(names);
        self
    }

    /// Who has not come by now is not waited for any more.
    pub(super) fn forget_awaited(&self, heard_unix_ns: i64) {
        let mut inner = self.lock();
        if !std::mem::take(&mut inner.awaited).is_empty() {
            inner.departed.add(None, heard_unix_ns, None);
        }
    }

    /// A new coordinator begins: it knows of nothing but what was lost before, and who is to come.
    pub(super) fn clear(&self) {
        let mut inner = self.lock();
        let known = std::mem::take(&mut inner.nodes).into_keys();
        inner.awaited.extend(known);
        inner.feeds.clear();
        inner.queries.clear();
    }
}

/// Nodes.
impl Book {
    /// A node, or a new life of it, begins. A life that is over tells nothing any more: what it lost
    /// still is lost. `goes_on`: its ledger does, too, also if it had been given up.
    pub(super) fn node_came(&self, name: &str, incarnation: u64, goes_on: bool) {
        let mut inner = self.lock();
        inner.awaited.remove(name);
        let former = inner.nodes.remove(name);
        let back = inner.departed.came_back(name, incarnation);
        let goes_on = goes_on || back.is_some();
        let mut former = former.unwrap_or_default();
        former.losses = back.unwrap_or(former.losses);
        let losses = if goes_on {
            former.losses
        } else {
            inner.past.add(&former.losses.ledger);
            NodeLosses::default()
        };
        let owed_to_ms = former.names_owed_to_ms;
        let names_owed_to_ms = if goes_on { owed_to_ms } else { 0 };
        let node = Node { lagging: false, losses, names_behind: true, names_owed_to_ms };
        inner.nodes.insert(name.to_string(), node);
    }

    /// `orderly`: feeds that it was in have all that it had.
    pub(super) fn node_left(&self, who: (&str, u64), heard_unix_ns: i64, orderly: bool) {
        let mut inner = self.lock();
        inner.awaited.remove(who.0);
        let losses = inner.nodes.remove(who.0).map(|gone| gone.losses).unwrap_or_default();
        if let Some(oldest) = inner.departed.left(who, heard_unix_ns, orderly, losses) {
            inner.past.add(&oldest.ledger);
        }
        for feed in inner.feeds.values_mut() {
            feed.nodes.remove(who.0);
        }
    }

    pub(super) fn set_lagging(&self, name: &str, lagging: bool) {
        if let Some(node) = self.lock().nodes.get_mut(name) {
            node.lagging = lagging;
        }
    }

    /// Something of what things are called on the node did not arrive, or not yet.
    pub(super) fn names_behind(&self, name: &str, behind: bool) {
        if let Some(node) = self.lock().nodes.get_mut(name) {
            node.names_behind = behind;
        }
    }

    /// Answers up to a tick lack names of the node.
    pub(super) fn names_owed(&self, name: &str, tick_ms: u64) {
        if let Some(node) = self.lock().nodes.get_mut(name) {
            node.names_owed_to_ms = node.names_owed_to_ms.max(tick_ms);
        }
    }

    /// It has told so many times by now. True if some of that did not arrive.
    pub(super) fn told(&self, name: &str, told: u64) -> bool {
        let mut inner = self.lock();
        let Some(Node { losses, .. }) = inner.nodes.get_mut(name) else { return false };
        losses.told = losses.told.max(told);
        losses.lacks_some()
    }

    /// What it told. True if something before it did not arrive.
    pub(super) fn note_losses(
        &self,
        name: &str,
        sequence: u64,
        whole: bool,
        told: &[Loss],
    ) -> bool {
        let mut inner = self.lock();
        let Some(Node { losses, .. }) = inner.nodes.get_mut(name) else { return false };
        losses.told = losses.told.max(sequence + 1);
        if whole && sequence >= losses.next_sequence {
            losses.ledger = Ledger::default();
            losses.next_sequence = sequence;
        }
        if sequence == losses.next_sequence {
            losses.next_sequence += 1;
            told.iter().for_each(|loss| losses.ledger.note(loss));
        }
        losses.lacks_some()
    }
}

/// Feeds and queries.
impl Book {
    pub(super) fn feed_began(&self, feed: QueryId, tables: Vec<String>, installed_unix_ns: i64) {
        let (nodes, cuts) = (BTreeMap::new(), CutLedger::default());
        let entry = Feed { tables, installed_unix_ns, broken: false, owed_to_ms: 0, nodes, cuts };
        self.lock().feeds.insert(feed, entry);
    }

    pub(super) fn feed_ended(&self, feed: QueryId) {
        self.lock().feeds.remove(&feed);
    }

    pub(super) fn feed_broke(&self, feed: QueryId) {
        if let Some(feed) = self.lock().feeds.get_mut(&feed) {
            feed.broken = true;
        }
    }

    /// The feed is closed up to a tick though some node still owes rows of before.
    pub(super) fn feed_owes(&self, feed: QueryId, tick_ms: u64) {
        if let Some(feed) = self.lock().feeds.get_mut(&feed) {
            feed.owed_to_ms = feed.owed_to_ms.max(tick_ms);
        }
    }

    /// Where a node stands in a feed.
    pub(super) fn covers(&self, feed: QueryId, name: &str, covered: Covered) {
        if let Some(feed) = self.lock().feeds.get_mut(&feed) {
            feed.nodes.insert(name.to_string(), covered);
        }
    }

    pub(super) fn query_began(
        &self,
        query: QueryId,
        feeds: BTreeSet<QueryId>,
        windows: Windows,
        reads_names: bool,
    ) {
        let (samples, cuts) = (BTreeSet::new(), CutLedger::default());
        let overflow = BTreeMap::new();
        let entry = Query { feeds, windows, samples, reads_names, cuts, overflow };
        self.lock().queries.insert(query, entry);
    }

    pub(super) fn query_ended(&self, query: QueryId) {
        self.lock().queries.remove(&query);
    }

    /// Event times of some rows of a feed, which its readers will show at a tick.
    pub(super) fn note_samples(
        &self,
        readers: impl IntoIterator<Item = QueryId>,
        tick_ms: u64,
        times_unix_ns: &[i64],
    ) {
        if times_unix_ns.is_empty() {
            return;
        }
        let mut inner = self.lock();
        for reader in readers {
            let Some(query) = inner.queries.get_mut(&reader) else { continue };
            let room = EVENT_SAMPLES_MAX.saturating_sub(query.samples.len());
            query.samples.extend(times_unix_ns.iter().take(room).map(|&time| (tick_ms, time)));
        }
    }

    /// Event times of rows whose changes are in by `frontier_ms`; each is given once.
    pub fn take_samples(&self, query: QueryId, frontier_ms: u64) -> Vec<i64> {
        let mut inner = self.lock();
        let Some(entry) = inner.queries.get_mut(&query) else { return Vec::new() };
        let waiting = entry.samples.split_off(&(frontier_ms.saturating_add(1), i64::MIN));
        let done = std::mem::replace(&mut entry.samples, waiting);
        done.into_iter().map(|(_, time)| time).collect()
    }
}

/// What functions left out.
impl Book {
    /// In the engine here, for a query, since it was installed; to be told before its completeness is asked.
    pub fn note_cuts(&self, query: QueryId, tick_ms: u64, cuts: Cuts) {
        if let Some(entry) = self.lock().queries.get_mut(&query) {
            entry.cuts.note_new(tick_ms, cuts, &self.cut_totals);
        }
    }

    /// Rows that a query's windows hold without a group of their own, at the frontier that its completeness is
    /// asked for next.
    pub fn note_overflow(&self, query: QueryId, rows: BTreeMap<String, u64>) {
        if let Some(entry) = self.lock().queries.get_mut(&query) {
            entry.overflow = rows;
        }
    }

    /// On a node, for all that read a feed, since it told last.
    pub(super) fn note_node_cuts(&self, feed: QueryId, tick_ms: u64, cuts: &[(String, u64)]) {
        if let Some(entry) = self.lock().feeds.get_mut(&feed) {
            entry.cuts.note(tick_ms, cuts, &self.cut_totals);
        }
    }
}

impl Book {
    /// How complete the query's answer at `frontier_ms` is.
    #[must_use]
    pub fn completeness(&self, query: QueryId, frontier_ms: u64) -> Completeness {
        let inner = self.lock();
        let frontier_unix_ns = tick_unix_ns(frontier_ms);
        let Some(entry) = inner.queries.get(&query) else { return Completeness::default() };
        if self.covers_everything || entry.windows.is_empty() {
            let mut lost = inner.cut_within(entry, &Span::new(i64::MIN, frontier_unix_ns));
            entry.add_overflow(&mut lost);
            return Completeness {
                complete_to_unix_ns: frontier_unix_ns,
                complete: lost.is_empty(),
                lost,
                ..Completeness::default()
            };
        }
        let lagging = inner.lagging();
        let feeds = || entry.feeds.iter().filter_map(|feed| inner.feeds.get(feed));
        let live = || feeds().flat_map(|feed| inner.live(feed));
        let complete_to = live().map(|covered| covered.complete_to_unix_ns).min();
        let covers_from = live().map(|covered| covered.covers_from_unix_ns).max();
        let covers_from = covers_from.max(
            feeds()
                .map(|feed| feed.installed_unix_ns)
                .max()
                .and_then(|at| inner.departed.lacked_to(at)),
        );
        let covers_from_unix_ns = covers_from.unwrap_or(frontier_unix_ns);
        let windows = entry.windows.at(frontier_unix_ns, self.retention_ns);
        // The window's start is out, what is covered begins with its first moment.
        let is_covered = |seen: &Seen| {
            let from = seen.named_from_unix_ns;
            from.is_none_or(|from_unix_ns| covers_from_unix_ns <= from_unix_ns.saturating_add(1))
        };
        let covered = windows.values().all(is_covered);
        let mut lost = inner.lost_within(entry, &windows, covers_from_unix_ns);
        let from_unix_ns = windows.values().map(|seen| seen.span.from_unix_ns).min();
        let window = Span::new(from_unix_ns.unwrap_or(i64::MIN), frontier_unix_ns);
        lost.extend(inner.cut_within(entry, &window));
        entry.add_overflow(&mut lost);
        let whole = |feed: &Feed| !feed.nodes.is_empty() && !feed.broken;
        // What a node owed when the frontier was closed is not in it, though it may be here by now.
        let all_here = feeds().all(|feed| frontier_ms > feed.owed_to_ms)
            && live().all(|covered| covered.tick_ms >= frontier_ms);
        let all_told = !inner.nodes.values().any(|node| node.losses.lacks_some());
        // What had no name when the frontier was closed is without in it, though the name may be here by now.
        let named = |node: &Node| !node.names_behind && frontier_ms > node.names_owed_to_ms;
        let all_named = !entry.reads_names || inner.nodes.values().all(named);
        Completeness {
            complete_to_unix_ns: complete_to.unwrap_or(0).min(frontier_unix_ns),
            covers_from_unix_ns,
            complete: lagging.is_empty()
                && feeds().count() == entry.feeds.len()
                && feeds().all(whole)
                && all_here
                && all_told
                && all_named
                && lost.is_empty()
                && covered,
            lagging,
            lost,
        }
    }
}

/// What stands for rows without a group of their own where a loss names its reason: they are counted, but not
/// where they belong.
pub const OVERFLOW: &str = "overflow";

impl Query {
    fn add_overflow(&self, lost: &mut BTreeMap<String, BTreeMap<String, u64>>) {
        for (table, rows) in &self.overflow {
            lost.entry(table.clone()).or_default().insert(OVERFLOW.to_string(), *rows);
        }
    }
}

impl Inner {
    /// Nodes whose rows may be missing: who is silent, and who was there before and is to come.
    fn lagging(&self) -> Vec<String> {
        let silent = self.nodes.iter().filter(|(_, node)| node.lagging).map(|(name, _)| name);
        let lagging: BTreeSet<&String> = silent.chain(&self.awaited).collect();
        lagging.into_iter().cloned().collect()
    }

    /// What the nodes said that hold a feed's frontier.
    fn live<'a>(&'a self, feed: &'a Feed) -> impl Iterator<Item = &'a Covered> {
        let is_live = |name: &String| self.nodes.get(name).is_some_and(|node| !node.lagging);
        feed.nodes.iter().filter(move |(name, _)| is_live(name)).map(|(_, covered)| covered)
    }

    fn lost_within(
        &self,
        entry: &Query,
        windows: &BTreeMap<&str, Seen>,
        covers_from_unix_ns: i64,
    ) -> BTreeMap<String, BTreeMap<String, u64>> {
        let mut lost: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for (&table, Seen { span, named_from_unix_ns }) in windows {
            // Without a start of its own it begins with what is covered.
            let covered_from =
                span.from_unix_ns.max(covers_from_unix_ns.saturating_sub(1)).min(span.to_unix_ns);
            let from = named_from_unix_ns.map_or(covered_from, |named| named.min(covered_from));
            let span = Span::new(from, span.to_unix_ns);
            let reads = |feed: &&Feed| feed.tables.iter().any(|have| have == table);
            let feeds = entry.feeds.iter().filter_map(|feed| self.feeds.get(feed));
            let since = feeds.filter(reads).map(|feed| feed.installed_unix_ns).min();
            let since = since.unwrap_or(i64::MIN);
            self.add_lost(table, &span, since, &mut lost);
            if entry.reads_names {
                self.add_lost(METADATA, &span, since, &mut lost);
            }
        }
        lost
    }

    fn add_lost(
        &self,
        table: &str,
        span: &Span,
        since: i64,
        lost: &mut BTreeMap<String, BTreeMap<String, u64>>,
    ) {
        let mut within = BTreeMap::new();
        let living = self.nodes.values().map(|node| &node.losses.ledger);
        for ledger in living.chain(self.departed.ledgers()).chain([&self.past]) {
            ledger.lost_within(table, span, since, &mut within);
        }
        if within.is_empty() {
            return;
        }
        let of_table = lost.entry(table.to_string()).or_default();
        for (reason, count) in within {
            // Two windows may meet the same loss of names.
            let have = of_table.entry(reason).or_default();
            *have = count.max(*have);
        }
    }

    /// What functions left out within a window, as a loss of the pseudo-table `functions`.
    fn cut_within(&self, entry: &Query, window: &Span) -> BTreeMap<String, BTreeMap<String, u64>> {
        let mut cut = BTreeMap::new();
        let feeds = entry.feeds.iter().filter_map(|feed| self.feeds.get(feed));
        for cuts in feeds.map(|feed| &feed.cuts).chain([&entry.cuts]) {
            cuts.within(window, &mut cut);
        }
        let mut lost = BTreeMap::new();
        if !cut.is_empty() {
            lost.insert(FUNCTIONS.to_string(), cut);
        }
        lost
    }
}
