//! What functions here were asked and only nodes can find out: names of addresses, libraries of processes.
//! Noted by the engine, sent to the node that can answer; what comes back comes with that node's entities.
//!
//! An order may be lost: each is numbered, a node's status says up to which number it has been asked, and
//! until then each order repeats what was asked for before.

use std::collections::BTreeMap;
use std::net::IpAddr;

use tracing::warn;
use weir_proto::{Epoch, ToNode};
use weir_types::Upid;
use weir_types::metadata::Wanted;

use super::{BusCounters, Coordinator};

/// Asked of one node and not confirmed, of a kind; more is left out and counted. Functions ask again.
const ASKED_MAX: usize = 4_096;
/// An order that a status does not show after so long is given again.
const ASK_AGAIN_MS: u64 = 1_000;

/// What one node was asked, each thing with the number under which that was first done.
#[derive(Default)]
pub(super) struct Asked {
    addresses: BTreeMap<IpAddr, Epoch>,
    processes: BTreeMap<Upid, Epoch>,
    told_ms: u64,
}

/// Adds what is new. How much found no room, and whether anything did.
fn add<T: Ord>(
    to: &mut BTreeMap<T, Epoch>,
    more: impl IntoIterator<Item = T>,
    number: Epoch,
) -> (u64, bool) {
    let (mut left_out, mut is_new) = (0, false);
    for one in more {
        if to.contains_key(&one) {
            continue;
        }
        if to.len() < ASKED_MAX {
            to.insert(one, number);
            is_new = true;
        } else {
            left_out += 1;
        }
    }
    (left_out, is_new)
}

impl Asked {
    fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.processes.is_empty()
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            addresses: self.addresses.keys().copied().collect(),
            processes: self.processes.keys().copied().collect(),
        }
    }

    fn confirm(&mut self, number: Epoch) {
        self.addresses.retain(|_, asked| *asked > number);
        self.processes.retain(|_, asked| *asked > number);
    }
}

impl Coordinator {
    /// Sends on what functions of this engine want to know: of a process to its node, of an address to one
    /// that lives.
    pub(super) fn ask_for_wanted(&mut self) {
        let Wanted { addresses, processes } = self.engine.take_wanted();
        let mut left_out = self.engine.wanted_left_out();
        BusCounters::add(&self.counters.unasked_total, left_out - self.left_out_total.min(left_out));
        self.left_out_total = left_out;
        left_out = 0;
        let lives = |name: &&String| self.nodes.get(*name).is_some_and(|node| !node.lagging);
        let any = self.nodes.keys().find(lives).cloned();
        let mut addresses = Some(addresses);
        let names: Vec<String> = self.nodes.keys().cloned().collect();
        for name in names {
            let number = self.next_epoch;
            let Some(node) = self.nodes.get_mut(&name) else { continue };
            let asid = node.info.asid;
            let of_node = processes.iter().copied().filter(|upid| upid.asid() == asid);
            let (no_room, mut is_new) = add(&mut node.asked.processes, of_node, number);
            left_out += no_room;
            if any.as_ref() == Some(&name) {
                let addresses = addresses.take().unwrap_or_default();
                let (no_room, some) = add(&mut node.asked.addresses, addresses, number);
                left_out += no_room;
                is_new |= some;
            }
            if is_new {
                self.ask(&name);
            }
        }
        BusCounters::add(&self.counters.unasked_total, left_out);
    }

    /// Asks a node for all that it has not confirmed.
    fn ask(&mut self, name: &str) {
        let now_ms = self.mono_ms.unwrap_or(0);
        let number = self.next_epoch;
        let Some(node) = self.nodes.get_mut(name) else { return };
        self.next_epoch += 1;
        node.asked.told_ms = now_ms;
        let find = ToNode::Find { number, wanted: node.asked.wanted() };
        if let Err(error) = node.link.send(&find) {
            // Its next status shows that it was not asked.
            warn!(node = name, %error, "could not ask a node for names");
        }
    }

    /// A node says up to which order it has been asked.
    pub(super) fn check_wanted(&mut self, name: &str, asked: Epoch) {
        let now_ms = self.mono_ms.unwrap_or(0);
        let Some(node) = self.nodes.get_mut(name) else { return };
        node.asked.confirm(asked);
        let is_due = now_ms.saturating_sub(node.asked.told_ms) >= ASK_AGAIN_MS;
        if !node.asked.is_empty() && is_due {
            BusCounters::add(&self.counters.reordered_total, 1);
            self.ask(name);
        }
    }
}
