//! Who is let in, what waits, and who is told what, without a server or a clock.

use std::sync::atomic::Ordering;

use super::*;
use crate::nats::frame::MORE;

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
    for now_ms in 0..1_100 {
        links.on_frame("x", &ping(5), now_ms, &stats);
    }
    let told = links.take_unknown();
    let frame = Frame { session: 5, attempt: 0, body: Body::Unknown };
    assert_eq!(told, [("x".to_string(), frame.encode())]);
    links.on_frame("x", &ping(5), 1_101, &stats);
    assert!(links.take_unknown().is_empty());
    links.on_frame("x", &ping(5), 1_300, &stats);
    assert_eq!(links.take_unknown().len(), 1);
    links.give("x", b"order", 1_300, &stats).unwrap();
    assert_eq!(stats.unsent_total.load(Ordering::Relaxed), 1);
    for number in 0..2 * NODES_MAX {
        links.on_frame(&format!("x{number}"), &ping(5), 2_000, &stats);
    }
    assert!(links.unknown.len() <= NODES_MAX && links.to_tell.len() <= NODES_MAX);
}

/// A short id belongs to one live node whoever had it before: a dead one of another name does not hide the live
/// one. Catches a search that looks at the first in the order of names only.
#[test]
fn a_dead_node_hides_no_live_one() {
    let mut links = Links::default();
    assert!(join(&mut links, &hello("a", 1, 7), 10_000).is_ok());
    assert!(join(&mut links, &hello("b", 2, 7), 20_000).is_ok(), "its former owner is dead");
    assert_eq!(join(&mut links, &hello("c", 3, 7), 20_100).err().unwrap(), "asid_in_use");
}

fn data(session: u64, sequence: u64, flags: u8, part: &[u8]) -> Vec<u8> {
    Frame { session, attempt: 0, body: Body::Data { sequence, flags, part } }.encode()
}

/// What waits is bounded over all nodes and all their sessions, messages that are not whole with it: beyond the
/// bound nothing is taken, a node that joins again has no more room than before, and what it had said is still
/// there to be done. Catches a reconnect that forgets what waits, and a first message that always has room.
#[test]
fn what_waits_is_bounded() {
    let (mut links, stats) = (Links::default(), BusStats::default());
    let message = vec![1; 16 << 20];
    let mut joined = join(&mut links, &hello("a", 1, 7), 1_000).ok().unwrap();
    let (mut inbox, applied) = joined.new.take().unwrap();
    for now_ms in 1_000..1_100 {
        links.on_frame("a", &data(joined.session, 0, 0, &message), now_ms, &stats);
        joined = join(&mut links, &hello("a", 1, 7), now_ms).ok().unwrap();
    }
    assert_eq!(inbox.len(), ROOM_BYTES_MAX / message.len());
    assert_eq!(links.waiting_bytes, ROOM_BYTES_MAX);
    let other = join(&mut links, &hello("b", 2, 8), 1_100).ok().unwrap();
    let mut other_inbox = other.new.unwrap().0;
    links.on_frame("b", &data(other.session, 0, 0, &message), 1_100, &stats);
    assert!(other_inbox.try_recv().is_err(), "the first of a node needs room, too");
    assert_eq!(inbox.try_recv().unwrap(), message);
    applied.fetch_add(1, Ordering::Relaxed);
    links.on_frame("b", &data(other.session, 0, 0, &message), 1_101, &stats);
    assert_eq!(other_inbox.try_recv().unwrap(), message, "what was done made room for one");
    assert_eq!(links.waiting_bytes, ROOM_BYTES_MAX);
}

/// Nodes that are in the midst of a message each.
struct Begun {
    links: Links,
    nodes: Vec<LetIn>,
    stats: BusStats,
}

impl Begun {
    fn new(nodes: usize, bytes: usize) -> Begun {
        let mut begun =
            Begun { links: Links::default(), nodes: Vec::new(), stats: BusStats::default() };
        for number in 0..nodes {
            let asid = u32::try_from(number).unwrap() + 2;
            let joined = join(&mut begun.links, &hello(&format!("n{number}"), 1, asid), 1_000);
            begun.nodes.push(joined.ok().unwrap());
            begun.say(number, (0, MORE), &vec![1; bytes], 1_000);
        }
        begun
    }

    /// A node's next part; what is whole with it is taken, and its length given.
    fn say(&mut self, number: usize, at: (u64, u8), part: &[u8], now_ms: u64) -> usize {
        let node = &mut self.nodes[number];
        let frame = data(node.session, at.0, at.1, part);
        self.links.on_frame(&format!("n{number}"), &frame, now_ms, &self.stats);
        let (inbox, _) = node.new.as_mut().unwrap();
        inbox.try_recv().map_or(0, |message| message.len())
    }

    fn done(&mut self, number: usize) {
        self.nodes[number].new.as_ref().unwrap().1.fetch_add(1, Ordering::Relaxed);
    }
}

/// Where all room is taken by messages that are not whole, one of them is finished and done, then the next:
/// nothing stands still for ever, and no two go beyond the bound at once. One that falls silent gives its place
/// up.
#[test]
fn parts_do_not_block_each_other() {
    let (part, end) = (8 << 20, [2; 100]);
    let mut all = Begun::new(ROOM_BYTES_MAX / part, part);
    assert_eq!(all.links.partial_bytes, ROOM_BYTES_MAX);
    assert_eq!(all.say(3, (1, MORE), &end, 1_001), 0);
    assert_eq!(all.links.partial_bytes, ROOM_BYTES_MAX + end.len());
    assert_eq!(all.say(4, (1, 0), &end, 1_001), 0, "one at a time");
    assert_eq!(all.say(3, (2, 0), &end, 1_002), part + 2 * end.len());
    assert_eq!(all.say(4, (1, 0), &end, 1_003), 0, "what is whole is to be done first");
    all.done(3);
    assert_eq!(all.say(4, (1, 0), &end, 1_004), part + end.len(), "there is room again");
    all.done(4);
    assert_eq!(all.say(3, (3, MORE), &vec![1; 2 * part], 1_005), 0);
    assert_eq!(all.say(5, (1, MORE), &end, 1_100), 0);
    assert_eq!(all.links.beyond.as_deref(), Some("n5"));
    assert_eq!(all.say(6, (1, 0), &end, 1_200), 0);
    assert_eq!(all.say(6, (1, 0), &end, 9_000), part + end.len(), "nobody waits for the silent");
    assert!(all.links.links["n5"].end.is_none(), "it begins anew");
}
