//! Kafka: all requests of clients and brokers, in all versions that are in the field.
//!
//! What messages hold is data (`schemas.txt`), read by one decoder; records are counted, not shown.
//! Requests and responses are paired by their correlation id, within a connection. Not here: tokens
//! of SASL mechanisms that old clients send without a header.
//!
//! ```text
//!   streams ─▶ frames ─▶ header (parse) ─▶ decode, by schema: JSON ─▶ by_id ─▶ rows
//! ```

mod decode;
mod parse;
mod parser;
mod recognise;
mod schema;
mod stitch;
mod table;
#[cfg(test)]
mod tests;
mod types;

use crate::protocol::{Parsing, ProtocolDef};

pub(crate) const PROTOCOL: ProtocolDef = ProtocolDef {
    name: "kafka",
    number: 10,
    tables: &["kafka_events.beta"],
    has_datagrams: false,
    recognise: recognise::recognise,
    parsing: Some(Parsing {
        new: |opening| Box::new(parser::Kafka::new(opening.from_start)),
        shared: || Box::<parser::OfThread>::default(),
        parser_bytes_max: PARSER_BYTES_MAX,
    }),
};

/// Requests that wait have 2 MiB, and both they and early responses their entries.
const PARSER_BYTES_MAX: usize = 8 << 20;
