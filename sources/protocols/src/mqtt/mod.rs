//! MQTT 3.1, 3.1.1 and 5.
//!
//! Not here: MQTT within WebSocket frames, and what topics mean.
//!
//! ```text
//!   streams ─▶ frames (lengths) ─▶ parse: packets as rows show them ─▶ stitch, by packet id ─▶ table
//! ```
//!
//! Both ends ask: whoever publishes is answered by the other. So there are two books of requests, one a
//! direction.

mod parse;
mod stitch;
mod table;
#[cfg(test)]
mod tests;
mod types;

use crate::protocol::{Parsing, ProtocolDef};

pub(crate) const PROTOCOL: ProtocolDef = ProtocolDef {
    name: "mqtt",
    number: 14,
    tables: &["mqtt_events"],
    has_datagrams: false,
    recognise: parse::recognise,
    parsing: Some(Parsing {
        new: |opening| Box::new(stitch::Mqtt::new(opening.from_start)),
        shared: || Box::new(()),
        parser_bytes_max: PARSER_BYTES_MAX,
    }),
};

/// Two books of requests: each has 1 MiB for those that wait, as much for answers that came early and for
/// pairs that are not certain, and its entries.
const PARSER_BYTES_MAX: usize = 12 << 20;
