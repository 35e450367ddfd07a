//! The cluster part's links to nodes, without a server or a clock: who has a session, who is let in, where
//! frames go and what is to be said next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::end::{Bounds, End, Over};
use super::frame::{Body, Frame};
use super::hello::{Hello, Refused, token};
use super::stats::BusStats;
use super::{CLUSTER_DEFLATE_FROM_BYTES, settle, settle_over};
use crate::bus::{BusError, Carrier, ClusterPort, Unapplied};

/// Nodes of one cluster. A thousand is what it is measured with.
pub(super) const NODES_MAX: usize = 4_096;
/// What the cluster part keeps for one node that cannot be reached: orders.
const KEPT_BYTES_MAX: usize = 16 << 20;
/// Once so much waits here, of all nodes together, to be done or to become whole, nothing more is taken: whoever
/// sends keeps it. One message may go beyond it, and one more that makes room (see [`Links::has_room`]); so no more
/// than this and three messages of the largest kind are ever here.
const ROOM_BYTES_MAX: usize = 128 << 20;
/// A node that was heard within so much is alive: nobody else has its name.
const ALIVE_MS: u64 = 2_000;
/// Whoever speaks in a session that is not known is told so no more often than this.
const UNKNOWN_EVERY_MS: u64 = 250;

struct Link {
    name: String,
    incarnation: u64,
    asid: u32,
    end: Option<End>,
    received: mpsc::Sender<Vec<u8>>,
    /// Over all sessions: a new one changes nothing of them.
    waiting: Unapplied,
    heard_ms: u64,
    left: bool,
}

impl Link {
    fn is_alive(&self, now_ms: u64) -> bool {
        !self.left && now_ms.saturating_sub(self.heard_ms) < ALIVE_MS
    }
}

/// A node that was let in.
pub(super) struct LetIn {
    pub(super) session: u64,
    /// It had no link: this is where its messages go, and what counts those that were done.
    pub(super) new: Option<(mpsc::Receiver<Vec<u8>>, Arc<AtomicU64>)>,
}

#[derive(Default)]
pub(super) struct Links {
    /// By their part of a subject.
    links: BTreeMap<String, Link>,
    /// Of messages that were handed on and are not done.
    waiting_bytes: usize,
    /// Of messages that are not whole.
    partial_bytes: usize,
    /// Who goes on with a message though there is no room.
    beyond: Option<String>,
    last_session: u64,
    /// Sessions that are not known, by whose they are said to be; and when that was told last.
    unknown: BTreeMap<String, (u64, u64)>,
    /// Of those, who is to be told.
    to_tell: BTreeSet<String>,
}

/// Links, shared by whoever receives and all that send. Whoever panicked left whole values.
pub(super) fn lock(links: &Mutex<Links>) -> MutexGuard<'_, Links> {
    links.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The way to one node.
pub(super) struct LinkCarrier {
    pub(super) links: Arc<Mutex<Links>>,
    pub(super) stats: Arc<BusStats>,
    pub(super) token: String,
    pub(super) now_ms: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Called when there is something for the node.
    pub(super) given: Box<dyn Fn(&str) + Send + Sync>,
}

impl Carrier for LinkCarrier {
    fn carry(&self, bytes: Vec<u8>) -> Result<(), BusError> {
        lock(&self.links).give(&self.token, &bytes, (self.now_ms)(), &self.stats)?;
        (self.given)(&self.token);
        Ok(())
    }
}

impl LinkCarrier {
    /// The port over this way and what comes from the node.
    pub(super) fn port(
        self,
        (inbox, applied): (mpsc::Receiver<Vec<u8>>, Arc<AtomicU64>),
    ) -> ClusterPort {
        ClusterPort::over(Arc::new(self), inbox, applied)
    }
}

