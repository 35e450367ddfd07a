//! Panics and failing factories: restart, back-off, budget, and what the others notice of it.

use std::time::Duration;

use actix::prelude::*;
use tokio::time::Instant;
use weir_actors::{Config, FailureKind, Health, KillSwitch, SendError, State, Supervisor};

use crate::actors::{Add, Fault, Log, Panic, PanicLater, Probe, paused};

fn config() -> Config {
    Config {
        backoff_min: Duration::from_millis(100),
        backoff_max: Duration::from_secs(1),
        restarts_max: 3,
        ..Config::default()
    }
}

/// A panic costs the message that caused it and the actor's state; the waiting messages and the
/// address go on, after the back-off, and another actor notices nothing. Would catch a lost
/// mailbox, a restart without wait and a panic that takes the arbiter down.
#[test]
fn a_panic_restarts_the_actor_after_the_back_off() {
    paused(async {
        let (root, log) = (KillSwitch::root("root"), Log::default());
        let make = log.clone();
        let probe =
            Supervisor::start(&root, "probe", config(), move |_| Ok(Probe::new("probe", &make)));
        let make = log.clone();
        let other =
            Supervisor::start(&root, "other", config(), move |_| Ok(Probe::new("other", &make)));
        assert_eq!(other.addr().send(Add(5)).await, Ok(5));
        assert_eq!(probe.addr().send(Add(7)).await, Ok(7));

        let start = Instant::now();
        let panicked = probe.addr().try_request(Panic).unwrap();
        let waiting = probe.addr().try_request(Add(1)).unwrap();
        assert_eq!(panicked.await, Err(SendError::NoReply));
        probe.wait_for(|state| matches!(state, State::BackingOff { .. })).await;
        assert_eq!(probe.state(), State::BackingOff { delay: Duration::from_millis(100) });
        assert_eq!(probe.health(), Health::Recovering);
        assert_eq!(waiting.await, Ok(1), "a new actor has the waiting message");
        assert_eq!(start.elapsed().as_millis(), 100);

        let status = probe.status();
        assert_eq!((status.state, status.incarnation, status.restarts), (State::Running, 2, 1));
        let failure = status.last_failure.unwrap();
        assert_eq!((failure.kind, failure.incarnation), (FailureKind::Panic, 1));
        assert_eq!(failure.message, "asked to panic");
        assert_eq!(other.addr().send(Add(1)).await, Ok(6), "the other actor kept its state");
        assert_eq!(other.status().incarnation, 1);
    });
}

/// Waits double from restart to restart; past the budget the actor stays down, says why, and
/// refuses. Would catch an endless crash loop.
#[test]
fn a_spent_budget_leaves_the_actor_down() {
    paused(async {
        let (root, log) = (KillSwitch::root("root"), Log::default());
        let births = log.clone();
        let start = Instant::now();
        let probe = Supervisor::start(&root, "probe", config(), move |birth| {
            births.add(format!("{} at {}", birth.incarnation, start.elapsed().as_millis()));
            Ok(Probe::new("probe", &Log::default()))
        });
        for _ in 0..4 {
            assert!(probe.addr().send(Panic).await.is_err());
        }
        assert_eq!(probe.wait_for(|_| false).await, State::Failed);
        assert_eq!(log.lines(), ["1 at 0", "2 at 100", "3 at 300", "4 at 700"]);
        assert_eq!(probe.addr().send(Add(1)).await, Err(SendError::Closed));
        assert!(probe.addr().try_send(Add(1)).is_err());
        assert!(!probe.addr().is_open());

        let status = probe.status();
        assert_eq!(status.refused_closed, 2);
        assert_eq!(status.health, Health::Failed);
        let kept = root.statuses();
        assert_eq!(kept.len(), 1, "a failed actor stays on the status page");
        assert_eq!(kept[0].state, State::Failed);
        assert_eq!(kept[0].last_failure, status.last_failure);
    });
}

