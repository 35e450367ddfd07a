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
mod certain;
mod counters;
mod headers;
mod message;
mod parse;
mod read;
mod stitch;
mod table;
mod types;

pub use body::{Body, ContentKind, NON_TEXT, NOT_DECODED, TRUNCATED_SUFFIX, UNKNOWN_TYPE};
pub use counters::Counters;
pub use parse::{
    ChunkStep, ChunkedDecoder, HeaderLine, RequestLine, StatusLine, recognise, recognise_first,
    without_proxy_line,
};
pub use stitch::{Context, Http1, REORDER_GRACE_NS};
pub use table::append_row;
pub use types::{Config, Exchange, HEAD_BYTES_MAX, Message, Method, Pool};

#[cfg(test)]
mod tests;
