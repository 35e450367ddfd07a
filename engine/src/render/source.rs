//! The way into a dataflow: a queue that the worker fills and a timely source that empties it, a slice at a
//! time. What waits is counted, and holds up the frontier of its own query only.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::generic::operator::source as timely_source;
use timely::dataflow::{Scope, Stream};
use timely::scheduling::Activator;
use weir_types::PackedRow;
use weir_types::split::Change;

use super::RowStream;
use super::publish::Told;
use crate::budget::{Gauge, Purpose};
use crate::operators::{Frame, RowCount, rows_of};
use crate::query::{Env, OpError, QueryShared};
use crate::weigh;

/// Something that arrived, and how it is counted while it waits.
struct Arrival<I> {
    tick_ms: u64,
    /// What was open when it came: nothing behind it in the queue is of an earlier tick.
    open_tick_ms: u64,
    item: I,
    _held: Arc<Gauge>,
}

struct Queue<I> {
    items: VecDeque<Arrival<I>>,
    /// Nothing comes below this any more.
    open_tick_ms: u64,
}

pub(super) struct SourceHandle<I> {
    env: Rc<Env>,
    frame: Arc<Frame>,
    queue: Rc<RefCell<Queue<I>>>,
    activator: Activator,
}

impl<I> SourceHandle<I> {
    /// Counts bytes that are about to wait here.
    pub(super) fn count(&self, bytes: usize) -> Arc<Gauge> {
        self.count_as(Purpose::Waiting, bytes)
    }
    /// The same of rows as they came, that no operator has looked at.
    pub(super) fn count_arrived(&self, bytes: usize) -> Arc<Gauge> {
        self.count_as(Purpose::Arrived, bytes)
    }
    fn count_as(&self, purpose: Purpose, bytes: usize) -> Arc<Gauge> {
        let mut gauge = self.env.gauge_of(&self.frame, purpose);
        gauge.set(bytes);
        Arc::new(gauge)
    }
    /// `tick_ms` must not be below what was opened.
    pub(super) fn push(&self, tick_ms: u64, item: I, held: Arc<Gauge>) {
        // One that was counted just now may have been too much.
        if self.env.is_live() {
            let queue = &mut *self.queue.borrow_mut();
            let open_tick_ms = queue.open_tick_ms;
            queue.items.push_back(Arrival { tick_ms, open_tick_ms, item, _held: held });
        }
        self.activator.activate();
    }
    pub(super) fn open(&self, tick_ms: u64) {
        self.queue.borrow_mut().open_tick_ms = tick_ms;
        self.activator.activate();
    }
}

/// Takes what a source makes of its items.
pub(super) struct Sink<'a, O> {
    give: &'a mut dyn FnMut(u64, &mut Vec<O>),
    query: &'a QueryShared,
    frame: &'a Frame,
}

impl<O: RowCount> Sink<'_, O> {
    /// So many rows are looked at.
    pub(super) fn took(&self, rows: usize) {
        if self.frame.counts {
            self.query.rows_in.fetch_add(rows as u64, Ordering::Relaxed);
        }
        self.frame.took(rows);
    }

    /// Takes a container with the tick it belongs to.
    pub(super) fn give(&mut self, tick_ms: u64, rows: &mut Vec<O>) {
        self.frame.gave(rows_of(rows));
        (self.give)(tick_ms, rows);
    }
}

/// What a source did with an item.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Took {
    All,
    Part,
    /// It must come round again when others have gone on.
    Nothing,
}

impl Took {
    fn all(is_all: bool) -> Took {
        if is_all { Took::All } else { Took::Part }
    }
}

