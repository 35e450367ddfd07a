//! Cassandra's CQL native protocol, versions 3 to 5, and DataStax' as far as it is the same.
//!
//! Requests and responses are paired by their stream, within a connection; streams are used again all
//! the time. What an execution executes was said when it was prepared, on whatever connection. From
//! version 5 on frames travel in segments once a connection has started. Not here: versions 1 and 2,
//! whose frames have other heads, and what rows hold.
//!
//! ```text
//!   streams ─▶ frames, or segments ─▶ frames ─▶ unpack ─▶ body (walk): text ─▶ by_id ─▶ rows
//! ```

mod fits;
mod parse;
mod parser;
mod recognise;
mod requests;
mod responses;
mod segments;
mod session;
mod stitch;
mod table;
#[cfg(test)]
mod tests;
mod types;
mod unpack;
mod values;
mod walk;

use crate::protocol::{Parsing, ProtocolDef};

pub(crate) const PROTOCOL: ProtocolDef = ProtocolDef {
    name: "cql",
    number: 4,
    tables: &["cql_events"],
    has_datagrams: false,
    recognise: recognise::recognise,
    parsing: Some(Parsing {
        new: |opening| Box::new(parser::Cql::new(opening.from_start)),
        shared: || Box::<session::OfThread>::default(),
        parser_bytes_max: PARSER_BYTES_MAX,
    }),
};

/// Requests that wait have 2 MiB, early responses as much, statements 1 MiB, and what is unpacked of
/// segments the bounds of two streams.
const PARSER_BYTES_MAX: usize = 10 << 20;
