//! What nodes say. The bus between may lose, repeat, delay and reorder messages, and either end may begin
//! anew; so nothing is taken that does not fit exactly where it claims to belong:
//!
//! * a former life of a node is refused, one that is not known has to introduce itself;
//! * updates and progress of a feed count together, per installation of it (its *epoch*): a repeat is
//!   passed over; a gap, or an epoch that was not given, breaks the feed, and a broken feed is set up
//!   anew from the nodes' histories, under new numbers ([`Coordinator::take_resyncs`]);
//! * orders are not answered: a node's status says what it runs and answers, and what does not fit is
//!   ordered again.

use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{info, warn};
use weir_proto::message::SourceStatus;
use weir_proto::{Epoch, FromNode, Life, NodeInfo, NodeLink, Place, QueryId, Report, ToNode};
use weir_types::figures::QueryFigures;
use weir_types::ledger::Loss;

use super::completeness::Covered;
use super::{Coordinator, Node, entities};

/// An order is given again if a status that comes so much later does not show it.
pub(super) const ORDER_WAIT_MS: u64 = 2_000;
/// Losses are asked for again if they have not come by then.
const LOSSES_WAIT_MS: u64 = 1_000;
/// Whoever is not known is told so no more often than this.
const INTRODUCE_EVERY_MS: u64 = 500;
/// Names without a registration that are remembered; the bus knows who may speak.
const STRANGERS_MAX: usize = 1_024;
/// The first broken feed is set up anew at once; those that follow wait twice as long each time, up to
/// this, so that a bad network is not answered with a storm of back-fills.
const RESYNC_WAIT_MAX_MS: u64 = 3_000;
const RESYNC_WAIT_MS: u64 = 50;
/// After so long without one, the next is set up anew at once again.
const RESYNC_CALM_MS: u64 = 10_000;

/// What a status says of operators, taken out of it, with how many it left out.
pub(crate) fn taken_figures(message: &mut FromNode) -> Option<(Vec<QueryFigures>, u64)> {
    match message {
        FromNode::Status { figures, figures_left_out, .. } => {
            Some((std::mem::take(figures), *figures_left_out))
        }
        _ => None,
    }
}

/// What became of messages that were not simply taken.
#[derive(Debug, Default)]
pub struct BusCounters {
    /// Came a second time.
    pub repeated_total: AtomicU64,
    /// Of an installation that is over.
    pub late_total: AtomicU64,
    /// Of a life of a node that is over.
    pub former_life_total: AtomicU64,
    /// From somebody who had not registered.
    pub stranger_total: AtomicU64,
    /// Gaps, and epochs that were not given.
    pub broken_total: AtomicU64,
    /// Queries that were set up anew for it.
    pub resynced_total: AtomicU64,
    /// Orders that were given again.
    pub reordered_total: AtomicU64,
    /// How often entities of a node were lost on the way, and all were asked for.
    pub names_broken_total: AtomicU64,
    /// What functions here wanted to know and nobody was asked for: there was no room.
    pub unasked_total: AtomicU64,
}

impl BusCounters {
    pub(super) fn count(counter: &AtomicU64) {
        BusCounters::add(counter, 1);
    }

    pub(super) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    /// Name → count.
    #[must_use]
    pub fn list(&self) -> [(&'static str, u64); 9] {
        [
            ("repeated", &self.repeated_total),
            ("late", &self.late_total),
            ("former_life", &self.former_life_total),
            ("stranger", &self.stranger_total),
            ("broken", &self.broken_total),
            ("resynced", &self.resynced_total),
            ("ordered_again", &self.reordered_total),
            ("names_broken", &self.names_broken_total),
            ("unasked", &self.unasked_total),
        ]
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
    }
}

/// What a node's message means for a view.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Nothing,
    /// All of them, for the same reason.
    QueryFailed {
        queries: Vec<QueryId>,
        message: String,
    },
    /// The node's engine died while it worked on this feed.
    EngineDied {
        feed: Option<QueryId>,
    },
}

/// How fast broken feeds are set up anew.
#[derive(Debug, Default)]
pub(super) struct Pace {
    wait_ms: u64,
    last_ms: u64,
}

impl Pace {
    fn is_due(&self, broken_ms: u64, now_ms: u64) -> bool {
        let calm = now_ms.saturating_sub(self.last_ms) > RESYNC_CALM_MS;
        calm || now_ms.saturating_sub(broken_ms) >= self.wait_ms
    }

