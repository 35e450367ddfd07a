//! Attacks on a running server that may have 2 GiB: scripts, readers, clients, traffic, processes, rules. After
//! each the server lives, a quiet view beside it has kept its refreshes, what was refused was refused
//! with a code, and a while later the memory is back. In a binary of its own, one attack at a time: memory
//! and lateness are the whole machine's.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that fails, and says what it saw"
)]

mod clients;
mod extremes;
mod processes;
mod readers;
mod rules;
mod scripts;
mod target;
mod traffic;
