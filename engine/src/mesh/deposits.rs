//! Changes that a process that follows has read from the bus: they wait here until the first process, which is told
//! of them by number, says where they belong or that nobody wants them. They are of one generation. Who reads the
//! bus and what is told is not decided here.
//!
//! The first process hears what a node says in the order in which it was read: whoever asks for one of a node's will
//! not ask for those before it any more. That it does not ask at all is rare (it dies within a message), and may not
//! take the room for ever: what is too old makes room, and whoever asks for it then is told that it is not there.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_types::split::Change;
use weir_types::{Clock, WallClock};

use crate::weigh;

/// Above this there is no room: whoever reads waits. One message may go beyond it.
const BYTES_MAX: usize = 64 << 20;
/// Each costs so much beside its changes, of which it may have none.
const OVERHEAD_BYTES: usize = 256;
/// Where there is no room, nobody is believed to ask for what has waited for so long.
const OLD_MS: u64 = 60_000;

struct Waiting {
    number: u64,
    changes: Vec<Change>,
    bytes: usize,
    since_ms: u64,
}

#[derive(Default)]
struct Held {
    /// False while no generation stands: then nobody will ask for them.
    is_open: bool,
    /// Of each node, by number.
    of_nodes: BTreeMap<Arc<str>, VecDeque<Waiting>>,
    /// Whose they are.
    nodes: BTreeMap<u64, Arc<str>>,
    bytes: usize,
    next: u64,
}

impl Held {
    /// These, and none of the same node's before them.
    fn take(&mut self, number: u64) -> (Option<Waiting>, Vec<Waiting>) {
        let (mut wanted, mut passed) = (None, Vec::new());
        let Some(node) = self.nodes.remove(&number) else { return (wanted, passed) };
        let Some(of_node) = self.of_nodes.get_mut(&node) else { return (wanted, passed) };
        while of_node.front().is_some_and(|first| first.number <= number)
            && let Some(first) = of_node.pop_front()
        {
            self.bytes -= first.bytes;
            if first.number == number {
                wanted = Some(first);
            } else {
                self.nodes.remove(&first.number);
                passed.push(first);
            }
        }
        if of_node.is_empty() {
            self.of_nodes.remove(&node);
        }
        (wanted, passed)
    }

    /// Whether there is room for so much, now or without what is too old.
    fn has_room(&mut self, bytes: usize, now_ms: u64) -> bool {
        while self.bytes > 0 && self.bytes + bytes > BYTES_MAX {
            let oldest = self.nodes.first_key_value();
            let first = oldest.and_then(|(_, node)| self.of_nodes.get(node)?.front());
            let Some(first) = first.filter(|of| now_ms.saturating_sub(of.since_ms) > OLD_MS) else {
                return false;
            };
            tracing::warn!(number = first.number, "nobody has asked for changes of a node");
            let number = first.number;
            drop(self.take(number));
        }
        true
    }
}

pub struct Deposits {
    held: Mutex<Held>,
    read_bytes: AtomicU64,
}

impl Deposits {
    /// Numbers are none that a former life of this process has given: the first one may still know those.
    pub(super) fn new() -> Deposits {
        let next = RandomState::new().build_hasher().finish() >> 1;
        let held = Mutex::new(Held { next, ..Held::default() });
        Deposits { held, read_bytes: AtomicU64::new(0) }
    }

    /// Whoever panicked left whole values.
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of changes of a node.
    ///
    /// # Errors
    /// There is no room now: they are given back.
    pub fn put(&self, node: &str, changes: Vec<Change>) -> Result<u64, Vec<Change>> {
        self.put_at(node, changes, WallClock.monotonic_ns() / 1_000_000)
    }

    fn put_at(&self, node: &str, changes: Vec<Change>, now_ms: u64) -> Result<u64, Vec<Change>> {
        let bytes = weigh::changes(&changes);
        let mut held = self.lock();
        if !held.has_room(bytes + OVERHEAD_BYTES, now_ms) {
            return Err(changes);
        }
        let number = held.next;
        held.next += 1;
        self.read_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if held.is_open {
            let bytes = bytes + OVERHEAD_BYTES;
            held.bytes += bytes;
            let known = held.of_nodes.get_key_value(node).map(|(node, _)| Arc::clone(node));
            let node = known.unwrap_or_else(|| Arc::from(node));
            held.nodes.insert(number, Arc::clone(&node));
            let waiting = Waiting { number, changes, bytes, since_ms: now_ms };
            held.of_nodes.entry(node).or_default().push_back(waiting);
        }
        Ok(number)
    }

