//! Flows by the pair of their ends: bounded in number, those not used lately go first.

use std::net::SocketAddr;

use hashbrown::HashMap;

/// Both ends of a flow, the smaller one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pair(pub(super) [SocketAddr; 2]);

impl Pair {
    /// And which of them sent.
    pub(super) fn of(from: SocketAddr, to: SocketAddr) -> (Pair, usize) {
        if from <= to { (Pair([from, to]), 0) } else { (Pair([to, from]), 1) }
    }
}

#[derive(Debug)]
struct Entry<F> {
    pair: Pair,
    flow: F,
    touched: bool,
    last_unix_ns: i64,
}

#[derive(Debug)]
pub(super) struct Table<F> {
    entries: Vec<Option<Entry<F>>>,
    free: Vec<u32>,
    by_pair: HashMap<Pair, u32, foldhash::fast::RandomState>,
    flows_max: usize,
    /// Where the search for one to evict goes on.
    hand: usize,
    /// Where the search for silent ones goes on.
    patrol: usize,
}

/// Entries that one look for silent ones goes through.
const PATROL_ENTRIES: usize = 256;

impl<F> Table<F> {
    pub(super) fn new(flows_max: usize) -> Table<F> {
        Table {
            entries: Vec::new(),
            free: Vec::new(),
            by_pair: HashMap::default(),
            flows_max,
            hand: 0,
            patrol: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_pair.len()
    }

    /// The flow between two ends, if it is known; it was used just now.
    pub(super) fn find(&mut self, pair: &Pair, now_unix_ns: i64) -> Option<u32> {
        let at = *self.by_pair.get(pair)?;
        let entry = self.entries[at as usize].as_mut()?;
        (entry.touched, entry.last_unix_ns) = (true, now_unix_ns);
        Some(at)
    }

    /// A new flow, and the one that had to go for it.
    pub(super) fn insert(&mut self, pair: Pair, flow: F, now_unix_ns: i64) -> (u32, Option<F>) {
        let gone = if self.len() >= self.flows_max { self.evict() } else { None };
        let entry = Some(Entry { pair, flow, touched: true, last_unix_ns: now_unix_ns });
        let at = match self.free.pop() {
            Some(at) => {
                self.entries[at as usize] = entry;
                at
            }
            None => {
                self.entries.push(entry);
                u32::try_from(self.entries.len() - 1).expect("flows_max is below 2³²")
            }
        };
        self.by_pair.insert(pair, at);
        (at, gone)
    }

    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut F> {
        self.entries.get_mut(at as usize)?.as_mut().map(|entry| &mut entry.flow)
    }

    pub(super) fn remove(&mut self, at: u32) -> Option<F> {
        let entry = self.entries.get_mut(at as usize)?.take()?;
        self.by_pair.remove(&entry.pair);
        self.free.push(at);
        Some(entry.flow)
    }

    /// Second chance: the first one under the hand that was not used since it came by last.
    fn evict(&mut self) -> Option<F> {
        for _ in 0..2 * self.entries.len() {
            self.hand = (self.hand + 1) % self.entries.len();
            let Some(entry) = &mut self.entries[self.hand] else { continue };
            if !std::mem::take(&mut entry.touched) {
                return self.remove(self.hand as u32);
            }
        }
        None
    }

    /// The next few that were silent for longer than they may.
    pub(super) fn silent(&mut self, now_unix_ns: i64, may_ns: impl Fn(&F) -> i64) -> Vec<F> {
        let mut gone = Vec::new();
        for _ in 0..PATROL_ENTRIES.min(self.entries.len()) {
            self.patrol = (self.patrol + 1) % self.entries.len();
            let Some(entry) = &self.entries[self.patrol] else { continue };
            if now_unix_ns.saturating_sub(entry.last_unix_ns) > may_ns(&entry.flow) {
                gone.extend(self.remove(self.patrol as u32));
            }
        }
        gone
    }

    /// Takes all, in the order of their places.
    pub(super) fn drain(&mut self) -> Vec<F> {
        self.by_pair.clear();
        self.free.clear();
        std::mem::take(&mut self.entries).into_iter().flatten().map(|entry| entry.flow).collect()
    }
}