    fn resynced(&mut self, now_ms: u64) {
        let calm = now_ms.saturating_sub(self.last_ms) > RESYNC_CALM_MS;
        let doubled = (self.wait_ms * 2).clamp(RESYNC_WAIT_MS, RESYNC_WAIT_MAX_MS);
        self.wait_ms = if calm { RESYNC_WAIT_MS } else { doubled };
        self.last_ms = now_ms;
    }
}

impl Coordinator {
    /// Something came from a node; it is known once it registers.
    pub fn on_message(
        &mut self,
        name: &str,
        link: &NodeLink,
        report: Report,
        now_ms: u64,
    ) -> Outcome {
        let Report { life, message } = report;
        if let FromNode::Register { info, sources, epoch_max } = message {
            self.on_register(name, link, life, (info, sources, epoch_max), now_ms);
            return Outcome::Nothing;
        }
        let known = self.nodes.get(name).map(|node| node.life);
        if known != Some(life) {
            self.unwanted(&message);
        }
        if known.is_none_or(|known| life > known) {
            self.introduce(name, link);
            return Outcome::Nothing;
        }
        if known.is_some_and(|known| life < known) {
            BusCounters::count(&self.counters.former_life_total);
            return Outcome::Nothing;
        }
        if let Some(node) = self.nodes.get_mut(name) {
            node.heard = true;
            node.last_heard_ms = now_ms;
        }
        self.on_known(name, message)
    }

    /// What waits elsewhere for a message that is passed over need not wait any longer.
    fn unwanted(&self, message: &FromNode) {
        if let FromNode::Deposited { at, .. } = message {
            self.engine.drop_deposit((at.process, at.number));
        }
    }

    fn on_known(&mut self, name: &str, message: FromNode) -> Outcome {
        match message {
            FromNode::Update { query: feed, place, exchange, tick_ms, changes } => {
                if self.fits(name, feed, place) {
                    self.engine.push_changes(feed, exchange, tick_ms, changes);
                }
            }
            FromNode::Deposited { query: feed, place, exchange, tick_ms, at } => {
                let at = (at.process, at.number);
                match self.fits(name, feed, place) {
                    true => self.engine.take_deposit(feed, exchange, tick_ms, at),
                    false => self.engine.drop_deposit(at),
                }
            }
            FromNode::Progress {
                query: feed,
                place,
                tick_ms,
                complete_to_unix_ns,
                covers_from_unix_ns,
                event_samples_unix_ns,
                losses_told,
                entities_told,
            } => {
                self.told_losses(name, losses_told);
                self.told_entities(name, entities_told, Some(tick_ms));
                if self.fits(name, feed, place) {
                    let covered = Covered { tick_ms, complete_to_unix_ns, covers_from_unix_ns };
                    self.on_progress(name, feed, covered, &event_samples_unix_ns);
                }
            }
            FromNode::Failed { query: feed, epoch, message } => {
                return self.on_failed(name, (feed, epoch), message);
            }
            status @ FromNode::Status { .. } => self.on_status(name, status),
            FromNode::Losses { sequence, whole, losses } => {
                self.on_losses(name, sequence, whole, &losses);
            }
            FromNode::Entities { sequence, part, machine, changes } => {
                self.on_entities(name, entities::Told { sequence, part, machine, changes });
            }
            FromNode::Cuts { query: feed, place, tick_ms, cuts } => {
                if self.fits(name, feed, place) {
                    self.book.note_node_cuts(feed, tick_ms, &cuts);
                }
            }
            // Told once in a life: all is installed again once the next one has registered.
            FromNode::EngineDied { query: feed } => return self.on_engine_died(name, feed),
            FromNode::Leave => self.gone(name, true),
            FromNode::Answer { sequence, function, rows } => {
                self.on_answer(name, sequence, function, rows);
            }
            // Taken before.
            FromNode::Register { .. } => {}
        }
        Outcome::Nothing
    }

    /// What runs on a node and what it has counted, told and done.
    fn on_status(&mut self, name: &str, status: FromNode) {
        let FromNode::Status {
            tables,
            sources,
            refused_total,
            running,
            functions,
            epoch_max,
            losses_told,
            entities_told,
            ordered,
            ..
        } = status
        else {
            return;
        };
        let mut sources_changed = false;
        if let Some(node) = self.nodes.get_mut(name) {
            sources_changed = !Node::runs(&sources).eq(Node::runs(&node.sources));
            node.tables = tables;
            node.sources = sources;
            node.refused_total = refused_total;
        }
        self.next_epoch = self.next_epoch.max(epoch_max.saturating_add(1));
        self.told_losses(name, losses_told);
        self.told_entities(name, entities_told, None);
        if sources_changed {
            self.check_sources(name);
        }
        self.check_orders(name, &running);
        self.check_asked(name, &functions);
        self.check_ordered(name, &ordered);
    }

