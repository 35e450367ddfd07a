//! How far feeds and queries are: a feed as far as its live nodes, a query as its feeds; what nobody holds
//! moves with the clock, and who is silent for too long holds nothing.

use tracing::warn;
use weir_engine::Engine;
use weir_proto::QueryId;

use super::{Coordinator, Query};
use crate::feed::{Feed, Progress};

/// A node is silent for no longer than this between two looks at the clock: if more has passed, it was
/// this process that stood still.
const CLOCK_STEP_MAX_MS: u64 = 1_000;

impl Query {
    /// Moves its frontier to its last refresh by then, never back.
    fn close(&mut self, id: QueryId, tick_ms: u64, engine: &Engine) {
        let tick_ms = tick_ms / self.refresh_ms * self.refresh_ms;
        if tick_ms > self.closed_ms {
            self.closed_ms = tick_ms;
            engine.close_query_tick(id, tick_ms);
        }
    }
}

impl Coordinator {
    /// Moves a feed's frontier to the minimum over its live nodes.
    pub(super) fn close(&mut self, feed: QueryId) {
        let Some(entry) = self.feeds.get(&feed).filter(|feed| feed.broken_ms.is_none()) else {
            return;
        };
        if let Some(tick_ms) = self.live(entry).map(|progress| progress.tick_ms).min() {
            self.close_at(feed, tick_ms);
        }
    }

    /// The progress of a feed's nodes that hold its frontier.
    pub(super) fn live<'a>(&'a self, feed: &'a Feed) -> impl Iterator<Item = &'a Progress> {
        let is_live = |name: &String| self.nodes.get(name).is_some_and(|node| !node.lagging);
        feed.nodes.iter().filter(move |(name, _)| is_live(name)).map(|(_, progress)| progress)
    }

    pub(super) fn close_at(&mut self, feed: QueryId, tick_ms: u64) {
        let Some(entry) = self.feeds.get_mut(&feed) else { return };
        if tick_ms <= entry.closed_ms {
            return;
        }
        entry.closed_ms = tick_ms;
        let owes = |progress: &Progress| progress.tick_ms < tick_ms;
        if entry.nodes.is_empty() || entry.nodes.values().any(owes) {
            self.book.feed_owes(feed, tick_ms);
        }
        self.engine.close_query_tick(feed, tick_ms);
        for reader in entry.readers.clone() {
            let query = self.queries.get_mut(&reader).filter(|query| !query.readers.wait());
            let Some(query) = query else { continue };
            let of_feed = |feed| self.feeds.get(feed).map_or(0, |feed: &Feed| feed.closed_ms);
            // Rows of the feeds follow their own frontiers; this is for table functions.
            let tick_ms = query.feeds.iter().map(of_feed).min().unwrap_or(0);
            query.close(reader, tick_ms, &self.engine);
        }
    }

    /// Called about every tick: marks silent nodes, and moves feeds that no node holds and queries of
    /// table functions only along with the clock. `mono_ms`: what silence is measured by, since the
    /// wall clock may be set.
    pub fn on_clock(&mut self, now_ms: u64, mono_ms: u64) {
        let passed_ms = mono_ms.saturating_sub(self.mono_ms.replace(mono_ms).unwrap_or(mono_ms));
        let passed_ms = passed_ms.min(CLOCK_STEP_MAX_MS);
        let mut changed = false;
        for (name, node) in &mut self.nodes {
            let heard = std::mem::take(&mut node.heard);
            node.silent_ms = if heard { 0 } else { node.silent_ms.saturating_add(passed_ms) };
            let lagging = node.silent_ms > self.lag_max_ms;
            if lagging != node.lagging {
                node.lagging = lagging;
                changed = true;
                self.book.set_lagging(name, lagging);
                warn!(node = name, lagging, "node changed its lag state");
            }
        }
        self.forget_nodes(now_ms);
        self.push_answers(now_ms);
        self.forget_entities();
        self.order_wanted();
        let feeds: Vec<QueryId> = self.feeds.keys().copied().collect();
        for feed in feeds {
            if changed {
                self.close(feed);
            }
            let Some(entry) = self.feeds.get(&feed).filter(|feed| feed.broken_ms.is_none()) else {
                continue;
            };
            if self.live(entry).next().is_none() {
                self.close_at(feed, now_ms / entry.refresh_ms * entry.refresh_ms);
            }
        }
        let moved_by_clock = |query: &Query| query.feeds.is_empty() && !query.readers.wait();
        for (&id, query) in self.queries.iter_mut().filter(|(_, query)| moved_by_clock(query)) {
            query.close(id, now_ms, &self.engine);
        }
    }
}
