//! Ordinary ends: by itself, with its last address, with its thread.

use actix::prelude::*;
use weir_actors::{Birth, Config, Health, KillSwitch, SendError, State, Supervisor, WeakAddress};

use crate::actors::{Add, Log, Probe, Quit, paused};

/// Stopping by itself is an end, not a failure: no restart.
#[test]
fn an_actor_that_stops_itself_is_not_restarted() {
    paused(async {
        let (root, log) = (KillSwitch::root("root"), Log::default());
        let make = log.clone();
        let probe = Supervisor::start(&root, "probe", Config::default(), move |_| {
            Ok(Probe::new("probe", &make))
        });
        probe.addr().try_send(Quit).unwrap();
        assert_eq!(probe.wait_for(|_| false).await, State::Stopped);
        assert_eq!(probe.addr().send(Add(1)).await, Err(SendError::Closed));
        assert_eq!(probe.status().incarnation, 1);
        assert_eq!(log.lines(), ["probe started", "probe stopped"]);
        assert!(root.statuses().is_empty(), "what ended in order is not kept");
    });
}

/// The last address keeps the actor alive, a weak one does not.
#[test]
fn the_last_address_takes_the_actor_with_it() {
    paused(async {
        let (root, log) = (KillSwitch::root("root"), Log::default());
        let make = log.clone();
        let (give, mut own) = tokio::sync::mpsc::channel::<WeakAddress<Probe>>(1);
        let probe =
            Supervisor::start(&root, "probe", Config::default(), move |birth: &Birth<Probe>| {
                give.try_send(birth.address.clone())?;
                Ok(Probe::new("probe", &make))
            });
        let kept = probe.addr().clone();
        let weak = own.recv().await.unwrap();
        drop(probe);
        assert_eq!(weak.upgrade().unwrap().send(Add(1)).await, Ok(1));
        assert_eq!(root.statuses().len(), 1);
        drop(kept);
        assert!(weak.upgrade().is_none());
        assert_eq!(root.kill().await.overdue, [""; 0]);
        assert_eq!(log.lines(), ["probe started", "probe stopped"]);
    });
}

/// When the thread under an actor goes away, its handle says so instead of hanging.
#[test]
fn an_actor_ends_with_its_arbiter() {
    System::new().block_on(async {
        let root = KillSwitch::root("root");
        let arbiter = Arbiter::new();
        let handle = arbiter.handle();
        let start = |name| {
            Supervisor::start_in(&handle, &root, name, Config::default(), |_| {
                Ok(Probe::new("probe", &Log::default()))
            })
        };
        let early = start("early");
        assert_eq!(early.addr().send(Add(1)).await, Ok(1));
        assert_eq!((early.state(), early.health()), (State::Running, Health::Healthy));
        arbiter.stop();
        arbiter.join().unwrap();
        assert_eq!(early.wait_for(|_| false).await, State::Stopped);
        assert_eq!(early.addr().send(Add(1)).await, Err(SendError::Closed));
        assert_eq!(start("late").wait_for(|_| false).await, State::Stopped);
        assert!(root.statuses().is_empty());
    });
}

/// Messages that an actor sends itself by actix's own means arrive.
#[test]
fn actix_self_messages_work() {
    struct Echo(u64);
    impl Actor for Echo {
        type Context = Context<Self>;
        fn started(&mut self, ctx: &mut Context<Self>) {
            ctx.notify(Add(1));
            ctx.address().try_send(Add(10)).unwrap();
        }
    }
    impl Handler<Add> for Echo {
        type Result = u64;
        fn handle(&mut self, add: Add, _: &mut Context<Self>) -> u64 {
            self.0 += add.0;
            self.0
        }
    }
    paused(async {
        let root = KillSwitch::root("root");
        let echo = Supervisor::start(&root, "echo", Config::default(), |_| Ok(Echo(0)));
        loop {
            if echo.addr().observe(|echo| echo.0).await == Ok(11) {
                break;
            }
            tokio::task::yield_now().await;
        }
    });
}
