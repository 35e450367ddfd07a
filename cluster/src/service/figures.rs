//! The running dataflows, seen from inside: about every second it is written down what each operator has done,
//! here and, by their status, on nodes. Rates are over the last few of these samples; each is rows of
//! `weir_queries`, `weir_operators` and `weir_feeds` as well.
//!
//! Whoever asks takes the sample that is due: no actor computes anything for it. Not here: how it is shown
//! (`api/explain`, `api/metrics`), and which operators there could be.

mod rows;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_engine::Generations;
use weir_proto::QueryId;
use weir_types::Clock;
use weir_types::figures::{OperatorFigures, OperatorPlace, QueryFigures, RefreshFigures};

use super::registry::Registry;
use crate::feed::FeedInfo;

/// A sample is taken when the last one is this old: a little less than a second, so that who asks once a second
/// finds a new one each time.
const SAMPLE_EVERY_NS: u64 = 900_000_000;
/// Rates are over so many samples: a view that refreshes once a second has had several refreshes by then.
const SAMPLES_MAX: usize = 6;
/// Operators in a sample. Above, those of the last queries are left out, and counted: a sample has to fit into
/// history, and to be made within milliseconds.
const OPERATORS_MAX: usize = 8_192;
/// What a node said last is too old then: it is silent, or gone.
const NODE_SILENT_NS: i64 = 5_000_000_000;

/// An operator: the node it runs on (`None`: the cluster part), the query or feed, and its place there.
type Key = (Option<Arc<str>>, QueryId, OperatorPlace);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub rows_in: u64,
    pub rows_out: u64,
    pub busy_ns: u64,
}

impl Counts {
    fn of(figures: &OperatorFigures) -> Counts {
        let OperatorFigures { rows_in, rows_out, busy_ns, .. } = *figures;
        Counts { rows_in, rows_out, busy_ns }
    }

    /// What was added since `before`; all, if it began anew since.
    fn since(self, before: Option<&Counts>) -> Counts {
        let Some(before) = before.filter(|before| before.busy_ns <= self.busy_ns) else {
            return self;
        };
        Counts {
            rows_in: self.rows_in.saturating_sub(before.rows_in),
            rows_out: self.rows_out.saturating_sub(before.rows_out),
            busy_ns: self.busy_ns - before.busy_ns,
        }
    }

    pub fn add(&mut self, other: Counts) {
        self.rows_in += other.rows_in;
        self.rows_out += other.rows_out;
        self.busy_ns += other.busy_ns;
    }
}

/// One operator at a sample.
#[derive(Clone, Debug)]
pub struct OperatorNow {
    /// `None`: in the cluster part.
    pub node: Option<Arc<str>>,
    pub query: QueryId,
    pub figures: OperatorFigures,
    /// Within the time that rates are over.
    pub recent: Counts,
    /// Since the last sample.
    last: Counts,
}

/// One query at a sample.
#[derive(Clone, Debug)]
pub struct QueryNow {
    pub query: QueryId,
    pub name: String,
    pub refresh_ms: u64,
    pub refreshes: RefreshFigures,
    pub lateness_ns: u64,
    pub readers: usize,
}

/// One feed at a sample.
#[derive(Clone, Debug)]
pub struct FeedNow {
    pub info: FeedInfo,
    pub refreshes: RefreshFigures,
    pub lateness_ns: u64,
}

/// All that runs, at one time.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    pub at_unix_ns: i64,
    /// The time that rates are over, ns; 0 for the first sample.
    pub over_ns: u64,
    /// Since the last sample.
    last_ns: u64,
    pub queries: Vec<QueryNow>,
    pub feeds: Vec<FeedNow>,
    pub operators: Vec<OperatorNow>,
    totals: BTreeMap<QueryId, Totals>,
    /// Operators above the bound, on nodes or here.
    pub left_out: u64,
}

