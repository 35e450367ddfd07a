//! MySQL and MariaDB: text and prepared statements, several results, LOCAL INFILE, logins, compression.
//!
//! Not here: replication streams (left alone once they begin), and what is said after the client asked to
//! encrypt. What clients say to prove who they are is never looked at.
//!
//! ```text
//!   streams ─▶ packed: unpacks what is compressed ─▶ parse: packets ─▶ login, session: what both know
//!                  requests ─▶ command: the text of a row's request ─┐
//!                  responses ─▶ results: a response's state ─────────┴▶ stitch, by order ─▶ table: columns
//! ```
//!
//! A packet's head hardly tells it from other bytes, but its number does ([`place`]): a command is number 0,
//! and each packet of a response has the next one.

mod command;
mod login;
mod packed;
mod parse;
mod place;
mod recognise;
mod results;
mod session;
mod stitch;
mod table;
#[cfg(test)]
mod tests;
mod types;
mod values;

use crate::protocol::{Parsing, ProtocolDef};

pub(crate) const PROTOCOL: ProtocolDef = ProtocolDef {
    name: "mysql",
    number: 3,
    tables: &["mysql_events"],
    has_datagrams: false,
    recognise: recognise::recognise,
    parsing: Some(Parsing {
        new: |opening| Box::new(stitch::Mysql::new(opening.from_start)),
        shared: || Box::new(()),
        parser_bytes_max: PARSER_BYTES_MAX,
    }),
};

/// Commands that wait have 1 MiB of text and their entries, of which there are 65,536 at the most;
/// prepared statements have 2 MiB, and either side's unpacked bytes 256 KiB.
const PARSER_BYTES_MAX: usize = 16 << 20;
