//! How complete an answer is: what its windows cover, which nodes lag, and what was lost within.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::warn;
use weir_proto::{QueryId, ToNode};
use weir_types::clock::tick_unix_ns;
use weir_types::ledger::{Ledger, Loss, METADATA, Span};
use weir_types::plan::{EndBound, SlidingWindow, StartBound, Window};
use weir_types::split::Source;

use super::{Coordinator, FUNCTIONS, Node, Query};
use crate::feed::Feed;

/// How complete a query's answer is at a frontier.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueryCompleteness {
    pub complete_to_unix_ns: i64,
    pub covers_from_unix_ns: i64,
    pub complete: bool,
    pub lagging: Vec<String>,
    /// table → reason → lost within the window; names that may be missing are under [`METADATA`]
    pub lost: BTreeMap<String, BTreeMap<String, u64>>,
}

/// What former lives of nodes lost. It outlives the coordinator.
#[derive(Clone, Default)]
pub struct PastLosses(Arc<Mutex<Ledger>>);

impl PastLosses {
    pub(super) fn add(&self, ledger: &Ledger) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).add(ledger);
    }
    fn lost_within(&self, table: &str, span: &Span, since: i64, lost: &mut BTreeMap<String, u64>) {
        let past = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        past.lost_within(table, span, since, lost);
    }
}

/// What a node told of its losses in its present life.
#[derive(Default)]
pub(super) struct NodeLosses {
    pub(super) ledger: Ledger,
    next_sequence: u64,
    /// It was asked for all it knows, and has not answered.
    asked: bool,
}

impl Node {
    /// Asks for everything: what was told before is not known here.
    pub(super) fn ask_for_losses(&mut self) {
        match self.link.send(&ToNode::TellLosses) {
            Ok(()) => self.losses.asked = true,
            Err(error) => warn!(node = self.info.name, %error, "could not ask for losses"),
        }
    }

    pub(super) fn on_losses(&mut self, sequence: u64, whole: bool, told: &[Loss]) {
        if whole {
            self.losses = NodeLosses { next_sequence: sequence, ..NodeLosses::default() };
        }
        if sequence > self.losses.next_sequence && !self.losses.asked {
            self.ask_for_losses();
        }
        if sequence == self.losses.next_sequence {
            self.losses.next_sequence += 1;
            told.iter().for_each(|loss| self.losses.ledger.note(loss));
        }
    }
}

/// The event times that a query reads of its tables, as its scans say it.
pub(super) struct Windows(Vec<(String, Window)>);

/// A window at a frontier.
struct Seen {
    span: Span,
    /// The script named its start, so everything from there on must be there.
    from_named: bool,
}

