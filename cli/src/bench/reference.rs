//! The exact answer of the LET workload, computed in the plainest way: per second of event time,
//! plain maps and plain counts, windows by adding up seconds. It shares no code with the engine.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::generator::Event;

/// Count, errors, bytes, and the values whose quantiles are asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    pub(crate) count: i64,
    pub(crate) errors: i64,
    pub(crate) bytes: i64,
    pub(crate) latencies_ns: Vec<i64>,
}

impl Group {
    fn add(&mut self, event: &Event) {
        self.count += 1;
        self.errors += i64::from(event.status >= 400);
        self.bytes += event.resp_bytes;
        self.latencies_ns.push(event.latency_ns);
    }
}

#[derive(Default)]
struct Second {
    by_endpoint: HashMap<(usize, usize), Group>,
    by_edge: HashMap<(usize, usize), Group>,
    slowest_ns: HashMap<usize, i64>,
}

/// All seconds of the window.
pub(crate) struct Reference {
    window_secs: usize,
    seconds: VecDeque<(u64, Second)>,
}

impl Reference {
    pub(crate) fn new(window_secs: usize) -> Reference {
        Reference { window_secs, seconds: VecDeque::new() }
    }

    /// Takes in second `number` whole.
    pub(crate) fn add(&mut self, number: u64, events: &[Event]) {
        let mut second = Second::default();
        for event in events {
            second.by_endpoint.entry((event.service, event.endpoint)).or_default().add(event);
            second.by_edge.entry((event.service, event.remote)).or_default().add(event);
            let slowest = second.slowest_ns.entry(event.service).or_insert(event.latency_ns);
            *slowest = (*slowest).max(event.latency_ns);
        }
        self.seconds.push_back((number, second));
        if self.seconds.len() > self.window_secs {
            self.seconds.pop_front();
        }
    }

    pub(crate) fn window(&self) -> (u64, usize) {
        (self.seconds.front().map_or(0, |(number, _)| *number), self.seconds.len())
    }

    /// (a) of one second.
    pub(crate) fn by_endpoint(&self, number: u64) -> Option<&HashMap<(usize, usize), Group>> {
        self.seconds.iter().find(|(n, _)| *n == number).map(|(_, second)| &second.by_endpoint)
    }

    /// Rows that (a) has in all.
    pub(crate) fn endpoint_rows(&self) -> usize {
        self.seconds.iter().map(|(_, second)| second.by_endpoint.len()).sum()
    }

    /// (b)
    pub(crate) fn by_edge(&self) -> BTreeMap<(usize, usize), Group> {
        let mut all: BTreeMap<(usize, usize), Group> = BTreeMap::new();
        for (edge, group) in self.seconds.iter().flat_map(|(_, second)| &second.by_edge) {
            let sum = all.entry(*edge).or_default();
            sum.count += group.count;
            sum.errors += group.errors;
            sum.bytes += group.bytes;
            sum.latencies_ns.extend_from_slice(&group.latencies_ns);
        }
        all
    }

    /// (c)
    pub(crate) fn slowest_ns(&self) -> BTreeMap<usize, i64> {
        let mut all = BTreeMap::new();
        for (service, slowest) in self.seconds.iter().flat_map(|(_, second)| &second.slowest_ns) {
            let have = all.entry(*service).or_insert(*slowest);
            *have = (*have).max(*slowest);
        }
        all
    }
}

/// The exact nearest-rank quantile; the values are reordered.
pub(crate) fn exact_quantile(values: &mut [i64], quantile: f64) -> i64 {
    let rank = ((quantile * values.len() as f64).ceil() as usize).clamp(1, values.len());
    *values.select_nth_unstable(rank - 1).1
}
