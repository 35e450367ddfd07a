//! How fast rows of tables come, from the counters in the nodes' statuses: the last minute closely, what was before
//! ever more coarsely. It estimates nothing of plans.

use std::collections::{BTreeMap, VecDeque};

use weir_proto::message::TableStatus;

const SEC_NS: i64 = 1_000_000_000;
/// The last minute, every five seconds.
const RECENT_EVERY_NS: i64 = 5 * SEC_NS;
const RECENT_MAX: usize = 13;
/// The whole life of a table, at so many times: when there are more, every second one goes.
const WHOLE_MAX: usize = 32;

/// A table on a node, as it is now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableNow {
    pub node: String,
    pub table: String,
    /// Over about the last minute.
    pub rows_per_s: f64,
    /// The rows that its history holds, their bytes there, and how far back it reaches.
    pub rows_held: f64,
    pub history_bytes: f64,
    pub held_ns: i64,
    /// (Age, rows that came since then), ascending. Ages up to the table's beginning.
    pub came: Vec<(i64, f64)>,
}

impl TableNow {
    /// How many rows came within the last `age_ns`.
    #[must_use]
    pub fn came_within(&self, age_ns: i64) -> f64 {
        let mut before = (0, 0.0);
        for &(age, rows) in &self.came {
            if age >= age_ns {
                let share = (age_ns - before.0) as f64 / (age - before.0).max(1) as f64;
                return before.1 + (rows - before.1) * share.clamp(0.0, 1.0);
            }
            before = (age, rows);
        }
        before.1
    }

    /// Bytes of a row in the node's history; nothing if it has none.
    #[must_use]
    pub fn row_bytes(&self) -> Option<f64> {
        (self.rows_held >= 1.0).then(|| self.history_bytes / self.rows_held)
    }
}

/// Rows that a table had in all, at some times.
#[derive(Debug, Default)]
struct Series {
    /// Oldest first.
    recent: VecDeque<(i64, u64)>,
    whole: VecDeque<(i64, u64)>,
    every_ns: i64,
    newest: (i64, u64),
    history_bytes: u64,
    covers_from_unix_ns: i64,
}

impl Series {
    fn note(&mut self, now_unix_ns: i64, status: &TableStatus) {
        if status.rows_total < self.newest.1 {
            // It began anew.
            *self = Series::default();
        }
        self.newest = (now_unix_ns, status.rows_total);
        self.history_bytes = status.history_bytes;
        self.covers_from_unix_ns = status.covers_from_unix_ns;
        let is_due = |last: Option<&(i64, u64)>, every_ns: i64| {
            last.is_none_or(|(at, _)| now_unix_ns.saturating_sub(*at) >= every_ns)
        };
        if is_due(self.recent.back(), RECENT_EVERY_NS) {
            self.recent.push_back(self.newest);
            if self.recent.len() > RECENT_MAX {
                self.recent.pop_front();
            }
        }
        if is_due(self.whole.back(), self.every_ns.max(RECENT_EVERY_NS)) {
            self.whole.push_back(self.newest);
            if self.whole.len() > WHOLE_MAX {
                let mut at = 0;
                self.whole.retain(|_| {
                    at += 1;
                    at % 2 == 1
                });
                self.every_ns = self.every_ns.max(RECENT_EVERY_NS) * 2;
            }
        }
    }

    /// `began_unix_ns`: when the table had no row.
    fn now(&self, now_unix_ns: i64, began_unix_ns: i64) -> TableNow {
        let mut times: Vec<(i64, u64)> =
            self.whole.iter().chain(&self.recent).copied().chain([self.newest]).collect();
        times.sort_unstable();
        times.dedup();
        let first = times.first().map_or(now_unix_ns, |(at, _)| *at);
        times.insert(0, (began_unix_ns.min(first), 0));
        let came = times.iter().rev().map(|&(at, total)| {
            let rows = self.newest.1.saturating_sub(total);
            (now_unix_ns.saturating_sub(at).max(0), rows as f64)
        });
        let mut now = TableNow { came: came.collect(), ..TableNow::default() };
        let since = self.recent.front().filter(|(at, _)| self.newest.0 - at >= SEC_NS);
        now.rows_per_s = match since {
            Some((at, total)) => {
                let ns = (self.newest.0 - at) as f64;
                self.newest.1.saturating_sub(*total) as f64 * SEC_NS as f64 / ns
            }
            // It has just been heard of: as it was since it began.
            None => {
                let ns = now_unix_ns.saturating_sub(began_unix_ns).max(SEC_NS);
                self.newest.1 as f64 * SEC_NS as f64 / ns as f64
            }
        };
        let covers_from = self.covers_from_unix_ns.max(began_unix_ns);
        now.held_ns = now_unix_ns.saturating_sub(covers_from).max(0);
        now.rows_held = now.came_within(now.held_ns);
        now.history_bytes = self.history_bytes as f64;
        now
    }
}