/// A source whose `logic` turns each item and its tick into containers, at that tick or later. It takes a
/// slice off an item and says how much is left of it.
pub(super) fn source<'s, I, O, L>(
    scope: Scope<'s, u64>,
    env: &Rc<Env>,
    name: &'static str,
    mut logic: L,
) -> (Stream<'s, u64, Vec<O>>, SourceHandle<I>)
where
    I: 'static,
    O: Clone + RowCount + 'static,
    L: FnMut(u64, &mut I, &mut Sink<'_, O>) -> Result<Took, OpError> + 'static,
{
    let start_tick_ms = env.query.start_tick_ms();
    let queue =
        Rc::new(RefCell::new(Queue { items: VecDeque::new(), open_tick_ms: start_tick_ms }));
    let frame = env.frame(name);
    let frame_there = Arc::clone(&frame);
    let mut activator = None;
    let env_there = Rc::clone(env);
    let queue_there = Rc::clone(&queue);
    let stream = timely_source::<_, CapacityContainerBuilder<Vec<O>>, _, _>(
        scope,
        name,
        |mut capability, info| {
            let own = scope.activator_for(info.address);
            activator = Some(own.clone());
            let env = env_there;
            env.register(own.clone());
            capability.downgrade(&start_tick_ms);
            let mut capability = Some(capability);
            move |output| {
                if let Some(capability) = capability.as_mut().filter(|_| env.is_live()) {
                    let mut is_over = false;
                    env.guard(&frame_there, || {
                        let mut is_first = true;
                        loop {
                            let Some(mut arrival) = queue_there.borrow_mut().items.pop_front()
                            else {
                                return Ok(());
                            };
                            let was_first = std::mem::take(&mut is_first);
                            is_over = !was_first && (env.turn_is_over() || !env.is_live());
                            let took = if is_over {
                                Took::Nothing
                            } else {
                                let mut give = |tick: u64, rows: &mut Vec<O>| {
                                    let at = capability.delayed(&tick);
                                    output.session(&at).give_container(rows);
                                };
                                let (query, frame) = (&*env.query, &*frame_there);
                                let mut sink = Sink { give: &mut give, query, frame };
                                logic(arrival.tick_ms, &mut arrival.item, &mut sink)?
                            };
                            is_over |= took == Took::Nothing;
                            if took != Took::All {
                                queue_there.borrow_mut().items.push_front(arrival);
                            }
                            if is_over {
                                return Ok(());
                            }
                        }
                    });
                    let queue = queue_there.borrow();
                    let open_ms = queue.items.front().map(|arrival| arrival.open_tick_ms);
                    let open_ms = open_ms.unwrap_or(queue.open_tick_ms);
                    capability.downgrade(&open_ms.max(*capability.time()));
                    if is_over {
                        env.come_round(&own);
                    }
                }
                if !env.is_live() {
                    capability = None;
                    queue_there.borrow_mut().items.clear();
                }
            }
        },
    );
    let activator = activator.expect("timely calls an operator's constructor at once");
    (stream, SourceHandle { env: Rc::clone(env), frame, queue, activator })
}

/// Changes of an exchange, as they came.
pub(super) fn changes<'s>(
    scope: Scope<'s, u64>,
    env: &Rc<Env>,
) -> (Stream<'s, u64, Vec<Change>>, SourceHandle<VecDeque<Change>>) {
    let rows_max = env.limits().slice_rows_max.max(1);
    source(scope, env, "Receive", move |tick_ms, changes: &mut VecDeque<Change>, sink| {
        let count = changes.len().min(rows_max);
        sink.took(count);
        let mut slice: Vec<Change> = if count == changes.len() {
            std::mem::take(changes).into()
        } else {
            changes.drain(..count).collect()
        };
        sink.give(tick_ms, &mut slice);
        Ok(Took::all(changes.is_empty()))
    })
}

/// Changes that another operator of the same worker has made of what it was given.
pub(super) fn spilled<'s>(
    scope: Scope<'s, u64>,
    env: &Rc<Env>,
) -> (Stream<'s, u64, Vec<Change>>, SourceHandle<Vec<Change>>) {
    source(scope, env, "Spill", move |tick_ms, changes: &mut Vec<Change>, sink| {
        sink.give(tick_ms, changes);
        Ok(Took::All)
    })
}

/// The rows of a feed, and how many of them have been taken in.
pub(super) type Import = (Told, usize);

pub(super) fn import<'s>(
    scope: Scope<'s, u64>,
    env: &Rc<Env>,
) -> (RowStream<'s>, SourceHandle<Import>) {
    let rows_max = env.limits().slice_rows_max.max(1);
    source(scope, env, "Import", move |tick_ms, (told, from): &mut Import, sink| {
        let until = told.len().min(from.saturating_add(rows_max));
        sink.took(until - *from);
        let whole = *from == 0 && until == told.len();
        // The last of the readers need not copy.
        let mut rows = match Rc::get_mut(told).filter(|_| whole) {
            Some(rows) => std::mem::take(rows),
            None => told[*from..until].to_vec(),
        };
        rows.iter_mut().for_each(|(_, at_ms, _)| *at_ms = tick_ms);
        sink.give(tick_ms, &mut rows);
        *from = until;
        Ok(Took::all(until >= told.len()))
    })
}

/// The rows of a table function: each item takes the place of the former one.
pub(super) fn table_function<'s>(
    scope: Scope<'s, u64>,
    env: &Rc<Env>,
) -> (RowStream<'s>, SourceHandle<Arc<Vec<PackedRow>>>) {
    let mut current: Arc<Vec<PackedRow>> = Arc::default();
    let mut gauge = env.gauge(Purpose::State);
    let query = Arc::clone(&env.query);
    source(scope, env, "TableFunction", move |tick_ms, rows: &mut Arc<Vec<PackedRow>>, sink| {
        let bytes = |rows: &[PackedRow]| rows.iter().map(weigh::item).sum::<usize>();
        // The former rows are copied, too, to be taken back.
        gauge.set(2 * (bytes(rows) + bytes(&current)));
        if !query.is_live() {
            return Ok(Took::All);
        }
        let gone = current.iter().map(|row| (row.clone(), tick_ms, -1));
        let come = rows.iter().map(|row| (row.clone(), tick_ms, 1));
        let mut container: Vec<_> = gone.chain(come).collect();
        differential_dataflow::consolidation::consolidate_updates(&mut container);
        sink.give(tick_ms, &mut container);
        current = Arc::clone(rows);
        gauge.set(bytes(&current));
        Ok(Took::All)
    })
}
