//! Where an installed plan's sources run: the feed and exchange that each is had from, and what a node does for
//! it. For those who show a running dataflow; it changes nothing.

use weir_engine::FeedExchange;
use weir_proto::QueryId;
use weir_types::plan::OpId;
use weir_types::split::{NodeOp, NodePlan, Source, SplitPlan};

use super::Coordinator;

/// A source of a plan, as it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocatedSource {
    pub at: FeedExchange,
    /// Operators of the feed's node plan: the scan, then each step.
    pub steps: Vec<OpId>,
    /// The queries that read the feed.
    pub readers: Vec<QueryId>,
}

impl Coordinator {
    /// The feeds that have a plan's sources already, by their numbers: a query that refreshes so would read them.
    #[must_use]
    pub fn shared(&self, split: &SplitPlan, refresh_ms: u64) -> Vec<Option<QueryId>> {
        let feed = |source: &Source| Some(self.readable(source, refresh_ms)?.feed);
        split.sources.iter().map(feed).collect()
    }

    /// What `query` reads, by the numbers of its plan's sources; `None` for one that nothing receives now.
    #[must_use]
    pub fn located(&self, query: QueryId, split: &SplitPlan) -> Vec<Option<LocatedSource>> {
        // Of its own feeds, whether others may still come to read them or not.
        let feeds = self.queries.get(&query).map(|query| &query.feeds);
        let feeds: Vec<_> =
            feeds.into_iter().flatten().filter_map(|id| Some((*id, self.feeds.get(id)?))).collect();
        let located = |source: &Source| {
            let (feed, at) = feeds.iter().find_map(|(id, feed)| {
                let mut exchanges = feed.exchanges(*id);
                let (_, at) = exchanges.find(|(have, _)| *have == source)?;
                Some((feed, at))
            })?;
            let steps = steps_of(&feed.node, feed.node.sends.get(at.exchange as usize)?.from);
            Some(LocatedSource { at, steps, readers: feed.readers.iter().copied().collect() })
        };
        split.sources.iter().map(located).collect()
    }
}

/// An operator of a node plan with those below it, from the scan on.
fn steps_of(node: &NodePlan, from: OpId) -> Vec<OpId> {
    let mut steps = vec![from];
    let mut at = from;
    while let Some(NodeOp::Step { below, .. }) = node.ops.get(at) {
        at = *below;
        steps.push(at);
    }
    steps.reverse();
    steps
}