    fn on_engine_died(&mut self, name: &str, feed: Option<QueryId>) -> Outcome {
        let node = self.nodes.get_mut(name);
        if node.is_some_and(|node| !std::mem::replace(&mut node.engine_died, true)) {
            return Outcome::EngineDied { feed };
        }
        Outcome::Nothing
    }

    fn on_failed(
        &mut self,
        name: &str,
        (feed, epoch): (QueryId, Epoch),
        message: String,
    ) -> Outcome {
        let entry = self.feeds.get(&feed).and_then(|feed| feed.nodes.get(name));
        if entry.is_some_and(|progress| progress.epoch == epoch) {
            return Outcome::QueryFailed { queries: self.failed(feed), message };
        }
        BusCounters::count(&self.counters.late_total);
        Outcome::Nothing
    }

    fn on_progress(
        &mut self,
        name: &str,
        feed: QueryId,
        covered: Covered,
        samples_unix_ns: &[i64],
    ) {
        let tick_ms = covered.tick_ms;
        let Some(entry) = self.feeds.get_mut(&feed) else { return };
        if let Some(progress) = entry.nodes.get_mut(name) {
            if progress.tick_ms == 0 {
                // Its history comes with its first tick; frontiers before do not have it.
                self.book.feed_owes(feed, tick_ms.saturating_sub(1));
            }
            progress.tick_ms = progress.tick_ms.max(tick_ms);
        }
        self.book.covers(feed, name, covered);
        self.book.note_samples(entry.readers.iter().copied(), tick_ms, samples_unix_ns);
        self.close(feed);
    }

    /// Whether a message is the next of its stream. A gap breaks the feed.
    fn fits(&mut self, name: &str, feed: QueryId, place: Place) -> bool {
        let entry = self.feeds.get_mut(&feed).filter(|feed| feed.broken_ms.is_none());
        let Some(progress) = entry.and_then(|feed| feed.nodes.get_mut(name)) else {
            BusCounters::count(&self.counters.late_total);
            return false;
        };
        if place.epoch < progress.epoch {
            BusCounters::count(&self.counters.late_total);
            return false;
        }
        if place.epoch == progress.epoch && place.sequence < progress.next_sequence {
            BusCounters::count(&self.counters.repeated_total);
            return false;
        }
        if place.epoch == progress.epoch && place.sequence == progress.next_sequence {
            progress.next_sequence += 1;
            return true;
        }
        let missed = place.sequence.saturating_sub(progress.next_sequence);
        info!(node = name, feed, missed, "messages were lost on the way: the feed is set up anew");
        self.break_feed(feed);
        false
    }

    pub(super) fn break_feed(&mut self, id: QueryId) {
        let now_ms = self.mono_ms.unwrap_or(0);
        let Some(feed) = self.feeds.get_mut(&id).filter(|feed| feed.broken_ms.is_none()) else {
            return;
        };
        feed.broken_ms = Some(now_ms);
        self.book.feed_broke(id);
        self.close_to_readers(id);
        BusCounters::count(&self.counters.broken_total);
    }

    /// Queries that read a broken feed and whose time has come: each is to be removed and installed
    /// again under another number. Each is given once.
    pub fn take_resyncs(&mut self) -> Vec<QueryId> {
        let now_ms = self.mono_ms.unwrap_or(0);
        let is_due = |broken_ms: &u64| self.pace.is_due(*broken_ms, now_ms);
        let due = self.feeds.values().filter(|feed| feed.broken_ms.as_ref().is_some_and(is_due));
        let mut readers: Vec<QueryId> = due.flat_map(|feed| feed.readers.iter().copied()).collect();
        readers.sort_unstable();
        readers.dedup();
        if !readers.is_empty() {
            self.pace.resynced(now_ms);
            BusCounters::add(&self.counters.resynced_total, readers.len() as u64);
        }
        readers
    }
}

/// Lives of nodes.
impl Coordinator {
    /// Somebody speaks who is not known, or not in this life.
    fn introduce(&mut self, name: &str, link: &NodeLink) {
        BusCounters::count(&self.counters.stranger_total);
        let now_ms = self.mono_ms.unwrap_or(0);
        let told_ms = self.strangers.get(name);
        if told_ms.is_some_and(|told_ms| now_ms.saturating_sub(*told_ms) < INTRODUCE_EVERY_MS) {
            return;
        }
        if self.strangers.len() >= STRANGERS_MAX {
            self.strangers.clear();
        }
        self.strangers.insert(name.to_string(), now_ms);
        if let Err(error) = link.send(&ToNode::Introduce) {
            warn!(node = name, %error, "could not ask a node who it is");
        }
    }

