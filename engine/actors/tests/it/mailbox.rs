//! The bound of a mailbox and what is counted about it.

use std::sync::Arc;

use tokio::sync::Notify;
use weir_actors::{Config, KillSwitch, SendError, Supervisor, TrySendError};

use crate::actors::{Add, Log, Panic, Probe, WaitFor, paused};

/// Exactly `mailbox_capacity` messages wait, through however many clones; the next one is refused,
/// comes back and is counted. Nothing accepted is lost. Would catch a bound per sender.
#[test]
fn a_full_mailbox_refuses_and_counts() {
    paused(async {
        let root = KillSwitch::root("root");
        let config = Config { mailbox_capacity: 4, ..Config::default() };
        let probe =
            Supervisor::start(&root, "probe", config, |_| Ok(Probe::new("probe", &Log::default())));
        let gate = Arc::new(Notify::new());
        probe.addr().send(WaitFor(Arc::clone(&gate))).await.unwrap();
        for _ in 0..4 {
            assert!(probe.addr().clone().try_send(Add(1)).is_ok());
        }
        let refused = probe.addr().clone().try_send(Add(100));
        assert!(matches!(refused, Err(TrySendError::Full(Add(100)))));
        let recipient = probe.addr().recipient::<Add>();
        assert!(matches!(recipient.try_send(Add(200)), Err(TrySendError::Full(Add(200)))));
        assert!(probe.addr().try_request(Add(300)).is_err());
        assert_eq!(probe.addr().observe(|probe| probe.sum).await, Err(SendError::Full));
        let status = probe.status();
        assert_eq!((status.mailbox_len, status.mailbox_capacity), (4, 4));
        assert_eq!((status.refused_full, status.handled), (3, 1));

        gate.notify_one();
        assert_eq!(probe.addr().send(Add(1)).await, Ok(5), "waits for room, then for its turn");
        assert_eq!(probe.addr().observe(|probe| probe.sum).await, Ok(5));
        assert_eq!(probe.status().mailbox_len, 0);
    });
}

/// A crash loop does not make room either: the bound holds over restarts.
#[test]
fn the_bound_holds_while_the_actor_is_down() {
    paused(async {
        let root = KillSwitch::root("root");
        let config = Config { mailbox_capacity: 2, ..Config::default() };
        let probe =
            Supervisor::start(&root, "probe", config, |_| Ok(Probe::new("probe", &Log::default())));
        assert_eq!(probe.addr().send(Panic).await, Err(SendError::NoReply));
        assert!(probe.addr().try_send(Add(1)).is_ok());
        assert!(probe.addr().try_send(Add(1)).is_ok());
        assert!(matches!(probe.addr().try_send(Add(1)), Err(TrySendError::Full(_))));
        assert_eq!(probe.addr().send(Add(1)).await, Ok(3));
    });
}

/// A request nobody waits for any more is not carried out.
#[test]
fn a_request_whose_asker_left_is_skipped() {
    paused(async {
        let root = KillSwitch::root("root");
        let probe = Supervisor::start(&root, "probe", Config::default(), |_| {
            Ok(Probe::new("probe", &Log::default()))
        });
        drop(probe.addr().try_request(Add(10)).unwrap());
        assert_eq!(probe.addr().send(Add(1)).await, Ok(1));
    });
}

/// What still waits when an actor is stopped is counted as dropped, and its askers are told.
#[test]
fn waiting_messages_of_a_stopped_actor_are_counted() {
    paused(async {
        let root = KillSwitch::root("root");
        let probe = Supervisor::start(&root, "probe", Config::default(), |_| {
            Ok(Probe::new("probe", &Log::default()))
        });
        probe.addr().send(WaitFor(Arc::new(Notify::new()))).await.unwrap();
        probe.addr().try_send(Add(1)).unwrap();
        let asked = probe.addr().try_request(Add(1)).unwrap();
        probe.stop().await;
        assert_eq!(asked.await, Err(SendError::NoReply));
        let status = probe.status();
        assert_eq!((status.dropped, status.mailbox_len), (2, 0));
    });
}
