//! AMQP 0-9-1, as RabbitMQ and its clients speak it.
//!
//! Both ends ask: a row's request is the method that wants an answer, or that stands alone, whoever
//! sent it. A message's size is in the row of its method; its header and body are no rows. Not here:
//! AMQP 1.0, which is another protocol, and what messages hold.
//!
//! ```text
//!   streams ─▶ frames ─▶ method (parse) ─▶ table: JSON ─▶ stitch: by channel, in order ─▶ rows
//! ```

mod methods;
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
    name: "amqp",
    number: 12,
    tables: &["amqp_events"],
    has_datagrams: false,
    recognise: recognise::recognise,
    parsing: Some(Parsing {
        new: |opening| Box::new(parser::Amqp::new(opening.from_start)),
        shared: || Box::<parser::OfThread>::default(),
        parser_bytes_max: PARSER_BYTES_MAX,
    }),
};

/// Methods that wait have 1 MiB, and so have those whose contents are to come.
const PARSER_BYTES_MAX: usize = 4 << 20;
