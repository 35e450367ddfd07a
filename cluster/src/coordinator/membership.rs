//! Which nodes there are: where a feed can run, who is given up, and what answers lack of those who are no more.

use std::collections::VecDeque;
use std::time::Duration;

use tracing::warn;
use weir_proto::message::SourceStatus;
use weir_proto::{Life, QueryId};
use weir_types::clock::tick_unix_ns;

use super::{Coordinator, Node};

/// Departures that are remembered each for itself; of more, the oldest two become one.
const DEPARTED_MAX: usize = 1_024;

/// A node that is no more, and with it its history.
struct Departed {
    /// It was heard of until then: windows that reach back to that may lack rows of it.
    heard_unix_ns: i64,
    /// What was installed before then has all of it; `None`: nothing has.
    complete_before: Option<i64>,
}

/// Nodes that are no more, in the order in which they went.
#[derive(Default)]
pub(super) struct Departures(VecDeque<Departed>);

impl Departures {
    pub(super) fn add(&mut self, heard_unix_ns: i64, complete_before: Option<i64>) {
        self.0.push_back(Departed { heard_unix_ns, complete_before });
        if self.0.len() > DEPARTED_MAX
            && let Some(oldest) = self.0.pop_front()
            && let Some(next) = self.0.front_mut()
        {
            next.heard_unix_ns = next.heard_unix_ns.max(oldest.heard_unix_ns);
            next.complete_before = next.complete_before.min(oldest.complete_before);
        }
    }

    /// The event time up to which what was installed then lacks rows of nodes that are no more.
    pub(super) fn lacked_to(&self, installed_unix_ns: i64) -> Option<i64> {
        let lacks = |gone: &&Departed| {
            gone.complete_before.is_none_or(|before_unix_ns| installed_unix_ns > before_unix_ns)
        };
        self.0.iter().filter(lacks).map(|gone| gone.heard_unix_ns).max()
    }
}

impl Node {
    /// Whether rows of one of the tables can arise on it. A node that tells of no sources may have any.
    pub(super) fn may_have(&self, tables: &[String]) -> bool {
        let has = |source: &SourceStatus| {
            source.state != "refused" && source.tables.iter().any(|table| tables.contains(table))
        };
        self.sources.is_empty() || self.sources.iter().any(has)
    }

    /// Its life, as others may know it.
    #[must_use]
    pub fn life(&self) -> Life {
        self.life
    }
}

impl Coordinator {
    /// Gives a node up that is silent for so long after it began to lag.
    #[must_use]
    pub fn with_forget(self, after: Duration) -> Coordinator {
        let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        Coordinator { forget_ms: self.lag_max_ms.saturating_add(after_ms), ..self }
    }

    /// Gives up nodes that are silent for too long: nobody waits for them any more.
    pub(super) fn forget_nodes(&mut self, now_ms: u64) {
        let mono_ms = self.mono_ms.unwrap_or(0);
        let (began_mono_ms, began_ms) = *self.began_ms.get_or_insert((mono_ms, now_ms));
        if mono_ms.saturating_sub(began_mono_ms) > self.forget_ms {
            self.book.forget_awaited(tick_unix_ns(began_ms));
        }
        let is_gone = |node: &Node| node.silent_ms > self.forget_ms;
        let gone: Vec<String> = self
            .nodes
            .iter()
            .filter(|(_, node)| is_gone(node))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            warn!(node = name, "node is given up: it is silent for too long");
            self.gone(&name, false);
        }
    }

    /// How far behind `now_ms` a node is in what it has delivered, over all feeds that it runs.
    #[must_use]
    pub fn lag_ms(&self, name: &str, now_ms: u64) -> Option<u64> {
        let ticks = self.feeds.values().filter_map(|feed| Some(feed.nodes.get(name)?.tick_ms));
        ticks.min().map(|tick_ms| now_ms.saturating_sub(tick_ms))
    }

    /// A node is no more. `orderly`: it said so, after all that it had.
    pub(super) fn gone(&mut self, name: &str, orderly: bool) {
        let heard_ms = self.nodes.remove(name).map_or(0, |node| node.last_heard_ms);
        self.book.node_left(name, tick_unix_ns(heard_ms), orderly);
        let feeds: Vec<QueryId> = self.feeds.keys().copied().collect();
        for feed in feeds {
            if let Some(entry) = self.feeds.get_mut(&feed) {
                entry.nodes.remove(name);
            }
            self.close(feed);
        }
    }

    /// A source that could not run may do so by now: what reads its tables is installed.
    pub(super) fn check_sources(&mut self, name: &str) {
        let lacks = |feed: &crate::feed::Feed| !feed.nodes.contains_key(name);
        let feeds: Vec<QueryId> =
            self.feeds.iter().filter(|(_, feed)| lacks(feed)).map(|(&id, _)| id).collect();
        for feed in feeds {
            if let Err(error) = self.install_on(name, feed) {
                warn!(node = name, feed, %error, "could not install a feed on a node");
            }
        }
    }
}
