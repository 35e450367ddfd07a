//! The per-node agent: sources feed history and the node part of every query. Composition only:
//! capture is `weir-sources`, dataflow is `weir-engine`.
//!
//! [`core`] is the node without threads (what it takes in is decided in `admission`, what was lost
//! comes out as rows of [`loss_rows`]), [`host`] runs a source on a thread under a supervisor,
//! [`orders`] tells sources what to do, [`metadata`] keeps names on threads of its own, [`entities`] is what
//! is told of them,
//! [`sources`] puts them together (rows of processes that are not known yet wait a moment in `grace`),
//! [`agent`] answers table functions, [`runtime`] is the node's own thread, which closes the ticks; [`stepped`]
//! is a node whose holder does.
#![forbid(unsafe_code)]

mod admission;
pub mod agent;
pub mod core;
pub mod entities;
mod events;
mod grace;
pub mod host;
pub mod loss_rows;
pub mod metadata;
pub mod orders;
pub mod runtime;
pub mod sources;
pub mod stepped;
pub mod store;
#[cfg(test)]
mod testing;
