//! The exact answer of the LET workload, computed in the plainest way: per second of event time, plain maps
//! and plain counts; a window is what was added and not taken away again. It shares no code with the engine.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::generator::Event;

/// Values of which any quantile is asked: unsorted, but for their leading bits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values {
    by_leading_bits: BTreeMap<u32, Vec<i64>>,
    count: usize,
}

/// The position of the first bit and the five bits after it. Ascends with the value.
fn leading_bits(value: i64) -> u32 {
    let value = value.max(0) as u64;
    let length = u64::BITS - value.leading_zeros();
    let next = if length > 5 { (value >> (length - 6)) & 31 } else { value };
    (length << 5) + next as u32
}

impl Values {
    fn add(&mut self, value: i64) {
        self.by_leading_bits.entry(leading_bits(value)).or_default().push(value);
        self.count += 1;
    }

    fn take(&mut self, value: i64) {
        let bits = leading_bits(value);
        let Some(values) = self.by_leading_bits.get_mut(&bits) else { return };
        let Some(at) = values.iter().position(|have| *have == value) else { return };
        values.swap_remove(at);
        self.count -= 1;
        if values.is_empty() {
            self.by_leading_bits.remove(&bits);
        }
    }

    /// The nearest-rank quantile, exactly. 0 without values.
    pub(crate) fn quantile(&mut self, quantile: f64) -> i64 {
        let rank = ((quantile * self.count as f64).ceil() as usize).clamp(1, self.count.max(1));
        let mut before = 0;
        for values in self.by_leading_bits.values_mut() {
            if before + values.len() >= rank {
                return *values.select_nth_unstable(rank - before - 1).1;
            }
            before += values.len();
        }
        0
    }
}

/// Count, errors, bytes, and the values whose quantiles are asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    pub(crate) count: i64,
    pub(crate) errors: i64,
    pub(crate) bytes: i64,
    pub(crate) latencies_ns: Values,
}

impl Group {
    fn add(&mut self, event: &Event) {
        self.count += 1;
        self.errors += i64::from(event.status >= 400);
        self.bytes += event.resp_bytes;
        self.latencies_ns.add(event.latency_ns);
    }
    fn take(&mut self, event: &Kept) {
        self.count -= 1;
        self.errors -= i64::from(event.is_error);
        self.bytes -= event.resp_bytes;
        self.latencies_ns.take(event.latency_ns);
    }
}

/// What is needed of an event to take it out of its edge again.
struct Kept {
    edge: Edge,
    is_error: bool,
    resp_bytes: i64,
    latency_ns: i64,
}

#[derive(Default)]
struct Second {
    events: Vec<Kept>,
    endpoints: BTreeSet<Endpoint>,
    slowest_ns: HashMap<usize, i64>,
}

/// Service, endpoint, second.
pub(crate) type Endpoint = (usize, usize, u64);
/// Service, remote.
pub(crate) type Edge = (usize, usize);

/// All that is in the window.
#[derive(Default)]
pub(crate) struct Reference {
    seconds: VecDeque<(u64, Second)>,
    /// (a)
    pub(crate) endpoints: HashMap<Endpoint, Group>,
    /// (b)
    pub(crate) edges: HashMap<Edge, Group>,
    /// Keys of (a) and (b) that were touched since somebody took these.
    pub(crate) touched_endpoints: BTreeSet<Endpoint>,
    pub(crate) touched_edges: BTreeSet<Edge>,
}

impl Reference {
    /// Takes in events of second `number`.
    pub(crate) fn add(&mut self, number: u64, events: &[Event]) {
        if self.seconds.back().is_none_or(|(last, _)| *last != number) {
            self.seconds.push_back((number, Second::default()));
        }
        let Some((_, second)) = self.seconds.back_mut() else { return };
        for event in events {
            let endpoint = (event.service, event.endpoint, number);
            let edge = (event.service, event.remote);
            self.endpoints.entry(endpoint).or_default().add(event);
            self.edges.entry(edge).or_default().add(event);
            self.touched_endpoints.insert(endpoint);
            self.touched_edges.insert(edge);
            second.endpoints.insert(endpoint);
            second.events.push(Kept {
                edge,
                is_error: event.status >= 400,
                resp_bytes: event.resp_bytes,
                latency_ns: event.latency_ns,
            });
            let slowest = second.slowest_ns.entry(event.service).or_insert(event.latency_ns);
            *slowest = (*slowest).max(event.latency_ns);
        }
    }

    /// Seconds before `first` leave the window.
    pub(crate) fn expire(&mut self, first: u64) {
        while self.seconds.front().is_some_and(|(number, _)| *number < first) {
            let Some((_, second)) = self.seconds.pop_front() else { return };
            for endpoint in second.endpoints {
                self.endpoints.remove(&endpoint);
                self.touched_endpoints.insert(endpoint);
            }
            for event in &second.events {
                self.touched_edges.insert(event.edge);
                let Some(group) = self.edges.get_mut(&event.edge) else { continue };
                group.take(event);
                if group.count == 0 {
                    self.edges.remove(&event.edge);
                }
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Quantiles by leading bits are those of the sorted values, also after some were taken away.
    #[test]
    fn quantiles_are_exact() {
        let mut values = Values::default();
        let mut sorted: Vec<i64> =
            (0..3_000).map(|n| (n * n * 7919 + 13 * n) % 1_000_003).collect();
        sorted.iter().for_each(|value| values.add(*value));
        sorted.split_off(2_000).into_iter().for_each(|value| values.take(value));
        sorted.sort_unstable();
        for quantile in [0.0, 0.001, 0.5, 0.9, 0.99, 1.0] {
            let rank = ((quantile * 2_000.0_f64).ceil() as usize).clamp(1, 2_000);
            assert_eq!(values.quantile(quantile), sorted[rank - 1], "{quantile}");
        }
    }
}
