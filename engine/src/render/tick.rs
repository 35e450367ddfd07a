//! The frame of every stateful operator: it collects what belongs to a tick, runs its logic when the tick
//! is closed, in tick order, and wakes the logic at ticks that are due without input (a pane expires).
//! Ticks at which nothing can happen cost nothing, however many are closed at once.
//!
//! A tick's work is done in slices. When the query's turn is over the operator comes round again; until the
//! tick is done it holds a capability at it, so the query's own frontier waits and nobody else's does.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::ParallelizationContract;
use timely::dataflow::operators::{Capability, Operator};
use timely::scheduling::Activator;
use weir_types::PackedRow;
use weir_types::split::Change;

use super::RowStream;
use super::runs::Waiting;
use crate::budget::{Fuel, Gauge, Purpose};
use crate::operators::Frame;
use crate::query::{DueSlot, Env, OpError};
use crate::weigh::Weigh;

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
    /// Rows that went another way.
    elsewhere_count: usize,
}

impl Emit {
    pub(super) fn row(&mut self, row: PackedRow, diff: i64) {
        self.rows.push((row, self.tick_ms, diff));
    }
    pub(super) fn take(&mut self) -> Vec<(PackedRow, u64, i64)> {
        self.elsewhere_count += self.rows.len();
        std::mem::take(&mut self.rows)
    }
    /// So many rows were handed out in another way.
    pub(super) fn handed_out(&mut self, rows: usize) {
        self.elsewhere_count += rows;
    }
}

/// How far a slice of work has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The tick is done.
    Done,
    /// There is more to do.
    More,
    /// There is more to hand out, and no room for it.
    Blocked,
}

impl Progress {
    pub(super) fn done(is_done: bool) -> Progress {
        if is_done { Progress::Done } else { Progress::More }
    }
}

pub(super) trait TickLogic: 'static {
    type Waiting: Waiting;

    /// A slice of a tick's work, in tick order; called with the same tick until that is done.
    fn work(
        &mut self,
        tick_ms: u64,
        input: &mut Self::Waiting,
        emit: &mut Emit,
        fuel: &mut Fuel,
    ) -> Result<Progress, OpError>;

    /// A slice of what is to be done between two ticks; true if there is no more of it.
    fn between_ticks(&mut self, _fuel: &mut Fuel) -> bool {
        true
    }

    /// All ticks before `tick_ms` have been run, or all (`None`). Called whenever the operator has run.
    fn advanced(&mut self, _tick_ms: Option<u64>) {}

    /// The next refresh at which to run even without input. After a run, later than that run.
    fn due(&self) -> Option<u64> {
        None
    }

    fn state_bytes(&self) -> usize;

    /// Hands over what it keeps, because the query has ended: freeing it may take long.
    fn give_up(self) -> Box<dyn Send>;
}

/// A logic with its input.
struct Ticks<L: TickLogic> {
    logic: L,
    waiting: BTreeMap<u64, L::Waiting>,
    /// The tick that is being worked on.
    current: Option<(u64, L::Waiting)>,
    state: Gauge,
    held: Gauge,
    frame: Arc<Frame>,
}

/// Why an operator has stopped.
enum Stopped {
    /// All closed ticks are run.
    Idle,
    /// It was somebody else's turn.
    TurnOver,
    Blocked,
}

impl<L: TickLogic> Ticks<L> {
    fn new(logic: L, env: &Env, frame: &Arc<Frame>) -> Ticks<L> {
        Ticks {
            logic,
            waiting: BTreeMap::new(),
            current: None,
            state: env.gauge_of(frame, Purpose::State),
            held: env.gauge_of(frame, Purpose::Waiting),
            frame: Arc::clone(frame),
        }
    }

    /// The next tick, from `least_ms` on and before `frontier` (`None`: all input is here), to run at.
    fn next(&self, least_ms: u64, frontier: Option<u64>) -> Option<u64> {
        let with_input = self.waiting.first_key_value().map(|(&tick_ms, _)| tick_ms);
        // Without an end, an operator that is due at every tick would never come to one.
        let due = self.logic.due().filter(|_| frontier.is_some());
        let due = due.map(|due| due.max(least_ms));
        let next = [with_input, due].into_iter().flatten().min()?;
        frontier.is_none_or(|frontier| next < frontier).then_some(next)
    }

    fn count(&mut self) {
        self.state.set(self.logic.state_bytes());
        let current = self.current.as_ref().map_or(0, |(_, waiting)| waiting.bytes());
        self.held.set(current + self.waiting.values().map(Waiting::bytes).sum::<usize>());
    }

    /// Begins the next closed tick. False: there is none.
    fn begin(&mut self, least_ms: u64, frontier_ms: Option<u64>) -> bool {
        let Some(tick_ms) = self.next(least_ms, frontier_ms) else { return false };
        let mut input = self.waiting.remove(&tick_ms).unwrap_or_default();
        input.seal();
        self.current = Some((tick_ms, input));
        true
    }

