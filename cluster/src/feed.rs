//! What queries share. A *feed* is what nodes and the cluster engine maintain once for all queries that read
//! it: sources with their sends on nodes, and the windows that receive them. Everything above is each
//! query's own. Plain data; who reads what is the coordinator's.

use std::collections::{BTreeMap, BTreeSet};

use weir_engine::FeedExchange;
use weir_proto::message::KEPT_FROM_NS;
use weir_proto::{Epoch, QueryId};
use weir_types::plan::StartBound;
use weir_types::split::{NodePlan, Source};

/// A query that refreshes less often than a feed waits for its own first refresh, since what the feed holds
/// is of a later time than the query's last one. It waits for no longer than this.
const COARSE_REFRESH_MS_MAX: u64 = 10_000;
/// And a feed refreshes at most so many times for one refresh of such a query: it goes on as long as the
/// query does, and what it tells in between waits at the query.
const FINER_TIMES_MAX: u64 = 10;

/// Whether a query with this refresh can read a feed with that one: its refreshes are some of the feed's.
pub(crate) fn serves(feed_refresh_ms: u64, refresh_ms: u64) -> bool {
    let is_finer = || {
        refresh_ms <= COARSE_REFRESH_MS_MAX
            && refresh_ms.is_multiple_of(feed_refresh_ms)
            && refresh_ms / feed_refresh_ms <= FINER_TIMES_MAX
    };
    feed_refresh_ms == refresh_ms || is_finer()
}

/// The sources by feed: one per table, so that each is scanned once for all of them, and how complete a feed
/// is does not depend on tables that its readers do not read. Each source once.
pub(crate) fn by_feed(sources: impl IntoIterator<Item = Source>) -> Vec<Vec<Source>> {
    let mut feeds: BTreeMap<String, Vec<Source>> = BTreeMap::new();
    for source in sources {
        let feed = feeds.entry(source.table().to_string()).or_default();
        if !feed.contains(&source) {
            feed.push(source);
        }
    }
    feeds.into_values().collect()
}

/// Where a node stands in one feed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Of its installation there; what belongs to another one is not counted.
    pub(crate) epoch: Epoch,
    /// When it was ordered, monotonic.
    pub(crate) ordered_ms: u64,
    /// Of the next message that counts.
    pub(crate) next_sequence: u64,
    pub(crate) tick_ms: u64,
}

/// Nodes that went and of which a feed holds rows are remembered each by its life; of more, nobody is known by name.
pub(crate) const LEFT_MAX: usize = 1_024;

/// Of which nodes that are no more a feed holds rows. They stay in its windows until they leave these by their
/// time, so whoever comes back must not send them a second time.
#[derive(Debug, Default)]
pub(crate) struct Left {
    lives: BTreeSet<(String, u64)>,
    /// There were more than are remembered.
    is_full: bool,
}

impl Left {
    pub(crate) fn note(&mut self, name: &str, incarnation: u64) {
        let life = (name.to_string(), incarnation);
        if self.lives.len() < LEFT_MAX {
            self.lives.insert(life);
        } else {
            self.is_full |= !self.lives.contains(&life);
        }
    }

    /// Whether a node that comes may send again what is held: its process has all that it had, a later one only
    /// what the node keeps on disk.
    pub(crate) fn may_repeat(&self, name: &str, incarnation: u64, kept_on_disk: bool) -> bool {
        let is_it =
            |(of, life): &(String, u64)| of == name && (kept_on_disk || *life == incarnation);
        self.is_full || self.lives.iter().any(is_it)
    }
}

/// A feed that runs.
pub(crate) struct Feed {
    /// By the number of their exchange.
    pub(crate) sources: Vec<Source>,
    /// What nodes run for it.
    pub(crate) node: NodePlan,
    pub(crate) tables: Vec<String>,
    pub(crate) refresh_ms: u64,
    /// The first tick that can be closed.
    pub(crate) start_ms: u64,
    /// The last tick that all live nodes have reported.
    pub(crate) closed_ms: u64,
    pub(crate) nodes: BTreeMap<String, Progress>,
    pub(crate) left: Left,
    pub(crate) readers: BTreeSet<QueryId>,
    /// Since when, monotonic, it misses something that was lost on the way: its readers have to be
    /// installed anew.
    pub(crate) broken_ms: Option<u64>,
}

