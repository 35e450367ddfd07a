//! Orders on their way to the sources of a node, and what became of them.
//!
//! Each source has a bounded queue, which wakes it. An order is given to all sources; most say that it is
//! not theirs. It is done once, however often it comes: a repeat changes nothing, and one that was overtaken
//! by a later one of its kind is refused. Queues outlive the threads of their sources.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};
use weir_sources::source::Waker;
use weir_types::source::{OrderId, OrderOutcome, SourceOrder};

/// Orders that wait for one source; more are refused.
const WAITING_MAX: usize = 64;
/// Orders of which it is remembered what became of them: whoever gave them reads it twice a second.
const TOLD_MAX: usize = 128;

/// An order in a source's queue; without a number nobody asks what becomes of it.
pub(crate) type Given = (Option<OrderId>, Arc<SourceOrder>);

/// The orders of one source.
pub struct OrderQueue {
    give: Sender<Given>,
    waiting: Receiver<Given>,
    waker: Mutex<Option<Waker>>,
    /// What the source is at; a panic leaves it here.
    at_hand: Mutex<Option<OrderId>>,
    refused_total: AtomicU64,
}

impl Default for OrderQueue {
    fn default() -> OrderQueue {
        let (give, waiting) = bounded(WAITING_MAX);
        let (waker, at_hand) = (Mutex::default(), Mutex::default());
        OrderQueue { give, waiting, waker, at_hand, refused_total: AtomicU64::new(0) }
    }
}

impl OrderQueue {
    /// False if there is no room.
    fn give(&self, given: Given) -> bool {
        let taken = self.give.try_send(given).is_ok();
        if !taken {
            self.refused_total.fetch_add(1, Ordering::Relaxed);
        }
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(waker) = waker {
            waker();
        }
        taken
    }

