//! The engine from outside: small plans built by hand, driven tick by tick.

mod attacks;
mod faults;
mod feeds;
mod harness;
mod processes;
mod relational;
mod windows;
