//! The sending side of an actor's mailbox: bounded, counted, and valid over restarts.
//!
//! There is no way to send without respect to the bound. Cloning an [`Address`] does not add room.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::dev::MessageResponse;
use actix::{Actor, Context, Handler, Message};
use tokio::sync::{mpsc, oneshot};

use crate::status::Shared;

/// What an actor does with a message.
type Handle<A> = Box<dyn FnOnce(&mut A, &mut <A as Actor>::Context) + Send>;

/// A message with its handler call bound to it; run on the actor's own thread.
pub(crate) struct Envelope<A: Actor> {
    /// The message's type, without its path.
    pub(crate) message: &'static str,
    pub(crate) handle: Handle<A>,
}

/// Why [`Address::try_send`] did not take a message; the message comes back.
#[derive(PartialEq, Eq, thiserror::Error)]
pub enum TrySendError<M> {
    #[error("mailbox is full")]
    Full(M),
    #[error("actor has stopped or failed")]
    Closed(M),
}

impl<M> fmt::Debug for TrySendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TrySendError::Full(_) => "Full(..)",
            TrySendError::Closed(_) => "Closed(..)",
        })
    }
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The message was not taken: no room in the mailbox (never from [`Address::send`]).
    #[error("mailbox is full")]
    Full,
    /// The message was not taken: the actor has stopped or failed for good.
    #[error("actor has stopped or failed")]
    Closed,
    /// The message was taken, but the actor panicked or stopped before it answered.
    #[error("actor stopped before it answered")]
    NoReply,
}

/// Where to send messages for an actor. Cheap to clone; the actor stops when the last one is gone.
pub struct Address<A: Actor> {
    queue: mpsc::Sender<Envelope<A>>,
    shared: Arc<Shared>,
}

impl<A: Actor> Clone for Address<A> {
    fn clone(&self) -> Address<A> {
        Address { queue: self.queue.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<A: Actor> fmt::Debug for Address<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Address").field(&self.shared.name).finish()
    }
}

impl<A: Actor<Context = Context<A>>> Address<A> {
    pub(crate) fn new(queue: mpsc::Sender<Envelope<A>>, shared: Arc<Shared>) -> Address<A> {
        Address { queue, shared }
    }

    /// Puts `message` into the mailbox, or refuses it at once (counted). The answer is dropped.
    ///
    /// # Errors
    /// The mailbox is full, or the actor is gone for good.
    pub fn try_send<M>(&self, message: M) -> Result<(), TrySendError<M>>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        match self.queue.try_reserve() {
            Ok(permit) => {
                self.push(permit, envelope(message, None));
                Ok(())
            }
            Err(mpsc::error::TrySendError::Full(())) => {
                self.shared.refused_full.fetch_add(1, Ordering::Relaxed);
                Err(TrySendError::Full(message))
            }
            Err(mpsc::error::TrySendError::Closed(())) => {
                self.shared.refused_closed.fetch_add(1, Ordering::Relaxed);
                Err(TrySendError::Closed(message))
            }
        }
    }