    fn on_register(
        &mut self,
        name: &str,
        link: &NodeLink,
        life: Life,
        (info, sources, epoch_max): (NodeInfo, Vec<SourceStatus>, Epoch),
        now_ms: u64,
    ) {
        let known = self.nodes.get(name).map(|node| node.life);
        if known.is_some_and(|known| life < known) {
            BusCounters::count(&self.counters.former_life_total);
            return;
        }
        if known == Some(life) {
            BusCounters::count(&self.counters.repeated_total);
            return;
        }
        self.strangers.remove(name);
        self.next_epoch = self.next_epoch.max(epoch_max.saturating_add(1));
        let former = self.nodes.remove(name);
        self.break_what_may_repeat(name, life.incarnation);
        let goes_on = known.is_some_and(|known| known.incarnation == life.incarnation);
        self.book.node_came(name, life.incarnation, goes_on);
        let (tables, orders) =
            former.map(|former| (former.tables, former.orders)).unwrap_or_default();
        let node = Node {
            info,
            sources,
            tables,
            orders,
            refused_total: Vec::new(),
            last_heard_ms: now_ms,
            silent_ms: 0,
            lagging: false,
            heard: true,
            life,
            losses_asked_ms: None,
            engine_died: false,
            answers: std::collections::BTreeMap::new(),
            link: link.clone(),
        };
        self.nodes.insert(name.to_string(), node);
        // Before anything is installed on it: both are here before its first progress.
        self.ask_for_losses(name);
        self.entities_came(name);
        self.ask_agent(name);
        let feeds: Vec<QueryId> = self.feeds.keys().copied().collect();
        for feed in feeds {
            if let Err(error) = self.install_on(name, feed) {
                warn!(node = name, feed, %error, "could not install a feed on a new node");
            }
        }
    }

    /// Orders that were lost are given again; what runs without an order is removed.
    fn check_orders(&mut self, name: &str, running: &[(QueryId, Epoch)]) {
        let now_ms = self.mono_ms.unwrap_or(0);
        let Some(node) = self.nodes.get(name) else { return };
        let ordered = |feed: &QueryId| Some(self.feeds.get(feed)?.nodes.get(name)?.epoch);
        for &(query, epoch) in running {
            if ordered(&query).is_none_or(|ordered| epoch > ordered) {
                drop(node.link.send(&ToNode::Remove { query, epoch }));
            }
        }
        let lacks = |id: QueryId, epoch: Epoch| !running.contains(&(id, epoch));
        let missing = self.feeds.iter().filter_map(|(&id, feed)| {
            let progress = feed.nodes.get(name)?;
            let overdue = now_ms.saturating_sub(progress.ordered_ms) >= ORDER_WAIT_MS;
            let missing = overdue && feed.broken_ms.is_none() && lacks(id, progress.epoch);
            missing.then_some((id, progress.next_sequence))
        });
        let missing: Vec<(QueryId, u64)> = missing.collect();
        for (feed, next_sequence) in missing {
            BusCounters::count(&self.counters.reordered_total);
            if next_sequence > 0 {
                // It ran, and does not any more: what it sent is in windows already.
                self.break_feed(feed);
            } else if let Err(error) = self.install_on(name, feed) {
                warn!(node = name, feed, %error, "could not order a feed again");
            }
        }
    }
}

/// Losses.
impl Coordinator {
    /// Asks for everything: what was told before is not known here.
    fn ask_for_losses(&mut self, name: &str) {
        let now_ms = self.mono_ms.unwrap_or(0);
        let Some(node) = self.nodes.get_mut(name) else { return };
        let waits = |asked_ms: u64| now_ms.saturating_sub(asked_ms) < LOSSES_WAIT_MS;
        if node.losses_asked_ms.is_some_and(waits) {
            return;
        }
        match node.link.send(&ToNode::TellLosses) {
            Ok(()) => node.losses_asked_ms = Some(now_ms),
            Err(error) => warn!(node = name, %error, "could not ask for losses"),
        }
    }

    fn told_losses(&mut self, name: &str, told: u64) {
        if self.book.told(name, told) {
            self.ask_for_losses(name);
        }
    }

    fn on_losses(&mut self, name: &str, sequence: u64, whole: bool, losses: &[Loss]) {
        if whole && let Some(node) = self.nodes.get_mut(name) {
            node.losses_asked_ms = None;
        }
        if self.book.note_losses(name, sequence, whole, losses) {
            self.ask_for_losses(name);
        }
    }
}
