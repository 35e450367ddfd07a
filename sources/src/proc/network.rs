//! Network namespaces and their counters.

use hashbrown::{HashMap, HashSet};
use weir_types::tables::{NetworkStats, NetworkStatsRow, TableBuilder};

use super::fs::ProcFs;
use super::parse;
use crate::metadata::{local_pod_id, names};

/// A process's namespace is read again after so many passes (`setns` is rare).
const NAMESPACE_PASSES: u32 = 60;

#[derive(Debug)]
struct Known {
    namespace: u64,
    start_ticks: u64,
    passes_left: u32,
    seen: bool,
}

/// Which namespace each process is in, and each namespace's oldest process.
#[derive(Debug)]
pub(super) struct Namespaces {
    namespaces_max: usize,
    by_pid: HashMap<u32, Known, foldhash::fast::FixedState>,
    /// namespace → (start ticks, pid) of its oldest process in this pass.
    oldest: HashMap<u64, (u64, u32), foldhash::fast::FixedState>,
    /// Namespaces of this pass that found no room there.
    left_out: HashSet<u64, foldhash::fast::FixedState>,
}

impl Namespaces {
    pub(super) fn new(namespaces_max: usize) -> Namespaces {
        Namespaces {
            namespaces_max,
            by_pid: HashMap::default(),
            oldest: HashMap::default(),
            left_out: HashSet::default(),
        }
    }

    pub(super) fn begin_pass(&mut self) {
        self.oldest.clear();
        self.left_out.clear();
        self.by_pid.retain(|_, known| {
            known.passes_left = known.passes_left.saturating_sub(1);
            std::mem::take(&mut known.seen) && known.passes_left > 0
        });
    }

    pub(super) fn process(&mut self, fs: &mut ProcFs, pid: u32, start_ticks: u64) {
        let namespace = match self.by_pid.get_mut(&pid) {
            Some(known) if known.start_ticks == start_ticks => {
                known.seen = true;
                known.namespace
            }
            _ => {
                let Some(namespace) = fs.link_number(pid, "ns/net") else { return };
                let passes_left = NAMESPACE_PASSES;
                let known = Known { namespace, start_ticks, passes_left, seen: true };
                self.by_pid.insert(pid, known);
                namespace
            }
        };
        if self.oldest.len() < self.namespaces_max || self.oldest.contains_key(&namespace) {
            let oldest = self.oldest.entry(namespace).or_insert((start_ticks, pid));
            *oldest = (*oldest).min((start_ticks, pid));
        } else {
            self.left_out.insert(namespace);
        }
    }

    /// Namespaces of this pass that give no row; as many as there are processes at most.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out.len() as u64
    }

    /// Appends a row for each namespace; gives the number of rows. `of_pods`: Kubernetes knows the pods here.
    pub(super) fn rows(
        &mut self,
        of_pods: bool,
        fs: &mut ProcFs,
        now_unix_ns: i64,
        to: &mut TableBuilder<NetworkStats>,
    ) -> usize {
        // The machine's own: that of the first process, else ours.
        let own = fs.link_number(1, "ns/net").or_else(|| self_namespace(fs));
        let mut namespaces: Vec<(u64, (u64, u32))> =
            self.oldest.iter().map(|(namespace, oldest)| (*namespace, *oldest)).collect();
        namespaces.sort_unstable();
        let mut rows = 0;
        for (namespace, (start_ticks, pid)) in namespaces {
            let Ok(text) = fs.read(pid, "net/dev") else { continue };
            let sums = parse::net_dev(text);
            let pod_id = match own {
                Some(own) if own == namespace => String::new(),
                _ => pod_of(fs, of_pods, pid).unwrap_or_else(|| local_pod_id(pid, start_ticks)),
            };
            let [
                rx_bytes,
                rx_packets,
                rx_errors,
                rx_drops,
                tx_bytes,
                tx_packets,
                tx_errors,
                tx_drops,
            ] = sums.map(|value| i64::try_from(value).unwrap_or(i64::MAX));
            to.push(&NetworkStatsRow {
                time_: now_unix_ns,
                pod_id: pod_id.as_bytes(),
                rx_bytes,
                rx_packets,
                rx_errors,
                rx_drops,
                tx_bytes,
                tx_packets,
                tx_errors,
                tx_drops,
            });
            rows += 1;
        }
        rows
    }
}

/// The pod whose control group the process is in: often it is the one that only holds the namespace.
fn pod_of(fs: &mut ProcFs, of_pods: bool, pid: u32) -> Option<String> {
    let found = of_pods.then(|| fs.read(pid, "cgroup").map(names::cgroup))?.ok()?;
    (!found.pod_uid.is_empty()).then_some(found.pod_uid)
}

fn self_namespace(fs: &mut ProcFs) -> Option<u64> {
    let text = fs.read_path("self/stat").ok()?;
    let pid = std::str::from_utf8(text).ok()?.split_ascii_whitespace().next()?.parse().ok()?;
    fs.link_number(pid, "ns/net")
}