/// What some operators did and hold together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    pub recent: Counts,
    pub held_bytes: u64,
}

/// The same within the time that rates are over, and since the last sample.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    recent: Total,
    last: Total,
}

impl Total {
    fn add(&mut self, operator: &OperatorNow, counts: Counts) {
        self.held_bytes += operator.figures.held_bytes;
        self.recent.busy_ns += counts.busy_ns;
        if operator.is_entry() {
            self.recent.rows_in += counts.rows_in;
        }
        if operator.is_exit() {
            self.recent.rows_out += counts.rows_out;
        }
    }
}

fn totals(operators: &[OperatorNow]) -> BTreeMap<QueryId, Totals> {
    let mut all: BTreeMap<QueryId, Totals> = BTreeMap::new();
    for operator in operators {
        let totals = all.entry(operator.query).or_default();
        totals.recent.add(operator, operator.recent);
        totals.last.add(operator, operator.last);
    }
    all
}

impl Sample {
    pub fn operators_of(&self, query: QueryId) -> impl Iterator<Item = &OperatorNow> {
        self.operators.iter().filter(move |operator| operator.query == query)
    }

    /// Of a query or feed, wherever its operators run: rows in are those that came into it, rows out those that
    /// it gave to readers.
    #[must_use]
    pub fn total(&self, query: QueryId) -> Total {
        self.totals.get(&query).copied().unwrap_or_default().recent
    }

    /// The same since the last sample.
    fn last_total(&self, query: QueryId) -> Total {
        self.totals.get(&query).copied().unwrap_or_default().last
    }

    /// How late a query or feed is; 0 of one that is not known.
    #[must_use]
    pub fn lateness_ns(&self, query: QueryId) -> u64 {
        let queries = self.queries.iter().map(|now| (now.query, now.lateness_ns));
        let feeds = self.feeds.iter().map(|now| (now.info.feed, now.lateness_ns));
        queries.chain(feeds).find(|(number, _)| *number == query).map_or(0, |(_, late)| late)
    }

    /// Per second, of something counted within the time that rates are over.
    #[must_use]
    pub fn per_s(&self, count: u64) -> f64 {
        if self.over_ns == 0 { 0.0 } else { count as f64 * 1e9 / self.over_ns as f64 }
    }
}

impl OperatorNow {
    /// Rows come into its query or feed through it.
    fn is_entry(&self) -> bool {
        matches!(self.figures.kind.as_str(), "Scan" | "Import" | "TableFunction")
    }

    /// What it gives leaves the query, or the feed.
    fn is_exit(&self) -> bool {
        match self.figures.place {
            OperatorPlace::Output(_) => true,
            OperatorPlace::Exchange(_) => self.node.is_none(),
            OperatorPlace::Op(_) | OperatorPlace::Elsewhere => false,
        }
    }

    /// What it belongs to.
    #[must_use]
    pub fn part(&self) -> &'static str {
        match (&self.node, self.figures.place) {
            (Some(_), _) => "node",
            (None, OperatorPlace::Exchange(_)) => "feed",
            (None, _) => "query",
        }
    }
}

/// A node that said nothing for so long is forgotten: when it comes back, it is as good as new.
const NODE_FORGOTTEN_NS: i64 = 3_600_000_000_000;

/// What a node said last.
#[derive(Default)]
struct NodeSaid {
    at_unix_ns: i64,
    figures: Vec<QueryFigures>,
    left_out: u64,
    /// It has said nothing for a while.
    is_silent: bool,
    /// It speaks again: what it did meanwhile is of no sample.
    is_back: bool,
}

impl NodeSaid {
    fn is_silent_at(&self, now_unix_ns: i64) -> bool {
        self.is_silent || now_unix_ns.saturating_sub(self.at_unix_ns) >= NODE_SILENT_NS
    }
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<Arc<str>, NodeSaid>,
    feeds: Arc<Vec<FeedInfo>>,
    /// The newest first: when, and what all operators had done by then.
    past: VecDeque<(i64, BTreeMap<Key, Counts>)>,
    newest: Arc<Sample>,
    /// Samples above the bound, in operators.
    left_out_total: u64,
}

