//! The frame of every stateful operator: it collects what belongs to a tick, runs its logic once
//! when the tick is closed, in tick order, and wakes the logic at ticks that are due without input
//! (a pane expires). Ticks at which nothing can happen cost nothing, however many are closed at
//! once.

use std::collections::BTreeMap;
use std::rc::Rc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::ParallelizationContract;
use timely::dataflow::operators::Operator;
use weir_types::PackedRow;
use weir_types::split::Change;

use super::RowStream;
use crate::query::{Env, OpError};

/// What a stream carries, taken apart into its tick and the rest.
pub(super) trait Timed: Clone + 'static {
    type Item: 'static;
    /// `least_ms`: the least tick of the message that it came in.
    fn split(self, least_ms: u64) -> (u64, Self::Item);
}

impl Timed for (PackedRow, u64, i64) {
    type Item = (PackedRow, i64);
    fn split(self, _least_ms: u64) -> (u64, (PackedRow, i64)) {
        (self.1, (self.0, self.2))
    }
}

impl Timed for Change {
    type Item = Change;
    fn split(self, least_ms: u64) -> (u64, Change) {
        (least_ms, self)
    }
}

/// Result rows of one tick.
pub(super) struct Emit {
    tick_ms: u64,
    rows: Vec<(PackedRow, u64, i64)>,
}

impl Emit {
    pub(super) fn row(&mut self, row: PackedRow, diff: i64) {
        self.rows.push((row, self.tick_ms, diff));
    }
    pub(super) fn take(&mut self) -> Vec<(PackedRow, u64, i64)> {
        std::mem::take(&mut self.rows)
    }
}

pub(super) trait TickLogic: 'static {
    type Item: 'static;

    /// All input of a tick, in tick order.
    fn run(&mut self, tick_ms: u64, input: Vec<Self::Item>, emit: &mut Emit)
    -> Result<(), OpError>;

    /// All ticks before `frontier_ms` have been run, or all (`None`). Called at every step.
    fn advanced(&mut self, _frontier_ms: Option<u64>) {}

    /// The next refresh at which to run even without input. After a run, later than that run.
    fn due(&self) -> Option<u64> {
        None
    }

    fn state_bytes(&self) -> usize;
}

/// What a waiting item takes, roughly.
const WAITING_ITEM_BYTES: usize = 128;

struct Ticks<I, L> {
    logic: L,
    waiting: BTreeMap<u64, Vec<I>>,
}

impl<I, L: TickLogic<Item = I>> Ticks<I, L> {
    /// The next tick, from `least_ms` on and before `frontier` (`None`: all input is here), to run at.
    fn next(&self, least_ms: u64, frontier: Option<u64>) -> Option<u64> {
        let with_input = self.waiting.first_key_value().map(|(&tick_ms, _)| tick_ms);
        // Without an end, an operator that is due at every tick would never come to one.
        let due = self.logic.due().filter(|_| frontier.is_some());
        let due = due.map(|due| due.max(least_ms));
        let next = [with_input, due].into_iter().flatten().min()?;
        frontier.is_none_or(|frontier| next < frontier).then_some(next)
    }

    fn bytes(&self) -> usize {
        let waiting: usize = self.waiting.values().map(Vec::len).sum();
        self.logic.state_bytes() + waiting * WAITING_ITEM_BYTES
    }
}

/// Wraps `logic` into a timely operator on `stream`.
pub(super) fn tick_operator<'s, W, P, L>(
    env: &Rc<Env>,
    stream: Stream<'s, u64, Vec<W>>,
    pact: P,
    name: &'static str,
    logic: L,
) -> RowStream<'s>
where
    W: Timed,
    P: ParallelizationContract<u64, Vec<W>>,
    L: TickLogic<Item = W::Item>,
{
    let scope = stream.scope();
    let env = Rc::clone(env);
    stream.unary_frontier::<CapacityContainerBuilder<Vec<_>>, _, _, _>(
        pact,
        name,
        move |mut capability, info| {
            env.register(scope.activator_for(info.address));
            capability.downgrade(&env.query.start_tick_ms());
            let due_slot = env.due_slot();
            let mut parts =
                Some((capability, env.state_gauge(), Ticks { logic, waiting: BTreeMap::new() }));
            move |(input, frontier), output| {
                if !env.is_live() {
                    parts = None;
                    due_slot.set(None);
                }
                let Some((capability, gauge, ticks)) = parts.as_mut() else {
                    input.for_each(|_, data| data.clear());
                    return;
                };
                input.for_each(|stamp, data| {
                    let Some(&least_ms) = stamp.least() else { return };
                    for item in data.drain(..) {
                        let (tick_ms, item) = item.split(least_ms);
                        ticks.waiting.entry(tick_ms).or_default().push(item);
                    }
                });
                let frontier_ms = frontier.frontier().first().copied();
                env.guard(name, || {
                    while let Some(tick_ms) = ticks.next(*capability.time(), frontier_ms) {
                        let input = ticks.waiting.remove(&tick_ms).unwrap_or_default();
                        let mut emit = Emit { tick_ms, rows: Vec::new() };
                        ticks.logic.run(tick_ms, input, &mut emit)?;
                        if !emit.rows.is_empty() {
                            let at = capability.delayed(&tick_ms);
                            output.session(&at).give_container(&mut emit.rows);
                        }
                    }
                    ticks.logic.advanced(frontier_ms);
                    Ok(())
                });
                gauge.set(ticks.bytes());
                due_slot.set(ticks.logic.due());
                match frontier_ms.filter(|_| env.is_live()) {
                    Some(frontier_ms) => capability.downgrade(&frontier_ms.max(*capability.time())),
                    None => parts = None,
                }
            }
        },
    )
}
