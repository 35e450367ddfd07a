//! Where rows come from: eBPF, /proc, files; and names.
//!
//! * [`capture`]: what capturing sources hand on; [`ebpf`] is one of them.
//! * [`conn`] puts bytes into connections, [`socket`] makes rows of what protocols find in them.
//! * [`replay`] takes captures of packets instead of a kernel, [`recording`] keeps events for later.
//! * [`k8s`] watches the API server of Kubernetes.
//! * [`proc`] and [`rows`] give rows of their own; [`metadata`] gives names to processes,
//!   [`dns`] to addresses; [`agent`] is what the process says of itself.
//! * [`own`] knows which of what is captured is Weir's own.
//! * [`source`] is what all of these are to the node that runs them.
//!
//! Not here: actors, the engine, and when anything runs (`weir-node`).
#![deny(unsafe_code)]

pub mod agent;
pub mod capture;
pub mod conn;
pub mod dns;
pub mod ebpf;
pub mod k8s;
pub mod metadata;
pub mod own;
pub mod proc;
pub mod recording;
pub mod replay;
pub mod rows;
pub mod socket;
pub mod source;

pub use weir_protocols::{Config as ParserConfig, redact};
