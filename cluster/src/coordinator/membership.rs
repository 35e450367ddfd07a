//! Which nodes there are: where a feed can run, who is given up, and what answers lack of those who are no more.

use std::collections::VecDeque;
use std::time::Duration;

use tracing::warn;
use weir_proto::message::SourceStatus;
use weir_proto::{Life, QueryId};
use weir_types::clock::tick_unix_ns;
use weir_types::ledger::Ledger;

use super::completeness::NodeLosses;
use super::{Coordinator, Node};
use crate::feed::Feed;

/// Departures that are remembered each for itself; of more, the oldest two become one.
const DEPARTED_MAX: usize = 1_024;
/// Of so many that went last it is known by name what they lost. Of others what a node tells that is back after
/// all is counted beside it: more than was lost, never less.
const DEPARTED_LEDGERS_MAX: usize = 64;

/// A node that is no more, and with it its history.
struct Departed {
    /// Its name and life; none where there were several.
    who: Option<(String, u64)>,
    /// It was heard of until then: windows that reach back to that may lack rows of it.
    heard_unix_ns: i64,
    /// What was installed before then has all of it; `None`: nothing has.
    complete_before: Option<i64>,
}

/// Nodes that are no more, in the order in which they went.
#[derive(Default)]
pub(super) struct Departures {
    all: VecDeque<Departed>,
    /// What the last of them lost, with the name and life of each.
    losses: VecDeque<((String, u64), NodeLosses)>,
}

impl Departures {
    /// Somebody went. `orderly`: feeds that it was in have all that it had. Gives back what is not remembered by
    /// name any more of what was lost.
    pub(super) fn left(
        &mut self,
        (name, incarnation): (&str, u64),
        heard_unix_ns: i64,
        orderly: bool,
        losses: NodeLosses,
    ) -> Option<NodeLosses> {
        let who = (name.to_string(), incarnation);
        self.losses.push_back((who.clone(), losses));
        self.add(Some(who), heard_unix_ns, orderly.then_some(heard_unix_ns));
        let is_too_much = self.losses.len() > DEPARTED_LEDGERS_MAX;
        self.losses.pop_front_if(|_| is_too_much).map(|(_, losses)| losses)
    }

    /// `who`: none if nothing more is known.
    pub(super) fn add(
        &mut self,
        who: Option<(String, u64)>,
        heard_unix_ns: i64,
        complete_before: Option<i64>,
    ) {
        self.all.push_back(Departed { who, heard_unix_ns, complete_before });
        if self.all.len() > DEPARTED_MAX
            && let Some(oldest) = self.all.pop_front()
            && let Some(next) = self.all.front_mut()
        {
            next.who = None;
            next.heard_unix_ns = next.heard_unix_ns.max(oldest.heard_unix_ns);
            next.complete_before = next.complete_before.min(oldest.complete_before);
        }
    }

    /// The same life is back, and its history with it. Gives what it lost until it went.
    pub(super) fn came_back(&mut self, name: &str, incarnation: u64) -> Option<NodeLosses> {
        let is_it = |who: &(String, u64)| who.0 == name && who.1 == incarnation;
        self.all.retain(|gone| !gone.who.as_ref().is_some_and(is_it));
        let at = self.losses.iter().position(|(who, _)| is_it(who))?;
        self.losses.remove(at).map(|(_, losses)| losses)
    }

    /// What those lost of whom that is known by name.
    pub(super) fn ledgers(&self) -> impl Iterator<Item = &Ledger> {
        self.losses.iter().map(|(_, losses)| &losses.ledger)
    }

    /// The event time up to which what was installed then lacks rows of nodes that are no more.
    pub(super) fn lacked_to(&self, installed_unix_ns: i64) -> Option<i64> {
        let lacks = |gone: &&Departed| {
            gone.complete_before.is_none_or(|before_unix_ns| installed_unix_ns > before_unix_ns)
        };
        self.all.iter().filter(lacks).map(|gone| gone.heard_unix_ns).max()
    }
}

impl Node {
    /// Which rows can arise on it, by what its sources said.
    pub(super) fn runs(sources: &[SourceStatus]) -> impl Iterator<Item = (bool, &[String])> {
        sources.iter().map(|source| (source.state != "refused", source.tables.as_slice()))
    }

    /// Whether rows of one of the tables can arise on it. A node that tells of no sources may have any.
    pub(super) fn may_have(&self, tables: &[String]) -> bool {
        let has =
            |(runs, of): (bool, &[String])| runs && of.iter().any(|table| tables.contains(table));
        self.sources.is_empty() || Node::runs(&self.sources).any(has)
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
        let Some(node) = self.nodes.remove(name) else { return };
        let incarnation = node.life.incarnation;
        self.book.node_left((name, incarnation), tick_unix_ns(node.last_heard_ms), orderly);
        let feeds: Vec<QueryId> = self.feeds.keys().copied().collect();
        for feed in feeds {
            if let Some(entry) = self.feeds.get_mut(&feed) {
                entry.node_left(name, incarnation);
            }
            self.close(feed);
        }
    }

    /// Feeds that hold rows which a node that begins may send again, from its history or its disk.
    pub(super) fn break_what_may_repeat(&mut self, name: &str, incarnation: u64) {
        let repeats = |feed: &Feed| {
            // Nobody else has the name: what it sent in a former life that was not given up is there, too.
            feed.nodes.contains_key(name) || feed.may_repeat(name, incarnation)
        };
        let feeds = self.feeds.iter().filter(|(_, feed)| repeats(feed));
        let feeds: Vec<QueryId> = feeds.map(|(&id, _)| id).collect();
        feeds.into_iter().for_each(|feed| self.break_feed(feed));
    }

    /// A source that could not run may do so by now: what reads its tables is installed.
    pub(super) fn check_sources(&mut self, name: &str) {
        let lacks = |feed: &Feed| !feed.nodes.contains_key(name);
        let feeds: Vec<QueryId> =
            self.feeds.iter().filter(|(_, feed)| lacks(feed)).map(|(&id, _)| id).collect();
        for feed in feeds {
            if let Err(error) = self.install_on(name, feed) {
                warn!(node = name, feed, %error, "could not install a feed on a node");
            }
        }
    }
}