impl Links {
    /// Who says hello is let in, in place of its own former life, or refused.
    pub(super) fn hello(
        &mut self,
        hello: &Hello,
        part_bytes_max: usize,
        (now_unix_ns, now_ms): (u64, u64),
        stats: &BusStats,
    ) -> Result<LetIn, Refused> {
        let token = token(&hello.name);
        self.may_come(hello, &token, now_ms)?;
        self.close(&token, stats);
        self.last_session = now_unix_ns.max(self.last_session + 1);
        let bounds = Bounds {
            kept_bytes_max: KEPT_BYTES_MAX,
            part_bytes_max,
            deflate_from_bytes: CLUSTER_DEFLATE_FROM_BYTES,
        };
        let mut new = None;
        let link = self.links.entry(token.clone()).or_insert_with(|| {
            let (received, inbox) = mpsc::channel(crate::bus::FROM_NODE_MESSAGES_MAX);
            let applied = Arc::<AtomicU64>::default();
            new = Some((inbox, Arc::clone(&applied)));
            Link {
                name: hello.name.clone(),
                incarnation: hello.incarnation,
                asid: hello.asid,
                end: None,
                received,
                waiting: Unapplied::new(applied),
                heard_ms: now_ms,
                left: false,
            }
        });
        link.end = Some(End::new(self.last_session, bounds, link.waiting.handed_on(), now_ms));
        (link.incarnation, link.asid, link.left) = (hello.incarnation, hello.asid, false);
        link.heard_ms = now_ms;
        self.unknown.remove(&token);
        BusStats::count(&stats.sessions_total, 1);
        Ok(LetIn { session: self.last_session, new })
    }

    /// A name, and its short id, belong to one live node.
    fn may_come(&self, hello: &Hello, token: &str, now_ms: u64) -> Result<(), Refused> {
        if let Some(refused) = hello.refusal() {
            return Err(refused);
        }
        let known = self.links.get(token);
        let other = known.filter(|link| link.incarnation != hello.incarnation);
        if other.is_some_and(|link| link.is_alive(now_ms)) {
            let message = format!(
                "a node named {} is alive already: give this one another --name, or stop the other",
                hello.name
            );
            return Err(Refused::new("name_in_use", message));
        }
        let has_its_asid = |link: &&Link| {
            link.asid == hello.asid && link.name != hello.name && link.is_alive(now_ms)
        };
        if let Some(other) = self.links.values().find(has_its_asid) {
            let message = format!(
                "the short id {} of the name {} is that of the node {}: give one of them another --name",
                hello.asid, hello.name, other.name
            );
            return Err(Refused::new("asid_in_use", message));
        }
        if known.is_none() && self.links.len() >= NODES_MAX {
            let message = format!("{NODES_MAX} nodes are here, and more are not taken");
            return Err(Refused::new("too_many_nodes", message));
        }
        Ok(())
    }

    /// A frame of a node.
    pub(super) fn on_frame(&mut self, token: &str, bytes: &[u8], now_ms: u64, stats: &BusStats) {
        BusStats::count(&stats.bytes_received_total, bytes.len() as u64);
        let Some(frame) = Frame::decode(bytes) else {
            return BusStats::count(&stats.strange_frames_total, 1);
        };
        let is_its =
            |link: &&mut Link| link.end.as_ref().is_some_and(|end| end.session == frame.session);
        let Some(link) = self.links.get_mut(token).filter(is_its) else {
            BusStats::count(&stats.strange_frames_total, 1);
            return self.not_known(token, &frame, now_ms);
        };
        link.heard_ms = now_ms;
        if frame.body == Body::Bye {
            link.left = true;
            self.close(token, stats);
            return;
        }
        let has_room =
            !matches!(frame.body, Body::Data { .. }) || self.has_room(token, now_ms, stats);
        let Some(Link { end: Some(end), received, waiting, .. }) = self.links.get_mut(token) else {
            return;
        };
        self.partial_bytes -= end.partial_bytes();
        let taken = end.receive(&frame, now_ms, has_room);
        self.partial_bytes += end.partial_bytes();
        settle(stats, end);
        match taken {
            Ok(None) => {}
            Ok(Some(message)) => {
                self.beyond.take_if(|beyond| beyond == token);
                let bytes = message.len();
                // There was room for one before, and nobody else puts any in. Without its reader it is for nobody.
                if received.try_send(message).is_ok() {
                    waiting.put(bytes);
                    self.waiting_bytes += bytes;
                }
            }
            Err(over) => self.over(token, over, stats),
        }
    }

    /// Whether a frame of a message may be taken. Where all the room is that of messages which are not whole, one
    /// of them goes on: nothing else would ever make room.
    fn has_room(&mut self, token: &str, now_ms: u64, stats: &BusStats) -> bool {
        let Some(link) = self.links.get_mut(token) else { return false };
        self.waiting_bytes -= link.waiting.take_done();
        if link.received.capacity() == 0 {
            return false;
        }
        if self.waiting_bytes + self.partial_bytes < ROOM_BYTES_MAX {
            return true;
        }
        self.take_done();
        if self.waiting_bytes + self.partial_bytes < ROOM_BYTES_MAX {
            return true;
        }
        if self.waiting_bytes > 0 {
            return false;
        }
        if let Some(beyond) = self.beyond.take_if(|beyond| beyond != token) {
            if self.links.get(&beyond).is_some_and(|link| link.is_alive(now_ms)) {
                self.beyond = Some(beyond);
                return false;
            }
            // It began and is silent: its place is another's, and it begins another session when it is back.
            self.close(&beyond, stats);
        }
        self.beyond = Some(token.to_string());
        true
    }