    /// The source's thread waits from now on, and is woken so.
    pub(crate) fn wake_by(&self, waker: Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker);
    }

    /// The next order; it is at hand until [`OrderQueue::take_at_hand`].
    pub(crate) fn take(&self) -> Option<Given> {
        let given = self.waiting.try_recv().ok()?;
        *self.at_hand.lock().unwrap_or_else(PoisonError::into_inner) = given.0;
        Some(given)
    }

    /// The order that was taken and not answered.
    pub(crate) fn take_at_hand(&self) -> Option<OrderId> {
        self.at_hand.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// An order that some source has not answered yet.
struct Pending {
    asked: BTreeSet<String>,
    /// Of those that did.
    outcome: OrderOutcome,
}

/// The node's end.
#[derive(Default)]
pub struct Orders {
    queues: BTreeMap<String, Arc<OrderQueue>>,
    /// Sources that run or may come back.
    alive: BTreeSet<String>,
    pending: BTreeMap<OrderId, Pending>,
    /// The newest last.
    told: VecDeque<(OrderId, OrderOutcome)>,
    /// The last order that replaces what was ordered before.
    filters_by: OrderId,
    /// Since something became of an order that was not told yet.
    news: bool,
}

impl Orders {
    /// To these sources, by their names.
    #[must_use]
    pub fn new(queues: BTreeMap<String, Arc<OrderQueue>>) -> Orders {
        Orders { alive: queues.keys().cloned().collect(), queues, ..Orders::default() }
    }

    /// Gives an order whose outcome is told with the next status.
    pub fn give(&mut self, id: OrderId, order: SourceOrder) {
        if self.pending.contains_key(&id) || self.told.iter().any(|(told, _)| *told == id) {
            self.news = true;
            return;
        }
        if let Some(reason) = order.refusal() {
            return self.tell(id, OrderOutcome::refused(reason));
        }
        if matches!(order, SourceOrder::SetFilters(_)) {
            if id < self.filters_by {
                return self.tell(id, OrderOutcome::refused("a later order has overtaken it"));
            }
            self.filters_by = id;
        }
        let order = Arc::new(order);
        let mut pending = Pending { asked: BTreeSet::new(), outcome: OrderOutcome::NotMine };
        for name in &self.alive {
            let Some(queue) = self.queues.get(name) else { continue };
            if queue.give((Some(id), order.clone())) {
                pending.asked.insert(name.clone());
            } else {
                pending.outcome = OrderOutcome::refused(format!("too many orders wait for {name}"));
            }
        }
        self.pending.insert(id, pending);
        self.settle(id);
    }

    /// Gives an order of the node's own, which is given again if it was not done.
    pub fn give_unasked(&self, order: SourceOrder) {
        if order.refusal().is_some() {
            return;
        }
        let order = Arc::new(order);
        for queue in self.alive.iter().filter_map(|name| self.queues.get(name)) {
            queue.give((None, order.clone()));
        }
    }

    /// What a source made of an order.
    pub(crate) fn answered(&mut self, source: &str, id: OrderId, outcome: OrderOutcome) {
        let Some(pending) = self.pending.get_mut(&id) else { return };
        if !pending.asked.remove(source) {
            return;
        }
        match (&pending.outcome, &outcome) {
            // Who refuses is heard, whoever else did it.
            (OrderOutcome::Refused { .. }, _) | (_, OrderOutcome::NotMine) => {}
            _ => pending.outcome = outcome,
        }
        self.settle(id);
    }

    /// A source does not run and never will.
    pub(crate) fn source_gone(&mut self, source: &str) {
        self.alive.remove(source);
        let waiting: Vec<OrderId> = self.pending.keys().copied().collect();
        for id in waiting {
            self.answered(source, id, OrderOutcome::NotMine);
        }
    }

    fn settle(&mut self, id: OrderId) {
        if self.pending.get(&id).is_some_and(|pending| pending.asked.is_empty())
            && let Some(Pending { outcome, .. }) = self.pending.remove(&id)
        {
            self.tell(id, outcome);
        }
    }

    fn tell(&mut self, id: OrderId, outcome: OrderOutcome) {
        if self.told.len() >= TOLD_MAX {
            self.told.pop_front();
        }
        self.told.push_back((id, outcome));
        self.news = true;
    }

    /// What became of the last orders.
    #[must_use]
    pub fn outcomes(&self) -> Vec<(OrderId, OrderOutcome)> {
        self.told.iter().cloned().collect()
    }

    /// Whether something became of an order since this was asked last.
    pub(crate) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// Orders for which there was no room.
    #[must_use]
    pub fn refused_total(&self) -> u64 {
        self.queues.values().map(|queue| queue.refused_total.load(Ordering::Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use weir_types::source::CaptureFilters;

    use super::*;

    fn resolve() -> SourceOrder {
        SourceOrder::Resolve { addresses: vec![] }
    }

    fn rig(names: [&str; 2]) -> (Orders, [Arc<OrderQueue>; 2]) {
        let queues = [Arc::<OrderQueue>::default(), Arc::default()];
        let named = names.iter().map(ToString::to_string).zip(queues.iter().cloned());
        (Orders::new(named.collect()), queues)
    }

    /// An order goes to each source once, however often it comes; it is told once all have answered, and
    /// who did it or refused it is heard before those whom it does not concern. Catches one that waits for
    /// ever for a source that never runs.
    #[test]
    fn orders_are_done_once_and_told() {
        let (mut orders, [a, b]) = rig(["a", "b"]);
        for _ in 0..2 {
            orders.give(7, resolve());
        }
        assert!(a.take().is_some() && a.take().is_none() && b.take().is_some());
        orders.answered("a", 7, OrderOutcome::Done);
        assert_eq!(orders.outcomes(), []);
        orders.answered("b", 7, OrderOutcome::NotMine);
        assert_eq!(orders.outcomes(), [(7, OrderOutcome::Done)]);
        orders.give(7, resolve());
        assert!(a.take().is_none());

        orders.give(8, resolve());
        orders.answered("b", 8, OrderOutcome::refused("no"));
        orders.answered("a", 8, OrderOutcome::Done);
        orders.give(9, resolve());
        orders.answered("a", 9, OrderOutcome::NotMine);
        orders.source_gone("b");
        assert_eq!(orders.outcomes()[1], (8, OrderOutcome::refused("no")));
        assert_eq!(orders.outcomes()[2], (9, OrderOutcome::NotMine));
        b.take();
        b.take();
        orders.give(10, resolve());
        assert!(b.take().is_none(), "it does not run");
    }

    /// Of two orders that replace each other the later one counts, whichever comes first; a repeat of it does
    /// nothing else. Catches filters that come back with an order that was long on its way.
    #[test]
    fn a_later_order_overtakes() {
        let (mut orders, [a, _]) = rig(["a", "b"]);
        let filters = |port| {
            let ports = BTreeSet::from([port]);
            SourceOrder::SetFilters(CaptureFilters { ports, ..CaptureFilters::default() })
        };
        orders.give(5, filters(80));
        orders.give(4, filters(81));
        assert_eq!(*a.take().unwrap().1, filters(80));
        assert!(a.take().is_none());
        assert!(matches!(orders.outcomes()[..], [(4, OrderOutcome::Refused { .. })]));
    }

    /// A source that takes no orders costs room for so many, and the others theirs no time. What is too large
    /// is refused before it waits anywhere.
    #[test]
    fn what_waits_is_bounded() {
        let (mut orders, [a, b]) = rig(["a", "b"]);
        for id in 0..WAITING_MAX as u64 + 10 {
            orders.give(id, resolve());
            assert!(b.take().is_some());
            orders.answered("b", id, OrderOutcome::Done);
        }
        assert_eq!(orders.refused_total(), 10);
        assert_eq!(orders.outcomes().len(), 10, "the others wait for a");
        assert!(matches!(orders.outcomes()[0].1, OrderOutcome::Refused { .. }));
        assert_eq!(std::iter::from_fn(|| a.take()).count(), WAITING_MAX);
        let addresses = vec![[127, 0, 0, 1].into(); 1_025];
        orders.give(1_000, SourceOrder::Resolve { addresses });
        assert!(a.take().is_none() && b.take().is_none());
        assert!(matches!(orders.outcomes().last(), Some((1_000, OrderOutcome::Refused { .. }))));
    }
}
