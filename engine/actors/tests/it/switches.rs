//! The kill-switch tree: order, deadlines, and what it remembers.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::Notify;
use weir_actors::{Config, Handle, Health, KillSwitch, State, StopReport, Supervisor};

use crate::actors::{Add, Log, Panic, Probe, WaitFor, paused};

fn start(switch: &KillSwitch, name: &'static str, log: &Log) -> Handle<Probe> {
    let log = log.clone();
    Supervisor::start(switch, name, Config::default(), move |_| Ok(Probe::new(name, &log)))
}

/// Children before their parent, the youngest first, each fully stopped before the next is told;
/// a sibling subtree is left alone. Would catch a parallel or a reversed stop.
#[test]
fn a_switch_stops_its_subtree_in_order() {
    paused(async {
        let log = Log::default();
        let root = KillSwitch::root("root");
        let (node, api) = (root.child("node"), root.child("api"));
        let queries = node.child("queries");
        let handles = [
            start(&node, "engine", &log),
            start(&node, "source", &log),
            start(&queries, "q1", &log),
            start(&queries, "q2", &log),
            start(&api, "socket", &log),
        ];
        for handle in &handles {
            handle.addr().send(Add(1)).await.unwrap();
        }
        let started = log.lines().len();

        let report = node.kill().await;
        assert_eq!(report.stopped, ["q2", "q1", "source", "engine"]);
        assert_eq!(report.overdue, [""; 0]);
        let stopped = ["q2 stopped", "q1 stopped", "source stopped", "engine stopped"];
        assert_eq!(log.lines()[started..], stopped);
        assert_eq!(handles[4].addr().send(Add(1)).await, Ok(2), "the sibling goes on");
        assert!(node.is_killed() && queries.is_killed() && !api.is_killed() && !root.is_killed());

        assert_eq!(root.kill().await.stopped, ["socket"]);
        assert_eq!(root.kill().await, StopReport::default(), "nothing is left to stop");
    });
}

/// Nothing starts below a used switch, so that a stop cannot race with a start.
#[test]
fn nothing_starts_below_a_used_switch() {
    paused(async {
        let log = Log::default();
        let root = KillSwitch::root("root");
        let child = root.child("child");
        root.kill().await;
        for switch in [&root, &child, &root.child("late")] {
            let handle = start(switch, "late", &log);
            assert_eq!(handle.state(), State::Stopped);
            assert!(!handle.addr().is_open());
        }
        assert_eq!(log.lines(), [""; 0]);
    });
}

/// An actor that waits for something, refuses to stop, or is down between two lives is stopped
/// all the same.
#[test]
fn waiting_refusing_and_failing_actors_are_stopped() {
    paused(async {
        let log = Log::default();
        let root = KillSwitch::root("root");
        let waiting = start(&root, "waiting", &log);
        waiting.addr().send(WaitFor(Arc::new(Notify::new()))).await.unwrap();
        let refusing = Supervisor::start(&root, "refusing", Config::default(), |_| {
            let mut probe = Probe::new("refusing", &Log::default());
            probe.refuses_to_stop = true;
            Ok(probe)
        });
        refusing.addr().send(Add(1)).await.unwrap();
        let failing = start(&root, "failing", &log);
        failing.addr().send(Panic).await.unwrap_err();
        failing.wait_for(|state| matches!(state, State::BackingOff { .. })).await;

        assert_eq!(root.kill().await.stopped, ["failing", "refusing", "waiting"]);
        for handle in [&waiting, &refusing, &failing] {
            assert_eq!(handle.state(), State::Stopped);
        }
    });
}

#[derive(Message)]
#[rtype(result = "()")]
struct Block(mpsc::Sender<()>, mpsc::Receiver<()>);

impl Handler<Block> for Probe {
    type Result = ();
    fn handle(&mut self, block: Block, _: &mut Context<Self>) {
        block.0.send(()).unwrap();
        block.1.recv().unwrap();
    }
}

/// A handler that does not return is seen from outside as stalled, holds a stop up no longer than
/// its deadline, and is named. Real time: the blocked thread is the case.
#[test]
fn a_blocked_handler_is_stalled_and_overdue() {
    System::new().block_on(async {
        let root = KillSwitch::root("root");
        let arbiter = Arbiter::new();
        let config = Config {
            stall_after: Duration::ZERO,
            stop_timeout: Duration::from_millis(20),
            ..Config::default()
        };
        let probe = Supervisor::start_in(&arbiter.handle(), &root, "probe", config, |_| {
            Ok(Probe::new("probe", &Log::default()))
        });
        let (entered, has_entered) = mpsc::channel();
        let (release, released) = mpsc::channel();
        let blocked = probe.addr().try_request(Block(entered, released)).unwrap();
        has_entered.recv().unwrap();
        assert!(matches!(probe.health(), Health::Stalled { .. }));
        assert_eq!(root.kill().await.overdue, ["probe"]);

        release.send(()).unwrap();
        blocked.await.unwrap();
        assert_eq!(probe.stop().await, State::Stopped);
        let status = probe.status();
        assert_eq!(status.slow_handled, 1, "20 ms are more than 500 µs");
        assert!(status.handler_ns_max >= 20_000_000);
        assert_eq!(status.slowest.message, "Block");
        arbiter.stop();
        arbiter.join().unwrap();
    });
}

/// Switches of things that came and went do not pile up; what failed below them is remembered.
#[test]
fn unused_switches_are_let_go() {
    paused(async {
        let root = KillSwitch::root("root");
        for _ in 0..100 {
            let session = root.child("session");
            let config = Config { restarts_max: 0, ..Config::default() };
            let probe = Supervisor::start(&session, "probe", config, |_| {
                Ok(Probe::new("probe", &Log::default()))
            });
            probe.addr().send(Panic).await.unwrap_err();
            assert_eq!(probe.wait_for(|_| false).await, State::Failed);
        }
        assert_eq!(root.child("last").name(), "last");
        let statuses = root.statuses();
        assert!(statuses.iter().all(|status| status.state == State::Failed));
        assert_eq!(statuses.len(), 64, "the newest are kept, the oldest forgotten");
    });
}