    fn take_done(&mut self) {
        for link in self.links.values_mut() {
            self.waiting_bytes -= link.waiting.take_done();
        }
    }

    fn not_known(&mut self, token: &str, frame: &Frame<'_>, now_ms: u64) {
        if frame.body == Body::Bye || frame.body == Body::Unknown {
            return;
        }
        if self.unknown.len() >= NODES_MAX {
            self.unknown.clear();
            self.to_tell.clear();
        }
        let (session, told_ms) = self.unknown.entry(token.to_string()).or_default();
        *session = frame.session;
        if *told_ms == 0 || now_ms.saturating_sub(*told_ms) >= UNKNOWN_EVERY_MS {
            *told_ms = now_ms.max(1);
            self.to_tell.insert(token.to_string());
        }
    }

    /// Who is to be told that its session is not known, each once.
    pub(super) fn take_unknown(&mut self) -> Vec<(String, Vec<u8>)> {
        let told = std::mem::take(&mut self.to_tell).into_iter().filter_map(|token| {
            let &(session, _) = self.unknown.get(&token)?;
            Some((token, Frame { session, attempt: 0, body: Body::Unknown }.encode()))
        });
        told.collect()
    }

    fn over(&mut self, token: &str, over: Over, stats: &BusStats) {
        let name = self.links.get(token).map(|link| link.name.clone()).unwrap_or_default();
        tracing::warn!(node = name, %over, "the session with a node is over; another one begins");
        BusStats::count(&stats.sessions_over_total, 1);
        self.close(token, stats);
    }

    /// Ends a session. What was handed on is done all the same, and counts as long as it waits.
    fn close(&mut self, token: &str, stats: &BusStats) {
        self.beyond.take_if(|beyond| beyond == token);
        if let Some(end) = self.links.get_mut(token).and_then(|link| link.end.take()) {
            self.partial_bytes -= end.partial_bytes();
            settle_over(stats, end);
        }
    }

    /// A message for a node. Without a session it is dropped: whatever it orders is ordered again.
    fn give(
        &mut self,
        token: &str,
        message: &[u8],
        now_ms: u64,
        stats: &BusStats,
    ) -> Result<(), BusError> {
        let Some(end) = self.links.get_mut(token).and_then(|link| link.end.as_mut()) else {
            BusStats::count(&stats.unsent_total, 1);
            return Ok(());
        };
        match end.give(message) {
            Ok(()) => Ok(()),
            Err(Over::Full { max }) if end.is_heard(now_ms) => {
                Err(BusError::FullBytes { max_bytes: max })
            }
            Err(over) => {
                BusStats::count(&stats.unsent_total, 1);
                self.over(token, over, stats);
                Ok(())
            }
        }
    }

    /// The next bytes for a node.
    pub(super) fn next_frame(&mut self, token: &str, now_ms: u64) -> Option<Vec<u8>> {
        let link = self.links.get_mut(token)?;
        self.waiting_bytes -= link.waiting.take_done();
        let applied = link.waiting.done();
        link.end.as_mut()?.next_frame(applied, now_ms)
    }

    /// All nodes' parts of subjects.
    pub(super) fn tokens(&self) -> Vec<String> {
        self.links.keys().cloned().collect()
    }

    /// Another server takes smaller frames: all sessions begin anew.
    pub(super) fn close_all(&mut self, stats: &BusStats) {
        self.tokens().iter().for_each(|token| self.close(token, stats));
    }

    /// Links that nobody was heard on for so long are no more, once nothing of them waits.
    pub(super) fn forget(&mut self, silent_ms: u64, now_ms: u64, stats: &BusStats) {
        self.take_done();
        let is_over = |link: &Link| {
            now_ms.saturating_sub(link.heard_ms) > silent_ms && link.waiting.is_empty()
        };
        let over = self.links.iter().filter(|(_, link)| is_over(link));
        let over: Vec<String> = over.map(|(token, _)| token.clone()).collect();
        for token in over {
            self.close(&token, stats);
            self.links.remove(&token);
        }
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