impl Windows {
    pub(super) fn of(sources: &[Source]) -> Windows {
        let window = |source: &Source| (source.table().to_string(), source.window());
        Windows(sources.iter().map(window).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Table → the window at a frontier; of several scans, what spans them all.
    fn at(&self, frontier_ns: i64, retention_ns: Option<i64>) -> BTreeMap<&str, Seen> {
        let mut all: BTreeMap<&str, Seen> = BTreeMap::new();
        for (table, window) in &self.0 {
            let seen = see(window, frontier_ns, retention_ns);
            let Some(have) = all.get_mut(table.as_str()) else {
                all.insert(table, seen);
                continue;
            };
            have.from_named &= seen.from_named;
            have.span = Span::new(
                have.span.from_unix_ns.min(seen.span.from_unix_ns),
                have.span.to_unix_ns.max(seen.span.to_unix_ns),
            );
        }
        all
    }
}

fn see(window: &Window, frontier_ns: i64, retention_ns: Option<i64>) -> Seen {
    let kept_from = retention_ns
        .map_or(i64::MIN, |retention_ns| SlidingWindow::of(retention_ns).start_at(frontier_ns));
    let (from_unix_ns, from_named) = match window.start {
        StartBound::Beginning => (kept_from, false),
        StartBound::Relative { window_ns } => {
            (SlidingWindow::of(window_ns).start_at(frontier_ns), true)
        }
        StartBound::Absolute { start_unix_ns } => {
            (start_unix_ns.saturating_sub(1).max(kept_from), true)
        }
    };
    let to_unix_ns = match window.end {
        EndBound::Now => frontier_ns,
        EndBound::Relative { before_ns } => frontier_ns.saturating_sub(before_ns),
        EndBound::Absolute { end_unix_ns } => frontier_ns.min(end_unix_ns),
    };
    Seen { span: Span::new(from_unix_ns, to_unix_ns), from_named }
}

fn of_functions(
    cut: BTreeMap<String, u64>,
) -> impl Iterator<Item = (String, BTreeMap<String, u64>)> {
    (!cut.is_empty()).then(|| (FUNCTIONS.to_string(), cut)).into_iter()
}

impl Coordinator {
    /// How complete the query's answer at `frontier_ms` is.
    #[must_use]
    pub fn completeness(&self, query: QueryId, frontier_ms: u64) -> QueryCompleteness {
        let frontier_unix_ns = tick_unix_ns(frontier_ms);
        let Some(entry) = self.queries.get(&query) else { return QueryCompleteness::default() };
        if self.covers_everything || entry.windows.is_empty() {
            let cut = self.cut_within(entry, &Span::new(i64::MIN, frontier_unix_ns));
            return QueryCompleteness {
                complete_to_unix_ns: frontier_unix_ns,
                complete: cut.is_empty(),
                lost: of_functions(cut).collect(),
                ..QueryCompleteness::default()
            };
        }
        let lagging: Vec<String> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.lagging)
            .map(|(name, _)| name.clone())
            .collect();
        let feeds = || entry.feeds.iter().filter_map(|feed| self.feeds.get(feed));
        let live = || feeds().flat_map(|feed| self.live(feed));
        let complete_to = live().map(|progress| progress.complete_to_unix_ns).min();
        let covers_from = live().map(|progress| progress.covers_from_unix_ns).max();
        let covers_from_unix_ns = covers_from.unwrap_or(frontier_unix_ns);
        let windows = entry.windows.at(frontier_unix_ns, self.engine.retention_ns());
        // The window's start is out, what is covered begins with its first moment.
        let is_covered = |seen: &Seen| {
            !seen.from_named || covers_from_unix_ns <= seen.span.from_unix_ns.saturating_add(1)
        };
        let covered = windows.values().all(is_covered);
        let mut lost = self.lost_within(entry, &windows, covers_from_unix_ns);
        let from_unix_ns = windows.values().map(|seen| seen.span.from_unix_ns).min();
        let window = Span::new(from_unix_ns.unwrap_or(i64::MIN), frontier_unix_ns);
        lost.extend(of_functions(self.cut_within(entry, &window)));
        QueryCompleteness {
            complete_to_unix_ns: complete_to.unwrap_or(0).min(frontier_unix_ns),
            covers_from_unix_ns,
            complete: lagging.is_empty()
                && feeds().all(|feed| !feed.nodes.is_empty())
                && lost.is_empty()
                && covered,
            lagging,
            lost,
        }
    }

    fn lost_within(
        &self,
        entry: &Query,
        windows: &BTreeMap<&str, Seen>,
        covers_from_unix_ns: i64,
    ) -> BTreeMap<String, BTreeMap<String, u64>> {
        let mut lost: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for (&table, Seen { span, from_named }) in windows {
            // Without a start of its own it begins with what is covered.
            let covered = Span::new(
                span.from_unix_ns.max(covers_from_unix_ns.saturating_sub(1)).min(span.to_unix_ns),
                span.to_unix_ns,
            );
            let span = if *from_named { *span } else { covered };
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
        for node in self.nodes.values() {
            node.losses.ledger.lost_within(table, span, since, &mut within);
        }
        self.past_losses.lost_within(table, span, since, &mut within);
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
}
