//! The engine from outside: small plans built by hand, driven tick by tick.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod attacks;
mod faults;
mod feeds;
mod figures;
mod harness;
mod names;
mod processes;
mod relational;
mod windows;
