//! What actix 0.13 does on its own. Should one of these fail after an upgrade, the reason for the
//! design it stands for (see the crate's page) has gone.

use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::Notify;

use crate::actors::{Add, Log, Panic, Probe, WaitFor, paused};

impl Supervised for Probe {}

/// Its supervisor does not bring back an actor that panicked.
#[test]
fn its_supervisor_does_not_survive_a_panic() {
    paused(async {
        let log = Log::default();
        let probe = Probe::new("probe", &log);
        let addr = actix::Supervisor::start(move |_| probe);
        assert!(addr.send(Panic).await.is_err());
        assert!(addr.send(Add(1)).await.is_err(), "gone, with its mailbox");
        assert!(!addr.connected());
    });
}

/// Through a fresh clone of an address each time, any number of messages gets past the bound.
#[test]
fn its_bound_is_one_more_for_each_clone() {
    paused(async {
        let log = Log::default();
        let addr = Probe::create(|ctx| {
            ctx.set_mailbox_capacity(1);
            Probe::new("probe", &log)
        });
        addr.send(WaitFor(Arc::new(Notify::new()))).await.unwrap();
        for _ in 0..100 {
            assert!(addr.clone().try_send(Add(1)).is_ok());
        }
    });
}
