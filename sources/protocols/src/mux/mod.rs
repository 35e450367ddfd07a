//! Mux, as Finagle's clients and servers speak it (ThriftMux), in version 1.
//!
//! Every message has a type and a tag; what answers it has the same tag. Both ends ask: a server pings and drains
//! its client. A message that comes in fragments is one. Not here: what messages carry, and what is said
//! after both have agreed to encrypt.
//!
//! ```text
//!   streams ─▶ frames ─▶ head (parse) ─▶ fragments: where a message begins ─▶ stitch: by asker and tag ─▶ rows
//! ```

mod fragments;
mod parse;
mod parser;
mod recognise;
mod shape;
mod stitch;
mod table;
#[cfg(test)]
mod tests;
mod types;

use crate::protocol::{Parsing, ProtocolDef};

pub(crate) const PROTOCOL: ProtocolDef = ProtocolDef {
    name: "mux",
    number: 11,
    tables: &["mux_events"],
    has_datagrams: false,
    recognise: recognise::recognise,
    parsing: Some(Parsing {
        new: |opening| Box::new(parser::Mux::new(opening.from_start)),
        shared: || Box::new(()),
        parser_bytes_max: PARSER_BYTES_MAX,
    }),
};

/// Entries of what waits on either side, 8,192 at the most, and of messages that have begun.
const PARSER_BYTES_MAX: usize = 4 << 20;