    /// Each once. `None`: they are of a generation that is over, or too old.
    pub(crate) fn take(&self, number: u64) -> Option<Vec<Change>> {
        let (wanted, passed) = self.lock().take(number);
        drop(passed);
        wanted.map(|wanted| wanted.changes)
    }

    /// What comes from now on is of the next generation.
    pub(crate) fn open(&self) {
        self.begin(true);
    }

    /// The generation is over.
    pub(crate) fn close(&self) {
        self.begin(false);
    }

    fn begin(&self, is_open: bool) {
        let mut held = self.lock();
        let next = held.next;
        let former = std::mem::replace(&mut *held, Held { is_open, next, ..Held::default() });
        drop(held);
        drop(former);
    }

    /// Bytes that were read, in all.
    pub(crate) fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use weir_types::PackedRow;

    use super::*;

    fn changes(bytes: usize) -> Vec<Change> {
        vec![Change::Row { row: PackedRow(vec![0; bytes]), pane: 0, diff: 1 }]
    }

    /// Each is taken once, and none of the same node's before it, which nobody will ask for any more; there is room
    /// for one whatever its size and then for no more before it is taken; what is of a generation that is over is not
    /// there any more, and what comes before the next is not kept.
    #[test]
    fn they_wait_and_are_bounded() {
        let deposits = Deposits::new();
        let put = |node, bytes| deposits.put(node, changes(bytes)).unwrap();
        let lost = put("a", 8);
        assert_eq!(deposits.take(lost), None);
        deposits.open();
        let (first, second, third, other) = (put("a", 8), put("a", 9), put("a", 10), put("b", 11));
        assert_eq!(deposits.take(second), Some(changes(9)));
        assert_eq!((deposits.take(second), deposits.take(first)), (None, None));
        assert_eq!(deposits.take(other), Some(changes(11)));
        assert_eq!(deposits.take(third), Some(changes(10)));
        let large = put("a", BYTES_MAX + 1);
        assert_eq!(deposits.put("b", changes(8)), Err(changes(8)));
        assert!(deposits.take(large).is_some());
        let former = put("a", 8);
        deposits.open();
        assert_eq!(deposits.take(former), None);
        let last = put("a", 8);
        deposits.close();
        assert_eq!(deposits.take(last), None);
        assert!(deposits.read_bytes() > BYTES_MAX as u64);
        let held = deposits.lock();
        assert_eq!((held.bytes, held.nodes.len(), held.of_nodes.len()), (0, 0, 0));
    }

    /// Messages without changes take room as well; what nobody asks for makes room once it is old, the oldest first
    /// and no more than is needed; and another life of the process gives other numbers.
    #[test]
    fn what_nobody_asks_for_takes_no_room_for_ever() {
        let deposits = Deposits::new();
        deposits.open();
        let put = |node, changes, now_ms| deposits.put_at(node, changes, now_ms);
        let first = put("a", Vec::new(), 0).unwrap();
        let mut last = first;
        while let Ok(number) = put("b", Vec::new(), 1) {
            last = number;
        }
        assert_eq!(last - first + 1, (BYTES_MAX / OVERHEAD_BYTES) as u64);
        assert!(put("c", Vec::new(), OLD_MS).is_err());
        let after = put("c", Vec::new(), OLD_MS + 1).unwrap();
        assert!(put("c", Vec::new(), OLD_MS + 1).is_err());
        assert_eq!(deposits.take(first), None);
        assert_eq!(deposits.take(first + 1), Some(Vec::new()));
        assert_eq!(deposits.take(after), Some(Vec::new()));
        assert_eq!(deposits.take(last), Some(Vec::new()));
        assert_eq!(deposits.lock().bytes, 0);
        let another = Deposits::new().put("a", Vec::new()).unwrap();
        assert!(another.abs_diff(first) > 1 << 20);
    }
}
