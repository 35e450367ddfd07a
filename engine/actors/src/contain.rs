//! One life of an actor, with every panic caught: from `started` to `stopped`, or to a panic in
//! any hook, handler, timer, stream or drop.
//!
//! Key facts about actix 0.13's `ContextFut` that shape this file:
//!
//! 1. Dropping one that is alive polls the actor again (its `stopping` and `stopped` hooks). tokio
//!    drops a panicked task's future while unwinding, so a second panic there aborts. Hence the
//!    panic is caught *here*, the context terminated (then drop does not poll), and the drop
//!    itself caught too.
//! 2. `terminate` also clears the "started" mark, so polling afterwards would call `started`
//!    again: a terminated context is only ever dropped.
//! 3. An item that returns pending while `ctx.wait` futures are queued is polled again once those
//!    are done, without its waker: the pump may simply return.

use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{self, Poll, ready};

use actix::dev::ContextFut;
use actix::{Actor, ActorContext, ActorFuture, AsyncContext, Context};
use futures_util::future::LocalBoxFuture;
use tokio::sync::mpsc;

use crate::address::Envelope;
use crate::status::Shared;
use weir_types::text::panic_text;

/// The receiving end of a mailbox: kept by the supervisor, lent to one life after another.
pub(crate) type Queue<A> = Rc<RefCell<mpsc::Receiver<Envelope<A>>>>;

/// How a life ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Stopped,
    Panicked(String),
}

/// Runs one actor until it stops, is told to, or panics.
pub(crate) struct Life<A: Actor<Context = Context<A>>> {
    /// `None` once it ended.
    fut: Option<ContextFut<A, Context<A>>>,
    stop: LocalBoxFuture<'static, ()>,
    stopping: bool,
}

impl<A: Actor<Context = Context<A>>> Life<A> {
    pub(crate) fn new(actor: A, queue: &Queue<A>, shared: &Arc<Shared>) -> Life<A> {
        let mut ctx = Context::new();
        // actix's own mailbox is still there for `ctx.address()`; the same bound holds for it.
        ctx.set_mailbox_capacity(shared.mailbox_capacity);
        ctx.spawn(Pump { queue: Rc::clone(queue), shared: Arc::clone(shared) });
        let fut = Some(ctx.into_future(actor));
        Life { fut, stop: Box::pin(shared.stop_requested()), stopping: false }
    }

    fn end(&mut self) -> Result<(), String> {
        let Some(mut fut) = self.fut.take() else { return Ok(()) };
        fut.ctx().terminate();
        catch_unwind(AssertUnwindSafe(|| drop(fut))).map_err(|payload| panic_text(&*payload))
    }
}

impl<A: Actor<Context = Context<A>>> Future for Life<A> {
    type Output = Exit;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Exit> {
        let this = self.get_mut();
        let Some(fut) = this.fut.as_mut() else { return Poll::Ready(Exit::Stopped) };
        if !this.stopping && this.stop.as_mut().poll(cx).is_ready() {
            this.stopping = true;
            fut.ctx().stop();
        }
        let panic = match catch_unwind(AssertUnwindSafe(|| Pin::new(fut).poll(cx))) {
            Ok(Poll::Pending) if !this.stopping => return Poll::Pending,
            // Still pending though told to stop: its `stopping` hook said no. It is not asked twice.
            Ok(_) => None,
            Err(payload) => Some(panic_text(&*payload)),
        };
        let dropped = this.end();
        Poll::Ready(match (panic, dropped) {
            (Some(message), _) | (None, Err(message)) => Exit::Panicked(message),
            (None, Ok(())) => Exit::Stopped,
        })
    }
}

impl<A: Actor<Context = Context<A>>> Drop for Life<A> {
    /// The thread that runs the actor is going away: no hook runs any more.
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Carries messages from the queue into the handlers, as one of the actor's own futures.
struct Pump<A: Actor<Context = Context<A>>> {
    queue: Queue<A>,
    shared: Arc<Shared>,
}

impl<A: Actor<Context = Context<A>>> ActorFuture<A> for Pump<A> {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut A,
        ctx: &mut Context<A>,
        task: &mut task::Context<'_>,
    ) -> Poll<()> {
        // tokio's per-task budget bounds this loop: past it the queue says pending and wakes us.
        loop {
            if ctx.waiting() {
                return Poll::Pending; // Fact 3, or the context is stopping.
            }
            let next = self.queue.borrow_mut().poll_recv(task);
            let Some(envelope) = ready!(next) else {
                ctx.stop(); // The last address is gone.
                return Poll::Ready(());
            };
            self.shared.queued.fetch_sub(1, Ordering::Relaxed);
            let Envelope { message, handle } = envelope;
            self.shared.handling(message, || handle(actor, ctx));
        }
    }
}
