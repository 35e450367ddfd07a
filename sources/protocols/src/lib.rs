//! Protocol parsers: bytes in, frames and records out.
//!
//! A parser gets the two byte streams of one connection ([`stream::StreamBuffer`], one a direction)
//! and gives complete exchanges. It is pure: no IO, no clock (the caller says what time it is), no
//! thread, and no panic on any bytes. Connections, roles, processes and batches are the business of
//! `weir-sources`; a parser knows a row only as a list of column values ([`columns`]).
//!
//! One folder a protocol, with a [`ProtocolDef`] and a line in [`PROTOCOLS`]: `types` (frames and
//! records), `parse` (slice in, frame out), `stitch` (which response answers which request), `table`
//! (record → columns) and `tests`. Nothing outside of `weir-protocols` names one.
//!
//! Data can be missing (the kernel's buffer was full, a call was longer than what is copied). The
//! rule for every parser: **a loss is a flag, then a resync, never a guess**. A gap of known size
//! inside a body is stepped over; a gap that touches a frame's head drops what is pending, counts
//! it, and begins again where the pairing is certain.
#![forbid(unsafe_code)]

mod amqp;
mod by_id;
pub mod columns;
#[cfg(test)]
mod corpus;
mod counters;
mod cql;
pub mod cursor;
#[cfg(test)]
mod cut_calls;
pub mod dns;
mod frames;
pub mod http1;
mod http2;
mod in_order;
mod json_text;
mod kafka;
mod mongodb;
mod mqtt;
mod mux;
mod mysql;
mod nats;
mod pgsql;
pub mod protocol;
#[cfg(test)]
mod recognition_tests;
pub mod redact;
mod redis;
mod shown;
mod sql_secrets;
pub mod stream;
#[cfg(test)]
mod testing;
mod tls;
#[cfg(test)]
mod trials;
mod turns;
mod unpacked;

pub use counters::Counters;
pub use protocol::{Config, ProtocolDef, REORDER_GRACE_NS};

/// Every protocol; the first one that recognises a connection's bytes has it.
pub static PROTOCOLS: &[ProtocolDef] = &[
    http2::PROTOCOL,
    tls::PROTOCOL,
    http1::PROTOCOL,
    mongodb::PROTOCOL,
    nats::PROTOCOL,
    redis::PROTOCOL,
    pgsql::PROTOCOL,
    mysql::PROTOCOL,
    amqp::PROTOCOL,
    mqtt::PROTOCOL,
    kafka::PROTOCOL,
    cql::PROTOCOL,
    mux::PROTOCOL,
    dns::PROTOCOL,
];

/// What a parser made of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<T> {
    /// At least so many more bytes are needed.
    Incomplete { needed_bytes: usize },
    /// These bytes are no frame of this protocol, whatever follows.
    Invalid,
    /// A frame, and how many bytes it took.
    Frame { frame: T, bytes: usize },
}

/// Which way a stream goes in the protocol's terms (not in the socket's).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    Request,
    Response,
}

/// Whether the beginning of a stream is this protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognised {
    Yes,
    No,
    /// What is there fits so far; it is too short to tell.
    Unsure,
}
