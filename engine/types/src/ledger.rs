//! The ledger of losses: per table and reason, in which interval, how much.
//!
//! **Lost** is what we failed to see or to keep, bytes or rows; it makes every answer incomplete
//! whose window it falls into. What a peer never answered is *not* lost (`unanswered`, counted
//! apart), and neither is a row that came after its window had passed (`late`: it belongs to no
//! answer any more).
//!
//! Each node keeps one [`NodeLedger`]; every part of the node writes into it, and what is new in it
//! goes to the cluster part with the tick in which it was noticed. The cluster part keeps a
//! [`Ledger`] of each node's present life and one of all earlier ones.
//!
//! Bounded: an interval becomes coarser with its age as panes do (100 ms, 1 s, 10 s, 1 min, 5 min,
//! 1 h), so that a window's edge is as sharp as the window's own panes; what is older than
//! [`REACH_NS`] is one interval. Pairs of table and reason beyond [`PAIRS_MAX`] are one pair, which
//! concerns every table. Nothing is ever forgotten, only blurred.
//!
//! Not here: who notices a loss, and what an answer says about it.

mod node;
mod reasons;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

pub use node::{Meter, NodeLedger, Told};
pub use reasons::{OTHER, REASONS, ReasonDef, Unit, reason};

/// Stands for every table.
pub const ALL_TABLES: &str = "*";
/// Stands for the names of processes, connections and addresses: no table, but what it lost concerns
/// every answer that asks for names.
pub const METADATA: &str = "metadata";
/// Pairs of table and reason that are kept apart. There are some twenty tables and as many reasons,
/// and most tables know few of them.
pub const PAIRS_MAX: usize = 256;
/// Widths of intervals and the age up to which they are used: a window of that length has panes of
/// that width. Each divides the next.
const WIDTHS_NS: [(i64, i64); 6] = [
    (30 * SEC_NS, SEC_NS / 10),
    (300 * SEC_NS, SEC_NS),
    (3_000 * SEC_NS, 10 * SEC_NS),
    (18_000 * SEC_NS, 60 * SEC_NS),
    (90_000 * SEC_NS, 300 * SEC_NS),
    (REACH_NS, 3_600 * SEC_NS),
];
/// Intervals are told apart up to this age: longer than any retention that fits into memory.
pub const REACH_NS: i64 = 35 * 86_400 * SEC_NS;
/// A pair's intervals are made coarser when there are so many more than twice those of the last time:
/// what a note costs does not grow with what is remembered.
const FOLD_AFTER: usize = 64;
const SEC_NS: i64 = 1_000_000_000;

/// Which answers miss what was lost.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Reach {
    /// Nobody has it.
    #[default]
    Everybody,
    /// History kept the rows: only queries miss them that were running already.
    Running,
    /// Queries that were running had it; those that begin later find it no more in what they take
    /// from history.
    Later,
}

/// A time interval (from, to], Unix ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub from_unix_ns: i64,
    pub to_unix_ns: i64,
}

impl Span {
    #[must_use]
    pub fn new(from_unix_ns: i64, to_unix_ns: i64) -> Span {
        Span { from_unix_ns, to_unix_ns }
    }
    /// Whether the two have a moment in common. An empty span stands for its end.
    #[must_use]
    pub fn meets(&self, other: &Span) -> bool {
        let from = |span: &Span| span.from_unix_ns.min(span.to_unix_ns.saturating_sub(1));
        self.to_unix_ns > from(other) && other.to_unix_ns > from(self)
    }
}

/// A loss as parts tell each other of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// [`ALL_TABLES`] if it concerns every one.
    pub table: String,
    /// One of [`REASONS`].
    pub reason: String,
    pub reach: Reach,
    pub span: Span,
    /// In the reason's unit.
    pub count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    table: String,
    reason: String,
    reach: Reach,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    span: Span,
    count: u64,
}

#[derive(Clone, Debug, Default)]
struct Pair {
    /// In the order of the intervals' ends.
    cells: VecDeque<Cell>,
    /// How many there were when they were made coarser last.
    folded_count: usize,
}

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pairs: BTreeMap<Key, Pair>,
    newest_unix_ns: i64,
}

impl Ledger {
    /// Writes a loss down.
    pub fn note(&mut self, loss: &Loss) {
        if loss.count == 0 {
            return;
        }
        self.newest_unix_ns = self.newest_unix_ns.max(loss.span.to_unix_ns);
        let newest = self.newest_unix_ns;
        let key = self.key_of(loss);
        let pair = self.pairs.entry(key).or_default();
        pair.put(Cell { span: loss.span, count: loss.count }, newest);
    }