/// Of all nodes. A node that is gone is forgotten with its tables.
#[derive(Debug, Default)]
pub struct Arrivals {
    nodes: BTreeMap<String, BTreeMap<String, Series>>,
}

impl Arrivals {
    /// What a status says of a node's tables.
    pub fn note(&mut self, now_unix_ns: i64, node: &str, tables: &[TableStatus]) {
        let of_node = match self.nodes.get_mut(node) {
            Some(of_node) => of_node,
            None => self.nodes.entry(node.to_string()).or_default(),
        };
        of_node.retain(|name, _| tables.iter().any(|status| status.table == *name));
        for status in tables {
            match of_node.get_mut(&status.table) {
                Some(series) => series.note(now_unix_ns, status),
                None => of_node.entry(status.table.clone()).or_default().note(now_unix_ns, status),
            }
        }
    }

    /// Forgets the nodes of which that is not true.
    pub fn keep(&mut self, is_there: impl Fn(&str) -> bool) {
        self.nodes.retain(|name, _| is_there(name));
    }

    /// How many nodes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// A table on each node that has it. `began_unix_ns` of a node: when its counters were zero.
    #[must_use]
    pub fn of(
        &self,
        table: &str,
        now_unix_ns: i64,
        began_unix_ns: impl Fn(&str) -> i64,
    ) -> Vec<TableNow> {
        let of_node = |(node, tables): (&String, &BTreeMap<String, Series>)| {
            let now = tables.get(table)?.now(now_unix_ns, began_unix_ns(node));
            Some(TableNow { node: node.clone(), table: table.to_string(), ..now })
        };
        self.nodes.iter().filter_map(of_node).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(rows_total: u64, covers_from_unix_ns: i64) -> TableStatus {
        TableStatus {
            table: "http_events".to_string(),
            rows_total,
            history_bytes: rows_total * 200,
            covers_from_unix_ns,
            ..TableStatus::default()
        }
    }

    fn now(arrivals: &Arrivals, now_s: i64) -> TableNow {
        arrivals.of("http_events", now_s * SEC_NS, |_| 0).remove(0)
    }

    /// The rate is of the last minute, and how many rows came within a time is known for short times closely and for
    /// long ones roughly, in bounded memory. Catches a rate over the whole life, and a list that grows.
    #[test]
    fn rates_and_windows() {
        let mut arrivals = Arrivals::default();
        // An hour of 100 rows a second, then a minute of 1,000.
        for at in 0..=3_600 {
            arrivals.note(at * SEC_NS, "one", &[status(at as u64 * 100, 0)]);
        }
        for at in 1..=60 {
            let rows = 360_000 + at as u64 * 1_000;
            arrivals.note((3_600 + at) * SEC_NS, "one", &[status(rows, 0)]);
        }
        let found = now(&arrivals, 3_660);
        assert!((found.rows_per_s - 1_000.0).abs() < 20.0, "{}", found.rows_per_s);
        assert!((found.came_within(30 * SEC_NS) - 30_000.0).abs() < 600.0);
        let half_an_hour = found.came_within(1_860 * SEC_NS);
        assert!((half_an_hour / 240_000.0 - 1.0).abs() < 0.1, "{half_an_hour}");
        assert!((found.came_within(i64::MAX) - 420_000.0).abs() < 1.0);
        assert_eq!((found.rows_held, found.row_bytes()), (420_000.0, Some(200.0)));
        let series = &arrivals.nodes["one"]["http_events"];
        assert!(series.recent.len() <= RECENT_MAX && series.whole.len() <= WHOLE_MAX);
    }

    /// What history no longer has is not held; a node that began anew is counted from there; one that is gone is
    /// forgotten, and so is a table that a status does not name any more.
    #[test]
    fn what_is_gone_is_not_counted() {
        let mut arrivals = Arrivals::default();
        for at in 0..=100 {
            arrivals.note(at * SEC_NS, "one", &[status(at as u64 * 10, 60 * SEC_NS)]);
        }
        let found = now(&arrivals, 100);
        assert!((found.rows_held - 400.0).abs() < 60.0, "{}", found.rows_held);
        assert_eq!(found.held_ns, 40 * SEC_NS);
        arrivals.note(101 * SEC_NS, "one", &[status(3, 101 * SEC_NS)]);
        assert!(now(&arrivals, 102).rows_held <= 3.0);
        arrivals.note(103 * SEC_NS, "one", &[]);
        assert!(arrivals.of("http_events", 0, |_| 0).is_empty());
        arrivals.keep(|name| name != "one");
        assert!(arrivals.is_empty());
    }

    /// A table that has just been heard of has the rate of its life.
    #[test]
    fn the_first_status_says_something() {
        let mut arrivals = Arrivals::default();
        arrivals.note(50 * SEC_NS, "one", &[status(5_000, 0)]);
        let found = now(&arrivals, 50);
        assert!((found.rows_per_s - 100.0).abs() < 1.0, "{}", found.rows_per_s);
        assert!((found.came_within(10 * SEC_NS) - 1_000.0).abs() < 1.0);
    }
}
