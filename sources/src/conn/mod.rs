//! The connection tracker: capture events in, exchanges with their connection out.
//!
//! It knows which socket an event belongs to, which end this is, who talks to whom, what protocol
//! the bytes are, and when a connection is over. It does *not* know how events are captured, what a
//! protocol's bytes mean, or batches (`crate::socket` makes rows of what comes out here).
//!
//! * A connection is a socket ([`ConnKey`]), whoever holds it: a socket shared by fork is one
//!   connection, the two ends of a connection on one machine are two.
//! * Bytes are put in order by position; what is missing is a gap of known size.
//! * A connection ends when nobody holds its socket any more: the source says so, or answers so when it
//!   is asked ([`crate::capture::Liveness`]). Where it cannot tell, the end of all processes seen on it
//!   stands for that; and in the end a long silence does. The end takes effect a moment later
//!   ([`weir_protocols::REORDER_GRACE_NS`]): events of other CPUs may still be on their way.
//! * What is said over TLS, where it is told, is what a connection says: its socket's own bytes before that
//!   are read as far as they can be, those after it are not read.
//! * A connect that is under way, or has failed, is no connection.
//! * What an event costs does not depend on how much is remembered.
//! * A socket for datagrams is no connection, and `conn_stats` has none of it; it is kept as long as it
//!   is held and of use.
//! * Connections, bytes and parser state are bounded; what does not fit is dropped and counted.
//! * What is lost is charged to what the connection speaks ([`LossBook`]).

mod connection;
mod ends;
mod infer;
mod losses;
mod stats;
mod tracker;

pub use connection::{Connection, Emit, Role, RowEnds};
pub use ends::{EndOf, Ends};
pub use infer::ProtocolIdx;
pub use losses::{LossBook, Losses};
pub use stats::{ConnStats, STATS_KEYS_MAX, StatsEntry, StatsKey};
pub use tracker::{
    Ask, ParserPanic, SocketOwner, StopCopying, Tracker, TrackerCounters, TrackerLimits,
};

pub(crate) use ends::address_text;

#[cfg(doc)]
use crate::capture::ConnKey;
