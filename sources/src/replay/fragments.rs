//! Datagrams of IP that were sent in parts, put together again: bounded in number, bytes and time.
//!
//! Where parts overlap the first one stands. What is not whole is dropped and counted.

use std::collections::{BTreeMap, VecDeque};

use hashbrown::HashMap;

use super::packet::{Fragment, FragmentKey};

/// Datagrams that are put together at a time; beyond it the oldest is dropped.
const DATAGRAMS_MAX: usize = 1_024;
/// Longest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// Parts of one; the smallest that links promise to carry gives a hundred.
const PARTS_MAX: usize = 1_024;
/// Bytes of all parts that wait; a part that is there twice, or overlaps, counts as it is.
const HELD_BYTES_MAX: usize = 64 << 20;
/// And of those of one datagram.
const PARTS_BYTES_MAX: usize = 2 * DATAGRAM_BYTES_MAX;
/// A host gives up after so long.
const WITHIN_NS: i64 = 30_000_000_000;

#[derive(Debug, Default)]
struct Partial {
    parts: BTreeMap<usize, Vec<u8>>,
    bytes: usize,
    /// Known with the last part.
    total: Option<usize>,
    number: u64,
}

#[derive(Debug, Default)]
pub(super) struct Fragments {
    partial: HashMap<FragmentKey, Partial, foldhash::fast::RandomState>,
    order: VecDeque<(FragmentKey, u64, i64)>,
    next_number: u64,
    held_bytes: usize,
    /// Datagrams of which parts never came, or were cut.
    pub(super) dropped: u64,
}

impl Fragments {
    /// Takes a part. The datagram, if it is whole now.
    pub(super) fn take(&mut self, part: &Fragment<'_>, now_unix_ns: i64) -> Option<Vec<u8>> {
        self.forget_old(now_unix_ns);
        let end = part.at + part.bytes.bytes.len();
        let is_cut = part.bytes.bytes.len() < part.bytes.wire_bytes;
        if is_cut || end > DATAGRAM_BYTES_MAX || part.bytes.bytes.is_empty() {
            self.forget(&part.key);
            return None;
        }
        if !self.partial.contains_key(&part.key) {
            self.order.push_back((part.key, self.next_number, now_unix_ns));
            let partial = Partial { number: self.next_number, ..Partial::default() };
            self.partial.insert(part.key, partial);
            self.next_number += 1;
        }
        let partial = self.partial.get_mut(&part.key)?;
        if part.is_last {
            partial.total = partial.total.or(Some(end));
        }
        let before = partial.bytes;
        partial.add(part.at, part.bytes.bytes);
        self.held_bytes += partial.bytes - before;
        if partial.parts.len() > PARTS_MAX || partial.bytes > PARTS_BYTES_MAX {
            self.forget(&part.key);
            return None;
        }
        let whole = partial.whole();
        if whole.is_some() {
            self.remove(&part.key);
        }
        whole
    }

    fn remove(&mut self, key: &FragmentKey) {
        self.held_bytes -= self.partial.remove(key).map_or(0, |partial| partial.bytes);
    }

    fn forget(&mut self, key: &FragmentKey) {
        self.remove(key);
        self.dropped += 1;
    }

    fn is_waiting(&self, key: &FragmentKey, number: u64) -> bool {
        self.partial.get(key).is_some_and(|partial| partial.number == number)
    }

    fn forget_old(&mut self, now_unix_ns: i64) {
        while let Some((key, number, since_ns)) = self.order.front().copied() {
            let is_there = self.is_waiting(&key, number);
            let is_old = now_unix_ns.saturating_sub(since_ns) > WITHIN_NS;
            let has_room = self.partial.len() <= DATAGRAMS_MAX && self.held_bytes <= HELD_BYTES_MAX;
            if is_there && !is_old && has_room {
                break;
            }
            if is_there {
                self.forget(&key);
            }
            self.order.pop_front();
        }
        // Those that became whole behind one that does not.
        if self.order.len() > 4 * DATAGRAMS_MAX {
            let mut order = std::mem::take(&mut self.order);
            order.retain(|(key, number, _)| self.is_waiting(key, *number));
            self.order = order;
        }
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    #[cfg(test)]
    pub(super) fn waiting_notes(&self) -> usize {
        self.order.len()
    }

    /// No more parts come.
    pub(super) fn finish(&mut self) {
        self.dropped += self.partial.len() as u64;
        self.partial.clear();
        self.order.clear();
        self.held_bytes = 0;
    }
}

impl Partial {
    /// Of two that begin at one place the first stands.
    fn add(&mut self, at: usize, bytes: &[u8]) {
        if let std::collections::btree_map::Entry::Vacant(entry) = self.parts.entry(at) {
            entry.insert(bytes.to_vec());
            self.bytes += bytes.len();
        }
    }

    fn whole(&self) -> Option<Vec<u8>> {
        let total = self.total?;
        let mut reached = 0;
        for (at, part) in &self.parts {
            if *at > reached {
                return None;
            }
            reached = reached.max(at + part.len());
        }
        if reached < total {
            return None;
        }
        let mut whole = Vec::with_capacity(total);
        for (at, part) in &self.parts {
            // What is there already came first, or begins earlier.
            let known = whole.len().saturating_sub(*at);
            whole.extend_from_slice(part.get(known..).unwrap_or_default());
        }
        whole.truncate(total);
        Some(whole)
    }
}