impl Feed {
    pub(crate) fn new(sources: Vec<Source>, refresh_ms: u64, start_ms: u64) -> Feed {
        let node = NodePlan::of(&sources);
        Feed {
            tables: node.scanned_tables(),
            sources,
            node,
            refresh_ms,
            start_ms,
            closed_ms: 0,
            broken_ms: None,
            nodes: BTreeMap::new(),
            left: Left::default(),
            readers: BTreeSet::new(),
        }
    }

    /// Whether nodes may keep some of it on disk, and have it in their next life again.
    fn is_kept_on_disk(&self) -> bool {
        self.sources.iter().any(|source| match source.window().start {
            StartBound::Relative { window_ns } | StartBound::Then { window_ns, .. } => {
                window_ns > KEPT_FROM_NS
            }
            _ => false,
        })
    }

    /// A node is in it no more; the rows that it sent are.
    pub(crate) fn node_left(&mut self, name: &str, incarnation: u64) {
        if self.nodes.remove(name).is_some_and(|progress| progress.next_sequence > 0) {
            self.left.note(name, incarnation);
        }
    }

    /// Whether a node that comes may send rows that it has already.
    pub(crate) fn may_repeat(&self, name: &str, incarnation: u64) -> bool {
        self.left.may_repeat(name, incarnation, self.is_kept_on_disk())
    }

    /// What it shares, and where it is to be had.
    pub(crate) fn exchanges(&self, feed: QueryId) -> impl Iterator<Item = (&Source, FeedExchange)> {
        let at = move |exchange| FeedExchange { feed, exchange };
        self.sources.iter().zip((0..).map(at))
    }
}

/// A feed as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedInfo {
    pub feed: QueryId,
    pub tables: Vec<String>,
    pub exchanges: usize,
    pub refresh_ms: u64,
    /// The queries that read it.
    pub readers: Vec<QueryId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(text: &str) -> Vec<Source> {
        let script = weir_pxl::Script { name: "test", text, vis: None };
        let compiled = weir_pxl::compile(&script, &weir_pxl::CompileOptions::default());
        weir_pxl::split(&compiled.unwrap().plan).sources
    }

    const COUNT: &str = "df = df.groupby('service').agg(n=('latency', px.count))\n";

    /// Sources of different scripts that mean the same are one, whatever is around them; another window or
    /// aggregate is another. Catches a number of the plan that gets into them, and a difference that does not.
    #[test]
    fn equal_sources_are_one() {
        let text = |start: &str, rest: &str| {
            format!(
                "import px\ndf = px.DataFrame('let_events', start_time='{start}')\n{COUNT}{rest}"
            )
        };
        let one = sources(&text("-5m", "px.display(df)"));
        let two = sources(&text(
            "-5m",
            "df = df[df.n > 3]\npx.display(df, 'a')\n\
             raw = px.DataFrame('dns_events', start_time='-5m')\npx.display(raw.head(5), 'b')",
        ));
        assert_eq!((one.len(), two.len()), (1, 2));
        assert_eq!(two.iter().filter(|source| **source == one[0]).count(), 1);
        for other in [
            sources(&text("-1m", "px.display(df)")),
            sources(&text("-5m", "px.display(df)").replace("px.count", "px.sum")),
        ] {
            assert_ne!(other[0], one[0]);
        }
        let all: Vec<Source> = one.into_iter().chain(two).collect();
        assert_eq!(by_feed(all).concat().len(), 2, "the one that both have is there once");
    }

    /// The sources of a table are one feed with one scan; another table is another feed.
    #[test]
    fn a_feed_per_table_scans_once() {
        let text = format!(
            "import px\ndf = px.DataFrame('let_events', start_time='-5m')\nraw = df\n{COUNT}\
             px.display(df, 'a')\nraw = raw.groupby('service').agg(s=('latency', px.sum))\n\
             px.display(raw, 'b')\n\
             d = px.DataFrame('dns_events', start_time='-5m')\npx.display(d.head(3), 'c')"
        );
        let feeds = by_feed(sources(&text));
        let sizes: Vec<_> = feeds.iter().map(Vec::len).collect();
        assert_eq!(sizes, [1, 2], "in the order of the tables");
        for feed in feeds {
            let feed = Feed::new(feed, 1000, 0);
            assert_eq!(feed.node.scans().count(), 1);
            assert_eq!(feed.node.sends.len(), feed.sources.len());
        }
    }
}