    /// Waits for room, then for the answer.
    ///
    /// # Errors
    /// The actor is gone for good, or panicked or stopped before it answered.
    pub async fn send<M>(&self, message: M) -> Result<M::Result, SendError>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let Ok(permit) = self.queue.reserve().await else {
            self.shared.refused_closed.fetch_add(1, Ordering::Relaxed);
            return Err(SendError::Closed);
        };
        let (reply, answer) = oneshot::channel();
        self.push(permit, envelope(message, Some(reply)));
        answer.await.map_err(|_| SendError::NoReply)
    }

    /// Puts `message` into the mailbox now or refuses it now; what is returned waits for the answer.
    ///
    /// # Errors
    /// As [`Address::try_send`]; the returned future as [`Address::send`].
    pub fn try_request<M>(
        &self,
        message: M,
    ) -> Result<impl Future<Output = Result<M::Result, SendError>> + use<A, M>, TrySendError<M>>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let permit = match self.queue.try_reserve() {
            Ok(permit) => permit,
            Err(mpsc::error::TrySendError::Full(())) => {
                self.shared.refused_full.fetch_add(1, Ordering::Relaxed);
                return Err(TrySendError::Full(message));
            }
            Err(mpsc::error::TrySendError::Closed(())) => {
                self.shared.refused_closed.fetch_add(1, Ordering::Relaxed);
                return Err(TrySendError::Closed(message));
            }
        };
        let (reply, answer) = oneshot::channel();
        self.push(permit, envelope(message, Some(reply)));
        Ok(async move { answer.await.map_err(|_| SendError::NoReply) })
    }

    /// Reads something off the actor's state, between two messages: for status pages and tests.
    ///
    /// # Errors
    /// As [`Address::send`], and [`SendError::Full`] rather than waiting behind a full mailbox.
    pub async fn observe<R: Send + 'static>(
        &self,
        read: impl FnOnce(&A) -> R + Send + 'static,
    ) -> Result<R, SendError> {
        let permit = self.queue.try_reserve().map_err(|error| match error {
            mpsc::error::TrySendError::Full(()) => SendError::Full,
            mpsc::error::TrySendError::Closed(()) => SendError::Closed,
        })?;
        let (reply, answer) = oneshot::channel();
        let handle: Handle<A> = Box::new(move |actor, _| {
            // The asker may have gone; then nobody wants the answer.
            let _ = reply.send(read(actor));
        });
        let envelope = Envelope { message: "observe", handle };
        self.push(permit, envelope);
        answer.await.map_err(|_| SendError::NoReply)
    }

    /// The same mailbox for one message type, without naming the actor's type.
    #[must_use]
    pub fn recipient<M>(&self) -> Recipient<M>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let address = self.clone();
        Recipient { try_send: Arc::new(move |message| address.try_send(message)) }
    }

    /// An address that does not keep the actor alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakAddress<A> {
        WeakAddress { queue: self.queue.downgrade(), shared: Arc::clone(&self.shared) }
    }

    /// Whether the actor may still take messages, now or after a restart.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.queue.is_closed()
    }

    fn push(&self, permit: mpsc::Permit<'_, Envelope<A>>, envelope: Envelope<A>) {
        // Counted before it is visible to the receiver, so that the count never goes below zero.
        self.shared.queued.fetch_add(1, Ordering::Relaxed);
        permit.send(envelope);
    }
}

fn envelope<A, M>(message: M, reply: Option<oneshot::Sender<M::Result>>) -> Envelope<A>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    let handle = Box::new(move |actor: &mut A, ctx: &mut A::Context| {
        if reply.as_ref().is_some_and(oneshot::Sender::is_closed) {
            return; // The asker timed out or went away: its request is not worth doing.
        }
        actor.handle(message, ctx).handle(ctx, reply);
    });
    let path = std::any::type_name::<M>();
    Envelope { message: path.rsplit("::").next().unwrap_or(path), handle }
}

/// An [`Address`] that does not keep its actor alive.
pub struct WeakAddress<A: Actor> {
    queue: mpsc::WeakSender<Envelope<A>>,
    shared: Arc<Shared>,
}

impl<A: Actor> Clone for WeakAddress<A> {
    fn clone(&self) -> WeakAddress<A> {
        WeakAddress { queue: self.queue.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<A: Actor<Context = Context<A>>> WeakAddress<A> {
    /// The address, unless the last one is gone already.
    #[must_use]
    pub fn upgrade(&self) -> Option<Address<A>> {
        let queue = self.queue.upgrade()?;
        Some(Address { queue, shared: Arc::clone(&self.shared) })
    }
}

/// [`Address::try_send`] for one message type, whatever the actor behind it.
pub struct Recipient<M> {
    try_send: Arc<TrySend<M>>,
}

type TrySend<M> = dyn Fn(M) -> Result<(), TrySendError<M>> + Send + Sync;

impl<M> Clone for Recipient<M> {
    fn clone(&self) -> Recipient<M> {
        Recipient { try_send: Arc::clone(&self.try_send) }
    }
}

impl<M> Recipient<M> {
    /// # Errors
    /// The mailbox is full, or the actor is gone for good.
    pub fn try_send(&self, message: M) -> Result<(), TrySendError<M>> {
        (self.try_send)(message)
    }
}
