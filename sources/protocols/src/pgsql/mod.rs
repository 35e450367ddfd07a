//! PostgreSQL, protocol 3: simple and extended queries, portals, COPY, notifications, logins.
//!
//! Not here: replication streams (left alone once they begin), and what is said after a server agreed to
//! encrypt. Passwords are never looked at.
//!
//! ```text
//!   requests ─▶ parse ─▶ session: statements and portals by name ─▶ the text of a row's request
//!   responses ─▶ parse ─▶ stitch: which request they answer, by order ─▶ reply: text ─▶ table: columns
//! ```
//!
//! Every message has its length in front, and every cycle ends with ReadyForQuery: behind a loss, reading
//! goes on there, or where a call begins with a message. Pairing does where as many of these were seen as
//! were asked for, or where what comes can be the answer to nothing else that was asked (`fits`).

mod fits;
mod parse;
mod recognise;
mod reply;
mod session;
mod stitch;
mod table;
#[cfg(test)]
mod tests;
mod types;
mod values;

use crate::protocol::{Parsing, ProtocolDef};

pub(crate) const PROTOCOL: ProtocolDef = ProtocolDef {
    name: "pgsql",
    number: 5,
    tables: &["pgsql_events"],
    has_datagrams: false,
    recognise: recognise::recognise,
    parsing: Some(Parsing {
        new: |opening| Box::new(stitch::Pgsql::new(opening.from_start)),
        shared: || Box::new(()),
        parser_bytes_max: PARSER_BYTES_MAX,
    }),
};

/// Requests that wait have 1 MiB of text and their entries, of which there are 65,536 at the most; the
/// session's statements and portals have 3 MiB.
const PARSER_BYTES_MAX: usize = 16 << 20;
