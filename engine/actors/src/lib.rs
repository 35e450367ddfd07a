//! Supervision for actix actors: a factory rebuilds what panicked, mailboxes are bounded, a kill
//! switch stops a whole tree in order, and every actor's state can be read from outside.
//!
//! # Why not actix alone
//!
//! Three things that actix 0.13 does; `tests/it/actix_alone.rs` keeps the first two as tests, and
//! `tests/it/restart.rs` has the case that aborts without this crate:
//!
//! * its `Supervisor` restarts an actor that *stops*; one that panics is gone, and so is its mailbox;
//! * `do_send` ignores the mailbox's bound, and `try_send` through a fresh clone of an address is
//!   accepted once per clone, so a bound on `Addr` is a bound on nothing;
//! * when a handler panics, the dropped context polls the actor once more *while unwinding*, and
//!   a second panic there aborts the process.
//!
//! # What happens instead
//!
//! ```text
//!  Address ──try_send/send──▶ one bounded queue ──▶ Pump (an actor future) ──▶ Handler::handle
//!                             (outlives a panic)     inside the actix context, inside catch_unwind
//!                                                          │ panic
//!                             factory ◀── back-off ◀── budget ──▶ spent: Failed, queue closed
//! ```
//!
//! The queue belongs to the supervisor, not to the actor: addresses stay valid over restarts, and
//! only the message that caused the panic is lost. Actors are plain `actix::Actor`s with
//! `Context = actix::Context<Self>` and plain `Handler<M>`s; timers, streams, `ctx.wait` and
//! `ctx.notify` work as ever.
//!
//! What lives and is no actor (a thread, an engine, a server) hangs in the same tree as a [`Part`]: its
//! owner says how it is, and it is stopped in its turn. [`KillSwitch::tree`] tells how all of them are.
//!
//! This crate does *not* run blocking work: a handler has 500 µs, longer ones are counted
//! ([`Status::slow_handled`]) and belong on a worker thread.
//!
//! ```
//! use actix::prelude::*;
//! use weir_actors::{Config, KillSwitch, Supervisor};
//!
//! #[derive(Default)]
//! struct Counter(u64);
//! impl Actor for Counter {
//!     type Context = Context<Self>;
//! }
//! #[derive(Message)]
//! #[rtype(result = "u64")]
//! struct Add(u64);
//! impl Handler<Add> for Counter {
//!     type Result = u64;
//!     fn handle(&mut self, add: Add, _: &mut Context<Self>) -> u64 {
//!         self.0 += add.0;
//!         self.0
//!     }
//! }
//!
//! System::new().block_on(async {
//!     let root = KillSwitch::root("weir");
//!     let counter =
//!         Supervisor::start(&root, "counter", Config::default(), |_| Ok(Counter::default()));
//!     assert_eq!(counter.addr().send(Add(2)).await, Ok(2));
//!     root.kill().await;
//!     assert!(counter.state().is_final());
//! });
//! ```
#![forbid(unsafe_code)]

mod address;
mod budget;
mod config;
mod contain;
mod part;
mod status;
mod supervisor;
mod switch;
mod tree;

pub use address::{Address, Recipient, SendError, TrySendError, WeakAddress};
pub use config::Config;
pub use part::{Part, Stop};
pub use status::{Failure, FailureKind, Health, Says, Slowest, State, Status};
pub use supervisor::{Birth, BoxError, Handle, Supervisor};
pub use switch::{KillSwitch, StopReport};
pub use tree::{GroupStatus, PartStatus, TreeStatus};
