//! Redis: RESP2 and RESP3, inline commands, pipelines, pub/sub, pushes.
//!
//! Not here: replication (a replica's connection is left alone once it synchronises), and the cluster bus.
//!
//! ```text
//!   streams ─▶ read (tokens: parse), any size, any hole ─▶ commands and replies as rows show them
//!           ─▶ stitch, by order ─▶ table: columns
//! ```
//!
//! A value's length is known before it comes: of one that is cut, by us or by the kernel, a row shows the
//! beginning, and the next message is found behind it.

mod fits;
mod parse;
mod read;
mod stitch;
mod table;
#[cfg(test)]
mod tests;
mod types;

use crate::protocol::{Parsing, ProtocolDef};

pub(crate) const PROTOCOL: ProtocolDef = ProtocolDef {
    name: "redis",
    number: 7,
    tables: &["redis_events"],
    has_datagrams: false,
    recognise: parse::recognise,
    parsing: Some(Parsing {
        new: |opening| Box::new(stitch::Redis::new(opening.from_start)),
        shared: || Box::new(()),
        parser_bytes_max: PARSER_BYTES_MAX,
    }),
};

/// Commands that wait have 1 MiB and their entries, of which there are 65,536 at the most; the message
/// of each side that is being read has its text.
const PARSER_BYTES_MAX: usize = 12 << 20;
