//! HTTP/1.0 and HTTP/1.1.
//!
//! Not here: HTTP/2 (another protocol that begins with `PRI `), WebSocket frames (after a 101 the
//! connection is opaque), TLS.
//!
//! ```text
//!   two streams ── read ──▶ messages ── stitch ──▶ exchanges ── table ──▶ rows
//!                  (parse: heads, chunks; body: what is kept of a body)
//! ```

mod body;
mod parse;
mod read;
mod stitch;
mod table;
mod types;

pub use body::{Body, ContentKind, NON_TEXT, NOT_DECODED, TRUNCATED_SUFFIX, UNKNOWN_TYPE};
pub use parse::{
    ChunkStep, ChunkedDecoder, RequestHead, ResponseHead, header_space, parse_request,
    parse_response, recognise,
};
pub use stitch::{Context, Counters, Http1, REORDER_GRACE_NS, REQUEST_TIMEOUT_NS};
pub use table::append_row;
pub use types::{Config, Exchange, HEAD_BYTES_MAX, HEADERS_MAX, Message, Method, Pool};

#[cfg(test)]
mod tests;
