//! The frame of operators that keep nothing: their input is worked on a slice at a time, and what is left
//! waits with a capability of its own until the query's next turn.

use std::collections::VecDeque;
use std::rc::Rc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::{Capability, Operator};

use crate::budget::Purpose;
use crate::operators::{RowCount, rows_of};
use crate::query::{Env, OpError};

/// What came in one message and is not done yet.
struct Message<I> {
    at: Capability<u64>,
    items: VecDeque<I>,
    bytes: usize,
}

/// `logic` takes a slice off the front of what came, and says what it makes of it. `weigh`: bytes of an
/// item.
pub(super) fn sliced<'s, I, O>(
    env: &Rc<Env>,
    stream: Stream<'s, u64, Vec<I>>,
    name: &'static str,
    weigh: impl Fn(&I) -> usize + 'static,
    mut logic: impl FnMut(u64, &mut VecDeque<I>, &mut Vec<O>) -> Result<(), OpError> + 'static,
) -> Stream<'s, u64, Vec<O>>
where
    I: Clone + RowCount + 'static,
    O: Clone + RowCount + 'static,
{
    let scope = stream.scope();
    let env = Rc::clone(env);
    stream.unary::<CapacityContainerBuilder<Vec<O>>, _, _, _>(
        Pipeline,
        name,
        move |capability, info| {
            drop(capability);
            let activator = scope.activator_for(info.address);
            env.register(activator.clone());
            let frame = env.frame(name);
            let mut held = env.gauge_of(&frame, Purpose::Waiting);
            let mut messages: VecDeque<Message<I>> = VecDeque::new();
            move |input, output| {
                if !env.is_live() {
                    messages.clear();
                    held.set(0);
                    input.for_each(|_, data| data.clear());
                    return;
                }
                let mut is_over = false;
                env.guard(&frame, || {
                    input.for_each(|stamp, data| {
                        let Some(at) = stamp.retain_least(0) else { return };
                        frame.took(rows_of(data));
                        let items: VecDeque<I> = std::mem::take(data).into();
                        let bytes = items.iter().map(&weigh).sum();
                        messages.push_back(Message { at, items, bytes });
                    });
                    let mut is_first = true;
                    while let Some(message) = messages.front_mut() {
                        if message.items.is_empty() {
                            messages.pop_front();
                            continue;
                        }
                        if !is_first && (env.turn_is_over() || !env.is_live()) {
                            is_over = true;
                            break;
                        }
                        is_first = false;
                        let mut done = Vec::new();
                        logic(*message.at.time(), &mut message.items, &mut done)?;
                        if !done.is_empty() {
                            frame.gave(rows_of(&done));
                            output.session(&message.at).give_container(&mut done);
                        }
                    }
                    Ok(())
                });
                // A message counts until all of it is done.
                held.set(messages.iter().map(|message| message.bytes).sum());
                if is_over {
                    env.come_round(&activator);
                }
            }
        },
    )
}