/// Panics outside a message handler are caught as well: in `started`, in a timer of the actor.
#[test]
fn panics_in_hooks_and_timers_count_as_well() {
    paused(async {
        let root = KillSwitch::root("root");
        let probe = Supervisor::start(&root, "probe", config(), |birth| {
            let mut probe = Probe::new("probe", &Log::default());
            if birth.incarnation == 1 {
                probe.fault = Fault::Started;
            }
            Ok(probe)
        });
        assert_eq!(probe.addr().send(Add(1)).await, Ok(1), "handled by the second one");
        assert_eq!(probe.status().last_failure.unwrap().message, "fault in started");

        probe.addr().send(PanicLater).await.unwrap();
        probe.wait_for(|state| matches!(state, State::BackingOff { .. })).await;
        assert_eq!(probe.status().last_failure.unwrap().message, "asked to panic later");
        assert_eq!(probe.addr().send(Add(1)).await, Ok(1));
        assert_eq!(probe.status().incarnation, 3);
    });
}

/// An actor that panics in its handler, and then again in each hook and in its drop, is one failure;
/// with actix alone the second panic comes while the first unwinds and aborts the process.
#[test]
fn a_panic_on_top_of_a_panic_does_not_abort() {
    paused(async {
        let root = KillSwitch::root("root");
        let probe = Supervisor::start(&root, "probe", config(), |_| {
            let mut probe = Probe::new("probe", &Log::default());
            probe.fault = Fault::Everything;
            Ok(probe)
        });
        assert_eq!(probe.addr().send(Panic).await, Err(SendError::NoReply));
        assert_eq!(probe.addr().send(Add(1)).await, Ok(1));
        assert_eq!(probe.status().last_failure.unwrap().message, "asked to panic");
    });
}

/// A panic while it stops is a failure like another: it must not take the tree's stop with it.
#[test]
fn a_panic_while_stopping_does_not_stop_the_stop() {
    paused(async {
        let (root, log) = (KillSwitch::root("root"), Log::default());
        let make = log.clone();
        let _first =
            Supervisor::start(&root, "first", config(), move |_| Ok(Probe::new("first", &make)));
        let second = Supervisor::start(&root, "second", config(), |_| {
            let mut probe = Probe::new("second", &Log::default());
            probe.fault = Fault::Stopping;
            Ok(probe)
        });
        second.addr().send(Add(1)).await.unwrap();
        assert_eq!(root.kill().await.stopped, ["second", "first"]);
        assert_eq!(second.state(), State::Stopped);
        assert_eq!(second.status().last_failure.unwrap().message, "fault in stopping");
        assert_eq!(log.lines(), ["first started", "first stopped"]);
    });
}

/// A factory that cannot build, or panics, is tried again like a panic of its actor.
#[test]
fn a_failing_factory_is_tried_again() {
    paused(async {
        let root = KillSwitch::root("root");
        let log = Log::default();
        let seen = log.clone();
        let probe = Supervisor::start(&root, "probe", config(), move |birth| {
            seen.add(birth.incarnation.to_string());
            match birth.incarnation {
                1 => Err("no such device".into()),
                2 => panic!("factory bug"),
                _ => Ok(Probe::new("probe", &Log::default())),
            }
        });
        probe.wait_for(|state| matches!(state, State::BackingOff { .. })).await;
        let first = probe.status().last_failure.unwrap();
        assert_eq!((first.kind, first.message.as_str()), (FailureKind::Factory, "no such device"));
        assert_eq!(probe.addr().send(Add(3)).await, Ok(3));
        let second = probe.status().last_failure.unwrap();
        assert_eq!(second.kind, FailureKind::FactoryPanic);
        assert_eq!(second.message, "factory bug");
        assert_eq!(log.lines(), ["1", "2", "3"]);
    });
}

/// The same on an arbiter's own thread, in real time: the thread lives on after the panic.
#[test]
fn the_arbiters_thread_survives() {
    System::new().block_on(async {
        let root = KillSwitch::root("root");
        let arbiter = Arbiter::new();
        let config = Config { backoff_min: Duration::from_millis(1), ..config() };
        let probe = Supervisor::start_in(&arbiter.handle(), &root, "probe", config, |_| {
            Ok(Probe::new("probe", &Log::default()))
        });
        assert_eq!(probe.addr().send(Panic).await, Err(SendError::NoReply));
        assert_eq!(probe.addr().send(Add(2)).await, Ok(2));
        assert!(arbiter.handle().alive());
        assert_eq!(root.kill().await.stopped, ["probe"]);
        arbiter.stop();
        arbiter.join().unwrap();
    });
}
