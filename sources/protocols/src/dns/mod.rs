//! DNS over UDP and TCP.
//!
//! Not here: multicast DNS, LLMNR and names of NetBIOS, which look like it (ports 5353, 5355 and 137), DNS
//! over TLS or HTTPS.
//!
//! ```text
//!   streams: lengths ──┐
//!                      ├▶ message (parse: header, names) ─▶ table ─▶ stitch, by id and peer ─▶ rows
//!   datagrams ─────────┘                          (table: JSON; data: what records hold)
//! ```
//!
//! A datagram that was cut, by the kernel or by us, shows what there is of it, and says so.

mod data;
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
    name: "dns",
    number: 6,
    tables: &["dns_events"],
    has_datagrams: true,
    recognise: recognise::recognise,
    parsing: Some(Parsing {
        new: |opening| Box::new(parser::Dns::new(opening.from_start)),
        shared: || Box::<parser::OfThread>::default(),
        parser_bytes_max: PARSER_BYTES_MAX,
    }),
};

/// Queries that wait have 2 MiB, responses that came early as much, and both have their entries.
const PARSER_BYTES_MAX: usize = 8 << 20;
