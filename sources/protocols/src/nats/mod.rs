//! NATS: core, headers, verbose connections, JetStream (which is messages on subjects of its own).
//!
//! Every operation is a row at once, but for those that are answered: a PING by a PONG, any operation
//! of a verbose connection by `+OK` or `-ERR`, a CONNECT by an error if it is refused. Not here: what
//! servers say to each other (routes, gateways, leaf nodes).
//!
//! ```text
//!   streams ─▶ frames ─▶ line (parse) ─▶ table: JSON ─▶ stitch: waits for its answer, or not ─▶ rows
//! ```

mod parse;
mod parser;
mod recognise;
mod stitch;
mod table;
#[cfg(test)]
mod tests;
mod types;

use crate::protocol::{Parsing, ProtocolDef};

pub(crate) const PROTOCOL: ProtocolDef = ProtocolDef {
    name: "nats",
    number: 8,
    tables: &["nats_events.beta"],
    has_datagrams: false,
    recognise: recognise::recognise,
    parsing: Some(Parsing {
        new: |opening| Box::new(parser::Nats::new(opening.from_start)),
        shared: || Box::<parser::OfThread>::default(),
        parser_bytes_max: PARSER_BYTES_MAX,
    }),
};

/// Operations that wait have 1 MiB, and their entries.
const PARSER_BYTES_MAX: usize = 4 << 20;