/// Takes the samples, and keeps the newest.
pub struct Figures {
    engine: Arc<Generations>,
    registry: Arc<Mutex<Registry>>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

impl Figures {
    pub(crate) fn new(
        engine: Arc<Generations>,
        registry: Arc<Mutex<Registry>>,
        clock: Arc<dyn Clock>,
    ) -> Figures {
        Figures { engine, registry, clock, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node has told its figures.
    pub(crate) fn heard(&self, node: &str, figures: Vec<QueryFigures>, left_out: u64) {
        self.state().heard(self.clock.now_unix_ns(), node, figures, left_out);
    }

    /// The feeds that there are.
    pub(crate) fn set_feeds(&self, feeds: Vec<FeedInfo>) {
        self.state().feeds = Arc::new(feeds);
    }

    /// The newest sample, taken now if the last one is too old.
    pub fn now(&self) -> Arc<Sample> {
        let now_unix_ns = self.clock.now_unix_ns();
        if let Some(fresh) = self.state().fresh(now_unix_ns) {
            return fresh;
        }
        let queries = self.queries();
        let here = self.engine.engine().figures();
        let state = &mut *self.state();
        // Somebody else may have taken it meanwhile.
        state.fresh(now_unix_ns).unwrap_or_else(|| {
            state.newest = Arc::new(state.sample(now_unix_ns, queries, &here));
            Arc::clone(&state.newest)
        })
    }

    /// The queries that are installed, without their figures.
    fn queries(&self) -> Vec<QueryNow> {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut queries: Vec<QueryNow> = registry
            .values()
            .map(|entry| QueryNow {
                query: entry.run,
                name: entry.row.name.clone(),
                refresh_ms: entry.row.refresh_ms,
                refreshes: RefreshFigures::default(),
                lateness_ns: 0,
                readers: entry.subscribers.len(),
            })
            .collect();
        queries.sort_by_key(|query| query.query);
        queries
    }

    /// Operators that were left out of samples, in all.
    #[must_use]
    pub fn left_out_total(&self) -> u64 {
        self.state().left_out_total
    }
}

impl State {
    fn heard(&mut self, now_unix_ns: i64, node: &str, figures: Vec<QueryFigures>, left_out: u64) {
        let former = self.nodes.get(node);
        let is_back = former.is_some_and(|said| said.is_back || said.is_silent_at(now_unix_ns));
        let said =
            NodeSaid { at_unix_ns: now_unix_ns, figures, left_out, is_silent: false, is_back };
        self.nodes.insert(node.into(), said);
    }

    /// Nodes that say nothing do nothing; those that speak again are counted from here on.
    fn note_silence(&mut self, now_unix_ns: i64) {
        self.nodes
            .retain(|_, said| now_unix_ns.saturating_sub(said.at_unix_ns) < NODE_FORGOTTEN_NS);
        for (name, said) in &mut self.nodes {
            if said.is_silent_at(now_unix_ns) {
                let at_unix_ns = said.at_unix_ns;
                *said = NodeSaid { at_unix_ns, is_silent: true, ..NodeSaid::default() };
            }
            if !std::mem::take(&mut said.is_back) {
                continue;
            }
            for figures in &said.figures {
                for operator in &figures.operators {
                    let key = (Some(Arc::clone(name)), figures.query, operator.place);
                    let counts = Counts::of(operator);
                    self.past.iter_mut().for_each(|(_, past)| {
                        past.insert(key.clone(), counts);
                    });
                }
            }
        }
    }

    /// The newest sample, unless the next one is due.
    fn fresh(&self, now_unix_ns: i64) -> Option<Arc<Sample>> {
        let (at_unix_ns, _) = self.past.front()?;
        let age_ns = now_unix_ns.abs_diff(*at_unix_ns);
        (age_ns < SAMPLE_EVERY_NS).then(|| Arc::clone(&self.newest))
    }

    fn sample(
        &mut self,
        now_unix_ns: i64,
        mut queries: Vec<QueryNow>,
        here: &[QueryFigures],
    ) -> Sample {
        self.note_silence(now_unix_ns);
        let by_query: BTreeMap<QueryId, &QueryFigures> =
            here.iter().map(|figures| (figures.query, figures)).collect();
        let late = |query: QueryId, refresh_ms: u64| {
            let refreshes = by_query.get(&query).map(|figures| figures.refreshes);
            let refreshes = refreshes.unwrap_or_default();
            (refreshes, refreshes.lateness_ns(refresh_ms, now_unix_ns))
        };
        for query in &mut queries {
            (query.refreshes, query.lateness_ns) = late(query.query, query.refresh_ms);
        }
        let feeds = self.feeds.iter().map(|info| {
            let (refreshes, lateness_ns) = late(info.feed, info.refresh_ms);
            FeedNow { info: info.clone(), refreshes, lateness_ns }
        });
        let feeds: Vec<FeedNow> = feeds.collect();
        let known: BTreeSet<QueryId> = queries
            .iter()
            .map(|query| query.query)
            .chain(feeds.iter().map(|feed| feed.info.feed))
            .collect();
        let (operators, left_out) = self.operators(here, &known);
        let since = |idx: usize| {
            let at = self.past.get(idx).map(|(at, _)| now_unix_ns - at);
            at.map_or(0, |ns| u64::try_from(ns).unwrap_or(0))
        };
        let (last_ns, over_ns) = (since(0), since(self.past.len().saturating_sub(1)));
        let counts = operators.iter().map(|now| {
            let key = (now.node.clone(), now.query, now.figures.place);
            (key, Counts::of(&now.figures))
        });
        self.past.push_front((now_unix_ns, counts.collect()));
        self.past.truncate(SAMPLES_MAX);
        self.left_out_total += left_out;
        let at_unix_ns = now_unix_ns;
        let totals = totals(&operators);
        Sample { at_unix_ns, over_ns, last_ns, queries, feeds, operators, totals, left_out }
    }

    /// All of what is installed, and how many there was no room for.
    fn operators(
        &self,
        here: &[QueryFigures],
        known: &BTreeSet<QueryId>,
    ) -> (Vec<OperatorNow>, u64) {
        let on_nodes = self.nodes.iter().flat_map(|(name, said)| {
            said.figures.iter().map(move |figures| (Some(Arc::clone(name)), figures))
        });
        let all = here.iter().map(|figures| (None, figures)).chain(on_nodes);
        let mut operators = Vec::new();
        let mut left_out: u64 = self.nodes.values().map(|said| said.left_out).sum();
        for (node, figures) in all.filter(|(_, figures)| known.contains(&figures.query)) {
            if operators.len() + figures.operators.len() > OPERATORS_MAX {
                left_out += figures.operators.len() as u64;
                continue;
            }
            for operator in &figures.operators {
                operators.push(self.operator_now(node.clone(), figures.query, operator));
            }
        }
        (operators, left_out)
    }

    fn operator_now(
        &self,
        node: Option<Arc<str>>,
        query: QueryId,
        figures: &OperatorFigures,
    ) -> OperatorNow {
        let key = (node, query, figures.place);
        let counts = Counts::of(figures);
        let before = |past: Option<&(i64, BTreeMap<Key, Counts>)>| {
            counts.since(past.and_then(|(_, past)| past.get(&key)))
        };
        let (last, recent) = (before(self.past.front()), before(self.past.back()));
        OperatorNow { node: key.0, query, figures: figures.clone(), recent, last }
    }
}

#[cfg(test)]
mod tests;
