//! Builds an actor by its factory, runs it, and builds it again after a panic, within a budget.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::{Actor, ArbiterHandle, Context};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, error, warn};

use weir_types::text::panic_text;

use crate::address::{Address, Envelope, WeakAddress};
use crate::budget::Budget;
use crate::config::Config;
use crate::contain::{Exit, Life, Queue};
use crate::status::{Failure, FailureKind, Health, Says, Shared, State, Status};
use crate::switch::KillSwitch;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a factory is told about the life it builds an actor for.
pub struct Birth<A: Actor> {
    /// From 1; above 1 it is a restart.
    pub incarnation: u64,
    /// The actor's own address, weak so that the actor does not keep itself alive.
    pub address: WeakAddress<A>,
    /// For an actor that stands for something else: how that is.
    pub says: Says,
}

/// Starts supervised actors.
pub struct Supervisor;

impl Supervisor {
    /// Starts an actor on the current thread's arbiter, as a leaf of `switch`. Below a switch that
    /// was used already nothing starts: the handle's state is [`State::Stopped`] at once.
    ///
    /// # Panics
    /// Outside an actix system.
    #[must_use = "an actor stops when its last address is gone, and the handle holds one"]
    pub fn start<A, F>(switch: &KillSwitch, name: &str, config: Config, factory: F) -> Handle<A>
    where
        A: Actor<Context = Context<A>>,
        F: FnMut(&Birth<A>) -> Result<A, BoxError> + 'static,
    {
        let (handle, prepared) = prepare(switch, name, config);
        if let Some(prepared) = prepared {
            actix::spawn(prepared.supervise(factory));
        }
        handle
    }

    /// The same on the thread of `arbiter`. The actor itself need not be `Send`: the factory
    /// builds it over there.
    #[must_use = "an actor stops when its last address is gone, and the handle holds one"]
    pub fn start_in<A, F>(
        arbiter: &ArbiterHandle,
        switch: &KillSwitch,
        name: &str,
        config: Config,
        factory: F,
    ) -> Handle<A>
    where
        A: Actor<Context = Context<A>>,
        F: FnMut(&Birth<A>) -> Result<A, BoxError> + Send + 'static,
    {
        let (handle, prepared) = prepare(switch, name, config);
        if let Some(prepared) = prepared {
            // An arbiter that is gone drops the closure, and with it the guard that says so.
            arbiter.spawn_fn(move || {
                actix::spawn(prepared.supervise(factory));
            });
        }
        handle
    }
}

/// The owner's end of a supervised actor.
pub struct Handle<A: Actor> {
    address: Address<A>,
    shared: Arc<Shared>,
}

impl<A: Actor<Context = Context<A>>> Handle<A> {
    /// Where to send; valid over restarts. Clone it for others.
    #[must_use]
    pub fn addr(&self) -> &Address<A> {
        &self.address
    }

    #[must_use]
    pub fn state(&self) -> State {
        self.shared.state()
    }

    #[must_use]
    pub fn health(&self) -> Health {
        self.shared.health()
    }

    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// Waits until `wanted` holds for the state, or the state is final; gives the state. States
    /// that come and go between two polls of this future may be missed.
    pub async fn wait_for(&self, mut wanted: impl FnMut(State) -> bool) -> State {
        let mut watch = self.shared.watch();
        let reached = watch.wait_for(|state| state.is_final() || wanted(*state)).await;
        reached.map_or(State::Stopped, |state| *state)
    }

    /// Asks the actor to stop, before the messages that still wait, and waits until it has.
    pub async fn stop(&self) -> State {
        self.shared.request_stop();
        self.shared.ended().await
    }
}

/// All a supervisor's task needs, ready to move to its thread.
struct Starting<A: Actor> {
    queue: mpsc::Receiver<Envelope<A>>,
    address: WeakAddress<A>,
    config: Config,
    end: End,
}

/// However the task ends (also when its thread goes away), the actor counts as ended afterwards.
struct End {
    shared: Arc<Shared>,
    switch: KillSwitch,
}

impl Drop for End {
    fn drop(&mut self) {
        self.shared.not_busy();
        if !self.shared.state().is_final() {
            self.shared.set_state(State::Stopped);
        }
        self.switch.remove(&self.shared);
    }
}

