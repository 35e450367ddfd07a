//! Whose an address was when. An address goes from pod to pod, and objects say when a pod was made, not
//! when it got its address: what is known is when it cannot have it any more.

use std::collections::BTreeMap;

use weir_types::metadata::SharedMap;

use super::Store;
use super::objects::{Kind, Pod};

/// Has no end yet.
const OPEN: i64 = i64::MAX;

impl Store {
    /// IP text → (start, pod id), ascending by start; an empty id: from then on it is nobody's.
    pub(super) fn pod_ips(&self) -> SharedMap<String, Vec<(i64, String)>> {
        let mut owners: BTreeMap<&str, Vec<(i64, i64, &str)>> = BTreeMap::new();
        for (id, pod) in &self.pods {
            for ip in indexed_ips(pod) {
                let end = self.end_of(id, pod);
                owners.entry(ip).or_default().push((end, pod.metadata.creation_timestamp.0, id));
            }
        }
        owners.into_iter().map(|(ip, owners)| (ip.to_string(), in_turn(owners))).collect()
    }

    /// When the pod gave its addresses back.
    fn end_of(&self, id: &str, pod: &Pod) -> i64 {
        if self.keeps_addresses {
            return OPEN;
        }
        let gone = self.gone.get(&(Kind::Pod, id.to_string())).copied().unwrap_or(OPEN);
        if !matches!(pod.status.phase.as_str(), "Succeeded" | "Failed") {
            return gone;
        }
        let finished =
            pod.status.containers().filter_map(|status| status.state.terminated.as_ref());
        let finished = finished.map(|detail| detail.finished_at.0).max().unwrap_or(0);
        // Without a container it never used them.
        let ended = if finished > 0 { finished } else { pod.metadata.creation_timestamp.0 };
        ended.min(gone)
    }
}

/// One after the other, in the order in which they gave it back: whoever was made before that and has it
/// still got it then.
fn in_turn(mut owners: Vec<(i64, i64, &str)>) -> Vec<(i64, String)> {
    owners.sort_unstable();
    let mut turns = Vec::with_capacity(owners.len() + 1);
    let mut free = OPEN;
    for (end, made, id) in owners {
        let start = if free == OPEN { made } else { made.max(free) };
        if free < start {
            turns.push((free, String::new()));
        }
        turns.push((start, id.to_string()));
        free = end;
    }
    if free != OPEN {
        turns.push((free, String::new()));
    }
    turns
}

/// The addresses by which the pod is found: none on the host's network, where all pods share them.
fn indexed_ips(pod: &Pod) -> impl Iterator<Item = &str> {
    let status = &pod.status;
    let more = status.pod_ips.iter().map(|entry| entry.ip.as_str());
    let mut ips: Vec<&str> = std::iter::once(status.pod_ip.as_str()).chain(more).collect();
    ips.sort_unstable();
    ips.dedup();
    let on_host = pod.spec.host_network || status.pod_ip == status.host_ip;
    ips.into_iter().filter(move |ip| !on_host && !ip.is_empty())
}
