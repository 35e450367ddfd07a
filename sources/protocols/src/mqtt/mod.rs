//! MQTT 3.1, 3.1.1 and 5.
//!
//! Both ends ask: whoever publishes is answered by the other. So there are two books of requests, one a
//! direction; the client's pings have no ids and are answered in their order. Not here: MQTT within
//! WebSocket frames, and MQTT-SN.
//!
//! ```text
//!   streams ─▶ frames (fixed headers) ─▶ packet: as rows show it ─▶ stitch: by packet id ─▶ table
//! ```

mod packet;
mod parse;
mod parser;
mod properties;
mod recognise;
mod session;
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
    recognise: recognise::recognise,
    parsing: Some(Parsing {
        new: |opening| Box::new(parser::Mqtt::new(opening.from_start)),
        shared: || Box::new(()),
        parser_bytes_max: PARSER_BYTES_MAX,
    }),
};

/// Two books of requests: each has 1 MiB for those that wait, as much for answers that came early, and its
/// entries; pings beside them.
const PARSER_BYTES_MAX: usize = 16 << 20;