    /// Works through the closed ticks until the turn is over.
    fn run(
        &mut self,
        env: &Env,
        capability: &Capability<u64>,
        frontier_ms: Option<u64>,
        mut give: impl FnMut(u64, &mut Vec<(PackedRow, u64, i64)>),
    ) -> Result<Stopped, OpError> {
        let mut is_first = true;
        loop {
            let mut fuel = Fuel::new(env.limits());
            if self.current.is_none() {
                if !self.logic.between_ticks(&mut fuel) {
                    if env.turn_is_over() {
                        return Ok(Stopped::TurnOver);
                    }
                    continue;
                }
                if !self.begin(*capability.time(), frontier_ms) {
                    return Ok(Stopped::Idle);
                }
            }
            if !is_first && env.turn_is_over() {
                return Ok(Stopped::TurnOver);
            }
            is_first = false;
            let Some((tick_ms, input)) = &mut self.current else { return Ok(Stopped::Idle) };
            let tick_ms = *tick_ms;
            let mut emit = Emit { tick_ms, rows: Vec::new(), elsewhere_count: 0 };
            let progress = self.logic.work(tick_ms, input, &mut emit, &mut fuel)?;
            self.frame.gave(emit.rows.len() + emit.elsewhere_count);
            if !emit.rows.is_empty() {
                give(tick_ms, &mut emit.rows);
            }
            if progress == Progress::Done {
                self.current = None;
            }
            self.count();
            if progress == Progress::Blocked {
                return Ok(Stopped::Blocked);
            }
            if !env.is_live() {
                return Ok(Stopped::Idle);
            }
        }
    }

    /// The least tick at which something may still come out; `None`: nothing will.
    fn open_ms(&self, stopped: &Stopped, frontier_ms: Option<u64>) -> Option<u64> {
        match (&self.current, stopped) {
            (Some((tick_ms, _)), _) => Some(*tick_ms),
            // Between two ticks: the next is not begun yet.
            (None, Stopped::TurnOver) => {
                let waiting = self.waiting.first_key_value().map(|(&tick_ms, _)| tick_ms);
                [waiting, self.logic.due(), frontier_ms].into_iter().flatten().min()
            }
            (None, _) => frontier_ms,
        }
    }
}

/// What an operator has until it ends.
struct Parts<L: TickLogic> {
    capability: Capability<u64>,
    ticks: Ticks<L>,
}

impl<L: TickLogic> Parts<L> {
    fn give_up(self, env: &Env) {
        let Ticks { logic, waiting, current, .. } = self.ticks;
        env.engine.throw_away(Some(Box::new((logic.give_up(), waiting, current))));
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
    W::Item: Weigh,
    P: ParallelizationContract<u64, Vec<W>>,
    L: TickLogic,
    L::Waiting: Waiting<Item = W::Item>,
{
    let scope = stream.scope();
    let env = Rc::clone(env);
    stream.unary_frontier::<CapacityContainerBuilder<Vec<_>>, _, _, _>(
        pact,
        name,
        move |mut capability, info| {
            let activator = scope.activator_for(info.address);
            env.register(activator.clone());
            capability.downgrade(&env.query.start_tick_ms());
            let due_slot = env.due_slot();
            let frame = env.frame(name);
            let ticks = Ticks::new(logic, &env, &frame);
            let mut parts = Some(Parts { capability, ticks });
            move |(input, frontier), output| {
                if !env.is_live()
                    && let Some(parts) = parts.take()
                {
                    parts.give_up(&env);
                    due_slot.set(None);
                }
                let Some(Parts { capability, ticks }) = parts.as_mut() else {
                    input.for_each(|_, data| data.clear());
                    return;
                };
                let frontier_ms = frontier.frontier().first().copied();
                let mut stopped = Stopped::Idle;
                env.guard(&frame, || {
                    let mut has_come = false;
                    input.for_each(|stamp, data| {
                        let Some(&least_ms) = stamp.least() else { return };
                        has_come = true;
                        frame.took(data.len());
                        for item in data.drain(..) {
                            let (tick_ms, item) = item.split(least_ms);
                            ticks.waiting.entry(tick_ms).or_default().push(item);
                        }
                    });
                    if has_come {
                        ticks.count();
                    }
                    stopped = ticks.run(&env, capability, frontier_ms, |tick_ms, rows| {
                        let at = capability.delayed(&tick_ms);
                        output.session(&at).give_container(rows);
                    })?;
                    Ok(())
                });
                let open_ms = settle(&env, ticks, &stopped, frontier_ms, &due_slot, &activator);
                match open_ms.filter(|_| env.is_live()) {
                    Some(open_ms) => capability.downgrade(&open_ms.max(*capability.time())),
                    None => {
                        if let Some(parts) = parts.take() {
                            parts.give_up(&env);
                        }
                    }
                }
            }
        },
    )
}

/// Sees to it that the operator runs when there is something to do, and tells how far it has come.
fn settle<L: TickLogic>(
    env: &Env,
    ticks: &mut Ticks<L>,
    stopped: &Stopped,
    frontier_ms: Option<u64>,
    due_slot: &DueSlot,
    activator: &Activator,
) -> Option<u64> {
    match stopped {
        Stopped::Idle => {}
        Stopped::TurnOver => env.come_round(activator),
        Stopped::Blocked => env.wait_for_receiver(),
    }
    let open_ms = ticks.open_ms(stopped, frontier_ms);
    ticks.logic.advanced(open_ms);
    ticks.count();
    due_slot.set(ticks.logic.due());
    open_ms
}
