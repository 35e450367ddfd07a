//! Orders to the sources of nodes: given until a node's status says what became of them. Whoever gives one
//! asks for that, or does not care.

use std::collections::BTreeMap;

use tracing::warn;
use weir_proto::{NodeLink, ToNode};
use weir_types::source::{OrderId, OrderOutcome, SourceOrder};

use super::inbound::{BusCounters, ORDER_WAIT_MS};
use super::{Coordinator, CoordinatorError};

/// Orders of which a node has not told what became; more are refused.
const PENDING_MAX: usize = 256;
/// Outcomes that are remembered of a node; whoever asks does so within seconds.
const OUTCOMES_MAX: usize = 256;

struct Given {
    order: SourceOrder,
    /// When it was sent last, monotonic.
    sent_ms: u64,
}

/// The orders to one node.
#[derive(Default)]
pub(super) struct Orders {
    pending: BTreeMap<OrderId, Given>,
    outcomes: BTreeMap<OrderId, OrderOutcome>,
}

impl Orders {
    fn told(&mut self, id: OrderId, outcome: &OrderOutcome) {
        // Told again and again, and also of orders of former lives of ours.
        if self.pending.remove(&id).is_none() {
            return;
        }
        self.outcomes.insert(id, outcome.clone());
        if self.outcomes.len() > OUTCOMES_MAX {
            self.outcomes.pop_first();
        }
    }

    /// Sends again what is overdue.
    fn remind(&mut self, name: &str, link: &NodeLink, now_ms: u64, counters: &BusCounters) {
        for (&id, given) in &mut self.pending {
            if now_ms.saturating_sub(given.sent_ms) < ORDER_WAIT_MS {
                continue;
            }
            given.sent_ms = now_ms;
            BusCounters::count(&counters.reordered_total);
            send(name, link, id, &given.order);
        }
    }
}

/// Lost, it is sent again.
fn send(name: &str, link: &NodeLink, id: OrderId, order: &SourceOrder) {
    if let Err(error) = link.send(&ToNode::Order { id, order: order.clone() }) {
        warn!(node = name, id, %error, "could not give a node an order");
    }
}

impl Coordinator {
    /// Gives a node's sources an order.
    ///
    /// # Errors
    /// The node is not known, too many orders to it are open, or this one names too much.
    pub fn order(&mut self, name: &str, order: SourceOrder) -> Result<OrderId, CoordinatorError> {
        if let Some(reason) = order.refusal() {
            return Err(CoordinatorError::Order { reason });
        }
        let sent_ms = self.mono_ms.unwrap_or(0);
        let Some(node) = self.nodes.get_mut(name) else {
            return Err(CoordinatorError::NoNode { node: name.to_string() });
        };
        if node.orders.pending.len() >= PENDING_MAX {
            return Err(CoordinatorError::Orders { node: name.to_string(), max: PENDING_MAX });
        }
        let id = self.next_order;
        self.next_order += 1;
        send(name, &node.link, id, &order);
        node.orders.pending.insert(id, Given { order, sent_ms });
        Ok(id)
    }

    /// What became of an order; `None` while that is not known, or not any more.
    #[must_use]
    pub fn outcome(&self, name: &str, id: OrderId) -> Option<&OrderOutcome> {
        self.nodes.get(name)?.orders.outcomes.get(&id)
    }

    /// What a node's status says of its orders.
    pub(super) fn check_ordered(&mut self, name: &str, ordered: &[(OrderId, OrderOutcome)]) {
        let now_ms = self.mono_ms.unwrap_or(0);
        // As epochs, numbers are above all that any life of ours has given, also after the clock was set back.
        for (id, _) in ordered {
            self.next_order = self.next_order.max(id.saturating_add(1));
        }
        let Some(node) = self.nodes.get_mut(name) else { return };
        ordered.iter().for_each(|(id, outcome)| node.orders.told(*id, outcome));
        node.orders.remind(name, &node.link, now_ms, &self.counters);
    }
}
