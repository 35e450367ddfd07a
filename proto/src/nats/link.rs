//! The cluster part's links to nodes, without a server or a clock: who has a session, who is let in, where
//! frames go and what is to be said next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::end::{Bounds, End, Over};
use super::frame::{Body, Frame};
use super::hello::{Hello, Refused, token};
use super::stats::BusStats;
use super::{CLUSTER_DEFLATE_FROM_BYTES, settle};

/// Nodes of one cluster. A thousand is what it is measured with.
pub(super) const NODES_MAX: usize = 4_096;
/// What the cluster part keeps for one node that cannot be reached: orders.
const KEPT_BYTES_MAX: usize = 16 << 20;
/// What may wait, of all nodes together, for the cluster part to do it. Whoever sends keeps the rest.
const WAITING_BYTES_MAX: usize = 256 << 20;
/// A node that was heard within so much is alive: nobody else has its name.
const ALIVE_MS: u64 = 2_000;
/// Whoever speaks in a session that is not known is told so no more often than this.
const UNKNOWN_EVERY_MS: u64 = 250;

pub(super) struct Link {
    pub(super) name: String,
    pub(super) incarnation: u64,
    pub(super) asid: u32,
    pub(super) build: String,
    pub(super) end: Option<End>,
    received: mpsc::Sender<Vec<u8>>,
    /// Messages that whoever takes them has done, over all sessions.
    applied: Arc<AtomicU64>,
    handed_on: u64,
    pub(super) heard_ms: u64,
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
    pub(super) links: BTreeMap<String, Link>,
    waiting_bytes: usize,
    last_session: u64,
    /// Sessions that are not known, by whose they are said to be; and when that was told last.
    unknown: BTreeMap<String, (u64, u64, bool)>,
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
        if let Some(refused) = hello.refusal() {
            return Err(refused);
        }
        let token = token(&hello.name);
        let known = self.links.get(&token);
        let other = known.filter(|link| link.incarnation != hello.incarnation);
        if other.is_some_and(|link| link.is_alive(now_ms)) {
            let message = format!(
                "a node named {} is alive already: give this one another --name, or stop the other",
                hello.name
            );
            return Err(Refused::new("name_in_use", message));
        }
        let same_asid = |link: &&Link| link.asid == hello.asid && link.name != hello.name;
        if let Some(other) =
            self.links.values().find(same_asid).filter(|link| link.is_alive(now_ms))
        {
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
            let (name, build) = (hello.name.clone(), String::new());
            let (incarnation, asid) = (hello.incarnation, hello.asid);
            let (end, handed_on, heard_ms, left) = (None, 0, now_ms, false);
            Link {
                name,
                incarnation,
                asid,
                build,
                end,
                received,
                applied,
                handed_on,
                heard_ms,
                left,
            }
        });
        if let Some(former) = &mut link.end {
            settle(stats, former);
            self.waiting_bytes = self.waiting_bytes.saturating_sub(former.waiting_bytes());
        }
        link.end = Some(End::new(self.last_session, bounds, link.handed_on, now_ms));
        (link.incarnation, link.asid, link.left) = (hello.incarnation, hello.asid, false);
        link.build = weir_types::text::line(&hello.build).chars().take(64).collect();
        link.heard_ms = now_ms;
        self.unknown.remove(&token);
        BusStats::count(&stats.sessions_total, 1);
        Ok(LetIn { session: self.last_session, new })
    }

    /// A frame of a node.
    pub(super) fn on_frame(&mut self, token: &str, bytes: &[u8], now_ms: u64, stats: &BusStats) {
        BusStats::count(&stats.bytes_received_total, bytes.len() as u64);
        let Some(frame) = Frame::decode(bytes) else {
            return BusStats::count(&stats.strange_frames_total, 1);
        };
        let link = self
            .links
            .get_mut(token)
            .filter(|link| link.end.as_ref().is_some_and(|end| end.session == frame.session));
        let Some(link) = link else {
            BusStats::count(&stats.strange_frames_total, 1);
            return self.not_known(token, &frame, now_ms);
        };
        link.heard_ms = now_ms;
        if frame.body == Body::Bye {
            link.left = true;
            self.close(token, stats);
            return;
        }
        let Link { end: Some(end), received, handed_on, .. } = link else { return };
        let before = end.waiting_bytes();
        let room = WAITING_BYTES_MAX.saturating_sub(self.waiting_bytes);
        let mut taken = 0;
        let mut hand_on = |message: Vec<u8>| {
            let bytes = message.len();
            // The first of a node always has room: else one of many megabytes would never have.
            let fits = taken + bytes <= room || before == 0;
            let has_room = fits && received.try_send(message).is_ok();
            *handed_on += u64::from(has_room);
            taken += bytes * usize::from(has_room);
            has_room
        };
        let done = end.receive(&frame, now_ms, &mut hand_on);
        settle(stats, end);
        self.waiting_bytes = (self.waiting_bytes + end.waiting_bytes()).saturating_sub(before);
        if let Err(over) = done {
            self.over(token, over, stats);
        }
    }

    fn not_known(&mut self, token: &str, frame: &Frame<'_>, now_ms: u64) {
        if frame.body == Body::Bye || frame.body == Body::Unknown {
            return;
        }
        if self.unknown.len() >= NODES_MAX {
            self.unknown.clear();
        }
        let entry = self.unknown.entry(token.to_string()).or_insert((frame.session, 0, true));
        let due = entry.1 == 0 || now_ms.saturating_sub(entry.1) >= UNKNOWN_EVERY_MS;
        *entry = (frame.session, entry.1, entry.2 || due);
    }

    /// Who is to be told that its session is not known, each once.
    pub(super) fn take_unknown(&mut self, now_ms: u64) -> Vec<(String, Vec<u8>)> {
        let mut told = Vec::new();
        for (token, (session, told_ms, due)) in &mut self.unknown {
            if std::mem::take(due) {
                *told_ms = now_ms.max(1);
                let body = Body::Unknown;
                let frame = Frame { session: *session, attempt: 0, body };
                told.push((token.clone(), frame.encode()));
            }
        }
        told
    }

    fn over(&mut self, token: &str, over: Over, stats: &BusStats) {
        let name = self.links.get(token).map(|link| link.name.clone()).unwrap_or_default();
        tracing::warn!(node = name, %over, "the session with a node is over; another one begins");
        BusStats::count(&stats.sessions_over_total, 1);
        self.close(token, stats);
    }

    fn close(&mut self, token: &str, stats: &BusStats) {
        if let Some(mut end) = self.links.get_mut(token).and_then(|link| link.end.take()) {
            settle(stats, &mut end);
            self.waiting_bytes = self.waiting_bytes.saturating_sub(end.waiting_bytes());
        }
    }

    /// A message for a node. Without a session it is dropped: whatever it orders is ordered again.
    pub(super) fn give(&mut self, token: &str, message: &[u8], stats: &BusStats) {
        let end = self.links.get_mut(token).and_then(|link| link.end.as_mut());
        match end.map(|end| end.give(message)) {
            Some(Ok(())) => {}
            Some(Err(over)) => self.over(token, over, stats),
            None => BusStats::count(&stats.unsent_total, 1),
        }
    }

    /// The next bytes for a node.
    pub(super) fn next_frame(&mut self, token: &str, now_ms: u64) -> Option<Vec<u8>> {
        let link = self.links.get_mut(token)?;
        let end = link.end.as_mut()?;
        let before = end.waiting_bytes();
        let frame = end.next_frame(link.applied.load(Ordering::Relaxed), now_ms);
        self.waiting_bytes = (self.waiting_bytes + end.waiting_bytes()).saturating_sub(before);
        frame
    }

    /// Another server takes smaller frames: all sessions begin anew.
    pub(super) fn close_all(&mut self, stats: &BusStats) {
        let tokens: Vec<String> = self.links.keys().cloned().collect();
        tokens.iter().for_each(|token| self.close(token, stats));
    }

    /// Links that nobody was heard on for so long are no more.
    pub(super) fn forget(&mut self, silent_ms: u64, now_ms: u64) {
        let gone = |link: &Link| now_ms.saturating_sub(link.heard_ms) > silent_ms;
        let over: Vec<String> = self
            .links
            .iter()
            .filter(|(_, link)| gone(link))
            .map(|(token, _)| token.clone())
            .collect();
        for token in over {
            if let Some(Link { end: Some(end), .. }) = self.links.remove(&token) {
                self.waiting_bytes = self.waiting_bytes.saturating_sub(end.waiting_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(name: &str, incarnation: u64, asid: u32) -> Hello {
        Hello::new(name, incarnation, asid)
    }

    fn join(links: &mut Links, hello: &Hello, now_ms: u64) -> Result<LetIn, String> {
        let stats = BusStats::default();
        links.hello(hello, 1_000, (now_ms * 1_000_000, now_ms), &stats).map_err(|no| no.code)
    }

    fn ping(session: u64) -> Vec<u8> {
        Frame { session, attempt: 0, body: Body::Ping { sent_to: 0 } }.encode()
    }

    /// A name and a short id belong to one live node: a second is refused as long as the first is heard, and let
    /// in once that is silent or has said good bye; the same life may come again at any time.
    #[test]
    fn one_live_node_a_name() {
        let (mut links, stats) = (Links::default(), BusStats::default());
        let first = join(&mut links, &hello("a.b", 1, 7), 10_000).ok().unwrap();
        assert!(first.new.is_some());
        assert_eq!(join(&mut links, &hello("a.b", 2, 7), 11_000).err().unwrap(), "name_in_use");
        assert_eq!(join(&mut links, &hello("c", 3, 7), 11_000).err().unwrap(), "asid_in_use");
        links.on_frame("a_b", &ping(first.session), 11_500, &stats);
        assert_eq!(join(&mut links, &hello("a.b", 2, 7), 12_900).err().unwrap(), "name_in_use");
        let again = join(&mut links, &hello("a.b", 1, 7), 13_000).ok().unwrap();
        assert!(again.new.is_none() && again.session > first.session);
        let second = join(&mut links, &hello("a.b", 2, 7), 15_001).ok().unwrap();
        assert!(second.new.is_none());
        let bye = Frame { session: second.session, attempt: 0, body: Body::Bye }.encode();
        links.on_frame("a_b", &bye, 15_002, &stats);
        assert!(join(&mut links, &hello("a.b", 3, 7), 15_003).is_ok());
        assert_eq!(join(&mut links, &hello("a_b", 9, 9), 15_003).err().unwrap(), "name");
    }

    /// Whoever speaks in a session that is not known is told, at most a few times a second; what is given to it
    /// meanwhile is counted and not kept.
    #[test]
    fn strangers_are_told() {
        let (mut links, stats) = (Links::default(), BusStats::default());
        for now_ms in 0..1_000 {
            links.on_frame("x", &ping(5), now_ms, &stats);
        }
        let told = links.take_unknown(1_000);
        let frame = Frame { session: 5, attempt: 0, body: Body::Unknown };
        assert_eq!(told, [("x".to_string(), frame.encode())]);
        links.on_frame("x", &ping(5), 1_001, &stats);
        assert!(links.take_unknown(1_001).is_empty());
        links.on_frame("x", &ping(5), 1_300, &stats);
        assert_eq!(links.take_unknown(1_300).len(), 1);
        links.give("x", b"order", &stats);
        assert_eq!(stats.unsent_total.load(Ordering::Relaxed), 1);
        for number in 0..2 * NODES_MAX {
            links.on_frame(&format!("x{number}"), &ping(5), 2_000, &stats);
        }
        assert!(links.unknown.len() <= NODES_MAX);
    }
}