fn prepare<A>(switch: &KillSwitch, name: &str, config: Config) -> (Handle<A>, Option<Starting<A>>)
where
    A: Actor<Context = Context<A>>,
{
    let config = Config { mailbox_capacity: config.mailbox_capacity.max(1), ..config };
    let shared = Shared::new(name, &config);
    let (sender, queue) = mpsc::channel(config.mailbox_capacity);
    let address = Address::new(sender, Arc::clone(&shared));
    let weak = address.downgrade();
    let handle = Handle { address, shared: Arc::clone(&shared) };
    if !switch.add(&shared) {
        shared.set_state(State::Stopped);
        return (handle, None);
    }
    let end = End { shared, switch: switch.clone() };
    (handle, Some(Starting { queue, address: weak, config, end }))
}

impl<A: Actor<Context = Context<A>>> Starting<A> {
    async fn supervise(self, mut factory: impl FnMut(&Birth<A>) -> Result<A, BoxError>) {
        let Starting { queue, address, config, end } = self;
        let shared = Arc::clone(&end.shared);
        let queue: Queue<A> = Rc::new(RefCell::new(queue));
        let mut budget = Budget::default();
        let last = loop {
            let incarnation = shared.born();
            let says = Says { shared: Arc::clone(&shared), incarnation };
            let birth = Birth { incarnation, address: address.clone(), says };
            let failure = match one_life(&mut factory, &birth, &queue, &shared).await {
                Ok(()) => break State::Stopped,
                Err((kind, message)) => Failure { kind, message, incarnation },
            };
            let wait = budget.spend(&config, Instant::now());
            report(&shared.name, &failure, wait);
            shared.failed(failure);
            let Some(delay) = wait else { break State::Failed };
            shared.set_state(State::BackingOff { delay });
            tokio::select! {
                biased;
                () = shared.stop_requested() => break State::Stopped,
                () = tokio::time::sleep(delay) => {}
            }
            shared.restarts.fetch_add(1, Ordering::Relaxed);
            shared.set_state(State::Starting);
        };
        close(&queue, &shared);
        debug!(actor = %shared.name, state = %last, "actor ended");
        shared.set_state(last);
    }
}

async fn one_life<A: Actor<Context = Context<A>>>(
    factory: &mut impl FnMut(&Birth<A>) -> Result<A, BoxError>,
    birth: &Birth<A>,
    queue: &Queue<A>,
    shared: &Arc<Shared>,
) -> Result<(), (FailureKind, String)> {
    let actor = match catch_unwind(AssertUnwindSafe(|| factory(birth))) {
        Ok(Ok(actor)) => actor,
        Ok(Err(error)) => return Err((FailureKind::Factory, error.to_string())),
        Err(payload) => return Err((FailureKind::FactoryPanic, panic_text(&*payload))),
    };
    shared.set_state(State::Running);
    let exit = Life::new(actor, queue, shared).await;
    shared.not_busy();
    match exit {
        Exit::Stopped => Ok(()),
        Exit::Panicked(message) => Err((FailureKind::Panic, message)),
    }
}

fn report(name: &str, failure: &Failure, wait: Option<Duration>) {
    let Failure { kind, message, incarnation } = failure;
    match wait {
        Some(wait) => {
            warn!(
                actor = name,
                incarnation,
                ?kind,
                message,
                ?wait,
                "actor failed, to be restarted"
            );
        }
        None => {
            error!(actor = name, incarnation, ?kind, message, "actor failed too often, left down")
        }
    }
}

/// Refuses what comes from now on, and counts what still waits.
fn close<A: Actor>(queue: &Queue<A>, shared: &Shared) {
    let mut queue = queue.borrow_mut();
    queue.close();
    let mut dropped = 0;
    while let Ok(envelope) = queue.try_recv() {
        dropped += 1;
        // A message's own drop may panic; the rest of them must still be counted.
        if catch_unwind(AssertUnwindSafe(|| drop(envelope))).is_err() {
            warn!(actor = %shared.name, "a waiting message panicked when it was dropped");
        }
    }
    shared.queued.store(0, Ordering::Relaxed);
    shared.dropped.fetch_add(dropped, Ordering::Relaxed);
}