    fn key_of(&self, loss: &Loss) -> Key {
        let Loss { table, reason, reach, .. } = loss;
        let key = Key { table: table.clone(), reason: reason.clone(), reach: *reach };
        if self.pairs.len() < PAIRS_MAX || self.pairs.contains_key(&key) {
            return key;
        }
        Key { table: ALL_TABLES.to_string(), reason: OTHER.to_string(), reach: Reach::Everybody }
    }

    /// Adds up what was lost of a table within a window, by reason. `running_since_unix_ns`: when the
    /// query that asks began to take rows; what it took from history was not lost to it.
    pub fn lost_within(
        &self,
        table: &str,
        window: &Span,
        running_since_unix_ns: i64,
        lost: &mut BTreeMap<String, u64>,
    ) {
        for table in [table, ALL_TABLES] {
            for (key, pair) in self.of_table(table) {
                let mut window = *window;
                match key.reach {
                    Reach::Everybody => {}
                    Reach::Running => {
                        window.from_unix_ns = window.from_unix_ns.max(running_since_unix_ns);
                    }
                    Reach::Later => {
                        window.to_unix_ns = window.to_unix_ns.min(running_since_unix_ns);
                    }
                }
                if window.from_unix_ns >= window.to_unix_ns {
                    continue;
                }
                let within = pair.cells.iter().rev().take_while(|cell| {
                    // In the order of their ends: all before this one end earlier still.
                    cell.span.to_unix_ns > window.from_unix_ns
                });
                let counts = within.filter(|cell| cell.span.meets(&window)).map(|cell| cell.count);
                let count = counts.fold(0, u64::saturating_add);
                if count > 0 {
                    let have = lost.entry(key.reason.clone()).or_default();
                    *have = have.saturating_add(count);
                }
            }
        }
    }

    fn of_table(&self, table: &str) -> impl Iterator<Item = (&Key, &Pair)> {
        let first =
            Key { table: table.to_string(), reason: String::new(), reach: Reach::Everybody };
        self.pairs.range(first.clone()..).take_while(move |(key, _)| key.table == first.table)
    }

    /// Everything in it, in the order of tables, reasons and intervals.
    pub fn losses(&self) -> impl Iterator<Item = Loss> {
        self.pairs.iter().flat_map(|(key, pair)| {
            pair.cells.iter().map(|cell| Loss {
                table: key.table.clone(),
                reason: key.reason.clone(),
                reach: key.reach,
                span: cell.span,
                count: cell.count,
            })
        })
    }

    /// Adds all of another one.
    pub fn add(&mut self, other: &Ledger) {
        other.losses().for_each(|loss| self.note(&loss));
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Intervals that are told apart.
    #[must_use]
    pub fn intervals(&self) -> usize {
        self.pairs.values().map(|pair| pair.cells.len()).sum()
    }
}

impl Pair {
    fn put(&mut self, cell: Cell, newest_unix_ns: i64) {
        put(&mut self.cells, cell, newest_unix_ns);
        if self.cells.len() > 2 * self.folded_count + FOLD_AFTER {
            for cell in std::mem::take(&mut self.cells) {
                put(&mut self.cells, cell, newest_unix_ns);
            }
            self.folded_count = self.cells.len();
        }
    }
}

/// The width of an interval of that age; `None`: all that old are one.
fn width_ns(age_ns: i64) -> Option<i64> {
    WIDTHS_NS.iter().find(|(up_to_ns, _)| age_ns <= *up_to_ns).map(|(_, width_ns)| *width_ns)
}

/// Adds a cell at its place, or to its neighbour if both lie within one interval.
fn put(cells: &mut VecDeque<Cell>, cell: Cell, newest_unix_ns: i64) {
    let width_of = |cell: &Cell| width_ns(newest_unix_ns.saturating_sub(cell.span.to_unix_ns));
    let bucket = |to_unix_ns: i64, width_ns| to_unix_ns.saturating_sub(1).div_euclid(width_ns);
    let later = |have: &&Cell| have.span.to_unix_ns > cell.span.to_unix_ns;
    let at = cells.len() - cells.iter().rev().take_while(later).count();
    let is_one = |have: &Cell| match (width_of(have), width_of(&cell)) {
        (None, None) => true,
        (Some(width_ns), Some(other_ns)) => {
            // One that is younger stays sharp until both are old.
            let width_ns = width_ns.min(other_ns);
            bucket(have.span.to_unix_ns, width_ns) == bucket(cell.span.to_unix_ns, width_ns)
        }
        _ => false,
    };
    let neighbour = at.checked_sub(1).into_iter().chain([at]);
    for idx in neighbour {
        let Some(have) = cells.get_mut(idx) else { continue };
        if is_one(have) {
            have.span = Span {
                from_unix_ns: have.span.from_unix_ns.min(cell.span.from_unix_ns),
                to_unix_ns: have.span.to_unix_ns.max(cell.span.to_unix_ns),
            };
            have.count = have.count.saturating_add(cell.count);
            return;
        }
    }
    cells.insert(at, cell);
}
