//! The per-node agent: sources feed history and the node part of every query. Composition only:
//! capture is `weir-sources`, dataflow is `weir-engine`.
//!
//! [`core`] is the node without threads, [`host`] runs a source on a thread under a supervisor,
//! [`metadata`] keeps names on threads of its own,
//! [`sources`] puts them together (rows of processes that are not known yet wait a moment in `grace`),
//! [`agent`] answers table functions, [`runtime`] is the node's own thread, which closes the ticks.
#![forbid(unsafe_code)]

pub mod agent;
pub mod core;
mod grace;
pub mod host;
pub mod metadata;
pub mod runtime;
pub mod sources;
