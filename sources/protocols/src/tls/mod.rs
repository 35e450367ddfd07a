//! TLS handshakes: who asks for which name, protocols and versions, and what comes of it.
//!
//! Not here: what is encrypted. That includes everything behind the hellos of TLS 1.3, so its chosen ALPN is
//! not known; and DTLS.
//!
//! ```text
//!   streams ─▶ records (frames) ─▶ hellos, alerts (parse) ─▶ stitch, in order ─▶ table: columns
//! ```
//!
//! One row a ClientHello, so two where the server asks for another one (HelloRetryRequest). A row waits
//! until no alert can come in the clear any more, for a moment at the most.

mod parse;
mod stitch;
mod table;
#[cfg(test)]
mod tests;
mod types;

use crate::protocol::{Parsing, ProtocolDef};

pub(crate) const PROTOCOL: ProtocolDef = ProtocolDef {
    name: "tls",
    number: 13,
    tables: &["tls_events"],
    has_datagrams: false,
    recognise: parse::recognise,
    parsing: Some(Parsing {
        new: |opening| Box::new(stitch::Tls::new(opening.from_start)),
        shared: || Box::new(()),
        parser_bytes_max: PARSER_BYTES_MAX,
    }),
};

/// A hello of each side, and what rows show of some.
const PARSER_BYTES_MAX: usize = 4 * types::HELLO_BYTES_MAX;
