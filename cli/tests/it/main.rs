//! The command from outside: the built binary, run as a user runs it.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod demo;
mod deploy;
mod probe;
