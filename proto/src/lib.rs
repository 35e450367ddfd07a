//! Versioned messages between nodes and the cluster part, and the bus that carries them.
//!
//! Every message crosses the bus as bytes, in one process as between machines: an [`envelope`]
//! (magic, version, bincode body with a byte limit) around a [`message`]. The [`bus`] has bounded
//! queues, says when one is full and counts it; what to do then is the sender's business. [`nats`] carries
//! the same over a server between machines, [`relay`] from one process of the cluster part to another. No planning and
//! no row semantics here.
#![forbid(unsafe_code)]

pub mod bus;
pub mod envelope;
pub mod message;
pub mod nats;
pub mod relay;

pub use bus::{BusError, ClusterPort, NodeLink, NodePort};
pub use message::{Epoch, FromNode, Life, NodeInfo, Place, QueryId, Report, ToNode};
