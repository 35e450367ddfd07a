//! The way into a dataflow: a queue that the worker fills and a timely source that empties it.

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
use crate::query::{Env, OpError};

struct Queue<I> {
    items: VecDeque<(u64, I)>,
    /// Nothing comes below this any more.
    open_tick_ms: u64,
}

pub(super) struct SourceHandle<I> {
    queue: Rc<RefCell<Queue<I>>>,
    activator: Activator,
}

impl<I> SourceHandle<I> {
    /// `tick_ms` must not be below what was opened.
    pub(super) fn push(&self, tick_ms: u64, item: I) {
        self.queue.borrow_mut().items.push_back((tick_ms, item));
        self.activator.activate();
    }
    pub(super) fn open(&self, tick_ms: u64) {
        self.queue.borrow_mut().open_tick_ms = tick_ms;
        self.activator.activate();
    }
}

/// Takes containers with the tick they belong to.
pub(super) type Sink<'a, O> = &'a mut dyn FnMut(u64, &mut Vec<O>);

/// A source whose `logic` turns each item and its tick into containers, at that tick or later.
pub(super) fn source<'s, I, O, L>(
    scope: Scope<'s, u64>,
    env: &Rc<Env>,
    name: &'static str,
    mut logic: L,
) -> (Stream<'s, u64, Vec<O>>, SourceHandle<I>)
where
    I: 'static,
    O: Clone + 'static,
    L: FnMut(u64, I, Sink<'_, O>) -> Result<(), OpError> + 'static,
{
    let start_tick_ms = env.query.start_tick_ms();
    let queue =
        Rc::new(RefCell::new(Queue { items: VecDeque::new(), open_tick_ms: start_tick_ms }));
    let mut activator = None;
    let env = Rc::clone(env);
    let queue_there = Rc::clone(&queue);
    let stream = timely_source::<_, CapacityContainerBuilder<Vec<O>>, _, _>(
        scope,
        name,
        |mut capability, info| {
            activator = Some(scope.activator_for(Rc::clone(&info.address)));
            env.register(scope.activator_for(info.address));
            capability.downgrade(&start_tick_ms);
            let mut capability = Some(capability);
            move |output| {
                let mut items = std::mem::take(&mut queue_there.borrow_mut().items);
                if let Some(capability) = capability.as_mut().filter(|_| env.is_live()) {
                    env.guard(name, || {
                        items.drain(..).try_for_each(|(tick_ms, item)| {
                            logic(tick_ms, item, &mut |tick_ms, container| {
                                let at = capability.delayed(&tick_ms);
                                output.session(&at).give_container(container);
                            })
                        })
                    });
                    capability.downgrade(&queue_there.borrow().open_tick_ms);
                }
                if !env.is_live() {
                    capability = None;
                }
            }
        },
    );
    let activator = activator.expect("timely calls an operator's constructor at once");
    (stream, SourceHandle { queue, activator })
}

/// Changes of an exchange, as they came.
pub(super) fn changes<'s>(
    scope: Scope<'s, u64>,
    env: &Rc<Env>,
) -> (Stream<'s, u64, Vec<Change>>, SourceHandle<Vec<Change>>) {
    let query = Arc::clone(&env.query);
    source(scope, env, "Receive", move |tick_ms, mut changes: Vec<Change>, sink| {
        query.rows_in.fetch_add(changes.len() as u64, Ordering::Relaxed);
        sink(tick_ms, &mut changes);
        Ok(())
    })
}

/// The rows of a feed.
pub(super) fn import<'s>(
    scope: Scope<'s, u64>,
    env: &Rc<Env>,
) -> (RowStream<'s>, SourceHandle<Told>) {
    let query = Arc::clone(&env.query);
    source(scope, env, "Import", move |tick_ms, told: Told, sink| {
        query.rows_in.fetch_add(told.len() as u64, Ordering::Relaxed);
        // The last of the readers need not copy.
        let mut rows = Rc::try_unwrap(told).unwrap_or_else(|told| Vec::clone(&told));
        rows.iter_mut().for_each(|(_, at_ms, _)| *at_ms = tick_ms);
        sink(tick_ms, &mut rows);
        Ok(())
    })
}

/// The rows of a table function: each item takes the place of the former one.
pub(super) fn table_function<'s>(
    scope: Scope<'s, u64>,
    env: &Rc<Env>,
) -> (RowStream<'s>, SourceHandle<Arc<Vec<PackedRow>>>) {
    let mut current: Arc<Vec<PackedRow>> = Arc::default();
    source(scope, env, "TableFunction", move |tick_ms, rows: Arc<Vec<PackedRow>>, sink| {
        let gone = current.iter().map(|row| (row.clone(), tick_ms, -1));
        let come = rows.iter().map(|row| (row.clone(), tick_ms, 1));
        let mut container: Vec<_> = gone.chain(come).collect();
        differential_dataflow::consolidation::consolidate_updates(&mut container);
        sink(tick_ms, &mut container);
        current = rows;
        Ok(())
    })
}
