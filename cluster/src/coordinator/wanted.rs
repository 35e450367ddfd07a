//! What functions here were asked and only nodes can find out: names of addresses, libraries of processes.
//! The engine notes it, the node that can answer gets an order, and what it finds out comes with its
//! entities. Orders that were lost are given again by [`super::orders`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use weir_types::Upid;
use weir_types::metadata::Wanted;
use weir_types::source::{ORDER_ITEMS_MAX, SourceOrder};

use super::{BusCounters, Coordinator, Node};

/// The same thing is not asked for again within so long: functions note it with every evaluation, so that
/// whoever finds it out knows that it is still wanted.
const AGAIN_MS: u64 = 1_000;
/// Things that are remembered for it, of a kind; more is left out and counted. Functions ask again.
const RECENT_MAX: usize = 4 * ORDER_ITEMS_MAX;

/// What was asked for within the last moment, and when.
#[derive(Default)]
pub(super) struct Recent {
    addresses: BTreeMap<IpAddr, u64>,
    processes: BTreeMap<Upid, u64>,
    /// Of what the engine had no room to note.
    left_out_total: u64,
}

/// What is to be asked for now, and how much there is no room for.
fn due<T: Ord + Copy>(recent: &mut BTreeMap<T, u64>, wanted: Vec<T>, now_ms: u64) -> (Vec<T>, u64) {
    recent.retain(|_, asked_ms| now_ms.saturating_sub(*asked_ms) < AGAIN_MS);
    let (mut due, mut left_out) = (Vec::new(), 0);
    for one in wanted {
        if recent.contains_key(&one) {
            continue;
        }
        if recent.len() < RECENT_MAX {
            recent.insert(one, now_ms);
            due.push(one);
        } else {
            left_out += 1;
        }
    }
    (due, left_out)
}

impl Coordinator {
    /// Orders what functions of this engine want to know: of a process from its node, of an address from
    /// one that lives.
    pub(super) fn order_wanted(&mut self) {
        let now_ms = self.mono_ms.unwrap_or(0);
        let Wanted { addresses, processes } = self.engine.take_wanted();
        let total = self.engine.wanted_left_out();
        let mut left_out = total.saturating_sub(self.recent.left_out_total);
        self.recent.left_out_total = total;
        let (addresses, some) = due(&mut self.recent.addresses, addresses, now_ms);
        let (processes, more) = due(&mut self.recent.processes, processes, now_ms);
        left_out += some + more;
        let mut orders: Vec<(String, SourceOrder)> = Vec::new();
        let lives = |name: &&String| self.nodes.get(*name).is_some_and(|node| !node.lagging);
        if !addresses.is_empty()
            && let Some(any) = self.nodes.keys().find(lives)
        {
            orders.push((any.clone(), SourceOrder::Resolve { addresses }));
        }
        let could = |node: &Node| !node.lagging && !processes.is_empty();
        for (name, node) in self.nodes.iter().filter(|(_, node)| could(node)) {
            let own = processes.iter().copied().filter(|upid| upid.asid() == node.info.asid);
            let processes: Vec<Upid> = own.collect();
            if !processes.is_empty() {
                orders.push((name.clone(), SourceOrder::ListLibraries { processes }));
            }
        }
        for (name, order) in orders {
            // Asked for again with one of the next evaluations.
            left_out += u64::from(self.order(&name, order).is_err());
        }
        BusCounters::add(&self.counters.unasked_total, left_out);
    }
}
