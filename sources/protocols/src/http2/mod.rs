//! HTTP/2, and gRPC in it: requests and responses of many streams over one connection.
//!
//! Not here: HTTP/2 that an HTTP/1 connection turns into by `Upgrade`, and what gRPC messages hold.
//!
//! ```text
//!   streams ─▶ frames (parse) ─▶ header blocks (hpack, huffman) ─▶ exchanges by stream (stitch) ─▶ rows
//! ```
//!
//! A stream's number is used once on a connection, so a loss pairs nothing wrongly. Header fields refer to
//! fields that were sent before: of one that was sent before the connection was watched, or in a hole, name
//! and value are `<unknown>`, until it is sent anew, or the table that the program has of them is told (`memo`).

mod exchange;
mod half;
mod hpack;
mod huffman;
mod memo;
#[cfg(test)]
mod memo_tests;
mod parse;
mod static_table;
mod stitch;
mod table;
#[cfg(test)]
mod tests;
mod types;

use crate::protocol::{Parsing, ProtocolDef};

pub(crate) const PROTOCOL: ProtocolDef = ProtocolDef {
    name: "http2",
    number: 2,
    tables: &["http_events"],
    has_datagrams: false,
    recognise: parse::recognise,
    parsing: Some(Parsing {
        new: |opening| Box::new(stitch::Http2::new(opening.from_start)),
        shared: || Box::new(()),
        parser_bytes_max: PARSER_BYTES_MAX,
    }),
};

/// Exchanges that are under way have 2 MiB; besides, each side has a header block and a table.
const PARSER_BYTES_MAX: usize = 6 << 20;
