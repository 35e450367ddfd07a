//! The actors that the cases use.

use std::sync::{Arc, Mutex};

use actix::prelude::*;
use tokio::sync::Notify;

/// Runs a case on an actix system with paused time: sleeping costs nothing and is exact.
pub(crate) fn paused<F: Future>(case: F) -> F::Output {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().unwrap()
    };
    System::with_tokio_rt(runtime).block_on(case)
}

/// What happened, in order, as told by the actors' hooks.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn add(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// Where a [`Probe`] panics, besides on message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    Started,
    Stopping,
    /// In the handler, then again in every hook and in its drop.
    Everything,
}

/// Adds numbers, and does what the messages ask of it.
pub(crate) struct Probe {
    pub(crate) name: &'static str,
    pub(crate) sum: u64,
    pub(crate) fault: Fault,
    pub(crate) refuses_to_stop: bool,
    pub(crate) log: Log,
    poisoned: bool,
}

impl Probe {
    pub(crate) fn new(name: &'static str, log: &Log) -> Probe {
        let log = log.clone();
        Probe { name, sum: 0, fault: Fault::None, refuses_to_stop: false, log, poisoned: false }
    }
}

impl Actor for Probe {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        self.log.add(format!("{} started", self.name));
        assert!(self.fault != Fault::Started, "fault in started");
    }

    fn stopping(&mut self, _: &mut Context<Self>) -> Running {
        assert!(self.fault != Fault::Stopping && !self.poisoned, "fault in stopping");
        if self.refuses_to_stop { Running::Continue } else { Running::Stop }
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        assert!(!self.poisoned, "fault in stopped");
        self.log.add(format!("{} stopped", self.name));
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        assert!(!self.poisoned, "fault in drop");
    }
}

#[derive(Message)]
#[rtype(result = "u64")]
pub(crate) struct Add(pub(crate) u64);

impl Handler<Add> for Probe {
    type Result = u64;
    fn handle(&mut self, add: Add, _: &mut Context<Self>) -> u64 {
        self.sum += add.0;
        self.sum
    }
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Panic;

impl Handler<Panic> for Probe {
    type Result = ();
    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        self.poisoned = self.fault == Fault::Everything;
        panic!("asked to panic");
    }
}

/// Panics a little later, in one of the actor's own timers.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct PanicLater;

impl Handler<PanicLater> for Probe {
    type Result = ();
    fn handle(&mut self, _: PanicLater, ctx: &mut Context<Self>) {
        ctx.run_later(std::time::Duration::from_millis(1), |_, _| panic!("asked to panic later"));
    }
}

/// Takes no message until it is let go, as an actor that awaits something does.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct WaitFor(pub(crate) Arc<Notify>);

impl Handler<WaitFor> for Probe {
    type Result = ();
    fn handle(&mut self, wait: WaitFor, ctx: &mut Context<Self>) {
        ctx.wait(async move { wait.0.notified().await }.into_actor(self));
    }
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Quit;

impl Handler<Quit> for Probe {
    type Result = ();
    fn handle(&mut self, _: Quit, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
