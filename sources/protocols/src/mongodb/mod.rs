//! MongoDB: OP_MSG as all servers since 3.6 speak it, the older messages, and both within OP_COMPRESSED.
//!
//! A response names the request that it answers. Documents are shown as relaxed extended JSON; a request
//! or a response is one document, into which document sequences are put as arrays. Not here: what commands
//! mean, beyond what in them is a secret.
//!
//! ```text
//!   streams ─▶ frames ─▶ unpacked (packed) ─▶ parse ─▶ table: JSON of BSON (bson, json) ─▶ stitch ─▶ rows
//! ```

mod bson;
mod decimal;
mod json;
mod packed;
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
    name: "mongodb",
    number: 9,
    tables: &["mongodb_events"],
    has_datagrams: false,
    recognise: recognise::recognise,
    parsing: Some(Parsing {
        new: |opening| Box::new(parser::Mongodb::new(opening.from_start)),
        shared: || Box::new(()),
        parser_bytes_max: PARSER_BYTES_MAX,
    }),
};

/// Requests that wait have 2 MiB, and both they and early responses their entries; so have those that are
/// answered again and again.
const PARSER_BYTES_MAX: usize = 8 << 20;
